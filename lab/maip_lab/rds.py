"""RDS: instances, their states in time, and the rules about which call is accepted when."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from . import rds_rows
from .errors import AwsError, Unsupported
from .names import REGIONS, arn, other
from .rds_rows import REPLICATING, Instance
from .world import World, now

MODIFIABLE = {
    "BackupRetentionPeriod", "PreferredBackupWindow", "PreferredMaintenanceWindow", "MultiAZ",
    "DBInstanceClass", "AllocatedStorage", "EngineVersion", "DeletionProtection", "Iops",
    "PubliclyAccessible", "CopyTagsToSnapshot", "AutoMinorVersionUpgrade", "StorageType",
    "CACertificateIdentifier", "MonitoringInterval", "MaxAllocatedStorage",
}  # fmt: skip
SETTLED = ("available", "storage-optimization")


class Rds:
    def __init__(self, world: World) -> None:
        self.world = world
        # What the rest of the lab does when a replica comes to be, or ceases to be one.
        self.on_replica_created: Callable[[Instance], None] = lambda replica: None
        self.on_promoted: Callable[[Instance], None] = lambda instance: None
        self.clear()

    def clear(self) -> None:
        self.instances: dict[str, list[Instance]] = {region: [] for region in REGIONS}
        self.events: dict[str, list[dict[str, Any]]] = {region: [] for region in REGIONS}
        self.snapshots: dict[str, list[dict[str, Any]]] = {region: [] for region in REGIONS}

    # -- lookups ---------------------------------------------------------------------------------

    def find(self, region: str, name: str) -> Instance | None:
        for instance in self.instances[region]:
            if name in (instance.name, instance.row["DBInstanceArn"]):
                return instance
        return None

    def _need(self, region: str, name: str) -> Instance:
        instance = self.find(region, name)
        if instance is None:
            raise AwsError("DBInstanceNotFound", f"DBInstance {name} not found.", 404)
        return instance

    def writer(self, region: str) -> Instance | None:
        """The database the Region's application would write to, if it can.

        The application knows the endpoint it was configured with, so an instance that was renamed
        away from its first name serves nobody; one made later as a replica is taken up.
        """
        for instance in self.instances[region]:
            serving = instance.status in SETTLED and not instance.is_replica
            if serving and instance.name == instance.first_name:
                return instance
        return None

    def _event(self, instance: Instance, message: str, *categories: str) -> None:
        self.events[instance.region].append(
            {
                "SourceIdentifier": instance.name,
                "SourceType": "db-instance",
                "Message": message,
                "EventCategories": list(categories),
                "Date": now(),
                "SourceArn": instance.row["DBInstanceArn"],
            }
        )

    def _later(self, seconds: float, instance: Instance, **row: Any) -> None:
        self.world.after(seconds, lambda: instance.row.update(row))

    def _must_be_settled(self, instance: Instance) -> None:
        if instance.busy or instance.status not in SETTLED:
            raise AwsError("InvalidDBInstanceState", f"DB instance {instance.name} is not in available state.")

    # -- reading ---------------------------------------------------------------------------------

    def DescribeDBInstances(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        name = p.get("DBInstanceIdentifier")
        found = [self._need(region, name)] if name else list(self.instances[region])
        for condition in p.get("Filters", []):
            if condition["Name"] != "db-instance-id":
                raise Unsupported(f"the DescribeDBInstances filter {condition['Name']}")
            found = [instance for instance in found if instance.name in condition["Values"]]
        return {"DBInstances": [instance.described() for instance in found]}

    def DescribeEvents(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        until = p.get("EndTime") or now()
        since = p.get("StartTime") or until - timedelta(minutes=p.get("Duration", 60))
        found = [
            event
            for event in self.events[region]
            if since <= event["Date"] <= until
            and p.get("SourceIdentifier") in (None, event["SourceIdentifier"])
            and p.get("SourceType") in (None, event["SourceType"])
            and (not p.get("EventCategories") or set(p["EventCategories"]) & set(event["EventCategories"]))
        ]
        return {"Events": found}

    def DescribeDBSnapshots(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        found = [
            snapshot
            for snapshot in self.snapshots[region]
            if p.get("DBSnapshotIdentifier") in (None, snapshot["DBSnapshotIdentifier"])
            and p.get("DBInstanceIdentifier") in (None, snapshot["DBInstanceIdentifier"])
        ]
        if p.get("DBSnapshotIdentifier") and not found:
            raise AwsError("DBSnapshotNotFound", f"DBSnapshot {p['DBSnapshotIdentifier']} not found.", 404)
        return {"DBSnapshots": found}

    def ListTagsForResource(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        return {"TagList": self._need(region, p["ResourceName"]).row["TagList"]}

    # -- changing --------------------------------------------------------------------------------

    def PromoteReadReplica(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        instance = self._need(region, p["DBInstanceIdentifier"])
        if not instance.is_replica:
            raise AwsError("InvalidDBInstanceState", "DB Instance is not a read replica.")
        self._must_be_settled(instance)
        instance.busy = True
        retention = p.get("BackupRetentionPeriod", instance.row["BackupRetentionPeriod"] or 1)
        window = p.get("PreferredBackupWindow", instance.row["PreferredBackupWindow"])

        # AWS goes on saying `available` for seconds: a waiter that looks now thinks it is done.
        settings = self.world.settings
        start = settings.promotion_start_s
        end = start + settings.promotion_s
        self._later(start, instance, DBInstanceStatus="modifying")
        self._later(start + settings.promotion_s / 2, instance, DBInstanceStatus="rebooting")

        def promoted() -> None:
            self._forget_replica(instance)
            instance.detach()
            self.on_promoted(instance)
            instance.row.update(BackupRetentionPeriod=retention, PreferredBackupWindow=window)
            message = "Promoted Read Replica instance to become a standalone database instance."
            self._event(instance, message, "notification", "read replica")
            self._event(instance, "DB instance restarted", "availability")
            if settings.backing_up_after_promotion_s:
                instance.row["DBInstanceStatus"] = "backing-up"
                self.world.after(settings.backing_up_after_promotion_s, lambda: self._settle(instance))
            else:
                self._settle(instance)

        self.world.after(end, promoted)
        return {"DBInstance": instance.described()}

    def _settle(self, instance: Instance) -> None:
        instance.busy = False
        instance.row["DBInstanceStatus"] = "available"

    def _forget_replica(self, replica: Instance) -> None:
        source = self.source_of(replica)
        if source is not None:
            listed = source.row["ReadReplicaDBInstanceIdentifiers"]
            source.row["ReadReplicaDBInstanceIdentifiers"] = [
                name for name in listed if name not in (replica.name, replica.row["DBInstanceArn"])
            ]

    def source_of(self, replica: Instance) -> Instance | None:
        source = replica.row.get("ReadReplicaSourceDBInstanceIdentifier")
        return source and (self.find(replica.region, source) or self.find(other(replica.region), source))

    def ModifyDBInstance(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        instance = self._need(region, p["DBInstanceIdentifier"])
        changes = {name: value for name, value in p.items() if name in MODIFIABLE}
        handled = {"DBInstanceIdentifier", "ApplyImmediately", "NewDBInstanceIdentifier"}
        handled |= {"VpcSecurityGroupIds", "DBParameterGroupName", "MasterUserPassword"}
        unknown = set(p) - MODIFIABLE - handled
        if unknown:
            raise Unsupported(f"ModifyDBInstance with {', '.join(sorted(unknown))}")
        self._must_be_settled(instance)
        if "VpcSecurityGroupIds" in p:
            changes["VpcSecurityGroups"] = rds_rows.security_groups(p["VpcSecurityGroupIds"])
        if "DBParameterGroupName" in p:
            changes["DBParameterGroups"] = rds_rows.parameter_groups(p["DBParameterGroupName"], "pending-reboot")
        new_name = p.get("NewDBInstanceIdentifier", "").lower()
        if not p.get("ApplyImmediately"):
            pending = {name: changes[name] for name in changes if name in rds_rows.PENDABLE}
            if new_name:
                pending["DBInstanceIdentifier"] = new_name
            instance.row["PendingModifiedValues"].update(pending)
            changes = {name: value for name, value in changes.items() if name not in rds_rows.PENDABLE}
            new_name = ""
        instance.row.update(changes)
        if new_name and new_name != instance.name:
            return self._rename(instance, new_name)
        return {"DBInstance": instance.described()}

    def _rename(self, instance: Instance, new_name: str) -> dict[str, Any]:
        mode = self.world.settings.rename
        if mode == "refused":
            raise AwsError(
                "InvalidDBInstanceState", f"DB instance {instance.name} cannot be renamed in its current state."
            )
        if self.find(instance.region, new_name):
            raise AwsError("DBInstanceAlreadyExists", "DB instance already exists")
        instance.busy = True
        if mode == "hang":
            instance.row["DBInstanceStatus"] = "modifying"
            return {"DBInstance": instance.described()}

        old_name, old_arn = instance.name, instance.row["DBInstanceArn"]
        # The old name's DNS entry is deleted at once; replicas stay, pointing at the new name.
        instance.rename(new_name)
        for replica in (each for region in REGIONS for each in self.instances[region]):
            if replica.row.get("ReadReplicaSourceDBInstanceIdentifier") in (old_name, old_arn):
                same = replica.region == instance.region
                replica.row["ReadReplicaSourceDBInstanceIdentifier"] = (
                    new_name if same else instance.row["DBInstanceArn"]
                )
        seconds = self.world.settings.rename_s
        instance.row["DBInstanceStatus"] = "renaming"
        self._later(seconds / 2, instance, DBInstanceStatus="rebooting")

        def renamed() -> None:
            self._settle(instance)
            self._event(instance, f"Renamed instance from {old_name} to {new_name}", "notification")

        self.world.after(seconds, renamed)
        return {"DBInstance": instance.described()}

    def RebootDBInstance(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        instance = self._need(region, p["DBInstanceIdentifier"])
        self._must_be_settled(instance)
        if p.get("ForceFailover") and not instance.row["MultiAZ"]:
            raise AwsError("InvalidParameterCombination", "ForceFailover cannot be specified for a single-AZ instance.")
        instance.busy = True
        instance.row["DBInstanceStatus"] = "rebooting"

        def restarted() -> None:
            for group in instance.row["DBParameterGroups"]:
                group["ParameterApplyStatus"] = "in-sync"
            self._settle(instance)
            self._event(instance, "DB instance restarted", "availability")

        self.world.after(self.world.settings.reboot_s, restarted)
        return {"DBInstance": instance.described()}

    def StopDBInstance(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        instance = self._need(region, p["DBInstanceIdentifier"])
        self._must_be_settled(instance)
        if instance.is_replica or instance.row["ReadReplicaDBInstanceIdentifiers"]:
            raise AwsError(
                "InvalidDBInstanceState",
                "You can't stop a DB instance that has a read replica, or that is a read replica.",
            )
        instance.row["DBInstanceStatus"] = "stopping"
        self._later(self.world.settings.reboot_s, instance, DBInstanceStatus="stopped")
        return {"DBInstance": instance.described()}

    def StartDBInstance(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        instance = self._need(region, p["DBInstanceIdentifier"])
        if instance.status != "stopped":
            raise AwsError("InvalidDBInstanceState", f"Instance {instance.name} is not in stopped state.")
        instance.row["DBInstanceStatus"] = "starting"
        self._later(self.world.settings.reboot_s, instance, DBInstanceStatus="available")
        return {"DBInstance": instance.described()}

    def CreateDBInstanceReadReplica(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        name = p["DBInstanceIdentifier"].lower()
        source_name = p["SourceDBInstanceIdentifier"]
        home = source_name.split(":")[3] if source_name.startswith("arn:") else region
        source = self._need(home if home in REGIONS else region, source_name)
        cross_region = home != region
        if self.find(region, name):
            raise AwsError("DBInstanceAlreadyExists", "DB instance already exists")
        if not source.row["BackupRetentionPeriod"]:
            raise AwsError(
                "InvalidDBInstanceState",
                "Automated backups are not enabled for this database instance. To enable automated backups, "
                "use ModifyDBInstance to set the backup retention period to a non-zero value.",
            )
        self._must_be_settled(source)
        if cross_region and source.row["StorageEncrypted"] and not p.get("KmsKeyId"):
            raise AwsError(
                "InvalidParameterCombination",
                "The parameter KmsKeyId must be provided for a cross-region replica of an encrypted instance.",
            )
        if cross_region and p.get("DBParameterGroupName"):
            raise AwsError(
                "InvalidParameterCombination",
                "DBParameterGroupName is not supported for cross-region replicas of postgres.",
            )
        replica = rds_rows.replica_of(source, region, name, p)
        self.instances[region].append(replica)
        listed = replica.row["DBInstanceArn"] if cross_region else name
        source.row["ReadReplicaDBInstanceIdentifiers"].append(listed)
        replica.busy = True

        def created() -> None:
            self._settle(replica)
            replica.row["StatusInfos"] = copy.deepcopy(REPLICATING)
            self.on_replica_created(replica)
            self._event(replica, "DB instance created", "creation")

        self.world.after(self.world.settings.create_replica_s, created)
        return {"DBInstance": replica.described()}

    def DeleteDBInstance(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        instance = self._need(region, p["DBInstanceIdentifier"])
        if instance.row["DeletionProtection"]:
            raise AwsError(
                "InvalidParameterCombination",
                "Cannot delete protected DB Instance, please disable deletion protection.",
            )
        if not p.get("SkipFinalSnapshot") and not p.get("FinalDBSnapshotIdentifier"):
            raise AwsError(
                "InvalidParameterCombination",
                "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.",
            )
        if instance.status == "deleting":
            raise AwsError("InvalidDBInstanceState", f"Instance {instance.name} is already being deleted.")
        instance.row["DBInstanceStatus"] = "deleting"
        if p.get("FinalDBSnapshotIdentifier"):
            self._snapshot(instance, p["FinalDBSnapshotIdentifier"])

        def deleted() -> None:
            self.instances[region].remove(instance)
            self._forget_replica(instance)
            for replica in (each for place in REGIONS for each in self.instances[place]):
                if replica.row.get("ReadReplicaSourceDBInstanceIdentifier") == instance.row["DBInstanceArn"]:
                    # A cross-Region replica is left behind, not promoted.
                    replica.set_replication("terminated", "The source DB instance was deleted.")
            self._event(instance, "DB instance deleted", "deletion")

        self.world.after(self.world.settings.delete_s, deleted)
        return {"DBInstance": instance.described()}

    def CreateDBSnapshot(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        instance = self._need(region, p["DBInstanceIdentifier"])
        self._must_be_settled(instance)
        # A snapshot puts the instance into backing-up, which blocks a promotion.
        instance.row["DBInstanceStatus"] = "backing-up"
        self._later(self.world.settings.reboot_s, instance, DBInstanceStatus="available")
        return {"DBSnapshot": self._snapshot(instance, p["DBSnapshotIdentifier"])}

    def _snapshot(self, instance: Instance, name: str) -> dict[str, Any]:
        snapshot = {
            "DBSnapshotIdentifier": name,
            "DBInstanceIdentifier": instance.name,
            "SnapshotCreateTime": now(),
            "Engine": "postgres",
            "Status": "creating",
            "SnapshotType": "manual",
            "DBSnapshotArn": arn("rds", instance.region, f"snapshot:{name}"),
            "DbiResourceId": instance.row["DbiResourceId"],
        }
        self.snapshots[instance.region].append(snapshot)
        self.world.after(self.world.settings.reboot_s, lambda: snapshot.update(Status="available"))
        return dict(snapshot)

    def AddTagsToResource(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        instance = self._need(region, p["ResourceName"])
        keys = {tag["Key"] for tag in p["Tags"]}
        kept = [tag for tag in instance.row["TagList"] if tag["Key"] not in keys]
        instance.row["TagList"] = kept + p["Tags"]
        return {}

    def RemoveTagsFromResource(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        instance = self._need(region, p["ResourceName"])
        instance.row["TagList"] = [tag for tag in instance.row["TagList"] if tag["Key"] not in p["TagKeys"]]
        return {}

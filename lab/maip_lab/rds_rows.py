"""What an RDS instance looks like in DescribeDBInstances."""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass
from typing import Any

from .names import arn
from .world import now

REPLICATING = [{"StatusType": "read replication", "Normal": True, "Status": "replicating"}]
# Without ApplyImmediately these wait for the maintenance window.
PENDABLE = ("DBInstanceClass", "AllocatedStorage", "MultiAZ", "EngineVersion", "Iops", "BackupRetentionPeriod")


@dataclass
class Instance:
    region: str
    row: dict[str, Any]
    first_name: str = ""
    busy: bool = False  # a change is under way, whatever the status says

    def __post_init__(self) -> None:
        self.first_name = self.first_name or self.name

    @property
    def name(self) -> str:
        return self.row["DBInstanceIdentifier"]

    @property
    def status(self) -> str:
        return self.row["DBInstanceStatus"]

    @property
    def is_replica(self) -> bool:
        return bool(self.row.get("ReadReplicaSourceDBInstanceIdentifier"))

    def detach(self) -> None:
        self.row.pop("ReadReplicaSourceDBInstanceIdentifier", None)
        self.row.pop("StatusInfos", None)

    def set_replication(self, status: str, message: str | None = None) -> None:
        info = {"StatusType": "read replication", "Normal": status == "replicating", "Status": status}
        if message:
            info["Message"] = message
        self.row["StatusInfos"] = [info]

    def rename(self, name: str) -> None:
        self.row["DBInstanceIdentifier"] = name
        self.row["DBInstanceArn"] = arn("rds", self.region, f"db:{name}")
        self.row["Endpoint"] = endpoint(self.region, name)

    def described(self) -> dict[str, Any]:
        row = copy.deepcopy(self.row)
        if row["DBInstanceStatus"] == "creating":
            row.pop("Endpoint", None)
        return row


def endpoint(region: str, name: str) -> dict[str, Any]:
    return {
        "Address": f"{name}.cluster0lab00.{region}.rds.amazonaws.com",
        "Port": 5432,
        "HostedZoneId": "Z2R2ITUGPM61AM" if region == "us-east-1" else "Z1PVIF0B656C1W",
    }


def security_groups(ids: list[str]) -> list[dict[str, Any]]:
    return [{"VpcSecurityGroupId": each, "Status": "active"} for each in ids]


def parameter_groups(name: str, status: str = "in-sync") -> list[dict[str, Any]]:
    return [{"DBParameterGroupName": name, "ParameterApplyStatus": status}]


def standalone(region: str, name: str) -> Instance:
    return Instance(
        region,
        {
            "DBInstanceIdentifier": name,
            "DBInstanceArn": arn("rds", region, f"db:{name}"),
            "DbiResourceId": "db-" + uuid.uuid4().hex[:26].upper(),
            "DBInstanceClass": "db.r6g.xlarge",
            "Engine": "postgres",
            "EngineVersion": "15.8",
            "DBInstanceStatus": "available",
            "MasterUsername": "maip",
            "DBName": "maip",
            "Endpoint": endpoint(region, name),
            "AllocatedStorage": 200,
            "StorageType": "gp3",
            "InstanceCreateTime": now(),
            "PreferredBackupWindow": "03:00-03:30",
            "PreferredMaintenanceWindow": "sun:05:00-sun:05:30",
            "BackupRetentionPeriod": 7,
            "LatestRestorableTime": now(),
            "DBSecurityGroups": [],
            "VpcSecurityGroups": security_groups([f"sg-{region.replace('-', '')}db"]),
            "DBParameterGroups": parameter_groups("maip-postgres15"),
            "AvailabilityZone": f"{region}a",
            "MultiAZ": region == "us-east-1",
            "PendingModifiedValues": {},
            "AutoMinorVersionUpgrade": False,
            "ReadReplicaDBInstanceIdentifiers": [],
            "LicenseModel": "postgresql-license",
            "PubliclyAccessible": False,
            "StorageEncrypted": True,
            "KmsKeyId": arn("kms", region, "key/11111111-2222-3333-4444-555555555555"),
            "CACertificateIdentifier": "rds-ca-rsa2048-g1",
            "CopyTagsToSnapshot": True,
            "MonitoringInterval": 0,
            "IAMDatabaseAuthenticationEnabled": False,
            "PerformanceInsightsEnabled": False,
            "DeletionProtection": True,
            "AssociatedRoles": [],
            "TagList": [{"Key": "application", "Value": "maip"}],
            "CustomerOwnedIpEnabled": False,
            "StorageThroughput": 125,
            "DedicatedLogVolume": False,
        },
    )


def replica_of(source: Instance, region: str, name: str, p: dict[str, Any] | None = None) -> Instance:
    p = p or {}
    cross_region = source.region != region
    replica = standalone(region, name)
    inherited = ("DBInstanceClass", "Engine", "EngineVersion", "AllocatedStorage", "StorageEncrypted")
    replica.row.update({key: source.row[key] for key in inherited})
    replica.row.update(
        DBInstanceStatus="creating",
        BackupRetentionPeriod=p.get("BackupRetentionPeriod", 0),
        MultiAZ=p.get("MultiAZ", False),
        DeletionProtection=p.get("DeletionProtection", False),
        TagList=p.get("Tags", []),
        ReadReplicaSourceDBInstanceIdentifier=source.row["DBInstanceArn"] if cross_region else source.name,
    )
    for given in ("DBInstanceClass", "KmsKeyId", "AvailabilityZone", "PubliclyAccessible"):
        if given in p:
            replica.row[given] = p[given]
    if cross_region:
        replica.row["DBParameterGroups"] = parameter_groups("default.postgres15")
    if "VpcSecurityGroupIds" in p:
        replica.row["VpcSecurityGroups"] = security_groups(p["VpcSecurityGroupIds"])
    return replica

"""The world at the start: the topology example's, healthy and replicating."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from . import rds_rows
from .eks import seeded_groups
from .names import (
    ALB_ZONE_IDS,
    API_HOST,
    DATABASES,
    EAST,
    LOAD_BALANCERS,
    REGIONS,
    TABLE,
    WEST,
    ZONE,
    ZONE_ID,
    other,
)
from .rds_rows import Instance
from .record_rules import RecordSet

if TYPE_CHECKING:
    from .lab import Lab


def seed(lab: Lab) -> None:
    with lab.world.lock:
        lab.moto.reset()
        lab.dynamodb.clear()
        lab.dynamodb.seed()
        lab.msk.clear()
        _databases(lab)
        lab.eks.clear()
        lab.eks.groups = seeded_groups()
        lab.route53.clear()
        lab.route53.add_zone(ZONE_ID, ZONE, api_records(lab.settings.record))
        lab.load_balancers.forced = dict.fromkeys(REGIONS)
        _metrics(lab)


def _databases(lab: Lab) -> None:
    lab.rds.clear()
    primary = rds_rows.standalone(EAST, DATABASES[EAST])
    replica = rds_rows.replica_of(primary, WEST, DATABASES[WEST])
    replica.row.update(
        DBInstanceStatus="available",
        StatusInfos=copy.deepcopy(rds_rows.REPLICATING),
        DeletionProtection=True,
        DBParameterGroups=rds_rows.parameter_groups("maip-postgres15"),
    )
    primary.row["ReadReplicaDBInstanceIdentifiers"] = [replica.row["DBInstanceArn"]]
    lab.rds.instances[EAST].append(primary)
    lab.rds.instances[WEST].append(replica)


def api_records(style: str) -> list[RecordSet]:
    def alias(region: str, **routing: object) -> RecordSet:
        target = {
            "HostedZoneId": ALB_ZONE_IDS[region],
            "DNSName": LOAD_BALANCERS[region],
            "EvaluateTargetHealth": True,
        }
        return {"Name": API_HOST, "Type": "A", "AliasTarget": target, **routing}

    if style == "alias":
        return [alias(EAST)]
    if style == "weighted":
        return [alias(EAST, SetIdentifier="east", Weight=100), alias(WEST, SetIdentifier="west", Weight=0)]
    if style == "failover":
        return [
            alias(EAST, SetIdentifier="east", Failover="PRIMARY"),
            alias(WEST, SetIdentifier="west", Failover="SECONDARY"),
        ]
    return []


def _metrics(lab: Lab) -> None:
    watch, settings = lab.cloudwatch, lab.settings
    watch.clear()
    name = {"DBInstanceIdentifier": DATABASES[WEST]}
    watch.seed(WEST, "AWS/RDS", "ReplicaLag", name, settings.replica_lag_s)
    for region in REGIONS:
        # AWS records this in the Region that the items come from.
        dimensions = {"TableName": TABLE, "ReceivingRegion": other(region)}
        latency = settings.replication_latency_ms
        watch.seed(region, "AWS/DynamoDB", "ReplicationLatency", dimensions, latency)


def _lag_series(lab: Lab, instance: Instance):
    dimensions = {"DBInstanceIdentifier": instance.name}
    return lab.cloudwatch.find(instance.region, "AWS/RDS", "ReplicaLag", dimensions)


def lag_catches_up(lab: Lab, replica: Instance) -> None:
    """A new replica is behind by the time its copy took, and less so every second."""
    lag = _lag_series(lab, replica) or lab.cloudwatch.seed(
        replica.region, "AWS/RDS", "ReplicaLag", {"DBInstanceIdentifier": replica.name}, None
    )
    behind = lab.settings.catch_up_s * 60
    lag.change(behind, slope=-60.0)
    lab.world.after(lab.settings.catch_up_s, lambda: lag.change(lab.settings.replica_lag_s))


def lag_ends(lab: Lab, instance: Instance) -> None:
    lag = _lag_series(lab, instance)
    if lag:
        lag.change(None)


def settings_changed(lab: Lab, names: set[str]) -> None:
    """What a setting moves at once; the others take effect on the next call that reads them."""
    for name, metric in (("replica_lag_s", "ReplicaLag"), ("replication_latency_ms", "ReplicationLatency")):
        if name in names:
            for series in (each for region in REGIONS for each in lab.cloudwatch.series[region]):
                if series.metric == metric:
                    series.change(getattr(lab.settings, name))
    if "capacity_max" in names:
        lab.eks.follow_all()

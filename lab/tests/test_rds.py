from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from conftest import Handle, until

PRIMARY, REPLICA = "maip-prod-postgres", "maip-prod-postgres-replica"


def describe(rds, name=REPLICA):
    return rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]


def refused(call, **parameters):
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]


def promoted(rds):
    row = describe(rds)
    return (
        row if row["DBInstanceStatus"] == "available" and not row.get("ReadReplicaSourceDBInstanceIdentifier") else None
    )


def test_the_seeded_pair(lab: Handle):
    primary = describe(lab.client("rds", lab.EAST), PRIMARY)
    replica = describe(lab.client("rds"))
    assert primary["Engine"] == "postgres" and primary["EngineVersion"].startswith("15")
    assert primary["StorageEncrypted"] and primary["BackupRetentionPeriod"] == 7
    assert primary["ReadReplicaDBInstanceIdentifiers"] == [replica["DBInstanceArn"]]
    assert replica["ReadReplicaSourceDBInstanceIdentifier"] == primary["DBInstanceArn"]
    assert replica["StatusInfos"] == [{"StatusType": "read replication", "Normal": True, "Status": "replicating"}]
    assert replica["DbiResourceId"].startswith("db-")
    assert "StatusInfos" not in primary


def test_promotion_passes_through_its_states(lab: Handle):
    rds = lab.client("rds")
    rds.promote_read_replica(DBInstanceIdentifier=REPLICA, BackupRetentionPeriod=5)
    seen = []

    def look():
        row = describe(rds)
        state = (row["DBInstanceStatus"], "ReadReplicaSourceDBInstanceIdentifier" in row)
        if not seen or seen[-1] != state:
            seen.append(state)
        return state == ("available", False)

    until(look)
    # The first of these is the race that a stock waiter loses.
    assert seen == [("available", True), ("modifying", True), ("rebooting", True), ("available", False)]
    row = describe(rds)
    assert "StatusInfos" not in row and row["BackupRetentionPeriod"] == 5
    assert describe(lab.client("rds", lab.EAST), PRIMARY)["ReadReplicaDBInstanceIdentifiers"] == []


def test_a_stock_waiter_is_fooled(lab: Handle):
    rds = lab.client("rds")
    lab.settings(promotion_start_s=5)
    rds.promote_read_replica(DBInstanceIdentifier=REPLICA)
    rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier=REPLICA)
    assert describe(rds)["ReadReplicaSourceDBInstanceIdentifier"]


def test_promotion_is_refused_with_the_codes_of_aws(lab: Handle):
    west, east = lab.client("rds"), lab.client("rds", lab.EAST)
    promote = west.promote_read_replica
    assert refused(promote, DBInstanceIdentifier="nobody") == ("DBInstanceNotFound", 404)
    assert refused(east.promote_read_replica, DBInstanceIdentifier=PRIMARY) == ("InvalidDBInstanceState", 400)
    lab.control("POST", f"/set/rds/us-west-2/{REPLICA}", {"status": "backing-up"})
    assert refused(promote, DBInstanceIdentifier=REPLICA) == ("InvalidDBInstanceState", 400)
    lab.control("POST", f"/set/rds/us-west-2/{REPLICA}", {"status": "available"})
    promote(DBInstanceIdentifier=REPLICA)
    assert refused(promote, DBInstanceIdentifier=REPLICA) == ("InvalidDBInstanceState", 400)
    until(lambda: promoted(west))
    assert refused(promote, DBInstanceIdentifier=REPLICA) == ("InvalidDBInstanceState", 400)


def test_backing_up_after_promotion_and_events(lab: Handle):
    rds = lab.client("rds")
    lab.settings(backing_up_after_promotion_s=0.3)
    rds.promote_read_replica(DBInstanceIdentifier=REPLICA)
    row = until(lambda: (r := describe(rds))["DBInstanceStatus"] == "backing-up" and r)
    assert "ReadReplicaSourceDBInstanceIdentifier" not in row
    until(lambda: promoted(rds))
    events = rds.describe_events(SourceIdentifier=REPLICA, SourceType="db-instance")["Events"]
    assert any("Promoted" in event["Message"] for event in events)
    assert rds.describe_events(SourceIdentifier="nobody", SourceType="db-instance")["Events"] == []


def test_rename_fences(lab: Handle):
    rds = lab.client("rds", lab.EAST)
    assert lab.health(lab.EAST)[0] == 200
    rename = {"DBInstanceIdentifier": PRIMARY, "NewDBInstanceIdentifier": "fenced", "ApplyImmediately": True}
    rds.modify_db_instance(**rename)
    assert refused(rds.describe_db_instances, DBInstanceIdentifier=PRIMARY) == ("DBInstanceNotFound", 404)
    assert describe(rds, "fenced")["DBInstanceStatus"] == "renaming"
    row = until(lambda: (r := describe(rds, "fenced"))["DBInstanceStatus"] == "available" and r)
    assert row["Endpoint"]["Address"].startswith("fenced.")
    assert describe(lab.client("rds"))["ReadReplicaSourceDBInstanceIdentifier"] == row["DBInstanceArn"]
    assert lab.health(lab.EAST)[0] == 503, "the application no longer finds its database"


def test_rename_refused_and_hanging(lab: Handle):
    rds = lab.client("rds", lab.EAST)
    rename = {"DBInstanceIdentifier": PRIMARY, "NewDBInstanceIdentifier": "fenced", "ApplyImmediately": True}
    lab.settings(rename="refused")
    assert refused(rds.modify_db_instance, **rename) == ("InvalidDBInstanceState", 400)
    lab.settings(rename="hang")
    rds.modify_db_instance(**rename)
    assert refused(rds.describe_db_instances, DBInstanceIdentifier="fenced") == ("DBInstanceNotFound", 404)
    assert describe(rds, PRIMARY)["DBInstanceStatus"] == "modifying"


def test_the_way_back_needs_what_aws_needs(lab: Handle):
    west, east = lab.client("rds"), lab.client("rds", lab.EAST)
    source = describe(west)["DBInstanceArn"]
    create = {"DBInstanceIdentifier": "maip-prod-postgres-fb", "SourceDBInstanceIdentifier": source}
    kms = {"KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/1"}
    assert refused(east.create_db_instance_read_replica, **create, **kms)[0] == "InvalidDBInstanceState"
    west.promote_read_replica(DBInstanceIdentifier=REPLICA, BackupRetentionPeriod=7)
    until(lambda: promoted(west))
    assert refused(east.create_db_instance_read_replica, **create)[0] == "InvalidParameterCombination"
    by_name = create | {"SourceDBInstanceIdentifier": REPLICA}
    assert refused(east.create_db_instance_read_replica, **by_name, **kms)[0] == "DBInstanceNotFound"
    made = east.create_db_instance_read_replica(**create, **kms)["DBInstance"]
    assert made["DBInstanceStatus"] == "creating"
    row = until(lambda: (r := describe(east, "maip-prod-postgres-fb"))["DBInstanceStatus"] == "available" and r)
    assert row["StatusInfos"][0]["Status"] == "replicating"
    assert refused(east.create_db_instance_read_replica, **create, **kms)[0] == "DBInstanceAlreadyExists"


def test_a_replica_whose_source_is_deleted_is_terminated_not_promoted(lab: Handle):
    east, west = lab.client("rds", lab.EAST), lab.client("rds")
    delete = {"DBInstanceIdentifier": PRIMARY, "SkipFinalSnapshot": True}
    assert refused(east.delete_db_instance, **delete)[0] == "InvalidParameterCombination"
    assert refused(east.stop_db_instance, DBInstanceIdentifier=PRIMARY)[0] == "InvalidDBInstanceState"
    east.modify_db_instance(DBInstanceIdentifier=PRIMARY, DeletionProtection=False, ApplyImmediately=True)
    east.delete_db_instance(**delete)
    until(lambda: describe(west)["StatusInfos"][0]["Status"] == "terminated")
    assert describe(west)["ReadReplicaSourceDBInstanceIdentifier"]


def test_the_load_balancer_follows_the_writer(lab: Handle):
    assert lab.health(lab.WEST)[0] == 503
    rds = lab.client("rds")
    rds.promote_read_replica(DBInstanceIdentifier=REPLICA)
    until(lambda: promoted(rds))
    assert lab.health(lab.WEST) == (200, {"status": "UP", "region": "us-west-2"})
    assert lab.health(lab.WEST, host="other.example.com")[0] == 421


def test_what_the_lab_cannot_do_fails_loudly(lab: Handle):
    assert refused(lab.client("rds").describe_db_clusters) == ("LabUnsupportedOperation", 400)
    assert lab.calls(operation="DescribeDBClusters")[0]["unsupported"] is True

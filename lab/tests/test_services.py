"""EKS, MSK, DynamoDB, CloudWatch, STS, ELB: what each row of physics looks like from outside."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import cbor2
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from conftest import Handle, until

from maip_lab.names import ACCESS_KEY, SECRET_KEY

CLUSTER, GROUP = "maip-prod-dr-eks-cluster", "maip-prod-dr-nodegroup"
TABLE = "maip-prod-merchant-analytics"


def code_of(call, **parameters):
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]


# -- EKS ---------------------------------------------------------------------------------------------


def group_of(eks):
    return eks.describe_nodegroup(clusterName=CLUSTER, nodegroupName=GROUP)["nodegroup"]


def scale(eks, **sizes):
    return eks.update_nodegroup_config(clusterName=CLUSTER, nodegroupName=GROUP, scalingConfig=sizes)["update"]


def test_eks_cluster(lab: Handle):
    eks = lab.client("eks")
    cluster = eks.describe_cluster(name=CLUSTER)["cluster"]
    assert cluster["endpoint"].startswith("https://127.0.0.1:") and cluster["certificateAuthority"]["data"]
    assert code_of(eks.describe_cluster, name="maip-prod-eks-cluster") == ("ResourceNotFoundException", 404)
    assert group_of(eks)["scalingConfig"] == {"minSize": 1, "desiredSize": 3, "maxSize": 10}


def test_eks_scaling_takes_an_update(lab: Handle):
    eks = lab.client("eks")
    update = scale(eks, minSize=4, desiredSize=8, maxSize=20)
    look = {"name": CLUSTER, "nodegroupName": GROUP, "updateId": update["id"]}
    assert update["status"] == "InProgress" and update["type"] == "ConfigUpdate"
    again = {"clusterName": CLUSTER, "nodegroupName": GROUP, "scalingConfig": {"desiredSize": 9}}
    assert code_of(eks.update_nodegroup_config, **again) == ("ResourceInUseException", 409)
    until(lambda: eks.describe_update(**look)["update"]["status"] == "Successful")
    assert group_of(eks)["scalingConfig"] == {"minSize": 4, "desiredSize": 8, "maxSize": 20}
    until(lambda: lab.control("GET", "/state")["regions"]["us-west-2"]["node_groups"][GROUP]["nodes"] == 8)


@pytest.mark.parametrize("sizes", [{"minSize": 4}, {"desiredSize": 11}, {"minSize": 5, "desiredSize": 4, "maxSize": 4}])
def test_eks_refuses_impossible_sizes(lab: Handle, sizes):
    eks = lab.client("eks")
    call = {"clusterName": CLUSTER, "nodegroupName": GROUP, "scalingConfig": sizes}
    assert code_of(eks.update_nodegroup_config, **call) == ("InvalidParameterException", 400)
    assert group_of(eks)["scalingConfig"]["desiredSize"] == 3


def test_eks_without_capacity(lab: Handle):
    eks, asg = lab.client("eks"), lab.client("autoscaling")
    lab.settings(capacity_max=5)
    scale(eks, desiredSize=8)
    issues = until(lambda: group_of(eks)["health"]["issues"])
    assert issues[0]["code"] == "AsgInstanceLaunchFailures"
    nodes = lambda: lab.control("GET", "/state")["regions"]["us-west-2"]["node_groups"][GROUP]["nodes"]  # noqa: E731
    until(lambda: nodes() == 5)
    name = group_of(eks)["resources"]["autoScalingGroups"][0]["name"]
    failed = asg.describe_scaling_activities(AutoScalingGroupName=name)["Activities"][0]
    assert failed["StatusCode"] == "Failed" and "InsufficientInstanceCapacity" in failed["StatusMessage"]
    assert len(asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]["Instances"]) == 5
    lab.settings(capacity_max=None)
    until(lambda: nodes() == 8)
    assert group_of(eks)["health"]["issues"] == []


# -- MSK, DynamoDB, STS, ELB -------------------------------------------------------------------------


def test_msk(lab: Handle):
    kafka = lab.client("kafka")
    listed = kafka.list_clusters_v2(ClusterNameFilter="maip-prod")["ClusterInfoList"]
    assert [each["ClusterName"] for each in listed] == ["maip-prod-dr-kafka"]
    arn = listed[0]["ClusterArn"]
    assert "cluster/maip-prod-dr-kafka/" in arn
    assert kafka.list_clusters()["ClusterInfoList"][0]["State"] == "ACTIVE"
    assert kafka.describe_cluster(ClusterArn=arn)["ClusterInfo"]["NumberOfBrokerNodes"] == 3
    info = kafka.describe_cluster_v2(ClusterArn=arn)["ClusterInfo"]
    assert info["State"] == "ACTIVE" and info["ClusterType"] == "PROVISIONED" and info["CreationTime"].tzinfo
    assert code_of(kafka.describe_cluster_v2, ClusterArn=arn + "x") == ("NotFoundException", 404)
    lab.control("POST", "/set/msk/us-west-2", {"state": "HEALING"})
    assert kafka.describe_cluster_v2(ClusterArn=arn)["ClusterInfo"]["State"] == "HEALING"


def test_msk_times_have_a_zone_on_the_wire(lab: Handle):
    kafka = lab.client("kafka")
    seen = []
    kafka.meta.events.register("before-parse.kafka", lambda response_dict, **_: seen.append(response_dict["body"]))
    kafka.list_clusters_v2()
    assert json.loads(seen[0])["clusterInfoList"][0]["creationTime"].endswith(("Z", "+00:00"))


def test_the_global_table(lab: Handle):
    east, west = lab.client("dynamodb", lab.EAST), lab.client("dynamodb")
    table = west.describe_table(TableName=TABLE)["Table"]
    assert table["TableStatus"] == "ACTIVE" and table["GlobalTableVersion"] == "2019.11.21"
    assert [(r["RegionName"], r["ReplicaStatus"]) for r in table["Replicas"]] == [("us-east-1", "ACTIVE")]
    there = east.describe_table(TableName=TABLE)["Table"]["Replicas"]
    assert [each["RegionName"] for each in there] == ["us-west-2"]
    lab.control("POST", "/set/dynamodb/us-east-1", {"replica_status": "REGION_DISABLED"})
    assert west.describe_table(TableName=TABLE)["Table"]["Replicas"][0]["ReplicaStatus"] == "REGION_DISABLED"

    east.put_item(TableName=TABLE, Item={"pk": {"S": "m1"}, "n": {"N": "1"}})
    until(lambda: "Item" in west.get_item(TableName=TABLE, Key={"pk": {"S": "m1"}}))
    east.delete_item(TableName=TABLE, Key={"pk": {"S": "m1"}})
    until(lambda: "Item" not in west.get_item(TableName=TABLE, Key={"pk": {"S": "m1"}}))
    lab.control("POST", "/set/dynamodb/us-east-1", {"replicating": False})
    east.put_item(TableName=TABLE, Item={"pk": {"S": "m2"}})
    assert "Item" not in west.get_item(TableName=TABLE, Key={"pk": {"S": "m2"}})


def test_concurrent_counters_lose_nothing(lab: Handle):
    west = lab.client("dynamodb", config=Config(max_pool_connections=16))
    add = {
        "TableName": TABLE,
        "Key": {"pk": {"S": "n"}},
        "UpdateExpression": "ADD n :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: west.update_item(**add), range(200)))
    item = west.get_item(TableName=TABLE, Key={"pk": {"S": "n"}}, ConsistentRead=True)["Item"]
    assert item["n"] == {"N": "200"}, "moto alone loses some"


def test_what_dynamodb_clients_check(lab: Handle):
    body = json.dumps({"TableName": TABLE}).encode()
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810.DescribeTable"}
    _, answered, body = signed(lab, "/", body, headers, service="dynamodb")
    assert answered["x-amz-crc32"] == str(zlib.crc32(body))


def test_a_journal_table_of_ones_own(lab: Handle):
    west = lab.client("dynamodb")
    west.create_table(
        TableName="journal",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    item = {"pk": {"S": "a"}, "sk": {"S": "1"}}
    put = {"TableName": "journal", "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
    west.put_item(**put)
    assert code_of(west.put_item, **put) == ("ConditionalCheckFailedException", 400)
    assert "Replicas" not in west.describe_table(TableName="journal")["Table"]
    missing = lab.client("dynamodb", lab.EAST).describe_table
    assert code_of(missing, TableName="journal") == ("ResourceNotFoundException", 400)


def test_sts_and_its_keys(lab: Handle):
    sts = lab.client("sts")
    assert sts.get_caller_identity()["Account"] == "123456789012"
    role = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/dr", RoleSessionName="lab")["Credentials"]
    assumed = {"aws_access_key_id": role["AccessKeyId"], "aws_secret_access_key": role["SecretAccessKey"],
               "aws_session_token": role["SessionToken"]}  # fmt: skip
    assert ":assumed-role/dr/" in lab.client("sts", **assumed).get_caller_identity()["Arn"]
    assert lab.client("rds", **assumed).describe_db_instances()["DBInstances"]
    stranger = lab.client("rds", aws_access_key_id="AKIASTRANGER00000000")
    assert code_of(stranger.describe_db_instances) == ("InvalidClientTokenId", 403)


def test_a_credential_scope_of_another_region_is_refused(lab: Handle):
    wrong = lab.client("rds", lab.EAST, endpoint_url=lab.at["regions"][lab.WEST]["endpoint"])
    assert code_of(wrong.describe_db_instances) == ("SignatureDoesNotMatch", 403)


def test_load_balancers_have_their_regions_zone(lab: Handle):
    zones = [
        lab.client("elbv2", region).describe_load_balancers()["LoadBalancers"][0]["CanonicalHostedZoneId"]
        for region in (lab.EAST, lab.WEST)
    ]
    assert zones == ["Z35SXDOTRQ7X7K", "Z1H1FL5HABSF5"]


# -- CloudWatch --------------------------------------------------------------------------------------


def window():
    end = datetime.now(timezone.utc) + timedelta(minutes=1)
    return {"StartTime": end - timedelta(minutes=30), "EndTime": end}


def lag_query(stat="Maximum"):
    name = [{"Name": "DBInstanceIdentifier", "Value": "maip-prod-postgres-replica"}]
    metric = {"Namespace": "AWS/RDS", "MetricName": "ReplicaLag", "Dimensions": name}
    return [{"Id": "lag", "MetricStat": {"Metric": metric, "Period": 60, "Stat": stat}}]


def lag(watch):
    return watch.get_metric_data(MetricDataQueries=lag_query(), **window())["MetricDataResults"][0]


def test_replica_lag(lab: Handle):
    found = lag(lab.client("cloudwatch"))
    assert 14 <= len(found["Values"]) <= 17 and set(found["Values"]) == {2.0}
    assert found["Timestamps"] == sorted(found["Timestamps"], reverse=True)
    assert lag(lab.client("cloudwatch", lab.EAST))["Values"] == [], "it is in the replica's Region only"
    lab.settings(replica_lag_s=-1)
    assert lag(lab.client("cloudwatch"))["Values"][0] == -1
    lab.control("POST", "/reset", {"replica_lag_s": None})
    assert lag(lab.client("cloudwatch"))["Values"] == []


def test_lag_can_grow_and_ends_with_the_promotion(lab: Handle):
    watch = lab.client("cloudwatch")
    lab.control("POST", "/set/cloudwatch/us-west-2/ReplicaLag", {"value": 100, "slope": 1000})
    until(lambda: lag(watch)["Values"][0] > 150)
    lab.client("rds").promote_read_replica(DBInstanceIdentifier="maip-prod-postgres-replica")
    until(lambda: lab.control("GET", "/state")["regions"]["us-west-2"]["writers"])
    series = lab.lab.cloudwatch.series["us-west-2"][0]
    assert series.value(time.time()) is None


@pytest.mark.parametrize(("region", "receiving"), [("us-east-1", "us-west-2"), ("us-west-2", "us-east-1")])
def test_replication_latency_is_with_its_source(lab: Handle, region, receiving):
    names = {"TableName": TABLE, "ReceivingRegion": receiving}
    query = {"Namespace": "AWS/DynamoDB", "MetricName": "ReplicationLatency", "Period": 300, "Statistics": ["Average"],
             "Dimensions": [{"Name": name, "Value": value} for name, value in names.items()], **window()}  # fmt: skip
    points = lab.client("cloudwatch", region).get_metric_statistics(**query)["Datapoints"]
    assert points and {point["Average"] for point in points} == {800.0}
    assert points[0]["Unit"] == "Milliseconds"
    other = lab.client("cloudwatch", receiving)
    assert other.get_metric_statistics(**query)["Datapoints"] == [], "the runbook looks in the wrong Region"


def signed(lab: Handle, path, body, headers, service="monitoring"):
    url = lab.at["regions"]["us-west-2"]["endpoint"] + path
    request = AWSRequest("POST", url, headers=headers, data=body)
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), service, "us-west-2").add_auth(request)
    real = urllib.request.Request(url, data=body, headers=dict(request.headers), method="POST")
    try:
        with urllib.request.urlopen(real, timeout=5) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def cbor_call(lab: Handle, operation, body):
    return signed(
        lab,
        f"/service/GraniteServiceVersion20100801/operation/{operation}",
        cbor2.dumps(body),
        {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor", "Accept": "application/cbor"},
    )


def test_cbor_on_the_wire(lab: Handle):
    at = window()
    body = {"MetricDataQueries": lag_query(), **{name: cbor2.CBORTag(1, int(t.timestamp())) for name, t in at.items()}}
    status, headers, answer = cbor_call(lab, "GetMetricData", body)
    assert status == 200 and headers["smithy-protocol"] == "rpc-v2-cbor"
    assert headers["Content-Type"] == "application/cbor"
    # 0xc1 is tag 1, the only form of a timestamp that Smithy clients read.
    assert answer.count(b"\xc1") >= 14
    result = cbor2.loads(answer)["MetricDataResults"][0]
    assert result["StatusCode"] == "Complete" and isinstance(result["Values"][0], float)
    assert isinstance(result["Timestamps"][0], datetime)

    lab.fault(lab.WEST, "throttle", service="cloudwatch", times=1)
    status, headers, answer = cbor_call(lab, "GetMetricData", body)
    assert (status, cbor2.loads(answer)["__type"].rpartition("#")[2]) == (400, "ThrottlingException")
    assert headers["smithy-protocol"] == "rpc-v2-cbor"


def test_the_older_protocols_of_cloudwatch(lab: Handle):
    at = {name: t.strftime("%Y-%m-%dT%H:%M:%SZ") for name, t in window().items()}
    form = {
        "Action": "GetMetricStatistics",
        "Version": "2010-08-01",
        "Namespace": "AWS/RDS",
        "MetricName": "ReplicaLag",
        "Dimensions.member.1.Name": "DBInstanceIdentifier",
        "Dimensions.member.1.Value": "maip-prod-postgres-replica",
        "Period": "60",
        "Statistics.member.1": "Average",
        **at,
    }
    body = urllib.parse.urlencode(form).encode()
    status, _, answer = signed(lab, "/", body, {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})
    assert status == 200 and b"<GetMetricStatisticsResult>" in answer and b"<Average>2.0</Average>" in answer

    target = "GraniteServiceVersion20100801.GetMetricData"
    seconds = {name: int(t.timestamp()) for name, t in window().items()}
    body = json.dumps({"MetricDataQueries": lag_query(), **seconds}).encode()
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": target}
    status, _, answer = signed(lab, "/", body, headers)
    assert status == 200 and json.loads(answer)["MetricDataResults"][0]["Values"][0] == 2.0

"""The hand-run runbook's failover with boto3: the second baseline of the benchmark.

The same steps in the same order as runbook.sh, with boto3's own waiter; the same environment.
"""

import os
import subprocess
import time

import boto3


def client(service, region):
    endpoint = os.environ["EAST" if region == "us-east-1" else "WEST"]
    return boto3.client(service, region_name=region, endpoint_url=endpoint)


def kubectl(side, *words):
    return subprocess.run(["kubectl", "--kubeconfig", os.environ[f"{side}_KUBECONFIG"], *words]).returncode


if kubectl("EAST", "get", "nodes"):
    print("the primary does not answer")

rds = client("rds", "us-west-2")
replica = "maip-prod-postgres-replica"
rds.promote_read_replica(DBInstanceIdentifier=replica)
rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier=replica)
print(rds.describe_db_instances(DBInstanceIdentifier=replica)["DBInstances"][0]["DBInstanceStatus"])

route53 = client("route53", "us-east-1")
zones = route53.list_hosted_zones()["HostedZones"]
zone = next(z["Id"] for z in zones if z["Name"] == "maip.example.com.")
target = {
    "HostedZoneId": "Z1H1FL5HABSF5",
    "DNSName": "maip-prod-dr-alb-2222222222.us-west-2.elb.amazonaws.com",
    "EvaluateTargetHealth": True,
}
record = {"Name": "api.maip.example.com", "Type": "A", "AliasTarget": target}
change = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=change)

client("eks", "us-west-2").update_nodegroup_config(
    clusterName="maip-prod-dr-eks-cluster",
    nodegroupName="maip-prod-dr-nodegroup",
    scalingConfig={"minSize": 4, "maxSize": 20, "desiredSize": 8},
)
kubectl("WEST", "scale", "deployment", "--all", "-n", "maip-services", "--replicas=4")
kubectl("WEST", "get", "pods", "-n", "maip-services")
ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--connect-to", f"::{os.environ['WEST_LB']}"]
url = "http://api.maip.example.com/actuator/health"
while subprocess.run([*ask, url], capture_output=True, text=True).stdout != "200":
    time.sleep(1)

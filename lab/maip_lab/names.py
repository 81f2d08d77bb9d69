"""The names of the seeded world: the topology example's."""

ACCOUNT = "123456789012"
ACCESS_KEY = "AKIAMAIPDRLAB0000001"
SECRET_KEY = "maip-dr-lab-secret-key-not-a-real-one-00"

EAST = "us-east-1"
WEST = "us-west-2"
REGIONS = (EAST, WEST)


def other(region: str) -> str:
    return WEST if region == EAST else EAST


DATABASES = {EAST: "maip-prod-postgres", WEST: "maip-prod-postgres-replica"}
CLUSTERS = {EAST: "maip-prod-eks-cluster", WEST: "maip-prod-dr-eks-cluster"}
NODE_GROUPS = {EAST: "maip-prod-nodegroup", WEST: "maip-prod-dr-nodegroup"}
STREAMS = {EAST: "maip-prod-kafka", WEST: "maip-prod-dr-kafka"}
TABLE = "maip-prod-merchant-analytics"
NAMESPACE = "maip-services"

ZONE = "maip.example.com."
ZONE_ID = "Z0MAIPEXAMPLECOM0001"
API_HOST = "api.maip.example.com"

LOAD_BALANCERS = {
    EAST: "maip-prod-alb-1111111111.us-east-1.elb.amazonaws.com",
    WEST: "maip-prod-dr-alb-2222222222.us-west-2.elb.amazonaws.com",
}
LOAD_BALANCER_NAMES = {EAST: "maip-prod-alb", WEST: "maip-prod-dr-alb"}
LOAD_BALANCER_IPS = {EAST: "127.0.0.2", WEST: "127.0.0.3"}
ALB_ZONE_IDS = {EAST: "Z35SXDOTRQ7X7K", WEST: "Z1H1FL5HABSF5"}
NLB_ZONE_IDS = {EAST: "Z26RNL4JYFTOTI", WEST: "Z18D5FSROUN65G"}


def arn(service: str, region: str, resource: str) -> str:
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{resource}"

"""ELBv2: enough to find a load balancer's DNS name and its Region's hosted zone id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import AwsError
from .names import ALB_ZONE_IDS, LOAD_BALANCER_NAMES, LOAD_BALANCERS, arn
from .world import now


class Elb:
    def __init__(self, healthy: Callable[[str], bool]) -> None:
        self._healthy = healthy
        self.made_at = now()

    def _arn(self, region: str) -> str:
        name = LOAD_BALANCER_NAMES[region]
        return arn("elasticloadbalancing", region, f"loadbalancer/app/{name}/0123456789abcdef")

    def _group_arn(self, region: str) -> str:
        return arn("elasticloadbalancing", region, "targetgroup/maip-api/0123456789abcdef")

    def DescribeLoadBalancers(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        name = LOAD_BALANCER_NAMES[region]
        for wanted in p.get("Names", []) + p.get("LoadBalancerArns", []):
            if wanted not in (name, self._arn(region)):
                raise AwsError("LoadBalancerNotFound", f"Load balancers '[{wanted}]' not found")
        return {
            "LoadBalancers": [
                {
                    "LoadBalancerArn": self._arn(region),
                    "DNSName": LOAD_BALANCERS[region],
                    "CanonicalHostedZoneId": ALB_ZONE_IDS[region],
                    "CreatedTime": self.made_at,
                    "LoadBalancerName": name,
                    "Scheme": "internet-facing",
                    "VpcId": "vpc-0lab",
                    "State": {"Code": "active"},
                    "Type": "application",
                    "AvailabilityZones": [{"ZoneName": f"{region}a", "SubnetId": f"subnet-{region}a"}],
                    "SecurityGroups": ["sg-alb"],
                    "IpAddressType": "ipv4",
                }
            ]
        }

    def DescribeTargetGroups(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        return {
            "TargetGroups": [
                {
                    "TargetGroupArn": self._group_arn(region),
                    "TargetGroupName": "maip-api",
                    "Protocol": "HTTP",
                    "Port": 8080,
                    "HealthCheckPath": "/actuator/health",
                    "LoadBalancerArns": [self._arn(region)],
                    "TargetType": "ip",
                }
            ]
        }

    def DescribeTargetHealth(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        if p["TargetGroupArn"] != self._group_arn(region):
            raise AwsError("TargetGroupNotFound", "One or more target groups not found")
        state = "healthy" if self._healthy(region) else "unhealthy"
        return {
            "TargetHealthDescriptions": [
                {"Target": {"Id": f"10.0.0.{n}", "Port": 8080}, "TargetHealth": {"State": state}} for n in (11, 12)
            ]
        }

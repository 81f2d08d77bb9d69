"""MSK clusters, in both versions of the API."""

from __future__ import annotations

from typing import Any

from .errors import AwsError
from .names import REGIONS, STREAMS, arn
from .world import now

UUIDS = {
    "us-east-1": "aaaaaaaa-1111-4111-8111-000000000001-1",
    "us-west-2": "bbbbbbbb-2222-4222-8222-000000000002-2",
}


class Msk:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.states = dict.fromkeys(REGIONS, "ACTIVE")
        self.made_at = now()

    def arn(self, region: str) -> str:
        return arn("kafka", region, f"cluster/{STREAMS[region]}/{UUIDS[region]}")

    def _common(self, region: str) -> dict[str, Any]:
        return {
            "clusterArn": self.arn(region),
            "clusterName": STREAMS[region],
            "creationTime": self.made_at,
            "currentVersion": "K3AEGXETSR30VB",
            "state": self.states[region],
            "tags": {"application": "maip"},
        }

    def _brokers(self, region: str) -> dict[str, Any]:
        return {
            "brokerNodeGroupInfo": {
                "clientSubnets": [f"subnet-{region}a", f"subnet-{region}b", f"subnet-{region}c"],
                "instanceType": "kafka.m7g.large",
                "storageInfo": {"ebsStorageInfo": {"volumeSize": 1000}},
            },
            "currentBrokerSoftwareInfo": {"kafkaVersion": "3.6.0"},
            "enhancedMonitoring": "DEFAULT",
            "numberOfBrokerNodes": 3,
        }

    def _v1(self, region: str) -> dict[str, Any]:
        return self._common(region) | self._brokers(region)

    def _v2(self, region: str) -> dict[str, Any]:
        return self._common(region) | {"clusterType": "PROVISIONED", "provisioned": self._brokers(region)}

    def _need(self, region: str, p: dict[str, Any]) -> None:
        if p["ClusterArn"] != self.arn(region):
            raise AwsError("NotFoundException", "The requested cluster does not exist.", 404)

    def _matching(self, region: str, prefix: str) -> bool:
        return STREAMS[region].startswith(prefix)

    def ListClusters(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        found = self._matching(region, p.get("ClusterNameFilter", ""))
        return {"ClusterInfoList": [_pascal(self._v1(region))] if found else []}

    def ListClustersV2(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        found = self._matching(region, p.get("ClusterNameFilter", ""))
        if p.get("ClusterTypeFilter", "PROVISIONED") != "PROVISIONED":
            found = False
        return {"ClusterInfoList": [_pascal(self._v2(region))] if found else []}

    def DescribeCluster(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        self._need(region, p)
        return {"ClusterInfo": _pascal(self._v1(region))}

    def DescribeClusterV2(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        self._need(region, p)
        return {"ClusterInfo": _pascal(self._v2(region))}

    def GetBootstrapBrokers(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        self._need(region, p)
        host = f"{STREAMS[region].replace('-', '')}.c1.kafka.{region}.amazonaws.com"
        return {"BootstrapBrokerStringTls": ",".join(f"b-{broker}.{host}:9094" for broker in (1, 2, 3))}

    def ListReplicators(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        return {"Replicators": []}


def _pascal(value: Any) -> Any:
    """The model names its members ClusterArn; the wire says clusterArn, which the serializer sees to."""
    if isinstance(value, dict):
        return {
            name if name == "application" else name[0].upper() + name[1:]: _pascal(item) for name, item in value.items()
        }
    return [_pascal(item) for item in value] if isinstance(value, list) else value

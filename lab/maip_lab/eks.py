"""EKS node groups, and the auto scaling groups behind them."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import AwsError
from .names import CLUSTERS, NODE_GROUPS, REGIONS, arn
from .world import World, now


@dataclass
class NodeGroup:
    region: str
    cluster: str
    name: str
    scaling: dict[str, int]
    nodes: int = 0  # what really runs: Node objects, where there is a control plane
    updates: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    activities: list[dict[str, Any]] = field(default_factory=list)
    made_at: Any = field(default_factory=now)

    @property
    def asg(self) -> str:
        return f"eks-{self.name}-asg"

    @property
    def updating(self) -> bool:
        return any(update["status"] == "InProgress" for update in self.updates.values())


def _missing(kind: str, name: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"No {kind} found for name: {name}.", 404)


class Eks:
    def __init__(self, world: World) -> None:
        self.world = world
        self.endpoints: dict[str, str] = {}
        self.ca_pems: dict[str, str] = {}
        # What makes Node objects appear: (region, node group, count); set where there are control planes.
        self.set_nodes: Callable[[str, str, int], None] = lambda region, group, count: None
        self.clear()

    def clear(self) -> None:
        self.groups: dict[str, list[NodeGroup]] = {region: [] for region in REGIONS}
        self.cluster_status = dict.fromkeys(REGIONS, "ACTIVE")
        self.made_at = now()

    # -- reading ---------------------------------------------------------------------------------

    def _cluster(self, region: str, name: str) -> None:
        if name != CLUSTERS[region]:
            raise _missing("cluster", name)

    def group(self, region: str, cluster: str, name: str) -> NodeGroup:
        self._cluster(region, cluster)
        for group in self.groups[region]:
            if group.name == name:
                return group
        raise _missing("node group", name)

    def ListClusters(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        return {"clusters": [CLUSTERS[region]]}

    def DescribeCluster(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        name = p["name"]
        self._cluster(region, name)
        return {
            "cluster": {
                "name": name,
                "arn": arn("eks", region, f"cluster/{name}"),
                "createdAt": self.made_at,
                "version": "1.35",
                "endpoint": self.endpoints[region],
                "certificateAuthority": {"data": base64.b64encode(self.ca_pems[region].encode()).decode()},
                "status": self.cluster_status[region],
                "platformVersion": "eks.1",
                "kubernetesNetworkConfig": {"serviceIpv4Cidr": "10.96.0.0/16", "ipFamily": "ipv4"},
                "accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP"},
                "tags": {"application": "maip"},
                "health": {"issues": []},
            }
        }

    def ListNodegroups(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        self._cluster(region, p["clusterName"])
        return {"nodegroups": [group.name for group in self.groups[region]]}

    def DescribeNodegroup(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        group = self.group(region, p["clusterName"], p["nodegroupName"])
        short = self._short_of_capacity(group)
        issue = {
            "code": "AsgInstanceLaunchFailures",
            "message": "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do "
            "not have sufficient capacity in the Availability Zone you requested. Launching EC2 instance failed.",
            "resourceIds": [group.asg],
        }
        return {
            "nodegroup": {
                "nodegroupName": group.name,
                "nodegroupArn": arn("eks", region, f"nodegroup/{group.cluster}/{group.name}/0a1b2c3d"),
                "clusterName": group.cluster,
                "version": "1.35",
                "createdAt": group.made_at,
                "modifiedAt": group.made_at,
                "status": "ACTIVE",  # stays ACTIVE during a scaling update: a waiter on it learns nothing
                "capacityType": "ON_DEMAND",
                "scalingConfig": dict(group.scaling),
                "instanceTypes": ["m6i.xlarge"],
                "subnets": [f"subnet-{region}a", f"subnet-{region}b"],
                "amiType": "AL2023_x86_64_STANDARD",
                "labels": {},
                "resources": {"autoScalingGroups": [{"name": group.asg}]},
                "health": {"issues": [issue] if short else []},
                "tags": {},
            }
        }

    def _update(self, group: NodeGroup, update_id: str) -> dict[str, Any]:
        if update_id not in group.updates:
            raise _missing("update", update_id)
        return dict(group.updates[update_id])

    def DescribeUpdate(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        if not p.get("nodegroupName"):
            self._cluster(region, p["name"])
            raise _missing("update", p["updateId"])
        group = self.group(region, p["name"], p["nodegroupName"])
        return {"update": self._update(group, p["updateId"])}

    def ListUpdates(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        if not p.get("nodegroupName"):
            self._cluster(region, p["name"])
            return {"updateIds": []}
        return {"updateIds": list(self.group(region, p["name"], p["nodegroupName"]).updates)}

    # -- changing --------------------------------------------------------------------------------

    def UpdateNodegroupConfig(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        group = self.group(region, p["clusterName"], p["nodegroupName"])
        token = p.get("clientRequestToken")
        if token in group.tokens:
            return {"update": self._update(group, group.tokens[token])}
        scaling = group.scaling | p.get("scalingConfig", {})
        _check(scaling)
        if group.updating:
            raise AwsError(
                "ResourceInUseException",
                f"Nodegroup cannot be updated as it is currently not in Active State: {group.name} is updating.",
                409,
            )
        changes = {name[0].upper() + name[1:]: value for name, value in p.get("scalingConfig", {}).items()}
        update: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "status": "InProgress",
            "type": "ConfigUpdate",
            "params": [{"type": name, "value": str(value)} for name, value in changes.items()],
            "createdAt": now(),
            "errors": [],
        }
        group.updates[update["id"]] = update
        if token:
            group.tokens[token] = update["id"]

        def successful() -> None:
            # Successful means that the auto scaling group was told, not that nodes are there.
            group.scaling = scaling
            update["status"] = "Successful"
            self.follow(group)

        self.world.after(self.world.settings.eks_update_s, successful)
        return {"update": dict(update)}

    def follow(self, group: NodeGroup) -> None:
        """Brings the nodes to the desired size, as far as there is capacity: new ones take their time."""
        target = self._reachable(group)
        if self._short_of_capacity(group):
            group.activities.insert(0, _launch_failed(group))

        def arrived() -> None:
            count = self._reachable(group)
            if count != group.nodes:
                group.nodes = count
                self.set_nodes(group.region, group.name, count)

        if target != group.nodes:
            self.world.after(self.world.settings.node_start_s if target > group.nodes else 0, arrived)

    def follow_all(self) -> None:
        for region in REGIONS:
            for group in self.groups[region]:
                self.follow(group)

    def _limit(self, group: NodeGroup) -> int | None:
        # Nodes that run keep running: a Region without capacity only launches no more.
        limit = self.world.settings.capacity_max
        return None if limit is None else max(limit, min(group.nodes, group.scaling["desiredSize"]))

    def _reachable(self, group: NodeGroup) -> int:
        limit = self._limit(group)
        desired = group.scaling["desiredSize"]
        return desired if limit is None else min(desired, limit)

    def _short_of_capacity(self, group: NodeGroup) -> bool:
        return self._reachable(group) < group.scaling["desiredSize"]


def _check(scaling: dict[str, int]) -> None:
    low, wanted, high = scaling["minSize"], scaling["desiredSize"], scaling["maxSize"]
    message = None
    if low < 0 or high < 1:
        message = f"Scaling sizes must be positive: min {low}, max {high}"
    elif low > high:
        message = f"Minimum capacity {low} can't be greater than maximum capacity {high}"
    elif low > wanted:
        message = f"Minimum capacity {low} can't be greater than desired size {wanted}"
    elif wanted > high:
        message = f"desired capacity {wanted} can't be greater than max size {high}"
    if message:
        raise AwsError("InvalidParameterException", message)


def _launch_failed(group: NodeGroup) -> dict[str, Any]:
    return {
        "ActivityId": str(uuid.uuid4()),
        "AutoScalingGroupName": group.asg,
        "Description": "Launching a new EC2 instance. Status Reason: InsufficientInstanceCapacity",
        "Cause": "a user request changed the desired capacity.",
        "StartTime": now(),
        "EndTime": now(),
        "StatusCode": "Failed",
        "StatusMessage": "We currently do not have sufficient m6i.xlarge capacity in the Availability Zone you "
        "requested (InsufficientInstanceCapacity). Launching EC2 instance failed.",
        "Progress": 100,
    }


class AutoScaling:
    """The node groups once more, as EC2 Auto Scaling shows them."""

    def __init__(self, eks: Eks) -> None:
        self.eks = eks

    def DescribeAutoScalingGroups(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        wanted = p.get("AutoScalingGroupNames")
        return {
            "AutoScalingGroups": [
                {
                    "AutoScalingGroupName": group.asg,
                    "MinSize": group.scaling["minSize"],
                    "MaxSize": group.scaling["maxSize"],
                    "DesiredCapacity": group.scaling["desiredSize"],
                    "DefaultCooldown": 300,
                    "AvailabilityZones": [f"{region}a", f"{region}b"],
                    "HealthCheckType": "EC2",
                    "CreatedTime": group.made_at,
                    "Instances": [
                        {
                            "InstanceId": f"i-{index:017x}",
                            "AvailabilityZone": f"{region}{'ab'[index % 2]}",
                            "LifecycleState": "InService",
                            "HealthStatus": "Healthy",
                            "ProtectedFromScaleIn": False,
                        }
                        for index in range(group.nodes)
                    ],
                }
                for group in self.eks.groups[region]
                if not wanted or group.asg in wanted
            ]
        }

    def DescribeScalingActivities(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        name = p.get("AutoScalingGroupName")
        groups = [group for group in self.eks.groups[region] if name in (None, group.asg)]
        return {"Activities": [activity for group in groups for activity in group.activities]}


def seeded_groups() -> dict[str, list[NodeGroup]]:
    return {
        region: [
            NodeGroup(
                region,
                CLUSTERS[region],
                NODE_GROUPS[region],
                {"minSize": 1, "desiredSize": 3, "maxSize": 10},
                nodes=3,
            )
        ]
        for region in REGIONS
    }

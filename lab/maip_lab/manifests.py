"""What runs in each Region's cluster at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from .names import NAMESPACE

if TYPE_CHECKING:
    from .kubernetes import Cluster


def _deployment(name: str, replicas: int, **extra: Any) -> dict[str, Any]:
    labels = {"app": name}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": name, "image": f"registry.example.com/maip/{name}:1"}]},
        },
    }
    metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE}
    metadata |= extra.pop("metadata", {})
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec | extra}


def deployments() -> list[dict[str, Any]]:
    return [
        _deployment("api", 2),
        _deployment("worker", 2),
        _deployment(
            "scheduler",
            1,
            strategy={"type": "Recreate"},
            metadata={"annotations": {"maip-dr/scale": "keep"}},
        ),
    ]


RBAC = "rbac.authorization.k8s.io"


def _access() -> list[dict[str, Any]]:
    """What the tool needs and no more, bound to the group its token is mapped to."""
    group = [{"kind": "Group", "name": "maip-dr", "apiGroup": RBAC}]
    changes = ["get", "list", "watch", "patch", "update"]
    scaled = {"apiGroups": ["apps"], "verbs": changes}
    return [
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "Role",
            "metadata": {"name": "maip-dr", "namespace": NAMESPACE},
            "rules": [
                scaled | {"resources": ["deployments", "deployments/scale", "statefulsets", "statefulsets/scale"]},
                {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": changes},
                {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["get", "list", "watch"]},
            ],
        },
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "maip-dr-nodes"},
            "rules": [{"apiGroups": [""], "resources": ["nodes", "namespaces"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "maip-dr", "namespace": NAMESPACE},
            "subjects": group,
            "roleRef": {"kind": "Role", "name": "maip-dr", "apiGroup": RBAC},
        },
        *(
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "subjects": group,
                "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": RBAC},
            }
            # Wide for now; without the first of these the narrow rights alone remain.
            for name, role in (("maip-dr-wide", "cluster-admin"), ("maip-dr-nodes", "maip-dr-nodes"))
        ),
    ]


def everything() -> str:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return yaml.safe_dump_all([namespace, *deployments(), *_access()])


def restore(cluster: Cluster) -> None:
    """Deployments back to the seed: what is not in it goes, what differs is made anew."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    cluster.api("DELETE", path, None)
    cluster.apply(everything())

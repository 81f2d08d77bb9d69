"""The topology file for this lab: the example of the file's contract, with the lab's addresses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .names import (
    ACCOUNT,
    ALB_ZONE_IDS,
    API_HOST,
    CLUSTERS,
    DATABASES,
    EAST,
    LOAD_BALANCER_IPS,
    LOAD_BALANCERS,
    NAMESPACE,
    NODE_GROUPS,
    REGIONS,
    STREAMS,
    TABLE,
    WEST,
    ZONE,
)

if TYPE_CHECKING:
    from .lab import Lab


def topology(lab: Lab) -> dict[str, Any]:
    port = lab.load_balancer_port
    return {
        "version": 1,
        "application": "maip",
        "primary": EAST,
        "standby": WEST,
        "objectives": {"rto": "15m", "rpo": "60s"},
        "regions": {region: {"account": ACCOUNT, "endpoint_url": lab.endpoint(region)} for region in REGIONS},
        "databases": {
            "postgres": {
                "backup_retention_days": 7,
                "regions": {region: {"instance": DATABASES[region]} for region in REGIONS},
            }
        },
        "clusters": {
            "services": {
                "regions": {region: _cluster(lab, region) for region in REGIONS},
                "workloads": {NAMESPACE: {"replicas": 4, "deployments": {"scheduler": "keep"}, "restart": True}},
            }
        },
        "streams": {
            "kafka": {
                "required": False,
                "regions": {region: {"msk": STREAMS[region]} for region in REGIONS},
            }
        },
        "tables": {"merchant-analytics": {"dynamodb": TABLE, "lag_max": "5s", "required": False}},
        "traffic": {
            "api": {
                "zone": ZONE.rstrip("."),
                "record": API_HOST,
                "types": ["A"],
                "method": "weighted" if lab.settings.record == "weighted" else "alias",
                "regions": {
                    region: {
                        "load_balancer": LOAD_BALANCERS[region],
                        "hosted_zone_id": ALB_ZONE_IDS[region],
                        "connect": f"{LOAD_BALANCER_IPS[region]}:{port}",
                    }
                    for region in REGIONS
                },
                "health": {"url": f"http://{API_HOST}:{port}/actuator/health", "status": 200},
                "resolvers": [lab.dns.address],
            }
        },
        "failback": {"shift": [10, 50, 90, 100], "bake": "10m"},
    }


def _cluster(lab: Lab, region: str) -> dict[str, Any]:
    groups = {NODE_GROUPS[WEST]: {"min": 4, "desired": 8, "max": 20}} if region == WEST else {}
    entry: dict[str, Any] = {"eks": CLUSTERS[region], "node_groups": groups}
    if lab.settings.kube_access == "kubeconfig" and lab.control_planes:
        entry |= lab.control_planes.access(region)
    return entry


def write_topology(lab: Lab) -> Path:
    path = lab.directory / "topology.yaml"
    path.write_text(yaml.safe_dump(topology(lab), sort_keys=False))
    return path

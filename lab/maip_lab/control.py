"""The control port: faults in, calls and state out, and the token check of the control planes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moto.core.utils import get_service_model

from . import token_review, wire
from .faults import KUBERNETES, LOAD_BALANCER
from .http import Request, Response
from .names import CLUSTERS, LOAD_BALANCERS, REGIONS, STREAMS
from .rds_rows import Instance

if TYPE_CHECKING:
    from .lab import Lab


class NotThere(Exception):
    pass


class Control:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def answer(self, request: Request) -> Response:
        try:
            body = json.loads(request.body) if request.body.strip() else {}
            first, *rest = request.path.strip("/").split("/")
            handler = getattr(self, f"_{request.method.lower()}_{first}", None)
            if handler is None:
                raise NotThere(f"no {request.method} {request.path}")
            return _json(200, handler(rest, body, request.query))
        except NotThere as error:
            return _json(404, {"error": str(error)})
        except (ValueError, TypeError, KeyError) as error:
            return _json(400, {"error": str(error) or repr(error)})

    # -- faults and calls ------------------------------------------------------------------------

    def _post_faults(self, rest: list[str], body: dict[str, Any], query: str) -> Any:
        service, operation = body.get("service"), body.get("operation")
        known = [*wire.PROTOCOLS, LOAD_BALANCER, KUBERNETES]
        if service and service not in known:
            raise ValueError(f"no such service: {service}; known: {', '.join(known)}")
        if service in wire.PROTOCOLS and operation not in (None, *get_service_model(service).operation_names):
            raise ValueError(f"{service} has no operation {operation}")
        return {"id": self.lab.add_fault(body)}

    def _get_faults(self, rest: list[str], body: Any, query: str) -> Any:
        return [fault.as_dict() for fault in self.lab.faults.all()]

    def _delete_faults(self, rest: list[str], body: Any, query: str) -> Any:
        lifted = self.lab.lift_faults(rest[0] if rest else None)
        if rest and not lifted:
            raise NotThere(f"no fault {rest[0]}")
        return {"lifted": lifted}

    def _get_calls(self, rest: list[str], body: Any, query: str) -> Any:
        return self.lab.calls.all(with_params="params=1" in query)

    def _delete_calls(self, rest: list[str], body: Any, query: str) -> Any:
        self.lab.calls.clear()
        return {}

    # -- the world -------------------------------------------------------------------------------

    def _get_settings(self, rest: list[str], body: Any, query: str) -> Any:
        return self.lab.settings.as_dict()

    def _post_settings(self, rest: list[str], body: dict[str, Any], query: str) -> Any:
        self.lab.change_settings(body)
        return self.lab.settings.as_dict()

    def _post_reset(self, rest: list[str], body: Any, query: str) -> Any:
        self.lab.reset(body)
        return {}

    def _get_state(self, rest: list[str], body: Any, query: str) -> Any:
        lab = self.lab
        serving = {region: lab.load_balancers.serves(region) for region in REGIONS}
        with lab.world.lock:
            lab.world.advance()
            return {
                "regions": {region: self._region(region, serving[region]) for region in REGIONS},
                "zones": {
                    zone.name: {
                        "id": zone.id,
                        "records": list(zone.records.values()),
                        "live": list(zone.live.values()),
                    }
                    for zone in lab.route53.zones.values()
                },
                "changes": list(lab.route53.changes.values()),
                "health_checks": list(lab.route53.health_checks.values()),
                "settings": lab.settings.as_dict(),
                "faults": [fault.as_dict() for fault in lab.faults.all()],
            }

    def _region(self, region: str, serves: bool) -> dict[str, Any]:
        lab = self.lab
        state: dict[str, Any] = {
            "databases": {each.name: _database(each) for each in lab.rds.instances[region]},
            "writers": [
                each.name
                for each in lab.rds.instances[region]
                if not each.is_replica and each.status in ("available", "backing-up")
            ],
            "node_groups": {
                group.name: {**group.scaling, "nodes": group.nodes, "updating": group.updating}
                for group in lab.eks.groups[region]
            },
            "cluster": {"name": CLUSTERS[region], "status": lab.eks.cluster_status[region]},
            "stream": {"name": STREAMS[region], "state": lab.msk.states[region]},
            "table_replica_status": lab.dynamodb.replica_status[region],
            "load_balancer": {"name": LOAD_BALANCERS[region], "serves": serves},
        }
        if lab.control_planes:
            state["cluster"] |= lab.control_planes.state(region)
        return state

    # -- forcing states --------------------------------------------------------------------------

    def _post_set(self, rest: list[str], body: dict[str, Any], query: str) -> Any:
        kind, *where = rest or [""]
        handler = getattr(self, f"_set_{kind}", None)
        if handler is None:
            kinds = sorted(name[5:] for name in dir(self) if name.startswith("_set_"))
            raise NotThere(f"cannot set {kind!r}; can: {', '.join(kinds)}")
        with self.lab.world.lock:
            self.lab.world.advance()
            handler(where, body)
        return {}

    def _set_rds(self, where: list[str], body: dict[str, Any]) -> None:
        region, name = where
        instance = self.lab.rds.find(_region(region), name)
        if instance is None:
            raise NotThere(f"no database {name} in {region}")
        body = dict(body)
        if "status" in body:
            instance.row["DBInstanceStatus"] = body.pop("status")
        if "replication" in body:
            instance.set_replication(body.pop("replication"), body.pop("message", None))
        for member in body:
            if not member[0].isupper():
                raise ValueError(f"{member}: status, replication, message, or a member of DBInstance")
        # null takes a member away: a replica whose source is not shown, for one.
        for member, value in body.items():
            if value is None:
                instance.row.pop(member, None)
            else:
                instance.row[member] = value

    def _set_eks(self, where: list[str], body: dict[str, Any]) -> None:
        self.lab.eks.cluster_status[_region(where[0])] = _only(body, "status")

    def _set_msk(self, where: list[str], body: dict[str, Any]) -> None:
        self.lab.msk.states[_region(where[0])] = _only(body, "state")

    def _set_dynamodb(self, where: list[str], body: dict[str, Any]) -> None:
        if "replicating" in body:
            self.lab.dynamodb.replicating = bool(body["replicating"])
        if "replica_status" in body:
            self.lab.dynamodb.replica_status[_region(where[0])] = body["replica_status"]

    def _set_cloudwatch(self, where: list[str], body: dict[str, Any]) -> None:
        region, metric = where
        found = [series for series in self.lab.cloudwatch.series[_region(region)] if series.metric == metric]
        if not found:
            raise NotThere(f"no metric {metric} in {region}")
        for series in found:
            series.change(body["value"], float(body.get("slope", 0)))

    def _set_health_check(self, where: list[str], body: dict[str, Any]) -> None:
        self.lab.route53.health_checks[where[0]]["observed"] = bool(_only(body, "healthy"))

    def _set_load_balancer(self, where: list[str], body: dict[str, Any]) -> None:
        self.lab.load_balancers.forced[_region(where[0])] = _only(body, "serves")

    # -- Kubernetes asks this --------------------------------------------------------------------

    def _post_token(self, rest: list[str], body: dict[str, Any], query: str) -> Any:
        def sts_is_down(region: str) -> bool:
            return self.lab.faults.is_down(region, "sts")

        return token_review.review(body, CLUSTERS[_region(rest[0])], self.lab.keys, sts_is_down)


def _region(region: str) -> str:
    if region not in REGIONS:
        raise NotThere(f"no Region {region}")
    return region


def _only(body: dict[str, Any], key: str) -> Any:
    if set(body) != {key}:
        raise ValueError(f'the body is {{"{key}": ...}}')
    return body[key]


def _database(instance: Instance) -> dict[str, Any]:
    return {
        "status": instance.status,
        "source": instance.row.get("ReadReplicaSourceDBInstanceIdentifier"),
        "replication": [info["Status"] for info in instance.row.get("StatusInfos", [])],
        "backup_retention": instance.row["BackupRetentionPeriod"],
        "resource_id": instance.row["DbiResourceId"],
    }


def _json(status: int, body: Any) -> Response:
    encoded = json.dumps(body, default=str).encode() + b"\n"
    return Response(status, encoded, {"Content-Type": "application/json"})

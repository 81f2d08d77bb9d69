"""Every duration and choice of the lab's physics, changeable at the start and at run time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

CHOICES = {
    "rename": ("ok", "refused", "hang"),
    "record": ("alias", "weighted", "failover", "none"),
    "kube_access": ("eks", "kubeconfig"),
    "route53_error_form": ("wrapped", "bare"),
}


@dataclass
class Settings:
    # RDS
    promotion_start_s: float = 0.3  # how long a promoted replica goes on saying `available`
    promotion_s: float = 2.0  # from `modifying` to `available` without a source
    backing_up_after_promotion_s: float = 0.0
    rename_s: float = 1.0
    rename: str = "ok"
    reboot_s: float = 1.0
    create_replica_s: float = 3.0
    catch_up_s: float = 3.0  # a new replica's lag falls to replica_lag_s in this time
    delete_s: float = 1.0
    # EKS
    eks_update_s: float = 0.5
    node_start_s: float = 1.0
    node_delay_s: float = 0.0  # kwok: a Node object that is there becomes Ready
    pod_delay_s: float = 0.0
    pods_per_node: int = 10
    capacity_max: int | None = None  # no node group gets more nodes than this
    kube_access: str = "eks"
    # Route 53 and DNS
    dns_insync_s: float = 0.5
    alias_ttl_s: int = 2
    resolver_min_ttl_s: int = 0
    negative_ttl_s: int = 1
    record: str = "alias"
    route53_error_form: str = "wrapped"
    # CloudWatch; None: no datapoint at all
    replica_lag_s: float | None = 2.0
    replication_latency_ms: float | None = 800.0
    # DynamoDB
    replication_s: float = 0.2
    # How strict the front door is
    check_scope: bool = True
    check_key: bool = True

    def change(self, changes: dict[str, Any]) -> None:
        """All or nothing: an unknown name or a bad value changes nothing."""
        known = {field.name: field for field in fields(self)}
        converted = {}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"no such setting: {name}; known: {', '.join(sorted(known))}")
            converted[name] = _convert(name, str(known[name].type), value)
        for name, value in converted.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _convert(name: str, kind: str, value: Any) -> Any:
    if "None" in kind and (value is None or value in ("none", "missing", "")):
        return None
    try:
        if kind.startswith("float"):
            return float(value)
        if kind.startswith("int"):
            return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is a number, not {value!r}") from None
    if kind == "bool":
        if str(value).lower() in ("1", "true", "yes"):
            return True
        if str(value).lower() in ("0", "false", "no"):
            return False
        raise ValueError(f"{name} is true or false, not {value!r}")
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"{name} is one of {', '.join(CHOICES[name])}, not {value!r}")
    return value

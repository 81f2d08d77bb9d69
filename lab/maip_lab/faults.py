"""Faults: which calls meet which trouble."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import dataclass, field
from typing import Any

from .names import REGIONS

MODES = ("silent", "reset", "refuse", "error", "throttle", "deny", "delay", "lost_answer")
LOAD_BALANCER = "load_balancer"
KUBERNETES = "kubernetes"  # the Region's control plane, where there is a real one


@dataclass
class Fault:
    id: str
    region: str
    mode: str
    service: str | None = None
    operation: str | None = None
    status: int | None = None
    code: str | None = None
    delay_s: float = 0.0
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    route53: bool = False
    kubernetes: bool = False
    hits: int = 0
    lifted: threading.Event = field(default_factory=threading.Event, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    @property
    def region_wide(self) -> bool:
        return self.service is None

    @property
    def closes_listeners(self) -> bool:
        """A whole Region that refuses has no listener at all, as long as it never answers."""
        return self.mode == "refuse" and self.region_wide and self.times is None and self.probability >= 1

    def fits(self, region: str, service: str | None, operation: str | None) -> bool:
        if self.region != region:
            return False
        if self.region_wide:
            # Route 53 is at home in us-east-1 but is not the Region: it fails only when asked to.
            return service != "route53" or self.route53
        return self.service == service and self.operation in (None, operation)

    def strikes(self) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "lifted"}


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, wanted: dict[str, Any]) -> Fault:
        known = set(Fault.__dataclass_fields__) - {"id", "hits", "lifted"}
        unknown = set(wanted) - known
        if unknown:
            raise ValueError(f"unknown keys {sorted(unknown)}; known: {sorted(known)}")
        if wanted.get("region") not in REGIONS:
            raise ValueError(f"region is one of {', '.join(REGIONS)}")
        if wanted.get("mode") not in MODES:
            raise ValueError(f"mode is one of {', '.join(MODES)}")
        if wanted.get("operation") and not wanted.get("service"):
            raise ValueError("an operation needs its service")
        with self._lock:
            fault = Fault(id=f"f{next(self._ids)}", **wanted)
            fault.kubernetes |= fault.service == KUBERNETES
            self._faults.append(fault)
            return fault

    def match(self, region: str, service: str | None, operation: str | None = None) -> Fault | None:
        """The first fault, in the order they were set, that fits this call and strikes."""
        with self._lock:
            for fault in self._faults:
                if fault.fits(region, service, operation) and fault.strikes():
                    return fault
        return None

    def is_down(self, region: str, service: str = LOAD_BALANCER) -> bool:
        """Whether this service would fail whoever asked it now; uses up no fault."""
        with self._lock:
            return any(
                fault.fits(region, service, None)
                and fault.mode != "delay"
                and fault.probability >= 1
                and (fault.times is None or fault.hits < fault.times)
                for fault in self._faults
            )

    def remove(self, fault_id: str | None = None) -> list[Fault]:
        with self._lock:
            gone = [fault for fault in self._faults if fault_id in (None, fault.id)]
            self._faults = [fault for fault in self._faults if fault not in gone]
        for fault in gone:
            fault.lifted.set()
        return gone

    def all(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

"""The log of calls: what a test counts to prove that a dry run changed nothing."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from .world import now, rfc3339

READ_PREFIXES = ("Describe", "List", "Get", "BatchGet", "TransactGet", "TestDNSAnswer")
# An allow-list: whatever is not known to be a read counts as a change.
READS = {("dynamodb", "Query"), ("dynamodb", "Scan"), ("sts", "AssumeRole")}


def is_mutating(service: str | None, operation: str | None) -> bool:
    if operation is None:
        return True
    return not (operation.startswith(READ_PREFIXES) or (service, operation) in READS)


class CallLog:
    def __init__(self, file: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._calls: list[dict[str, Any]] = []
        self._seq = 0
        self._file = file.open("a", buffering=1) if file else None

    def arrived(self, region: str, service: str | None, operation: str | None) -> dict[str, Any]:
        """A call is on record before it is answered: one that never is keeps status null."""
        with self._lock:
            self._seq += 1
            call = {
                "seq": self._seq,
                "at": rfc3339(now()),
                "region": region,
                "service": service,
                "operation": operation,
                "mutating": is_mutating(service, operation),
                "status": None,
                "fault": None,
                "params": None,
            }
            self._calls.append(call)
            return call

    def done(self, call: dict[str, Any]) -> None:
        if self._file:
            with self._lock:
                self._file.write(json.dumps(call, default=str) + "\n")

    def all(self, with_params: bool = False) -> list[dict[str, Any]]:
        with self._lock:
            calls = [dict(call) for call in self._calls]
        if not with_params:
            for call in calls:
                call.pop("params")
        return calls

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()

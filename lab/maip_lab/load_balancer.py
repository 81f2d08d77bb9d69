"""The Regions' load balancers: what a customer's request meets, and what DNS health is judged by."""

from __future__ import annotations

import json
from collections.abc import Callable

from .faults import LOAD_BALANCER, Faults
from .http import Listener, NoAnswer, Request, Response
from .names import API_HOST, LOAD_BALANCER_IPS, REGIONS
from .rds import Rds
from .world import World

HEALTH = "/actuator/health"


class LoadBalancers:
    """One listener a Region, all on the same port, as one public port in two places."""

    def __init__(self, world: World, rds: Rds, faults: Faults) -> None:
        self.world = world
        self.rds = rds
        self.faults = faults
        self.forced: dict[str, bool | None] = dict.fromkeys(REGIONS)
        # Set where there are control planes: whether any pod of the application is Ready.
        self.has_pods: Callable[[str], bool] = lambda region: True
        self.listeners: dict[str, Listener] = {}

    def listen(self) -> int:
        for _ in range(50):
            port = 0
            try:
                for region in REGIONS:
                    self.listeners[region] = Listener(LOAD_BALANCER_IPS[region], port, self._answerer(region))
                    port = self.listeners[region].port
                return port
            except OSError:
                self.close()
        raise OSError("no port is free on both load balancers' addresses")

    def close(self) -> None:
        for listener in self.listeners.values():
            listener.close()
        self.listeners.clear()

    def serves(self, region: str) -> bool:
        """Whether the application there is up: it can write, and a pod is Ready."""
        with self.world.lock:
            self.world.advance()
            forced = self.forced[region]
            if forced is not None:
                return forced
            return self.rds.writer(region) is not None and self.has_pods(region)

    def is_healthy(self, region: str) -> bool:
        """The same as a health checker sees it: a Region that is down is down for it too."""
        return not self.faults.is_down(region) and self.serves(region)

    def _answerer(self, region: str) -> Callable[[Request], Response]:
        return lambda request: self._answer(region, request)

    def _answer(self, region: str, request: Request) -> Response:
        fault = self.faults.match(region, LOAD_BALANCER, "request")
        if fault:
            if fault.mode == "silent":
                raise NoAnswer(reset=False, silent_until=fault.lifted)
            if fault.mode in ("reset", "refuse", "lost_answer"):
                raise NoAnswer()
            if fault.mode == "delay":
                fault.lifted.wait(fault.delay_s)
            else:
                status = {"deny": 403, "throttle": 429}.get(fault.mode, fault.status or 503)
                return _reply(region, status, "DOWN")
        host = (request.headers.get("Host") or "").partition(":")[0].lower()
        if host != API_HOST:
            return _reply(region, 421, "MISDIRECTED")
        if request.path != HEALTH:
            return _reply(region, 404, "NOT_FOUND")
        if request.method not in ("GET", "HEAD"):
            return _reply(region, 405, "METHOD_NOT_ALLOWED")
        up = self.serves(region)
        return _reply(region, 200 if up else 503, "UP" if up else "DOWN")


def _reply(region: str, status: int, word: str) -> Response:
    body = json.dumps({"status": word, "region": region}).encode()
    return Response(status, body, {"Content-Type": "application/json", "x-maip-region": region})

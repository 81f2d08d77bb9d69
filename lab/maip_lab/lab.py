"""The lab put together: both Regions, their load balancers, DNS and the control port."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import seed
from .calls import CallLog
from .cloudwatch import CloudWatch
from .control import Control
from .control_planes import ControlPlanes, unreachable_ca
from .dns import Authority, DnsServer, Resolver
from .dynamodb import DynamoDb
from .eks import AutoScaling, Eks
from .elb import Elb
from .faults import Faults
from .http import Listener, Response
from .layer import Front, issued_key
from .load_balancer import LoadBalancers
from .moto_bridge import Moto
from .msk import Msk
from .names import ACCESS_KEY, CLUSTERS, EAST, LOAD_BALANCER_IPS, REGIONS, SECRET_KEY
from .rds import Rds
from .route53 import Route53
from .settings import Settings
from .topology import write_topology
from .world import World

log = logging.getLogger(__name__)


class Lab:
    def __init__(self, directory: Path, settings: Settings | None = None, bin_dir: Path | None = None) -> None:
        """`bin_dir` holds the Kubernetes programs; without it the clusters are API only."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.settings = settings or Settings()
        self._first_settings = self.settings.as_dict()
        self.world = World(self.settings)
        self.faults = Faults()
        self.calls = CallLog(directory / "calls.jsonl")
        self.keys = {ACCESS_KEY: SECRET_KEY}

        self.moto = Moto(self.world)
        self.rds = Rds(self.world)
        self.eks = Eks(self.world)
        self.msk = Msk()
        self.cloudwatch = CloudWatch()
        self.dynamodb = DynamoDb(self.world, self.moto)
        self.route53 = Route53(self.world)
        self.load_balancers = LoadBalancers(self.world, self.rds, self.faults)
        self.rds.on_replica_created = lambda replica: seed.lag_catches_up(self, replica)
        self.rds.on_promoted = lambda instance: seed.lag_ends(self, instance)
        self.services: dict[str, Any] = {
            "rds": self.rds,
            "eks": self.eks,
            "autoscaling": AutoScaling(self.eks),
            "kafka": self.msk,
            "cloudwatch": self.cloudwatch,
            "route53": self.route53,
            "elbv2": Elb(self.load_balancers.is_healthy),
        }
        self.authority = Authority(self.world, self.route53, self.load_balancers.is_healthy)
        self.resolver = Resolver(self.world, self.authority)
        self.control_planes = ControlPlanes(self, bin_dir) if bin_dir else None
        self.fronts: dict[str, Listener] = {}
        self._closing: list[Callable[[], None]] = []

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        for region in REGIONS:
            self.fronts[region] = Listener("127.0.0.1", 0, Front(self, region).answer)
            self._closing.append(self.fronts[region].close)
        self.control = Listener("127.0.0.1", 0, Control(self).answer)
        self.load_balancer_port = self.load_balancers.listen()
        self.dns = DnsServer(self.authority.answer)
        self.resolver_server = DnsServer(self.resolver.answer)
        self._closing += [self.control.close, self.load_balancers.close]
        self._closing += [self.dns.close, self.resolver_server.close]
        self.world.start()
        seed.seed(self)
        if self.control_planes:
            self.control_planes.start()
        else:
            for region in REGIONS:
                # Port 1: nothing listens there, so a connection is refused at once.
                self.eks.endpoints[region] = "https://127.0.0.1:1"
                self.eks.ca_pems[region] = unreachable_ca()
        self.topology = write_topology(self)

    def stop(self) -> None:
        self.faults.remove()
        self.world.stop()
        if self.control_planes:
            self.control_planes.stop()
        for close in reversed(self._closing):
            close()

    def reset(self, changes: dict[str, Any] | None = None) -> None:
        """The world as it was at the start, on the same ports; no fault, no call on record.

        With changes it is a world of other settings, and the next reset takes them back.
        """
        self.lift_faults()
        with self.world.lock:
            self.settings.change(self._first_settings | (changes or {}))
            self.world.forget_schedule()
            seed.seed(self)
            self.resolver.forget()
            self.calls.clear()
            write_topology(self)
        if self.control_planes:
            self.control_planes.reseed()

    # -- faults and settings ---------------------------------------------------------------------

    def add_fault(self, wanted: dict[str, Any]) -> str:
        fault = self.faults.add(wanted)
        self._open_and_close()
        if fault.kubernetes and self.control_planes:
            self.control_planes.fail(fault.region, fault.mode)
        return fault.id

    def lift_faults(self, fault_id: str | None = None) -> int:
        gone = self.faults.remove(fault_id)
        self._open_and_close()
        if self.control_planes:
            still = {fault.region for fault in self.faults.all() if fault.kubernetes}
            for region in {fault.region for fault in gone if fault.kubernetes} - still:
                self.control_planes.recover(region)
        return len(gone)

    def _open_and_close(self) -> None:
        closing = [fault for fault in self.faults.all() if fault.closes_listeners]
        for region in REGIONS:
            here = [fault for fault in closing if fault.region == region]
            # Route 53 lives on us-east-1's port: unless it is to fail too, the port stays open.
            closed = any(fault.route53 for fault in here) if region == EAST else bool(here)
            (self.fronts[region].close if closed else self.fronts[region].open)()
            balancer = self.load_balancers.listeners[region]
            (balancer.close if here else balancer.open)()

    def change_settings(self, changes: dict[str, Any]) -> None:
        with self.world.lock:
            self.settings.change(changes)
            seed.settings_changed(self, set(changes))

    # -- what the services need of each other ----------------------------------------------------

    def after_moto(
        self, service: str, region: str, operation: str, parameters: dict[str, Any], response: Response
    ) -> Response:
        if service == "dynamodb":
            return self.dynamodb.after_call(region, operation, parameters, response)
        if (service, operation) == ("sts", "AssumeRole"):
            issued = issued_key(response)
            if issued:
                self.keys[issued[0]] = issued[1]
        return response

    def ready(self) -> dict[str, Any]:
        """What `lab/up` says when everything is up."""
        regions = {}
        for region in REGIONS:
            regions[region] = {
                "endpoint": self.endpoint(region),
                "load_balancer": f"{LOAD_BALANCER_IPS[region]}:{self.load_balancer_port}",
                "cluster": CLUSTERS[region],
                "cluster_endpoint": self.eks.endpoints[region],
            }
            if self.control_planes:
                regions[region] |= self.control_planes.access(region)
        return {
            "regions": regions,
            "control": f"http://127.0.0.1:{self.control.port}",
            "dns": self.dns.address,
            "resolver": self.resolver_server.address,
            "topology": str(self.topology),
            "env": {
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_EC2_METADATA_DISABLED": "true",
            },
            "directory": str(self.directory),
        }

    def endpoint(self, region: str) -> str:
        return f"http://127.0.0.1:{self.fronts[region].port}"

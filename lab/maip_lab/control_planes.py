"""What ties the Regions' real Kubernetes control planes to the EKS double."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import manifests
from .names import CLUSTERS, NAMESPACE, NODE_GROUPS, REGIONS

if TYPE_CHECKING:
    from .kubernetes import Cluster
    from .lab import Lab

log = logging.getLogger(__name__)


class ControlPlanes:
    def __init__(self, lab: Lab, bin_dir: Path) -> None:
        self.lab = lab
        self.bin_dir = bin_dir
        self.clusters: dict[str, Cluster] = {}
        self._ready: dict[str, int] = dict.fromkeys(REGIONS, 0)
        self._killed: set[str] = set()
        # Kubernetes may be slow or frozen: nobody waits for it with the world's lock in hand.
        self._work: dict[str, queue.Queue[Callable[[], None]]] = {region: queue.Queue() for region in REGIONS}
        self._stopped = threading.Event()

    def start(self) -> None:
        failures: list[BaseException] = []

        def bring_up(region: str) -> None:
            try:
                self._start_one(region)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=bring_up, args=(region,)) for region in REGIONS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        self.lab.eks.set_nodes = self._set_nodes
        self.lab.load_balancers.has_pods = lambda region: self._ready[region] > 0
        for region in REGIONS:
            for loop in (self._do_work, self._watch_pods):
                threading.Thread(target=loop, args=(region,), daemon=True).start()
        self._await_pods(30 + self.lab.settings.pod_delay_s)

    def _await_pods(self, seconds: float) -> None:
        """So that the first thing anyone sees is a Region that serves, not one that starts."""
        deadline = time.monotonic() + seconds
        while not all(self._ready.values()):
            if time.monotonic() > deadline:
                log.warning("no pod is Ready yet: %s", self._ready)
                return
            time.sleep(0.05)

    def _start_one(self, region: str) -> None:
        from .kubernetes import Cluster

        settings = self.lab.settings
        self.clusters[region] = cluster = Cluster.start(
            CLUSTERS[region],
            self.lab.directory / region,
            self.bin_dir,
            token_webhook_url=f"http://127.0.0.1:{self.lab.control.port}/token/{region}",
            node_delay_s=settings.node_delay_s,
            pod_delay_s=settings.pod_delay_s,
        )
        self.lab.eks.endpoints[region] = cluster.endpoint
        self.lab.eks.ca_pems[region] = cluster.ca_pem
        cluster.set_nodes(NODE_GROUPS[region], 3, settings.pods_per_node)
        cluster.apply(manifests.everything())

    def stop(self) -> None:
        self._stopped.set()
        for cluster in self.clusters.values():
            try:
                cluster.stop()
            except Exception:
                log.exception("a control plane could not be stopped")

    def access(self, region: str) -> dict[str, str]:
        cluster = self.clusters[region]
        return {"kubeconfig": str(cluster.kubeconfig), "context": cluster.context}

    # -- nodes and pods --------------------------------------------------------------------------

    def _set_nodes(self, region: str, group: str, count: int) -> None:
        per_node = self.lab.settings.pods_per_node
        self._work[region].put(lambda: self.clusters[region].set_nodes(group, count, per_node))

    def _do_work(self, region: str) -> None:
        while not self._stopped.is_set():
            work = self._work[region].get()
            while not self._stopped.is_set():
                try:
                    work()
                    break
                except Exception:
                    # A frozen or dead control plane: the nodes are there once it is back.
                    log.exception("%s: Kubernetes did not take it; again in a second", region)
                    self._stopped.wait(1)

    def _watch_pods(self, region: str) -> None:
        """Pods go on serving while their control plane is away: the last count stands."""
        while not self._stopped.wait(0.25):
            try:
                ready = self.clusters[region].ready_pods(NAMESPACE)
                self._ready[region] = ready if isinstance(ready, int) else len(ready)
            except Exception as error:
                log.debug("%s: pods are not known: %s", region, error)

    # -- faults ----------------------------------------------------------------------------------

    def fail(self, region: str, mode: str) -> None:
        if mode in ("refuse", "reset"):
            self.clusters[region].kill_apiserver()
            self._killed.add(region)
        else:
            self.clusters[region].freeze()

    def recover(self, region: str) -> None:
        if region in self._killed:
            self._killed.discard(region)
            self.clusters[region].start_apiserver()
        else:
            self.clusters[region].thaw()

    def reseed(self) -> None:
        done = {region: threading.Event() for region in REGIONS}
        for region in REGIONS:
            self._forget_work(region)
            self._work[region].put(partial(self._reseed, region, done[region]))
        for region in REGIONS:
            if not done[region].wait(60):
                raise TimeoutError(f"{region}: Kubernetes did not go back to the seed")

    def _forget_work(self, region: str) -> None:
        with suppress(queue.Empty):
            while True:
                self._work[region].get_nowait()

    def _reseed(self, region: str, done: threading.Event) -> None:
        self.clusters[region].set_nodes(NODE_GROUPS[region], 3, self.lab.settings.pods_per_node)
        manifests.restore(self.clusters[region])
        done.set()

    # -- what GET /state shows -------------------------------------------------------------------

    def state(self, region: str) -> dict[str, Any]:
        return {"endpoint": self.clusters[region].endpoint, "ready_pods": self._ready[region]}


_CA: list[str] = []


def unreachable_ca() -> str:
    """A certificate that parses, for a cluster that nobody can reach."""
    if not _CA:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "maip-dr-lab")])
        at = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - timedelta(days=1))
            .not_valid_after(at + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        _CA.append(certificate.public_bytes(serialization.Encoding.PEM).decode())
    return _CA[0]

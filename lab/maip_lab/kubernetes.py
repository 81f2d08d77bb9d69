"""A real Kubernetes control plane in place of one Region's EKS cluster.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler are the real ones; kwok plays
all the kubelets, so nodes and containers are simulated and everything else is not.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import itertools
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

STAGES = Path(__file__).resolve().parents[1] / "kwok"
NODE_GROUP = "eks.amazonaws.com/nodegroup"
ZONE = "topology.kubernetes.io/zone"
ZONES = ("zone-a", "zone-b", "zone-c")
START_S = 60.0
# The apiserver before etcd, so that it has no time to answer that etcd is away.
FROZEN = ("apiserver", "etcd")
CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "node-lifecycle-controller",
    "horizontal-pod-autoscaler-controller",
    "disruption-controller",
    "garbage-collector-controller",
    "namespace-controller",
    # Sweeps up a pod that was bound to a node in the moment the node went.
    "pod-garbage-collector-controller",
)

# The kernel ends a child when the *thread* that started it ends, and a lab is often started from
# threads that are gone a second later. So one thread, which lives as long as the process, starts
# all children.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="control-plane-starter")


class ApiError(Exception):
    """An answer that is not a success; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Cluster:
    """One real control plane standing for one Region's EKS cluster."""

    def __init__(self, name: str, directory: Path, bin_dir: Path) -> None:
        """Nothing runs yet; `Cluster.start` is the way in."""
        self.name = self.context = name
        self.directory = directory.resolve()
        self.bin_dir = bin_dir
        self.kubeconfig = self.directory / "kubeconfig"
        self.admin_token = secrets.token_urlsafe(24)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._kinds: dict[str, list[dict[str, Any]]] = {}
        self._node_numbers = itertools.count(1)
        self._nodes_lock = threading.Lock()
        self._faults_lock = threading.Lock()
        # Bound and never listened on: the port is ours from now on, also while the apiserver is
        # dead, and refuses connections then. The apiserver shares it (--permit-port-sharing).
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port.bind(("127.0.0.1", 0))
        self.endpoint = f"https://127.0.0.1:{self._port.getsockname()[1]}"

    @classmethod
    def start(
        cls,
        name: str,
        directory: Path,
        bin_dir: Path,
        *,
        token_webhook_url: str | None = None,
        node_delay_s: float = 0.0,
        pod_delay_s: float = 0.0,
    ) -> Cluster:
        """Returns when the API is ready. `directory` gets the logs and all else the cluster keeps."""
        cluster = cls(name, directory, bin_dir)
        try:
            cluster._write_files(token_webhook_url, node_delay_s, pod_delay_s)
            cluster._start_etcd()
            cluster.start_apiserver()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    # -- starting --------------------------------------------------------------------------------

    def _write_files(self, token_webhook_url: str | None, node_delay_s: float, pod_delay_s: float) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ca_pem = _write_certificates(self.directory)
        self._tls = ssl.create_default_context(cadata=self.ca_pem)
        # No proxy, whatever the environment says: this is loopback.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._tls)
        )
        (self.directory / "tokens.csv").write_text(f'{self.admin_token},admin,admin,"system:masters"\n')
        ca = base64.b64encode(self.ca_pem.encode()).decode()
        server = {"server": self.endpoint, "certificate-authority-data": ca}
        _write_kubeconfig(self.kubeconfig, self.name, server, {"token": self.admin_token})
        self._webhook_flags: list[str] = []
        if token_webhook_url:
            config = self.directory / "token-webhook"
            _write_kubeconfig(config, "webhook", {"server": token_webhook_url}, {})
            self._webhook_flags = [
                f"--authentication-token-webhook-config-file={config}",
                "--authentication-token-webhook-version=v1",
                "--authentication-token-webhook-cache-ttl=1s",
            ]
        delays = {"node-initialize": node_delay_s, "pod-ready": pod_delay_s}
        stages = []
        for file in sorted(STAGES.glob("*.yaml")):
            stage = yaml.safe_load(file.read_text())
            delay_ms = round(delays.get(stage["metadata"]["name"], 0) * 1000)
            if delay_ms:
                stage["spec"]["delay"] = {"durationMilliseconds": delay_ms}
            stages.append(stage)
        (self.directory / "stages.yaml").write_text(yaml.safe_dump_all(stages))

    def _start_etcd(self) -> None:
        data = str(self.directory / "etcd")
        etcd = self._run("etcd", [self.bin_dir / "control-plane", "etcd", data], stdout=subprocess.PIPE)
        assert etcd.stdout
        # It says where it listens once it does; a dead one says nothing.
        self._etcd_url = etcd.stdout.readline().decode().strip()
        etcd.stdout.close()
        if not self._etcd_url:
            raise self._failed("etcd")

    def start_apiserver(self) -> None:
        """The first start, and the return after `kill_apiserver`: same address, same contents.

        Controllers, scheduler and kwok start with it: those of before have lengthened the pauses
        between their attempts, after a minute to half a minute.
        """
        with self._faults_lock:
            self._signal(signal.SIGCONT)
            if self._is_running("apiserver"):
                return
            at = self.directory
            flags = [
                f"--etcd-servers={self._etcd_url}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={self._port.getsockname()[1]}",
                "--permit-port-sharing",
                # A loopback address is not allowed in Endpoints, and nobody here looks for it.
                "--endpoint-reconciler-type=none",
                f"--tls-cert-file={at / 'serving.crt'}",
                f"--tls-private-key-file={at / 'serving.key'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={at / 'service-account.key'}",
                f"--service-account-signing-key-file={at / 'service-account.key'}",
                "--service-cluster-ip-range=10.96.0.0/16",
                f"--token-auth-file={at / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                # No controller here makes the service accounts that it would ask for.
                "--disable-admission-plugins=ServiceAccount",
                *self._webhook_flags,
            ]
            self._run("apiserver", [self.bin_dir / "control-plane", "apiserver", *flags])
            self._wait_for_apiserver()
            if "kwok" in self._children:
                self._end(("controller-manager", "scheduler", "kwok"))
                # Or the new kwok leaves the nodes to the old one for as long as these are good.
                self.api("DELETE", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
            self._start_the_rest()

    def _start_the_rest(self) -> None:
        config = self.kubeconfig
        # Port 0: they serve nothing, so they need no port and no certificate. Their usual limit of 20
        # calls a second would make a rolling restart of four pods take seconds.
        shared = [f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0"]
        shared += ["--kube-api-qps=500", "--kube-api-burst=500"]
        program = self.bin_dir / "control-plane"
        controllers = [
            f"--controllers={','.join(CONTROLLERS)}",
            # Or it takes all nodes for lost, and their pods for not Ready, when a control plane that
            # was frozen for a minute comes back and kwok is not as quick as real kubelets.
            "--node-monitor-grace-period=1h",
        ]
        self._run("controller-manager", [program, "controller-manager", *shared, *controllers])
        self._run("scheduler", [program, "scheduler", *shared])
        kwok = [
            f"--kubeconfig={config}",
            f"--config={self.directory / 'stages.yaml'}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=40",
        ]
        self._run("kwok", [self.bin_dir / "kwok", *kwok])

    def _run(self, part: str, command: Sequence[str | Path], stdout: int | None = None) -> subprocess.Popen[bytes]:
        # In a home of their own, so that no kwok or kubectl configuration of the user's has a say;
        # in a session of their own, so that Ctrl-C reaches us alone and we end them in order.
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.directory)}
        with (self.directory / f"{part}.log").open("ab") as log:
            child = _starter.submit(
                subprocess.Popen,
                # Not a preexec_fn, which is not safe in a process with threads.
                # The signal is set only once the child runs: a parent that died before that is looked for.
                ["setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())]
                + [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
                env=environment,
                cwd=self.directory,
                start_new_session=True,
            ).result()
        self._children[part] = child
        return child

    def _is_ready(self) -> bool:
        try:
            self._call("GET", "/readyz", None, "", self.admin_token, 2).close()
        except (OSError, ApiError):
            return False
        return True

    def _wait_for_apiserver(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            if not self._is_running("apiserver") or time.monotonic() > deadline:
                raise self._failed("apiserver")
            time.sleep(0.05)

    def _failed(self, part: str) -> RuntimeError:
        log = self.directory / f"{part}.log"
        return RuntimeError(f"{self.name}: {part} did not come up; the end of {log}:\n{log.read_text()[-2000:]}")

    # -- use -------------------------------------------------------------------------------------

    def api(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str | None = None,
        token: str | None = None,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """One call, as admin without a `token`; a PATCH is a JSON merge patch without a `content_type`.

        Raises ApiError for an answer that is not a success, TimeoutError when there is none.
        """
        if content_type is None:
            content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        with self._call(method, path, body, content_type, token or self.admin_token, timeout_s) as answer:
            result: dict[str, Any] = json.load(answer)
            return result

    def _call(self, method: str, path: str, body: Any, content_type: str, token: str, timeout_s: float) -> Any:
        request = urllib.request.Request(
            self.endpoint + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": content_type},
        )
        try:
            return self._opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["message"]
            raise ApiError(error.code, text) from None
        except urllib.error.URLError as error:
            # What it is about is inside: TimeoutError, ConnectionRefusedError.
            raise error.reason if isinstance(error.reason, OSError) else error from None

    def apply(self, manifest: str) -> None:
        """`kubectl apply --server-side --force-conflicts` of any number of YAML documents."""
        for document in yaml.safe_load_all(manifest):
            if document:
                self.api(
                    "PATCH",
                    f"{self._path(document)}?fieldManager=maip-lab&force=true",
                    document,
                    content_type="application/apply-patch+yaml",
                )

    def _path(self, document: dict[str, Any]) -> str:
        version, kind, metadata = document["apiVersion"], document["kind"], document["metadata"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if version not in self._kinds:
            self._kinds[version] = self.api("GET", base)["resources"]
        for resource in self._kinds[version]:
            if resource["kind"] == kind and "/" not in resource["name"]:
                if resource["namespaced"]:
                    base += f"/namespaces/{metadata.get('namespace', 'default')}"
                return f"{base}/{resource['name']}/{metadata['name']}"
        raise ValueError(f"the cluster knows no {kind} in {version}")

    def ready_pods(self, namespace: str) -> int:
        """Pods that serve: Ready, and not on their way out."""
        pods = self.api("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        return sum(_is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods)

    # -- nodes -----------------------------------------------------------------------------------

    def set_nodes(self, node_group: str, count: int, pods_per_node: int = 10, zones: Sequence[str] = ZONES) -> None:
        """Makes the group have `count` nodes of this size; the newest go first, with their pods."""
        with self._nodes_lock:
            query = f"labelSelector={NODE_GROUP}%3D{node_group}"
            nodes = self.api("GET", f"/api/v1/nodes?{query}")["items"]
            nodes.sort(key=lambda node: int(_name(node).rpartition("-")[2]))
            kept = nodes[:count]
            for node in nodes[count:]:
                self._remove_node(_name(node))
            size = {"cpu": "16", "memory": "64Gi", "pods": str(pods_per_node)}
            for node in kept:
                if node["status"]["allocatable"] != size:
                    status = {"status": {"capacity": size, "allocatable": size}}
                    self.api("PATCH", f"/api/v1/nodes/{_name(node)}/status", status)
            taken = Counter(node["metadata"]["labels"][ZONE] for node in kept)
            for _ in range(count - len(kept)):
                zone = min(zones, key=lambda zone: taken[zone])
                taken[zone] += 1
                self._add_node(node_group, zone, size)

    def _add_node(self, node_group: str, zone: str, size: dict[str, str]) -> None:
        # A number is never used twice, as no instance comes back either.
        number = next(self._node_numbers)
        name = f"{node_group}-{number}"
        labels = {
            NODE_GROUP: node_group,
            ZONE: zone,
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
        }
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"providerID": f"aws:///{zone}/i-{number:017x}"},
            "status": {"capacity": size, "allocatable": size},
        }
        self.api("POST", "/api/v1/nodes", node)

    def _remove_node(self, name: str) -> None:
        self._delete(f"/api/v1/nodes/{name}")
        # The instance is gone, so its pods are: nobody is left to take their leave in order.
        for pod in self.api("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}")["items"]:
            self._delete(f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{_name(pod)}")

    def _delete(self, path: str) -> None:
        try:
            self.api("DELETE", path, {"gracePeriodSeconds": 0})
        except ApiError as error:
            if error.status != 404:
                raise

    # -- faults ----------------------------------------------------------------------------------

    def freeze(self) -> None:
        """The cluster accepts connections and never answers; pods and nodes stay as they are."""
        with self._faults_lock:
            self._signal(signal.SIGSTOP)
            # On a busy machine the signal takes a while to arrive, and one more call is answered.
            while not all(_is_stopped(self.pids[part]) for part in FROZEN if part in self.pids):
                time.sleep(0.001)

    def thaw(self) -> None:
        with self._faults_lock:
            self._signal(signal.SIGCONT)

    def kill_apiserver(self) -> None:
        """Connections are refused; `start_apiserver` brings it back."""
        with self._faults_lock:
            self._end(["apiserver"])

    def _signal(self, number: signal.Signals) -> None:
        for part in FROZEN:
            if self._is_running(part):
                self._children[part].send_signal(number)

    # -- the end ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ends all children and waits until they are gone; they keep nothing worth an orderly end."""
        with self._faults_lock:
            self._end(list(self._children))
            self._port.close()

    def _end(self, parts: Iterable[str]) -> None:
        children = [self._children[part] for part in parts]
        for child in children:
            child.kill()
        for child in children:
            child.wait()

    def _is_running(self, part: str) -> bool:
        return part in self._children and self._children[part].poll() is None

    @property
    def pids(self) -> dict[str, int]:
        """The children that run, by part."""
        return {part: child.pid for part, child in self._children.items() if child.poll() is None}


def _is_ready(thing: dict[str, Any]) -> bool:
    conditions = thing.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _is_stopped(pid: int) -> bool:
    """By a signal, with all its threads; so is one that has ended."""
    try:
        states = [file.read_text().rpartition(")")[2].split()[0] for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # a thread ended while we looked
        return False
    return all(state in "TZX" for state in states)


def _name(thing: dict[str, Any]) -> str:
    name: str = thing["metadata"]["name"]
    return name


def _write_kubeconfig(path: Path, name: str, server: dict[str, str], user: dict[str, str]) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path.touch(0o600)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def _write_certificates(directory: Path) -> str:
    """A CA, a serving certificate from it and a key for service accounts; returns the CA.

    Made here because elliptic keys take milliseconds; the apiserver's own RSA keys take up to a
    second each. As strict a client as any must accept them, hence all the extensions.
    """
    now = datetime.now(timezone.utc)

    def certificate(name: str, key: ec.EllipticCurvePrivateKey, issuer: str) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_x509_name(name))
            .issuer_name(_x509_name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    def usage(ca: bool) -> x509.KeyUsage:
        return x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)

    ca_key, key, service_account_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    ca = (
        certificate("kubernetes", ca_key, "kubernetes")
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage(ca=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    serving = (
        certificate("kube-apiserver", key, "kubernetes")
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    (directory / "serving.crt").write_bytes(serving.public_bytes(serialization.Encoding.PEM))
    for name, each in (("serving", key), ("service-account", service_account_key)):
        file = directory / f"{name}.key"
        file.touch(0o600)
        file.write_bytes(
            each.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
    return ca.public_bytes(serialization.Encoding.PEM).decode()


def _x509_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

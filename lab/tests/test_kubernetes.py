"""The real control plane, as the tool will meet it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import until

from maip_lab import up
from maip_lab.kubernetes import ApiError, Cluster

BIN = up.cache() / "bin"
LAB = Path(__file__).resolve().parents[1]
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"

pytestmark = pytest.mark.skipif(not (BIN / "kwok").exists(), reason="no control plane here: run lab/install.sh")


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster.start("one", tmp_path_factory.mktemp("one"), BIN)
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The module's cluster with three nodes and a fresh namespace, `cluster.space`."""
    _cluster.set_nodes("group", 3)
    until(lambda: len(ready_nodes(_cluster)) == 3)
    _cluster.space = request.node.name.replace("_", "-")[:60].rstrip("-")
    _cluster.apply(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {_cluster.space}}}}}")
    yield _cluster
    # Whatever a test that failed left behind; and room for the next one.
    _cluster.start_apiserver()
    _cluster.api("DELETE", DEPLOYMENTS.format(_cluster.space))
    until(lambda: not pods(_cluster))


def ready_nodes(cluster: Cluster) -> list[dict[str, Any]]:
    nodes = cluster.api("GET", "/api/v1/nodes")["items"]
    return [node for node in nodes if condition(node, "Ready") == "True" and not node["spec"].get("taints")]


def condition(thing: dict[str, Any], kind: str) -> str | None:
    found = [each["status"] for each in thing["status"].get("conditions", []) if each["type"] == kind]
    return found[0] if found else None


def deploy(cluster: Cluster, name: str, replicas: int, annotations: dict[str, str] | None = None, **spec: Any) -> None:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels, "annotations": annotations or {}},
        "spec": {"containers": [{"name": name, "image": "registry.example.com/app:1"}]},
    }
    # JSON is YAML.
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": cluster.space},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template} | spec,
    }
    cluster.apply(json.dumps(manifest))


def deployment(cluster: Cluster, name: str) -> dict[str, Any]:
    return cluster.api("GET", f"{DEPLOYMENTS.format(cluster.space)}/{name}")


def available(cluster: Cluster, name: str) -> int:
    return deployment(cluster, name)["status"].get("availableReplicas", 0)


def rolled_out(cluster: Cluster, name: str) -> bool:
    """What `kubectl rollout status` looks at."""
    found = deployment(cluster, name)
    status, wanted = found["status"], found["spec"]["replicas"]
    counts = [status.get(each, 0) for each in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration") == found["metadata"]["generation"] and counts == [wanted] * 3


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    return cluster.api("GET", f"/api/v1/namespaces/{cluster.space}/pods")["items"]


def restart(cluster: Cluster, name: str, **annotations: str) -> None:
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    cluster.api("PATCH", f"{DEPLOYMENTS.format(cluster.space)}/{name}", patch)


def alive(pid: int) -> bool:
    """A zombie, which nobody has waited for yet, is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- nodes and pods --------------------------------------------------------------------------------


def test_nodes_are_made_once_and_spread_over_zones(cluster: Cluster):
    cluster.set_nodes("group", 3)
    nodes = ready_nodes(cluster)
    assert {node["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] for node in nodes} == {"group"}
    assert len({node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes}) == 3
    assert {node["status"]["allocatable"]["pods"] for node in nodes} == {"10"}


def test_two_threads_make_no_node_too_many(cluster: Cluster):
    threads = [threading.Thread(target=cluster.set_nodes, args=("group", 5)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cluster.api("GET", "/api/v1/nodes")["items"]) == 5


def test_a_deployment_becomes_available(cluster: Cluster):
    deploy(cluster, "api", 4)
    until(lambda: available(cluster, "api") == 4)
    assert cluster.ready_pods(cluster.space) == 4


def test_full_nodes_leave_pods_unscheduled_until_there_are_more(cluster: Cluster):
    for name in ("a", "b", "c"):
        deploy(cluster, name, 12)
    until(lambda: cluster.ready_pods(cluster.space) == 30)
    waiting = [pod for pod in until(lambda: all_scheduled_or_refused(cluster)) if not pod["spec"].get("nodeName")]
    assert len(waiting) == 6 and not any(condition(pod, "Ready") for pod in waiting)
    events = f"/api/v1/namespaces/{cluster.space}/events?fieldSelector=reason%3DFailedScheduling"
    said = until(lambda: cluster.api("GET", events)["items"])
    assert "Too many pods" in said[0]["message"]
    cluster.set_nodes("group", 4)
    until(lambda: cluster.ready_pods(cluster.space) == 36)


def all_scheduled_or_refused(cluster: Cluster) -> list[dict[str, Any]]:
    found = pods(cluster)
    return found if len(found) == 36 and all(condition(pod, "PodScheduled") for pod in found) else []


def test_a_node_that_goes_takes_its_pods_along(cluster: Cluster):
    deploy(cluster, "api", 15)
    until(lambda: cluster.ready_pods(cluster.space) == 15)
    cluster.set_nodes("group", 1)
    left = until(lambda: len(ready_nodes(cluster)) == 1 and ready_nodes(cluster))[0]["metadata"]["name"]
    until(lambda: cluster.ready_pods(cluster.space) == 10)
    until(lambda: len(pods(cluster)) == 15)
    assert {pod["spec"]["nodeName"] for pod in pods(cluster) if condition(pod, "Ready")} == {left}


def test_nodes_change_their_size(cluster: Cluster):
    deploy(cluster, "api", 8)
    until(lambda: cluster.ready_pods(cluster.space) == 8)
    cluster.set_nodes("group", 3, 4)
    deploy(cluster, "api", 14)
    until(lambda: cluster.ready_pods(cluster.space) == 12)
    cluster.set_nodes("group", 3, 10)
    until(lambda: cluster.ready_pods(cluster.space) == 14)


def test_a_rolling_restart_replaces_all_pods(cluster: Cluster):
    deploy(cluster, "api", 4)
    until(lambda: rolled_out(cluster, "api"))
    before = {pod["metadata"]["uid"] for pod in pods(cluster)}
    restart(cluster, "api", **{"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"})
    until(lambda: rolled_out(cluster, "api"))
    until(lambda: len(pods(cluster)) == 4)
    assert not before & {pod["metadata"]["uid"] for pod in pods(cluster)}


def test_an_unready_pod_holds_a_rollout_up(cluster: Cluster):
    deploy(cluster, "api", 4, progressDeadlineSeconds=1)
    until(lambda: rolled_out(cluster, "api"))
    restart(cluster, "api", **{"maip-lab/unready": "true"})
    until(lambda: condition(deployment(cluster, "api"), "Progressing") == "False")
    assert not rolled_out(cluster, "api")
    # maxUnavailable is 25 % unless said otherwise: three of the old ones go on serving.
    assert cluster.ready_pods(cluster.space) == 3
    restart(cluster, "api", **{"maip-lab/unready": "false"})
    until(lambda: rolled_out(cluster, "api"))


# -- access ----------------------------------------------------------------------------------------


def test_kubectl_works_with_the_kubeconfig(cluster: Cluster):
    deploy(cluster, "api", 2)
    kubectl = ["kubectl", "--kubeconfig", str(cluster.kubeconfig), "--context", cluster.context, "-n", cluster.space]
    subprocess.run([*kubectl, "rollout", "status", "deployment/api", "--timeout=20s"], check=True)
    subprocess.run([*kubectl, "scale", "deployment/api", "--replicas=3"], check=True)
    subprocess.run([*kubectl, "rollout", "restart", "deployment/api"], check=True)
    subprocess.run([*kubectl, "rollout", "status", "deployment/api", "--timeout=20s"], check=True)
    version = json.loads(subprocess.check_output([*kubectl, "version", "-o", "json"]))
    assert version["serverVersion"]["gitVersion"] == "v1.35.0"


def test_apply_says_what_is_wrong(cluster: Cluster):
    with pytest.raises(ValueError, match="no Deploymnet in apps/v1"):
        cluster.apply("{apiVersion: apps/v1, kind: Deploymnet, metadata: {name: x}}")
    with pytest.raises(ApiError, match="selector") as refused:
        deploy(cluster, "api", 1, selector=None)
    assert refused.value.status == 422


class Webhook(BaseHTTPRequestHandler):
    """Knows the token `known`, whose user may do nothing unless RBAC says so."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert review["apiVersion"] == "authentication.k8s.io/v1"
        user = {"username": "someone", "groups": ["maip-dr"]}
        known = review["spec"]["token"] == "known"
        review["status"] = {"authenticated": known, "user": user if known else {}}
        answer = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


def test_two_clusters_at_once_with_tokens_from_a_webhook_and_slow_pods(tmp_path: Path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/token"
    started: dict[str, Cluster] = {}

    def start(name: str) -> None:
        started[name] = Cluster.start(
            name, tmp_path / name, BIN, token_webhook_url=url, node_delay_s=0.5, pod_delay_s=3600
        )

    # From threads that end at once: the clusters must not end with them.
    threads = [threading.Thread(target=start, args=(name,)) for name in ("east", "west")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert set(started) == {"east", "west"}
        for cluster in started.values():
            cluster.space = "default"
            cluster.set_nodes("group", 1)
            deploy(cluster, "api", 1)
        for cluster in started.values():
            until(lambda cluster=cluster: ready_nodes(cluster))
            until(lambda cluster=cluster: any(pod["spec"].get("nodeName") for pod in pods(cluster)))
            assert cluster.ready_pods("default") == 0
            assert len(cluster.pids) == 5
        # Known, and RBAC has not heard of it; not known at all.
        for token, status in (("known", 403), ("unknown", 401)):
            with pytest.raises(ApiError) as refused:
                started["east"].api("GET", "/api/v1/nodes", token=token)
            assert refused.value.status == status
    finally:
        for cluster in started.values():
            cluster.stop()
        server.shutdown()
        server.server_close()


# -- faults and the end ----------------------------------------------------------------------------


def test_a_frozen_cluster_never_answers_and_heals(cluster: Cluster):
    deploy(cluster, "api", 4)
    until(lambda: available(cluster, "api") == 4)
    cluster.freeze()
    cluster.freeze()
    with pytest.raises(TimeoutError):
        cluster.api("GET", "/version", timeout_s=0.5)
    cluster.thaw()
    until(lambda: cluster.ready_pods(cluster.space) == 4)
    deploy(cluster, "api", 6)
    until(lambda: available(cluster, "api") == 6)


def test_a_killed_apiserver_refuses_and_comes_back_with_what_it_knew(cluster: Cluster):
    deploy(cluster, "api", 2)
    until(lambda: available(cluster, "api") == 2)
    cluster.freeze()
    cluster.kill_apiserver()
    with pytest.raises(ConnectionRefusedError):
        cluster.api("GET", "/version")
    cluster.start_apiserver()
    assert cluster.ready_pods(cluster.space) == 2
    deploy(cluster, "api", 3)
    until(lambda: available(cluster, "api") == 3, 30)


def test_stop_leaves_no_process(tmp_path: Path):
    cluster = Cluster.start("two", tmp_path, BIN)
    pids = cluster.pids
    assert set(pids) == {"etcd", "apiserver", "controller-manager", "scheduler", "kwok"}
    cluster.freeze()
    cluster.stop()
    cluster.stop()
    assert not any(alive(pid) for pid in pids.values())


def test_nothing_outlives_a_lab_that_is_killed(tmp_path: Path):
    program = (
        "import sys, time, pathlib; from maip_lab.kubernetes import Cluster;"
        "c = Cluster.start('three', pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]));"
        "print(*c.pids.values(), flush=True); time.sleep(600)"
    )
    lab = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(BIN)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(LAB)},
    )
    assert lab.stdout
    pids = [int(pid) for pid in lab.stdout.readline().split()]
    assert len(pids) == 5 and all(alive(pid) for pid in pids)
    lab.send_signal(signal.SIGKILL)
    lab.wait()
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "etcd").write_text("in the way")
    with pytest.raises(RuntimeError, match="etcd did not come up(.|\n)*not a directory"):
        Cluster.start("four", tmp_path, BIN)

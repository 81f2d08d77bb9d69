"""How the EKS double drives control planes; the control planes themselves are stand-ins here."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from conftest import QUICK, Handle, until

from maip_lab import manifests
from maip_lab.lab import Lab
from maip_lab.settings import Settings

CLUSTER, GROUP = "maip-prod-dr-eks-cluster", "maip-prod-dr-nodegroup"


class FakeCluster:
    """Of the real one's interface what the lab uses; it remembers what was asked of it."""

    def __init__(self, name: str, directory: Path, webhook: str) -> None:
        self.name, self.webhook = name, webhook
        self.endpoint, self.ca_pem = f"https://127.0.0.1:9/{name}", "-----BEGIN CERTIFICATE-----\n"
        self.kubeconfig, self.context = directory / "kubeconfig", name
        self.nodes: dict[str, int] = {}
        self.ready = 3
        self.state = "up"
        self.asked: list[str] = []

    @classmethod
    def start(cls, name, directory, bin_dir, token_webhook_url=None, node_delay_s=0, pod_delay_s=0):
        return cls(name, directory, token_webhook_url)

    def _answers(self) -> None:
        if self.state != "up":
            raise TimeoutError(self.state)

    def set_nodes(self, node_group, count, pods_per_node=10):
        self._answers()
        self.nodes[node_group] = count

    def apply(self, manifest_yaml):
        self.asked.append("apply")

    def api(self, method, path, body):
        self.asked.append(f"{method} {path}")

    def ready_pods(self, namespace):
        self._answers()
        return self.ready

    def freeze(self):
        self.state = "frozen"

    def thaw(self):
        self.state = "up"

    def kill_apiserver(self):
        self.state = "dead"

    def start_apiserver(self):
        self.state = "up"

    def stop(self):
        self.state = "stopped"


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    module = types.ModuleType("maip_lab.kubernetes")
    module.Cluster = FakeCluster
    monkeypatch.setitem(sys.modules, "maip_lab.kubernetes", module)
    settings = Settings()
    settings.change(QUICK | {"kube_access": "kubeconfig"})
    lab = Lab(tmp_path, settings, bin_dir=tmp_path)
    lab.start()
    yield Handle(lab), lab.control_planes.clusters
    lab.stop()
    assert all(cluster.state == "stopped" for cluster in lab.control_planes.clusters.values())


def test_what_is_seeded_and_said(clusters):
    lab, fakes = clusters
    west = fakes["us-west-2"]
    assert west.name == CLUSTER and west.nodes == {GROUP: 3}
    assert west.webhook == f"{lab.at['control']}/token/us-west-2"
    place = lab.at["regions"]["us-west-2"]
    assert place["cluster_endpoint"] == west.endpoint and place["context"] == CLUSTER
    cluster = lab.client("eks").describe_cluster(name=CLUSTER)["cluster"]
    assert cluster["endpoint"] == west.endpoint
    assert f"context: {CLUSTER}" in Path(lab.at["topology"]).read_text()


def scale(lab, desired):
    sizes = {"desiredSize": desired}
    lab.client("eks").update_nodegroup_config(clusterName=CLUSTER, nodegroupName=GROUP, scalingConfig=sizes)


def test_scaling_makes_nodes_also_after_the_control_plane_was_away(clusters):
    lab, fakes = clusters
    scale(lab, 5)
    until(lambda: fakes["us-west-2"].nodes == {GROUP: 5})
    lab.fault("us-west-2", "silent", service="kubernetes")
    assert fakes["us-west-2"].state == "frozen" and fakes["us-east-1"].state == "up"
    scale(lab, 7)
    until(lambda: lab.control("GET", "/state")["regions"]["us-west-2"]["node_groups"][GROUP]["nodes"] == 7)
    assert fakes["us-west-2"].nodes == {GROUP: 5}
    lab.control("DELETE", "/faults")
    until(lambda: fakes["us-west-2"].nodes == {GROUP: 7})


def test_a_region_fails_with_its_control_plane_only_when_told_to(clusters):
    lab, fakes = clusters
    lab.fault("us-east-1", "silent")
    assert fakes["us-east-1"].state == "up"
    lab.fault("us-east-1", "refuse", kubernetes=True)
    assert fakes["us-east-1"].state == "dead"
    lab.control("DELETE", "/faults")
    assert fakes["us-east-1"].state == "up"


def test_pods_decide_about_health_and_outlive_their_control_plane(clusters):
    lab, fakes = clusters
    east = fakes["us-east-1"]
    until(lambda: lab.health(lab.EAST)[0] == 200)
    east.freeze()
    east.ready = 0
    assert lab.health(lab.EAST)[0] == 200
    east.thaw()
    until(lambda: lab.health(lab.EAST)[0] == 503)


def test_reset_restores_nodes_and_deployments(clusters):
    lab, fakes = clusters
    scale(lab, 6)
    until(lambda: fakes["us-west-2"].nodes == {GROUP: 6})
    lab.control("POST", "/reset")
    assert fakes["us-west-2"].nodes == {GROUP: 3}
    assert fakes["us-west-2"].asked[-2:] == ["DELETE /apis/apps/v1/namespaces/maip-services/deployments", "apply"]


def test_the_seeded_deployments():
    by_name = {each["metadata"]["name"]: each for each in manifests.deployments()}
    assert {name: each["spec"]["replicas"] for name, each in by_name.items()} == {"api": 2, "worker": 2, "scheduler": 1}
    assert by_name["scheduler"]["spec"]["strategy"] == {"type": "Recreate"}
    assert by_name["scheduler"]["metadata"]["annotations"] == {"maip-dr/scale": "keep"}

"""The lab with real control planes: one story, since they take seconds to start."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK, Handle, until
from test_token import token

from maip_lab.lab import Lab
from maip_lab.settings import Settings
from maip_lab.up import cache

BIN = cache() / "bin"
CLUSTER, GROUP = "maip-prod-dr-eks-cluster", "maip-prod-dr-nodegroup"
DEPLOYMENTS = "/apis/apps/v1/namespaces/maip-services/deployments"

pytestmark = pytest.mark.skipif(not (BIN / "control-plane").exists(), reason="lab/install.sh has not built bin")


class Kubernetes:
    """A client as the tool is one: endpoint and CA from EKS, a token signed here."""

    def __init__(self, lab: Handle) -> None:
        cluster = lab.client("eks").describe_cluster(name=CLUSTER)["cluster"]
        self.endpoint = cluster["endpoint"]
        ca = base64.b64decode(cluster["certificateAuthority"]["data"]).decode()
        self.tls = ssl.create_default_context(cadata=ca)

    def get(self, path: str, bearer: str | None = None, timeout: float = 5) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {bearer or token()}"}
        request = urllib.request.Request(self.endpoint + path, headers=headers)
        with urllib.request.urlopen(request, context=self.tls, timeout=timeout) as answer:
            return json.load(answer)["items"]

    def deployments(self) -> dict[str, tuple[int, int]]:
        return {
            each["metadata"]["name"]: (each["spec"]["replicas"], each["status"].get("readyReplicas", 0))
            for each in self.get(DEPLOYMENTS)
        }


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    settings = Settings()
    settings.change(QUICK)
    lab = Lab(tmp_path_factory.mktemp("real"), settings, bin_dir=BIN)
    try:
        lab.start()
        yield Handle(lab)
    finally:
        lab.stop()


def test_the_seed_and_its_tokens(real: Handle):
    real.control("POST", "/reset")
    west = Kubernetes(real)
    seeded = {"api": (2, 2), "worker": (2, 2), "scheduler": (1, 1)}
    until(lambda: west.deployments() == seeded, 30)
    assert len(west.get("/api/v1/nodes")) == 3
    for wrong in (token(cluster="maip-prod-eks-cluster"), token(secret="another")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            west.get("/api/v1/nodes", wrong)
        assert caught.value.code == 401


def test_scaling_and_capacity_reach_the_nodes(real: Handle):
    real.control("POST", "/reset", {"capacity_max": 5})
    west = Kubernetes(real)
    sizes = {"desiredSize": 8}
    real.client("eks").update_nodegroup_config(clusterName=CLUSTER, nodegroupName=GROUP, scalingConfig=sizes)
    until(lambda: len(west.get("/api/v1/nodes")) == 5, 20)
    real.settings(capacity_max=None)
    until(lambda: len(west.get("/api/v1/nodes")) == 8, 20)


def test_health_needs_pods(real: Handle):
    real.control("POST", "/reset")
    until(lambda: real.health(real.EAST)[0] == 200, 30)
    east = real.lab.control_planes.clusters["us-east-1"]
    for name in ("api", "worker", "scheduler"):
        east.api("PATCH", f"{DEPLOYMENTS}/{name}", {"spec": {"replicas": 0}})
    until(lambda: real.health(real.EAST)[0] == 503, 20)


def test_frozen_and_dead_and_back(real: Handle):
    real.control("POST", "/reset")
    west = Kubernetes(real)
    until(lambda: real.health(real.EAST)[0] == 200, 30)
    real.fault(real.WEST, "silent", kubernetes=True)
    with pytest.raises((TimeoutError, urllib.error.URLError)):
        west.get("/api/v1/nodes", timeout=0.5)
    real.control("DELETE", "/faults")
    until(lambda: len(west.get("/api/v1/nodes")) == 3, 20)
    real.fault(real.WEST, "refuse", service="kubernetes")
    with pytest.raises(urllib.error.URLError) as caught:
        west.get("/api/v1/nodes")
    assert isinstance(caught.value.reason, ConnectionRefusedError)
    real.control("DELETE", "/faults")
    until(lambda: len(west.get("/api/v1/nodes")) == 3, 20)


def test_reset_brings_the_seed_back(real: Handle):
    west = real.lab.control_planes.clusters["us-west-2"]
    west.api("PATCH", f"{DEPLOYMENTS}/api", {"spec": {"replicas": 6}})
    west.api("DELETE", f"{DEPLOYMENTS}/worker")
    real.control("POST", "/reset")
    client = Kubernetes(real)
    until(lambda: client.deployments() == {"api": (2, 2), "worker": (2, 2), "scheduler": (1, 1)}, 30)
    until(lambda: len(client.get("/api/v1/namespaces/maip-services/pods")) == 5, 30)


def test_the_kubeconfig_is_there(real: Handle):
    for place in real.at["regions"].values():
        assert Path(place["kubeconfig"]).exists() and place["context"]

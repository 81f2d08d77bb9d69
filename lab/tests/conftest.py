"""One lab for all tests, as it was at the start before each of them."""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from botocore.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dnslib import DNSRecord  # noqa: E402

from maip_lab.lab import Lab  # noqa: E402
from maip_lab.names import ACCESS_KEY, EAST, SECRET_KEY, WEST  # noqa: E402
from maip_lab.settings import Settings  # noqa: E402

T = TypeVar("T")
QUICK = {"promotion_start_s": 0.2, "promotion_s": 0.4, "rename_s": 0.3, "reboot_s": 0.2, "delete_s": 0.2,
         "create_replica_s": 0.2, "catch_up_s": 0.2, "eks_update_s": 0.2, "node_start_s": 0.2,
         "dns_insync_s": 0.2, "alias_ttl_s": 1, "replication_s": 0.05}  # fmt: skip


def until(look: Callable[[], T], seconds: float = 10.0) -> T:
    """The first truthy thing that `look` finds; a deadline instead of a guess at how long it takes."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {look}"
        time.sleep(0.01)


class Handle:
    """The lab as a test meets it: by its ports only."""

    EAST, WEST = EAST, WEST

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.at = lab.ready()

    def client(self, service: str, region: str = WEST, timeout: float = 10, retries: int = 0, **options: Any) -> Any:
        given = options.pop("config", Config())
        config = Config(
            connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": retries + 1}
        ).merge(given)
        options = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY} | options
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=options.pop("endpoint_url", self.at["regions"][region]["endpoint"]),
            config=config,
            **options,
        )

    def control(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else b""
        request = urllib.request.Request(self.at["control"] + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def fault(self, region: str, mode: str, **more: Any) -> str:
        return self.control("POST", "/faults", {"region": region, "mode": mode, **more})["id"]

    def settings(self, **changes: Any) -> None:
        self.control("POST", "/settings", changes)

    def calls(self, **wanted: Any) -> list[dict[str, Any]]:
        found = self.control("GET", "/calls")
        return [call for call in found if all(call.get(name) == value for name, value in wanted.items())]

    def dig(
        self, name: str, kind: str = "A", where: str = "dns", tcp: bool = False
    ) -> tuple[int, list[tuple[str, int]]]:
        host, _, port = self.at[where].partition(":")
        answer = DNSRecord.parse(DNSRecord.question(name, kind).send(host, int(port), tcp=tcp, timeout=5))
        return answer.header.rcode, [(str(rr.rdata), rr.ttl) for rr in answer.rr]

    def health(self, region: str, host: str = "api.maip.example.com", timeout: float = 5) -> tuple[int, dict[str, Any]]:
        url = f"http://{self.at['regions'][region]['load_balancer']}/actuator/health"
        request = urllib.request.Request(url, headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                assert answer.headers["x-maip-region"] == region
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            assert error.headers["x-maip-region"] == region
            return error.code, json.load(error)


@pytest.fixture(scope="session")
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    settings = Settings()
    settings.change(QUICK)
    lab = Lab(tmp_path_factory.mktemp("lab"), settings)
    lab.start()
    yield lab
    lab.stop()


@pytest.fixture
def lab(_lab: Lab) -> Handle:
    _lab.reset()
    return Handle(_lab)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may reach a real account, whatever the machine's environment says."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> Any:
        assert not isinstance(address, tuple) or address[0].startswith("127."), address
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)

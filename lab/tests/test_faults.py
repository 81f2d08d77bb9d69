"""Every fault mode, on the wire and in the log of calls."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
from contextlib import suppress

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from conftest import Handle, until

REPLICA = "maip-prod-postgres-replica"
# One harmless read of each protocol: query, rest-json, rest-xml, JSON, CBOR.
READS = {
    "rds": ("us-west-2", "describe_db_instances", {}, "DescribeDBInstances"),
    "eks": ("us-west-2", "list_clusters", {}, "ListClusters"),
    "kafka": ("us-west-2", "list_clusters_v2", {}, "ListClustersV2"),
    "route53": ("us-east-1", "list_hosted_zones", {}, "ListHostedZones"),
    "dynamodb": ("us-west-2", "list_tables", {}, "ListTables"),
    "cloudwatch": ("us-west-2", "list_metrics", {}, "ListMetrics"),
    "sts": ("us-west-2", "get_caller_identity", {}, "GetCallerIdentity"),
}


def read(lab: Handle, service: str, **options):
    region, method, parameters, _ = READS[service]
    return getattr(lab.client(service, region, **options), method)(**parameters)


def failed(lab: Handle, service: str):
    with pytest.raises(ClientError) as caught:
        read(lab, service)
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("service", READS)
def test_denied_throttled_and_broken_in_each_protocol(lab: Handle, service):
    region = READS[service][0]
    fault = lab.fault(region, "deny", service=service)
    code, status = failed(lab, service)
    assert code.startswith("AccessDenied") and status == (400 if service == "dynamodb" else 403)
    lab.control("DELETE", f"/faults/{fault}")
    fault = lab.fault(region, "throttle", service=service, operation=READS[service][3])
    code, status = failed(lab, service)
    assert code in ("Throttling", "ThrottlingException", "TooManyRequestsException") and status in (400, 429)
    lab.control("DELETE", f"/faults/{fault}")
    lab.fault(region, "error", service=service, status=503, times=2)
    assert failed(lab, service) == ("ServiceUnavailable", 503)
    assert read(lab, service, retries=2), "an SDK's own retry gets past what is left of it"
    lab.fault(region, "error", service=service, status=400, code="PriorRequestNotComplete")
    assert failed(lab, service) == ("PriorRequestNotComplete", 400)
    assert [call["status"] for call in lab.calls()][-4:] == [503, 503, 200, 400]


def test_a_silent_region_accepts_and_never_answers(lab: Handle):
    lab.fault(lab.WEST, "silent")
    with pytest.raises(ReadTimeoutError):
        read(lab, "rds", timeout=0.3)
    assert read(lab, "route53"), "the other Region is well"
    with pytest.raises(TimeoutError):
        lab.health(lab.WEST, timeout=0.3)
    call = lab.calls(service="rds")[0]
    assert (call["status"], call["fault"]) == (None, "silent")
    lab.control("DELETE", "/faults")
    assert read(lab, "rds")


def test_a_silent_call_ends_when_the_fault_is_lifted(lab: Handle):
    fault = lab.fault(lab.WEST, "silent", service="rds")
    ended = threading.Event()

    def call():
        with pytest.raises(ConnectionClosedError):
            read(lab, "rds")
        ended.set()

    threading.Thread(target=call, daemon=True).start()
    until(lambda: lab.calls(service="rds"))
    lab.control("DELETE", f"/faults/{fault}")
    assert ended.wait(5)


def test_a_reset_is_one_and_not_a_mere_end(lab: Handle):
    lab.fault(lab.WEST, "reset")
    host, _, port = lab.at["regions"]["us-west-2"]["load_balancer"].partition(":")
    with socket.create_connection((host, int(port)), 5) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            raw.recv(1)


def test_reset_and_refuse(lab: Handle):
    lab.fault(lab.WEST, "reset", service="rds", times=1)
    with pytest.raises(ConnectionClosedError):
        read(lab, "rds")
    assert read(lab, "rds")
    lab.fault(lab.WEST, "refuse")
    with pytest.raises(EndpointConnectionError):
        read(lab, "rds")
    with pytest.raises(urllib.error.URLError) as caught:
        lab.health(lab.WEST)
    assert isinstance(caught.value.reason, ConnectionRefusedError)
    lab.control("DELETE", "/faults")
    assert read(lab, "rds"), "on the same port as before"
    assert lab.health(lab.WEST)[0] == 503


def test_route_53_fails_with_its_region_only_when_told_to(lab: Handle):
    for mode in ("silent", "refuse", "error"):
        lab.fault(lab.EAST, mode)
        assert read(lab, "route53")
        lab.control("DELETE", "/faults")
    lab.fault(lab.EAST, "refuse", route53=True)
    with pytest.raises(EndpointConnectionError):
        read(lab, "route53")
    lab.control("DELETE", "/faults")
    lab.fault(lab.EAST, "silent", route53=True)
    with pytest.raises((ReadTimeoutError, ConnectTimeoutError)):
        read(lab, "route53", timeout=0.3)


def test_delay(lab: Handle):
    lab.fault(lab.WEST, "delay", service="rds", delay_s=0.4)
    at = time.monotonic()
    assert read(lab, "rds")
    assert time.monotonic() - at >= 0.4


def test_a_lost_answer_was_performed(lab: Handle):
    lab.fault(lab.WEST, "lost_answer", service="rds", operation="PromoteReadReplica", times=1)
    with pytest.raises(ClientError) as caught:
        # The SDK's own retry meets the state that its first try brought about.
        lab.client("rds", retries=1).promote_read_replica(DBInstanceIdentifier=REPLICA)
    assert caught.value.response["Error"]["Code"] == "InvalidDBInstanceState"
    until(lambda: lab.control("GET", "/state")["regions"]["us-west-2"]["writers"] == [REPLICA])
    assert [(c["status"], c["fault"]) for c in lab.calls(operation="PromoteReadReplica")] == [
        (200, "lost_answer"),
        (400, None),
    ]


def test_probability_is_repeatable(lab: Handle):
    def pattern():
        lab.control("DELETE", "/calls")
        lab.fault(lab.WEST, "error", service="rds", probability=0.5, seed=7)
        for _ in range(12):
            with suppress(ClientError):
                read(lab, "rds")
        lab.control("DELETE", "/faults")
        return [call["status"] for call in lab.calls()]

    first = pattern()
    assert pattern() == first and set(first) == {200, 500}


def test_calls_are_counted(lab: Handle):
    read(lab, "rds")
    read(lab, "route53")
    assert not any(call["mutating"] for call in lab.calls())
    lab.client("rds").promote_read_replica(DBInstanceIdentifier=REPLICA)
    changes = lab.calls(mutating=True)
    assert [(c["region"], c["service"], c["operation"], c["status"]) for c in changes] == [
        ("us-west-2", "rds", "PromoteReadReplica", 200)
    ]
    assert [call["seq"] for call in lab.calls()] == sorted(call["seq"] for call in lab.calls())
    detailed = lab.control("GET", "/calls?params=1")[-1]
    assert detailed["params"] == {"DBInstanceIdentifier": REPLICA}
    lab.control("DELETE", "/calls")
    assert lab.calls() == []


def test_an_unsigned_request_is_refused_and_on_record(lab: Handle):
    host, _, port = lab.at["regions"]["us-west-2"]["endpoint"].removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 5) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 403 " in raw.recv(4096).split(b"\r\n")[0]
    assert lab.calls()[0]["service"] is None and lab.calls()[0]["mutating"] is True


@pytest.mark.parametrize(
    "wanted",
    [
        {"region": "eu-west-1", "mode": "silent"},
        {"region": "us-west-2", "mode": "sulk"},
        {"region": "us-west-2", "mode": "deny", "service": "msk"},
        {"region": "us-west-2", "mode": "deny", "service": "rds", "operation": "Promote"},
        {"region": "us-west-2", "mode": "deny", "wrong": 1},
    ],
)
def test_a_mistaken_fault_is_refused(lab: Handle, wanted):
    with pytest.raises(urllib.error.HTTPError) as caught:
        lab.control("POST", "/faults", wanted)
    assert caught.value.code == 400


def test_settings_are_all_or_nothing(lab: Handle):
    before = lab.control("GET", "/settings")
    for wrong in ({"promotion_s": 9, "nonsense": 1}, {"promotion_s": "soon"}, {"rename": "perhaps"}):
        with pytest.raises(urllib.error.HTTPError):
            lab.control("POST", "/settings", wrong)
    assert lab.control("GET", "/settings") == before


def test_a_simple_describe_takes_a_few_milliseconds(lab: Handle):
    client = lab.client("rds")
    client.describe_db_instances()
    took = []
    for _ in range(30):
        at = time.perf_counter()
        client.describe_db_instances()
        took.append(time.perf_counter() - at)
    assert sorted(took)[len(took) // 2] < 0.05

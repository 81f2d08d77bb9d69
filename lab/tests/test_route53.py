from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from conftest import Handle, until

ZONE = "Z0MAIPEXAMPLECOM0001"
API = "api.maip.example.com"
EAST_LB = "maip-prod-alb-1111111111.us-east-1.elb.amazonaws.com"
WEST_LB = "maip-prod-dr-alb-2222222222.us-west-2.elb.amazonaws.com"
EAST_ZONE, WEST_ZONE = "Z35SXDOTRQ7X7K", "Z1H1FL5HABSF5"


def alias(target, zone, **more):
    record = {"Name": API, "Type": "A", **more}
    return record | {"AliasTarget": {"HostedZoneId": zone, "DNSName": target, "EvaluateTargetHealth": True}}


def change(client, *changes):
    batch = {"Changes": [{"Action": action, "ResourceRecordSet": record} for action, record in changes]}
    return client.change_resource_record_sets(HostedZoneId=ZONE, ChangeBatch=batch)["ChangeInfo"]


def refused(client, *changes):
    with pytest.raises(ClientError) as caught:
        change(client, *changes)
    error = caught.value.response["Error"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return error["Code"], error["Message"]


def records(client):
    sets = client.list_resource_record_sets(HostedZoneId=ZONE)["ResourceRecordSets"]
    return [each for each in sets if each["Name"] == API + "."]


def insync(client, info):
    return client.get_change(Id=info["Id"])["ChangeInfo"]["Status"] == "INSYNC"


def test_zones_and_records(lab: Handle):
    client = lab.client("route53", lab.EAST)
    assert [zone["Name"] for zone in client.list_hosted_zones()["HostedZones"]] == ["maip.example.com."]
    by_name = client.list_hosted_zones_by_name(DNSName="maip.example.com")
    assert by_name["HostedZones"][0]["Id"] == f"/hostedzone/{ZONE}" and by_name["IsTruncated"] is False
    assert client.list_hosted_zones_by_name(DNSName="zzz.example.com")["HostedZones"] == []
    assert len(client.get_hosted_zone(Id=ZONE)["DelegationSet"]["NameServers"]) == 4
    page = client.list_resource_record_sets(HostedZoneId=ZONE, MaxItems="1")
    assert page["IsTruncated"] and page["NextRecordType"] == "SOA"
    pages = client.get_paginator("list_resource_record_sets").paginate(
        HostedZoneId=ZONE, PaginationConfig={"PageSize": 1}
    )
    assert [each["Type"] for page in pages for each in page["ResourceRecordSets"]] == ["NS", "SOA", "A"]


def test_a_change_is_pending_then_insync_and_dns_follows(lab: Handle):
    client = lab.client("route53", lab.EAST)
    assert lab.dig(API) == (0, [("127.0.0.2", 1)])
    lab.settings(dns_insync_s=0.5)
    info = change(client, ("UPSERT", alias(WEST_LB, WEST_ZONE)))
    assert info["Status"] == "PENDING"
    assert records(client)[0]["AliasTarget"]["DNSName"] == WEST_LB + "."
    assert lab.dig(API)[1] == [("127.0.0.2", 1)], "the name servers do not know yet"
    until(lambda: insync(client, info))
    assert lab.dig(API)[1] == [("127.0.0.3", 1)]
    assert lab.dig(API, tcp=True)[1] == [("127.0.0.3", 1)]


def test_an_unknown_change(lab: Handle):
    with pytest.raises(ClientError) as caught:
        lab.client("route53", lab.EAST).get_change(Id="C0NOBODY")
    assert caught.value.response["Error"]["Code"] == "NoSuchChange"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_resolver_keeps_the_old_answer_for_its_ttl(lab: Handle):
    client = lab.client("route53", lab.EAST)
    lab.settings(alias_ttl_s=2, dns_insync_s=0.0)
    assert lab.dig(API, where="resolver")[1][0][0] == "127.0.0.2"
    info = change(client, ("UPSERT", alias(WEST_LB, WEST_ZONE)))
    until(lambda: insync(client, info))
    assert lab.dig(API)[1][0][0] == "127.0.0.3"
    assert lab.dig(API, where="resolver")[1][0][0] == "127.0.0.2", "the cached answer lingers"
    until(lambda: lab.dig(API, where="resolver")[1][0][0] == "127.0.0.3")


def test_a_misbehaving_resolver_keeps_it_longer(lab: Handle):
    lab.settings(alias_ttl_s=1, resolver_min_ttl_s=300)
    assert lab.dig(API, where="resolver")[1] == [("127.0.0.2", 300)]


@pytest.mark.parametrize(
    ("record", "code", "part"),
    [
        (alias(WEST_LB, EAST_ZONE), "InvalidChangeBatch", "does not lie within the target zone"),
        (alias("maip-prod-dr-alb.us-west-2.elb.amazonaws.com", WEST_ZONE), "InvalidChangeBatch", "not found"),
        (alias(WEST_LB, WEST_ZONE, TTL=60), "InvalidInput", "exactly one of"),
        (alias(WEST_LB, WEST_ZONE, SetIdentifier="w", Weight=300), "InvalidInput", "less than or equal to 255"),
        (alias(WEST_LB, WEST_ZONE, SetIdentifier="w", Weight=1), "InvalidChangeBatch", "non-weighted set exists"),
        ({**alias(WEST_LB, WEST_ZONE), "Name": "api.other.example"}, "InvalidChangeBatch", "not permitted in zone"),
    ],
)
def test_what_is_refused(lab: Handle, record, code, part):
    client = lab.client("route53", lab.EAST)
    before = records(client)
    found, message = refused(client, ("UPSERT", record))
    assert found == code and part in message
    assert records(client) == before


def test_a_batch_is_all_or_nothing(lab: Handle):
    client = lab.client("route53", lab.EAST)
    txt = {"Name": "x.maip.example.com", "Type": "TXT", "TTL": 60, "ResourceRecords": [{"Value": '"x"'}]}
    before = client.list_resource_record_sets(HostedZoneId=ZONE)["ResourceRecordSets"]
    code, message = refused(
        client,
        ("UPSERT", txt),
        ("CREATE", alias(WEST_LB, WEST_ZONE)),
        ("DELETE", {**txt, "Name": "y.maip.example.com"}),
    )
    assert code == "InvalidChangeBatch"
    assert "already exists" in message and "was not found" in message, "a reason for each"
    assert client.list_resource_record_sets(HostedZoneId=ZONE)["ResourceRecordSets"] == before


def test_delete_must_match(lab: Handle):
    client = lab.client("route53", lab.EAST)
    wrong = alias(EAST_LB, EAST_ZONE)
    wrong["AliasTarget"]["EvaluateTargetHealth"] = False
    assert "do not match the current values" in refused(client, ("DELETE", wrong))[1]
    weighted = [("CREATE", alias(lb, zone, SetIdentifier=name, Weight=weight)) for lb, zone, name, weight in
                ((EAST_LB, EAST_ZONE, "east", 100), (WEST_LB, WEST_ZONE, "west", 0))]  # fmt: skip
    change(client, ("DELETE", alias(EAST_LB, EAST_ZONE)), *weighted)
    assert "other RRSets exist" in refused(client, ("UPSERT", alias(WEST_LB, WEST_ZONE)))[1]


def test_the_bare_form_of_a_refusal(lab: Handle):
    lab.settings(route53_error_form="bare")
    client = lab.client("route53", lab.EAST)
    seen = []
    client.meta.events.register("before-parse.route53", lambda response_dict, **_: seen.append(response_dict["body"]))
    with pytest.raises(ClientError):
        change(client, ("UPSERT", alias(WEST_LB, EAST_ZONE)))
    assert b"<InvalidChangeBatch" in seen[0] and b"<Messages><Message>" in seen[0]


def test_weights_and_health(lab: Handle):
    lab.control("POST", "/reset", {"record": "weighted"})
    client = lab.client("route53", lab.EAST)
    assert {lab.dig(API)[1][0][0] for _ in range(20)} == {"127.0.0.2"}
    # East unhealthy, west not serving either: of none healthy, the weighted ones are answered.
    lab.control("POST", "/set/load_balancer/us-east-1", {"serves": False})
    assert {lab.dig(API)[1][0][0] for _ in range(20)} == {"127.0.0.2"}
    lab.control("POST", "/set/load_balancer/us-west-2", {"serves": True})
    assert {lab.dig(API)[1][0][0] for _ in range(20)} == {"127.0.0.3"}
    lab.control("POST", "/set/load_balancer/us-east-1", {"serves": True})
    info = change(
        client,
        ("UPSERT", alias(EAST_LB, EAST_ZONE, SetIdentifier="east", Weight=0)),
        ("UPSERT", alias(WEST_LB, WEST_ZONE, SetIdentifier="west", Weight=0)),
    )
    until(lambda: insync(client, info))
    # Both zero is an equal split, not a stop.
    assert {lab.dig(API)[1][0][0] for _ in range(60)} == {"127.0.0.2", "127.0.0.3"}


def test_failover_records_and_none(lab: Handle):
    lab.control("POST", "/reset", {"record": "failover"})
    assert lab.dig(API)[1][0][0] == "127.0.0.2"
    lab.control("POST", "/set/load_balancer/us-west-2", {"serves": True})
    lab.fault(lab.EAST, "silent")
    assert lab.dig(API)[1][0][0] == "127.0.0.3"
    client = lab.client("route53", lab.EAST)
    assert "other RRSets exist" in refused(client, ("UPSERT", alias(WEST_LB, WEST_ZONE)))[1]
    lab.control("POST", "/reset", {"record": "none"})
    assert lab.dig(API) == (3, [])


def test_health_checks_switch_dns(lab: Handle):
    client = lab.client("route53", lab.EAST)
    config = {
        "Type": "HTTPS",
        "FullyQualifiedDomainName": "stop.example.com",
        "ResourcePath": "/stop",
        "Inverted": True,
    }
    check = client.create_health_check(CallerReference="one", HealthCheckConfig=config)["HealthCheck"]["Id"]
    lab.control("POST", f"/set/health_check/{check}", {"healthy": False})
    lab.control("POST", "/set/load_balancer/us-west-2", {"serves": True})
    info = change(
        client,
        ("DELETE", alias(EAST_LB, EAST_ZONE)),
        ("CREATE", alias(EAST_LB, EAST_ZONE, SetIdentifier="east", Weight=100, HealthCheckId=check)),
        ("CREATE", alias(WEST_LB, WEST_ZONE, SetIdentifier="west", Weight=0)),
    )
    until(lambda: insync(client, info))
    assert lab.dig(API)[1][0][0] == "127.0.0.2"
    client.update_health_check(HealthCheckId=check, Inverted=False)
    assert lab.dig(API)[1][0][0] == "127.0.0.3"
    client.update_health_check(HealthCheckId=check, Disabled=True)
    assert lab.dig(API)[1][0][0] == "127.0.0.2", "disabled means healthy"


def test_the_other_names(lab: Handle):
    assert lab.dig(WEST_LB) == (0, [("127.0.0.3", 1)])
    assert lab.dig(API, "AAAA") == (0, [])
    assert lab.dig("nobody.maip.example.com") == (3, [])
    assert len(lab.dig("maip.example.com", "NS")[1]) == 4
    assert len(lab.dig("maip.example.com", "SOA")[1]) == 1
    assert lab.dig("example.org")[0] == 5, "not ours: refused"


def test_the_control_plane_is_in_one_region_only(lab: Handle):
    with pytest.raises(ClientError) as caught:
        lab.client("route53", lab.WEST).list_hosted_zones()
    assert caught.value.response["Error"]["Code"] == "LabUnsupportedOperation"

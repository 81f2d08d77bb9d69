"""What Route 53 accepts in a batch of record changes: all of it, or none with a reason for each."""

from __future__ import annotations

import copy
from typing import Any

from .errors import AwsError
from .names import ALB_ZONE_IDS, LOAD_BALANCERS, NLB_ZONE_IDS

RecordSet = dict[str, Any]
Key = tuple[str, str, str]  # name, type, set identifier
Records = dict[Key, RecordSet]

ROUTING = {
    "Weight": "weighted",
    "Failover": "failover",
    "Region": "latency",
    "GeoLocation": "geolocation",
    "MultiValueAnswer": "multivalue answer",
}


def dotted(name: str) -> str:
    return name.lower().rstrip(".") + "."


def reversed_name(name: str) -> list[str]:
    """Route 53 orders names by their labels from the right."""
    return dotted(name).rstrip(".").split(".")[::-1]


def canonical(record: RecordSet) -> RecordSet:
    record = copy.deepcopy(record)
    record["Name"] = dotted(record["Name"]).replace("*", "\\052")
    if "AliasTarget" in record:
        record["AliasTarget"]["DNSName"] = dotted(record["AliasTarget"]["DNSName"])
    return record


def key_of(record: RecordSet) -> Key:
    return record["Name"], record["Type"], record.get("SetIdentifier") or ""


def routing_of(record: RecordSet) -> str:
    for field, kind in ROUTING.items():
        if record.get(field) is not None:
            return kind
    return "simple"


def apply(zone_id: str, zone: str, before: Records, changes: list[dict[str, Any]], checks: set[str]) -> Records:
    """The records after the batch; `before` is not touched."""
    for number, change in enumerate(changes, 1):
        _check_input(number, change["ResourceRecordSet"])
    after = copy.deepcopy(before)
    messages: list[str] = []
    for change in changes:
        record = canonical(change["ResourceRecordSet"])
        message = _refusal(zone_id, zone, after, change["Action"], record, checks)
        if message:
            messages.append(message)
        elif change["Action"] == "DELETE":
            del after[key_of(record)]
        else:
            after[key_of(record)] = record
    if messages:
        raise AwsError("InvalidChangeBatch", f"[{', '.join(messages)}]", 400, messages)
    return after


def _check_input(number: int, record: RecordSet) -> None:
    """What the request's own shape forbids, whatever is in the zone."""
    where = f"changeBatch.changes.{number}.member.resourceRecordSet"
    message = None
    weight = record.get("Weight")
    if weight is not None and not 0 <= weight <= 255:
        bound = "less than or equal to 255" if weight > 255 else "greater than or equal to 0"
        message = (
            f"1 validation error detected: Value '{weight}' at '{where}.weight' failed to satisfy "
            f"constraint: Member must have value {bound}"
        )
    elif record.get("AliasTarget") and (record.get("TTL") is not None or record.get("ResourceRecords")):
        message = f"Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords]], but found more than one in Change with [Name={record['Name']}, Type={record['Type']}]"  # noqa: E501
    elif not record.get("AliasTarget") and (record.get("TTL") is None or not record.get("ResourceRecords")):
        message = f"Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords]], but found none in Change with [Name={record['Name']}, Type={record['Type']}]"  # noqa: E501
    elif sum(record.get(field) is not None for field in ROUTING) > 1:
        message = (
            "Invalid request: Expected exactly one of [Weight, Region, Failover, GeoLocation, or MultiValueAnswer]"  # noqa: E501
        )
    elif routing_of(record) != "simple" and not record.get("SetIdentifier"):
        message = f"Invalid request: Missing field 'SetIdentifier' in Change with [Name={record['Name']}, Type={record['Type']}]"  # noqa: E501
    elif routing_of(record) == "simple" and record.get("SetIdentifier"):
        message = f"Invalid request: Expected exactly one of [Weight, Region, Failover, GeoLocation, or MultiValueAnswer], but found none in Change with [Name={record['Name']}, Type={record['Type']}, SetIdentifier={record['SetIdentifier']}]"  # noqa: E501
    if message:
        raise AwsError("InvalidInput", message)


def _refusal(zone_id: str, zone: str, records: Records, action: str, record: RecordSet, checks: set[str]) -> str | None:
    name, kind, set_id = key_of(record)
    described = f"name='{name}', type='{kind}'" + (f", set-identifier='{set_id}'" if set_id else "")
    existing = records.get((name, kind, set_id))
    if name != zone and not name.endswith("." + zone):
        return f"RRSet with DNS name {name} is not permitted in zone {zone}"
    if action == "DELETE":
        if existing is None:
            return f"Tried to delete resource record set [{described}] but it was not found"
        if not _same(existing, record):
            return (
                f"Tried to delete resource record set [{described}] but the values provided "
                "do not match the current values"
            )
        if name == zone and kind in ("NS", "SOA"):
            return f"A HostedZone must contain at least one {kind} record for the zone itself."
        return None
    if action == "CREATE" and existing is not None:
        return f"Tried to create resource record set [{described}] but it already exists"
    if record.get("HealthCheckId") and record["HealthCheckId"] not in checks:
        return f"The specified health check does not exist: {record['HealthCheckId']}"
    return _clash(records, record) or _bad_alias(zone_id, records, record)


def _same(one: RecordSet, two: RecordSet) -> bool:
    def comparable(record: RecordSet) -> RecordSet:
        found = {name: value for name, value in record.items() if value is not None}
        found["ResourceRecords"] = sorted(each["Value"] for each in record.get("ResourceRecords") or [])
        return found

    return comparable(one) == comparable(two)


def _clash(records: Records, record: RecordSet) -> str | None:
    """Records of one name and type must all be of one routing kind; a simple one stands alone."""
    name, kind, set_id = key_of(record)
    routing = routing_of(record)
    for (other_name, other_kind, other_id), each in records.items():
        if other_name != name or other_id == set_id and other_kind == kind:
            continue
        if "CNAME" in (kind, other_kind) and kind != other_kind:
            return (
                f"RRSet of type {kind} with DNS name {name} is not permitted as it conflicts with "
                "other records with the same DNS name"
            )
        if other_kind != kind:
            continue
        if routing == "simple":
            return (
                f"RRSet of type {kind} with DNS name {name} cannot be created as other RRSets exist "
                "with the same name and type."
            )
        if routing_of(each) != routing:
            return (
                f"RRSet with DNS name {name}, type {kind}, SetIdentifier {set_id} cannot be created as a "
                f"non-{routing} set exists with the same name and type."
            )
        if routing == "failover" and each["Failover"] == record["Failover"]:
            return f"Failover record set with {record['Failover']} already exists for name {name}, type {kind}"
    return None


def _bad_alias(zone_id: str, records: Records, record: RecordSet) -> str | None:
    alias = record.get("AliasTarget")
    if not alias:
        return None
    target, target_zone, kind = alias["DNSName"], alias["HostedZoneId"], record["Type"]
    tried = f"Tried to create an alias that targets {target}, type {kind} in zone {target_zone}, but "
    not_found = tried + "that target was not found"
    if target_zone == zone_id:
        here = any(name == target and other == kind for name, other, _ in records)
        return None if here else not_found
    for region, alb_zone in ALB_ZONE_IDS.items():
        alb = target_zone == alb_zone and target.endswith(f".{region}.elb.amazonaws.com.")
        nlb = target_zone == NLB_ZONE_IDS[region] and target.endswith(f".elb.{region}.amazonaws.com.")
        if alb or nlb:
            known = target.removeprefix("dualstack.") == LOAD_BALANCERS[region] + "."
            return None if known else not_found
    return tried + "the alias target name does not lie within the target zone"

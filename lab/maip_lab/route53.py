"""Route 53's control plane: zones, atomic batches, changes that take time, health checks."""

from __future__ import annotations

import copy
import random
import string
import uuid
from dataclasses import dataclass, field
from typing import Any

from .errors import AwsError
from .record_rules import Records, RecordSet, apply, canonical, key_of, reversed_name
from .world import World, now


@dataclass
class Zone:
    id: str
    name: str
    records: Records = field(default_factory=dict)  # what the API shows: changed at once
    live: Records = field(default_factory=dict)  # what the name servers know: changed when INSYNC


class Route53:
    def __init__(self, world: World) -> None:
        self.world = world
        self.clear()

    def clear(self) -> None:
        self.zones: dict[str, Zone] = {}
        self.changes: dict[str, dict[str, Any]] = {}
        self.health_checks: dict[str, dict[str, Any]] = {}

    def add_zone(self, zone_id: str, name: str, records: list[RecordSet]) -> Zone:
        zone = Zone(zone_id, name)
        name_servers = [{"Value": f"ns-{n}.awsdns-lab.example."} for n in (1, 2, 3, 4)]
        soa = f"{name_servers[0]['Value']} awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"
        base = [
            {"Name": name, "Type": "NS", "TTL": 172800, "ResourceRecords": name_servers},
            {"Name": name, "Type": "SOA", "TTL": 900, "ResourceRecords": [{"Value": soa}]},
        ]
        for record in base + records:
            record = canonical(record)
            zone.records[key_of(record)] = record
        zone.live = copy.deepcopy(zone.records)
        self.zones[zone_id] = zone
        return zone

    def _zone(self, zone_id: str) -> Zone:
        zone_id = zone_id.rpartition("/")[2]
        if zone_id not in self.zones:
            raise AwsError("NoSuchHostedZone", f"No hosted zone found with ID: {zone_id}", 404)
        return self.zones[zone_id]

    def _shown(self, zone: Zone) -> dict[str, Any]:
        return {
            "Id": f"/hostedzone/{zone.id}",
            "Name": zone.name,
            "CallerReference": "lab",
            "Config": {"PrivateZone": False},
            "ResourceRecordSetCount": len(zone.records),
        }

    # -- zones -----------------------------------------------------------------------------------

    def GetHostedZone(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        zone = self._zone(p["Id"])
        values = zone.records[(zone.name, "NS", "")]["ResourceRecords"]
        servers = [each["Value"].rstrip(".") for each in values]
        return {"HostedZone": self._shown(zone), "DelegationSet": {"NameServers": servers}}

    def ListHostedZones(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        zones = sorted(self.zones.values(), key=lambda zone: zone.id)
        if p.get("Marker"):
            zones = [zone for zone in zones if zone.id >= p["Marker"]]
        size = int(p.get("MaxItems", 100))
        more = {"NextMarker": zones[size].id} if len(zones) > size else {}
        return {
            "HostedZones": [self._shown(zone) for zone in zones[:size]],
            "Marker": p.get("Marker"),
            "IsTruncated": bool(more),
            "MaxItems": str(size),
        } | more

    def ListHostedZonesByName(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        """Begins at the name and goes on in order: it does not filter, which surprises its users."""

        def order(name: str, zone_id: str) -> tuple[list[str], str]:
            return reversed_name(name), zone_id

        zones = sorted(self.zones.values(), key=lambda zone: order(zone.name, zone.id))
        if p.get("DNSName"):
            start = order(p["DNSName"], p.get("HostedZoneId", ""))
            zones = [zone for zone in zones if order(zone.name, zone.id) >= start]
        size = int(p.get("MaxItems", 100))
        answer: dict[str, Any] = {
            "HostedZones": [self._shown(zone) for zone in zones[:size]],
            "DNSName": p.get("DNSName"),
            "HostedZoneId": p.get("HostedZoneId"),
            "IsTruncated": len(zones) > size,
            "MaxItems": str(size),
        }
        if len(zones) > size:
            answer |= {"NextDNSName": zones[size].name, "NextHostedZoneId": zones[size].id}
        return answer

    # -- records ---------------------------------------------------------------------------------

    def ListResourceRecordSets(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        zone = self._zone(p["HostedZoneId"])
        if p.get("StartRecordType") and not p.get("StartRecordName"):
            raise AwsError("InvalidInput", "The input is not valid: a type needs a name.")

        def order(key: tuple[str, str, str]) -> tuple[list[str], str, str]:
            return reversed_name(key[0]), key[1], key[2]

        keys = sorted(zone.records, key=order)
        if p.get("StartRecordName"):
            start = order((p["StartRecordName"], p.get("StartRecordType", ""), p.get("StartRecordIdentifier", "")))
            keys = [key for key in keys if order(key) >= start]
        size = int(p.get("MaxItems", 300))
        answer: dict[str, Any] = {
            "ResourceRecordSets": [zone.records[key] for key in keys[:size]],
            "IsTruncated": len(keys) > size,
            "MaxItems": str(size),
        }
        if len(keys) > size:
            name, kind, set_id = keys[size]
            answer |= {"NextRecordName": name, "NextRecordType": kind}
            answer |= {"NextRecordIdentifier": set_id} if set_id else {}
        return copy.deepcopy(answer)

    def ChangeResourceRecordSets(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        zone = self._zone(p["HostedZoneId"])
        checks = set(self.health_checks)
        zone.records = apply(zone.id, zone.name, zone.records, p["ChangeBatch"]["Changes"], checks)
        snapshot = copy.deepcopy(zone.records)
        change_id = "C" + "".join(random.choices(string.ascii_uppercase + string.digits, k=20))
        info = {"Id": f"/change/{change_id}", "Status": "PENDING", "SubmittedAt": now()}
        if p["ChangeBatch"].get("Comment"):
            info["Comment"] = p["ChangeBatch"]["Comment"]
        self.changes[change_id] = info

        def insync() -> None:
            zone.live = snapshot
            info["Status"] = "INSYNC"

        self.world.after(self.world.settings.dns_insync_s, insync)
        return {"ChangeInfo": dict(info)}

    def GetChange(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        change_id = p["Id"].rpartition("/")[2]
        if change_id not in self.changes:
            raise AwsError("NoSuchChange", f"Could not find resource with ID: {change_id}", 404)
        return {"ChangeInfo": dict(self.changes[change_id])}

    # -- health checks ---------------------------------------------------------------------------

    def is_healthy(self, check_id: str) -> bool:
        check = self.health_checks.get(check_id)
        if check is None:
            return True
        config = check["HealthCheckConfig"]
        if config.get("Disabled"):
            return True  # disabled means healthy, not off: runbooks get it backwards
        return bool(check["observed"]) != bool(config.get("Inverted"))

    def _check(self, check_id: str) -> dict[str, Any]:
        if check_id not in self.health_checks:
            raise AwsError("NoSuchHealthCheck", f"A health check with id {check_id} does not exist.", 404)
        return self.health_checks[check_id]

    def CreateHealthCheck(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        for check in self.health_checks.values():
            if check["CallerReference"] == p["CallerReference"]:
                return {"HealthCheck": check, "Location": f"/2013-04-01/healthcheck/{check['Id']}"}
        check = {
            "Id": str(uuid.uuid4()),
            "CallerReference": p["CallerReference"],
            "HealthCheckConfig": p["HealthCheckConfig"],
            "HealthCheckVersion": 1,
            "observed": True,
        }
        self.health_checks[check["Id"]] = check
        return {"HealthCheck": check, "Location": f"/2013-04-01/healthcheck/{check['Id']}"}

    def GetHealthCheck(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        return {"HealthCheck": self._check(p["HealthCheckId"])}

    def UpdateHealthCheck(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        check = self._check(p["HealthCheckId"])
        version = p.get("HealthCheckVersion")
        if version and version != check["HealthCheckVersion"]:
            raise AwsError("HealthCheckVersionMismatch", "The health check has changed meanwhile.", 409)
        changes = {k: v for k, v in p.items() if k not in ("HealthCheckId", "HealthCheckVersion")}
        check["HealthCheckConfig"].update(changes)
        check["HealthCheckVersion"] += 1
        return {"HealthCheck": check}

    def DeleteHealthCheck(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        self._check(p["HealthCheckId"])
        del self.health_checks[p["HealthCheckId"]]
        return {}

    def ListHealthChecks(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        checks = list(self.health_checks.values())
        return {"HealthChecks": checks, "Marker": "", "IsTruncated": False, "MaxItems": "100"}

    def GetHealthCheckStatus(self, region: str, p: dict[str, Any]) -> dict[str, Any]:
        check = self._check(p["HealthCheckId"])
        status = "Success: HTTP Status Code 200, OK" if check["observed"] else "Failure: no answer"
        report = {"Status": status, "CheckedTime": now()}
        return {
            "HealthCheckObservations": [
                {"Region": place, "IPAddress": "192.0.2.1", "StatusReport": report}
                for place in ("us-west-1", "eu-west-1", "ap-southeast-1")
            ]
        }

"""DNS: an authoritative server that answers from what is INSYNC, and a resolver that caches it."""

from __future__ import annotations

import logging
import random
import socket
import struct
import threading
import time
from collections.abc import Callable

from dnslib import QTYPE, RCODE, RR, DNSHeader, DNSRecord

from .http import shutdown
from .names import LOAD_BALANCER_IPS, LOAD_BALANCERS
from .record_rules import RecordSet, dotted, routing_of
from .route53 import Route53, Zone
from .world import World

log = logging.getLogger(__name__)
LB_BY_NAME = {dotted(name): region for region, name in LOAD_BALANCERS.items()}


class Authority:
    """Answers as Route 53's name servers would: routing policies, health, alias TTLs."""

    def __init__(self, world: World, route53: Route53, lb_healthy: Callable[[str], bool]) -> None:
        self.world = world
        self.route53 = route53
        self.lb_healthy = lb_healthy

    def answer(self, query: DNSRecord) -> DNSRecord:
        reply = DNSRecord(DNSHeader(id=query.header.id, qr=1, aa=1, rd=query.header.rd), q=query.q)
        name, kind = dotted(str(query.q.qname)), QTYPE[query.q.qtype]
        # Which load balancers are healthy is asked before the lock is taken: it may ask Kubernetes.
        health = {region: self.lb_healthy(region) for region in LOAD_BALANCERS}
        with self.world.lock:
            self.world.advance()
            region = LB_BY_NAME.get(name.removeprefix("dualstack."))
            if region:
                self._add(reply, name, kind, self._load_balancer(region, kind))
                return reply
            zone = self._zone(name)
            if zone is None:
                reply.header.rcode = RCODE.REFUSED
                return reply
            records = self._pick(zone, name, kind, health)
            if not records and kind != "CNAME":
                cname = self._pick(zone, name, "CNAME", health)
                self._add(reply, name, "CNAME", cname)
            self._add(reply, name, kind, records)
            if not reply.rr:
                if not any(each[0] == name for each in zone.live):
                    reply.header.rcode = RCODE.NXDOMAIN
                self._add_soa(reply, zone)
        return reply

    def _zone(self, name: str) -> Zone | None:
        for zone in self.route53.zones.values():
            if name == zone.name or name.endswith("." + zone.name):
                return zone
        return None

    def _load_balancer(self, region: str, kind: str) -> list[tuple[int, str]]:
        ttl = self.world.settings.alias_ttl_s
        return [(ttl, LOAD_BALANCER_IPS[region])] if kind == "A" else []

    def _pick(self, zone: Zone, name: str, kind: str, health: dict[str, bool]) -> list[tuple[int, str]]:
        found = [record for (each, of, _), record in zone.live.items() if each == name and of == kind]
        if not found:
            return []
        record = self._choose(found, health)
        alias = record.get("AliasTarget")
        if not alias:
            return [(int(record["TTL"]), each["Value"]) for each in record["ResourceRecords"]]
        region = LB_BY_NAME.get(alias["DNSName"].removeprefix("dualstack."))
        if region:
            return self._load_balancer(region, kind)
        return self._pick(zone, alias["DNSName"], kind, health)

    def _choose(self, found: list[RecordSet], health: dict[str, bool]) -> RecordSet:
        def healthy(record: RecordSet) -> bool:
            return self._healthy(record, health)

        routing = routing_of(found[0])
        if routing == "failover":
            primary = next((each for each in found if each["Failover"] == "PRIMARY"), found[0])
            secondary = next((each for each in found if each["Failover"] == "SECONDARY"), primary)
            # With both unhealthy the primary is answered.
            return primary if healthy(primary) or not healthy(secondary) else secondary
        if routing == "weighted":
            weighted = [each for each in found if each["Weight"]]
            # Zero-weighted records are considered only when no other is healthy; when none is, all are.
            pool = [each for each in weighted if healthy(each)]
            pool = pool or [each for each in found if not each["Weight"] and healthy(each)]
            pool = pool or weighted or found
            weights = [each["Weight"] for each in pool]
            return random.choices(pool, weights if sum(weights) else None)[0]
        return random.choice(found)

    def _healthy(self, record: RecordSet, health: dict[str, bool]) -> bool:
        check = record.get("HealthCheckId")
        if check and not self.route53.is_healthy(check):
            return False
        alias = record.get("AliasTarget") or {}
        region = LB_BY_NAME.get(alias.get("DNSName", "").removeprefix("dualstack."))
        if region and alias.get("EvaluateTargetHealth"):
            return health[region]
        return True

    @staticmethod
    def _add(reply: DNSRecord, name: str, kind: str, values: list[tuple[int, str]]) -> None:
        for ttl, value in values:
            reply.add_answer(*RR.fromZone(f"{name} {ttl} IN {kind} {value}"))

    def _add_soa(self, reply: DNSRecord, zone: Zone) -> None:
        soa = zone.live[(zone.name, "SOA", "")]["ResourceRecords"][0]["Value"].split()
        ttl = self.world.settings.negative_ttl_s
        reply.add_auth(*RR.fromZone(f"{zone.name} {ttl} IN SOA {' '.join(soa[:-1])} {ttl}"))


class Resolver:
    """Remembers every answer as long as its TTL says, or longer where it is told to misbehave."""

    def __init__(self, world: World, authority: Authority) -> None:
        self.world = world
        self.authority = authority
        self._lock = threading.Lock()
        self._cache: dict[tuple[str, int], tuple[float, float, DNSRecord]] = {}

    def forget(self) -> None:
        with self._lock:
            self._cache.clear()

    def answer(self, query: DNSRecord) -> DNSRecord:
        key = (dotted(str(query.q.qname)), query.q.qtype)
        at = time.monotonic()
        with self._lock:
            kept = self._cache.get(key)
        if kept is None or kept[1] <= at:
            found = self.authority.answer(query)
            ttls = [rr.ttl for rr in found.rr + found.auth]
            life = max(min(ttls, default=0), self.world.settings.resolver_min_ttl_s)
            kept = (at, at + life, found)
            with self._lock:
                self._cache[key] = kept
        return self._aged(query, at, kept)

    @staticmethod
    def _aged(query: DNSRecord, at: float, kept: tuple[float, float, DNSRecord]) -> DNSRecord:
        """The remembered answer with what is left of its TTLs, as a resolver's: not authoritative."""
        since, until, found = kept
        header = DNSHeader(id=query.header.id, qr=1, aa=0, ra=1, rd=query.header.rd)
        header.rcode = found.header.rcode
        reply = DNSRecord(header, q=query.q)
        left, age = max(0, int(until - at)), int(at - since)

        def aged(records: list[RR]) -> list[RR]:
            return [RR(r.rname, r.rtype, r.rclass, max(left, r.ttl - age, 0), r.rdata) for r in records]

        reply.add_answer(*aged(found.rr))
        reply.add_auth(*aged(found.auth))
        return reply


class DnsServer:
    """UDP and TCP on one port."""

    def __init__(self, answer: Callable[[DNSRecord], DNSRecord], host: str = "127.0.0.1") -> None:
        self._answer = answer
        self._udp, self._tcp = _same_port(host)
        self.address = f"{host}:{self._udp.getsockname()[1]}"
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            shutdown(sock)
            sock.close()

    def _reply(self, packet: bytes) -> bytes | None:
        try:
            return self._answer(DNSRecord.parse(packet)).pack()
        except Exception:
            log.exception("a DNS question could not be answered")
            return None

    def _serve_udp(self) -> None:
        while True:
            try:
                packet, asker = self._udp.recvfrom(4096)
            except OSError:
                return
            if not packet:
                return
            reply = self._reply(packet)
            if reply:
                self._udp.sendto(reply, asker)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection, connection.makefile("rb") as stream:
            try:
                while len(size := stream.read(2)) == 2:
                    reply = self._reply(stream.read(struct.unpack("!H", size)[0]))
                    if reply is None:
                        return
                    connection.sendall(struct.pack("!H", len(reply)) + reply)
            except OSError:
                return


def _same_port(host: str) -> tuple[socket.socket, socket.socket]:
    for _ in range(50):
        tcp = socket.create_server((host, 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind((host, tcp.getsockname()[1]))
            return udp, tcp
        except OSError:
            tcp.close()
            udp.close()
    raise OSError("no port is free for both UDP and TCP")

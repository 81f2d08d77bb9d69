//! How the sandbox looks from outside: load balancers, name servers, resolvers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::service::{DnsAnswer, HttpAnswer, RecordSet, RecordType, Routing};
use crate::sim::state::WorldState;

/// The sandbox's four authoritative name servers.
pub(super) const AUTHORITIES: [&str; 4] =
    ["ns-1.sandbox:53", "ns-2.sandbox:53", "ns-3.sandbox:53", "ns-4.sandbox:53"];

fn bare(name: &str) -> &str {
    let name = name.trim_end_matches('.');
    name.strip_prefix("dualstack.").unwrap_or(name)
}

impl WorldState {
    /// The Region whose load balancer is called `name`, by DNS name or by where it is asked directly.
    fn balancer(&self, name: &str) -> Option<RegionId> {
        let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
        self.topology.traffic.values().flat_map(|t| &t.regions).find_map(|(region, lb)| {
            let named = bare(&lb.load_balancer) == bare(host) || lb.connect.as_deref() == Some(name);
            named.then(|| region.clone())
        })
    }

    fn address(&self, region: &RegionId, record_type: RecordType) -> IpAddr {
        let i = self.regions.keys().position(|r| r == region).unwrap_or(0) as u16;
        match record_type {
            RecordType::Aaaa => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10 + i)),
            _ => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10 + i as u8)),
        }
    }

    /// What the authoritative servers answered at `at`.
    fn served(&self, name: &str, record_type: RecordType, at: Timestamp) -> Vec<&RecordSet> {
        self.zones
            .values()
            .filter_map(|z| z.served.iter().rev().find(|(from, _)| *from <= at))
            .flat_map(|(_, records)| records)
            .filter(|r| {
                r.name == name && (r.record_type == record_type || r.record_type == RecordType::Cname)
            })
            .collect()
    }

    /// The Regions that a name leads to at `at`.
    fn led_to(&self, name: &str, record_type: RecordType, at: Timestamp) -> Vec<RegionId> {
        if let Some(region) = self.balancer(name) {
            return vec![region];
        }
        let sets = self.served(name, record_type, at);
        let some_weight =
            sets.iter().any(|r| matches!(r.routing, Routing::Weighted { weight } if weight > 0));
        sets.iter()
            .filter(|r| match r.routing {
                Routing::Weighted { weight } => weight > 0 || !some_weight,
                Routing::Failover { primary } => primary,
                _ => true,
            })
            .filter_map(|r| {
                let target =
                    r.alias.as_ref().map(|a| a.dns_name.as_str()).or(r.values.first().map(String::as_str))?;
                self.balancer(target)
            })
            .collect()
    }

    /// Answers a DNS question; `server` absent = a resolver that asks anew when its answer is a TTL old.
    pub(super) fn dns(&self, name: &str, record_type: RecordType, server: Option<&str>) -> DnsAnswer {
        let authoritative = server.is_some_and(|s| AUTHORITIES.contains(&s));
        let ttl = i64::try_from(self.durations().ttl.0.as_secs()).unwrap_or(60).max(1);
        let (at, left) = if authoritative {
            (self.now, ttl)
        } else {
            let asked = self.now.as_second().div_euclid(ttl) * ttl;
            (Timestamp::from_second(asked).unwrap_or(self.now), asked + ttl - self.now.as_second())
        };
        let mut addresses: Vec<IpAddr> =
            self.led_to(name, record_type, at).iter().map(|r| self.address(r, record_type)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        DnsAnswer { addresses, ttl_s: u32::try_from(left).unwrap_or(0), authoritative }
    }

    /// Answers an HTTP question, `Err` = nobody does.
    pub(super) fn http(&self, host: &str, connect: Option<&str>) -> Result<HttpAnswer> {
        let region = match connect {
            Some(name) => self.balancer(name),
            None => {
                let seen = self.dns(host, RecordType::A, None).addresses;
                self.regions.keys().find(|r| seen.contains(&self.address(r, RecordType::A))).cloned()
            }
        };
        let region =
            region.ok_or_else(|| Error::unavailable(format!("{} leads nowhere", connect.unwrap_or(host))))?;
        let state = self.region(&region)?;
        if state.users_silent_since.is_some_and(|at| at <= self.now) {
            return Err(Error::unavailable(format!("the load balancer in {region} does not answer")));
        }
        let d = self.durations();
        let writable =
            self.topology.databases.values().filter_map(|db| db.regions.get(&region)).all(|here| {
                state.databases.iter().any(|db| {
                    let seen = db.view(self.now, d);
                    seen.id == here.instance
                        && seen.replica_source.is_none()
                        && matches!(seen.status.as_str(), "available" | "backing-up")
                })
            });
        let pods = self.topology.clusters.iter().all(|(name, cluster)| {
            let here = state.clusters.get(name);
            cluster.workloads.keys().all(|ns| here.is_none_or(|c| c.ready_pods(ns, self.now) > 0))
        });
        let expected =
            self.topology.traffic.values().find(|t| t.record == host).map_or(200, |t| t.health.status);
        Ok(HttpAnswer {
            status: if writable && pods { expected } else { 503 },
            address: Some(self.address(&region, RecordType::A).to_string()),
            region: Some(region.to_string()),
        })
    }
}

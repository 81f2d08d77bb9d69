//! What must hold for a public name and its load balancers.

use crate::id::RegionId;
use crate::service::RecordType;
use crate::topology::load_balancers::{Sort, described, owner_of, zone_of};
use crate::topology::secrets::shown;
use crate::topology::syntax::{is_host, is_host_port, is_zone_id, url};
use crate::topology::validate::Check;
use crate::topology::{Traffic, TrafficIn};

impl Check<'_> {
    /// Checks the entry `name`.
    pub(super) fn traffic(&mut self, name: &str, traffic: &Traffic) {
        self.zone(name, traffic);
        self.types(name, &traffic.types);
        self.health(name, traffic);
        self.regions_of(&["traffic", name], &format!("the traffic `{name}`"), &traffic.regions);
        for (region, here) in &traffic.regions {
            self.load_balancer(&["traffic", name, "regions", region.as_str()], region, here);
        }
        for (i, resolver) in traffic.resolvers.iter().enumerate() {
            self.host_port(&["traffic", name, "resolvers", &i.to_string()], resolver);
        }
    }

    fn zone(&mut self, name: &str, traffic: &Traffic) {
        let path = ["traffic", name];
        match (&traffic.zone, &traffic.zone_id) {
            (Some(_), Some(_)) => {
                let path = ["traffic", name, "zone_id"];
                self.refuse(
                    &path,
                    "both `zone` and `zone_id` are there",
                    "one of the two is enough: remove the other",
                );
            }
            (None, None) => self.refuse(
                &path,
                "neither `zone` nor `zone_id` is there",
                "add `zone: example.com`, or `zone_id: Z0123...` where two zones share the name",
            ),
            _ => {}
        }
        if let Some(id) = &traffic.zone_id {
            self.zone_id(&["traffic", name, "zone_id"], id);
        }
        self.record(name, traffic);
    }

    fn record(&mut self, name: &str, traffic: &Traffic) {
        let path = ["traffic", name, "record"];
        if !is_host(&traffic.record) {
            let message = format!("{} is not a host's name", shown(&traffic.record));
            self.refuse(&path, message, "the name that users ask for, such as api.example.com");
        }
        let Some(zone) = &traffic.zone else { return };
        if !is_host(zone) {
            let message = format!("{} is not a zone's name", shown(zone));
            self.refuse(&["traffic", name, "zone"], message, "a domain such as example.com");
        } else if !is_within(&traffic.record, zone) {
            let message = format!("{} is not in the zone {}", shown(&traffic.record), shown(zone));
            self.refuse(&path, message, format!("the zone's own name, or one that ends in .{}", bare(zone)));
        }
    }

    fn types(&mut self, name: &str, types: &[RecordType]) {
        let path = ["traffic", name, "types"];
        if types.is_empty() {
            self.refuse(&path, "no record type is named", "write [A], or [A, AAAA]");
        }
        for (i, record_type) in types.iter().enumerate() {
            if types[..i].contains(record_type) {
                let path = ["traffic", name, "types", &i.to_string()];
                self.refuse(&path, format!("{record_type} is there twice"), "name each type once");
            }
        }
        let cname = types.contains(&RecordType::Cname);
        if cname && types.iter().any(|t| *t != RecordType::Cname) {
            let hint = "a name with a CNAME has no other record: write [CNAME], or [A, AAAA]";
            self.refuse(&path, "CNAME cannot stand beside other types", hint);
        }
    }

    fn health(&mut self, name: &str, traffic: &Traffic) {
        let path = ["traffic", name, "health", "url"];
        let right = format!("https://{}/PATH", bare(&traffic.record));
        match url(&traffic.health.url) {
            None => self.refuse(&path, "this is not a URL", format!("write {right}")),
            Some(url) if url.user => {
                self.refuse(&path, "a user stands in this URL", format!("write {right}"))
            }
            Some(url) if !matches!(url.scheme, "https" | "http") => {
                let message = format!("{} cannot be asked", shown(&format!("{}://", url.scheme)));
                self.refuse(&path, message, format!("write {right}"));
            }
            Some(url) if is_host(&traffic.record) && bare(url.host) != bare(&traffic.record) => {
                let message =
                    format!("the host {} is not the record {}", shown(url.host), shown(&traffic.record));
                self.refuse(
                    &path,
                    message,
                    format!("users must be asked for by the name that moves: {right}"),
                );
            }
            Some(_) => {}
        }
    }

    fn load_balancer(&mut self, path: &[&str], region: &RegionId, here: &TrafficIn) {
        let at = |key| [path, &[key]].concat();
        if let Some(connect) = &here.connect {
            self.host_port(&at("connect"), connect);
        }
        let zone_is_one = self.zone_id(&at("hosted_zone_id"), &here.hosted_zone_id);
        if !is_host(&here.load_balancer) {
            let message = format!("{} is not a DNS name", shown(&here.load_balancer));
            self.refuse(
                &at("load_balancer"),
                message,
                "the load balancer's DNS name, without https:// and path",
            );
            return;
        }
        let Some((sort, actual)) = described(&here.load_balancer) else { return };
        if actual != region.as_str() {
            let message = format!("the load balancer is in {actual}, and this entry is of {region}");
            self.refuse(&at("load_balancer"), message, format!("name the load balancer of {region}"));
        } else if zone_is_one {
            self.canonical_zone(&at("hosted_zone_id"), region, sort, &here.hosted_zone_id);
        }
    }

    /// The zone must be the one that AWS keeps such load balancers of the Region in.
    fn canonical_zone(&mut self, path: &[&str], region: &RegionId, sort: Sort, zone: &str) {
        let Some(right) = zone_of(region.as_str(), sort).filter(|right| *right != zone) else { return };
        let message = match owner_of(zone) {
            Some((owner, other)) => format!("{} is the zone of {owner} in {other}", shown(zone)),
            None => format!("{} is not the zone of {sort} in {region}", shown(zone)),
        };
        self.refuse(path, message, format!("{sort} in {region} are in {right}"));
    }

    fn zone_id(&mut self, path: &[&str], id: &str) -> bool {
        if !is_zone_id(id) {
            let hint = "Z and up to 31 capitals and digits, without `/hostedzone/`";
            self.refuse(path, format!("{} is not a hosted zone's id", shown(id)), hint);
        }
        is_zone_id(id)
    }

    fn host_port(&mut self, path: &[&str], place: &str) {
        if !is_host_port(place) {
            let message = format!("{} is not HOST:PORT", shown(place));
            self.refuse(path, message, "such as 10.0.0.2:53, [2001:db8::1]:53 or lb.example.com:443");
        }
    }
}

/// A name as it is compared: small letters, no closing dot.
fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn is_within(record: &str, zone: &str) -> bool {
    let (record, zone) = (bare(record), bare(zone));
    record == zone || record.strip_suffix(&zone).is_some_and(|rest| rest.ends_with('.'))
}

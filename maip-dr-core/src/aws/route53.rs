//! The public DNS, by Route 53.

use async_trait::async_trait;
use aws_sdk_route53::Client;
use aws_sdk_route53::error::BuildError;
use aws_sdk_route53::types::{
    AliasTarget as WireAlias, Change, ChangeAction as WireAction, ChangeBatch, ChangeStatus as WireStatus,
    HostedZone, ResourceRecord, ResourceRecordSet, ResourceRecordSetFailover, RrType,
};

use crate::aws::config::Reach;
use crate::aws::errors::{Call, lacks};
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::service::{
    AliasTarget, ChangeAction, ChangeStatus, DnsService, RecordChange, RecordSet, RecordType, Routing, Zone,
};

/// [`DnsService`] over Route 53.
#[derive(Debug)]
pub(super) struct Route53 {
    region: RegionId,
    read: Client,
    mutate: Client,
}

impl Route53 {
    pub(super) fn new(reach: &Reach) -> Self {
        Self {
            region: reach.region.clone(),
            read: Client::new(&reach.read),
            mutate: Client::new(&reach.mutate),
        }
    }
}

#[async_trait]
impl DnsService for Route53 {
    async fn zones(&self, name: &str) -> Result<Vec<Zone>> {
        let call = Call::reads("route53:ListHostedZonesByName", &self.region);
        let wanted = plain(name);
        let mut found = Vec::new();
        let (mut next_name, mut next_id) = (Some(wanted.clone()), None);
        // The list begins at the name and goes on past it.
        while let Some(from) = next_name {
            let answer =
                self.read.list_hosted_zones_by_name().dns_name(from).set_hosted_zone_id(next_id).send().await;
            let page = answer.map_err(|e| call.failed(e).with("resource", name))?;
            let past = page.hosted_zones.iter().any(|z| plain(&z.name) != wanted);
            found.extend(page.hosted_zones.iter().filter(|z| plain(&z.name) == wanted).map(zone));
            if past || !page.is_truncated {
                break;
            }
            (next_name, next_id) = (page.next_dns_name, page.next_hosted_zone_id);
        }
        Ok(found)
    }

    async fn zone(&self, id: &str) -> Result<Zone> {
        let call = Call::reads("route53:GetHostedZone", &self.region);
        let answer = self.read.get_hosted_zone().id(id).send().await;
        let found = answer.map_err(|e| call.failed(e).with("resource", id))?;
        Ok(zone(&found.hosted_zone.ok_or_else(|| lacks(call.api, "hosted zone"))?))
    }

    async fn records(&self, zone_id: &str, name: &str) -> Result<Vec<RecordSet>> {
        let call = Call::reads("route53:ListResourceRecordSets", &self.region);
        let wanted = plain(name);
        let mut found = Vec::new();
        let mut from = Some((wanted.clone(), None, None));
        while let Some((start, kind, identifier)) = from.take() {
            let answer = self
                .read
                .list_resource_record_sets()
                .hosted_zone_id(zone_id)
                .start_record_name(start)
                .set_start_record_type(kind)
                .set_start_record_identifier(identifier)
                .send()
                .await;
            let page = answer.map_err(|e| call.failed(e).with("resource", zone_id))?;
            let past = page.resource_record_sets.iter().any(|r| plain(&r.name) != wanted);
            for set in page.resource_record_sets.iter().filter(|r| plain(&r.name) == wanted) {
                found.extend(from_wire(set)?);
            }
            if !past && page.is_truncated {
                from = page.next_record_name.map(|n| (n, page.next_record_type, page.next_record_identifier));
            }
        }
        Ok(found)
    }

    async fn change(&self, zone_id: &str, comment: &str, changes: &[RecordChange]) -> Result<String> {
        let call = Call::mutates("route53:ChangeResourceRecordSets", &self.region);
        let unbuilt = |e: BuildError| Error::internal(format!("{}: {e}", call.api));
        let mut batch = ChangeBatch::builder().comment(comment);
        for change in changes {
            let action = match change.action {
                ChangeAction::Create => WireAction::Create,
                ChangeAction::Delete => WireAction::Delete,
                ChangeAction::Upsert => WireAction::Upsert,
            };
            let record = to_wire(&change.record)?;
            let change = Change::builder().action(action).resource_record_set(record);
            batch = batch.changes(change.build().map_err(unbuilt)?);
        }
        let answer = self
            .mutate
            .change_resource_record_sets()
            .hosted_zone_id(zone_id)
            .change_batch(batch.build().map_err(unbuilt)?)
            .send()
            .await;
        let info = answer.map_err(|e| call.failed(e).with("resource", zone_id))?.change_info;
        let id = info.map(|info| info.id).ok_or_else(|| {
            let lost = lacks(call.api, "change id");
            Error { kind: crate::ErrorKind::InDoubt, ..lost }
        })?;
        Ok(id.trim_start_matches("/change/").to_owned())
    }

    async fn change_status(&self, id: &str) -> Result<ChangeStatus> {
        let call = Call::reads("route53:GetChange", &self.region);
        let answer = self.read.get_change().id(id).send().await;
        let info = answer.map_err(|e| call.failed(e).with("resource", id))?.change_info;
        match info.map(|info| info.status) {
            Some(WireStatus::Insync) => Ok(ChangeStatus::InSync),
            Some(WireStatus::Pending) => Ok(ChangeStatus::Pending),
            other => Err(lacks(call.api, &format!("status that is known ({other:?})"))),
        }
    }
}

fn zone(found: &HostedZone) -> Zone {
    Zone {
        id: found.id.trim_start_matches("/hostedzone/").to_owned(),
        name: plain(&found.name),
        private: found.config.as_ref().is_some_and(|c| c.private_zone),
    }
}

/// A name as we write it: lower case, no closing dot, the octal escapes of Route 53 undone.
/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DomainNameFormat.html>
fn plain(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name.strip_suffix('.').unwrap_or(name);
    while let Some(at) = rest.find('\\') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let code = after.get(1..4).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        let Some(code) = code else {
            out.push_str(after);
            rest = "";
            break;
        };
        out.push(char::from(code));
        rest = &after[4..];
    }
    out.push_str(rest);
    out.to_ascii_lowercase()
}

/// `None` for a type that cannot point at a load balancer.
fn from_wire(set: &ResourceRecordSet) -> Result<Option<RecordSet>> {
    let record_type = match set.r#type {
        RrType::A => RecordType::A,
        RrType::Aaaa => RecordType::Aaaa,
        RrType::Cname => RecordType::Cname,
        _ => return Ok(None),
    };
    let values = set.resource_records.iter().flatten().map(|r| r.value.clone()).collect();
    Ok(Some(RecordSet {
        name: plain(&set.name),
        record_type,
        set_identifier: set.set_identifier.clone(),
        routing: routing(set)?,
        ttl_s: set.ttl.and_then(|ttl| u32::try_from(ttl).ok()),
        values,
        alias: set.alias_target.as_ref().map(|target| AliasTarget {
            dns_name: plain(&target.dns_name),
            hosted_zone_id: target.hosted_zone_id.clone(),
            evaluate_target_health: target.evaluate_target_health,
        }),
        health_check_id: set.health_check_id.clone(),
    }))
}

fn routing(set: &ResourceRecordSet) -> Result<Routing> {
    let other = |name: &str| Ok(Routing::Other { name: name.to_owned() });
    if let Some(weight) = set.weight {
        let weight = u8::try_from(weight)
            .map_err(|_| lacks("route53:ListResourceRecordSets", "weight between 0 and 255"))?;
        return Ok(Routing::Weighted { weight });
    }
    if let Some(role) = &set.failover {
        return Ok(Routing::Failover { primary: *role == ResourceRecordSetFailover::Primary });
    }
    match set {
        _ if set.region.is_some() => other("latency"),
        _ if set.geo_location.is_some() => other("geolocation"),
        _ if set.geo_proximity_location.is_some() => other("geoproximity"),
        _ if set.cidr_routing_config.is_some() => other("IP-based"),
        _ if set.multi_value_answer.unwrap_or(false) => other("multivalue answer"),
        // A policy that is newer than this code.
        _ if set.set_identifier.is_some() => other("unknown"),
        _ => Ok(Routing::Simple),
    }
}

fn to_wire(record: &RecordSet) -> Result<ResourceRecordSet> {
    let unbuilt = |e: BuildError| Error::internal(format!("record set {}: {e}", record.name));
    let record_type = match record.record_type {
        RecordType::A => RrType::A,
        RecordType::Aaaa => RrType::Aaaa,
        RecordType::Cname => RrType::Cname,
    };
    let mut set = ResourceRecordSet::builder()
        .name(&record.name)
        .r#type(record_type)
        .set_set_identifier(record.set_identifier.clone())
        .set_ttl(record.ttl_s.map(i64::from))
        .set_health_check_id(record.health_check_id.clone());
    set = match &record.routing {
        Routing::Simple => set,
        Routing::Weighted { weight } => set.weight(i64::from(*weight)),
        Routing::Failover { primary: true } => set.failover(ResourceRecordSetFailover::Primary),
        Routing::Failover { primary: false } => set.failover(ResourceRecordSetFailover::Secondary),
        Routing::Other { name } => {
            return Err(Error::refused(format!("{} has {name} routing, which is not changed", record.name)));
        }
    };
    if let Some(alias) = &record.alias {
        let target = WireAlias::builder()
            .dns_name(&alias.dns_name)
            .hosted_zone_id(&alias.hosted_zone_id)
            .evaluate_target_health(alias.evaluate_target_health);
        set = set.alias_target(target.build().map_err(unbuilt)?);
    }
    for value in &record.values {
        set = set.resource_records(ResourceRecord::builder().value(value).build().map_err(unbuilt)?);
    }
    set.build().map_err(unbuilt)
}

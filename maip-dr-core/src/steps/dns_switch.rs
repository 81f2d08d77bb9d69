use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::seconds_between;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionId;
use crate::service::{AliasTarget, ChangeAction, ChangeStatus, RecordChange, RecordSet, RecordType, Routing};
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::by_hand;
use crate::survey::{records, zone_of};
use crate::topology::{Topology, Traffic, TrafficIn, TrafficMethod};

/// The API of Route 53 has one home.
/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/route-53-concepts.html>
const HOME: &str = "us-east-1";

/// Points the public name at a Region.
#[derive(Debug)]
pub(super) struct Switch {
    params: Params,
    traffic: Traffic,
    target: TrafficIn,
    topology: Topology,
    change: Mutex<Option<String>>,
}

/// Which name, and where to.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The traffic entry's logical name.
    traffic: String,
    /// The Region that will serve.
    region: RegionId,
}

impl StepKind for Switch {
    const KIND: &'static str = "dns.switch";
    const ABOUT: &'static str = "Points the public name at a Region's load balancer. The record sets that exist are read first \
        and the change batch is built for what is there: an alias is pointed elsewhere; of weighted records this Region's \
        gets the weight and the others 0, in one batch; of a failover pair the targets change places. Atomic; waits for \
        INSYNC. The API is Route 53's, whose control plane is in us-east-1.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let (traffic, target) = topology.traffic(&params.traffic, &params.region)?;
        Ok(Self {
            traffic: traffic.clone(),
            target: target.clone(),
            topology: topology.clone(),
            change: Mutex::default(),
            params,
        })
    }
}

/// A name as DNS compares it: lower case, no closing dot, no `dualstack.`, which is the same load balancer.
fn bare(name: &str) -> String {
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    lower.strip_prefix("dualstack.").map(str::to_owned).unwrap_or(lower)
}

fn points_at(record: &RecordSet, target: &TrafficIn) -> bool {
    let wanted = bare(&target.load_balancer);
    let alias = record.alias.as_ref().is_some_and(|a| bare(&a.dns_name) == wanted);
    alias || (record.record_type == RecordType::Cname && record.values.iter().any(|v| bare(v) == wanted))
}

/// The target as this record type writes it.
fn pointed(mut record: RecordSet, target: &TrafficIn) -> RecordSet {
    if record.record_type == RecordType::Cname && record.alias.is_none() {
        record.values = vec![target.load_balancer.clone()];
        record.ttl_s = Some(record.ttl_s.unwrap_or(60).min(60));
    } else {
        let evaluate = record.alias.as_ref().is_none_or(|a| a.evaluate_target_health);
        record.alias = Some(AliasTarget {
            dns_name: target.load_balancer.clone(),
            hosted_zone_id: target.hosted_zone_id.clone(),
            evaluate_target_health: evaluate,
        });
        record.ttl_s = None;
        record.values.clear();
    }
    record
}

/// The changes that bring `existing` (the record sets of one name) to `traffic`'s Region `region`. Empty = done.
///
/// # Errors
/// `Invalid` or `Conflict` when what is there cannot be switched, with the reason.
fn batch(
    traffic: &Traffic,
    region: &RegionId,
    target: &TrafficIn,
    existing: &[RecordSet],
) -> Result<Vec<RecordChange>> {
    let mut changes = Vec::new();
    for &record_type in &traffic.types {
        let sets: Vec<&RecordSet> = existing.iter().filter(|r| r.record_type == record_type).collect();
        if let Some(other) = sets.iter().find_map(|r| match &r.routing {
            Routing::Other { name } => Some(name),
            _ => None,
        }) {
            return Err(Error::conflict(format!(
                "{} {record_type} is routed by {other}, which maip-dr does not change",
                traffic.record
            ))
            .hint("use an alias, weighted or failover record for what must fail over"));
        }
        match sets.as_slice() {
            [] if traffic.method == TrafficMethod::Weighted => {
                return Err(Error::conflict(format!(
                    "{} {record_type} has no record sets to weigh",
                    traffic.record
                ))
                .hint("create one weighted record a Region first, or use `method: alias`"));
            }
            [] => changes.push(upsert(pointed(simple(traffic, record_type), target))),
            [one] if one.routing == Routing::Simple => {
                if traffic.method == TrafficMethod::Weighted {
                    return Err(Error::conflict(format!(
                        "{} {record_type} is a simple record, the topology says weighted",
                        traffic.record
                    ))
                    .hint("say `method: alias`, or turn the record into weighted ones first"));
                }
                let mut moved = pointed((*one).clone(), target);
                if one.alias.is_none() {
                    // A plain record becomes an alias; its health check belonged to the old address.
                    moved.health_check_id = None;
                }
                if !points_at(one, target) {
                    changes.push(upsert(moved));
                }
            }
            many => match many[0].routing {
                Routing::Weighted { .. } => weigh(traffic, region, target, many, &mut changes)?,
                Routing::Failover { .. } => swap(traffic, target, many, &mut changes)?,
                _ => {
                    return Err(Error::conflict(format!(
                        "{} {record_type} has record sets of several kinds",
                        traffic.record
                    )));
                }
            },
        }
    }
    Ok(changes)
}

/// Whether the record sets that are there can be switched to `region` at all: told while the plan is made, not after
/// the promotion.
///
/// # Errors
/// As [`batch`]'s.
pub(crate) fn can_switch(
    topology: &Topology,
    name: &str,
    region: &RegionId,
    existing: &[RecordSet],
) -> Result<()> {
    let (traffic, target) = topology.traffic(name, region)?;
    let is = |r: &RecordSet| r.record_type == RecordType::Cname;
    let cname = traffic.types.contains(&RecordType::Cname);
    if existing.iter().any(|r| is(r) != cname) {
        let there = if cname { "addresses" } else { "a CNAME" };
        return Err(Error::conflict(format!("{} has {there}, which `types` does not say", traffic.record))
            .hint("say in `types` what Route 53 has: a name has either addresses or a CNAME"));
    }
    batch(traffic, region, target, existing).map(drop)
}

fn upsert(record: RecordSet) -> RecordChange {
    RecordChange { action: ChangeAction::Upsert, record }
}

fn simple(traffic: &Traffic, record_type: RecordType) -> RecordSet {
    RecordSet {
        name: traffic.record.clone(),
        record_type,
        set_identifier: None,
        routing: Routing::Simple,
        ttl_s: None,
        values: Vec::new(),
        alias: None,
        health_check_id: None,
    }
}

/// All to this Region, nothing to the others, together: never all 0, which would mean equal shares.
/// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ResourceRecordSet.html>
fn weigh(
    traffic: &Traffic,
    region: &RegionId,
    target: &TrafficIn,
    sets: &[&RecordSet],
    changes: &mut Vec<RecordChange>,
) -> Result<()> {
    let weight_of = |r: &RecordSet| match r.routing {
        Routing::Weighted { weight } => Ok(weight),
        _ => Err(Error::conflict(format!("{} has record sets of several kinds", traffic.record))),
    };
    let full = sets
        .iter()
        .map(|r| weight_of(r))
        .collect::<Result<Vec<u8>>>()?
        .into_iter()
        .max()
        .unwrap_or(0)
        .max(100);
    let mut mine = 0;
    for set in sets {
        let here = points_at(set, target);
        mine += u32::from(here);
        let weight = if here { full } else { 0 };
        // An equal weight needs no change, but one full record of ours is enough.
        let already = if here { weight_of(set)? > 0 } else { weight_of(set)? == 0 };
        if !already {
            changes.push(upsert(RecordSet { routing: Routing::Weighted { weight }, ..(*set).clone() }));
        }
    }
    if mine == 0 {
        // A set that carries this Region's name is its own, wherever it points now.
        let own = sets.iter().find(|s| s.set_identifier.as_deref() == Some(region.as_str()));
        let base = own.map_or_else(|| simple(traffic, sets[0].record_type), |s| (**s).clone());
        let mut record = pointed(base, target);
        record.set_identifier = Some(region.to_string());
        record.routing = Routing::Weighted { weight: full };
        changes.retain(|change| change.record.set_identifier != record.set_identifier);
        changes.push(upsert(record));
    }
    Ok(())
}

/// The primary's answer becomes this Region's; the secondary gets what the primary was. Roles and identifiers
/// stay, so that the pair is legal at every moment; each health check goes with the target that it watches.
fn swap(
    traffic: &Traffic,
    target: &TrafficIn,
    sets: &[&RecordSet],
    changes: &mut Vec<RecordChange>,
) -> Result<()> {
    let by_role = |wanted: bool| sets.iter().find(|r| r.routing == Routing::Failover { primary: wanted });
    let (Some(primary), Some(secondary)) = (by_role(true), by_role(false)) else {
        return Err(Error::conflict(format!(
            "{} is a failover record without both a primary and a secondary",
            traffic.record
        ))
        .hint("make the pair complete first"));
    };
    if points_at(primary, target) {
        return Ok(());
    }
    if !points_at(secondary, target) {
        return Err(Error::conflict(format!(
            "neither failover record of {} points at {}",
            traffic.record, target.load_balancer
        ))
        .hint("mend the secondary record, or the topology"));
    }
    let with_target_of = |role: &RecordSet, other: &RecordSet| RecordSet {
        alias: other.alias.clone(),
        values: other.values.clone(),
        ttl_s: other.ttl_s,
        health_check_id: other.health_check_id.clone(),
        ..role.clone()
    };
    changes.push(upsert(with_target_of(primary, secondary)));
    changes.push(upsert(with_target_of(secondary, primary)));
    Ok(())
}

/// The changes that bring back `before` from `now`.
fn restore(before: &[RecordSet], now: &[RecordSet]) -> Vec<RecordChange> {
    let key = |r: &RecordSet| (r.record_type, r.set_identifier.clone());
    let mut changes: Vec<RecordChange> = now
        .iter()
        .filter(|r| !before.iter().any(|b| key(b) == key(r)))
        .map(|r| RecordChange { action: ChangeAction::Delete, record: r.clone() })
        .collect();
    changes.extend(before.iter().filter(|b| !now.contains(b)).cloned().map(upsert));
    changes
}

impl Switch {
    fn change_id(&self) -> Option<String> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn send(&self, cx: &StepCtx, changes: &[RecordChange]) -> Result<()> {
        let zone = zone_of(&cx.world, &self.traffic).await.map_err(read_only)?;
        let comment = format!("maip-dr run {}", cx.run);
        let id = cx.world.dns.change(&zone.id, &comment, changes).await?;
        *self.change.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        Ok(())
    }
}

/// A read that failed leaves nothing in doubt.
fn read_only(e: Error) -> Error {
    if e.kind == ErrorKind::InDoubt { Error { kind: ErrorKind::Unavailable, ..e } } else { e }
}

#[async_trait]
impl Step for Switch {
    fn summary(&self) -> String {
        format!("point {} at {}", self.traffic.record, self.target.load_balancer)
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::Inverse
    }
    fn calls(&self) -> Vec<ApiCall> {
        let home = RegionId::from(HOME);
        let zone = self.traffic.zone_id.as_deref().or(self.traffic.zone.as_deref()).unwrap_or_default();
        let resource = format!("record:{}/{}", zone, self.traffic.record);
        vec![
            ApiCall::reads("route53:ListHostedZonesByName", &home, Plane::Control, format!("zone:{zone}")),
            ApiCall::reads("route53:ListResourceRecordSets", &home, Plane::Control, &resource),
            ApiCall::mutates("route53:ChangeResourceRecordSets", &home, Plane::Control, &resource),
            ApiCall::reads("route53:GetChange", &home, Plane::Control, resource),
        ]
    }
    fn by_hand(&self) -> Vec<String> {
        let home = RegionId::from(HOME);
        let zone = self.traffic.zone.clone().unwrap_or_default();
        let types: Vec<Value> = self
            .traffic
            .types
            .iter()
            .map(|t| {
                json!({ "Action": "UPSERT", "ResourceRecordSet": { "Name": self.traffic.record, "Type": t, "AliasTarget": {
                    "HostedZoneId": self.target.hosted_zone_id, "DNSName": self.target.load_balancer, "EvaluateTargetHealth": true } } })
            })
            .collect();
        let id = self.traffic.zone_id.clone().unwrap_or_else(|| "ZONE_ID".to_owned());
        let list = format!(
            "route53 list-resource-record-sets --hosted-zone-id {id} --query \"ResourceRecordSets[?Name=='{}.']\"",
            self.traffic.record
        );
        let change = format!(
            "route53 change-resource-record-sets --hosted-zone-id {id} --change-batch '{}'",
            json!({ "Changes": types })
        );
        let mut lines = Vec::new();
        if self.traffic.zone_id.is_none() {
            lines.push(by_hand::aws(
                &self.topology,
                &home,
                &format!("route53 list-hosted-zones-by-name --dns-name {zone} --max-items 1"),
            ));
        }
        lines.push(by_hand::aws(&self.topology, &home, &list));
        lines.push(format!(
            "{}   # for a simple alias; weighted or failover records need their own batch",
            by_hand::aws(&self.topology, &home, &change)
        ));
        lines
    }
    fn timing(&self) -> Timing {
        Timing { settle: Duration::from_secs(15), ..Timing::secs(45, 10 * 60) }
    }

    async fn wait(&self, cx: &StepCtx) {
        // Often at first, then once a second: Route 53 allows an account five requests a second.
        // <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html#limits-api-requests>
        let waited = cx.started.as_ref().map_or(0.0, |started| seconds_between(started.at, cx.now()));
        cx.clock().sleep(Duration::from_secs_f64((waited / 4.0).clamp(0.25, 1.0))).await;
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        if let Some(id) = self.change_id() {
            match cx.world.dns.change_status(&id).await? {
                ChangeStatus::Pending => {
                    return Ok(Observed::Underway("the change is on its way to the name servers".into()));
                }
                ChangeStatus::InSync => {}
            }
        }
        let (zone, existing) = records(&cx.world, &self.traffic).await?;
        let changes = batch(&self.traffic, &self.params.region, &self.target, &existing)?;
        if changes.is_empty() {
            return Ok(Observed::Done(json!({
                "traffic": self.params.traffic, "record": self.traffic.record, "zone": zone.id, "change": self.change_id(),
                "records": existing, "detail": format!("{} points at {}", self.traffic.record, self.target.load_balancer),
            })));
        }
        Ok(Observed::NotDone { before: json!({ "zone": zone.id, "records": existing }) })
    }

    async fn apply(&self, cx: &StepCtx, _before: &Value) -> Result<()> {
        let (_, existing) = records(&cx.world, &self.traffic).await.map_err(read_only)?;
        let changes = batch(&self.traffic, &self.params.region, &self.target, &existing)?;
        if changes.is_empty() {
            return Ok(());
        }
        self.send(cx, &changes).await
    }

    async fn undo(&self, cx: &StepCtx, before: &Value) -> Result<()> {
        let before: Vec<RecordSet> =
            serde_json::from_value(before.get("records").cloned().unwrap_or_default())
                .map_err(|e| Error::corrupt(format!("the records of before cannot be read: {e}")))?;
        loop {
            let tried = async {
                let (_, now) = records(&cx.world, &self.traffic).await.map_err(read_only)?;
                let changes = restore(&before, &now);
                if changes.is_empty() { Ok(true) } else { self.send(cx, &changes).await.map(|()| false) }
            };
            match tried.await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(e)
                    if e.kind.is_transient()
                        || matches!(e.kind, ErrorKind::Conflict | ErrorKind::InDoubt) =>
                {
                    cx.note(&e.one_line())
                }
                Err(e) => return Err(e),
            }
            cx.clock().sleep(Duration::from_secs(2)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Health;

    fn lb(region: &str) -> TrafficIn {
        TrafficIn {
            load_balancer: format!("alb-1.{region}.elb.amazonaws.com"),
            hosted_zone_id: format!("Z{region}"),
            connect: None,
        }
    }
    fn traffic(method: TrafficMethod) -> Traffic {
        let regions = ["us-east-1", "us-west-2"].map(|r| (RegionId::from(r), lb(r))).into();
        Traffic {
            zone: Some("example.com".into()),
            zone_id: None,
            record: "api.example.com".into(),
            types: vec![RecordType::A],
            method,
            regions,
            health: Health { url: "https://api.example.com/".into(), status: 200 },
            resolvers: vec![],
        }
    }
    fn record(region: &str, id: Option<&str>, routing: Routing) -> RecordSet {
        RecordSet {
            set_identifier: id.map(Into::into),
            routing,
            ..pointed(simple(&traffic(TrafficMethod::Alias), RecordType::A), &lb(region))
        }
    }
    fn west(method: TrafficMethod, existing: &[RecordSet]) -> Result<Vec<RecordChange>> {
        batch(&traffic(method), &RegionId::from("us-west-2"), &lb("us-west-2"), existing)
    }
    fn applied(existing: &[RecordSet], changes: &[RecordChange]) -> Vec<RecordSet> {
        let mut all = existing.to_vec();
        for change in changes {
            all.retain(|r| {
                (r.record_type, &r.set_identifier)
                    != (change.record.record_type, &change.record.set_identifier)
            });
            if change.action != ChangeAction::Delete {
                all.push(change.record.clone());
            }
        }
        all
    }

    #[test]
    fn an_alias_is_pointed_elsewhere_once() {
        let east = [record("us-east-1", None, Routing::Simple)];
        let changes = west(TrafficMethod::Alias, &east).unwrap();
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].record.alias.as_ref().unwrap().hosted_zone_id, "Zus-west-2");
        assert!(west(TrafficMethod::Alias, &applied(&east, &changes)).unwrap().is_empty());
    }

    #[test]
    fn weights_move_together_and_are_never_all_zero() {
        let sets = [
            record("us-east-1", Some("east"), Routing::Weighted { weight: 100 }),
            record("us-west-2", Some("west"), Routing::Weighted { weight: 0 }),
        ];
        let changes = west(TrafficMethod::Weighted, &sets).unwrap();
        assert_eq!(changes.len(), 2);
        let after = applied(&sets, &changes);
        let weights: Vec<_> =
            after.iter().map(|r| (r.set_identifier.clone().unwrap(), r.routing.clone())).collect();
        assert!(weights.contains(&("west".into(), Routing::Weighted { weight: 100 })));
        assert!(weights.contains(&("east".into(), Routing::Weighted { weight: 0 })));
        assert!(west(TrafficMethod::Weighted, &after).unwrap().is_empty());
        let lonely = west(TrafficMethod::Weighted, &sets[..1]).unwrap();
        assert!(lonely.iter().any(|c| c.record.set_identifier.as_deref() == Some("us-west-2")));
    }

    #[test]
    fn a_failover_pair_changes_places_and_health_checks_go_with_their_targets() {
        let mut sets = [
            record("us-east-1", Some("one"), Routing::Failover { primary: true }),
            record("us-west-2", Some("two"), Routing::Failover { primary: false }),
        ];
        sets[0].health_check_id = Some("hc-east".into());
        let changes = west(TrafficMethod::Alias, &sets).unwrap();
        let after = applied(&sets, &changes);
        let primary = after.iter().find(|r| r.routing == Routing::Failover { primary: true }).unwrap();
        assert_eq!(primary.alias.as_ref().unwrap().hosted_zone_id, "Zus-west-2");
        assert_eq!(primary.health_check_id, None);
        let secondary = after.iter().find(|r| r.routing == Routing::Failover { primary: false }).unwrap();
        assert_eq!(secondary.health_check_id.as_deref(), Some("hc-east"));
        assert!(west(TrafficMethod::Alias, &after).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_switched_is_refused() {
        let latency = record("us-east-1", Some("x"), Routing::Other { name: "latency".into() });
        assert_eq!(west(TrafficMethod::Alias, &[latency]).unwrap_err().kind, ErrorKind::Conflict);
        let plain = record("us-east-1", None, Routing::Simple);
        assert_eq!(west(TrafficMethod::Weighted, &[plain]).unwrap_err().kind, ErrorKind::Conflict);
    }

    #[test]
    fn undo_restores_exactly_what_was() {
        let before = vec![record("us-east-1", Some("east"), Routing::Weighted { weight: 7 })];
        let changes = west(TrafficMethod::Weighted, &before).unwrap();
        let now = applied(&before, &changes);
        assert_ne!(now, before);
        assert_eq!(applied(&now, &restore(&before, &now)), before);
    }
}

//! The whole world as data, and its physics as pure functions of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::{after, seconds_between};
use crate::duration::Span;
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::service::{
    ChangeAction, ChangeStatus, Instance, LagSample, LatencySample, Notice, RecordChange, RecordSet,
    RecordType, Routing, Table, Zone,
};
use crate::sim::cluster::ClusterState;
use crate::sim::scenario::{Durations, FaultKind, PrimaryState, Scenario};
use crate::topology::{Topology, Traffic, TrafficMethod};

/// The account of every sandbox.
pub(super) const ACCOUNT: &str = "123456789012";

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorldState {
    /// The present.
    pub now: Timestamp,
    /// When it was reset.
    pub began: Timestamp,
    /// How it began.
    pub scenario: Scenario,
    /// The topology it was made for.
    pub topology: Topology,
    random: u64,
    /// Its Regions.
    pub regions: BTreeMap<RegionId, RegionState>,
    /// Hosted zones by id.
    pub zones: BTreeMap<String, ZoneState>,
    /// When each change is at every server.
    changes: BTreeMap<String, Timestamp>,
    /// Strikes of each fault.
    strikes: Vec<u32>,
    /// Calls by `Region api`.
    pub calls: BTreeMap<String, CallCount>,
    /// The mutating calls that were performed, in order.
    pub mutations: Vec<Mutation>,
    /// The notices that were sent.
    pub notices: Vec<Notice>,
}

/// How often an API was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallCount {
    /// Calls, answered or not.
    pub calls: u64,
    /// Whether it changes something.
    pub mutates: bool,
}

/// A mutating call that was performed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutation {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub region: RegionId,
    /// What.
    pub api: String,
    /// On what.
    pub resource: String,
}

/// One Region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegionState {
    /// Since when our calls are not answered.
    pub apis_silent_since: Option<Timestamp>,
    /// Since when its users get no answer.
    pub users_silent_since: Option<Timestamp>,
    /// Databases.
    pub databases: Vec<Db>,
    /// Clusters, by logical name.
    pub clusters: BTreeMap<String, ClusterState>,
    /// Kafka clusters by name, and their state.
    pub streams: BTreeMap<String, String>,
    /// Tables by name, and their status.
    pub tables: BTreeMap<String, String>,
}

/// A database instance and what is happening to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Db {
    /// What it was before whatever is happening.
    pub instance: Instance,
    /// When a promotion was accepted.
    pub promoted_at: Option<Timestamp>,
    /// When a rename was accepted.
    pub renamed_at: Option<Timestamp>,
    /// A status that somebody staged.
    pub forced_status: Option<String>,
    /// What happened.
    pub events: Vec<(Timestamp, String)>,
}

/// One hosted zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ZoneState {
    /// Its name.
    pub zone: Zone,
    /// What its API shows.
    pub records: Vec<RecordSet>,
    /// What its servers answer, from when on; newest last.
    pub served: Vec<(Timestamp, Vec<RecordSet>)>,
}

impl Db {
    /// The instance as its service describes it at `now`.
    pub fn view(&self, now: Timestamp, d: &Durations) -> Instance {
        let mut seen = self.instance.clone();
        if let Some(at) = self.promoted_at {
            let begun = after(at, d.promotion_shows.0);
            let rebooting = after(begun, d.promotion.0 / 2);
            let restarted = after(begun, d.promotion.0);
            let done = after(restarted, d.backing_up.0);
            if now >= restarted {
                seen.replica_source = None;
                seen.replication = None;
            }
            if now >= done {
                seen.status = "available".to_owned();
            } else if now >= restarted {
                seen.status = "backing-up".to_owned();
            } else if now >= rebooting {
                seen.status = "rebooting".to_owned();
            } else if now >= begun {
                seen.status = "modifying".to_owned();
            }
        }
        if self.renamed_at.is_some_and(|at| now < after(at, d.rename.0)) {
            seen.status = "renaming".to_owned();
        }
        if let Some(status) = &self.forced_status {
            seen.status.clone_from(status);
        }
        seen
    }
}

impl WorldState {
    /// The world of `topology` at `at`, with the primary as the writer and the standbys as its replicas.
    pub fn new(topology: &Topology, scenario: &Scenario, seed: u64, at: Timestamp) -> Self {
        let lost_at = at
            .checked_sub(jiff::SignedDuration::try_from(scenario.lost_for.0).unwrap_or_default())
            .unwrap_or(at);
        let mut state = Self {
            now: at,
            began: at,
            scenario: scenario.clone(),
            topology: topology.clone(),
            random: seed ^ 0x9e37_79b9_7f4a_7c15,
            regions: BTreeMap::new(),
            zones: BTreeMap::new(),
            changes: BTreeMap::new(),
            strikes: vec![0; scenario.faults.len()],
            calls: BTreeMap::new(),
            mutations: Vec::new(),
            notices: Vec::new(),
        };
        for region in topology.region_ids() {
            let primary = *region == topology.primary;
            let gone = (primary && scenario.primary != PrimaryState::Healthy).then_some(lost_at);
            let dead = gone.filter(|_| scenario.primary == PrimaryState::Lost);
            let region_state = RegionState {
                apis_silent_since: gone,
                users_silent_since: dead,
                databases: databases(topology, region),
                clusters: topology
                    .clusters
                    .iter()
                    .filter_map(|(name, c)| {
                        let here = c.regions.get(region)?;
                        Some((name.clone(), ClusterState::new(name, c, here, at)))
                    })
                    .collect(),
                streams: topology
                    .streams
                    .values()
                    .filter_map(|s| s.regions.get(region))
                    .map(|s| (s.msk.clone(), "ACTIVE".to_owned()))
                    .collect(),
                tables: topology.tables.values().map(|t| (t.dynamodb.clone(), "ACTIVE".to_owned())).collect(),
            };
            state.regions.insert(region.clone(), region_state);
        }
        for (i, traffic) in topology.traffic.values().enumerate() {
            let name = traffic.zone.clone().unwrap_or_else(|| parent(&traffic.record));
            let id = traffic.zone_id.clone().unwrap_or_else(|| format!("ZSANDBOX{i}"));
            let known = state.zones.values().find(|z| z.zone.name == name).map(|z| z.zone.id.clone());
            let zone = state.zones.entry(known.unwrap_or_else(|| id.clone())).or_insert_with(|| ZoneState {
                zone: Zone { id, name, private: false },
                records: Vec::new(),
                served: Vec::new(),
            });
            zone.records.extend(first_records(topology, traffic));
            zone.served = vec![(Timestamp::MIN, zone.records.clone())];
        }
        state
    }

    /// A number below `below`, from the seed.
    pub(super) fn draw(&mut self) -> f64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Lets time pass.
    pub fn advance(&mut self, to: Timestamp) {
        if to <= self.now {
            return;
        }
        self.now = to;
        let (durations, capacity) = (&self.scenario.durations, self.scenario.capacity);
        for region in self.regions.values_mut() {
            for cluster in region.clusters.values_mut() {
                cluster.advance(to, durations, capacity);
            }
        }
    }

    /// How long things take.
    pub fn durations(&self) -> &Durations {
        &self.scenario.durations
    }

    pub(super) fn region(&self, id: &RegionId) -> Result<&RegionState> {
        self.regions.get(id).ok_or_else(|| Error::invalid(format!("the sandbox has no Region {id}")))
    }

    pub(super) fn region_mut(&mut self, id: &RegionId) -> Result<&mut RegionState> {
        self.regions.get_mut(id).ok_or_else(|| Error::invalid(format!("the sandbox has no Region {id}")))
    }

    /// What strikes a call to `api` in `region` now, if anything. Counts the call.
    pub(super) fn strike(&mut self, region: &RegionId, api: &str, mutates: bool) -> Option<FaultKind> {
        let count = self.calls.entry(format!("{region} {api}")).or_default();
        count.calls += 1;
        count.mutates = mutates;
        // Route 53 answers from wherever it still can: its API is lost only where a fault says so.
        let global = api.starts_with("route53:");
        if !global
            && self.regions.get(region).is_some_and(|r| r.apis_silent_since.is_some_and(|at| at <= self.now))
        {
            return Some(FaultKind::Silent);
        }
        let passed = self.now - self.began;
        for i in 0..self.scenario.faults.len() {
            let fault = self.scenario.faults[i].clone();
            let span = |s: Span| jiff::SignedDuration::try_from(s.0).unwrap_or(jiff::SignedDuration::MAX);
            let fits = passed >= span(fault.from)
                && fault.until.is_none_or(|until| passed < span(until))
                && fault.region.as_ref().is_none_or(|r| r == region)
                && fault.api.as_ref().is_none_or(|a| api.starts_with(a.as_str()))
                && fault.times.is_none_or(|times| self.strikes[i] < times);
            if fits && (fault.probability >= 1.0 || self.draw() < fault.probability) {
                self.strikes[i] += 1;
                return Some(fault.does);
            }
        }
        None
    }

    // --- databases -------------------------------------------------------------------------------------------

    pub(super) fn instance(&self, region: &RegionId, id: &str) -> Result<Instance> {
        self.db(region, id).map(|db| db.view(self.now, self.durations()))
    }

    fn db(&self, region: &RegionId, id: &str) -> Result<&Db> {
        let found = self.region(region)?.databases.iter().find(|db| db.instance.id == id);
        found.ok_or_else(|| no_instance(region, id))
    }

    fn db_mut(&mut self, region: &RegionId, id: &str) -> Result<&mut Db> {
        let found = self.region_mut(region)?.databases.iter_mut().find(|db| db.instance.id == id);
        found.ok_or_else(|| no_instance(region, id))
    }

    pub(super) fn promote(&mut self, region: &RegionId, id: &str, retention_days: u32) -> Result<()> {
        let seen = self.instance(region, id)?;
        let now = self.now;
        let db = self.db_mut(region, id)?;
        if seen.replica_source.is_none() || seen.status != "available" || db.promoted_at.is_some() {
            return Err(Error::conflict(format!("{id} is {} and cannot be promoted", seen.status)));
        }
        db.instance.backup_retention_days = retention_days;
        db.promoted_at = Some(now);
        db.events.push((now, "Promoting the read replica to a stand-alone instance".to_owned()));
        Ok(())
    }

    pub(super) fn rename(&mut self, region: &RegionId, from: &str, to: &str) -> Result<()> {
        let seen = self.instance(region, from)?;
        if self.db(region, to).is_ok() {
            return Err(Error::conflict(format!("there is a {to} already")));
        }
        if seen.status != "available" {
            return Err(Error::conflict(format!("{from} is {}", seen.status)));
        }
        let now = self.now;
        let db = self.db_mut(region, from)?;
        db.renamed_at = Some(now);
        to.clone_into(&mut db.instance.id);
        db.instance.arn = db.instance.arn.replace(&format!(":db:{from}"), &format!(":db:{to}"));
        let (old, new) = (format!(":db:{from}"), format!(":db:{to}"));
        for db in self.regions.values_mut().flat_map(|r| &mut r.databases) {
            if let Some(source) = &mut db.instance.replica_source {
                *source = source.replace(&old, &new);
            }
        }
        Ok(())
    }

    /// One sample a minute; after the loss of the source the lag is the time since its last commit.
    pub(super) fn lag(&self, region: &RegionId, id: &str, since: Timestamp) -> Result<Vec<LagSample>> {
        let seen = self.instance(region, id)?;
        let (Some(base), true) = (self.scenario.replica_lag_s, seen.replica_source.is_some()) else {
            return Ok(Vec::new());
        };
        // A partitioned primary goes on committing and replicating; only a lost one stops.
        let lost = self.regions.values().filter_map(|r| r.users_silent_since).min();
        let first = since.as_second().div_euclid(60) * 60 + 60;
        Ok((first..=self.now.as_second())
            .step_by(60)
            .filter_map(|s| Timestamp::from_second(s).ok())
            .map(|at| {
                let grown = lost.filter(|lost| *lost < at).map_or(0.0, |lost| seconds_between(lost, at));
                LagSample { at, seconds: base + grown }
            })
            .collect())
    }

    pub(super) fn db_events(
        &self,
        region: &RegionId,
        id: &str,
        since: Timestamp,
    ) -> Result<Vec<(Timestamp, String)>> {
        Ok(self.db(region, id)?.events.iter().filter(|(at, _)| *at >= since).cloned().collect())
    }

    /// The names of the instances that take writes from users now.
    pub fn writers(&self) -> Vec<(RegionId, String)> {
        let d = self.durations();
        self.regions
            .iter()
            .flat_map(|(id, region)| region.databases.iter().map(move |db| (id, db.view(self.now, d))))
            .filter(|(_, seen)| {
                seen.replica_source.is_none() && matches!(seen.status.as_str(), "available" | "backing-up")
            })
            .map(|(id, seen)| (id.clone(), seen.id))
            .collect()
    }

    // --- tables ----------------------------------------------------------------------------------------------

    pub(super) fn table(&self, region: &RegionId, name: &str) -> Result<Table> {
        let missing = || Error::not_found(format!("there is no table {name} in {region}"));
        let status = self.region(region)?.tables.get(name).ok_or_else(missing)?.clone();
        let replicas = self
            .regions
            .iter()
            .filter(|(id, _)| *id != region)
            .filter_map(|(id, r)| Some((id.clone(), r.tables.get(name)?.clone())))
            .collect();
        Ok(Table { status, replicas })
    }

    pub(super) fn latency(&self, region: &RegionId, since: Timestamp) -> Vec<LatencySample> {
        let Some(milliseconds) = self.scenario.replication_latency_ms else { return Vec::new() };
        // A receiver that is gone receives nothing: no samples from then on.
        let lost = self
            .regions
            .iter()
            .filter(|(id, _)| *id != region)
            .filter_map(|(_, r)| r.users_silent_since)
            .min();
        let first = since.as_second().div_euclid(60) * 60 + 60;
        (first..=self.now.as_second())
            .step_by(60)
            .filter_map(|s| Timestamp::from_second(s).ok())
            .filter(|at| lost.is_none_or(|lost| *at < lost))
            .map(|at| LatencySample { at, milliseconds })
            .collect()
    }

    // --- DNS -------------------------------------------------------------------------------------------------

    pub(super) fn zone(&self, id: &str) -> Result<&ZoneState> {
        self.zones.get(id).ok_or_else(|| Error::not_found(format!("there is no hosted zone {id}")))
    }

    /// Judges and applies a batch, all or nothing.
    pub(super) fn change(&mut self, zone_id: &str, changes: &[RecordChange]) -> Result<String> {
        let (now, takes) = (self.now, self.durations().dns.0);
        let topology = self.topology.clone();
        let id = format!("C{:08}", self.changes.len() + 1);
        let zone = self
            .zones
            .get_mut(zone_id)
            .ok_or_else(|| Error::not_found(format!("there is no hosted zone {zone_id}")))?;
        let records = judged(&topology, zone, changes)?;
        zone.records.clone_from(&records);
        let insync = after(now, takes);
        zone.served.push((insync, records));
        self.changes.insert(id.clone(), insync);
        Ok(id)
    }

    pub(super) fn change_status(&self, id: &str) -> Result<ChangeStatus> {
        let insync =
            self.changes.get(id).ok_or_else(|| Error::not_found(format!("there is no change {id}")))?;
        Ok(if *insync <= self.now { ChangeStatus::InSync } else { ChangeStatus::Pending })
    }

    /// A readable summary.
    pub(super) fn summary(&self) -> Value {
        let d = self.durations();
        let regions: BTreeMap<&RegionId, Value> = self
            .regions
            .iter()
            .map(|(id, r)| {
                let databases: BTreeMap<String, Value> = r
                    .databases
                    .iter()
                    .map(|db| db.view(self.now, d))
                    .map(|i| (i.id.clone(), json!({ "status": i.status, "source": i.replica_source, "replication": i.replication })))
                    .collect();
                let clusters: BTreeMap<&String, Value> = r.clusters.iter().map(|(n, c)| (n, c.summary(self.now))).collect();
                (id, json!({
                    "answers_us": r.apis_silent_since.is_none(), "answers_users": r.users_silent_since.is_none(),
                    "databases": databases, "clusters": clusters, "streams": r.streams, "tables": r.tables,
                }))
            })
            .collect();
        let records: Vec<&RecordSet> = self.zones.values().flat_map(|z| &z.records).collect();
        json!({
            "now": crate::journal::millis::text(self.now), "began": crate::journal::millis::text(self.began),
            "regions": regions, "records": records, "writers": self.writers(), "notices": self.notices.len(),
            "mutating_calls": self.mutations,
        })
    }
}

fn no_instance(region: &RegionId, id: &str) -> Error {
    Error::not_found(format!("there is no database instance {id} in {region}"))
}

fn parent(name: &str) -> String {
    name.split_once('.').map_or(name, |(_, rest)| rest).to_owned()
}

fn databases(topology: &Topology, region: &RegionId) -> Vec<Db> {
    topology
        .databases
        .values()
        .filter_map(|database| {
            let here = database.regions.get(region)?;
            let arn = |r: &RegionId, id: &str| format!("arn:aws:rds:{r}:{ACCOUNT}:db:{id}");
            let source = database
                .regions
                .get(&topology.primary)
                .filter(|_| *region != topology.primary)
                .map(|there| arn(&topology.primary, &there.instance));
            Some(Db {
                instance: Instance {
                    id: here.instance.clone(),
                    resource_id: format!("db-{}", here.instance.to_uppercase().replace('-', "")),
                    arn: arn(region, &here.instance),
                    engine: "postgres".to_owned(),
                    status: "available".to_owned(),
                    replication: source.as_ref().map(|_| "replicating".to_owned()),
                    backup_retention_days: if source.is_some() { 0 } else { database.backup_retention_days },
                    replica_source: source,
                    pending_changes: Vec::new(),
                    class: "db.r6g.xlarge".to_owned(),
                    endpoint: Some(format!("{}.sandbox.{region}.rds.amazonaws.com", here.instance)),
                    multi_az: *region == topology.primary,
                },
                promoted_at: None,
                renamed_at: None,
                forced_status: None,
                events: Vec::new(),
            })
        })
        .collect()
}

fn first_records(topology: &Topology, traffic: &Traffic) -> Vec<RecordSet> {
    let record = |region: &RegionId, record_type, routing: Routing| {
        let lb = traffic.regions.get(region)?;
        let cname = record_type == RecordType::Cname;
        Some(RecordSet {
            name: traffic.record.clone(),
            record_type,
            set_identifier: (routing != Routing::Simple).then(|| region.to_string()),
            routing,
            ttl_s: cname.then_some(60),
            values: if cname { vec![lb.load_balancer.clone()] } else { Vec::new() },
            alias: (!cname).then(|| crate::service::AliasTarget {
                dns_name: lb.load_balancer.clone(),
                hosted_zone_id: lb.hosted_zone_id.clone(),
                evaluate_target_health: true,
            }),
            health_check_id: None,
        })
    };
    let mut all = Vec::new();
    for &record_type in &traffic.types {
        match traffic.method {
            TrafficMethod::Alias => all.extend(record(&topology.primary, record_type, Routing::Simple)),
            TrafficMethod::Weighted => {
                for region in topology.region_ids() {
                    let weight = if *region == topology.primary { 100 } else { 0 };
                    all.extend(record(region, record_type, Routing::Weighted { weight }));
                }
            }
        }
    }
    all
}

/// The records after `changes`, or every reason why not.
fn judged(topology: &Topology, zone: &ZoneState, changes: &[RecordChange]) -> Result<Vec<RecordSet>> {
    let mut records = zone.records.clone();
    let mut reasons = Vec::new();
    for change in changes {
        let r = &change.record;
        let same = |o: &RecordSet| {
            (&o.name, o.record_type, &o.set_identifier) == (&r.name, r.record_type, &r.set_identifier)
        };
        let at = records.iter().position(same);
        if r.name != zone.zone.name && !r.name.ends_with(&format!(".{}", zone.zone.name)) {
            reasons.push(format!("{} is not in zone {}", r.name, zone.zone.name));
        }
        if r.alias.is_some() && r.ttl_s.is_some() {
            reasons.push(format!("{}: an alias has no TTL", r.name));
        }
        if let Some(alias) = &r.alias {
            let right = topology
                .traffic
                .values()
                .flat_map(|t| t.regions.values())
                .find(|lb| lb.load_balancer == alias.dns_name);
            if right.is_some_and(|lb| lb.hosted_zone_id != alias.hosted_zone_id) {
                reasons.push(format!(
                    "the alias target name {} does not lie within the target zone",
                    alias.dns_name
                ));
            }
        }
        match (change.action, at) {
            (ChangeAction::Delete, Some(i)) if records[i] == *r => {
                records.remove(i);
            }
            (ChangeAction::Delete, _) => {
                reasons.push(format!("{} {}: not found with these values", r.name, r.record_type))
            }
            (ChangeAction::Create, Some(_)) => {
                reasons.push(format!("{} {} exists already", r.name, r.record_type))
            }
            (_, Some(i)) => records[i] = r.clone(),
            (_, None) => {
                let kind = |o: &RecordSet| std::mem::discriminant(&o.routing);
                let others = records.iter().filter(|o| o.name == r.name && o.record_type == r.record_type);
                if others.clone().any(|o| kind(o) != kind(r) || r.routing == Routing::Simple) {
                    reasons.push(format!(
                        "{} {}: other record sets exist with the same name and type",
                        r.name, r.record_type
                    ));
                }
                records.push(r.clone());
            }
        }
    }
    if reasons.is_empty() {
        return Ok(records);
    }
    Err(reasons
        .into_iter()
        .fold(Error::invalid("the change batch is refused"), |e, reason| e.caused_by(reason)))
}

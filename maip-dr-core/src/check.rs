//! Can each Region serve, and is the pair protected? Reads everything, changes nothing.
//!
//! A Region's rows say whether it can serve; replication and where users are sent belong to the pair. What cannot
//! be read is a row that says UNKNOWN and why, never an error and never OK.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join, join_all, join3};
use serde::{Deserialize, Serialize};

use crate::clock::timeout;
use crate::duration::Span;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionId;
use crate::region::{Region, World};
use crate::service::{HttpQuestion, Instance, NodeGroup, PodProblem, RecordType, Stream, Workload};
use crate::steps::Watermark;
use crate::topology::{Cluster, ClusterIn, TableResource, Topology, Traffic, TrafficIn};

/// One row may take so long; then it is UNKNOWN.
const ROW: Duration = Duration::from_secs(8);

/// How something is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, but not as it should.
    Degraded,
    /// It did not tell.
    Unknown,
    /// It does not work.
    Down,
}

impl CheckStatus {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Degraded => "DEGRADED",
            Self::Unknown => "UNKNOWN",
            Self::Down => "DOWN",
        }
    }
}

impl fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What sort of thing a row is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// A database.
    Database,
    /// A Kubernetes cluster.
    Cluster,
    /// A Kafka cluster.
    Stream,
    /// A table.
    Table,
    /// A public name or a load balancer.
    Traffic,
}

impl CheckKind {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Cluster => "cluster",
            Self::Stream => "stream",
            Self::Table => "table",
            Self::Traffic => "traffic",
        }
    }
}

/// One thing in one Region, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CheckRow {
    /// Where it was read.
    pub region: RegionId,
    /// Its name.
    pub resource: String,
    /// What it is.
    pub kind: CheckKind,
    /// How it is.
    pub status: CheckStatus,
    /// Why.
    pub detail: String,
    /// What to do, where something is to be done.
    pub hint: Option<String>,
}

/// What was found, before it is known where.
#[derive(Debug, Clone)]
struct Found {
    status: CheckStatus,
    detail: String,
    hint: Option<String>,
    /// Nothing answered: no word from the other side at all.
    silent: bool,
}

impl Found {
    fn new(status: CheckStatus, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), hint: None, silent: false }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// A failure to read is DOWN only where the service says that the thing is not there.
    fn failed(error: &Error) -> Self {
        let (status, hint) = match error.kind {
            ErrorKind::NotFound => {
                (CheckStatus::Down, "check its name in the topology; an earlier failover may have renamed it")
            }
            ErrorKind::Denied => (
                CheckStatus::Unknown,
                "these credentials may not read it: check the profile or role under `regions`, and its permissions",
            ),
            ErrorKind::Throttled => (CheckStatus::Unknown, "it asks to slow down: try again in a minute"),
            _ => (CheckStatus::Unknown, "it did not answer, which alone does not say that it is down"),
        };
        let hint = error.hint.clone().unwrap_or_else(|| hint.to_owned());
        Self {
            silent: matches!(error.kind, ErrorKind::Unavailable | ErrorKind::InDoubt),
            ..Self::new(status, error.one_line()).hint(hint)
        }
    }
}

impl From<Result<Self>> for Found {
    fn from(result: Result<Self>) -> Self {
        result.unwrap_or_else(|e| Self::failed(&e))
    }
}

struct Row {
    row: CheckRow,
    silent: bool,
}

/// One row's question, bounded.
fn row<'a>(
    world: &'a World,
    region: &'a RegionId,
    kind: CheckKind,
    resource: String,
    question: impl Future<Output = Result<Found>> + Send + 'a,
) -> BoxFuture<'a, Row> {
    async move {
        let found = Found::from(timeout(&*world.clock, ROW, question).await.and_then(|r| r));
        let Found { status, detail, hint, silent } = found;
        Row { row: CheckRow { region: region.clone(), resource, kind, status, detail, hint }, silent }
    }
    .boxed()
}

/// Reads everything; with `region` only what says whether that one can serve.
///
/// # Errors
/// `Invalid` for a Region that the topology does not name. What cannot be read is a row.
pub async fn check(world: &World, topology: &Topology, region: Option<&RegionId>) -> Result<Vec<CheckRow>> {
    let mut regions: Vec<&RegionId> = topology.region_ids().collect();
    if let Some(only) = region {
        topology.other_than(only)?;
        regions.retain(|r| *r == only);
    }
    let mut asked = Vec::new();
    for id in &regions {
        asked.extend(region_rows(world, topology, world.region(id)?, id));
    }
    // What tells a lost Region from a lost network when only one Region is asked.
    let others: Vec<&RegionId> = topology.region_ids().filter(|r| !regions.contains(r)).collect();
    let controls = others.iter().map(|id| async move {
        let answer = match world.region(id) {
            Ok(there) => timeout(&*world.clock, ROW, there.identity().caller()).await.and_then(|r| r),
            Err(e) => Err(e),
        };
        match answer {
            Err(e) if e.kind.is_transient() => None,
            _ => Some((*id).clone()),
        }
    });
    let pair = async { if region.is_some() { Vec::new() } else { pair_rows(world, topology).await } };
    let (mut rows, pair, controls) = join3(join_all(asked), pair, join_all(controls)).await;
    let mut answering: BTreeSet<RegionId> = controls.into_iter().flatten().collect();
    answering.extend(rows.iter().filter(|r| !r.silent).map(|r| r.row.region.clone()));
    explain_silence(&mut rows, &answering);
    Ok(rows.into_iter().chain(pair).map(|r| r.row).collect())
}

/// Where a whole Region is silent, the hint says whose fault it is.
fn explain_silence(rows: &mut [Row], answering: &BTreeSet<RegionId>) {
    for Row { row, .. } in rows.iter_mut().filter(|r| !answering.contains(&r.row.region)) {
        let region = &row.region;
        row.hint = Some(match answering.iter().next() {
            Some(other) => {
                format!("{region} does not answer at all; {other} does: it is the Region, not your network")
            }
            None => {
                "no Region answers: it is this machine's network (or its proxy, VPN or DNS), not the Regions"
                    .to_owned()
            }
        });
    }
}

fn region_rows<'a>(
    world: &'a World,
    topology: &'a Topology,
    region: &'a Arc<dyn Region>,
    id: &'a RegionId,
) -> Vec<BoxFuture<'a, Row>> {
    let mut rows = Vec::new();
    for here in topology.databases.values().filter_map(|d| d.regions.get(id)) {
        let question = async move { Ok(database(&region.database().describe(&here.instance).await?)) };
        rows.push(row(world, id, CheckKind::Database, here.instance.clone(), question));
    }
    for (name, entry) in &topology.clusters {
        let Some(here) = entry.regions.get(id) else { continue };
        let resource = here.eks.clone().unwrap_or_else(|| name.clone());
        rows.push(row(world, id, CheckKind::Cluster, resource, cluster(region, name, entry, here)));
    }
    for here in topology.streams.values().filter_map(|s| s.regions.get(id)) {
        let question = async move {
            let seen = region.streams().describe(&here.msk).await?;
            let status = stream_status(&seen);
            let found = Found::new(status, seen.state);
            Ok(if status == CheckStatus::Ok {
                found
            } else {
                found.hint("look at the cluster in the MSK console")
            })
        };
        rows.push(row(world, id, CheckKind::Stream, here.msk.clone(), question));
    }
    for entry in topology.tables.values() {
        let question = async move { table(region, entry).await };
        rows.push(row(world, id, CheckKind::Table, entry.dynamodb.clone(), question));
    }
    for entry in topology.traffic.values() {
        let Some(here) = entry.regions.get(id) else { continue };
        let question = load_balancer(world, topology, region, id, entry, here);
        rows.push(row(world, id, CheckKind::Traffic, entry.record.clone(), question));
    }
    rows
}

/// What an instance says of itself.
fn database(seen: &Instance) -> Found {
    let role = match (&seen.replica_source, &seen.replication) {
        (None, None) => "writer".to_owned(),
        (Some(source), state) => {
            let name = source.rsplit(':').next().unwrap_or(source);
            format!("replica of {name}, {}", state.as_deref().unwrap_or("replication not told"))
        }
        (None, Some(state)) => format!("no source, but replication {state}"),
    };
    let detail = format!("{}, {role}", seen.status);
    let dead = ["failed", "stopped", "stopping", "deleting", "storage-full", "restore-error"];
    if dead.contains(&seen.status.as_str())
        || seen.status.starts_with("incompatible-")
        || seen.status.starts_with("inaccessible-")
    {
        return Found::new(CheckStatus::Down, detail)
            .hint("look at the instance's events in the RDS console");
    }
    match (seen.status.as_str(), &seen.replica_source, seen.replication.as_deref()) {
        ("available", None, None) => {
            let backups = if seen.backup_retention_days == 0 { "; automated backups are off" } else { "" };
            Found::new(CheckStatus::Ok, format!("{detail}{backups}"))
        }
        ("available", Some(_), Some("replicating")) => Found::new(CheckStatus::Ok, detail),
        ("available", Some(_), None) => Found::new(CheckStatus::Unknown, detail)
            .hint("ask again; a replica whose replication is not told may be stale"),
        ("available", ..) => Found::new(CheckStatus::Degraded, detail)
            .hint("its data may be old: look at the replication's error before you rely on it"),
        _ => Found::new(CheckStatus::Degraded, detail).hint("it is not available: wait until it is"),
    }
}

/// The API, the nodes and what must run.
async fn cluster(region: &Arc<dyn Region>, name: &str, entry: &Cluster, here: &ClusterIn) -> Result<Found> {
    let service = region.workloads(name)?;
    let api = async { service.ready().await };
    let nodes = async { service.nodes().await };
    let groups = join_all(here.node_groups.keys().map(|group| async move {
        let eks = here.eks.as_deref().unwrap_or(name);
        (group, region.node_groups().describe(eks, group).await)
    }));
    let running = join_all(entry.workloads.iter().map(|(namespace, wanted)| {
        let service = &service;
        async move {
            let (deployments, problems) =
                join(service.deployments(namespace), service.problems(namespace)).await;
            let mut found = deployments?.items;
            if !wanted.stateful_sets.is_empty() {
                let sets = service.stateful_sets(namespace).await?.items;
                found.extend(sets.into_iter().filter(|s| wanted.stateful_sets.contains_key(&s.name)));
            }
            Ok((namespace, found, problems.unwrap_or_default()))
        }
    }));
    let ((api, nodes), (groups, running)) = join(join(api, nodes), join(groups, running)).await;
    api?;
    let mut parts = Vec::new();
    match nodes {
        Ok(nodes) => {
            let ready = nodes.items.iter().filter(|n| n.ready).count();
            let total = nodes.items.len();
            let text = format!("{ready} of {total} nodes Ready");
            parts.push(if ready < total || total == 0 {
                Found::new(CheckStatus::Degraded, text).hint("look at the nodes: `kubectl describe node`")
            } else {
                Found::new(CheckStatus::Ok, text)
            });
        }
        Err(e) => parts.push(Found::failed(&e)),
    }
    parts.extend(groups.into_iter().map(|(name, group)| match group {
        Ok(group) => node_group(&group),
        Err(e) => Found::failed(&e.context(format!("node group {name}"))),
    }));
    parts.extend(running.into_iter().map(|seen: Result<_>| match seen {
        Ok((namespace, workloads, problems)) => namespace_found(namespace, &workloads, &problems),
        Err(e) => Found::failed(&e),
    }));
    Ok(worst(parts))
}

/// What a stream's state means for whoever produces and consumes.
/// <https://docs.aws.amazon.com/msk/latest/developerguide/msk-cluster-states.html>
pub(crate) fn stream_status(stream: &Stream) -> CheckStatus {
    match stream.state.as_str() {
        "ACTIVE" => CheckStatus::Ok,
        "HEALING" | "MAINTENANCE" | "UPDATING" | "REBOOTING_BROKER" => CheckStatus::Degraded,
        "FAILED" | "DELETING" | "CREATING" => CheckStatus::Down,
        _ => CheckStatus::Unknown,
    }
}

fn node_group(group: &NodeGroup) -> Found {
    let text = format!("node group {} {} ({})", group.name, group.status, group.scaling);
    match (group.status.as_str(), group.issues.is_empty()) {
        ("ACTIVE", true) => Found::new(CheckStatus::Ok, text),
        _ => {
            Found::new(CheckStatus::Degraded, format!("{text} {}", group.issues.join("; ")).trim().to_owned())
                .hint("look at the node group's health issues in EKS")
        }
    }
}

fn namespace_found(namespace: &str, workloads: &[Workload], problems: &[PodProblem]) -> Found {
    let late: Vec<String> = workloads
        .iter()
        .filter(|w| !w.rolled_out())
        .map(|w| format!("{} {} of {} available", w.name, w.available, w.wanted()))
        .collect();
    if late.is_empty() && problems.is_empty() {
        return Found::new(
            CheckStatus::Ok,
            format!("{} workloads of {namespace} rolled out", workloads.len()),
        );
    }
    let mut all = late;
    all.extend(problems.iter().take(3).map(|p| format!("{}: {}: {}", p.pod, p.reason, p.message)));
    if problems.len() > 3 {
        all.push(format!("{} more pods", problems.len() - 3));
    }
    Found::new(CheckStatus::Degraded, format!("{namespace}: {}", all.join("; ")))
        .hint(format!("`kubectl -n {namespace} get pods` and `describe` the ones that are not Ready"))
}

/// The parts on one line, as bad as the worst of them.
fn worst(parts: Vec<Found>) -> Found {
    let status = parts.iter().map(|p| p.status).max().unwrap_or(CheckStatus::Unknown);
    let detail = parts.iter().map(|p| p.detail.as_str()).collect::<Vec<_>>().join("; ");
    let hint = parts.iter().find(|p| p.status == status).and_then(|p| p.hint.clone());
    let silent = parts.iter().all(|p| p.silent);
    Found { status, detail, hint, silent }
}

async fn table(region: &Arc<dyn Region>, entry: &TableResource) -> Result<Found> {
    let seen = region.tables().describe(&entry.dynamodb).await?;
    if seen.status != "ACTIVE" {
        return Ok(Found::new(CheckStatus::Degraded, seen.status).hint("wait until it is ACTIVE"));
    }
    let replicas: Vec<String> = seen.replicas.iter().map(|(r, status)| format!("{r} {status}")).collect();
    Ok(if seen.replicas.is_empty() {
        Found::new(CheckStatus::Degraded, "ACTIVE, but it has no replica")
            .hint("it is no global table: the other Region does not have its data")
    } else if seen.replicas.iter().all(|(_, status)| status == "ACTIVE") {
        Found::new(CheckStatus::Ok, format!("ACTIVE, replicated to {}", replicas.join(", ")))
    } else {
        Found::new(CheckStatus::Degraded, format!("ACTIVE, replicas: {}", replicas.join(", ")))
            .hint("look at the replica in the DynamoDB console")
    })
}

fn question(traffic: &Traffic, at: Option<&TrafficIn>) -> HttpQuestion {
    HttpQuestion {
        url: traffic.health.url.clone(),
        connect: at.map(|lb| lb.connect.clone().unwrap_or_else(|| lb.load_balancer.clone())),
        resolvers: traffic.resolvers.clone(),
        limit: Duration::from_secs(5),
    }
}

/// The Region's load balancer, asked directly with the public name.
async fn load_balancer(
    world: &World,
    topology: &Topology,
    region: &Arc<dyn Region>,
    id: &RegionId,
    traffic: &Traffic,
    here: &TrafficIn,
) -> Result<Found> {
    let asked = question(traffic, Some(here));
    let instances = topology.databases.values().filter_map(|d| d.regions.get(id));
    let roles =
        join_all(instances.map(|here| async move { region.database().describe(&here.instance).await }));
    let (answer, roles) = join(world.probe.http(&asked), roles).await;
    let answer = answer?;
    let text = format!("its load balancer answers {}", answer.status);
    if answer.status == traffic.health.status {
        return Ok(Found::new(CheckStatus::Ok, text));
    }
    let replica = roles.iter().any(|r| r.as_ref().is_ok_and(|i| i.replica_source.is_some()));
    Ok(if replica {
        // A standby that says so is as it should be; whether it will serve shows only after a promotion.
        Found::new(CheckStatus::Ok, format!("{text}: expected of a standby, whose database is a replica"))
    } else {
        Found::new(CheckStatus::Down, format!("{text}, not {}", traffic.health.status))
            .hint("are its targets healthy, and does the application reach its database?")
    })
}

/// What belongs to the pair: replication, and where users are sent.
async fn pair_rows(world: &World, topology: &Topology) -> Vec<Row> {
    let databases = join_all(topology.databases.keys().map(|name| replication(world, topology, name)));
    let tables = join_all(topology.tables.values().map(|entry| {
        // Both ways at once; which of them counts is known once it is known which side is active.
        join_all(
            topology
                .region_ids()
                .map(move |from| async move { (from.clone(), latency(world, topology, entry, from).await) }),
        )
    }));
    let names = join_all(topology.traffic.values().map(|traffic| public(world, topology, traffic)));
    let (databases, tables, names) = join3(databases, tables, names).await;
    let active = names
        .iter()
        .find_map(|(_, region)| region.clone())
        .or_else(|| databases.iter().find_map(|(_, writer)| writer.clone()))
        .unwrap_or_else(|| topology.primary.clone());
    let tables =
        tables.into_iter().filter_map(|ways| ways.into_iter().find(|(from, _)| *from == active)).map(|w| w.1);
    let databases = databases.into_iter().map(|(row, _)| row);
    databases.chain(tables).chain(names.into_iter().map(|(row, _)| row)).collect()
}

/// Which side of a database writes, and how far the other is behind.
async fn replication(world: &World, topology: &Topology, name: &str) -> (Row, Option<RegionId>) {
    let Some(entry) = topology.databases.get(name) else {
        return (quiet(topology.primary.clone(), name.to_owned(), CheckKind::Database), None);
    };
    let sides = join_all(entry.regions.iter().map(|(id, here)| async move {
        let asked = async { world.region(id)?.database().describe(&here.instance).await };
        (id, here, timeout(&*world.clock, ROW, asked).await.and_then(|r| r))
    }))
    .await;
    let writer = sides.iter().find(|s| s.2.as_ref().is_ok_and(Instance::looks_writable)).map(|s| s.0.clone());
    let replica = sides.iter().find_map(|(id, here, seen)| {
        let seen = seen.as_ref().ok()?;
        seen.replica_source.is_some().then_some((*id, *here, seen))
    });
    let (region, resource, found) = match replica {
        Some((id, here, seen)) => {
            let found = async {
                let now = world.clock.now();
                let since = now.checked_sub(jiff::SignedDuration::from_mins(30)).unwrap_or(now);
                let samples = world.region(id)?.database().replica_lag(&here.instance, since).await?;
                let mark = Watermark::of(&samples, now, None, seen.replication.clone());
                Ok(lag(mark.lag_s, topology.objectives.rpo))
            };
            let found = timeout(&*world.clock, ROW, found).await.and_then(|r| r);
            (id.clone(), here.instance.clone(), Found::from(found))
        }
        None => {
            let unread: Vec<String> = sides
                .iter()
                .filter_map(|(id, _, seen)| Some(format!("{id}: {}", seen.as_ref().err()?.one_line())))
                .collect();
            let writers = sides.iter().filter(|s| s.2.as_ref().is_ok_and(Instance::looks_writable)).count();
            let found = if writers > 1 {
                Found::new(CheckStatus::Degraded, "both sides are writers: nothing is replicated")
                    .hint("make sure that only one of them is written to, then build a new replica")
            } else if unread.is_empty() || writer.is_some() {
                Found::new(CheckStatus::Degraded, "there is no replica: a loss of this Region loses the data")
                    .hint("build a new replica in the other Region")
            } else {
                Found::new(CheckStatus::Unknown, format!("no side could be read: {}", unread.join("; ")))
                    .hint("which side is the replica is unknown")
            };
            let id = writer.clone().unwrap_or_else(|| topology.primary.clone());
            let resource =
                entry.regions.get(&id).map_or_else(|| name.to_owned(), |here| here.instance.clone());
            (id, resource, found)
        }
    };
    (pair_row(region, resource, CheckKind::Database, found), writer)
}

fn lag(seconds: Option<f64>, objective: Span) -> Found {
    match seconds {
        None => {
            Found::new(CheckStatus::Unknown, "replication: the lag is missing, stale or not to be told (-1)")
                .hint("how much data a failover would lose is unknown: look at the replica")
        }
        Some(s) if s > objective.0.as_secs_f64() => Found::new(
            CheckStatus::Degraded,
            format!("replication: {s:.0} s behind, more than the objective {objective}"),
        )
        .hint("a failover now would lose more than the objective: find out what holds the replica up"),
        Some(s) => {
            Found::new(CheckStatus::Ok, format!("replication: {s:.0} s behind, objective {objective}"))
        }
    }
}

/// How long items take from `from` to the other Regions.
async fn latency(world: &World, topology: &Topology, entry: &TableResource, from: &RegionId) -> Row {
    let asked = async {
        let now = world.clock.now();
        let since = now.checked_sub(jiff::SignedDuration::from_mins(30)).unwrap_or(now);
        let service = world.region(from)?.tables();
        let mut parts = Vec::new();
        for to in topology.region_ids().filter(|to| *to != from) {
            let samples = service.replication_latency(&entry.dynamodb, to, since).await?;
            parts.push(match samples.last() {
                None => Found::new(CheckStatus::Unknown, format!("replication to {to}: no sample"))
                    .hint("without writes there is no sample; with writes, look at the table's metrics"),
                Some(s) if s.milliseconds > entry.lag_max.0.as_secs_f64() * 1000.0 => {
                    let text =
                        format!("replication to {to}: {:.0} ms, more than {}", s.milliseconds, entry.lag_max);
                    Found::new(CheckStatus::Degraded, text).hint(
                        "high write volume usually corrects itself; watch it, and do not fail over for it",
                    )
                }
                Some(s) => {
                    let text =
                        format!("replication to {to}: {:.0} ms, at most {}", s.milliseconds, entry.lag_max);
                    Found::new(CheckStatus::Ok, text)
                }
            });
        }
        Ok(worst(parts))
    };
    let found = Found::from(timeout(&*world.clock, ROW, asked).await.and_then(|r| r));
    pair_row(from.clone(), entry.dynamodb.clone(), CheckKind::Table, found)
}

/// Where the public name leads now, as its users see it, and what answers there.
async fn public(world: &World, topology: &Topology, traffic: &Traffic) -> (Row, Option<RegionId>) {
    let kind = traffic.types.iter().copied().find(|t| *t != RecordType::Cname).unwrap_or(RecordType::A);
    let server = traffic.resolvers.first().cloned();
    let lookup = async {
        let name = world.probe.dns(&traffic.record, kind, server.clone());
        let targets = join_all(traffic.regions.iter().map(|(id, lb)| {
            let asked = world.probe.dns(&lb.load_balancer, kind, server.clone());
            async move { (id.clone(), asked.await) }
        }));
        let (name, targets) = join(name, targets).await;
        let name = name?;
        let of = targets.into_iter().find(|(_, target)| {
            target.as_ref().is_ok_and(|t| t.addresses.iter().any(|a| name.addresses.contains(a)))
        });
        Ok((of.map(|(id, _)| id), name.addresses))
    };
    let answer = async {
        let asked = question(traffic, None);
        world.probe.http(&asked).await
    };
    let (pointed, answer) =
        join(async { timeout(&*world.clock, ROW, lookup).await.and_then(|r: Result<_>| r) }, async {
            timeout(&*world.clock, ROW, answer).await.and_then(|r| r)
        })
        .await;
    let (to, place) = match pointed {
        Ok((Some(to), _)) => (Some(to.clone()), format!("the public name points to {to}")),
        Ok((None, addresses)) => {
            let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let shown = if shown.is_empty() { "nothing".to_owned() } else { shown.join(" ") };
            (None, format!("the public name points to {shown}, which is in no Region of the topology"))
        }
        Err(e) => (None, format!("where the public name points is unknown ({})", e.one_line())),
    };
    let found = match answer {
        Ok(answer) if answer.status == traffic.health.status && to.is_some() => {
            Found::new(CheckStatus::Ok, format!("{place}; it answers {}", answer.status))
        }
        Ok(answer) if answer.status == traffic.health.status => {
            Found::new(CheckStatus::Degraded, format!("{place}; it answers {}", answer.status))
                .hint("do the record and the load balancers in the topology match Route 53?")
        }
        Ok(answer) => Found::new(CheckStatus::Down, format!("{place}; it answers {}", answer.status))
            .hint("users are not served there"),
        Err(e) => Found::new(CheckStatus::Unknown, format!("{place}; {}", e.one_line()))
            .hint("users are not served there, if others see the same"),
    };
    let region = to.clone().unwrap_or_else(|| topology.primary.clone());
    (pair_row(region, traffic.record.clone(), CheckKind::Traffic, found), to)
}

fn pair_row(region: RegionId, resource: String, kind: CheckKind, found: Found) -> Row {
    let Found { status, detail, hint, silent } = found;
    Row { row: CheckRow { region, resource, kind, status, detail, hint }, silent }
}

fn quiet(region: RegionId, resource: String, kind: CheckKind) -> Row {
    pair_row(region, resource, kind, Found::new(CheckStatus::Unknown, "it is not in the topology"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(status: &str, source: Option<&str>, replication: Option<&str>) -> Instance {
        Instance {
            id: "db".into(),
            resource_id: "db-1".into(),
            arn: "arn".into(),
            engine: "postgres".into(),
            status: status.into(),
            replica_source: source.map(Into::into),
            replication: replication.map(Into::into),
            backup_retention_days: 7,
            pending_changes: Vec::new(),
            class: "db.r6g.xlarge".into(),
            endpoint: None,
            multi_az: false,
        }
    }

    #[test]
    fn a_database_is_ok_as_a_writer_or_as_a_replica_that_replicates() {
        let status = |s, source, replication| database(&instance(s, source, replication)).status;
        assert_eq!(status("available", None, None), CheckStatus::Ok);
        assert_eq!(status("available", Some("arn:x:db:a"), Some("replicating")), CheckStatus::Ok);
        assert_eq!(status("available", Some("arn:x:db:a"), None), CheckStatus::Unknown);
        assert_eq!(status("available", Some("arn:x:db:a"), Some("error")), CheckStatus::Degraded);
        assert_eq!(status("modifying", None, None), CheckStatus::Degraded);
        assert_eq!(status("storage-full", None, None), CheckStatus::Down);
    }

    #[test]
    fn what_cannot_be_read_is_never_ok() {
        for kind in [
            ErrorKind::Denied,
            ErrorKind::Unavailable,
            ErrorKind::Throttled,
            ErrorKind::InDoubt,
            ErrorKind::Internal,
        ] {
            let found = Found::failed(&Error::new(kind, "x"));
            assert_eq!(found.status, CheckStatus::Unknown);
            assert!(found.hint.is_some());
        }
        assert_eq!(Found::failed(&Error::not_found("x")).status, CheckStatus::Down);
        assert_eq!(lag(None, Span::from_secs(60)).status, CheckStatus::Unknown);
        assert_eq!(lag(Some(61.0), Span::from_secs(60)).status, CheckStatus::Degraded);
        assert_eq!(
            worst(vec![Found::new(CheckStatus::Ok, "a"), Found::new(CheckStatus::Unknown, "b")]).status,
            CheckStatus::Unknown
        );
    }

    #[test]
    fn a_silent_region_is_told_from_a_silent_network() {
        let rows = || {
            let silent = Found { silent: true, ..Found::new(CheckStatus::Unknown, "no answer") };
            vec![pair_row("east".into(), "db".into(), CheckKind::Database, silent)]
        };
        let mut lost = rows();
        explain_silence(&mut lost, &BTreeSet::from([RegionId::from("west")]));
        assert!(lost[0].row.hint.as_deref().unwrap().contains("it is the Region"));
        let mut ours = rows();
        explain_silence(&mut ours, &BTreeSet::new());
        assert!(ours[0].row.hint.as_deref().unwrap().contains("this machine's network"));
    }
}

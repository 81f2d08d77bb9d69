//! What a plan must know of the world before it can be made: read once, in parallel, changing nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{join, join_all, try_join, try_join_all};
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, timeout};
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionId;
use crate::region::World;
use crate::service::{Caller, Instance, NodeGroup, RecordSet, Workload, Zone};
use crate::topology::{Topology, Traffic};

/// The facts. Those of the Region to go to must be there; those of the DNS may be missing when its API is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Survey {
    /// Who we are in the Region to go to.
    pub caller: Option<Caller>,
    /// The database in the Region to go to, by logical name.
    pub databases: BTreeMap<String, Instance>,
    /// Node groups there, by `cluster/group`.
    pub node_groups: BTreeMap<String, NodeGroup>,
    /// Deployments and StatefulSets there, by `cluster/namespace`.
    pub workloads: BTreeMap<String, Vec<Workload>>,
    /// Zone and record sets, by traffic name; absent when the DNS API did not answer.
    pub records: BTreeMap<String, (Zone, Vec<RecordSet>)>,
    /// What could not be read, in words.
    pub unknown: Vec<String>,
}

impl Survey {
    /// Reads everything that a plan towards `to` needs.
    ///
    /// # Errors
    /// The first failure to read something of the Region to go to, with where and what; `Refused` when we are
    /// in another account than the topology says.
    pub async fn take(world: &World, topology: &Topology, to: &RegionId) -> Result<Self> {
        let region = world.region(to)?.clone();
        // First, alone: without credentials everything below fails with less clear words.
        let clock = &*world.clock;
        let identity = region.identity();
        let caller = again(clock, || identity.caller())
            .await
            .map_err(|e| e.context(format!("cannot tell who we are in {to}")))?;
        check_account(topology, to, &caller)?;

        let databases = try_join_all(topology.databases.keys().map(|name| {
            let region = region.clone();
            async move {
                let (_, instance) = topology.instance(name, to)?;
                let service = region.database();
                let found = again(clock, || service.describe(instance)).await;
                found
                    .map(|i| (name.clone(), i))
                    .map_err(|e| unread(e, &format!("cannot read database {instance} in {to}"), "databases"))
            }
        }));
        let clusters = try_join_all(topology.clusters.keys().map(|name| {
            let region = region.clone();
            async move { cluster(clock, &*region, topology, name, to).await }
        }));
        let limit = Duration::from_secs(8);
        let records = join_all(topology.traffic.iter().map(|(name, traffic)| async move {
            let found = timeout(clock, limit, again(clock, || records(world, traffic))).await;
            (name, traffic, found.and_then(|r| r))
        }));
        let (records, found) = join(records, try_join(databases, clusters)).await;
        let (databases, clusters) = found?;
        let mut survey =
            Self { caller: Some(caller), databases: databases.into_iter().collect(), ..Self::default() };
        for (groups, workloads) in clusters {
            survey.node_groups.extend(groups);
            survey.workloads.extend(workloads);
        }
        for (name, traffic, found) in records {
            match found {
                Ok(found) => {
                    survey.records.insert(name.clone(), found);
                }
                Err(e) if e.kind.is_transient() || e.kind == ErrorKind::InDoubt => {
                    survey.unknown.push(format!("the records of {}: {}", traffic.record, e.one_line()));
                }
                Err(e) => {
                    return Err(unread(
                        e,
                        &format!("cannot read the records of {}", traffic.record),
                        "traffic",
                    ));
                }
            }
        }
        Ok(survey)
    }
}

/// A read that is asked to slow down is made again, a little later each time, for some six seconds in all.
async fn again<T, F>(clock: &dyn Clock, ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    for pause in [200, 400, 800, 1600, 3200] {
        match ask().await {
            Err(e) if e.kind == ErrorKind::Throttled => clock.sleep(Duration::from_millis(pause)).await,
            other => return other,
        }
    }
    ask().await
}

/// What could not be read; where it is simply not there, the topology may be wrong about its name.
fn unread(error: Error, what: &str, section: &str) -> Error {
    let error = error.context(what);
    if error.kind == ErrorKind::NotFound && error.hint.is_none() {
        return error.hint(format!("is its name right under `{section}` in the topology?"));
    }
    error
}

/// Refuses another account than the topology names.
///
/// # Errors
/// `Refused`.
pub fn check_account(topology: &Topology, region: &RegionId, caller: &Caller) -> Result<()> {
    match topology.access(region).account {
        Some(account) if account != caller.account => Err(Error::refused(format!(
            "these credentials are for account {}, but the topology says {account} in {region}",
            caller.account
        ))
        .hint("use the right profile or role; nothing was changed")
        .with("caller", &caller.arn)),
        _ => Ok(()),
    }
}

type ClusterFacts = (Vec<(String, NodeGroup)>, Vec<(String, Vec<Workload>)>);

async fn cluster(
    clock: &dyn Clock,
    region: &dyn crate::region::Region,
    topology: &Topology,
    name: &str,
    to: &RegionId,
) -> Result<ClusterFacts> {
    let (cluster, here) = topology.cluster(name, to)?;
    let eks = here.eks.as_deref().unwrap_or(name);
    let groups = try_join_all(here.node_groups.keys().map(|group| async move {
        let service = region.node_groups();
        let found = again(clock, || service.describe(eks, group)).await;
        found
            .map(|g| (format!("{name}/{group}"), g))
            .map_err(|e| unread(e, &format!("cannot read node group {group} of {eks} in {to}"), "clusters"))
    }));
    let workloads = try_join_all(cluster.workloads.iter().map(|(namespace, wanted)| async move {
        let service = region.workloads(name)?;
        let failed = |e: Error| {
            unread(
                e,
                &format!("cannot read the workloads of {namespace} in cluster {eks} ({to})"),
                "clusters",
            )
        };
        let mut found = again(clock, || service.deployments(namespace)).await.map_err(failed)?.items;
        if !wanted.stateful_sets.is_empty() {
            found.extend(again(clock, || service.stateful_sets(namespace)).await.map_err(failed)?.items);
        }
        Ok((format!("{name}/{namespace}"), found))
    }));
    try_join(groups, workloads).await
}

/// The one public zone of `traffic` and the record sets of its name.
///
/// # Errors
/// `NotFound` when there is no such public zone, `Conflict` when there are several.
pub async fn records(world: &World, traffic: &Traffic) -> Result<(Zone, Vec<RecordSet>)> {
    let zone = zone_of(world, traffic).await?;
    let records = world.dns.records(&zone.id, &traffic.record).await?;
    Ok((zone, records))
}

/// The one public zone of `traffic`.
///
/// # Errors
/// `NotFound` when there is none, `Conflict` when there are several.
pub async fn zone_of(world: &World, traffic: &Traffic) -> Result<Zone> {
    if let Some(id) = &traffic.zone_id {
        let zone = world.dns.zone(id).await?;
        if zone.private {
            return Err(Error::invalid(format!("zone {id} is private: the public does not see it"))
                .hint("name the public zone"));
        }
        return Ok(zone);
    }
    let name = traffic.zone.as_deref().unwrap_or_default();
    let mut public: Vec<Zone> = world.dns.zones(name).await?.into_iter().filter(|z| !z.private).collect();
    match (public.pop(), public.is_empty()) {
        (Some(zone), true) => Ok(zone),
        (None, _) => Err(Error::not_found(format!("there is no public hosted zone {name}"))
            .hint("check the zone's name and that these credentials belong to its account")),
        (Some(last), false) => {
            let ids: Vec<String> = public.into_iter().chain([last]).map(|z| z.id).collect();
            Err(Error::conflict(format!(
                "there are {} public hosted zones named {name}: {}",
                ids.len(),
                ids.join(", ")
            ))
            .hint("say which with zone_id instead of zone"))
        }
    }
}

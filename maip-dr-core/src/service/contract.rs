//! The conformance suite: what every backend must do, as the contracts of the service traits say it.
//!
//! It runs over a whole [`World`] in its starting state, changes it on the way, and gives back what did not hold, so
//! that the simulated world, the doubles and the real thing are held to the same words.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use crate::clock::after;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionId;
use crate::region::{Region, World};
use crate::service::{
    ChangeAction, ChangeStatus, HttpQuestion, RecordChange, RecordType, Scaling, Scope, UpdateStatus,
    WorkloadKind,
};
use crate::topology::Topology;

/// What is there for the suite to meet. Everything is taken from the topology; the world must be healthy.
#[derive(Debug)]
pub struct Given<'a> {
    /// The world.
    pub world: &'a World,
    /// What is in it.
    pub topology: &'a Topology,
    /// How long something may take to show, on the world's clock.
    pub patience: Duration,
}

/// What did not hold, one line each.
#[derive(Debug, Default)]
struct Verdicts(Vec<String>);

impl Verdicts {
    fn check(&mut self, holds: bool, rule: &str, seen: impl Debug) {
        if !holds {
            self.0.push(format!("{rule}: {seen:?}"));
        }
    }

    fn fails<T: Debug>(&mut self, result: &Result<T>, kind: ErrorKind, rule: &str) {
        self.check(matches!(result, Err(e) if e.kind == kind), &format!("{rule} is {kind}"), result);
    }

    fn holds<T: Debug>(&mut self, result: Result<T>, rule: &str) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                self.0.push(format!("{rule}: {}", e.one_line()));
                None
            }
        }
    }
}

const NOBODY: &str = "there-is-no-such-thing";

/// Runs the suite; an empty answer is a pass.
pub async fn violations(given: &Given<'_>) -> Vec<String> {
    let mut all = Verdicts::default();
    for id in given.topology.region_ids() {
        match given.world.region(id) {
            Ok(region) => in_region(given, region.as_ref(), id, &mut all).await,
            Err(e) => all.0.push(e.one_line()),
        }
    }
    dns(given, &mut all).await;
    probe(given, &mut all).await;
    databases(given, &mut all).await;
    all.0
}

async fn in_region(given: &Given<'_>, region: &dyn Region, id: &RegionId, all: &mut Verdicts) {
    all.check(region.id() == id, "a Region knows its name", region.id());
    let caller = all.holds(region.identity().caller().await, "the caller is told");
    let digits =
        caller.is_some_and(|c| c.account.len() == 12 && c.account.chars().all(|c| c.is_ascii_digit()));
    all.check(digits, "an account has twelve digits", id);
    streams(given, region, id, all).await;
    tables(given, region, id, all).await;
    for (name, cluster) in &given.topology.clusters {
        let Some(here) = cluster.regions.get(id) else { continue };
        if let Some(eks) = &here.eks {
            node_groups(given, region, eks, here.node_groups.keys(), all).await;
        }
        for namespace in cluster.workloads.keys() {
            workloads(given, region, name, namespace, all).await;
        }
    }
}

async fn streams(given: &Given<'_>, region: &dyn Region, id: &RegionId, all: &mut Verdicts) {
    let service = region.streams();
    all.fails(&service.describe(NOBODY).await, ErrorKind::NotFound, "an unknown stream");
    for here in given.topology.streams.values().filter_map(|s| s.regions.get(id)) {
        let found = all.holds(service.describe(&here.msk).await, "a stream is described");
        all.check(
            found.as_ref().is_some_and(|s| s.name == here.msk),
            "it is the one that was asked for",
            &found,
        );
        let prefix = &here.msk[..here.msk.len() - 1];
        all.fails(&service.describe(prefix).await, ErrorKind::NotFound, "a mere prefix of a stream's name");
    }
}

async fn tables(given: &Given<'_>, region: &dyn Region, id: &RegionId, all: &mut Verdicts) {
    let service = region.tables();
    all.fails(&service.describe(NOBODY).await, ErrorKind::NotFound, "an unknown table");
    let now = given.world.clock.now();
    let since = now.checked_sub(jiff::SignedDuration::from_mins(30)).unwrap_or(now);
    for table in given.topology.tables.values() {
        let found = all.holds(service.describe(&table.dynamodb).await, "a table is described");
        let replicas = found.map(|t| t.replicas).unwrap_or_default();
        all.check(
            replicas.iter().all(|(other, _)| other != id),
            "its replicas are those elsewhere",
            &replicas,
        );
        for other in given.topology.region_ids().filter(|other| *other != id) {
            let samples = service.replication_latency(&table.dynamodb, other, since).await;
            let samples = all.holds(samples, "replication latency is told").unwrap_or_default();
            all.check(samples.is_sorted_by_key(|s| s.at), "samples come oldest first", &samples);
            let none = service.replication_latency(NOBODY, other, since).await;
            all.check(none.as_ref().is_ok_and(Vec::is_empty), "no samples is an empty list", &none);
        }
    }
}

async fn node_groups<'a>(
    given: &Given<'_>,
    region: &dyn Region,
    cluster: &str,
    groups: impl Iterator<Item = &'a String>,
    all: &mut Verdicts,
) {
    let service = region.node_groups();
    all.fails(&service.cluster(NOBODY).await, ErrorKind::NotFound, "an unknown cluster");
    all.fails(&service.describe(cluster, NOBODY).await, ErrorKind::NotFound, "an unknown node group");
    let _ = all.holds(service.cluster(cluster).await, "a cluster is described");
    for group in groups {
        let Some(before) = all.holds(service.describe(cluster, group).await, "a node group is described")
        else {
            continue;
        };
        let upside_down = Scaling { min: before.scaling.max + 1, ..before.scaling };
        let refused = service.scale(cluster, group, upside_down, "contract-0").await;
        all.fails(&refused, ErrorKind::Invalid, "min above max");
        let wanted = Scaling { desired: before.scaling.desired + 1, ..before.scaling };
        let wanted = wanted.raised_to(wanted);
        let Some(update) =
            all.holds(service.scale(cluster, group, wanted, "contract-1").await, "it is scaled")
        else {
            continue;
        };
        let again = service.scale(cluster, group, wanted, "contract-1").await;
        all.check(
            again.as_ref().is_ok_and(|id| *id == update),
            "the same token answers the same update",
            &again,
        );
        let done = eventually(given, || async {
            Ok(service.update_status(cluster, group, &update).await? == UpdateStatus::Successful)
        });
        all.holds(done.await, "an update comes to its end");
        let seen = service.describe(cluster, group).await.map(|g| g.scaling);
        all.check(seen.as_ref().is_ok_and(|s| *s == wanted), "then the new sizes are described", &seen);
        all.fails(
            &service.update_status(cluster, group, NOBODY).await,
            ErrorKind::NotFound,
            "an unknown update",
        );
    }
}

async fn workloads(
    given: &Given<'_>,
    region: &dyn Region,
    cluster: &str,
    namespace: &str,
    all: &mut Verdicts,
) {
    all.check(region.workloads(NOBODY).is_err(), "an unknown cluster has no workloads", NOBODY);
    let Some(service) = all.holds(region.workloads(cluster), "a cluster's workloads are reached") else {
        return;
    };
    let _ = all.holds(service.ready().await, "its API is ready");
    let nodes = all.holds(service.nodes().await, "nodes are listed");
    all.check(nodes.is_some_and(|n| n.items.iter().any(|n| n.ready)), "some are Ready", cluster);
    all.fails(&service.deployments(NOBODY).await, ErrorKind::NotFound, "an unknown namespace");
    all.fails(
        &service.stateful_sets(NOBODY).await,
        ErrorKind::NotFound,
        "an unknown namespace's StatefulSets",
    );
    let missing = service.raise(namespace, WorkloadKind::Deployment, NOBODY, 2).await;
    all.fails(&missing, ErrorKind::NotFound, "raising an unknown Deployment");
    let missing = service.restart(namespace, NOBODY, "t").await;
    all.fails(&missing, ErrorKind::NotFound, "restarting an unknown Deployment");
    let _ = all.holds(service.problems(namespace).await, "problems are listed");

    let Some(listing) = all.holds(service.deployments(namespace).await, "Deployments are listed") else {
        return;
    };
    let Some(first) = listing.items.iter().find(|w| w.keep.is_none()) else {
        all.0.push(format!("{namespace} has no Deployment that may be raised"));
        return;
    };
    let read = || async {
        let all = service.deployments(namespace).await?.items;
        all.into_iter().find(|w| w.name == first.name).ok_or_else(|| Error::not_found("it is gone"))
    };
    let raise = |to: u32| service.raise(namespace, WorkloadKind::Deployment, &first.name, to);
    let _ = all.holds(raise(0).await, "asking for less is success");
    let seen = read().await.map(|w| w.wanted());
    all.check(seen.as_ref().is_ok_and(|n| *n == first.wanted()), "nothing is ever lowered", &seen);
    let more = first.wanted() + 1;
    let _ = all.holds(raise(more).await, "it is raised");
    let seen = read().await.map(|w| w.wanted());
    all.check(seen.as_ref().is_ok_and(|n| *n == more), "what was raised is wanted", &seen);
    let woken = eventually(given, || async {
        let scope = Scope::Deployments(namespace.to_owned());
        service.changed(&scope, &listing.version).await.map(|()| true)
    });
    let _ = all.holds(woken.await, "a watch from before a change ends");
    for _ in 0..2 {
        let restarted = service.restart(namespace, &first.name, "contract").await;
        let _ = all.holds(restarted, "a restart, met twice, is success");
    }
    let token = read().await.map(|w| w.restart_token);
    all.check(matches!(&token, Ok(Some(t)) if t == "contract"), "a restart leaves its token", &token);
    let done = eventually(given, || async { Ok(read().await?.rolled_out()) });
    let _ = all.holds(done.await, "a restart comes to its end");
}

async fn dns(given: &Given<'_>, all: &mut Verdicts) {
    let service = &given.world.dns;
    let none = service.zones("there-is-no-such-zone.example").await;
    all.check(none.as_ref().is_ok_and(Vec::is_empty), "an unknown name has no zones", &none);
    all.fails(&service.zone("Z0000000000000000000").await, ErrorKind::NotFound, "an unknown zone");
    all.fails(&service.change_status("C00000000000000").await, ErrorKind::NotFound, "an unknown change");
    for traffic in given.topology.traffic.values() {
        let Some(name) = &traffic.zone else { continue };
        let zones = all.holds(service.zones(name).await, "a zone is found by its name").unwrap_or_default();
        let Some(zone) = zones.iter().find(|z| !z.private) else {
            all.0.push(format!("{name} has no public zone"));
            continue;
        };
        all.check(zone.name == *name, "a zone's name has no closing dot", &zone.name);
        let found = service.zone(&zone.id).await;
        all.check(found.as_ref().is_ok_and(|z| z == zone), "a zone is found by its id", &found);
        let none = service.records(&zone.id, &format!("no-such-name.{name}")).await;
        all.check(none.as_ref().is_ok_and(Vec::is_empty), "an unknown name has no records", &none);
        let records = all.holds(service.records(&zone.id, &traffic.record).await, "records are read");
        let Some(record) = records.as_deref().and_then(<[_]>::first) else { continue };
        let line = |action, record| RecordChange { action, record };
        // One line is fine, the other is not: none of both may be done.
        let mut moved = record.clone();
        if let Some(alias) = &mut moved.alias {
            alias.evaluate_target_health = !alias.evaluate_target_health;
        }
        let mut absent = record.clone();
        absent.name = format!("no-such-name.{name}");
        let batch = [line(ChangeAction::Upsert, moved), line(ChangeAction::Delete, absent)];
        all.fails(
            &service.change(&zone.id, "contract", &batch).await,
            ErrorKind::Invalid,
            "a batch with a bad line",
        );
        let after = service.records(&zone.id, &traffic.record).await.ok();
        all.check(after == records, "a batch is all or nothing", &after);
        let same = [line(ChangeAction::Upsert, record.clone())];
        for _ in 0..2 {
            let changed = service.change(&zone.id, "contract", &same).await;
            let Some(id) = all.holds(changed, "the same upsert, met twice, is success") else { continue };
            let done =
                eventually(given, || async { Ok(service.change_status(&id).await? == ChangeStatus::InSync) });
            let _ = all.holds(done.await, "a change comes in sync");
        }
    }
}

async fn probe(given: &Given<'_>, all: &mut Verdicts) {
    let service = &given.world.probe;
    for traffic in given.topology.traffic.values() {
        let server = traffic.resolvers.first().cloned();
        let name = format!("no-such-name.{}", traffic.zone.as_deref().unwrap_or("example.com"));
        let none = service.dns(&name, RecordType::A, server.clone()).await;
        all.check(
            none.as_ref().is_ok_and(|a| a.addresses.is_empty()),
            "an unknown name has no addresses",
            &none,
        );
        let found = service.dns(&traffic.record, RecordType::A, server).await;
        let found = all.holds(found, "the public name is looked up").map(|a| a.addresses).unwrap_or_default();
        all.check(!found.is_empty() && found.is_sorted(), "it has addresses, in order", &found);
        let servers =
            service.authorities(traffic.zone.as_deref().unwrap_or_default(), &traffic.resolvers).await;
        all.check(servers.as_ref().is_ok_and(|s| !s.is_empty()), "a zone has name servers", &servers);
        let question = HttpQuestion {
            url: traffic.health.url.clone(),
            connect: None,
            resolvers: traffic.resolvers.clone(),
            limit: Duration::from_secs(5),
        };
        let answer = service.http(&question).await;
        all.check(
            answer.as_ref().is_ok_and(|a| a.status == traffic.health.status),
            "the public name answers",
            &answer,
        );
    }
}

/// Last of all: what it does cannot be undone.
async fn databases(given: &Given<'_>, all: &mut Verdicts) {
    for database in given.topology.databases.values() {
        for (id, here) in &database.regions {
            let Ok(region) = given.world.region(id) else { continue };
            let service = region.database();
            all.fails(&service.describe(NOBODY).await, ErrorKind::NotFound, "an unknown instance");
            all.fails(
                &service.promote(NOBODY, 7).await,
                ErrorKind::NotFound,
                "promoting an unknown instance",
            );
            let missing = service.rename(NOBODY, "another-name").await;
            all.fails(&missing, ErrorKind::NotFound, "renaming an unknown instance");
            let Some(seen) = all.holds(service.describe(&here.instance).await, "an instance is described")
            else {
                continue;
            };
            all.check(seen.id == here.instance, "it is the one that was asked for", &seen.id);
            let now = given.world.clock.now();
            let since = now.checked_sub(jiff::SignedDuration::from_mins(30)).unwrap_or(now);
            let events = service.events(&here.instance, since).await;
            let events = all.holds(events, "events are told").unwrap_or_default();
            all.check(events.is_sorted_by_key(|e| e.at), "events come oldest first", &events);
            if seen.replica_source.is_some() {
                let lag = all.holds(service.replica_lag(&here.instance, since).await, "lag is told");
                let lag = lag.unwrap_or_default();
                all.check(
                    !lag.is_empty() && lag.is_sorted_by_key(|s| s.at),
                    "lag samples come oldest first",
                    &lag,
                );
                let none = service.replica_lag(&here.instance, after(now, Duration::from_secs(3600))).await;
                all.check(none.as_ref().is_ok_and(Vec::is_empty), "no samples is an empty list", &none);
                promotion(given, region.as_ref(), &here.instance, database.backup_retention_days, all).await;
            } else {
                all.check(seen.looks_writable(), "a writer looks writable", &seen);
                let refused = service.promote(&here.instance, 7).await;
                all.fails(&refused, ErrorKind::Conflict, "promoting a writer");
                renaming(given, region.as_ref(), &here.instance, all).await;
            }
        }
    }
}

async fn promotion(given: &Given<'_>, region: &dyn Region, instance: &str, days: u32, all: &mut Verdicts) {
    let service = region.database();
    if all.holds(service.promote(instance, days).await, "a replica is promoted").is_none() {
        return;
    }
    let done = eventually(given, || async { Ok(service.describe(instance).await?.looks_writable()) });
    let _ = all.holds(done.await, "a promoted replica becomes a writer");
    let kept = service.describe(instance).await.map(|i| i.backup_retention_days);
    all.check(kept.as_ref().is_ok_and(|k| *k == days), "it keeps backups as it was told", &kept);
    all.fails(&service.promote(instance, days).await, ErrorKind::Conflict, "promoting it again");
}

async fn renaming(given: &Given<'_>, region: &dyn Region, instance: &str, all: &mut Verdicts) {
    let service = region.database();
    let other = format!("{instance}-renamed");
    for (from, to) in [(instance, other.as_str()), (other.as_str(), instance)] {
        let before = service.describe(from).await.map(|i| i.resource_id);
        if all.holds(service.rename(from, to).await, "an instance is renamed").is_none() {
            return;
        }
        let done = eventually(given, || async {
            let gone = matches!(service.describe(from).await, Err(e) if e.kind == ErrorKind::NotFound);
            Ok(gone && service.describe(to).await.is_ok_and(|i| i.status == "available"))
        });
        let _ = all.holds(done.await, "the old name goes and the new one comes");
        let after = service.describe(to).await.map(|i| i.resource_id);
        all.check(before == after, "its resource id survives a rename", (&before, &after));
    }
}

/// Looks until it is so, on the world's clock.
async fn eventually<F>(given: &Given<'_>, look: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let clock = &given.world.clock;
    let until = after(clock.now(), given.patience);
    loop {
        if look().await? {
            return Ok(());
        }
        if clock.now() >= until {
            return Err(Error::unavailable(format!("not within {} s", given.patience.as_secs())));
        }
        clock.sleep(Duration::from_millis(500)).await;
    }
}

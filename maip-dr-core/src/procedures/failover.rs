//! The primary is lost: serve from the standby.
//!
//! Everything that is free or harmless begins at once; one question stands before everything else. Capacity is
//! raised while the person thinks and while the database is promoted, because pods may need the promoted database
//! to become Ready, and because the promotion takes the longest. Users are sent over last.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::plan::{Plan, PlannedStep};
use crate::procedure::{PlanRequest, Procedure};
use crate::service::{Workload, WorkloadKind};
use crate::steps::can_switch;
use crate::survey::Survey;
use crate::topology::{NamespaceWorkloads, Replicas, Topology};

/// The failover.
#[derive(Debug)]
pub(super) struct Failover;

impl Procedure for Failover {
    fn name(&self) -> &'static str {
        "failover"
    }

    fn plan(&self, request: &PlanRequest, topology: &Topology, seen: &Survey) -> Result<Plan> {
        let (to, from) = request.direction(topology)?;
        for (name, (_, records)) in &seen.records {
            can_switch(topology, name, &to, records)?;
        }
        let mut steps: Vec<PlannedStep> = Vec::new();
        let mut push = |id: String, kind: &str, with: Value, after: &[String]| {
            let after: Vec<&str> = after.iter().map(String::as_str).collect();
            steps.push(PlannedStep::new(id.clone(), kind, with, &after));
            id
        };

        let tell = |what: &str| json!({ "text": format!("failover of {} from {from} to {to} {what}", topology.application) });
        if !topology.notify.is_empty() {
            push("notify-start".into(), "notify.send", tell("has started"), &[]);
        }
        let down =
            push("verify-down".into(), "region.verify_down", json!({ "region": from, "standby": to }), &[]);

        // Checks and evidence, all at once.
        let mut before_gate = vec![down.clone()];
        let mut before_dns: Vec<String> = Vec::new();
        for name in topology.databases.keys() {
            let with = json!({ "database": name, "region": to, "phase": "first" });
            before_gate.push(push(format!("record-watermark-{name}"), "db.record_watermark", with, &[]));
        }
        for (name, table) in &topology.tables {
            let with = json!({ "table": name, "region": to, "from": from });
            let id = push(format!("check-{name}"), "table.check", with, &[]);
            if table.required {
                before_dns.push(id);
            }
        }
        for (name, stream) in topology.streams.iter().filter(|(_, s)| s.regions.contains_key(&to)) {
            let id =
                push(format!("check-{name}"), "stream.check", json!({ "stream": name, "region": to }), &[]);
            if stream.required {
                before_dns.push(id);
            }
        }
        before_gate.extend(before_dns.clone());

        // Capacity: reversible, costs little, waits for nobody.
        let mut scaled: Vec<(String, String, bool, String)> = Vec::new();
        for (name, cluster) in &topology.clusters {
            let (_, here) = topology.cluster(name, &to)?;
            let mut nodes = vec![down.clone()];
            for (group, size) in &here.node_groups {
                let with = json!({ "cluster": name, "region": to, "node_group": group, "min": size.min, "desired": size.desired, "max": size.max });
                nodes.push(push(format!("scale-{group}"), "nodes.scale", with, std::slice::from_ref(&down)));
            }
            for (namespace, wanted) in &cluster.workloads {
                let found =
                    seen.workloads.get(&format!("{name}/{namespace}")).map(Vec::as_slice).unwrap_or_default();
                let mut with = targets(namespace, wanted, found)?;
                with["cluster"] = json!(name);
                with["region"] = json!(to);
                let id = push(format!("scale-{namespace}"), "workloads.scale", with, &nodes);
                scaled.push((name.clone(), namespace.clone(), wanted.restart, id));
            }
        }

        // The one question, then the one-way door.
        let gate = push("approve".into(), "gate.approve", json!({}), &before_gate);
        let mut fenced = Vec::new();
        for name in topology.databases.keys() {
            let fence = push(
                format!("fence-{name}"),
                "db.fence",
                json!({ "database": name, "region": from }),
                std::slice::from_ref(&gate),
            );
            let with = json!({ "database": name, "region": to, "phase": "final" });
            fenced.push(push(
                format!("record-final-watermark-{name}"),
                "db.record_watermark",
                with,
                &[fence],
            ));
        }
        let mut writable = Vec::new();
        for name in topology.databases.keys() {
            // Every database is fenced before the first is promoted.
            let promote = push(
                format!("promote-{name}"),
                "db.promote",
                json!({ "database": name, "region": to }),
                &fenced,
            );
            writable.push(push(
                format!("verify-{name}"),
                "db.verify_writable",
                json!({ "database": name, "region": to }),
                &[promote],
            ));
        }
        if writable.is_empty() {
            writable.push(gate);
        }

        // The application, then its users.
        let mut serving = writable.clone();
        for (cluster, namespace, restart, scale) in &scaled {
            serving.push(scale.clone());
            if *restart {
                let mut after = writable.clone();
                after.push(scale.clone());
                let with = json!({ "cluster": cluster, "region": to, "namespace": namespace });
                serving.push(push(format!("restart-{namespace}"), "workloads.restart", with, &after));
            }
        }
        let mut last = Vec::new();
        for name in topology.traffic.keys() {
            let direct = push(
                format!("verify-{name}-direct"),
                "endpoint.verify",
                json!({ "traffic": name, "region": to, "public": false }),
                &serving,
            );
            let mut after = vec![direct];
            after.extend(before_dns.clone());
            let switch = push(
                format!("switch-{name}"),
                "dns.switch",
                json!({ "traffic": name, "region": to }),
                &after,
            );
            let dns = push(
                format!("verify-{name}-dns"),
                "dns.verify",
                json!({ "traffic": name, "region": to }),
                &[switch],
            );
            last.push(push(
                format!("verify-{name}-public"),
                "endpoint.verify",
                json!({ "traffic": name, "region": to, "public": true }),
                &[dns],
            ));
        }
        if !topology.notify.is_empty() {
            let last = if last.is_empty() { serving } else { last };
            push("notify-end".into(), "notify.send", tell("is done: it serves"), &last);
        }

        let mut plan = Plan::of(self.name(), Some(to.clone()), Some(from), steps);
        plan.assumes = assumes(seen);
        plan.warnings = warnings(topology, seen);
        Ok(plan)
    }
}

/// Which workload goes to how many replicas, and which is left alone. What is there decides the names, the
/// topology the numbers; how many run now is an assumption, not part of the plan.
fn targets(namespace: &str, wanted: &NamespaceWorkloads, found: &[Workload]) -> Result<Value> {
    let (mut deployments, mut stateful_sets, mut keep) =
        (serde_json::Map::new(), serde_json::Map::new(), serde_json::Map::new());
    let missing = |kind: &str, name: &str| {
        let there: Vec<&str> = found.iter().map(|w| w.name.as_str()).collect();
        Error::not_found(format!("there is no {kind} {name} in {namespace}"))
            .hint(format!("there is {}", there.join(", ")))
    };
    let has = |kind, name: &str| found.iter().any(|w| w.kind == kind && w.name == name);
    for name in wanted.deployments.keys() {
        if !has(WorkloadKind::Deployment, name) {
            return Err(missing("Deployment", name));
        }
    }
    for workload in found.iter().filter(|w| w.kind == WorkloadKind::Deployment) {
        let name = workload.name.clone();
        match (&workload.keep, wanted.deployments.get(&name), wanted.replicas) {
            (_, Some(Replicas::Keep(_)), _) => keep.insert(name, json!("the topology says keep")),
            (Some(why), _, _) => keep.insert(name, json!(why)),
            (None, Some(Replicas::Count(n)), _) => deployments.insert(name, json!(n)),
            (None, None, Some(n)) => deployments.insert(name, json!(n)),
            _ => None,
        };
    }
    for (name, replicas) in &wanted.stateful_sets {
        if !has(WorkloadKind::StatefulSet, name) {
            return Err(missing("StatefulSet", name));
        }
        stateful_sets.insert(name.clone(), json!(replicas));
    }
    Ok(
        json!({ "namespace": namespace, "deployments": deployments, "stateful_sets": stateful_sets, "keep": keep }),
    )
}

/// The facts that a later look is compared with.
fn assumes(seen: &Survey) -> std::collections::BTreeMap<String, Value> {
    let mut facts = std::collections::BTreeMap::new();
    if let Some(caller) = &seen.caller {
        facts.insert("account".into(), json!(caller.account));
        facts.insert("caller".into(), json!(caller.arn));
    }
    for (name, i) in &seen.databases {
        facts.insert(format!("database.{name}"), json!({ "instance": i.id, "resource_id": i.resource_id, "status": i.status, "source": i.replica_source, "replication": i.replication }));
    }
    for (name, group) in &seen.node_groups {
        facts.insert(format!("node_group.{name}"), json!(group.scaling));
    }
    for (name, workloads) in &seen.workloads {
        let counts: std::collections::BTreeMap<&str, u32> =
            workloads.iter().map(|w| (w.name.as_str(), w.wanted())).collect();
        facts.insert(format!("workloads.{name}"), json!(counts));
    }
    for (name, (zone, records)) in &seen.records {
        facts.insert(format!("traffic.{name}"), json!({ "zone": zone.id, "records": records }));
    }
    facts
}

fn warnings(topology: &Topology, seen: &Survey) -> Vec<String> {
    let mut warnings: Vec<String> =
        seen.unknown.iter().map(|what| format!("could not be read: {what}")).collect();
    for name in topology.traffic.keys() {
        warnings.push(format!(
            "switch-{name} needs Route 53's API, whose control plane is in us-east-1; if that is lost too, traffic cannot be moved this way"
        ));
    }
    for (name, instance) in &seen.databases {
        if !instance.pending_changes.is_empty() {
            warnings.push(format!(
                "database {name} has pending changes: {}",
                instance.pending_changes.join(", ")
            ));
        }
        if instance.status != "available" {
            warnings.push(format!("database {name} is {} in the standby Region", instance.status));
        }
        if instance.replica_source.is_none() {
            warnings.push(format!("database {name} is no replica any more: somebody promoted it"));
        }
    }
    warnings
}

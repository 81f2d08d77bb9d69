use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::timeout;
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::service::{PodProblem, Scope, Workload, WorkloadKind};
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::by_hand;
use crate::topology::{ClusterIn, Topology};

/// Longer than a promotion: pods may become Ready only when their database takes writes.
const DEADLINE: Duration = Duration::from_secs(40 * 60);
/// Pods that no node has room for are waited for so long at most: an autoscaler needs about five minutes.
/// <https://docs.aws.amazon.com/eks/latest/userguide/managed-node-groups.html>
const UNSCHEDULABLE: Duration = Duration::from_secs(6 * 60);

/// Raises the workloads of a namespace and waits until they are available.
#[derive(Debug)]
pub(super) struct ScaleWorkloads {
    params: Params,
    cluster: ClusterIn,
    topology: Topology,
    /// The lists to wait for a change of.
    versions: Mutex<Option<(String, Option<String>)>>,
}

/// Which namespace, and each target.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The cluster's logical name.
    cluster: String,
    /// Its Region.
    region: RegionId,
    /// The namespace.
    namespace: String,
    /// Deployments and the replicas that each is raised to.
    #[serde(default)]
    deployments: BTreeMap<String, u32>,
    /// StatefulSets and the replicas that each is raised to.
    #[serde(default)]
    stateful_sets: BTreeMap<String, u32>,
    /// Deployments that are left alone, and why.
    #[serde(default)]
    keep: BTreeMap<String, String>,
}

impl StepKind for ScaleWorkloads {
    const KIND: &'static str = "workloads.scale";
    const ABOUT: &'static str = "Raises Deployments (and StatefulSets that are named) to their targets and waits until \
        their pods are available. Never lowers: where more replicas are asked for already, nothing changes; where an HPA \
        owns the workload, its minimum is raised. A Deployment marked `keep`, of strategy Recreate, or annotated \
        maip-dr/scale: keep is left alone. Pods that no node has room for are named, with the scheduler's reason and what \
        to do.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let (_, here) = topology.cluster(&params.cluster, &params.region)?;
        Ok(Self { cluster: here.clone(), topology: topology.clone(), params, versions: Mutex::default() })
    }
}

impl ScaleWorkloads {
    fn targets(&self) -> impl Iterator<Item = (WorkloadKind, &String, u32)> {
        let deployments = self.params.deployments.iter().map(|(n, r)| (WorkloadKind::Deployment, n, *r));
        deployments.chain(self.params.stateful_sets.iter().map(|(n, r)| (WorkloadKind::StatefulSet, n, *r)))
    }

    async fn look(&self, cx: &StepCtx) -> Result<Vec<Workload>> {
        let service = cx.region(&self.params.region)?.workloads(&self.params.cluster)?;
        let listing = service.deployments(&self.params.namespace).await?;
        let mut items = listing.items;
        let mut versions = (listing.version, None);
        if !self.params.stateful_sets.is_empty() {
            let sets = service.stateful_sets(&self.params.namespace).await?;
            versions.1 = Some(sets.version);
            items.extend(sets.items);
        }
        *self.versions.lock().unwrap_or_else(PoisonError::into_inner) = Some(versions);
        Ok(items)
    }

    fn stuck(&self, problems: &[PodProblem], waited: &str) -> Error {
        let remedy = if problems.iter().any(|p| p.reason == "Unschedulable") {
            "the cluster lacks room: raise the node group (`desired` in the topology, or its maximum), check the Region's \
             quota and capacity for the instance type, or scale down what is not needed there"
        } else if problems.iter().any(|p| p.reason.contains("Image")) {
            "is the image in this Region's registry? Replication copies only what was pushed after it was switched on"
        } else {
            "look at the pods' events and logs"
        };
        let mut error = Error::unavailable(format!("pods of {} cannot start{waited}", self.params.namespace))
            .hint(remedy);
        for problem in problems.iter().take(10) {
            error = error.caused_by(format!("{}: {}: {}", problem.pod, problem.reason, problem.message));
        }
        error
    }
}

#[async_trait]
impl Step for ScaleWorkloads {
    fn summary(&self) -> String {
        let list: Vec<String> =
            self.targets().map(|(_, name, replicas)| format!("{name} {replicas}")).collect();
        let kept: Vec<String> =
            self.params.keep.iter().map(|(name, why)| format!("{name} ({why})")).collect();
        let kept = if kept.is_empty() { String::new() } else { format!("; left alone: {}", kept.join(", ")) };
        format!("raise the workloads of {} to at least: {}{kept}", self.params.namespace, list.join(", "))
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        let (region, ns) = (&self.params.region, &self.params.namespace);
        let name = self.cluster.eks.as_deref().unwrap_or(&self.params.cluster);
        let resource = format!("namespace:{name}/{ns}");
        let mut calls = vec![
            ApiCall::reads("kubernetes:list deployments", region, Plane::Data, &resource),
            ApiCall::reads("kubernetes:list horizontalpodautoscalers", region, Plane::Data, &resource),
            ApiCall::reads("kubernetes:list pods", region, Plane::Data, &resource),
            ApiCall::mutates("kubernetes:patch deployments/scale", region, Plane::Data, &resource),
            ApiCall::mutates("kubernetes:patch horizontalpodautoscalers", region, Plane::Data, &resource),
        ];
        if !self.params.stateful_sets.is_empty() {
            calls.push(ApiCall::reads("kubernetes:list statefulsets", region, Plane::Data, &resource));
            calls.push(ApiCall::mutates(
                "kubernetes:patch statefulsets/scale",
                region,
                Plane::Data,
                resource,
            ));
        }
        calls
    }
    fn by_hand(&self) -> Vec<String> {
        let (mut lines, kubectl) = by_hand::kubectl(&self.topology, &self.params.region, &self.cluster);
        let ns = &self.params.namespace;
        for (kind, name, replicas) in self.targets() {
            let kind = match kind {
                WorkloadKind::Deployment => "deployment",
                WorkloadKind::StatefulSet => "statefulset",
            };
            lines.push(format!("{kubectl} -n {ns} scale {kind}/{name} --replicas={replicas}   # only if it has fewer; with an HPA raise its minReplicas"));
        }
        lines.push(format!("{kubectl} -n {ns} get pods --field-selector=status.phase=Pending"));
        lines
    }
    fn timing(&self) -> Timing {
        Timing::secs(60, DEADLINE.as_secs())
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let seen = self.look(cx).await?;
        let find = |kind, name: &str| seen.iter().find(|w| w.kind == kind && w.name == name);
        let mut before = serde_json::Map::new();
        let mut lacking = false;
        let mut waiting = Vec::new();
        let mut kept: BTreeMap<&str, &str> = BTreeMap::new();
        for (kind, name, replicas) in self.targets() {
            let Some(workload) = find(kind, name) else {
                return Ok(Observed::Failed(
                    Error::not_found(format!("there is no {kind:?} {name} in {}", self.params.namespace))
                        .hint("it was there when the plan was made; make the plan again"),
                ));
            };
            if let Some(why) = &workload.keep {
                kept.insert(name, why);
                continue;
            }
            before.insert(
                name.clone(),
                json!({ "replicas": workload.replicas, "autoscaler": workload.autoscaler }),
            );
            lacking |= workload.wanted() < replicas;
            if !workload.rolled_out() || workload.available < replicas {
                let stuck = workload.stuck.as_ref().map(|s| format!(" ({s})")).unwrap_or_default();
                waiting.push(format!(
                    "{name} {} of {}{stuck}",
                    workload.available,
                    replicas.max(workload.wanted())
                ));
            }
        }
        if lacking {
            return Ok(Observed::NotDone { before: Value::Object(before) });
        }
        if waiting.is_empty() {
            let counts: BTreeMap<&str, u32> = seen
                .iter()
                .filter(|w| before.contains_key(&w.name))
                .map(|w| (w.name.as_str(), w.available))
                .collect();
            let started = cx.started.as_ref().map(|s| s.before.clone());
            return Ok(Observed::Done(json!({
                "namespace": self.params.namespace, "before": started, "available": counts, "kept": kept,
                "detail": format!("every workload of {} is available", self.params.namespace),
            })));
        }
        let service = cx.region(&self.params.region)?.workloads(&self.params.cluster)?;
        let problems = service.problems(&self.params.namespace).await.unwrap_or_else(|e| {
            // Without the pods' own words the wait could not say what it waits for.
            waiting.push(format!("why is unknown: {}", e.one_line()));
            Vec::new()
        });
        let unschedulable = problems.iter().any(|p| p.reason == "Unschedulable");
        let limit = self.topology.deadline(Self::KIND, DEADLINE);
        let patience = UNSCHEDULABLE.min(limit / 2);
        if unschedulable && cx.past(patience) {
            return Ok(Observed::Failed(
                self.stuck(&problems, &format!(" after {}", crate::duration::Span(patience))),
            ));
        }
        if !problems.is_empty() && cx.past(limit.saturating_sub(Duration::from_secs(31))) {
            return Ok(Observed::Failed(self.stuck(&problems, "")));
        }
        let mut note = waiting.join(", ");
        if let Some(first) = problems.first() {
            note.push_str(&format!(
                "; {} pods cannot start, {}: {}: {}",
                problems.len(),
                first.pod,
                first.reason,
                first.message
            ));
        }
        Ok(Observed::Underway(note))
    }

    async fn apply(&self, cx: &StepCtx, _before: &Value) -> Result<()> {
        let service = cx.region(&self.params.region)?.workloads(&self.params.cluster)?;
        let seen = self.look(cx).await.map_err(|e| {
            if e.kind == crate::error::ErrorKind::InDoubt {
                Error { kind: crate::error::ErrorKind::Unavailable, ..e }
            } else {
                e
            }
        })?;
        for (kind, name, replicas) in self.targets() {
            let found = seen.iter().find(|w| w.kind == kind && w.name == *name);
            if found.is_some_and(|w| w.keep.is_none() && w.wanted() < replicas) {
                service.raise(&self.params.namespace, kind, name, replicas).await?;
            }
        }
        Ok(())
    }

    async fn wait(&self, cx: &StepCtx) {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let service = cx.region(&self.params.region).and_then(|r| r.workloads(&self.params.cluster));
        let (Some((deployments, sets)), Ok(service)) = (versions, service) else {
            return cx.clock().sleep(self.timing().poll).await;
        };
        let ns = self.params.namespace.clone();
        // Pods that cannot be scheduled change no Deployment: they are looked at every half minute all the same.
        let limit = Duration::from_secs(30);
        let first = Scope::Deployments(ns.clone());
        let second = Scope::StatefulSets(ns);
        let changed = async {
            match sets {
                None => service.changed(&first, &deployments).await,
                Some(sets) => {
                    let either = futures::future::select(
                        service.changed(&first, &deployments),
                        service.changed(&second, &sets),
                    );
                    either.await.factor_first().0
                }
            }
        };
        match timeout(cx.clock(), limit, changed).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => cx.clock().sleep(self.timing().poll).await,
        }
    }
}

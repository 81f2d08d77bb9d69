//! Kubernetes objects as ours.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Node as KubeNode, Pod};

use crate::service::{Autoscaler, Node, PodProblem, Workload, WorkloadKind};

/// Where a restart's token is kept.
pub(super) const RESTARTED_BY: &str = "maip-dr/restarted-by";
const SCALE: &str = "maip-dr/scale";
const KEDA: &str = "scaledobject.keda.sh/name";
const NODE_GROUP: &str = "eks.amazonaws.com/nodegroup";
const ZONE: &str = "topology.kubernetes.io/zone";

fn count(number: Option<i32>) -> u32 {
    u32::try_from(number.unwrap_or(0)).unwrap_or(0)
}

pub(super) fn node(node: &KubeNode) -> Node {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let spec = node.spec.clone().unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let tainted = spec.taints.unwrap_or_default().iter().any(|t| {
        t.effect != "PreferNoSchedule"
            && matches!(t.key.as_str(), "node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable")
    });
    Node {
        name: node.metadata.name.clone().unwrap_or_default(),
        group: labels.get(NODE_GROUP).cloned(),
        zone: labels.get(ZONE).cloned(),
        ready: ready && !tainted && !spec.unschedulable.unwrap_or(false),
    }
}

/// An autoscaler, with KEDA's name where it owns it, and the version that was seen.
pub(super) struct Owner {
    pub(super) autoscaler: Autoscaler,
    pub(super) keda: Option<String>,
    pub(super) version: Option<String>,
}

/// The autoscalers of a namespace, by kind and name of what they own.
pub(super) type Owners = BTreeMap<(String, String), Owner>;

pub(super) fn owners(all: &[HorizontalPodAutoscaler]) -> Owners {
    all.iter()
        .filter_map(|hpa| {
            let spec = hpa.spec.as_ref()?;
            let target = &spec.scale_target_ref;
            let autoscaler = Autoscaler {
                name: hpa.metadata.name.clone().unwrap_or_default(),
                min: spec.min_replicas.map_or(1, |n| count(Some(n))),
                max: count(Some(spec.max_replicas)),
            };
            let keda = hpa.metadata.labels.as_ref().and_then(|l| l.get(KEDA)).cloned();
            let owner = Owner { autoscaler, keda, version: hpa.metadata.resource_version.clone() };
            Some(((target.kind.clone(), target.name.clone()), owner))
        })
        .collect()
}

fn keep(
    annotations: Option<&BTreeMap<String, String>>,
    recreate: bool,
    keda: Option<&String>,
) -> Option<String> {
    if annotations.and_then(|a| a.get(SCALE)).is_some_and(|v| v == "keep") {
        return Some(format!("annotated {SCALE}: keep"));
    }
    if recreate {
        return Some("its strategy is Recreate: more replicas may be one too many".to_owned());
    }
    keda.map(|name| format!("owned by KEDA: raise minReplicaCount of ScaledObject {name} by hand"))
}

pub(super) fn deployment(object: &Deployment, owners: &Owners) -> Workload {
    let name = object.metadata.name.clone().unwrap_or_default();
    let status = object.status.clone().unwrap_or_default();
    let spec = object.spec.clone().unwrap_or_default();
    let owner = owners.get(&("Deployment".to_owned(), name.clone()));
    let recreate = spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate");
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let stuck = conditions
        .iter()
        .find(|c| {
            (c.type_ == "Progressing" && c.status == "False")
                || (c.type_ == "ReplicaFailure" && c.status == "True")
        })
        .map(|c| {
            format!("{}: {}", c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default())
        });
    let template = spec.template.metadata.as_ref().and_then(|m| m.annotations.as_ref());
    Workload {
        kind: WorkloadKind::Deployment,
        replicas: spec.replicas.map_or(1, |n| count(Some(n))),
        updated: count(status.updated_replicas),
        available: count(status.available_replicas),
        total: count(status.replicas),
        observed: status.observed_generation >= object.metadata.generation,
        keep: keep(object.metadata.annotations.as_ref(), recreate, owner.and_then(|o| o.keda.as_ref())),
        autoscaler: owner.map(|o| o.autoscaler.clone()),
        stuck,
        restart_token: template.and_then(|a| a.get(RESTARTED_BY)).cloned(),
        name,
    }
}

pub(super) fn stateful_set(object: &StatefulSet, owners: &Owners) -> Workload {
    let name = object.metadata.name.clone().unwrap_or_default();
    let status = object.status.clone().unwrap_or_default();
    let spec = object.spec.clone().unwrap_or_default();
    let owner = owners.get(&("StatefulSet".to_owned(), name.clone()));
    let current = status.update_revision.is_none() || status.update_revision == status.current_revision;
    Workload {
        kind: WorkloadKind::StatefulSet,
        replicas: spec.replicas.map_or(1, |n| count(Some(n))),
        // Once the revisions agree every replica is of the newest template, whatever the counter says.
        updated: if current { count(Some(status.replicas)) } else { count(status.updated_replicas) },
        available: count(status.ready_replicas),
        total: count(Some(status.replicas)),
        observed: status.observed_generation >= object.metadata.generation,
        keep: keep(object.metadata.annotations.as_ref(), false, owner.and_then(|o| o.keda.as_ref())),
        autoscaler: owner.map(|o| o.autoscaler.clone()),
        stuck: None,
        restart_token: None,
        name,
    }
}

/// Why a pod cannot start, if it cannot.
pub(super) fn problem(pod: &Pod) -> Option<PodProblem> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let unschedulable = status.conditions.as_deref().unwrap_or_default().iter().find(|c| {
        c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unschedulable {
        let message = condition.message.clone().unwrap_or_default();
        return Some(PodProblem { pod: name, reason: "Unschedulable".to_owned(), message });
    }
    let containers =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let waiting = containers
        .filter_map(|c| c.state.as_ref()?.waiting.as_ref())
        .find(|w| !matches!(w.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing")))?;
    Some(PodProblem {
        pod: name,
        reason: waiting.reason.clone().unwrap_or_default(),
        message: waiting.message.clone().unwrap_or_default(),
    })
}

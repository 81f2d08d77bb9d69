use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A list as it stood at one moment, with the mark from which [`WorkloadService::changed`] goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing<T> {
    /// What was there.
    pub items: Vec<T>,
    /// The moment, opaque.
    pub version: String,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The managed node group it belongs to.
    pub group: Option<String>,
    /// Its availability zone.
    pub zone: Option<String>,
    /// Ready, not cordoned and without a not-ready taint.
    pub ready: bool,
}

/// What holds a workload's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
}

/// A horizontal pod autoscaler that owns a workload's replica count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autoscaler {
    /// Its name.
    pub name: String,
    /// `minReplicas` (1 where it is not set).
    pub min: u32,
    /// `maxReplicas`.
    pub max: u32,
}

/// A Deployment or a StatefulSet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: WorkloadKind,
    /// Wanted replicas (`spec.replicas`).
    pub replicas: u32,
    /// Replicas of the newest template.
    pub updated: u32,
    /// Replicas that are available.
    pub available: u32,
    /// All replicas there are, old ones included.
    pub total: u32,
    /// Whether the controller has seen the newest spec.
    pub observed: bool,
    /// Why it must be left alone, where its strategy is Recreate or it is annotated `maip-dr/scale: keep`.
    pub keep: Option<String>,
    /// The autoscaler that owns it.
    pub autoscaler: Option<Autoscaler>,
    /// Why the roll-out has stopped making progress, in the controller's words.
    pub stuck: Option<String>,
    /// The token of the restart that its template carries; see [`WorkloadService::restart`].
    pub restart_token: Option<String>,
}

impl Workload {
    /// Whether the roll-out of the present spec is complete: kubectl's own rule.
    /// <https://github.com/kubernetes/kubectl/blob/master/pkg/polymorphichelpers/rollout_status.go>
    pub fn rolled_out(&self) -> bool {
        self.observed
            && self.updated >= self.replicas
            && self.total <= self.updated
            && self.available >= self.updated
    }

    /// How many replicas are asked for, by the autoscaler or by the spec.
    pub fn wanted(&self) -> u32 {
        match &self.autoscaler {
            // At 0 replicas an autoscaler is switched off.
            // <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#implicit-maintenance-mode-deactivation>
            Some(owner) if self.replicas > 0 => self.replicas.max(owner.min),
            _ => self.replicas,
        }
    }
}

/// A pod that cannot start, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodProblem {
    /// The pod.
    pub pod: String,
    /// One word: `Unschedulable`, `ImagePullBackOff`, `CreateContainerConfigError`, `CrashLoopBackOff`...
    pub reason: String,
    /// In the scheduler's or kubelet's words.
    pub message: String,
}

/// What [`WorkloadService::changed`] looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The cluster's nodes.
    Nodes,
    /// The Deployments of a namespace.
    Deployments(String),
    /// The StatefulSets of a namespace.
    StatefulSets(String),
}

/// What runs in one cluster.
///
/// Contract, besides the rules of [`crate::service`]:
/// - `raise` never lowers: where the workload, or the autoscaler that owns it, already asks for as many or
///   more, it changes nothing. With an autoscaler it raises `minReplicas` (and `maxReplicas` if it must).
/// - `restart` with the same token again changes nothing.
/// - `changed` returns as soon as anything in `scope` differs from `version`, and may return early without a
///   change; it waits for ever otherwise, and its caller bounds it.
/// - A namespace that does not exist is `NotFound`, not empty.
#[cfg_attr(any(test, feature = "test-util"), mockall::automock)]
#[async_trait]
pub trait WorkloadService: Send + Sync + Debug + 'static {
    /// Whether the cluster's API answers and says it is ready.
    async fn ready(&self) -> Result<()>;
    /// The nodes.
    async fn nodes(&self) -> Result<Listing<Node>>;
    /// The Deployments of a namespace with their autoscalers.
    async fn deployments(&self, namespace: &str) -> Result<Listing<Workload>>;
    /// The StatefulSets of a namespace with their autoscalers.
    async fn stateful_sets(&self, namespace: &str) -> Result<Listing<Workload>>;
    /// Raises the replicas of a workload to at least `replicas`.
    async fn raise(&self, namespace: &str, kind: WorkloadKind, name: &str, replicas: u32) -> Result<()>;
    /// Replaces the pods of a Deployment one after the other, as `kubectl rollout restart` does.
    async fn restart(&self, namespace: &str, name: &str, token: &str) -> Result<()>;
    /// The pods of a namespace that cannot start.
    async fn problems(&self, namespace: &str) -> Result<Vec<PodProblem>>;
    /// Waits for a change.
    async fn changed(&self, scope: &Scope, version: &str) -> Result<()>;
}

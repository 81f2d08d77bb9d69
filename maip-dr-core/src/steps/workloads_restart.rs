use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::timeout;
use crate::error::Result;
use crate::id::RegionId;
use crate::service::{Scope, Workload};
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::by_hand;
use crate::topology::{ClusterIn, Topology};

/// Restarts the Deployments of a namespace, so that connection pools connect to the promoted database.
#[derive(Debug)]
pub(super) struct RestartWorkloads {
    params: Params,
    cluster: ClusterIn,
    topology: Topology,
    version: Mutex<Option<String>>,
}

/// Which namespace.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The cluster's logical name.
    cluster: String,
    /// Its Region.
    region: RegionId,
    /// The namespace.
    namespace: String,
}

impl StepKind for RestartWorkloads {
    const KIND: &'static str = "workloads.restart";
    const ABOUT: &'static str = "Restarts every Deployment of a namespace that has replicas, one pod after the other as \
        `kubectl rollout restart` does: a promotion restarts the database, and pools that hold dead connections would \
        answer errors. Met twice, it restarts once.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let (_, here) = topology.cluster(&params.cluster, &params.region)?;
        Ok(Self { cluster: here.clone(), topology: topology.clone(), params, version: Mutex::default() })
    }
}

impl RestartWorkloads {
    async fn look(&self, cx: &StepCtx) -> Result<Vec<Workload>> {
        let service = cx.region(&self.params.region)?.workloads(&self.params.cluster)?;
        let listing = service.deployments(&self.params.namespace).await?;
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(listing.version);
        Ok(listing.items.into_iter().filter(|w| w.replicas > 0).collect())
    }
}

#[async_trait]
impl Step for RestartWorkloads {
    fn summary(&self) -> String {
        format!(
            "restart the Deployments of {}, one pod after the other, so that pools connect anew",
            self.params.namespace
        )
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        let name = self.cluster.eks.as_deref().unwrap_or(&self.params.cluster);
        let (region, resource) = (&self.params.region, format!("namespace:{name}/{}", self.params.namespace));
        vec![
            ApiCall::reads("kubernetes:list deployments", region, Plane::Data, &resource),
            ApiCall::mutates("kubernetes:patch deployments", region, Plane::Data, resource),
        ]
    }
    fn by_hand(&self) -> Vec<String> {
        let (mut lines, kubectl) = by_hand::kubectl(&self.topology, &self.params.region, &self.cluster);
        lines.push(format!("{kubectl} -n {} rollout restart deployment", self.params.namespace));
        lines
    }
    fn timing(&self) -> Timing {
        Timing::secs(60, 15 * 60)
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let seen = self.look(cx).await?;
        let token = cx.run.as_str();
        if seen.iter().any(|w| w.restart_token.as_deref() != Some(token)) {
            return Ok(Observed::NotDone { before: json!({}) });
        }
        let waiting: Vec<String> = seen
            .iter()
            .filter(|w| !w.rolled_out())
            .map(|w| format!("{} {} of {}", w.name, w.updated.min(w.available), w.replicas))
            .collect();
        if waiting.is_empty() {
            let names: Vec<&str> = seen.iter().map(|w| w.name.as_str()).collect();
            return Ok(Observed::Done(
                json!({ "namespace": self.params.namespace, "restarted": names, "detail": format!("{} Deployments restarted", names.len()) }),
            ));
        }
        let service = cx.region(&self.params.region)?.workloads(&self.params.cluster)?;
        let problems = service.problems(&self.params.namespace).await.unwrap_or_default();
        let tail =
            problems.first().map(|p| format!("; {}: {}: {}", p.pod, p.reason, p.message)).unwrap_or_default();
        Ok(Observed::Underway(format!("{}{tail}", waiting.join(", "))))
    }

    async fn apply(&self, cx: &StepCtx, _before: &Value) -> Result<()> {
        let service = cx.region(&self.params.region)?.workloads(&self.params.cluster)?;
        let seen = self.look(cx).await.map_err(|e| {
            if e.kind == crate::error::ErrorKind::InDoubt {
                crate::error::Error { kind: crate::error::ErrorKind::Unavailable, ..e }
            } else {
                e
            }
        })?;
        for workload in seen.iter().filter(|w| w.restart_token.as_deref() != Some(cx.run.as_str())) {
            service.restart(&self.params.namespace, &workload.name, cx.run.as_str()).await?;
        }
        Ok(())
    }

    async fn wait(&self, cx: &StepCtx) {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let service = cx.region(&self.params.region).and_then(|r| r.workloads(&self.params.cluster));
        let (Some(version), Ok(service)) = (version, service) else {
            return cx.clock().sleep(self.timing().poll).await;
        };
        let scope = Scope::Deployments(self.params.namespace.clone());
        match timeout(cx.clock(), Duration::from_secs(30), service.changed(&scope, &version)).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => cx.clock().sleep(self.timing().poll).await,
        }
    }
}

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::timeout;
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::service::{Scaling, Scope, UpdateStatus};
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::by_hand;
use crate::topology::{ClusterIn, Topology};

const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Raises a node group and waits for its nodes.
#[derive(Debug)]
pub(super) struct ScaleNodes {
    params: Params,
    eks: String,
    cluster: ClusterIn,
    wanted: Scaling,
    topology: Topology,
    follow: Mutex<Follow>,
}

/// What the last look left to wait for.
#[derive(Debug, Default)]
struct Follow {
    /// The update that was asked for, by this process.
    update: Option<String>,
    /// The list of nodes to wait for a change of.
    nodes: Option<String>,
}

/// Which node group, and to what.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The cluster's logical name.
    cluster: String,
    /// Its Region.
    region: RegionId,
    /// The managed node group.
    node_group: String,
    /// The least it is raised to.
    min: u32,
    /// The number of nodes it is raised to.
    desired: u32,
    /// The most it may grow to.
    max: u32,
}

impl StepKind for ScaleNodes {
    const KIND: &'static str = "nodes.scale";
    const ABOUT: &'static str = "Raises a managed node group to the topology's sizes and waits until its nodes are Ready. \
        Each field becomes the larger of what is and what is wanted: nothing is ever lowered. The minimum is raised too, \
        so that an autoscaler does not take the nodes away again. Follows the update to Successful, then watches the \
        nodes. With four fifths of them Ready after two thirds of its deadline it counts as done, degraded. Stays raised: \
        the report shows the sizes of before.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let (_, here) = topology.cluster(&params.cluster, &params.region)?;
        let eks = here.eks.clone().ok_or_else(|| {
            Error::invalid(format!("cluster `{}` has no `eks` name in {}", params.cluster, params.region))
                .hint("node groups are scaled through EKS, so its name is needed beside a kubeconfig")
        })?;
        let wanted = Scaling { min: params.min, desired: params.desired, max: params.max };
        if wanted.min > wanted.desired || wanted.desired > wanted.max {
            return Err(Error::invalid(format!("node group {}: {wanted}", params.node_group))
                .hint("min <= desired <= max"));
        }
        let follow = Mutex::default();
        Ok(Self { eks, cluster: here.clone(), wanted, topology: topology.clone(), params, follow })
    }
}

impl ScaleNodes {
    fn follow<T>(&self, f: impl FnOnce(&mut Follow) -> T) -> T {
        f(&mut self.follow.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Step for ScaleNodes {
    fn summary(&self) -> String {
        format!(
            "raise node group {} to at least {} and wait for its nodes",
            self.params.node_group, self.wanted
        )
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        let (region, resource) =
            (&self.params.region, format!("nodegroup:{}/{}", self.eks, self.params.node_group));
        vec![
            ApiCall::reads("eks:DescribeNodegroup", region, Plane::Control, &resource),
            ApiCall::mutates("eks:UpdateNodegroupConfig", region, Plane::Control, &resource),
            ApiCall::reads("eks:DescribeUpdate", region, Plane::Control, resource),
            ApiCall::reads("kubernetes:list nodes", region, Plane::Data, format!("cluster:{}", self.eks)),
        ]
    }
    fn by_hand(&self) -> Vec<String> {
        let Scaling { min, desired, max } = self.wanted;
        let scale = format!(
            "eks update-nodegroup-config --cluster-name {} --nodegroup-name {} --scaling-config minSize={min},maxSize={max},desiredSize={desired}",
            self.eks, self.params.node_group
        );
        let (prepare, kubectl) = by_hand::kubectl(&self.topology, &self.params.region, &self.cluster);
        let mut lines = vec![format!(
            "{}   # no number lower than it is now",
            by_hand::aws(&self.topology, &self.params.region, &scale)
        )];
        lines.extend(prepare);
        lines.push(format!("{kubectl} get nodes -l eks.amazonaws.com/nodegroup={}", self.params.node_group));
        lines
    }
    fn timing(&self) -> Timing {
        Timing::secs(190, DEADLINE.as_secs())
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let region = cx.region(&self.params.region)?;
        let groups = region.node_groups();
        self.follow(|f| f.nodes = None);
        if let Some(update) = self.follow(|f| f.update.clone()) {
            match groups.update_status(&self.eks, &self.params.node_group, &update).await? {
                UpdateStatus::InProgress => {
                    return Ok(Observed::Underway("the update of the node group is in progress".into()));
                }
                UpdateStatus::Failed(why) => {
                    return Ok(Observed::Failed(
                        Error::unavailable(format!(
                            "the update of node group {} failed: {why}",
                            self.params.node_group
                        ))
                        .hint("mend the reason, or add capacity by hand"),
                    ));
                }
                UpdateStatus::Successful => self.follow(|f| f.update = None),
            }
        }
        let group = groups.describe(&self.eks, &self.params.node_group).await?;
        let target = group.scaling.raised_to(self.wanted);
        if target != group.scaling {
            return Ok(Observed::NotDone { before: json!({ "scaling": group.scaling }) });
        }
        let nodes = region.workloads(&self.params.cluster)?.nodes().await?;
        let ready = nodes
            .items
            .iter()
            .filter(|n| n.ready && n.group.as_deref() == Some(&self.params.node_group))
            .count();
        let done = |degraded: bool, detail: String| {
            let before = cx.started.as_ref().and_then(|s| s.before.get("scaling").cloned());
            Ok(Observed::Done(json!({
                "cluster": self.eks, "node_group": self.params.node_group, "before": before, "scaling": group.scaling,
                "ready": ready, "degraded": degraded, "detail": detail,
            })))
        };
        let want = group.scaling.desired as usize;
        if ready >= want {
            return done(false, format!("{ready} nodes are Ready"));
        }
        let issues = group.issues.join("; ");
        let patience = self.topology.deadline(Self::KIND, DEADLINE) * 2 / 3;
        if ready * 5 >= want * 4 && cx.past(patience) {
            return done(true, format!("only {ready} of {want} nodes are Ready: {issues}"));
        }
        self.follow(|f| f.nodes = Some(nodes.version));
        let tail = if issues.is_empty() { String::new() } else { format!("; {issues}") };
        Ok(Observed::Underway(format!("{ready} of {want} nodes are Ready{tail}")))
    }

    async fn apply(&self, cx: &StepCtx, _before: &Value) -> Result<()> {
        let groups = cx.region(&self.params.region)?.node_groups();
        let now = groups.describe(&self.eks, &self.params.node_group).await.map_err(|e| {
            // Only read so far: nothing is in doubt.
            if e.kind == crate::error::ErrorKind::InDoubt {
                Error { kind: crate::error::ErrorKind::Unavailable, ..e }
            } else {
                e
            }
        })?;
        let target = now.scaling.raised_to(self.wanted);
        // The same for the same change; another where the sizes have moved since.
        let token = format!("{}-{}-{}-{}", cx.run, cx.step, now.scaling.min, now.scaling.desired);
        let update = groups.scale(&self.eks, &self.params.node_group, target, &token).await?;
        self.follow(|f| f.update = Some(update));
        Ok(())
    }

    async fn wait(&self, cx: &StepCtx) {
        let Some(version) = self.follow(|f| f.nodes.clone()) else {
            return cx.clock().sleep(self.timing().poll).await;
        };
        if let Ok(workloads) = cx.region(&self.params.region).and_then(|r| r.workloads(&self.params.cluster))
        {
            // The issues of the node group are looked at every half minute all the same.
            let limit = Duration::from_secs(30);
            match timeout(cx.clock(), limit, workloads.changed(&Scope::Nodes, &version)).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => cx.clock().sleep(self.timing().poll).await,
            }
        }
    }
}

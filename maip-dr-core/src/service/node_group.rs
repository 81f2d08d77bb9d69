use std::fmt::{self, Debug};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// The sizes of a node group: `min <= desired <= max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// The autoscaler goes no lower.
    pub min: u32,
    /// How many there should be now.
    pub desired: u32,
    /// The autoscaler goes no higher.
    pub max: u32,
}

impl Scaling {
    /// Each field the larger of both: nothing is ever lowered during a failover, because a lower desired size
    /// ends nodes at once, whatever the disruption budgets say.
    /// <https://docs.aws.amazon.com/eks/latest/userguide/update-managed-node-group.html>
    #[must_use]
    pub fn raised_to(self, wanted: Self) -> Self {
        let min = self.min.max(wanted.min);
        let desired = self.desired.max(wanted.desired).max(min);
        Self { min, desired, max: self.max.max(wanted.max).max(desired) }
    }
}

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "min {} desired {} max {}", self.min, self.desired, self.max)
    }
}

/// A Kubernetes cluster as its cloud describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterDescription {
    /// Its name.
    pub name: String,
    /// `ACTIVE`, `UPDATING`, ...
    pub status: String,
    /// The API's URL.
    pub endpoint: Option<String>,
    /// PEM of the CA that signs the endpoint's certificate.
    pub certificate_authority: Option<String>,
}

/// A managed group of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeGroup {
    /// Its name.
    pub name: String,
    /// `ACTIVE`, `UPDATING`, `DEGRADED`, ...
    pub status: String,
    /// Its sizes.
    pub scaling: Scaling,
    /// Health issues in the service's words, `code: message`. They lag by minutes.
    pub issues: Vec<String>,
}

/// How far an update of a node group has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateStatus {
    /// Going on.
    InProgress,
    /// The sizes are set. Nodes may still be starting.
    Successful,
    /// It failed, with the reasons.
    Failed(String),
}

/// The clusters and managed node groups of one Region.
///
/// Contract, besides the rules of [`crate::service`]:
/// - `scale` while another update runs is `Conflict`; sizes that break `min <= desired <= max` are `Invalid`.
/// - `token` makes `scale` idempotent: the same token and sizes again answer the same update.
/// - `describe` shows the new sizes at the latest when the update is `Successful`.
#[cfg_attr(any(test, feature = "test-util"), mockall::automock)]
#[async_trait]
pub trait NodeGroupService: Send + Sync + Debug + 'static {
    /// The cluster named `name`.
    async fn cluster(&self, name: &str) -> Result<ClusterDescription>;
    /// The node group `group` of `cluster`.
    async fn describe(&self, cluster: &str, group: &str) -> Result<NodeGroup>;
    /// Sets the sizes; the update's id.
    async fn scale(&self, cluster: &str, group: &str, scaling: Scaling, token: &str) -> Result<String>;
    /// How far the update `id` has got.
    async fn update_status(&self, cluster: &str, group: &str, id: &str) -> Result<UpdateStatus>;
}

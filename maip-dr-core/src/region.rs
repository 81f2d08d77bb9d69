//! Places with services, and the pair of them that a run works on.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::service::{
    DatabaseService, DnsService, IdentityService, NodeGroupService, NotifyService, ProbeService,
    StreamService, TableService, WorkloadService,
};

/// One Region's services. Getting a service costs nothing and calls nothing; clients are made on first use.
pub trait Region: Send + Sync + Debug + 'static {
    /// Its name.
    fn id(&self) -> &RegionId;
    /// Who we are there.
    fn identity(&self) -> Arc<dyn IdentityService>;
    /// Its databases.
    fn database(&self) -> Arc<dyn DatabaseService>;
    /// Its clusters and node groups.
    fn node_groups(&self) -> Arc<dyn NodeGroupService>;
    /// What runs in the topology's cluster `cluster` in this Region.
    ///
    /// # Errors
    /// `NotFound` when the topology has no such cluster here.
    fn workloads(&self, cluster: &str) -> Result<Arc<dyn WorkloadService>>;
    /// Its Kafka clusters.
    fn streams(&self) -> Arc<dyn StreamService>;
    /// Its tables.
    fn tables(&self) -> Arc<dyn TableService>;
}

/// Everything a run can reach: the Regions, and what belongs to none of them.
#[derive(Debug, Clone)]
pub struct World {
    /// `aws` or `sandbox`.
    pub name: &'static str,
    /// The Regions of the topology.
    pub regions: BTreeMap<RegionId, Arc<dyn Region>>,
    /// The public DNS.
    pub dns: Arc<dyn DnsService>,
    /// Where its API lives.
    pub dns_region: RegionId,
    /// How we look from outside.
    pub probe: Arc<dyn ProbeService>,
    /// How people are told.
    pub notify: Arc<dyn NotifyService>,
    /// What waits sleep on.
    pub clock: Arc<dyn Clock>,
}

impl World {
    /// The Region named `id`.
    ///
    /// # Errors
    /// `Invalid` when the topology does not describe it.
    pub fn region(&self, id: &RegionId) -> Result<&Arc<dyn Region>> {
        self.regions.get(id).ok_or_else(|| {
            let known: Vec<&str> = self.regions.keys().map(RegionId::as_str).collect();
            Error::invalid(format!("Region {id} is not in the topology"))
                .hint(format!("the topology describes {}", known.join(", ")))
        })
    }
}

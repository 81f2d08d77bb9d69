//! The real world: AWS through its own SDKs, Kubernetes through kube-rs, DNS and HTTP from this machine.
//!
//! Guarantees: the Region is explicit on every client, and STS is asked at the Region's own endpoint; a mutating
//! call is sent once and never retried here; no answer is waited for longer than a dead Region deserves.
//! Assumptions: the default credential chain, or the profile and role of the topology. Caveats: Route 53's API
//! has one endpoint for the whole partition, and it is in us-east-1.

mod cloudwatch;
mod config;
mod dynamodb;
mod eks;
mod errors;
mod msk;
mod rds;
mod route53;
#[cfg(test)]
mod scripted;
mod sts;
#[cfg(test)]
mod wire_tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::aws::config::Reach;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::net::{NetNotify, NetProbe};
use crate::region::{Region, World};
use crate::service::{
    DatabaseService, IdentityService, NodeGroupService, StreamService, TableService, WorkloadService,
};
use crate::topology::Topology;

/// Where the API of Route 53 is.
/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/route-53-concepts.html>
const DNS_REGION: &str = "us-east-1";

/// The world that `topology` describes. Calls no service; it only makes sure that there are credentials.
///
/// # Errors
/// `Denied` where a Region has no credentials at all, with what to do.
pub async fn world(topology: &Topology) -> Result<World> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let dns_region = RegionId::from(DNS_REGION);
    let reach = |id: RegionId| async {
        let access = topology.access(&id);
        Reach::of(id, &access).await
    };
    let described = futures::future::try_join_all(topology.region_ids().cloned().map(reach));
    let (regions, mut dns) = futures::try_join!(described, reach(dns_region.clone()))?;
    // Asked as the standby's identity, where that is in the same account.
    let account = |id: &RegionId| topology.access(id).account;
    let standby = regions.iter().find(|r| topology.standby.contains(&r.region) && r.region != dns_region);
    if let Some(standby) = standby.filter(|r| account(&r.region) == account(&dns_region)) {
        dns = dns.with_credentials_of(standby);
    }
    let regions: BTreeMap<RegionId, Arc<dyn Region>> = regions
        .into_iter()
        .map(|reach| {
            let region = AwsRegion::new(&reach, topology, &clock);
            (reach.region, Arc::new(region) as Arc<dyn Region>)
        })
        .collect();
    Ok(World {
        name: "aws",
        regions,
        dns: Arc::new(route53::Route53::new(&dns)),
        dns_region,
        probe: Arc::new(NetProbe),
        notify: Arc::new(NetNotify::default()),
        clock,
    })
}

/// One Region of AWS.
#[derive(Debug)]
struct AwsRegion {
    id: RegionId,
    sts: Arc<sts::Sts>,
    rds: Arc<rds::Rds>,
    eks: Arc<eks::Eks>,
    msk: Arc<msk::Msk>,
    dynamodb: Arc<dynamodb::DynamoDb>,
    workloads: BTreeMap<String, Arc<dyn WorkloadService>>,
}

impl AwsRegion {
    fn new(reach: &Reach, topology: &Topology, clock: &Arc<dyn Clock>) -> Self {
        let eks = Arc::new(eks::Eks::new(reach));
        Self {
            id: reach.region.clone(),
            sts: Arc::new(sts::Sts::new(reach)),
            rds: Arc::new(rds::Rds::new(reach)),
            msk: Arc::new(msk::Msk::new(reach)),
            dynamodb: Arc::new(dynamodb::DynamoDb::new(reach)),
            workloads: workloads(reach, topology, &eks, clock),
            eks,
        }
    }
}

#[cfg(feature = "kube")]
fn workloads(
    reach: &Reach,
    topology: &Topology,
    eks: &Arc<eks::Eks>,
    clock: &Arc<dyn Clock>,
) -> BTreeMap<String, Arc<dyn WorkloadService>> {
    use crate::kube::{Access, EksAccess, KubeWorkloads};
    let access = |here: &crate::topology::ClusterIn| match (&here.kubeconfig, &here.eks) {
        (Some(path), _) => Some(Access::Kubeconfig { path: path.clone(), context: here.context.clone() }),
        (None, Some(name)) => Some(Access::Eks(EksAccess {
            region: reach.region.clone(),
            name: name.clone(),
            service: eks.clone(),
            credentials: reach.credentials.clone(),
        })),
        (None, None) => None,
    };
    let here = topology.clusters.iter().filter_map(|(name, c)| Some((name, c.regions.get(&reach.region)?)));
    here.filter_map(|(name, here)| {
        let service: Arc<dyn WorkloadService> = Arc::new(KubeWorkloads::new(access(here)?, clock.clone()));
        Some((name.clone(), service))
    })
    .collect()
}

#[cfg(not(feature = "kube"))]
fn workloads(
    _: &Reach,
    _: &Topology,
    _: &Arc<eks::Eks>,
    _: &Arc<dyn Clock>,
) -> BTreeMap<String, Arc<dyn WorkloadService>> {
    BTreeMap::new()
}

impl Region for AwsRegion {
    fn id(&self) -> &RegionId {
        &self.id
    }
    fn identity(&self) -> Arc<dyn IdentityService> {
        self.sts.clone()
    }
    fn database(&self) -> Arc<dyn DatabaseService> {
        self.rds.clone()
    }
    fn node_groups(&self) -> Arc<dyn NodeGroupService> {
        self.eks.clone()
    }
    fn workloads(&self, cluster: &str) -> Result<Arc<dyn WorkloadService>> {
        self.workloads.get(cluster).cloned().ok_or_else(|| {
            Error::not_found(format!("cluster `{cluster}` cannot be reached in {}", self.id)).hint(
                if cfg!(feature = "kube") {
                    "give it `eks`, or `kubeconfig` and `context`, in the topology"
                } else {
                    "this build of maip-dr has no Kubernetes: build it with its default features"
                },
            )
        })
    }
    fn streams(&self) -> Arc<dyn StreamService> {
        self.msk.clone()
    }
    fn tables(&self) -> Arc<dyn TableService> {
        self.dynamodb.clone()
    }
}

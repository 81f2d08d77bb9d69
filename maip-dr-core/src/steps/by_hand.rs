//! The commands that a person would type instead of a step.

use crate::id::RegionId;
use crate::topology::{ClusterIn, Topology};

/// `aws SERVICE...` for `region`, with the profile that the topology names.
pub(super) fn aws(topology: &Topology, region: &RegionId, command: &str) -> String {
    let access = topology.access(region);
    let profile = access.profile.map(|p| format!(" --profile {p}")).unwrap_or_default();
    let endpoint = access.endpoint_url.map(|url| format!(" --endpoint-url {url}")).unwrap_or_default();
    format!("aws {command} --region {region}{profile}{endpoint}")
}

/// What makes kubectl talk to the right cluster, and how it is then called.
pub(super) fn kubectl(topology: &Topology, region: &RegionId, cluster: &ClusterIn) -> (Vec<String>, String) {
    match (&cluster.kubeconfig, &cluster.eks) {
        (Some(path), _) => {
            let context = cluster.context.as_ref().map(|c| format!(" --context {c}")).unwrap_or_default();
            (Vec::new(), format!("kubectl --kubeconfig {}{context}", path.display()))
        }
        (None, Some(eks)) => (
            // A context of its own: kubectl does not follow AWS_REGION.
            vec![aws(topology, region, &format!("eks update-kubeconfig --name {eks} --alias {eks}"))],
            format!("kubectl --context {eks}"),
        ),
        (None, None) => (Vec::new(), "kubectl".to_owned()),
    }
}

//! Clusters and node groups, by EKS.

use async_trait::async_trait;
use aws_sdk_eks::Client;
use aws_sdk_eks::types::{NodegroupScalingConfig, UpdateStatus as EksStatus};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::aws::config::Reach;
use crate::aws::errors::{Call, lacks};
use crate::error::Result;
use crate::id::RegionId;
use crate::service::{ClusterDescription, NodeGroup, NodeGroupService, Scaling, UpdateStatus};

/// [`NodeGroupService`] over EKS.
#[derive(Debug)]
pub(super) struct Eks {
    region: RegionId,
    read: Client,
    mutate: Client,
}

impl Eks {
    pub(super) fn new(reach: &Reach) -> Self {
        Self {
            region: reach.region.clone(),
            read: Client::new(&reach.read),
            mutate: Client::new(&reach.mutate),
        }
    }
}

fn to_wire(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn from_wire(number: Option<i32>) -> u32 {
    u32::try_from(number.unwrap_or(0)).unwrap_or(0)
}

#[async_trait]
impl NodeGroupService for Eks {
    async fn cluster(&self, name: &str) -> Result<ClusterDescription> {
        let call = Call::reads("eks:DescribeCluster", &self.region);
        let answer = self.read.describe_cluster().name(name).send().await;
        let found = answer.map_err(|e| call.failed(e).with("resource", name))?;
        let found = found.cluster.ok_or_else(|| lacks(call.api, "cluster"))?;
        let authority = match found.certificate_authority.and_then(|c| c.data) {
            None => None,
            Some(data) => {
                let pem = BASE64_STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                Some(pem.ok_or_else(|| lacks(call.api, "readable certificate authority"))?)
            }
        };
        Ok(ClusterDescription {
            name: found.name.unwrap_or_else(|| name.to_owned()),
            status: found.status.map(|s| s.as_str().to_owned()).ok_or_else(|| lacks(call.api, "status"))?,
            endpoint: found.endpoint,
            certificate_authority: authority,
        })
    }

    async fn describe(&self, cluster: &str, group: &str) -> Result<NodeGroup> {
        let call = Call::reads("eks:DescribeNodegroup", &self.region);
        let answer = self.read.describe_nodegroup().cluster_name(cluster).nodegroup_name(group).send().await;
        let found = answer.map_err(|e| call.failed(e).with("resource", format!("{cluster}/{group}")))?;
        let found = found.nodegroup.ok_or_else(|| lacks(call.api, "nodegroup"))?;
        let sizes = found.scaling_config.ok_or_else(|| lacks(call.api, "scalingConfig"))?;
        let issues = found.health.and_then(|h| h.issues).unwrap_or_default();
        Ok(NodeGroup {
            name: found.nodegroup_name.unwrap_or_else(|| group.to_owned()),
            status: found.status.map(|s| s.as_str().to_owned()).ok_or_else(|| lacks(call.api, "status"))?,
            scaling: Scaling {
                min: from_wire(sizes.min_size),
                desired: from_wire(sizes.desired_size),
                max: from_wire(sizes.max_size),
            },
            issues: issues
                .into_iter()
                .map(|issue| {
                    let code = issue.code.map(|c| c.as_str().to_owned()).unwrap_or_default();
                    format!("{code}: {}", issue.message.unwrap_or_default())
                })
                .collect(),
        })
    }

    async fn scale(&self, cluster: &str, group: &str, scaling: Scaling, token: &str) -> Result<String> {
        let call = Call::mutates("eks:UpdateNodegroupConfig", &self.region);
        let sizes = NodegroupScalingConfig::builder()
            .min_size(to_wire(scaling.min))
            .desired_size(to_wire(scaling.desired))
            .max_size(to_wire(scaling.max))
            .build();
        let answer = self
            .mutate
            .update_nodegroup_config()
            .cluster_name(cluster)
            .nodegroup_name(group)
            .scaling_config(sizes)
            .client_request_token(token)
            .send()
            .await;
        let update =
            answer.map_err(|e| call.failed(e).with("resource", format!("{cluster}/{group}")))?.update;
        update.and_then(|u| u.id).ok_or_else(|| {
            // Accepted, but what to ask after is not known: look at the group itself.
            let lost = lacks(call.api, "update id");
            crate::Error { kind: crate::ErrorKind::InDoubt, ..lost }
        })
    }

    async fn update_status(&self, cluster: &str, group: &str, id: &str) -> Result<UpdateStatus> {
        let call = Call::reads("eks:DescribeUpdate", &self.region);
        let answer =
            self.read.describe_update().name(cluster).nodegroup_name(group).update_id(id).send().await;
        let found = answer.map_err(|e| call.failed(e).with("resource", format!("{cluster}/{group}")))?;
        let update = found.update.ok_or_else(|| lacks(call.api, "update"))?;
        let errors: Vec<String> = update
            .errors
            .unwrap_or_default()
            .into_iter()
            .map(|e| {
                let code = e.error_code.map(|c| c.as_str().to_owned()).unwrap_or_default();
                format!("{code}: {}", e.error_message.unwrap_or_default())
            })
            .collect();
        Ok(match update.status {
            Some(EksStatus::Successful) => UpdateStatus::Successful,
            Some(EksStatus::InProgress) => UpdateStatus::InProgress,
            Some(EksStatus::Failed) if errors.is_empty() => {
                UpdateStatus::Failed("it failed without a reason".into())
            }
            Some(EksStatus::Failed) => UpdateStatus::Failed(errors.join("; ")),
            Some(EksStatus::Cancelled) => UpdateStatus::Failed("it was cancelled".into()),
            other => return Err(lacks(call.api, &format!("status that is known ({other:?})"))),
        })
    }
}

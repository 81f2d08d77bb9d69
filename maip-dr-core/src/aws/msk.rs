//! Kafka clusters, by MSK.

use async_trait::async_trait;
use aws_sdk_kafka::Client;

use crate::aws::config::Reach;
use crate::aws::errors::{Call, lacks};
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::service::{Stream, StreamService};

/// [`StreamService`] over MSK.
#[derive(Debug)]
pub(super) struct Msk {
    region: RegionId,
    client: Client,
}

impl Msk {
    pub(super) fn new(reach: &Reach) -> Self {
        Self { region: reach.region.clone(), client: Client::new(&reach.read) }
    }
}

#[async_trait]
impl StreamService for Msk {
    async fn describe(&self, name: &str) -> Result<Stream> {
        let call = Call::reads("kafka:ListClustersV2", &self.region);
        // The filter is a prefix; the exact name is ours to find, on whatever page it is.
        // <https://docs.aws.amazon.com/MSK/2.0/APIReference/v2-clusters.html>
        let mut found =
            self.client.list_clusters_v2().cluster_name_filter(name).into_paginator().items().send();
        while let Some(cluster) = found.next().await {
            let cluster = cluster.map_err(|e| call.failed(e).with("resource", name))?;
            if cluster.cluster_name.as_deref() == Some(name) {
                let state = cluster.state.map(|s| s.as_str().to_owned());
                return Ok(Stream {
                    name: name.to_owned(),
                    arn: cluster.cluster_arn.unwrap_or_default(),
                    state: state.ok_or_else(|| lacks(call.api, "state"))?,
                });
            }
        }
        Err(Error::not_found(format!("there is no MSK cluster {name} in {}", self.region)))
    }
}

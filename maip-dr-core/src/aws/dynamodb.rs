//! Tables, by DynamoDB.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use jiff::Timestamp;

use crate::aws::cloudwatch::CloudWatch;
use crate::aws::config::Reach;
use crate::aws::errors::{Call, lacks};
use crate::error::Result;
use crate::id::RegionId;
use crate::service::{LatencySample, Table, TableService};

/// [`TableService`] over DynamoDB, with the latency from CloudWatch in the same Region.
#[derive(Debug)]
pub(super) struct DynamoDb {
    region: RegionId,
    client: Client,
    metrics: CloudWatch,
}

impl DynamoDb {
    pub(super) fn new(reach: &Reach) -> Self {
        Self {
            region: reach.region.clone(),
            client: Client::new(&reach.read),
            metrics: CloudWatch::new(reach),
        }
    }
}

#[async_trait]
impl TableService for DynamoDb {
    async fn describe(&self, name: &str) -> Result<Table> {
        let call = Call::reads("dynamodb:DescribeTable", &self.region);
        let answer = self.client.describe_table().table_name(name).send().await;
        let found = answer.map_err(|e| call.failed(e).with("resource", name))?;
        let found = found.table.ok_or_else(|| lacks(call.api, "table"))?;
        let replicas = found.replicas.unwrap_or_default().into_iter().filter_map(|replica| {
            let region = RegionId::from(replica.region_name?.as_str());
            // A replica without a status is not ACTIVE.
            let status = replica.replica_status.map_or("UNKNOWN".to_owned(), |s| s.as_str().to_owned());
            (region != self.region).then_some((region, status))
        });
        Ok(Table {
            status: found
                .table_status
                .map(|s| s.as_str().to_owned())
                .ok_or_else(|| lacks(call.api, "table status"))?,
            replicas: replicas.collect(),
        })
    }

    async fn replication_latency(
        &self,
        name: &str,
        receiving: &RegionId,
        since: Timestamp,
    ) -> Result<Vec<LatencySample>> {
        let dimensions = [("TableName", name), ("ReceivingRegion", receiving.as_str())];
        let found = self.metrics.maxima("AWS/DynamoDB", "ReplicationLatency", &dimensions, since).await?;
        Ok(found.into_iter().map(|(at, milliseconds)| LatencySample { at, milliseconds }).collect())
    }
}

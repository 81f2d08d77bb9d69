//! Databases, by RDS.

use async_trait::async_trait;
use aws_sdk_rds::Client;
use aws_sdk_rds::types::{DbInstance, PendingModifiedValues, SourceType};
use jiff::Timestamp;

use crate::aws::cloudwatch::CloudWatch;
use crate::aws::config::Reach;
use crate::aws::errors::{Call, lacks};
use crate::error::Result;
use crate::id::RegionId;
use crate::service::{DatabaseEvent, DatabaseService, Instance, LagSample};

/// [`DatabaseService`] over RDS, with the lag from CloudWatch in the same Region.
#[derive(Debug)]
pub(super) struct Rds {
    region: RegionId,
    read: Client,
    mutate: Client,
    metrics: CloudWatch,
}

impl Rds {
    pub(super) fn new(reach: &Reach) -> Self {
        Self {
            region: reach.region.clone(),
            read: Client::new(&reach.read),
            mutate: Client::new(&reach.mutate),
            metrics: CloudWatch::new(reach),
        }
    }
}

#[async_trait]
impl DatabaseService for Rds {
    async fn describe(&self, id: &str) -> Result<Instance> {
        let call = Call::reads("rds:DescribeDBInstances", &self.region);
        let answer = self
            .read
            .describe_db_instances()
            .db_instance_identifier(id)
            .send()
            .await
            .map_err(|e| call.failed(e).with("resource", id))?;
        // An unknown name is an error of its own; an empty list is no answer that RDS gives.
        let found = answer.db_instances.unwrap_or_default().into_iter().next();
        instance(found.ok_or_else(|| lacks(call.api, "instance"))?)
    }

    async fn promote(&self, id: &str, retention_days: u32) -> Result<()> {
        let call = Call::mutates("rds:PromoteReadReplica", &self.region);
        self.mutate
            .promote_read_replica()
            .db_instance_identifier(id)
            .backup_retention_period(i32::try_from(retention_days).unwrap_or(i32::MAX))
            .send()
            .await
            .map(drop)
            .map_err(|e| call.failed(e).with("resource", id))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let call = Call::mutates("rds:ModifyDBInstance", &self.region);
        self.mutate
            .modify_db_instance()
            .db_instance_identifier(from)
            .new_db_instance_identifier(to)
            .apply_immediately(true)
            .send()
            .await
            .map(drop)
            .map_err(|e| call.failed(e).with("resource", from))
    }

    async fn replica_lag(&self, id: &str, since: Timestamp) -> Result<Vec<LagSample>> {
        let dimensions = [("DBInstanceIdentifier", id)];
        let found = self.metrics.maxima("AWS/RDS", "ReplicaLag", &dimensions, since).await?;
        Ok(found.into_iter().map(|(at, seconds)| LagSample { at, seconds }).collect())
    }

    async fn events(&self, id: &str, since: Timestamp) -> Result<Vec<DatabaseEvent>> {
        let call = Call::reads("rds:DescribeEvents", &self.region);
        let mut pages = self
            .read
            .describe_events()
            .source_identifier(id)
            .source_type(SourceType::DbInstance)
            .start_time(aws_smithy_types::DateTime::from_secs(since.as_second()))
            .into_paginator()
            .items()
            .send();
        let mut found = Vec::new();
        while let Some(event) = pages.next().await {
            let event = event.map_err(|e| call.failed(e).with("resource", id))?;
            let at = event.date.and_then(|at| Timestamp::from_second(at.secs()).ok());
            if let (Some(at), Some(message)) = (at, event.message) {
                found.push(DatabaseEvent { at, message });
            }
        }
        found.sort_by_key(|event| event.at);
        Ok(found)
    }
}

fn instance(found: DbInstance) -> Result<Instance> {
    let api = "rds:DescribeDBInstances";
    let replication = found
        .status_infos
        .unwrap_or_default()
        .into_iter()
        .find(|info| info.status_type.as_deref() == Some("read replication"))
        .and_then(|info| info.status);
    Ok(Instance {
        id: found.db_instance_identifier.ok_or_else(|| lacks(api, "DBInstanceIdentifier"))?,
        resource_id: found.dbi_resource_id.unwrap_or_default(),
        arn: found.db_instance_arn.unwrap_or_default(),
        engine: found.engine.unwrap_or_default(),
        // An instance without a status would pass for anything: it is no answer.
        status: found.db_instance_status.ok_or_else(|| lacks(api, "DBInstanceStatus"))?,
        replica_source: found
            .read_replica_source_db_instance_identifier
            .or(found.read_replica_source_db_cluster_identifier)
            .filter(|source| !source.is_empty()),
        replication,
        backup_retention_days: u32::try_from(found.backup_retention_period.unwrap_or(0)).unwrap_or(0),
        pending_changes: found.pending_modified_values.map(|p| pending(&p)).unwrap_or_default(),
        class: found.db_instance_class.unwrap_or_default(),
        endpoint: found.endpoint.and_then(|e| e.address),
        multi_az: found.multi_az.unwrap_or(false),
    })
}

/// Changes that wait, without a password's value.
fn pending(values: &PendingModifiedValues) -> Vec<String> {
    let shown = |name: &str, value: Option<String>| value.map(|v| format!("{name}={v}"));
    [
        shown("class", values.db_instance_class.clone()),
        shown("storage", values.allocated_storage.map(|v| v.to_string())),
        shown("password", values.master_user_password.as_ref().map(|_| "***".to_owned())),
        shown("port", values.port.map(|v| v.to_string())),
        shown("backup_retention_days", values.backup_retention_period.map(|v| v.to_string())),
        shown("multi_az", values.multi_az.map(|v| v.to_string())),
        shown("engine_version", values.engine_version.clone()),
        shown("iops", values.iops.map(|v| v.to_string())),
        shown("identifier", values.db_instance_identifier.clone()),
        shown("storage_type", values.storage_type.clone()),
        shown("ca", values.ca_certificate_identifier.clone()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

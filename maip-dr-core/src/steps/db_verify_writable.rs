use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::service::HttpQuestion;
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::by_hand;
use crate::topology::Topology;

/// Shows that the database takes writes, as far as it can be shown without SQL.
#[derive(Debug)]
pub(super) struct VerifyWritable {
    params: Params,
    instance: String,
    topology: Topology,
}

/// Which database.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The database's logical name.
    database: String,
    /// Where it was promoted.
    region: RegionId,
}

impl StepKind for VerifyWritable {
    const KIND: &'static str = "db.verify_writable";
    const ABOUT: &'static str = "Gathers the evidence that the promoted database takes writes: the service's API (no source, \
        no replication infos, available, backups on), and what the application itself answers at its load balancer. \
        Without a SQL probe a write is not proven; the output lists under `unproven` what was not shown.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let (_, instance) = topology.instance(&params.database, &params.region)?;
        Ok(Self { instance: instance.to_owned(), topology: topology.clone(), params })
    }
}

/// The states in which an instance without a source takes writes while it does something else.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html#Overview.DBInstance.Status>
fn takes_writes(status: &str) -> bool {
    matches!(status, "available" | "backing-up" | "storage-optimization" | "maintenance")
        || status.starts_with("configuring-")
}

#[async_trait]
impl Step for VerifyWritable {
    fn summary(&self) -> String {
        format!("verify that {} takes writes, as far as its API and the application tell", self.instance)
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        let resource = format!("db:{}", self.instance);
        vec![ApiCall::reads("rds:DescribeDBInstances", &self.params.region, Plane::Control, resource)]
    }
    fn by_hand(&self) -> Vec<String> {
        let look = format!(
            "rds describe-db-instances --db-instance-identifier {} --query \
             'DBInstances[0].[DBInstanceStatus,ReadReplicaSourceDBInstanceIdentifier,BackupRetentionPeriod]'",
            self.instance
        );
        vec![
            by_hand::aws(&self.topology, &self.params.region, &look),
            "psql \"$URL\" -c 'select pg_is_in_recovery()'   # must be f".to_owned(),
        ]
    }
    fn timing(&self) -> Timing {
        Timing::secs(2, 120)
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let seen = cx.region(&self.params.region)?.database().describe(&self.instance).await?;
        if let Some(source) = &seen.replica_source {
            return Ok(Observed::Failed(Error::refused(format!(
                "{} is a replica of {source}: it takes no writes",
                seen.id
            ))));
        }
        if seen.replication.is_some() || !takes_writes(&seen.status) {
            return Ok(Observed::Underway(seen.status));
        }
        let mut unproven = vec!["no SQL probe: that a write commits was not tried".to_owned()];
        if seen.status != "available" {
            unproven.push(format!("it is {}: available to clients, but busy", seen.status));
        }
        if seen.backup_retention_days == 0 {
            unproven.push(
                "automated backups are off: it cannot be restored, and cannot be replicated from".to_owned(),
            );
        }
        let mut application = Vec::new();
        for (name, traffic) in &self.topology.traffic {
            let Some(here) = traffic.regions.get(&self.params.region) else { continue };
            let question = HttpQuestion {
                url: traffic.health.url.clone(),
                connect: Some(here.connect.clone().unwrap_or_else(|| here.load_balancer.clone())),
                resolvers: traffic.resolvers.clone(),
                limit: Duration::from_secs(2),
            };
            let said = match cx.world.probe.http(&question).await {
                Ok(answer) if answer.status == traffic.health.status => {
                    format!("{name} answers {}", answer.status)
                }
                // Its pools may still hold connections to the database from before; the restart comes next.
                Ok(answer) => {
                    unproven.push(format!(
                        "the application behind {name} answers {}, before its restart",
                        answer.status
                    ));
                    format!("{name} answers {}", answer.status)
                }
                Err(e) => {
                    unproven.push(format!("the application behind {name} does not answer yet"));
                    e.one_line()
                }
            };
            application.push(said);
        }
        Ok(Observed::Done(json!({
            "database": self.params.database, "instance": seen.id, "status": seen.status, "endpoint": seen.endpoint,
            "backup_retention_days": seen.backup_retention_days, "application": application, "unproven": unproven,
            "detail": format!("{} is {} and replicates from nobody", seen.id, seen.status),
        })))
    }
}

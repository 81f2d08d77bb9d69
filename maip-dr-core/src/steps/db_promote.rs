use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result, Risk};
use crate::id::RegionId;
use crate::journal::millis;
use crate::service::{DatabaseService, Instance};
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::{by_hand, db_record_watermark::measure};
use crate::topology::Topology;

/// Promoted is believed when two looks at least this far apart agree: a single one may be the state of before.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Makes the replica the writer. The one-way door.
#[derive(Debug)]
pub(super) struct Promote {
    params: Params,
    instance: String,
    retention_days: u32,
    /// The instances that the replica may replicate from: Region and name.
    sources: Vec<(RegionId, String)>,
    objective: Duration,
    topology: Topology,
}

/// Which database.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The database's logical name.
    database: String,
    /// The replica's Region.
    region: RegionId,
}

impl StepKind for Promote {
    const KIND: &'static str = "db.promote";
    const ABOUT: &'static str = "Promotes the read replica: it restarts and is a writer of its own, for ever \
        (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_ReadRepl.Promote.html). Before: the source is the \
        expected one, the old writer is fenced or that risk accepted, the loss of data is within the objective or \
        accepted, `backing-up` is waited for, broken replication needs --accept-data-loss unknown. Done when the source \
        is gone, the replication infos are empty and the status is available in two looks at least 1 s apart; never \
        from `available` alone. Promoted already, but not by this run, is held until --accept-promoted.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let (database, instance) = topology.instance(&params.database, &params.region)?;
        let sources = database
            .regions
            .iter()
            .filter(|(region, _)| **region != params.region)
            .map(|(region, there)| (region.clone(), there.instance.clone()))
            .collect();
        Ok(Self {
            instance: instance.to_owned(),
            retention_days: database.backup_retention_days,
            sources,
            objective: topology.objectives.rpo.0,
            topology: topology.clone(),
            params,
        })
    }
}

/// Whether the source ARN `arn` is `instance` in `region`, perhaps under the name that a fence gave it.
fn is_source(arn: &str, region: &RegionId, instance: &str) -> bool {
    let mut parts = arn.split(':').skip(3);
    let here = parts.next() == Some(region.as_str());
    let name = arn.rsplit(':').next().unwrap_or_default();
    // A fence shortens a long name; what it leaves is still a beginning of it.
    let unfenced = name.split_once("-fenced-").map_or(name, |(head, _)| head);
    // Only a name that had to give up letters to stay within 63 is a mere beginning.
    let shortened = name.len() == 63 && instance.starts_with(unfenced);
    here && (name == instance || (name != unfenced && (instance == unfenced || shortened)))
}

/// Statuses that a promoting instance cannot come back from by itself.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html>
fn is_dead_end(status: &str) -> bool {
    matches!(status, "failed" | "deleting" | "storage-full" | "restore-error")
        || status.starts_with("incompatible-")
        || status.starts_with("inaccessible-encryption-credentials")
}

/// The states in which RDS takes a promotion.
fn may_be_promoted(status: &str) -> bool {
    matches!(status, "available" | "storage-optimization")
}

impl Promote {
    /// What must hold before the first call. `None` = go on.
    async fn preconditions(&self, cx: &StepCtx, seen: &Instance) -> Result<Option<Observed>> {
        let source = seen.replica_source.as_deref().unwrap_or_default();
        if seen.engine != "postgres" {
            return Err(Error::invalid(format!("{} is {}, not postgres", seen.id, seen.engine)).hint(
                "Aurora and other engines fail over in other ways; maip-dr promotes RDS for PostgreSQL",
            ));
        }
        if !self.sources.iter().any(|(region, name)| is_source(source, region, name)) {
            let expected: Vec<String> = self.sources.iter().map(|(r, n)| format!("{n} in {r}")).collect();
            return Err(Error::refused(format!("{} replicates from {source}, not from {}", seen.id, expected.join(" or ")))
                .hint("promoting the wrong replica serves the wrong data; mend the topology or name the right instance"));
        }
        let key = self.params.database.as_str();
        let fenced = cx.outputs_of("db.fence", "database", key).next().is_some();
        if !fenced && !cx.accepted.contains(&Risk::Unfenced) {
            return Err(Error {
                needs: Some(Risk::Unfenced),
                ..Error::refused(format!("the old writer of {key} was not fenced in this run"))
                    .hint("put a db.fence before this step, or go on with --accept-unfenced")
            });
        }
        if seen.replication.as_deref() == Some("terminated") {
            let unknown = Risk::DataLoss { seconds: None };
            if !cx.accepts(&unknown) {
                return Err(Error { needs: Some(unknown), ..Error::refused(format!("the replication of {} is terminated: its data may be very old", seen.id))
                    .hint("replication that was broken for over 30 days, or whose source was deleted; go on with --accept-data-loss unknown") });
            }
        }
        match seen.status.as_str() {
            status if may_be_promoted(status) => Ok(None),
            "backing-up" => {
                Ok(Some(Observed::Underway("backing-up: a promotion is refused until it ends".to_owned())))
            }
            other => Ok(Some(Observed::Underway(format!("{other}: not yet ready for a promotion")))),
        }
    }

    fn output(&self, seen: &Instance, events: Vec<Value>) -> Value {
        json!({
            "database": self.params.database, "instance": seen.id, "resource_id": seen.resource_id,
            "endpoint": seen.endpoint, "status": seen.status, "backup_retention_days": seen.backup_retention_days,
            "multi_az": seen.multi_az, "events": events, "detail": format!("{} is a writer of its own", seen.id),
        })
    }

    async fn evidence(&self, cx: &StepCtx, database: &dyn DatabaseService) -> Vec<Value> {
        let since =
            cx.now().checked_sub(jiff::SignedDuration::from_hours(24)).unwrap_or(jiff::Timestamp::MIN);
        match database.events(&self.instance, since).await {
            Ok(events) => events.iter().map(|e| json!([millis::text(e.at), e.message])).collect(),
            Err(e) => vec![json!(["unknown", e.one_line()])],
        }
    }
}

#[async_trait]
impl Step for Promote {
    fn summary(&self) -> String {
        format!("promote {} to a writer of its own", self.instance)
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::Impossible
    }
    fn calls(&self) -> Vec<ApiCall> {
        let (region, resource) = (&self.params.region, format!("db:{}", self.instance));
        vec![
            ApiCall::reads("rds:DescribeDBInstances", region, Plane::Control, &resource),
            ApiCall::reads("rds:DescribeEvents", region, Plane::Control, &resource),
            ApiCall::reads("cloudwatch:GetMetricData", region, Plane::Data, &resource),
            ApiCall::mutates("rds:PromoteReadReplica", region, Plane::Control, resource),
        ]
    }
    fn by_hand(&self) -> Vec<String> {
        let promote = format!(
            "rds promote-read-replica --db-instance-identifier {} --backup-retention-period {}",
            self.instance, self.retention_days
        );
        let look = format!(
            "rds describe-db-instances --db-instance-identifier {} --query \
             'DBInstances[0].[DBInstanceStatus,ReadReplicaSourceDBInstanceIdentifier,StatusInfos]'",
            self.instance
        );
        vec![
            by_hand::aws(&self.topology, &self.params.region, &promote),
            format!(
                "{}   # until: available, no source, no StatusInfos; `wait db-instance-available` returns too early",
                by_hand::aws(&self.topology, &self.params.region, &look)
            ),
        ]
    }
    fn timing(&self) -> Timing {
        Timing { settle: Duration::from_secs(60), ..Timing::secs(360, 30 * 60) }
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let database = cx.region(&self.params.region)?.database();
        let seen = database.describe(&self.instance).await?;
        if let Some(started) = &cx.started {
            let before = started.before.get("resource_id").and_then(Value::as_str);
            if before.is_some_and(|id| id != seen.resource_id) {
                return Ok(Observed::Failed(Error::refused(format!(
                    "{} is now another instance ({}) than the one whose promotion was begun",
                    self.instance, seen.resource_id
                ))));
            }
        }
        if seen.looks_writable() {
            cx.clock().sleep(BETWEEN_LOOKS).await;
            let again = database.describe(&self.instance).await?;
            if !again.looks_writable() || again.resource_id != seen.resource_id {
                return Ok(Observed::Underway(format!("{} ({})", again.status, "two looks disagree")));
            }
            // Not ours: what the service says happened is the person's evidence.
            let events = if cx.started.is_none() { self.evidence(cx, &*database).await } else { Vec::new() };
            return Ok(Observed::Done(self.output(&again, events)));
        }
        if is_dead_end(&seen.status) {
            return Ok(Observed::Failed(
                Error::unavailable(format!("{} is {}", seen.id, seen.status))
                    .hint("mend the instance (parameter group, storage, KMS key), then `decide RUN retry`; never promote another one blindly"),
            ));
        }
        if cx.started.is_some() {
            // Accepted promotions show only some seconds later; until then the engine waits and calls nothing.
            let replica = seen.replica_source.is_some() && may_be_promoted(&seen.status);
            if replica {
                cx.note("available, still a replica");
                return Ok(Observed::NotDone {
                    before: cx.started.as_ref().map(|s| s.before.clone()).unwrap_or_default(),
                });
            }
            return Ok(Observed::Underway(seen.status));
        }
        if seen.replica_source.is_none() {
            return Ok(Observed::Underway(format!("{}: no replica, and not available either", seen.status)));
        }
        if let Some(wait) = self.preconditions(cx, &seen).await? {
            return Ok(wait);
        }
        let (_, watermark, _) = measure(cx, &self.params.region, &self.instance).await?;
        let key = self.params.database.as_str();
        let decided =
            cx.outputs_of("db.record_watermark", "database", key).any(|found| found["phase"] == "first");
        let risk = Risk::DataLoss { seconds: watermark.rpo_s.max };
        if !decided && !watermark.within(self.objective) && !cx.accepts(&risk) {
            return Err(Error { found: None, ..watermark.over(key, self.objective, Value::Null) });
        }
        Ok(Observed::NotDone {
            before: json!({ "resource_id": seen.resource_id, "instance": seen, "watermark": watermark }),
        })
    }

    async fn apply(&self, cx: &StepCtx, _before: &Value) -> Result<()> {
        cx.region(&self.params.region)?.database().promote(&self.instance, self.retention_days).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_may_carry_its_fenced_name_and_nothing_else() {
        let east = RegionId::from("us-east-1");
        let arn = |name: &str| format!("arn:aws:rds:us-east-1:123456789012:db:{name}");
        assert!(is_source(&arn("maip-prod-postgres"), &east, "maip-prod-postgres"));
        assert!(is_source(&arn("maip-prod-postgres-fenced-261123-0312-k7qd"), &east, "maip-prod-postgres"));
        assert!(!is_source(&arn("other"), &east, "maip-prod-postgres"));
        assert!(!is_source(&arn("maip-prod-postgres"), &RegionId::from("us-west-2"), "maip-prod-postgres"));
        assert!(!is_source("", &east, "maip-prod-postgres"));
    }
}

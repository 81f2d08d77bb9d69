use std::time::Duration;

use async_trait::async_trait;
use futures::future::join4;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionId;
use crate::service::{LatencySample, Table};
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::by_hand;
use crate::topology::{TableResource, Topology};

/// Looks at a global table from both sides.
#[derive(Debug)]
pub(super) struct CheckTable {
    params: Params,
    table: TableResource,
    topology: Topology,
}

/// Which table, and the two Regions.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The table's logical name.
    table: String,
    /// The Region that will serve.
    region: RegionId,
    /// The Region that is being left.
    from: RegionId,
}

impl StepKind for CheckTable {
    const KIND: &'static str = "table.check";
    const ABOUT: &'static str = "Reads a global table's replica status in both Regions and its replication latency, each way \
        from the Region that has the metric: the sending one \
        (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/V2globaltables_monitoring.html). No sample is \
        UNKNOWN, never 0. Stops the run only where the topology says `required: true`.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let table = crate::topology::lookup(&topology.tables, "table", &params.table)?.clone();
        Ok(Self { table, topology: topology.clone(), params })
    }
}

/// The newest sample in words, and whether it is within `limit`.
fn latency(samples: &Result<Vec<LatencySample>>, limit: Duration) -> (Option<f64>, &'static str, String) {
    match samples.as_ref().map(|s| s.last()) {
        Ok(Some(last)) => {
            let over = last.milliseconds > limit.as_secs_f64() * 1000.0;
            (
                Some(last.milliseconds),
                if over { "DEGRADED" } else { "OK" },
                format!("{:.0} ms", last.milliseconds),
            )
        }
        Ok(None) => (None, "UNKNOWN", "no sample".to_owned()),
        Err(e) => (None, "UNKNOWN", e.one_line()),
    }
}

fn replica(table: &Result<Table>) -> (&'static str, String) {
    match table {
        Ok(t) if t.status == "ACTIVE" => match t.replicas.iter().find(|(_, status)| status != "ACTIVE") {
            Some((region, status)) => ("DEGRADED", format!("its replica in {region} is {status}")),
            None => ("OK", "ACTIVE".to_owned()),
        },
        Ok(t) => ("DEGRADED", t.status.clone()),
        Err(e) if e.kind == crate::error::ErrorKind::NotFound => ("DOWN", e.one_line()),
        Err(e) => ("UNKNOWN", e.one_line()),
    }
}

#[async_trait]
impl Step for CheckTable {
    fn summary(&self) -> String {
        let required = if self.table.required { " (required)" } else { "" };
        format!("check the global table {}{required}", self.table.dynamodb)
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        let resource = format!("table:{}", self.table.dynamodb);
        [&self.params.region, &self.params.from]
            .into_iter()
            .flat_map(|region| {
                [
                    ApiCall::reads("dynamodb:DescribeTable", region, Plane::Control, &resource),
                    ApiCall::reads("cloudwatch:GetMetricData", region, Plane::Data, &resource),
                ]
            })
            .collect()
    }
    fn by_hand(&self) -> Vec<String> {
        let (name, p) = (&self.table.dynamodb, &self.params);
        let metric = format!(
            "cloudwatch get-metric-statistics --namespace AWS/DynamoDB --metric-name ReplicationLatency \
             --dimensions Name=TableName,Value={name} Name=ReceivingRegion,Value={} --start-time $(date -u -d '1 hour ago' +%FT%TZ) \
             --end-time $(date -u +%FT%TZ) --period 60 --statistics Maximum",
            p.region
        );
        vec![
            by_hand::aws(
                &self.topology,
                &p.region,
                &format!(
                    "dynamodb describe-table --table-name {name} --query 'Table.[TableStatus,Replicas]'"
                ),
            ),
            format!(
                "{}   # the sending Region has it; no data is unknown, not 0",
                by_hand::aws(&self.topology, &p.from, &metric)
            ),
        ]
    }
    fn timing(&self) -> Timing {
        Timing::secs(5, 60)
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let (to, from) = (&self.params.region, &self.params.from);
        let (here, there) = (cx.region(to)?.tables(), cx.region(from)?.tables());
        let name = self.table.dynamodb.as_str();
        let since = cx.now().checked_sub(jiff::SignedDuration::from_mins(15)).unwrap_or(jiff::Timestamp::MIN);
        let limit = Duration::from_secs(8);
        let clock = cx.clock();
        let (status_here, status_there, inbound, outbound) = join4(
            async { timeout(clock, limit, here.describe(name)).await.and_then(|r| r) },
            async { timeout(clock, limit, there.describe(name)).await.and_then(|r| r) },
            async { timeout(clock, limit, there.replication_latency(name, to, since)).await.and_then(|r| r) },
            async {
                timeout(clock, limit, here.replication_latency(name, from, since)).await.and_then(|r| r)
            },
        )
        .await;
        let (status, why) = replica(&status_here);
        let (there_status, there_why) = replica(&status_there);
        let lag_max = self.table.lag_max.0;
        let (in_ms, in_status, in_why) = latency(&inbound, lag_max);
        let (out_ms, _, out_why) = latency(&outbound, lag_max);
        // What serves is the replica here and what has reached it; the way back is only shown.
        let worst = ["DOWN", "UNKNOWN", "DEGRADED"]
            .into_iter()
            .find(|w| [status, in_status].contains(w))
            .unwrap_or("OK");
        let detail = format!(
            "{worst}: {to} {status} ({why}); {from} {there_status} ({there_why}); latency {from} to {to}: {in_why}; {to} to {from}: {out_why}"
        );
        let found = json!({
            "table": self.params.table, "name": name, "status": worst, "latency_ms": { "inbound": in_ms, "outbound": out_ms },
            "detail": detail,
        });
        // One lost answer of the standby, or being asked to slow down, is no reason to take the run back: asked again.
        let again = match (&status_here, &inbound) {
            (Err(e), _) if e.kind.is_transient() => Some(e),
            (_, Err(e)) if e.kind == ErrorKind::Throttled => Some(e),
            _ => None,
        };
        if let Some(e) = again.filter(|_| self.table.required) {
            return Err(e.clone());
        }
        if self.table.required && worst != "OK" {
            return Ok(Observed::Failed(
                Error::unavailable(format!("the required table {name} is {worst}")).caused_by(detail).hint(
                    "its last writes may not be there yet: latency usually falls by itself once writes slow down; where the \
                     source Region is lost it cannot be known, and `required: false` lets traffic move all the same",
                ),
            ));
        }
        Ok(Observed::Done(found))
    }
}

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::check::{CheckStatus, stream_status};
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionId;
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::by_hand;
use crate::topology::Topology;

/// Looks at a Kafka cluster.
#[derive(Debug)]
pub(super) struct CheckStream {
    params: Params,
    name: String,
    required: bool,
    topology: Topology,
}

/// Which stream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The stream's logical name.
    stream: String,
    /// The Region that will serve.
    region: RegionId,
}

impl StepKind for CheckStream {
    const KIND: &'static str = "stream.check";
    const ABOUT: &'static str = "Reads the state of a Kafka cluster, found by its exact name. ACTIVE is OK; HEALING, \
        MAINTENANCE, UPDATING and REBOOTING_BROKER still serve and are DEGRADED. The state is not data health: nothing is \
        produced or consumed. Stops the run only where the topology says `required: true`.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let stream = crate::topology::lookup(&topology.streams, "stream", &params.stream)?;
        let here = crate::topology::in_region(&stream.regions, "stream", &params.stream, &params.region)?;
        Ok(Self { name: here.msk.clone(), required: stream.required, topology: topology.clone(), params })
    }
}

#[async_trait]
impl Step for CheckStream {
    fn summary(&self) -> String {
        let required = if self.required { " (required)" } else { "" };
        format!("check the Kafka cluster {}{required}", self.name)
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        vec![ApiCall::reads(
            "kafka:ListClustersV2",
            &self.params.region,
            Plane::Control,
            format!("cluster:{}", self.name),
        )]
    }
    fn by_hand(&self) -> Vec<String> {
        let command = format!(
            "kafka list-clusters-v2 --cluster-name-filter {0} --query \"ClusterInfoList[?ClusterName=='{0}'].State\"",
            self.name
        );
        vec![by_hand::aws(&self.topology, &self.params.region, &command)]
    }
    fn timing(&self) -> Timing {
        Timing::secs(5, 60)
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let seen = cx.region(&self.params.region)?.streams().describe(&self.name).await;
        let (status, why) = match &seen {
            Ok(stream) => (stream_status(stream), stream.state.clone()),
            Err(e) if e.kind == ErrorKind::NotFound => (CheckStatus::Down, e.one_line()),
            Err(e) => (CheckStatus::Unknown, e.one_line()),
        };
        let detail = format!("{status}: {why}");
        if self.required
            && let Err(e) = &seen
            && e.kind.is_transient()
        {
            // Asked again: one lost answer is no reason to take the run back.
            return Err(e.clone());
        }
        if self.required && status != CheckStatus::Ok {
            return Ok(Observed::Failed(
                Error::unavailable(format!("the required stream {} is {status}", self.name))
                    .caused_by(why)
                    .hint("mend it, or let traffic move without it with `required: false`"),
            ));
        }
        Ok(Observed::Done(
            json!({ "stream": self.params.stream, "name": self.name, "status": status, "detail": detail }),
        ))
    }
}

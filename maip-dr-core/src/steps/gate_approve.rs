use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::RegionId;
use crate::step::{ApiCall, Observed, Step, StepCtx, StepKind, Timing, Undo};
use crate::topology::Topology;

/// A person's yes. Answered by the journal: the engine never applies it.
#[derive(Debug)]
pub(super) struct Approve;

/// No parameters.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {}

impl StepKind for Approve {
    const KIND: &'static str = crate::plan::GATE;
    const ABOUT: &'static str = "Waits for a person's yes. Everything that changes something, other than raising \
        capacity and sending notices, comes after one. The yes is bound to the plan's hash.";
    type Params = Params;
    fn build(_: Params, _: &Topology) -> Result<Self> {
        Ok(Self)
    }
}

#[async_trait]
impl Step for Approve {
    fn summary(&self) -> String {
        "ask a person".to_owned()
    }
    fn region(&self) -> Option<&RegionId> {
        None
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        Vec::new()
    }
    fn by_hand(&self) -> Vec<String> {
        Vec::new()
    }
    fn timing(&self) -> Timing {
        // A person's time to think is not ours to plan; the procedure's expectation leaves it out.
        Timing::secs(0, 0)
    }
    async fn observe(&self, _: &StepCtx) -> Result<Observed> {
        Ok(Observed::Underway("waiting for a person".to_owned()))
    }
}

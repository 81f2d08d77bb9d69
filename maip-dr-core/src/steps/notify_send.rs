use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::timeout;
use crate::error::Result;
use crate::id::RegionId;
use crate::service::Notice;
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::topology::Topology;

/// No target is waited for any longer.
const LIMIT: Duration = Duration::from_secs(5);

/// Tells people.
#[derive(Debug)]
pub(super) struct Send {
    params: Params,
    targets: usize,
    sent: Mutex<Option<Value>>,
}

/// What to tell.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// One or two sentences.
    text: String,
}

impl StepKind for Send {
    const KIND: &'static str = "notify.send";
    const ABOUT: &'static str = "Sends a notice to every target of the topology's `notify`: a Slack-compatible webhook or a \
        local command. Bounded to 5 s; nothing may depend on it, and it never fails a run.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        Ok(Self { params, targets: topology.notify.len(), sent: Mutex::default() })
    }
}

#[async_trait]
impl Step for Send {
    fn summary(&self) -> String {
        format!("tell {} target(s): {}", self.targets, self.params.text)
    }
    fn region(&self) -> Option<&RegionId> {
        None
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        let here = RegionId::from("local");
        vec![ApiCall::mutates("notify:Send", &here, Plane::Data, format!("notice:{}", self.params.text))]
    }
    fn by_hand(&self) -> Vec<String> {
        Vec::new()
    }
    fn timing(&self) -> Timing {
        Timing::secs(1, 20)
    }
    fn best_effort(&self) -> bool {
        true
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(match sent {
            Some(result) => Observed::Done(result),
            // Begun by a process that is gone: telling people twice is worse than not knowing.
            None if cx.started.is_some() => {
                Observed::Done(json!({ "detail": "whether it was sent is unknown" }))
            }
            None => Observed::NotDone { before: Value::Null },
        })
    }

    async fn apply(&self, cx: &StepCtx, _before: &Value) -> Result<()> {
        let notice = Notice {
            application: cx.topology.application.clone(),
            run: cx.run.to_string(),
            what: cx.step.to_string(),
            text: self.params.text.clone(),
        };
        let sends = cx.topology.notify.iter().map(|target| {
            let notice = &notice;
            async move {
                match timeout(cx.clock(), LIMIT, cx.world.notify.send(target, notice)).await.and_then(|r| r) {
                    Ok(()) => "sent".to_owned(),
                    Err(e) => format!("not sent: {}", e.one_line()),
                }
            }
        });
        let results = join_all(sends).await;
        let detail = if results.is_empty() {
            "the topology names nobody to tell".to_owned()
        } else {
            results.join("; ")
        };
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(json!({ "targets": results, "detail": detail }));
        Ok(())
    }
}

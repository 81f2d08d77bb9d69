use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::{after, timeout};
use crate::duration::Span;
use crate::error::{Error, ErrorKind, Result, Risk};
use crate::id::{RegionId, RunId};
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::by_hand;
use crate::topology::Topology;

/// The fence may take so long in all; then it is unknown.
const LIMIT: Duration = Duration::from_secs(60);
/// Where nothing at all has answered by then, waiting longer only costs recovery time.
const SILENT: Duration = Duration::from_secs(20);
/// The same where a person has already accepted an unfenced writer.
const SILENT_ACCEPTED: Duration = Duration::from_secs(6);

/// A call whose answer was lost has arrived by then, or never will.
const ARRIVES: Duration = Duration::from_secs(30);

/// Makes the old writer unreachable under its name.
#[derive(Debug)]
pub(super) struct Fence {
    params: Params,
    instance: String,
    topology: Topology,
    heard: AtomicBool,
}

/// Which database.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The database's logical name.
    database: String,
    /// The Region whose writer is to be fenced.
    region: RegionId,
}

/// `<id>-fenced-<run>`, within the 63 characters that RDS allows.
fn fenced_name(instance: &str, run: &RunId) -> String {
    let tail = format!("-fenced-{run}");
    let room = 63_usize.saturating_sub(tail.len());
    let head: String = instance.chars().take(room).collect();
    // Two hyphens in a row are not allowed.
    format!("{}{tail}", head.trim_end_matches('-'))
}

impl StepKind for Fence {
    const KIND: &'static str = "db.fence";
    const ABOUT: &'static str = "Fences the old writer by renaming it in its own Region: its endpoint's name is deleted at \
        once and it restarts, so that no client comes back to it \
        (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_RenameInstance.html). Bounded to 60 s. Confirmed \
        only when the old name is not found and the new one is described; refused and unknown hold the run until \
        --accept-unfenced, and the report says so. Undone by renaming back as long as nothing was promoted.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let (_, instance) = topology.instance(&params.database, &params.region)?;
        Ok(Self {
            instance: instance.to_owned(),
            topology: topology.clone(),
            heard: AtomicBool::new(false),
            params,
        })
    }
}

impl Fence {
    fn found(&self, fence: &str, new: &str, detail: &str) -> Value {
        json!({ "database": self.params.database, "fence": fence, "old_name": self.instance, "new_name": new, "detail": detail })
    }

    fn unfenced(&self, fence: &str, new: &str, why: &str) -> Error {
        let detail = format!("{} in {} is not fenced ({fence}): {why}", self.instance, self.params.region);
        Error::refused(detail.clone())
            .hint("if it still runs, whoever reaches it can still write to it, and those writes will be lost or must be \
                   reconciled; go on with --accept-unfenced")
            .needs(Risk::Unfenced, self.found(fence, new, &detail))
    }
}

#[async_trait]
impl Step for Fence {
    fn summary(&self) -> String {
        format!("fence the old writer {}: rename it, so that nobody writes to it any more", self.instance)
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::Inverse
    }
    fn calls(&self) -> Vec<ApiCall> {
        let (region, resource) = (&self.params.region, format!("db:{}", self.instance));
        vec![
            ApiCall::reads("rds:DescribeDBInstances", region, Plane::Control, &resource),
            ApiCall::mutates("rds:ModifyDBInstance", region, Plane::Control, resource),
        ]
    }
    fn by_hand(&self) -> Vec<String> {
        let command = format!(
            "rds modify-db-instance --db-instance-identifier {0} --new-db-instance-identifier {0}-fenced --apply-immediately",
            self.instance
        );
        vec![by_hand::aws(&self.topology, &self.params.region, &command)]
    }
    fn timing(&self) -> Timing {
        // Longer than LIMIT: the step itself gives the answer "unknown" at its limit.
        Timing { settle: Duration::from_secs(15), call: Duration::from_secs(15), ..Timing::secs(30, 90) }
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let database = cx.region(&self.params.region)?.database();
        let new = fenced_name(&self.instance, &cx.run);
        let silence = if cx.accepted.contains(&Risk::Unfenced) { SILENT_ACCEPTED } else { SILENT };
        let limit = if self.heard.load(Ordering::Relaxed) { LIMIT } else { silence };
        let look = join(database.describe(&self.instance), database.describe(&new));
        let patience = cx.left_of(limit).clamp(Duration::from_secs(1), Duration::from_secs(10));
        let (old_seen, new_seen) = match timeout(cx.clock(), patience, look).await {
            Ok(both) => both,
            Err(late) => (Err(late.clone()), Err(late)),
        };
        let told = |e: &Error| matches!(e.kind, ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Invalid);
        if [old_seen.as_ref().err(), new_seen.as_ref().err()].iter().any(|e| e.is_none_or(told)) {
            self.heard.store(true, Ordering::Relaxed);
        }
        let gone = |seen: &Result<_>| matches!(seen, Err(e) if e.kind == ErrorKind::NotFound);
        if gone(&old_seen) && new_seen.is_ok() {
            let detail = format!("{} is now {new}: its old name leads nowhere", self.instance);
            return Ok(Observed::Done(self.found("confirmed", &new, &detail)));
        }
        if let Some(denied) = [old_seen.as_ref().err(), new_seen.as_ref().err()]
            .into_iter()
            .flatten()
            .find(|e| e.kind == ErrorKind::Denied)
        {
            return Err(self.unfenced("refused", &new, &denied.one_line()));
        }
        let silent = !self.heard.load(Ordering::Relaxed) && cx.past(silence);
        if silent || cx.past(LIMIT) {
            let why = match (&old_seen, &new_seen) {
                _ if silent => {
                    format!("the RDS API of {} gave no answer in {}", self.params.region, Span(silence))
                }
                (Err(e), _) if !gone(&old_seen) => e.one_line(),
                (Ok(found), _) => format!("it still answers to its old name ({})", found.status),
                _ => format!("the rename was accepted, but {new} does not show"),
            };
            return Err(self.unfenced("unknown", &new, &why));
        }
        match old_seen {
            Ok(writer) => {
                if let Some(source) = &writer.replica_source {
                    return Ok(Observed::Failed(
                        Error::invalid(format!(
                            "{} in {} is no writer but a replica of {source}",
                            writer.id, self.params.region
                        ))
                        .hint("which side is the writer? `maip-dr check` shows it"),
                    ));
                }
                // It has begun to change since our call: the rename is on its way, and is not to be asked for again.
                let changing =
                    |before: &Value| before.get("status").and_then(Value::as_str) != Some(&writer.status);
                if cx.started.as_ref().is_some_and(|started| changing(&started.before)) {
                    return Ok(Observed::Underway(format!("{}, still under its old name", writer.status)));
                }
                let before = json!({ "name": self.instance, "fenced_name": new, "resource_id": writer.resource_id, "status": writer.status });
                Ok(Observed::NotDone { before })
            }
            Err(e) if e.kind == ErrorKind::NotFound && cx.started.is_some() => {
                Ok(Observed::Underway(format!("the old name is gone; waiting for {new}")))
            }
            Err(e) if e.kind == ErrorKind::NotFound => Err(self.unfenced(
                "unknown",
                &new,
                &format!("there is no {} there, and this run did not rename it", self.instance),
            )),
            Err(e) => Ok(Observed::Unknown(e)),
        }
    }

    async fn apply(&self, cx: &StepCtx, before: &Value) -> Result<()> {
        let new = before.get("fenced_name").and_then(Value::as_str).unwrap_or_default().to_owned();
        match cx.region(&self.params.region)?.database().rename(&self.instance, &new).await {
            // The service said no in so many words; there is nothing to wait for.
            Err(e) if matches!(e.kind, ErrorKind::Conflict | ErrorKind::Denied | ErrorKind::Invalid) => {
                Err(self.unfenced("refused", &new, &e.one_line()))
            }
            other => other,
        }
    }

    async fn undo(&self, cx: &StepCtx, before: &Value) -> Result<()> {
        let database = cx.region(&self.params.region)?.database();
        let fenced = before.get("fenced_name").and_then(Value::as_str).unwrap_or_default().to_owned();
        // The fence's own call may still arrive until then.
        let settled = cx.started.as_ref().map(|started| after(started.at, ARRIVES));
        let mut asked: Option<Timestamp> = None;
        loop {
            let (old, new) = join(database.describe(&self.instance), database.describe(&fenced)).await;
            let gone = |seen: &Result<_>| matches!(seen, Err(e) if e.kind == ErrorKind::NotFound);
            match (&old, &new) {
                (Ok(found), new) if gone(new) => {
                    let late = asked.is_none() && settled.is_some_and(|at| cx.now() < at);
                    let busy = matches!(found.status.as_str(), "modifying" | "renaming" | "rebooting");
                    if !busy && !late {
                        return Ok(());
                    }
                    cx.note(&format!("{} is {}", self.instance, found.status));
                }
                // Asked for once, then looked at; once more only when it must have been lost.
                (old, Ok(_)) if gone(old) && asked.is_none_or(|at| cx.now() >= after(at, ARRIVES)) => {
                    match database.rename(&fenced, &self.instance).await {
                        Ok(()) => asked = Some(cx.now()),
                        Err(e) if e.kind == ErrorKind::InDoubt => {
                            asked = Some(cx.now());
                            cx.note(&e.one_line());
                        }
                        Err(e) if e.kind.is_transient() || e.kind == ErrorKind::Conflict => {
                            cx.note(&e.one_line());
                        }
                        Err(e) => {
                            return Err(
                                e.context(format!("cannot rename {fenced} back to {}", self.instance))
                            );
                        }
                    }
                }
                (Err(e), _) | (_, Err(e)) if e.kind == ErrorKind::Denied => return Err(e.clone()),
                (Err(e), _) => cx.note(&e.one_line()),
                _ => cx.note("the rename is on its way"),
            }
            cx.clock().sleep(Duration::from_secs(2)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fenced_name_fits_rds() {
        let run = RunId::from("261123-0312-k7qd");
        assert_eq!(fenced_name("maip-prod-postgres", &run), "maip-prod-postgres-fenced-261123-0312-k7qd");
        let long = fenced_name(&"a".repeat(63), &run);
        assert_eq!(long.len(), 63);
        assert!(
            !fenced_name(&format!("{}-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "a".repeat(38)), &run).contains("--")
        );
    }
}

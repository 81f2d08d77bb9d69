//! The record of a run: its fold is the only state there is.
//!
//! A record is one JSON object a line. Each carries the hash of the one before it, so that a changed, lost or
//! swapped line shows. Appending is compare-and-append at (epoch, sequence).

mod file;
mod memory;

use std::fmt::Debug;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result, Risk};
use crate::id::{RegionId, RunId, StepId};
use crate::plan::{Plan, hex};
use crate::service::Caller;
use crate::topology::Topology;

pub use file::FileJournals;
pub(crate) use file::{io_error, private_file, private_folder};
pub use memory::MemoryJournals;

/// The version of the events below. A change that old code cannot fold needs a new one.
pub const JOURNAL_VERSION: u32 = 1;

/// How a run ended, or that it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was done.
    Succeeded,
    /// It failed before the point of no return, and what it had changed was restored.
    RolledBack,
    /// It waits for a person.
    Held,
    /// An undo failed, or the journal cannot be written.
    Stuck,
    /// A person gave it up.
    Abandoned,
}

impl Outcome {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled_back",
            Self::Held => "held",
            Self::Stuck => "stuck",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What a person chose for a step past the point of no return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Try it again.
    Retry,
    /// Go on without it.
    Skip,
    /// Give the run up.
    Abandon,
}

/// Who did something, from where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Who {
    /// The operating system's user.
    pub user: String,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
}

/// What a run began with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStart {
    /// The journal's version.
    pub version: u32,
    /// The application.
    pub application: String,
    /// The procedure.
    pub procedure: String,
    /// `aws` or `sandbox`.
    pub world: String,
    /// When the application failed, where the operator said it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_millis")]
    pub impact_at: Option<Timestamp>,
    /// Who we are to the cloud.
    pub caller: Option<Caller>,
    /// Who started it.
    pub by: Who,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The whole plan.
    pub plan: Plan,
    /// The whole topology.
    pub topology: Topology,
}

/// What happened. Past tense; the tag is `what`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Event {
    /// The first record.
    RunStarted(Box<RunStart>),
    /// A step began; for a mutating one, its call is about to be sent.
    StepStarted {
        /// 1 for the first.
        attempt: u32,
        /// Whether a mutating call follows.
        mutates: bool,
        /// What undo needs.
        before: Value,
        /// The call must not be sent after this moment.
        #[serde(with = "millis")]
        not_after: Timestamp,
    },
    /// A step is done.
    StepSucceeded {
        /// What it found or made.
        output: Value,
        /// It was done without a start of this run's.
        #[serde(default, skip_serializing_if = "is_false")]
        already: bool,
        /// It counts as done because a person took this risk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: Option<Risk>,
    },
    /// A step failed for good.
    StepFailed {
        /// Why.
        error: Error,
    },
    /// A mutating call's answer was lost.
    StepInDoubt {
        /// How.
        error: Error,
    },
    /// A person let the run go on without the step.
    StepSkipped {
        /// Who.
        by: Who,
        /// Why.
        why: Option<String>,
    },
    /// The inverse is about to be sent.
    StepUndoStarted {},
    /// What was before is back.
    StepUndone {},
    /// It could not be brought back.
    StepUndoFailed {
        /// Why.
        error: Error,
    },
    /// A person said yes to a gate, for this plan.
    Approved {
        /// Who.
        by: Who,
        /// The plan's hash. Not `hash`: that is the record's own.
        plan_hash: String,
        /// Why.
        why: Option<String>,
    },
    /// A person said no, or cancelled.
    Declined {
        /// Who.
        by: Who,
        /// Why.
        why: Option<String>,
    },
    /// A person took a risk.
    Accepted {
        /// Which.
        risk: Risk,
        /// Who.
        by: Who,
        /// Why.
        why: Option<String>,
    },
    /// A person chose for a step, or for the run.
    Decided {
        /// What.
        choice: Choice,
        /// Who.
        by: Who,
        /// Why.
        why: Option<String>,
    },
    /// It waits for a person.
    RunHeld {
        /// What it waits for.
        reason: String,
        /// The acceptance it needs, where one would do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        needs: Option<Risk>,
        /// What a person can type now.
        choices: Vec<String>,
    },
    /// It was interrupted and can be resumed.
    RunPaused {
        /// Why.
        reason: String,
    },
    /// It goes on, perhaps elsewhere. Starts a new epoch.
    RunResumed {
        /// Who.
        by: Who,
    },
    /// The last record.
    RunEnded {
        /// How.
        outcome: Outcome,
        /// What decided it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Error>,
    },
}

impl Event {
    /// The stable name, as in JSON's `what`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RunStarted(_) => "run_started",
            Self::StepStarted { .. } => "step_started",
            Self::StepSucceeded { .. } => "step_succeeded",
            Self::StepFailed { .. } => "step_failed",
            Self::StepInDoubt { .. } => "step_in_doubt",
            Self::StepSkipped { .. } => "step_skipped",
            Self::StepUndoStarted {} => "step_undo_started",
            Self::StepUndone {} => "step_undone",
            Self::StepUndoFailed { .. } => "step_undo_failed",
            Self::Approved { .. } => "approved",
            Self::Declined { .. } => "declined",
            Self::Accepted { .. } => "accepted",
            Self::Decided { .. } => "decided",
            Self::RunHeld { .. } => "run_held",
            Self::RunPaused { .. } => "run_paused",
            Self::RunResumed { .. } => "run_resumed",
            Self::RunEnded { .. } => "run_ended",
        }
    }
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The run.
    pub run: RunId,
    /// 0, 1, 2, ...
    pub seq: u64,
    /// Rises with every driver that takes the run up.
    pub epoch: u64,
    /// When it was written.
    #[serde(with = "millis")]
    pub at: Timestamp,
    /// The step it is about; null for the run.
    pub step: Option<StepId>,
    /// That step's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// That step's Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// The hash of the record before; empty for the first.
    pub prev: String,
    /// The hash of this record, over everything above.
    #[serde(default)]
    pub hash: String,
}

impl Record {
    /// Fills in the hash and gives the line to write, newline included.
    ///
    /// # Errors
    /// `Internal` when it does not serialize.
    pub fn seal(&mut self) -> Result<String> {
        self.hash.clear();
        let value =
            serde_json::to_value(&*self).map_err(|e| Error::internal(format!("journal record: {e}")))?;
        let mut text = without_hash(value)?;
        self.hash = hex(&Sha256::digest(text.as_bytes()));
        text.pop();
        text.push_str(&format!(",\"hash\":\"{}\"}}\n", self.hash));
        Ok(text)
    }

    /// Reads a sealed line and checks its hash.
    ///
    /// # Errors
    /// `Corrupt` when it is no record or was changed.
    pub fn open(line: &str) -> Result<Self> {
        // The text itself is hashed: reading numbers and writing them again need not give the same bytes.
        let (content, hash) = line
            .rsplit_once(",\"hash\":\"")
            .and_then(|(content, tail)| Some((content, tail.strip_suffix("\"}")?)))
            .ok_or_else(|| Error::corrupt("it carries no hash"))?;
        let mut hasher = Sha256::new();
        hasher.update(content);
        hasher.update("}");
        if hex(&hasher.finalize()) != hash {
            return Err(Error::corrupt("its content does not match its hash"));
        }
        serde_json::from_str(line).map_err(|e| Error::corrupt(format!("not a journal record: {e}")))
    }
}

/// Canonical text without the hash: keys in order, whatever map type serde_json was built with.
fn without_hash(mut value: Value) -> Result<String> {
    if let Value::Object(map) = &mut value {
        map.remove("hash");
    }
    canonical(&value)
}

/// JSON text with the keys of every object in order.
///
/// # Errors
/// `Internal` when it does not serialize.
pub(crate) fn canonical(value: &Value) -> Result<String> {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<(&String, &Value)> = map.iter().collect();
                entries.sort_by_key(|(key, _)| key.as_str());
                Value::Object(entries.into_iter().map(|(k, v)| (k.clone(), sorted(v))).collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    serde_json::to_string(&sorted(value)).map_err(|e| Error::internal(format!("canonical JSON: {e}")))
}

/// Checks that `records` are one unbroken chain.
///
/// # Errors
/// `Corrupt` at the first break, with the sequence number.
pub fn verify_chain(records: &[Record]) -> Result<()> {
    let mut prev = String::new();
    for (i, record) in records.iter().enumerate() {
        if record.seq != i as u64 || record.prev != prev {
            return Err(
                Error::corrupt(format!("record {i} does not follow the one before it")).with("seq", i)
            );
        }
        prev.clone_from(&record.hash);
    }
    Ok(())
}

/// One run's journal, held by its only writer.
#[async_trait]
pub trait Journal: Send + Debug {
    /// Writes one sealed record durably.
    ///
    /// # Errors
    /// `Fenced` when another driver has written at this place; `Unavailable` or `Denied` when the place cannot
    /// be written, and then nothing of the record is kept.
    async fn append(&mut self, record: &Record, line: &str) -> Result<()>;
}

/// A place that keeps journals.
#[async_trait]
pub trait Journals: Send + Sync + Debug + 'static {
    /// Begins a journal.
    async fn create(&self, run: &RunId) -> Result<Box<dyn Journal>>;
    /// Takes an existing journal up as its only writer, with what is in it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while another process writes it; `Corrupt`.
    async fn open(&self, run: &RunId) -> Result<(Box<dyn Journal>, Vec<Record>)>;
    /// What is in a journal.
    async fn read(&self, run: &RunId) -> Result<Vec<Record>>;
    /// Every run, oldest first.
    async fn runs(&self) -> Result<Vec<RunId>>;
    /// Where it is and who sees it, in one sentence.
    fn describe(&self) -> String;
}

fn is_false(value: &bool) -> bool {
    !value
}

/// RFC 3339 UTC with milliseconds.
pub mod millis {
    use super::*;

    /// Writes `at`.
    pub fn text(at: Timestamp) -> String {
        at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    }

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*at))
    }

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// When it is no timestamp.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

/// As [`millis`], for what may be absent.
pub mod optional_millis {
    use super::*;

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(millis::text).serialize(serializer)
    }

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// When it is no timestamp.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Option::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn start() -> RunStart {
        let topology: Topology = serde_json::from_value(serde_json::json!({
            "version": 1, "application": "maip", "primary": "us-east-1", "standby": "us-west-2"
        }))
        .unwrap();
        RunStart {
            version: JOURNAL_VERSION,
            application: "maip".into(),
            procedure: "failover".into(),
            world: "sandbox".into(),
            impact_at: Some(Timestamp::UNIX_EPOCH),
            caller: None,
            by: Who::default(),
            why: Some("why".into()),
            plan: Plan::of("failover", None, None, Vec::new()),
            topology,
        }
    }

    fn every_event() -> Vec<Event> {
        let by = Who { user: "u".into(), host: "h".into(), pid: 1 };
        let why = Some("why".to_owned());
        let value =
            serde_json::json!({ "hash": "h", "seq": 7, "run": "r", "ratio": 0.123_456_789_012_345_67 });
        let error =
            Error::new(ErrorKind::Refused, "no").needs(Risk::DataLoss { seconds: Some(0.1) }, value.clone());
        vec![
            Event::RunStarted(Box::new(start())),
            Event::StepStarted {
                attempt: 1,
                mutates: true,
                before: value.clone(),
                not_after: Timestamp::UNIX_EPOCH,
            },
            Event::StepSucceeded { output: value, already: true, accepted: Some(Risk::Promoted) },
            Event::StepFailed { error: error.clone() },
            Event::StepInDoubt { error: error.clone() },
            Event::StepSkipped { by: by.clone(), why: why.clone() },
            Event::StepUndoStarted {},
            Event::StepUndone {},
            Event::StepUndoFailed { error: error.clone() },
            Event::Approved { by: by.clone(), plan_hash: "p".into(), why: why.clone() },
            Event::Declined { by: by.clone(), why: why.clone() },
            Event::Accepted { risk: Risk::DataLoss { seconds: None }, by: by.clone(), why: why.clone() },
            Event::Decided { choice: Choice::Skip, by: by.clone(), why },
            Event::RunHeld { reason: "r".into(), needs: Some(Risk::Unfenced), choices: vec!["c".into()] },
            Event::RunPaused { reason: "r".into() },
            Event::RunResumed { by },
            Event::RunEnded { outcome: Outcome::Held, error: Some(error) },
        ]
    }

    fn record(event: Event) -> Record {
        Record {
            run: "r".into(),
            seq: 3,
            epoch: 2,
            at: Timestamp::UNIX_EPOCH,
            step: Some("s".into()),
            kind: Some("k".into()),
            region: Some("us-west-2".into()),
            event,
            prev: "p".into(),
            hash: String::new(),
        }
    }

    #[test]
    fn every_event_reads_back_as_it_was_written() {
        for event in every_event() {
            let mut written = record(event);
            let line = written.seal().unwrap();
            assert_eq!(line.matches("\n").count(), 1, "one line: {line}");
            assert_eq!(Record::open(line.trim_end()).unwrap(), written);
        }
    }

    #[test]
    fn a_changed_letter_shows() {
        let line = record(Event::StepUndone {}).seal().unwrap();
        let line = line.trim_end();
        for at in 0..line.len() {
            let mut bytes = line.as_bytes().to_vec();
            bytes[at] ^= 1;
            if let Ok(text) = String::from_utf8(bytes) {
                assert!(Record::open(&text).is_err(), "a flip at {at} passes: {text}");
            }
        }
    }
}

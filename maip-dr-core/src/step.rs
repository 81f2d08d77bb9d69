//! The unit of work: something that can be observed, done once, and perhaps undone.
//!
//! A step decides; it reaches the world only through the service traits. Each kind is one file in
//! [`crate::steps`] and one line in its registry.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::{Clock, after};
use crate::engine::state::covers;
use crate::error::{Error, Result, Risk};
use crate::id::{RegionId, RunId, StepId};
use crate::region::{Region, World};
use crate::topology::Topology;

/// Whether a step can be taken back. Part of every kind, without a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// [`Step::undo`] restores what was before.
    Inverse,
    /// Nothing needs taking back: it only reads, or what it leaves does no harm.
    NotNeeded,
    /// A one-way door. Its first start is the point of no return.
    Impossible,
}

/// Whether an API configures things or serves them. Control planes fail more often.
/// <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/control-planes-and-data-planes.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Plane {
    /// Configures.
    Control,
    /// Serves.
    Data,
}

/// One call that a step may make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiCall {
    /// `service:Operation`, such as `rds:PromoteReadReplica`.
    pub api: String,
    /// Where the API's endpoint is: if that Region is lost, the call is.
    pub region: RegionId,
    /// Which plane.
    pub plane: Plane,
    /// Whether it changes something.
    pub mutates: bool,
    /// What it touches, such as `db:maip-prod-postgres`.
    pub resource: String,
}

impl ApiCall {
    /// A call that reads.
    pub fn reads(api: &str, region: &RegionId, plane: Plane, resource: impl Into<String>) -> Self {
        Self { api: api.into(), region: region.clone(), plane, mutates: false, resource: resource.into() }
    }
    /// A call that changes something.
    pub fn mutates(api: &str, region: &RegionId, plane: Plane, resource: impl Into<String>) -> Self {
        Self { mutates: true, ..Self::reads(api, region, plane, resource) }
    }
}

/// What a step sees when it looks at the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// Not done and not begun. `before` is what undo needs; it is durable before the call is made.
    NotDone {
        /// The state to come back to.
        before: Value,
    },
    /// Going on by itself; look again later. One short phrase for the person who watches.
    Underway(String),
    /// Done; what was found becomes the step's output.
    Done(Value),
    /// It cannot succeed any more.
    Failed(Error),
    /// The world did not tell. Never success.
    Unknown(Error),
}

/// How long a step takes and how patient the engine is with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The planning value (p50).
    pub expected: Duration,
    /// From its begin until it has failed.
    pub deadline: Duration,
    /// Between two looks.
    pub poll: Duration,
    /// After a lost answer, how long to look before the call counts as never having arrived.
    pub settle: Duration,
    /// How long one mutating call may take; after that its answer is lost.
    pub call: Duration,
}

impl Timing {
    /// Expected and deadline in seconds, the rest at defaults: a look a second, 20 s to settle, 20 s a call.
    pub const fn secs(expected: u64, deadline: u64) -> Self {
        Self {
            expected: Duration::from_secs(expected),
            deadline: Duration::from_secs(deadline),
            poll: Duration::from_secs(1),
            settle: Duration::from_secs(20),
            call: Duration::from_secs(20),
        }
    }
}

/// A start of this step that is in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct StartedAt {
    /// When it was journaled.
    pub at: Timestamp,
    /// What was before.
    pub before: Value,
}

/// What a step is given to work with.
#[derive(Clone)]
pub struct StepCtx {
    /// The world.
    pub world: World,
    /// The user's file.
    pub topology: Arc<Topology>,
    /// This run.
    pub run: RunId,
    /// This step.
    pub step: StepId,
    /// When the application failed, where the operator knows it.
    pub impact_at: Option<Timestamp>,
    /// The risks that a person has taken.
    pub accepted: Vec<Risk>,
    /// When the engine began to work on this step (in this process).
    pub began: Timestamp,
    /// This step's first journaled start in this run.
    pub started: Option<StartedAt>,
    /// The outputs of the steps that had succeeded when this one began: id, kind, output.
    pub outputs: Arc<BTreeMap<StepId, (String, Value)>>,
    /// Where progress is told.
    pub notes: Notes,
}

/// Takes a step's progress in, as a short phrase.
pub type Notes = Arc<dyn Fn(&StepId, &str) + Send + Sync>;

impl Debug for StepCtx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepCtx").field("run", &self.run).field("step", &self.step).finish_non_exhaustive()
    }
}

impl StepCtx {
    /// The Region named `id`.
    ///
    /// # Errors
    /// `Invalid` when the topology does not describe it.
    pub fn region(&self, id: &RegionId) -> Result<&Arc<dyn Region>> {
        self.world.region(id)
    }

    /// The clock that all waits sleep on.
    pub fn clock(&self) -> &dyn Clock {
        &*self.world.clock
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Whether `duration` has passed since the engine began this step.
    pub fn past(&self, duration: Duration) -> bool {
        self.now() >= after(self.began, duration)
    }

    /// What is left of `duration` since the engine began this step.
    pub fn left_of(&self, duration: Duration) -> Duration {
        Duration::try_from(after(self.began, duration) - self.now()).unwrap_or_default()
    }

    /// Whether a person has taken `risk`.
    pub fn accepts(&self, risk: &Risk) -> bool {
        self.accepted.iter().any(|taken| covers(taken, risk))
    }

    /// Tells the person who watches what is going on.
    pub fn note(&self, text: &str) {
        (self.notes)(&self.step, text);
    }

    /// The outputs of the succeeded steps of `kind` whose output has `key` = `value`.
    pub fn outputs_of<'a>(
        &'a self,
        kind: &'a str,
        key: &'a str,
        value: &'a str,
    ) -> impl Iterator<Item = &'a Value> {
        self.outputs
            .values()
            .filter(move |(k, output)| k == kind && output.get(key).and_then(Value::as_str) == Some(value))
            .map(|(_, output)| output)
    }
}

/// A unit of work.
///
/// Guarantees that an implementation gives: `observe` changes nothing; `apply` returns when the call was
/// accepted, not when its effect is there (the engine goes on observing); being applied again after a lost
/// answer has no second effect.
#[async_trait]
pub trait Step: Send + Sync + Debug + 'static {
    /// What it does, in one line.
    fn summary(&self) -> String;
    /// The Region it works on, where there is one.
    fn region(&self) -> Option<&RegionId>;
    /// Whether it can be taken back.
    fn undo_policy(&self) -> Undo;
    /// Every call it may make.
    fn calls(&self) -> Vec<ApiCall>;
    /// The same by hand: `aws` and `kubectl` commands, for the person who must finish without us.
    fn by_hand(&self) -> Vec<String>;
    /// How long it takes.
    fn timing(&self) -> Timing;
    /// Whether its failure is only reported: nothing may depend on such a step.
    fn best_effort(&self) -> bool {
        false
    }

    /// Looks. An error of a transient kind counts as `Unknown`, any other as `Failed`; an error that
    /// [needs](Error::needs) an acceptance succeeds with what was found once a person has accepted the risk.
    async fn observe(&self, cx: &StepCtx) -> Result<Observed>;

    /// Makes the mutating call. Called only after a fresh `NotDone`, whose `before` is already durable.
    async fn apply(&self, cx: &StepCtx, before: &Value) -> Result<()> {
        let _ = (cx, before);
        Err(Error::internal("this step has nothing to apply"))
    }

    /// Waits until it is worth looking again. The engine bounds it.
    async fn wait(&self, cx: &StepCtx) {
        cx.clock().sleep(self.timing().poll).await;
    }

    /// Restores `before`. Safe to meet twice; returns once the old state is back.
    async fn undo(&self, cx: &StepCtx, before: &Value) -> Result<()> {
        let _ = (cx, before);
        Err(Error::internal("this step has no inverse"))
    }
}

/// What the author of a step kind writes besides [`Step`].
pub trait StepKind: Step + Sized {
    /// `area.verb`: stable, it is in journals.
    const KIND: &'static str;
    /// What it does and what its author promises: shown by `explain`.
    const ABOUT: &'static str;
    /// What a procedure file says under `with`.
    type Params: DeserializeOwned + Serialize + JsonSchema;
    /// Resolves the parameters against the topology.
    ///
    /// # Errors
    /// `Invalid` when they do not fit it.
    fn build(params: Self::Params, topology: &Topology) -> Result<Self>;
}

type Build = fn(&Value, &Topology) -> Result<Arc<dyn Step>>;

/// A step kind as the registry knows it.
#[derive(Debug, Clone)]
pub struct KindEntry {
    /// Its name.
    pub kind: &'static str,
    /// What it does.
    pub about: &'static str,
    /// JSON Schema of its parameters.
    pub schema: fn() -> Value,
    build: Build,
}

/// The step kinds there are.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<&'static str, KindEntry>,
}

impl Registry {
    /// Adds a kind.
    #[must_use]
    pub fn with<K: StepKind>(mut self) -> Self {
        fn build<K: StepKind>(with: &Value, topology: &Topology) -> Result<Arc<dyn Step>> {
            let params: K::Params = serde_json::from_value(with.clone()).map_err(|e| {
                Error::invalid(format!("`with` of {}: {e}", K::KIND))
                    .hint(format!("`maip-dr explain {}` lists its parameters", K::KIND))
            })?;
            Ok(Arc::new(K::build(params, topology)?))
        }
        fn schema<K: StepKind>() -> Value {
            schemars::schema_for!(K::Params).to_value()
        }
        self.kinds.insert(
            K::KIND,
            KindEntry { kind: K::KIND, about: K::ABOUT, schema: schema::<K>, build: build::<K> },
        );
        self
    }

    /// Every kind, by name.
    pub fn kinds(&self) -> impl Iterator<Item = &KindEntry> {
        self.kinds.values()
    }

    /// The kind named `kind`.
    ///
    /// # Errors
    /// `Invalid`, with the nearest known kind.
    pub fn kind(&self, kind: &str) -> Result<&KindEntry> {
        self.kinds.get(kind).ok_or_else(|| {
            let nearest = self
                .kinds
                .keys()
                .max_by(|a, b| strsim::jaro_winkler(a, kind).total_cmp(&strsim::jaro_winkler(b, kind)));
            Error::invalid(format!("there is no step kind `{kind}`")).hint(match nearest {
                Some(nearest) => format!("did you mean `{nearest}`? `maip-dr steps` lists them all"),
                None => "no step kind is registered".to_owned(),
            })
        })
    }

    /// The step that `kind` makes of `with`.
    ///
    /// # Errors
    /// `Invalid` when the kind is unknown or the parameters do not fit.
    pub fn build(&self, kind: &str, with: &Value, topology: &Topology) -> Result<Arc<dyn Step>> {
        (self.kind(kind)?.build)(with, topology)
    }
}

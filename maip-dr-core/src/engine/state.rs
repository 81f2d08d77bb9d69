//! The pure part: what the journal says, and what follows from it. No clock, no I/O, no cloud.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::error::{Error, Result, Risk};
use crate::id::{RunId, StepId};
use crate::journal::{Choice, Event, JOURNAL_VERSION, Outcome, Record, RunStart};
use crate::plan::{GATE, Plan, PlannedStep};
use crate::step::Undo;

/// Where a step stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Not begun, or to be tried again.
    Pending,
    /// Begun; the answer of its call is not in the journal yet.
    Started,
    /// Done.
    Succeeded,
    /// Failed, or waiting for an acceptance.
    Failed(Error),
    /// A person let the run go on without it.
    Skipped,
    /// Its inverse was begun.
    Undoing,
    /// What was before is back.
    Undone,
    /// It could not be brought back.
    UndoFailed(Error),
}

/// What the journal says about one step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepState {
    /// Where it stands.
    pub phase: Phase,
    /// How many calls were announced.
    pub attempts: u32,
    /// The first announced mutating call: when, and what was before it.
    pub called: Option<(Timestamp, Value)>,
    /// Until when the last announced call may still leave.
    pub not_after: Option<Timestamp>,
    /// When it first began.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub ended_at: Option<Timestamp>,
    /// What it found or made.
    pub output: Value,
    /// The risk that a person took for it.
    pub accepted: Option<Risk>,
    /// It was done without a start of this run's.
    pub already: bool,
}

impl StepState {
    fn new() -> Self {
        Self {
            phase: Phase::Pending,
            attempts: 0,
            called: None,
            not_after: None,
            started_at: None,
            ended_at: None,
            output: Value::Null,
            accepted: None,
            already: false,
        }
    }
}

/// What the journal says about a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunState {
    /// The run.
    pub run: RunId,
    /// What it began with.
    pub start: RunStart,
    /// When.
    pub started_at: Timestamp,
    /// Its steps.
    pub steps: BTreeMap<StepId, StepState>,
    /// The gates that were answered with yes.
    pub approved: BTreeSet<StepId>,
    /// The risks that were taken.
    pub accepted: Vec<Risk>,
    /// Somebody said no, or cancelled.
    pub declined: bool,
    /// Somebody gave it up.
    pub abandoned: bool,
    /// What it waits for, if the last word was that it waits.
    pub held: Option<(String, Option<Risk>)>,
    /// It was interrupted.
    pub paused: bool,
    /// How it ended.
    pub ended: Option<(Outcome, Option<Error>)>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The driver's number.
    pub epoch: u64,
    /// The next record's number.
    pub next_seq: u64,
    /// The last record's hash.
    pub last_hash: String,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Observe this step and, if need be, apply it.
    Drive(StepId),
    /// A gate was approved: it has succeeded.
    Pass(StepId),
    /// Ask a person to approve this gate.
    AskApproval(StepId),
    /// Ask a person to take this risk.
    AskRisk(StepId, Risk),
    /// Stop what is only waiting: the run unwinds.
    Cancel,
    /// Bring back what was before this step.
    Undo(StepId),
    /// Nothing can go on without a person.
    Hold {
        /// The step it is about.
        step: StepId,
        /// Why.
        reason: String,
        /// The acceptance that would do.
        needs: Option<Risk>,
    },
    /// The run is over.
    End(Outcome, Option<Error>),
}

/// Whether `taken` covers `needed`.
pub fn covers(taken: &Risk, needed: &Risk) -> bool {
    match (taken, needed) {
        (Risk::DataLoss { seconds: None }, Risk::DataLoss { .. }) => true,
        (Risk::DataLoss { seconds: Some(_) }, Risk::DataLoss { seconds: None }) => false,
        (Risk::DataLoss { seconds: Some(taken) }, Risk::DataLoss { seconds: Some(needed) }) => {
            needed <= taken
        }
        (taken, needed) => taken == needed,
    }
}

impl RunState {
    /// The state that `records` lead to.
    ///
    /// # Errors
    /// `Corrupt` when they are no legal run.
    pub fn fold(records: &[Record]) -> Result<Self> {
        let (first, rest) = records.split_first().ok_or_else(|| Error::corrupt("the journal is empty"))?;
        let mut state = Self::begin(first)?;
        for record in rest {
            state.apply(record)?;
        }
        Ok(state)
    }

    /// The state after the first record.
    ///
    /// # Errors
    /// `Corrupt` when it is not `run_started`, `Invalid` when its version is not ours.
    pub fn begin(first: &Record) -> Result<Self> {
        let Event::RunStarted(start) = &first.event else {
            return Err(Error::corrupt(format!("the journal begins with {}", first.event.name())));
        };
        if start.version != JOURNAL_VERSION {
            return Err(Error::invalid(format!(
                "the journal of run {} has version {}; this maip-dr reads version {JOURNAL_VERSION}",
                first.run, start.version
            ))
            .hint("use the maip-dr that wrote it"));
        }
        Ok(Self {
            run: first.run.clone(),
            start: (**start).clone(),
            started_at: first.at,
            steps: start.plan.steps.iter().map(|s| (s.id.clone(), StepState::new())).collect(),
            approved: BTreeSet::new(),
            accepted: Vec::new(),
            declined: false,
            abandoned: false,
            held: None,
            paused: false,
            ended: None,
            ended_at: None,
            epoch: first.epoch,
            next_seq: 1,
            last_hash: first.hash.clone(),
        })
    }

    /// Takes in one more record.
    ///
    /// # Errors
    /// `Corrupt` when it cannot follow.
    pub fn apply(&mut self, record: &Record) -> Result<()> {
        let illegal = |why: &str| {
            Error::corrupt(format!(
                "record {} ({}) is not legal here: {why}",
                record.seq,
                record.event.name()
            ))
            .with("seq", record.seq)
        };
        if record.seq != self.next_seq || record.epoch < self.epoch {
            return Err(illegal("it is out of order"));
        }
        if self.ended.is_some() {
            return Err(illegal("the run has ended"));
        }
        let resumed = matches!(record.event, Event::RunResumed { .. });
        if record.epoch > self.epoch && !resumed {
            // `decided` and `accepted` are also written between two drivers, under the epoch of the one before.
            return Err(illegal("only run_resumed starts an epoch"));
        }
        self.held = None;
        match (&record.event, &record.step) {
            (Event::RunStarted(_), _) => return Err(illegal("the run has started")),
            (Event::RunResumed { .. }, _) => self.paused = false,
            (Event::RunPaused { .. }, _) => self.paused = true,
            (Event::RunHeld { reason, needs, .. }, _) => self.held = Some((reason.clone(), needs.clone())),
            (Event::RunEnded { outcome, error }, _) => {
                self.ended = Some((*outcome, error.clone()));
                self.ended_at = Some(record.at);
            }
            (Event::Declined { .. }, _) => self.declined = true,
            (Event::Decided { choice: Choice::Abandon, .. }, _) => self.abandoned = true,
            (Event::Accepted { risk, .. }, _) => {
                self.accepted.push(risk.clone());
                for step in self.steps.values_mut() {
                    if let Phase::Failed(Error { needs: Some(needed), .. }) = &step.phase
                        && covers(risk, needed)
                    {
                        step.phase = Phase::Pending;
                    }
                }
            }
            (event, Some(id)) => {
                let step = self.steps.get_mut(id).ok_or_else(|| illegal("the plan has no such step"))?;
                match event {
                    Event::Approved { plan_hash, .. } => {
                        if *plan_hash != self.start.plan.hash {
                            return Err(illegal("it approves another plan"));
                        }
                        self.approved.insert(id.clone());
                    }
                    Event::StepStarted { mutates, before, not_after, .. } => {
                        if !matches!(step.phase, Phase::Pending | Phase::Started) {
                            return Err(illegal("the step is not waiting to start"));
                        }
                        step.phase = Phase::Started;
                        step.attempts += 1;
                        step.started_at.get_or_insert(record.at);
                        if *mutates {
                            step.called.get_or_insert_with(|| (record.at, before.clone()));
                            step.not_after = Some(*not_after);
                        }
                    }
                    Event::StepInDoubt { .. } => {}
                    Event::StepSucceeded { output, already, accepted } => {
                        if !matches!(step.phase, Phase::Pending | Phase::Started) {
                            return Err(illegal("the step is not under way"));
                        }
                        step.phase = Phase::Succeeded;
                        step.output = output.clone();
                        step.already = *already;
                        step.accepted.clone_from(accepted);
                        step.started_at.get_or_insert(record.at);
                        step.ended_at = Some(record.at);
                    }
                    Event::StepFailed { error } => {
                        if !matches!(step.phase, Phase::Pending | Phase::Started) {
                            return Err(illegal("the step is not under way"));
                        }
                        step.phase = Phase::Failed(error.clone());
                        step.started_at.get_or_insert(record.at);
                        step.ended_at = Some(record.at);
                    }
                    Event::StepSkipped { .. } | Event::Decided { choice: Choice::Skip, .. } => {
                        if !matches!(step.phase, Phase::Failed(_) | Phase::Pending | Phase::Started) {
                            return Err(illegal("the step is not waiting for a decision"));
                        }
                        step.phase = Phase::Skipped;
                        step.ended_at = Some(record.at);
                    }
                    Event::Decided { choice: Choice::Retry, .. } => {
                        if !matches!(step.phase, Phase::Failed(_)) {
                            return Err(illegal("the step has not failed"));
                        }
                        step.phase = Phase::Pending;
                    }
                    Event::StepUndoStarted {} => step.phase = Phase::Undoing,
                    Event::StepUndone {} => {
                        step.phase = Phase::Undone;
                        step.ended_at = Some(record.at);
                    }
                    Event::StepUndoFailed { error } => step.phase = Phase::UndoFailed(error.clone()),
                    _ => return Err(illegal("it names a step")),
                }
            }
            (_, None) => return Err(illegal("it names no step")),
        }
        self.epoch = record.epoch;
        self.next_seq += 1;
        self.last_hash.clone_from(&record.hash);
        Ok(())
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.start.plan
    }

    /// Whether a step that cannot be undone was begun, or was found done.
    pub fn past_no_return(&self) -> bool {
        // Done by somebody else is done all the same, and so is what a person did by hand and skipped.
        let there = |step: &StepState| match &step.phase {
            Phase::Succeeded | Phase::Skipped => true,
            Phase::Failed(error) => error.needs == Some(Risk::Promoted),
            _ => false,
        };
        self.plan().steps.iter().any(|s| {
            let step = &self.steps[&s.id];
            s.undo == Undo::Impossible && (step.called.is_some() || there(step))
        })
    }

    /// Whether any mutating call was announced.
    pub fn changed_anything(&self) -> bool {
        self.steps.values().any(|s| s.called.is_some())
    }

    /// How the run stands: ended, held, or (`None`) going on or interrupted.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.ended {
            Some((outcome, _)) => Some(*outcome),
            None => self.held.as_ref().map(|_| Outcome::Held),
        }
    }

    /// Whether `needed` was accepted.
    pub fn accepts(&self, needed: &Risk) -> Option<&Risk> {
        self.accepted.iter().find(|taken| covers(taken, needed))
    }

    fn settled(&self, step: &PlannedStep) -> bool {
        match &self.steps[&step.id].phase {
            Phase::Succeeded | Phase::Skipped => true,
            Phase::Failed(_) => step.best_effort,
            _ => false,
        }
    }

    /// What is to be done now, while the steps in `in_flight` are being worked on.
    pub fn decide(&self, in_flight: &BTreeSet<StepId>) -> Vec<Command> {
        if self.ended.is_some() {
            return Vec::new();
        }
        if self.abandoned {
            return if in_flight.is_empty() {
                vec![Command::End(Outcome::Abandoned, None)]
            } else {
                vec![Command::Cancel]
            };
        }
        let failure = self.plan().steps.iter().find_map(|s| match &self.steps[&s.id].phase {
            Phase::Failed(error) if !s.best_effort && error.needs.is_none() => Some((s, error)),
            _ => None,
        });
        let undoing = self
            .steps
            .values()
            .any(|s| matches!(s.phase, Phase::Undoing | Phase::Undone | Phase::UndoFailed(_)));
        if undoing || (!self.past_no_return() && (self.declined || failure.is_some())) {
            return self.unwind(in_flight, failure.map(|(_, error)| error));
        }
        self.forward(in_flight, failure)
    }

    fn unwind(&self, in_flight: &BTreeSet<StepId>, failure: Option<&Error>) -> Vec<Command> {
        let forward: bool = in_flight.iter().any(|id| self.steps[id].phase != Phase::Undoing);
        if forward {
            return vec![Command::Cancel];
        }
        let standing: BTreeSet<&StepId> = self
            .plan()
            .steps
            .iter()
            .filter(|s| s.undo == Undo::Inverse)
            .filter(|s| {
                let state = &self.steps[&s.id];
                state.called.is_some() && !matches!(state.phase, Phase::Undone | Phase::UndoFailed(_))
            })
            .map(|s| &s.id)
            .collect();
        let ancestors = crate::plan::ancestors(&self.plan().steps).unwrap_or_default();
        let free: Vec<Command> = standing
            .iter()
            .filter(|id| !in_flight.contains(**id))
            .filter(|id| {
                !standing.iter().any(|other| ancestors.get(*other).is_some_and(|a| a.contains(**id)))
            })
            .map(|id| Command::Undo((*id).clone()))
            .collect();
        if !free.is_empty() || !in_flight.is_empty() {
            return free;
        }
        let undo_failure = self.steps.values().find_map(|s| match &s.phase {
            Phase::UndoFailed(error) => Some(error.clone()),
            _ => None,
        });
        match undo_failure {
            Some(error) => vec![Command::End(Outcome::Stuck, Some(error))],
            None => {
                let declined = || self.declined.then(|| Error::refused("a person said no"));
                vec![Command::End(Outcome::RolledBack, failure.cloned().or_else(declined))]
            }
        }
    }

    fn forward(&self, in_flight: &BTreeSet<StepId>, failure: Option<(&PlannedStep, &Error)>) -> Vec<Command> {
        let mut commands = Vec::new();
        let mut waits: Vec<(StepId, String, Option<Risk>)> = Vec::new();
        let mut open = false;
        for step in &self.plan().steps {
            let state = &self.steps[&step.id];
            open |= !self.settled(step);
            match &state.phase {
                Phase::Pending | Phase::Started => {
                    let ready =
                        step.after.iter().all(|id| self.plan().step(id).is_some_and(|s| self.settled(s)));
                    if !ready || in_flight.contains(&step.id) {
                        continue;
                    }
                    if step.kind != GATE {
                        commands.push(Command::Drive(step.id.clone()));
                    } else if self.approved.contains(&step.id) {
                        commands.push(Command::Pass(step.id.clone()));
                    } else {
                        commands.push(Command::AskApproval(step.id.clone()));
                        waits.push((
                            step.id.clone(),
                            "an approval is needed before anything irreversible".into(),
                            None,
                        ));
                    }
                }
                Phase::Failed(error) => {
                    if let Some(risk) = &error.needs {
                        commands.push(Command::AskRisk(step.id.clone(), risk.clone()));
                        waits.push((step.id.clone(), error.one_line(), Some(risk.clone())));
                    }
                }
                _ => {}
            }
        }
        if !open {
            return vec![Command::End(Outcome::Succeeded, None)];
        }
        let moving = commands.iter().any(|c| matches!(c, Command::Drive(_) | Command::Pass(_)));
        if !moving && in_flight.is_empty() {
            let (step, reason, needs) = match failure {
                Some((step, error)) => (step.id.clone(), error.one_line(), None),
                None => match waits.into_iter().next() {
                    Some(wait) => wait,
                    None => (self.plan().steps[0].id.clone(), "nothing can go on".into(), None),
                },
            };
            commands.push(Command::Hold { step, reason, needs });
        }
        commands
    }
}

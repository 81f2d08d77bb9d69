//! The shell: performs what the fold decides, all steps of a run from one task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, future};
use tokio::sync::{Mutex, watch};

use crate::clock::timeout;
use crate::engine::attempt::{Attempt, Pen, Writer, whole_millis};
use crate::engine::state::{Command, RunState, covers};
use crate::error::{Error, Result, Risk};
use crate::id::{RunId, StepId};
use crate::journal::{Event, Journal, Outcome, Record, RunStart, Who};
use crate::plan::PlannedStep;
use crate::region::World;
use crate::service::Notice;
use crate::step::{Registry, Step, StepCtx};

/// What a driver tells whoever watches.
#[derive(Debug, Clone)]
pub enum Update {
    /// A record is durable.
    Recorded(Box<Record>),
    /// A step's progress; not in the journal.
    Progress {
        /// The step.
        step: StepId,
        /// A short phrase.
        note: String,
    },
}

/// A question to a person.
#[derive(Debug, Clone)]
pub enum Question {
    /// May the run do what cannot be undone?
    Approve {
        /// The gate.
        step: StepId,
        /// The run as it stands: plan, caller, what the checks found.
        state: Box<RunState>,
    },
    /// Is this risk taken?
    Accept {
        /// The step that met it.
        step: StepId,
        /// Which.
        risk: Risk,
        /// What was found.
        error: Error,
    },
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Yes {
        /// In their words.
        why: Option<String>,
    },
    /// No: the run is to be taken back.
    No {
        /// In their words.
        why: Option<String>,
    },
    /// Nobody is there to ask: hold.
    Nobody,
}

/// Who is asked.
#[async_trait]
pub trait Decider: Send + Sync {
    /// Asks. The simulated world stands still meanwhile.
    async fn ask(&self, question: Question) -> Answer;
}

/// Nobody is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Refuse;

#[async_trait]
impl Decider for Refuse {
    async fn ask(&self, _question: Question) -> Answer {
        Answer::Nobody
    }
}

/// Asks a driver to pause.
#[derive(Debug, Clone)]
pub struct Pause(Arc<watch::Sender<bool>>);

impl Default for Pause {
    fn default() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }
}

impl Pause {
    /// No new call is sent from now on; the run stops when the calls that are out have been answered.
    pub fn pause(&self) {
        self.0.send_replace(true);
    }
}

/// What became of a run that was driven.
#[derive(Debug, Clone, PartialEq)]
pub enum Driven {
    /// It ended or is held.
    Outcome(Outcome),
    /// It was paused and can be resumed.
    Paused,
}

/// Each step as planned, and as its kind made it.
type Steps = BTreeMap<StepId, (PlannedStep, Arc<dyn Step>)>;

/// One driver of one run.
pub struct Engine {
    world: World,
    steps: Steps,
    pen: Pen,
    decider: Arc<dyn Decider>,
    pause: Pause,
    sink: Arc<dyn Fn(Update) + Send + Sync>,
    by: Who,
    /// Approve the gates without asking (`--yes`), with the reason given.
    approve: Option<Option<String>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("world", &self.world.name).finish_non_exhaustive()
    }
}

/// What an engine needs besides its journal.
pub struct Setup {
    /// The world it works on.
    pub world: World,
    /// The kinds it knows.
    pub registry: Registry,
    /// Who is asked.
    pub decider: Arc<dyn Decider>,
    /// How it is paused.
    pub pause: Pause,
    /// Who watches.
    pub sink: Arc<dyn Fn(Update) + Send + Sync>,
    /// Who drives.
    pub by: Who,
    /// Approve without asking, with the reason given.
    pub approve: Option<Option<String>>,
    /// The risks taken beforehand.
    pub accept: Vec<Risk>,
    /// Why.
    pub why: Option<String>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("world", &self.world.name).finish_non_exhaustive()
    }
}

impl Engine {
    /// Begins a run: its first record is durable when this returns.
    ///
    /// # Errors
    /// Those of the journal, and `Invalid` when a step kind is not known here.
    pub async fn begin(
        run: RunId,
        start: RunStart,
        mut journal: Box<dyn Journal>,
        setup: Setup,
    ) -> Result<Self> {
        let mut record = Record {
            run,
            seq: 0,
            epoch: 1,
            at: whole_millis(setup.world.clock.now()),
            step: None,
            kind: None,
            region: None,
            event: Event::RunStarted(Box::new(start)),
            prev: String::new(),
            hash: String::new(),
        };
        let line = record.seal()?;
        let state = RunState::begin(&record)?;
        let steps = build_steps(&state, &setup.registry)?;
        journal.append(&record, &line).await?;
        (setup.sink)(Update::Recorded(Box::new(record)));
        Self::assemble(state, steps, journal, setup, false).await
    }

    /// Takes a run up where its journal ends.
    ///
    /// # Errors
    /// `Conflict` when it has ended, `Corrupt`, those of the journal, and `Invalid` when a step kind is not known here.
    pub async fn resume(records: &[Record], journal: Box<dyn Journal>, setup: Setup) -> Result<Self> {
        let state = RunState::fold(records)?;
        if let Some((outcome, _)) = &state.ended {
            return Err(Error::conflict(format!("run {} has ended: {}", state.run, outcome.as_str()))
                .hint(format!("`maip-dr report {}` shows what happened", state.run)));
        }
        let steps = build_steps(&state, &setup.registry)?;
        Self::assemble(state, steps, journal, setup, true).await
    }

    async fn assemble(
        state: RunState,
        steps: Steps,
        journal: Box<dyn Journal>,
        setup: Setup,
        resumed: bool,
    ) -> Result<Self> {
        let mut writer = Writer {
            journal,
            state,
            clock: setup.world.clock.clone(),
            sink: setup.sink.clone(),
            broken: None,
        };
        if resumed {
            writer.append(None, Event::RunResumed { by: setup.by.clone() }).await?;
        }
        for risk in setup.accept {
            let known = writer.state.accepts(&risk).is_some();
            if !known {
                let measured = measured(&writer.state, &risk);
                let event =
                    Event::Accepted { risk: risk.clone(), by: setup.by.clone(), why: setup.why.clone() };
                writer.append(None, event).await?;
                for (step, output) in measured {
                    let planned = writer.state.plan().step(&step).cloned();
                    let event = Event::StepSucceeded { output, already: false, accepted: Some(risk.clone()) };
                    writer.append(planned.as_ref(), event).await?;
                }
            }
        }
        Ok(Self {
            world: setup.world,
            steps,
            pen: Arc::new(Mutex::new(writer)),
            decider: setup.decider,
            pause: setup.pause,
            sink: setup.sink,
            by: setup.by,
            approve: setup.approve,
        })
    }

    /// Drives the run until it ends, is held or is paused.
    ///
    /// # Errors
    /// The journal's, when it cannot be written any more. Everything else is an outcome.
    pub async fn drive(self) -> Result<Driven> {
        let clock = self.world.clock.clone();
        let mut result = Ok(Driven::Paused);
        {
            let work = async {
                result = self.work().await;
            };
            clock.drive(work.boxed()).await;
        }
        result
    }

    async fn work(&self) -> Result<Driven> {
        let (stop, cancel) = watch::channel(false);
        let mut paused = self.pause.0.subscribe();
        let mut in_flight: BTreeSet<StepId> = BTreeSet::new();
        let mut unanswered: BTreeSet<StepId> = BTreeSet::new();
        let mut asking: BTreeSet<StepId> = BTreeSet::new();
        let mut work: FuturesUnordered<BoxFuture<'_, Finished>> = FuturesUnordered::new();
        loop {
            let pausing = *self.pause.0.borrow();
            let commands = {
                let pen = self.pen.lock().await;
                if let Some(error) = &pen.broken {
                    let _ = stop.send_replace(true);
                    let error = error.clone();
                    drop(pen);
                    // Calls that are out are awaited; nothing new is sent, and nothing can be recorded.
                    while work.next().await.is_some() {}
                    return Err(error);
                }
                if pausing { Vec::new() } else { pen.state.decide(&in_flight) }
            };
            if pausing {
                let _ = stop.send_replace(true);
                // Steps that are being worked on are awaited; questions that stand open are dropped.
                while !in_flight.is_empty() {
                    match work.next().await {
                        Some(Finished::Step(id)) => {
                            in_flight.remove(&id);
                        }
                        Some(Finished::Answer(..)) => {}
                        None => break,
                    }
                }
                let mut pen = self.pen.lock().await;
                if let Some(error) = &pen.broken {
                    return Err(error.clone());
                }
                pen.append(None, Event::RunPaused { reason: "interrupted".to_owned() }).await?;
                return Ok(Driven::Paused);
            }
            let mut progressed = false;
            for command in commands {
                match command {
                    Command::Drive(id) => {
                        stop.send_replace(false);
                        in_flight.insert(id.clone());
                        let attempt = self.attempt(&id, &cancel).await?;
                        work.push(attempt.drive().map(move |()| Finished::Step(id)).boxed());
                    }
                    Command::Undo(id) => {
                        let before = self.before(&id).await;
                        in_flight.insert(id.clone());
                        // A fresh channel: an undo is not cancelled with what it takes back.
                        let attempt = self.attempt(&id, &watch::channel(false).1).await?;
                        work.push(attempt.undo(before).map(move |()| Finished::Step(id)).boxed());
                    }
                    Command::Cancel => {
                        stop.send_replace(true);
                    }
                    Command::Pass(id) => {
                        let event = Event::StepSucceeded {
                            output: serde_json::json!({}),
                            already: false,
                            accepted: None,
                        };
                        self.append(Some(&id), event).await?;
                        progressed = true;
                    }
                    Command::AskApproval(id) => {
                        if let Some(why) = &self.approve {
                            self.approve_gate(&id, why.clone()).await?;
                            progressed = true;
                        } else if !unanswered.contains(&id) && asking.insert(id.clone()) {
                            let state = Box::new(self.pen.lock().await.state.clone());
                            let asked = self.ask(id.clone(), Question::Approve { step: id, state });
                            work.push(asked);
                        }
                    }
                    Command::AskRisk(id, risk) => {
                        if !unanswered.contains(&id) && asking.insert(id.clone()) {
                            let error = self.failure(&id).await;
                            work.push(self.ask(id.clone(), Question::Accept { step: id, risk, error }));
                        }
                    }
                    Command::Hold { step, reason, needs } => {
                        // An answer is on its way, or has just been given.
                        if progressed || !asking.is_empty() {
                            continue;
                        }
                        return self.hold(step, reason, needs).await;
                    }
                    Command::End(outcome, error) => {
                        return self.end(outcome, error).await;
                    }
                }
            }
            if progressed {
                continue;
            }
            let pause_asked = std::pin::pin!(async {
                if paused.wait_for(|p| *p).await.is_err() {
                    future::pending::<()>().await;
                }
            });
            let finished = match future::select(work.next(), pause_asked).await {
                future::Either::Left((finished, _)) => finished,
                future::Either::Right(_) => continue,
            };
            match finished {
                Some(Finished::Step(id)) => {
                    in_flight.remove(&id);
                }
                Some(Finished::Answer(id, answer, question)) => {
                    asking.remove(&id);
                    self.take_answer(&id, answer, &question, &mut unanswered).await?;
                }
                None => return Err(Error::internal("the engine has nothing to do and nothing to wait for")),
            }
        }
    }

    async fn append(&self, step: Option<&StepId>, event: Event) -> Result<()> {
        let planned = step.and_then(|id| self.steps.get(id)).map(|(planned, _)| planned);
        self.pen.lock().await.append(planned, event).await
    }

    async fn before(&self, id: &StepId) -> serde_json::Value {
        let pen = self.pen.lock().await;
        pen.state.steps.get(id).and_then(|s| s.called.clone()).map(|(_, before)| before).unwrap_or_default()
    }

    async fn failure(&self, id: &StepId) -> Error {
        match self.pen.lock().await.state.steps.get(id).map(|s| s.phase.clone()) {
            Some(crate::engine::state::Phase::Failed(error)) => error,
            _ => Error::internal("no failure"),
        }
    }

    async fn attempt(&self, id: &StepId, cancel: &watch::Receiver<bool>) -> Result<Attempt> {
        let (planned, step) =
            self.steps.get(id).cloned().ok_or_else(|| Error::internal(format!("no step {id}")))?;
        let pen = self.pen.lock().await;
        let state = &pen.state;
        let outputs = state
            .plan()
            .steps
            .iter()
            .filter_map(|s| {
                let done = &state.steps[&s.id];
                matches!(done.phase, crate::engine::state::Phase::Succeeded)
                    .then(|| (s.id.clone(), (s.kind.clone(), done.output.clone())))
            })
            .collect();
        let sink = self.sink.clone();
        let cx = StepCtx {
            world: self.world.clone(),
            topology: Arc::new(state.start.topology.clone()),
            run: state.run.clone(),
            step: id.clone(),
            impact_at: state.start.impact_at,
            accepted: state.accepted.clone(),
            began: self.world.clock.now(),
            started: state.steps[id].called.clone().map(|(at, before)| crate::step::StartedAt { at, before }),
            outputs: Arc::new(outputs),
            notes: Arc::new(move |step, note| {
                sink(Update::Progress { step: step.clone(), note: note.to_owned() });
            }),
        };
        Ok(Attempt { planned, step, cx, pen: self.pen.clone(), cancel: cancel.clone() })
    }

    fn ask(&self, id: StepId, question: Question) -> BoxFuture<'_, Finished> {
        async move {
            let outside = self.world.clock.outside();
            let answer = self.decider.ask(question.clone()).await;
            drop(outside);
            Finished::Answer(id, answer, Box::new(question))
        }
        .boxed()
    }

    async fn approve_gate(&self, id: &StepId, why: Option<String>) -> Result<()> {
        let plan_hash = self.pen.lock().await.state.plan().hash.clone();
        self.append(Some(id), Event::Approved { by: self.by.clone(), plan_hash, why }).await
    }

    async fn take_answer(
        &self,
        id: &StepId,
        answer: Answer,
        question: &Question,
        unanswered: &mut BTreeSet<StepId>,
    ) -> Result<()> {
        match (answer, question) {
            (Answer::Nobody, _) => {
                unanswered.insert(id.clone());
                Ok(())
            }
            (Answer::Yes { why }, Question::Approve { .. }) => self.approve_gate(id, why).await,
            (Answer::Yes { why }, Question::Accept { risk, error, .. }) => {
                self.append(None, Event::Accepted { risk: risk.clone(), by: self.by.clone(), why }).await?;
                // What was found a moment ago stands; it is not looked for again.
                match error.found.as_deref() {
                    Some(found) => {
                        let accepted = Some(risk.clone());
                        self.append(
                            Some(id),
                            Event::StepSucceeded { output: found.clone(), already: false, accepted },
                        )
                        .await
                    }
                    None => Ok(()),
                }
            }
            (Answer::No { why }, _) if self.pen.lock().await.state.past_no_return() => {
                // Nothing is undone past the point of no return: the run is held for a later decision.
                let _ = why;
                unanswered.insert(id.clone());
                Ok(())
            }
            (Answer::No { why }, _) => self.append(None, Event::Declined { by: self.by.clone(), why }).await,
        }
    }

    async fn hold(&self, step: StepId, reason: String, needs: Option<Risk>) -> Result<Driven> {
        let run = self.pen.lock().await.state.run.clone();
        let is_gate = self.steps.get(&step).is_some_and(|(s, _)| s.kind == crate::plan::GATE);
        let mut choices = Vec::new();
        match &needs {
            Some(risk) => choices.push(format!("maip-dr resume {run} {}", risk.option())),
            None if is_gate => choices.push(format!("maip-dr resume {run} --yes")),
            None => {
                choices.push(format!("maip-dr decide {run} retry {step}"));
                choices.push(format!("maip-dr decide {run} skip {step}"));
            }
        }
        choices.push(format!("maip-dr decide {run} abandon"));
        self.append(Some(&step), Event::RunHeld { reason: reason.clone(), needs, choices }).await?;
        self.tell("held", &format!("run {run} is held at {step}: {reason}")).await;
        Ok(Driven::Outcome(Outcome::Held))
    }

    async fn end(&self, outcome: Outcome, error: Option<Error>) -> Result<Driven> {
        let why = error.as_ref().map(|e| format!(": {}", e.one_line())).unwrap_or_default();
        self.append(None, Event::RunEnded { outcome, error }).await?;
        if outcome != Outcome::Succeeded {
            let run = self.pen.lock().await.state.run.clone();
            self.tell("ended", &format!("run {run} ended: {}{why}", outcome.as_str())).await;
        }
        Ok(Driven::Outcome(outcome))
    }

    /// Tells people, in at most five seconds, whatever they answer.
    async fn tell(&self, what: &str, text: &str) {
        let (targets, notice) = {
            let pen = self.pen.lock().await;
            let notice = Notice {
                application: pen.state.start.application.clone(),
                run: pen.state.run.to_string(),
                what: what.to_owned(),
                text: text.to_owned(),
            };
            (pen.state.start.topology.notify.clone(), notice)
        };
        let all = future::join_all(targets.iter().map(|target| self.world.notify.send(target, &notice)));
        let _ = timeout(&*self.world.clock, Duration::from_secs(5), all).await;
    }
}

/// What had been measured by the steps that waited for this loss of data to be accepted: it is what was accepted.
/// Measured again it would only be more, because a lost source's lag grows with the clock.
fn measured(state: &RunState, risk: &Risk) -> Vec<(StepId, serde_json::Value)> {
    let waiting = |phase: &crate::engine::state::Phase| match phase {
        crate::engine::state::Phase::Failed(error) => {
            let loss = matches!(&error.needs, Some(needed @ Risk::DataLoss { .. }) if covers(risk, needed));
            error.found.as_deref().filter(|_| loss).cloned()
        }
        _ => None,
    };
    state.steps.iter().filter_map(|(id, step)| Some((id.clone(), waiting(&step.phase)?))).collect()
}

enum Finished {
    Step(StepId),
    Answer(StepId, Answer, Box<Question>),
}

fn build_steps(state: &RunState, registry: &Registry) -> Result<Steps> {
    state
        .plan()
        .steps
        .iter()
        .map(|planned| {
            let step = registry
                .build(&planned.kind, &planned.with, &state.start.topology)
                .map_err(|e| e.context(format!("step `{}`", planned.id)))?;
            Ok((planned.id.clone(), (planned.clone(), step)))
        })
        .collect()
}

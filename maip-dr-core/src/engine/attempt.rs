//! One step, from the first look until its outcome is in the journal.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use crate::clock::{Clock, after, timeout};
use crate::duration::Span;
use crate::engine::run::Update;
use crate::engine::state::RunState;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{Event, Journal, Record};
use crate::plan::PlannedStep;
use crate::step::{Observed, StartedAt, Step, StepCtx, Undo};

/// One look may take so long before it counts as no answer.
const LOOK: Duration = Duration::from_secs(30);

/// The journal's only pen.
pub(super) struct Writer {
    pub(super) journal: Box<dyn Journal>,
    pub(super) state: RunState,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sink: Arc<dyn Fn(Update) + Send + Sync>,
    /// The first failure to write. From then on nothing is done any more.
    pub(super) broken: Option<Error>,
}

impl Writer {
    /// Makes `event` durable, then part of the state.
    pub(super) async fn append(&mut self, step: Option<&PlannedStep>, event: Event) -> Result<()> {
        let epoch = self.state.epoch + u64::from(matches!(event, Event::RunResumed { .. }));
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let mut record = Record {
            run: self.state.run.clone(),
            seq: self.state.next_seq,
            epoch,
            at: whole_millis(self.clock.now()),
            step: step.map(|s| s.id.clone()),
            kind: step.map(|s| s.kind.clone()),
            region: step.and_then(|s| s.region.clone()),
            event,
            prev: self.state.last_hash.clone(),
            hash: String::new(),
        };
        let written = match record.seal() {
            Ok(line) => self.journal.append(&record, &line).await,
            Err(error) => Err(error),
        };
        match written.and_then(|()| self.state.apply(&record)) {
            Ok(()) => {
                (self.sink)(Update::Recorded(Box::new(record)));
                Ok(())
            }
            Err(error) => {
                self.broken = Some(error.clone());
                Err(error)
            }
        }
    }
}

/// `at` without what a journal does not keep.
pub(super) fn whole_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

pub(super) type Pen = Arc<Mutex<Writer>>;

/// Everything one attempt works with.
pub(super) struct Attempt {
    pub(super) planned: PlannedStep,
    pub(super) step: Arc<dyn Step>,
    pub(super) cx: StepCtx,
    pub(super) pen: Pen,
    pub(super) cancel: watch::Receiver<bool>,
}

/// Why work on a step ended without an outcome of its own.
enum Stop {
    /// Cancelled, or the journal cannot be written.
    Quiet,
    /// It failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Attempt {
    /// Works until the outcome is in the journal, or until cancelled.
    pub(super) async fn drive(mut self) {
        let pen = self.pen.clone();
        let planned = self.planned.clone();
        let ended = AssertUnwindSafe(self.work()).catch_unwind().await.unwrap_or_else(|panic| {
            let text = panic_text(&*panic);
            Err(Stop::Failed(
                Error::internal(format!("the step panicked: {text}"))
                    .hint("this is a defect of maip-dr or of the step's author"),
            ))
        });
        let mut pen = pen.lock().await;
        let event = match ended {
            Ok(event) => event,
            Err(Stop::Quiet) => return,
            Err(Stop::Failed(error)) => match accepted(&pen.state, &error) {
                Some(event) => event,
                // A risk that is taken and did not help is an ordinary failure.
                None if error.needs.as_ref().is_some_and(|n| pen.state.accepts(n).is_some()) => {
                    Event::StepFailed { error: Error { needs: None, ..error } }
                }
                None => Event::StepFailed { error },
            },
        };
        // A failure to write is kept in the pen, where the engine finds it.
        let _ = pen.append(Some(&planned), event).await;
    }

    async fn work(&mut self) -> Result<Event, Stop> {
        let timing = self.step.timing();
        let deadline = after(self.cx.began, Duration::from_secs_f64(self.planned.deadline_s));
        let mutates = self.planned.mutates();
        let (called, not_after) = {
            let pen = self.pen.lock().await;
            let state = &pen.state.steps[&self.planned.id];
            (state.called.clone(), state.not_after)
        };
        // A start without an outcome is in doubt: its call may have been accepted, or may yet be.
        let mut quiet_until = match (&called, not_after) {
            (Some(_), Some(not_after)) => {
                // `not_after` is the last call's; it settles from then on.
                let last =
                    not_after.checked_sub(jiff::SignedDuration::try_from(timing.call).unwrap_or_default());
                after(last.unwrap_or(not_after), timing.settle).max(not_after)
            }
            _ => Timestamp::MIN,
        };
        self.cx.started = called.map(|(at, before)| StartedAt { at, before });
        if !mutates {
            self.announce(false, Value::Null, self.cx.now()).await?;
        }
        let mut backoff = Duration::from_secs(1);
        let mut last: Option<Error> = None;
        loop {
            let seen = match self
                .unless_cancelled(timeout(self.cx.clock(), LOOK, self.step.observe(&self.cx)))
                .await?
            {
                Ok(Ok(seen)) => seen,
                Ok(Err(error)) | Err(error) if error.kind.is_transient() && error.needs.is_none() => {
                    Observed::Unknown(error)
                }
                Ok(Err(error)) | Err(error) => return Err(Stop::Failed(error)),
            };
            match seen {
                Observed::Done(output) => return self.done(output, mutates),
                Observed::Failed(error) => return Err(Stop::Failed(error)),
                Observed::Underway(note) => {
                    self.cx.note(&note);
                    last = Some(Error::unavailable(note));
                    backoff = Duration::from_secs(1);
                    self.pause(None, deadline).await?;
                }
                Observed::Unknown(error) => {
                    self.cx.note(&error.one_line());
                    last = Some(error);
                    self.pause(Some(backoff), deadline).await?;
                    backoff = (backoff * 2).min(Duration::from_secs(10));
                }
                Observed::NotDone { before } if mutates && self.cx.now() >= quiet_until => {
                    match self.call(before, timing.call).await? {
                        Ok(()) => quiet_until = after(self.cx.now(), timing.settle),
                        Err(error) => match error.kind {
                            ErrorKind::Throttled | ErrorKind::Unavailable => {
                                self.cx.note(&error.one_line());
                                last = Some(error);
                                self.pause(Some(backoff), deadline).await?;
                                backoff = (backoff * 2).min(Duration::from_secs(10));
                            }
                            ErrorKind::InDoubt => {
                                quiet_until = after(self.cx.now(), timing.settle);
                                last = Some(error);
                            }
                            // Something else is changing it, perhaps our own call that was thought lost: look.
                            ErrorKind::Conflict if error.needs.is_none() => {
                                self.cx.note(&error.one_line());
                                quiet_until = after(self.cx.now(), timing.poll * 3);
                                last = Some(error);
                                self.pause(None, deadline).await?;
                            }
                            _ => return Err(Stop::Failed(error)),
                        },
                    }
                }
                Observed::NotDone { .. } => self.pause(None, deadline).await?,
            }
            if self.cx.now() >= deadline {
                let limit = Span(Duration::from_secs_f64(self.planned.deadline_s));
                let error = last.unwrap_or_else(|| Error::unavailable("nothing was seen to happen"));
                let kind = &self.planned.kind;
                let hint = error.hint.clone().unwrap_or_else(|| {
                    format!(
                        "mend what it names; `timeouts: {{ {kind}: ... }}` in the topology gives it longer"
                    )
                });
                let what = format!("{} is not done within {limit}", self.planned.id);
                return Err(Stop::Failed(error.context(what).hint(hint)));
            }
        }
    }

    fn done(&self, output: Value, mutates: bool) -> Result<Event, Stop> {
        let already = mutates && self.cx.started.is_none();
        if already && self.planned.undo == Undo::Impossible {
            return Err(Stop::Failed(
                Error::refused(format!("{}: this was done already, and not by this run", self.planned.summary))
                    .hint("make sure of where it comes from; an old rehearsal is stale data. Then go on with --accept-promoted")
                    .needs(crate::error::Risk::Promoted, output),
            ));
        }
        Ok(Event::StepSucceeded { output, already, accepted: None })
    }

    /// Announces the call, makes it, and notes a lost answer. The inner error is the call's.
    async fn call(&mut self, before: Value, limit: Duration) -> Result<Result<()>, Stop> {
        // What is being taken back begins nothing new.
        if *self.cancel.borrow() {
            return Err(Stop::Quiet);
        }
        let not_after = whole_millis(after(self.cx.now(), limit));
        self.announce(true, before.clone(), not_after).await?;
        if self.cx.started.is_none() {
            self.cx.started = Some(StartedAt { at: self.cx.now(), before: before.clone() });
        }
        if self.cx.now() > not_after {
            return Ok(Err(Error::unavailable("the moment for this call has passed")));
        }
        // Not cancelled from here on: an answer that is on its way is worth waiting for.
        let answer = match timeout(self.cx.clock(), limit, self.step.apply(&self.cx, &before)).await {
            Ok(answer) => answer,
            Err(late) => Err(Error::in_doubt(format!("the call was sent; {}", late.message))),
        };
        if let Err(error) = &answer
            && error.kind == ErrorKind::InDoubt
        {
            self.write(Event::StepInDoubt { error: error.clone() }).await?;
        }
        Ok(answer)
    }

    async fn announce(&self, mutates: bool, before: Value, not_after: Timestamp) -> Result<(), Stop> {
        let mut pen = self.pen.lock().await;
        let attempt = pen.state.steps[&self.planned.id].attempts + 1;
        let event = Event::StepStarted { attempt, mutates, before, not_after: whole_millis(not_after) };
        pen.append(Some(&self.planned), event).await.map_err(|_| Stop::Quiet)
    }

    async fn write(&self, event: Event) -> Result<(), Stop> {
        self.pen.lock().await.append(Some(&self.planned), event).await.map_err(|_| Stop::Quiet)
    }

    /// Waits until it is worth looking again, at most until the deadline.
    async fn pause(&mut self, fixed: Option<Duration>, deadline: Timestamp) -> Result<(), Stop> {
        let left = Duration::try_from(deadline - self.cx.now()).unwrap_or(Duration::ZERO);
        let (step, cx) = (self.step.clone(), self.cx.clone());
        let wait = async move {
            let own = async {
                match fixed {
                    Some(duration) => cx.clock().sleep(duration).await,
                    None => step.wait(&cx).await,
                }
            };
            let _ = timeout(cx.clock(), left, own).await;
        };
        self.unless_cancelled(wait).await
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T> + Send) -> Result<T, Stop> {
        let mut cancel = self.cancel.clone();
        let cancelled = std::pin::pin!(async move {
            // The sender never goes before the attempt; if it did, that is no cancellation.
            if cancel.wait_for(|c| *c).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        // The cancellation is looked at first: it wins where both are there.
        match select(cancelled, std::pin::pin!(work)).await {
            Either::Left(_) => Err(Stop::Quiet),
            Either::Right((value, _)) => Ok(value),
        }
    }

    /// Brings back what was before.
    pub(super) async fn undo(self, before: Value) {
        let limit = Duration::from_secs_f64(self.planned.deadline_s.max(600.0));
        let work = async {
            self.write(Event::StepUndoStarted {}).await?;
            match timeout(self.cx.clock(), limit, self.step.undo(&self.cx, &before)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) | Err(error) => Err(Stop::Failed(error)),
            }
        };
        let ended = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
            Err(Stop::Failed(Error::internal(format!("the undo panicked: {}", panic_text(&*panic)))))
        });
        let event = match ended {
            Ok(()) => Event::StepUndone {},
            Err(Stop::Quiet) => return,
            Err(Stop::Failed(error)) => Event::StepUndoFailed { error },
        };
        let _ = self.pen.lock().await.append(Some(&self.planned), event).await;
    }
}

/// Success despite `error`, when a person has taken the risk that it names.
fn accepted(state: &RunState, error: &Error) -> Option<Event> {
    let needed = error.needs.as_ref()?;
    state.accepts(needed)?;
    let output = error.found.as_deref()?.clone();
    Some(Event::StepSucceeded { output, already: false, accepted: Some(needed.clone()) })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

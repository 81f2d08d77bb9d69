//! What a person sees while a run goes on: a line a step on a terminal, a line an event elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr, stdout};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use jiff::Timestamp;
use maip_dr_core::StepId;
use maip_dr_core::clock::seconds_between;
use maip_dr_core::engine::Update;
use maip_dr_core::journal::{Event, Record};
use maip_dr_core::plan::{Plan, PlannedStep};
use maip_dr_core::render;

use crate::output::{out, out_json, say};
use crate::session::Session;

/// Shows the updates of one run.
pub(crate) struct Progress {
    form: Form,
    verbose: bool,
}

enum Form {
    /// One JSON object a record, on standard output.
    Json,
    /// One line an event, on standard output.
    Lines,
    /// One line a step, on the terminal.
    Live(Box<Live>),
}

struct Live {
    all: MultiProgress,
    lines: Mutex<BTreeMap<StepId, ProgressBar>>,
    /// When each step began, by the journal.
    began: Mutex<BTreeMap<StepId, Timestamp>>,
    /// Runs while a question is asked.
    asked: Mutex<Option<ProgressBar>>,
    /// What is to be printed once a question has been answered; `None` while none is asked.
    kept_back: Mutex<Option<Vec<String>>>,
    plan: Plan,
    /// Simulated seconds a real second.
    pace: f64,
    /// The world stands still while a question is asked.
    simulated: bool,
}

impl Progress {
    /// How the run of `plan` is shown to who has typed `session`'s options.
    pub(crate) fn new(session: &Session, plan: &Plan) -> Self {
        let (simulated, verbose) = (session.global.sandbox, session.global.verbose);
        let form = match (session.json(), session.pace()) {
            (true, _) => Form::Json,
            (false, Some(pace)) if stdout().is_terminal() && stderr().is_terminal() => {
                Form::Live(Box::new(Live {
                    all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
                    lines: Mutex::default(),
                    began: Mutex::default(),
                    asked: Mutex::default(),
                    kept_back: Mutex::default(),
                    plan: plan.clone(),
                    pace,
                    simulated,
                }))
            }
            _ => Form::Lines,
        };
        Self { form, verbose }
    }

    /// Takes in one update.
    pub(crate) fn update(&self, update: &Update) {
        match (&self.form, update) {
            (Form::Json, Update::Recorded(record)) => out_json(record),
            (Form::Lines, Update::Recorded(record)) if worth_a_line(record, self.verbose) => {
                out(&(render::record(record) + "\n"));
            }
            (Form::Live(live), Update::Recorded(record)) => live.record(record),
            (Form::Live(live), Update::Progress { step, note }) => live.note(step, note),
            (Form::Lines | Form::Json, Update::Progress { step, note }) if self.verbose => {
                say(&format!("{step}: {note}\n"));
            }
            _ => {}
        }
    }

    /// Leaves the terminal to a question.
    pub(crate) fn hide(&self) {
        if let Form::Live(live) = &self.form {
            let _ = live.all.clear();
            *live.kept_back() = Some(Vec::new());
            *locked(&live.asked) = Some(ProgressBar::hidden());
            live.all.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Takes the terminal back.
    pub(crate) fn show(&self) {
        if let Form::Live(live) = &self.form {
            live.forget_the_question();
            live.all.set_draw_target(ProgressDrawTarget::stderr());
            let kept = live.kept_back().take();
            kept.into_iter().flatten().for_each(|line| live.print(line));
        }
    }

    /// Leaves what was shown where it is.
    pub(crate) fn finish(&self) {
        if let Form::Live(live) = &self.form {
            for line in locked(&live.lines).values() {
                if !line.is_finished() {
                    line.abandon();
                }
            }
        }
    }
}

/// A step that only looks is worth its result, not its beginning.
fn worth_a_line(record: &Record, verbose: bool) -> bool {
    verbose || !matches!(record.event, Event::StepStarted { mutates: false, .. })
}

impl Live {
    fn record(&self, record: &Record) {
        let step = record.step.as_ref().and_then(|id| self.plan.step(id));
        match (&record.event, step) {
            (Event::StepStarted { .. } | Event::StepUndoStarted {}, Some(step)) => {
                let word = if matches!(record.event, Event::StepStarted { .. }) { "" } else { "undoing" };
                locked(&self.began).insert(step.id.clone(), record.at);
                self.line(step).set_message(word.to_owned());
            }
            (Event::StepInDoubt { .. }, Some(step)) => {
                self.line(step).set_message("the answer was lost: looking what happened".to_owned());
            }
            (
                Event::StepSucceeded { .. }
                | Event::StepFailed { .. }
                | Event::StepUndone {}
                | Event::StepUndoFailed { .. },
                Some(step),
            ) => {
                let line = self.line(step);
                let text = render::record(record);
                // The line has the step's name already.
                let said = text.split_once(": ").map_or(text.as_str(), |(_, said)| said).to_owned();
                // A step that only looked before it failed has no beginning in the journal.
                let shown = match locked(&self.began).get(&step.id) {
                    Some(began) => Shown::Done(seconds_between(*began, record.at)),
                    None => Shown::Running { pace: self.pace },
                };
                line.set_style(style(step, &self.plan, shown));
                line.finish_with_message(said);
            }
            (Event::RunHeld { .. }, _) => {}
            _ => self.print(render::record(record)),
        }
    }

    fn kept_back(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        locked(&self.kept_back)
    }

    /// The time that a person took to answer is not the steps'.
    fn forget_the_question(&self) {
        let Some(asked) = locked(&self.asked).take() else { return };
        for line in locked(&self.lines).values().filter(|line| self.simulated && !line.is_finished()) {
            line.set_elapsed(line.elapsed().saturating_sub(asked.elapsed()));
        }
    }

    /// Prints a line above the steps.
    fn print(&self, line: String) {
        if let Some(kept) = self.kept_back().as_mut() {
            kept.push(line);
        } else {
            let _ = self.all.println(line);
        }
    }

    fn note(&self, step: &StepId, note: &str) {
        if let Some(step) = self.plan.step(step) {
            self.line(step).set_message(note.to_owned());
        }
    }

    fn line(&self, step: &PlannedStep) -> ProgressBar {
        let mut lines = locked(&self.lines);
        let known = lines.get(&step.id).filter(|line| !line.is_finished());
        if let Some(line) = known {
            return line.clone();
        }
        let line = self.all.add(ProgressBar::new_spinner());
        line.set_style(style(step, &self.plan, Shown::Running { pace: self.pace }));
        line.set_prefix(step.id.to_string());
        line.enable_steady_tick(Duration::from_millis(120));
        lines.insert(step.id.clone(), line.clone());
        line
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a step's line still moves.
#[derive(Clone, Copy)]
enum Shown {
    /// So many simulated seconds a real second.
    Running { pace: f64 },
    /// It took so many seconds.
    Done(f64),
}

/// `| * promote-postgres   3 min of 5 min   modifying`
fn style(step: &PlannedStep, plan: &Plan, shown: Shown) -> ProgressStyle {
    let width = plan.steps.iter().map(|s| s.id.as_str().len()).max().unwrap_or(0);
    let mark = if plan.critical_path.contains(&step.id) { "*" } else { " " };
    let spin = if matches!(shown, Shown::Done(_)) { " " } else { "{spinner}" };
    let expected = render::seconds(step.expected_s);
    let template = format!("{spin} {mark} {{prefix:{width}}}  {{time:>10}} of {expected:<10} {{wide_msg}}");
    let time = move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let passed = match shown {
            Shown::Running { pace } => (state.elapsed().as_secs_f64() * pace).floor(),
            Shown::Done(took) => took,
        };
        let _ = text.write_str(&render::seconds(passed));
    };
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_strings(&["|", "/", "-", "\\", " "])
        .with_key("time", time)
}

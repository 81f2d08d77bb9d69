//! What a person sees while a run goes on: a line a step on a terminal, a line an event elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, stderr, stdout};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use maip_dr_core::StepId;
use maip_dr_core::engine::Update;
use maip_dr_core::journal::{Event, Record};
use maip_dr_core::plan::{Plan, PlannedStep};
use maip_dr_core::render;

use crate::output::{out, out_json, say};

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
    plan: Plan,
    /// Simulated seconds a real second.
    pace: f64,
}

impl Progress {
    /// `pace`: how fast the world's time passes; `None` where it jumps.
    pub(crate) fn new(json: bool, verbose: bool, plan: &Plan, pace: Option<f64>) -> Self {
        let form = match (json, pace) {
            (true, _) => Form::Json,
            (false, Some(pace)) if stdout().is_terminal() && stderr().is_terminal() => {
                Form::Live(Box::new(Live {
                    all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
                    lines: Mutex::default(),
                    plan: plan.clone(),
                    pace,
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
            live.all.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Takes the terminal back.
    pub(crate) fn show(&self) {
        if let Form::Live(live) = &self.form {
            live.all.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Leaves what was shown where it is.
    pub(crate) fn finish(&self) {
        if let Form::Live(live) = &self.form {
            for line in live.lines.lock().unwrap_or_else(PoisonError::into_inner).values() {
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
                line.set_style(style(step, &self.plan, self.pace, true));
                line.finish_with_message(said);
            }
            (Event::RunHeld { .. }, _) => {}
            _ => {
                let _ = self.all.println(render::record(record));
            }
        }
    }

    fn note(&self, step: &StepId, note: &str) {
        if let Some(step) = self.plan.step(step) {
            self.line(step).set_message(note.to_owned());
        }
    }

    fn line(&self, step: &PlannedStep) -> ProgressBar {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lines.get(&step.id).filter(|line| !line.is_finished());
        if let Some(line) = known {
            return line.clone();
        }
        let line = self.all.add(ProgressBar::new_spinner());
        line.set_style(style(step, &self.plan, self.pace, false));
        line.set_prefix(step.id.to_string());
        line.enable_steady_tick(Duration::from_millis(120));
        lines.insert(step.id.clone(), line.clone());
        line
    }
}

/// `| * promote-postgres   3 min of 5 min   modifying`
fn style(step: &PlannedStep, plan: &Plan, pace: f64, done: bool) -> ProgressStyle {
    let width = plan.steps.iter().map(|s| s.id.as_str().len()).max().unwrap_or(0);
    let mark = if plan.critical_path.contains(&step.id) { "*" } else { " " };
    let spin = if done { " " } else { "{spinner}" };
    let expected = render::seconds(step.expected_s);
    let template = format!("{spin} {mark} {{prefix:{width}}}  {{time:>9}} of {expected:<10} {{wide_msg}}");
    let time = move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let _ = text.write_str(&render::seconds((state.elapsed().as_secs_f64() * pace).floor()));
    };
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_strings(&["|", "/", "-", "\\", " "])
        .with_key("time", time)
}

/// The facts that no longer hold, one a line.
pub(crate) fn listed(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = write!(text, "{}{line}", if text.is_empty() { "" } else { "; " });
        text
    })
}

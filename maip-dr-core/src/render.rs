//! What people read: plans, checks, runs and reports as text. Pure functions of what they show.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use crate::api::{DryStep, RunRow, phase_word};
use crate::check::{CheckRow, CheckStatus};
use crate::engine::state::{Phase, RunState};
use crate::error::{Error, Risk};
use crate::journal::{Event, Outcome, Record, millis};
use crate::plan::{Plan, PlannedStep};
use crate::report::{Report, StepReport};
use crate::step::{Plane, Undo};
use crate::steps::Rpo;

/// Whether the text may carry colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Letters only.
    Plain,
    /// ANSI colours.
    Colour,
}

impl Paint {
    fn on(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
    fn bold(self, text: &str) -> String {
        self.on("1", text)
    }
}

/// Seconds as a person says them: `4.2 s`, `3 min 20 s`, `1 h 5 min`.
pub fn seconds(seconds: f64) -> String {
    if seconds < 59.95 {
        return if seconds < 10.0 && seconds.fract() > 0.05 {
            format!("{seconds:.1} s")
        } else {
            format!("{seconds:.0} s")
        };
    }
    let whole = seconds.round().max(0.0) as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes, rest) {
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

fn undo_words(undo: Undo) -> &'static str {
    match undo {
        Undo::Inverse => "can be undone",
        Undo::NotNeeded => "nothing to undo",
        Undo::Impossible => "CANNOT BE UNDONE",
    }
}

/// The steps, each after those it waits for.
fn in_order(plan: &Plan) -> Vec<&PlannedStep> {
    let mut left: Vec<&PlannedStep> = plan.steps.iter().collect();
    let mut done: Vec<&PlannedStep> = Vec::new();
    while !left.is_empty() {
        let (ready, rest): (Vec<_>, Vec<_>) =
            left.iter().partition(|s| s.after.iter().all(|id| done.iter().any(|d| d.id == *id)));
        if ready.is_empty() {
            done.extend(rest);
            break;
        }
        done.extend(ready);
        left = rest;
    }
    done
}

fn heading(plan: &Plan, paint: Paint) -> String {
    let way = match (&plan.from, &plan.to) {
        (Some(from), Some(to)) => format!(" from {from} to {to}"),
        (None, Some(to)) => format!(" to {to}"),
        _ => String::new(),
    };
    let title = paint.bold(&format!("{}{way}", plan.procedure));
    format!(
        "{title}: {} steps, expected {}, plan {}\n",
        plan.steps.len(),
        seconds(plan.expected_s),
        plan.hash.get(..12).unwrap_or(&plan.hash)
    )
}

fn warnings(plan: &Plan, paint: Paint) -> String {
    plan.warnings.iter().fold(String::new(), |mut text, warning| {
        let _ = writeln!(text, "{} {warning}", paint.on("33", "warning:"));
        text
    })
}

/// A plan in a line a step: what is shown before a run begins.
pub fn plan_short(plan: &Plan, paint: Paint) -> String {
    let mut text = heading(plan, paint);
    let width = plan.steps.iter().map(|s| s.id.as_str().len()).max().unwrap_or(0);
    for step in in_order(plan) {
        let mark = if plan.critical_path.contains(&step.id) { "*" } else { " " };
        let door =
            if step.undo == Undo::Impossible { paint.on("31", " (cannot be undone)") } else { String::new() };
        let _ = writeln!(
            text,
            " {mark} {:width$}  {:>9}  {}{door}",
            step.id.as_str(),
            seconds(step.expected_s),
            step.summary
        );
    }
    text.push_str(" * = on the critical path\n");
    text + &warnings(plan, paint)
}

/// A plan with everything: order, calls, undo, the same by hand.
pub fn plan(plan: &Plan, paint: Paint) -> String {
    let mut text = heading(plan, paint);
    for step in in_order(plan) {
        let mark = if plan.critical_path.contains(&step.id) { "*" } else { " " };
        let _ = writeln!(text, "\n{mark} {}  [{}]", paint.bold(step.id.as_str()), step.kind);
        let _ = writeln!(text, "    {}", step.summary);
        if !step.after.is_empty() {
            let after: Vec<&str> = step.after.iter().map(|id| id.as_str()).collect();
            let _ = writeln!(text, "    after      {}", after.join(", "));
        }
        let best_effort = if step.best_effort { "; a failure is only reported" } else { "" };
        let deadline = if step.deadline_s > 0.0 {
            format!(", fails after {}", seconds(step.deadline_s))
        } else {
            String::new()
        };
        let _ = writeln!(text, "    expected   {}{deadline}", seconds(step.expected_s));
        let _ = writeln!(text, "    undo       {}{best_effort}", undo_words(step.undo));
        for call in &step.calls {
            let plane = if call.plane == Plane::Control { "control plane" } else { "data plane" };
            let does = if call.mutates { "CHANGES" } else { "reads" };
            let _ = writeln!(
                text,
                "    call       {does} {} in {} ({plane}) {}",
                call.api, call.region, call.resource
            );
        }
        for command in &step.by_hand {
            let _ = writeln!(text, "    by hand    {command}");
        }
    }
    text.push_str("\n* = on the critical path\n");
    if !plan.assumes.is_empty() {
        text.push_str("\nIt was made from these facts:\n");
        for (name, fact) in &plan.assumes {
            let _ = writeln!(text, "    {name}: {}", short_json(fact));
        }
    }
    text + &warnings(plan, paint)
}

fn short_json(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The facts that differ between two plans: `name: was -> is`. Who asks is none of them: a session's name differs
/// every time, and another account is refused anyway.
pub fn drift(was: &Plan, is: &Plan) -> Vec<String> {
    let names: BTreeSet<&String> = was.assumes.keys().chain(is.assumes.keys()).collect();
    names
        .into_iter()
        .filter(|name| *name != "caller")
        .flat_map(|name| differences(name, was.assumes.get(name), is.assumes.get(name)))
        .collect()
}

/// Where two values differ, as deep as both are objects.
fn differences(name: &str, was: Option<&Value>, is: Option<&Value>) -> Vec<String> {
    if was == is {
        return Vec::new();
    }
    if let (Some(Value::Object(was)), Some(Value::Object(is))) = (was, is) {
        let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        return keys
            .into_iter()
            .flat_map(|key| differences(&format!("{name}.{key}"), was.get(key), is.get(key)))
            .collect();
    }
    let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), short_json);
    vec![format!("{name}: {} -> {}", shown(was), shown(is))]
}

/// Rows of columns, each as wide as its widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| visible(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width.saturating_sub(visible(cell)) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How wide `text` shows: without its colours.
fn visible(text: &str) -> usize {
    let mut width = 0;
    let mut escaped = false;
    for c in text.chars() {
        match (escaped, c) {
            (false, '\u{1b}') => escaped = true,
            (true, 'm') => escaped = false,
            (true, _) => {}
            (false, _) => width += 1,
        }
    }
    width
}

/// The rows of a check.
pub fn check(rows: &[CheckRow], paint: Paint) -> String {
    let status = |row: &CheckRow| {
        let code = match row.status {
            CheckStatus::Ok => "32",
            CheckStatus::Degraded => "33",
            CheckStatus::Unknown => "35",
            CheckStatus::Down => "31",
        };
        paint.on(code, row.status.as_str())
    };
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                status(row),
                row.region.to_string(),
                row.kind.as_str().to_owned(),
                row.resource.clone(),
                row.detail.clone(),
            ]
        })
        .collect();
    let mut text = String::new();
    for (line, row) in table(&cells).lines().zip(rows) {
        text.push_str(line);
        text.push('\n');
        if let Some(hint) = &row.hint {
            let _ = writeln!(text, "          hint: {hint}");
        }
    }
    let bad = rows.iter().filter(|row| row.status != CheckStatus::Ok).count();
    let summary = match bad {
        0 => "everything is OK".to_owned(),
        n => format!("{n} of {} not OK", rows.len()),
    };
    text + &summary + "\n"
}

/// What a dry run found.
pub fn dry_run(steps: &[DryStep]) -> String {
    let cells: Vec<Vec<String>> = steps
        .iter()
        .map(|s| {
            let early = if s.before_others && s.finding != "done" {
                " (as it is before the steps above)"
            } else {
                ""
            };
            vec![s.id.to_string(), s.finding.replace('_', " "), format!("{}{early}", s.detail)]
        })
        .collect();
    table(&cells) + "dry run: nothing was changed\n"
}

/// The list of runs.
pub fn runs(rows: &[RunRow]) -> String {
    if rows.is_empty() {
        return "there is no run yet\n".to_owned();
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let stands = match (&row.problem, row.outcome, row.driven) {
                (Some(problem), ..) => format!("cannot be read: {problem}"),
                (None, Some(outcome), _) => outcome.as_str().replace('_', " "),
                (None, None, true) => "going on".to_owned(),
                (None, None, false) => "interrupted".to_owned(),
            };
            let started = if row.problem.is_some() { "-".to_owned() } else { millis::text(row.started_at) };
            vec![row.run.to_string(), row.procedure.clone(), row.world.clone(), started, stands]
        })
        .collect();
    table(&cells)
}

/// One record in a line, for people who read along.
pub fn record(record: &Record) -> String {
    let step = record.step.as_ref().map(|id| id.as_str()).unwrap_or_default();
    let what = match &record.event {
        Event::RunStarted(start) => {
            let place = if start.world == "sandbox" { " in the SANDBOX" } else { "" };
            format!(
                "run {} started{place}: {}, by {}@{}",
                record.run, start.procedure, start.by.user, start.by.host
            )
        }
        Event::StepStarted { mutates: false, .. } => format!("{step}: looking"),
        Event::StepStarted { attempt: 1, .. } => format!("{step}: started"),
        Event::StepStarted { attempt, .. } => format!("{step}: started, attempt {attempt}"),
        Event::StepSucceeded { output, already, accepted } => {
            let detail = output.get("detail").and_then(Value::as_str).unwrap_or("done");
            let word = match (accepted, already) {
                (Some(risk), _) => format!("accepted ({})", risk.option()),
                (None, true) => "was already so".to_owned(),
                (None, false) => "ok".to_owned(),
            };
            format!("{step}: {word}: {detail}")
        }
        Event::StepFailed { error } if error.needs.is_some() => {
            format!("{step}: waits for a person: {}", error.one_line())
        }
        Event::StepFailed { error } => format!("{step}: FAILED: {}", error.one_line()),
        Event::StepInDoubt { error } => {
            format!("{step}: answer lost, looking what happened: {}", error.one_line())
        }
        Event::StepSkipped { .. } => format!("{step}: skipped"),
        Event::StepUndoStarted {} => format!("{step}: undoing"),
        Event::StepUndone {} => format!("{step}: undone, what was before is back"),
        Event::StepUndoFailed { error } => format!("{step}: CANNOT BE UNDONE: {}", error.one_line()),
        Event::Approved { by, .. } => format!("{step}: approved by {}@{}", by.user, by.host),
        Event::Declined { by, .. } => format!("declined by {}@{}", by.user, by.host),
        Event::Accepted { risk, by, .. } => format!("{} taken by {}@{}", risk.option(), by.user, by.host),
        Event::Decided { choice, by, .. } => {
            format!("{:?} {step} decided by {}@{}", choice, by.user, by.host).to_lowercase()
        }
        Event::RunHeld { reason, .. } => format!("HELD at {step}: {reason}"),
        Event::RunPaused { reason } => format!("paused: {reason}"),
        Event::RunResumed { by } => format!("resumed by {}@{}", by.user, by.host),
        Event::RunEnded { outcome, error: None } => format!("ended: {}", outcome.as_str().replace('_', " ")),
        Event::RunEnded { outcome, error: Some(error) } => {
            format!("ended: {}: {}", outcome.as_str().replace('_', " "), error.one_line())
        }
    };
    format!("{} {what}", clock(record.at))
}

/// The risk in plain words.
pub fn risk(risk: &Risk) -> String {
    match risk {
        Risk::UnverifiedDown => "The primary is not proven to be down. If it still serves, there will be two writers.".into(),
        Risk::Unfenced => {
            "The old writer is not fenced. Whoever still reaches it can write to it, and those writes will be lost.".into()
        }
        Risk::DataLoss { seconds: Some(s) } => {
            format!("Up to {} of data may be lost, more than the objective.", seconds(*s))
        }
        Risk::DataLoss { seconds: None } => "How much data may be lost is unknown.".into(),
        Risk::Promoted => "Someone else promoted the replica. It may hold writes that this run knows nothing of.".into(),
    }
}

/// What a person should know before the one question.
pub fn question(state: &RunState) -> String {
    let plan = state.plan();
    let mut text = format!("in {}\n", place(&state.start.world));
    if let Some(caller) = &state.start.caller {
        let _ = writeln!(text, "account {}, as {}", caller.account, caller.arn);
    } else {
        text.push_str("account and caller are UNKNOWN: the standby's STS did not say\n");
    }
    for step in &plan.steps {
        let stands = &state.steps[&step.id];
        if let (Phase::Succeeded, Some(detail)) =
            (&stands.phase, stands.output.get("detail").and_then(Value::as_str))
            && step.kind != "notify.send"
        {
            let _ = writeln!(text, "  {}: {detail}", step.id);
        }
    }
    for step in plan.steps.iter().filter(|s| s.undo == Undo::Impossible) {
        let _ = writeln!(text, "  CANNOT BE UNDONE: {} ({})", step.summary, step.id);
    }
    let _ = writeln!(text, "plan {}", plan.hash.get(..12).unwrap_or(&plan.hash));
    text
}

/// What is left of a run, by hand.
pub fn by_hand(state: &RunState) -> String {
    let mut text = String::new();
    for step in in_order(state.plan()) {
        if matches!(state.steps[&step.id].phase, Phase::Succeeded | Phase::Skipped) || step.by_hand.is_empty()
        {
            continue;
        }
        let _ = writeln!(text, "  # {}: {}", step.id, step.summary);
        for command in &step.by_hand {
            let _ = writeln!(text, "  {command}");
        }
    }
    let beware = match state.start.world.as_str() {
        "sandbox" => " (this run is in the sandbox, but these commands would change the REAL Regions)",
        _ => "",
    };
    if text.is_empty() { text } else { format!("What is left, by hand{beware}:\n{text}") }
}

/// What a run that is held waits for, what the risk is, what to type, and the same by hand.
pub fn held(state: &RunState) -> String {
    let Some((reason, needs)) = &state.held else { return String::new() };
    let mut text = format!("held: {reason}\n");
    if let Some(needed) = needs {
        let _ = writeln!(text, "{}", risk(needed));
    }
    let hint = state.steps.values().find_map(|step| match &step.phase {
        Phase::Failed(error) if error.one_line() == *reason => error.hint.as_ref(),
        _ => None,
    });
    if let Some(hint) = hint {
        let _ = writeln!(text, "hint: {hint}");
    }
    text + &choices(state) + &by_hand(state)
}

/// How a run stands, in plain words.
pub fn status(state: &RunState, driven: bool, paint: Paint) -> String {
    let stands = match (&state.ended, &state.held, driven) {
        (Some((outcome, _)), ..) => outcome.as_str().replace('_', " "),
        (None, Some(_), _) => "held: it waits for a person".to_owned(),
        (None, None, true) => "going on: a process on this machine drives it".to_owned(),
        (None, None, false) => "interrupted: nobody drives it from this machine".to_owned(),
    };
    let run = paint.bold(&format!("run {}", state.run));
    let mut text = format!("{run} ({} in {}): {stands}\n", state.start.procedure, place(&state.start.world));
    let cells: Vec<Vec<String>> = in_order(state.plan())
        .into_iter()
        .map(|step| {
            let s = &state.steps[&step.id];
            let detail = match &s.phase {
                Phase::Failed(error) | Phase::UndoFailed(error) => error.one_line(),
                _ => s.output.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned(),
            };
            vec![format!("  {}", step.id), phase_word(&s.phase).replace('_', " "), detail]
        })
        .collect();
    text.push_str(&table(&cells));
    text.push_str(if state.ended.is_some() {
        ""
    } else if state.past_no_return() {
        "It is past the point of no return: nothing is undone without a person.\n"
    } else {
        "Nothing irreversible has been begun: abandoning or declining is still possible.\n"
    });
    if let Some((_, Some(error))) = &state.ended {
        let _ = writeln!(text, "because: {}", error.one_line());
    }
    if let Some((reason, needs)) = &state.held {
        let _ = writeln!(text, "It waits because: {reason}");
        if let Some(needed) = needs {
            let _ = writeln!(text, "{}", risk(needed));
        }
    }
    if state.ended.is_none() && !driven {
        text.push_str(&choices(state));
        text.push_str(&by_hand(state));
    }
    text
}

/// What a person can type now, and what each means.
pub fn choices(state: &RunState) -> String {
    let run = &state.run;
    let mut text = String::from("What you can do:\n");
    let mut say = |command: String, meaning: &str| {
        let _ = writeln!(text, "  {command}\n      {meaning}");
    };
    let failed = state.plan().steps.iter().find(|s| {
        matches!(&state.steps[&s.id].phase, Phase::Failed(e) if e.needs.is_none()) && !s.best_effort
    });
    match (&state.held, failed) {
        (Some((_, Some(needed))), _) => {
            say(format!("maip-dr resume {run} {}", needed.option()), "take this risk, and go on");
            say(format!("maip-dr resume {run}"), "look again, without taking it");
        }
        (_, Some(step)) => {
            say(format!("maip-dr decide {run} retry {}", step.id), "after mending what failed; then resume");
            say(
                format!("maip-dr decide {run} skip {}", step.id),
                "only if you did it by hand or can do without; then resume",
            );
            say(format!("maip-dr resume {run}"), "go on as decided");
        }
        (Some(_), None) => say(format!("maip-dr resume {run} --yes"), "say yes to the question, and go on"),
        (None, None) => say(format!("maip-dr resume {run}"), "go on where it stopped"),
    }
    say(
        format!("maip-dr decide {run} abandon"),
        "give the run up as it stands; nothing more is done or undone",
    );
    text
}

fn place(world: &str) -> &str {
    if world == "sandbox" { "the sandbox" } else { "AWS" }
}

fn rpo(rpo: Option<Rpo>) -> String {
    match rpo {
        None => "nothing was promoted".to_owned(),
        Some(Rpo { max: None, .. }) => "UNKNOWN".to_owned(),
        Some(Rpo { min, max: Some(max) }) if min > 0.0 => format!("{} to {}", seconds(min), seconds(max)),
        Some(Rpo { max: Some(max), .. }) => format!("at most {}", seconds(max)),
    }
}

fn met(objective: f64, met: Option<bool>) -> String {
    let word = match met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "not known",
    };
    format!("objective {}: {word}", seconds(objective))
}

/// A run's report as text.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    let outcome = report.outcome.map_or("not ended".to_owned(), |o| o.as_str().replace('_', " "));
    let _ = writeln!(text, "{} of {}: {outcome}", report.procedure, report.application);
    if let Some(reason) = &report.reason {
        let _ = writeln!(text, "because: {reason}");
    }
    for (name, value) in facts(report) {
        let _ = writeln!(text, "{name:<12}{value}");
    }
    for (name, database) in &report.databases {
        let fence = database.fence.as_deref().unwrap_or("not tried");
        let loss =
            if database.promoted_at.is_some() { rpo(database.rpo_s) } else { "not promoted".to_owned() };
        let _ = writeln!(text, "{:<12}{name}: loss {loss}; fence of the old writer: {fence}", "database");
    }
    let cells: Vec<Vec<String>> = report
        .steps
        .iter()
        .map(|s| {
            vec![
                format!("  {}", s.id),
                s.outcome.clone().unwrap_or_else(|| "not begun".to_owned()).replace('_', " "),
                took(s),
                s.detail.clone().unwrap_or_default(),
            ]
        })
        .collect();
    text.push_str("steps\n");
    text.push_str(&table(&cells));
    for (title, lines) in lists(report) {
        let _ = writeln!(text, "{title}");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// A run's report as Markdown.
pub fn report_markdown(report: &Report) -> String {
    let outcome = report.outcome.map_or("not ended".to_owned(), |o| o.as_str().replace('_', " "));
    let mut text = format!("# {} of {}: {outcome}\n\n", report.procedure, report.application);
    if let Some(reason) = &report.reason {
        let _ = writeln!(text, "{}\n", cell(reason));
    }
    text.push_str("| | |\n|---|---|\n");
    for (name, value) in facts(report) {
        let _ = writeln!(text, "| {name} | {} |", cell(&value));
    }
    if !report.databases.is_empty() {
        text.push_str("\n## Databases\n\n| database | loss | fence | promoted |\n|---|---|---|---|\n");
        for (name, d) in &report.databases {
            let fence = d.fence.as_deref().unwrap_or("not tried");
            let promoted = d.promoted_at.map_or("no".to_owned(), millis::text);
            let _ = writeln!(text, "| {} | {} | {fence} | {promoted} |", cell(name), rpo(d.rpo_s));
        }
    }
    text.push_str("\n## Steps\n\n| step | outcome | took | found |\n|---|---|---|---|\n");
    for s in &report.steps {
        let outcome = s.outcome.as_deref().unwrap_or("not begun").replace('_', " ");
        let _ = writeln!(
            text,
            "| {} | {outcome} | {} | {} |",
            s.id,
            took(s),
            cell(s.detail.as_deref().unwrap_or(""))
        );
    }
    for (title, lines) in lists(report) {
        let _ = writeln!(text, "\n## {}\n", title.trim_end_matches(':'));
        for line in lines {
            let _ = writeln!(text, "- {}", cell(&line));
        }
    }
    text
}

/// Nothing in it breaks a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn took(step: &StepReport) -> String {
    match (step.started_at, step.ended_at) {
        (Some(from), Some(to)) => seconds(crate::clock::seconds_between(from, to)),
        (Some(_), None) => "not ended".to_owned(),
        _ => "-".to_owned(),
    }
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let way = match (&report.from, &report.to) {
        (Some(from), Some(to)) => format!(", {from} to {to}"),
        _ => String::new(),
    };
    let mut facts = vec![
        ("run", format!("{} in {}{way}", report.run, place(&report.world))),
        ("began", millis::text(report.started_at)),
    ];
    if let Some(at) = report.ended_at {
        facts.push(("ended", millis::text(at)));
    }
    let rto = match report.rto_s {
        Some(rto) => format!("{} from the run's start", seconds(rto)),
        None => "not reached: users were not seen to be served".to_owned(),
    };
    facts.push(("recovery", format!("{rto}; {}", met(report.objectives.rto_s, report.objectives.rto_met))));
    if let Some(from_impact) = report.rto_from_impact_s {
        facts.push(("", format!("{} from the impact", seconds(from_impact))));
    }
    let rpo_met = met(report.objectives.rpo_s, report.objectives.rpo_met);
    facts.push(("data lost", format!("{}; {rpo_met}", rpo(report.rpo_s))));
    if let Some(caller) = &report.caller {
        facts.push(("account", format!("{}, as {}", caller.account, caller.arn)));
    }
    facts.push(("started by", format!("{}@{}", report.by.user, report.by.host)));
    if let Some(why) = &report.why {
        facts.push(("why", why.clone()));
    }
    facts
}

fn lists(report: &Report) -> Vec<(&'static str, Vec<String>)> {
    let words = |all: &[crate::report::Word]| {
        all.iter()
            .map(|w| {
                let why = w.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                format!("{} {} by {}@{}{why}", millis::text(w.at), w.what, w.by.user, w.by.host)
            })
            .collect::<Vec<_>>()
    };
    let raised = report
        .raised
        .iter()
        .map(|r| format!("{} was {}{}", r.resource, r.before, if r.done { "" } else { " (not finished)" }))
        .collect();
    [
        ("Not proven:", report.unproven.clone()),
        ("Risks taken:", words(&report.accepted)),
        ("Decisions:", words(&report.decisions)),
        ("Stays raised:", raised),
    ]
    .into_iter()
    .filter(|(_, lines)| !lines.is_empty())
    .collect()
}

/// What a run that ended amounts to, in a few lines.
pub fn ending(report: &Report, paint: Paint) -> String {
    let (code, word) = match report.outcome {
        Some(Outcome::Succeeded) => ("32", "succeeded".to_owned()),
        Some(outcome) => ("31", outcome.as_str().replace('_', " ")),
        None => ("33", "interrupted".to_owned()),
    };
    let mut text = format!("{} {}\n", paint.bold(&report.procedure), paint.on(code, &word));
    for (name, value) in
        facts(report).into_iter().filter(|(name, _)| ["recovery", "", "data lost"].contains(name))
    {
        let _ = writeln!(text, "  {name:<10} {value}");
    }
    for (title, lines) in lists(report).into_iter().filter(|(title, _)| *title != "Decisions:") {
        let _ = writeln!(text, "  {title}");
        for line in lines {
            let _ = writeln!(text, "    {line}");
        }
    }
    let _ = writeln!(text, "  the whole story: maip-dr report {}", report.run);
    text
}

/// An error as a person reads it.
pub fn error(error: &Error, paint: Paint) -> String {
    let mut text = format!("{} {}\n", paint.on("31", "error:"), error.message);
    for cause in &error.causes {
        let _ = writeln!(text, "  because: {cause}");
    }
    if let Some(hint) = &error.hint {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (given, said) in [
            (0.0, "0 s"),
            (0.24, "0.2 s"),
            (5.0, "5 s"),
            (59.97, "1 min"),
            (62.0, "1 min 2 s"),
            (585.0, "9 min 45 s"),
            (3600.0, "1 h"),
            (3900.0, "1 h 5 min"),
        ] {
            assert_eq!(seconds(given), said);
        }
    }

    #[test]
    fn drift_names_what_differs_and_not_who_asks() {
        let plan = |caller: &str, desired: u32| {
            let mut plan = Plan::of("failover", None, None, Vec::new());
            plan.assumes.insert("caller".into(), caller.into());
            plan.assumes.insert("group".into(), serde_json::json!({ "min": 1, "desired": desired }));
            plan
        };
        assert!(drift(&plan("a", 2), &plan("b", 2)).is_empty());
        assert_eq!(drift(&plan("a", 2), &plan("a", 8)), ["group.desired: 2 -> 8"]);
        let mut bare = plan("a", 2);
        bare.assumes.remove("group");
        assert_eq!(drift(&bare, &plan("a", 2)), [r#"group: nothing -> {"desired":2,"min":1}"#]);
    }

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let rows = [vec![Paint::Colour.on("32", "OK"), "a".into()], vec!["UNKNOWN".into(), "b".into()]];
        let text = table(&rows);
        let at = |line: &str, c: char| visible(&line[..line.find(c).unwrap()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(at(lines[0], 'a'), at(lines[1], 'b'));
    }

    #[test]
    fn a_table_of_markdown_is_not_broken_by_what_is_in_it() {
        assert_eq!(cell("a|b\nc"), "a\\|b c");
    }
}

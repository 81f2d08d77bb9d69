//! Commands that drive a run.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use maip_dr_core::api::{Hooks, Run, RunOptions};
use maip_dr_core::engine::state::RunState;
use maip_dr_core::engine::{Decider, Driven, Pause, Refuse, Update};
use maip_dr_core::journal::{Outcome, Record};
use maip_dr_core::plan::Plan;
use maip_dr_core::procedure::PlanRequest;
use maip_dr_core::report::Report;
use maip_dr_core::{Error, ErrorKind, Result, RunId, render};

use crate::ask::{self, Terminal};
use crate::output::{INTERRUPTED, code_of, code_of_outcome, out, out_json, paint_out, say, say_error};
use crate::progress::Progress;
use crate::session::{Session, read};
use crate::signals;

/// Where a run's plan comes from.
pub(super) enum Source {
    /// Made now, by a built-in procedure.
    Procedure(&'static str, PlanRequest),
    /// Made before, by this procedure: refused when the world has changed since.
    Plan(&'static str, PlanRequest, PathBuf),
    /// A procedure of the user's own, or a plan.
    File(PathBuf),
}

async fn plan_of(session: &Session, source: &Source) -> Result<Plan> {
    let from_file = |file: &PathBuf| session.client.plan_from(&read(file)?, &file.display().to_string());
    match source {
        Source::Procedure(name, request) => session.client.plan(name, request).await,
        Source::File(file) => from_file(file),
        Source::Plan(name, asked, file) => {
            let plan = from_file(file)?;
            must_be(&plan, name, asked)?;
            let request =
                PlanRequest { to: plan.to.clone(), from: plan.from.clone(), impact_at: asked.impact_at };
            let now = session.client.plan(name, &request).await?;
            let drift = render::drift(&plan, &now);
            if !drift.is_empty() {
                return Err(Error::conflict(format!(
                    "the world is no longer as it was when the plan was made: {}",
                    drift.join("; ")
                ))
                .hint("make the plan again, read it, and run that"));
            }
            Ok(plan)
        }
    }
}

/// Refuses a plan that is another one than was typed.
fn must_be(plan: &Plan, procedure: &str, asked: &PlanRequest) -> Result<()> {
    let other = |what: &str, in_file: &str, typed: &str| {
        Error::invalid(format!("the plan is {what} {in_file}, not {typed}"))
            .hint("name another plan, or leave it out")
    };
    if plan.procedure != procedure {
        return Err(other("a", &plan.procedure, procedure));
    }
    for (what, in_file, typed) in [("to", &plan.to, &asked.to), ("from", &plan.from, &asked.from)] {
        if let Some(typed) = typed.as_ref().filter(|typed| in_file.as_ref() != Some(typed)) {
            let in_file = in_file.as_ref().map_or("nowhere", |region| region.as_str());
            return Err(other(what, in_file, typed.as_str()));
        }
    }
    Ok(())
}

/// Begins a run and drives it.
pub(super) async fn start(
    session: &Session,
    source: Source,
    options: RunOptions,
    dry_run: bool,
) -> Result<u8> {
    if !dry_run && !options.yes && !ask::somebody() {
        return Err(Error::refused("there is no terminal to ask on, and --yes was not given; nothing was started")
            .hint("`--yes` answers the one question before the first irreversible step; `--dry-run` changes nothing"));
    }
    session.announce();
    let plan = plan_of(session, &source).await?;
    if dry_run {
        return self::dry_run(session, &plan, &options).await;
    }
    if !session.json() {
        out(&render::plan_short(&plan, paint_out()));
        say(&format!("the run is recorded {}\n", session.client.journals().describe()));
    }
    let (progress, hooks) = hooks(session, &plan)?;
    let run = session.client.start(plan, options, hooks).await?;
    drive(session, run, &progress).await
}

async fn dry_run(session: &Session, plan: &Plan, options: &RunOptions) -> Result<u8> {
    let steps = session.client.dry_run(plan, options).await?;
    if session.json() {
        out_json(&steps);
    } else {
        out(&render::plan_short(plan, paint_out()));
        out(&render::dry_run(&steps));
    }
    let fails = steps.iter().any(|s| s.finding == "would_fail");
    Ok(if fails { code_of(ErrorKind::Refused) } else { 0 })
}

/// Takes a run up again and drives it.
pub(super) async fn resume(session: &Session, run: &str, options: RunOptions) -> Result<u8> {
    let (state, _) = session.client.status(run).await?;
    let session = &session.of(&state)?;
    session.announce();
    let (progress, hooks) = hooks(session, state.plan())?;
    let run = session.client.resume(state.run.as_str(), options, hooks).await?;
    drive(session, run, &progress).await
}

fn hooks(session: &Session, plan: &Plan) -> Result<(Arc<Progress>, Hooks)> {
    let progress = Arc::new(Progress::new(session, plan));
    let decider: Arc<dyn Decider> =
        if ask::somebody() { Arc::new(Terminal::new(progress.clone())) } else { Arc::new(Refuse) };
    let (pause, run) = (Pause::default(), Arc::new(OnceLock::new()));
    signals::heed(pause.clone(), run.clone())?;
    let shown = progress.clone();
    let sink = Arc::new(move |update| {
        if let Update::Recorded(record) = &update {
            run.get_or_init(|| record.run.clone());
        }
        shown.update(&update);
    });
    Ok((progress, Hooks { sink, decider, pause }))
}

async fn drive(session: &Session, run: Run, progress: &Progress) -> Result<u8> {
    let id = run.id.clone();
    let driven = run.drive().await;
    progress.finish();
    let driven = match driven {
        Ok(driven) => driven,
        Err(error) => return Ok(broke_off(session, &id, error)),
    };
    let (state, records) = session.client.status(id.as_str()).await?;
    match driven {
        Driven::Paused => {
            say(&format!("paused; nothing more is called; {}\n", signals::resume(&id)));
            Ok(INTERRUPTED)
        }
        Driven::Outcome(Outcome::Held) => {
            say(&render::held(&state));
            Ok(code_of_outcome(Outcome::Held))
        }
        Driven::Outcome(outcome) => ended(session, &state, &records, outcome),
    }
}

/// What cannot be recorded is not done: the run is stuck where it is.
fn broke_off(session: &Session, id: &RunId, error: Error) -> u8 {
    let code = match error.kind {
        ErrorKind::Fenced | ErrorKind::Corrupt | ErrorKind::Internal => code_of(error.kind),
        _ => code_of_outcome(Outcome::Stuck),
    };
    let mend = error.hint.clone().unwrap_or_else(|| "mend what is named".to_owned());
    let error = error
        .context(format!("run {id} broke off"))
        .hint(format!("{mend}; what was recorded is safe, {}", signals::resume(id)));
    say_error(&error, session.json());
    code
}

fn ended(session: &Session, state: &RunState, records: &[Record], outcome: Outcome) -> Result<u8> {
    let error = state.ended.as_ref().and_then(|(_, error)| error.as_ref());
    // A run that ended before it changed anything is told by its cause: nothing was rolled back.
    let refused = error.filter(|_| outcome == Outcome::RolledBack && !touched(state));
    if !session.json() {
        out(&match refused {
            Some(_) => format!("nothing was changed; the whole story: maip-dr report {}\n", state.run),
            None => render::ending(&Report::of(records)?, paint_out()),
        });
    }
    if let Some(error) = error {
        say_error(error, session.json());
    }
    Ok(refused.map_or(code_of_outcome(outcome), |error| code_of(error.kind)))
}

/// Whether anything but a notice was changed.
fn touched(state: &RunState) -> bool {
    state.plan().steps.iter().any(|s| !s.best_effort && state.steps[&s.id].called.is_some())
}

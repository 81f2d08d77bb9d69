//! Commands that drive a run.

use std::path::PathBuf;
use std::sync::Arc;

use maip_dr_core::api::{Hooks, Run, RunOptions};
use maip_dr_core::engine::state::RunState;
use maip_dr_core::engine::{Decider, Driven, Pause, Refuse};
use maip_dr_core::journal::Outcome;
use maip_dr_core::plan::{GATE, Plan};
use maip_dr_core::procedure::PlanRequest;
use maip_dr_core::report::Report;
use maip_dr_core::{Error, Result, render};
use tokio::signal::unix::{SignalKind, signal};

use crate::ask::{self, Terminal};
use crate::output::{INTERRUPTED, code_of, code_of_outcome, out, out_json, paint_err, paint_out, say};
use crate::progress::{Progress, listed};
use crate::session::{Session, read};

/// Where a run's plan comes from.
pub(super) enum Source {
    /// Made now, by a built-in procedure.
    Procedure(&'static str, PlanRequest),
    /// Made before: refused when the world has changed since.
    Plan(PathBuf),
    /// A procedure of the user's own, or a plan.
    File(PathBuf),
}

async fn plan_of(session: &Session, source: &Source) -> Result<Plan> {
    match source {
        Source::Procedure(name, request) => session.client.plan(name, request).await,
        Source::File(file) => session.client.plan_from(&read(file)?, &file.display().to_string()),
        Source::Plan(file) => {
            let plan = session.client.plan_from(&read(file)?, &file.display().to_string())?;
            let request = PlanRequest { to: plan.to.clone(), from: plan.from.clone(), impact_at: None };
            let now = session.client.plan(&plan.procedure, &request).await?;
            let drift = render::drift(&plan, &now);
            if !drift.is_empty() {
                return Err(Error::conflict(format!(
                    "the world is no longer as it was when the plan was made: {}",
                    listed(&drift)
                ))
                .hint("make the plan again, read it, and run that"));
            }
            Ok(plan)
        }
    }
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
    let plan = plan_of(session, &source).await?;
    if dry_run {
        return self::dry_run(session, &plan, &options).await;
    }
    if !session.json() {
        out(&render::plan_short(&plan, paint_out()));
        say(&format!("{}\n", session.client.journals().describe()));
    }
    debug_assert!(plan.steps.iter().any(|s| s.kind == GATE) || !plan.steps.iter().any(|s| s.mutates()));
    let (progress, hooks) = hooks(session, &plan);
    let pause = hooks.pause.clone();
    let run = session.client.start(plan, options, hooks).await?;
    drive(session, run, &progress, pause).await
}

async fn dry_run(session: &Session, plan: &Plan, options: &RunOptions) -> Result<u8> {
    let steps = session.client.dry_run(plan, options).await?;
    if session.json() {
        steps.iter().for_each(out_json);
    } else {
        out(&render::plan_short(plan, paint_out()));
        out(&render::dry_run(&steps));
    }
    let fails = steps.iter().any(|s| s.finding == "would_fail");
    let held = steps.iter().any(|s| s.finding == "would_be_held");
    Ok(match (fails, held) {
        (true, _) => code_of(maip_dr_core::ErrorKind::Refused),
        (false, true) => code_of_outcome(Outcome::Held),
        (false, false) => 0,
    })
}

/// Takes a run up again and drives it.
pub(super) async fn resume(session: &Session, run: &str, options: RunOptions) -> Result<u8> {
    let (state, _) = session.client.status(run).await?;
    let (progress, hooks) = hooks(session, state.plan());
    let pause = hooks.pause.clone();
    let run = session.client.resume(state.run.as_str(), options, hooks).await?;
    drive(session, run, &progress, pause).await
}

fn hooks(session: &Session, plan: &Plan) -> (Arc<Progress>, Hooks) {
    let progress = Arc::new(Progress::new(session.json(), session.global.verbose, plan, session.pace()));
    let decider: Arc<dyn Decider> =
        if ask::somebody() { Arc::new(Terminal(progress.clone())) } else { Arc::new(Refuse) };
    let shown = progress.clone();
    let sink = Arc::new(move |update| shown.update(&update));
    (progress, Hooks { sink, decider, pause: Pause::default() })
}

async fn drive(session: &Session, run: Run, progress: &Progress, pause: Pause) -> Result<u8> {
    let id = run.id.clone();
    tokio::spawn(interrupt(pause, id.to_string()));
    let driven = run.drive().await;
    progress.finish();
    let (state, records) = session.client.status(id.as_str()).await?;
    let driven = driven.map_err(|e| {
        e.hint(format!("mend it, then `maip-dr resume {id}`: what was recorded is safe"))
            .context(format!("run {id} stopped because its journal cannot be written"))
    })?;
    match driven {
        Driven::Paused => {
            say(&format!("paused; nothing more is called. Go on with: maip-dr resume {id}\n"));
            Ok(INTERRUPTED)
        }
        Driven::Outcome(Outcome::Held) => {
            say(&held(&state));
            Ok(code_of_outcome(Outcome::Held))
        }
        Driven::Outcome(outcome) => {
            if !session.json() {
                out(&render::ending(&Report::of(&records)?, paint_out()));
            }
            if let Some(Some(error)) = state.ended.as_ref().map(|(_, error)| error) {
                crate::output::say_error(error, session.json());
            }
            Ok(code_of_end(&state, outcome))
        }
    }
}

fn held(state: &RunState) -> String {
    let mut text = String::new();
    if let Some((reason, needs)) = &state.held {
        text.push_str(&format!("held: {reason}\n"));
        if let Some(needed) = needs {
            text.push_str(&format!("{}\n", render::risk(needed)));
        }
    }
    let hint = state.steps.values().find_map(|s| match &s.phase {
        maip_dr_core::engine::state::Phase::Failed(error) => error.hint.clone(),
        _ => None,
    });
    if let Some(hint) = hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    let _ = paint_err();
    text + &render::choices(state) + &render::by_hand(state)
}

/// A run that ended before it changed anything is told by its cause: nothing was rolled back.
fn code_of_end(state: &RunState, outcome: Outcome) -> u8 {
    let touched = state.plan().steps.iter().any(|s| !s.best_effort && state.steps[&s.id].called.is_some());
    match (&state.ended, outcome) {
        (Some((_, Some(error))), Outcome::RolledBack) if !touched => code_of(error.kind),
        _ => code_of_outcome(outcome),
    }
}

/// The first Ctrl-C (or SIGTERM) pauses the run, the second ends the process.
async fn interrupt(pause: Pause, run: String) {
    let (Ok(mut interrupted), Ok(mut terminated)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let mut times = 0;
    loop {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        times += 1;
        if times > 1 {
            say(&format!("\nended at once. Go on with: maip-dr resume {run}\n"));
            std::process::exit(i32::from(INTERRUPTED));
        }
        say("\npausing: waiting for the calls that are out; press Ctrl-C again to end at once\n");
        pause.pause();
    }
}

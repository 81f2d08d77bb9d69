//! One function a command; each gives the exit code.

mod drive;
mod look;
mod reference;
mod runs;
#[cfg(feature = "sim")]
mod sandbox;

use std::future::Future;

use maip_dr_core::api::RunOptions;
use maip_dr_core::id::RegionId;
use maip_dr_core::journal::Choice;
use maip_dr_core::procedure::PlanRequest;
use maip_dr_core::{Error, Result, StepId};

use crate::args::{Cli, Command, Decision, Global, Way};
use crate::session::Session;

/// Runs what was typed.
pub(crate) fn run(cli: Cli) -> Result<u8> {
    // Reference needs neither a topology nor a runtime: it is there at once.
    match &cli.command {
        Command::Steps => return Ok(reference::steps(cli.global.output)),
        Command::Explain { kind } => return reference::explain(kind, cli.global.output),
        Command::Schema => return Ok(reference::schema()),
        Command::Completions { shell } => return Ok(reference::completions(*shell)),
        _ => {}
    }
    #[cfg(feature = "sim")]
    let simulated = matches!(cli.command, Command::Sandbox { .. });
    #[cfg(not(feature = "sim"))]
    let simulated = false;
    let session = Session::new(Global { sandbox: cli.global.sandbox || simulated, ..cli.global })?;
    block_on(dispatch(&session, cli.command))?
}

/// Runs `work` to its end on this thread.
///
/// # Errors
/// `Internal` when there is no runtime.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal(format!("no runtime: {e}")))?;
    let value = runtime.block_on(work);
    // A question nobody answered must not keep the process.
    runtime.shutdown_background();
    Ok(value)
}

async fn dispatch(session: &Session, command: Command) -> Result<u8> {
    match command {
        Command::Check { region } => look::check(session, region.map(RegionId::new)).await,
        Command::Plan { procedure, way } => look::plan(session, &procedure, &request(&way)).await,
        Command::Failover { way, dry_run, from_plan, consent } => {
            let options = consent.options(way.impact_at);
            let source = match from_plan {
                Some(file) => drive::Source::Plan("failover", request(&way), file),
                None => drive::Source::Procedure("failover", request(&way)),
            };
            drive::start(session, source, options, dry_run).await
        }
        Command::Run { file, dry_run, impact_at, consent } => {
            drive::start(session, drive::Source::File(file), consent.options(impact_at), dry_run).await
        }
        Command::Runs => runs::list(session).await,
        Command::Status { run } => runs::status(session, &run).await,
        Command::Resume { run, consent } => {
            let options: RunOptions = consent.options(None);
            drive::resume(session, &run, options).await
        }
        Command::Decide { run, choice, why } => {
            let (choice, step) = match choice {
                Decision::Retry { step } => (Choice::Retry, Some(StepId::new(step))),
                Decision::Skip { step } => (Choice::Skip, Some(StepId::new(step))),
                Decision::Abandon => (Choice::Abandon, None),
            };
            runs::decide(session, &run, choice, step.as_ref(), why).await
        }
        Command::Report { run, format } => runs::report(session, &run, format).await,
        #[cfg(feature = "sim")]
        Command::Sandbox { what } => sandbox::run(session, &what).await,
        Command::Steps | Command::Explain { .. } | Command::Schema | Command::Completions { .. } => {
            Err(Error::internal("reference commands are answered before"))
        }
    }
}

fn request(way: &Way) -> PlanRequest {
    PlanRequest {
        to: way.to.clone().map(RegionId::new),
        from: way.from.clone().map(RegionId::new),
        impact_at: way.impact_at,
    }
}

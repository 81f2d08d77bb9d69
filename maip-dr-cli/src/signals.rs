//! Ctrl-C and SIGTERM.

use std::sync::{Arc, OnceLock, mpsc};

use maip_dr_core::engine::Pause;
use maip_dr_core::{Error, Result, RunId};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::commands::block_on;
use crate::output::{INTERRUPTED, say};

/// From its return on, the first Ctrl-C or SIGTERM pauses the run and the second ends the process. `run` is set as
/// soon as the run is recorded.
///
/// It listens on a thread of its own: a simulated world whose time jumps leaves the runtime no turn.
///
/// # Errors
/// `Internal` when the system does not let it listen.
pub(crate) fn heed(pause: Pause, run: Arc<OnceLock<RunId>>) -> Result<()> {
    let (ready, listening) = mpsc::channel();
    let listen = async move {
        if let (Ok(interrupt), Ok(terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            let _ = ready.send(());
            answer(interrupt, terminate, &pause, &run).await;
        }
    };
    let deaf = |_| Error::internal("Ctrl-C cannot be listened for; nothing was started");
    std::thread::Builder::new().spawn(move || block_on(listen)).map_err(|_| deaf(mpsc::RecvError))?;
    listening.recv().map_err(deaf)
}

async fn answer(mut interrupt: Signal, mut terminate: Signal, pause: &Pause, run: &OnceLock<RunId>) {
    let mut paused = false;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if paused {
            let next = run.get().map_or("nothing was started".to_owned(), resume);
            say(&format!("\nended at once; {next}\n"));
            std::process::exit(i32::from(INTERRUPTED));
        }
        paused = true;
        say("\npausing: waiting for the calls that are out; press Ctrl-C again to end at once\n");
        pause.pause();
    }
}

/// What goes on with an interrupted run.
pub(crate) fn resume(run: &RunId) -> String {
    format!("go on with: maip-dr resume {run}")
}

//! Results on standard output, everything else on standard error, and the exit codes.

use std::io::{self, IsTerminal, Write};

use maip_dr_core::journal::Outcome;
use maip_dr_core::render::{self, Paint};
use maip_dr_core::{Error, ErrorKind};
use serde::Serialize;
use serde_json::json;

/// Interrupted: the run is paused.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code of an error.
pub(crate) fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Invalid => 2,
        ErrorKind::NotFound => 3,
        ErrorKind::Denied => 4,
        ErrorKind::Unavailable | ErrorKind::Throttled => 5,
        ErrorKind::Conflict => 6,
        ErrorKind::Fenced => 7,
        ErrorKind::InDoubt => 8,
        ErrorKind::Refused => 9,
        ErrorKind::Corrupt => 10,
        ErrorKind::Internal => 70,
    }
}

/// The exit code of a run.
pub(crate) fn code_of_outcome(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::RolledBack => 20,
        Outcome::Held => 21,
        Outcome::Stuck => 22,
        Outcome::Abandoned => 23,
    }
}

fn paint(terminal: bool) -> Paint {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    if terminal && !plain { Paint::Colour } else { Paint::Plain }
}

/// How standard output is painted.
pub(crate) fn paint_out() -> Paint {
    paint(io::stdout().is_terminal())
}

/// How standard error is painted.
pub(crate) fn paint_err() -> Paint {
    paint(io::stderr().is_terminal())
}

/// Writes a result. A reader that has gone away (`| head`) is no failure of ours.
pub(crate) fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes a value as one line of JSON.
pub(crate) fn out_json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        out(&(text + "\n"));
    }
}

/// Says something that is no result.
pub(crate) fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Says an error, in the form that was asked for.
pub(crate) fn say_error(error: &Error, json: bool) {
    if json {
        let value = json!({ "error": {
            "kind": error.kind, "message": error.message, "causes": error.causes,
            "hint": error.hint, "context": error.context,
        } });
        say(&format!("{value}\n"));
    } else {
        say(&render::error(error, paint_err()));
    }
}

//! The `maip-dr` command.

mod args;
mod ask;
mod commands;
mod output;
mod progress;
mod session;
mod signals;

use std::panic::{PanicHookInfo, catch_unwind, set_hook};
use std::process::ExitCode;

use clap::Parser;
use maip_dr_core::{Error, ErrorKind};

use crate::args::{Cli, Output};
use crate::output::{code_of, say, say_error};

fn main() -> ExitCode {
    // The engine makes a step's panic that step's failure, so that the hook only tells of it.
    set_hook(Box::new(|info| say(&defect(info))));
    ExitCode::from(catch_unwind(run).unwrap_or(code_of(ErrorKind::Internal)))
}

fn run() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && asked_for_json() => {
            say_error(&misuse(&error), true);
            return code_of(ErrorKind::Invalid);
        }
        Err(error) => error.exit(),
    };
    let json = cli.global.output == Output::Json;
    commands::run(cli).unwrap_or_else(|error| {
        say_error(&error, json);
        code_of(error.kind)
    })
}

fn defect(info: &PanicHookInfo<'_>) -> String {
    let what = info.payload_as_str().unwrap_or("no words");
    let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
    format!(
        "error: a defect of maip-dr{place}: {what}\nhint: a run is safe: `maip-dr status last` shows how it stands, \
         `maip-dr resume last` goes on\n"
    )
}

/// Before the arguments are understood, their form has to be guessed.
fn asked_for_json() -> bool {
    let all: Vec<String> = std::env::args().collect();
    all.iter().any(|a| a == "--output=json") || all.windows(2).any(|two| two == ["--output", "json"])
}

/// What clap says, as one of ours.
fn misuse(error: &clap::Error) -> Error {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = lines.next().unwrap_or("these arguments are not understood");
    let tip = lines.find_map(|line| line.strip_prefix("tip: "));
    Error::invalid(message.trim_start_matches("error: "))
        .hint(tip.unwrap_or("`maip-dr --help` lists commands and options"))
}

//! The `maip-dr` command.

mod args;
mod ask;
mod commands;
mod output;
mod progress;
mod session;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Output};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        output::say(&format!(
            "error: a defect of maip-dr: {info}\nhint: a run is safe: `maip-dr status last` shows how it stands, \
             `maip-dr resume last` goes on\n"
        ));
        std::process::exit(70);
    }));
    let cli = Cli::parse();
    let json = cli.global.output == Output::Json;
    ExitCode::from(commands::run(cli).unwrap_or_else(|error| {
        output::say_error(&error, json);
        output::code_of(error.kind)
    }))
}

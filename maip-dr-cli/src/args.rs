//! What a person types.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use maip_dr_core::Risk;
use maip_dr_core::api::RunOptions;
use maip_dr_core::duration::Span;

const AFTER: &str = "\
Exit codes:
  0 succeeded, 2 invalid, 3 not found, 4 denied, 5 unavailable or throttled,
  6 conflict, 7 fenced, 8 in doubt, 9 refused, 10 corrupt, 70 internal,
  20 rolled back, 21 held, 22 stuck, 23 abandoned,
  130 interrupted (the run is paused); check: 1 when anything is not OK";

/// Fails an application over from one AWS Region to another.
#[derive(Debug, Parser)]
#[command(name = "maip-dr", version, after_help = AFTER, max_term_width = 110, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The topology file [default: ./maip-dr.yaml, then $MAIP_DR_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Replace both Regions by a simulated world that is kept between commands; needs no account
    #[arg(long, global = true)]
    pub(crate) sandbox: bool,
    /// Simulated seconds a real second, or `max` [default: 60 on a terminal, max elsewhere]
    #[arg(long, global = true, value_name = "N|max", value_parser = speed)]
    pub(crate) speed: Option<Speed>,
    /// How results are written
    #[arg(long, global = true, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
    /// Say more: every progress note
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// How fast simulated time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// It jumps.
    Max,
    /// Times real time.
    Times(f64),
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err("write a number above 0, or max".to_owned()),
    }
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// For programs: JSON; a run writes one object a line
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read everything, change nothing: can each Region serve?
    Check {
        /// Only this Region
        #[arg(long)]
        region: Option<String>,
    },
    /// Show the steps of a procedure, what each calls, and the same by hand; change nothing
    Plan {
        /// The procedure, such as failover
        procedure: String,
        #[command(flatten)]
        way: Way,
    },
    /// Fail over to another Region because the primary is lost
    Failover {
        #[command(flatten)]
        way: Way,
        /// Look at every step, change nothing
        #[arg(long)]
        dry_run: bool,
        /// Run this plan, if the world is still as it was when it was made
        #[arg(long, value_name = "FILE")]
        from_plan: Option<PathBuf>,
        #[command(flatten)]
        consent: Consent,
    },
    /// Run a procedure file or a plan
    Run {
        /// The file
        file: PathBuf,
        /// Look at every step, change nothing
        #[arg(long)]
        dry_run: bool,
        /// When the application failed, such as 2026-11-23T03:05:00Z: the loss of data is counted up to then
        #[arg(long, value_name = "TIME", value_parser = time)]
        impact_at: Option<Timestamp>,
        #[command(flatten)]
        consent: Consent,
    },
    /// List the runs
    Runs,
    /// How a run stands, and what can be done
    Status {
        /// An id, a unique beginning of one, or `last`
        run: String,
    },
    /// Go on with a run that was interrupted or is held
    Resume {
        /// An id, a unique beginning of one, or `last`
        run: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// Decide what becomes of a failed step, or give the run up
    Decide {
        /// An id, a unique beginning of one, or `last`
        run: String,
        #[command(subcommand)]
        choice: Decision,
        /// Why, for the record
        #[arg(long, global = true, value_name = "TEXT")]
        why: Option<String>,
    },
    /// What happened, when, and the measured RTO and RPO against the objectives
    Report {
        /// An id, a unique beginning of one, or `last`
        run: String,
        /// The form [default: that of --output]
        #[arg(long)]
        format: Option<Format>,
    },
    /// The simulated world
    #[cfg(feature = "sim")]
    Sandbox {
        #[command(subcommand)]
        what: Sandbox,
    },
    /// List the step kinds
    Steps,
    /// Explain a step kind
    Explain {
        /// Such as db.promote
        kind: String,
    },
    /// Print the JSON Schema of the topology file
    Schema,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// From where to where.
#[derive(Debug, Args)]
pub(crate) struct Way {
    /// The Region to go to
    #[arg(long, value_name = "REGION")]
    pub(crate) to: Option<String>,
    /// The Region to leave
    #[arg(long, value_name = "REGION")]
    pub(crate) from: Option<String>,
    /// When the application failed, such as 2026-11-23T03:05:00Z: the loss of data is counted up to then
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) impact_at: Option<Timestamp>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "write a time with its zone, such as 2026-11-23T03:05:00Z".to_owned())
}

/// What a person agrees to beforehand.
#[derive(Debug, Args)]
pub(crate) struct Consent {
    /// Answer the one question before the first irreversible step with yes
    #[arg(long)]
    yes: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Go on although the primary is not proven to be down
    #[arg(long)]
    accept_unverified_down: bool,
    /// Go on although the old writer may still be written to
    #[arg(long)]
    accept_unfenced: bool,
    /// Go on although up to so much data, or an unknown amount, may be lost
    #[arg(long, value_name = "DURATION|unknown", value_parser = loss)]
    accept_data_loss: Option<Loss>,
    /// Go on although someone else promoted the replica
    #[arg(long)]
    accept_promoted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Loss(Option<f64>);

fn loss(text: &str) -> Result<Loss, String> {
    if text == "unknown" {
        return Ok(Loss(None));
    }
    let span: Span = text.parse().map_err(|e| format!("{e}, or unknown"))?;
    Ok(Loss(Some(span.0.as_secs_f64())))
}

impl Consent {
    /// The options of a run.
    pub(crate) fn options(&self, impact_at: Option<Timestamp>) -> RunOptions {
        let data_loss = self.accept_data_loss.map(|Loss(seconds)| Risk::DataLoss { seconds });
        let accept = [
            self.accept_unverified_down.then_some(Risk::UnverifiedDown),
            self.accept_unfenced.then_some(Risk::Unfenced),
            data_loss,
            self.accept_promoted.then_some(Risk::Promoted),
        ];
        RunOptions {
            yes: self.yes,
            accept: accept.into_iter().flatten().collect(),
            impact_at,
            why: self.why.clone(),
        }
    }
}

/// What becomes of it.
#[derive(Debug, Subcommand)]
pub(crate) enum Decision {
    /// Try a failed step again
    Retry {
        /// The step
        step: String,
    },
    /// Go on without a failed step
    Skip {
        /// The step
        step: String,
    },
    /// Give the run up as it stands
    Abandon,
}

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Plain text
    Text,
    /// Markdown
    Md,
    /// JSON
    Json,
}

/// The simulated world.
#[cfg(feature = "sim")]
#[derive(Debug, Subcommand)]
pub(crate) enum Sandbox {
    /// Begin it afresh
    Reset {
        /// A built-in scenario or a YAML file
        #[arg(long, value_name = "NAME|FILE", default_value = "primary-lost")]
        scenario: String,
        /// What chance is drawn from
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Print it
    Show,
}

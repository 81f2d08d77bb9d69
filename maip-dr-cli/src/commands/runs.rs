//! Commands about runs that are there.

use maip_dr_core::api::status_json;
use maip_dr_core::journal::{Choice, Outcome};
use maip_dr_core::report::Report;
use maip_dr_core::{Result, StepId, render};

use crate::args::Format;
use crate::output::{code_of_outcome, out, out_json, paint_out, say};
use crate::session::Session;
use crate::signals::resume;

pub(super) async fn list(session: &Session) -> Result<u8> {
    let rows = session.client.runs().await?;
    if session.json() {
        out_json(&rows);
    } else {
        out(&render::runs(&rows));
    }
    Ok(0)
}

pub(super) async fn status(session: &Session, run: &str) -> Result<u8> {
    let (state, _) = session.client.status(run).await?;
    let driven = session.client.is_driven(&state.run);
    if session.json() {
        out_json(&status_json(&state, driven));
    } else {
        out(&render::status(&state, driven, paint_out()));
    }
    Ok(0)
}

pub(super) async fn decide(
    session: &Session,
    run: &str,
    choice: Choice,
    step: Option<&StepId>,
    why: Option<String>,
) -> Result<u8> {
    let (state, _) = session.client.status(run).await?;
    let id = &state.run;
    session.of(&state)?.client.decide(id.as_str(), step, choice, why).await?;
    if choice == Choice::Abandon {
        say(&format!("run {id} is given up as it stands; `maip-dr report {id}` says what that is\n"));
        return Ok(code_of_outcome(Outcome::Abandoned));
    }
    say(&format!("recorded; {}\n", resume(id)));
    Ok(0)
}

pub(super) async fn report(session: &Session, run: &str, format: Option<Format>) -> Result<u8> {
    let (_, records) = session.client.status(run).await?;
    let report = Report::of(&records)?;
    match format.unwrap_or(if session.json() { Format::Json } else { Format::Text }) {
        Format::Json => out_json(&report),
        Format::Text => out(&render::report(&report)),
        Format::Md => out(&render::report_markdown(&report)),
    }
    Ok(0)
}

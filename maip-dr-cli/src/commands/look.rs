//! Commands that only look.

use maip_dr_core::check::CheckStatus;
use maip_dr_core::id::RegionId;
use maip_dr_core::procedure::PlanRequest;
use maip_dr_core::{Result, render};

use crate::output::{out, out_json, paint_out};
use crate::session::Session;

/// Exit code of a check that found something not OK.
const NOT_OK: u8 = 1;

pub(super) async fn check(session: &Session, region: Option<RegionId>) -> Result<u8> {
    session.announce();
    let rows = session.client.check(region.as_ref()).await?;
    if session.json() {
        out_json(&rows);
    } else {
        out(&render::check(&rows, paint_out()));
    }
    Ok(if rows.iter().all(|row| row.status == CheckStatus::Ok) { 0 } else { NOT_OK })
}

pub(super) async fn plan(session: &Session, procedure: &str, request: &PlanRequest) -> Result<u8> {
    session.announce();
    let plan = session.client.plan(procedure, request).await?;
    if session.json() {
        out_json(&plan);
    } else {
        out(&render::plan(&plan, paint_out()));
    }
    Ok(0)
}

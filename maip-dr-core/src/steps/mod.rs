//! One file a step kind, one line each in the registry below.

mod by_hand;
mod db_fence;
mod db_promote;
mod db_record_watermark;
mod db_verify_writable;
mod dns_switch;
mod dns_verify;
mod endpoint_verify;
mod gate_approve;
mod nodes_scale;
mod notify_send;
mod region_verify_down;
mod stream_check;
mod table_check;
mod workloads_restart;
mod workloads_scale;

pub use db_record_watermark::{Rpo, Watermark};
pub use region_verify_down::Verdict;

use crate::step::Registry;

pub(crate) use dns_switch::can_switch;

/// Every built-in step kind.
pub fn registry() -> Registry {
    Registry::default()
        .with::<region_verify_down::VerifyDown>()
        .with::<gate_approve::Approve>()
        .with::<db_record_watermark::RecordWatermark>()
        .with::<db_fence::Fence>()
        .with::<db_promote::Promote>()
        .with::<db_verify_writable::VerifyWritable>()
        .with::<nodes_scale::ScaleNodes>()
        .with::<workloads_scale::ScaleWorkloads>()
        .with::<workloads_restart::RestartWorkloads>()
        .with::<dns_switch::Switch>()
        .with::<dns_verify::VerifyDns>()
        .with::<endpoint_verify::VerifyEndpoint>()
        .with::<table_check::CheckTable>()
        .with::<stream_check::CheckStream>()
        .with::<notify_send::Send>()
}

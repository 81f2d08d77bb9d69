//! Being written.
use crate::{error::Result, id::RegionId, region::World, topology::Topology};
/// A row.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CheckRow {}
/// Reads everything.
///
/// # Errors
/// None yet.
pub async fn check(_: &World, _: &Topology, _: Option<&RegionId>) -> Result<Vec<CheckRow>> {
    Ok(Vec::new())
}

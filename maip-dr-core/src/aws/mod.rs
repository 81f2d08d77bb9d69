//! Being written.
use crate::{error::Result, region::World, topology::Topology};
/// The real world.
///
/// # Errors
/// None yet.
pub async fn world(_: &Topology) -> Result<World> {
    Err(crate::error::Error::internal("x"))
}

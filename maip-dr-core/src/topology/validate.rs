//! What must hold between the parts of a topology.

use crate::error::Result;
use crate::topology::Topology;

/// Checks `topology`, read from `file`.
///
/// # Errors
/// `Invalid`.
pub(super) fn validate(_topology: &Topology, _file: &str) -> Result<()> {
    Ok(())
}

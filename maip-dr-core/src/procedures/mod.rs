//! The built-in procedures: one file each, one line each below.

mod failover;

use crate::error::{Error, Result};
use crate::procedure::Procedure;

static ALL: [&dyn Procedure; 1] = [&failover::Failover];

/// The names of the built-in procedures.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|p| p.name()).collect()
}

/// The procedure called `name`.
///
/// # Errors
/// `Invalid` with the known names.
pub fn named(name: &str) -> Result<&'static dyn Procedure> {
    ALL.iter().copied().find(|p| p.name() == name).ok_or_else(|| {
        Error::invalid(format!("there is no procedure `{name}`"))
            .hint(format!("there is {}", names().join(", ")))
    })
}

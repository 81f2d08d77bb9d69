//! Text to [`Topology`], with positions.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::topology::{Topology, validate};

/// Reads a topology file (YAML or JSON) and checks it.
///
/// # Errors
/// `Invalid` with line, column, what is wrong and what would be right.
pub fn parse(text: &str, file: &str) -> Result<Topology> {
    let topology: Topology =
        serde_saphyr::from_str(text).map_err(|e| Error::invalid(format!("{file}: {e}")))?;
    validate::validate(&topology, file)?;
    Ok(topology)
}

/// Reads a topology that came as data and checks it.
///
/// # Errors
/// `Invalid` with the path of what is wrong.
pub fn parse_json(value: Value) -> Result<Topology> {
    let topology: Topology =
        serde_json::from_value(value).map_err(|e| Error::invalid(format!("topology: {e}")))?;
    validate::validate(&topology, "topology")?;
    Ok(topology)
}

/// The JSON Schema of the topology file, made from the types it is read into.
pub fn json_schema() -> Value {
    schemars::schema_for!(Topology).to_value()
}

//! The simulated world.

use std::path::Path;

use maip_dr_core::clock::{Clock, SystemClock};
use maip_dr_core::sim::{Sandbox as World, Scenario, Speed};
use maip_dr_core::{Error, Result};

use crate::args::Sandbox;
use crate::output::{out, say};
use crate::session::{Session, read};

pub(super) fn run(session: &Session, what: &Sandbox) -> Result<u8> {
    if !session.global.sandbox {
        return Err(Error::invalid("this is about the simulated world").hint("add --sandbox"));
    }
    let topology = session.client.topology()?;
    let file = session.client.sandbox_file(&topology.application);
    match what {
        Sandbox::Reset { scenario, seed } => {
            let chosen = named(scenario)?;
            World::reset(&file, topology, &chosen, *seed, SystemClock.now())?;
            say(&format!("the sandbox of {} begins afresh: {scenario}\n", topology.application));
        }
        Sandbox::Show => {
            let shown = World::open(&file, topology, Speed::Max)?.show()?;
            let text = if session.json() {
                serde_json::to_string(&shown)
            } else {
                serde_json::to_string_pretty(&shown)
            };
            out(&(text.map_err(|e| Error::internal(format!("the sandbox cannot be shown: {e}")))? + "\n"));
        }
    }
    Ok(0)
}

/// A built-in scenario, or a file.
fn named(scenario: &str) -> Result<Scenario> {
    let path = Path::new(scenario);
    let is_file = scenario.contains(['/', '.']) || path.is_file();
    if is_file { Scenario::from_yaml(&read(path)?, scenario) } else { Scenario::named(scenario) }
}

//! The simulated world.

use std::path::Path;

use maip_dr_core::clock::{Clock, SystemClock};
use maip_dr_core::journal::{Choice, Outcome};
use maip_dr_core::sim::{Sandbox as World, Scenario, Speed};
use maip_dr_core::{Error, Result};

use crate::args::Sandbox;
use crate::output::{out, say};
use crate::session::{Session, read};

pub(super) async fn run(session: &Session, what: &Sandbox) -> Result<u8> {
    let topology = session.client.topology()?;
    let file = session.client.sandbox_file(&topology.application);
    match what {
        Sandbox::Reset { scenario, seed } => {
            let chosen = named(scenario)?;
            give_up_open_runs(session, &topology.application).await?;
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

/// A run cannot go on in a world that is not there any more.
async fn give_up_open_runs(session: &Session, application: &str) -> Result<()> {
    let open = |outcome: Option<Outcome>| matches!(outcome, None | Some(Outcome::Held));
    for row in session.client.runs().await? {
        if row.world != "sandbox" || !open(row.outcome) || row.problem.is_some() {
            continue;
        }
        let (state, _) = session.client.status(row.run.as_str()).await?;
        if state.start.application == application {
            let why = Some("the sandbox was reset".to_owned());
            session.client.decide(row.run.as_str(), None, Choice::Abandon, why).await?;
            say(&format!("run {} is abandoned: its world is gone\n", row.run));
        }
    }
    Ok(())
}

/// A built-in scenario, or a file.
fn named(scenario: &str) -> Result<Scenario> {
    let path = Path::new(scenario);
    let is_file = scenario.contains(['/', '.']) || path.is_file();
    if is_file { Scenario::from_yaml(&read(path)?, scenario) } else { Scenario::named(scenario) }
}

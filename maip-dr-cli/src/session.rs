//! What the global options and the environment come to: a client, and how to speak.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use maip_dr_core::api::{Client, Place};
use maip_dr_core::engine::state::RunState;
use maip_dr_core::journal::Who;
use maip_dr_core::topology::{self, Topology};
use maip_dr_core::{Error, Result};

use crate::args::{Global, Output, Speed};
use crate::output::say;

const DEFAULT_FILE: &str = "maip-dr.yaml";

/// One invocation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) global: Global,
    pub(crate) client: Client,
}

impl Session {
    pub(crate) fn new(global: Global) -> Result<Self> {
        let topology = topology(&global)?;
        let client = Client::new(state_dir()?, topology, place(&global)?, who());
        Ok(Self { global, client })
    }

    /// The same for a run that is there: it goes on in the world it began in.
    ///
    /// # Errors
    /// `Refused` for a real run where the sandbox was asked for.
    pub(crate) fn of(&self, run: &RunState) -> Result<Self> {
        let sandbox = run.start.world == "sandbox";
        if self.global.sandbox && !sandbox {
            return Err(Error::refused(format!("run {} is a real one, not one of the sandbox", run.run))
                .hint(
                    "leave out --sandbox if you mean it; `maip-dr runs` lists the runs with their worlds",
                ));
        }
        let global = Global { sandbox, ..self.global.clone() };
        let topology = self.client.topology().ok().map(|topology| (**topology).clone());
        let client = Client::new(state_dir()?, topology, place(&global)?, who());
        Ok(Self { global, client })
    }

    /// Says so where nothing is real.
    pub(crate) fn announce(&self) {
        if self.global.sandbox && !self.json() {
            say("SANDBOX: two simulated Regions; nothing real is read or changed\n");
        }
    }

    pub(crate) fn json(&self) -> bool {
        self.global.output == Output::Json
    }

    /// How many simulated seconds pass in a real one; 1 for the real world, `None` where time jumps.
    pub(crate) fn pace(&self) -> Option<f64> {
        match (self.global.sandbox, pace(&self.global)) {
            (false, _) => Some(1.0),
            (true, Speed::Times(times)) => Some(times),
            (true, Speed::Max) => None,
        }
    }
}

/// The topology file that is meant; none where none is named and none lies here.
fn topology(global: &Global) -> Result<Option<Topology>> {
    let named = global.config.clone();
    let here = || Path::new(DEFAULT_FILE).is_file().then(|| PathBuf::from(DEFAULT_FILE));
    let environment = || std::env::var_os("MAIP_DR_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(path) = named.or_else(here).or_else(environment) {
        return topology::parse(&read(&path)?, &path.display().to_string()).map(Some);
    }
    #[cfg(feature = "sim")]
    if global.sandbox {
        return topology::parse(maip_dr_core::sim::EXAMPLE, "the built-in example").map(Some);
    }
    Ok(None)
}

/// The text of a file that a person named.
pub(crate) fn read(path: &Path) -> Result<String> {
    let shown = path.display();
    std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!("there is no file {shown}"))
            .hint("examples/maip-prod.yaml is a topology file to start from"),
        std::io::ErrorKind::InvalidData => Error::invalid(format!("{shown} is not UTF-8 text")),
        std::io::ErrorKind::PermissionDenied => Error::denied(format!("{shown} may not be read")),
        _ => Error::invalid(format!("{shown} cannot be read: {e}")),
    })
}

fn pace(global: &Global) -> Speed {
    let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    global.speed.unwrap_or(if terminal { Speed::Times(60.0) } else { Speed::Max })
}

#[cfg(feature = "sim")]
#[allow(clippy::unnecessary_wraps, reason = "a build without the sandbox refuses it")]
fn place(global: &Global) -> Result<Place> {
    Ok(if global.sandbox {
        Place::Sandbox(match pace(global) {
            Speed::Max => maip_dr_core::sim::Speed::Max,
            Speed::Times(times) => maip_dr_core::sim::Speed::Times(times),
        })
    } else {
        Place::Aws
    })
}

#[cfg(not(feature = "sim"))]
fn place(global: &Global) -> Result<Place> {
    if global.sandbox {
        return Err(
            Error::invalid("this build of maip-dr has no sandbox").hint("build it with `--features sim`")
        );
    }
    Ok(Place::Aws)
}

/// `$MAIP_DR_STATE_DIR`, else the platform's state directory of this user.
fn state_dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("MAIP_DR_STATE_DIR") {
        return Ok(dir);
    }
    let home = || {
        set("HOME").ok_or_else(|| {
            Error::invalid("neither MAIP_DR_STATE_DIR nor HOME is set")
                .hint("say where runs are to be recorded")
        })
    };
    if cfg!(target_os = "macos") {
        return Ok(home()?.join("Library/Application Support/maip-dr"));
    }
    match set("XDG_STATE_HOME") {
        Some(dir) => Ok(dir.join("maip-dr")),
        None => Ok(home()?.join(".local/state/maip-dr")),
    }
}

fn who() -> Who {
    let name = |key: &str| std::env::var(key).ok().filter(|v| !v.is_empty());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|h| h.trim().to_owned());
    Who {
        user: name("USER").or_else(|| name("LOGNAME")).unwrap_or_else(|| "unknown".to_owned()),
        host: host.or_else(|| name("HOSTNAME")).unwrap_or_else(|| "unknown".to_owned()),
        pid: std::process::id(),
    }
}

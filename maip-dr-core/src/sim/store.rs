//! Where the world is kept: in memory, or in a file that every simulated call replaces before it answers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::journal::{io_error, private_file, private_folder};
use crate::region::World;
use crate::sim::clock::SimClock;
use crate::sim::scenario::Scenario;
use crate::sim::services;
use crate::sim::state::WorldState;
use crate::topology::Topology;

/// How fast simulated time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// It jumps.
    Max,
    /// So many simulated seconds a real one.
    Times(f64),
}

/// The state, and the file that it is kept in, if any.
#[derive(Debug)]
pub(super) struct Store {
    inner: Mutex<Inner>,
    file: Option<PathBuf>,
}

#[derive(Debug)]
struct Inner {
    state: WorldState,
    /// What the file was when we last read or wrote it.
    stamp: Option<Stamp>,
    /// The first failure to keep the file: everything after it fails too.
    broken: Option<Error>,
}

type Stamp = (std::time::SystemTime, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&meta);
    #[cfg(not(unix))]
    let inode = 0;
    Some((meta.modified().ok()?, meta.len(), inode))
}

impl Store {
    fn memory(state: WorldState) -> Self {
        Self { inner: Mutex::new(Inner { state, stamp: None, broken: None }), file: None }
    }

    /// Reads or changes the world; in a file, under its lock and durable before this returns.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut WorldState) -> T) -> Result<T> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &inner.broken {
            return Err(error.clone());
        }
        let Some(path) = &self.file else { return Ok(f(&mut inner.state)) };
        let result: Result<T> = (|| {
            let _lock = lock(path)?;
            let now = stamp(path);
            if now.is_none() || now != inner.stamp {
                inner.state = load(path)?;
            }
            let value = f(&mut inner.state);
            save(path, &inner.state)?;
            inner.stamp = stamp(path);
            Ok(value)
        })();
        if let Err(error) = &result {
            inner.broken = Some(error.clone());
        }
        result
    }

    pub(super) fn now(&self) -> Timestamp {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).state.now
    }

    /// Moves time to `to` unless it is further already; the time it is then. A file that cannot be kept is told by
    /// the next call.
    pub(super) fn advance(&self, to: Timestamp) -> Timestamp {
        self.with(|state| {
            state.advance(to);
            state.now
        })
        .unwrap_or(to)
    }
}

fn lock(path: &Path) -> Result<File> {
    let side = path.with_extension("lock");
    let file =
        private_file().create(true).truncate(false).open(&side).map_err(|e| io_error("open", &side, &e))?;
    file.lock().map_err(|e| io_error("lock", &side, &e))?;
    Ok(file)
}

fn load(path: &Path) -> Result<WorldState> {
    let text = fs::read(path).map_err(|e| io_error("read", path, &e))?;
    serde_json::from_slice(&text).map_err(|e| {
        Error::corrupt(format!("the sandbox {} cannot be read: {e}", path.display()))
            .hint("`maip-dr --sandbox sandbox reset` makes a new one")
    })
}

/// Replaces the file at once: a kill leaves the old or the new one, never half of it.
fn save(path: &Path, state: &WorldState) -> Result<()> {
    use std::io::Write;
    let text = serde_json::to_vec(state).map_err(|e| Error::internal(format!("sandbox: {e}")))?;
    let new = path.with_extension("new");
    let mut file =
        private_file().create(true).truncate(true).open(&new).map_err(|e| io_error("create", &new, &e))?;
    file.write_all(&text).map_err(|e| io_error("write", &new, &e))?;
    fs::rename(&new, path).map_err(|e| io_error("replace", path, &e))
}

/// A simulated world; clones share it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    store: Arc<Store>,
    clock: Arc<SimClock>,
    topology: Arc<Topology>,
}

impl Sandbox {
    /// A world that this process holds, as it is at `at`.
    ///
    /// # Errors
    /// `Invalid` when the topology names something twice.
    pub fn memory(topology: &Topology, scenario: &Scenario, seed: u64, at: Timestamp) -> Result<Self> {
        let store = Arc::new(Store::memory(WorldState::new(topology, scenario, seed, at)));
        Ok(Self::on(store, topology, Speed::Max))
    }

    /// The world kept in `file`; made with the default scenario where there is none.
    ///
    /// # Errors
    /// `Conflict` when it was made for another topology, `Corrupt` when it cannot be read, and the file system's.
    pub fn open(file: &Path, topology: &Topology, speed: Speed) -> Result<Self> {
        if !file.exists() {
            use crate::clock::{Clock, SystemClock};
            Self::reset(file, topology, &Scenario::default(), 1, SystemClock.now())?;
        }
        let state = {
            let _lock = lock(file)?;
            load(file)?
        };
        if state.topology != *topology {
            return Err(Error::conflict("the sandbox was made for another topology")
                .hint("`maip-dr --sandbox sandbox reset` makes one for this topology")
                .with("path", file.display()));
        }
        let inner = Inner { state, stamp: stamp(file), broken: None };
        let store = Arc::new(Store { inner: Mutex::new(inner), file: Some(file.to_owned()) });
        Ok(Self::on(store, topology, speed))
    }

    /// Begins the world in `file` afresh.
    ///
    /// # Errors
    /// The file system's.
    pub fn reset(
        file: &Path,
        topology: &Topology,
        scenario: &Scenario,
        seed: u64,
        at: Timestamp,
    ) -> Result<()> {
        if let Some(folder) = file.parent() {
            private_folder(folder)?;
        }
        let _lock = lock(file)?;
        save(file, &WorldState::new(topology, scenario, seed, at))
    }

    fn on(store: Arc<Store>, topology: &Topology, speed: Speed) -> Self {
        let clock = Arc::new(SimClock::new(store.clone(), speed));
        Self { store, clock, topology: Arc::new(topology.clone()) }
    }

    /// The world for the engine.
    pub fn world(&self) -> World {
        services::world(&self.store, &self.clock, &self.topology)
    }

    /// A readable summary.
    ///
    /// # Errors
    /// The file's.
    pub fn show(&self) -> Result<Value> {
        self.store.with(|state| state.summary())
    }

    /// Looks at the state.
    ///
    /// # Errors
    /// The file's.
    pub fn inspect<T>(&self, f: impl FnOnce(&WorldState) -> T) -> Result<T> {
        self.store.with(|state| f(state))
    }

    /// Stages something.
    ///
    /// # Errors
    /// The file's.
    pub fn change<T>(&self, f: impl FnOnce(&mut WorldState) -> T) -> Result<T> {
        self.store.with(f)
    }
}

//! Two simulated Regions behind the service traits, with the physics that a failover meets.
//!
//! Everything is derived from a plain, serializable [`WorldState`] and its time. States that take time are computed
//! from the moment a call was accepted, so that it does not matter how coarsely time jumps. The world lives in memory
//! or in a file ([`Sandbox`]); its clock ([`clock`]) stands still while no command runs.
//!
//! # Scenario files
//!
//! ```yaml
//! primary: lost            # healthy | lost | partitioned (its users reach it, we do not)
//! lost_for: 25s            # how long ago, when the sandbox is reset
//! replica_lag_s: 2         # the lag before the loss; null = no samples
//! capacity: 3              # node groups never get more nodes than this
//! durations: { promotion: 6m, nodes: 150s }
//! faults:
//!   - { from: 0s, until: 10m, region: us-west-2, api: "rds:", does: throttle, probability: 0.3 }
//! ```

pub mod clock;
mod cluster;
mod probe;
mod scenario;
mod services;
mod state;
mod store;

/// The topology that the sandbox takes where none is given.
pub const EXAMPLE: &str = include_str!("../../../examples/maip-prod.yaml");

pub use scenario::{Durations, Fault, FaultKind, PrimaryState, Scenario};
pub use state::{CallCount, Mutation, WorldState};
pub use store::{Sandbox, Speed};

//! What a procedure needs from a place: one small trait a file, each with its contract.
//!
//! The traits carry the verbs a procedure needs, never a cloud's whole API. Backends (`aws`, `kube`, `net`,
//! `sim`) translate and decide nothing; steps decide and never see an SDK.
//!
//! Every method keeps to one set of rules:
//! - A read changes nothing. A name that does not exist is `NotFound`; a missing permission is `Denied`; no
//!   answer is `Unavailable`; being asked to slow down is `Throttled`.
//! - A mutating call that fails with `Unavailable` or `Throttled` **was not performed**. One whose answer was
//!   lost fails with `InDoubt`: it may or may not have been performed, and the caller observes.
//! - A mutating call returns when the service has accepted it, not when its effect is there. Each is safe to
//!   meet twice: the second answer is success or `Conflict`, never a second effect.

#[cfg(feature = "test-util")]
pub mod contract;
mod database;
mod dns;
mod identity;
mod node_group;
mod notify;
mod probe;
mod stream;
mod table;
mod workload;

pub use database::*;
pub use dns::*;
pub use identity::*;
pub use node_group::*;
pub use notify::*;
pub use probe::*;
pub use stream::*;
pub use table::*;
pub use workload::*;

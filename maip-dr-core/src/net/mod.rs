//! The world from outside, as users see it: HTTP and DNS from this machine, and the ways to tell people.
//!
//! Guarantees: every question is bounded and nothing is cached. Assumptions: this machine's network sees what
//! users see; a fault of its own is told apart by asking both Regions. Caveats: a resolver on the way may cache.

mod dns;
mod notify;
mod probe;

pub use notify::NetNotify;
pub use probe::NetProbe;

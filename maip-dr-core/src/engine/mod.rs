//! The engine: a pure fold over the journal, and a thin shell that performs what the fold decides.
//!
//! Five rules. The journal's fold is the only state. A record is durable before the call it announces and
//! after it. Forward, wait, unwind or hold is computed, never stored. Past the point of no return nothing is
//! undone without a person. Nothing that a step does takes the engine down.

mod attempt;
mod run;
pub mod state;

pub use run::{Answer, Decider, Driven, Engine, Pause, Question, Refuse, Setup, Update};

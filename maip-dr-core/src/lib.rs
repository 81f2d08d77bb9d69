//! Fails an application over from one AWS Region to another.
//!
//! A procedure is data that a person can read before anything happens ([`plan`]); the engine is a pure fold
//! over a journal plus a thin shell that performs ([`engine`]); and every step can ask the world whether it is
//! already done ([`step`]).

pub mod api;
#[cfg(feature = "aws")]
pub mod aws;
pub mod check;
pub mod clock;
pub mod duration;
pub mod engine;
pub mod error;
pub mod id;
pub mod journal;
#[cfg(feature = "kube")]
pub mod kube;
#[cfg(feature = "net")]
pub mod net;
pub mod plan;
pub mod procedure;
pub mod procedures;
pub mod region;
pub mod render;
pub mod report;
pub mod service;
#[cfg(feature = "sim")]
pub mod sim;
pub mod step;
pub mod steps;
pub mod survey;
pub mod topology;

pub use error::{Error, ErrorKind, Result, Risk};
pub use id::{RegionId, RunId, StepId};

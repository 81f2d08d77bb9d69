//! A procedure turns a topology and what was seen of the world into a plan: data, with no choice left.

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::plan::Plan;
use crate::survey::Survey;
use crate::topology::Topology;

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanRequest {
    /// The Region to go to; absent where the topology leaves only one.
    pub to: Option<RegionId>,
    /// The Region to leave; absent = the other one.
    pub from: Option<RegionId>,
    /// When the application failed.
    pub impact_at: Option<Timestamp>,
}

impl PlanRequest {
    /// The Region to go to and the one to leave.
    ///
    /// # Errors
    /// `Invalid` when the topology does not describe one of them, both are the same, or it is not clear which.
    pub fn direction(&self, topology: &Topology) -> Result<(RegionId, RegionId)> {
        let to = match (&self.to, topology.standby.as_slice()) {
            (Some(to), _) => to.clone(),
            (None, [only]) => only.clone(),
            (None, many) => {
                let names: Vec<&str> = many.iter().map(RegionId::as_str).collect();
                return Err(Error::invalid("the topology has several standby Regions")
                    .hint(format!("say which with --to: {}", names.join(", "))));
            }
        };
        let from = match &self.from {
            Some(from) => from.clone(),
            None => topology.other_than(&to)?,
        };
        topology.other_than(&to)?;
        topology.other_than(&from)?;
        if to == from {
            return Err(Error::invalid(format!("{to} is both where it goes and where it comes from"))
                .hint("--from and --to must differ"));
        }
        Ok((to, from))
    }
}

/// Turns topology and survey into a plan.
pub trait Procedure: Send + Sync + 'static {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// The plan without its computed fields.
    ///
    /// # Errors
    /// `Invalid` when the topology does not hold what it needs, `Refused` when the survey forbids it.
    fn plan(&self, request: &PlanRequest, topology: &Topology, seen: &Survey) -> Result<Plan>;
}

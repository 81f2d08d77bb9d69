//! How a sandbox begins, and what goes wrong in it.

use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::error::{Error, Result};
use crate::id::RegionId;

/// How the primary Region is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrimaryState {
    /// All is well.
    Healthy,
    /// Nobody reaches it.
    #[default]
    Lost,
    /// Its users reach it, we do not.
    Partitioned,
}

/// How long things take. Planning values: AWS publishes few of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Durations {
    /// An API call.
    pub call: Span,
    /// How long a client waits for a Region that does not answer.
    pub silence: Span,
    /// An accepted promotion still shows the old state.
    pub promotion_shows: Span,
    /// From `modifying` to the end of a promotion.
    pub promotion: Span,
    /// A backup right after the promotion.
    pub backing_up: Span,
    /// A rename.
    pub rename: Span,
    /// An update of a node group.
    pub update: Span,
    /// From the update until a node is Ready.
    pub nodes: Span,
    /// From scheduled until a pod is Ready.
    pub pods: Span,
    /// A DNS change until every authoritative server has it.
    pub dns: Span,
    /// How long resolvers keep an answer.
    pub ttl: Span,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            call: Span(std::time::Duration::from_millis(80)),
            silence: Span::from_secs(5),
            promotion_shows: Span::from_secs(5),
            promotion: Span::from_secs(355),
            backing_up: Span::from_secs(0),
            rename: Span::from_secs(30),
            update: Span::from_secs(40),
            nodes: Span::from_secs(150),
            pods: Span::from_secs(45),
            dns: Span::from_secs(40),
            ttl: Span::from_secs(60),
        }
    }
}

/// What a fault does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// It is never answered and never performed.
    Silent,
    /// It is asked to slow down.
    Throttle,
    /// The service answers with a failure of its own and performs nothing.
    Error,
    /// A permission is missing.
    Deny,
    /// A mutating call is performed and its answer lost; a read fails.
    LostAnswer,
}

/// Something that goes wrong for some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Since the sandbox was reset.
    #[serde(default)]
    pub from: Span,
    /// Absent = for ever.
    #[serde(default)]
    pub until: Option<Span>,
    /// Absent = every Region.
    #[serde(default)]
    pub region: Option<RegionId>,
    /// How the API's name begins, such as `rds:` or `rds:PromoteReadReplica`; absent = every API.
    #[serde(default)]
    pub api: Option<String>,
    /// What happens.
    pub does: FaultKind,
    /// How often, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How often at most; absent = no limit.
    #[serde(default)]
    pub times: Option<u32>,
}

fn always() -> f64 {
    1.0
}

/// How a sandbox begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// How the primary Region is.
    pub primary: PrimaryState,
    /// Since when, before the reset.
    pub lost_for: Span,
    /// The replica's lag while the primary was well, in seconds; absent = no samples at all.
    pub replica_lag_s: Option<f64>,
    /// DynamoDB's replication latency in milliseconds; absent = no samples.
    pub replication_latency_ms: Option<f64>,
    /// Node groups never get more nodes than this.
    pub capacity: Option<u32>,
    /// How long things take.
    pub durations: Durations,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            primary: PrimaryState::Lost,
            lost_for: Span::from_secs(25),
            replica_lag_s: Some(2.0),
            replication_latency_ms: Some(900.0),
            capacity: None,
            durations: Durations::default(),
            faults: Vec::new(),
        }
    }
}

impl Scenario {
    /// The built-in scenarios; the first is the default.
    pub fn names() -> &'static [&'static str] {
        &["primary-lost", "healthy", "primary-partitioned", "replica-lagging", "no-capacity", "throttled"]
    }

    /// The built-in scenario `name`.
    ///
    /// # Errors
    /// `Invalid` with the known names.
    pub fn named(name: &str) -> Result<Self> {
        let lost = Self::default();
        Ok(match name {
            "primary-lost" => lost,
            "healthy" => Self { primary: PrimaryState::Healthy, ..lost },
            "primary-partitioned" => Self { primary: PrimaryState::Partitioned, ..lost },
            "replica-lagging" => Self { replica_lag_s: Some(300.0), ..lost },
            "no-capacity" => Self { capacity: Some(2), ..lost },
            "throttled" => {
                let fault = Fault {
                    from: Span::default(),
                    until: None,
                    region: None,
                    api: None,
                    does: FaultKind::Throttle,
                    probability: 0.3,
                    times: None,
                };
                Self { faults: vec![fault], ..lost }
            }
            other => {
                return Err(Error::invalid(format!("there is no scenario `{other}`"))
                    .hint(format!("there is {}; or name a YAML file", Self::names().join(", "))));
            }
        })
    }

    /// A scenario file.
    ///
    /// # Errors
    /// `Invalid` with the position.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self> {
        serde_saphyr::from_str(text).map_err(|e| {
            Error::invalid(format!("{file}: {e}"))
                .hint("a scenario has primary, lost_for, replica_lag_s, replication_latency_ms, capacity, durations, faults")
        })
    }
}

use std::fmt::{self, Debug};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A hosted zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Its id without the `/hostedzone/` prefix.
    pub id: String,
    /// Its name without the closing dot.
    pub name: String,
    /// Whether only some networks see it.
    pub private: bool,
}

/// A record type that can point at a load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    #[serde(rename = "AAAA")]
    Aaaa,
    /// Another name.
    #[serde(rename = "CNAME")]
    Cname,
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
        })
    }
}

/// Where an alias record points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasTarget {
    /// The load balancer's name, without the closing dot and without a `dualstack.` prefix added by us.
    pub dns_name: String,
    /// The zone that the target lives in: one a Region and load balancer type.
    pub hosted_zone_id: String,
    /// Whether the target's own health counts.
    pub evaluate_target_health: bool,
}

/// How one of several record sets of a name is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "policy")]
pub enum Routing {
    /// The only record set of its name and type.
    Simple,
    /// By weight, 0 to 255.
    Weighted {
        /// The share.
        weight: u8,
    },
    /// `PRIMARY` or `SECONDARY`.
    Failover {
        /// Whether it is the primary.
        primary: bool,
    },
    /// Latency, geography, multivalue...: nothing maip-dr changes.
    Other {
        /// The policy's name.
        name: String,
    },
}

/// One record set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSet {
    /// Its name without the closing dot, lower case.
    pub name: String,
    /// `A`, `AAAA`, `CNAME`; others are not listed.
    #[serde(rename = "type")]
    pub record_type: RecordType,
    /// Tells the record sets of one name and type apart; absent for a simple one.
    pub set_identifier: Option<String>,
    /// How it is chosen.
    pub routing: Routing,
    /// Seconds a resolver may keep it; absent for an alias (60 s for a load balancer, not changeable).
    pub ttl_s: Option<u32>,
    /// Plain values; empty for an alias.
    pub values: Vec<String>,
    /// The alias's target.
    pub alias: Option<AliasTarget>,
    /// The health check that takes it out of answers.
    pub health_check_id: Option<String>,
}

/// What to do with one record set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChangeAction {
    /// It must not exist.
    Create,
    /// It must exist with exactly these values.
    Delete,
    /// Made or replaced.
    Upsert,
}

/// One line of a change batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordChange {
    /// What.
    pub action: ChangeAction,
    /// With which record set.
    pub record: RecordSet,
}

/// How far a change has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeStatus {
    /// Not yet at every authoritative server.
    Pending,
    /// At every authoritative server; resolvers may still hold the old answer.
    InSync,
}

/// The public DNS: one for all Regions. Its API lives in us-east-1.
/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/route-53-concepts.html>
///
/// Contract, besides the rules of [`crate::service`]:
/// - `change` is atomic: all of it or none. An illegal batch is `Invalid` with every reason; a change still in
///   flight for the zone is `Conflict`.
/// - Applying the same upserts again is success.
/// - `change_status` of an unknown id is `NotFound`.
#[cfg_attr(any(test, feature = "test-util"), mockall::automock)]
#[async_trait]
pub trait DnsService: Send + Sync + Debug + 'static {
    /// Every zone, public or private, named exactly `name`.
    async fn zones(&self, name: &str) -> Result<Vec<Zone>>;
    /// The zone with this id.
    async fn zone(&self, id: &str) -> Result<Zone>;
    /// The A, AAAA and CNAME record sets of `name` in a zone; empty when there are none.
    async fn records(&self, zone_id: &str, name: &str) -> Result<Vec<RecordSet>>;
    /// Applies `changes` together; the id to ask after.
    async fn change(&self, zone_id: &str, comment: &str, changes: &[RecordChange]) -> Result<String>;
    /// How far the change `id` has got.
    async fn change_status(&self, id: &str) -> Result<ChangeStatus>;
}

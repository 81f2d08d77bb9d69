//! The user's file: one application, its Regions, resources and objectives.
//!
//! No secret ever lives in it. Unknown keys, wrong types and contradictions are refused with line and column.

mod document;
mod load_balancers;
mod parse;
mod problem;
mod secrets;
mod structure;
mod syntax;
mod traffic;
mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::service::{RecordType, Scaling};

pub use parse::{json_schema, parse, parse_json};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// The file's version: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The application's name: lower-case letters, digits and hyphens.
    pub application: String,
    /// The Region that is home.
    pub primary: RegionId,
    /// The Region to fail over to, or a list, best first.
    #[serde(with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub standby: Vec<RegionId>,
    /// What a failover is measured against.
    #[serde(default)]
    pub objectives: Objectives,
    /// How to reach each Region.
    #[serde(default)]
    pub regions: BTreeMap<RegionId, RegionAccess>,
    /// Relational databases, by logical name.
    #[serde(default)]
    pub databases: BTreeMap<String, Database>,
    /// Kubernetes clusters, by logical name.
    #[serde(default)]
    pub clusters: BTreeMap<String, Cluster>,
    /// Kafka clusters, by logical name.
    #[serde(default)]
    pub streams: BTreeMap<String, StreamResource>,
    /// Global tables, by logical name.
    #[serde(default)]
    pub tables: BTreeMap<String, TableResource>,
    /// Public names that move, by logical name.
    #[serde(default)]
    pub traffic: BTreeMap<String, Traffic>,
    /// How the way back shifts traffic.
    #[serde(default)]
    pub failback: Failback,
    /// Deadlines by step kind.
    #[serde(default)]
    pub timeouts: BTreeMap<String, Span>,
    /// Who must approve before anything irreversible.
    #[serde(default)]
    pub approvals: Option<Approvals>,
    /// Who is told.
    #[serde(default)]
    pub notify: Vec<NotifyTarget>,
    /// Where runs are recorded.
    #[serde(default)]
    pub journal: JournalPlace,
}

/// What a failover is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Objectives {
    /// Recovery time objective.
    pub rto: Span,
    /// Recovery point objective: the most data, in time, that may be lost.
    pub rpo: Span,
}

impl Default for Objectives {
    fn default() -> Self {
        Self { rto: Span::from_secs(15 * 60), rpo: Span::from_secs(60) }
    }
}

/// How to reach a Region. Without any key: the default credential chain and the Region's own endpoints.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegionAccess {
    /// A profile of the shared AWS configuration.
    pub profile: Option<String>,
    /// The account's twelve digits; another account is refused.
    pub account: Option<String>,
    /// A role to assume, through the Region's own STS endpoint.
    pub role_arn: Option<String>,
    /// Every AWS endpoint of this Region, for test servers.
    pub endpoint_url: Option<String>,
}

/// A relational database that is replicated between Regions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// How many days the promoted database keeps backups: 1 to 35. At 0 it would have no backups, and a database
    /// without backups cannot have the replica that the way back needs.
    #[serde(default = "default_retention")]
    #[schemars(range(min = 1, max = 35))]
    pub backup_retention_days: u32,
    /// What it is in each Region.
    pub regions: BTreeMap<RegionId, DatabaseIn>,
}

fn default_retention() -> u32 {
    7
}

/// A database in one Region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseIn {
    /// The instance's identifier.
    pub instance: String,
}

/// A Kubernetes cluster a Region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// What it is in each Region.
    pub regions: BTreeMap<RegionId, ClusterIn>,
    /// What must run there, by namespace.
    #[serde(default)]
    pub workloads: BTreeMap<String, NamespaceWorkloads>,
}

/// A cluster in one Region: by its EKS name, or by a kubeconfig and its context.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterIn {
    /// The EKS cluster: endpoint and CA come from EKS, the token is made locally.
    pub eks: Option<String>,
    /// A kubeconfig file to use instead.
    pub kubeconfig: Option<PathBuf>,
    /// Its context.
    pub context: Option<String>,
    /// Managed node groups and the sizes a failover raises them to.
    pub node_groups: BTreeMap<String, Scaling>,
}

/// What must run in a namespace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NamespaceWorkloads {
    /// Every Deployment is raised to so many replicas, never lowered.
    pub replicas: Option<u32>,
    /// Deployments with a number of their own, or `keep`.
    pub deployments: BTreeMap<String, Replicas>,
    /// StatefulSets, only those named here.
    pub stateful_sets: BTreeMap<String, u32>,
    /// Whether Deployments are restarted, one pod after the other, once the database is promoted, so that
    /// connection pools connect anew.
    pub restart: bool,
}

/// How many replicas, or hands off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Replicas {
    /// At least so many.
    Count(u32),
    /// Left as it is.
    Keep(Keep),
}

/// The word `keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Left as it is.
    Keep,
}

/// A Kafka cluster a Region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamResource {
    /// Whether traffic may move only when it is OK.
    #[serde(default)]
    pub required: bool,
    /// What it is in each Region.
    pub regions: BTreeMap<RegionId, StreamIn>,
}

/// A Kafka cluster in one Region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamIn {
    /// The MSK cluster's exact name.
    pub msk: String,
}

/// A global table: one name in every Region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableResource {
    /// The DynamoDB table's name.
    pub dynamodb: String,
    /// The replication latency above which it is DEGRADED.
    #[serde(default = "default_lag_max")]
    pub lag_max: Span,
    /// Whether traffic may move only when it is OK.
    #[serde(default)]
    pub required: bool,
}

fn default_lag_max() -> Span {
    Span::from_secs(5)
}

/// A public name that moves between load balancers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// The hosted zone's name; or `zone_id`.
    #[serde(default)]
    pub zone: Option<String>,
    /// The hosted zone's id; or `zone`.
    #[serde(default)]
    pub zone_id: Option<String>,
    /// The name that users ask for.
    pub record: String,
    /// Which record types move together.
    #[serde(default = "default_types")]
    pub types: Vec<RecordType>,
    /// How it is moved.
    #[serde(default)]
    pub method: TrafficMethod,
    /// The load balancer in each Region.
    pub regions: BTreeMap<RegionId, TrafficIn>,
    /// How users would know that it works.
    pub health: Health,
    /// Name servers (`HOST:PORT`) asked instead of the public ones.
    #[serde(default)]
    pub resolvers: Vec<String>,
}

fn default_types() -> Vec<RecordType> {
    vec![RecordType::A]
}

/// How a name is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrafficMethod {
    /// One alias record that is pointed elsewhere.
    #[default]
    Alias,
    /// Weighted records whose weights change.
    Weighted,
}

/// A load balancer in one Region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficIn {
    /// Its DNS name.
    pub load_balancer: String,
    /// The canonical hosted zone id of its Region and type.
    pub hosted_zone_id: String,
    /// `HOST:PORT` where it is asked directly, instead of its DNS name and the health URL's port.
    #[serde(default)]
    pub connect: Option<String>,
}

/// How users would know that it works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The URL, with the public name as its host.
    pub url: String,
    /// The HTTP status of a good answer.
    #[serde(default = "default_status")]
    #[schemars(range(min = 100, max = 599))]
    pub status: u16,
}

fn default_status() -> u16 {
    200
}

/// How the way back shifts traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Failback {
    /// Per cent at home after each shift, rising to 100: not weights, which Route 53 counts from 0 to 255.
    #[schemars(inner(range(min = 1, max = 100)))]
    pub shift: Vec<u8>,
    /// How long each shift is watched.
    pub bake: Span,
}

impl Default for Failback {
    fn default() -> Self {
        Self { shift: vec![10, 50, 90, 100], bake: Span::from_secs(600) }
    }
}

/// Who must approve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    /// How many of them.
    pub need: u32,
    /// The approvers' names.
    pub from: Vec<String>,
}

/// One place to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum NotifyTarget {
    /// A Slack-compatible webhook.
    Webhook(WebhookTarget),
    /// A local command.
    Command(CommandTarget),
}

/// A Slack-compatible webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookTarget {
    /// Its https URL, or `env:NAME` to read the URL from the environment.
    pub webhook: String,
}

/// A local command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandTarget {
    /// Program and arguments; the notice comes as JSON on its standard input.
    pub command: Vec<String>,
}

/// Where runs are recorded.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalPlace {
    /// A folder; by default the state directory.
    pub file: Option<PathBuf>,
}

impl Topology {
    /// Every Region named by `primary` and `standby`, in that order.
    pub fn region_ids(&self) -> impl Iterator<Item = &RegionId> {
        std::iter::once(&self.primary).chain(&self.standby)
    }

    /// How to reach `region`; all defaults where the file says nothing.
    pub fn access(&self, region: &RegionId) -> RegionAccess {
        self.regions.get(region).cloned().unwrap_or_default()
    }

    /// The Region that traffic and data leave when they go to `to`.
    ///
    /// # Errors
    /// `Invalid` when `to` is not described.
    pub fn other_than(&self, to: &RegionId) -> Result<RegionId> {
        if !self.region_ids().any(|r| r == to) {
            let known: Vec<&str> = self.region_ids().map(RegionId::as_str).collect();
            return Err(Error::invalid(format!("Region {to} is not in the topology"))
                .hint(format!("use one of {}", known.join(", "))));
        }
        Ok(if *to == self.primary { self.standby[0].clone() } else { self.primary.clone() })
    }

    /// The instance that is `database` in `region`.
    ///
    /// # Errors
    /// `Invalid` when there is none.
    pub fn instance(&self, database: &str, region: &RegionId) -> Result<(&Database, &str)> {
        let entry = lookup(&self.databases, "database", database)?;
        let here = in_region(&entry.regions, "database", database, region)?;
        Ok((entry, &here.instance))
    }

    /// The cluster `cluster` and what it is in `region`.
    ///
    /// # Errors
    /// `Invalid` when there is none.
    pub fn cluster(&self, cluster: &str, region: &RegionId) -> Result<(&Cluster, &ClusterIn)> {
        let entry = lookup(&self.clusters, "cluster", cluster)?;
        Ok((entry, in_region(&entry.regions, "cluster", cluster, region)?))
    }

    /// The traffic entry `traffic` and its load balancer in `region`.
    ///
    /// # Errors
    /// `Invalid` when there is none.
    pub fn traffic(&self, traffic: &str, region: &RegionId) -> Result<(&Traffic, &TrafficIn)> {
        let entry = lookup(&self.traffic, "traffic", traffic)?;
        Ok((entry, in_region(&entry.regions, "traffic", traffic, region)?))
    }

    /// The deadline of a step kind: the file's, else `default`.
    pub fn deadline(&self, kind: &str, default: Duration) -> Duration {
        self.timeouts.get(kind).map_or(default, |span| span.0)
    }
}

/// The entry `name`, or an error that lists the known ones.
///
/// # Errors
/// `Invalid` when there is none.
pub fn lookup<'a, T>(entries: &'a BTreeMap<String, T>, what: &str, name: &str) -> Result<&'a T> {
    entries.get(name).ok_or_else(|| {
        let known: Vec<&str> = entries.keys().map(String::as_str).collect();
        Error::invalid(format!("the topology has no {what} `{name}`")).hint(if known.is_empty() {
            format!("it has no {what} at all")
        } else {
            format!("it has {}", known.join(", "))
        })
    })
}

/// What `name` is in `region`, or an error that lists its Regions.
///
/// # Errors
/// `Invalid` when it is not in that Region.
pub fn in_region<'a, T>(
    entries: &'a BTreeMap<RegionId, T>,
    what: &str,
    name: &str,
    region: &RegionId,
) -> Result<&'a T> {
    entries.get(region).ok_or_else(|| {
        let known: Vec<&str> = entries.keys().map(RegionId::as_str).collect();
        Error::invalid(format!("{what} `{name}` has no entry for Region {region}"))
            .hint(format!("it has {}", known.join(", ")))
    })
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum OneOrMany {
    One(RegionId),
    Many(Vec<RegionId>),
}

mod one_or_many {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::id::RegionId;

    pub(super) fn serialize<S: Serializer>(ids: &[RegionId], serializer: S) -> Result<S::Ok, S::Error> {
        match ids {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RegionId>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a Region or a list of Regions")]
        enum OneOrMany {
            One(RegionId),
            Many(Vec<RegionId>),
        }
        Ok(match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        })
    }
}

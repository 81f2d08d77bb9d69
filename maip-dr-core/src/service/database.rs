use std::fmt::Debug;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A database instance as its service describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Its present name.
    pub id: String,
    /// The name that survives a rename (`DbiResourceId`).
    pub resource_id: String,
    /// Its full name across Regions and accounts.
    pub arn: String,
    /// `postgres`, ...
    pub engine: String,
    /// `available`, `modifying`, `rebooting`, `backing-up`, ... exactly as the service says it.
    pub status: String,
    /// The instance it replicates from: an ARN for one in another Region. `None` for a writer.
    pub replica_source: Option<String>,
    /// The state of replication, for a replica: `replicating`, `error`, `stopped`, `terminated`, ...
    pub replication: Option<String>,
    /// Automated backups are kept for so many days; 0 = off.
    pub backup_retention_days: u32,
    /// Changes that wait for a reboot or a window, `name=value`.
    pub pending_changes: Vec<String>,
    /// Its size class, such as `db.r6g.xlarge`.
    pub class: String,
    /// Host name, once there is one.
    pub endpoint: Option<String>,
    /// Whether a standby in another zone exists.
    pub multi_az: bool,
}

impl Instance {
    /// Whether it accepts writes as far as the service's API can tell: a source-less instance without
    /// replication infos that is available. A SQL probe proves more.
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_ReadRepl.Promote.html>
    pub fn looks_writable(&self) -> bool {
        self.replica_source.is_none() && self.replication.is_none() && self.status == "available"
    }
}

/// One reading of replication lag.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LagSample {
    /// When it was taken.
    pub at: Timestamp,
    /// Seconds; -1 where the service could not tell.
    pub seconds: f64,
}

/// Something the service says happened to an instance. Evidence only: no logic reads the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseEvent {
    /// When.
    pub at: Timestamp,
    /// In the service's words.
    pub message: String,
}

/// The relational databases of one Region.
///
/// Contract, besides the rules of [`crate::service`]:
/// - `describe` of a name that was renamed away is `NotFound` from the moment the rename is accepted.
/// - After `promote` was accepted, `describe` may still show the old state for some seconds.
/// - `promote` of an instance that is not an available replica is `Conflict`.
/// - `replica_lag` answers from the replica's own Region, oldest first; an empty list means *unknown*.
#[cfg_attr(any(test, feature = "test-util"), mockall::automock)]
#[async_trait]
pub trait DatabaseService: Send + Sync + Debug + 'static {
    /// The instance named `id`.
    async fn describe(&self, id: &str) -> Result<Instance>;
    /// Makes the replica `id` a writer of its own, for ever; backups are kept for `retention_days` from then on.
    async fn promote(&self, id: &str, retention_days: u32) -> Result<()>;
    /// Renames `from` to `to` at once: clients of the old name lose it. Conflict while the instance changes.
    async fn rename(&self, from: &str, to: &str) -> Result<()>;
    /// Lag samples of the replica `id` taken at or after `since`.
    async fn replica_lag(&self, id: &str, since: Timestamp) -> Result<Vec<LagSample>>;
    /// What happened to `id` at or after `since`, oldest first.
    async fn events(&self, id: &str, since: Timestamp) -> Result<Vec<DatabaseEvent>>;
}

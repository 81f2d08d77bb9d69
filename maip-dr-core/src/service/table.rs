use std::fmt::Debug;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::RegionId;

/// A table as its service describes it in one Region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// `ACTIVE`, ...
    pub status: String,
    /// The *other* Regions it is replicated to, with each replica's status.
    pub replicas: Vec<(RegionId, String)>,
}

/// One reading of how long an item took to reach another Region.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencySample {
    /// When it was taken.
    pub at: Timestamp,
    /// Milliseconds, the largest of its minute.
    pub milliseconds: f64,
}

/// The tables of one Region.
///
/// Contract: `replication_latency` answers from *this* Region's metrics, which hold the way from here to
/// `receiving`: ask it in the source Region. An empty list means *unknown*, never zero.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/V2globaltables_monitoring.html>
#[cfg_attr(any(test, feature = "test-util"), mockall::automock)]
#[async_trait]
pub trait TableService: Send + Sync + Debug + 'static {
    /// The table named `name`.
    async fn describe(&self, name: &str) -> Result<Table>;
    /// Samples from this Region to `receiving` taken at or after `since`, oldest first.
    async fn replication_latency(
        &self,
        name: &str,
        receiving: &RegionId,
        since: Timestamp,
    ) -> Result<Vec<LatencySample>>;
}

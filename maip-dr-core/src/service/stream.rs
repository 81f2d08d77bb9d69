use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A Kafka cluster as its service describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Its full name.
    pub arn: String,
    /// `ACTIVE`, `HEALING`, `MAINTENANCE`, `FAILED`, ... exactly as the service says it.
    pub state: String,
}

/// The Kafka clusters of one Region.
///
/// Contract: `describe` finds by the exact name, never by a prefix (the service's own filter is a prefix), on
/// every page of the list. None with that name is `NotFound`.
#[cfg_attr(any(test, feature = "test-util"), mockall::automock)]
#[async_trait]
pub trait StreamService: Send + Sync + Debug + 'static {
    /// The cluster named `name`.
    async fn describe(&self, name: &str) -> Result<Stream>;
}

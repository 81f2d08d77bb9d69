use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Who the calls are made as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The account's twelve digits.
    pub account: String,
    /// The user or the assumed role.
    pub arn: String,
}

/// Who we are in one Region, asked at that Region's own endpoint: the global one lives in us-east-1.
/// <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/global-endpoint-best-practices.html>
///
/// Contract: no credentials at all, expired ones and refused ones are `Denied`.
#[cfg_attr(any(test, feature = "test-util"), mockall::automock)]
#[async_trait]
pub trait IdentityService: Send + Sync + Debug + 'static {
    /// The caller.
    async fn caller(&self) -> Result<Caller>;
}

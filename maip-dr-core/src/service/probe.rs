use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::service::RecordType;

/// One HTTP question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpQuestion {
    /// The public URL: its host is what certificate and `Host` header must match.
    pub url: String,
    /// Ask here (`HOST:PORT` or `HOST`) instead of where the URL's name points.
    pub connect: Option<String>,
    /// Look the URL's name up at these name servers (`HOST:PORT`) instead of the machine's own.
    pub resolvers: Vec<String>,
    /// The whole question ends after this.
    pub limit: Duration,
}

/// What an endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The address that answered.
    pub address: Option<String>,
    /// The header `x-maip-region`, where the application sends it.
    pub region: Option<String>,
}

/// What one name server answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsAnswer {
    /// Sorted addresses; empty where the name has none.
    pub addresses: Vec<IpAddr>,
    /// Seconds this answer may still be kept.
    pub ttl_s: u32,
    /// Whether the server is an authority for the name.
    pub authoritative: bool,
}

/// Looks at the application from outside, as its users do.
///
/// Contract: any HTTP status is an answer; no connection, no TLS or no answer in time is `Unavailable`. A name
/// that does not exist answers with no addresses. Nothing is cached.
#[cfg_attr(any(test, feature = "test-util"), mockall::automock)]
#[async_trait]
pub trait ProbeService: Send + Sync + Debug + 'static {
    /// Asks with GET; redirects are answers, not followed.
    async fn http(&self, question: &HttpQuestion) -> Result<HttpAnswer>;
    /// Asks `server` (`HOST:PORT`; `None` = the machine's own resolver) for a name.
    async fn dns(&self, name: &str, record_type: RecordType, server: Option<String>) -> Result<DnsAnswer>;
    /// The authoritative servers of `zone` as `HOST:PORT`, found by asking `resolvers` (empty = the machine's own).
    async fn authorities(&self, zone: &str, resolvers: &[String]) -> Result<Vec<String>>;
}

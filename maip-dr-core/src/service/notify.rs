use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::topology::NotifyTarget;

/// One message about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The application.
    pub application: String,
    /// The run.
    pub run: String,
    /// `started`, `held`, `ended`, ...
    pub what: String,
    /// One or two sentences.
    pub text: String,
}

/// Tells people. Never on the critical path: callers bound it and go on whatever it answers.
///
/// Contract: a webhook gets one POST of JSON with the key `text` (Slack's form) and the notice's fields; a
/// command gets the same JSON on its standard input and is killed when the call is dropped. URLs are secrets:
/// no error repeats one beyond its host.
#[cfg_attr(any(test, feature = "test-util"), mockall::automock)]
#[async_trait]
pub trait NotifyService: Send + Sync + Debug + 'static {
    /// Sends `notice` to one target.
    async fn send(&self, target: &NotifyTarget, notice: &Notice) -> Result<()>;
}

//! One error type for the whole of maip-dr.
//!
//! A kind exists only where the caller would act differently. Messages are lower-case fragments that read
//! after "failed to promote postgres: ..."; the causes follow one a line, then the hint.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is: what the caller would do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The input is wrong; mend it.
    Invalid,
    /// A named thing is not there.
    NotFound,
    /// Credentials are missing, wrong or lack a permission.
    Denied,
    /// The service did not answer or answered with its own failure; nothing was changed, so try again.
    Unavailable,
    /// The service asked to slow down; nothing was changed.
    Throttled,
    /// Someone or something else is in the way right now.
    Conflict,
    /// Another driver has taken this run over.
    Fenced,
    /// A mutating call was sent and its answer was lost: it may or may not have happened. Observe.
    InDoubt,
    /// maip-dr declines: going on would be unsafe.
    Refused,
    /// A record of ours (journal, plan, sandbox) fails its integrity check.
    Corrupt,
    /// A defect of maip-dr.
    Internal,
}

impl ErrorKind {
    /// The stable word used in JSON, in journals and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Throttled => "throttled",
            Self::Conflict => "conflict",
            Self::Fenced => "fenced",
            Self::InDoubt => "in_doubt",
            Self::Refused => "refused",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call may simply be made again after a pause.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Throttled)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A risk that a person can take on with a word of its own (`--accept-...`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "risk")]
pub enum Risk {
    /// The verdict on the primary is partly or unknown.
    UnverifiedDown,
    /// The old writer could not be fenced.
    Unfenced,
    /// More data than the objective allows may be lost. `seconds` is the proven upper bound; absent = unknown.
    DataLoss {
        /// The upper bound of the loss in seconds; `None` where no bound is known.
        seconds: Option<f64>,
    },
    /// The replica was promoted by something other than this run.
    Promoted,
}

impl Risk {
    /// The command-line option that accepts this risk.
    pub fn option(&self) -> String {
        match self {
            Self::UnverifiedDown => "--accept-unverified-down".into(),
            Self::Unfenced => "--accept-unfenced".into(),
            Self::DataLoss { seconds: Some(s) } => format!("--accept-data-loss {}s", s.ceil()),
            Self::DataLoss { seconds: None } => "--accept-data-loss unknown".into(),
            Self::Promoted => "--accept-promoted".into(),
        }
    }
}

/// A failure: what failed, why, and what to do next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// What sort of failure.
    pub kind: ErrorKind,
    /// A lower-case fragment.
    pub message: String,
    /// Causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where and with what: `region`, `resource`, `api`, `line`, `column`...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// The acceptance that would let the run go on despite this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Risk>,
    /// What the step found out all the same: becomes its output when the risk is accepted. Without it the step is
    /// tried again, and sees that the risk is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Box<Value>>,
}

impl Error {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            context: BTreeMap::new(),
            needs: None,
            found: None,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds one fact about where it happened.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.context.insert(key.to_owned(), value.to_string());
        self
    }

    /// Adds an inner cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Says which acceptance would let the run go on, and what was found out all the same.
    #[must_use]
    pub fn needs(mut self, risk: Risk, found: Value) -> Self {
        self.needs = Some(risk);
        self.found = Some(Box::new(found));
        self
    }

    /// Puts a new message in front; the old one becomes the first cause.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let inner = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, inner);
        self
    }

    /// The message and its causes on one line.
    pub fn one_line(&self) -> String {
        let mut line = self.message.clone();
        for cause in &self.causes {
            line.push_str(": ");
            line.push_str(cause);
        }
        line
    }
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self { Self::new(ErrorKind::$kind, message) })*
        }
    };
}

constructors! {
    /// Wrong input.
    invalid => Invalid,
    /// A named thing is not there.
    not_found => NotFound,
    /// Credentials or permissions.
    denied => Denied,
    /// No answer, nothing changed.
    unavailable => Unavailable,
    /// Asked to slow down.
    throttled => Throttled,
    /// Something else is in the way.
    conflict => Conflict,
    /// Taken over by another driver.
    fenced => Fenced,
    /// Sent, answer lost.
    in_doubt => InDoubt,
    /// Declined as unsafe.
    refused => Refused,
    /// A record fails its integrity check.
    corrupt => Corrupt,
    /// A defect.
    internal => Internal,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, "\n  because: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_goes_in_front_and_the_hint_stays_last() {
        let e =
            Error::not_found("no such instance").hint("check the name").context("failed to promote postgres");
        assert_eq!(
            e.to_string(),
            "failed to promote postgres\n  because: no such instance\nhint: check the name"
        );
        assert_eq!(e.one_line(), "failed to promote postgres: no such instance");
    }
}

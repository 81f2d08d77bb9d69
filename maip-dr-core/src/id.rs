//! Names as types, so that a Region is never passed where a step is meant.

use std::borrow::Borrow;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps `name`.
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }
            /// The bare text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.to_owned())
            }
        }
        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// An AWS Region, such as `us-west-2`.
    RegionId
);
name!(
    /// A step of a plan, `verb-resource`, such as `promote-postgres`.
    StepId
);
name!(
    /// One execution of a plan. Sorts by start: `261123-0312-k7qd`. Fits into resource names
    /// (lower-case letters, digits, single hyphens).
    RunId
);

impl RunId {
    /// A new id from the time of the start and 20 bits of randomness.
    pub fn generate(at: Timestamp, random: u32) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345679";
        let tail: String = (0..4).map(|i| char::from(ALPHABET[(random >> (i * 5)) as usize & 31])).collect();
        Self(format!("{}-{tail}", at.strftime("%y%m%d-%H%M")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_time_and_fit_into_an_rds_name() {
        let a = RunId::generate("2026-11-23T03:12:00Z".parse().unwrap(), 7);
        let b = RunId::generate("2026-11-23T03:13:00Z".parse().unwrap(), 1);
        assert!(a < b);
        assert!(a.as_str().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        assert_eq!(a.as_str().len(), 16);
    }
}

//! How many requests may be at a target at once, as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many requests may be at each target of a provider at once: a number, or a map with more.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum ConcurrencySettings {
    /// The most requests at once.
    Plain(u32),
    /// With further settings.
    Full(ConcurrencyRules),
}

/// How many requests may be at each target of a provider at once.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ConcurrencyRules {
    /// The most requests at once; without it, there is no limit but the one that is learnt.
    #[schemars(range(min = 1))]
    pub max: Option<u32>,
    /// What is learnt never falls below this.
    #[schemars(range(min = 1))]
    pub min: u32,
    /// What a limit is learnt from: `overload` (a target that answers 503 or 529 gets no more at once than it took),
    /// `latency` (that, and a time to the first content that grows), or `off`.
    pub adaptive: Adaptive,
    /// With `latency`: first contents of streams that come so many times later than usual are a sign of overload.
    #[schemars(range(min = 1))]
    pub slow: f32,
}

/// What a limit is learnt from.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Adaptive {
    /// Nothing.
    Off,
    /// Answers that say overload.
    #[default]
    Overload,
    /// The same, and first contents that come late.
    Latency,
}

impl Default for ConcurrencyRules {
    fn default() -> Self {
        Self { max: None, min: 1, adaptive: Adaptive::default(), slow: 3.0 }
    }
}

impl From<ConcurrencySettings> for ConcurrencyRules {
    fn from(settings: ConcurrencySettings) -> Self {
        match settings {
            ConcurrencySettings::Plain(max) => Self { max: Some(max), ..Self::default() },
            ConcurrencySettings::Full(rules) => rules,
        }
    }
}

//! Settings of the model aliases.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One alias under `models:`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// One target is drawn by weight; when it fails, the others follow in the order written.
    pub targets: Vec<TargetSettings>,
    /// Aliases or targets tried in this order when all targets failed.
    #[serde(default)]
    pub fallback: Vec<String>,
}

/// One target of an alias: `provider/model`, or with a weight.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum TargetSettings {
    /// `provider/model`; listed first means tried first.
    Plain(String),
    /// With a weight.
    Weighted(WeightedTarget),
}

/// A target with a weight.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct WeightedTarget {
    /// `provider/model`.
    pub to: String,
    /// Share of the requests that try this target first, relative to the other weights; 0 means only as a fallback.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

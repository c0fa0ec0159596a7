//! Settings of the health registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Period;

/// How the health of providers is watched.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSettings {
    /// How far back figures reach: `30s` to `1h`. A change begins them anew.
    pub window: Period,
    /// When a provider's failures are an alert.
    pub alert: AlertSettings,
}

/// When a provider's failures are an alert.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct AlertSettings {
    /// The share of attempts within the window that may fail, 0 to 1. Rate limits (429) and overload count as failures.
    #[schemars(range(min = 0, max = 1))]
    pub error_rate: f64,
    /// No alert with fewer attempts than this within the window.
    #[schemars(range(min = 1))]
    pub min_attempts: u64,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { window: Period::secs(300), alert: AlertSettings::default() }
    }
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self { error_rate: 0.05, min_attempts: 20 }
    }
}

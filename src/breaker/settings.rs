//! Settings of the health registry and of the breakers.

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
    /// How targets are asked by the gateway itself.
    pub probe: ProbeSettings,
}

/// How targets are asked by the gateway itself: one cheap request (a list of models), only where a target was in use
/// lately or its breaker is open.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeSettings {
    /// How often; `0s` never asks.
    pub interval: Period,
    /// How long an answer is waited for.
    pub timeout: Period,
}

/// When a target is left alone for a while, and how it is tried again. Faults that count are those of the target: 5xx,
/// overload, no connection, deadlines of the attempt, garbage, answers that broke off. Not rate limits and refused keys,
/// which concern the key, and never the caller's own faults.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// Whether there are breakers at all.
    pub enabled: bool,
    /// So many failures in a row open it; 0 never does.
    pub consecutive: u32,
    /// A larger share of failures within the window opens it, 0 to 1; at 1 it never does.
    #[schemars(range(min = 0, max = 1))]
    pub failure_rate: f64,
    /// No judgement of the share with fewer attempts than this.
    #[schemars(range(min = 1))]
    pub min_attempts: u32,
    /// How far back the share reaches.
    pub window: Period,
    /// When slowness opens it. Without this, it never does.
    pub slow: Option<SlowSettings>,
    /// How long it stays open at first; doubled each time it opens again soon. Up to a fifth more by chance.
    pub cool_down: Period,
    /// The longest time that it stays open, before chance.
    pub max_cool_down: Period,
    /// After the cool-down, one attempt is let through, after a good one two at once, then four; so many good ones close
    /// it.
    #[schemars(range(min = 1, max = 16))]
    pub probes: u32,
}

/// When slowness opens a breaker: several checks in a row above a bound.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct SlowSettings {
    /// The bound for 95 of 100 attempts: to the first content of a stream, to the end of a whole answer.
    pub p95: Period,
    /// So many checks in a row.
    #[schemars(range(min = 1))]
    pub checks: u32,
    /// How often is checked.
    pub every: Period,
    /// No check with fewer attempts than this.
    #[schemars(range(min = 1))]
    pub min_attempts: u32,
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
        Self { window: Period::secs(300), alert: AlertSettings::default(), probe: ProbeSettings::default() }
    }
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self { error_rate: 0.05, min_attempts: 20 }
    }
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self { interval: Period::secs(30), timeout: Period::secs(5) }
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive: 7,
            failure_rate: 0.5,
            min_attempts: 20,
            window: Period::secs(30),
            slow: None,
            cool_down: Period::secs(5),
            max_cool_down: Period::secs(20),
            probes: 3,
        }
    }
}

impl Default for SlowSettings {
    fn default() -> Self {
        Self { p95: Period::secs(30), checks: 3, every: Period::secs(10), min_attempts: 5 }
    }
}

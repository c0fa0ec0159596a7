//! What can be configured.

use serde::Deserialize;

/// The plugin's `config:` block.
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Requests that take so long, or longer, get a line.
    pub slow_ms: Option<u32>,
    /// Requests that cost so much, or more, get a line.
    pub dear_micros: Option<u64>,
    /// The teams that are told apart; all, unless told.
    pub teams: Vec<String>,
}

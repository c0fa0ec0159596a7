//! Settings of logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is written to standard output and standard error.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// One JSON line for each request on standard output, with the decision record and without prompts.
    pub access: bool,
    /// Level of the operational log on standard error: `error`, `warn`, `info`, `debug`, or a filter such as
    /// `info,tollgate::upstream=debug`.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { access: true, level: "info".into() }
    }
}

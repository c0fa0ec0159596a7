//! Settings of the policy engine.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Period;

/// Where policies are and what they may cost. A plain string is the directory.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySettings {
    /// Directory of `*.rhai`, run in file-name order, watched.
    pub dir: PathBuf,
    /// What follows when a policy fails while running.
    pub on_error: OnError,
    /// Operations of one evaluation.
    pub max_operations: u64,
    /// Wall-clock time of one evaluation.
    pub deadline: Period,
    /// Whether the tests beside the policies (`*_test.rhai`, `tests/*.yaml`) run at start and at every reload: a set
    /// whose tests fail is not taken.
    pub tests: Switch,
    /// Wall-clock time of all these tests together.
    pub tests_deadline: Period,
}

/// On or off.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// It is done.
    #[default]
    On,
    /// It is left out.
    Off,
}

/// What follows when a policy fails while running. A policy file can say otherwise for itself with
/// `const ON_ERROR = "skip";`.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The request is answered 500 `policy_error`.
    #[default]
    Deny,
    /// The policy has no opinion on this request; the next one is asked.
    Skip,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("policies"),
            on_error: OnError::Deny,
            max_operations: 200_000,
            deadline: Period::millis(20),
            tests: Switch::On,
            tests_deadline: Period::secs(2),
        }
    }
}

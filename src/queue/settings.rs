//! Settings of lines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Period;

/// Requests that wait for a target because it is busy or the limits of its keys are used up, and no other target of
/// their plan has room.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// The most requests that wait for one target; with `0`, nobody waits. When a line is full, the newest request of
    /// the tenant who has most in it makes room for others.
    pub size: usize,
    /// The longest that a request waits. One that would wait longer, or beyond its own deadline, is refused at once.
    pub max_wait: Period,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { size: 512, max_wait: Period::secs(5) }
    }
}

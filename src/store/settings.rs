//! Settings of what is kept for `previous_response_id`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Bounds;
use crate::settings::{Period, Size};

/// Answers of the Responses API that are kept, in memory, for `previous_response_id` and `GET /v1/responses/{id}`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseSettings {
    /// How long an answer is kept after it was last used; `0s` keeps none.
    pub keep: Period,
    /// The most answers that are kept; those not used for longest go first. 0 keeps none.
    #[schemars(range(max = 10_000_000))]
    pub max_entries: usize,
    /// Memory for all kept answers and their requests together; those not used for longest go first.
    pub max_bytes: Size,
}

impl Default for ResponseSettings {
    fn default() -> Self {
        Self { keep: Period::secs(3_600), max_entries: 10_000, max_bytes: Size(256 << 20) }
    }
}

impl From<&ResponseSettings> for Bounds {
    fn from(settings: &ResponseSettings) -> Self {
        Self { keep: settings.keep.0, entries: settings.max_entries, bytes: settings.max_bytes.0 }
    }
}

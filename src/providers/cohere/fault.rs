//! What a failure of Cohere's means: flat objects of `id` and `message`. <https://docs.cohere.com/reference/errors>

use http::HeaderMap;
use serde_json::Value;

use crate::fault::{Fault, FaultKind};
use crate::providers::openai::fault as openai;

/// An error answer. `body` may be cut, may be HTML, may be empty.
pub(super) fn from_answer(status: u16, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Fault {
    let read_as = match status {
        // A token that is no longer valid; the request that the caller has left.
        498 => 401,
        499 => 504,
        other => return openai::from_answer(other, headers, body, now_ms),
    };
    openai::from_answer(read_as, headers, body, now_ms).answered(status)
}

/// An error object where an answer or a stream event was due.
pub(super) fn inside_success(value: &Value, now_ms: u64) -> Fault {
    openai::inside_success(value, now_ms)
}

/// An answer that is not what the protocol promises.
pub(super) fn malformed(message: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, message)
}

/// An answer that broke off.
pub(super) fn truncated() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's stream ended before its answer was complete")
}

/// An answer that does not say why it ended.
pub(super) fn unfinished() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's answer does not say why it ended")
}

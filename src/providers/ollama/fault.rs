//! What a failure of Ollama's means: a bare text under `error`. <https://docs.ollama.com/api/errors>

use http::HeaderMap;
use serde_json::Value;

use crate::fault::{Fault, FaultKind, Retry};
use crate::providers::openai::fault as openai;

/// An error answer. `body` may be cut, may be HTML, may be empty.
pub(super) fn from_answer(status: u16, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Fault {
    elsewhere(openai::from_answer(status, headers, body, now_ms))
}

/// An error object where an answer or a line of a stream was due.
pub(super) fn inside_success(value: &Value, now_ms: u64) -> Fault {
    elsewhere(openai::inside_success(value, now_ms))
}

/// A model that cannot do what is asked ("does not support tools") says nothing about the next one.
fn elsewhere(fault: Fault) -> Fault {
    let lacks = fault.kind == FaultKind::BadRequest && fault.message.contains("does not support");
    if lacks { fault.retry(Retry::Elsewhere) } else { fault }
}

/// An answer that is not what the protocol promises.
pub(super) fn malformed(message: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, message)
}

/// An answer that broke off.
pub(super) fn truncated() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's stream ended before its answer was complete")
}

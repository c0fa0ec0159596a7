//! Errors inside of a stream, in OpenAI's shape.

use serde_json::{Value, json};

use crate::api::openai_chat::{error_type, presentable};
use crate::fault::{Fault, FaultKind};

/// Longest message that a client is shown, in characters.
const MAX_MESSAGE: usize = 1024;

/// The `error` of a response that failed.
pub(super) fn response_error(fault: &Fault) -> Value {
    json!({ "code": code(fault), "message": presentable(&fault.message, MAX_MESSAGE) })
}

/// The `error` event. OpenAI documents its fields at the top and sends them in an object of their own; clients read
/// either, so both stand there.
pub(super) fn error_event(fault: &Fault, sequence: u64) -> Value {
    let (code, message) = (code(fault), presentable(&fault.message, MAX_MESSAGE));
    let param = fault.param.as_deref().map(|param| presentable(param, MAX_MESSAGE));
    let kind = error_type(fault.client_status());
    json!({
        "type": "error",
        "sequence_number": sequence,
        "code": code,
        "message": message,
        "param": param,
        "error": { "type": kind, "code": code, "message": message, "param": param },
    })
}

/// OpenAI's own word where clients decide by it whether to try again.
fn code(fault: &Fault) -> &str {
    match fault.kind {
        FaultKind::RateLimited if fault.code.is_none() => "rate_limit_exceeded",
        _ => fault.code_str(),
    }
}

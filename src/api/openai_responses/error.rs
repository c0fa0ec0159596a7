//! Errors inside of a stream, in OpenAI's shape.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::openai_chat::{error_type, presentable};
use crate::chat::Object;
use crate::fault::{Fault, FaultKind};
use crate::frames::sse_named;

/// Longest message that a client is shown, in characters.
const MAX_MESSAGE: usize = 1024;

/// The `error` of a response that failed.
fn response_error(fault: &Fault) -> Value {
    json!({ "code": code(fault), "message": presentable(&fault.message, MAX_MESSAGE) })
}

/// The `error` event. OpenAI documents its fields at the top and sends them in an object of their own; clients read
/// either, so both stand there.
fn error_event(fault: &Fault, sequence: u64) -> Value {
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

/// The `error` message of a conversation that does not begin.
pub(super) fn socket_error(fault: &Fault) -> Value {
    let mut event = error_event(fault, 0);
    event["status"] = fault.client_status().into();
    event
}

/// The events that end a stream with a fault: `response` as it began, told as failed.
pub(super) fn failed_events(fault: &Fault, sequence: u64, response: Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    sse_named(&mut out, "error", error_event(fault, sequence).to_string().as_bytes());
    let mut response = if let Value::Object(response) = response { response } else { Object::new() };
    response.insert("status".into(), "failed".into());
    response.insert("error".into(), response_error(fault));
    let failed = json!({ "type": "response.failed", "sequence_number": sequence + 1, "response": response });
    sse_named(&mut out, "response.failed", failed.to_string().as_bytes());
    out.into()
}

/// OpenAI's own word where clients decide by it whether to try again.
fn code(fault: &Fault) -> &str {
    match fault.kind {
        FaultKind::RateLimited if fault.code.is_none() => "rate_limit_exceeded",
        _ => fault.code_str(),
    }
}

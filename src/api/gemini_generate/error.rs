//! Errors in Google's shape: <https://google.aip.dev/193>

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::openai_chat::presentable;
use crate::fault::Fault;
use crate::frames::sse_data;

/// Longest message that a client is shown, in characters.
const MAX_MESSAGE: usize = 1024;

/// The body of an error response: `{"error":{"code","message","status","details"}}`.
pub(super) fn error_body(fault: &Fault) -> Vec<u8> {
    serde_json::to_vec(&error(fault)).unwrap_or_default()
}

/// The event that ends a stream with an error.
pub(super) fn fault_event(fault: &Fault) -> Bytes {
    let mut event = Vec::with_capacity(256);
    sse_data(&mut event, &error_body(fault));
    event.into()
}

/// The last element of a stream that is a JSON array. `begun`: whether there are others before it.
pub(super) fn fault_element(fault: &Fault, begun: bool) -> Bytes {
    let before = if begun { ",\r\n" } else { "[" };
    format!("{before}{}\r\n]", error(fault)).into()
}

fn error(fault: &Fault) -> Value {
    let status = fault.client_status();
    let reason = presentable(fault.code_str(), MAX_MESSAGE).to_ascii_uppercase();
    let mut details = vec![json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "tollgate",
    })];
    if let Some(after) = fault.after {
        let delay = format!("{}s", after.as_secs_f64());
        details.push(json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay }));
    }
    if let Some(param) = &fault.param {
        let violation = json!({ "field": presentable(param, MAX_MESSAGE) });
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [violation],
        }));
    }
    json!({ "error": {
        "code": status,
        "message": presentable(&fault.message, MAX_MESSAGE),
        "status": word(status),
        "details": details,
    }})
}

/// Google's word for an HTTP status.
fn word(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 | 405 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        400..=499 => "INVALID_ARGUMENT",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    #[test]
    fn an_array_is_one_wherever_it_breaks_off() {
        let fault = Fault::new(FaultKind::Truncated, "the provider's stream ended");
        for (before, begun, elements) in [("", false, 1), ("[{}", true, 2)] {
            let text = [before.as_bytes(), &fault_element(&fault, begun)].concat();
            let list: Vec<Value> = serde_json::from_slice(&text).unwrap();
            assert_eq!(list.len(), elements);
            assert!(list.last().unwrap()["error"]["code"].is_u64());
        }
    }
}

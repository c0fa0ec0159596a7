//! Errors in Anthropic's shape. <https://platform.claude.com/docs/en/api/errors>

use bytes::Bytes;
use serde_json::json;

use crate::api::openai_chat::presentable;
use crate::chat::THREAD;
use crate::fault::{Fault, FaultKind};
use crate::frames::sse_named;

/// Longest message that a client is shown, in characters.
const MAX_MESSAGE: usize = 1024;

/// The body of an error response: `{"type":"error","error":{"type","message"},"request_id"}`.
pub fn error_body(fault: &Fault, request_id: &str) -> Vec<u8> {
    let mut error = json!({ "type": error_type(fault), "message": presentable(&fault.message, MAX_MESSAGE) });
    if fault.code_str().starts_with(THREAD) {
        error["details"] = json!({ "error_code": fault.code_str() });
    }
    let body = json!({ "type": "error", "error": error, "request_id": request_id });
    serde_json::to_vec(&body).unwrap_or_default()
}

/// The event that ends a stream with an error. No `message_stop` follows.
pub(super) fn fault_event(fault: &Fault) -> Bytes {
    let body = json!({
        "type": "error",
        "error": { "type": error_type(fault), "message": presentable(&fault.message, MAX_MESSAGE) },
    });
    let mut event = Vec::with_capacity(256);
    sse_named(&mut event, "error", body.to_string().as_bytes());
    event.into()
}

/// Anthropic's error type for a fault.
pub fn error_type(fault: &Fault) -> &'static str {
    if matches!(fault.kind, FaultKind::Overloaded) {
        return "overloaded_error";
    }
    match fault.client_status() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fault::Phase;

    #[test]
    fn every_fault_has_one_of_anthropics_types() {
        for (kind, status, expected) in [
            (FaultKind::BadRequest, None, "invalid_request_error"),
            (FaultKind::ContextTooLong, None, "invalid_request_error"),
            (FaultKind::MethodNotAllowed, None, "invalid_request_error"),
            (FaultKind::Unauthorized, None, "authentication_error"),
            (FaultKind::Rejected, None, "permission_error"),
            (FaultKind::NotFound, None, "not_found_error"),
            (FaultKind::TooLarge, None, "request_too_large"),
            (FaultKind::RateLimited, None, "rate_limit_error"),
            (FaultKind::Overloaded, Some(529), "overloaded_error"),
            (FaultKind::NoTarget, None, "overloaded_error"),
            (FaultKind::Credentials, Some(401), "api_error"),
            (FaultKind::ServerError, Some(500), "api_error"),
            (FaultKind::Timeout(Phase::Total), None, "timeout_error"),
        ] {
            let mut fault = Fault::new(kind, "x");
            fault.status = status;
            assert_eq!(error_type(&fault), expected, "{kind:?} {status:?}");
        }
    }

    #[test]
    fn the_body_has_anthropics_shape() {
        let fault = Fault::bad_request("no such thing\r\n", "messages[0].role");
        let body: Value = serde_json::from_slice(&error_body(&fault, "req_1")).unwrap();
        let error = json!({"type": "invalid_request_error", "message": "no such thing\u{fffd} "});
        assert_eq!(body, json!({"type": "error", "error": error, "request_id": "req_1"}));
        let gone = Fault::bad_request("send all of it", "thread").code("thread_not_found");
        let body: Value = serde_json::from_slice(&error_body(&gone, "req_1")).unwrap();
        assert_eq!(body["error"]["details"], json!({"error_code": "thread_not_found"}));
        let event = fault_event(&fault);
        assert!(event.starts_with(b"event: error\ndata: {\"type\":\"error\",") && event.ends_with(b"}}\n\n"));
    }
}

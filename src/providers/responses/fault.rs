//! Failures inside of an answer: `response.error`, `response.failed`, and `error` events.

use serde_json::{Value, json};

use crate::fault::{Fault, FaultKind};
use crate::providers::openai;

/// What an error object means that stands in a response or in an event.
///
/// Codes are those of <https://platform.openai.com/docs/api-reference/responses/object#responses/object-error>
pub(super) fn inside(error: &Value, now_ms: u64) -> Fault {
    let text = |key: &str| error.get(key).and_then(Value::as_str);
    let Some(code) = text("code") else {
        return openai::fault::inside_success(&json!({ "error": error }), now_ms);
    };
    let status = match code {
        "image_content_policy_violation" | "bio_policy" | "cyber_policy" => {
            let message = "the provider's content filter refused the request";
            return Fault::new(FaultKind::ContentFiltered, message).code(code.to_owned());
        }
        "invalid_prompt" | "empty_image_file" | "unsupported_image_media_type" => 400,
        code if code.starts_with("invalid_") && !code.contains("key") => 400,
        code if code.contains("image_") => 400,
        "vector_store_timeout" | "server_error" => 500,
        _ => return openai::fault::inside_success(&json!({ "error": error }), now_ms),
    };
    let mut error = error.clone();
    if let Some(error) = error.as_object_mut() {
        error.insert("status".into(), status.into());
    }
    openai::fault::inside_success(&json!({ "error": error }), now_ms)
}

/// A response whose status says that it failed.
pub(super) fn failed(error: Option<&Value>, now_ms: u64) -> Fault {
    match error.filter(|error| !error.is_null()) {
        Some(error) => inside(error, now_ms),
        None => Fault::new(FaultKind::ServerError, "the provider broke the answer off with an error"),
    }
}

/// An `error` event, or anything else that stands where an event is due.
pub(super) fn event(value: &Value, now_ms: u64) -> Fault {
    match value.get("error") {
        Some(error @ Value::Object(_)) => inside(error, now_ms),
        // The documented form is flat; its `type` says no more than that it is an error.
        _ if value.get("code").is_some_and(Value::is_string) => inside(value, now_ms),
        _ => openai::fault::inside_success(value, now_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Retry;

    #[test]
    fn every_code_gets_its_kind() {
        use FaultKind as K;
        for (error, kind, retry) in [
            (json!({"code": "server_error", "message": "x"}), K::ServerError, Retry::Here),
            (json!({"code": "rate_limit_exceeded", "message": "slow"}), K::RateLimited, Retry::Here),
            (json!({"code": "invalid_prompt", "message": "no"}), K::BadRequest, Retry::Never),
            (json!({"code": "image_too_large", "message": "no"}), K::BadRequest, Retry::Never),
            (
                json!({"code": "image_content_policy_violation", "message": "no"}),
                K::ContentFiltered,
                Retry::Never,
            ),
            (
                json!({"code": "context_length_exceeded", "message": "too long"}),
                K::ContextTooLong,
                Retry::Elsewhere,
            ),
            (json!({"code": "insufficient_quota", "message": "pay"}), K::Credentials, Retry::Elsewhere),
            (json!({"message": "Model is overloaded", "type": "overloaded"}), K::Overloaded, Retry::Here),
        ] {
            let fault = inside(&error, 0);
            assert_eq!((fault.kind, fault.retry), (kind, retry), "{error}");
            let event = json!({"type": "error", "error": error, "sequence_number": 3});
            assert_eq!(super::event(&event, 0).kind, kind, "{event}");
        }
        assert_eq!(
            event(&json!({"type": "error", "code": "rate_limit_exceeded", "message": "m", "param": null}), 0)
                .kind,
            K::RateLimited
        );
        assert_eq!(failed(None, 0).kind, K::ServerError);
    }
}

//! What a failure of Anthropic's means. <https://platform.claude.com/docs/en/api/errors>
//!
//! The envelope is read by the same reader as OpenAI's: proxies in front of either answer in either form.

use http::HeaderMap;
use serde_json::Value;

use crate::chat::THREAD;
use crate::fault::{Fault, FaultKind, Phase, Retry, Whose};
use crate::providers::openai;

/// An error answer. `body` may be cut, may be HTML, may be empty.
pub(super) fn from_answer(status: u16, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Fault {
    let fault = openai::fault::from_answer(status, headers, body, now_ms);
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(code) = thread_code(&said).filter(|_| (400..500).contains(&status)) {
        // Another account may have the thread, and nothing is wrong with this one.
        let missing = Fault::new(FaultKind::BadRequest, fault.message).status(status).retry(Retry::Elsewhere);
        return missing.code(code);
    }
    let fault = match kind_in(&said).as_deref() {
        Some("billing_error") => broke(fault),
        _ => fault,
    };
    match headers.get("x-should-retry").map(http::HeaderValue::as_bytes) {
        Some(b"false") if fault.retry == Retry::Here => fault.retry(Retry::Elsewhere),
        Some(b"true") if fault.whose == Whose::Upstream && fault.kind != FaultKind::Credentials => {
            fault.retry(Retry::Here)
        }
        _ => fault,
    }
}

/// An error object where an answer or a stream event was due.
pub(super) fn inside_success(value: &Value, now_ms: u64) -> Fault {
    let fault = openai::fault::inside_success(value, now_ms);
    match kind_in(value).as_deref() {
        Some("overloaded_error") => fault.status(529),
        Some("billing_error") => broke(fault),
        Some("request_too_large") => {
            Fault::new(FaultKind::TooLarge, fault.message).status(413).retry(Retry::Elsewhere)
        }
        Some("timeout_error") => Fault::new(FaultKind::Timeout(Phase::FirstByte), "the provider timed out"),
        _ => fault,
    }
}

/// An answer that is not what the protocol promises.
pub(super) fn malformed(message: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, message)
}

/// A stream that ended without `message_stop`, or without saying why.
pub(super) fn truncated() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's stream ended before its answer was complete")
}

/// A whole answer without `stop_reason`, which Anthropic leaves null only in the first event of a stream.
pub(super) fn unfinished() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's answer does not say why it ended")
}

fn broke(fault: Fault) -> Fault {
    let broke =
        Fault::new(FaultKind::Credentials, "the gateway's account at the provider has no credit left")
            .status(402)
            .after(fault.after);
    // Whatever was answered, the client is shown a 402.
    match fault.status {
        Some(status) => broke.answered(status),
        None => broke,
    }
}

/// What is wrong with a conversation that the provider keeps: Anthropic's SDKs (2.12 of Python's) go on by this word.
fn thread_code(value: &Value) -> Option<String> {
    let code = value.pointer("/error/details/error_code")?.as_str()?;
    (code.starts_with(THREAD) && code.len() <= 64).then(|| code.to_owned())
}

fn kind_in(value: &Value) -> Option<String> {
    value.get("error")?.get("type")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_error_type_gets_its_kind() {
        use FaultKind as K;
        for (status, kind, message, expected, client) in [
            (400, "invalid_request_error", "messages.0: bad", K::BadRequest, 400),
            (
                400,
                "invalid_request_error",
                "prompt is too long: 210000 tokens > 200000 maximum",
                K::ContextTooLong,
                400,
            ),
            (
                400,
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 1 + 2 > 3",
                K::ContextTooLong,
                400,
            ),
            (
                400,
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API",
                K::Credentials,
                502,
            ),
            (401, "authentication_error", "invalid x-api-key", K::Credentials, 502),
            (402, "billing_error", "pay", K::Credentials, 402),
            (403, "billing_error", "pay", K::Credentials, 402),
            (408, "timeout_error", "late", K::Timeout(Phase::FirstByte), 504),
            (403, "permission_error", "no", K::Credentials, 502),
            (404, "not_found_error", "model: x", K::NotFound, 404),
            (413, "request_too_large", "Request exceeds the maximum size", K::TooLarge, 413),
            (429, "rate_limit_error", "slow down", K::RateLimited, 429),
            (500, "api_error", "Internal server error", K::ServerError, 500),
            (529, "overloaded_error", "Overloaded", K::Overloaded, 503),
        ] {
            let body = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#);
            let fault = from_answer(status, &HeaderMap::new(), body.as_bytes(), 0);
            assert_eq!((fault.kind, fault.client_status()), (expected, client), "{kind}: {fault}");
            assert_eq!(fault.status, Some(status), "{kind}: {fault}");
            let inside = inside_success(&serde_json::from_str(&body).unwrap(), 0);
            assert_eq!(inside.kind, expected, "inside: {kind}: {inside}");
            let unknown = fault.code.as_deref() == Some("model_not_found");
            assert_eq!(unknown, status == 404, "{kind}: OpenAI's code, for its clients");
        }
    }

    #[test]
    fn a_thread_that_is_gone_is_told_by_its_code() {
        for (status, kind) in
            [(404, "not_found_error"), (409, "conflict_error"), (400, "invalid_request_error")]
        {
            let body = json!({"type": "error", "error": {"type": kind, "message": "no usable thread",
                "details": {"error_code": "thread_not_found"}}});
            let fault = from_answer(status, &HeaderMap::new(), body.to_string().as_bytes(), 0);
            let told = (fault.kind, fault.client_status(), fault.retry, fault.code_str());
            assert_eq!(
                told,
                (FaultKind::BadRequest, status, Retry::Elsewhere, "thread_not_found"),
                "{status}"
            );
        }
    }

    #[test]
    fn the_provider_says_whether_to_come_back() {
        let body = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        for (status, said, expected) in [
            (529, None, Retry::Here),
            (529, Some("true"), Retry::Here),
            (529, Some("false"), Retry::Elsewhere),
            (401, Some("true"), Retry::Elsewhere),
            (400, Some("true"), Retry::Never),
            (409, None, Retry::Here),
            (409, Some("false"), Retry::Elsewhere),
            (425, None, Retry::Here),
        ] {
            let headers = said.map(|said| ("x-should-retry".parse().unwrap(), said.parse().unwrap()));
            let headers: HeaderMap = headers.into_iter().collect();
            assert_eq!(from_answer(status, &headers, body, 0).retry, expected, "{status} {said:?}");
        }
        let headers = [("retry-after".parse().unwrap(), "7".parse().unwrap())].into_iter().collect();
        let fault = from_answer(429, &headers, b"{}", 0);
        assert_eq!(fault.after, Some(std::time::Duration::from_secs(7)));
    }
}

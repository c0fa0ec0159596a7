//! What a failure of Google's API means: <https://ai.google.dev/gemini-api/docs/troubleshooting>

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use crate::chat::Object;
use crate::fault::{Fault, FaultKind, Phase, Retry};
use crate::providers::openai::fault::UNKNOWN_MODEL;
use crate::providers::{retry_after, scrub};

/// `{"error": {"code", "message", "status", "details"}}`, read.
#[derive(Debug, Default)]
struct Envelope {
    code: Option<u16>,
    message: String,
    status: String,
    /// `ErrorInfo.reason` of the details.
    reasons: Vec<String>,
    /// `RetryInfo.retryDelay` of the details.
    delay: Option<Duration>,
    /// `BadRequest.fieldViolations[0].field` of the details.
    field: Option<String>,
}

/// An error answer. `body` may be cut, may be HTML, may be empty.
pub(in crate::providers) fn from_answer(status: u16, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Fault {
    let value = serde_json::from_slice::<Value>(body).ok();
    if (200..300).contains(&status) {
        return match value {
            Some(value) => inside_success(&value),
            None => malformed("the provider's answer is not JSON"),
        };
    }
    if !(400..600).contains(&status) {
        return Fault::new(FaultKind::Malformed, format!("the provider answered with status {status}"));
    }
    let envelope = value.as_ref().and_then(read).unwrap_or_default();
    let after = retry_after::from_headers(headers, now_ms);
    classify(status, &envelope, after)
}

/// Whether a JSON object is an error and not an answer.
pub(super) fn is_error(object: &Object) -> bool {
    object.get("error").is_some_and(|error| !error.is_null())
}

/// An error object where an answer or a piece of a stream was due.
pub(super) fn inside_success(value: &Value) -> Fault {
    let Some(envelope) = read(value) else {
        return malformed("the provider's answer is not a generateContent answer");
    };
    let status = envelope.code.unwrap_or_else(|| status_of(&envelope.status));
    classify(status, &envelope, None)
}

/// An answer that is not what the protocol promises.
pub(super) fn malformed(message: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, message)
}

/// An answer that broke off.
pub(super) fn truncated() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's stream ended before its answer was complete")
}

/// A whole answer whose candidate does not say why it ended.
pub(super) fn unfinished() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's answer does not say why it ended")
}

/// Reads an error body; streams put it into a list of one.
fn read(value: &Value) -> Option<Envelope> {
    let error = match value {
        Value::Array(list) => list.first()?.get("error")?,
        other => other.get("error")?,
    };
    if let Value::String(message) = error {
        return Some(Envelope { message: message.clone(), ..Envelope::default() });
    }
    let error = error.as_object()?;
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let code = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let mut envelope = Envelope {
        code: code.filter(|code| (400..600).contains(code)),
        message: text("message"),
        status: text("status"),
        ..Envelope::default()
    };
    for detail in error.get("details").and_then(Value::as_array).into_iter().flatten() {
        if let Some(reason) = detail.get("reason").and_then(Value::as_str) {
            envelope.reasons.push(reason.to_owned());
        }
        if let Some(delay) = detail.get("retryDelay").and_then(Value::as_str) {
            envelope.delay = envelope.delay.or_else(|| seconds(delay));
        }
        let violation = detail.get("fieldViolations").and_then(|list| list.get(0)?.get("field")?.as_str());
        envelope.field = envelope.field.or_else(|| violation.map(str::to_owned));
    }
    Some(envelope)
}

/// Protobuf's duration: `48s`, `34.4s`.
fn seconds(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?.parse::<f64>().ok().filter(|n| n.is_finite())?;
    Some(retry_after::clamp(number))
}

/// Whether what was not found is a model, in the words of Gemini's API or of Vertex.
fn names_model(message: &str) -> bool {
    message.starts_with("models/") || message.starts_with("Publisher Model")
}

fn classify(status: u16, envelope: &Envelope, after: Option<Duration>) -> Fault {
    let kind = kind(status, envelope);
    let after = after.or(envelope.delay).or_else(|| retry_after::from_text(&envelope.message));
    if kind == FaultKind::Credentials {
        // Never the upstream's text: it may show a part of the key or the project's name.
        return Fault::new(kind, "the provider refused the gateway's credentials")
            .status(status)
            .after(after);
    }
    if let FaultKind::Timeout(_) = kind {
        return Fault::new(kind, "the provider timed out").answered(status).after(after);
    }
    let message =
        scrub::scrub(&envelope.message).unwrap_or_else(|| format!("the provider answered {status}"));
    let shown = if kind == FaultKind::ServerError && status < 500 { 502 } else { status };
    let fault = Fault::new(kind, message).status(shown).answered(status).after(after);
    let fault = match kind {
        FaultKind::NotFound if names_model(&envelope.message) => {
            fault.code(UNKNOWN_MODEL).retry(Retry::Elsewhere)
        }
        // Another target may know the model or take more.
        FaultKind::NotFound | FaultKind::TooLarge => fault.retry(Retry::Elsewhere),
        FaultKind::ServerError if status < 500 => fault.retry(Retry::Elsewhere),
        // A conflict (Google's ABORTED), and what came too early, pass.
        FaultKind::BadRequest if matches!(status, 409 | 425) => fault.retry(Retry::Here),
        _ => fault,
    };
    match &envelope.field {
        Some(field) if kind == FaultKind::BadRequest && is_path(field) && scrub::is_clean(field) => {
            fault.at(field.clone())
        }
        _ => fault,
    }
}

fn kind(status: u16, envelope: &Envelope) -> FaultKind {
    let reason = |words: &[&str]| envelope.reasons.iter().any(|reason| words.contains(&&**reason));
    let message = envelope.message.chars().take(4096).collect::<String>().to_ascii_lowercase();
    let mentions = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let key =
        reason(&["API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "ACCESS_TOKEN_EXPIRED"])
            || mentions(&["api key not valid", "api key expired", "api_key_invalid", "api key not found"]);
    match status {
        400 | 401 | 403 if key => FaultKind::Credentials,
        // What the request names is another project's, or gone; the key is good.
        403 if mentions(&["permission to access the file", "cachedcontent not found"]) => FaultKind::NotFound,
        401..=403 => FaultKind::Credentials,
        // The account: no billing, or a country without a free tier.
        400 if envelope.status == "FAILED_PRECONDITION"
            && mentions(&["billing", "location is not supported", "not available in your country"]) =>
        {
            FaultKind::Credentials
        }
        400 | 413 | 500
            if mentions(&[
                "exceeds the maximum number of tokens",
                "input token count",
                "input context is too long",
                "context length",
                "token limit",
            ]) =>
        {
            FaultKind::ContextTooLong
        }
        400 if mentions(&["safety", "prohibited_content", "responsible ai", "blocked by"])
            && !mentions(&["safety_setting", "safetysetting", "safety setting"]) =>
        {
            FaultKind::ContentFiltered
        }
        404 | 410 => FaultKind::NotFound,
        408 => FaultKind::Timeout(Phase::FirstByte),
        413 => FaultKind::TooLarge,
        429 => FaultKind::RateLimited,
        503 | 529 => FaultKind::Overloaded,
        // Not the client's doing: method, path and connection are the gateway's. 499 is Google's `CANCELLED`.
        405 | 406 | 407 | 411 | 412 | 416..=418 | 421 | 423 | 424 | 426 | 428 | 499 => FaultKind::ServerError,
        400..500 => FaultKind::BadRequest,
        _ if mentions(&["overloaded"]) => FaultKind::Overloaded,
        _ => FaultKind::ServerError,
    }
}

/// The HTTP status of Google's word: <https://google.aip.dev/193>
fn status_of(word: &str) -> u16 {
    match word {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => 400,
        "UNAUTHENTICATED" => 401,
        "PERMISSION_DENIED" => 403,
        "NOT_FOUND" => 404,
        "ABORTED" => 409,
        "RESOURCE_EXHAUSTED" => 429,
        "UNAVAILABLE" => 503,
        "DEADLINE_EXCEEDED" => 504,
        _ => 500,
    }
}

fn is_path(field: &str) -> bool {
    !field.is_empty()
        && field.len() <= 128
        && field.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fault::Then;

    fn of(status: u16, error: Value) -> Fault {
        from_answer(status, &HeaderMap::new(), json!({ "error": error }).to_string().as_bytes(), 0)
    }

    #[test]
    fn every_failure_gets_its_kind() {
        use FaultKind as K;
        for (status, error, kind, client) in [
            (
                400,
                json!({"message": "no", "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}),
                K::Credentials,
                502,
            ),
            (400, json!({"message": "API key expired. Please renew the API key."}), K::Credentials, 502),
            (403, json!({"message": "x", "status": "PERMISSION_DENIED"}), K::Credentials, 502),
            (
                403,
                json!({"message": "You do not have permission to access the File f or it may not exist."}),
                K::NotFound,
                403,
            ),
            (403, json!({"message": "CachedContent not found (or permission denied)"}), K::NotFound, 403),
            (
                403,
                json!({"message": "Permission 'x' denied on resource 'y' (or it may not exist)."}),
                K::Credentials,
                502,
            ),
            (400, json!({"message": "The prompt was blocked by a safety filter"}), K::ContentFiltered, 400),
            (400, json!({"message": "Invalid value at 'safety_settings[0].category'"}), K::BadRequest, 400),
            (
                400,
                json!({"message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."}),
                K::ContextTooLong,
                400,
            ),
            (400, json!({"message": "Invalid value at 'contents'"}), K::BadRequest, 400),
            (404, json!({"message": "models/x is not found", "status": "NOT_FOUND"}), K::NotFound, 404),
            (429, json!({"message": "quota", "status": "RESOURCE_EXHAUSTED"}), K::RateLimited, 429),
            (500, json!({"message": "internal", "status": "INTERNAL"}), K::ServerError, 500),
            (
                503,
                json!({"message": "The model is overloaded.", "status": "UNAVAILABLE"}),
                K::Overloaded,
                503,
            ),
            (
                499,
                json!({"message": "The operation was cancelled.", "status": "CANCELLED"}),
                K::ServerError,
                502,
            ),
            (405, json!({"message": "x"}), K::ServerError, 502),
            (504, json!({"message": "late", "status": "DEADLINE_EXCEEDED"}), K::ServerError, 504),
        ] {
            let fault = of(status, error.clone());
            assert_eq!((fault.kind, fault.client_status()), (kind, client), "{status} {error}");
            assert_eq!(fault.status, Some(status), "{error}");
        }
    }

    #[test]
    fn a_model_that_is_not_there_has_openais_code() {
        for (message, code) in [
            ("models/gemini-0 is not found for API version v1beta", Some("model_not_found")),
            ("Publisher Model `projects/p/models/x` was not found", Some("model_not_found")),
            ("Requested entity was not found.", None),
        ] {
            let fault = of(404, json!({"message": message, "status": "NOT_FOUND"}));
            assert_eq!((fault.code.as_deref(), fault.then()), (code, Then::NextTarget), "{message}");
        }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_is_gone_elsewhere() {
        for (status, then, client) in [
            (400, Then::Stop, 400),
            (404, Then::NextTarget, 404),
            (408, Then::NextTarget, 504),
            (409, Then::Retry, 409),
            (410, Then::NextTarget, 410),
            (425, Then::Retry, 425),
        ] {
            let fault = of(status, json!({"message": "no"}));
            assert_eq!((fault.then(), fault.client_status()), (then, client), "{status}");
            assert_eq!(fault.status, Some(status));
        }
        let aborted = inside_success(&json!({"error": {"message": "x", "status": "ABORTED"}}));
        assert_eq!(aborted.then(), Then::Retry);
    }

    #[test]
    fn a_pause_stands_in_the_details_or_in_the_text() {
        let info = json!({"message": "slow down", "details": [{"retryDelay": "34.4s"}]});
        assert_eq!(of(429, info).after, Some(Duration::from_millis(34_400)));
        let text = json!({"message": "Please retry in 48.9s."});
        assert_eq!(of(429, text).after, Some(Duration::from_millis(48_900)));
    }

    #[test]
    fn bodies_of_any_form_are_survived() {
        for body in
            ["", "<html>", "[]", "[{\"error\":{\"code\":503}}]", "{\"error\":\"x\"}", "null", "{\"error\":{"]
        {
            let fault = from_answer(503, &HeaderMap::new(), body.as_bytes(), 0);
            assert_eq!(fault.kind, FaultKind::Overloaded, "{body}");
            from_answer(200, &HeaderMap::new(), body.as_bytes(), 0);
            from_answer(302, &HeaderMap::new(), body.as_bytes(), 0);
        }
    }
}

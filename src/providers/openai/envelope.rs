//! The error objects of OpenAI-compatible vendors, whatever their shape, read into one.

use std::time::Duration;

use serde_json::Value;

use crate::chat::Object;
use crate::providers::retry_after;

/// What an error body says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Envelope {
    /// For people.
    pub(super) message: String,
    /// `type` in OpenAI's words.
    pub(super) kind: String,
    /// `code`, as text.
    pub(super) code: String,
    /// A status that the body names, 400 to 599.
    pub(super) status: Option<u16>,
    /// The request field at fault.
    pub(super) param: Option<String>,
    /// A pause that the body asks for.
    pub(super) after: Option<Duration>,
}

/// Reads an error body. `None` when it is no JSON or says nothing.
pub(super) fn parse(body: &[u8], now_ms: u64) -> Option<Envelope> {
    let value: Value = serde_json::from_slice(body)
        .ok()
        .or_else(|| serde_json::from_str(&String::from_utf8_lossy(body)).ok())?;
    read(&value, now_ms)
}

/// Reads an error object: OpenAI's envelope, the flat forms of vLLM, Mistral, DashScope and Cohere, the bare strings
/// of Hugging Face, xAI and Ollama, FastAPI's `detail`, Google's list of one.
pub(super) fn read(value: &Value, now_ms: u64) -> Option<Envelope> {
    match value {
        Value::String(text) => Some(Envelope { message: text.clone(), ..Envelope::default() }),
        Value::Array(list) => read(list.first()?, now_ms),
        Value::Object(outer) => from_object(outer, now_ms),
        _ => None,
    }
}

/// Whether a JSON object under status 200 is an error and not an answer.
pub(super) fn is_error(object: &Object) -> bool {
    match object.get("error") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(failed)) => return *failed,
        Some(Value::Object(error)) => return !error.is_empty(),
        Some(Value::String(error)) => return !error.is_empty(),
        Some(_) => return true,
    }
    if object.contains_key("choices") || object.contains_key("data") || object.contains_key("usage") {
        return false;
    }
    object.get("object").and_then(Value::as_str) == Some("error")
        || object.get("type").and_then(Value::as_str) == Some("error")
        || ["detail", "errors", "error_message"]
            .iter()
            .any(|key| object.get(*key).is_some_and(|v| !v.is_null()))
        || (object.contains_key("message")
            && ["code", "status", "type", "request_id", "id"].iter().any(|key| object.contains_key(*key)))
}

fn from_object(outer: &Object, now_ms: u64) -> Option<Envelope> {
    let mut envelope = Envelope::default();
    match outer.get("error") {
        Some(Value::Object(inner)) => take(&mut envelope, inner, now_ms),
        Some(Value::String(text)) => envelope.message.clone_from(text),
        Some(Value::Array(list)) => envelope.message = texts(list),
        _ => {}
    }
    take(&mut envelope, outer, now_ms);
    if envelope.after.is_none() {
        envelope.after = retry_after::from_text(&envelope.message);
    }
    (!envelope.message.is_empty() || !envelope.kind.is_empty() || !envelope.code.is_empty())
        .then_some(envelope)
}

/// Fills what is still empty from one level of the body.
fn take(envelope: &mut Envelope, object: &Object, now_ms: u64) {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let fill = |place: &mut String, text: &str| {
        if place.is_empty() && !text.is_empty() {
            text.clone_into(place);
        }
    };
    for key in ["message", "detail", "msg", "error_message", "errors"] {
        match object.get(key) {
            // Mistral has sent the list of flaws as JSON inside of the text; it may quote the prompt.
            Some(Value::String(text)) if text.trim_start().starts_with('{') => {
                match serde_json::from_str::<Value>(text) {
                    Ok(Value::Object(inner)) if envelope.message.is_empty() => take(envelope, &inner, now_ms),
                    _ => {}
                }
            }
            Some(Value::String(text)) => fill(&mut envelope.message, text),
            Some(Value::Array(list)) => from_list(envelope, list),
            Some(Value::Object(inner)) if envelope.message.is_empty() => take(envelope, inner, now_ms),
            _ => {}
        }
    }
    // DeepInfra: `{"detail": {"error": "…"}}`.
    fill(&mut envelope.message, text("error"));
    fill(&mut envelope.kind, text("type"));
    fill(&mut envelope.kind, text("error_type"));
    for key in ["code", "status", "status_code", "raw_status_code", "error_code"] {
        match object.get(key) {
            Some(Value::String(code)) => {
                fill(&mut envelope.code, code);
                envelope.status = envelope.status.or_else(|| status(code.parse().ok()));
            }
            Some(Value::Number(code)) => envelope.status = envelope.status.or_else(|| status(code.as_u64())),
            _ => {}
        }
    }
    if envelope.param.is_none() {
        envelope.param = object.get("param").and_then(Value::as_str).map(str::to_owned);
    }
    // Azure names the filter only inside: <https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter>
    if let Some(inner) = object.get("innererror").and_then(|inner| inner.get("code")).and_then(Value::as_str)
    {
        envelope.kind = format!("{} {inner}", envelope.kind);
    }
    if let Some(Value::Object(metadata)) = object.get("metadata") {
        from_metadata(envelope, metadata, now_ms);
    }
    if let Some(Value::Array(details)) = object.get("details") {
        // Google's RetryInfo.
        let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str());
        if let Some(seconds) = delay.and_then(|delay| delay.trim_end_matches('s').parse().ok()) {
            envelope.after = Some(retry_after::clamp(seconds));
        }
        if details.iter().any(|detail| detail.get("reason").is_some_and(|r| r == "API_KEY_INVALID")) {
            envelope.code = "API_KEY_INVALID".into();
        }
    }
}

/// OpenRouter: the upstream's own words and rate limit. <https://openrouter.ai/docs/api-reference/errors>
fn from_metadata(envelope: &mut Envelope, metadata: &Object, now_ms: u64) {
    if let Some(raw) = metadata.get("raw") {
        let inner = match raw {
            Value::String(text) => serde_json::from_str(text).ok().and_then(|value| read(&value, now_ms)),
            other => read(other, now_ms),
        };
        let told = inner.as_ref().map(|inner| inner.message.as_str()).or(raw.as_str()).unwrap_or_default();
        if !told.is_empty() && !envelope.message.contains(told) {
            envelope.message = if envelope.message.is_empty() {
                told.into()
            } else {
                format!("{}: {told}", envelope.message)
            };
        }
        if let Some(inner) = inner {
            envelope.kind = format!("{} {}", envelope.kind, inner.kind).trim().to_owned();
            envelope.after = envelope.after.or(inner.after);
            if envelope.code.is_empty() {
                envelope.code = inner.code;
            }
        }
    }
    let words = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    for key in ["error_type", "reason"] {
        if !words(key).is_empty() {
            envelope.kind = format!("{} {}", envelope.kind, words(key)).trim().to_owned();
        }
    }
    if metadata.get("reasons").is_some_and(Value::is_array) {
        envelope.kind.push_str(" content_filter");
    }
    let headers = metadata.get("headers");
    let header = |name: &str| headers.and_then(|headers| headers.get(name)).and_then(Value::as_str);
    let seconds = metadata.get("retry_after_seconds").and_then(Value::as_f64);
    let pause = seconds.map(retry_after::clamp);
    envelope.after = envelope
        .after
        .or(pause)
        .or_else(|| header("Retry-After").and_then(|value| value.parse().ok()).map(retry_after::clamp))
        .or_else(|| header("X-RateLimit-Reset").and_then(|value| retry_after::reset_value(value, now_ms)));
}

/// FastAPI's and Mistral's validation errors: `[{"loc": ["body", "x"], "msg": "…"}]`. Their `input` may hold a
/// piece of the prompt and is never read.
fn from_list(envelope: &mut Envelope, list: &[Value]) {
    if !envelope.message.is_empty() {
        return;
    }
    envelope.message = texts(list);
    envelope.param = list.first().and_then(location);
    if let Some(kind) = list.first().and_then(|first| first.get("type")).and_then(Value::as_str) {
        kind.clone_into(&mut envelope.kind);
    }
}

fn texts(list: &[Value]) -> String {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        other => {
            let text = other.get("msg").or_else(|| other.get("message"))?.as_str()?;
            Some(match location(other) {
                Some(place) => format!("{place}: {text}"),
                None => text.to_owned(),
            })
        }
    };
    list.iter().take(8).filter_map(one).collect::<Vec<_>>().join("; ")
}

fn location(error: &Value) -> Option<String> {
    let steps = error.get("loc")?.as_array()?;
    let mut path = String::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Value::String(name) if at == 0 && name == "body" => {}
            Value::String(name) if path.is_empty() => path.push_str(name),
            Value::String(name) => path = format!("{path}.{name}"),
            Value::Number(place) => path = format!("{path}[{place}]"),
            _ => {}
        }
    }
    (!path.is_empty()).then_some(path)
}

fn status(code: Option<u64>) -> Option<u16> {
    code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_vendors_envelope_is_opened() {
        for (body, message, kind, code) in [
            (json!({"error": {"message": "m", "type": "t", "param": null, "code": "c"}}), "m", "t", "c"),
            (json!({"error": {"message": "m", "code": 429}}), "m", "", ""),
            (
                json!({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}),
                "m",
                "BadRequestError",
                "",
            ),
            (
                json!({"object": "error", "message": "m", "type": "rate_limited", "code": "1300"}),
                "m",
                "rate_limited",
                "1300",
            ),
            (
                json!({"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "n"], "msg": "no", "input": "secret"}]}, "type": "invalid_request_error"}),
                "n: no",
                "extra_forbidden",
                "",
            ),
            (
                json!({"message": "{\"detail\":[{\"loc\":[\"body\",\"n\"],\"msg\":\"no\",\"input\":\"secret\"}]}", "code": "1000"}),
                "n: no",
                "",
                "1000",
            ),
            (json!({"detail": "Invalid API Key"}), "Invalid API Key", "", ""),
            (
                json!({"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "bad"}]}),
                "messages[0].role: bad",
                "",
                "",
            ),
            (json!({"code": "InvalidApiKey", "message": "m", "request_id": "r"}), "m", "", "InvalidApiKey"),
            (
                json!({"error": "Model is overloaded", "error_type": "overloaded"}),
                "Model is overloaded",
                "overloaded",
                "",
            ),
            (json!({"error": ["a", "b"]}), "a; b", "", ""),
            (json!({"code": "invalid-argument", "error": "m"}), "m", "", "invalid-argument"),
            (json!({"id": "x", "message": "m"}), "m", "", ""),
            (
                json!([{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}]),
                "m",
                "",
                "INVALID_ARGUMENT",
            ),
            (json!("plain"), "plain", "", ""),
        ] {
            let envelope = read(&body, 0).unwrap_or_else(|| panic!("{body}"));
            assert_eq!(
                (&*envelope.message, &*envelope.kind, &*envelope.code),
                (message, kind, code),
                "{body}"
            );
        }
    }

    #[test]
    fn openrouters_metadata_tells_the_pause_and_the_upstreams_words() {
        let body = json!({"error": {"code": 429, "message": "Provider returned error", "metadata": {
            "raw": "{\"error\":{\"message\":\"slow down\"}}", "headers": {"X-RateLimit-Reset": "5000"}}}});
        let envelope = read(&body, 0).unwrap();
        assert_eq!(envelope.message, "Provider returned error: slow down");
        assert_eq!((envelope.status, envelope.after), (Some(429), Some(Duration::from_secs(60))));
    }
}

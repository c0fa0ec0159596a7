//! What an upstream's failure means: kind, whose fault, where to try again, and what the client may read of it.

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use super::envelope::{self, Envelope};
use crate::fault::{Fault, FaultKind, Phase, Retry};
use crate::providers::{retry_after, scrub};

/// An error answer. `body` may be cut, may be HTML, may be empty.
pub(in crate::providers) fn from_answer(status: u16, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Fault {
    if (200..300).contains(&status) {
        return from_success(body, now_ms);
    }
    if !(400..600).contains(&status) {
        return Fault::new(FaultKind::Malformed, format!("the provider answered with status {status}"));
    }
    let envelope = envelope::parse(body, now_ms).unwrap_or_else(|| plain_text(headers, body));
    let after = retry_after::from_headers(headers, now_ms).or(envelope.after);
    classify(status, &envelope, after)
}

/// A body under status 200 that is no answer.
pub(super) fn from_success(body: &[u8], now_ms: u64) -> Fault {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => inside_success(&value, now_ms),
        Err(_) => malformed("the provider's answer is not JSON"),
    }
}

/// An error object where an answer or a stream event was due.
pub(in crate::providers) fn inside_success(value: &Value, now_ms: u64) -> Fault {
    let Some(envelope) = envelope::read(value, now_ms) else {
        return malformed("the provider's answer is not a chat completion");
    };
    let status = envelope.status.unwrap_or_else(|| guessed_status(&envelope));
    classify(status, &envelope, envelope.after)
}

/// An answer that is not what the protocol promises.
pub(in crate::providers) fn malformed(message: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, message)
}

/// An answer that broke off.
pub(in crate::providers) fn truncated() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's stream ended before its answer was complete")
}

/// A whole answer of which a choice does not say why it ended.
pub(super) fn unfinished() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's answer does not say why it ended")
}

/// A finish reason that says that the provider failed.
pub(super) fn failed_finish(raw: &str) -> Fault {
    let kind =
        if raw == "insufficient_system_resource" { FaultKind::Overloaded } else { FaultKind::ServerError };
    Fault::new(kind, "the provider broke the answer off with an error")
}

fn classify(status: u16, envelope: &Envelope, after: Option<Duration>) -> Fault {
    let kind = kind(status, envelope);
    let fault = match kind {
        FaultKind::Credentials => {
            // Never the upstream's text: it may show a part of the key.
            let fault = |message| Fault::new(kind, message).status(status).after(after);
            if !matches!(status, 401 | 403) && (is_broke(envelope) || status == 402) {
                // The code that OpenAI's clients know for it.
                return fault("the gateway's account at the provider has no quota left")
                    .code("insufficient_quota");
            }
            return fault("the provider refused the gateway's credentials");
        }
        FaultKind::Timeout(_) => {
            return Fault::new(kind, "the provider timed out").answered(status).after(after);
        }
        _ => Fault::new(kind, message(status, envelope))
            .status(shown_status(kind, status))
            .answered(status)
            .after(after),
    };
    let fault = match kind {
        // The request is too large for this account or model; another may take it.
        FaultKind::NotFound | FaultKind::TooLarge => fault.retry(Retry::Elsewhere),
        FaultKind::ServerError if status < 500 => fault.retry(Retry::Elsewhere),
        FaultKind::RateLimited if status == 413 || is_oversized(envelope) => fault.retry(Retry::Elsewhere),
        // The model failed to write a call that the provider could read; the next try may do better.
        FaultKind::BadRequest if says(envelope, &["tool_use_failed", "output_parse_failed"]) => {
            fault.retry(Retry::Here)
        }
        // A conflict, and what came too early, pass: OpenAI's own SDKs try again, too.
        FaultKind::BadRequest if matches!(status, 409 | 425) => fault.retry(Retry::Here),
        _ => fault,
    };
    let fault = match &envelope.param {
        Some(param)
            if fault.whose == crate::fault::Whose::Caller && is_path(param) && scrub::is_clean(param) =>
        {
            fault.at(param.clone())
        }
        _ => fault,
    };
    match kind {
        FaultKind::BadRequest | FaultKind::NotFound | FaultKind::RateLimited
            if is_code(&envelope.code) && scrub::is_clean(&envelope.code) =>
        {
            fault.code(envelope.code.clone())
        }
        FaultKind::NotFound if misses_model(envelope) => fault.code(UNKNOWN_MODEL),
        _ => fault,
    }
}

/// OpenAI's code for a model that it does not know.
pub(in crate::providers) const UNKNOWN_MODEL: &str = "model_not_found";

/// Whether a 404 is of the model. Anthropic says `model: claude-x`, Ollama and Cohere `model 'x' not found`.
fn misses_model(envelope: &Envelope) -> bool {
    is_unknown_model(envelope)
        || envelope.message.starts_with("model: ")
        || mentions(envelope, &["model"]) && mentions(envelope, &["not found"])
}

/// How vendors say under 400 that they do not take the key.
const REFUSED_KEY: &[&str] =
    &["incorrect api key provided", "api key not valid", "missing or invalid authorization header"];

fn kind(status: u16, envelope: &Envelope) -> FaultKind {
    let refused = matches!(status, 400 | 403 | 413 | 422 | 451 | 500) || status == 404;
    if refused && is_filtered(envelope) {
        return FaultKind::ContentFiltered;
    }
    if matches!(status, 400 | 413 | 422 | 500) && is_too_long(envelope) {
        return FaultKind::ContextTooLong;
    }
    if status == 402 || (status < 500 && is_broke(envelope)) {
        return FaultKind::Credentials;
    }
    let key_refused = ["invalid_api_key", "invalidapikey", "api_key_invalid", "invalid_authentication"];
    match status {
        401 | 403 => FaultKind::Credentials,
        400 if says(envelope, &key_refused) || mentions(envelope, REFUSED_KEY) => FaultKind::Credentials,
        400 | 404 if is_unknown_model(envelope) => FaultKind::NotFound,
        404 | 410 => FaultKind::NotFound,
        408 => FaultKind::Timeout(Phase::FirstByte),
        413 if says(envelope, &["rate_limit"]) => FaultKind::RateLimited,
        413 => FaultKind::TooLarge,
        429 => FaultKind::RateLimited,
        // 498 is Groq's "flex tier capacity exceeded": https://console.groq.com/docs/errors
        498 | 503 | 529 => FaultKind::Overloaded,
        // Method, path, host, connection and conditions are the gateway's choice, and what stands between: no client
        // can mend that, and another target may have nothing against it.
        405 | 406 | 407 | 411 | 412 | 416..=418 | 421 | 423 | 424 | 426 | 428 | 499 => FaultKind::ServerError,
        400..500 => FaultKind::BadRequest,
        _ if says(envelope, &["overloaded", "capacity_exceeded", "server_busy"]) => FaultKind::Overloaded,
        _ => FaultKind::ServerError,
    }
}

/// The status that the client sees: the upstream's own, where it fits the kind.
fn shown_status(kind: FaultKind, status: u16) -> u16 {
    match kind {
        FaultKind::ContextTooLong | FaultKind::ContentFiltered if status >= 500 || status == 403 => 400,
        FaultKind::Overloaded if status < 500 => 503,
        FaultKind::ServerError if status < 500 => 502,
        _ => status,
    }
}

/// For an error under status 200 that names no status.
fn guessed_status(envelope: &Envelope) -> u16 {
    for (status, words) in [
        (413, &["request_too_large"][..]),
        (429, &["rate_limit", "ratelimit", "throttl", "too_many_requests", "resource_exhausted"]),
        (402, &["insufficient_quota", "insufficient_balance", "billing"]),
        (503, &["overloaded", "unavailable", "capacity", "server_busy"]),
        (401, &["authentication", "invalid_api_key", "unauthorized"]),
        (403, &["permission"]),
        (404, &["not_found", "notfound"]),
        (400, &["invalid_request", "invalid_argument", "badrequest", "bad_request", "invalidparameter"]),
        (400, &["content_filter", "context_length", "data_inspection", "tool_use_failed"]),
    ] {
        if says(envelope, words) {
            return status;
        }
    }
    if is_filtered(envelope) || is_too_long(envelope) { 400 } else { 500 }
}

fn is_filtered(envelope: &Envelope) -> bool {
    const CODES: &[&str] = &[
        "content_filter",
        "content_policy",
        "responsibleaipolicyviolation",
        "data_inspection_failed",
        "datainspectionfailed",
        "moderation",
        "safety_violation",
        "content_blocked",
        "prompt_blocked",
    ];
    const WORDS: &[&str] = &[
        "content management policy",
        "content policy",
        "inappropriate content",
        "content filter",
        "flagged by our moderation",
        "requires moderation",
        "considered high risk",
        "content exists risk",
        "unsafe or sensitive content",
    ];
    says(envelope, CODES) || mentions(envelope, WORDS)
}

fn is_too_long(envelope: &Envelope) -> bool {
    const CODES: &[&str] = &[
        "context_length",
        "context_window",
        "too_many_prompt_tokens",
        "exceed_context_size",
        "tokens_limit_reached",
        "prompt_too_long",
        "input_too_long",
        "contextlengthexceeded",
        "max_prompt_tokens",
        // Cohere.
        "too_many_tokens",
    ];
    const WORDS: &[&str] = &[
        "maximum context length",
        "context length",
        "context window",
        "context size",
        "prompt is too long",
        "prompt too long",
        "maximum prompt length",
        "input is too long",
        "reduce the length of the messages",
        "reduce the length of the input",
        "range of input length should be",
        "input length exceeds",
        "exceeds the max_model_len",
        "total length of all messages is too long",
        "input tokens exceed",
        "exceeds the maximum number of tokens allowed",
        "token count exceeds",
        "exceeded model token limit",
        "too many input tokens",
        "tokens + `max_new_tokens`",
        "prompt exceeds",
        "exceeds max length",
        "exceed context limit",
        "too many tokens: ",
        "longer than the maximum model length",
        // TensorRT-LLM.
        "greater than 0, default_max_tokens",
        "should not exceed max_num_tokens",
        "exceeds maximum input length",
    ];
    says(envelope, CODES)
        || mentions(envelope, WORDS)
        // Text Generation Inference: "`inputs` must have less than 1024 tokens".
        || (mentions(envelope, &["must have less than"]) && mentions(envelope, &["tokens"]))
}

fn is_broke(envelope: &Envelope) -> bool {
    const CODES: &[&str] = &[
        "insufficient_quota",
        "insufficient_balance",
        "billing_hard_limit",
        "billing_not_active",
        "arrearage",
        "account_deactivated",
        "exceeded_current_quota",
        "insufficient_credits",
        "payment_required",
        // Groq.
        "organization_restricted",
    ];
    const WORDS: &[&str] = &[
        "insufficient balance",
        "insufficient credit",
        "insufficient account balance",
        "credit balance is too low",
        // Anthropic: the limit that the customer set, and an organisation that is closed.
        "specified api usage limits",
        "organization has been disabled",
        // Fireworks, DeepInfra.
        "spending limit",
        "enter a payment method",
    ];
    says(envelope, CODES)
        || mentions(envelope, WORDS)
        // Z.ai: https://docs.z.ai/api-reference/api-code
        || envelope.code == "1113"
}

fn is_unknown_model(envelope: &Envelope) -> bool {
    const CODES: &[&str] = &[
        "model_not_found",
        "modelnotfound",
        "deploymentnotfound",
        "invalid_model",
        "unknown_model",
        // Groq: gone, or not to be had before somebody has agreed to its terms.
        "model_decommissioned",
        "model_terms_required",
        // The router of Hugging Face.
        "model_not_supported",
        // Azure: the deployment's model has no such API.
        "operationnotsupported",
    ];
    const WORDS: &[&str] =
        &["model not exist", "no such model", "model does not exist", "endpoint is paused"];
    const OF_A_MODEL: &[&str] = &["does not exist", "not a valid model", "has been decommissioned"];
    says(envelope, CODES)
        || mentions(envelope, WORDS)
        || (mentions(envelope, &["model"]) && mentions(envelope, OF_A_MODEL))
}

/// A request that is larger than the whole limit: waiting does not help.
fn is_oversized(envelope: &Envelope) -> bool {
    mentions(envelope, &["request too large"])
}

fn says(envelope: &Envelope, words: &[&str]) -> bool {
    let lower =
        format!("{} {}", envelope.kind, envelope.code).to_ascii_lowercase().replace([' ', '-', '.'], "_");
    words.iter().any(|word| lower.contains(word))
}

fn mentions(envelope: &Envelope, words: &[&str]) -> bool {
    let head: String = envelope.message.chars().take(4096).collect::<String>().to_ascii_lowercase();
    words.iter().any(|word| head.contains(word))
}

fn message(status: u16, envelope: &Envelope) -> String {
    scrub::scrub(&envelope.message).unwrap_or_else(|| format!("the provider answered {status}"))
}

/// A body that is no JSON: shown only when it is declared to be plain text.
fn plain_text(headers: &HeaderMap, body: &[u8]) -> Envelope {
    let content_type = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let shown = content_type.is_none_or(|kind| kind.starts_with("text/plain") || kind.contains("json"));
    let head = body.get(..body.len().min(4096)).unwrap_or(body);
    let text = String::from_utf8_lossy(head);
    // JSON that was cut or broken is not for the client's eyes.
    let presentable = shown && !text.trim_start().starts_with(['{', '[']) && !text.contains('\u{fffd}');
    Envelope { message: if presentable { text.into_owned() } else { String::new() }, ..Envelope::default() }
}

fn is_code(code: &str) -> bool {
    let mut chars = code.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && code.len() <= 64
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn is_path(param: &str) -> bool {
    !param.is_empty()
        && param.len() <= 128
        && param.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Counts, Then};

    fn of(status: u16, body: &str) -> Fault {
        from_answer(status, &HeaderMap::new(), body.as_bytes(), 0)
    }

    #[test]
    fn every_failure_gets_its_kind() {
        use FaultKind as K;
        for (status, body, kind, client) in [
            (
                400,
                r#"{"error":{"message":"bad","type":"invalid_request_error","param":"n","code":null}}"#,
                K::BadRequest,
                400,
            ),
            (400, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, K::ContextTooLong, 400),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 10 tokens","code":"invalid_request_error"}}"#,
                K::ContextTooLong,
                400,
            ),
            (
                400,
                r#"{"error":{"message":"The total length of all messages is too long.","type":"too_many_prompt_tokens","code":400}}"#,
                K::ContextTooLong,
                400,
            ),
            (
                400,
                r#"{"message":"too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 9000."}"#,
                K::ContextTooLong,
                400,
            ),
            (
                400,
                r#"{"error":{"message":"The decoder prompt (length 9000) is longer than the maximum model length of 4096.","type":"BadRequestError","code":400}}"#,
                K::ContextTooLong,
                400,
            ),
            (
                400,
                r#"{"object":"error","message":"default_max_tokens (-300) must be greater than 0, default_max_tokens (-300) = max_seq_len (8192) - splited_prompt_len (8492)","type":"BadRequestError","code":400}"#,
                K::ContextTooLong,
                400,
            ),
            (
                400,
                r#"{"object":"error","message":"The sum of prompt length (9000.0), query length (0) should not exceed max_num_tokens (8192)","code":400}"#,
                K::ContextTooLong,
                400,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (8 tokens)","type":"exceed_context_size_error"}}"#,
                K::ContextTooLong,
                400,
            ),
            (
                413,
                r#"{"error":{"code":"tokens_limit_reached","message":"Request body too large for gpt-4o model. Max size: 8000 tokens."}}"#,
                K::ContextTooLong,
                413,
            ),
            (
                400,
                r#"{"error":{"message":"x","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
                K::ContentFiltered,
                400,
            ),
            (
                400,
                r#"{"error":{"code":"1301","message":"System detected potentially unsafe or sensitive content in input or generation."}}"#,
                K::ContentFiltered,
                400,
            ),
            (
                400,
                r#"{"code":"DataInspectionFailed","message":"Input data may contain inappropriate content.","request_id":"1"}"#,
                K::ContentFiltered,
                400,
            ),
            (
                403,
                r#"{"error":{"code":403,"message":"requires moderation","metadata":{"reasons":["x"]}}}"#,
                K::ContentFiltered,
                400,
            ),
            (
                400,
                r#"{"error":{"message":"Model Not Exist","type":"invalid_request_error","code":"invalid_request_error"}}"#,
                K::NotFound,
                400,
            ),
            (400, r#"{"code":"Arrearage","message":"Access denied."}"#, K::Credentials, 502),
            (
                400,
                r#"[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]"#,
                K::Credentials,
                502,
            ),
            (401, r#"{"detail":"Invalid API Key"}"#, K::Credentials, 502),
            (
                402,
                r#"{"error":{"message":"Insufficient Balance","code":"invalid_request_error"}}"#,
                K::Credentials,
                402,
            ),
            (403, "", K::Credentials, 502),
            (404, r#"{"error":{"code":"DeploymentNotFound","message":"no"}}"#, K::NotFound, 404),
            (404, "<html>", K::NotFound, 404),
            (408, "", K::Timeout(Phase::FirstByte), 504),
            (409, r#"{"error":{"message":"locked"}}"#, K::BadRequest, 409),
            (410, "", K::NotFound, 410),
            (413, "", K::TooLarge, 413),
            (
                413,
                r#"{"error":{"message":"Request too large for model on tokens per minute (TPM)","type":"tokens","code":"rate_limit_exceeded"}}"#,
                K::RateLimited,
                413,
            ),
            (
                422,
                r#"{"object":"error","message":{"detail":[{"loc":["body","n"],"msg":"no"}]}}"#,
                K::BadRequest,
                422,
            ),
            (
                429,
                r#"{"error":{"message":"slow","type":"requests","code":"rate_limit_exceeded"}}"#,
                K::RateLimited,
                429,
            ),
            (
                429,
                r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                K::Credentials,
                429,
            ),
            (
                400,
                r#"{"error":{"message":"The model `x` has been decommissioned","code":"model_decommissioned"}}"#,
                K::NotFound,
                400,
            ),
            (
                400,
                r#"{"error":{"message":"The requested model 'x' is not supported by any provider you have enabled.","code":"model_not_supported"}}"#,
                K::NotFound,
                400,
            ),
            (
                400,
                r#"{"error":{"code":"OperationNotSupported","message":"The chatCompletion operation does not work with the specified model"}}"#,
                K::NotFound,
                400,
            ),
            (
                400,
                r#"{"error":{"message":"The model requires terms acceptance","code":"model_terms_required"}}"#,
                K::NotFound,
                400,
            ),
            (
                400,
                r#"{"error":"Bad Request: The endpoint is paused, ask a maintainer to restart it"}"#,
                K::NotFound,
                400,
            ),
            (
                400,
                r#"{"error":{"message":"Organization has been restricted.","code":"organization_restricted"}}"#,
                K::Credentials,
                502,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01"}}"#,
                K::Credentials,
                502,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."}}"#,
                K::Credentials,
                502,
            ),
            (
                412,
                r#"{"error":{"message":"Account x is suspended, possibly due to reaching the monthly spending limit"}}"#,
                K::Credentials,
                502,
            ),
            (
                422,
                r#"{"detail":{"error":"inference prohibited, please enter a payment method in your account"}}"#,
                K::Credentials,
                502,
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"Missing or invalid Authorization header.","status":"INVALID_ARGUMENT"}}]"#,
                K::Credentials,
                502,
            ),
            (
                400,
                r#"{"error":{"message":"API key not valid. Please pass a valid API key."}}"#,
                K::Credentials,
                502,
            ),
            (
                422,
                r#"{"error":"Input validation error: `inputs` must have less than 1024 tokens. Given: 2000"}"#,
                K::ContextTooLong,
                422,
            ),
            (405, "", K::ServerError, 502),
            (407, "", K::ServerError, 502),
            (412, r#"{"error":{"message":"no"}}"#, K::ServerError, 502),
            (415, "", K::BadRequest, 415),
            (421, "", K::ServerError, 502),
            (424, r#"{"error":{"code":"FailedDependency","message":"x"}}"#, K::ServerError, 502),
            (451, "", K::BadRequest, 451),
            (499, "", K::ServerError, 502),
            (498, "", K::Overloaded, 503),
            (500, "", K::ServerError, 500),
            (500, r#"{"error":"Model is overloaded","error_type":"overloaded"}"#, K::Overloaded, 500),
            (502, "<html><title>502</title></html>", K::ServerError, 502),
            (503, "", K::Overloaded, 503),
            (529, "", K::Overloaded, 503),
            (999, "", K::Malformed, 502),
            (302, "", K::Malformed, 502),
            (200, r#"{"error":{"message":"x","type":"server_error"}}"#, K::ServerError, 500),
            (200, r#"{"error":{"message":"x","type":"rate_limit_error"}}"#, K::RateLimited, 429),
            (200, r#"{"error":{"message":"x","code":502}}"#, K::ServerError, 502),
            (200, "oops", K::Malformed, 502),
        ] {
            let fault = of(status, body);
            assert_eq!((fault.kind, fault.client_status()), (kind, client), "{status} {body}");
        }
    }

    #[test]
    fn the_status_that_was_answered_is_kept_whatever_the_client_is_shown() {
        for (status, shown) in [(403, 502), (405, 502), (408, 504), (422, 422), (426, 502), (498, 503)] {
            let fault = of(status, "");
            assert_eq!((fault.status, fault.client_status()), (Some(status), shown), "{status}");
        }
    }

    #[test]
    fn what_passes_is_tried_again_and_counts_against_nobody() {
        for (status, then, counts) in [
            (400, Then::Stop, Counts::Nobody),
            (408, Then::NextTarget, Counts::Target),
            (409, Then::Retry, Counts::Nobody),
            (410, Then::NextTarget, Counts::Nobody),
            (421, Then::NextTarget, Counts::Target),
            (422, Then::Stop, Counts::Nobody),
            (425, Then::Retry, Counts::Nobody),
        ] {
            let fault = of(status, r#"{"error":{"message":"no"}}"#);
            assert_eq!((fault.then(), fault.counts()), (then, counts), "{status}");
        }
    }

    #[test]
    fn the_client_reads_nothing_that_it_must_not() {
        for (status, body, expected) in [
            (
                401,
                r#"{"error":{"message":"Incorrect API key provided: sk-abc"}}"#,
                "the provider refused the gateway's credentials",
            ),
            (502, "<html><body>nginx 10.0.0.1</body></html>", "the provider answered 502"),
            (
                400,
                r#"{"error":{"message":"bad key sk-0123456789abcdef, see https://internal/x"}}"#,
                "bad key [redacted], see [url]",
            ),
            (500, "Internal Server Error", "Internal Server Error"),
            (500, r#"{"error":{"mess"#, "the provider answered 500"),
            (400, "", "the provider answered 400"),
        ] {
            assert_eq!(of(status, body).message, expected, "{body}");
        }
    }

    #[test]
    fn codes_and_fields_that_look_like_keys_are_none() {
        for (word, kept) in [
            ("sk-proj-abcDEF123456", None),
            ("token.internal", None),
            ("rate_limit_exceeded", Some("rate_limit_exceeded")),
        ] {
            for status in [400, 429] {
                let fault = of(
                    status,
                    &serde_json::json!({"error": {"message": "x", "code": word, "param": word}}).to_string(),
                );
                assert_eq!(fault.code.as_deref(), kept, "{status}");
                assert_eq!(fault.param.as_deref(), kept.filter(|_| status == 400), "{status}");
            }
        }
    }

    #[test]
    fn a_validation_error_names_its_field() {
        let fault = of(
            422,
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","store"],"msg":"Extra inputs are not permitted","input":"the prompt"}]}"#,
        );
        assert_eq!(fault.param.as_deref(), Some("store"));
        assert_eq!(fault.message, "store: Extra inputs are not permitted");
    }
}

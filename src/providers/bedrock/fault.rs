//! What a failure of Bedrock's means: <https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html>
//!
//! AWS names the exception in a header or in the body, and in streams in a header of the message. What the name does
//! not decide is read as OpenAI-compatible vendors' texts are: the models' own complaints come through.

use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};

use crate::fault::{Fault, FaultKind, Phase, Retry};
use crate::frames::AwsMessage;
use crate::providers::{openai, retry_after, scrub};

/// An error answer. `body` may be cut, may be HTML, may be empty.
pub(super) fn from_answer(status: u16, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Fault {
    let value = serde_json::from_slice::<Value>(body).unwrap_or_default();
    if !(400..600).contains(&status) {
        return openai::fault::from_answer(status, headers, body, now_ms);
    }
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let name = name_of(header.or_else(|| value.get("__type").and_then(Value::as_str)).unwrap_or_default());
    let Some(said) = Said::read(&name, &value).filter(|_| !value.is_null() || !name.is_empty()) else {
        return openai::fault::from_answer(status, headers, body, now_ms);
    };
    let after = retry_after::from_headers(headers, now_ms);
    said.fault().unwrap_or_else(|| said.by_status(status, headers, now_ms)).answered(status).after(after)
}

/// An error object where an answer was due.
pub(super) fn inside_success(value: &Value) -> Fault {
    let name = name_of(value.get("__type").and_then(Value::as_str).unwrap_or_default());
    match Said::read(&name, value) {
        Some(said) => said.fault().unwrap_or_else(|| said.by_status(400, &HeaderMap::new(), 0)),
        None => malformed("the provider's answer is not a Converse answer"),
    }
}

/// What a message of a stream says went wrong, if it says so.
pub(super) fn of_message(message: &AwsMessage) -> Option<Fault> {
    match message.header(":message-type") {
        Some("exception") => {
            Some(in_stream(message.header(":exception-type").unwrap_or_default(), &message.payload))
        }
        Some("error") => {
            let body = json!({ "message": message.header(":error-message") }).to_string();
            Some(in_stream(message.header(":error-code").unwrap_or_default(), body.as_bytes()))
        }
        _ => None,
    }
}

/// An exception inside a stream.
fn in_stream(name: &str, payload: &[u8]) -> Fault {
    let value = serde_json::from_slice::<Value>(payload).unwrap_or_default();
    let name = name_of(name);
    let said = Said { message: message(&value), original: original(&value), name: &name };
    let status = if name.starts_with("validation") { 400 } else { 500 };
    said.fault().unwrap_or_else(|| said.by_status(status, &HeaderMap::new(), 0))
}

/// An answer that is not what the protocol promises.
pub(super) fn malformed(message: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, message)
}

/// A stream that ended before its answer was complete.
pub(super) fn truncated() -> Fault {
    Fault::new(FaultKind::Truncated, "the provider's stream ended before its answer was complete")
}

/// What an error says.
struct Said<'a> {
    /// The exception's name in lower case without `exception`.
    name: &'a str,
    message: String,
    /// The status with which the model answered Bedrock.
    original: Option<u16>,
}

impl<'a> Said<'a> {
    fn read(name: &'a str, value: &Value) -> Option<Self> {
        let message = message(value);
        let says = !name.is_empty() || !message.is_empty();
        says.then(|| Self { name, message, original: original(value) })
    }

    /// What the exception's name decides.
    fn fault(&self) -> Option<Fault> {
        let fault = |kind, status| Fault::new(kind, self.text()).status(status);
        Some(match self.name {
            // A quota of a day does not pass while one waits.
            "throttling" | "toomanyrequests" | "requestlimitexceeded" if self.mentions(&["per day"]) => {
                fault(FaultKind::RateLimited, 429).retry(Retry::Elsewhere)
            }
            "throttling" | "toomanyrequests" | "requestlimitexceeded" => {
                fault(FaultKind::RateLimited, 429).after(retry_after::from_text(&self.message))
            }
            "servicequotaexceeded" => fault(FaultKind::RateLimited, 429).retry(Retry::Elsewhere),
            // An imported model that is loaded on demand.
            "modelnotready" => fault(FaultKind::Overloaded, 503).after(Some(Duration::from_secs(5))),
            "serviceunavailable" => fault(FaultKind::Overloaded, 503),
            "modeltimeout" => Fault::new(FaultKind::Timeout(Phase::FirstByte), "the provider timed out"),
            "internalserver" | "internalfailure" | "internalservererror" => {
                fault(FaultKind::ServerError, 500)
            }
            "modelerror" | "modelstreamerror" => match self.original {
                Some(429) => fault(FaultKind::RateLimited, 429),
                Some(503 | 529) => fault(FaultKind::Overloaded, 503),
                _ => fault(FaultKind::ServerError, 502),
            },
            "resourcenotfound" => self.unknown_model(),
            "accessdenied" if self.mentions(&["access to the model", "model access"]) => {
                let text = "the gateway's account has no access to this model";
                Fault::new(FaultKind::NotFound, text).code("model_not_found").retry(Retry::Elsewhere)
            }
            name if CREDENTIALS.contains(&name) => {
                // Never AWS's text: it shows names of accounts and roles.
                Fault::new(FaultKind::Credentials, "the provider refused the gateway's credentials")
                    .status(403)
            }
            "validation" if self.mentions(UNKNOWN_MODEL) => self.unknown_model(),
            "validation" if self.mentions(TOO_LONG) => fault(FaultKind::ContextTooLong, 400),
            "validation" if self.mentions(FILTERED) => fault(FaultKind::ContentFiltered, 400),
            _ => return None,
        })
    }

    /// What the status and the words decide.
    fn by_status(&self, status: u16, headers: &HeaderMap, now_ms: u64) -> Fault {
        let body = json!({ "message": self.message }).to_string();
        openai::fault::from_answer(status, headers, body.as_bytes(), now_ms)
    }

    fn unknown_model(&self) -> Fault {
        Fault::new(FaultKind::NotFound, self.text()).code("model_not_found").retry(Retry::Elsewhere)
    }

    fn text(&self) -> String {
        scrub::scrub(&self.message).unwrap_or_else(|| format!("the provider answered with {}", self.name))
    }

    fn mentions(&self, words: &[&str]) -> bool {
        let head: String = self.message.chars().take(4096).collect::<String>().to_ascii_lowercase();
        words.iter().any(|word| head.contains(word))
    }
}

/// The account, its keys, its permissions or its signature.
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html>
const CREDENTIALS: &[&str] = &[
    "accessdenied",
    "expiredtoken",
    "incompletesignature",
    "invalidclienttokenid",
    "invalidsignature",
    "missingauthenticationtoken",
    "notauthorized",
    "optinrequired",
    "requestexpired",
    "signaturedoesnotmatch",
    "unrecognizedclient",
];

const UNKNOWN_MODEL: &[&str] = &[
    "model identifier is invalid",
    "on-demand throughput isn",
    "on-demand throughput is not",
    "model is not supported",
    "inference profile",
];

const TOO_LONG: &[&str] = &[
    "input is too long",
    "prompt is too long",
    "too many input tokens",
    "too many total text bytes",
    "exceed context limit",
    "context window",
    "context length",
    "maximum number of input tokens",
    "input tokens exceeded",
];

const FILTERED: &[&str] =
    &["content filter", "blocked by our content", "responsible ai", "guardrail was enabled"];

/// `com.amazon.coral.service#AccessDeniedException`, `ThrottlingException:http://…` as `accessdenied`, `throttling`.
fn name_of(text: &str) -> String {
    let name = text.rsplit('#').next().unwrap_or(text);
    let name = name.split(':').next().unwrap_or(name).trim().to_ascii_lowercase();
    name.strip_suffix("exception").unwrap_or(&name).to_owned()
}

fn message(value: &Value) -> String {
    let keys = ["message", "Message", "originalMessage", "errorMessage"];
    let text = keys.iter().find_map(|key| value.get(*key)?.as_str());
    text.unwrap_or_default().to_owned()
}

fn original(value: &Value) -> Option<u16> {
    value.get("originalStatusCode")?.as_u64().and_then(|status| u16::try_from(status).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, name: &str, message: &str) -> Fault {
        let headers = [("x-amzn-errortype".parse().unwrap(), name.parse().unwrap())].into_iter().collect();
        from_answer(status, &headers, json!({ "message": message }).to_string().as_bytes(), 0)
    }

    #[test]
    fn every_exception_gets_its_kind() {
        use FaultKind as K;
        for (status, name, message, kind, client) in [
            (
                429,
                "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/",
                "Too many requests",
                K::RateLimited,
                429,
            ),
            (400, "ServiceQuotaExceededException", "quota", K::RateLimited, 429),
            (429, "ModelNotReadyException", "Model is not ready", K::Overloaded, 503),
            (408, "ModelTimeoutException", "slow", K::Timeout(Phase::FirstByte), 504),
            (424, "ModelErrorException", "broken", K::ServerError, 502),
            (500, "InternalServerException", "oops", K::ServerError, 500),
            (503, "ServiceUnavailableException", "busy", K::Overloaded, 503),
            (
                403,
                "AccessDeniedException",
                "User: arn:aws:iam::1:user/x is not authorized",
                K::Credentials,
                502,
            ),
            (
                403,
                "AccessDeniedException",
                "You don't have access to the model with the specified model ID.",
                K::NotFound,
                404,
            ),
            (
                403,
                "ExpiredTokenException",
                "The security token included in the request is expired",
                K::Credentials,
                502,
            ),
            (
                403,
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
                K::Credentials,
                502,
            ),
            (
                403,
                "InvalidSignatureException",
                "The request signature we calculated does not match",
                K::Credentials,
                502,
            ),
            (400, "ValidationException", "Input is too long for requested model.", K::ContextTooLong, 400),
            (
                400,
                "ValidationException",
                "The model returned the following errors: prompt is too long: 210000 tokens > 200000 maximum",
                K::ContextTooLong,
                400,
            ),
            (400, "ValidationException", "The provided model identifier is invalid.", K::NotFound, 404),
            (
                400,
                "ValidationException",
                "Invocation of model ID x with on-demand throughput isn’t supported.",
                K::NotFound,
                404,
            ),
            (400, "ValidationException", "Output blocked by our content filters.", K::ContentFiltered, 400),
            (400, "ValidationException", "messages.0: bad", K::BadRequest, 400),
            (404, "ResourceNotFoundException", "Could not resolve the foundation model", K::NotFound, 404),
            (404, "UnknownOperationException", "", K::NotFound, 404),
        ] {
            let fault = of(status, name, message);
            assert_eq!((fault.kind, fault.client_status()), (kind, client), "{name}: {message}: {fault}");
            assert_eq!(fault.status, Some(status), "{name}: {message}: {fault}");
            if kind == K::Credentials {
                assert!(!fault.message.contains("arn"), "{fault}");
            }
        }
    }

    #[test]
    fn the_name_may_stand_in_the_body() {
        let body = br#"{"__type":"com.amazon.coral.service#ThrottlingException","message":"Too many tokens per day, please wait before trying again."}"#;
        let fault = from_answer(400, &HeaderMap::new(), body, 0);
        assert_eq!((fault.kind, fault.retry), (FaultKind::RateLimited, Retry::Elsewhere));
        let body = br#"{"Message":"The security token included in the request is invalid"}"#;
        assert_eq!(from_answer(403, &HeaderMap::new(), body, 0).kind, FaultKind::Credentials);
        let bare = br#"{"__type":"com.amazon.coral.service#UnrecognizedClientException","message":"x"}"#;
        assert_eq!(inside_success(&serde_json::from_slice(bare).unwrap()).kind, FaultKind::Credentials);
    }

    #[test]
    fn bodies_of_any_form_are_survived() {
        for body in ["", "<html>", "[]", "null", "\"x\"", "{\"message\":{}}", "{\"message\":"] {
            let fault = from_answer(503, &HeaderMap::new(), body.as_bytes(), 0);
            assert_eq!(fault.kind, FaultKind::Overloaded, "{body}");
            from_answer(200, &HeaderMap::new(), body.as_bytes(), 0);
            from_answer(302, &HeaderMap::new(), body.as_bytes(), 0);
        }
    }

    #[test]
    fn exceptions_in_streams_have_the_same_meaning() {
        use FaultKind as K;
        for (name, payload, kind) in [
            ("throttlingException", r#"{"message":"Too many requests"}"#, K::RateLimited),
            ("modelStreamErrorException", r#"{"message":"x","originalStatusCode":503}"#, K::Overloaded),
            ("modelStreamErrorException", r#"{"originalMessage":"x"}"#, K::ServerError),
            ("internalServerException", "{}", K::ServerError),
            ("serviceUnavailableException", "", K::Overloaded),
            ("modelTimeoutException", "{}", K::Timeout(Phase::FirstByte)),
            ("validationException", r#"{"message":"Input is too long"}"#, K::ContextTooLong),
            ("validationException", r#"{"message":"bad"}"#, K::BadRequest),
            ("somethingNew", "garbage", K::ServerError),
        ] {
            assert_eq!(in_stream(name, payload.as_bytes()).kind, kind, "{name} {payload}");
        }
    }
}

//! What later hooks are asked about in tests, told by a few fields: a failed attempt, an answer, a completed request.

use std::time::Duration;

use rhai::{Dynamic, Map};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::chat::Usage;
use crate::facts::market::Market;
use crate::fault::{FaultKind, Phase};
use crate::policy::request::json_of;
use crate::policy::seen::KINDS;
use crate::policy::{Answer, Completion, FailedAttempt, SeenTarget};
use crate::target::{TargetName, Traits};

/// `#{ kind: "rate_limit", attempt: 2, retry_after_ms: 500 }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailedTold {
    kind: String,
    target: Option<String>,
    #[serde(default = "one")]
    attempt: u32,
    status: Option<u16>,
    retry_after_ms: Option<u64>,
}

/// `#{ target: "openai/gpt-4o", finish: "stop" }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerTold {
    target: String,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    stream: bool,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    finish: Option<String>,
    #[serde(default)]
    latency_ms: u64,
}

/// `#{ outcome: "ok", target: "openai/gpt-4o", duration_ms: 900 }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompletionTold {
    outcome: String,
    #[serde(default = "ok")]
    status: u16,
    target: Option<String>,
    #[serde(default = "one")]
    attempts: u32,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    finish: Option<String>,
    first_token_ms: Option<u64>,
    #[serde(default)]
    duration_ms: u64,
}

const OUTCOMES: [&str; 4] = ["ok", "error", "broken", "cancelled"];
const FINISHES: [&str; 5] = ["stop", "length", "tool_calls", "content_filter", "function_call"];

/// A failed attempt.
pub(super) fn failed(fields: &Map, market: &dyn Market) -> Result<FailedAttempt, String> {
    let told: FailedTold = read(fields)?;
    let retry_after = told.retry_after_ms.map(Duration::from_millis);
    let target = target(told.target.as_deref(), market)?;
    Ok(FailedAttempt {
        target,
        attempt: told.attempt,
        kind: kind(&told.kind)?,
        status: told.status,
        retry_after,
    })
}

/// An answer that is about to go out.
pub(super) fn answer(fields: &Map, market: &dyn Market) -> Result<Answer, String> {
    let told: AnswerTold = read(fields)?;
    Ok(Answer {
        target: target(Some(&told.target), market)?,
        status: told.status,
        stream: told.stream,
        usage: usage(told.input_tokens, told.output_tokens),
        finish: word("finish", told.finish.as_deref(), &FINISHES)?,
        latency: Duration::from_millis(told.latency_ms),
    })
}

/// A request that is over.
pub(super) fn completion(fields: &Map, market: &dyn Market) -> Result<Completion, String> {
    let told: CompletionTold = read(fields)?;
    Ok(Completion {
        outcome: word("outcome", Some(&told.outcome), &OUTCOMES)?.unwrap_or("ok"),
        status: told.status,
        target: target(told.target.as_deref(), market)?,
        attempts: told.attempts as usize,
        usage: usage(told.input_tokens, told.output_tokens),
        finish: word("finish", told.finish.as_deref(), &FINISHES)?,
        first_token: told.first_token_ms.map(Duration::from_millis),
        duration: Duration::from_millis(told.duration_ms),
    })
}

fn read<T: DeserializeOwned>(fields: &Map) -> Result<T, String> {
    let value = json_of(&Dynamic::from_map(fields.clone()))?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// A target of the configuration, with its tags and labels.
fn target(name: Option<&str>, market: &dyn Market) -> Result<SeenTarget, String> {
    let Some(text) = name else { return Ok(SeenTarget::default()) };
    let name =
        TargetName::parse(text).ok_or_else(|| format!("`{text}` is not a target: write `provider/model`"))?;
    let offer = market.offer(text).ok_or_else(|| format!("`{text}`: there is no such provider"))?;
    let traits = Traits { tags: offer.listing.tags.clone(), labels: offer.listing.labels.clone() };
    Ok(SeenTarget::of(&name, &traits))
}

fn usage(input: Option<u64>, output: Option<u64>) -> Option<Usage> {
    (input.is_some() || output.is_some()).then(|| Usage {
        input: input.unwrap_or(0),
        output: output.unwrap_or(0),
        ..Usage::default()
    })
}

fn word(field: &str, told: Option<&str>, known: &[&'static str]) -> Result<Option<&'static str>, String> {
    let Some(told) = told else { return Ok(None) };
    let found = known.iter().find(|word| **word == told).copied();
    found.map(Some).ok_or_else(|| format!("`{field}`: `{told}` is not one of {}", known.join(", ")))
}

/// A kind of failure in the words of policies.
fn kind(word: &str) -> Result<FaultKind, String> {
    Ok(match word {
        "rate_limit" => FaultKind::RateLimited,
        "overloaded" => FaultKind::Overloaded,
        "timeout" => FaultKind::Timeout(Phase::FirstByte),
        "first_token_timeout" => FaultKind::Timeout(Phase::FirstToken),
        "connect" => FaultKind::Timeout(Phase::Connect),
        "auth" => FaultKind::Credentials,
        "context_length" => FaultKind::ContextTooLong,
        "content_filter" => FaultKind::ContentFiltered,
        "bad_request" => FaultKind::BadRequest,
        "server" => FaultKind::ServerError,
        "cancelled" => FaultKind::Cancelled,
        other => {
            return Err(format!("`kind`: `{other}` is not one of {}", KINDS.join(", ")));
        }
    })
}

fn one() -> u32 {
    1
}

fn ok() -> u16 {
    200
}

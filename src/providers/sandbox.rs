//! The built-in provider: answers inside the process, without an account, always the same way.
//!
//! It plays the part of an upstream on the wire, in OpenAI's dialect, so that everything above it (relay, timeouts,
//! fallbacks, accounting) works on its answers as on those of a real provider. What it can be asked for stands in
//! `docs/sandbox.md`.

mod ask;
mod embeddings;
mod judge;
mod media;
mod rank;
mod reply;
mod sample;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method};
use serde_json::{Value, json};

use super::{
    Dialect, Embeddings, Local, LocalAnswer, ModerationQuirks, Moderations, Outgoing, Provider,
    QuirkSettings, Relay, Rerank,
};
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::fault::Fault;
use crate::target::TargetName;
use ask::{Ask, Orders};

/// Answers carry this time, so that the same request always gets the same bytes: 2025-01-01, 00:00 UTC.
const CREATED: u64 = 1_735_689_600;

/// The provider `sandbox`. Translating and relaying are left to the dialect that it speaks.
pub struct Sandbox {
    openai: Arc<dyn Provider>,
}

impl Sandbox {
    /// A sandbox on top of OpenAI's dialect, without quirks.
    pub fn new(openai: Arc<dyn Provider>) -> Self {
        Self { openai }
    }
}

/// The quirks of the dialect below, with the abilities that the sandbox has.
pub(super) fn able(quirks: &QuirkSettings) -> QuirkSettings {
    let mut able = quirks.clone();
    able.allowed_tools = true;
    able.custom_tools = true;
    able.rerank.get_or_insert_default();
    able.moderations.get_or_insert_with(|| ModerationQuirks {
        model: "moderation".into(),
        ..ModerationQuirks::default()
    });
    able
}

impl Provider for Sandbox {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        self.openai.encode(request, target)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        self.openai.decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        self.openai.stream_decoder()
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        self.openai.fault(status, headers, body)
    }

    fn relay(&self) -> Option<&dyn Relay> {
        self.openai.relay()
    }

    fn embeddings(&self) -> Option<&dyn Embeddings> {
        self.openai.embeddings()
    }

    fn rerank(&self) -> Option<&dyn Rerank> {
        self.openai.rerank()
    }

    fn moderations(&self) -> Option<&dyn Moderations> {
        self.openai.moderations()
    }

    fn media_path(&self, operation: &str, model: &str) -> Option<String> {
        let played = operation.starts_with("audio/") || operation.starts_with("images/");
        if played { self.openai.media_path(operation, model) } else { None }
    }

    fn chat_path(&self, model: &str, streams: bool) -> Option<String> {
        self.openai.chat_path(model, streams)
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        self.openai.usage(said)
    }

    fn local(&self) -> Option<&dyn Local> {
        Some(self)
    }
}

impl Local for Sandbox {
    fn answer(&self, request: Outgoing) -> LocalAnswer {
        answer(&request)
    }
}

/// A request that the sandbox refuses, as OpenAI would.
#[derive(Debug)]
struct Problem {
    status: u16,
    message: String,
    param: Option<&'static str>,
}

impl Problem {
    fn bad(param: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), param: Some(param) }
    }
}

/// The first piece's delay passes before the answer's head.
fn answer(request: &Outgoing) -> LocalAnswer {
    let body = request.body.concat();
    let path = request.path.split('?').next().unwrap_or_default();
    if let Some(answer) = media::answer(path, request, &body) {
        return answer;
    }
    if path == "/models" && request.method == Method::GET {
        return media::models();
    }
    let value: Value = match serde_json::from_slice(&body) {
        Ok(value) => value,
        Err(error) => {
            let message = format!("the body is not JSON: {error}");
            return refuse(&Problem { status: 400, message, param: None }, &Orders::default());
        }
    };
    if path.ends_with("/embeddings") {
        return embeddings::answer(&value).unwrap_or_else(|problem| refuse(&problem, &Orders::default()));
    }
    if path.ends_with("/rerank") {
        return rank::answer(&value).unwrap_or_else(|problem| refuse(&problem, &Orders::default()));
    }
    if path.ends_with("/moderations") {
        return judge::answer(&value).unwrap_or_else(|problem| refuse(&problem, &Orders::default()));
    }
    if !path.ends_with("/chat/completions") {
        let message = format!("the sandbox does not serve {path}");
        return refuse(&Problem { status: 404, message, param: None }, &Orders::default());
    }
    match Ask::read(&value) {
        Ok(ask) => chat(&ask, &body),
        Err(problem) => refuse(&problem, &Orders::default()),
    }
}

fn chat(ask: &Ask, body: &[u8]) -> LocalAnswer {
    if let Some(problem) = ordered(&ask.orders) {
        return refuse(&problem, &ask.orders);
    }
    let reply = match reply::compose(ask) {
        Ok(reply) => reply,
        Err(problem) => return refuse(&problem, &ask.orders),
    };
    let id = format!("chatcmpl-sandbox-{}", fingerprint(body));
    if ask.stream {
        let pieces = wire::stream(&id, ask, &reply);
        return LocalAnswer { status: 200, headers: headers("text/event-stream"), pieces };
    }
    let mut body = wire::whole(&id, ask, &reply).to_string();
    if ask.orders.cut.is_some() {
        body.truncate(body.floor_char_boundary(body.len() / 2));
    }
    whole(200, headers("application/json"), body, ask.orders.first_byte + ask.orders.delay)
}

/// The error that the request asks for.
fn ordered(orders: &Orders) -> Option<Problem> {
    let status = orders.error.or(orders.retry_after.map(|_| 429))?;
    Some(Problem {
        status,
        message: format!("the request asked the sandbox for the error {status}"),
        param: None,
    })
}

fn refuse(problem: &Problem, orders: &Orders) -> LocalAnswer {
    let (kind, code) = match problem.status {
        401 | 403 => ("invalid_request_error", json!("invalid_api_key")),
        404 => ("invalid_request_error", json!("model_not_found")),
        429 => ("requests", json!("rate_limit_exceeded")),
        400..=499 => ("invalid_request_error", Value::Null),
        _ => ("server_error", Value::Null),
    };
    let error = json!({ "message": problem.message, "type": kind, "param": problem.param, "code": code });
    let mut headers = headers("application/json");
    if let Some(after) = orders.retry_after {
        let seconds = after.as_millis().div_ceil(1_000);
        for (name, number) in [(RETRY_AFTER, seconds), (RETRY_AFTER_MS, after.as_millis())] {
            if let Ok(value) = HeaderValue::from_str(&number.to_string()) {
                headers.insert(name, value);
            }
        }
    }
    whole(problem.status, headers, json!({ "error": error }).to_string(), orders.first_byte + orders.delay)
}

/// OpenAI's finer form of `retry-after`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

fn whole(status: u16, headers: HeaderMap, body: String, delay: Duration) -> LocalAnswer {
    LocalAnswer { status, headers, pieces: vec![(delay, Bytes::from(body))] }
}

fn headers(content_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
}

/// 24 hexadecimal digits that depend only on `bytes`.
fn fingerprint(bytes: &[u8]) -> String {
    let mut hex = blake3::hash(bytes).to_hex().to_string();
    hex.truncate(24);
    hex
}

/// Tokens as the sandbox counts them: four bytes each, begun ones too.
fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

#[cfg(test)]
mod tests;

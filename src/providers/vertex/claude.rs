//! Claude on Vertex AI: Anthropic's messages with the model in the path and a version in the body.
//! <https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai>

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::super::anthropic::Anthropic;
use super::super::gemini::fault as google;
use super::super::{
    ClientBody, CountTokens, Dialect, Outgoing, Provider, QuirkSettings, Relay, Relayed, StreamRelay,
};
use super::{publisher, raw};
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::clock::{Clock, SystemClock};
use crate::fault::Fault;
use crate::target::TargetName;

/// The only version there is.
const VERSION: &str = "vertex-2023-10-16";

/// Claude's models below `…/publishers/anthropic/models`.
pub(super) struct Claude {
    models: String,
    inner: Anthropic,
    /// A request to count names its model in the body: its path names the counter.
    counter: Anthropic,
}

impl Claude {
    pub(super) fn new(models: String) -> Self {
        let defaults = [("anthropic_version".to_owned(), Value::from(VERSION))];
        let counter = QuirkSettings { defaults: defaults.into(), ..QuirkSettings::default() };
        let inner = QuirkSettings { drop: vec!["model".into()], ..counter.clone() };
        Self { models, inner: Anthropic::new(inner), counter: Anthropic::new(counter) }
    }
}

impl Provider for Claude {
    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        self.inner.usage(said)
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        Ok(raw::predict(self.inner.encode(request, target)?, &self.models, &target.model))
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        self.inner.decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        self.inner.stream_decoder()
    }

    /// What Google refuses itself, it refuses in its own form.
    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        if is_googles(body) {
            return google::from_answer(status, headers, body, SystemClock.unix_ms());
        }
        self.inner.fault(status, headers, body)
    }

    fn relay(&self) -> Option<&dyn Relay> {
        Some(self)
    }

    fn chat_path(&self, model: &str, streams: bool) -> Option<String> {
        Some(raw::path(&self.models, model, streams))
    }

    fn count_tokens(&self) -> Option<&dyn CountTokens> {
        Some(self)
    }
}

fn is_googles(body: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return false };
    let error = match &value {
        Value::Array(list) => list.first().and_then(|first| first.get("error")),
        other => other.get("error"),
    };
    error.is_some_and(|error| error.get("code").is_some() && error.get("type").is_none())
}

impl Relay for Claude {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        Ok(raw::predict(Relay::splice(&self.inner, body, target)?, &self.models, &target.model))
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        Relay::whole(&self.inner, body)
    }

    fn stream(&self, include_usage: bool) -> Box<dyn StreamRelay> {
        self.inner.stream(include_usage)
    }
}

impl CountTokens for Claude {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let bare = publisher::bare(&target.model);
        let named = TargetName { provider: target.provider.clone(), model: bare.into() };
        let mut outgoing = CountTokens::splice(&self.counter, body, &named)?;
        outgoing.path = format!("{}/count-tokens:rawPredict", self.models);
        Ok(outgoing)
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        CountTokens::whole(&self.counter, body)
    }
}

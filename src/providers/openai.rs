//! OpenAI's dialect of chat completions and embeddings, and what its many imitators make of it.
//!
//! What a vendor needs changed in a request is data ([`QuirkSettings`]). What comes back is recognised by its form,
//! not by the vendor's name: any of them may change overnight, and routers pass on the habits of others.

mod completions;
mod decode;
mod decoder;
mod details;
mod either;
pub(super) mod embeddings;
pub(super) mod encode;
mod envelope;
pub(super) mod fault;
mod finish;
pub(super) mod form;
pub(super) mod losses;
mod marks;
pub(super) mod normalise;
pub(super) mod peek;
mod plain;
pub(super) mod reasoning;
pub(super) mod request;
mod state;
pub(super) mod stream;
pub(super) mod strict;
mod turns;
pub(super) mod usage;
mod whole;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod quirks;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use self::completions::Completions;
use super::responses::{Responses, any_matches};
use super::{
    ClientBody, CountTokens, Dialect, Embeddings, ModerationQuirks, Moderations, Outgoing, Provider,
    QuirkSettings, Relay, Relayed, Rerank, RerankAsk, RerankQuirks, StreamRelay, moderation, rerank,
};
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::clock::{Clock, SystemClock};
use crate::fault::{Fault, FaultKind};
use crate::target::TargetName;

/// What usage objects of OpenAI's making say.
pub(super) fn usage_of(said: &[&str]) -> Option<Usage> {
    usage::last(said, false)
}

/// A provider that speaks OpenAI's dialect, with its quirks.
pub struct OpenAi {
    quirks: QuirkSettings,
    clock: Arc<dyn Clock>,
    /// The vendor's other dialect, where it speaks it.
    responses: Option<Box<Responses>>,
    completions: Option<Box<Completions>>,
}

impl OpenAi {
    /// A provider with these quirks.
    pub fn new(quirks: QuirkSettings) -> Self {
        Self::with_clock(quirks, Arc::new(SystemClock))
    }

    /// A provider that takes the time for invented fields and `Retry-After` dates from `clock`.
    pub fn with_clock(quirks: QuirkSettings, clock: Arc<dyn Clock>) -> Self {
        let speaks = quirks.responses || !quirks.responses_only.is_empty();
        let responses = speaks.then(|| Box::new(Responses::beside_chat(&quirks, clock.clone())));
        let completes = !quirks.completions.is_empty();
        let completions = completes.then(|| Box::new(Completions::new(quirks.clone(), clock.clone())));
        Self { quirks, clock, responses, completions }
    }

    /// The vendor's other dialect, where it speaks both for the same models.
    fn both(&self) -> Option<&Responses> {
        self.responses.as_deref().filter(|_| self.quirks.responses)
    }
}

impl Provider for OpenAi {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    /// Where the model calls no tools in chat completions as it thinks, it is asked in the vendor's other dialect.
    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        let elsewhere =
            || reasoning::calls_elsewhere(request.reasoning.as_ref(), &target.model, &self.quirks);
        match self.both() {
            Some(responses) if !request.tools.is_empty() && elsewhere() => responses.encode(request, target),
            _ => encode::chat(request, target, &self.quirks),
        }
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        let excludes_reasoning = self.quirks.completion_excludes_reasoning;
        let answer = match plain::answer(body, excludes_reasoning) {
            Some(answer) => Ok(answer),
            None => whole::normalised(body, excludes_reasoning, self.clock.unix_ms()).map(decode::answer),
        };
        match (answer, self.both()) {
            (Err(fault), Some(responses)) if fault.kind == FaultKind::Malformed => {
                responses.decode(body).map_err(|_| fault)
            }
            (answer, _) => answer,
        }
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        let excludes_reasoning = self.quirks.completion_excludes_reasoning;
        let chat = Box::new(decoder::OpenAiDecoder::new(excludes_reasoning, self.clock.unix_ms()));
        match self.both() {
            Some(responses) => Box::new(either::Either::new(chat, responses.stream_decoder())),
            None => chat,
        }
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        fault::from_answer(status, headers, body, self.clock.unix_ms())
    }

    fn relay(&self) -> Option<&dyn Relay> {
        Some(self)
    }

    fn responses(&self) -> Option<&dyn Relay> {
        self.responses.as_deref().and_then(Provider::relay)
    }

    fn completions(&self, model: &str) -> Option<&dyn Relay> {
        let completions = self.completions.as_deref()?;
        any_matches(&self.quirks.completions, model).then_some(completions as &dyn Relay)
    }

    fn speaker(&self, model: &str) -> Option<&dyn Provider> {
        let only = !self.quirks.responses_only.is_empty() && any_matches(&self.quirks.responses_only, model);
        self.responses.as_deref().filter(|_| only).map(|responses| responses as &dyn Provider)
    }

    fn count_tokens(&self) -> Option<&dyn CountTokens> {
        self.responses.as_deref().and_then(Provider::count_tokens)
    }

    fn embeddings(&self) -> Option<&dyn Embeddings> {
        Some(self)
    }

    fn deployed<'m>(&'m self, model: &'m str) -> &'m str {
        self.quirks.deployed(model)
    }

    fn media_path(&self, operation: &str, model: &str) -> Option<String> {
        let is_media = ["audio/", "images/"].iter().any(|kind| operation.starts_with(kind));
        let kept = self.quirks.kept_path.as_deref().filter(|_| !is_media);
        let template = kept.or(self.quirks.media_path.as_deref()).unwrap_or("/{operation}");
        Some(request::path(&template.replace("{operation}", operation), self.deployed(model)))
    }

    fn chat_path(&self, model: &str, _: bool) -> Option<String> {
        let template = self.quirks.chat_path.as_deref().unwrap_or("/chat/completions");
        Some(request::path(template, self.deployed(model)))
    }

    fn realtime_path(&self, model: &str) -> Option<String> {
        Some(request::path(self.quirks.realtime_path.as_deref()?, self.deployed(model)))
    }

    fn responses_socket(&self) -> Option<String> {
        self.quirks.responses_socket()
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        usage::last(said, self.quirks.completion_excludes_reasoning)
    }

    fn rerank(&self) -> Option<&dyn Rerank> {
        self.quirks.rerank.as_ref().map(|_| self as &dyn Rerank)
    }

    fn moderations(&self) -> Option<&dyn Moderations> {
        self.quirks.moderations.as_ref().map(|_| self as &dyn Moderations)
    }
}

impl Rerank for OpenAi {
    fn splice(&self, ask: &RerankAsk, target: &TargetName) -> Result<Outgoing, Fault> {
        let usual = RerankQuirks::default();
        rerank::request(ask, target, self.quirks.rerank.as_ref().unwrap_or(&usual))
    }

    fn whole(&self, ask: &RerankAsk, body: Bytes) -> Result<Relayed, Fault> {
        rerank::answer(ask, body, self.clock.unix_ms())
    }
}

impl Moderations for OpenAi {
    fn usual_model(&self) -> &str {
        self.quirks.moderations.as_ref().map_or("", |quirks| &quirks.model)
    }

    fn sees_images(&self) -> bool {
        self.quirks.moderations.as_ref().is_some_and(|quirks| !quirks.texts_only)
    }

    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let usual = ModerationQuirks::default();
        moderation::request(body, target, self.quirks.moderations.as_ref().unwrap_or(&usual))
    }

    fn whole(&self, body: Bytes, results: usize) -> Result<Relayed, Fault> {
        moderation::answer(body, results, self.clock.unix_ms())
    }
}

impl Relay for OpenAi {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        request::chat(body, target, &self.quirks)
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        whole::relay(&body, self.quirks.completion_excludes_reasoning, self.clock.unix_ms())
    }

    fn stream(&self, include_usage: bool) -> Box<dyn StreamRelay> {
        let excludes_reasoning = self.quirks.completion_excludes_reasoning;
        Box::new(stream::OpenAiStream::new(include_usage, excludes_reasoning, self.clock.unix_ms()))
    }
}

impl Embeddings for OpenAi {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        request::embeddings(body, target, &self.quirks)
    }

    fn whole(&self, body: Bytes, base64: bool) -> Result<Relayed, Fault> {
        embeddings::relay(&body, base64, self.clock.unix_ms())
    }
}

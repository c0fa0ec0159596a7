//! OpenAI's dialect of chat completions and embeddings, and what its many imitators make of it.
//!
//! What a vendor needs changed in a request is data ([`QuirkSettings`]). What comes back is recognised by its form,
//! not by the vendor's name: any of them may change overnight, and routers pass on the habits of others.

mod completions;
mod decode;
mod decoder;
mod details;
pub(super) mod embeddings;
pub(super) mod encode;
mod envelope;
pub(super) mod fault;
mod finish;
pub(super) mod losses;
pub(super) mod normalise;
mod peek;
pub(super) mod request;
mod state;
pub(super) mod stream;
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
    ClientBody, Dialect, Embeddings, Outgoing, Provider, QuirkSettings, Relay, Relayed, StreamRelay,
};
use crate::chat::{Answer, Request, StreamDecoder};
use crate::clock::{Clock, SystemClock};
use crate::fault::Fault;
use crate::target::TargetName;

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
}

impl Provider for OpenAi {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        encode::chat(request, target, &self.quirks)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        let excludes_reasoning = self.quirks.completion_excludes_reasoning;
        whole::normalised(body, excludes_reasoning, self.clock.unix_ms()).map(decode::answer)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        let excludes_reasoning = self.quirks.completion_excludes_reasoning;
        Box::new(decoder::OpenAiDecoder::new(excludes_reasoning, self.clock.unix_ms()))
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

    fn embeddings(&self) -> Option<&dyn Embeddings> {
        Some(self)
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

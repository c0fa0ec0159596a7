//! OpenAI's Responses: the API of items, with encrypted reasoning that goes back on the next turn.
//!
//! Clients of the same dialect get the vendor's own bytes; for clients of another, nothing is kept at the provider
//! unless they say so (`store: false`), and reasoning travels with the conversation.
//! <https://platform.openai.com/docs/api-reference/responses>

mod decode;
mod decoder;
mod encode;
mod event;
mod fault;
mod items;
mod models;
mod replay;
mod stream;
mod tools;
mod whole;

#[cfg(test)]
mod conformance;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::openai;
use super::service::tier_in;
use super::{
    ClientBody, CountTokens, Dialect, Embeddings, Outgoing, Provider, QuirkSettings, Relay, Relayed,
    StreamRelay,
};
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::clock::{Clock, SystemClock};
use crate::fault::Fault;
use crate::json::Splice;
use crate::target::TargetName;
pub(super) use models::any_matches;

/// A provider that speaks OpenAI's Responses.
pub struct Responses {
    quirks: QuirkSettings,
    clock: Arc<dyn Clock>,
}

impl Responses {
    /// A provider that speaks nothing else (but makes embeddings where it can).
    pub fn new(quirks: QuirkSettings) -> Self {
        Self::with_clock(quirks, Arc::new(SystemClock))
    }

    /// That part of a vendor of OpenAI's other dialect which speaks Responses: quirks of chat requests are not its own.
    pub fn beside_chat(quirks: &QuirkSettings, clock: Arc<dyn Clock>) -> Self {
        let own = QuirkSettings {
            deployments: quirks.deployments.clone(),
            responses_path: quirks.responses_path.clone(),
            responses_websocket: quirks.responses_websocket,
            input_tokens: quirks.input_tokens,
            encrypted_by: quirks.encrypted_by.clone(),
            no_developer_role: quirks.no_developer_role,
            lacks: quirks.lacks.clone(),
            ..QuirkSettings::default()
        };
        Self::with_clock(own, clock)
    }

    fn with_clock(quirks: QuirkSettings, clock: Arc<dyn Clock>) -> Self {
        Self { quirks, clock }
    }

    /// Who can decrypt the reasoning of its answers.
    fn keeper(&self) -> Arc<str> {
        self.quirks.encrypted_by.as_deref().unwrap_or("openai").into()
    }
}

impl Provider for Responses {
    fn dialect(&self) -> Dialect {
        Dialect::Responses
    }

    fn responses_socket(&self) -> Option<String> {
        self.quirks.responses_socket()
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        openai::usage_of(said)
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        encode::request(request, target, &self.quirks, &self.keeper())
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        decode::answer(body, &self.keeper(), self.clock.unix_ms())
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(decoder::ResponsesDecoder::new(self.keeper(), self.clock.unix_ms()))
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        openai::fault::from_answer(status, headers, body, self.clock.unix_ms())
    }

    fn relay(&self) -> Option<&dyn Relay> {
        Some(self)
    }

    fn responses(&self) -> Option<&dyn Relay> {
        Some(self)
    }

    fn count_tokens(&self) -> Option<&dyn CountTokens> {
        self.quirks.input_tokens.then_some(self as &dyn CountTokens)
    }

    fn embeddings(&self) -> Option<&dyn Embeddings> {
        Some(self)
    }
}

impl CountTokens for Responses {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let mut outgoing = Relay::splice(self, body, target)?;
        let at = outgoing.path.find('?').unwrap_or(outgoing.path.len());
        outgoing.path.insert_str(at, "/input_tokens");
        Ok(outgoing)
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        whole::count(body, self.clock.unix_ms())
    }
}

impl Relay for Responses {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let model = self.quirks.deployed(&target.model);
        let mut splice = Splice::new(body);
        splice.set_text("model", model);
        openai::request::apply(&mut splice, body, &self.quirks);
        let path = path(&self.quirks, model);
        let tier = Some(tier_in(&splice));
        let streams = body.bool("stream") == Some(true);
        Ok(Outgoing { tier, ..openai::request::outgoing(path, streams, splice.finish()) })
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        whole::relay(body, self.clock.unix_ms())
    }

    fn stream(&self, _: bool) -> Box<dyn StreamRelay> {
        Box::new(stream::ResponsesStream::new(self.clock.unix_ms()))
    }
}

impl Embeddings for Responses {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        openai::request::embeddings(body, target, &self.quirks)
    }

    fn whole(&self, body: Bytes, base64: bool) -> Result<Relayed, Fault> {
        openai::embeddings::relay(&body, base64, self.clock.unix_ms())
    }
}

/// Where a model's answers are asked for.
fn path(quirks: &QuirkSettings, model: &str) -> String {
    openai::request::path(quirks.responses_path.as_deref().unwrap_or("/responses"), model)
}

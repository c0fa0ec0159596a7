//! Anthropic's dialect of messages: <https://platform.claude.com/docs/en/api/messages>.

mod block;
mod decode;
mod decoder;
pub(super) mod encode;
mod fault;
pub(super) mod message;
pub(super) mod model;
mod request;
pub(super) mod sampling;
pub(super) mod schema;
mod stop;
mod stream;
pub(super) mod think;
mod usage;
mod whole;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod quirks;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::{
    ClientBody, CountTokens, Dialect, Outgoing, Provider, QuirkSettings, Relay, Relayed, StreamRelay,
};
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::clock::{Clock, SystemClock};
use crate::fault::Fault;
use crate::target::TargetName;

/// A provider that speaks Anthropic's dialect.
pub struct Anthropic {
    quirks: QuirkSettings,
    clock: Arc<dyn Clock>,
}

impl Anthropic {
    /// A provider with these quirks, of which `drop`, `rename` and `defaults` apply.
    pub fn new(quirks: QuirkSettings) -> Self {
        Self { quirks, clock: Arc::new(SystemClock) }
    }
}

impl Provider for Anthropic {
    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        encode::messages(request, target, &self.quirks)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        decode::answer(body, self.clock.unix_ms())
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(decoder::AnthropicDecoder::new(self.clock.unix_ms()))
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        fault::from_answer(status, headers, body, self.clock.unix_ms())
    }

    fn relay(&self) -> Option<&dyn Relay> {
        Some(self)
    }

    fn count_tokens(&self) -> Option<&dyn CountTokens> {
        Some(self)
    }

    fn chat_path(&self, _: &str, _: bool) -> Option<String> {
        Some("/messages".to_owned())
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        usage_of(said)
    }
}

/// What usage objects of one answer say together.
pub(super) fn usage_of(said: &[&str]) -> Option<Usage> {
    let mut seen = usage::WireUsage::default();
    said.iter().filter_map(|raw| serde_json::from_str(raw).ok()).for_each(|later| seen.update(later));
    seen.classes()
}

impl Relay for Anthropic {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        Ok(request::splice(body, target, &self.quirks))
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        whole::relay(&body, self.clock.unix_ms())
    }

    fn stream(&self, _: bool) -> Box<dyn StreamRelay> {
        Box::new(stream::AnthropicStream::new(self.clock.unix_ms()))
    }
}

impl CountTokens for Anthropic {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let mut outgoing = request::splice(body, target, &self.quirks);
        outgoing.path.push_str("/count_tokens");
        Ok(outgoing)
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        whole::count(body, self.clock.unix_ms())
    }
}

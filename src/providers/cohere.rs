//! Cohere's own dialect: chat v2 and its streams, embed v2 and rerank v2. <https://docs.cohere.com/reference/about>

mod cite;
mod decode;
mod decoder;
mod embeddings;
mod encode;
mod fault;
mod finish;
mod logprobs;
mod messages;
mod model;
mod usage;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::{ClientBody, Dialect, Embeddings, Outgoing, Provider, QuirkSettings, Relayed};
use crate::chat::{Answer, Request, StreamDecoder};
use crate::clock::{Clock, SystemClock};
use crate::fault::Fault;
use crate::target::TargetName;

/// A provider that speaks Cohere's dialect.
pub struct Cohere {
    quirks: QuirkSettings,
    clock: Arc<dyn Clock>,
}

impl Cohere {
    /// A provider with these quirks; `chat_path` is by default `/chat`, `embeddings_path` is `/embed`.
    pub fn new(quirks: QuirkSettings) -> Self {
        Self { quirks, clock: Arc::new(SystemClock) }
    }
}

impl Provider for Cohere {
    fn dialect(&self) -> Dialect {
        Dialect::Cohere
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        encode::chat(request, target, &self.quirks)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        decode::answer(body, self.clock.unix_ms())
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(decoder::CohereDecoder::new(self.clock.unix_ms()))
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        fault::from_answer(status, headers, body, self.clock.unix_ms())
    }

    fn embeddings(&self) -> Option<&dyn Embeddings> {
        Some(self)
    }
}

impl Embeddings for Cohere {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        embeddings::request(body, target, &self.quirks)
    }

    fn whole(&self, body: Bytes, base64: bool) -> Result<Relayed, Fault> {
        embeddings::answer(&body, base64, self.clock.unix_ms())
    }
}

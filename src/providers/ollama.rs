//! Ollama's own dialect: `/api/chat` with its streams of JSON lines, and `/api/embed`. <https://docs.ollama.com/api>

mod decode;
mod decoder;
mod embeddings;
mod encode;
mod fault;
mod message;
mod messages;

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

/// A provider that speaks Ollama's own dialect.
pub struct Ollama {
    quirks: QuirkSettings,
    clock: Arc<dyn Clock>,
}

impl Ollama {
    /// A provider with these quirks; `chat_path` is by default `/api/chat`, `embeddings_path` is `/api/embed`, and
    /// `defaults` may set `keep_alive`, `think` or `options`.
    pub fn new(quirks: QuirkSettings) -> Self {
        Self { quirks, clock: Arc::new(SystemClock) }
    }
}

impl Provider for Ollama {
    fn dialect(&self) -> Dialect {
        Dialect::Ollama
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        encode::chat(request, target, &self.quirks)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        decode::answer(body, self.clock.unix_ms())
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(decoder::OllamaDecoder::new(self.clock.unix_ms()))
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        fault::from_answer(status, headers, body, self.clock.unix_ms())
    }

    fn embeddings(&self) -> Option<&dyn Embeddings> {
        Some(self)
    }

    fn chat_path(&self, _: &str, _: bool) -> Option<String> {
        Some(self.quirks.chat_path.clone().unwrap_or_else(|| "/api/chat".to_owned()))
    }
}

impl Embeddings for Ollama {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        embeddings::request(body, target, &self.quirks)
    }

    fn whole(&self, body: Bytes, base64: bool) -> Result<Relayed, Fault> {
        embeddings::answer(&body, base64, self.clock.unix_ms())
    }
}

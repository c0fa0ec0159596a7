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

use super::{
    ClientBody, Dialect, Embeddings, Outgoing, Provider, QuirkSettings, Relayed, Rerank, RerankAsk,
    RerankQuirks, rerank,
};
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::clock::{Clock, SystemClock};
use crate::fault::Fault;
use crate::target::TargetName;

/// A provider that speaks Cohere's dialect.
pub struct Cohere {
    quirks: QuirkSettings,
    rerank: RerankQuirks,
    clock: Arc<dyn Clock>,
}

impl Cohere {
    /// A provider with these quirks; `chat_path` is by default `/chat`, `embeddings_path` is `/embed`.
    pub fn new(quirks: QuirkSettings) -> Self {
        // Version 2 takes texts alone, and counts tokens where version 1 counted chunks.
        let rerank = quirks.rerank.clone().unwrap_or_else(|| RerankQuirks {
            texts_only: true,
            drop: vec!["max_chunks_per_doc".into()],
            ..RerankQuirks::default()
        });
        Self { quirks, rerank, clock: Arc::new(SystemClock) }
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

    fn chat_path(&self, _: &str, _: bool) -> Option<String> {
        Some(self.quirks.chat_path.clone().unwrap_or_else(|| "/chat".to_owned()))
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        said.iter().rev().find_map(|raw| usage::read(&serde_json::from_str(raw).ok()?))
    }

    fn rerank(&self) -> Option<&dyn Rerank> {
        Some(self)
    }
}

impl Rerank for Cohere {
    fn splice(&self, ask: &RerankAsk, target: &TargetName) -> Result<Outgoing, Fault> {
        rerank::request(ask, target, &self.rerank)
    }

    fn whole(&self, ask: &RerankAsk, body: Bytes) -> Result<Relayed, Fault> {
        rerank::answer(ask, body, self.clock.unix_ms())
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

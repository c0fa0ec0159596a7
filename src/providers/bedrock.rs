//! AWS Bedrock's dialect: Converse and its streams, embeddings by `InvokeModel`.
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference.html>

mod block;
pub(super) mod claude;
mod conversation;
mod decode;
mod decoder;
mod embeddings;
mod encode;
mod fault;
mod finish;
mod media;
mod model;
mod request;
mod rerank;
mod think;
mod tools;
mod usage;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::{ClientBody, Dialect, Embeddings, Outgoing, Provider, QuirkSettings, Relayed, Rerank};
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::clock::{Clock, SystemClock};
use crate::fault::Fault;
use crate::target::TargetName;

/// A provider that speaks Bedrock's dialect.
pub struct Bedrock {
    quirks: QuirkSettings,
    clock: Arc<dyn Clock>,
}

impl Bedrock {
    /// A provider with these quirks, of which `drop`, `rename` and `defaults` apply.
    pub fn new(quirks: QuirkSettings) -> Self {
        Self { quirks, clock: Arc::new(SystemClock) }
    }
}

impl Provider for Bedrock {
    fn dialect(&self) -> Dialect {
        Dialect::Bedrock
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        let own =
            said.iter().rev().find_map(|raw| serde_json::from_str::<usage::WireUsage>(raw).ok()?.classes());
        // Claude answers `InvokeModel` in words of its own.
        own.or_else(|| super::anthropic::usage_of(said))
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        encode::converse(request, target, &self.quirks)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        decode::answer(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(decoder::ConverseDecoder::default())
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        fault::from_answer(status, headers, body, self.clock.unix_ms())
    }

    fn embeddings(&self) -> Option<&dyn Embeddings> {
        Some(self)
    }

    fn rerank(&self) -> Option<&dyn Rerank> {
        Some(self)
    }

    fn chat_path(&self, model: &str, streams: bool) -> Option<String> {
        Some(request::path(model, if streams { "converse-stream" } else { "converse" }))
    }

    fn told(&self, body: Bytes, headers: &HeaderMap) -> Bytes {
        embeddings::with_metrics(body, headers)
    }
}

impl Embeddings for Bedrock {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        embeddings::request(body, target)
    }

    fn whole(&self, body: Bytes, base64: bool) -> Result<Relayed, Fault> {
        embeddings::answer(&body, base64)
    }
}

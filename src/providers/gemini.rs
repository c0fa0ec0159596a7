//! Google's dialect: generateContent, its streams and its embeddings, of the Gemini API and of Vertex AI.

mod cite;
mod contents;
mod decode;
mod decoder;
mod embeddings;
mod encode;
pub(super) mod fault;
mod finish;
mod foreign;
mod images;
mod live;
mod logprobs;
mod made;
mod media;
mod model;
mod part;
mod partial;
mod pieces;
mod predict;
mod relay;
pub(super) mod request;
mod schema;
mod speech;
mod think;
mod tools;
mod usage;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod quirks;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::{
    ClientBody, CountTokens, Dialect, Embeddings, Images, Outgoing, Provider, QuirkSettings, Relay, Relayed,
    Speech, StreamRelay, openai,
};
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::clock::{Clock, SystemClock};
use crate::fault::Fault;
use crate::target::TargetName;

/// A provider that speaks Google's dialect.
pub struct Gemini {
    quirks: QuirkSettings,
    surface: Surface,
    clock: Arc<dyn Clock>,
}

/// Which of Google's two services is spoken to: they differ in small things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surface {
    /// The Gemini API.
    Gemini,
    /// Vertex AI.
    Vertex,
}

impl Gemini {
    /// A provider with these quirks; `chat_path` is the path of a model, by default `/models/{model}`.
    pub fn new(quirks: QuirkSettings) -> Self {
        Self { quirks, surface: Surface::Gemini, clock: Arc::new(SystemClock) }
    }

    /// The same on Vertex AI.
    pub(super) fn on_vertex(quirks: QuirkSettings) -> Self {
        Self { surface: Surface::Vertex, ..Self::new(quirks) }
    }
}

impl Provider for Gemini {
    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        encode::chat(request, target, &self.quirks, self.surface)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        decode::answer(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(decoder::GeminiDecoder::new())
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

    fn embeddings(&self) -> Option<&dyn Embeddings> {
        Some(self)
    }

    fn images(&self) -> Option<&dyn Images> {
        Some(self)
    }

    fn speech(&self) -> Option<&dyn Speech> {
        Some(self)
    }

    fn chat_path(&self, model: &str, streams: bool) -> Option<String> {
        let method = if streams { request::STREAM } else { request::WHOLE };
        Some(request::path(&self.quirks, model, method))
    }

    fn live(&self, model: &str, version: &str) -> Option<(String, String)> {
        Some(live::place(&self.quirks, self.surface, model, version))
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        let own = said.iter().rev().find_map(|raw| usage::read(&serde_json::from_str(raw).ok()?));
        // Google has endpoints in OpenAI's dialect, too.
        own.or_else(|| openai::usage_of(said))
    }
}

impl Images for Gemini {
    fn encode(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        images::request(body, target, &self.quirks)
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        images::answer(&body, self.clock.unix_ms())
    }
}

impl Speech for Gemini {
    fn encode(&self, body: &ClientBody, target: &TargetName) -> Option<Result<Outgoing, Fault>> {
        speech::request(body, target, &self.quirks)
    }

    fn whole(&self, asked: &ClientBody, body: Bytes) -> Result<Relayed, Fault> {
        speech::answer(asked, &body)
    }
}

/// The body of a client of this dialect names no model and no stream: both stand in its path. The path made here is
/// that of a whole answer; the door replaces its method by [`super::gemini_method`].
impl Relay for Gemini {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let path = request::path(&self.quirks, &target.model, request::WHOLE);
        Ok(request::outgoing(path, false, relay::request(body, &target.model, self.surface)))
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        relay::whole(body)
    }

    fn stream(&self, _: bool) -> Box<dyn StreamRelay> {
        Box::new(relay::GeminiStream::new())
    }

    fn stream_as_it_comes(&self) -> Box<dyn StreamRelay> {
        Box::new(relay::GeminiStream::untouched())
    }
}

impl CountTokens for Gemini {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let path = request::path(&self.quirks, &target.model, "countTokens");
        Ok(request::outgoing(path, false, relay::request(body, &target.model, self.surface)))
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        relay::count(body)
    }
}

impl Embeddings for Gemini {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        match self.surface {
            Surface::Gemini => embeddings::request(body, target, &self.quirks),
            Surface::Vertex => predict::request(body, target, &self.quirks),
        }
    }

    fn whole(&self, body: Bytes, base64: bool) -> Result<Relayed, Fault> {
        match self.surface {
            Surface::Gemini => embeddings::answer(&body, base64),
            Surface::Vertex => predict::answer(&body, base64),
        }
    }

    fn is_native(&self) -> bool {
        self.surface == Surface::Gemini
    }

    fn predicts(&self, model: &str) -> bool {
        self.surface == Surface::Vertex && !predict::takes_content(model)
    }
}

/// A request of this dialect with another method in its path (`streamGenerateContent?alt=sse`).
pub fn with_method(mut outgoing: Outgoing, method: &str) -> Outgoing {
    if let Some(at) = outgoing.path.rfind(':') {
        outgoing.path.truncate(at + 1);
        outgoing.path.push_str(method);
    }
    outgoing
}

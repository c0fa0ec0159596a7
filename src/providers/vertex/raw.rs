//! `:rawPredict` and `:streamRawPredict`: a publisher's own dialect below Vertex AI's paths.

use bytes::Bytes;
use http::HeaderMap;
use http::header::ACCEPT;

use super::super::openai::OpenAi;
use super::super::{ClientBody, Dialect, Outgoing, Provider, Relay, Relayed, StreamRelay};
use super::publisher;
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::fault::Fault;
use crate::providers::gemini::request::segment;
use crate::target::TargetName;

/// The request with the model's method as its path.
pub(super) fn predict(mut outgoing: Outgoing, models: &str, model: &str) -> Outgoing {
    let streams = outgoing.headers.get(ACCEPT).is_some_and(|accept| accept == "text/event-stream");
    outgoing.path = path(models, model, streams);
    outgoing
}

/// Where a model is asked.
pub(super) fn path(models: &str, model: &str, streams: bool) -> String {
    let method = if streams { "streamRawPredict" } else { "rawPredict" };
    format!("{models}/{}:{method}", segment(publisher::bare(model)))
}

/// A publisher whose models speak chat completions.
pub(super) struct Raw {
    models: String,
    inner: OpenAi,
}

impl Raw {
    pub(super) fn new(models: String) -> Self {
        // What presets.yaml says of Mistral: its models are the same here.
        let quirks = super::super::presets::find("mistral").map(|preset| preset.quirks.clone());
        Self { models, inner: OpenAi::new(quirks.unwrap_or_default()) }
    }

    fn named(target: &TargetName) -> TargetName {
        let model = publisher::bare(&target.model).into();
        TargetName { provider: target.provider.clone(), model }
    }
}

impl Provider for Raw {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        self.inner.usage(said)
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        let outgoing = self.inner.encode(request, &Self::named(target))?;
        Ok(predict(outgoing, &self.models, &target.model))
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        self.inner.decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        self.inner.stream_decoder()
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        self.inner.fault(status, headers, body)
    }

    fn relay(&self) -> Option<&dyn Relay> {
        Some(self)
    }

    fn chat_path(&self, model: &str, streams: bool) -> Option<String> {
        Some(path(&self.models, model, streams))
    }
}

impl Relay for Raw {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let outgoing = Relay::splice(&self.inner, body, &Self::named(target))?;
        Ok(predict(outgoing, &self.models, &target.model))
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        Relay::whole(&self.inner, body)
    }

    fn stream(&self, include_usage: bool) -> Box<dyn StreamRelay> {
        self.inner.stream(include_usage)
    }
}

//! A provider whose language only a plugin knows: OpenAI's chat completions up to the plugin, and nothing else.

use http::HeaderMap;

use super::openai::OpenAi;
use super::{Dialect, Outgoing, Provider, QuirkSettings, Relay, StreamDecoder};
use crate::chat::{Answer, Request, Usage};
use crate::fault::Fault;
use crate::target::TargetName;

/// What an interpreter understands.
pub(super) struct Spoken(OpenAi);

impl Spoken {
    pub(super) fn new(quirks: &QuirkSettings) -> Self {
        Self(OpenAi::new(quirks.clone()))
    }
}

impl Provider for Spoken {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        self.0.encode(request, target)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        self.0.decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        self.0.stream_decoder()
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        self.0.fault(status, headers, body)
    }

    fn relay(&self) -> Option<&dyn Relay> {
        self.0.relay()
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        self.0.usage(said)
    }
}

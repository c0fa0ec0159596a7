//! Vertex AI: Google's models, Claude, and others, each in its own dialect, below one project and location.
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/learn/models>

mod claude;
mod publisher;
mod raw;

use http::HeaderMap;

use super::gemini::Gemini;
use super::openai::OpenAi;
use super::{CountTokens, Dialect, Embeddings, Outgoing, Provider, QuirkSettings, Relay};
use crate::chat::{Answer, Request, StreamDecoder};
use crate::fault::Fault;
use crate::target::TargetName;
use claude::Claude;
use publisher::Publisher;
use raw::Raw;

/// One project at one location.
pub struct Vertex {
    gemini: Gemini,
    claude: Claude,
    mistral: Raw,
    open: OpenAi,
}

/// What every path begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// `/projects/{project}/locations/{location}`; empty where an API key says both ("express mode").
    pub place: String,
    /// Whether the base URL names no version of the API, so that each dialect's own has to be named.
    pub bare: bool,
}

impl Scope {
    fn path(&self, version: &str) -> String {
        let version = if self.bare { version } else { "" };
        format!("{version}{}", self.place)
    }
}

impl Vertex {
    /// The models below `scope`. The quirks are those of Google's own models.
    pub fn new(quirks: &QuirkSettings, scope: &Scope) -> Self {
        // Google's SDK speaks v1beta1, which knows what v1 does not yet; Anthropic's SDK speaks v1.
        let (beta, stable) = (scope.path("/v1beta1"), scope.path("/v1"));
        let mut google = quirks.clone();
        google.chat_path.get_or_insert_with(|| format!("{beta}/publishers/google/models/{{model}}"));
        let open = QuirkSettings {
            chat_path: Some(format!("{beta}/endpoints/openapi/chat/completions")),
            embeddings_path: Some(format!("{beta}/endpoints/openapi/embeddings")),
            ..QuirkSettings::default()
        };
        Self {
            gemini: Gemini::on_vertex(google),
            claude: Claude::new(format!("{stable}/publishers/anthropic/models")),
            mistral: Raw::new(format!("{stable}/publishers/mistralai/models")),
            open: OpenAi::new(open),
        }
    }
}

/// Speaks itself only for whoever does not say which model; else [`Provider::speaker`] knows who does.
impl Provider for Vertex {
    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn speaker(&self, model: &str) -> Option<&dyn Provider> {
        Some(match publisher::of(model) {
            Publisher::Google => &self.gemini,
            Publisher::Anthropic => &self.claude,
            Publisher::Mistral => &self.mistral,
            Publisher::Open => &self.open,
        })
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        self.gemini.encode(request, target)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        self.gemini.decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        self.gemini.stream_decoder()
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        self.gemini.fault(status, headers, body)
    }

    fn relay(&self) -> Option<&dyn Relay> {
        self.gemini.relay()
    }

    fn count_tokens(&self) -> Option<&dyn CountTokens> {
        self.gemini.count_tokens()
    }

    fn embeddings(&self) -> Option<&dyn Embeddings> {
        self.gemini.embeddings()
    }
}

#[cfg(test)]
mod tests;

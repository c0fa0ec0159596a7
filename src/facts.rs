//! What a policy sees of a request: gathered before the policies run, so that a decision can be recorded and replayed.

mod beginning;
pub mod fit;
pub mod market;
pub mod measure;
mod notes;
pub mod point;
mod reads;
mod told;
mod watched;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::caller::Caller;
use crate::chat::Tier;
pub use beginning::beginning;
use market::Market;
pub use notes::{HeaderNames, Media, Noted, Notes, Seen, Text};
pub use reads::{Answer, Asked, Asking, BETWEEN, Reads};
pub use told::{Message, Messages, Modality, Told};
pub use watched::{Costed, Past, Visited, Watched};

/// Client headers that no policy sees: credentials. Browsers put theirs among the protocols of a WebSocket.
pub const HIDDEN_HEADERS: [HeaderName; 6] = [
    AUTHORIZATION,
    COOKIE,
    PROXY_AUTHORIZATION,
    SEC_WEBSOCKET_PROTOCOL,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// The operation that the client asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// A chat completion.
    #[default]
    Chat,
    /// Embedding vectors.
    Embeddings,
    /// A count of the tokens that a chat completion would take.
    CountTokens,
    /// A legacy text completion.
    Completions,
    /// A judgement of content.
    Moderations,
    /// An order of documents by relevance.
    Rerank,
    /// Pictures, made or changed.
    Images,
    /// Spoken text.
    Speech,
    /// Text of speech, in its language or in English.
    Transcription,
    /// Files at the provider, and conversations that it keeps.
    Files,
    /// Many requests at once, which the provider answers later.
    Batches,
    /// A conversation over a WebSocket.
    Realtime,
    /// Raw bytes to a provider.
    Passthrough,
}

impl Endpoint {
    /// The name used in policies, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
            Self::CountTokens => "count_tokens",
            Self::Completions => "completions",
            Self::Moderations => "moderations",
            Self::Rerank => "rerank",
            Self::Images => "images",
            Self::Speech => "speech",
            Self::Transcription => "transcription",
            Self::Files => "files",
            Self::Batches => "batches",
            Self::Realtime => "realtime",
            Self::Passthrough => "passthrough",
        }
    }
}

/// Everything that a policy may know of one request. Cloning is counting, but for headers and tags.
#[derive(Clone)]
pub struct Facts {
    /// The `x-request-id` of this request.
    pub request_id: Arc<str>,
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The model name as the client wrote it.
    pub model: Arc<str>,
    /// Who asks.
    pub caller: Caller,
    /// The client's headers (names lowercase) without credentials and cookies.
    pub headers: HeaderMap,
    /// Tags from `x-tollgate-tags`, in the order given. Policies may add their own.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// When it was asked, in Unix milliseconds: the time of everything that policies reckon with.
    pub at_ms: u64,
    /// The request body, read only as far as somebody asks.
    pub body: Arc<dyn Body>,
    /// How the limits that hold for it stand.
    pub rates: Vec<Rated>,
    /// The targets that there are, with the numbers of this moment.
    pub market: Arc<dyn Market>,
}

/// How a limit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rated {
    /// The limit's name.
    pub name: Arc<str>,
    /// What it counts: `requests`, `tokens`, `input-tokens`, `output-tokens`, `concurrent-requests`.
    pub what: Cow<'static, str>,
    /// How much it lets through.
    pub limit: u64,
    /// What is left of that.
    pub remaining: u64,
}

/// The request body as a policy may ask about it. Implementations compute each answer at most once; what an operation
/// does not know (the tools of embeddings), it leaves out.
pub trait Body: Send + Sync {
    /// Whether the client wants a stream.
    fn stream(&self) -> bool {
        false
    }
    /// `max_tokens` or `max_completion_tokens`, whichever the client gave.
    fn max_tokens(&self) -> Option<u64> {
        None
    }
    /// An estimate of the prompt's tokens: a quarter of the bytes of its messages and tools, and for each picture or file
    /// among them what a usual one takes. What a target makes of that, only its reports tell.
    fn tokens(&self) -> u64;
    /// Names of the tools that the model may call, in order.
    fn tool_names(&self) -> &[Box<str>] {
        &[]
    }
    /// Number of messages (chat) or inputs (embeddings).
    fn messages(&self) -> u64;
    /// Whether any message has an image part.
    fn has_images(&self) -> bool {
        false
    }
    /// Whether any message has an audio part.
    fn has_audio(&self) -> bool {
        false
    }
    /// Whether any message has a file part.
    fn has_files(&self) -> bool {
        false
    }
    /// Whether any of the files is more than text, which every provider can be told.
    fn has_documents(&self) -> bool {
        self.has_files()
    }
    /// Whether structured output (`response_format` other than text) is asked for.
    fn has_json_output(&self) -> bool {
        false
    }
    /// All text of all messages, joined by newlines.
    fn text(&self) -> &str;
    /// The text of the system and developer messages, joined by newlines.
    fn system(&self) -> &str {
        ""
    }
    /// The text of the last user message.
    fn last_user(&self) -> &str;
    /// What was said, in order, system messages first where the dialect keeps them apart.
    fn turns(&self) -> Vec<Turn> {
        let text = self.text();
        if text.is_empty() { Vec::new() } else { vec![Turn { role: "user", text: text.to_owned() }] }
    }
    /// What stands in the conversation besides what was said: what tools were called with, thoughts, results that are
    /// no plain text.
    fn asides(&self) -> Vec<Aside> {
        Vec::new()
    }
    /// What is said around the conversation: what tools are good for, and which form the answer is to have.
    fn definitions(&self) -> Vec<Aside> {
        Vec::new()
    }
    /// Whether the prompt is given as token ids, of which only the model knows what they say.
    fn has_token_ids(&self) -> bool {
        false
    }
    /// The `user` (or `safety_identifier`) field.
    fn user(&self) -> Option<&str>;
    /// A value of the `metadata` object: strings as they are, anything else as JSON text.
    fn metadata(&self, _key: &str) -> Option<String> {
        None
    }
    /// Any other top-level field as JSON text, for example `temperature`.
    fn field(&self, name: &str) -> Option<&str>;
    /// A parameter as JSON text by the name that policies have for it (`temperature`, `stop`, `reasoning_effort`),
    /// wherever the client's dialect keeps it.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.field(name)
    }
    /// The class of service that the client asks for, where its request names one.
    fn service_tier(&self) -> Option<Tier> {
        service_word(self).map(Tier::asked)
    }
    /// The dearest class of service that it can be given, where its request names one that leaves no choice.
    fn service_at_most(&self) -> Option<Tier> {
        service_word(self).and_then(Tier::at_most)
    }
    /// How many words the text has.
    fn words(&self) -> u64 {
        self.text().split_whitespace().count() as u64
    }
    /// What was written down of the request, where the request itself is not here any more.
    fn notes(&self) -> Option<&Notes> {
        None
    }
}

/// The class of service in the request's own word. `null` is none: official SDKs write it for what was not set.
fn service_word<B: Body + ?Sized>(body: &B) -> Option<&str> {
    let mut raw = ["service_tier", "serviceTier"].into_iter().filter_map(|name| body.field(name));
    raw.find(|raw| *raw != "null").map(|raw| raw.trim_matches('"'))
}

/// A message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system` (developers too), `user`, `assistant` or `tool`, whatever the dialect says.
    pub role: &'static str,
    /// Its text; parts are joined by newlines.
    pub text: String,
}

/// A text of the conversation that nobody said in words. Each text within a JSON value stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// `arguments`, `reasoning`, `results`, `prediction`, `name`, `refusal`, `suffix`, `tools` …
    pub what: &'static str,
    /// What it says.
    pub text: String,
}

/// The facts as they stand in a decision record: small, without any text of the prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FactsRecord {
    /// What was asked for.
    pub endpoint: Endpoint,
    /// The model name as the client wrote it.
    pub model: Arc<str>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Estimated prompt tokens.
    pub tokens: u64,
    /// Number of messages.
    pub messages: u64,
    /// Number of tools offered.
    pub tools: usize,
    /// The output limit that the client gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// The user, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// Size of the request body in bytes.
    pub bytes: usize,
}

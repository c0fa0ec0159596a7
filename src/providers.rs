//! Dialects of providers, one file each, sans-IO: requests and answers as values, no sockets, no async.
//!
//! `add a provider` = one file and one word in [`dialect`]'s table.
//! `add an OpenAI-compatible vendor` = an entry in `providers/presets.yaml`, no Rust.

mod addresses;
mod allowance;
mod anthropic;
pub mod aws;
pub mod azure;
mod bedrock;
mod call_id;
mod choice;
mod cohere;
mod credential;
mod foreign;
mod gemini;
pub mod google;
mod grant;
mod lease;
mod locate;
mod meter;
pub mod moderation;
mod names;
mod ollama;
mod openai;
mod passage;
pub mod percent;
pub mod presets;
mod realtime;
#[cfg(test)]
mod recorded;
pub mod rerank;
mod respond;
mod responses;
mod restrained;
mod retry_after;
mod ring;
mod sandbox;
mod schema;
mod scrub;
pub mod search;
mod service;
mod settings;
mod sigv4;
mod spoken;
mod vectors;
mod vendor;
mod vertex;
mod wav;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use crate::chat::{Answer, Loss, Request, StreamDecoder, Tier, Usage};
use crate::fault::Fault;
use crate::target::TargetName;
pub use credential::{Credential, Sign, Signable};
pub use gemini::with_method as gemini_method;
pub use grant::{FixedHeaders, Grant, GrantAnswer, GrantAsk, GrantStep, Granted, bearer, identity};
pub use lease::{Due, Held, Lease, Trouble};
pub use meter::Meter;
pub use moderation::ModerationQuirks;
pub use names::Names;
pub use passage::{Awaited, Ford, Inspection, Interpreter, Sentry};
pub use realtime::EventMeter;
pub use rerank::{RerankAsk, RerankQuirks};
pub use respond::respond;
pub use restrained::{Gauge, Tally};
pub use ring::{
    Balance, Hold, Key, KeyLimits, KeyLook, Left, ModelLeft, Quotas, Recall, Rest, Ring, Sticky, Why, Wish,
};
pub use sandbox::Sandbox;
pub use scrub::scrub;
pub use service::given_tier;
pub use settings::{
    AwsSettings, AzureSettings, DeadlineOverrides, FaultDetails, FaultSettings, GoogleSettings,
    HeaderSettings, KeyDetails, KeySettings, LabelValue, PooledKey, ProviderSettings, QuirkSettings,
    QuotaSettings,
};
pub use sigv4::{AwsKeys, SigV4};
pub use vendor::{HttpPlace, Place, Target, Vendor, Withheld};
pub use vertex::{Scope, Vertex};

/// Stands for the signature of a thought that no provider has signed, towards clients who want one in every thought.
/// What bears it is never sent to a provider that checks signatures.
pub const UNSIGNED_THOUGHT: &str = "tollgate:unsigned";

/// A dialect on the wire, of clients and of providers alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions and embeddings.
    OpenAi,
    /// Anthropic messages.
    Anthropic,
    /// Google's generateContent and embeddings.
    Gemini,
    /// OpenAI responses.
    Responses,
    /// AWS Bedrock's Converse.
    Bedrock,
    /// Cohere's chat v2, embed and rerank.
    Cohere,
    /// Ollama's own API.
    Ollama,
}

impl Dialect {
    /// The name used in metrics and in the table of translations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Responses => "responses",
            Self::Bedrock => "bedrock",
            Self::Cohere => "cohere",
            Self::Ollama => "ollama",
        }
    }
}

/// What a provider speaks and how. One object per configured provider, built with its preset and its quirks.
pub trait Provider: Send + Sync {
    /// The dialect that this provider speaks.
    fn dialect(&self) -> Dialect;
    /// Canonical request → upstream request.
    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault>;
    /// Whole upstream body (status 2xx) → canonical answer. An error object inside a 200 is an `Err`.
    fn decode(&self, body: &[u8]) -> Result<Answer, Fault>;
    /// A decoder for one streamed answer.
    fn stream_decoder(&self) -> Box<dyn StreamDecoder>;
    /// A whole answer with what only its headers tell, put where the dialect has a place for it.
    fn told(&self, body: Bytes, _headers: &HeaderMap) -> Bytes {
        body
    }
    /// What an error answer means. `body` may be cut at 64 KiB, may be HTML, may be empty.
    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault;
    /// The ability to carry bytes of a client that speaks this provider's own dialect.
    fn relay(&self) -> Option<&dyn Relay> {
        None
    }
    /// The ability to carry bytes of a client that speaks OpenAI's Responses.
    fn responses(&self) -> Option<&dyn Relay> {
        None
    }
    /// The ability to carry bytes of a client that asks this model for a legacy text completion.
    fn completions(&self, model: &str) -> Option<&dyn Relay> {
        let _ = model;
        None
    }
    /// Who speaks for this model, where the vendor does not offer all of its models in one dialect; see
    /// [`Target::wire`].
    fn speaker(&self, model: &str) -> Option<&dyn Provider> {
        let _ = model;
        None
    }
    /// The ability to count the tokens of a request without answering it.
    fn count_tokens(&self) -> Option<&dyn CountTokens> {
        None
    }
    /// The ability to make embeddings.
    fn embeddings(&self) -> Option<&dyn Embeddings> {
        None
    }
    /// The ability to order documents by relevance.
    fn rerank(&self) -> Option<&dyn Rerank> {
        None
    }
    /// The ability to judge content.
    fn moderations(&self) -> Option<&dyn Moderations> {
        None
    }
    /// The ability to make pictures for clients of OpenAI's dialect by translation. A provider that takes their bytes
    /// has a [`Provider::media_path`] instead.
    fn images(&self) -> Option<&dyn Images> {
        None
    }
    /// The ability to speak to clients of OpenAI's dialect by translation.
    fn speech(&self) -> Option<&dyn Speech> {
        None
    }
    /// The name by which this provider knows a model, in paths and bodies.
    fn deployed<'m>(&'m self, model: &'m str) -> &'m str {
        model
    }
    /// Where this provider takes the bytes of one of OpenAI's operations on media and files (`audio/speech`,
    /// `files/file-1`): path below the base URL, with a leading slash. `None` where it does not.
    fn media_path(&self, _operation: &str, _model: &str) -> Option<String> {
        None
    }
    /// Where this provider takes chat requests in its own dialect: path and query below the base URL. `None` where
    /// nobody can say.
    fn chat_path(&self, _model: &str, _streams: bool) -> Option<String> {
        None
    }
    /// Where this provider takes conversations over a WebSocket: path and query below the base URL. `None` where it does
    /// not.
    fn realtime_path(&self, _model: &str) -> Option<String> {
        None
    }
    /// Where this provider takes Responses over a WebSocket: path below the base URL. `None` where it does not.
    fn responses_socket(&self) -> Option<String> {
        None
    }
    /// Where this provider takes live conversations of Google's dialect, from the host on, and what the model is called
    /// there; `version` is that of the API which the client speaks. `None` where it does not.
    fn live(&self, _model: &str, _version: &str) -> Option<(String, String)> {
        None
    }
    /// What usage objects of one answer, given as JSON text, say: the first and the last that were seen.
    fn usage(&self, _said: &[&str]) -> Option<Usage> {
        None
    }
    /// A provider that answers inside the process, without a socket.
    fn local(&self) -> Option<&dyn Local> {
        None
    }
}

/// The ability to relay the client's own bytes: same dialect in and out (D1).
pub trait Relay: Send + Sync {
    /// The client's chat request with only the fields changed that must change (`model`, `stream_options`, the
    /// preset's renames and drops). Parts of the body that do not change are slices of `body`, not copies.
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault>;
    /// Adds the client's own headers that choose what its body may say.
    fn carry(&self, outgoing: &mut Outgoing, headers: &[(&'static str, HeaderValue)]) {
        for (name, value) in headers {
            outgoing.headers.insert(*name, value.clone());
        }
    }
    /// Checks and, where the vendor deviates, normalises a whole answer. Clean bytes come back untouched.
    fn whole(&self, body: Bytes) -> Result<Relayed, Fault>;
    /// A relay for one streamed answer. `include_usage`: whether the client asked for the usage chunk.
    fn stream(&self, include_usage: bool) -> Box<dyn StreamRelay>;
    /// The same for a client who asked for the provider's own form, whichever that is: every byte goes on.
    fn stream_as_it_comes(&self) -> Box<dyn StreamRelay> {
        self.stream(true)
    }
}

/// The ability to count the tokens of a request without answering it, for clients of this provider's own dialect.
pub trait CountTokens: Send + Sync {
    /// The client's request for a count → upstream request.
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault>;
    /// Checks the upstream's answer.
    fn whole(&self, body: Bytes) -> Result<Relayed, Fault>;
}

/// The ability to make embeddings, in OpenAI's dialect.
pub trait Embeddings: Send + Sync {
    /// The client's embeddings request → upstream request.
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault>;
    /// The upstream's answer → the client's, in the encoding that the client asked for.
    fn whole(&self, body: Bytes, base64: bool) -> Result<Relayed, Fault>;
    /// Whether clients of the provider's own dialect can be served with their own bytes.
    fn is_native(&self) -> bool {
        true
    }
    /// Whether this model's embeddings are made by Vertex AI's `:predict`.
    fn predicts(&self, model: &str) -> bool {
        let _ = model;
        false
    }
}

/// The ability to order documents by relevance, in Cohere's dialect.
pub trait Rerank: Send + Sync {
    /// The client's rerank request → upstream request.
    fn splice(&self, ask: &RerankAsk, target: &TargetName) -> Result<Outgoing, Fault>;
    /// Checks the upstream's answer and brings it to Cohere's form.
    fn whole(&self, ask: &RerankAsk, body: Bytes) -> Result<Relayed, Fault>;
}

/// The ability to judge content, in OpenAI's dialect.
pub trait Moderations: Send + Sync {
    /// The model for clients who name none.
    fn usual_model(&self) -> &str;
    /// Whether pictures can be judged too.
    fn sees_images(&self) -> bool;
    /// The client's request for a judgement → upstream request.
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault>;
    /// Checks the upstream's answer, which has `results` of them, and brings it to OpenAI's form.
    fn whole(&self, body: Bytes, results: usize) -> Result<Relayed, Fault>;
}

/// The ability to make pictures, in OpenAI's dialect.
pub trait Images: Send + Sync {
    /// The client's `images/generations` request → upstream request.
    ///
    /// # Errors
    /// `BadRequest` for what the answer would be wrong without.
    fn encode(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault>;
    /// The upstream's answer → the client's.
    ///
    /// # Errors
    /// The provider's fault when its body is no answer.
    fn whole(&self, body: Bytes) -> Result<Relayed, Fault>;
}

/// The ability to speak: OpenAI's `audio/speech` to and from the provider's own form.
pub trait Speech: Send + Sync {
    /// The client's `audio/speech` request → upstream request; `None` where the model does not speak.
    ///
    /// # Errors
    /// `BadRequest` for what the answer would be wrong without.
    fn encode(&self, body: &ClientBody, target: &TargetName) -> Option<Result<Outgoing, Fault>>;
    /// The upstream's answer to `asked` → sound.
    ///
    /// # Errors
    /// The provider's fault when its body is no answer.
    fn whole(&self, asked: &ClientBody, body: Bytes) -> Result<Relayed, Fault>;
}

/// A provider that answers inside the process.
pub trait Local: Send + Sync {
    /// Plays the part of the upstream: the answer as it would come over the wire.
    fn answer(&self, request: Outgoing) -> LocalAnswer;
}

/// The wire answer of a [`Local`] provider.
#[derive(Debug, Clone)]
pub struct LocalAnswer {
    /// HTTP status.
    pub status: u16,
    /// Response headers.
    pub headers: HeaderMap,
    /// Pieces of the body, each sent after its delay.
    pub pieces: Vec<(Duration, Bytes)>,
}

/// A request body that passed the strict JSON gate, with the place of every top-level field.
pub type ClientBody = crate::json::Body;

/// A request as it goes upstream. The transport adds `host`, `content-length` and nothing else.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Normally POST.
    pub method: Method,
    /// Path and query below the provider's base URL, beginning with a slash (`/chat/completions`).
    pub path: String,
    /// Whether the path begins at the host instead and is all of it: neither the base URL's own path nor the configured
    /// query is added.
    pub is_absolute: bool,
    /// Content type, accept, and the dialect's own headers. No credentials: the transport side adds those.
    pub headers: HeaderMap,
    /// The body in pieces, in order.
    pub body: Vec<Bytes>,
    /// What of the client's request it does not say.
    pub lost: Vec<Loss>,
    /// The service that its body asks for, where whoever wrote it has seen that; else the body is read for it.
    pub tier: Option<Tier>,
}

impl Outgoing {
    /// A POST with JSON in its body.
    pub(crate) fn json(path: String, accept: &'static str, body: Vec<Bytes>) -> Self {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Self { method: Method::POST, path, is_absolute: false, headers, body, lost: Vec::new(), tier: None }
    }
}

/// A whole answer on its way to the client.
#[derive(Debug, Clone)]
pub struct Relayed {
    /// The body for the client.
    pub body: Bytes,
    /// What the provider says was used.
    pub usage: Option<Usage>,
    /// Finish reason of the first choice, in OpenAI's words.
    pub finish: Option<&'static str>,
    /// What of the provider's answer it does not say.
    pub lost: Vec<Loss>,
}

/// One streamed answer, same dialect in and out: upstream bytes in, frames for the client out.
pub trait StreamRelay: Send {
    /// Takes the next bytes and appends what can go to the client. An `Err` (error event inside a 200, malformed
    /// event, line over 1 MiB) ends the stream; frames already in `out` are still good.
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault>;
    /// Takes one whole JSON document that came although a stream was asked for, and appends the stream that says the
    /// same, `[DONE]` included.
    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault>;
    /// The upstream closed the body: appends the held frames, the usage chunk if the client asked for it, and
    /// `[DONE]`. `Err(Truncated)` when the terminal event never came; then nothing that looks like an end is appended.
    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault>;
    /// The upstream said all ([`Self::has_said_all`]) and then nothing more, while its body stays open: where only the
    /// terminal event is missing, the answer is complete.
    fn settle(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.finish(out)
    }
    /// The frames that end the stream with an error, where the dialect wants to know in them how far the stream had
    /// come; `None` where the door's own will do.
    fn fault(&mut self, _fault: &Fault) -> Option<Bytes> {
        None
    }
    /// Whether the terminal event has come, so that the rest of the body need not be awaited.
    fn is_complete(&self) -> bool;
    /// Usage as far as it is known.
    fn usage(&self) -> Option<Usage>;
    /// Finish reason of the first choice, in OpenAI's words.
    fn finish_reason(&self) -> Option<&'static str>;
    /// Whether nothing is missing but the terminal event: every choice has ended, and the usage is known.
    fn has_said_all(&self) -> bool {
        self.finish_reason().is_some() && self.usage().is_some()
    }
    /// Bytes of generated text so far, for an estimate when the provider gives no usage.
    fn text_bytes(&self) -> u64;
    /// The id under which the provider goes on with this answer, whether anybody hears it or not; as long as it is not
    /// complete.
    fn in_background(&self) -> Option<&str> {
        None
    }
    /// The id of an answer that was asked for before and is looked at here: it is paid for as what was asked for then.
    fn looked_for(&self) -> Option<&str> {
        None
    }
    /// What of the provider's answer so far the frames do not say.
    fn lost(&self) -> &[Loss] {
        &[]
    }
}

/// Bytes for the client: one or more whole events.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Whole events, each with its blank line.
    pub bytes: Bytes,
    /// Whether a client sees content by it (see [`crate::chat::Event::is_content`]).
    pub content: bool,
}

/// The words of [`dialect`]; besides them, `plugin:NAME` for what a plugin speaks.
pub const DIALECTS: &[&str] = &[
    "anthropic",
    "bedrock",
    "bedrock-anthropic",
    "cohere",
    "gemini",
    "ollama",
    "openai",
    "openai-responses",
    "sandbox",
    "vertex",
];

/// A provider by the configuration's `dialect:` word; `quirks` are the preset's with the settings' own merged in.
pub fn dialect(name: &str, quirks: &QuirkSettings) -> Option<Arc<dyn Provider>> {
    match name {
        "bedrock-anthropic" => Some(Arc::new(bedrock::claude::Claude::new(quirks))),
        "bedrock" => Some(Arc::new(bedrock::Bedrock::new(quirks.clone()))),
        "cohere" => Some(Arc::new(cohere::Cohere::new(quirks.clone()))),
        "gemini" => Some(Arc::new(gemini::Gemini::new(quirks.clone()))),
        "ollama" => Some(Arc::new(ollama::Ollama::new(quirks.clone()))),
        "openai" => Some(Arc::new(openai::OpenAi::new(quirks.clone()))),
        "openai-responses" => Some(Arc::new(responses::Responses::new(quirks.clone()))),
        "anthropic" => Some(Arc::new(anthropic::Anthropic::new(quirks.clone()))),
        "vertex" => Some(Arc::new(Vertex::new(quirks, &Scope::default()))),
        "sandbox" => Some(Arc::new(Sandbox::new(Arc::new(openai::OpenAi::new(sandbox::able(quirks)))))),
        _ if name.starts_with("plugin:") => Some(Arc::new(spoken::Spoken::new(quirks))),
        _ => None,
    }
}

/// The text of an upstream or of a plugin as a client may see it; `None` where nothing of it may be seen.
pub fn presentable(text: &str) -> Option<String> {
    scrub::scrub(text)
}

//! A generateContent request as the gateway knows it: a checked envelope, and the contents only when somebody asks.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::decode::{Decoded, decode};
use super::sight::Contents;
use crate::api::openai_chat::param::{Param, missing};
use crate::api::openai_chat::{MAX_CHOICES, MAX_TOKENS, MAX_TOOLS};
use crate::api::routes::MODEL_PLACES;
use crate::api::sight::{Envelope, Seen, Sight};
use crate::chat::Request;
use crate::fault::Fault;
use crate::gateway::Head;
use crate::json::{self, Body, Splice};

/// Most contents of one request.
pub const MAX_CONTENTS: usize = 10_000;

/// What is asked for, and the form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `:generateContent`.
    Whole,
    /// `:streamGenerateContent?alt=sse`: events.
    Events,
    /// `:streamGenerateContent`: one JSON array that grows.
    Array,
    /// `:countTokens`.
    Count,
}

impl Form {
    /// Whether the answer is a stream.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Events | Self::Array)
    }
}

/// Lists that Google's API also takes as their one element, as the documentation of Vertex AI writes them.
const LISTS: [&str; 2] = ["contents", "tools"];

/// The same with lists for such elements.
fn listed(body: Body) -> Result<Body, Fault> {
    let lone = |key: &&&str| body.raw_bytes(key).is_some_and(|raw| raw.starts_with(b"{"));
    if !LISTS.iter().any(|key| lone(&key)) {
        return Ok(body);
    }
    let mut splice = Splice::new(&body);
    for key in LISTS.iter().filter(lone) {
        splice.set(key, format!("[{}]", body.raw(key).unwrap_or_default()));
    }
    Body::read(splice.finish().concat().into())
}

/// A generateContent request with a checked envelope.
pub struct Ask {
    /// What the client sent.
    sent: Body,
    /// The request itself, which a count of tokens may wrap.
    body: Body,
    model: Arc<str>,
    form: Form,
    /// The query that asks for enums as numbers, to be sent on to Google.
    numbers: Option<Box<str>>,
    max_tokens: Option<u64>,
    contents: usize,
    sight: Sight<Contents>,
    decoded: OnceLock<Result<Decoded, Fault>>,
}

impl Ask {
    /// Checks the envelope of a request: everything that the gateway itself acts upon. What is only for the
    /// provider is left to the provider.
    ///
    /// # Errors
    /// `BadRequest` with the field's name.
    pub fn read(sent: Body, head: Head<'_>, form: Form) -> Result<Self, Fault> {
        let sent = listed(sent)?;
        let wrapped =
            sent.raw_bytes("generateContentRequest").or_else(|| sent.raw_bytes("generate_content_request"));
        let body = match wrapped.filter(|_| form == Form::Count) {
            Some(inner) => listed(Body::read(Bytes::copy_from_slice(inner))?)?,
            None => sent.clone(),
        };
        let mut contents = None;
        let mut max_tokens = None;
        for field in body.fields() {
            let param = |name| Param { name, raw: body.value(field), items: field.items };
            match &*field.key {
                "contents" => {
                    param("contents").filled_array(MAX_CONTENTS)?;
                    contents = Some(field.items);
                }
                "tools" => drop(param("tools").array(MAX_TOOLS)?),
                "generationConfig" | "generation_config" => {
                    let config = param("generationConfig").object()?.unwrap_or_default();
                    max_tokens = generation(config)?;
                }
                "toolConfig" | "tool_config" => drop(param("toolConfig").object()?),
                _ => {}
            }
        }
        Ok(Self {
            model: model_of(head.uri.path())?,
            contents: contents.ok_or_else(|| missing("contents"))?,
            form,
            numbers: numbers(head.uri.query()),
            max_tokens,
            sight: Sight::default(),
            decoded: OnceLock::new(),
            sent,
            body,
        })
    }

    /// The same request with another body.
    pub(super) fn again(&self, sent: Body) -> Result<Self, Fault> {
        let config = sent.raw("generationConfig").or_else(|| sent.raw("generation_config"));
        Ok(Self {
            model: self.model.clone(),
            contents: self.contents,
            form: self.form,
            numbers: self.numbers.clone(),
            max_tokens: config.map(generation).transpose()?.flatten(),
            sight: Sight::default(),
            decoded: OnceLock::new(),
            body: sent.clone(),
            sent,
        })
    }

    /// The body as the client sent it.
    pub fn sent(&self) -> &Body {
        &self.sent
    }

    /// The model's name as the client wrote it into the path.
    pub fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// What is asked for.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The query to send on to Google, for enums as numbers.
    pub(super) fn numbers(&self) -> Option<&str> {
        self.numbers.as_deref()
    }

    /// The whole request in the canonical form; `None` where it cannot be understood.
    pub(in crate::api) fn canonical(&self) -> Option<Request> {
        self.decoded().ok().map(|decoded| decoded.request.clone())
    }

    /// The whole request for a target of another dialect, decoded at most once.
    pub(super) fn decoded(&self) -> Result<&Decoded, Fault> {
        let decoded = self.decoded.get_or_init(|| decode(&self.body, &self.model, self.form.is_stream()));
        decoded.as_ref().map_err(Clone::clone)
    }
}

fn generation(config: &str) -> Result<Option<u64>, Fault> {
    let mut max_tokens = None;
    for (key, raw) in json::entries(config) {
        let param = |name| Param { name, raw: raw.as_bytes(), items: 0 };
        match &*key {
            "maxOutputTokens" | "max_output_tokens" => {
                max_tokens = param("generationConfig.maxOutputTokens").integer(1, MAX_TOKENS)?;
            }
            "candidateCount" | "candidate_count" => {
                param("generationConfig.candidateCount").integer(1, MAX_CHOICES)?;
            }
            _ => {}
        }
    }
    Ok(max_tokens)
}

/// The model's name in `/v1beta/models/{model}:{method}`.
pub(super) fn model_of(path: &str) -> Result<Arc<str>, Fault> {
    let name = MODEL_PLACES.iter().find_map(|place| path.strip_prefix(place)).unwrap_or_default();
    let name = name.rsplit_once(':').map_or(name, |(model, _)| model);
    let name = crate::api::routes::unescape(name);
    let raw = serde_json::to_vec(&name).unwrap_or_default();
    Param { name: "model", raw: &raw, items: 0 }.model()
}

/// `$alt=json;enum-encoding=int`, however it is encoded.
fn numbers(query: Option<&str>) -> Option<Box<str>> {
    let asks = |pair: &&str| {
        pair.contains("enum-encoding") || crate::api::routes::unescape(pair).contains("enum-encoding")
    };
    query?.split('&').find(asks).map(Box::from)
}

impl Seen for Ask {
    type Dialect = Contents;

    fn sight(&self) -> &Sight<Contents> {
        &self.sight
    }

    fn shown(&self) -> &Body {
        &self.body
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope {
            stream: self.form.is_stream(),
            max_tokens: self.max_tokens,
            messages: self.contents,
            user: None,
        }
    }

    fn prompt(&self) -> usize {
        let system = if self.body.field("systemInstruction").is_some() {
            "systemInstruction"
        } else {
            "system_instruction"
        };
        let bytes = |key| self.body.field(key).map_or(0, |field| field.value.len());
        bytes("contents") + bytes(system) + bytes("tools")
    }
}

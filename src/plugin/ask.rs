//! What a plugin is asked about: the request, its text, the targets, a piece of a stream, how it all ended.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
#[cfg(feature = "wasm")]
use wasmtime::component::{ComponentType, Lower};

use crate::caller::Caller;
use crate::facts::{Aside, Endpoint, Facts};

/// A name and a value.
pub type Pair = (Arc<str>, Arc<str>);

/// A request to look at: what is known of it, and its text. Shared by all plugins that look at it.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What is known of the request besides its text.
    pub context: Context,
    /// The text, piece by piece. A plugin without the grant `prompt` gets none.
    pub segments: Vec<Segment>,
}

/// What a plugin may know of a request besides its text.
#[derive(Debug, Clone)]
pub struct Context {
    /// The `x-request-id`.
    pub request_id: Arc<str>,
    /// The operation.
    pub endpoint: Endpoint,
    /// The model's name as the client asked for it.
    pub model: Arc<str>,
    /// Who asks, as plugins see it.
    pub principal: Principal,
    /// Who asks, as the gateway knows it.
    pub caller: Caller,
    /// Lowercase names. Each plugin sees only those that its settings name.
    pub headers: Vec<Pair>,
    /// The request's `metadata`, values as JSON text.
    pub metadata: Vec<Pair>,
    /// What the request makes use of.
    pub features: Features,
    /// Estimated tokens of the prompt.
    pub prompt_tokens: u32,
    /// The client's limit of the answer.
    pub max_output_tokens: Option<u32>,
    /// Tags that policies or earlier plugins put on the request.
    pub tags: Vec<Pair>,
}

/// Who asks; never the key itself.
#[derive(Debug, Clone, Default)]
pub struct Principal {
    /// The public id of the virtual key; empty where there is none.
    pub key_id: Arc<str>,
    /// The user.
    pub user: Option<Arc<str>>,
    /// The team.
    pub team: Option<Arc<str>>,
    /// Tags of the key.
    pub tags: Vec<Pair>,
}

/// What a request makes use of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "their names say it")]
pub struct Features {
    pub streaming: bool,
    pub tools: bool,
    pub images: bool,
    pub audio: bool,
    pub files: bool,
    pub json_output: bool,
    pub logprobs: bool,
    pub reasoning: bool,
}

/// Who said a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lower), component(enum))]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Origin {
    #[cfg_attr(feature = "wasm", component(name = "system"))]
    System,
    #[cfg_attr(feature = "wasm", component(name = "developer"))]
    Developer,
    #[cfg_attr(feature = "wasm", component(name = "user"))]
    User,
    #[cfg_attr(feature = "wasm", component(name = "assistant"))]
    Assistant,
    #[cfg_attr(feature = "wasm", component(name = "tool"))]
    Tool,
    #[cfg_attr(feature = "wasm", component(name = "other"))]
    Other,
}

/// A piece of text of a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lower), component(record))]
pub struct Segment {
    /// Unique within one call; findings point at it.
    pub id: u32,
    /// Who said it.
    pub origin: Origin,
    /// Where it stands, for logs: `messages[3].content[0].text`.
    pub path: Arc<str>,
    /// What it says.
    pub text: Arc<str>,
}

/// Whether a guard looks at a request or at an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lower), component(enum))]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Phase {
    #[cfg_attr(feature = "wasm", component(name = "request"))]
    Request,
    #[cfg_attr(feature = "wasm", component(name = "response"))]
    Response,
}

/// A piece of a streamed answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lower), component(record))]
pub struct Window {
    /// Index of the choice.
    pub choice: u32,
    /// `content`, `reasoning`, `tool_call[0].arguments` …
    pub channel: Arc<str>,
    /// Text already sent, for context to the left; at most 256 bytes.
    pub before: String,
    /// Text not yet sent.
    pub text: String,
    /// No more text will come on this channel.
    pub last: bool,
}

/// A target that a router may choose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lower), component(record))]
pub struct Candidate {
    /// `provider/model`, or an alias of the configuration.
    pub target: Arc<str>,
    /// Whether it is in service.
    pub healthy: bool,
    /// Share of failures in the last minutes, 0 to 1.
    #[cfg_attr(feature = "wasm", component(name = "error-rate"))]
    pub error_rate: f32,
    /// Median latency in milliseconds.
    #[cfg_attr(feature = "wasm", component(name = "latency-p50-ms"))]
    pub latency_p50_ms: u32,
    /// 95th percentile of the latency in milliseconds.
    #[cfg_attr(feature = "wasm", component(name = "latency-p95-ms"))]
    pub latency_p95_ms: u32,
    /// Estimated cost of this request in micro-dollars.
    #[cfg_attr(feature = "wasm", component(name = "cost-micros"))]
    pub cost_micros: u64,
    /// Tokens that fit into its context.
    #[cfg_attr(feature = "wasm", component(name = "context-window"))]
    pub context_window: u32,
    /// Where it runs; empty where that is not known.
    pub region: Arc<str>,
    /// Its tags.
    pub tags: Vec<Arc<str>>,
}

/// How a request ended, for observers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lower), component(record))]
pub struct Completion {
    /// Who answered.
    pub target: Arc<str>,
    /// The status that the client got.
    pub status: u16,
    /// Why the answer ended.
    #[cfg_attr(feature = "wasm", component(name = "finish-reason"))]
    pub finish_reason: Option<Arc<str>>,
    /// Tokens.
    pub usage: TokenUsage,
    /// Cost in micro-dollars.
    #[cfg_attr(feature = "wasm", component(name = "cost-micros"))]
    pub cost_micros: u64,
    /// Milliseconds to the first content, of a stream.
    #[cfg_attr(feature = "wasm", component(name = "first-token-ms"))]
    pub first_token_ms: Option<u32>,
    /// Milliseconds to the end.
    #[cfg_attr(feature = "wasm", component(name = "duration-ms"))]
    pub duration_ms: u32,
    /// What was tried, in order.
    pub attempts: Vec<AttemptMade>,
    /// Whether the answer came from the cache.
    #[cfg_attr(feature = "wasm", component(name = "cache-hit"))]
    pub cache_hit: bool,
}

/// Tokens of a request and its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lower), component(record))]
#[allow(missing_docs, reason = "their names say it")]
pub struct TokenUsage {
    pub prompt: u32,
    pub completion: u32,
    pub cached: u32,
    pub reasoning: u32,
}

/// One attempt at a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lower), component(record))]
pub struct AttemptMade {
    /// Who was asked.
    pub target: Arc<str>,
    /// The status of the answer; 0 where none came.
    pub status: u16,
    /// The kind of fault, where it failed.
    #[cfg_attr(feature = "wasm", component(name = "error-kind"))]
    pub error_kind: Option<Arc<str>>,
    /// Milliseconds that it took.
    #[cfg_attr(feature = "wasm", component(name = "duration-ms"))]
    pub duration_ms: u32,
}

impl Ask {
    /// A request of which these `facts` are known, with the tags that it has by now, for plugins that see no other
    /// headers than these. The text is handed in, since only the caller knows which of it is to be looked at.
    pub fn of(facts: &Facts, tags: &[Pair], headers: &[String], segments: Vec<Segment>) -> Self {
        let body = &facts.body;
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let shown = |name: &String| {
            let value = facts.headers.get(name.as_str())?.to_str().ok()?;
            Some((name.to_ascii_lowercase().into(), value.into()))
        };
        let caller = &facts.caller;
        let context = Context {
            principal: Principal {
                key_id: caller.key_id.clone().unwrap_or_default(),
                user: caller.user.clone().or_else(|| body.user().map(Into::into)),
                team: caller.team.clone(),
                tags: caller.grant.as_ref().map(|grant| grant.tags.clone()).unwrap_or_default(),
            },
            caller: caller.clone(),
            headers: headers.iter().filter_map(shown).collect(),
            metadata: metadata(body.field("metadata")),
            features: Features {
                streaming: body.stream(),
                tools: !body.tool_names().is_empty(),
                images: body.has_images(),
                audio: body.has_audio(),
                files: body.has_files(),
                json_output: body.has_json_output(),
                logprobs: body.field("logprobs").is_some_and(|value| value == "true"),
                reasoning: body.field("reasoning_effort").is_some() || body.field("reasoning").is_some(),
            },
            prompt_tokens: count(body.tokens()),
            max_output_tokens: body.max_tokens().map(count),
            tags: tags.to_vec(),
            ..Context::new(Arc::clone(&facts.request_id), facts.endpoint, Arc::clone(&facts.model))
        };
        Self { context, segments }
    }
}

/// The members of a JSON object as names and JSON texts.
fn metadata(object: Option<&str>) -> Vec<Pair> {
    let Some(object) = object else { return Vec::new() };
    let members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(object).unwrap_or_default();
    members.into_iter().map(|(name, value)| (name.into(), value.to_string().into())).collect()
}

impl Context {
    /// A request of which only its id, its operation and its model are known.
    pub fn new(request_id: impl Into<Arc<str>>, endpoint: Endpoint, model: impl Into<Arc<str>>) -> Self {
        Self {
            request_id: request_id.into(),
            endpoint,
            model: model.into(),
            principal: Principal::default(),
            caller: Caller::default(),
            headers: Vec::new(),
            metadata: Vec::new(),
            features: Features::default(),
            prompt_tokens: 0,
            max_output_tokens: None,
            tags: Vec::new(),
        }
    }
}

impl Segment {
    /// Text of the user.
    pub fn user(id: u32, path: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { id, origin: Origin::User, path: path.into(), text: text.into() }
    }

    /// All text of a request: that of its conversation, and then what is said around it, such as what tools are good
    /// for.
    pub fn all_of(facts: &Facts) -> Vec<Self> {
        Self::pieces(facts, facts.body.definitions())
    }

    /// The text of the conversation: one for each message, or one in all where there are no messages; then what stands
    /// beside the words, such as what tools were called with. All that a request says begins with it.
    pub fn of_conversation(facts: &Facts) -> Vec<Self> {
        Self::pieces(facts, Vec::new())
    }

    fn pieces(facts: &Facts, around: Vec<Aside>) -> Vec<Self> {
        let (turns, mut asides) = (facts.body.turns(), facts.body.asides());
        asides.extend(around);
        if turns.is_empty() && asides.is_empty() {
            let text = facts.body.text();
            return if text.is_empty() { Vec::new() } else { vec![Self::user(0, "input", text)] };
        }
        let said = turns.into_iter().map(|turn| ("messages", turn.role, turn.text));
        let beside = asides.into_iter().map(|aside| (aside.what, aside.role, aside.text));
        let piece = |(id, (place, role, text)): (u32, (&str, &str, String))| Self {
            id,
            origin: origin(role),
            path: format!("{place}[{id}]").into(),
            text: text.into(),
        };
        (0..).zip(said.chain(beside)).map(piece).filter(|segment| !segment.text.is_empty()).collect()
    }
}

fn origin(role: &str) -> Origin {
    match role {
        "system" => Origin::System,
        "user" => Origin::User,
        "assistant" => Origin::Assistant,
        "tool" => Origin::Tool,
        _ => Origin::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Grant;
    use crate::facts::{FactsRecord, Noted, Reads, Seen};

    #[test]
    fn a_plugin_sees_the_tags_of_the_key() {
        let record = FactsRecord {
            endpoint: Endpoint::Chat,
            model: "m".into(),
            stream: false,
            tokens: 1,
            messages: 1,
            tools: 0,
            max_tokens: None,
            user: None,
            bytes: 2,
        };
        let (mut facts, _) = Noted::facts("r".into(), 0, record, Seen::default(), Reads::default());
        assert_eq!(Ask::of(&facts, &[], &[], Vec::new()).context.principal.tags, []);
        let tags: Vec<Pair> = vec![("plan".into(), "gold".into())];
        facts.caller.grant = Some(Arc::new(Grant { tags: tags.clone(), ..Grant::default() }));
        assert_eq!(Ask::of(&facts, &[], &[], Vec::new()).context.principal.tags, tags);
    }

    #[test]
    fn metadata_is_said_as_json_and_what_is_none_is_nothing() {
        let pair = |name: &str, value: &str| -> Pair { (name.into(), value.into()) };
        let said = metadata(Some(r#"{"a":"x","n":1,"o":{"p":[true]}}"#));
        assert_eq!(said, [pair("a", "\"x\""), pair("n", "1"), pair("o", r#"{"p":[true]}"#)]);
        for none in [None, Some("[1]"), Some("null"), Some("{")] {
            assert_eq!(metadata(none), []);
        }
    }
}

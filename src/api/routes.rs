//! The table of client endpoints: exact paths, nothing is guessed.

use http::header::{ALLOW, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Method, Response, request::Parts};

use super::anthropic_messages::{AnthropicCount, AnthropicMessages};
use super::awaits::FirstMessage;
use super::cohere_rerank::CohereRerank;
use super::gemini_generate::{EmbedForm, Form, GeminiDoor, GeminiEmbed, GeminiPictures, is_imagen};
use super::live::{self, LIVE, Live};
use super::media::{MEDIA, Media};
use super::models::Shelf;
use super::named_by_path;
use super::openai_chat::OpenAiChat;
use super::openai_completions::OpenAiCompletions;
use super::openai_embeddings::OpenAiEmbeddings;
use super::openai_moderations::OpenAiModerations;
use super::openai_responses::{Compaction, InputTokens, Lookup, OpenAiResponses, ResponsesSocket};
use super::passthrough::{self, KEPT, Kept};
use super::realtime::{REALTIME, Realtime};
use super::reply::{self, ReplyBody};
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::gateway::Door;

/// Where a request goes.
pub(super) enum Route {
    /// Into the line, through this door.
    Door {
        /// The client dialect.
        door: &'static dyn Door,
        /// The path as it stands in the table, for logs.
        path: &'static str,
    },
    /// `GET /v1/models`, or `/v1beta/models`.
    Models(Shelf),
    /// `GET /v1/models/{id}`, or below `/v1beta/models`.
    Model(Shelf, String),
    /// A conversation whose first message says who is to answer, and its path in logs.
    Awaits(&'static dyn FirstMessage, &'static str),
    /// A response that is kept here.
    Response(Lookup),
    /// `POST /v1/estimate`.
    Estimate,
}

impl Route {
    /// The operation that a key must be for, where the route itself is one.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Door { door, .. } => Some(door.endpoint()),
            Self::Awaits(door, _) => Some(door.endpoint()),
            Self::Response(_) => Some(Endpoint::Chat),
            Self::Models(_) | Self::Model(..) | Self::Estimate => None,
        }
    }

    /// The door whose dialect the client understands.
    pub(super) fn tongue(&self) -> &'static dyn Door {
        match self {
            Self::Door { door, .. } => *door,
            Self::Awaits(door, _) => *door,
            Self::Response(_) => &OpenAiResponses,
            Self::Estimate => &OpenAiChat,
            Self::Models(shelf) | Self::Model(shelf, _) => shelf.door(),
        }
    }
}

/// A request that leads nowhere.
pub(super) struct Refusal {
    fault: Box<Fault>,
    allow: Option<&'static str>,
    /// The door at which the client stood, whose dialect it understands.
    door: &'static dyn Door,
}

/// Where responses are asked for; over a WebSocket by GET.
const RESPONSES: &str = "/v1/responses";

/// Every POST endpoint.
const DOORS: &[(&str, &dyn Door)] = &[
    ("/v1/chat/completions", &OpenAiChat),
    (RESPONSES, &OpenAiResponses),
    ("/v1/responses/input_tokens", &InputTokens),
    ("/v1/responses/compact", &Compaction),
    ("/v1/completions", &OpenAiCompletions),
    ("/v1/embeddings", &OpenAiEmbeddings),
    ("/v1/moderations", &OpenAiModerations),
    ("/v1/rerank", &CohereRerank),
    ("/v2/rerank", &CohereRerank),
    ("/rerank", &CohereRerank),
    ("/v1/messages", &AnthropicMessages),
    ("/v1/messages/count_tokens", &AnthropicCount),
];

/// Places below which a model and a method follow; the second is what google-genai makes of a base URL, the third what
/// the AI SDK makes of a model with a slash in its name.
pub(super) const MODEL_PLACES: &[&str] = &["/v1beta/models/", "/v1/models/", "/v1beta/"];

/// Every POST endpoint whose path names the model: `…/models/{model}:{method}`.
const MODEL_DOORS: &[(&str, &str, &dyn Door)] = &[
    ("generateContent", "/v1beta/models/{model}:generateContent", &GeminiDoor(Form::Whole)),
    (
        "streamGenerateContent?alt=sse",
        "/v1beta/models/{model}:streamGenerateContent",
        &GeminiDoor(Form::Events),
    ),
    ("streamGenerateContent", "/v1beta/models/{model}:streamGenerateContent", &GeminiDoor(Form::Array)),
    ("countTokens", "/v1beta/models/{model}:countTokens", &GeminiDoor(Form::Count)),
    ("embedContent", "/v1beta/models/{model}:embedContent", &GeminiEmbed(EmbedForm::One)),
    ("batchEmbedContents", "/v1beta/models/{model}:batchEmbedContents", &GeminiEmbed(EmbedForm::Batch)),
    ("predict", "/v1beta/models/{model}:predict", &GeminiEmbed(EmbedForm::Predict)),
];

/// What prompts would cost.
const ESTIMATE: &str = "/v1/estimate";

/// Lists of models, and places of single ones.
const MODELS: &str = "/v1/models";
/// Where others look for what the admin listener tells.
const OF_ADMIN: [&str; 6] = ["/livez", "/readyz", "/metrics", "/health", "/healthz", "/ready"];
const GOOGLES_MODELS: &str = "/v1beta/models";

/// A door and the place where it stands.
#[derive(Clone, Copy)]
pub struct Doorway {
    /// Its path; `{model}` stands for a model's name.
    pub path: &'static str,
    /// The door.
    pub door: &'static dyn Door,
}

/// Every door of the gateway, in the order of the tables.
pub fn doors() -> impl Iterator<Item = Doorway> {
    let named = MODEL_DOORS.iter().map(|(_, path, door)| (*path, *door));
    let kept = KEPT.iter().map(|(path, _, kept)| (*path, *kept as &'static dyn Door));
    let all = DOORS.iter().chain(MEDIA).copied().chain(named).chain(kept);
    all.map(|(path, door)| Doorway { path, door })
}

/// The door at which a request with this head comes in; `None` where it leads elsewhere, or nowhere.
pub fn door_of_head(head: &Parts) -> Option<&'static dyn Door> {
    match known(head) {
        Ok(Route::Door { door, .. }) => Some(door),
        _ => None,
    }
}

/// The route of a request head.
pub(super) fn find(head: &Parts) -> Result<Route, Refusal> {
    if head.uri.path().starts_with(passthrough::PLACE) {
        return Ok(Route::Door { door: passthrough::door(&head.headers), path: passthrough::PATH });
    }
    match known(head)? {
        Route::Door { door, path } if path != REALTIME && passthrough::is_wanted(&head.headers) => {
            Ok(Route::Door { door: passthrough::original(door, path), path })
        }
        route => Ok(route),
    }
}

/// The route among the known paths.
fn known(head: &Parts) -> Result<Route, Refusal> {
    let path = head.uri.path();
    // First, as nearly all requests come here.
    if let Some((path, door)) = DOORS.iter().find(|(known, _)| *known == path) {
        if *path == RESPONSES && head.method == Method::GET && head.headers.contains_key(UPGRADE) {
            return Ok(Route::Awaits(&ResponsesSocket, path));
        }
        if head.method != Method::POST {
            return Err(not_allowed("POST", *door));
        }
        return json_body(head, *door).map(|()| Route::Door { door: *door, path });
    }
    if let Some((path, door)) = MEDIA.iter().find(|(known, _)| *known == path) {
        // The door itself knows in which forms it takes bodies.
        return match head.method == Method::POST {
            true => Ok(Route::Door { door: *door, path }),
            false => Err(not_allowed("POST", *door)),
        };
    }
    if path == REALTIME {
        return match head.method == Method::GET {
            true => Ok(Route::Door { door: &Realtime, path: REALTIME }),
            false => Err(not_allowed("GET", &Realtime)),
        };
    }
    if path.starts_with("/ws/") && live::version(path).is_some() {
        return match head.method == Method::GET {
            true => Ok(Route::Awaits(&Live, LIVE)),
            false => Err(not_allowed("GET", &Live)),
        };
    }
    if let Some((path, allow, kept)) = Kept::find(path) {
        let kept = kept.meant(&head.headers);
        return match allow.split(", ").any(|method| head.method == method) {
            true => Ok(Route::Door { door: kept, path }),
            false => Err(not_allowed(allow, kept)),
        };
    }
    if path == ESTIMATE {
        return match head.method == Method::POST {
            true => json_body(head, &OpenAiChat).map(|()| Route::Estimate),
            false => Err(not_allowed("POST", &OpenAiChat)),
        };
    }
    if let Some((path, door)) = model_door(head).or_else(|| named_by_path::door(path)) {
        if head.method != Method::POST {
            return Err(not_allowed("POST", door));
        }
        // Doors of media know themselves in which forms they take bodies.
        if Media::at(path).is_none() {
            json_body(head, door)?;
        }
        return Ok(Route::Door { door, path });
    }
    if let Some(found) = Lookup::find(&head.method, path) {
        return found.map(Route::Response).map_err(|allow| not_allowed(allow, &OpenAiResponses));
    }
    if let Some(id) = path.strip_prefix(MODELS).or_else(|| path.strip_prefix(GOOGLES_MODELS))
        && (id.is_empty() || id.starts_with('/') && id.len() > 1)
        // An unknown method of a model is no list.
        && !(head.method == Method::POST && id.contains(':'))
    {
        let shelf = Shelf::of(head);
        if head.method != Method::GET && head.method != Method::HEAD {
            return Err(not_allowed("GET, HEAD", shelf.door()));
        }
        return Ok(match id.strip_prefix('/') {
            Some(id) => Route::Model(shelf, unescape(id)),
            None => Route::Models(shelf),
        });
    }
    let mut known: Vec<_> = DOORS.iter().map(|(path, _)| *path).collect();
    known.extend(MEDIA.iter().map(|(path, _)| *path));
    known.extend(MODEL_DOORS.iter().map(|(_, path, _)| *path));
    known.dedup();
    known.extend(KEPT.iter().map(|(path, ..)| *path));
    known.extend([REALTIME, LIVE, passthrough::PATH, MODELS, GOOGLES_MODELS, ESTIMATE]);
    let (meant, slip) = slip(path);
    let message = format!("no such endpoint{slip}; this gateway serves {}", known.join(", "));
    Err(Refusal {
        fault: Box::new(Fault::new(FaultKind::NotFound, message).code("unknown_url")),
        allow: None,
        door: nearest(meant),
    })
}

/// The path that was probably meant by an unknown one, and what to say of it.
fn slip(path: &str) -> (&str, &'static str) {
    if let Some(meant) = path.strip_prefix("/v1").filter(|rest| rest.starts_with("/v1")) {
        return (meant, " (the client's base URL has a `/v1` too many)");
    }
    if let Some(meant) = path.strip_suffix('/').filter(|meant| meant.len() > "/v1".len()) {
        return (meant, " (paths have no `/` at their end)");
    }
    if OF_ADMIN.contains(&path) || path.starts_with("/admin/") {
        return (path, " (health, metrics and the admin API are at `admin.listen`)");
    }
    (path, "")
}

/// The door of a path that names its model and a known method.
fn model_door(head: &Parts) -> Option<(&'static str, &'static dyn Door)> {
    let path = head.uri.path();
    let rest = MODEL_PLACES.iter().find_map(|place| path.strip_prefix(place))?;
    let (model, method) = rest.rsplit_once(':')?;
    let events = head.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
    let wanted = |known: &str| match known.strip_suffix("?alt=sse") {
        Some(known) => events && known == method,
        None => known == method,
    };
    let (_, path, door) = MODEL_DOORS.iter().find(|(known, ..)| wanted(known))?;
    // Vectors and pictures are asked for by the same method.
    let paints = method == "predict" && is_imagen(&unescape(model));
    let door: &'static dyn Door = if paints { &GeminiPictures } else { *door };
    (!model.is_empty()).then_some((*path, door))
}

impl Refusal {
    /// The code of its error.
    pub(super) fn code(&self) -> &str {
        self.fault.code_str()
    }

    /// The response that says so.
    pub(super) fn reply(&self, request_id: &str) -> Response<ReplyBody> {
        let mut response = reply::fault_at(self.door, &self.fault, request_id);
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

fn not_allowed(allow: &'static str, door: &'static dyn Door) -> Refusal {
    let fault = Fault::new(FaultKind::MethodNotAllowed, format!("this endpoint answers {allow} only"));
    Refusal { fault: Box::new(fault), allow: Some(allow), door }
}

/// JSON, or no content type at all; anything else is a client that talks to the wrong endpoint.
fn json_body(head: &Parts, door: &'static dyn Door) -> Result<(), Refusal> {
    let Some(value) = head.headers.get(CONTENT_TYPE) else { return Ok(()) };
    let kind = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    if kind.eq_ignore_ascii_case(b"application/json") {
        return Ok(());
    }
    let fault = Fault::new(FaultKind::UnsupportedMedia, "send the body as `content-type: application/json`");
    Err(Refusal { fault: Box::new(fault), allow: None, door })
}

/// The door whose dialect a client of an unknown path probably speaks.
fn nearest(path: &str) -> &'static dyn Door {
    let below = |known: &str| path.strip_prefix(known).is_some_and(|rest| rest.starts_with('/'));
    if path.starts_with("/v1beta/") {
        return &GeminiDoor(Form::Whole);
    }
    DOORS.iter().find(|(known, _)| *known == path || below(known)).map_or(&OpenAiChat, |(_, door)| *door)
}

/// Undoes percent-encoding (`openai%2Fgpt-4o`); what is not valid stays as it is.
pub(super) fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let byte = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        out.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::Dialect;

    fn found(method: &str, path: &str) -> Result<String, u16> {
        let (head, ()) = http::Request::builder().method(method).uri(path).body(()).unwrap().into_parts();
        match find(&head) {
            Ok(Route::Door { path, .. }) => Ok(path.into()),
            Ok(Route::Models(shelf)) => Ok(format!("models {shelf:?}")),
            Ok(Route::Model(_, id)) => Ok(format!("model {id}")),
            Ok(Route::Awaits(_, path)) => Ok(format!("awaits {path}")),
            Ok(Route::Response(_)) => Ok("kept".into()),
            Ok(Route::Estimate) => Ok("estimate".into()),
            Err(refusal) => Err(refusal.fault.client_status()),
        }
    }

    #[test]
    fn what_is_wrong_with_an_unknown_path_is_told_in_the_clients_dialect() {
        for (path, told, dialect) in [
            ("/v1/v1/messages", "base URL has a `/v1` too many", Dialect::Anthropic),
            ("/v1/v1beta/models/a:generateContent", "base URL has a `/v1` too many", Dialect::Gemini),
            ("/v1/messages/", "no `/` at their end", Dialect::Anthropic),
            ("/v1/chat/completions/", "no `/` at their end", Dialect::OpenAi),
            ("/livez", "at `admin.listen`", Dialect::OpenAi),
            ("/admin/v1/status", "at `admin.listen`", Dialect::OpenAi),
            ("/", "no such endpoint; this gateway serves", Dialect::OpenAi),
            ("/v1/", "no such endpoint; this gateway serves", Dialect::OpenAi),
            ("/v1/assistants", "no such endpoint; this gateway serves", Dialect::OpenAi),
        ] {
            let (head, ()) = http::Request::builder().method("POST").uri(path).body(()).unwrap().into_parts();
            let Err(refusal) = find(&head) else { panic!("{path} is known") };
            assert!(refusal.fault.message.contains(told), "{path}: {}", refusal.fault.message);
            assert_eq!(refusal.door.dialect(), dialect, "{path}");
        }
    }

    #[test]
    fn paths_are_exact() {
        for (method, path, expected) in [
            ("POST", "/v1/chat/completions", Ok("/v1/chat/completions")),
            ("POST", "/v1/chat/completions?x=1", Ok("/v1/chat/completions")),
            ("GET", "/v1/chat/completions", Err(405)),
            ("POST", "/v1/chat/completions/", Err(404)),
            ("POST", "/chat/completions", Err(404)),
            ("POST", "/v1/responses", Ok("/v1/responses")),
            ("POST", "/v1/responses/input_tokens", Ok("/v1/responses/input_tokens")),
            ("POST", "/v1/responses/compact", Ok("/v1/responses/compact")),
            ("GET", "/v1/responses/compact", Err(405)),
            ("GET", "/v1/batches/batch_1", Ok("/v1/batches/{id}")),
            ("DELETE", "/v1/batches/batch_1", Err(405)),
            ("POST", "/v1/messages/batches", Ok("/v1/messages/batches")),
            ("POST", "/v1/conversations", Ok("/v1/conversations")),
            ("GET", "/v1/responses/resp_1", Ok("kept")),
            ("PATCH", "/v1/responses/resp_1", Err(405)),
            ("GET", "/v1/models", Ok("models OpenAi")),
            ("GET", "/v1beta/models?pageSize=3", Ok("models Gemini")),
            ("GET", "/v1beta/models/gemini-2.5-pro", Ok("model gemini-2.5-pro")),
            ("GET", "/v1/models/openai/gpt-4o", Ok("model openai/gpt-4o")),
            ("GET", "/v1/models/openai%2Fgpt-4o", Ok("model openai/gpt-4o")),
            ("GET", "/v1/realtime?model=a", Ok("/v1/realtime")),
            ("POST", "/v1/realtime", Err(405)),
            (
                "GET",
                "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k",
                Ok("awaits /ws/{service}"),
            ),
            (
                "GET",
                "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent",
                Ok("awaits /ws/{service}"),
            ),
            ("GET", "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateMusic", Err(404)),
            ("GET", "/v1/modelsx", Err(404)),
            ("POST", "/v1/estimate", Ok("estimate")),
            ("GET", "/v1/estimate", Err(405)),
            (
                "POST",
                "/v1beta/models/gemini-2.5-pro:generateContent",
                Ok("/v1beta/models/{model}:generateContent"),
            ),
            (
                "POST",
                "/v1/models/a:streamGenerateContent?alt=sse",
                Ok("/v1beta/models/{model}:streamGenerateContent"),
            ),
            ("POST", "/v1beta/models/openai%2Fgpt-4o:countTokens", Ok("/v1beta/models/{model}:countTokens")),
            ("POST", "/v1beta/openai/gpt-4o:generateContent", Ok("/v1beta/models/{model}:generateContent")),
            ("GET", "/v1beta/models/a:generateContent", Err(405)),
            ("POST", "/v1beta/models/:generateContent", Err(404)),
            ("POST", "/v1beta/models/a:tuneModel", Err(404)),
            ("GET", "/v1/models/llama3:8b", Ok("model llama3:8b")),
            ("DELETE", "/v1/models/a", Err(405)),
        ] {
            assert_eq!(found(method, path), expected.map(str::to_owned), "{method} {path}");
        }
    }
}

//! A request whose answer goes back as the bytes that the provider sends: what the line and policies know of it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_TYPE, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderName};

use super::adjust::CONTENTS;
use super::openai_completions::prompts_in;
use crate::executor::{Carry, RawForm};
use crate::facts;
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Asked, Items};
use crate::json::Body;
use crate::providers::{Outgoing, Relayed, StreamRelay, Target};
use crate::upstream::Upload;

/// How a raw request is said to a target.
pub(super) trait Way: Send + Sync {
    /// The request as this target wants it.
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault>;
    /// How the target's answer is relayed; `None` where it is translated.
    fn raw(&self, target: &Target) -> Option<RawForm>;
    /// What a client who wants to speak WebSocket is answered with.
    fn switch(&self) -> Option<&HeaderMap> {
        None
    }
    /// The same for the page of a list that begins behind this one.
    fn page(&self, _after: &str) -> Option<Box<dyn Way>> {
        None
    }
    /// The answer of a target that has to be translated.
    fn whole(&self, _target: &Target, _body: Bytes) -> Result<Relayed, Fault> {
        Err(Fault::new(FaultKind::Internal, "raw answers are never read"))
    }
}

/// A raw request.
pub(super) struct RawAsk {
    /// The name that the plan begins with.
    pub(super) model: Arc<str>,
    /// Whether the client chose the provider itself.
    pub(super) pinned: bool,
    /// Size of the body, as far as it is known.
    pub(super) bytes: usize,
    /// What of the body is still arriving.
    pub(super) upload: Option<Upload>,
    /// What policies may see.
    pub(super) seen: Seen,
    /// What it has to do with things that the provider keeps.
    pub(super) items: Option<Items>,
    /// How it is said.
    pub(super) way: Box<dyn Way>,
}

/// What policies may see of a raw request.
#[derive(Default)]
pub(super) struct Seen {
    /// Fields as JSON text; they hide fields of the same name in `json`.
    pub(super) fields: Vec<(Box<str>, String)>,
    /// The body, where it is a JSON object that is here.
    pub(super) json: Option<Body>,
    /// What the client says to the model.
    pub(super) text: String,
    /// What it says besides, such as how to speak.
    pub(super) asides: Vec<facts::Aside>,
    /// Kinds of media in the request.
    pub(super) images: bool,
    pub(super) audio: bool,
    pub(super) files: bool,
}

impl Seen {
    /// Shows a text under a name.
    pub(super) fn show(&mut self, name: &str, text: &str) {
        let mut raw = Vec::with_capacity(text.len() + 2);
        crate::json::write_text(&mut raw, text);
        self.fields.push((name.into(), String::from_utf8_lossy(&raw).into_owned()));
    }

    fn raw(&self, name: &str) -> Option<&str> {
        let shown = self.fields.iter().find(|(known, _)| &**known == name).map(|(_, raw)| raw.as_str());
        shown.or_else(|| self.json.as_ref()?.raw(name))
    }
}

impl facts::Body for RawAsk {
    fn stream(&self) -> bool {
        matches!(self.seen.raw("stream"), Some("true" | "\"true\""))
    }

    fn max_tokens(&self) -> Option<u64> {
        let json = self.seen.json.as_ref()?;
        ["max_completion_tokens", "max_tokens", "max_output_tokens"].iter().find_map(|key| json.u64(key))
    }

    fn tokens(&self) -> u64 {
        (self.seen.text.len() as u64).div_ceil(4)
    }

    fn tool_names(&self) -> &[Box<str>] {
        &[]
    }

    fn messages(&self) -> u64 {
        0
    }

    fn has_images(&self) -> bool {
        self.seen.images
    }

    fn has_audio(&self) -> bool {
        self.seen.audio
    }

    fn has_files(&self) -> bool {
        self.seen.files
    }

    fn has_json_output(&self) -> bool {
        false
    }

    fn text(&self) -> &str {
        &self.seen.text
    }

    fn system(&self) -> &str {
        ""
    }

    fn last_user(&self) -> &str {
        &self.seen.text
    }

    fn asides(&self) -> Vec<facts::Aside> {
        self.seen.asides.clone()
    }

    fn user(&self) -> Option<&str> {
        let raw = self.seen.raw("user")?;
        // A name that is written with escapes is not worth an allocation per question.
        raw.strip_prefix('"')?.strip_suffix('"').filter(|user| !user.contains('\\'))
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.seen.json.as_ref()?.entry("metadata", key)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.seen.raw(name)
    }

    /// The provider's own dialect is anybody's guess: the name itself, or where Google's bodies have it.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.field(name).or_else(|| CONTENTS.find(self.seen.json.as_ref()?, name))
    }
}

impl Asked for RawAsk {
    fn model(&self) -> &Arc<str> {
        &self.model
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_pinned(&self) -> bool {
        self.pinned
    }

    fn is_raw(&self) -> bool {
        true
    }

    /// Nothing is made of no body.
    fn is_look(&self) -> bool {
        self.pinned && self.bytes == 0 && self.upload.is_none() && self.way.switch().is_none()
    }

    fn items(&self) -> Option<Items> {
        self.items.clone()
    }

    fn page(&self, after: &str) -> Option<Arc<dyn Carry>> {
        let Self { model, pinned, .. } = self;
        Some(Arc::new(Self {
            model: model.clone(),
            pinned: *pinned,
            bytes: 0,
            upload: None,
            seen: Seen::default(),
            items: None,
            way: self.way.page(after)?,
        }))
    }

    fn is_batch(&self) -> bool {
        self.seen.raw("path").is_some_and(|path| path.contains("/batches"))
    }

    /// Anthropic's, wherever they are asked for.
    fn results(&self) -> Option<&str> {
        let (_, below) = self.seen.raw("path")?.trim_matches('"').split_once("messages/batches/")?;
        below.strip_suffix("/results").filter(|id| !id.contains('/'))
    }

    fn prompts(&self) -> u64 {
        self.seen.raw("prompt").map_or(1, prompts_in)
    }

    fn is_kept_elsewhere(&self) -> bool {
        self.seen.json.as_ref().is_some_and(|json| ELSEWHERE.iter().any(|name| json.has(name)))
    }
}

impl Carry for RawAsk {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        self.way.outgoing(target)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        self.way.whole(target, body)
    }

    fn wants_stream(&self) -> bool {
        false
    }

    fn upload(&self) -> Option<&Upload> {
        self.upload.as_ref()
    }

    fn raw(&self, target: &Target) -> Option<RawForm> {
        self.way.raw(target)
    }

    fn switch(&self) -> Option<&HeaderMap> {
        self.way.switch()
    }

    fn stream(&self, _: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Err(Fault::new(FaultKind::Internal, "raw answers are never read"))
    }
}

/// Fields that name what a provider keeps of a conversation: OpenAI's, Google's, Anthropic's.
const ELSEWHERE: [&str; 5] =
    ["previous_response_id", "conversation", "cachedContent", "cached_content", "thread"];

/// Request headers that go on to a provider. Credentials, cookies, what concerns our connection with the client, what
/// tells of the client's place (`x-forwarded-for`, `user-agent`) and everything unknown stays here.
const CARRIED: [HeaderName; 13] = [
    ACCEPT,
    ACCEPT_LANGUAGE,
    CONTENT_DISPOSITION,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("prefer"),
];

/// Beginnings of names of further headers that providers' APIs know and that name neither an account nor a key.
const CARRIED_FAMILIES: [&str; 4] = ["anthropic-version", "anthropic-beta", "openai-beta", "x-goog-upload-"];

/// What of the client's headers goes on to a provider; `more` are those of the configuration.
pub(super) fn carried(headers: &HeaderMap, more: &[HeaderName]) -> HeaderMap {
    let goes = |name: &HeaderName| {
        CARRIED.contains(name)
            || more.contains(name)
            || CARRIED_FAMILIES.iter().any(|family| name.as_str().starts_with(family))
    };
    only(headers, goes)
}

/// The headers whose names `goes` tells.
pub(super) fn only(headers: &HeaderMap, goes: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    headers.iter().filter(|(name, _)| goes(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The query without the pairs whose names `drop` tells; with its question mark, or empty.
pub(super) fn query_without(query: Option<&str>, drop: impl Fn(&str) -> bool) -> String {
    let mut kept = String::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or_default();
        if !drop(&super::routes::unescape(name)) {
            kept.push(if kept.is_empty() { '?' } else { '&' });
            kept.push_str(pair);
        }
    }
    kept
}

/// The body in one piece; not copied where it came in one.
pub(super) fn joined(held: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(held) {
        Ok([only]) => only,
        Err(pieces) => pieces.concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_known_headers_go_on() {
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "cookie",
            "x-api-key",
            "x-goog-api-key",
            "api-key",
            "host",
            "connection",
            "te",
            "content-length",
            "user-agent",
            "x-forwarded-for",
            "x-tollgate-tags",
            "openai-organization",
            "openai-project",
            "x-goog-user-project",
            "x-stainless-os",
            "accept-encoding",
            "content-type",
            "accept",
            "anthropic-beta",
            "openai-beta",
            "x-goog-upload-command",
            "range",
            "x-mine",
        ] {
            headers.insert(name, HeaderValue::from_static("v"));
        }
        let kept = carried(&headers, &[HeaderName::from_static("x-mine")]);
        let mut names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "accept",
            "anthropic-beta",
            "content-type",
            "openai-beta",
            "range",
            "x-goog-upload-command",
            "x-mine",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_query_loses_what_is_named_however_it_is_written() {
        for (query, expected) in [
            (None, ""),
            (Some(""), ""),
            (Some("key=a"), ""),
            (Some("a=1&k%65y=a&b"), "?a=1&b"),
            (Some("keys=1&limit=2"), "?keys=1&limit=2"),
        ] {
            assert_eq!(query_without(query, |name| name == "key"), expected, "{query:?}");
        }
    }
}

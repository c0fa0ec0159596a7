//! A raw request: held while it is small, shown to policies where it is JSON, said to the provider as it came.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::kept::Kept;
use super::{azure, items, version};
use crate::api::media::{
    Media, Scanner, is_kind, model_in as model_of, names_model, only_one_model, texts, watched,
};
use crate::api::openai_chat::param::model_name;
use crate::api::openai_chat::presentable;
use crate::api::raw::{RawAsk, Seen, Way, carried, joined};
use crate::chat::Usage;
use crate::executor::RawForm;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Ahead, Approach, Asked, Door};
use crate::json::Body;
use crate::providers::{Dialect, HttpPlace, Outgoing, Place, Relayed, Target, Vendor};
use crate::upstream::Upload;

/// Stands for the model of a request that names none.
const NO_MODEL: &str = "*";

/// The version of Anthropic's API that is meant when the client names none, which Anthropic would refuse.
const ANTHROPIC_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));

/// Where at the provider a request goes.
pub(super) enum Below {
    /// Below the base URL.
    BaseUrl {
        /// With a leading slash.
        path: String,
        /// With its question mark, or empty.
        query: String,
    },
    /// Something of what the provider keeps, which has a place of its own at some providers.
    Operation {
        /// What is kept.
        kept: Kept,
        /// `files/file-1/content`.
        name: String,
        /// With its question mark, or empty.
        query: String,
    },
}

/// Takes a raw request in.
pub(super) struct RawAhead {
    provider: Arc<str>,
    method: Method,
    path: String,
    headers: HeaderMap,
    below: Below,
    /// What is meant of what the provider keeps.
    query: String,
    /// Whether owners count there.
    told_apart: bool,
    /// How much of a body is held so that what it names can be read.
    hold_json: u64,
    /// Whether the provider goes by the path alone, whatever model the body names.
    by_path: bool,
    /// What it speaks.
    dialect: Dialect,
    is_json: bool,
    /// The operation on media that it is, which has a price of its own.
    media: Option<Media>,
    /// Its form, where that may name the model, and how much of it is held for that.
    form: Option<(Scanner, u64)>,
    /// Bytes that were announced.
    announced: Option<usize>,
}

impl RawAhead {
    /// # Errors
    /// `BadRequest` where a form that may name the model is none.
    pub(super) fn new(approach: Approach<'_>, provider: &str, mut below: Below) -> Result<Self, Fault> {
        let kind = approach.headers.get(CONTENT_TYPE);
        let is = |wanted| kind.is_some_and(|kind| is_kind(kind, wanted));
        let length = approach.headers.get(http::header::CONTENT_LENGTH);
        let path = match &below {
            Below::BaseUrl { path, .. } => path.clone(),
            Below::Operation { name, .. } => format!("/{name}"),
        };
        let vendor = approach.snapshot.catalogue.vendor(provider);
        let (Below::BaseUrl { query, .. } | Below::Operation { query, .. }) = &mut below;
        let asked_query = query.clone();
        let told_apart = approach.snapshot.tells_apart(provider);
        if approach.method == Method::GET
            && told_apart
            && let Some(longest) = vendor.and_then(|vendor| items::longest(vendor, &path, query))
        {
            *query = longest;
        }
        let by_path = vendor.is_some_and(|vendor| goes_by_path(vendor, &path));
        let media = Media::at(&path).filter(|_| approach.method == Method::POST);
        let reads = media.filter(|media| media.takes_forms() && !by_path && is("multipart/form-data"));
        let scanner = reads.and(kind).map(Scanner::for_type).transpose()?;
        let dialect = vendor.map_or(Dialect::OpenAi, |vendor| vendor.wire.dialect());
        let uploads = version::is_upload(&path, approach.headers, dialect);
        Ok(Self {
            provider: provider.into(),
            method: approach.method.clone(),
            by_path,
            dialect,
            media,
            form: scanner.map(|scanner| (scanner, approach.snapshot.raw.hold_forms)),
            path,
            query: asked_query,
            told_apart,
            hold_json: approach.snapshot.raw.hold_forms,
            headers: carried(approach.headers, &approach.snapshot.raw.headers),
            below,
            is_json: is("application/json") && !uploads,
            announced: length.and_then(|length| length.to_str().ok()?.parse().ok()),
        })
    }
}

impl RawAhead {
    /// Whether all of the body must be here, because it may name what is another's. Batches of Anthropic's hold their prompts
    /// themselves.
    fn is_to_be_read(&self) -> bool {
        self.told_apart && self.is_json && !self.path.ends_with("/messages/batches")
    }
}

impl Ahead for RawAhead {
    fn feed(&mut self, piece: &Bytes) -> Result<(), Fault> {
        let Some((form, _)) = &mut self.form else { return Ok(()) };
        form.feed(piece)?;
        only_one_model(form)
    }

    fn is_enough(&self) -> bool {
        !self.is_to_be_read()
            && self.form.as_ref().is_none_or(|(form, _)| form.is_over() || names_model(form))
    }

    fn patience(&self, hold: u64) -> u64 {
        match &self.form {
            Some((_, most)) => hold.max(*most),
            None if self.is_to_be_read() => hold.max(self.hold_json),
            None => hold,
        }
    }

    fn read(self: Box<Self>, held: Vec<Bytes>, rest: Option<Upload>) -> Result<Arc<dyn Asked>, Fault> {
        let body = joined(held);
        if rest.is_some() && self.is_to_be_read() {
            let text = "this body is too large to be looked through for files and batches of others";
            return Err(Fault::new(FaultKind::TooLarge, text));
        }
        // Whatever it is called: what the provider reads as JSON may name what is another's.
        let is_json = self.is_json || self.told_apart && body.trim_ascii_start().starts_with(b"{");
        let json = if is_json && rest.is_none() && !body.is_empty() { readable(&body)? } else { None };
        let mut model = model_in(&self.path);
        let files = matches!(self.below, Below::Operation { kept: Kept::Files | Kept::AnthropicsFiles, .. });
        let mut seen = Seen { files, ..Seen::default() };
        if let Some(json) = &json {
            model = one_model(model, json.str("model").filter(|_| !self.by_path))?;
            seen.text = String::from_utf8_lossy(&body).into_owned();
        }
        let concerned = self.told_apart || self.path.contains("batches");
        let things = || items::items(&self.provider, &self.method, (&self.path, &self.query), json.as_ref());
        let things = concerned.then(things).flatten();
        let mut asked = Usage::default();
        if let Some(media) = self.media {
            (seen.audio, seen.images) = (media.is_audio(), self.form.is_some() && media.is_pictures());
            let text = json.as_ref().and_then(|json| json.str("input").or_else(|| json.str("prompt")));
            let pictures = json.as_ref().and_then(|json| json.u64("n")).unwrap_or(1);
            asked = media.asked(&text.unwrap_or_default(), pictures);
        }
        if let Some((form, _)) = &self.form {
            model = one_model(model, model_of(form, &body).map(Cow::Borrowed))?;
            for (name, text) in texts(form, &body) {
                if name == "n" && asked.images > 0 {
                    asked.images = text.parse().unwrap_or(1).max(1);
                }
                seen.show(name, text);
            }
        }
        seen.show("method", self.method.as_str());
        seen.show("path", &self.path);
        seen.show("provider", &self.provider);
        if json.is_none() && rest.is_some() {
            // Fields of a body that is not here are unknown, not missing.
            seen.fields.push(("streamed_body".into(), "true".to_owned()));
        }
        seen.json = json;
        let named = model.as_deref().and_then(|model| model_name(model).ok());
        let name = format!("{}/{}", self.provider, named.as_deref().unwrap_or(NO_MODEL));
        let bytes = if rest.is_some() { self.announced.unwrap_or(body.len()) } else { body.len() };
        let Self { provider, method, headers, below, by_path, dialect, media, form, .. } = *self;
        let way =
            Box::new(Verbatim { provider, method, headers, below, by_path, dialect, body, media, asked });
        let upload = match form {
            Some((form, _)) => rest.map(|rest| watched(rest, form)),
            None => rest,
        };
        Ok(Arc::new(RawAsk { model: name.into(), pinned: true, bytes, upload, seen, items: things, way }))
    }
}

/// A JSON object as policies may read it. What the gate refuses, two readers could understand differently; what is no
/// object is none of our business.
fn readable(body: &Bytes) -> Result<Option<Body>, Fault> {
    match Body::read(body.clone()) {
        Ok(json) => Ok(Some(json)),
        Err(fault) if fault.code_str() == "json_not_object" => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The model of a request whose path and body may both name one. They must agree unless it is known by which of the two
/// the provider goes: that is not for the client to choose, as scope, price and budgets go by it.
///
/// # Errors
/// `BadRequest` where they differ.
pub(super) fn one_model(path: Option<String>, body: Option<Cow<'_, str>>) -> Result<Option<String>, Fault> {
    let Some(named) = path else { return Ok(body.map(Cow::into_owned)) };
    // Google's bodies name it as a resource.
    match body.as_deref().map(own_name) {
        Some(body) if body != named => {
            let (named, body) = (presentable(&named, 80), presentable(body, 80));
            let text =
                format!("the path names the model `{named}`, and the body `{body}`: name the same one");
            Err(Fault::bad_request(text, "model").code("model_mismatch"))
        }
        _ => Ok(Some(named)),
    }
}

/// A model's own name, without the kind of resource that it is: `models/{model}`, `tunedModels/{model}`.
fn own_name(name: &str) -> &str {
    let is_kind = |kind: &str| ["models", "tunedmodels"].iter().any(|known| kind.eq_ignore_ascii_case(known));
    match name.rsplit_once('/') {
        Some((before, model)) if before.rsplit('/').next().is_some_and(is_kind) => model,
        _ => name,
    }
}

/// Whether a provider goes by the path alone, as Azure does with deployments, which need not be called as their models
/// are, and Bedrock: Azure's SDKs send both names. Only paths that begin so, since others may lead elsewhere.
/// <https://learn.microsoft.com/azure/ai-foundry/openai/reference>
fn goes_by_path(vendor: &Vendor, path: &str) -> bool {
    let path = crate::api::routes::unescape(path).to_ascii_lowercase();
    let begins = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    match vendor.wire.dialect() {
        Dialect::Bedrock => begins(&["/model/"]),
        Dialect::OpenAi => {
            let azure = vendor.preset.as_deref().is_some_and(|preset| preset.starts_with("azure"));
            azure && begins(&["/openai/deployments/", "/deployments/"])
        }
        _ => false,
    }
}

/// Where paths name models: `/models/{model}:method`, `/deployments/{model}/…`, `/model/{model}/…` of Bedrock,
/// `/endpoints/{endpoint}:method` of Vertex AI.
const PLACES: [&str; 5] = ["/models/", "/tunedmodels/", "/deployments/", "/model/", "/endpoints/"];

/// Operations below `/models/`, as Azure's model inference has them: no model is called so.
const OPERATIONS: [&str; 5] = ["chat", "completions", "embeddings", "images", "info"];

/// The model that a path names. Providers may take letters of either case and doubled slashes, and characters however
/// they are written.
fn model_in(path: &str) -> Option<String> {
    let path = crate::api::routes::unescape(path);
    let lower = path.to_ascii_lowercase();
    let places = PLACES.iter().filter_map(|place| Some((lower.find(place)?, *place)));
    let (at, place) = places.min_by_key(|(at, _)| *at)?;
    let rest = path.get(at + place.len()..)?.trim_start_matches('/');
    let segment = rest.split('/').next().unwrap_or_default();
    let method = segment.rsplit_once(':').map(|(model, _)| model);
    let model = match place {
        "/endpoints/" => method?,
        "/deployments/" | "/model/" => segment,
        _ => method.unwrap_or(segment),
    };
    let operation = place == "/models/" && rest.contains('/') && OPERATIONS.contains(&model);
    (!model.is_empty() && !operation).then(|| model.to_owned())
}

/// The request as it came.
struct Verbatim {
    provider: Arc<str>,
    method: Method,
    headers: HeaderMap,
    below: Below,
    by_path: bool,
    /// What the provider speaks.
    dialect: Dialect,
    body: Bytes,
    media: Option<Media>,
    /// What the request alone tells of its use.
    asked: Usage,
}

impl Way for Verbatim {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        if target.name.provider != self.provider {
            // An alias may bear the name of a provider's model; raw bytes do not follow it.
            let text = "an alias hides this model of the provider from raw requests";
            return Err(Fault::bad_request(text, "model").retry(Retry::Elsewhere));
        }
        let mut is_absolute = false;
        let path = match (&self.below, &target.vendor.place) {
            (Below::BaseUrl { path, query }, Place::Http(place)) => {
                let beside = match self.by_path {
                    true => azure::beside_v1(path, query, &place.base_path, &place.query)?,
                    false => version::elsewhere(path, &place.base_path, self.dialect)
                        .map(|path| with_ours(path, query, place)),
                };
                is_absolute = beside.is_some();
                let below = || format!("{}{}", once(path, &place.base_path), without_ours(query, place));
                beside.unwrap_or_else(below)
            }
            (Below::BaseUrl { path, query }, Place::Local) => format!("{}{query}", once(path, "/v1")),
            (Below::Operation { kept, name, query }, _) => {
                let path = kept.place(target.wire(), name, &target.name.model);
                let path = path.ok_or_else(|| {
                    let text = format!("this provider keeps no {} in this way", kept.word());
                    Fault::new(FaultKind::NotFound, text)
                })?;
                let query = if path.contains('?') { query.replacen('?', "&", 1) } else { query.clone() };
                format!("{path}{query}")
            }
        };
        let body = if self.body.is_empty() { Vec::new() } else { vec![self.body.clone()] };
        let headers = with_version(self.headers.clone(), target);
        Ok(Outgoing {
            method: self.method.clone(),
            path,
            is_absolute,
            headers,
            body,
            lost: Vec::new(),
            tier: None,
        })
    }

    fn page(&self, after: &str) -> Option<Box<dyn Way>> {
        let behind = |query: &str| items::behind(self.dialect, query, after);
        let below = match &self.below {
            Below::BaseUrl { path, query } => Below::BaseUrl { path: path.clone(), query: behind(query) },
            Below::Operation { kept, name, query } => {
                Below::Operation { kept: *kept, name: name.clone(), query: behind(query) }
            }
        };
        let Self { provider, method, headers, by_path, .. } = self;
        Some(Box::new(Self {
            provider: provider.clone(),
            method: method.clone(),
            headers: headers.clone(),
            below,
            by_path: *by_path,
            dialect: self.dialect,
            body: Bytes::new(),
            media: None,
            asked: Usage::default(),
        }))
    }

    fn raw(&self, _: &Target) -> Option<RawForm> {
        let (as_it_came, endpoint) = match &self.below {
            Below::BaseUrl { .. } => {
                (true, self.media.map_or(Endpoint::Passthrough, |media| media.endpoint()))
            }
            Below::Operation { kept, name, .. } if kept.is_read(name) => return None,
            Below::Operation { kept, .. } => (false, kept.endpoint()),
        };
        Some(RawForm { as_it_came, slow: true, asked: self.asked, endpoint })
    }

    fn whole(&self, _: &Target, body: Bytes) -> Result<Relayed, Fault> {
        let body = match &self.below {
            Below::Operation { kept, .. } => kept.told(body),
            Below::BaseUrl { .. } => body,
        };
        Ok(Relayed { body, usage: None, finish: None, lost: Vec::new() })
    }
}

/// Anthropic refuses requests that name no version of its API.
pub(super) fn with_version(mut headers: HeaderMap, target: &Target) -> HeaderMap {
    let (name, version) = ANTHROPIC_VERSION;
    if target.wire().dialect() == Dialect::Anthropic && !headers.contains_key(&name) {
        headers.insert(name, version);
    }
    headers
}

/// The path below the base URL. SDKs differ in whether the version belongs to the base URL (`openai`) or to the path
/// (`anthropic`, `google-genai`): a path that begins with the base URL's own path does not get it twice.
pub(super) fn once<'p>(path: &'p str, base: &str) -> &'p str {
    match path.strip_prefix(base) {
        Some(rest) if !base.is_empty() && rest.starts_with('/') => rest,
        _ => path,
    }
}

/// A whole path with the client's query, and with the parameters that the configuration gives to every request.
fn with_ours(mut whole: String, query: &str, place: &HttpPlace) -> String {
    whole.push_str(&without_ours(query, place));
    if !place.query.is_empty() {
        whole.push(if whole.contains('?') { '&' } else { '?' });
        whole.push_str(&place.query);
    }
    whole
}

/// The client's query without the parameters that the configuration gives to every request.
fn without_ours(query: &str, place: &HttpPlace) -> String {
    if place.query.is_empty() {
        return query.to_owned();
    }
    let ours: Vec<&str> = place.query.split('&').filter_map(|pair| pair.split('=').next()).collect();
    crate::api::raw::query_without(query.strip_prefix('?'), |name| ours.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::{QuirkSettings, dialect};

    #[test]
    fn the_version_stands_once() {
        for (path, base, expected) in [
            ("/chat/completions", "/v1", "/chat/completions"),
            ("/v1/messages", "/v1", "/messages"),
            ("/v1beta/models/a:b", "/v1beta", "/models/a:b"),
            ("/v10/x", "/v1", "/v10/x"),
            ("/x", "", "/x"),
            ("/openai/v1/x", "/openai/v1", "/x"),
        ] {
            assert_eq!(once(path, base), expected, "{path} at {base}");
        }
    }

    #[test]
    fn paths_name_models() {
        for (path, expected) in [
            ("/v1beta/models/gemini-2.5-pro:generateContent", Some("gemini-2.5-pro")),
            ("/models/a%20b", Some("a b")),
            ("/openai/deployments/gpt/chat/completions", Some("gpt")),
            ("/model/anthropic.claude-v1:0/converse", Some("anthropic.claude-v1:0")),
            ("/models", None),
            ("/models/", None),
            ("/chat/completions", None),
            ("/models/chat/completions", None),
            ("/Deployments//gpt/chat/completions", Some("gpt")),
            ("/%6dodels/a%3Ab", Some("a")),
            ("/v1beta/tunedModels/mine:generateContent", Some("mine")),
            ("/v1/projects/p/locations/l/endpoints/7:predict", Some("7")),
            ("/v1/projects/p/locations/l/endpoints/openapi/chat/completions", None),
        ] {
            assert_eq!(model_in(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn some_providers_go_by_the_path_alone() {
        let vendor = |name: &str, preset: Option<&str>| Vendor {
            preset: preset.map(Into::into),
            ..Vendor::bare(name, dialect(name, &QuirkSettings::default()).unwrap())
        };
        let deployment = "/openai/deployments/prod/chat/completions";
        for (speaks, preset, path, expected) in [
            ("openai", Some("azure"), deployment, true),
            ("openai", Some("azure-deployments"), "/Deployments/prod/chat/completions", true),
            ("openai", Some("azure"), "/openai/v1/chat/completions", false),
            ("openai", Some("azure"), "/chat/completions/deployments/prod", false),
            ("openai", Some("groq"), deployment, false),
            ("openai", None, deployment, false),
            ("bedrock", None, "/model/anthropic.claude-v1:0/converse", true),
            ("bedrock", None, "/x/model/a/converse", false),
            ("gemini", Some("gemini"), "/models/a:generateContent", false),
        ] {
            assert_eq!(goes_by_path(&vendor(speaks, preset), path), expected, "{preset:?} {path}");
        }
    }

    #[test]
    fn path_and_body_name_one_model() {
        for (path, body, expected) in [
            (None, None, Ok(None)),
            (None, Some("a"), Ok(Some("a"))),
            (Some("a"), None, Ok(Some("a"))),
            (Some("a"), Some("a"), Ok(Some("a"))),
            (Some("a"), Some("models/a"), Ok(Some("a"))),
            (Some("a"), Some("tunedModels/a"), Ok(Some("a"))),
            (Some("a"), Some("publishers/google/models/a"), Ok(Some("a"))),
            (Some("a"), Some("othermodels/a"), Err(())),
            (Some("dear"), Some("cheap"), Err(())),
            (Some("dear"), Some(""), Err(())),
            (Some("dear"), Some("models/cheap"), Err(())),
        ] {
            let found = one_model(path.map(str::to_owned), body.map(Into::into));
            let found = found.map_err(|fault| assert_eq!(fault.code_str(), "model_mismatch"));
            assert_eq!(
                found.as_ref().map(Option::as_deref),
                expected.as_ref().map(|e| *e),
                "{path:?} {body:?}"
            );
        }
    }
}

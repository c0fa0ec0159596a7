//! A raw request: held while it is small, shown to policies where it is JSON, said to the provider as it came.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::api::openai_chat::param::model_name;
use crate::api::raw::{RawAsk, Seen, Way, carried, joined};
use crate::chat::Usage;
use crate::executor::RawForm;
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Ahead, Approach, Asked};
use crate::json::Body;
use crate::providers::{Dialect, Outgoing, Place, Target};
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
    /// One of the operations that have places of their own at some providers.
    Operation {
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
    is_json: bool,
    /// Bytes that were announced.
    announced: Option<usize>,
}

impl RawAhead {
    pub(super) fn new(approach: Approach<'_>, provider: &str, below: Below) -> Self {
        let kind = approach.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let kind = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let length = approach.headers.get(http::header::CONTENT_LENGTH);
        Self {
            provider: provider.into(),
            method: approach.method.clone(),
            path: match &below {
                Below::BaseUrl { path, .. } => path.clone(),
                Below::Operation { name, .. } => format!("/{name}"),
            },
            headers: carried(approach.headers, &approach.snapshot.raw.headers),
            below,
            is_json: kind.eq_ignore_ascii_case(b"application/json"),
            announced: length.and_then(|length| length.to_str().ok()?.parse().ok()),
        }
    }
}

impl Ahead for RawAhead {
    fn feed(&mut self, _: &Bytes) -> Result<(), Fault> {
        Ok(())
    }

    fn is_enough(&self) -> bool {
        true
    }

    fn read(self: Box<Self>, held: Vec<Bytes>, rest: Option<Upload>) -> Result<Arc<dyn Asked>, Fault> {
        let body = joined(held);
        let json = if self.is_json && rest.is_none() && !body.is_empty() { readable(&body)? } else { None };
        let mut model = model_in(&self.path);
        let mut seen = Seen { files: matches!(self.below, Below::Operation { .. }), ..Seen::default() };
        if let Some(json) = &json {
            model = json.str("model").map(|model| model.into_owned()).or(model);
            seen.text = String::from_utf8_lossy(&body).into_owned();
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
        let Self { provider, method, headers, below, .. } = *self;
        let way = Box::new(Verbatim { provider, method, headers, below, body });
        Ok(Arc::new(RawAsk { model: name.into(), pinned: true, bytes, upload: rest, seen, way }))
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

/// The model that a path names: `/models/{model}:method`, `/deployments/{model}/…`, `/model/{model}/…` of Bedrock.
fn model_in(path: &str) -> Option<String> {
    let (_, rest) =
        ["/models/", "/deployments/", "/model/"].iter().find_map(|place| path.split_once(place))?;
    let segment = rest.split('/').next().unwrap_or_default();
    let model =
        segment.rsplit_once(':').filter(|_| path.contains("/models/")).map_or(segment, |(model, _)| model);
    (!model.is_empty()).then(|| crate::api::routes::unescape(model))
}

/// The request as it came.
struct Verbatim {
    provider: Arc<str>,
    method: Method,
    headers: HeaderMap,
    below: Below,
    body: Bytes,
}

impl Way for Verbatim {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        if target.name.provider != self.provider {
            // An alias may bear the name of a provider's model; raw bytes do not follow it.
            let text = "an alias hides this model of the provider from raw requests";
            return Err(Fault::bad_request(text, "model").retry(Retry::Elsewhere));
        }
        let path = match &self.below {
            Below::BaseUrl { path, query } => {
                let base = match &target.vendor.place {
                    Place::Http(place) => &place.base_path,
                    Place::Local => "/v1",
                };
                format!("{}{}", once(path, base), without_ours(query, target))
            }
            Below::Operation { name, query } => {
                let path = target.wire().media_path(name, &target.name.model);
                let path = path.ok_or_else(|| {
                    Fault::new(FaultKind::NotFound, "this provider keeps no files in OpenAI's way")
                })?;
                let query = if path.contains('?') { query.replacen('?', "&", 1) } else { query.clone() };
                format!("{path}{query}")
            }
        };
        let body = if self.body.is_empty() { Vec::new() } else { vec![self.body.clone()] };
        let headers = with_version(self.headers.clone(), target);
        Ok(Outgoing { method: self.method.clone(), path, headers, body, lost: Vec::new() })
    }

    fn raw(&self, _: &Target) -> Option<RawForm> {
        let as_it_came = matches!(self.below, Below::BaseUrl { .. });
        Some(RawForm { as_it_came, slow: true, asked: Usage::default() })
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

/// The client's query without the parameters that the configuration gives to every request.
fn without_ours(query: &str, target: &Target) -> String {
    let Place::Http(place) = &target.vendor.place else { return query.to_owned() };
    if place.query.is_empty() {
        return query.to_owned();
    }
    let ours: Vec<&str> = place.query.split('&').filter_map(|pair| pair.split('=').next()).collect();
    crate::api::raw::query_without(query.strip_prefix('?'), |name| ours.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(model_in(path).as_deref(), expected, "{path}");
        }
    }
}

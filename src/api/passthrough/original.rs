//! `X-Provider-Original: true` on a known endpoint: the body is the provider's own, and so is the answer.
//!
//! With `x-tollgate-provider: NAME` the body goes out untouched, so its model must be the provider's own name. Without
//! it, the body's `model` says where to go (an alias or `provider/model`), and of the body only that name is replaced
//! by the provider's own.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::ask::{Below, RawAhead, once, one_model, with_version};
use super::{check_path, client_query, open};
use crate::api::openai_chat::param::{missing, model_name};
use crate::api::raw::{RawAsk, Seen, Way, carried};
use crate::api::routes::{self, unescape};
use crate::executor::RawForm;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Ahead, Approach, Asked, Door, Head, Intake, Items, Told};
use crate::json::{Body, Splice};
use crate::providers::{Dialect, Outgoing, Place, Target, gemini_method};
use crate::upstream::Upload;

const HEADER: &str = "x-provider-original";

/// Whether a request asks for raw bytes.
pub(in crate::api) fn is_wanted(headers: &HeaderMap) -> bool {
    headers.get(HEADER).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// The raw counterpart of a door, which stands at `path` of the table.
pub(in crate::api) fn original(door: &'static dyn Door, path: &str) -> &'static dyn Door {
    static ALL: LazyLock<Vec<(&'static str, Original)>> =
        LazyLock::new(|| routes::doors().map(|at| (at.path, Original(at.door))).collect());
    ALL.iter().find(|(known, _)| *known == path).map_or(door, |(_, original)| original)
}

/// A door behind which bytes go through as they are.
struct Original(&'static dyn Door);

impl Door for Original {
    fn endpoint(&self) -> Endpoint {
        self.0.endpoint()
    }

    fn dialect(&self) -> Dialect {
        self.0.dialect()
    }

    fn intake(&self, approach: Approach<'_>) -> Result<Intake, Fault> {
        let path = version_off(approach.uri.path());
        check_path(path)?;
        if let Some(provider) = approach.headers.get(&crate::headers::PROVIDER) {
            let provider = provider.to_str().unwrap_or_default();
            open(approach.snapshot, provider)?;
            let below = Below::BaseUrl { path: path.to_owned(), query: client_query(approach) };
            return Ok(Intake::Ahead(Box::new(RawAhead::new(approach, provider, below)?)));
        }
        let kind = approach.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if approach.method != Method::POST || !(kind.is_empty() || kind.starts_with(b"application/json")) {
            let text = "name the provider of this raw request in the header `x-tollgate-provider`";
            return Err(Fault::bad_request(text, "x-tollgate-provider"));
        }
        Ok(Intake::Ahead(Box::new(OriginalAhead {
            endpoint: self.0.endpoint(),
            uri: approach.uri.clone(),
            query: client_query(approach),
            headers: carried(approach.headers, &approach.snapshot.raw.headers),
            open: approach.snapshot.raw.open.clone(),
            hold: approach.snapshot.raw.hold_forms,
        })))
    }

    fn read(&self, _: Bytes, _: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Err(Fault::new(FaultKind::Internal, "raw bodies are read ahead"))
    }

    fn error_body(&self, fault: &Fault, request_id: &str) -> Vec<u8> {
        self.0.error_body(fault, request_id)
    }

    fn fault_event(&self, fault: &Fault, begun: bool) -> Bytes {
        self.0.fault_event(fault, begun)
    }
}

/// The path below what stands for the version.
fn version_off(path: &str) -> &str {
    once(once(path, "/v1"), "/v1beta")
}

/// Takes in a body whose model says where to go.
struct OriginalAhead {
    endpoint: Endpoint,
    uri: Uri,
    query: String,
    headers: HeaderMap,
    open: Vec<Arc<str>>,
    hold: u64,
}

impl Ahead for OriginalAhead {
    fn feed(&mut self, _: &Bytes) -> Result<(), Fault> {
        Ok(())
    }

    fn is_enough(&self) -> bool {
        false
    }

    fn patience(&self, _: u64) -> u64 {
        self.hold
    }

    fn read(self: Box<Self>, held: Vec<Bytes>, rest: Option<Upload>) -> Result<Arc<dyn Asked>, Fault> {
        if rest.is_some() {
            let text = "a raw body of this size needs the header `x-tollgate-provider`, because its model cannot be read";
            return Err(Fault::new(FaultKind::TooLarge, text).at("x-tollgate-provider"));
        }
        let body = Body::read(crate::api::raw::joined(held))?;
        let named = model_method(&self.uri).map(|(model, _)| unescape(model));
        let model = one_model(named, body.str("model"))?.ok_or_else(|| missing("model"))?;
        let model = model_name(&model)?;
        let mut seen = Seen { text: String::from_utf8_lossy(body.bytes()).into_owned(), ..Seen::default() };
        seen.show("method", "POST");
        seen.show("path", self.uri.path());
        seen.json = Some(body.clone());
        let answers = self.uri.path().ends_with("/responses");
        let mut items = Items::named_in(&body);
        if answers {
            items.get_or_insert_default().told = Told::Made { answers };
        }
        let bytes = body.bytes().len();
        let way = Box::new(Renamed { ask: *self, body });
        Ok(Arc::new(RawAsk { model, pinned: false, bytes, upload: None, seen, items, way }))
    }
}

/// The model and the method that a path of Google's names.
fn model_method(uri: &Uri) -> Option<(&str, &str)> {
    uri.path().split_once("/models/")?.1.rsplit_once(':')
}

/// The request with the provider's own name of the model.
struct Renamed {
    ask: OriginalAhead,
    body: Body,
}

impl Way for Renamed {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        let Self { ask, body } = self;
        if !ask.open.contains(&target.name.provider) {
            let text = "this provider takes no raw requests here: `passthrough` is switched off for it";
            return Err(Fault::new(FaultKind::Forbidden, text)
                .code("passthrough_disabled")
                .retry(crate::fault::Retry::Elsewhere));
        }
        let (wire, model) = (target.wire(), &target.name.model);
        let streams = body.bool("stream") == Some(true);
        let method = model_method(&ask.uri);
        let google = wire.dialect() == Dialect::Gemini;
        let chat = ask.endpoint == Endpoint::Chat;
        let native = wire.chat_path(model, streams).filter(|_| chat || (google && method.is_some()));
        // There, the path says which model is asked, and how it shall answer: most refuse to be told by the body, too.
        let by_path = native.is_some()
            && matches!(wire.dialect(), Dialect::Gemini | Dialect::Bedrock | Dialect::Anthropic)
            && native.as_deref() != Some("/messages");
        let path = match (native, method) {
            // Google's own method stays, and so does the form of its stream.
            (Some(path), Some((_, method))) if google => {
                return Ok(gemini_method(self.say(target, path, by_path), &format!("{method}{}", ask.query)));
            }
            (Some(path), _) => path,
            (None, _) => {
                let base = match &target.vendor.place {
                    Place::Http(place) => place.base_path.as_str(),
                    Place::Local => "/v1",
                };
                format!("{}{}", once(version_off(ask.uri.path()), base), ask.query)
            }
        };
        Ok(self.say(target, path, by_path))
    }

    fn raw(&self, _: &Target) -> Option<RawForm> {
        Some(RawForm { as_it_came: true, slow: false, ..RawForm::default() })
    }
}

impl Renamed {
    fn say(&self, target: &Target, path: String, by_path: bool) -> Outgoing {
        let mut headers = with_version(self.ask.headers.clone(), target);
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        let mut splice = Splice::new(&self.body);
        if by_path {
            splice.remove("model");
            splice.remove("stream");
        } else if self.body.has("model") && self.body.str("model").as_deref() != Some(&*target.name.model) {
            splice.set_text("model", &target.name.model);
        }
        Outgoing {
            method: Method::POST,
            path,
            is_absolute: false,
            headers,
            body: splice.finish(),
            lost: Vec::new(),

            tier: None,
        }
    }
}

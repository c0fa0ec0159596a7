//! Google's Live API: a conversation over a WebSocket whose first message, `setup`, names the model.
//!
//! <https://ai.google.dev/api/live>

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde_json::Value;

use super::awaits::FirstMessage;
use super::gemini_generate::{Form, GeminiDoor};
use super::openai_chat::param::model_name;
use super::raw::{RawAsk, Seen, only};
use super::realtime::Upgrade;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Asked, Door, Head, Items};
use crate::json;
use crate::providers::{Dialect, Target};

/// The path in logs.
pub(super) const LIVE: &str = "/ws/{service}";

/// The services of Google's that speak this dialect, and the version of the API that each path names.
const SERVICES: [(&str, &str); 2] = [
    ("/ws/google.ai.generativelanguage.", ".GenerativeService.BidiGenerateContent"),
    ("/ws/google.cloud.aiplatform.", ".LlmBidiService/BidiGenerateContent"),
];
/// Headers of the client that go on to the provider: which SDK it is.
const CARRIED: [HeaderName; 1] = [HeaderName::from_static("x-goog-api-client")];
/// Says errors of the handshake.
const TONGUE: GeminiDoor = GeminiDoor(Form::Whole);
/// The version that is spoken where the other service's was asked for.
const USUAL: &str = "v1beta";

/// The version of the API that a path of the Live API names; `None` for other paths.
pub(super) fn version(path: &str) -> Option<&str> {
    SERVICES.iter().find_map(|(before, behind)| {
        let version = path.strip_prefix(before)?.strip_suffix(behind)?;
        let is_plain = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_plain.then_some(version)
    })
}

/// `GET /ws/…BidiGenerateContent`.
pub(super) struct Live;

impl Door for Live {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Realtime
    }

    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        let setup = json::Body::read(body.clone())?;
        let missing =
            || Fault::bad_request("the first message must be `setup` and name the model", "setup.model");
        let raw = setup.raw("setup").ok_or_else(missing)?;
        let named = json::entries(raw).find(|(key, _)| key == "model").and_then(|(_, raw)| json::text(raw));
        let named = named.ok_or_else(missing)?;
        let mut seen = Seen::default();
        for (key, raw) in json::entries(raw).filter(|(key, _)| key != "model") {
            seen.fields.push((key.into_owned().into(), raw.to_owned()));
        }
        let items = json::Body::read(Bytes::copy_from_slice(raw.as_bytes()))?;
        let version = version(head.uri.path()).unwrap_or(USUAL).to_owned();
        let way = Upgrade {
            place: Box::new(move |target| Some(target.wire().live(&target.name.model, &version)?.0)),
            is_absolute: true,
            lacking: "this model's provider has no live conversations of Google's dialect",
            headers: only(head.headers, |name| CARRIED.contains(name)),
            answer: HeaderMap::new(),
        };
        Ok(Arc::new(RawAsk {
            model: model_name(short(&named))?,
            pinned: false,
            bytes: body.len(),
            upload: None,
            seen,
            items: Items::named_in(&items),
            way: Box::new(way),
        }))
    }

    fn error_body(&self, fault: &Fault, request_id: &str) -> Vec<u8> {
        TONGUE.error_body(fault, request_id)
    }

    fn fault_event(&self, fault: &Fault, begun: bool) -> Bytes {
        TONGUE.fault_event(fault, begun)
    }
}

impl FirstMessage for Live {
    /// The client's `setup` with the target's model.
    fn opening(&self, message: &[u8], target: &Target, path: &str) -> Result<Vec<u8>, Fault> {
        let internal = || Fault::new(FaultKind::Internal, "the first message was read before");
        let place = target.wire().live(&target.name.model, version(path).unwrap_or(USUAL));
        let (_, model) = place.ok_or_else(internal)?;
        let mut message = json::parse(message).ok_or_else(internal)?;
        let setup = message.get_mut("setup").and_then(Value::as_object_mut).ok_or_else(internal)?;
        setup.insert("model".into(), model.into());
        Ok(message.to_string().into_bytes())
    }
}

/// The name of a model without the place that Google's clients name it by.
fn short(model: &str) -> &str {
    let name = model.strip_prefix("models/").unwrap_or(model);
    let published = "publishers/google/models/";
    name.find(published).map_or(name, |at| &name[at + published.len()..])
}

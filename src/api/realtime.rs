//! `GET /v1/realtime`: a conversation in OpenAI's realtime dialect, over a WebSocket that is relayed frame by frame.
//!
//! <https://platform.openai.com/docs/guides/realtime-websocket>

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::openai_chat::param::{missing, model_name};
use super::openai_chat::{error_body, fault_event};
use super::raw::{RawAsk, Seen, Way, only, query_without};
use super::routes::unescape;
use crate::executor::RawForm;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind, Retry};
use crate::frames::websocket::{accept_key, is_key};
use crate::gateway::{Ahead, Approach, Asked, Door, Head, Intake};
use crate::providers::{Outgoing, Target};
use crate::upstream::Upload;

/// The path.
pub(super) const REALTIME: &str = "/v1/realtime";

/// The protocol that OpenAI speaks over the WebSocket; browsers must offer it.
const PROTOCOL: &str = "realtime";
/// How browsers say the header `OpenAI-Beta`.
const BETA_PROTOCOL: &str = "openai-beta.";
const BETA: HeaderName = HeaderName::from_static("openai-beta");
/// Headers of the client that go on to the provider, besides those of the configuration.
pub(super) const CARRIED: [HeaderName; 2] = [BETA, HeaderName::from_static("openai-safety-identifier")];

/// `GET /v1/realtime`.
pub(super) struct Realtime;

impl Door for Realtime {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Realtime
    }

    fn intake(&self, approach: Approach<'_>) -> Result<Intake, Fault> {
        let Approach { uri, headers, snapshot, .. } = approach;
        let answer = handshake(headers)?;
        let mut seen = Seen::default();
        let mut model = None;
        for (name, value) in pairs(uri.query()) {
            // Azure's SDKs name their deployment.
            if matches!(&*name, "model" | "deployment") && model.is_none() {
                model = Some(model_name(&value)?);
            } else if !is_ours(&name) {
                seen.show(&name, &value);
            }
        }
        let query = query_without(uri.query(), is_ours);
        let way = Upgrade {
            place: Box::new(move |target| {
                let mut path = target.wire().realtime_path(&target.name.model)?;
                if let Some(query) = query.strip_prefix('?') {
                    path.push(if path.contains('?') { '&' } else { '?' });
                    path.push_str(query);
                }
                Some(path)
            }),
            is_absolute: false,
            lacking: "this model's provider has no realtime conversations",
            headers: carried(headers, &snapshot.raw.headers),
            answer,
        };
        let model = model.ok_or_else(|| missing("model"))?;
        Ok(Intake::Ahead(Box::new(Knock(RawAsk {
            model,
            pinned: false,
            bytes: 0,
            upload: None,
            seen,
            items: None,
            way: Box::new(way),
        }))))
    }

    fn read(&self, _: Bytes, _: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Err(Fault::new(FaultKind::Internal, "a conversation begins without a body"))
    }

    fn error_body(&self, fault: &Fault, _: &str) -> Vec<u8> {
        error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        fault_event(fault)
    }
}

/// A request without a body.
struct Knock(RawAsk);

impl Ahead for Knock {
    fn feed(&mut self, _: &Bytes) -> Result<(), Fault> {
        Err(Fault::bad_request("a conversation begins without a body", "body"))
    }

    fn is_enough(&self) -> bool {
        true
    }

    fn read(self: Box<Self>, _: Vec<Bytes>, rest: Option<Upload>) -> Result<Arc<dyn Asked>, Fault> {
        match rest {
            None => Ok(Arc::new(self.0)),
            Some(_) => Err(Fault::bad_request("a conversation begins without a body", "body")),
        }
    }
}

/// Where a conversation goes at a target; `None` where that has no such place.
type Place = Box<dyn Fn(&Target) -> Option<String> + Send + Sync>;

/// A handshake as a provider gets it.
pub(super) struct Upgrade {
    /// The path, with its query.
    pub(super) place: Place,
    /// Whether the path is whole.
    pub(super) is_absolute: bool,
    /// What is said of a target that has no such place.
    pub(super) lacking: &'static str,
    /// What goes along.
    pub(super) headers: HeaderMap,
    /// What the client's handshake is answered with, where that was not done before.
    pub(super) answer: HeaderMap,
}

impl Way for Upgrade {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        let path = (self.place)(target).ok_or_else(|| {
            let fault = Fault::bad_request(self.lacking, "model").code("unsupported_endpoint");
            fault.retry(Retry::Elsewhere)
        })?;
        Ok(Outgoing {
            method: Method::GET,
            path,
            is_absolute: self.is_absolute,
            headers: self.headers.clone(),
            body: Vec::new(),
            lost: Vec::new(),
            tier: None,
        })
    }

    fn raw(&self, _: &Target) -> Option<RawForm> {
        None
    }

    fn switch(&self) -> Option<&HeaderMap> {
        Some(&self.answer)
    }
}

/// Checks the client's side of the handshake and makes the answer to it.
pub(super) fn handshake(headers: &HeaderMap) -> Result<HeaderMap, Fault> {
    let wants = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    if !wants.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("websocket")) {
        let text = "this endpoint speaks websocket over HTTP/1.1: send `Upgrade: websocket`";
        return Err(Fault::new(FaultKind::BadRequest, text).status(426).code("websocket_required"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let text = "this endpoint speaks version 13 of websocket";
        return Err(Fault::new(FaultKind::BadRequest, text).status(426).code("websocket_version"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).filter(|key| is_key(key));
    let bad = || Fault::bad_request("the key of the websocket handshake is none", "sec-websocket-key");
    let key = key.ok_or_else(bad)?;
    let mut answer = HeaderMap::with_capacity(2);
    answer.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept_key(key)).map_err(|_| bad())?);
    if protocols(headers).any(|protocol| protocol == PROTOCOL) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    Ok(answer)
}

/// What goes on to the provider: of the protocols that the client offers, only the one of the dialect; the others hold
/// credentials of browsers (`openai-insecure-api-key.…`), organisations and projects, which are not the provider's.
fn carried(headers: &HeaderMap, more: &[HeaderName]) -> HeaderMap {
    let mut kept = only(headers, |name| CARRIED.contains(name) || more.contains(name));
    for protocol in protocols(headers) {
        if protocol == PROTOCOL {
            kept.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        } else if let Some(beta) = protocol.strip_prefix(BETA_PROTOCOL)
            && let Some((feature, version)) = beta.split_once('-')
            && let Ok(value) = HeaderValue::try_from(format!("{feature}={version}"))
        {
            kept.append(BETA, value);
        }
    }
    kept
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Parameters of the query that do not go on: the target has a model of its own, the rest are keys.
fn is_ours(name: &str) -> bool {
    matches!(name, "model" | "deployment" | "api-version" | "key" | "api_key" | "api-key" | "access_token")
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (String, String)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(name), unescape(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_says_in_protocols_is_said_in_headers_but_for_its_key() {
        let mut headers = HeaderMap::new();
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(
                "realtime, openai-insecure-api-key.sk-1, openai-project.p, openai-beta.realtime-v1",
            ),
        );
        for name in ["authorization", "origin", "cookie", "user-agent", "openai-safety-identifier", "x-mine"]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        let kept = carried(&headers, &[HeaderName::from_static("x-mine")]);
        let mut names: Vec<_> =
            kept.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "openai-beta: realtime=v1",
                "openai-safety-identifier: v",
                "sec-websocket-protocol: realtime",
                "x-mine: v"
            ]
        );
    }

    #[test]
    fn a_handshake_is_answered_or_refused_with_what_is_missing() {
        const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        const VERSION: (&str, &str) = ("sec-websocket-version", "13");
        for (given, expected) in [
            (vec![], Err(426)),
            (vec![("upgrade", "h2c"), VERSION, KEY], Err(426)),
            (vec![("upgrade", "websocket"), ("sec-websocket-version", "8"), KEY], Err(426)),
            (vec![("upgrade", "websocket"), VERSION], Err(400)),
            (vec![("upgrade", "websocket"), VERSION, ("sec-websocket-key", "short")], Err(400)),
            (vec![("upgrade", "foo, WebSocket"), VERSION, KEY], Ok(1)),
            (vec![("upgrade", "websocket"), VERSION, KEY, ("sec-websocket-protocol", "a, realtime")], Ok(2)),
        ] {
            let headers = given
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let answer = handshake(&headers.collect());
            let answered = answer.map(|answer| answer.len()).map_err(|fault| fault.client_status());
            assert_eq!(answered, expected, "{given:?}");
        }
    }
}

//! `GET /v1/responses`: OpenAI's Responses over a WebSocket. Each `response.create` begins a response, whose events come
//! back one message each; what was said stays with the provider for as long as the connection.
//!
//! <https://developers.openai.com/docs/guides/websocket-mode>

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::OpenAiResponses;
use super::error::socket_error;
use crate::api::awaits::FirstMessage;
use crate::api::openai_chat::param::{missing, model_name};
use crate::api::raw::{RawAsk, Seen, only};
use crate::api::realtime::{CARRIED, Upgrade};
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Asked, Door, Head, Items, Rename};
use crate::json;
use crate::providers::Target;

/// What begins a response.
const CREATE: &str = "response.create";

/// `GET /v1/responses` with a wish for a WebSocket.
pub struct ResponsesSocket;

impl Door for ResponsesSocket {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Realtime
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        let size = body.len();
        let create = json::Body::read(body)?;
        if create.raw("type").and_then(json::text).is_none_or(|kind| kind != CREATE) {
            return Err(Fault::bad_request("the first message must be a `response.create`", "type"));
        }
        let model = create.raw("model").and_then(json::text).ok_or_else(|| missing("model"))?;
        let way = Upgrade {
            place: Box::new(|target| target.wire().responses_socket()),
            is_absolute: false,
            lacking: "this model's provider has no responses over a websocket: ask by POST",
            headers: only(head.headers, |name| CARRIED.contains(name)),
            answer: HeaderMap::new(),
        };
        let items = Items::named_in(&create);
        Ok(Arc::new(RawAsk {
            model: model_name(&model)?,
            pinned: false,
            bytes: size,
            upload: None,
            items,
            seen: Seen { json: Some(create), ..Seen::default() },
            way: Box::new(way),
        }))
    }

    fn error_body(&self, fault: &Fault, request_id: &str) -> Vec<u8> {
        OpenAiResponses.error_body(fault, request_id)
    }

    fn fault_event(&self, fault: &Fault, begun: bool) -> Bytes {
        OpenAiResponses.fault_event(fault, begun)
    }
}

impl FirstMessage for ResponsesSocket {
    fn opening(&self, message: &[u8], target: &Target, _: &str) -> Result<Vec<u8>, Fault> {
        let internal = || Fault::new(FaultKind::Internal, "the first message was read before");
        renamed(message, target.wire().deployed(&target.name.model)).ok_or_else(internal)
    }

    /// Every response is the target's: nobody gets another model in a later message.
    fn rename(&self, target: &Target) -> Option<Rename> {
        let model = target.wire().deployed(&target.name.model).to_owned();
        Some(Box::new(move |message| renamed(message, &model)))
    }

    fn told(&self, fault: &Fault) -> Option<Vec<u8>> {
        Some(socket_error(fault).to_string().into_bytes())
    }
}

/// A `response.create` with this model; `None` for other messages.
fn renamed(message: &[u8], model: &str) -> Option<Vec<u8>> {
    let mut create = json::parse(message)?;
    let fields = create.as_object_mut()?;
    if fields.get("type").and_then(Value::as_str) != Some(CREATE) {
        return None;
    }
    fields.insert("model".into(), model.into());
    Some(create.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_model_a_message_names_it_is_the_targets() {
        for (message, expected) in [
            (
                r#"{"type":"response.create","model":"dear","input":[1.0]}"#,
                Some(r#"{"type":"response.create","model":"m","input":[1.0]}"#),
            ),
            (r#"{"type":"response.create"}"#, Some(r#"{"type":"response.create","model":"m"}"#)),
            (r#"{"type":"response.steer","model":"dear"}"#, None),
            ("[1]", None),
            ("nonsense", None),
        ] {
            let found = renamed(message.as_bytes(), "m").map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(found.as_deref(), expected);
        }
    }
}

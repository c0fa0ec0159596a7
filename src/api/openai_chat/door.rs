//! The door of `POST /v1/chat/completions`: how a chat request goes through the line.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{TONGUE, encode_legacy};
use super::decode::Decoded;
use super::path;
use super::{Ask, ChatEncoder, Fallback, encode_answer, error_body};
use crate::api::adjust;
use crate::api::sequel::Sequel;
use crate::api::translate::{self, relay};
use crate::chat::Request;
use crate::executor::Carry;
use crate::facts::{self, Endpoint};
use crate::fault::Fault;
use crate::frames::sse_data;
use crate::gateway::{Asked, Door, Head};
use crate::json;
use crate::providers::{Dialect, Names, Outgoing, Relayed, StreamRelay, Target};

/// `POST /v1/chat/completions`.
pub struct OpenAiChat;

impl Door for OpenAiChat {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Chat
    }

    fn read(&self, body: Bytes, _: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(json::Body::read(body)?)?))
    }

    fn error_body(&self, fault: &Fault, _: &str) -> Vec<u8> {
        error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        fault_event(fault)
    }
}

/// The event that ends a stream with an error, in OpenAI's form. No `[DONE]` follows.
pub(in crate::api) fn fault_event(fault: &Fault) -> Bytes {
    let mut event = Vec::with_capacity(256);
    sse_data(&mut event, &error_body(fault));
    event.into()
}

impl Asked for Ask {
    fn json(&self) -> Option<&crate::json::Body> {
        Some(self.body())
    }

    fn model(&self) -> &Arc<str> {
        self.model()
    }

    fn bytes(&self) -> usize {
        self.body().bytes().len()
    }

    fn with(
        &self,
        parameters: &[(Arc<str>, Value)],
        missing: &mut Vec<Arc<str>>,
    ) -> Result<Option<Arc<dyn Asked>>, Fault> {
        let body = adjust::CHAT.set(self.body(), parameters, missing)?;
        let again = Self::read(body).map_err(|fault| adjust::blamed(&fault))?;
        Ok(Some(Arc::new(again)))
    }

    fn after(&self, text: &str, _: &[Bytes]) -> Option<Arc<dyn Carry>> {
        // DeepSeek and Mistral want to be told that it is a beginning; others pass over the word.
        let beginning = json!({ "role": "assistant", "content": text, "prefix": true });
        Some(Sequel::of(self, "messages", beginning)?.carried())
    }
}

impl Ask {
    /// Whether the client knows nothing but `functions` and `function_call`.
    fn is_legacy(&self) -> bool {
        self.decoded().is_ok_and(|decoded| decoded.legacy)
    }

    /// The names under which a target is told of the tools.
    fn names(&self, target: &Target) -> Option<Names> {
        translate::names(target, Dialect::OpenAi, Names::said(self.request().ok()?))
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        if let Some(relay) = relay(target, Dialect::OpenAi) {
            return relay.splice(self.body(), &target.name);
        }
        let Decoded { request, lost, .. } = self.decoded()?;
        let names = self.names(target);
        let clients = |path: &str| path::clients(path, request);
        let mut outgoing = translate::outgoing(target, request, names.as_ref(), clients)?;
        outgoing.lost.extend_from_slice(lost);
        Ok(outgoing)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        match relay(target, Dialect::OpenAi) {
            Some(relay) => relay.whole(body),
            None => translate::whole(target, &body, &TONGUE, self.names(target).as_ref(), |answer| {
                let encode = if self.is_legacy() { encode_legacy } else { encode_answer };
                encode(answer, &fallback())
            }),
        }
    }

    fn counted(&self) -> Option<Request> {
        self.request().ok().cloned()
    }

    fn wants_stream(&self) -> bool {
        facts::Body::stream(self)
    }

    fn stream(&self, target: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Ok(match relay(target, Dialect::OpenAi) {
            Some(relay) => relay.stream(self.include_usage()),
            None => {
                let encoder = ChatEncoder::new(self.include_usage(), fallback()).legacy(self.is_legacy());
                translate::stream(target, &TONGUE, self.names(target), Box::new(encoder))
            }
        })
    }
}

fn fallback() -> Fallback {
    Fallback { id: translate::answer_id("chatcmpl-"), created: translate::now() }
}

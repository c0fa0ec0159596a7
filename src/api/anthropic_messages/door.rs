//! The door of `POST /v1/messages`: how a messages request goes through the line.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};

use super::answer::TONGUE;
use super::error::fault_event;
use super::{Ask, MessageEncoder, encode_answer, error_body, path};
use crate::api::adjust;
use crate::api::sequel::{Sequel, documents};
use crate::api::sight::value_of;
use crate::api::translate::{self, relay};
use crate::chat::Request;
use crate::executor::Carry;
use crate::facts::{self, Endpoint};
use crate::fault::Fault;
use crate::gateway::{Asked, Door, Head};
use crate::json;
use crate::providers::{Dialect, Names, Outgoing, Relayed, StreamRelay, Target};

/// `POST /v1/messages`.
pub struct AnthropicMessages;

impl Door for AnthropicMessages {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Chat
    }

    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(json::Body::read(body)?, head.headers, false)?))
    }

    fn error_body(&self, fault: &Fault, request_id: &str) -> Vec<u8> {
        error_body(fault, request_id)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        fault_event(fault)
    }
}

impl Asked for Ask {
    fn json(&self) -> Option<&crate::json::Body> {
        Some(self.body())
    }

    fn carried(&self) -> &[(&'static str, HeaderValue)] {
        self.carried()
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
        let body = adjust::MESSAGES.set(self.body(), parameters, missing)?;
        let again = self.again(body).map_err(|fault| adjust::blamed(&fault))?;
        Ok(Some(Arc::new(again)))
    }

    fn is_kept_elsewhere(&self) -> bool {
        let thread = self.body().raw("thread").unwrap_or_default();
        value_of(thread, "type") == Some("\"continue\"")
    }

    fn after(&self, text: &str, seen: &[Bytes]) -> Option<Arc<dyn Carry>> {
        let sequel = Sequel::of(self, "messages", json!({ "role": "assistant", "content": text }))?;
        let begun = |event: &Value| event.get("type").is_some_and(|kind| kind == "content_block_start");
        let block = documents(seen).filter(begun).filter_map(|event| event.get("index")?.as_u64()).last()?;
        let block = usize::try_from(block).ok()?;
        // Where it cannot be read, no target of another dialect is asked.
        let said = self.request().map(|decoded| Names::said(&decoded.request).map(str::to_owned).collect());
        let said: Vec<String> = said.unwrap_or_default();
        let hearing = move |target: &Target| -> Result<Box<dyn StreamRelay>, Fault> {
            let names = translate::names(target, Dialect::Anthropic, said.iter().map(String::as_str));
            Ok(translate::stream(target, &TONGUE, names, Box::new(MessageEncoder::within_text(block))))
        };
        Some(sequel.heard(hearing).carried())
    }
}

impl Ask {
    /// The names under which a target is told of the tools.
    fn names(&self, target: &Target) -> Option<Names> {
        translate::names(target, Dialect::Anthropic, Names::said(&self.request().ok()?.request))
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        if let Some(relay) = relay(target, Dialect::Anthropic) {
            let mut outgoing = relay.splice(self.body(), &target.name)?;
            relay.carry(&mut outgoing, self.carried());
            return Ok(outgoing);
        }
        let decoded = self.request()?;
        let has_effort = decoded.request.reasoning.as_ref().is_some_and(|said| said.effort.is_some());
        let clients = |path: &str| path::clients(path, &decoded.origins, has_effort);
        let names = self.names(target);
        let mut outgoing = translate::outgoing(target, &decoded.request, names.as_ref(), clients)?;
        outgoing.lost.splice(0..0, decoded.lost.iter().cloned());
        Ok(outgoing)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        match relay(target, Dialect::Anthropic) {
            Some(relay) => relay.whole(body),
            None => translate::whole(target, &body, &TONGUE, self.names(target).as_ref(), |answer| {
                encode_answer(answer, &translate::answer_id("msg_"))
            }),
        }
    }

    fn counted(&self) -> Option<Request> {
        self.request().ok().map(|decoded| decoded.request.clone())
    }

    fn wants_stream(&self) -> bool {
        facts::Body::stream(self)
    }

    fn stream(&self, target: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Ok(match relay(target, Dialect::Anthropic) {
            Some(relay) => relay.stream(true),
            None => {
                let encoder = MessageEncoder::new(translate::answer_id("msg_"));
                translate::stream(target, &TONGUE, self.names(target), Box::new(encoder))
            }
        })
    }
}

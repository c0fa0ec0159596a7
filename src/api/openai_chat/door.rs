//! The door of `POST /v1/chat/completions`: how a chat request goes through the line.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{LEGACY, TONGUE, encode_legacy};
use super::custom::{self, CustomCalls};
use super::decode::Decoded;
use super::path;
use super::{Ask, ChatEncoder, Fallback, encode_answer, error_body};
use crate::api::adjust;
use crate::api::sequel::Sequel;
use crate::api::tongue::Tongue;
use crate::api::translate::{self, relay};
use crate::chat::{Request, StreamEncoder};
use crate::executor::Carry;
use crate::facts::{self, Endpoint};
use crate::fault::Fault;
use crate::frames::sse_data;
use crate::gateway::{Asked, Door, Head};
use crate::json;
use crate::providers::{Dialect, Names, Outgoing, Relayed, StreamRelay, Target};

/// The field that says whether there may be several calls.
const PARALLEL: &str = "parallel_tool_calls";

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

    /// The names of its custom tools.
    fn customs(&self) -> Vec<String> {
        self.request().map(custom::names).unwrap_or_default()
    }

    /// What its client can be told.
    fn tongue(&self) -> &'static Tongue {
        if self.is_legacy() { &LEGACY } else { &TONGUE }
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
        let decoded = self.decoded()?;
        let Decoded { request, lost, legacy, .. } = decoded;
        let names = self.names(target);
        let clients = |path: &str| path::clients(path, decoded);
        let mut outgoing = translate::outgoing(target, request, names.as_ref(), clients)?;
        if *legacy && !self.body().has(PARALLEL) {
            // That there be one call is our wish, not the client's; a second one is told of when it comes.
            outgoing.lost.retain(|loss| *loss.path != *PARALLEL);
        }
        outgoing.lost.extend_from_slice(lost);
        Ok(outgoing)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        match relay(target, Dialect::OpenAi) {
            Some(relay) => relay.whole(body),
            None => translate::whole(target, &body, self.tongue(), self.names(target).as_ref(), |answer| {
                let encode = if self.is_legacy() { encode_legacy } else { encode_answer };
                let own = custom::restored(answer, &self.customs());
                encode(own.as_ref().unwrap_or(answer), &fallback())
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
                let customs = self.customs();
                let encoder: Box<dyn StreamEncoder> = match customs.is_empty() {
                    true => Box::new(encoder),
                    false => Box::new(CustomCalls::new(encoder, customs)),
                };
                translate::stream(target, self.tongue(), self.names(target), encoder)
            }
        })
    }
}

fn fallback() -> Fallback {
    Fallback { id: translate::answer_id("chatcmpl-"), created: translate::now() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::{QuirkSettings, Vendor, dialect};
    use crate::target::TargetName;

    fn asks(fields: Value) -> Ask {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Ask::read(json::Body::read(body.to_string().into()).unwrap()).unwrap()
    }

    fn target(word: &str) -> Target {
        let vendor = Vendor::bare("p", dialect(word, &QuirkSettings::default()).unwrap());
        Target::new(Arc::new(vendor), TargetName::parse("p/m").unwrap())
    }

    fn told(lost: &[crate::chat::Loss]) -> Vec<String> {
        lost.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_sends_functions_is_not_told_of_a_field_that_it_did_not_send() {
        let function = json!({"name": "f", "parameters": {"type": "object"}});
        let legacy = json!({"functions": [function]});
        let named = json!({"functions": [function], "parallel_tool_calls": false});
        let tools =
            json!({"tools": [{"type": "function", "function": function}], "parallel_tool_calls": false});
        for word in ["gemini", "cohere", "ollama", "bedrock"] {
            for (fields, expected) in [(&legacy, false), (&named, true), (&tools, true)] {
                let lost = asks(fields.clone()).outgoing(&target(word)).unwrap().lost;
                let is_told = lost.iter().any(|loss| *loss.path == *PARALLEL);
                assert_eq!(is_told, expected, "{word} {fields}: {lost:?}");
            }
        }
    }

    #[test]
    fn who_knows_no_calls_but_the_legacy_one_is_told_of_those_that_it_does_not_get() {
        let calls =
            json!([{"functionCall": {"name": "f", "args": {}}}, {"functionCall": {"name": "g", "args": {}}}]);
        let answer = |calls: &Value| {
            let content = json!({"role": "model", "parts": calls});
            json!({"candidates": [{"content": content, "finishReason": "STOP"}]})
        };
        let function = json!({"name": "f", "parameters": {"type": "object"}});
        for (fields, calls, is_told) in [
            (json!({"functions": [function]}), calls.clone(), true),
            (json!({"functions": [function]}), json!([calls[0]]), false),
            (json!({"tools": [{"type": "function", "function": function}]}), calls, false),
        ] {
            let (ask, target, body) = (asks(fields.clone()), target("gemini"), answer(&calls));
            let lost = told(&ask.whole(&target, body.to_string().into()).unwrap().lost);
            let expected = "answer.choices[0].content[1] (another tool call dropped)".to_owned();
            assert_eq!(lost.contains(&expected), is_told, "{fields} {calls}: {lost:?}");

            let (mut relay, mut frames) = (ask.stream(&target).unwrap(), Vec::new());
            relay.feed(format!("data: {body}\n\n").into(), &mut frames).unwrap();
            relay.finish(&mut frames).unwrap();
            let (lost, expected) =
                (told(relay.lost()), "answer.choices[0].content (another tool call dropped)".to_owned());
            assert_eq!(lost.contains(&expected), is_told, "{fields} {calls}, streamed: {lost:?}");
        }
    }
}

//! The door of `POST /v1/completions`: how a request for a text completion goes through the line.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::stream::TextEncoder;
use super::{Ask, answer, prompts_in};
use crate::api::adjust;
use crate::api::openai_chat::{Fallback, error_body, fault_event};
use crate::api::translate;
use crate::executor::Carry;
use crate::facts::{self, Endpoint};
use crate::fault::Fault;
use crate::gateway::{Asked, Door, Head};
use crate::json;
use crate::providers::{Outgoing, Relay, Relayed, StreamRelay, Target};

/// `POST /v1/completions`.
pub struct OpenAiCompletions;

impl Door for OpenAiCompletions {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Completions
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

    fn prompts(&self) -> u64 {
        self.body().raw("prompt").map_or(1, prompts_in)
    }

    fn with(
        &self,
        parameters: &[(Arc<str>, Value)],
        missing: &mut Vec<Arc<str>>,
    ) -> Result<Option<Arc<dyn Asked>>, Fault> {
        let body = adjust::PLAIN.set(self.body(), parameters, missing)?;
        let again = Self::read(body).map_err(|fault| adjust::blamed(&fault))?;
        Ok(Some(Arc::new(again)))
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        if let Some(relay) = relay(target) {
            return relay.splice(self.body(), &target.name);
        }
        let decoded = self.decoded()?;
        let encoded = target.wire().encode(&decoded.request, &target.name);
        let mut outgoing = encoded.map_err(|fault| match fault.param.as_deref() {
            Some(param) if param.starts_with("messages") => fault.at("prompt"),
            _ => fault,
        })?;
        outgoing.lost.extend_from_slice(&decoded.lost);
        for loss in &mut outgoing.lost {
            if loss.path == "max_completion_tokens" {
                loss.path = "max_tokens".into();
            }
        }
        Ok(outgoing)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        if let Some(relay) = relay(target) {
            return relay.whole(body);
        }
        let echo = self.decoded()?.echo.as_deref();
        translate::whole(target, &body, &answer::TONGUE, None, |answer| {
            answer::encode(answer, echo, &fallback())
        })
    }

    fn may_be_empty(&self) -> bool {
        true
    }

    fn wants_stream(&self) -> bool {
        facts::Body::stream(self)
    }

    fn stream(&self, target: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        if let Some(relay) = relay(target) {
            return Ok(relay.stream(self.include_usage()));
        }
        let echo = self.decoded()?.echo.clone();
        let encoder = TextEncoder::new(self.include_usage(), echo, fallback());
        Ok(translate::stream(target, &answer::TONGUE, None, Box::new(encoder)))
    }
}

/// The ability of a target to complete texts itself.
fn relay(target: &Target) -> Option<&dyn Relay> {
    target.wire().completions(&target.name.model)
}

fn fallback() -> Fallback {
    Fallback { id: translate::answer_id("cmpl-"), created: translate::now() }
}

//! The door of `POST /v1/moderations`: how a moderation request goes through the line.

use std::sync::Arc;

use bytes::Bytes;

use super::Ask;
use crate::api::openai_chat::{error_body, fault_event};
use crate::executor::Carry;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Asked, Door, Head};
use crate::json;
use crate::providers::{Moderations, Outgoing, Relayed, StreamRelay, Target};

/// `POST /v1/moderations`.
pub struct OpenAiModerations;

impl Door for OpenAiModerations {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Moderations
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
        Some(&self.body)
    }

    fn model(&self) -> &Arc<str> {
        &self.model
    }

    fn bytes(&self) -> usize {
        self.body.bytes().len()
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        ability(target)?.splice(&self.body, &target.name)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        ability(target)?.whole(body, self.results)
    }

    fn wants_stream(&self) -> bool {
        false
    }

    fn stream(&self, _: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Err(Fault::new(FaultKind::Internal, "judgements are never streamed"))
    }
}

fn ability(target: &Target) -> Result<&dyn Moderations, Fault> {
    target.wire().moderations().ok_or_else(|| {
        let text = "this provider moderates nothing; if it does, say so in its `quirks.moderations`";
        Fault::bad_request(text, "model").retry(Retry::Elsewhere)
    })
}

//! The door of `POST /v1/chat/completions`: how a chat request goes through the line.

use std::sync::Arc;

use bytes::Bytes;

use super::{Ask, error_body};
use crate::executor::Carry;
use crate::facts::{self, Endpoint};
use crate::fault::{Fault, FaultKind};
use crate::frames::sse_data;
use crate::gateway::{Asked, Door};
use crate::json;
use crate::providers::{Outgoing, Relay, Relayed, StreamRelay, Target};

/// `POST /v1/chat/completions`.
pub struct OpenAiChat;

impl Door for OpenAiChat {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Chat
    }

    fn read(&self, body: Bytes) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(json::Body::read(body)?)?))
    }

    fn fault_event(&self, fault: &Fault) -> Bytes {
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
    fn model(&self) -> &Arc<str> {
        self.model()
    }

    fn bytes(&self) -> usize {
        self.body().bytes().len()
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        relay(target)?.splice(self.body(), &target.name)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        relay(target)?.whole(body)
    }

    fn wants_stream(&self) -> bool {
        facts::Body::stream(self)
    }

    fn stream(&self, target: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Ok(relay(target)?.stream(self.include_usage()))
    }
}

/// The ability of a target that speaks this door's dialect to carry its bytes.
fn relay(target: &Target) -> Result<&dyn Relay, Fault> {
    target.vendor.wire.relay().ok_or_else(|| {
        Fault::new(FaultKind::Internal, "this target speaks another dialect, which is not translated yet")
    })
}

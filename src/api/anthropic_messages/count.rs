//! The door of `POST /v1/messages/count_tokens`: counted by the provider where it can, estimated where it cannot.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use super::error::fault_event;
use super::{Ask, error_body};
use crate::api::counted::instead;
use crate::executor::{Carry, Instead};
use crate::facts::{self, Endpoint};
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Asked, Door, Head};
use crate::json;
use crate::providers::{CountTokens, Dialect, Outgoing, Relayed, StreamRelay, Target};

/// `POST /v1/messages/count_tokens`.
pub struct AnthropicCount;

impl Door for AnthropicCount {
    fn endpoint(&self) -> Endpoint {
        Endpoint::CountTokens
    }

    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Count(Ask::read(json::Body::read(body)?, head.headers, true)?)))
    }

    fn error_body(&self, fault: &Fault, request_id: &str) -> Vec<u8> {
        error_body(fault, request_id)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        fault_event(fault)
    }
}

/// A request for a count.
struct Count(Ask);

impl Asked for Count {
    fn json(&self) -> Option<&crate::json::Body> {
        Some(self.0.body())
    }

    fn carried(&self) -> &[(&'static str, HeaderValue)] {
        self.0.carried()
    }

    fn model(&self) -> &Arc<str> {
        self.0.model()
    }

    fn bytes(&self) -> usize {
        self.0.body().bytes().len()
    }
}

impl Carry for Count {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        let mut outgoing = ability(target).ok_or_else(unable)?.splice(self.0.body(), &target.name)?;
        if let Some(relay) = target.wire().relay() {
            relay.carry(&mut outgoing, self.0.carried());
        }
        Ok(outgoing)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        ability(target).ok_or_else(unable)?.whole(body)
    }

    fn instead(&self, target: &Target) -> Option<Instead> {
        if ability(target).is_some() {
            return None;
        }
        let request = self.0.request().ok().map(|decoded| decoded.request.clone());
        let write = |tokens| format!(r#"{{"input_tokens":{tokens}}}"#);
        Some(instead(request, self.0.estimate(), target, "answer.input_tokens", write))
    }

    fn wants_stream(&self) -> bool {
        false
    }

    fn stream(&self, _: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Err(Fault::new(FaultKind::Internal, "counts are never streamed"))
    }
}

fn ability(target: &Target) -> Option<&dyn CountTokens> {
    let wire = target.wire();
    (wire.dialect() == Dialect::Anthropic).then(|| wire.count_tokens()).flatten()
}

fn unable() -> Fault {
    Fault::new(FaultKind::Internal, "this provider does not count tokens")
}

/// What policies see of it is what they would see of the request itself.
impl facts::Body for Count {
    fn stream(&self) -> bool {
        false
    }
    fn max_tokens(&self) -> Option<u64> {
        self.0.max_tokens()
    }
    fn tokens(&self) -> u64 {
        self.0.tokens()
    }
    fn tool_names(&self) -> &[Box<str>] {
        self.0.tool_names()
    }
    fn messages(&self) -> u64 {
        self.0.messages()
    }
    fn has_images(&self) -> bool {
        self.0.has_images()
    }
    fn has_audio(&self) -> bool {
        self.0.has_audio()
    }
    fn has_files(&self) -> bool {
        self.0.has_files()
    }
    fn has_documents(&self) -> bool {
        self.0.has_documents()
    }
    fn has_json_output(&self) -> bool {
        self.0.has_json_output()
    }
    fn text(&self) -> &str {
        self.0.text()
    }
    fn system(&self) -> &str {
        self.0.system()
    }
    fn last_user(&self) -> &str {
        self.0.last_user()
    }
    fn turns(&self) -> Vec<facts::Turn> {
        self.0.turns()
    }
    fn asides(&self) -> Vec<facts::Aside> {
        self.0.asides()
    }
    fn definitions(&self) -> Vec<facts::Aside> {
        self.0.definitions()
    }
    fn user(&self) -> Option<&str> {
        self.0.user()
    }
    fn metadata(&self, key: &str) -> Option<String> {
        self.0.metadata(key)
    }
    fn field(&self, name: &str) -> Option<&str> {
        self.0.field(name)
    }
}

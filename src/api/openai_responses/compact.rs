//! `POST /v1/responses/compact`: a conversation made shorter by a provider of this dialect, which alone can read what
//! it makes of it. Nobody else can do this, so nobody else is asked.
//!
//! <https://platform.openai.com/docs/api-reference/responses/compact>

use std::sync::Arc;

use bytes::Bytes;

use super::{Ask, ResponseEncoder, native};
use crate::api::openai_chat;
use crate::facts::Endpoint;
use crate::fault::{Fault, Retry};
use crate::gateway::{Asked, Door, Head};
use crate::json::Body;
use crate::providers::{Dialect, Outgoing, Relay, Relayed, Target};

/// `POST /v1/responses/compact`.
pub struct Compaction;

impl Door for Compaction {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Chat
    }

    fn dialect(&self) -> Dialect {
        Dialect::Responses
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(Body::read(body)?, head.shelf, false)?.compacting()?))
    }

    fn error_body(&self, fault: &Fault, _request_id: &str) -> Vec<u8> {
        openai_chat::error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        ResponseEncoder::unstarted(fault)
    }
}

/// The request for `target`: the conversation as for an answer, written out where it was not kept there.
pub(super) fn outgoing(ask: &Ask, target: &Target) -> Result<Outgoing, Fault> {
    let mut outgoing = native::outgoing(relay(target)?, ask.body(), ask.before(), ask.shelf(), target)?;
    outgoing.path = below(&outgoing.path, "/compact");
    Ok(outgoing)
}

/// The answer as it came. It is no turn of the conversation, so it is not kept.
pub(super) fn whole(target: &Target, body: Bytes) -> Result<Relayed, Fault> {
    relay(target)?.whole(body)
}

/// A path with something below it, before its query.
pub(super) fn below(path: &str, more: &str) -> String {
    match path.split_once('?') {
        Some((path, query)) => format!("{path}{more}?{query}"),
        None => format!("{path}{more}"),
    }
}

/// What carries the client's bytes: the provider itself, because this operation knows no limit of its output that could
/// be put into them.
fn relay(target: &Target) -> Result<&dyn Relay, Fault> {
    let wire = &*target.vendor.wire;
    let own = wire.speaker(&target.name.model).unwrap_or(wire).responses();
    own.filter(|_| target.wire().responses().is_some()).ok_or_else(|| {
        let text =
            "only a provider of OpenAI's Responses compacts a conversation, and only as it was written";
        Fault::bad_request(text, "model").retry(Retry::Elsewhere)
    })
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn what_is_below_stands_before_the_query() {
        assert_eq!(below("/responses", "/compact"), "/responses/compact");
        assert_eq!(below("/responses?api-version=1", "/compact"), "/responses/compact?api-version=1");
    }
}

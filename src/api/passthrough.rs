//! Raw requests to a provider: the client's bytes out, the provider's bytes back, with the provider's key put in.
//!
//! Three ways lead here, all of them through the whole line: `/passthrough/{provider}/…`, the header
//! `X-Provider-Original: true` on a known endpoint, and what providers keep (`/v1/files` and the like).

mod ask;
mod azure;
mod items;
mod kept;
mod original;
mod version;

use bytes::Bytes;
use http::HeaderMap;

use super::anthropic_messages::AnthropicMessages;
use super::gemini_generate::{Form, GeminiDoor};
use super::openai_chat::OpenAiChat;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Approach, Asked, Door, Head, Intake, Snapshot};
use crate::providers::Dialect;
use ask::{Below, RawAhead};
pub(super) use kept::{KEPT, Kept};
pub(super) use original::{is_wanted, original};

/// What every path of a raw request begins with.
pub(super) const PLACE: &str = "/passthrough/";

/// The path as logs have it.
pub(super) const PATH: &str = "/passthrough/{provider}/*";

/// `/passthrough/{provider}/…`, with faults of our own in the dialect of another door.
pub(super) struct Passthrough(&'static dyn Door);

static OPENAI: Passthrough = Passthrough(&OpenAiChat);
static ANTHROPIC: Passthrough = Passthrough(&AnthropicMessages);
static GEMINI: Passthrough = Passthrough(&GeminiDoor(Form::Whole));

/// The door for a client that sends these headers, which tell the dialect that it understands.
pub(super) fn door(headers: &HeaderMap) -> &'static dyn Door {
    if headers.contains_key("anthropic-version") {
        &ANTHROPIC
    } else if headers.contains_key("x-goog-api-key") || headers.contains_key("x-goog-api-client") {
        &GEMINI
    } else {
        &OPENAI
    }
}

impl Door for Passthrough {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Passthrough
    }

    fn dialect(&self) -> Dialect {
        self.0.dialect()
    }

    fn intake(&self, approach: Approach<'_>) -> Result<Intake, Fault> {
        let path = approach.uri.path();
        let rest = path.strip_prefix(PLACE).unwrap_or_default();
        let (provider, rest) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        open(approach.snapshot, provider)?;
        check_path(rest)?;
        let below = Below::BaseUrl { path: rest.to_owned(), query: client_query(approach) };
        Ok(Intake::Ahead(Box::new(RawAhead::new(approach, provider, below)?)))
    }

    fn read(&self, _: Bytes, _: Head<'_>) -> Result<std::sync::Arc<dyn Asked>, Fault> {
        Err(Fault::new(FaultKind::Internal, "raw bodies are read ahead"))
    }

    fn error_body(&self, fault: &Fault, request_id: &str) -> Vec<u8> {
        self.0.error_body(fault, request_id)
    }

    fn fault_event(&self, fault: &Fault, begun: bool) -> Bytes {
        self.0.fault_event(fault, begun)
    }
}

/// Refuses providers that are not configured, or not for raw requests.
fn open(snapshot: &Snapshot, provider: &str) -> Result<(), Fault> {
    if snapshot.raw.open.iter().any(|open| **open == *provider) {
        return Ok(());
    }
    if snapshot.catalogue.vendors().iter().any(|vendor| *vendor.name == *provider) {
        let text = "this provider takes no raw requests here: `passthrough` is switched off for it";
        return Err(Fault::new(FaultKind::Forbidden, text).code("passthrough_disabled"));
    }
    Err(Fault::new(FaultKind::NotFound, "there is no provider of this name").code("provider_not_found"))
}

/// The listener refuses ambiguous paths; this is the second lock, for what would leave the base URL.
fn check_path(path: &str) -> Result<(), Fault> {
    let plain = super::routes::unescape(path);
    let leaves = |segment: &str| matches!(segment, "." | "..");
    let bad = plain.split(['/', '\\']).any(leaves)
        || plain.contains('\\')
        || plain.chars().any(char::is_control)
        || plain.matches('/').count() != path.matches('/').count();
    if bad || !path.starts_with('/') {
        return Err(Fault::bad_request("the path may not leave the provider's base URL", "path"));
    }
    Ok(())
}

/// The client's query without what some clients put their key into.
fn client_query(approach: Approach<'_>) -> String {
    super::raw::query_without(approach.uri.query(), |name| matches!(name, "key" | "api_key" | "access_token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_base_url() {
        for path in ["/chat/completions", "/", "/files/", "/models/a:b", "/a%20b", "/a..b/c"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in [
            "/..",
            "/a/../b",
            "/%2e%2e/b",
            "/a/%2E/b",
            "/a%2fb",
            "/a\\b",
            "/a%5cb",
            "/a%00",
            "a",
            "/a%0d%0ab",
        ] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }
}

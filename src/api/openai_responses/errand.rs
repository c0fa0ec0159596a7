//! Responses that a provider keeps itself: read, deleted and cancelled there, so that nobody is told of a state that
//! is over. Answers made in the background are waited for this way.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Uri};

use super::compact::below;
use super::keep::{Keeper, Watched};
use super::lookup::{Lookup, Wish, wants_stream};
use super::{Ask, ResponseEncoder};
use crate::api::openai_chat;
use crate::api::routes::unescape;
use crate::chat::Usage;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Asked, Door, Head, Later};
use crate::json::{self, Body};
use crate::providers::{Dialect, Outgoing, Relay, Relayed, StreamRelay, Target};
use crate::store::{Kept, Shelf};

/// The door of `/v1/responses/{id}` for responses that their provider keeps.
pub(in crate::api) struct AtProvider(pub(super) Wish);

/// What is wanted of one such response.
pub(super) struct Errand {
    wish: Wish,
    kept: Arc<Kept>,
    shelf: Shelf,
    /// Whether it is wanted as a stream.
    streams: bool,
    /// What of the query its provider is told: which parts of the answer shall be there, too, and where its stream begins.
    told: Vec<String>,
}

impl Door for AtProvider {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Chat
    }

    fn dialect(&self) -> Dialect {
        Dialect::Responses
    }

    /// Policies see the request that was made once.
    fn read(&self, _: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        let id = Lookup::id(head.uri.path()).unwrap_or_default();
        let kept = head.shelf.get(id).ok_or_else(|| super::lookup::unknown(id))?;
        let model = kept.target.to_string();
        let body = Body::read(kept.request.clone())?;
        let streams = self.0 == Wish::Read && wants_stream(head.uri);
        let goes_on = |name: &str| {
            let (key, _) = name.split_once('=').unwrap_or((name, ""));
            key.starts_with("include") || streams && matches!(key, "stream" | "starting_after")
        };
        let pairs = head.uri.query().unwrap_or_default().split('&');
        let told = pairs.filter(|pair| goes_on(&unescape(pair))).map(str::to_owned).collect();
        let errand = Errand { wish: self.0, kept, shelf: head.shelf.clone(), streams, told };
        Ok(Arc::new(Ask::errand(body, model.into(), errand)))
    }

    fn error_body(&self, fault: &Fault, _request_id: &str) -> Vec<u8> {
        openai_chat::error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        ResponseEncoder::unstarted(fault)
    }
}

impl Errand {
    /// The provider that keeps the response.
    pub(super) fn holder(&self) -> &str {
        &self.kept.target.provider
    }

    pub(super) fn outgoing(&self, relay: &dyn Relay, target: &Target) -> Result<Outgoing, Fault> {
        if *target.name.provider != *self.kept.target.provider {
            let text = "the response is kept by another provider, to which this request may not go";
            return Err(Fault::new(FaultKind::NotFound, text).retry(Retry::Elsewhere));
        }
        // Only for the address, which differs from vendor to vendor.
        let nothing = Body::read(Bytes::from_static(b"{\"model\":\"\"}"))?;
        let mut outgoing = relay.splice(&nothing, &target.name)?;
        let operation = if self.wish == Wish::Cancel { "/cancel" } else { "" };
        outgoing.path = below(&outgoing.path, &format!("/{}{operation}", self.kept.id));
        for pair in &self.told {
            outgoing.path.push(if outgoing.path.contains('?') { '&' } else { '?' });
            outgoing.path.push_str(pair);
        }
        outgoing.method = match self.wish {
            Wish::Delete => Method::DELETE,
            Wish::Cancel => Method::POST,
            Wish::Read | Wish::Items => Method::GET,
        };
        outgoing.headers.remove(CONTENT_TYPE);
        outgoing.body.clear();
        outgoing.lost.clear();
        Ok(outgoing)
    }

    /// Whether it is wanted as a stream.
    pub(super) fn streams(&self) -> bool {
        self.streams
    }

    /// The provider's stream as it comes. One that is seen to its end tells what is kept.
    pub(super) fn stream(&self, relay: &dyn Relay) -> Box<dyn StreamRelay> {
        let keeper = is_under_way(&self.kept).then(|| self.keeper());
        Box::new(Watched::again(relay.stream(true), self.kept.id.clone(), keeper))
    }

    fn keeper(&self) -> Keeper {
        Keeper {
            shelf: self.shelf.clone(),
            previous: self.kept.previous.clone(),
            request: self.kept.request.clone(),
            inlined: self.kept.inlined,
            target: self.kept.target.clone(),
            native: true,
        }
    }

    /// What an answer says of the work in the background.
    pub(super) fn later(&self, answer: &[u8]) -> Later {
        let id = self.kept.id.clone();
        let goes_on = self.wish != Wish::Delete && is_status_under_way(answer);
        if goes_on { Later::Awaited(id) } else { Later::Over(id) }
    }

    /// The provider's answer as it came. The first that is complete replaces what is kept, and counts.
    pub(super) fn whole(&self, relay: &dyn Relay, body: Bytes) -> Result<Relayed, Fault> {
        if std::str::from_utf8(&body).is_err() || !body.trim_ascii_start().starts_with(b"{") {
            return Err(Fault::new(FaultKind::Malformed, "the provider's answer is not a response"));
        }
        let usage = Some(Usage::nothing());
        let mut relayed = Relayed { body: body.clone(), usage, finish: None, lost: Vec::new() };
        if self.wish == Wish::Delete {
            self.shelf.forget(&self.kept.id);
            return Ok(relayed);
        }
        // Somebody else may have read it meanwhile.
        let now = self.shelf.get(&self.kept.id);
        if is_under_way(now.as_ref().unwrap_or(&self.kept)) && !is_status_under_way(&body) {
            if let Ok(complete) = relay.whole(body.clone()) {
                (relayed.usage, relayed.finish) = (complete.usage.or(usage), complete.finish);
            }
            self.keeper().keep(body);
        }
        Ok(relayed)
    }
}

/// Whether a provider is still at work on an answer, in the background.
pub(super) fn is_under_way(kept: &Kept) -> bool {
    is_status_under_way(&kept.answer)
}

/// Whether an answer is left undone though nobody asked for one in the background: neither the client nor, as the answer
/// tells, the provider's settings.
pub(super) fn is_left_undone(asked: &Body, answer: &[u8]) -> bool {
    is_status_under_way(answer) && asked.bool("background") != Some(true) && !is_of_background(answer)
}

/// The id of an answer that its provider has begun to make in the background.
pub(super) fn begun(answer: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(answer).ok().filter(|_| is_status_under_way(answer))?;
    let id = json::entries(text).find(|(key, _)| key == "id")?;
    json::text(id.1).map(Box::from)
}

pub(super) fn is_status_under_way(answer: &[u8]) -> bool {
    let answer = std::str::from_utf8(answer).unwrap_or_default();
    let status = json::entries(answer).find(|(key, _)| key == "status");
    status.is_some_and(|(_, raw)| matches!(raw, "\"queued\"" | "\"in_progress\""))
}

/// Whether an answer was made in the background: its provider can stream it again, even if it keeps nothing else.
fn is_of_background(answer: &[u8]) -> bool {
    let answer = std::str::from_utf8(answer).unwrap_or_default();
    json::entries(answer).any(|(key, raw)| key == "background" && raw == "true")
}

/// The door for a lookup, where the provider has to be asked.
pub(in crate::api) fn door(lookup: &Lookup, shelf: &Shelf, uri: &Uri) -> Option<&'static dyn Door> {
    let again =
        |kept: &Kept| lookup.wish() == Wish::Read && wants_stream(uri) && is_of_background(&kept.answer);
    shelf.get(lookup.wanted()).filter(|kept| kept.native || again(kept))?;
    Some(match lookup.wish() {
        Wish::Read => &AtProvider(Wish::Read),
        Wish::Delete => &AtProvider(Wish::Delete),
        Wish::Cancel => &AtProvider(Wish::Cancel),
        Wish::Items => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_under_way_is_none_unless_it_was_asked_for_in_the_background() {
        for (asked, answer, expected) in [
            (r#"{"model":"m"}"#, r#"{"status":"in_progress","output":[]}"#, true),
            (r#"{"background":false}"#, r#"{"status": "queued", "background": false}"#, true),
            (r#"{"background":null}"#, r#"{"status":"queued","background":null}"#, true),
            (r#"{"background":true}"#, r#"{"status":"queued"}"#, false),
            (r#"{"model":"m"}"#, r#"{"background":true,"status":"queued"}"#, false),
            (r#"{"model":"m"}"#, r#"{"status":"completed","output":[{"status":"in_progress"}]}"#, false),
            (r#"{"model":"m"}"#, r#"{"output":[]}"#, false),
        ] {
            let body = Body::read(Bytes::from_static(asked.as_bytes())).unwrap();
            assert_eq!(is_left_undone(&body, answer.as_bytes()), expected, "{asked} {answer}");
        }
    }
}

//! The doors of `POST /v1/responses` and `/v1/responses/input_tokens`: how a Responses request goes through the line.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::ask::Purpose;
use super::errand::{begun, is_left_undone, is_status_under_way};
use super::keep::Watched;
use super::stream::TONGUE;
use super::{Ask, ResponseEncoder, compact, native};
use crate::api::counted::instead;
use crate::api::sequel::{Sequel, behind};
use crate::api::{adjust, openai_chat, translate};
use crate::chat::{Request, Usage};
use crate::executor::{Carry, Instead};
use crate::facts::{self, Endpoint};
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Asked, Door, Head, Items, Later};
use crate::json;
use crate::providers::{CountTokens, Dialect, Names, Outgoing, Relay, Relayed, StreamRelay, Target};

/// `POST /v1/responses`.
pub struct OpenAiResponses;

/// `POST /v1/responses/input_tokens`.
pub struct InputTokens;

impl Door for OpenAiResponses {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Chat
    }

    fn dialect(&self) -> Dialect {
        Dialect::Responses
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(json::Body::read(body)?, head.shelf, false)?))
    }

    fn error_body(&self, fault: &Fault, _request_id: &str) -> Vec<u8> {
        openai_chat::error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        ResponseEncoder::unstarted(fault)
    }
}

impl Door for InputTokens {
    fn endpoint(&self) -> Endpoint {
        Endpoint::CountTokens
    }

    fn dialect(&self) -> Dialect {
        Dialect::Responses
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(json::Body::read(body)?, head.shelf, true)?))
    }

    fn error_body(&self, fault: &Fault, _request_id: &str) -> Vec<u8> {
        openai_chat::error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        ResponseEncoder::unstarted(fault)
    }
}

impl Asked for Ask {
    /// Errands and compactions are other questions than the answer to the same body.
    fn json(&self) -> Option<&crate::json::Body> {
        matches!(self.purpose(), Purpose::Answer | Purpose::Count).then(|| self.body())
    }

    fn model(&self) -> &Arc<str> {
        self.model()
    }

    fn bytes(&self) -> usize {
        self.body().bytes().len()
    }

    fn is_raw(&self) -> bool {
        matches!(self.purpose(), Purpose::Compaction)
    }

    fn with(
        &self,
        parameters: &[(Arc<str>, Value)],
        missing: &mut Vec<Arc<str>>,
    ) -> Result<Option<Arc<dyn Asked>>, Fault> {
        if let Purpose::Compaction = self.purpose() {
            return Ok(None);
        }
        let body = adjust::RESPONSES.set(self.body(), parameters, missing)?;
        let again = Self::read(body, self.shelf(), matches!(self.purpose(), Purpose::Count))
            .map_err(|fault| adjust::blamed(&fault))?;
        Ok(Some(Arc::new(again)))
    }

    fn after(&self, text: &str, seen: &[Bytes]) -> Option<Arc<dyn Carry>> {
        let Purpose::Answer = self.purpose() else { return None };
        let said = json!({ "type": "output_text", "text": text, "annotations": [] });
        let beginning = json!({ "type": "message", "role": "assistant", "content": [said] });
        let input = behind(self.body(), "input", beginning)?;
        let body = adjust::RESPONSES.set(self.body(), &[("input".into(), input)], &mut Vec::new()).ok()?;
        let again = Arc::new(Self::read(body, self.shelf(), false).ok()?);
        // Kept is what the client sent, and the answer as one.
        let (given, keep, seen) = (self.given(), self.keeping(), seen.to_vec());
        let heard = again.clone();
        let hearing = move |target: &Target| -> Result<Box<dyn StreamRelay>, Fault> {
            let encoder = ResponseEncoder::going_on(given.clone(), keep(target, false), &seen);
            let encoder = encoder.ok_or_else(|| Fault::new(FaultKind::Truncated, "no text was under way"))?;
            Ok(translate::stream(target, &TONGUE, heard.names(target), Box::new(encoder)))
        };
        let asked = again.clone();
        // Its stream is read event by event, so it is asked in the dialect that it is read in.
        let saying = move |target: &Target| match target.wire().dialect() {
            Dialect::Responses => again.outgoing(target),
            _ => again.translated(target),
        };
        Some(Sequel::new(asked).said(saying).heard(hearing).carried())
    }

    fn is_kept_elsewhere(&self) -> bool {
        let named = |name: &str| self.body().raw(name).is_some_and(|value| value != "null");
        self.before().is_unseen() || named("conversation") || named("prompt")
    }

    /// An answer that is kept here was found on the caller's own shelf.
    fn items(&self) -> Option<Items> {
        if self.is_errand() {
            return None;
        }
        let mut items = Items::named_in(self.body())?;
        if !self.before().is_unseen() {
            items.named.retain(|named| named.field != Some("previous_response_id"));
        }
        Some(items)
    }

    fn is_errand(&self) -> bool {
        matches!(self.purpose(), Purpose::Errand(_))
    }

    fn later(&self, answer: &[u8], usage: Option<&Usage>) -> Later {
        match self.purpose() {
            Purpose::Errand(errand) => errand.later(answer),
            Purpose::Answer if usage.is_some_and(Usage::is_nothing) => {
                begun(answer).map_or(Later::No, Later::Begun)
            }
            _ => Later::No,
        }
    }

    /// The provider that made the previous response keeps more of it than any client sees.
    fn prefer(&self, targets: &mut [Target]) {
        let keeper = match self.purpose() {
            Purpose::Errand(errand) => Some(errand.holder()),
            _ => self.before().keeper().map(|keeper| &*keeper.provider),
        };
        if let Some(keeper) = keeper {
            targets.sort_by_key(|target| *target.name.provider != *keeper);
        }
    }
}

impl Ask {
    /// The names under which a target is told of the tools.
    fn names(&self, target: &Target) -> Option<Names> {
        translate::names(target, Dialect::Responses, Names::said(&self.request().ok()?.request))
    }

    /// Who counts the tokens of this request, where they are wanted and the target's provider does it.
    fn counter<'t>(&self, target: &'t Target) -> Option<&'t dyn CountTokens> {
        let Purpose::Count = self.purpose() else { return None };
        target.wire().responses()?;
        target.wire().count_tokens()
    }

    /// The request for a target of another dialect.
    fn translated(&self, target: &Target) -> Result<Outgoing, Fault> {
        let decoded = self.request()?;
        let clients = |path: &str| decoded.origins.clients(path);
        let names = self.names(target);
        let mut outgoing = translate::outgoing(target, &decoded.request, names.as_ref(), clients)?;
        outgoing.lost.splice(0..0, decoded.lost.iter().cloned());
        Ok(outgoing)
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        if let Purpose::Errand(errand) = self.purpose() {
            return errand.outgoing(relay(target).ok_or_else(unable)?, target);
        }
        if let Purpose::Compaction = self.purpose() {
            return compact::outgoing(self, target);
        }
        if let Some(counter) = self.counter(target) {
            let counting = native::Counting(counter);
            return native::outgoing(&counting, self.body(), self.before(), self.shelf(), target);
        }
        if let Some(relay) = relay(target) {
            return native::outgoing(relay, self.body(), self.before(), self.shelf(), target);
        }
        self.translated(target)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        if let Purpose::Errand(errand) = self.purpose() {
            return errand.whole(relay(target).ok_or_else(unable)?, body);
        }
        if let Purpose::Compaction = self.purpose() {
            return compact::whole(target, body);
        }
        if let Some(counter) = self.counter(target) {
            return counter.whole(body);
        }
        if let Some(relay) = relay(target) {
            let mut relayed = relay.whole(body)?;
            if relayed.finish.is_none() && is_left_undone(self.body(), &relayed.body) {
                let text = "the provider answers in the background, which nobody asked for";
                return Err(Fault::new(FaultKind::Malformed, text));
            }
            if relayed.usage.is_none() && is_status_under_way(&relayed.body) {
                relayed.usage = Some(Usage::nothing());
            }
            if let Some(keeper) = self.keeper(target, true) {
                keeper.keep(relayed.body.clone());
            }
            return Ok(relayed);
        }
        let encoder = ResponseEncoder::new(self.given(), self.keeper(target, false));
        let names = self.names(target);
        translate::whole(target, &body, &TONGUE, names.as_ref(), |answer| encoder.whole(answer.clone()))
    }

    fn instead(&self, target: &Target) -> Option<Instead> {
        let Purpose::Count = self.purpose() else { return None };
        if self.counter(target).is_some() {
            return None;
        }
        let write = |tokens| format!(r#"{{"object":"response.input_tokens","input_tokens":{tokens}}}"#);
        Some(instead(self.counted(), self.estimate(), target, "answer.input_tokens", write))
    }

    fn counted(&self) -> Option<Request> {
        self.request().ok().map(|decoded| decoded.request.clone())
    }

    fn wants_stream(&self) -> bool {
        facts::Body::stream(self)
    }

    fn stream(&self, target: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        if let Purpose::Errand(errand) = self.purpose() {
            return Ok(errand.stream(relay(target).ok_or_else(unable)?));
        }
        if let Some(relay) = relay(target) {
            return Ok(Box::new(Watched::new(relay.stream(true), self.keeper(target, true))));
        }
        let encoder = ResponseEncoder::new(self.given(), self.keeper(target, false));
        Ok(translate::stream(target, &TONGUE, self.names(target), Box::new(encoder)))
    }
}

/// The ability of a target to carry the client's own bytes.
fn relay(target: &Target) -> Option<&dyn Relay> {
    target.wire().responses()
}

fn unable() -> Fault {
    let text = "the provider that made this response no longer speaks its dialect here";
    Fault::new(FaultKind::NotFound, text).retry(Retry::Elsewhere)
}

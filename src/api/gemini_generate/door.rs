//! The doors of `POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent` and `:countTokens`.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{TONGUE, encode_answer};
use super::error::{error_body, fault_element, fault_event};
use super::path;
use super::stream::GeminiEncoder;
use super::{Ask, Form};
use crate::api::adjust;
use crate::api::counted::instead;
use crate::api::sequel::Sequel;
use crate::api::translate::{self, relay};
use crate::chat::{Loss, Request, Usage};
use crate::executor::{Carry, Instead};
use crate::facts::{self, Endpoint};
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Asked, Door, Head, StreamForm};
use crate::json;
use crate::providers::{
    CountTokens, Dialect, Frame, Names, Outgoing, Relayed, StreamRelay, Target, gemini_method,
};

/// A door for chat; the form says which of its methods.
pub struct GeminiDoor(pub Form);

impl Door for GeminiDoor {
    fn endpoint(&self) -> Endpoint {
        if self.0 == Form::Count { Endpoint::CountTokens } else { Endpoint::Chat }
    }

    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(json::Body::read(body)?, head, self.0)?))
    }

    fn error_body(&self, fault: &Fault, _: &str) -> Vec<u8> {
        error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, begun: bool) -> Bytes {
        match self.0 {
            Form::Array => fault_element(fault, begun),
            _ => fault_event(fault),
        }
    }

    fn stream_form(&self) -> StreamForm {
        match self.0 {
            Form::Array => StreamForm::Array,
            _ => StreamForm::BareEvents,
        }
    }
}

impl Asked for Ask {
    fn json(&self) -> Option<&crate::json::Body> {
        Some(self.sent())
    }

    fn model(&self) -> &Arc<str> {
        self.model()
    }

    fn bytes(&self) -> usize {
        self.sent().bytes().len()
    }

    fn with(
        &self,
        parameters: &[(Arc<str>, Value)],
        missing: &mut Vec<Arc<str>>,
    ) -> Result<Option<Arc<dyn Asked>>, Fault> {
        let body = adjust::CONTENTS.set(self.sent(), parameters, missing)?;
        let again = self.again(body).map_err(|fault| adjust::blamed(&fault))?;
        Ok(Some(Arc::new(again)))
    }

    fn is_kept_elsewhere(&self) -> bool {
        ["cachedContent", "cached_content"].iter().any(|name| self.sent().has(name))
    }

    fn after(&self, text: &str, _: &[Bytes]) -> Option<Arc<dyn Carry>> {
        if self.numbers().is_some() {
            return None;
        }
        let beginning = json!({ "role": "model", "parts": [{ "text": text }] });
        let sequel = Sequel::of(self, "contents", beginning)?;
        if self.form() != Form::Array {
            return Some(sequel.carried());
        }
        // The array has begun already.
        // Where it cannot be read, no target of another dialect is asked.
        let said = self.decoded().map(|decoded| Names::said(&decoded.request).map(str::to_owned).collect());
        let said: Vec<String> = said.unwrap_or_default();
        let hearing = move |target: &Target| -> Result<Box<dyn StreamRelay>, Fault> {
            let names = || translate::names(target, Dialect::Gemini, said.iter().map(String::as_str));
            Ok(match relay(target, Dialect::Gemini) {
                Some(relay) => Box::new(ArrayRelay { begun: true, ..ArrayRelay::new(relay.stream(true)) }),
                None => translate::stream(target, &TONGUE, names(), Box::new(GeminiEncoder::within_array())),
            })
        };
        Some(sequel.heard(hearing).carried())
    }
}

impl Ask {
    /// The names under which a target is told of the tools.
    fn names(&self, target: &Target) -> Option<Names> {
        translate::names(target, Dialect::Gemini, Names::said(&self.decoded().ok()?.request))
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        if self.form() == Form::Count {
            let Some(counts) = counts(target) else {
                return Err(Fault::new(FaultKind::Internal, "this target's tokens are estimated"));
            };
            return counts.splice(self.sent(), &target.name);
        }
        if let Some(relay) = relay(target, Dialect::Gemini) {
            return Ok(gemini_method(relay.splice(self.sent(), &target.name)?, &method(self)));
        }
        let decoded = self.decoded()?;
        let clients = |path: &str| path::clients(path, decoded);
        let names = self.names(target);
        let mut outgoing = translate::outgoing(target, &decoded.request, names.as_ref(), clients)?;
        outgoing.lost.extend_from_slice(&decoded.lost);
        Ok(outgoing)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        if self.form() == Form::Count {
            let counts =
                counts(target).ok_or_else(|| Fault::new(FaultKind::Internal, "nothing was counted"))?;
            return counts.whole(body);
        }
        match relay(target, Dialect::Gemini) {
            Some(relay) => relay.whole(body),
            None => translate::whole(target, &body, &TONGUE, self.names(target).as_ref(), |answer| {
                encode_answer(answer, &translate::answer_id(""))
            }),
        }
    }

    fn instead(&self, target: &Target) -> Option<Instead> {
        if self.form() != Form::Count || counts(target).is_some() {
            return None;
        }
        let write = |tokens| format!(r#"{{"totalTokens":{tokens}}}"#);
        Some(instead(self.counted(), facts::Body::tokens(self), target, "answer.totalTokens", write))
    }

    fn counted(&self) -> Option<Request> {
        self.canonical()
    }

    fn wants_stream(&self) -> bool {
        self.form().is_stream()
    }

    fn stream(&self, target: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        let array = self.form() == Form::Array;
        Ok(match relay(target, Dialect::Gemini) {
            Some(relay) if array && self.numbers().is_some() => relay.stream_as_it_comes(),
            Some(relay) if array => Box::new(ArrayRelay::new(relay.stream(true))),
            Some(relay) => relay.stream(true),
            None => {
                let encoder = GeminiEncoder::new(array, translate::answer_id(""));
                translate::stream(target, &TONGUE, self.names(target), Box::new(encoder))
            }
        })
    }
}

/// The ability of a target of this dialect to count tokens.
fn counts(target: &Target) -> Option<&dyn CountTokens> {
    let wire = target.wire();
    (wire.dialect() == Dialect::Gemini).then(|| wire.count_tokens()).flatten()
}

/// The method in Google's path.
fn method(ask: &Ask) -> String {
    match (ask.form(), ask.numbers()) {
        (Form::Whole | Form::Count, None) => "generateContent".to_owned(),
        (Form::Whole | Form::Count, Some(numbers)) => format!("generateContent?{numbers}"),
        // An array is made here, from events.
        (Form::Events | Form::Array, None) => "streamGenerateContent?alt=sse".to_owned(),
        (Form::Events, Some(numbers)) => format!("streamGenerateContent?alt=sse&{numbers}"),
        // Numbers for enums come only in an array.
        (Form::Array, Some(numbers)) => format!("streamGenerateContent?{numbers}"),
    }
}

/// Google's events as the elements of one JSON array.
struct ArrayRelay {
    inner: Box<dyn StreamRelay>,
    begun: bool,
    closed: bool,
}

impl ArrayRelay {
    fn new(inner: Box<dyn StreamRelay>) -> Self {
        Self { inner, begun: false, closed: false }
    }

    fn elements(&mut self, events: Vec<Frame>, out: &mut Vec<Frame>) {
        for event in events {
            let json = data(&event.bytes);
            if json.is_empty() {
                continue;
            }
            let before: &[u8] = if self.begun { b",\r\n" } else { b"[" };
            self.begun = true;
            out.push(Frame { bytes: [before, json].concat().into(), content: event.content });
        }
    }

    /// The last elements, and the end of the array where they are all.
    fn close(
        &mut self,
        ended: Result<(), Fault>,
        events: Vec<Frame>,
        out: &mut Vec<Frame>,
    ) -> Result<(), Fault> {
        self.elements(events, out);
        ended?;
        if !self.closed {
            self.closed = true;
            out.push(Frame { bytes: Bytes::from_static(b"\r\n]"), content: false });
        }
        Ok(())
    }
}

impl StreamRelay for ArrayRelay {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let mut events = Vec::new();
        let fed = self.inner.feed(chunk, &mut events);
        self.elements(events, out);
        fed
    }

    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let mut events = Vec::new();
        self.inner.whole(body, &mut events)?;
        self.elements(events, out);
        self.finish(out)
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let mut events = Vec::new();
        let finished = self.inner.finish(&mut events);
        self.close(finished, events, out)
    }

    fn settle(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let mut events = Vec::new();
        let settled = self.inner.settle(&mut events);
        self.close(settled, events, out)
    }

    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    fn usage(&self) -> Option<Usage> {
        self.inner.usage()
    }

    fn finish_reason(&self) -> Option<&'static str> {
        self.inner.finish_reason()
    }

    fn has_said_all(&self) -> bool {
        self.inner.has_said_all()
    }

    fn text_bytes(&self) -> u64 {
        self.inner.text_bytes()
    }

    fn lost(&self) -> &[Loss] {
        self.inner.lost()
    }
}

/// The document in an event of one `data:` line; empty for a comment.
fn data(event: &[u8]) -> &[u8] {
    let line = event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data:"));
    line.unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::{QuirkSettings, dialect};

    #[test]
    fn documents_of_any_form_become_one_array() {
        let (one, two) = (
            json!({"candidates": [{"content": {"parts": [{"text": "a\nb"}]}}]}),
            json!({"candidates": [{"finishReason": "STOP"}]}),
        );
        let pretty = serde_json::to_string_pretty(&[&one, &two]).unwrap();
        for (body, expected) in [
            (format!("data: {one}\r\n\r\ndata: {two}\r\n\r\n"), json!([one, two])),
            (two.to_string(), json!([two])),
            (pretty, json!([one, two])),
        ] {
            for whole in [false, true] {
                if whole && body.starts_with("data") {
                    continue;
                }
                let provider = dialect("gemini", &QuirkSettings::default()).unwrap();
                let mut relay = ArrayRelay::new(provider.relay().unwrap().stream(true));
                let (mut out, body) = (Vec::new(), Bytes::from(body.clone()));
                if whole {
                    relay.whole(body, &mut out).unwrap();
                } else {
                    relay.feed(body, &mut out).unwrap();
                    relay.finish(&mut out).unwrap();
                }
                let bytes: Vec<u8> = out.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
                assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
            }
        }
    }
}

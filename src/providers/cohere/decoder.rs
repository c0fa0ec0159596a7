//! A streamed answer as canonical events. <https://docs.cohere.com/v2/docs/streaming>

use bytes::Bytes;
use serde_json::Value;

use super::{cite, decode, fault, finish, logprobs, usage};
use crate::chat::{Event, FinishReason, Object, Role, StreamDecoder, ToolKind, proof};
use crate::fault::Fault;
use crate::frames::{SseEvent, SseSplitter};
use crate::json::Halves;
use crate::providers::call_id;

/// The decoder of one streamed answer.
pub(super) struct CohereDecoder {
    splitter: SseSplitter,
    halves: Halves,
    now_ms: u64,
    id: String,
    started: bool,
    /// A plan was begun and not yet marked as one.
    planning: bool,
    /// Cohere's index of each call, and whether it has arguments.
    calls: Vec<(u64, bool)>,
    ended: bool,
}

/// No answer has more calls than this.
const MOST_CALLS: usize = 512;

impl CohereDecoder {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            splitter: SseSplitter::new(),
            halves: Halves::default(),
            now_ms,
            id: String::new(),
            started: false,
            planning: false,
            calls: Vec::new(),
            ended: false,
        }
    }

    fn event(&mut self, event: &SseEvent, events: &mut Vec<Event>) -> Result<(), Fault> {
        // A `[DONE]` may follow the end; it says nothing more.
        if !event.has_data || self.ended || event.is_done() {
            return Ok(());
        }
        let text = event.text();
        if text.trim().is_empty() {
            return Ok(());
        }
        let read = serde_json::from_str::<Value>(&text).ok();
        let value = read
            .or_else(|| serde_json::from_str(&self.halves.join(&text)?).ok())
            .ok_or_else(|| fault::malformed("the provider sent a stream event that is not JSON"))?;
        let Value::Object(mut object) = value else {
            return Err(fault::inside_success(&value, self.now_ms));
        };
        let kind = match (object.get("type").and_then(Value::as_str), &event.event) {
            (Some(kind), _) => kind.to_owned(),
            (None, Some(name)) => String::from_utf8_lossy(name).into_owned(),
            (None, None) => return Err(fault::inside_success(&Value::Object(object), self.now_ms)),
        };
        if kind == "error" {
            return Err(fault::inside_success(&Value::Object(object), self.now_ms));
        }
        self.start(&mut object, events);
        let index = object.get("index").and_then(Value::as_u64).unwrap_or(0);
        let mut delta = match object.shift_remove("delta") {
            Some(Value::Object(delta)) => delta,
            _ => Object::new(),
        };
        match &*kind {
            "content-start" | "content-delta" => {
                self.plan_ends(events);
                content(&delta, events);
                let logprobs = logprobs::read(object.shift_remove("logprobs"));
                events.extend(logprobs.map(|value| Event::Logprobs { choice: 0, value }));
            }
            "tool-plan-delta" => {
                if let Some(text) = said(&delta, "/message/tool_plan") {
                    self.planning = true;
                    events.push(Event::Thinking { choice: 0, text, signature: None, redacted: None });
                }
            }
            "tool-call-start" => self.call(index, &delta, events)?,
            "tool-call-delta" => self.arguments(index, &delta, events),
            "tool-call-end" => self.call_ends(index, events),
            "citation-start" => citations(&mut delta, events),
            "message-end" => self.end(delta, events)?,
            // The head and the ends of contents and citations say nothing by themselves; nor does what comes next.
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, object: &mut Object, events: &mut Vec<Event>) {
        if self.started {
            return;
        }
        self.started = true;
        if let Some(Value::String(id)) = object.shift_remove("id") {
            self.id = id;
        }
        events.push(Event::Start { id: self.id.clone(), model: String::new(), created: 0 });
        events.push(Event::ChoiceStart { choice: 0, role: Role::Assistant });
    }

    /// Marks the thinking so far as a plan, so that it goes back as one.
    fn plan_ends(&mut self, events: &mut Vec<Event>) {
        if std::mem::take(&mut self.planning) {
            let signature = Some(proof::COHERE_PLAN.to_owned());
            events.push(Event::Thinking { choice: 0, text: String::new(), signature, redacted: None });
        }
    }

    fn call(&mut self, index: u64, delta: &Object, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.plan_ends(events);
        if self.calls.len() >= MOST_CALLS {
            return Err(fault::malformed("the provider sent more tool calls than any model makes"));
        }
        let place = self.calls.len();
        self.calls.push((index, false));
        let name = said(delta, "/message/tool_calls/function/name").unwrap_or_default();
        let id = said(delta, "/message/tool_calls/id")
            .unwrap_or_else(|| call_id::invent(&self.id, 0, place, &name));
        let call = u32::try_from(place).unwrap_or(u32::MAX);
        events.push(Event::ToolCallStart {
            choice: 0,
            call,
            id,
            name,
            kind: ToolKind::Function,
            signature: None,
        });
        self.arguments(index, delta, events);
        Ok(())
    }

    fn arguments(&mut self, index: u64, delta: &Object, events: &mut Vec<Event>) {
        let Some(arguments) = said(delta, "/message/tool_calls/function/arguments") else { return };
        let Some(place) = self.calls.iter().rposition(|(known, _)| *known == index) else { return };
        let Some((_, fed)) = self.calls.get_mut(place) else { return };
        // Cohere writes `null` for no arguments.
        let text = if *fed { arguments } else { decode::arguments(&arguments).to_owned() };
        *fed = true;
        let call = u32::try_from(place).unwrap_or(u32::MAX);
        events.push(Event::ToolCallDelta { choice: 0, call, arguments: text });
    }

    /// A call that ends without any arguments gets an empty object: clients parse them as JSON.
    fn call_ends(&mut self, index: u64, events: &mut Vec<Event>) {
        let Some(place) = self.calls.iter().rposition(|(known, _)| *known == index) else { return };
        if let Some((_, fed @ false)) = self.calls.get_mut(place) {
            *fed = true;
            let call = u32::try_from(place).unwrap_or(u32::MAX);
            events.push(Event::ToolCallDelta { choice: 0, call, arguments: "{}".into() });
        }
    }

    fn end(&mut self, mut delta: Object, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.plan_ends(events);
        let open: Vec<u64> = self.calls.iter().filter(|(_, fed)| !fed).map(|(index, _)| *index).collect();
        open.into_iter().for_each(|index| self.call_ends(index, events));
        let counted = delta.shift_remove("usage");
        // What was used is paid for even where the answer fails.
        events.extend(counted.as_ref().and_then(usage::read).map(Event::Usage));
        let error = delta.get("error").and_then(Value::as_str).filter(|error| !error.is_empty());
        let calls = !self.calls.is_empty();
        let finish = match (delta.get("finish_reason").and_then(Value::as_str), error) {
            (Some(word), error) => finish::read(word, calls, error, self.now_ms)?,
            (None, Some(error)) => finish::read("ERROR", calls, Some(error), self.now_ms)?,
            (None, None) if calls => FinishReason::ToolCalls.into(),
            (None, None) => return Err(fault::unfinished()),
        };
        let mut rest = Object::new();
        decode::keep_billed(counted, &mut rest);
        if !rest.is_empty() {
            events.push(Event::Other { choice: None, fields: rest });
        }
        events.push(Event::Finish { choice: 0, finish });
        events.push(Event::End);
        self.ended = true;
        Ok(())
    }
}

impl StreamDecoder for CohereDecoder {
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        self.splitter.push(Bytes::copy_from_slice(chunk));
        while let Some(event) = self.splitter.next()? {
            self.event(&event, events)?;
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        while let Some(event) = self.splitter.finish()? {
            let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&event.data).is_ok();
            if whole || self.ended {
                self.event(&event, events)?;
            } else if event.has_data {
                return Err(fault::truncated());
            }
        }
        if self.ended { Ok(()) } else { Err(fault::truncated()) }
    }
}

/// A text that is there and not empty.
fn said(delta: &Object, pointer: &str) -> Option<String> {
    let mut place = delta.get(pointer.strip_prefix('/')?.split('/').next()?)?;
    for key in pointer.split('/').skip(2) {
        place = place.get(key)?;
    }
    place.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn content(delta: &Object, events: &mut Vec<Event>) {
    if let Some(text) = said(delta, "/message/content/thinking") {
        events.push(Event::Thinking { choice: 0, text, signature: None, redacted: None });
    }
    if let Some(text) = said(delta, "/message/content/text") {
        events.push(Event::Text { choice: 0, text });
    }
}

fn citations(delta: &mut Object, events: &mut Vec<Event>) {
    let found = delta.get_mut("message").and_then(|message| message.get_mut("citations")).map(Value::take);
    let found = match found {
        Some(Value::Array(list)) => list,
        Some(one @ Value::Object(_)) => vec![one],
        _ => Vec::new(),
    };
    for citation in found {
        if cite::is_of_text(&citation) {
            events.extend(cite::read(citation).into_iter().map(|value| Event::Citation { choice: 0, value }));
        } else {
            let mut fields = Object::new();
            fields.insert("citations".into(), Value::Array(vec![citation]));
            events.push(Event::Other { choice: Some(0), fields });
        }
    }
}

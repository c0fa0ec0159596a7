//! A streamed answer as canonical events. Stands on the same normalisation as the relay.

use bytes::Bytes;
use serde_json::Value;

use super::state::StreamState;
use super::{decode, fault};
use crate::chat::{Event, Object, Part, Role, StreamDecoder, ToolKind, Usage};
use crate::fault::Fault;
use crate::frames::{SseEvent, SseSplitter};

/// The decoder of one streamed answer.
pub(super) struct OpenAiDecoder {
    splitter: SseSplitter,
    state: StreamState,
    started: bool,
    /// Choices that have begun.
    begun: Vec<u32>,
    /// Pages that are named beside the answer, until it has cited them.
    pages: Vec<Value>,
    cited: bool,
    /// What was told of usage.
    counted: Option<Usage>,
    done: bool,
}

impl OpenAiDecoder {
    pub(super) fn new(excludes_reasoning: bool, now_ms: u64) -> Self {
        Self {
            splitter: SseSplitter::new(),
            state: StreamState::new(excludes_reasoning, now_ms),
            started: false,
            begun: Vec::new(),
            pages: Vec::new(),
            cited: false,
            counted: None,
            done: false,
        }
    }

    fn told(&mut self, event: &SseEvent, events: &mut Vec<Event>) -> Result<(), Fault> {
        let told = self.event(event, events);
        // Whoever waits for the end hears that nothing else is missing.
        if told.is_err() || self.state.all_finished() && !self.done {
            self.count(events);
        }
        told
    }

    fn event(&mut self, event: &SseEvent, events: &mut Vec<Event>) -> Result<(), Fault> {
        if !event.has_data || self.done {
            return Ok(());
        }
        if event.is_done() {
            if !self.state.all_finished() {
                return Err(fault::truncated());
            }
            self.end(events);
            return Ok(());
        }
        let text = event.text();
        if text.trim().is_empty() {
            return Ok(());
        }
        if event.is("error") {
            return Err(self.state.error_event(&text));
        }
        let Some(chunk) = self.state.chunk(&text)? else { return Ok(()) };
        if !self.started {
            self.started = true;
            events.push(Event::Start {
                id: self.state.id.clone(),
                model: self.state.model.clone(),
                created: self.state.created(),
            });
        }
        let mut object = chunk.object;
        let choices = match object.shift_remove("choices") {
            Some(Value::Array(choices)) => choices,
            _ => Vec::new(),
        };
        let pages = decode::pages(&mut object);
        if !pages.is_empty() {
            // They are repeated with each chunk.
            self.pages = pages;
        }
        let unknown = others(object, HEAD);
        if !unknown.is_empty() {
            events.push(Event::Other { choice: None, fields: unknown });
        }
        for choice in choices {
            if let Value::Object(choice) = choice {
                self.choice(choice, events);
            }
        }
        Ok(())
    }

    fn choice(&mut self, mut choice: Object, events: &mut Vec<Event>) {
        let index = choice.shift_remove("index").and_then(|index| index.as_u64()).unwrap_or(0);
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        if !self.begun.contains(&index) {
            self.begun.push(index);
            events.push(Event::ChoiceStart { choice: index, role: Role::Assistant });
        }
        let mut delta = match choice.shift_remove("delta") {
            Some(Value::Object(delta)) => delta,
            _ => Object::new(),
        };
        delta.shift_remove("role");
        for part in decode::thoughts(&mut delta) {
            if let Part::Thinking { text, signature, redacted } = part {
                events.push(Event::Thinking { choice: index, text, signature, redacted });
            }
        }
        if let Some(text) = said(&mut delta, "content") {
            events.push(Event::Text { choice: index, text });
        }
        if let Some(text) = said(&mut delta, "refusal") {
            events.push(Event::Refusal { choice: index, text });
        }
        if let Some(Value::Array(calls)) = delta.shift_remove("tool_calls") {
            calls.iter().for_each(|call| tool_call(index, call, events));
        }
        if let Some(Value::Object(call)) = delta.shift_remove("function_call") {
            function_call(index, &call, &self.state.id, events);
        }
        if let Some(Value::Array(citations)) = delta.shift_remove("annotations") {
            self.cited |= !citations.is_empty();
            events.extend(citations.into_iter().map(|value| Event::Citation { choice: index, value }));
        }
        if let Some(value) = choice.shift_remove("logprobs").filter(|value| !value.is_null()) {
            events.push(Event::Logprobs { choice: index, value });
        }
        let word = choice.shift_remove("finish_reason");
        delta.extend(choice);
        let unknown = others(delta, &[]);
        if !unknown.is_empty() {
            events.push(Event::Other { choice: Some(index), fields: unknown });
        }
        if let Some(word) = word.as_ref().and_then(Value::as_str) {
            self.cite(events);
            events.push(Event::Finish { choice: index, finish: decode::finish(word) });
        }
    }

    /// The pages beside the answer, as citations of its text, where it has none of its own.
    fn cite(&mut self, events: &mut Vec<Event>) {
        if !self.pages.is_empty() && !std::mem::replace(&mut self.cited, true) {
            let pages = std::mem::take(&mut self.pages);
            events.extend(pages.into_iter().map(|value| Event::Citation { choice: 0, value }));
        }
    }

    /// What was used so far: it is paid for even where the answer fails.
    fn count(&mut self, events: &mut Vec<Event>) {
        let usage = self.state.usage().filter(|usage| self.counted != Some(*usage));
        self.counted = usage.or(self.counted);
        events.extend(usage.map(Event::Usage));
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        self.done = true;
        self.cite(events);
        self.count(events);
        events.push(Event::End);
    }
}

impl StreamDecoder for OpenAiDecoder {
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        self.splitter.push(Bytes::copy_from_slice(chunk));
        while let Some(event) = self.splitter.next()? {
            self.told(&event, events)?;
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        while let Some(event) = self.splitter.finish()? {
            let whole =
                event.is_done() || serde_json::from_slice::<serde::de::IgnoredAny>(&event.data).is_ok();
            if whole {
                self.told(&event, events)?;
            } else if event.has_data && !self.state.all_finished() {
                return Err(fault::truncated());
            }
        }
        if self.done {
            return Ok(());
        }
        if !self.state.all_finished() {
            self.count(events);
            return Err(fault::truncated());
        }
        self.end(events);
        Ok(())
    }
}

/// Fields of a chunk that the canonical events carry by themselves, or that mean nothing.
const HEAD: &[&str] = &["id", "object", "created", "model", "obfuscation", "p"];

fn others(object: Object, known: &[&str]) -> Object {
    let speaks = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(inner) => !inner.is_empty(),
        _ => true,
    };
    object.into_iter().filter(|(key, value)| speaks(value) && !known.contains(&&**key)).collect()
}

fn said(delta: &mut Object, key: &str) -> Option<String> {
    match delta.shift_remove(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn tool_call(choice: u32, call: &Value, events: &mut Vec<Event>) {
    let index = call.get("index").and_then(Value::as_u64).unwrap_or(0);
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let custom = call.get("custom").is_some();
    let tool = call.get("function").or_else(|| call.get("custom"));
    let text = |key: &str| tool.and_then(|tool| tool.get(key)).and_then(Value::as_str).unwrap_or_default();
    if let Some(id) = call.get("id").and_then(Value::as_str) {
        events.push(Event::ToolCallStart {
            choice,
            call: index,
            id: id.to_owned(),
            name: text("name").to_owned(),
            kind: if custom { ToolKind::Custom } else { ToolKind::Function },
            signature: decode::signature(call),
        });
    }
    let arguments = text(if custom { "input" } else { "arguments" });
    if !arguments.is_empty() {
        events.push(Event::ToolCallDelta { choice, call: index, arguments: arguments.to_owned() });
    }
}

/// OpenAI's tool calls of 2023: one call, without an id.
fn function_call(choice: u32, call: &Object, answer: &str, events: &mut Vec<Event>) {
    let text = |key: &str| call.get(key).and_then(Value::as_str).unwrap_or_default();
    if !text("name").is_empty() {
        events.push(Event::ToolCallStart {
            choice,
            call: 0,
            id: crate::providers::call_id::invent(answer, u64::from(choice), 0, text("name")),
            name: text("name").to_owned(),
            kind: ToolKind::Function,
            signature: None,
        });
    }
    if !text("arguments").is_empty() {
        events.push(Event::ToolCallDelta { choice, call: 0, arguments: text("arguments").to_owned() });
    }
}

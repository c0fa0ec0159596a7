//! A streamed message as canonical events.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::usage::WireUsage;
use super::{block, decode, fault, stop};
use crate::chat::{Event, Finish, Object, Part, Role, StreamDecoder, ToolKind};
use crate::fault::Fault;
use crate::frames::{SseEvent, SseSplitter};
use crate::json::Halves;

/// The decoder of one streamed message.
pub(super) struct AnthropicDecoder {
    splitter: SseSplitter,
    halves: Halves,
    now_ms: u64,
    usage: WireUsage,
    /// Blocks that have begun and not ended.
    open: Vec<Open>,
    /// Calls of the client's tools so far.
    calls: u32,
    started: bool,
    /// Why the message ends, where its beginning says it already: one that goes on after code that ran comes whole.
    early: Option<Finish>,
    /// Why the message ends was said.
    stopped: bool,
    done: bool,
}

/// A block that has begun.
struct Open {
    index: u64,
    kind: Kind,
}

enum Kind {
    /// Thinking: nothing is owed at its end.
    Flowing,
    /// Text, and what it cites. That comes before the text, and is told after it.
    Text { citations: Vec<Value> },
    /// A call of the client's tool. What its beginning already said of the arguments, until a delta says more.
    Call { call: u32, arguments: String, fed: bool },
    /// A block that only Anthropic understands, and the JSON text of its `input` so far.
    Foreign { block: Object, input: String },
}

/// The fields of all events in one.
#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    index: u64,
    message: Option<Object>,
    content_block: Option<Value>,
    delta: Option<Delta>,
    usage: Option<WireUsage>,
    context_management: Option<Value>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(rename = "type", default)]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    citation: Option<Value>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    #[serde(flatten)]
    rest: Object,
}

const CHOICE: u32 = 0;

impl AnthropicDecoder {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            splitter: SseSplitter::new(),
            halves: Halves::default(),
            now_ms,
            usage: WireUsage::default(),
            open: Vec::new(),
            calls: 0,
            started: false,
            early: None,
            stopped: false,
            done: false,
        }
    }

    fn event(&mut self, event: &SseEvent, events: &mut Vec<Event>) -> Result<(), Fault> {
        if !event.has_data || self.done {
            return Ok(());
        }
        let text = event.text();
        if text.trim().is_empty() || event.is_done() || event.is("ping") {
            return Ok(());
        }
        if event.is("error") {
            return Err(self.error(&text));
        }
        let read = serde_json::from_str::<Wire>(&text).ok();
        let Some(wire) = read.or_else(|| serde_json::from_str(&self.halves.join(&text)?).ok()) else {
            return Err(fault::malformed(
                "the provider sent a stream event that is not what its type promises",
            ));
        };
        match wire.kind.as_str() {
            "message_start" => self.message_start(wire.message.unwrap_or_default(), events),
            "content_block_start" => self.block_start(wire.index, wire.content_block, events),
            "content_block_delta" => self.block_delta(wire.index, wire.delta, events),
            "content_block_stop" => self.block_stop(wire.index, events),
            "message_delta" => self.message_delta(wire, events),
            "message_stop" => self.message_stop(events)?,
            "error" => return Err(self.error(&text)),
            _ => {}
        }
        Ok(())
    }

    fn error(&self, text: &str) -> Fault {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        fault::inside_success(&value, self.now_ms)
    }

    fn message_start(&mut self, mut message: Object, events: &mut Vec<Event>) {
        if self.started {
            return;
        }
        self.started = true;
        let mut text = |key: &str| match message.shift_remove(key) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        events.push(Event::Start { id: text("id"), model: text("model"), created: 0 });
        events.push(Event::ChoiceStart { choice: CHOICE, role: Role::Assistant });
        if let Some(usage) = message.shift_remove("usage") {
            self.count(serde_json::from_value(usage).unwrap_or_default(), events);
        }
        let blocks = message.shift_remove("content");
        self.early = decode::take_finish(&mut message);
        self.usage.ran_code |= decode::has_container(&message);
        let rest = decode::rest(message);
        if !rest.is_empty() {
            events.push(Event::Other { choice: None, fields: rest });
        }
        if let Some(Value::Array(blocks)) = blocks {
            for block in blocks {
                self.block_start(u64::MAX, Some(block), events);
                self.block_stop(u64::MAX, events);
            }
        }
    }

    fn block_start(&mut self, index: u64, block: Option<Value>, events: &mut Vec<Event>) {
        let Some(Value::Object(block)) = block else { return };
        // A block that begins anew has ended.
        self.block_stop(index, events);
        let has_input = block::has_input(&block);
        let kind = match block::part(Value::Object(block)) {
            Part::Text { text, citations, .. } => {
                if !text.is_empty() {
                    events.push(Event::Text { choice: CHOICE, text: text.into_string() });
                }
                Kind::Text { citations }
            }
            Part::Thinking { text, signature, redacted } => {
                if !text.is_empty() || signature.is_some() || redacted.is_some() {
                    events.push(Event::Thinking { choice: CHOICE, text, signature, redacted });
                }
                Kind::Flowing
            }
            Part::ToolCall { id, name, arguments, .. } => {
                let call = self.calls;
                self.calls += 1;
                let kind = ToolKind::Function;
                events.push(Event::ToolCallStart { choice: CHOICE, call, id, name, kind, signature: None });
                let arguments = if has_input { arguments } else { String::new() };
                Kind::Call { call, arguments, fed: false }
            }
            Part::Other(Value::Object(block)) => Kind::Foreign { block, input: String::new() },
            _ => return,
        };
        self.open.push(Open { index, kind });
    }

    fn block_delta(&mut self, index: u64, delta: Option<Delta>, events: &mut Vec<Event>) {
        let Some(delta) = delta else { return };
        let thought = |text, signature| Event::Thinking { choice: CHOICE, text, signature, redacted: None };
        match (delta.kind.as_str(), self.open.iter_mut().find(|open| open.index == index)) {
            ("input_json_delta", Some(open)) => {
                let json = delta.partial_json.unwrap_or_default();
                match &mut open.kind {
                    Kind::Call { call, fed, .. } if !json.is_empty() => {
                        *fed = true;
                        events.push(Event::ToolCallDelta { choice: CHOICE, call: *call, arguments: json });
                    }
                    Kind::Foreign { input, .. } => input.push_str(&json),
                    _ => {}
                }
            }
            // Other deltas of a foreign block belong to nobody else.
            (_, Some(Open { kind: Kind::Foreign { block, .. }, .. })) => merge(block, delta.rest),
            ("text_delta", _) => {
                let text = delta.text.unwrap_or_default();
                events.push(Event::Text { choice: CHOICE, text });
            }
            ("thinking_delta", _) => events.push(thought(delta.thinking.unwrap_or_default(), None)),
            ("signature_delta", _) => events.push(thought(String::new(), delta.signature)),
            ("citations_delta", Some(Open { kind: Kind::Text { citations }, .. })) => {
                citations.extend(delta.citation);
            }
            _ => {}
        }
    }

    fn block_stop(&mut self, index: u64, events: &mut Vec<Event>) {
        let Some(at) = self.open.iter().position(|open| open.index == index) else { return };
        close(self.open.remove(at).kind, events);
    }

    fn message_delta(&mut self, wire: Wire, events: &mut Vec<Event>) {
        let container = wire.delta.as_ref().and_then(|delta| delta.rest.get("container"));
        self.usage.ran_code |= container.is_some_and(|container| !container.is_null());
        if let Some(usage) = wire.usage {
            self.count(usage, events);
        }
        let Some(delta) = wire.delta else { return };
        let Some(reason) = delta.stop_reason else { return };
        self.stopped = true;
        self.open.drain(..).for_each(|open| close(open.kind, events));
        let mut rest: Object = delta.rest.into_iter().filter(|(_, value)| !value.is_null()).collect();
        // What was cleared of the prompt: https://platform.claude.com/docs/en/build-with-claude/context-editing
        let cleared = wire.context_management.map(|edits| ("context_management".to_owned(), edits));
        rest.extend(cleared);
        if !rest.is_empty() {
            events.push(Event::Other { choice: None, fields: rest });
        }
        let finish = stop::finish(&reason, delta.stop_sequence.as_deref());
        events.push(Event::Finish { choice: CHOICE, finish });
    }

    fn message_stop(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        if !self.stopped {
            // An end without its reason: what came before it may be half an answer.
            let Some(finish) = self.early.take() else { return Err(fault::truncated()) };
            self.stopped = true;
            self.open.drain(..).for_each(|open| close(open.kind, events));
            events.push(Event::Finish { choice: CHOICE, finish });
        }
        self.end(events);
        Ok(())
    }

    fn count(&mut self, usage: WireUsage, events: &mut Vec<Event>) {
        self.usage.update(usage);
        events.extend(self.usage.classes().map(Event::Usage));
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        self.done = true;
        events.push(Event::End);
    }
}

impl StreamDecoder for AnthropicDecoder {
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        self.splitter.push(Bytes::copy_from_slice(chunk));
        while let Some(event) = self.splitter.next()? {
            self.event(&event, events)?;
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        while let Some(event) = self.splitter.finish()? {
            // An event that the end of the body has cut is no event.
            if serde_json::from_slice::<serde::de::IgnoredAny>(&event.data).is_ok() {
                self.event(&event, events)?;
            }
        }
        if self.done { Ok(()) } else { Err(fault::truncated()) }
    }

    /// After the reason why it ended, a message has nothing more to say.
    fn settle(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        if self.stopped && !self.done {
            self.end(events);
        }
        self.finish(events)
    }
}

fn close(kind: Kind, events: &mut Vec<Event>) {
    match kind {
        Kind::Flowing => {}
        Kind::Text { citations } => {
            events.extend(citations.into_iter().map(|value| Event::Citation { choice: CHOICE, value }));
        }
        Kind::Call { fed: true, .. } => {}
        Kind::Call { call, arguments, .. } => {
            let arguments = if arguments.is_empty() { "{}".to_owned() } else { arguments };
            events.push(Event::ToolCallDelta { choice: CHOICE, call, arguments });
        }
        Kind::Foreign { mut block, input } => {
            if !input.is_empty() {
                let input = serde_json::from_str(&input).unwrap_or(Value::String(input));
                block.insert("input".to_owned(), input);
            }
            events.push(Event::Foreign { choice: CHOICE, value: Value::Object(block) });
        }
    }
}

/// Appends the texts of a delta that we do not know to the block (`compaction_delta` brings `content`).
fn merge(block: &mut Object, delta: Object) {
    for (key, value) in delta {
        match (block.get_mut(&key), value) {
            (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (_, Value::Null) => {}
            (_, value) => {
                block.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::stream::AnthropicStream;
    use super::*;
    use crate::chat::FinishReason;
    use crate::providers::StreamRelay;

    fn events(of: &[Value]) -> String {
        of.iter()
            .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))
            .collect()
    }

    fn delta(delta: &Value) -> Value {
        json!({"type": "content_block_delta", "index": 0, "delta": delta})
    }

    #[test]
    fn what_a_text_cites_is_told_after_it() {
        let cited = json!({"type": "char_location", "cited_text": "c"});
        let body = events(&[
            json!({"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "citations": []}}),
            delta(&json!({"type": "citations_delta", "citation": cited})),
            delta(&json!({"type": "text_delta", "text": "said"})),
            json!({"type": "content_block_stop", "index": 0}),
        ]);
        let (mut decoder, mut events) = (AnthropicDecoder::new(0), Vec::new());
        decoder.feed(body.as_bytes(), &mut events).unwrap();
        let text = Event::Text { choice: 0, text: "said".into() };
        assert!(events.ends_with(&[text, Event::Citation { choice: 0, value: cited }]), "{events:?}");
    }

    #[test]
    fn a_message_that_said_why_it_ended_and_nothing_more_is_complete_only_while_its_connection_lasts() {
        for (reason, complete) in [(json!("end_turn"), true), (json!(null), false)] {
            let body = events(&[
                json!({"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "hi"}}),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 2}}),
            ]);
            let decoder = || {
                let (mut decoder, mut said) = (AnthropicDecoder::new(0), Vec::new());
                decoder.feed(body.as_bytes(), &mut said).unwrap();
                decoder
            };
            let mut said = Vec::new();
            assert!(decoder().finish(&mut said).is_err());
            assert_eq!(decoder().settle(&mut said).is_ok(), complete, "{reason}");
            assert_eq!(said.contains(&Event::End), complete, "{reason}");

            let relay = || {
                let (mut relay, mut frames) = (AnthropicStream::new(0), Vec::new());
                relay.feed(body.clone().into(), &mut frames).unwrap();
                relay
            };
            let mut frames = Vec::new();
            assert!(relay().finish(&mut frames).is_err());
            assert_eq!(relay().settle(&mut frames).is_ok(), complete, "{reason}");
            let last = frames.last().map(|frame| frame.bytes.to_vec()).unwrap_or_default();
            assert_eq!(last.starts_with(b"event: message_stop\ndata: {"), complete, "{reason}");
        }
    }

    #[test]
    fn a_message_that_comes_whole_at_its_beginning_is_complete() {
        let begun = |reason: Value| {
            let call = json!({"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}, "caller": {"type": "x"}});
            let message = json!({"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [call],
                "stop_reason": reason, "stop_sequence": null, "container": {"id": "k"},
                "usage": {"input_tokens": 0, "output_tokens": 0}});
            events(&[json!({"type": "message_start", "message": message}), json!({"type": "message_stop"})])
        };
        for (reason, complete) in [(json!("tool_use"), true), (json!(null), false)] {
            let body = begun(reason);
            let (mut decoder, mut said) = (AnthropicDecoder::new(0), Vec::new());
            assert_eq!(decoder.feed(body.as_bytes(), &mut said).is_ok(), complete);
            let finish = said.iter().find_map(|event| match event {
                Event::Finish { finish, .. } => Some(finish.reason),
                _ => None,
            });
            assert_eq!(finish, complete.then_some(FinishReason::ToolCalls));
            assert_eq!(said.contains(&Event::End), complete, "{said:?}");
            let arguments = |event: &Event| matches!(event, Event::ToolCallDelta { arguments, .. } if arguments == "{\"a\":1}");
            assert!(said.iter().any(arguments), "{said:?}");
            let other = said.iter().find(|event| matches!(event, Event::Other { .. }));
            let Some(Event::Other { fields, .. }) = other else { panic!("{said:?}") };
            assert_eq!(fields.keys().collect::<Vec<_>>(), ["container"]);

            let (mut relay, mut frames) = (AnthropicStream::new(0), Vec::new());
            assert_eq!(relay.feed(body.clone().into(), &mut frames).is_ok(), complete);
            assert_eq!(relay.finish(&mut frames).is_ok(), complete);
            let relayed: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
            assert_eq!(relayed == body.as_bytes(), complete);
            assert_eq!(relay.finish_reason(), complete.then_some("tool_calls"));
        }
    }
}

//! A ConverseStream as canonical events:
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html>

use serde::Deserialize;
use serde_json::{Value, json};

use super::usage::WireUsage;
use super::{block, decode, fault, finish};
use crate::chat::{Event, Object, Part, Role, StreamDecoder, ToolKind};
use crate::fault::Fault;
use crate::frames::{AwsMessage, AwsSplitter};
use crate::json::Halves;

/// Bedrock has no alternatives.
const CHOICE: u32 = 0;

/// The decoder of one streamed answer.
#[derive(Default)]
pub(super) struct ConverseDecoder {
    splitter: AwsSplitter,
    halves: Halves,
    /// Blocks that have begun and not ended, and whose end is owed something.
    open: Vec<(u64, Open)>,
    /// What the block under way cites. That comes before its text, and is told after it.
    cited: Vec<Value>,
    /// Calls of the client's tools so far.
    calls: u32,
    started: bool,
    /// The reason to stop has come; only the counts are missing.
    stopped: bool,
    done: bool,
}

enum Open {
    /// A call of the client's tool, and whether it has arguments.
    Call { call: u32, fed: bool },
    /// A call of a tool that runs at the provider, and the JSON text of its input so far.
    ServerCall { head: Object, input: String },
    /// What such a tool answered.
    ServerResult { head: Object, content: Vec<Value> },
    /// A picture's format.
    Image(Value),
}

/// The fields of all events in one.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    content_block_index: u64,
    start: Object,
    delta: Object,
    stop_reason: Option<String>,
    usage: Option<WireUsage>,
    #[serde(flatten)]
    rest: Object,
}

impl ConverseDecoder {
    fn message(&mut self, message: &AwsMessage, events: &mut Vec<Event>) -> Result<(), Fault> {
        if let Some(fault) = fault::of_message(message) {
            return Err(fault);
        }
        let kind = message.header(":event-type").unwrap_or_default();
        if !EVENTS.contains(&kind) {
            return Ok(());
        }
        let payload = &message.payload;
        let read = serde_json::from_slice::<Wire>(payload).ok();
        let Some(wire) = read.or_else(|| serde_json::from_str(&self.halves.mend(payload)).ok()) else {
            let text = "the provider sent an event that is not what its type promises";
            return Err(fault::malformed(text));
        };
        self.start(events);
        match kind {
            "contentBlockStart" => self.block_start(wire.content_block_index, wire.start, events),
            "contentBlockDelta" => self.delta(wire.content_block_index, wire.delta, events),
            "contentBlockStop" => self.block_stop(wire.content_block_index, events),
            "messageStop" => return self.stop(wire, events),
            "metadata" => self.metadata(wire, events),
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            events.push(Event::Start { id: String::new(), model: String::new(), created: 0 });
            events.push(Event::ChoiceStart { choice: CHOICE, role: Role::Assistant });
        }
    }

    fn block_start(&mut self, index: u64, mut start: Object, events: &mut Vec<Event>) {
        // A block that begins anew has ended.
        self.block_stop(index, events);
        let open = if let Some(Value::Object(head)) = start.shift_remove("toolUse") {
            if head.get("type").is_some_and(|kind| kind == "server_tool_use") {
                Open::ServerCall { head, input: String::new() }
            } else {
                let text = |key: &str| head.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                let (id, name, call) = (text("toolUseId"), text("name"), self.calls);
                self.calls += 1;
                let kind = ToolKind::Function;
                events.push(Event::ToolCallStart { choice: CHOICE, call, id, name, kind, signature: None });
                Open::Call { call, fed: false }
            }
        } else if let Some(Value::Object(head)) = start.shift_remove("toolResult") {
            Open::ServerResult { head, content: Vec::new() }
        } else if let Some(image) = start.shift_remove("image") {
            Open::Image(image.get("format").cloned().unwrap_or_default())
        } else {
            return;
        };
        self.open.push((index, open));
    }

    fn delta(&mut self, index: u64, delta: Object, events: &mut Vec<Event>) {
        let open = self.open.iter_mut().find(|(known, _)| *known == index).map(|(_, open)| open);
        // A delta says one thing.
        let Some((kind, value)) = delta.into_iter().next() else { return };
        match (kind.as_str(), value, open) {
            ("text", Value::String(text), _) => events.push(Event::Text { choice: CHOICE, text }),
            ("reasoningContent", Value::Object(thought), _) => think(thought, events),
            ("toolUse", mut value, Some(open)) => {
                let Some(Value::String(json)) = value.get_mut("input").map(Value::take) else { return };
                match open {
                    Open::Call { call, fed } if !json.is_empty() => {
                        *fed = true;
                        let call = *call;
                        events.push(Event::ToolCallDelta { choice: CHOICE, call, arguments: json });
                    }
                    Open::ServerCall { input, .. } => input.push_str(&json),
                    _ => {}
                }
            }
            ("toolResult", Value::Array(more), Some(Open::ServerResult { content, .. })) => {
                content.extend(more);
            }
            ("citation", value, _) => self.cited.push(block::citation(value)),
            ("image", mut image, open) => {
                if let (Some(Open::Image(format)), Some(fields)) = (open, image.as_object_mut()) {
                    fields.insert("format".into(), format.clone());
                }
                events.extend(block::picture(&image).map(|image| {
                    let fields = [("images".to_owned(), json!([image]))].into_iter().collect();
                    Event::Other { choice: Some(CHOICE), fields }
                }));
            }
            _ => {}
        }
    }

    fn block_stop(&mut self, index: u64, events: &mut Vec<Event>) {
        self.cite(events);
        let Some(at) = self.open.iter().position(|(known, _)| *known == index) else { return };
        close(self.open.remove(at).1, events);
    }

    fn cite(&mut self, events: &mut Vec<Event>) {
        events.extend(self.cited.drain(..).map(|value| Event::Citation { choice: CHOICE, value }));
    }

    fn stop(&mut self, mut wire: Wire, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.cite(events);
        self.open.drain(..).for_each(|(_, open)| close(open, events));
        let word = wire.stop_reason.take().unwrap_or_default();
        let finish = finish::finish(&word, wire.rest.get("additionalModelResponseFields"))?;
        self.stopped = true;
        other(wire.rest, events);
        events.push(Event::Finish { choice: CHOICE, finish });
        Ok(())
    }

    fn metadata(&mut self, wire: Wire, events: &mut Vec<Event>) {
        let usage = wire.usage.and_then(|usage| usage.classes());
        events.extend(usage.map(|usage| Event::Usage(usage.in_tier(decode::tier(&wire.rest)))));
        other(wire.rest, events);
        // It comes after the reason to stop, and nothing comes after it.
        if self.stopped {
            self.end(events);
        }
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.done, true) {
            events.push(Event::End);
        }
    }
}

const EVENTS: &[&str] = &[
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
];

impl StreamDecoder for ConverseDecoder {
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        self.splitter.push(chunk);
        while let Some(message) = self.splitter.next()? {
            self.message(&message, events)?;
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        if !self.stopped || self.splitter.is_inside() {
            return Err(fault::truncated());
        }
        self.end(events);
        Ok(())
    }
}

fn think(mut thought: Object, events: &mut Vec<Event>) {
    let mut take = |key: &str| match thought.shift_remove(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let (text, signature, redacted) = (take("text"), take("signature"), take("redactedContent"));
    if text.is_some() || signature.is_some() || redacted.is_some() {
        let text = text.unwrap_or_default();
        events.push(Event::Thinking { choice: CHOICE, text, signature, redacted });
    }
}

fn close(open: Open, events: &mut Vec<Event>) {
    let mut foreign = |key: &str, value: Object| {
        let block = [(key.to_owned(), Value::Object(value))].into_iter().collect();
        if let Some(Part::Other(value)) = block::foreign(block) {
            events.push(Event::Foreign { choice: CHOICE, value });
        }
    };
    match open {
        Open::Call { fed: true, .. } | Open::Image(_) => {}
        Open::Call { call, .. } => {
            events.push(Event::ToolCallDelta { choice: CHOICE, call, arguments: "{}".to_owned() });
        }
        Open::ServerCall { mut head, input } => {
            let input = serde_json::from_str(&input).unwrap_or_else(|_| json!({}));
            head.insert("input".into(), input);
            foreign("toolUse", head);
        }
        Open::ServerResult { mut head, content } => {
            head.insert("content".into(), Value::Array(content));
            foreign("toolResult", head);
        }
    }
}

/// Fields beside the answer that a client may want to know.
fn other(rest: Object, events: &mut Vec<Event>) {
    let fields = decode::kept(rest);
    if !fields.is_empty() {
        events.push(Event::Other { choice: None, fields });
    }
}

#[cfg(test)]
mod tests;

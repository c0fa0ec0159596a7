//! Canonical stream events → OpenAI's `chat.completion.chunk` events.

use bytes::Bytes;
use serde_json::Value;

use super::answer::{BESIDE_MESSAGE, Fallback, annotation, finish_word, reasoning_detail, tool_call};
use super::{error_body, usage_json};
use crate::chat::{Event, Object, Role, StreamEncoder, ToolKind, Usage};
use crate::fault::Fault;
use crate::frames::{SSE_DONE, sse_data};
use crate::json::write_text;

/// The end of a choice that goes on, before the chunk's own end.
const OPEN_TAIL: &[u8] = b",\"logprobs\":null,\"finish_reason\":null}]";

/// Writes one streamed answer for a client of OpenAI's dialect.
pub struct ChatEncoder {
    include_usage: bool,
    fallback: Fallback,
    /// From `data: {` to `"choices":`, the same in every chunk.
    head: Vec<u8>,
    /// What follows the choices, to the blank line.
    tail: &'static [u8],
    /// Choices whose role is said.
    begun: Vec<u32>,
    /// Tool calls by choice and the provider's number; their place among those of their choice is what the client
    /// sees.
    calls: Vec<Call>,
    /// How many entries of each further list of a choice were said.
    listed: Vec<(u32, String, usize)>,
    usage: Option<Usage>,
    /// Fields of the whole answer, until a chunk is due that can bear them: clients look at the first choice of each.
    held: Object,
    /// Choice and end of the text chunk just written: log probabilities that follow at once belong into it.
    last_text: Option<(u32, usize)>,
    /// Characters said so far, and where the last piece that came after a citation begins.
    said: usize,
    cited: usize,
    /// Whether the last thing said was a citation.
    citing: bool,
    /// The thought under way, until its proof comes.
    thought: String,
    /// Whether the client knows nothing but one `function_call`.
    legacy: bool,
    ended: bool,
}

struct Call {
    choice: u32,
    call: u32,
    place: usize,
    kind: ToolKind,
}

impl ChatEncoder {
    /// An encoder for one answer. `include_usage`: whether the client asked for usage at the end.
    pub fn new(include_usage: bool, fallback: Fallback) -> Self {
        // With usage asked for, OpenAI says `null` in all chunks before the last.
        let tail: &[u8] = if include_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" };
        Self {
            include_usage,
            fallback,
            head: Vec::new(),
            tail,
            begun: Vec::new(),
            calls: Vec::new(),
            listed: Vec::new(),
            usage: None,
            held: Object::new(),
            last_text: None,
            said: 0,
            cited: 0,
            citing: false,
            thought: String::new(),
            legacy: false,
            ended: false,
        }
    }

    /// The same for a client that knows nothing but `function_call`, if `legacy`.
    pub(super) fn legacy(self, legacy: bool) -> Self {
        Self { legacy, ..self }
    }

    fn start(&mut self, id: &str, model: &str, created: u64) {
        if !self.head.is_empty() {
            return;
        }
        let id = if id.is_empty() { &self.fallback.id } else { id };
        let created = if created == 0 { self.fallback.created } else { created };
        let mut head = b"data: {\"id\":".to_vec();
        write_text(&mut head, id);
        head.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        head.extend_from_slice(created.to_string().as_bytes());
        head.extend_from_slice(b",\"model\":");
        write_text(&mut head, model);
        head.extend_from_slice(b",\"choices\":");
        self.head = head;
    }

    /// Begins a choice, if it has not begun.
    fn begin(&mut self, choice: u32, role: Role, out: &mut Vec<u8>) {
        if self.begun.contains(&choice) {
            return;
        }
        self.begun.push(choice);
        let delta: &[u8] = match role {
            Role::User => br#"{"role":"user","content":""}"#,
            Role::System => br#"{"role":"system","content":""}"#,
            Role::Developer => br#"{"role":"developer","content":""}"#,
            Role::Tool => br#"{"role":"tool","content":""}"#,
            Role::Assistant => br#"{"role":"assistant","content":""}"#,
        };
        self.delta(choice, out, |out| out.extend_from_slice(delta));
    }

    /// Writes one chunk with one choice that goes on.
    fn delta(&mut self, choice: u32, out: &mut Vec<u8>, delta: impl FnOnce(&mut Vec<u8>)) {
        self.open_choice(choice, out);
        out.extend_from_slice(b",\"delta\":");
        delta(out);
        out.extend_from_slice(OPEN_TAIL);
        out.extend_from_slice(self.tail);
    }

    fn open_choice(&mut self, choice: u32, out: &mut Vec<u8>) {
        self.start("", "", 0);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"[{\"index\":");
        if choice == 0 {
            out.push(b'0');
        } else {
            out.extend_from_slice(choice.to_string().as_bytes());
        }
    }

    /// Writes one chunk whose delta is one text field.
    fn text(&mut self, choice: u32, key: &str, text: &str, out: &mut Vec<u8>) {
        self.begin(choice, Role::Assistant, out);
        out.reserve(self.head.len() + text.len() + 128);
        self.delta(choice, out, |out| {
            out.extend_from_slice(b"{\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            write_text(out, text);
            out.push(b'}');
        });
        self.last_text = Some((choice, out.len()));
    }

    /// Writes one chunk whose delta has one field of any kind.
    fn field(&mut self, choice: u32, key: &str, value: Value, out: &mut Vec<u8>) {
        let mut delta = Object::new();
        delta.insert(key.to_owned(), value);
        self.fields(choice, &delta, out);
    }

    fn fields(&mut self, choice: u32, delta: &Object, out: &mut Vec<u8>) {
        self.begin(choice, Role::Assistant, out);
        self.delta(choice, out, |out| write_object(out, delta));
    }

    /// Entries of a list with their places in the whole of it: OpenAI's SDK for Python (3.54) puts lists of several deltas
    /// together by `index`, and gives the stream up without it.
    fn numbered(&mut self, choice: u32, key: &str, mut entries: Vec<Value>) -> Value {
        let known = self.listed.iter().position(|(of, list, _)| *of == choice && list == key);
        let at = known.unwrap_or_else(|| {
            self.listed.push((choice, key.to_owned(), 0));
            self.listed.len() - 1
        });
        let count = &mut self.listed[at].2;
        for entry in &mut entries {
            if let Value::Object(entry) = entry {
                entry.entry("index").or_insert_with(|| (*count).into());
            }
            *count += 1;
        }
        Value::Array(entries)
    }

    fn thinking(
        &mut self,
        choice: u32,
        text: &str,
        signature: Option<&str>,
        redacted: Option<&str>,
        out: &mut Vec<u8>,
    ) {
        if !text.is_empty() {
            self.text(choice, "reasoning_content", text, out);
        }
        if redacted.is_none() {
            self.thought.push_str(text);
        }
        // The proof is of use only with all of the text that it proves, so that the client can send both back.
        let thought = if signature.is_some() { std::mem::take(&mut self.thought) } else { String::new() };
        if let Some(detail) = reasoning_detail(&thought, signature, redacted) {
            let details = self.numbered(choice, "reasoning_details", vec![detail]);
            self.field(choice, "reasoning_details", details, out);
        }
    }

    fn call_start(&mut self, event: &Event, out: &mut Vec<u8>) {
        let Event::ToolCallStart { choice, call, id, name, kind, signature } = event else { return };
        self.thought.clear();
        if *kind == ToolKind::Server || self.place_of(*choice, *call).is_some() {
            return;
        }
        let place = self.calls.iter().filter(|known| known.choice == *choice).count();
        if self.legacy && place > 0 {
            return;
        }
        self.calls.push(Call { choice: *choice, call: *call, place, kind: *kind });
        if self.legacy {
            let function = serde_json::json!({ "name": name, "arguments": "" });
            return self.field(*choice, "function_call", function, out);
        }
        let mut entry = Object::new();
        entry.insert("index".to_owned(), place.into());
        entry.extend(tool_call(*kind, id, name, "", signature.as_deref()));
        self.field(*choice, "tool_calls", Value::Array(vec![Value::Object(entry)]), out);
    }

    fn call_delta(&mut self, choice: u32, call: u32, arguments: &str, out: &mut Vec<u8>) {
        let Some((place, kind)) = self.place_of(choice, call) else { return };
        if arguments.is_empty() {
            return;
        }
        if self.legacy {
            let function = serde_json::json!({ "arguments": arguments });
            return self.field(choice, "function_call", function, out);
        }
        out.reserve(self.head.len() + arguments.len() + 192);
        self.delta(choice, out, |out| {
            out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
            out.extend_from_slice(place.to_string().as_bytes());
            let key: &[u8] = match kind {
                ToolKind::Custom => b",\"custom\":{\"input\":",
                _ => b",\"function\":{\"arguments\":",
            };
            out.extend_from_slice(key);
            write_text(out, arguments);
            out.extend_from_slice(b"}}]}");
        });
    }

    fn place_of(&self, choice: u32, call: u32) -> Option<(usize, ToolKind)> {
        let known = self.calls.iter().find(|known| known.choice == choice && known.call == call)?;
        Some((known.place, known.kind))
    }

    /// Log probabilities: into the text chunk that they belong to if it is still at hand, else in their own chunk.
    fn logprobs(&mut self, choice: u32, value: &Value, out: &mut Vec<u8>) {
        let end = OPEN_TAIL.len() + self.tail.len();
        let at_hand = self.last_text == Some((choice, out.len()));
        if at_hand && out.get(out.len().saturating_sub(end)..).is_some_and(|last| last.starts_with(OPEN_TAIL))
        {
            out.truncate(out.len() - end);
        } else {
            self.begin(choice, Role::Assistant, out);
            self.open_choice(choice, out);
            out.extend_from_slice(b",\"delta\":{}");
        }
        out.extend_from_slice(b",\"logprobs\":");
        write_value(out, value);
        out.extend_from_slice(b",\"finish_reason\":null}]");
        out.extend_from_slice(self.tail);
    }

    fn other(&mut self, choice: Option<u32>, fields: &Object, out: &mut Vec<u8>) {
        let Some(choice) = choice else {
            self.held.extend(fields.clone());
            return;
        };
        self.begin(choice, Role::Assistant, out);
        let is_beside = |key: &String| BESIDE_MESSAGE.contains(&&**key);
        let mut delta = Object::new();
        for (key, value) in fields.iter().filter(|(key, _)| !is_beside(key)) {
            let value = match value {
                Value::Array(entries) => self.numbered(choice, key, entries.clone()),
                other => other.clone(),
            };
            delta.insert(key.clone(), value);
        }
        self.open_choice(choice, out);
        out.extend_from_slice(b",\"delta\":");
        write_object(out, &delta);
        write_more(out, fields.iter().filter(|(key, _)| is_beside(key)));
        out.extend_from_slice(OPEN_TAIL);
        out.extend_from_slice(self.tail);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.ended = true;
        if let (true, Some(usage)) = (self.include_usage, self.usage) {
            self.start("", "", 0);
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"[],\"usage\":");
            write_value(out, &usage_json(&usage));
            write_more(out, self.held.iter());
            out.extend_from_slice(b"}\n\n");
        } else if !self.held.is_empty() {
            self.begin(0, Role::Assistant, out);
            self.open_choice(0, out);
            out.extend_from_slice(b",\"delta\":{}");
            out.extend_from_slice(OPEN_TAIL);
            write_more(out, std::mem::take(&mut self.held).iter());
            out.extend_from_slice(self.tail);
        }
        out.extend_from_slice(SSE_DONE);
    }
}

impl StreamEncoder for ChatEncoder {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start { id, model, created } => self.start(id, model, *created),
            Event::ChoiceStart { choice, role } => self.begin(*choice, *role, out),
            Event::Text { choice, text } if !text.is_empty() => {
                if std::mem::take(&mut self.citing) {
                    self.cited = self.said;
                }
                self.said += text.chars().count();
                // Whatever is proven from here on is not that thought.
                self.thought.clear();
                self.text(*choice, "content", text, out);
            }
            Event::Refusal { choice, text } if !text.is_empty() => self.text(*choice, "refusal", text, out),
            Event::Text { .. } | Event::Refusal { .. } => {}
            Event::Thinking { choice, text, signature, redacted } => {
                self.thinking(*choice, text, signature.as_deref(), redacted.as_deref(), out);
            }
            Event::ToolCallStart { .. } => self.call_start(event, out),
            Event::ToolCallDelta { choice, call, arguments } => {
                self.call_delta(*choice, *call, arguments, out)
            }
            Event::Logprobs { choice, value } => self.logprobs(*choice, value, out),
            Event::Citation { choice, value } => {
                self.citing = true;
                if let Some(note) = annotation(value, self.cited, self.said) {
                    let notes = self.numbered(*choice, "annotations", vec![note]);
                    self.field(*choice, "annotations", notes, out);
                }
            }
            // A client would take the provider's own tools for its own.
            Event::Foreign { .. } => {}
            Event::Other { choice, fields } => self.other(*choice, fields, out),
            Event::Finish { choice, finish } => {
                self.begin(*choice, Role::Assistant, out);
                self.open_choice(*choice, out);
                out.extend_from_slice(b",\"delta\":{},\"logprobs\":null,\"finish_reason\":\"");
                out.extend_from_slice(finish_word(finish, self.legacy).as_bytes());
                out.extend_from_slice(b"\"}]");
                write_more(out, std::mem::take(&mut self.held).iter());
                out.extend_from_slice(self.tail);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.end(out),
        }
    }

    fn fault(&mut self, fault: &Fault) -> Bytes {
        self.ended = true;
        let mut out = Vec::new();
        sse_data(&mut out, &error_body(fault));
        out.into()
    }
}

fn write_object(out: &mut Vec<u8>, object: &Object) {
    // Writing JSON values to a `Vec` cannot fail.
    let _ = serde_json::to_writer(out, object);
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    let _ = serde_json::to_writer(out, value);
}

/// Writes further fields of an object that is open.
fn write_more<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a String, &'a Value)>) {
    for (key, value) in fields {
        out.push(b',');
        write_text(out, key);
        out.push(b':');
        write_value(out, value);
    }
}

#[cfg(test)]
mod tests;

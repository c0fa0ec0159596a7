//! Canonical events → a stream of generateContent documents, as events or as one JSON array.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{call, finish_word, hidden, inline, source, thought, usage_json};
use super::error::{fault_element, fault_event};
use super::logprobs;
use crate::chat::{Event, Finish, Object, StreamEncoder, ToolKind, Usage};
use crate::fault::Fault;

/// The encoder of one stream.
pub(in crate::api) struct GeminiEncoder {
    /// A JSON array instead of events.
    array: bool,
    /// Documents written so far.
    written: u64,
    id: String,
    model: String,
    choices: Vec<ChoiceState>,
    usage: Option<Usage>,
}

#[derive(Default)]
struct ChoiceState {
    index: u32,
    /// Calls whose arguments may not be complete: each is sent whole. Some providers weave several together.
    open: Vec<OpenCall>,
    /// Whether it has called.
    called: bool,
    text: String,
    citations: Vec<Value>,
    finish: Option<Finish>,
}

struct OpenCall {
    place: u32,
    id: String,
    name: String,
    kind: ToolKind,
    signature: Option<String>,
    arguments: String,
}

impl OpenCall {
    /// Nothing tells that a call's arguments are complete, except that they are.
    fn is_complete(&self) -> bool {
        self.kind != ToolKind::Custom
            && serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }

    /// The same when another call begins: free text is not woven.
    fn is_left(&self) -> bool {
        self.kind == ToolKind::Custom || self.is_complete()
    }
}

impl GeminiEncoder {
    /// `fallback` is the id of an answer whose provider gives none.
    pub(in crate::api) fn new(array: bool, fallback: String) -> Self {
        Self { array, written: 0, id: fallback, model: String::new(), choices: Vec::new(), usage: None }
    }

    /// The encoder of an array whose beginning was said already.
    pub(in crate::api) fn within_array() -> Self {
        Self { written: 1, ..Self::new(true, String::new()) }
    }

    fn choice(&mut self, index: u32) -> &mut ChoiceState {
        let at = self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.choices.push(ChoiceState { index, ..ChoiceState::default() });
            self.choices.len() - 1
        });
        &mut self.choices[at]
    }

    /// Sends one part of a choice, after the calls that are complete.
    fn part(&mut self, index: u32, part: Value, out: &mut Vec<u8>) {
        self.close(index, OpenCall::is_complete, out);
        self.send(index, part, out);
    }

    fn send(&mut self, index: u32, part: Value, out: &mut Vec<u8>) {
        let candidate = json!({ "content": { "parts": [part], "role": "model" }, "index": index });
        self.document(vec![candidate], false, out);
    }

    fn logprobs(&mut self, index: u32, value: &Value, out: &mut Vec<u8>) {
        let mut candidate = Object::new();
        candidate.insert("content".into(), json!({ "parts": [{ "text": "" }], "role": "model" }));
        candidate.insert("index".into(), index.into());
        candidate.extend(logprobs::fields(value));
        self.document(vec![Value::Object(candidate)], false, out);
    }

    /// Sends the first of the open calls, as far as they are `ready`.
    fn close(&mut self, index: u32, ready: fn(&OpenCall) -> bool, out: &mut Vec<u8>) {
        let open = &mut self.choice(index).open;
        let count = open.iter().take_while(|call| ready(call)).count();
        let calls: Vec<OpenCall> = open.drain(..count).collect();
        for open in calls {
            let first = !std::mem::replace(&mut self.choice(index).called, true);
            let part =
                call(&open.id, &open.name, &open.arguments, open.kind, open.signature.as_deref(), first);
            self.send(index, part, out);
        }
    }

    fn document(&mut self, candidates: Vec<Value>, last: bool, out: &mut Vec<u8>) {
        let mut body = Object::new();
        body.insert("candidates".into(), Value::Array(candidates));
        if let Some(usage) = self.usage.as_ref().filter(|_| last) {
            body.insert("usageMetadata".into(), usage_json(usage));
        }
        body.insert("modelVersion".into(), self.model.as_str().into());
        body.insert("responseId".into(), self.id.as_str().into());
        let before: &[u8] = match (self.array, self.written) {
            (false, _) => b"data: ",
            (true, 0) => b"[",
            (true, _) => b",\r\n",
        };
        out.extend_from_slice(before);
        self.written += 1;
        // Writing to memory does not fail.
        let _written = serde_json::to_writer(&mut *out, &body);
        if !self.array {
            out.extend_from_slice(b"\r\n\r\n");
        }
    }

    /// The last document: how every choice ended, and what was used.
    fn end(&mut self, out: &mut Vec<u8>) {
        let indices: Vec<u32> = self.choices.iter().map(|choice| choice.index).collect();
        indices.iter().for_each(|index| self.close(*index, |_| true, out));
        let candidates = self.choices.iter().map(|choice| {
            let mut body = Object::new();
            body.insert("content".into(), json!({ "parts": [{ "text": "" }], "role": "model" }));
            if let Some(finish) = &choice.finish {
                body.insert("finishReason".into(), finish_word(finish).into());
            }
            body.insert("index".into(), choice.index.into());
            let sources: Vec<Value> =
                choice.citations.iter().filter_map(|value| source(value, &choice.text, 0)).collect();
            if !sources.is_empty() {
                body.insert("citationMetadata".into(), json!({ "citationSources": sources }));
            }
            Value::Object(body)
        });
        let candidates: Vec<Value> = candidates.collect();
        self.document(candidates, true, out);
        if self.array {
            out.extend_from_slice(b"\r\n]");
        }
    }
}

impl StreamEncoder for GeminiEncoder {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, .. } => {
                if !id.is_empty() {
                    self.id.clone_from(id);
                }
                self.model.clone_from(model);
            }
            Event::ChoiceStart { choice, .. } => {
                self.choice(*choice);
            }
            Event::Text { choice, text } | Event::Refusal { choice, text } => {
                if !text.is_empty() {
                    self.choice(*choice).text.push_str(text);
                    self.part(*choice, json!({ "text": text }), out);
                }
            }
            Event::Thinking { choice, text, signature, redacted } => match redacted {
                Some(data) => self.part(*choice, hidden(data), out),
                None if text.is_empty() && signature.is_none() => {}
                None => self.part(*choice, thought(text, signature.as_deref()), out),
            },
            Event::ToolCallStart { choice, call, id, name, kind, signature } => {
                self.close(*choice, OpenCall::is_left, out);
                self.choice(*choice).open.push(OpenCall {
                    place: *call,
                    id: id.clone(),
                    name: name.clone(),
                    kind: *kind,
                    signature: signature.clone(),
                    arguments: String::new(),
                });
            }
            Event::ToolCallDelta { choice, call, arguments } => {
                if let Some(open) = self.choice(*choice).open.iter_mut().find(|open| open.place == *call) {
                    open.arguments.push_str(arguments);
                }
            }
            Event::Citation { choice, value } => self.choice(*choice).citations.push(value.clone()),
            Event::Other { choice: Some(choice), fields } => {
                let images = fields.get("images").and_then(Value::as_array).into_iter().flatten();
                for image in images.filter_map(inline) {
                    self.part(*choice, image, out);
                }
            }
            Event::Finish { choice, finish } => self.choice(*choice).finish = Some(finish.clone()),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.end(out),
            Event::Logprobs { choice, value } => self.logprobs(*choice, value, out),
            // Another dialect's own.
            Event::Foreign { .. } | Event::Other { choice: None, .. } => {}
        }
    }

    fn fault(&mut self, fault: &Fault) -> Bytes {
        if self.array { fault_element(fault, self.written > 0) } else { fault_event(fault) }
    }
}

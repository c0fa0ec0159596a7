//! Canonical stream events → the events of Anthropic's streams, one block after the other.
//!
//! `message_start` (`content_block_start` `content_block_delta`… `content_block_stop`)… `message_delta` `message_stop`

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{input, is_own_block, is_own_citation, stop_reason, usage_json};
use super::block::UNSIGNED;
use super::call_id;
use super::error::fault_event;
use crate::chat::{Event, Finish, StreamEncoder, ToolKind, Usage};
use crate::fault::Fault;
use crate::frames::sse_named;
use crate::json::write_text;

/// Writes one streamed message for a client of Anthropic's dialect.
pub struct MessageEncoder {
    fallback_id: String,
    started: bool,
    /// Index of the next block.
    next: usize,
    open: Open,
    /// Calls that began while another was still under way; blocks come one after the other.
    waiting: Vec<Call>,
    finish: Option<Finish>,
    calls: bool,
    refuses: bool,
    usage: Usage,
    ended: bool,
}

/// The block under way.
enum Open {
    None,
    Text,
    Thinking { signed: bool },
    Call(Call),
}

struct Call {
    call: u32,
    id: String,
    name: String,
    kind: ToolKind,
    arguments: String,
}

impl MessageEncoder {
    /// An encoder for one message; `fallback_id` is for providers that give none.
    pub fn new(fallback_id: String) -> Self {
        Self {
            fallback_id,
            started: false,
            next: 0,
            open: Open::None,
            waiting: Vec::new(),
            finish: None,
            calls: false,
            refuses: false,
            usage: Usage::default(),
            ended: false,
        }
    }

    /// The encoder of a message whose beginning was said already, up to a text in block number `block`.
    pub(super) fn within_text(block: usize) -> Self {
        Self { started: true, next: block + 1, open: Open::Text, ..Self::new(String::new()) }
    }

    fn start(&mut self, id: &str, model: &str, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let id = if id.is_empty() { &self.fallback_id } else { id };
        let message = json!({
            "id": id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage_json(&self.usage),
        });
        say(out, "message_start", &json!({ "type": "message_start", "message": message }));
    }

    fn open_block(&mut self, open: Open, block: &Value, out: &mut Vec<u8>) {
        self.start("", "", out);
        self.open = open;
        let event = json!({ "type": "content_block_start", "index": self.next, "content_block": block });
        say(out, "content_block_start", &event);
        if self.next == 0 {
            // Where Anthropic itself sends its first.
            say(out, "ping", &json!({ "type": "ping" }));
        }
        self.next += 1;
    }

    /// Ends the block under way.
    fn close(&mut self, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.open, Open::None) {
            Open::None => return,
            Open::Text | Open::Thinking { signed: true } => {}
            Open::Thinking { signed: false } => self.delta("signature_delta", "signature", UNSIGNED, out),
            Open::Call(call) if call.kind == ToolKind::Custom => {
                let json = input(&call.arguments, call.kind).to_string();
                self.delta("input_json_delta", "partial_json", &json, out);
            }
            Open::Call(_) => {}
        }
        let index = self.next.saturating_sub(1);
        say(out, "content_block_stop", &json!({ "type": "content_block_stop", "index": index }));
    }

    /// Ends the block under way and says the calls that waited for it.
    fn close_all(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        for call in std::mem::take(&mut self.waiting) {
            self.open_call(call, out);
            self.close(out);
        }
    }

    /// One text delta of the block under way; the shortest way, because there are so many.
    fn delta(&mut self, kind: &str, key: &str, text: &str, out: &mut Vec<u8>) {
        out.reserve(text.len() + 160);
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        out.extend_from_slice(self.next.saturating_sub(1).to_string().as_bytes());
        out.extend_from_slice(b",\"delta\":{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        write_text(out, text);
        out.extend_from_slice(b"}}\n\n");
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        self.need_text(out);
        self.delta("text_delta", "text", text, out);
    }

    fn need_text(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.open, Open::Text) {
            self.close_all(out);
            self.open_block(Open::Text, &json!({ "type": "text", "text": "" }), out);
        }
    }

    fn thinking(&mut self, text: &str, signature: Option<&str>, redacted: Option<&str>, out: &mut Vec<u8>) {
        if let Some(data) = redacted {
            self.close_all(out);
            let block = json!({ "type": "redacted_thinking", "data": data });
            self.open_block(Open::Text, &block, out);
            self.close(out);
            return;
        }
        if text.is_empty() && signature.is_none() {
            return;
        }
        if !matches!(self.open, Open::Thinking { .. }) {
            self.close_all(out);
            let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
            self.open_block(Open::Thinking { signed: false }, &block, out);
        }
        if !text.is_empty() {
            self.delta("thinking_delta", "thinking", text, out);
        }
        if let Some(signature) = signature {
            self.delta("signature_delta", "signature", signature, out);
            self.open = Open::Thinking { signed: true };
            self.close(out);
        }
    }

    fn call_start(&mut self, call: Call, out: &mut Vec<u8>) {
        self.calls = true;
        let busy = match &self.open {
            // Nothing tells that a call's arguments are complete, except that they are.
            Open::Call(open) => serde_json::from_str::<serde::de::IgnoredAny>(&open.arguments).is_err(),
            _ => false,
        };
        if busy || !self.waiting.is_empty() {
            self.waiting.push(call);
            return;
        }
        self.close(out);
        self.open_call(call, out);
    }

    fn open_call(&mut self, call: Call, out: &mut Vec<u8>) {
        let block = json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": {} });
        let (said, custom) = (call.arguments.clone(), call.kind == ToolKind::Custom);
        self.open_block(Open::Call(call), &block, out);
        if !custom {
            self.delta("input_json_delta", "partial_json", &said, out);
        }
    }

    fn call_delta(&mut self, call: u32, more: &str, out: &mut Vec<u8>) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.call == call) {
            waiting.arguments.push_str(more);
            return;
        }
        let Open::Call(open) = &mut self.open else { return };
        if open.call != call || more.is_empty() {
            return;
        }
        open.arguments.push_str(more);
        if open.kind != ToolKind::Custom {
            self.delta("input_json_delta", "partial_json", more, out);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start("", "", out);
        self.close_all(out);
        self.ended = true;
        let finish = self.finish.as_ref();
        let delta = json!({
            "stop_reason": stop_reason(finish, self.calls, self.refuses),
            "stop_sequence": finish.and_then(|finish| finish.stop_sequence.as_deref()),
        });
        let usage = usage_json(&self.usage);
        say(out, "message_delta", &json!({ "type": "message_delta", "delta": delta, "usage": usage }));
        say(out, "message_stop", &json!({ "type": "message_stop" }));
    }
}

impl StreamEncoder for MessageEncoder {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start { id, model, .. } => self.start(id, model, out),
            Event::Text { choice: 0, text } => self.text(text, out),
            Event::Refusal { choice: 0, text } => {
                self.refuses = true;
                self.text(text, out);
            }
            Event::Thinking { choice: 0, text, signature, redacted } => {
                self.thinking(text, signature.as_deref(), redacted.as_deref(), out);
            }
            Event::ToolCallStart { choice: 0, call, id, name, kind, signature }
                if *kind != ToolKind::Server =>
            {
                let (id, name) = (call_id::written(id, signature.as_deref()), name.clone());
                let call = Call { call: *call, id, name, kind: *kind, arguments: String::new() };
                self.call_start(call, out);
            }
            Event::ToolCallDelta { choice: 0, call, arguments } => self.call_delta(*call, arguments, out),
            Event::Citation { choice: 0, value } if is_own_citation(value) => {
                self.need_text(out);
                let index = self.next.saturating_sub(1);
                let delta = json!({ "type": "citations_delta", "citation": value });
                let event = json!({ "type": "content_block_delta", "index": index, "delta": delta });
                say(out, "content_block_delta", &event);
            }
            Event::Foreign { choice: 0, value } if is_own_block(value) => {
                self.close_all(out);
                self.open_block(Open::Text, value, out);
                self.close(out);
            }
            Event::Finish { choice: 0, finish } => self.finish = Some(finish.clone()),
            Event::Usage(usage) => self.usage = *usage,
            Event::End => self.end(out),
            // Other choices, log probabilities and what only other dialects know have no place here.
            _ => {}
        }
    }

    fn fault(&mut self, fault: &Fault) -> Bytes {
        self.ended = true;
        fault_event(fault)
    }
}

fn say(out: &mut Vec<u8>, name: &str, event: &Value) {
    sse_named(out, name, event.to_string().as_bytes());
}

#[cfg(test)]
mod tests;

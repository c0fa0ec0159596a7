//! Canonical events → a response: whole, or as the events of its stream, each with its number.
//!
//! `response.created` `response.in_progress` (`output_item.added` … `output_item.done`)… `response.completed`
//! <https://platform.openai.com/docs/api-reference/responses-streaming>

mod resume;
mod say;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use self::say::Voice;
use super::echo::Given;
use super::error::failed_events;
use super::ids::Ids;
use super::item::{self, Call, Piece, Status};
use super::keep::Keeper;
use super::proof::{self, Proof};
use crate::api::openai_chat::custom::free_text;
use crate::api::tongue::{Tongue, never};
use crate::api::translate;
use crate::chat::{Answer, Event, Finish, FinishReason, StreamEncoder, ToolKind, Usage};
use crate::fault::Fault;
use crate::json::write_text;

/// What a client of this dialect can be told. Parts that only their provider understands travel inside of reasoning
/// items.
pub(super) const TONGUE: Tongue = Tongue {
    choices: false,
    calls: true,
    one_call: false,
    texts: true,
    thinking: true,
    logprobs: true,
    stop_sequence: false,
    refusal: true,
    citation: |citation| item::annotation(citation, "").is_some(),
    foreign: |_| true,
    media: never,
    field: |key, value| key == "images" && item::pictures(value).is_some(),
    fields: false,
    usage: &["cached_read", "cache_write", "reasoning"],
    ends: &[
        (FinishReason::ContextExceeded, "max_output_tokens"),
        (FinishReason::Pause, "completed"),
        (FinishReason::Other, "completed"),
    ],
    comments: true,
};

/// Writes one response for a client of this dialect.
pub struct ResponseEncoder {
    given: Arc<Given>,
    keeper: Option<Keeper>,
    ids: Ids,
    id: String,
    created: u64,
    model: String,
    voice: Voice,
    begun: bool,
    ended: bool,
    /// Items by their place; those that are not done yet are empty.
    output: Vec<Vec<u8>>,
    open: Open,
    /// Calls under way; several may be, each with its place.
    calls: Vec<OpenCall>,
    usage: Option<Usage>,
    finish: Option<Finish>,
    refuses: bool,
}

/// The item under way that is no call.
enum Open {
    None,
    Thought { at: usize, id: String, text: String },
    Message { at: usize, id: String, done: Vec<Vec<u8>>, piece: Option<Piece>, held: Option<String> },
}

struct OpenCall {
    at: usize,
    /// The call's place among the canonical calls.
    number: u32,
    item: Call,
    /// A function stands for a custom tool: its text is known only at the end.
    wrapped: bool,
}

impl ResponseEncoder {
    /// An encoder for one response; `keeper` takes it when it is complete.
    pub(super) fn new(given: Arc<Given>, keeper: Option<Keeper>) -> Self {
        let ids = Ids::fresh();
        Self {
            id: ids.response(),
            model: given.model.clone(),
            given,
            keeper,
            ids,
            created: translate::now(),
            voice: Voice::default(),
            begun: false,
            ended: false,
            output: Vec::new(),
            open: Open::None,
            calls: Vec::new(),
            usage: None,
            finish: None,
            refuses: false,
        }
    }

    /// The body of a whole response. Of several choices, the first.
    pub(super) fn whole(mut self, answer: Answer) -> Vec<u8> {
        self.voice.silent = true;
        let mut nothing = Vec::new();
        for event in answer.into_events() {
            if !matches!(event, Event::End) {
                self.encode(&event, &mut nothing);
            }
        }
        self.close_all(&mut nothing);
        let body = self.response(self.status());
        self.keep(&body);
        body
    }

    /// The events that end a stream of which nothing is known.
    pub(super) fn unstarted(fault: &Fault) -> Bytes {
        Self::new(Arc::default(), None).fault(fault)
    }

    fn keep(&mut self, body: &[u8]) {
        if let Some(keeper) = self.keeper.take() {
            keeper.keep(Bytes::copy_from_slice(body));
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) || self.voice.silent {
            return;
        }
        let response = self.response("in_progress");
        for name in ["response.created", "response.in_progress"] {
            self.voice.say(out, name, |out| {
                out.extend_from_slice(b",\"response\":");
                out.extend_from_slice(&response);
            });
        }
    }

    /// Announces an item and gives it its place.
    fn add(&mut self, item: &[u8], out: &mut Vec<u8>) -> usize {
        self.begin(out);
        let at = self.output.len();
        self.output.push(Vec::new());
        self.voice.item(out, "response.output_item.added", at, item);
        at
    }

    fn done(&mut self, at: usize, item: Vec<u8>, out: &mut Vec<u8>) {
        self.voice.item(out, "response.output_item.done", at, &item);
        if let Some(place) = self.output.get_mut(at) {
            *place = item;
        }
    }

    /// An item that is complete as it comes.
    fn at_once(&mut self, item: Vec<u8>, out: &mut Vec<u8>) {
        let at = self.add(&item, out);
        self.done(at, item, out);
    }

    fn text(&mut self, text: &str, refusal: bool, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        self.need_piece(refusal, out);
        self.flush_held(&[], out);
        if self.given.logprobs && !refusal {
            if let Open::Message { held, .. } = &mut self.open {
                *held = Some(text.to_owned());
            }
            return;
        }
        self.delta(text, &[], out);
    }

    /// Says the text that waited for its log probabilities.
    fn flush_held(&mut self, logprobs: &[Value], out: &mut Vec<u8>) {
        let Open::Message { held, .. } = &mut self.open else { return };
        if let Some(text) = held.take() {
            self.delta(&text, logprobs, out);
        }
    }

    fn delta(&mut self, text: &str, logprobs: &[Value], out: &mut Vec<u8>) {
        let Open::Message { at, id, done, piece: Some(piece), .. } = &mut self.open else { return };
        piece.text.push_str(text);
        piece.logprobs.extend_from_slice(logprobs);
        self.voice.text_delta(out, piece.refusal, id, *at, done.len(), text, logprobs);
    }

    /// Makes sure that a piece of this kind is under way.
    fn need_piece(&mut self, refusal: bool, out: &mut Vec<u8>) {
        if let Open::Message { piece: Some(piece), .. } = &self.open {
            if piece.refusal == refusal {
                return;
            }
            self.close_piece(out);
        }
        if !matches!(self.open, Open::Message { .. }) {
            self.close_all(out);
            let id = self.ids.item("msg");
            let at = self.add(&item::message(&id, Status::InProgress, &[]), out);
            self.open = Open::Message { at, id, done: Vec::new(), piece: None, held: None };
        }
        let Open::Message { at, id, done, piece, .. } = &mut self.open else { return };
        let piece = piece.insert(Piece { refusal, ..Piece::default() });
        self.voice.part(out, "response.content_part.added", id, *at, done.len(), piece);
    }

    fn close_piece(&mut self, out: &mut Vec<u8>) {
        self.flush_held(&[], out);
        let Open::Message { at, id, done, piece, .. } = &mut self.open else { return };
        let Some(piece) = piece.take() else { return };
        self.voice.text_done(out, id, *at, done.len(), &piece);
        self.voice.part(out, "response.content_part.done", id, *at, done.len(), &piece);
        let mut written = Vec::with_capacity(piece.text.len() + 80);
        piece.write(&mut written);
        done.push(written);
    }

    fn cite(&mut self, citation: &Value, out: &mut Vec<u8>) {
        self.need_piece(false, out);
        self.flush_held(&[], out);
        let Open::Message { at, id, done, piece: Some(piece), .. } = &mut self.open else { return };
        let Some(annotation) = item::annotation(citation, &piece.text) else { return };
        self.voice.annotation(out, id, *at, done.len(), piece.annotations.len(), &annotation);
        piece.annotations.push(annotation);
    }

    fn think(&mut self, text: &str, signature: Option<&str>, redacted: Option<&str>, out: &mut Vec<u8>) {
        if !text.is_empty() {
            if !matches!(self.open, Open::Thought { .. }) {
                self.close_all(out);
                let id = self.ids.item("rs");
                let at = self.add(&item::reasoning(&id, "", None), out);
                self.voice.summary_added(out, &id, at);
                self.open = Open::Thought { at, id, text: String::new() };
            }
            if let Open::Thought { at, id, text: all } = &mut self.open {
                all.push_str(text);
                self.voice.summary_delta(out, id, *at, text);
            }
        }
        if let Some(signature) = signature {
            let proof = proof::write(&Proof::Signature(signature.to_owned()));
            match std::mem::replace(&mut self.open, Open::None) {
                Open::Thought { at, id, text } => self.thought_done(at, &id, &text, Some(&proof), out),
                other => {
                    self.open = other;
                    self.prove(&proof, out);
                }
            }
        }
        if let Some(data) = redacted {
            self.prove(&proof::write(&Proof::Redacted(data.to_owned())), out);
        }
    }

    /// A proof without any words.
    fn prove(&mut self, proof: &str, out: &mut Vec<u8>) {
        self.close_all(out);
        let id = self.ids.item("rs");
        self.at_once(item::reasoning(&id, "", Some(proof)), out);
    }

    fn thought_done(&mut self, at: usize, id: &str, text: &str, proof: Option<&str>, out: &mut Vec<u8>) {
        self.voice.summary_done(out, id, at, text);
        self.done(at, item::reasoning(id, text, proof), out);
    }

    fn call_start(&mut self, number: u32, call_id: &str, name: &str, kind: ToolKind, out: &mut Vec<u8>) {
        self.close_open(out);
        // Nothing tells that a call's arguments are complete, except that they are.
        let is_whole = |call: &OpenCall| {
            !call.wrapped
                && !call.item.custom
                && serde_json::from_str::<serde::de::IgnoredAny>(&call.item.arguments).is_ok()
        };
        let (whole, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.calls).into_iter().partition(is_whole);
        self.calls = open;
        whole.into_iter().for_each(|call| self.close_call(call, out));
        let offered = self.given.tool(name);
        let custom = kind == ToolKind::Custom || offered.custom;
        let item = Call {
            id: self.ids.item(if custom { "ctc" } else { "fc" }),
            call_id: call_id.to_owned(),
            name: offered.name.unwrap_or_else(|| name.to_owned()),
            namespace: offered.namespace,
            custom,
            arguments: String::new(),
        };
        let at = self.add(&item.write(Status::InProgress, ""), out);
        self.calls.push(OpenCall { at, number, item, wrapped: custom && kind != ToolKind::Custom });
    }

    fn call_delta(&mut self, number: u32, more: &str, out: &mut Vec<u8>) {
        let Some(call) = self.calls.iter_mut().find(|call| call.number == number) else { return };
        call.item.arguments.push_str(more);
        if !more.is_empty() && !call.wrapped {
            self.voice.arguments_delta(out, &call.item, call.at, more);
        }
    }

    fn close_call(&mut self, mut call: OpenCall, out: &mut Vec<u8>) {
        let arguments = &mut call.item.arguments;
        let late = if call.wrapped {
            *arguments = free_text(arguments);
            !arguments.is_empty()
        } else if arguments.is_empty() && !call.item.custom {
            arguments.push_str("{}");
            true
        } else {
            false
        };
        if late {
            self.voice.arguments_delta(out, &call.item, call.at, &call.item.arguments);
        }
        self.voice.arguments_done(out, &call.item, call.at);
        let item = call.item.write(self.item_status(), &call.item.arguments);
        self.done(call.at, item, out);
    }

    /// Ends the item under way that is no call.
    fn close_open(&mut self, out: &mut Vec<u8>) {
        self.close_piece(out);
        match std::mem::replace(&mut self.open, Open::None) {
            Open::None => {}
            Open::Thought { at, id, text } => self.thought_done(at, &id, &text, None, out),
            Open::Message { at, id, done, .. } => {
                let item = item::message(&id, self.item_status(), &done);
                self.done(at, item, out);
            }
        }
    }

    /// Ends everything under way.
    fn close_all(&mut self, out: &mut Vec<u8>) {
        self.close_open(out);
        for call in std::mem::take(&mut self.calls) {
            self.close_call(call, out);
        }
    }

    /// Why the response is not complete.
    fn incomplete(&self) -> Option<&'static str> {
        match self.finish.as_ref()?.reason {
            FinishReason::Length | FinishReason::ContextExceeded => Some("max_output_tokens"),
            FinishReason::ContentFilter if !self.refuses => Some("content_filter"),
            _ => None,
        }
    }

    fn item_status(&self) -> Status {
        if self.incomplete().is_some() { Status::Incomplete } else { Status::Completed }
    }

    fn status(&self) -> &'static str {
        if self.incomplete().is_some() { "incomplete" } else { "completed" }
    }

    /// The response object as far as it has come.
    fn response(&self, status: &str) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(self.given.echo.len() + self.output.iter().map(Vec::len).sum::<usize>() + 512);
        out.extend_from_slice(b"{\"id\":");
        write_text(&mut out, &self.id);
        out.extend_from_slice(b",\"object\":\"response\",\"created_at\":");
        out.extend_from_slice(self.created.to_string().as_bytes());
        out.extend_from_slice(b",\"status\":\"");
        out.extend_from_slice(status.as_bytes());
        out.extend_from_slice(b"\",\"completed_at\":");
        let done = if status == "completed" { translate::now().to_string() } else { "null".to_owned() };
        out.extend_from_slice(done.as_bytes());
        out.extend_from_slice(b",\"error\":null,\"incomplete_details\":");
        match self.incomplete().filter(|_| status == "incomplete") {
            Some(reason) => {
                out.extend_from_slice(b"{\"reason\":\"");
                out.extend_from_slice(reason.as_bytes());
                out.extend_from_slice(b"\"}");
            }
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"model\":");
        write_text(&mut out, &self.model);
        out.extend_from_slice(b",\"output\":[");
        let done: Vec<&[u8]> =
            self.output.iter().map(Vec::as_slice).filter(|item| !item.is_empty()).collect();
        out.extend_from_slice(&done.join(&b','));
        out.push(b']');
        if !self.given.echo.is_empty() {
            out.push(b',');
            out.extend_from_slice(self.given.echo.as_bytes());
        }
        out.extend_from_slice(b",\"usage\":");
        match &self.usage {
            Some(usage) if status != "in_progress" => write_usage(&mut out, usage),
            _ => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
        out
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.close_all(out);
        self.ended = true;
        let (status, name) = match self.incomplete() {
            Some(_) => ("incomplete", "response.incomplete"),
            None => ("completed", "response.completed"),
        };
        let response = self.response(status);
        self.voice.say(out, name, |out| {
            out.extend_from_slice(b",\"response\":");
            out.extend_from_slice(&response);
        });
        self.keep(&response);
    }
}

impl StreamEncoder for ResponseEncoder {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start { model, .. } => {
                if !model.is_empty() {
                    self.model.clone_from(model);
                }
                self.begin(out);
            }
            Event::Text { choice: 0, text } => self.text(text, false, out),
            Event::Refusal { choice: 0, text } => {
                self.refuses = true;
                self.text(text, true, out);
            }
            Event::Thinking { choice: 0, text, signature, redacted } => {
                self.think(text, signature.as_deref(), redacted.as_deref(), out);
            }
            Event::ToolCallStart { choice: 0, call, id, name, kind, signature }
                if *kind != ToolKind::Server =>
            {
                if let Some(signature) = signature {
                    let proof = Proof::Call { id: id.clone(), signature: signature.clone() };
                    self.prove(&proof::write(&proof), out);
                }
                self.call_start(*call, id, name, *kind, out);
            }
            Event::ToolCallDelta { choice: 0, call, arguments } => self.call_delta(*call, arguments, out),
            Event::Citation { choice: 0, value } => self.cite(value, out),
            Event::Logprobs { choice: 0, value } => {
                let tokens = value.get("content").and_then(Value::as_array);
                self.flush_held(tokens.map(Vec::as_slice).unwrap_or_default(), out);
            }
            Event::Foreign { choice: 0, value } => {
                self.prove(&proof::write(&Proof::Part(value.clone())), out);
            }
            Event::Other { choice: Some(0), fields } => {
                let images = fields.get("images").and_then(item::pictures).unwrap_or_default();
                for (format, base64) in images {
                    self.close_all(out);
                    let id = self.ids.item("ig");
                    self.at_once(item::picture(&id, format, base64), out);
                }
            }
            Event::Finish { choice: 0, finish } => self.finish = Some(finish.clone()),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.end(out),
            // Other choices and what only other dialects know have no place here.
            _ => {}
        }
    }

    fn fault(&mut self, fault: &Fault) -> Bytes {
        self.ended = true;
        let response = serde_json::from_slice(&self.response("in_progress")).unwrap_or_default();
        let events = failed_events(fault, self.voice.next(), response);
        // The failure itself is the second of them.
        self.voice.next();
        events
    }
}

/// Usage in this dialect's classes: input includes what was read from and written to the cache.
fn write_usage(out: &mut Vec<u8>, usage: &Usage) {
    let usage = serde_json::json!({
        "input_tokens": usage.prompt(),
        "input_tokens_details": { "cached_tokens": usage.cached_read, "cache_write_tokens": usage.cache_write },
        "output_tokens": usage.output,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
        "total_tokens": usage.total(),
    });
    // Writing to a `Vec` cannot fail.
    let _ = serde_json::to_writer(out, &usage);
}

#[cfg(test)]
mod tests;

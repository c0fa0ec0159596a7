//! The events of a response's stream, each with its number, written without building values: there are so many.

use serde_json::Value;

use super::super::item::{Call, Piece, write_list};
use crate::json::write_text;

/// Says events one after the other.
#[derive(Debug, Default)]
pub(super) struct Voice {
    sequence: u64,
    /// Nobody listens: the response is wanted as a whole.
    pub(super) silent: bool,
}

impl Voice {
    /// The number of the next event.
    pub(super) fn next(&mut self) -> u64 {
        let next = self.sequence;
        self.sequence += 1;
        next
    }

    /// The event of this number was said by another.
    pub(super) fn go_on_after(&mut self, number: u64) {
        self.sequence = self.sequence.max(number.saturating_add(1));
    }

    /// One event; `fields` adds its own, each with a comma before it.
    pub(super) fn say(&mut self, out: &mut Vec<u8>, name: &str, fields: impl FnOnce(&mut Vec<u8>)) {
        if self.silent {
            return;
        }
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\ndata: {\"type\":\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\",\"sequence_number\":");
        write_number(out, self.next());
        fields(out);
        out.extend_from_slice(b"}\n\n");
    }

    /// An item that begins or is done.
    pub(super) fn item(&mut self, out: &mut Vec<u8>, name: &str, at: usize, item: &[u8]) {
        self.say(out, name, |out| {
            out.extend_from_slice(b",\"output_index\":");
            write_number(out, at as u64);
            out.extend_from_slice(b",\"item\":");
            out.extend_from_slice(item);
        });
    }

    /// A piece of a message that begins or is done.
    pub(super) fn part(
        &mut self,
        out: &mut Vec<u8>,
        name: &str,
        id: &str,
        at: usize,
        place: usize,
        piece: &Piece,
    ) {
        self.say(out, name, |out| {
            write_place(out, id, at, Some(("content_index", place)));
            out.extend_from_slice(b",\"part\":");
            piece.write(out);
        });
    }

    /// More text of a piece.
    #[allow(clippy::too_many_arguments, reason = "the fields of the event")]
    pub(super) fn text_delta(
        &mut self,
        out: &mut Vec<u8>,
        refusal: bool,
        id: &str,
        at: usize,
        place: usize,
        text: &str,
        logprobs: &[Value],
    ) {
        let name = if refusal { "response.refusal.delta" } else { "response.output_text.delta" };
        self.say(out, name, |out| {
            write_place(out, id, at, Some(("content_index", place)));
            write_field(out, "delta", text);
            if !refusal {
                out.extend_from_slice(b",\"logprobs\":");
                write_list(out, logprobs);
            }
        });
    }

    /// A piece's whole text.
    pub(super) fn text_done(&mut self, out: &mut Vec<u8>, id: &str, at: usize, place: usize, piece: &Piece) {
        let (name, key) = if piece.refusal {
            ("response.refusal.done", "refusal")
        } else {
            ("response.output_text.done", "text")
        };
        self.say(out, name, |out| {
            write_place(out, id, at, Some(("content_index", place)));
            write_field(out, key, &piece.text);
            if !piece.refusal {
                out.extend_from_slice(b",\"logprobs\":");
                write_list(out, &piece.logprobs);
            }
        });
    }

    /// A citation.
    pub(super) fn annotation(
        &mut self,
        out: &mut Vec<u8>,
        id: &str,
        at: usize,
        place: usize,
        number: usize,
        annotation: &Value,
    ) {
        self.say(out, "response.output_text.annotation.added", |out| {
            write_place(out, id, at, Some(("content_index", place)));
            out.extend_from_slice(b",\"annotation_index\":");
            write_number(out, number as u64);
            out.extend_from_slice(b",\"annotation\":");
            out.extend_from_slice(annotation.to_string().as_bytes());
        });
    }

    /// A thought begins.
    pub(super) fn summary_added(&mut self, out: &mut Vec<u8>, id: &str, at: usize) {
        self.say(out, "response.reasoning_summary_part.added", |out| {
            write_place(out, id, at, Some(("summary_index", 0)));
            out.extend_from_slice(b",\"part\":{\"type\":\"summary_text\",\"text\":\"\"}");
        });
    }

    /// More of a thought.
    pub(super) fn summary_delta(&mut self, out: &mut Vec<u8>, id: &str, at: usize, text: &str) {
        self.say(out, "response.reasoning_summary_text.delta", |out| {
            write_place(out, id, at, Some(("summary_index", 0)));
            write_field(out, "delta", text);
        });
    }

    /// A whole thought.
    pub(super) fn summary_done(&mut self, out: &mut Vec<u8>, id: &str, at: usize, text: &str) {
        self.say(out, "response.reasoning_summary_text.done", |out| {
            write_place(out, id, at, Some(("summary_index", 0)));
            write_field(out, "text", text);
        });
        self.say(out, "response.reasoning_summary_part.done", |out| {
            write_place(out, id, at, Some(("summary_index", 0)));
            out.extend_from_slice(b",\"part\":{\"type\":\"summary_text\"");
            write_field(out, "text", text);
            out.push(b'}');
        });
    }

    /// More of a call's arguments.
    pub(super) fn arguments_delta(&mut self, out: &mut Vec<u8>, call: &Call, at: usize, more: &str) {
        let name = if call.custom {
            "response.custom_tool_call_input.delta"
        } else {
            "response.function_call_arguments.delta"
        };
        self.say(out, name, |out| {
            write_place(out, &call.id, at, None);
            write_field(out, "delta", more);
        });
    }

    /// A call's whole arguments.
    pub(super) fn arguments_done(&mut self, out: &mut Vec<u8>, call: &Call, at: usize) {
        let (name, key) = if call.custom {
            ("response.custom_tool_call_input.done", "input")
        } else {
            ("response.function_call_arguments.done", "arguments")
        };
        self.say(out, name, |out| {
            write_place(out, &call.id, at, None);
            if !call.custom {
                write_field(out, "name", &call.name);
            }
            write_field(out, key, &call.arguments);
        });
    }
}

/// The item that an event belongs to, and the place in it.
fn write_place(out: &mut Vec<u8>, id: &str, at: usize, inner: Option<(&str, usize)>) {
    write_field(out, "item_id", id);
    out.extend_from_slice(b",\"output_index\":");
    write_number(out, at as u64);
    if let Some((key, place)) = inner {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        write_number(out, place as u64);
    }
}

fn write_field(out: &mut Vec<u8>, key: &str, text: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    write_text(out, text);
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    use std::io::Write as _;
    // Writing to a `Vec` cannot fail.
    let _ = write!(out, "{number}");
}

//! The items of a response as JSON text, and what stands in them.

use serde_json::{Value, json};

use crate::json::write_text;

/// Where an item stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Under way.
    InProgress,
    /// Said to its end.
    Completed,
    /// Broken off by a limit or a filter.
    Incomplete,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// A piece of a message: text, or a refusal.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) refusal: bool,
    pub(super) text: String,
    pub(super) annotations: Vec<Value>,
    pub(super) logprobs: Vec<Value>,
}

impl Piece {
    /// As it stands in its message.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.refusal {
            out.extend_from_slice(b"{\"type\":\"refusal\",\"refusal\":");
            write_text(out, &self.text);
        } else {
            out.extend_from_slice(b"{\"type\":\"output_text\",\"annotations\":");
            write_list(out, &self.annotations);
            out.extend_from_slice(b",\"logprobs\":");
            write_list(out, &self.logprobs);
            out.extend_from_slice(b",\"text\":");
            write_text(out, &self.text);
        }
        out.push(b'}');
    }
}

/// A JSON array of values.
pub(super) fn write_list(out: &mut Vec<u8>, values: &[Value]) {
    // Writing to a `Vec` cannot fail.
    let _ = serde_json::to_writer(out, values);
}

/// A message, with pieces that are written already.
pub(super) fn message(id: &str, status: Status, pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut out = open(id, "message", Some(status));
    out.extend_from_slice(b",\"role\":\"assistant\",\"content\":[");
    out.extend_from_slice(&pieces.join(&b','));
    out.extend_from_slice(b"]}");
    out
}

/// A thought, and the proof that goes with it.
pub(super) fn reasoning(id: &str, text: &str, proof: Option<&str>) -> Vec<u8> {
    let mut out = open(id, "reasoning", None);
    out.extend_from_slice(b",\"summary\":[");
    if !text.is_empty() {
        out.extend_from_slice(b"{\"type\":\"summary_text\",\"text\":");
        write_text(&mut out, text);
        out.push(b'}');
    }
    out.push(b']');
    if let Some(proof) = proof {
        out.extend_from_slice(b",\"encrypted_content\":");
        write_text(&mut out, proof);
    }
    out.push(b'}');
    out
}

/// The pictures of an answer, in the form that OpenAI's imitators have for them: base64 and what it encodes. Those that
/// stand at an address are none.
pub(super) fn pictures(images: &Value) -> Option<Vec<(&str, &str)>> {
    fn read(image: &Value) -> Option<(&str, &str)> {
        let url = image.pointer("/image_url/url")?.as_str()?;
        url.strip_prefix("data:image/")?.split_once(";base64,")
    }
    images.as_array()?.iter().map(read).collect()
}

/// A picture that the model has painted.
pub(super) fn picture(id: &str, format: &str, base64: &str) -> Vec<u8> {
    let mut out = open(id, "image_generation_call", Some(Status::Completed));
    out.extend_from_slice(b",\"output_format\":");
    write_text(&mut out, format);
    out.extend_from_slice(b",\"result\":");
    write_text(&mut out, base64);
    out.push(b'}');
    out
}

/// A painted picture as what a user shows, which is how the next model can look at it; `None` for one that is not there.
pub(super) fn shown(item: &crate::chat::Object) -> Option<String> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (format, base64) = (text("output_format").unwrap_or("png"), text("result")?);
    Some(format!("data:image/{format};base64,{base64}"))
}

/// A call of a tool of the client's.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) call_id: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// Takes free text.
    pub(super) custom: bool,
    pub(super) arguments: String,
}

impl Call {
    /// As it stands in the output; `arguments` are empty until they are complete.
    pub(super) fn write(&self, status: Status, arguments: &str) -> Vec<u8> {
        let (kind, key): (_, &[u8]) = if self.custom {
            ("custom_tool_call", b",\"input\":")
        } else {
            ("function_call", b",\"arguments\":")
        };
        let mut out = open(&self.id, kind, Some(status));
        out.extend_from_slice(b",\"call_id\":");
        write_text(&mut out, &self.call_id);
        out.extend_from_slice(b",\"name\":");
        write_text(&mut out, &self.name);
        if let Some(namespace) = &self.namespace {
            out.extend_from_slice(b",\"namespace\":");
            write_text(&mut out, namespace);
        }
        out.extend_from_slice(key);
        write_text(&mut out, arguments);
        out.push(b'}');
        out
    }
}

fn open(id: &str, kind: &str, status: Option<Status>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"id\":");
    write_text(&mut out, id);
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    if let Some(status) = status {
        out.extend_from_slice(b",\"status\":\"");
        out.extend_from_slice(status.word().as_bytes());
        out.push(b'"');
    }
    out
}

/// Annotations that clients know; strict ones give up the whole answer for others.
const ANNOTATIONS: [&str; 4] = ["url_citation", "file_citation", "container_file_citation", "file_path"];

/// A citation in this dialect's form; `text` is what was said so far.
pub(super) fn annotation(citation: &Value, text: &str) -> Option<Value> {
    let kind = citation.get("type").and_then(Value::as_str).unwrap_or_default();
    if !ANNOTATIONS.contains(&kind) && !kind.ends_with("_location") {
        return None;
    }
    if let Some(Value::Object(inner)) = citation.get(kind) {
        // OpenAI's chat has its fields one level deeper.
        let mut flat = crate::chat::Object::new();
        flat.insert("type".into(), kind.into());
        flat.extend(inner.clone());
        if kind == "url_citation" {
            // Where nobody says to what it belongs, to all that was said. OpenAI's clients count on both.
            flat.entry("start_index").or_insert_with(|| 0.into());
            flat.entry("end_index").or_insert_with(|| text.chars().count().into());
            if !flat.get("title").is_some_and(Value::is_string) {
                flat.insert("title".into(), "".into());
            }
        }
        return Some(Value::Object(flat));
    }
    if !kind.ends_with("_location") {
        return Some(citation.clone());
    }
    // Anthropic's: they stand behind the text that they belong to, and count in the source, not in the answer.
    let at = text.chars().count();
    let field = |key: &str| citation.get(key).and_then(Value::as_str);
    let cited = field("cited_text").unwrap_or_default();
    if let Some(url) = field("url").or_else(|| field("source")) {
        let title = field("title").unwrap_or_default();
        return Some(json!({
            "type": "url_citation", "start_index": at, "end_index": at, "url": url, "title": title,
            "cited_text": cited,
        }));
    }
    let document = citation.get("document_index").and_then(Value::as_u64).unwrap_or_default();
    let file = field("file_id").map_or_else(|| format!("document_{document}"), str::to_owned);
    let name = field("document_title").unwrap_or(&file).to_owned();
    Some(json!({
        "type": "file_citation", "file_id": file, "filename": name, "index": at, "cited_text": cited,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citations_of_every_provider_are_told_in_openais_form() {
        for (citation, expected) in [
            (
                json!({"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 1, "end_index": 2}}),
                json!({"type": "url_citation", "url": "u", "title": "t", "start_index": 1, "end_index": 2}),
            ),
            (
                json!({"type": "url_citation", "url_citation": {"url": "u", "title": "t"}}),
                json!({"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 2}),
            ),
            (
                json!({"type": "url_citation", "url": "u", "start_index": 1}),
                json!({"type": "url_citation", "url": "u", "start_index": 1}),
            ),
            (
                json!({"type": "web_search_result_location", "url": "u", "title": null, "cited_text": "c"}),
                json!({"type": "url_citation", "url": "u", "title": "", "start_index": 2, "end_index": 2, "cited_text": "c"}),
            ),
            (
                json!({"type": "page_location", "document_index": 1, "document_title": "D", "cited_text": "c"}),
                json!({"type": "file_citation", "file_id": "document_1", "filename": "D", "index": 2, "cited_text": "c"}),
            ),
        ] {
            assert_eq!(annotation(&citation, "dé"), Some(expected));
        }
        assert_eq!(annotation(&json!({}), ""), None);
        assert_eq!(annotation(&json!({"type": "file", "file": {"hash": "h"}}), ""), None);
    }
}

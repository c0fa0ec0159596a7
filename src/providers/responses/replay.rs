//! A whole response where a stream was asked for, as the stream that says the same.

use serde_json::{Value, json};

use super::whole;
use crate::chat::Object;
use crate::fault::Fault;
use crate::frames::sse_named;
use crate::providers::openai;

/// The stream, from `response.created` to its end.
pub(super) fn as_stream(body: &[u8], now_ms: u64) -> Result<Vec<u8>, Fault> {
    let text = String::from_utf8_lossy(body);
    if whole::read(&text, now_ms)?.finish().is_none() {
        return Err(openai::fault::malformed("the provider answers in the background"));
    }
    let Ok(Value::Object(response)) = serde_json::from_str::<Value>(&text) else {
        return Err(whole::no_response(&text, now_ms));
    };
    let mut writer = Writer { out: Vec::with_capacity(body.len() * 3), number: 0 };
    let mut begun = response.clone();
    begun.insert("status".into(), "in_progress".into());
    begun.insert("output".into(), json!([]));
    begun.insert("usage".into(), Value::Null);
    for kind in ["response.created", "response.in_progress"] {
        writer.event(kind, [("response", Value::Object(begun.clone()))]);
    }
    for (at, item) in response.get("output").and_then(Value::as_array).into_iter().flatten().enumerate() {
        writer.item(at, item);
    }
    let incomplete = response.get("status").is_some_and(|status| status == "incomplete");
    let kind = if incomplete { "response.incomplete" } else { "response.completed" };
    writer.event(kind, [("response", Value::Object(response))]);
    Ok(writer.out)
}

struct Writer {
    out: Vec<u8>,
    number: u64,
}

impl Writer {
    fn event<const N: usize>(&mut self, kind: &str, fields: [(&str, Value); N]) {
        let mut event = Object::new();
        event.insert("type".into(), kind.into());
        event.insert("sequence_number".into(), self.number.into());
        event.extend(fields.into_iter().map(|(key, value)| (key.to_owned(), value)));
        self.number += 1;
        sse_named(&mut self.out, kind, Value::Object(event).to_string().as_bytes());
    }

    fn item(&mut self, at: usize, item: &Value) {
        let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
        let mut begun = item.clone();
        let emptied: &[(&str, Value)] = match kind {
            "message" => &[("content", json!([]))],
            "reasoning" => &[("summary", json!([]))],
            "function_call" => &[("arguments", json!(""))],
            "custom_tool_call" => &[("input", json!(""))],
            _ => &[],
        };
        if let Some(begun) = begun.as_object_mut() {
            begun.extend(emptied.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
            if begun.contains_key("status") {
                begun.insert("status".into(), "in_progress".into());
            }
        }
        self.event("response.output_item.added", [("output_index", at.into()), ("item", begun)]);
        let id = item.get("id").cloned().unwrap_or_default();
        let of = |key: &str| item.get(key).cloned().unwrap_or_default();
        match kind {
            "message" => self.parts(at, &id, item, "content", "content_index", "response.content_part"),
            "reasoning" => {
                self.parts(at, &id, item, "summary", "summary_index", "response.reasoning_summary_part");
            }
            "function_call" => {
                self.text(at, &id, None, "response.function_call_arguments", "arguments", of("arguments"));
            }
            "custom_tool_call" => {
                self.text(at, &id, None, "response.custom_tool_call_input", "input", of("input"));
            }
            _ => {}
        }
        self.event("response.output_item.done", [("output_index", at.into()), ("item", item.clone())]);
    }

    fn parts(&mut self, at: usize, id: &Value, item: &Value, list: &str, index: &str, event: &str) {
        for (place, part) in item.get(list).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let (event_of_text, key) = match part.get("type").and_then(Value::as_str) {
                Some("output_text") => ("response.output_text", "text"),
                Some("refusal") => ("response.refusal", "refusal"),
                Some("summary_text") => ("response.reasoning_summary_text", "text"),
                _ => continue,
            };
            let mut empty = part.clone();
            if let Some(text) = empty.get_mut(key) {
                *text = "".into();
            }
            let about = |part: Value| {
                [("item_id", id.clone()), ("output_index", at.into()), (index, place.into()), ("part", part)]
            };
            self.event(&format!("{event}.added"), about(empty));
            let text = part.get(key).cloned().unwrap_or_default();
            self.text(at, id, Some((index, place)), event_of_text, key, text);
            self.event(&format!("{event}.done"), about(part.clone()));
        }
    }

    /// A text in one delta, and the event that repeats it.
    fn text(
        &mut self,
        at: usize,
        id: &Value,
        place: Option<(&str, usize)>,
        event: &str,
        key: &str,
        text: Value,
    ) {
        for (ending, key) in [("delta", "delta"), ("done", key)] {
            let kind = format!("{event}.{ending}");
            let about = [("item_id", id.clone()), ("output_index", at.into()), (key, text.clone())];
            match place {
                Some((index, place)) => {
                    let [id, at, text] = about;
                    self.event(&kind, [id, at, (index, place.into()), text]);
                }
                None => self.event(&kind, about),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    #[test]
    fn a_response_under_way_is_no_complete_stream() {
        let response =
            |status: &str| json!({"object": "response", "status": status, "output": []}).to_string();
        for status in ["queued", "in_progress"] {
            assert_eq!(as_stream(response(status).as_bytes(), 0).unwrap_err().kind, FaultKind::Malformed);
        }
        let stream = String::from_utf8(as_stream(response("completed").as_bytes(), 0).unwrap()).unwrap();
        assert!(stream.contains("event: response.completed\n"), "{stream}");
    }
}

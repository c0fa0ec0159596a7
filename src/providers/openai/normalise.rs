//! Messages and deltas of deviating vendors brought to OpenAI's form, in place, so that unknown fields survive.

use serde_json::Value;

use crate::chat::Object;
use crate::providers::call_id::letters;

/// What vendors and OpenAI agree on inside messages and stream deltas: text where some send lists, thinking in
/// `reasoning_content` wherever it came from, no empty list of tool calls.
pub(super) fn message(message: &mut Object) {
    if let Some(Value::Array(_)) = message.get("content") {
        join_parts(message);
    }
    if let Some(Value::String(thought)) = message.get("reasoning")
        && !message.get("reasoning_content").is_some_and(Value::is_string)
    {
        let thought = Value::String(thought.clone());
        message.insert("reasoning_content".into(), thought);
    }
    let no_calls = match message.get("tool_calls") {
        Some(Value::Array(calls)) => calls.is_empty(),
        Some(Value::Null) => true,
        _ => false,
    };
    if no_calls {
        message.shift_remove("tool_calls");
    }
}

/// A tool call of a whole answer.
pub(super) fn whole_call(call: &mut Object, id: impl FnOnce() -> String) {
    if call.get("id").and_then(Value::as_str).is_none_or(str::is_empty) {
        call.insert("id".into(), Value::String(id()));
    }
    kind(call);
    if let Some(Value::Object(function)) = call.get_mut("function") {
        arguments(function, "{}");
    }
}

/// Fills in what kind of tool is called.
pub(super) fn kind(call: &mut Object) {
    if call.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
        let kind = if call.contains_key("custom") { "custom" } else { "function" };
        call.insert("type".into(), kind.into());
    }
}

/// Makes the arguments of a function call a text; `nothing` stands for those that are not there.
pub(super) fn arguments(function: &mut Object, nothing: &str) {
    let text = match function.get("arguments") {
        Some(Value::String(text)) if !text.is_empty() => return,
        None | Some(Value::Null | Value::String(_)) => nothing.to_owned(),
        Some(other) => other.to_string(),
    };
    function.insert("arguments".into(), Value::String(text));
}

/// An id for an answer that has none.
pub(super) fn answer_id(body: &[u8], now_ms: u64) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(&now_ms.to_le_bytes());
    hash.update(body);
    format!("chatcmpl-{}", letters(&hash.finalize(), 24))
}

/// A tool-call id of exactly `length` letters and digits that stands for `id`, always the same.
pub(in crate::providers) fn shortened_id(id: &str, length: usize) -> String {
    if id.len() == length && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    letters(&blake3::hash(id.as_bytes()), length)
}

/// Mistral's lists of `{type: text}` and `{type: thinking}` parts:
/// <https://docs.mistral.ai/capabilities/reasoning/>
fn join_parts(message: &mut Object) {
    let Some(Value::Array(parts)) = message.get_mut("content").map(Value::take) else { return };
    let (mut text, mut thought, mut others) = (String::new(), String::new(), Vec::new());
    for part in parts {
        match (part.get("type").and_then(Value::as_str), &part) {
            (_, Value::String(plain)) => text.push_str(plain),
            (Some("thinking" | "reasoning"), _) => {
                let inner = part.get("thinking").or_else(|| part.get("text")).or_else(|| part.get("content"));
                push_text(inner, &mut thought);
            }
            (Some("text" | "output_text") | None, _) if part.get("text").is_some() => {
                push_text(part.get("text"), &mut text);
            }
            (Some("refusal"), _) if part.get("refusal").is_some_and(Value::is_string) => {
                message.insert("refusal".into(), part.get("refusal").cloned().unwrap_or_default());
            }
            _ => others.push(part),
        }
    }
    message.insert("content".into(), Value::String(text));
    if !thought.is_empty() {
        message.insert("reasoning_content".into(), Value::String(thought));
    }
    if !others.is_empty() {
        message.insert("content_parts".into(), Value::Array(others));
    }
}

fn push_text(value: Option<&Value>, out: &mut String) {
    match value {
        Some(Value::String(text)) => out.push_str(text),
        Some(Value::Array(parts)) => {
            parts.iter().for_each(|part| push_text(Some(part.get("text").unwrap_or(part)), out));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deviating_messages_become_openais() {
        for (input, expected) in [
            (
                json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                                   {"type": "text", "text": "c"}, {"type": "text", "text": "d"}]}),
                json!({"content": "cd", "reasoning_content": "ab"}),
            ),
            (json!({"content": []}), json!({"content": ""})),
            (
                json!({"content": [{"type": "text", "text": "a"}, {"type": "reference", "reference_ids": [1]}]}),
                json!({"content": "a", "content_parts": [{"type": "reference", "reference_ids": [1]}]}),
            ),
            (json!({"reasoning": "r", "x": 1}), json!({"reasoning": "r", "x": 1, "reasoning_content": "r"})),
            (
                json!({"reasoning": "r", "reasoning_content": "own"}),
                json!({"reasoning": "r", "reasoning_content": "own"}),
            ),
            (json!({"content": "a", "tool_calls": []}), json!({"content": "a"})),
            (json!({"content": "a", "tool_calls": null}), json!({"content": "a"})),
        ] {
            let mut object = input.as_object().unwrap().clone();
            message(&mut object);
            assert_eq!(Value::Object(object), expected, "{input}");
        }
    }

    #[test]
    fn a_call_gets_what_it_lacks() {
        for (input, expected) in [
            (
                json!({"function": {"name": "f", "arguments": {"a": 1}}}),
                json!({"function": {"name": "f", "arguments": "{\"a\":1}"}, "id": "new", "type": "function"}),
            ),
            (
                json!({"id": "", "type": null, "function": {"name": "f", "arguments": null}}),
                json!({"id": "new", "type": "function", "function": {"name": "f", "arguments": "{}"}}),
            ),
            (
                json!({"id": "x", "function": {"name": "f"}}),
                json!({"id": "x", "function": {"name": "f", "arguments": "{}"}, "type": "function"}),
            ),
            (
                json!({"id": "x", "custom": {"name": "f", "input": "i"}}),
                json!({"id": "x", "custom": {"name": "f", "input": "i"}, "type": "custom"}),
            ),
        ] {
            let mut call = input.as_object().unwrap().clone();
            whole_call(&mut call, || "new".into());
            assert_eq!(Value::Object(call), expected, "{input}");
        }
    }

    #[test]
    fn invented_ids_are_stable_and_differ_by_place() {
        let id = |place| crate::providers::call_id::invent("answer", 0, place, "f");
        assert_eq!(id(0), id(0));
        assert_ne!(id(0), id(1));
        assert_eq!(id(0).len(), "call_".len() + 24);
        assert_eq!(shortened_id("abcDEF123", 9), "abcDEF123");
        assert_eq!(shortened_id("call_0123456789", 9).len(), 9);
    }
}

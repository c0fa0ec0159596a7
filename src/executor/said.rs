//! What a whole answer says, read from its body in any client dialect; and answers that say the same.

use serde_json::{Map, Value};

use crate::json;

/// The texts of an answer, in the order in which they stand; `None` where the body is no answer of words.
pub(super) fn said(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text =
        openai(&body).or_else(|| responses(&body)).or_else(|| gemini(&body)).or_else(|| anthropic(&body))?;
    (!text.trim().is_empty()).then_some(text)
}

/// Fields of an answer in which a model's words stand, whatever the dialect.
const WORDS: [&str; 7] =
    ["text", "content", "refusal", "thinking", "reasoning", "reasoning_content", "arguments"];

/// Fields in which arguments of tools stand as objects.
const ARGUMENTS: [&str; 2] = ["input", "args"];

/// Fields that say again what stands elsewhere, or what others wrote.
const BESIDE: [&str; 4] = ["annotations", "logprobs", "results", "reasoning_details"];

/// Fields of an answer of words in which its choices stand, with their quotes, whatever the dialect.
const MADE: [&str; 4] = ["\"choices\"", "\"output\"", "\"candidates\"", "\"content\""];

/// Bytes of all that a model wrote of an answer, thoughts and arguments of tools among them; `None` where the body is no
/// answer of words.
pub(super) fn written(body: &[u8]) -> Option<u64> {
    Some(words(&json::parse(made(body)?.as_bytes())?))
}

/// The list of an answer's choices as JSON text. Nothing else is read: an answer of vectors has millions of numbers.
fn made(body: &[u8]) -> Option<&str> {
    let has = |name: &&str| memchr::memmem::find(body, name.as_bytes()).is_some();
    if !MADE.iter().any(has) {
        return None;
    }
    let place = |key: &str| MADE.iter().position(|name| name.trim_matches('"') == key);
    let lists = json::entries(std::str::from_utf8(body).ok()?)
        .filter(|(_, value)| value.starts_with('['))
        .filter_map(|(key, value)| Some((place(&key)?, value)));
    lists.min_by_key(|(place, _)| *place).map(|(_, value)| value)
}

fn words(made: &Value) -> u64 {
    match made {
        Value::Array(items) => items.iter().map(words).sum(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !BESIDE.contains(&name.as_str()))
            .map(|(name, value)| match value {
                Value::String(text) if WORDS.contains(&name.as_str()) => text.len() as u64,
                Value::Object(_) if ARGUMENTS.contains(&name.as_str()) => value.to_string().len() as u64,
                value => words(value),
            })
            .sum(),
        _ => 0,
    }
}

fn openai(body: &Value) -> Option<String> {
    let choice = body.get("choices")?.get(0)?;
    let content =
        choice.get("message").and_then(|message| message.get("content")).or_else(|| choice.get("text"))?;
    match content {
        Value::String(text) => Some(text.clone()),
        parts => Some(texts(parts.as_array()?)),
    }
}

fn responses(body: &Value) -> Option<String> {
    let items = body.get("output")?.as_array()?.iter();
    Some(items.filter_map(|item| item.get("content")?.as_array()).map(|parts| texts(parts)).collect())
}

fn gemini(body: &Value) -> Option<String> {
    let parts = body.get("candidates")?.get(0)?.get("content")?.get("parts")?.as_array()?;
    let thought = |part: &&Value| part.get("thought").and_then(Value::as_bool) == Some(true);
    let spoken: Vec<Value> = parts.iter().filter(|part| !thought(part)).cloned().collect();
    Some(texts(&spoken))
}

fn anthropic(body: &Value) -> Option<String> {
    Some(texts(body.get("content")?.as_array()?))
}

fn texts(parts: &[Value]) -> String {
    parts.iter().filter_map(|part| part.get("text")?.as_str()).collect()
}

/// What an answer comes to, so that two that say the same are equal: JSON by its value, also within a block of code;
/// other texts without case, space, emphasis and punctuation at their ends.
pub(super) fn normal(text: &str) -> String {
    let text = unfenced(text.trim());
    if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str::<Value>(text) {
        return ordered(value).to_string();
    }
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let text = words.join(" ");
    let bare = text.trim_matches(|c: char| !c.is_alphanumeric() && !"%$€£+-".contains(c));
    let bare = bare.strip_suffix(['.', '!']).unwrap_or(bare);
    if bare.is_empty() { text.clone() } else { bare.to_owned() }
}

/// The inside of a block of code that is all there is.
fn unfenced(text: &str) -> &str {
    let inside = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    inside.and_then(|inside| inside.split_once('\n')).map_or(text, |(_, inside)| inside.trim())
}

/// Fields in the order of their names, and whole numbers as such.
fn ordered(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(
                fields.into_iter().map(|(name, value)| (name, ordered(value))).collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(ordered).collect()),
        Value::Number(number) => match number.as_f64() {
            #[allow(clippy::cast_possible_truncation, reason = "checked: it is whole and small")]
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 9e15 => Value::from(whole as i64),
            _ => Value::Number(number),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_read_in_every_dialect() {
        for body in [
            json!({ "choices": [{ "message": { "content": "yes" } }] }),
            json!({ "choices": [{ "message": { "content": [{ "type": "text", "text": "yes" }] } }] }),
            json!({ "choices": [{ "text": "yes" }] }),
            json!({ "content": [{ "type": "thinking", "thinking": "hm" }, { "type": "text", "text": "yes" }] }),
            json!({ "candidates": [{ "content": { "parts": [{ "thought": true, "text": "hm" }, { "text": "yes" }] } }] }),
            json!({ "output": [{ "type": "reasoning" }, { "content": [{ "type": "output_text", "text": "yes" }] }] }),
        ] {
            assert_eq!(said(body.to_string().as_bytes()).as_deref(), Some("yes"), "{body}");
        }
        for body in [json!({ "choices": [{ "message": { "content": null } }] }), json!([1]), json!({})] {
            assert_eq!(said(body.to_string().as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn all_that_was_written_is_counted_once_in_every_dialect() {
        for (body, expected) in [
            (
                json!({ "id": "c", "choices": [
                    { "message": { "role": "assistant", "content": "abc", "reasoning_content": "hm" },
                        "logprobs": { "content": [{ "token": "abc" }] } },
                    { "message": { "content": null, "tool_calls": [{ "id": "call_1", "function": { "name": "f", "arguments": "{}" } }] } },
                ] }),
                Some(7),
            ),
            (json!({ "choices": [{ "text": "abcd" }] }), Some(4)),
            (
                json!({ "type": "message", "content": [{ "type": "thinking", "thinking": "hm", "signature": "xxxx" },
                    { "type": "text", "text": "abc" }, { "type": "tool_use", "id": "t", "input": { "a": 1 } }] }),
                Some(12),
            ),
            (
                json!({ "candidates": [{ "content": { "role": "model", "parts": [{ "text": "abc" }, { "functionCall": { "name": "f", "args": { "a": 1 } } }] } }] }),
                Some(10),
            ),
            (
                json!({ "output": [{ "type": "reasoning", "summary": [{ "text": "hm" }], "encrypted_content": "xx" },
                    { "content": [{ "type": "output_text", "text": "abc", "annotations": [{ "content": "theirs" }] }] }] }),
                Some(5),
            ),
            (json!({ "choices": [] }), Some(0)),
            (json!({ "results": [{ "text": "a document" }] }), None),
            (json!({ "data": [{ "embedding": [1] }] }), None),
            (json!(1), None),
        ] {
            assert_eq!(written(body.to_string().as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn only_the_words_of_an_answer_are_read() {
        let vectors = format!("[{}0]", "[0.1,0.2],".repeat(1_000));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (body, expected) in [
            (format!(r#"{{"data":{vectors},"usage":{{"total_tokens":0}}}}"#), None),
            (format!(r#"{{"data":{deep},"model":"content"}}"#), None),
            (format!(r#"{{"data":{deep},"content":"no list"}}"#), None),
            (
                format!(r#"{{"details":{deep}, "choices" : [{{"text":"abcd"}}] }}"#),
                Some(r#"[{"text":"abcd"}]"#),
            ),
            (r#"{"content":[1],"choices":null,"output":[2]}"#.to_owned(), Some("[2]")),
        ] {
            assert_eq!(made(body.as_bytes()), expected, "{body}");
        }
        let body = format!(r#"{{"details":{deep},"choices":[{{"text":"abcd"}}]}}"#);
        assert_eq!(written(body.as_bytes()), Some(4), "what stands beside them may be of any form");
    }

    #[test]
    fn what_says_the_same_is_equal() {
        for (one, other, same) in [
            ("Paris", " paris. ", true),
            ("**Paris**", "Paris!", true),
            ("New  York", "new york", true),
            ("-5", "5", false),
            ("42", "42.", true),
            ("4.2", "42", false),
            (r#"{"a": 1, "b": [1.0, "x"]}"#, "```json\n{\"b\": [1, \"x\"], \"a\": 1.0}\n```", true),
            (r#"{"a": [1, 2]}"#, r#"{"a": [2, 1]}"#, false),
            ("?", "!", false),
        ] {
            assert_eq!(normal(one) == normal(other), same, "{one:?} {other:?}");
        }
    }
}

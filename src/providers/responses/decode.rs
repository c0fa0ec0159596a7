//! A whole response as the canonical answer: <https://platform.openai.com/docs/api-reference/responses/object>

use serde_json::{Value, json};

use super::fault;
use super::whole::{self, CUSTOM};
use crate::chat::{Answer, Choice, Object, Part, ToolKind, proof};
use crate::fault::Fault;
use crate::json;
use crate::providers::openai;

/// The canonical answer. `keeper` is who can decrypt its reasoning.
///
/// # Errors
/// The provider's error where one stands in place of an answer.
pub(super) fn answer(body: &[u8], keeper: &str, now_ms: u64) -> Result<Answer, Fault> {
    let text = json::text_of(body.trim_ascii());
    let peek = whole::complete(&text, now_ms)?;
    let (usage, finish, searches_x) = (peek.usage(), peek.finish(), peek.searches_x());
    let Some(finish) = finish else {
        return Err(openai::fault::malformed("the provider answers in the background"));
    };
    let Some(Value::Object(mut response)) = json::parse(text.as_bytes()) else {
        return Err(openai::fault::malformed("the provider's answer is not a response"));
    };
    let id = take_text(&mut response, "id");
    let (mut content, mut logprobs, mut calls) = (Vec::new(), Vec::new(), 0);
    let mut images = Vec::new();
    let items = response.shift_remove("output");
    for item in list(items) {
        let kind = kind_of(&item).to_owned();
        match (&*kind, item) {
            ("message", Value::Object(mut item)) => {
                for part in list(item.shift_remove("content")) {
                    content.extend(said(part, &mut logprobs));
                }
            }
            ("reasoning", Value::Object(item)) => content.extend(thought(&item, keeper)),
            (kind, Value::Object(mut item)) if whole::is_call(kind) && !(kind == CUSTOM && searches_x) => {
                content.push(call(&mut item, &id, calls));
                calls += 1;
            }
            (_, item) => match picture(&item) {
                Some(image) => images.push(image),
                None => content.push(Part::Other(item)),
            },
        }
    }
    let mut rest_of_choice = Object::new();
    if !images.is_empty() {
        rest_of_choice.insert("images".into(), Value::Array(images));
    }
    let choice = Choice {
        index: 0,
        content,
        finish: Some(finish),
        logprobs: (!logprobs.is_empty()).then(|| in_words_of_chat(logprobs)),
        rest: rest_of_choice,
    };
    Ok(Answer {
        model: take_text(&mut response, "model"),
        created: created(&response),
        choices: vec![choice],
        usage,
        rest: rest(&mut response),
        id,
    })
}

/// A painted picture, in the form in which chats have it; `None` where there is none to be seen.
pub(super) fn picture(item: &Value) -> Option<Value> {
    let field = |key: &str| item.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if kind_of(item) != "image_generation_call" {
        return None;
    }
    let url = format!("data:image/{};base64,{}", field("output_format").unwrap_or("png"), field("result")?);
    Some(json!({ "type": "image_url", "image_url": { "url": url } }))
}

/// Fields of a response that are not repeated from the request and that other dialects know.
pub(super) fn rest(response: &mut Object) -> Object {
    let mut rest = Object::new();
    if let Some(tier @ Value::String(_)) = response.shift_remove("service_tier") {
        rest.insert("service_tier".into(), tier);
    }
    rest
}

/// Unix seconds; 0 where the provider does not say.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time in seconds, at least 0")]
pub(super) fn created(response: &Object) -> u64 {
    let created = response.get("created_at").or_else(|| response.get("created"));
    let created = created.and_then(|at| at.as_u64().or_else(|| at.as_f64().map(|at| at.max(0.0) as u64)));
    created.unwrap_or(0)
}

/// A piece of a message.
pub(super) fn said(part: Value, logprobs: &mut Vec<Value>) -> Option<Part> {
    let kind = kind_of(&part).to_owned();
    match (&*kind, part) {
        ("output_text" | "text", Value::Object(mut part)) => {
            logprobs.extend(list(part.shift_remove("logprobs")));
            let citations = list(part.shift_remove("annotations")).into_iter().map(citation).collect();
            let text = take_text(&mut part, "text");
            Some(Part::Text { text: text.into(), cache: None, citations })
        }
        ("refusal", Value::Object(mut part)) => Some(Part::Refusal(take_text(&mut part, "refusal"))),
        (_, Value::Null) => None,
        (_, part) => Some(Part::Other(part)),
    }
}

/// A reasoning item; `None` when it says nothing and proves nothing.
fn thought(item: &Object, keeper: &str) -> Option<Part> {
    let (text, signature) = (thought_text(item), signature(item, keeper));
    (!text.is_empty() || signature.is_some()).then_some(Part::Thinking { text, signature, redacted: None })
}

/// The summary of reasoning, or, of open models, reasoning itself.
pub(super) fn thought_text(item: &Object) -> String {
    let text_of = |key: &str| {
        let parts = item.get(key).and_then(Value::as_array).into_iter().flatten();
        parts.filter_map(|part| part.get("text")?.as_str()).collect::<Vec<_>>().join("\n\n")
    };
    let summary = text_of("summary");
    if summary.is_empty() { text_of("content") } else { summary }
}

/// What a reasoning item proves: its encrypted content, with its id.
pub(super) fn signature(item: &Object, keeper: &str) -> Option<String> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
    let encrypted = text("encrypted_content");
    (!encrypted.is_empty()).then(|| proof::of_responses(keeper, text("id"), encrypted))
}

fn call(item: &mut Object, answer: &str, place: usize) -> Part {
    let kind = tool_kind(item);
    let field = if kind == ToolKind::Custom { "input" } else { "arguments" };
    Part::ToolCall {
        id: call_id(item, answer, place),
        name: take_text(item, "name"),
        arguments: arguments(item, field),
        kind,
        signature: None,
        cache: None,
    }
}

/// Function or custom.
pub(super) fn tool_kind(item: &Object) -> ToolKind {
    let custom = item.get("type").is_some_and(|kind| kind == "custom_tool_call");
    if custom { ToolKind::Custom } else { ToolKind::Function }
}

/// The id by which the client answers a call; invented where the provider gives none.
pub(super) fn call_id(item: &Object, answer: &str, place: usize) -> String {
    let text = |key: &str| item.get(key).and_then(Value::as_str).filter(|id| !id.is_empty());
    let name = text("name").unwrap_or_default();
    let id = text("call_id").or_else(|| text("id")).map(str::to_owned);
    id.unwrap_or_else(|| crate::providers::call_id::invent(answer, 0, place, name))
}

/// What a tool is called with, as text.
pub(super) fn arguments(item: &Object, field: &str) -> String {
    match item.get(field) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// An annotation in the form of chat completions, which the doors understand.
pub(super) fn citation(annotation: Value) -> Value {
    match annotation {
        Value::Object(mut inner) if inner.get("type").is_some_and(|kind| kind == "url_citation") => {
            if inner.contains_key("url_citation") {
                return Value::Object(inner);
            }
            inner.shift_remove("type");
            json!({ "type": "url_citation", "url_citation": inner })
        }
        other => other,
    }
}

/// Log probabilities in the form of chat completions.
pub(super) fn in_words_of_chat(logprobs: Vec<Value>) -> Value {
    json!({ "content": logprobs, "refusal": null })
}

/// The error of a response that failed.
pub(super) fn failure(response: &Object, now_ms: u64) -> Fault {
    fault::failed(response.get("error"), now_ms)
}

/// The type of an item or of a part.
pub(super) fn kind_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// The elements of an array; none of anything else.
pub(super) fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// Takes a text out of an object; empty without.
pub(super) fn take_text(object: &mut Object, key: &str) -> String {
    match object.shift_remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{FinishReason, Tier, Usage};

    #[test]
    fn a_response_says_in_canonical_words_what_it_says() {
        let body = json!({
            "id": "resp_1", "object": "response", "created_at": 1_700_000_000.5, "status": "completed",
            "model": "gpt-5-pro", "service_tier": "default", "instructions": "be short", "tools": [],
            "output": [
                {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA",
                 "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]},
                {"type": "reasoning", "id": "rs_2", "summary": []},
                {"type": "web_search_call", "id": "ws_1", "status": "completed"},
                {"type": "image_generation_call", "id": "ig_1", "result": "AAAA", "output_format": "webp"},
                {"type": "message", "id": "msg_1", "role": "assistant", "content": [
                    {"type": "output_text", "text": "hi", "logprobs": [{"token": "hi", "logprob": -0.5}],
                     "annotations": [{"type": "url_citation", "url": "https://x", "title": "X",
                        "start_index": 0, "end_index": 2}, {"type": "file_citation", "file_id": "f"}]},
                    {"type": "refusal", "refusal": "no"}]},
                {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"},
                {"type": "custom_tool_call", "call_id": "call_2", "name": "g", "input": "free"},
            ],
            "usage": {"input_tokens": 5, "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 2},
                "total_tokens": 12},
        });
        let answer = answer(body.to_string().as_bytes(), "openai", 0).unwrap();
        let tool = |id: &str, name: &str, arguments: &str, kind| Part::ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
            kind,
            signature: None,
            cache: None,
        };
        let signature = Some("tollgate:responses:openai:rs_1:gAAA".to_owned());
        let choice = &answer.choices[0];
        assert_eq!(
            choice.content,
            [
                Part::Thinking { text: "a\n\nb".into(), signature, redacted: None },
                Part::Other(json!({"type": "web_search_call", "id": "ws_1", "status": "completed"})),
                Part::Text {
                    text: "hi".into(),
                    cache: None,
                    citations: vec![
                        json!({"type": "url_citation", "url_citation": {"url": "https://x", "title": "X",
                            "start_index": 0, "end_index": 2}}),
                        json!({"type": "file_citation", "file_id": "f"}),
                    ],
                },
                Part::Refusal("no".into()),
                tool("call_1", "f", "{}", ToolKind::Function),
                tool("call_2", "g", "free", ToolKind::Custom),
            ]
        );
        let painted = json!([{"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA"}}]);
        assert_eq!(choice.rest["images"], painted);
        assert_eq!(choice.finish.as_ref().unwrap().reason, FinishReason::ToolCalls);
        assert_eq!(choice.logprobs.as_ref().unwrap()["content"][0]["token"], "hi");
        assert_eq!((&*answer.id, &*answer.model, answer.created), ("resp_1", "gpt-5-pro", 1_700_000_000));
        let used = Usage {
            input: 5,
            output: 7,
            reasoning: 2,
            searches: 1,
            unpriced_tools: 1,
            tier: Some(Tier::Standard),
            ..Usage::default()
        };
        assert_eq!(answer.usage, Some(used));
        assert_eq!(Value::Object(answer.rest), json!({"service_tier": "default"}));
    }
}

//! A whole answer, already in OpenAI's form, as the canonical answer.

use serde_json::{Value, json};

use super::whole::Whole;
use super::{details, finish};
use crate::chat::{Answer, Choice, Finish, Object, Part, ToolKind};
use crate::json::Text;

/// The canonical answer.
pub(super) fn answer(whole: Whole) -> Answer {
    let Whole { mut object, usage } = whole;
    let text = |object: &mut Object, key: &str| match object.shift_remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let choices = match object.shift_remove("choices") {
        Some(Value::Array(choices)) => choices,
        _ => Vec::new(),
    };
    object.shift_remove("object");
    object.shift_remove("usage");
    let id = text(&mut object, "id");
    let pages = pages(&mut object);
    Answer {
        model: text(&mut object, "model"),
        created: object.shift_remove("created").and_then(|created| created.as_u64()).unwrap_or(0),
        choices: choices.into_iter().filter_map(|choice| self::choice(choice, &id, &pages)).collect(),
        id,
        usage,
        rest: object,
    }
}

/// Pages that are named beside an answer (Perplexity, xAI), as citations of all of its text.
/// <https://docs.perplexity.ai/api-reference/chat-completions-post>
pub(super) fn pages(object: &mut Object) -> Vec<Value> {
    let Some(named) = object.get("citations").or_else(|| object.get("search_results")) else {
        return Vec::new();
    };
    let results = object.get("search_results").and_then(Value::as_array);
    let field = |result: &Value, key: &str| Some(result.get(key)?.as_str()?.to_owned());
    let title = |url: &str| {
        let mut found = results.into_iter().flatten();
        found
            .find(|result| result.get("url").is_some_and(|known| known == url))
            .and_then(|r| field(r, "title"))
    };
    let page = |named: &Value| {
        let url = named.as_str().map(str::to_owned).or_else(|| field(named, "url"))?;
        let title = title(&url).unwrap_or_default();
        url.starts_with("http")
            .then(|| json!({ "type": "url_citation", "url_citation": { "url": url, "title": title } }))
    };
    let named = named.as_array().map(Vec::as_slice).unwrap_or_default();
    let pages: Vec<Value> = named.iter().filter_map(page).collect();
    if pages.len() == named.len() {
        object.shift_remove("citations");
    }
    pages
}

fn choice(value: Value, answer: &str, pages: &[Value]) -> Option<Choice> {
    let Value::Object(mut object) = value else { return None };
    let index = object.shift_remove("index").and_then(|index| index.as_u64()).unwrap_or(0);
    let word = object.shift_remove("finish_reason");
    let logprobs = object.shift_remove("logprobs").filter(|logprobs| !logprobs.is_null());
    let mut message = match object.shift_remove("message") {
        Some(Value::Object(message)) => message,
        _ => Object::new(),
    };
    message.shift_remove("role");
    let mut content = Vec::new();
    content.extend(thoughts(&mut message));
    let citations = match message.shift_remove("annotations") {
        Some(Value::Array(citations)) if !citations.is_empty() => citations,
        _ => pages.to_vec(),
    };
    match said(&mut message, "content") {
        Some(text) => content.push(Part::Text { text: text.into(), cache: None, citations }),
        None if !citations.is_empty() => {
            content.push(Part::Text { text: Text::default(), cache: None, citations });
        }
        None => {}
    }
    content.extend(said(&mut message, "refusal").map(Part::Refusal));
    if let Some(Value::Array(calls)) = message.shift_remove("tool_calls") {
        content.extend(calls.into_iter().map(tool_call));
    }
    if let Some(Value::Object(call)) = message.shift_remove("function_call") {
        let text = |key: &str| call.get(key).and_then(Value::as_str).unwrap_or_default();
        content.push(Part::ToolCall {
            id: crate::providers::call_id::invent(answer, index, 0, text("name")),
            name: text("name").to_owned(),
            arguments: text("arguments").to_owned(),
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        });
    }
    object.extend(message.into_iter().filter(|(_, value)| !value.is_null()));
    Some(Choice {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        content,
        finish: word.as_ref().and_then(Value::as_str).map(finish),
        logprobs,
        rest: object,
    })
}

/// A finish reason from one of OpenAI's words.
pub(super) fn finish(word: &str) -> Finish {
    Finish { reason: finish::canonical(word), raw: Some(word.to_owned()), stop_sequence: None }
}

/// Gemini's signature over a call, as its compatible endpoint has it:
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>
pub(super) fn signature(call: &Value) -> Option<String> {
    call.pointer("/extra_content/google/thought_signature").and_then(Value::as_str).map(str::to_owned)
}

/// What was thought, with its proofs.
pub(super) fn thoughts(message: &mut Object) -> Vec<Part> {
    let told = said(message, "reasoning_content");
    // The same text under its other name.
    if told.is_some() && message.get("reasoning").and_then(Value::as_str) == told.as_deref() {
        message.shift_remove("reasoning");
    }
    details::take(message, told)
}

fn said(message: &mut Object, key: &str) -> Option<String> {
    match message.shift_remove(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn tool_call(call: Value) -> Part {
    let custom = call.get("type").is_some_and(|kind| kind == "custom");
    let (tool, field, kind) = if custom {
        ("custom", "input", ToolKind::Custom)
    } else {
        ("function", "arguments", ToolKind::Function)
    };
    let of = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(inner) = call.get(tool) else { return Part::Other(call) };
    Part::ToolCall {
        id: of(call.get("id")),
        name: of(inner.get("name")),
        arguments: of(inner.get(field)),
        kind,
        signature: signature(&call),
        cache: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_beside_an_answer_are_cited_by_it() {
        let page = |url: &str, title: &str| json!({"type": "url_citation", "url_citation": {"url": url, "title": title}});
        let results = json!([{"title": "A", "url": "https://a", "date": null}]);
        for (mut object, expected, left) in [
            (
                json!({"citations": ["https://a", "https://b"], "search_results": results}),
                vec![page("https://a", "A"), page("https://b", "")],
                1,
            ),
            (json!({"search_results": results}), vec![page("https://a", "A")], 1),
            (json!({"citations": [{"start": 1}]}), vec![], 1),
            (json!({"citations": []}), vec![], 0),
            (json!({"citations": "none"}), vec![], 0),
        ] {
            let Value::Object(fields) = &mut object else { panic!() };
            assert_eq!(pages(fields), expected);
            assert_eq!(fields.len(), left, "{fields:?}");
        }
    }
}

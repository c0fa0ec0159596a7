//! A whole answer of chat v2 as the canonical answer.

use serde_json::Value;

use super::{cite, fault, finish, logprobs, usage};
use crate::chat::{Answer, Choice, FinishReason, Object, Part, ToolKind, proof};
use crate::fault::Fault;
use crate::json;
use crate::providers::call_id;

/// The canonical answer.
///
/// # Errors
/// `Malformed` when the body is no answer; the provider's own fault when it is an error object, or when the answer
/// says that it broke off.
pub(super) fn answer(body: &[u8], now_ms: u64) -> Result<Answer, Fault> {
    let value = json::parse(body.trim_ascii())
        .ok_or_else(|| fault::malformed("the provider's answer is not JSON"))?;
    let Value::Object(mut object) = value else {
        return Err(fault::malformed("the provider's answer is not a chat answer"));
    };
    let message = match object.shift_remove("message") {
        Some(Value::Object(message)) => message,
        other => {
            // The message of an error is a text.
            object.extend(other.map(|other| ("message".to_owned(), other)));
            return Err(fault::inside_success(&Value::Object(object), now_ms));
        }
    };
    let id = take_text(&mut object, "id");
    let mut choice = choice(message, &id);
    let calls = choice.content.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    let error = object.get("error").and_then(Value::as_str).map(str::to_owned);
    choice.finish = Some(match object.shift_remove("finish_reason") {
        Some(Value::String(word)) => finish::read(&word, calls, error.as_deref(), now_ms)?,
        _ if calls => FinishReason::ToolCalls.into(),
        _ => return Err(fault::unfinished()),
    });
    choice.logprobs = logprobs::read(object.shift_remove("logprobs"));
    let counted = object.shift_remove("usage");
    let usage = counted.as_ref().and_then(usage::read);
    keep_billed(counted, &mut object);
    object.retain(|_, value| !value.is_null());
    Ok(Answer {
        model: take_text(&mut object, "model"),
        id,
        created: 0,
        choices: vec![choice],
        usage,
        rest: object,
    })
}

/// Keeps what Cohere bills, which differs from the tokens that the model saw.
pub(super) fn keep_billed(usage: Option<Value>, rest: &mut Object) {
    if let Some(Value::Object(mut usage)) = usage
        && let Some(billed) = usage.shift_remove("billed_units").filter(Value::is_object)
    {
        rest.insert("billed_units".into(), billed);
    }
}

/// The arguments of a call: Cohere writes `null` for none.
pub(super) fn arguments(text: &str) -> &str {
    if matches!(text.trim(), "" | "null") { "{}" } else { text }
}

fn take_text(object: &mut Object, key: &str) -> String {
    match object.shift_remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

fn take_list(object: &mut Object, key: &str) -> Vec<Value> {
    match object.shift_remove(key) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn choice(mut message: Object, answer: &str) -> Choice {
    message.shift_remove("role");
    let mut content = Vec::new();
    let plan = take_text(&mut message, "tool_plan");
    if !plan.is_empty() {
        let signature = Some(proof::COHERE_PLAN.to_owned());
        content.push(Part::Thinking { text: plan, signature, redacted: None });
    }
    // Where the parts of the content stand among those of the answer.
    let mut places = Vec::new();
    let parts = match message.shift_remove("content") {
        Some(Value::String(text)) => vec![serde_json::json!({ "type": "text", "text": text })],
        Some(Value::Array(parts)) => parts,
        _ => Vec::new(),
    };
    for part in parts {
        places.push(content.len());
        let text = |key: &str| part.get(key).and_then(Value::as_str).map(str::to_owned);
        match part.get("type").and_then(Value::as_str) {
            Some("thinking") => {
                let text = text("thinking").unwrap_or_default();
                content.push(Part::Thinking { text, signature: None, redacted: None });
            }
            Some("text") | None if part.get("text").is_some() => {
                content.push(Part::text(text("text").unwrap_or_default()));
            }
            _ => content.push(Part::Other(part)),
        }
    }
    let elsewhere = cite_all(take_list(&mut message, "citations"), &places, &mut content);
    content.retain(|part| match part {
        Part::Text { text, citations, .. } => !text.is_empty() || !citations.is_empty(),
        Part::Thinking { text, .. } => !text.is_empty(),
        _ => true,
    });
    for (place, call) in take_list(&mut message, "tool_calls").into_iter().enumerate() {
        let of = |key: &str| call.get(key).or_else(|| call.get("function")?.get(key)).and_then(Value::as_str);
        let name = of("name").unwrap_or_default().to_owned();
        let id = of("id").filter(|id| !id.is_empty()).map(str::to_owned);
        let written = call.pointer("/function/arguments");
        let arguments = match written {
            Some(Value::String(text)) => arguments(text).to_owned(),
            Some(object @ Value::Object(_)) => object.to_string(),
            _ => "{}".to_owned(),
        };
        content.push(Part::ToolCall {
            id: id.unwrap_or_else(|| call_id::invent(answer, 0, place, &name)),
            name,
            arguments,
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        });
    }
    message.retain(|_, value| !value.is_null());
    if !elsewhere.is_empty() {
        message.insert("citations".into(), Value::Array(elsewhere));
    }
    Choice { index: 0, content, finish: None, logprobs: None, rest: message }
}

/// Puts citations of text at their text; gives back the others.
fn cite_all(citations: Vec<Value>, places: &[usize], content: &mut [Part]) -> Vec<Value> {
    let mut elsewhere = Vec::new();
    for citation in citations {
        let index = citation.get("content_index").and_then(Value::as_u64);
        let at = index.and_then(|index| places.get(usize::try_from(index).ok()?).copied());
        let is_text = |part: &&mut Part| matches!(part, Part::Text { .. });
        let place = match at.filter(|at| matches!(content.get(*at), Some(Part::Text { .. }))) {
            Some(at) => content.get_mut(at),
            None => content.iter_mut().rfind(is_text),
        };
        match place {
            Some(Part::Text { citations, .. }) if cite::is_of_text(&citation) => {
                citations.extend(cite::read(citation));
            }
            _ => elsewhere.push(citation),
        }
    }
    elsewhere
}

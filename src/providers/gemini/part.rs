//! One part of a candidate's content, read: <https://ai.google.dev/api/caching#Part>

use serde_json::{Value, json};

use super::fault;
use crate::chat::Object;
use crate::fault::Fault;

/// What a part says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// A piece of the answer.
    Text(String),
    /// A piece of the summary of thinking.
    Thought(String),
    /// A call of a function, whole or a piece of it.
    Call(Call),
    /// A picture, in the form that OpenAI-compatible routers give it.
    Image(Value),
    /// Anything else: run code, server tools, other media. As it came.
    Foreign(Value),
}

/// `functionCall`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Call {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    /// JSON text; `None` where the key is not there.
    pub(super) args: Option<String>,
    /// Pieces of arguments: Vertex's `streamFunctionCallArguments`.
    pub(super) pieces: Vec<Value>,
    /// More of this call follows.
    pub(super) continues: bool,
}

/// A part and its proof of thinking.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) said: Said,
    pub(super) signature: Option<String>,
}

/// Takes the parts out of a candidate.
///
/// # Errors
/// `Malformed` where something else stands in their place.
pub(super) fn take_parts(candidate: &mut Object) -> Result<Vec<Value>, Fault> {
    let parts = match candidate.get_mut("content") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(content)) => content.get_mut("parts").map(Value::take).unwrap_or_default(),
        Some(_) => return Err(fault::malformed("the provider sent a content that is not an object")),
    };
    let sound = |part: &Value| {
        part.as_object().is_some_and(|part| part.get("text").is_none_or(|t| t.is_string() || t.is_null()))
    };
    match parts {
        Value::Null => Ok(Vec::new()),
        Value::Array(parts) if parts.iter().all(sound) => Ok(parts),
        _ => Err(fault::malformed("the provider sent parts of another form")),
    }
}

/// Reads a part; `None` when it says nothing.
pub(super) fn read(value: Value) -> Option<Part> {
    let Value::Object(mut object) = value else { return None };
    let signature = match object.get("thoughtSignature") {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    if let Some(Value::String(text)) = object.get_mut("text") {
        let text = std::mem::take(text);
        let thought = object.get("thought").and_then(Value::as_bool) == Some(true);
        if text.is_empty() && signature.is_none() {
            return None;
        }
        let said = if thought { Said::Thought(text) } else { Said::Text(text) };
        return Some(Part { said, signature });
    }
    if let Some(Value::Object(call)) = object.get("functionCall") {
        return Some(Part { said: Said::Call(self::call(call)), signature });
    }
    if let Some(image) = image(&object) {
        return Some(Part { said: Said::Image(image), signature });
    }
    let speaks = object.keys().any(|key| !matches!(&**key, "thoughtSignature" | "thought"));
    if speaks {
        // Its own proof stays inside.
        return Some(Part { said: Said::Foreign(Value::Object(object)), signature: None });
    }
    signature.is_some().then(|| Part { said: Said::Text(String::new()), signature })
}

fn call(call: &Object) -> Call {
    let text = |key: &str| match call.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let args = match call.get("args") {
        None | Some(Value::Null) => None,
        Some(args) => Some(args.to_string()),
    };
    let pieces = call.get("partialArgs").and_then(Value::as_array).cloned().unwrap_or_default();
    let continues = call.get("willContinue").and_then(Value::as_bool) == Some(true);
    Call { id: text("id"), name: text("name"), args, pieces, continues }
}

/// A generated picture as routers that speak OpenAI's dialect send it (`images: [{type: image_url}]`).
fn image(object: &Object) -> Option<Value> {
    let data = object.get("inlineData")?;
    let mime = data.get("mimeType")?.as_str().filter(|mime| mime.starts_with("image/"))?;
    let url = format!("data:{mime};base64,{}", data.get("data")?.as_str()?);
    Some(json!({ "type": "image_url", "image_url": { "url": url } }))
}

/// An id for a call that has none: the same for the same answer, candidate and place.
pub(super) fn call_id(answer: &str, candidate: u32, place: usize, name: &str) -> String {
    crate::providers::call_id::invent(answer, candidate.into(), place, name)
}

/// Unix seconds of `createTime`, which only Vertex gives; 0 without.
pub(super) fn created(object: &Object) -> u64 {
    object.get("createTime").and_then(Value::as_str).map_or(0, crate::clock::unix_seconds)
}

/// Takes a text out of an object; empty without.
pub(super) fn take_text(object: &mut Object, key: &str) -> String {
    match object.shift_remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// A candidate's index; the first where none is said.
pub(super) fn index(candidate: &Object, place: usize) -> u32 {
    let said = candidate.get("index").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    said.unwrap_or_else(|| u32::try_from(place).unwrap_or(u32::MAX))
}

/// Fields of a candidate that the canonical form does not know and that say something.
pub(super) fn keep_rest(candidate: Object, rest: &mut Object) {
    keep(candidate, &["content", "finishReason", "index", "logprobsResult"], rest);
}

/// The same of a document of a stream, but for its candidates and its usage.
pub(super) fn keep_answers_rest(document: Object, rest: &mut Object) {
    keep(document, &["modelVersion", "responseId", "createTime"], rest);
}

fn keep(fields: Object, known: &[&str], rest: &mut Object) {
    for (key, value) in fields {
        let speaks = match &value {
            Value::Null => false,
            Value::Object(object) => !object.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        };
        if speaks && !known.contains(&&*key) {
            rest.insert(key, value);
        }
    }
}

//! The canonical answer → generateContent's.

use serde_json::{Value, json};

use super::{logprobs, proof};
use crate::api::tongue::{Tongue, never};
use crate::chat::{Answer, Choice, Finish, FinishReason, Media, Object, Part, ToolKind, Usage};
use crate::json;

/// What a client of Google's dialect can be told. Its own SDK for Python took comments in a stream for documents
/// until 2025, so none are sent.
pub(in crate::api) const TONGUE: Tongue = Tongue {
    choices: true,
    logprobs: true,
    stop_sequence: false,
    refusal: false,
    thinking: true,
    calls: true,
    one_call: false,
    texts: false,
    citation: is_whole_source,
    foreign: never,
    media: |part| {
        matches!(
            part,
            Part::Image { media: Media::Inline { .. }, .. } | Part::Audio { media: Media::Inline { .. } }
        )
    },
    field: |key, value| {
        key == "images" && value.as_array().into_iter().flatten().all(|image| inline(image).is_some())
    },
    fields: false,
    usage: &["cached_read", "reasoning"],
    ends: &[(FinishReason::Pause, "STOP"), (FinishReason::ContextExceeded, "MAX_TOKENS")],
    comments: false,
};

/// The body of a whole answer. `fallback` is the id for an answer without one.
pub(in crate::api) fn encode_answer(answer: &Answer, fallback: &str) -> Vec<u8> {
    let mut body = Object::new();
    body.insert("candidates".into(), answer.choices.iter().map(candidate).collect());
    if let Some(usage) = &answer.usage {
        body.insert("usageMetadata".into(), usage_json(usage));
    }
    body.insert("modelVersion".into(), answer.model.as_str().into());
    let id = if answer.id.is_empty() { fallback } else { &answer.id };
    body.insert("responseId".into(), id.into());
    json::object_to_text(&body).into_bytes()
}

fn candidate(choice: &Choice) -> Value {
    let mut parts = Vec::new();
    let (mut text, mut citations) = (String::new(), Vec::new());
    for part in &choice.content {
        if let Part::Text { text: more, citations: own, .. } = part {
            // Places in citations count from the beginning of the part that they stand at.
            citations.extend(own.iter().filter_map(|value| source(value, more, text.len())));
            text.push_str(more);
        }
        push(part, &mut parts);
    }
    for image in choice.rest.get("images").and_then(Value::as_array).into_iter().flatten() {
        parts.extend(inline(image));
    }
    let mut body = Object::new();
    let mut content = Object::new();
    if !parts.is_empty() {
        content.insert("parts".into(), Value::Array(parts));
    }
    content.insert("role".into(), "model".into());
    body.insert("content".into(), Value::Object(content));
    if let Some(finish) = &choice.finish {
        body.insert("finishReason".into(), finish_word(finish).into());
    }
    body.insert("index".into(), choice.index.into());
    if let Some(logprobs) = &choice.logprobs {
        body.extend(logprobs::fields(logprobs));
    }
    if !citations.is_empty() {
        body.insert("citationMetadata".into(), json!({ "citationSources": citations }));
    }
    Value::Object(body)
}

fn push(part: &Part, parts: &mut Vec<Value>) {
    match part {
        Part::Text { text, .. } => parts.push(json!({ "text": text })),
        Part::Refusal(text) => parts.push(json!({ "text": text })),
        Part::Thinking { text, signature, redacted } => {
            if let Some(data) = redacted {
                parts.push(hidden(data));
            } else if text.is_empty()
                && let Some(own) = signature.as_deref().and_then(crate::chat::proof::for_gemini)
                && let Some(Value::Object(last)) = parts.last_mut()
                && !last.contains_key("thoughtSignature")
            {
                last.insert("thoughtSignature".into(), own.into());
            } else {
                parts.push(thought(text, signature.as_deref()));
            }
        }
        Part::ToolCall { id, name, arguments, kind, signature, .. } if *kind != ToolKind::Server => {
            let first = !parts.iter().any(|part| part.get("functionCall").is_some());
            parts.push(call(id, name, arguments, *kind, signature.as_deref(), first));
        }
        Part::Image { media: Media::Inline { mime, base64 }, .. }
        | Part::Audio { media: Media::Inline { mime, base64 } } => {
            parts.push(json!({ "inlineData": { "mimeType": mime, "data": base64 } }));
        }
        // What only another dialect understands; the loss report names it.
        _ => {}
    }
}

/// A piece of thinking.
pub(super) fn thought(text: &str, signature: Option<&str>) -> Value {
    let mut part = Object::new();
    part.insert("text".into(), text.into());
    let bare = text.is_empty() && signature.is_some_and(|s| crate::chat::proof::for_gemini(s).is_some());
    if !bare {
        part.insert("thought".into(), true.into());
    }
    if let Some(signature) = signature {
        part.insert("thoughtSignature".into(), proof::write(signature).into());
    }
    Value::Object(part)
}

/// Hidden thinking.
pub(super) fn hidden(data: &str) -> Value {
    json!({ "text": "", "thought": true, "thoughtSignature": proof::write_redacted(data) })
}

/// A call of a function of the client; `first` of the answer or not.
pub(super) fn call(
    id: &str,
    name: &str,
    arguments: &str,
    kind: ToolKind,
    signature: Option<&str>,
    first: bool,
) -> Value {
    let args = match json::parse(arguments.as_bytes()) {
        _ if kind == ToolKind::Custom => json!({ "input": arguments }),
        Some(Value::Object(object)) => Value::Object(object),
        Some(Value::Null) => json!({}),
        None if arguments.trim().is_empty() => json!({}),
        // The client shall see what the model wrote, although it is no object.
        _ => json!({ "arguments": arguments }),
    };
    let mut part = Object::new();
    part.insert("functionCall".into(), json!({ "id": id, "name": name, "args": args }));
    match signature {
        Some(signature) => drop(part.insert("thoughtSignature".into(), signature.into())),
        None if first => drop(part.insert("thoughtSignature".into(), proof::unsigned().into())),
        None => {}
    }
    Value::Object(part)
}

/// A picture in OpenAI's form, as inline data.
pub(super) fn inline(image: &Value) -> Option<Value> {
    let url = image.pointer("/image_url/url")?.as_str()?;
    let (mime, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    Some(json!({ "inlineData": { "mimeType": mime, "data": data } }))
}

/// Whether a citation says no more than a source does.
fn is_whole_source(citation: &Value) -> bool {
    const SAID: &[&str] = &["type", "url", "source", "title", "start_index", "end_index"];
    let inner = citation.get("url_citation").unwrap_or(citation);
    let fields = inner.as_object().into_iter().flatten();
    source(citation, "", 0).is_some() && fields.into_iter().all(|(key, _)| SAID.contains(&key.as_str()))
}

/// A citation in OpenAI's form, as a source; `text` is the text of its part, which stands `before` bytes into the whole.
pub(super) fn source(citation: &Value, text: &str, before: usize) -> Option<Value> {
    let citation = citation.get("url_citation").unwrap_or(citation);
    let uri = citation.get("url").or_else(|| citation.get("source"))?.as_str()?;
    let bytes = |key: &str| {
        let place = usize::try_from(citation.get(key)?.as_u64()?).ok()?;
        let inside = text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
        Some(before + inside)
    };
    let mut source = Object::new();
    if let (Some(start), Some(end)) = (bytes("start_index"), bytes("end_index")) {
        source.insert("startIndex".into(), start.into());
        source.insert("endIndex".into(), end.into());
    }
    source.insert("uri".into(), uri.into());
    if let Some(title) = citation.get("title").and_then(Value::as_str).filter(|title| !title.is_empty()) {
        source.insert("title".into(), title.into());
    }
    Some(Value::Object(source))
}

/// Google's word for why a choice ended: its own where it was its own.
pub(super) fn finish_word(finish: &Finish) -> &str {
    const OWN: &[&str] =
        &["RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR"];
    match finish.reason {
        FinishReason::Stop | FinishReason::ToolCalls | FinishReason::Pause => "STOP",
        FinishReason::Length | FinishReason::ContextExceeded => "MAX_TOKENS",
        FinishReason::ContentFilter => {
            finish.raw.as_deref().filter(|raw| OWN.contains(raw)).unwrap_or("SAFETY")
        }
        FinishReason::Other => "OTHER",
    }
}

/// Usage as Google counts it: thinking outside of the candidates, the cache inside of the prompt.
pub(super) fn usage_json(usage: &Usage) -> Value {
    let mut counted = Object::new();
    counted.insert("promptTokenCount".into(), usage.prompt().into());
    counted.insert("candidatesTokenCount".into(), usage.output.saturating_sub(usage.reasoning).into());
    counted.insert("totalTokenCount".into(), usage.total().into());
    if usage.cached_read > 0 {
        counted.insert("cachedContentTokenCount".into(), usage.cached_read.into());
    }
    if usage.reasoning > 0 {
        counted.insert("thoughtsTokenCount".into(), usage.reasoning.into());
    }
    Value::Object(counted)
}

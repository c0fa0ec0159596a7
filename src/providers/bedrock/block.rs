//! Content blocks of an answer as canonical parts.

use serde_json::{Value, json};

use super::media;
use crate::chat::{Object, Part, ToolKind};

/// What a block says.
pub(super) enum Said {
    /// A part of the answer.
    Part(Part),
    /// A picture in OpenAI's form, which stands beside the parts.
    Image(Value),
    /// Nothing.
    Nothing,
}

/// One block of a whole answer.
pub(super) fn read(block: Value) -> Said {
    let Value::Object(mut block) = block else { return Said::Nothing };
    if let Some(Value::String(text)) = block.shift_remove("text") {
        return if text.is_empty() { Said::Nothing } else { Said::Part(Part::text(text)) };
    }
    if let Some(Value::Object(thought)) = block.shift_remove("reasoningContent") {
        return reasoning(thought).map_or(Said::Nothing, Said::Part);
    }
    if let Some(Value::Object(cited)) = block.shift_remove("citationsContent") {
        return Said::Part(citations(cited));
    }
    if let Some(image) = block.get("image") {
        return picture(image).map_or(Said::Nothing, Said::Image);
    }
    if let Some(Value::Object(call)) = block.get("toolUse").filter(|call| !is_servers(call)) {
        let text = |key: &str| call.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let arguments = match call.get("input") {
            Some(input @ Value::Object(_)) => input.to_string(),
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            _ => "{}".to_owned(),
        };
        return Said::Part(Part::ToolCall {
            id: text("toolUseId"),
            name: text("name"),
            arguments,
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        });
    }
    foreign(block).map_or(Said::Nothing, Said::Part)
}

/// Whether a call is of a tool that runs at the provider.
pub(super) fn is_servers(call: &Value) -> bool {
    call.get("type").is_some_and(|kind| kind == "server_tool_use")
}

/// A block that only this dialect understands; its name stands as its type.
pub(super) fn foreign(block: Object) -> Option<Part> {
    let (key, value) = block.into_iter().next()?;
    Some(Part::Other(json!({ "type": key, key: value })))
}

/// A citation in the form that the doors know, where it leads to the web; as it came otherwise.
pub(super) fn citation(citation: Value) -> Value {
    let Some(url) = citation.pointer("/location/web/url").and_then(Value::as_str) else { return citation };
    let title = citation.get("title").and_then(Value::as_str).unwrap_or_default();
    json!({ "type": "url_citation", "url_citation": { "url": url, "title": title } })
}

/// A picture in OpenAI's form.
pub(super) fn picture(image: &Value) -> Option<Value> {
    let bytes = image.pointer("/source/bytes")?.as_str()?;
    let mime = media::mime_of_image(image.get("format").and_then(Value::as_str).unwrap_or_default());
    let url = format!("data:{mime};base64,{bytes}");
    Some(json!({ "type": "image_url", "image_url": { "url": url } }))
}

fn reasoning(mut thought: Object) -> Option<Part> {
    if let Some(Value::String(data)) = thought.shift_remove("redactedContent") {
        return Some(Part::Thinking { text: String::new(), signature: None, redacted: Some(data) });
    }
    let Some(Value::Object(mut inner)) = thought.shift_remove("reasoningText") else { return None };
    let mut text = |key: &str| match inner.shift_remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let signature = text("signature").filter(|signature| !signature.is_empty());
    Some(Part::Thinking { text: text("text").unwrap_or_default(), signature, redacted: None })
}

fn citations(mut cited: Object) -> Part {
    let mut list = |key: &str| match cited.shift_remove(key) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let text = list("content").iter().filter_map(|piece| piece.get("text")?.as_str()).collect();
    let citations = list("citations").into_iter().map(citation).collect();
    Part::Text { text, cache: None, citations }
}

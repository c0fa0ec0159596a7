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

/// A citation in a form that the doors know: OpenAI's where it leads to the web, else Anthropic's.
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CitationLocation.html>
pub(super) fn citation(citation: Value) -> Value {
    let text = |key: &str| citation.get(key).cloned().unwrap_or_default();
    if let Some(url) = citation.pointer("/location/web/url").and_then(Value::as_str) {
        return json!({ "type": "url_citation", "url_citation": { "url": url, "title": text("title") } });
    }
    let place = citation.get("location").and_then(Value::as_object).and_then(|place| place.iter().next());
    let Some((kind, at)) = place else { return citation };
    let Some((_, kind, index, start, end)) = PLACES.iter().find(|(known, ..)| known == kind) else {
        return citation;
    };
    let number = |key: &str| at.get(key).cloned().unwrap_or_default();
    let pieces = citation.get("sourceContent").and_then(Value::as_array).into_iter().flatten();
    let cited: String = pieces.filter_map(|piece| piece.get("text")?.as_str()).collect();
    let mut out = Object::new();
    out.insert("type".into(), (*kind).into());
    out.insert("cited_text".into(), cited.into());
    out.insert((*start).into(), number("start"));
    out.insert((*end).into(), number("end"));
    if *kind == "search_result_location" {
        out.insert((*index).into(), number("searchResultIndex"));
        out.extend(["source", "title"].map(|key| (key.to_owned(), text(key))));
    } else {
        out.insert((*index).into(), number("documentIndex"));
        out.insert("document_title".into(), text("title"));
    }
    Value::Object(out)
}

/// Kinds of places, and what Anthropic calls them, what is cited, and where the citation begins and ends.
const PLACES: &[(&str, &str, &str, &str, &str)] = &[
    ("documentChar", "char_location", "document_index", "start_char_index", "end_char_index"),
    ("documentPage", "page_location", "document_index", "start_page_number", "end_page_number"),
    ("documentChunk", "content_block_location", "document_index", "start_block_index", "end_block_index"),
    (
        "searchResultLocation",
        "search_result_location",
        "search_result_index",
        "start_block_index",
        "end_block_index",
    ),
];

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
    let text: String = list("content").iter().filter_map(|piece| piece.get("text")?.as_str()).collect();
    let citations = list("citations").into_iter().map(citation).collect();
    Part::Text { text: text.into(), cache: None, citations }
}

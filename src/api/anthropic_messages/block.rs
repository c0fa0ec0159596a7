//! Content blocks of a request as canonical parts.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::call_id;
use super::decode::{Lost, cache};
use crate::api::openai_chat::decode::record::{Place, Record, kind, list, object};
use crate::api::openai_chat::param::{missing, wrong_type};
use crate::chat::{Media, Part, ToolKind};
use crate::fault::Fault;
use crate::json;

/// The signature of thoughts that no provider has signed; Anthropic's clients want one in every thought.
pub(super) const UNSIGNED: &str = crate::providers::UNSIGNED_THOUGHT;

/// A `content`: a string, or a list of blocks.
pub(super) fn all(content: Option<Value>, place: &Place<'_>, lost: &mut Lost) -> Result<Vec<Part>, Fault> {
    match content {
        None => Err(missing(place.to_string())),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(blocks)) => {
            blocks.into_iter().enumerate().map(|(at, block)| part(block, &place.index(at), lost)).collect()
        }
        Some(other) => Err(wrong_type(place.to_string(), "a string or an array", kind(&other))),
    }
}

fn part(value: Value, place: &Place<'_>, lost: &mut Lost) -> Result<Part, Fault> {
    let whole = object(value, place)?;
    let word = whole.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let known = matches!(
        &*word,
        "text" | "image" | "document" | "thinking" | "redacted_thinking" | "tool_use" | "tool_result"
    );
    if word.is_empty() {
        return Err(missing(place.key("type").to_string()));
    }
    // Whatever is not ours to understand is kept as it is.
    if !known || is_foreign_source(&whole) {
        return Ok(Part::Other(Value::Object(whole)));
    }
    let mut fields = Record::new(whole, place);
    fields.take("type");
    let cache = cache(&mut fields)?;
    let part = match &*word {
        "text" => {
            let citations = fields.list("citations")?;
            Part::Text { text: fields.need_text("text")?.into(), cache, citations }
        }
        "thinking" => Part::Thinking {
            text: fields.need_text("thinking")?,
            signature: fields.text("signature")?.filter(|s| !s.is_empty() && s != UNSIGNED),
            redacted: None,
        },
        "redacted_thinking" => {
            Part::Thinking { text: String::new(), signature: None, redacted: Some(fields.need_text("data")?) }
        }
        "tool_use" => {
            fields.take("caller");
            let arguments = match fields.take("input") {
                Some(input @ Value::Object(_)) => json::to_text(&input),
                None => "{}".to_owned(),
                Some(other) => {
                    return Err(wrong_type(place.key("input").to_string(), "an object", kind(&other)));
                }
            };
            let (id, signature) = call_id::read(fields.need_text("id")?);
            Part::ToolCall {
                id,
                name: fields.need_text("name")?,
                arguments,
                kind: ToolKind::Function,
                signature,
                cache,
            }
        }
        "tool_result" => {
            let content = match fields.take("content") {
                None => Vec::new(),
                content => all(content, &place.key("content"), lost)?,
            };
            let is_error = fields.flag("is_error")?.unwrap_or(false);
            let (id, _) = call_id::read(fields.need_text("tool_use_id")?);
            Part::ToolResult { id, content, is_error, cache }
        }
        "image" => Part::Image { media: media(&mut fields, place, lost)?, detail: None, cache },
        _ => {
            let filename = fields.text("title")?;
            let media = media(&mut fields, place, lost)?;
            if let Some(citations) = fields.object("citations")?
                && citations.get("enabled") == Some(&Value::Bool(true))
            {
                lost.push(place.key("citations").to_string());
            }
            Part::File { media, filename, cache }
        }
    };
    for (key, value) in fields.rest() {
        if !value.is_null() {
            lost.push(format!("{place}.{key}"));
        }
    }
    Ok(part)
}

/// A document made of blocks has no counterpart.
fn is_foreign_source(block: &crate::chat::Object) -> bool {
    let source = block.get("source").and_then(|source| source.get("type")).and_then(Value::as_str);
    source.is_some_and(|source| !matches!(source, "base64" | "url" | "file" | "text"))
}

fn media(fields: &mut Record<'_>, place: &Place<'_>, lost: &mut Lost) -> Result<Media, Fault> {
    let below = place.key("source");
    let mut source = Record::new(fields.need_object("source")?, &below);
    let media = match &*source.need_text("type")? {
        "url" => Media::Url(source.need_text("url")?),
        "file" => Media::FileId(source.need_text("file_id")?),
        "text" => Media::Inline {
            mime: source.text("media_type")?.unwrap_or_else(|| "text/plain".to_owned()),
            base64: BASE64_STANDARD.encode(source.need_text("data")?),
        },
        _ => Media::Inline { mime: source.need_text("media_type")?, base64: source.need_text("data")? },
    };
    source.close(lost);
    Ok(media)
}

/// The blocks of `system`.
pub(super) fn system(value: Value, place: &Place<'_>, lost: &mut Lost) -> Result<Vec<Part>, Fault> {
    match value {
        Value::String(text) => Ok(vec![Part::text(text)]),
        other => {
            let blocks = list(other, place)?;
            all(Some(Value::Array(blocks)), place, lost)
        }
    }
}

//! Messages and their parts.

use serde_json::{Value, json};

use super::record::{Place, Record, kind, object, text};
use super::turns::{Turn, Turns};
use super::{cache, wrong_type};
use crate::api::openai_chat::param::{invalid_value, missing};
use crate::chat::{CacheHint, Media, Message, Object, Part, Role, ToolKind, proof};
use crate::fault::Fault;
use crate::json;

/// Decodes the `messages` array.
pub(super) fn decode_all(
    turns: Turns<'_>,
    place: &Place<'_>,
    lost: &mut Vec<String>,
) -> Result<Vec<Message>, Fault> {
    let mut decoded: Vec<Message> = Vec::new();
    for (at, turn) in turns.enumerate() {
        let value = match turn {
            Turn::Plain("user", text) => {
                decoded.push(Message::plain(Role::User, text));
                continue;
            }
            Turn::Plain("assistant", text) => {
                decoded.push(Message::plain(Role::Assistant, text));
                continue;
            }
            Turn::Plain("system", text) => {
                decoded.push(Message::plain(Role::System, text));
                continue;
            }
            Turn::Plain(word, text) => json!({ "role": word, "content": text }),
            Turn::Other(value) => value,
        };
        let message = decode(value, at, &decoded, &place.index(at), lost)?;
        decoded.push(message);
    }
    Ok(decoded)
}

fn decode(
    value: Value,
    at: usize,
    before: &[Message],
    place: &Place<'_>,
    lost: &mut Vec<String>,
) -> Result<Message, Fault> {
    let mut fields = Record::new(object(value, place)?, place);
    let word = fields.need_text("role")?;
    let role = match &*word {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => {
            let expected = "one of 'system', 'developer', 'user', 'assistant', 'tool'";
            return Err(invalid_value(place.key("role").to_string(), expected));
        }
    };
    let name = fields.text("name")?;
    let cache = cache(&mut fields)?;
    let mut content = Vec::new();
    if role == Role::Assistant {
        thoughts(&mut fields, &mut content, place, lost)?;
    }
    let below = place.key("content");
    parts(fields.take("content"), &mut content, &below, lost)?;
    match role {
        Role::Assistant => calls(&mut fields, &mut content, at, place, lost)?,
        Role::Tool => {
            let id = match fields.text("tool_call_id")? {
                Some(id) => id,
                None if word == "function" => last_call(before, name.as_deref()).unwrap_or_default(),
                None => return Err(fields.missing("tool_call_id")),
            };
            content = vec![Part::ToolResult { id, content, is_error: false, cache: None }];
        }
        _ if content.is_empty() => return Err(fields.missing("content")),
        _ => {}
    }
    if cache.is_some() {
        mark(&mut content, cache);
    }
    Ok(Message { role, content, name, rest: fields.rest() })
}

/// What the model thought: `reasoning_content` (DeepSeek, Qwen), `reasoning` (OpenRouter, Groq), and OpenRouter's
/// `reasoning_details`, which carry the proofs that some providers want back.
fn thoughts(
    fields: &mut Record<'_>,
    content: &mut Vec<Part>,
    place: &Place<'_>,
    lost: &mut Vec<String>,
) -> Result<(), Fault> {
    let plain = (fields.text("reasoning_content")?, fields.text("reasoning")?);
    let details = fields.list("reasoning_details")?;
    let below = place.key("reasoning_details");
    let mut unknown = Vec::new();
    for (at, value) in details.into_iter().enumerate() {
        let here = below.index(at);
        let mut detail = object(value, &here)?;
        match thought(&mut detail) {
            Some(part) => {
                content.push(part);
                // Its place among the pieces of a stream says nothing in a conversation.
                detail.shift_remove("index");
                Record::new(detail, &here).close(lost);
            }
            None => unknown.push(Value::Object(detail)),
        }
    }
    if !unknown.is_empty() {
        fields.put("reasoning_details", Value::Array(unknown));
    }
    if content.is_empty()
        && let Some(text) = plain.0.or(plain.1).filter(|text| !text.is_empty())
    {
        content.push(Part::Thinking { text, signature: None, redacted: None });
    }
    Ok(())
}

fn thought(detail: &mut Object) -> Option<Part> {
    let router = Router::of(detail);
    let mut string = |key: &str| match detail.get_mut(key).map(Value::take) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    match string("type").as_deref() {
        Some("reasoning.text") => {
            let text = string("text").unwrap_or_default();
            let signature = string("signature").map(|proof| router.mark(proof));
            if signature.is_some() {
                router.taken(detail);
            }
            Some(Part::Thinking { text, signature, redacted: None })
        }
        Some("reasoning.encrypted") => {
            let redacted = string("data").map(|proof| router.mark(proof));
            router.taken(detail);
            Some(Part::Thinking { text: String::new(), signature: None, redacted })
        }
        other => {
            let kind = other.map_or(Value::Null, Value::from);
            detail.insert("type".to_owned(), kind);
            None
        }
    }
}

/// What a router says of a proof beside it, and wants back.
struct Router {
    format: String,
    id: String,
    index: Option<u64>,
}

impl Router {
    fn of(detail: &Object) -> Self {
        let text = |key: &str| detail.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { format: text("format"), id: text("id"), index: detail.get("index").and_then(Value::as_u64) }
    }

    /// What is kept with the proof.
    fn taken(&self, detail: &mut Object) {
        for key in ["format", "id", "index"] {
            detail.shift_remove(key);
        }
    }

    /// The proof as the canonical form has it; this house's own proofs stand without a format.
    fn mark(&self, proof: String) -> String {
        if self.format.is_empty() && self.id.is_empty() {
            return proof;
        }
        proof::Detail { format: &self.format, index: self.index, id: &self.id, proof: &proof }.mark()
    }
}

/// Decodes `content`: a string, or an array of parts.
fn parts(
    content: Option<Value>,
    out: &mut Vec<Part>,
    place: &Place<'_>,
    lost: &mut Vec<String>,
) -> Result<(), Fault> {
    match content {
        None => {}
        Some(Value::String(text)) => out.push(Part::text(text)),
        Some(Value::Array(items)) => {
            for (at, item) in items.into_iter().enumerate() {
                out.push(part(item, &place.index(at), lost)?);
            }
        }
        Some(other) => return Err(wrong_type(place.to_string(), "a string or an array", kind(&other))),
    }
    Ok(())
}

fn part(value: Value, place: &Place<'_>, lost: &mut Vec<String>) -> Result<Part, Fault> {
    let whole = match value {
        // No OpenAI, but some vendors take it.
        Value::String(text) => return Ok(Part::text(text)),
        other => object(other, place)?,
    };
    let Some(kind) = whole.get("type").and_then(Value::as_str).map(str::to_owned) else {
        return Err(missing(place.key("type").to_string()));
    };
    if !matches!(&*kind, "text" | "image_url" | "input_audio" | "file" | "document_url" | "refusal") {
        return Ok(Part::Other(Value::Object(whole)));
    }
    let mut fields = Record::new(whole, place);
    let cache = cache(&mut fields)?;
    let part = match &*kind {
        "text" => Part::Text { text: fields.need_text("text")?.into(), cache, citations: Vec::new() },
        "refusal" => Part::Refusal(fields.need_text("refusal")?),
        "image_url" => {
            let (url, detail) = match fields.take("image_url") {
                Some(Value::String(url)) => (url, None),
                Some(Value::Object(image)) => {
                    let below = place.key("image_url");
                    let mut image = Record::new(image, &below);
                    let read = (image.need_text("url")?, image.text("detail")?);
                    image.close(lost);
                    read
                }
                Some(_) => {
                    return Err(invalid_value(place.key("image_url").to_string(), "an object with a url"));
                }
                None => return Err(fields.missing("image_url")),
            };
            Part::Image { media: media(url), detail, cache }
        }
        // Mistral's; no OpenAI, but its clients know no other.
        "document_url" => {
            let url = match fields.take("document_url") {
                Some(Value::String(url)) => url,
                Some(Value::Object(document)) => {
                    let below = place.key("document_url");
                    Record::new(document, &below).need_text("url")?
                }
                Some(_) => return Err(invalid_value(place.key("document_url").to_string(), "a URL")),
                None => return Err(fields.missing("document_url")),
            };
            Part::File { media: media(url), filename: fields.text("document_name")?, cache }
        }
        "input_audio" => {
            let below = place.key("input_audio");
            let mut audio = Record::new(fields.need_object("input_audio")?, &below);
            let base64 = audio.need_text("data")?;
            let mime = format!("audio/{}", audio.need_text("format")?);
            audio.close(lost);
            Part::Audio { media: Media::Inline { mime, base64 } }
        }
        _ => {
            let below = place.key("file");
            let mut file = Record::new(fields.need_object("file")?, &below);
            let filename = file.text("filename")?;
            let media = match (file.text("file_id")?, file.text("file_data")?) {
                (Some(id), _) => Media::FileId(id),
                (None, Some(data)) => document(data, filename.as_deref()),
                (None, None) => return Err(file.missing("file_data")),
            };
            file.close(lost);
            Part::File { media, filename, cache }
        }
    };
    fields.close(lost);
    Ok(part)
}

/// A URL, or the bytes that a `data:` URL holds.
pub(in crate::api) fn media(url: String) -> Media {
    let inline = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).and_then(|_| {
        let (head, base64) = url.get(5..)?.split_once(',')?;
        let (mime, encoding) = head.rsplit_once(';')?;
        // Providers know types alone, without a `charset` or `codecs`.
        let mime = mime.split(';').next().unwrap_or_default().trim();
        encoding.eq_ignore_ascii_case("base64").then(|| (mime.to_owned(), base64.to_owned()))
    });
    match inline {
        Some((mime, base64)) => Media::Inline { mime, base64 },
        None => Media::Url(url),
    }
}

/// A document: a `data:` URL, or bare base64 whose kind only the file's name tells.
pub(in crate::api) fn document(data: String, filename: Option<&str>) -> Media {
    if data.contains(':') {
        return media(data);
    }
    let is_pdf = filename.is_none_or(|name| name.to_ascii_lowercase().ends_with(".pdf"));
    let mime = if is_pdf { "application/pdf" } else { "application/octet-stream" };
    Media::Inline { mime: mime.to_owned(), base64: data }
}

/// An assistant's refusal, annotations and tool calls.
fn calls(
    fields: &mut Record<'_>,
    content: &mut Vec<Part>,
    at: usize,
    place: &Place<'_>,
    lost: &mut Vec<String>,
) -> Result<(), Fault> {
    if let Some(refusal) = fields.text("refusal")? {
        content.push(Part::Refusal(refusal));
    }
    let notes = fields.list("annotations")?;
    if !notes.is_empty() {
        let last = content.iter_mut().rev().find_map(|part| match part {
            Part::Text { citations, .. } => Some(citations),
            _ => None,
        });
        match last {
            Some(citations) => citations.extend(notes),
            None => fields.put("annotations", Value::Array(notes)),
        }
    }
    let below = place.key("tool_calls");
    for (at, value) in fields.list("tool_calls")?.into_iter().enumerate() {
        content.push(call(value, &below.index(at), lost)?);
    }
    if let Some(call) = fields.object("function_call")? {
        let below = place.key("function_call");
        let mut call = Record::new(call, &below);
        content.push(Part::ToolCall {
            id: format!("call_legacy_{at}"),
            name: call.need_text("name")?,
            arguments: call.text("arguments")?.unwrap_or_default(),
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        });
        call.close(lost);
    }
    Ok(())
}

fn call(value: Value, place: &Place<'_>, lost: &mut Vec<String>) -> Result<Part, Fault> {
    let mut fields = Record::new(object(value, place)?, place);
    let id = fields.need_text("id")?;
    let is_custom = fields.peek("custom").is_some_and(Value::is_object);
    let (kind, key, input) = if is_custom {
        (ToolKind::Custom, "custom", "input")
    } else {
        (ToolKind::Function, "function", "arguments")
    };
    let below = place.key(key);
    let mut called = Record::new(fields.need_object(key)?, &below);
    let arguments = match called.take(input) {
        // Ollama's own clients send the object itself.
        Some(arguments @ Value::Object(_)) => json::to_text(&arguments),
        Some(other) => text(other, &below.key(input))?,
        None => String::new(),
    };
    let cache = cache(&mut fields)?;
    let name = called.need_text("name")?;
    let signature = signature(&fields);
    if signature.is_some() {
        fields.take("extra_content");
    }
    // The place among the pieces of a stream, which clients send back.
    fields.take("index");
    called.close(lost);
    fields.close(lost);
    Ok(Part::ToolCall { id, name, arguments, kind, signature, cache })
}

/// Gemini's signature over a call, where Google's own OpenAI-compatible endpoint puts it.
fn signature(call: &Record<'_>) -> Option<String> {
    let signature = call.peek("extra_content")?.get("google")?.get("thought_signature")?;
    signature.as_str().map(str::to_owned)
}

/// The id of the last call of the function `name`, for the results of before 2023, which have none.
fn last_call(before: &[Message], name: Option<&str>) -> Option<String> {
    before.iter().rev().flat_map(|message| message.content.iter().rev()).find_map(|part| match part {
        Part::ToolCall { id, name: called, .. } if name.is_none_or(|name| name == called) => Some(id.clone()),
        _ => None,
    })
}

/// Puts a message's own cache breakpoint behind its last part.
fn mark(content: &mut [Part], hint: Option<CacheHint>) {
    if let Some(
        Part::Text { cache, .. }
        | Part::Image { cache, .. }
        | Part::File { cache, .. }
        | Part::ToolCall { cache, .. }
        | Part::ToolResult { cache, .. },
    ) = content.last_mut()
    {
        *cache = hint;
    }
}

//! Contents and their parts in the canonical form.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::path::Origin;
use super::proof::{self, Proof};
use crate::chat::{Loss, Media, Message, Object, Part, Role, ToolKind};
use crate::fault::Fault;

/// A field under its name or under protobuf's own: both are legal in requests.
pub(super) fn field<'v>(object: &'v Object, camel: &str, snake: &str) -> Option<&'v Value> {
    object.get(camel).or_else(|| object.get(snake)).filter(|value| !value.is_null())
}

/// The 400 for a value of another type than `expected`.
pub(super) fn wrong(path: String, expected: &str) -> Fault {
    Fault::bad_request(format!("invalid '{path}': expected {expected}"), path)
}

/// Notes the fields of an object that nobody reads.
pub(super) fn unread(object: &Object, known: &[&str], path: &str, lost: &mut Vec<Loss>) {
    let others = object.iter().filter(|(key, value)| !value.is_null() && !known.contains(&key.as_str()));
    lost.extend(others.map(|(key, _)| Loss::dropped(format!("{path}.{key}"))));
}

/// Reads the conversation, and notes for each part of it where it stood.
///
/// # Errors
/// `BadRequest` with the path of what cannot be understood.
pub(super) fn messages(
    contents: &Value,
    origins: &mut Vec<Origin>,
    lost: &mut Vec<Loss>,
) -> Result<Vec<Message>, Fault> {
    let Some(contents) = contents.as_array() else { return Err(wrong("contents".into(), "an array")) };
    let mut reader = Reader { calls: 0, open: VecDeque::new(), lost };
    let mut messages: Vec<Message> = Vec::with_capacity(contents.len());
    for (at, content) in contents.iter().enumerate() {
        let path = format!("contents[{at}]");
        let Some(object) = content.as_object() else { return Err(wrong(path, "an object")) };
        let role = object.get("role").and_then(Value::as_str).unwrap_or("user");
        let assistant = match role {
            "model" => true,
            "user" | "function" | "tool" | "" => false,
            _ => return Err(wrong(format!("{path}.role"), "'user' or 'model'")),
        };
        unread(object, &["role", "parts"], &path, reader.lost);
        // Google's SDK keeps every event of a stream as a content of its own: together they are one answer.
        if assistant
            && let (Some(Message { role: Role::Assistant, content, .. }), Some(origin)) =
                (messages.last_mut(), origins.last_mut())
        {
            reader.parts(object.get("parts"), assistant, &path, content, &mut origin.parts)?;
            continue;
        }
        let (mut content, mut parts) = (Vec::new(), Vec::new());
        reader.parts(object.get("parts"), assistant, &path, &mut content, &mut parts)?;
        origins.push(Origin { content: path, parts });
        let only_results =
            !content.is_empty() && content.iter().all(|part| matches!(part, Part::ToolResult { .. }));
        let role = match (assistant, only_results) {
            (true, _) => Role::Assistant,
            (false, true) => Role::Tool,
            (false, false) => Role::User,
        };
        messages.push(Message { role, content, name: None, rest: Object::new() });
    }
    Ok(messages)
}

/// Reads the instructions: a content, a list of parts, or a text.
pub(super) fn instructions(
    value: &Value,
    origins: &mut Vec<Origin>,
    lost: &mut Vec<Loss>,
) -> Result<Option<Message>, Fault> {
    let path = "systemInstruction";
    let mut reader = Reader { calls: 0, open: VecDeque::new(), lost };
    let mut parts = Vec::new();
    let content = match value {
        Value::String(text) => vec![Part::text(text.clone())],
        Value::Object(object) => {
            unread(object, &["role", "parts"], path, reader.lost);
            let mut content = Vec::new();
            reader.parts(object.get("parts"), false, path, &mut content, &mut parts)?;
            content
        }
        _ => return Err(wrong(path.into(), "an object")),
    };
    let says = content.iter().any(|part| !matches!(part, Part::Text { text, .. } if text.is_empty()));
    if !says {
        return Ok(None);
    }
    origins.push(Origin { content: path.to_owned(), parts });
    Ok(Some(Message { role: Role::System, content, name: None, rest: Object::new() }))
}

/// A kind of part that the canonical form has, by its key in either spelling, and what is read inside of it.
struct Kind {
    camel: &'static str,
    snake: &'static str,
    inside: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    Kind { camel: "text", snake: "text", inside: &[] },
    Kind { camel: "functionCall", snake: "function_call", inside: &["id", "name", "args"] },
    Kind {
        camel: "functionResponse",
        snake: "function_response",
        inside: &["id", "name", "response", "parts"],
    },
    Kind {
        camel: "inlineData",
        snake: "inline_data",
        inside: &["mimeType", "mime_type", "data", "displayName", "display_name"],
    },
    Kind {
        camel: "fileData",
        snake: "file_data",
        inside: &["mimeType", "mime_type", "fileUri", "file_uri", "displayName", "display_name"],
    },
];

struct Reader<'l> {
    /// Calls so far, for ids where the client has none.
    calls: usize,
    /// Calls that are not answered yet: name and id.
    open: VecDeque<(String, String)>,
    lost: &'l mut Vec<Loss>,
}

impl Reader<'_> {
    /// Reads parts, and notes for each of them where it stood.
    fn parts(
        &mut self,
        parts: Option<&Value>,
        assistant: bool,
        path: &str,
        out: &mut Vec<Part>,
        origins: &mut Vec<String>,
    ) -> Result<(), Fault> {
        let list = match parts {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(list)) => list.as_slice(),
            // Some clients send one part for a list of one, and it is taken.
            Some(one @ Value::Object(_)) => std::slice::from_ref(one),
            Some(_) => return Err(wrong(format!("{path}.parts"), "an array")),
        };
        for (at, part) in list.iter().enumerate() {
            let path = format!("{path}.parts[{at}]");
            let Some(object) = part.as_object() else { return Err(wrong(path, "an object")) };
            self.part(object, assistant, &path, out)?;
            origins.resize(out.len(), path);
        }
        Ok(())
    }

    fn part(&mut self, part: &Object, assistant: bool, path: &str, out: &mut Vec<Part>) -> Result<(), Fault> {
        let proof = field(part, "thoughtSignature", "thought_signature").and_then(Value::as_str);
        self.unread(part, assistant, path);
        if let Some(text) = part.get("text").filter(|text| !text.is_null()) {
            let Some(text) = text.as_str() else { return Err(wrong(format!("{path}.text"), "a string")) };
            if part.get("thought").and_then(Value::as_bool) == Some(true) {
                thought(text, proof, out);
                return Ok(());
            }
            if !(text.is_empty() && proof.is_some()) {
                out.push(Part::text(text));
            }
            match proof.and_then(proof::read) {
                Some(Proof::Signature(signature)) => out.push(Part::Thinking {
                    text: String::new(),
                    signature: Some(signature),
                    redacted: None,
                }),
                Some(Proof::Redacted(data)) => {
                    out.push(Part::Thinking { text: String::new(), signature: None, redacted: Some(data) });
                }
                None => {}
            }
        } else if let Some(call) = field(part, "functionCall", "function_call") {
            let Some(call) = call.as_object() else { return Err(wrong(path.to_owned(), "an object")) };
            out.push(self.call(call, proof, path)?);
        } else if let Some(result) = field(part, "functionResponse", "function_response") {
            let Some(result) = result.as_object() else { return Err(wrong(path.to_owned(), "an object")) };
            out.push(self.result(result, path)?);
        } else if let Some(blob) = field(part, "inlineData", "inline_data").and_then(Value::as_object) {
            if assistant {
                // Pictures of the model's own making: only its own dialect takes them back.
                out.push(Part::Other(Value::Object(part.clone())));
            } else {
                out.push(self.named(media(blob, path)?, blob, &format!("{path}.inlineData")));
            }
        } else if let Some(file) = field(part, "fileData", "file_data").and_then(Value::as_object) {
            out.push(self.named(file_part(file, path)?, file, &format!("{path}.fileData")));
        } else if !part.is_empty() {
            out.push(Part::Other(Value::Object(part.clone())));
        }
        Ok(())
    }

    /// Documents have names; elsewhere one is lost.
    fn named(&mut self, mut part: Part, media: &Object, path: &str) -> Part {
        let name = field(media, "displayName", "display_name").and_then(Value::as_str);
        match (&mut part, name) {
            (_, None) => {}
            (Part::File { filename, .. }, Some(name)) => *filename = Some(name.to_owned()),
            _ => self.lost.push(Loss::dropped(format!("{path}.displayName"))),
        }
        part
    }

    /// Notes what nobody reads of a part. One that is kept as it came loses nothing.
    fn unread(&mut self, part: &Object, assistant: bool, path: &str) {
        let is_kept = |kind: &Kind| assistant && kind.camel == "inlineData";
        let found = KINDS.iter().find_map(|kind| Some((kind, field(part, kind.camel, kind.snake)?)));
        let Some((kind, value)) = found.filter(|(kind, _)| !is_kept(kind)) else { return };
        let known = [kind.camel, kind.snake, "thought", "thoughtSignature", "thought_signature"];
        unread(part, &known, path, self.lost);
        if let Some(inner) = value.as_object() {
            unread(inner, kind.inside, &format!("{path}.{}", kind.camel), self.lost);
        }
    }

    fn call(&mut self, call: &Object, proof: Option<&str>, path: &str) -> Result<Part, Fault> {
        let Some(name) = call.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
            return Err(wrong(format!("{path}.functionCall.name"), "a string"));
        };
        let id = text_of(call, "id").unwrap_or_else(|| format!("call_{}_{}", self.calls, letters(name)));
        self.calls += 1;
        self.open.push_back((name.to_owned(), id.clone()));
        let arguments = call.get("args").filter(|args| !args.is_null());
        Ok(Part::ToolCall {
            id,
            name: name.to_owned(),
            arguments: arguments.map_or_else(|| "{}".to_owned(), Value::to_string),
            kind: ToolKind::Function,
            signature: proof.and_then(proof::read_call),
            cache: None,
        })
    }

    fn result(&mut self, result: &Object, path: &str) -> Result<Part, Fault> {
        let name = text_of(result, "name").unwrap_or_default();
        let said = text_of(result, "id");
        let place = self.open.iter().position(|(known, id)| match &said {
            Some(said) => said == id,
            None => *known == name,
        });
        let id = match (place.and_then(|place| self.open.remove(place)), said) {
            (Some((_, id)), _) | (None, Some(id)) => id,
            (None, None) => {
                return Err(Fault::bad_request(
                    "a functionResponse without the functionCall that it answers",
                    path.to_owned(),
                ));
            }
        };
        let (text, is_error) = response(result.get("response"));
        let mut content = vec![Part::text(text)];
        for part in result.get("parts").and_then(Value::as_array).into_iter().flatten() {
            let blob = part.as_object().and_then(|part| field(part, "inlineData", "inline_data"));
            if let Some(blob) = blob.and_then(Value::as_object) {
                content.push(media(blob, path)?);
            }
        }
        Ok(Part::ToolResult { id, content, is_error, cache: None })
    }
}

/// Thinking comes in pieces; the proof ends it.
fn thought(text: &str, proof: Option<&str>, out: &mut Vec<Part>) {
    let (signature, redacted) = match proof.and_then(proof::read) {
        Some(Proof::Signature(signature)) => (Some(signature), None),
        Some(Proof::Redacted(data)) => (None, Some(data)),
        None => (None, None),
    };
    if redacted.is_none()
        && let Some(Part::Thinking { text: known, signature: place @ None, redacted: None }) = out.last_mut()
    {
        known.push_str(text);
        *place = signature;
        return;
    }
    out.push(Part::Thinking { text: text.to_owned(), signature, redacted });
}

/// `output` and `error` are the keys that Google knows, `result` is its SDK's; anything else is JSON.
fn response(response: Option<&Value>) -> (String, bool) {
    let Some(response) = response.filter(|response| !response.is_null()) else {
        return (String::new(), false);
    };
    if let Some(object) = response.as_object().filter(|object| object.len() == 1) {
        for (key, is_error) in [("output", false), ("result", false), ("error", true)] {
            if let Some(Value::String(text)) = object.get(key) {
                return (text.clone(), is_error);
            }
        }
    }
    (response.to_string(), false)
}

fn media(blob: &Object, path: &str) -> Result<Part, Fault> {
    let mime = field(blob, "mimeType", "mime_type").and_then(Value::as_str).unwrap_or_default();
    let Some(base64) = blob.get("data").and_then(Value::as_str) else {
        return Err(wrong(format!("{path}.inlineData.data"), "a string"));
    };
    // Google's clients write base64 for URLs, which others do not read.
    let base64 = if base64.contains(['-', '_']) {
        base64.replace('-', "+").replace('_', "/")
    } else {
        base64.to_owned()
    };
    let media = Media::Inline { mime: mime.to_owned(), base64 };
    Ok(of_kind(mime, media))
}

fn file_part(file: &Object, path: &str) -> Result<Part, Fault> {
    let Some(uri) = field(file, "fileUri", "file_uri").and_then(Value::as_str) else {
        return Err(wrong(format!("{path}.fileData.fileUri"), "a string"));
    };
    let mime = field(file, "mimeType", "mime_type").and_then(Value::as_str).unwrap_or_default();
    let media =
        if uri.starts_with("http") { Media::Url(uri.to_owned()) } else { Media::FileId(uri.to_owned()) };
    Ok(of_kind(mime, media))
}

fn of_kind(mime: &str, media: Media) -> Part {
    if mime.starts_with("image/") {
        Part::Image { media, detail: None, cache: None }
    } else if mime.starts_with("video/") {
        // In the form of OpenAI's compatible vendors: whoever cannot see films refuses them by it.
        let url = match media {
            Media::Inline { mime, base64 } => format!("data:{mime};base64,{base64}"),
            Media::Url(at) | Media::FileId(at) => at,
        };
        Part::Other(json!({ "type": "video_url", "video_url": { "url": url } }))
    } else if mime.starts_with("audio/") {
        Part::Audio { media }
    } else {
        Part::File { media, filename: None, cache: None }
    }
}

fn text_of(object: &Object, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A name in the letters that every provider takes in an id.
fn letters(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    name.chars().take(40).map(letter).collect()
}

/// What a schema of no parameters is in JSON Schema.
pub(super) fn no_parameters() -> Value {
    json!({ "type": "object", "properties": {} })
}

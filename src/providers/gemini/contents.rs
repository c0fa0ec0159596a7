//! The conversation in Gemini's form: `systemInstruction` and `contents`.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::media;
use super::model::Model;
use crate::chat::{Loss, Message, Object, Part, Role, proof};
use crate::fault::Fault;
use crate::json::{self, Verbatim};
use crate::providers::foreign;

/// What Google takes in place of a proof that another provider's call cannot have:
/// <https://ai.google.dev/gemini-api/docs/thought-signatures#faqs>
pub(super) const NO_PROOF: &str = "skip_thought_signature_validator";

/// Writes the conversation into the request's body. Turns of one text need no tree: they stand as null among the
/// contents, and are returned.
///
/// # Errors
/// `BadRequest` that names the part which Gemini cannot take.
pub(super) fn put<'a>(
    messages: &'a [Message],
    model: Model<'_>,
    body: &mut Object,
    lost: &mut Vec<Loss>,
) -> Result<Vec<Verbatim<'a>>, Fault> {
    let contents = Vec::with_capacity(messages.len());
    let mut writer = Writer { model, names: HashMap::new(), contents, last: None, lost };
    let (mut system, mut plain) = (Vec::new(), Vec::new());
    for (place, message) in messages.iter().enumerate() {
        if let Some(verbatim) = verbatim(message, writer.last, messages.get(place + 1)) {
            plain.push(verbatim);
            writer.contents.push(Value::Null);
            writer.last = Some(message.role);
            continue;
        }
        foreign::lose_fields(message, place, writer.lost);
        writer.lose_inside(message, place);
        match message.role {
            Role::System | Role::Developer => {
                if writer.last.is_some() {
                    let what = "moved to the front: this provider has one place for instructions";
                    writer.lost.push(Loss::new(format!("messages[{place}]"), what));
                }
                system.extend(writer.parts(message, place)?);
            }
            _ => writer.message(message, place)?,
        }
    }
    let mut contents = writer.contents;
    if contents.is_empty() && !system.is_empty() {
        // Contents must not be empty: instructions alone are the question.
        contents.push(json!({ "role": "user", "parts": std::mem::take(&mut system) }));
    }
    if contents.is_empty() {
        contents.push(json!({ "role": "user", "parts": [{ "text": " " }] }));
    }
    if !system.is_empty() {
        body.insert("systemInstruction".into(), json!({ "parts": system }));
    }
    body.insert("contents".into(), Value::Array(contents));
    Ok(plain)
}

/// A turn of one text; `None` where it may have to join another one.
fn verbatim<'a>(message: &'a Message, last: Option<Role>, next: Option<&Message>) -> Option<Verbatim<'a>> {
    let text = message.as_plain().filter(|text| !text.is_blank())?;
    let before = match message.role {
        Role::User => r#"{"role":"user","parts":[{"text":"#,
        Role::Assistant
            if last != Some(Role::Assistant) && next.is_none_or(|next| next.role == Role::User) =>
        {
            r#"{"role":"model","parts":[{"text":"#
        }
        _ => return None,
    };
    Some(Verbatim { before, text, after: "}]}" })
}

/// Takes the ids of calls and results out. Vertex AI matches them by their order for the models before Gemini 3, and
/// refuses a request with ids. Seen until September 2026: <https://github.com/vercel/ai/issues/15664>
pub(super) fn without_ids(body: &mut Object) {
    let contents = body.get_mut("contents").and_then(Value::as_array_mut).into_iter().flatten();
    for part in contents.filter_map(|content| content.get_mut("parts")?.as_array_mut()).flatten() {
        for kind in ["functionCall", "functionResponse"] {
            if let Some(Value::Object(inner)) = part.get_mut(kind) {
                inner.shift_remove("id");
            }
        }
    }
}

struct Writer<'a> {
    model: Model<'a>,
    /// Names of the functions called, by the id of the call.
    names: HashMap<&'a str, &'a str>,
    contents: Vec<Value>,
    last: Option<Role>,
    lost: &'a mut Vec<Loss>,
}

impl<'a> Writer<'a> {
    /// Notes what has no place beside what a part says.
    fn lose_inside(&mut self, message: &Message, place: usize) {
        for (at, part) in message.content.iter().enumerate() {
            let mut lose = |field: &str, what: &'static str| {
                self.lost.push(Loss::new(format!("messages[{place}].content[{at}]{field}"), what));
            };
            match part {
                Part::Text { cache: Some(_), .. }
                | Part::Image { cache: Some(_), .. }
                | Part::File { cache: Some(_), .. }
                | Part::ToolCall { cache: Some(_), .. }
                | Part::ToolResult { cache: Some(_), .. } => lose(".cache_control", "dropped"),
                _ => {}
            }
            match part {
                Part::Text { citations, .. } if !citations.is_empty() => lose(".annotations", "dropped"),
                Part::Image { detail: Some(detail), .. } if detail != "auto" => lose(".detail", "dropped"),
                Part::File { filename: Some(_), .. } => lose(".filename", "dropped"),
                _ => {}
            }
        }
    }

    fn message(&mut self, message: &'a Message, place: usize) -> Result<(), Fault> {
        let parts = self.parts(message, place)?;
        if parts.is_empty() {
            return Ok(());
        }
        // All results of one round of calls stand in one turn, and so do all calls.
        let joins = matches!(message.role, Role::Assistant | Role::Tool) && self.last == Some(message.role);
        self.last = Some(message.role);
        if joins
            && let Some(Value::Array(known)) = self.contents.last_mut().and_then(|last| last.get_mut("parts"))
        {
            known.extend(parts);
            return Ok(());
        }
        let role = if message.role == Role::Assistant { "model" } else { "user" };
        self.contents.push(json!({ "role": role, "parts": parts }));
        Ok(())
    }

    fn parts(&mut self, message: &'a Message, place: usize) -> Result<Vec<Value>, Fault> {
        let mut parts: Vec<Value> = Vec::with_capacity(message.content.len());
        // Media of results follow all results: these must stand together.
        let mut after = Vec::new();
        // A proof that stands before the text to which it belongs.
        let mut early: Option<&str> = None;
        for (at, part) in message.content.iter().enumerate() {
            match part {
                Part::Thinking { text, signature, redacted } => {
                    let foreign = signature
                        .as_deref()
                        .is_some_and(|s| proof::for_gemini(s).is_none() && s != proof::COHERE_PLAN);
                    if foreign && redacted.is_none() {
                        let path = format!("messages[{place}].content[{at}].signature");
                        self.lost.push(Loss::new(path, "dropped: it is another provider's"));
                    }
                    let signature = signature.as_deref().or(redacted.as_deref()).and_then(proof::for_gemini);
                    match (text.is_empty(), signature) {
                        (true, Some(signature)) if !prove(&mut parts, signature) => early = Some(signature),
                        (true, Some(_)) => {}
                        (true, None) if redacted.is_none() => {}
                        (true, None) => {
                            let path = format!("messages[{place}].content[{at}]");
                            self.lost.push(Loss::new(path, "hidden thinking of another provider dropped"));
                        }
                        (false, signature) => {
                            let mut part = Object::new();
                            part.insert("text".into(), text.as_str().into());
                            part.insert("thought".into(), true.into());
                            if let Some(signature) = signature {
                                part.insert("thoughtSignature".into(), signature.into());
                            }
                            parts.push(Value::Object(part));
                        }
                    }
                }
                Part::ToolResult { id, content, is_error, .. } => {
                    let name = self.names.get(&**id).copied().or(message.name.as_deref());
                    let Some(name) = name else {
                        let path = format!("messages[{place}].content[{at}]");
                        return Err(Fault::bad_request(
                            "a tool result without the call that it answers",
                            path,
                        ));
                    };
                    let path = format!("messages[{place}].content[{at}]");
                    parts.push(self.result(id, name, content, *is_error, &path, &mut after)?);
                }
                Part::ToolCall { id, name, arguments, kind, signature, .. } => {
                    self.names.insert(id, name);
                    let args = foreign::arguments(arguments, *kind);
                    let mut part = Object::new();
                    part.insert("functionCall".into(), json!({ "id": id, "name": name, "args": args }));
                    let first = !parts.iter().any(|part| part.get("functionCall").is_some());
                    let signature = signature.as_deref().or_else(|| if first { early.take() } else { None });
                    match signature {
                        Some(signature) => {
                            part.insert("thoughtSignature".into(), signature.into());
                        }
                        // Without any, the first call of a step is refused.
                        None if first && self.model.is_third() => {
                            part.insert("thoughtSignature".into(), NO_PROOF.into());
                        }
                        None => {}
                    }
                    parts.push(Value::Object(part));
                }
                // An empty text is refused, and says nothing.
                Part::Text { text, .. } if text.is_empty() => {}
                Part::Refusal(text) if text.is_empty() => {}
                Part::Text { text, .. } => parts.push(json!({ "text": text })),
                Part::Refusal(text) => parts.push(json!({ "text": text })),
                // Without what the user shows, the answer would be wrong.
                Part::Other(value) if message.role != Role::Assistant && !is_own(value) => {
                    return foreign::cannot_read(value, &format!("messages[{place}].content[{at}]"));
                }
                other => {
                    let path = format!("messages[{place}].content[{at}]");
                    parts.extend(self.other(other, &path)?);
                }
            }
        }
        parts.append(&mut after);
        if let Some(signature) = early {
            let text = parts.iter_mut().rfind(|part| {
                part.get("text").is_some()
                    && part.get("thought").is_none()
                    && part.get("thoughtSignature").is_none()
            });
            match text.and_then(Value::as_object_mut) {
                Some(text) => {
                    text.insert("thoughtSignature".into(), signature.into());
                }
                None => parts.push(json!({ "text": "", "thoughtSignature": signature })),
            }
        }
        Ok(parts)
    }

    /// Media, and parts of other dialects.
    fn other(&mut self, part: &Part, path: &str) -> Result<Option<Value>, Fault> {
        if let Part::Other(value) = part {
            if let Some(url) = foreign::video_url(value) {
                return Ok(Some(media::video(url)));
            }
            if is_own(value) {
                return Ok(Some(value.clone()));
            }
            self.lost.push(Loss::new(path.to_owned(), "part of another provider's dialect dropped"));
            return Ok(None);
        }
        media::part(part, path).map(Some)
    }

    fn result(
        &mut self,
        id: &str,
        name: &str,
        content: &[Part],
        is_error: bool,
        path: &str,
        after: &mut Vec<Value>,
    ) -> Result<Value, Fault> {
        let mut text: Option<String> = None;
        let mut inside = Vec::new();
        for part in content {
            match part {
                Part::Text { text: more, .. } => match &mut text {
                    Some(text) => {
                        text.push('\n');
                        text.push_str(more);
                    }
                    None => text = Some(more.as_str().to_owned()),
                },
                other => {
                    let Some(part) = self.other(other, path)? else { continue };
                    // Gemini 3 takes media inside of a result; others get it beside.
                    if self.model.is_third() && part.get("inlineData").is_some() {
                        inside.push(part);
                    } else {
                        after.push(part);
                    }
                }
            }
        }
        let mut response = Object::new();
        response.insert("id".into(), id.into());
        response.insert("name".into(), name.into());
        response.insert("response".into(), response_of(text.unwrap_or_default(), is_error));
        if !inside.is_empty() {
            response.insert("parts".into(), Value::Array(inside));
        }
        Ok(json!({ "functionResponse": response }))
    }
}

/// Whether a part that the canonical form does not know can be told here: Google's own, or a film.
fn is_own(value: &Value) -> bool {
    const OWN: &[&str] = &[
        "executableCode",
        "codeExecutionResult",
        "toolCall",
        "toolResponse",
        "inlineData",
        "fileData",
        "functionCall",
        "functionResponse",
    ];
    foreign::video_url(value).is_some() || OWN.iter().any(|key| value.get(key).is_some())
}

/// Puts a proof on the part just written; false where that is none which it can stand on.
fn prove(parts: &mut [Value], signature: &str) -> bool {
    let Some(Value::Object(last)) = parts.last_mut() else { return false };
    let bears = last.contains_key("text") || last.contains_key("inlineData");
    if !bears || last.contains_key("thoughtSignature") || last.contains_key("thought") {
        return false;
    }
    last.insert("thoughtSignature".into(), signature.into());
    true
}

/// A result as the object that Gemini demands: `output` and `error` are the keys that it knows.
/// <https://ai.google.dev/api/caching#FunctionResponse>
fn response_of(text: String, is_error: bool) -> Value {
    if is_error {
        return json!({ "error": text });
    }
    match json::parse(text.as_bytes()) {
        Some(Value::Object(object)) => Value::Object(object),
        _ => json!({ "output": text }),
    }
}

//! The conversation in Cohere's form. <https://docs.cohere.com/v2/docs/chat-api>

use serde_json::{Value, json};

use super::{cite, model};
use crate::chat::{Loss, Media, Message, Object, Part, Role, ToolKind, proof};
use crate::fault::Fault;
use crate::providers::foreign::{self, cannot, cannot_read};

/// What the conversation became.
pub(super) struct Written {
    pub(super) messages: Vec<Value>,
    /// Text documents of the conversation: Cohere reads them beside it, and cites them.
    pub(super) documents: Vec<Value>,
}

/// Writes the conversation.
///
/// # Errors
/// `BadRequest` that names the part which Cohere cannot take.
pub(super) fn write(messages: &[Message], name: &str, lost: &mut Vec<Loss>) -> Result<Written, Fault> {
    let written = Written { messages: Vec::with_capacity(messages.len()), documents: Vec::new() };
    let mut writer = Writer { thinks: model::thinks(name), written, lost };
    for (place, message) in messages.iter().enumerate() {
        writer.message(message, place)?;
    }
    Ok(writer.written)
}

struct Writer<'a> {
    thinks: bool,
    written: Written,
    lost: &'a mut Vec<Loss>,
}

impl Writer<'_> {
    fn message(&mut self, message: &Message, place: usize) -> Result<(), Fault> {
        foreign::lose_fields(message, place, self.lost);
        foreign::lose_proofs(message, place, |proof| proof == proof::COHERE_PLAN, self.lost);
        if message.role == Role::Assistant {
            return self.assistant(message, place);
        }
        let mut content = Vec::with_capacity(message.content.len());
        let mut after = Vec::new();
        for (at, part) in message.content.iter().enumerate() {
            let path = format!("messages[{place}].content[{at}]");
            match part {
                Part::ToolResult { id, content, is_error, .. } => {
                    self.result(id, content, *is_error, &path, &mut after)?;
                }
                other => content.extend(self.part(other, &path)?),
            }
        }
        // Pictures of results follow all results: these must stand together.
        content.splice(0..0, after);
        if content.is_empty() {
            return Ok(());
        }
        let role = match message.role {
            Role::System | Role::Developer => "system",
            _ => "user",
        };
        self.written.messages.push(json!({ "role": role, "content": plain(content) }));
        Ok(())
    }

    fn result(
        &mut self,
        id: &str,
        content: &[Part],
        is_error: bool,
        path: &str,
        after: &mut Vec<Value>,
    ) -> Result<(), Fault> {
        if is_error {
            self.lost.push(Loss::dropped(format!("{path}.is_error")));
        }
        let mut inside = Vec::new();
        for part in content {
            match part {
                // A document of a result is cited as such.
                Part::File { media, filename, .. } if media.as_text().is_some() => {
                    let data = document_data(&media.as_text().unwrap_or_default(), filename.as_deref());
                    inside.push(json!({ "type": "document", "document": { "data": data } }));
                }
                Part::Other(value) if value.get("type").is_some_and(|kind| kind == "document") => {
                    inside.push(value.clone());
                }
                Part::Image { .. } => after.extend(self.part(part, path)?),
                other => inside.extend(self.part(other, path)?),
            }
        }
        let content = plain(inside);
        self.written.messages.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
        Ok(())
    }

    fn assistant(&mut self, message: &Message, place: usize) -> Result<(), Fault> {
        let (mut content, mut plan, mut calls, mut citations) =
            (Vec::new(), String::new(), Vec::new(), Vec::new());
        let has_calls = message.content.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        for (at, part) in message.content.iter().enumerate() {
            let path = format!("messages[{place}].content[{at}]");
            match part {
                Part::Thinking { redacted: Some(_), .. } => {
                    self.lost.push(Loss::new(path, "hidden thinking of another provider dropped"));
                }
                Part::Thinking { text, .. } if text.is_empty() => {}
                Part::Thinking { text, signature, .. } => {
                    let is_plan = signature.as_deref() == Some(proof::COHERE_PLAN);
                    match (is_plan, self.thinks, has_calls) {
                        (true, _, true) | (_, false, true) => plan.push_str(text),
                        (_, true, _) => content.push(json!({ "type": "thinking", "thinking": text })),
                        (_, false, false) => self.lost.push(Loss::new(path, "thinking dropped")),
                    }
                }
                Part::ToolCall { id, name, arguments, kind, .. } => {
                    let arguments = match kind {
                        ToolKind::Custom => json!({ "input": arguments }).to_string(),
                        _ if arguments.trim().is_empty() => "{}".to_owned(),
                        _ => arguments.clone(),
                    };
                    let function = json!({ "name": name, "arguments": arguments });
                    calls.push(json!({ "id": id, "type": "function", "function": function }));
                }
                Part::Text { text, citations: own, .. } => {
                    let (known, foreign): (Vec<_>, Vec<_>) =
                        own.iter().partition(|citation| cite::own(citation).is_some());
                    citations.extend(known.into_iter().filter_map(cite::own).cloned());
                    // The further sources of one citation stand without the original.
                    if citations.is_empty() && !foreign.is_empty() {
                        self.lost.push(Loss::dropped(format!("{path}.citations")));
                    }
                    content.extend((!text.is_empty()).then(|| json!({ "type": "text", "text": text })));
                }
                Part::Other(_) => foreign::lose_part(path, self.lost),
                other => content.extend(self.part(other, &path)?),
            }
        }
        if content.is_empty() && calls.is_empty() && plan.is_empty() {
            return Ok(());
        }
        let mut object = Object::new();
        object.insert("role".into(), "assistant".into());
        if !content.is_empty() || calls.is_empty() {
            object.insert("content".into(), plain(content));
        }
        if !plan.is_empty() {
            object.insert("tool_plan".into(), plan.into());
        }
        for (field, values) in [("tool_calls", calls), ("citations", citations)] {
            if !values.is_empty() {
                object.insert(field.into(), Value::Array(values));
            }
        }
        self.written.messages.push(Value::Object(object));
        Ok(())
    }

    /// A part of a message; `None` where it stands elsewhere.
    fn part(&mut self, part: &Part, path: &str) -> Result<Option<Value>, Fault> {
        if let Part::Text { cache: Some(_), .. } | Part::Image { cache: Some(_), .. } = part {
            self.lost.push(Loss::dropped(format!("{path}.cache_control")));
        }
        Ok(Some(match part {
            Part::Text { text, .. } => json!({ "type": "text", "text": text }),
            Part::Refusal(text) => json!({ "type": "text", "text": text }),
            Part::Image { media, detail, .. } => {
                let Some(url) = media.as_url() else {
                    return cannot("an image by the id of an uploaded file", path);
                };
                let mut image = Object::new();
                image.insert("url".into(), url.into());
                if let Some(detail) = detail {
                    image.insert("detail".into(), detail.as_str().into());
                }
                json!({ "type": "image_url", "image_url": image })
            }
            Part::File { media, filename, .. } => {
                return self.document(media, filename.as_deref(), path).map(|()| None);
            }
            Part::Audio { .. } => return cannot("sound", path),
            Part::Other(value) => return cannot_read(value, path),
            Part::Thinking { .. } | Part::ToolCall { .. } => {
                return cannot("thinking or tool calls outside of an assistant's message", path);
            }
            Part::ToolResult { .. } => return cannot("a tool result inside of another", path),
        }))
    }

    fn document(&mut self, media: &Media, filename: Option<&str>, path: &str) -> Result<(), Fault> {
        let Some(text) = media.as_text() else { return cannot("a document that is not plain text", path) };
        let id = format!("doc:{}", self.written.documents.len());
        let data = document_data(&text, filename);
        self.written.documents.push(json!({ "id": id, "data": data }));
        Ok(())
    }
}

fn document_data(text: &str, filename: Option<&str>) -> Object {
    let mut data = Object::new();
    if let Some(filename) = filename {
        data.insert("title".into(), filename.into());
    }
    data.insert("text".into(), text.into());
    data
}

/// A single text as a string, anything else as a list of parts.
fn plain(mut content: Vec<Value>) -> Value {
    if content.is_empty() {
        return "".into();
    }
    if let [Value::Object(only)] = content.as_mut_slice()
        && only.get("type").is_some_and(|kind| kind == "text")
        && let Some(text) = only.get_mut("text")
    {
        return text.take();
    }
    Value::Array(content)
}

//! The conversation in Ollama's form: one text, its pictures and its calls in each message.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::chat::{Loss, Media, Message, Object, Part, Role};
use crate::fault::Fault;
use crate::providers::foreign::{self, cannot, cannot_read};

/// Writes the conversation.
///
/// # Errors
/// `BadRequest` that names the part which Ollama cannot take.
pub(super) fn write(messages: &[Message], lost: &mut Vec<Loss>) -> Result<Vec<Value>, Fault> {
    let mut writer = Writer { names: HashMap::new(), written: Vec::with_capacity(messages.len()), lost };
    for (place, message) in messages.iter().enumerate() {
        writer.message(message, place)?;
    }
    Ok(writer.written)
}

struct Writer<'a> {
    /// Names of the functions called, by the id of the call.
    names: HashMap<&'a str, &'a str>,
    written: Vec<Value>,
    lost: &'a mut Vec<Loss>,
}

/// One message of Ollama's in the making.
#[derive(Default)]
struct Said {
    text: Option<String>,
    thinking: String,
    images: Vec<Value>,
    calls: Vec<Value>,
}

impl<'a> Writer<'a> {
    fn message(&mut self, message: &'a Message, place: usize) -> Result<(), Fault> {
        foreign::lose_fields(message, place, self.lost);
        foreign::lose_proofs(message, place, |_| false, self.lost);
        let mut said = Said::default();
        for (at, part) in message.content.iter().enumerate() {
            let path = format!("messages[{place}].content[{at}]");
            match part {
                Part::ToolResult { id, content, is_error, .. } => {
                    self.result(id, content, *is_error, message.name.as_deref(), &path)?;
                }
                Part::ToolCall { id, name, arguments, kind, .. } => {
                    self.names.insert(id, name);
                    let arguments = foreign::arguments(arguments, *kind);
                    let place = said.calls.len();
                    let function = json!({ "index": place, "name": name, "arguments": arguments });
                    said.calls.push(json!({ "id": id, "function": function }));
                }
                Part::Other(_) if message.role == Role::Assistant => foreign::lose_part(path, self.lost),
                other => self.part(other, &path, &mut said)?,
            }
        }
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::Assistant => "assistant",
            // What stands beside results is the user's.
            Role::User | Role::Tool => "user",
        };
        if !said.is_empty() {
            self.written.push(said.written(role));
        }
        Ok(())
    }

    fn result(
        &mut self,
        id: &str,
        content: &[Part],
        is_error: bool,
        name: Option<&str>,
        path: &str,
    ) -> Result<(), Fault> {
        if is_error {
            self.lost.push(Loss::dropped(format!("{path}.is_error")));
        }
        let mut said = Said::default();
        for part in content {
            self.part(part, path, &mut said)?;
        }
        let mut written = said.written("tool");
        if let Value::Object(fields) = &mut written {
            if let Some(name) = self.names.get(id).copied().or(name) {
                fields.insert("tool_name".into(), name.into());
            }
            if !id.is_empty() {
                fields.insert("tool_call_id".into(), id.into());
            }
        }
        self.written.push(written);
        Ok(())
    }

    fn part(&mut self, part: &Part, path: &str, said: &mut Said) -> Result<(), Fault> {
        if let Part::Text { cache: Some(_), .. } | Part::Image { cache: Some(_), .. } = part {
            self.lost.push(Loss::dropped(format!("{path}.cache_control")));
        }
        match part {
            Part::Text { text, citations, .. } => {
                if !citations.is_empty() {
                    self.lost.push(Loss::dropped(format!("{path}.citations")));
                }
                said.add_text(text);
            }
            Part::Refusal(text) => said.add_text(text),
            Part::Thinking { redacted: Some(_), .. } => {
                self.lost.push(Loss::new(path.to_owned(), "hidden thinking of another provider dropped"));
            }
            Part::Thinking { text, .. } => said.thinking.push_str(text),
            Part::Image { media, .. } => match media {
                Media::Inline { base64, .. } => said.images.push(base64.as_str().into()),
                Media::Url(_) => return cannot("an image by URL: send its bytes as a `data:` URL", path),
                Media::FileId(_) => return cannot("an image by the id of an uploaded file", path),
            },
            Part::File { media, filename, .. } => {
                let Some(text) = media.as_text() else {
                    return cannot("a document that is not plain text", path);
                };
                let title = filename.as_ref().map(|name| format!("{name}\n\n")).unwrap_or_default();
                said.add_text(&(title + text.as_str()));
            }
            Part::Audio { .. } => return cannot("sound", path),
            Part::Other(value) => return cannot_read(value, path),
            Part::ToolCall { .. } | Part::ToolResult { .. } => {
                return cannot("a tool call or result inside of another", path);
            }
        }
        Ok(())
    }
}

impl Said {
    fn is_empty(&self) -> bool {
        self.text.is_none() && self.thinking.is_empty() && self.images.is_empty() && self.calls.is_empty()
    }

    fn add_text(&mut self, text: &str) {
        match &mut self.text {
            Some(known) => {
                known.push('\n');
                known.push_str(text);
            }
            None => self.text = Some(text.to_owned()),
        }
    }

    fn written(self, role: &str) -> Value {
        let mut fields = Object::new();
        fields.insert("role".into(), role.into());
        fields.insert("content".into(), self.text.unwrap_or_default().into());
        if !self.thinking.is_empty() {
            fields.insert("thinking".into(), self.thinking.into());
        }
        for (field, values) in [("images", self.images), ("tool_calls", self.calls)] {
            if !values.is_empty() {
                fields.insert(field.into(), Value::Array(values));
            }
        }
        Value::Object(fields)
    }
}

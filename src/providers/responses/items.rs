//! The conversation as input items: <https://platform.openai.com/docs/api-reference/responses/create#responses-create-input>

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::chat::{Loss, Media, Message, Object, Part, Role, ToolKind, proof};
use crate::fault::{Fault, Retry};
use crate::json::Verbatim;
use crate::providers::foreign;
use crate::providers::openai::encode::{audio_format, is_unsayable, put};
use crate::providers::openai::{losses, normalise};

/// Ids of calls may have at most so many characters.
const LONGEST_ID: usize = 64;

/// Items that are the vendor's own, calls and results of built-in tools, which go back as they came.
const OWN: &[&str] = &[
    "web_search_call",
    "file_search_call",
    "computer_call",
    "computer_call_output",
    "code_interpreter_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "program",
    "program_output",
    "tool_search_call",
    "tool_search_output",
    "compaction",
    "item_reference",
];

/// Bookkeeping of other dialects' answers, which clients send back.
const BOOKKEEPING: &[&str] = &["id", "index"];

/// The input. Messages of one text need no tree: they stand in it as null, and are returned beside it.
///
/// # Errors
/// `BadRequest` that names the part which this API cannot carry.
pub(super) fn input<'a>(
    messages: &'a [Message],
    keeper: &str,
    no_developer: bool,
    lost: &mut Vec<Loss>,
) -> Result<(Vec<Value>, Vec<Verbatim<'a>>), Fault> {
    let items = Vec::with_capacity(messages.len());
    let mut writer = Writer { items, thoughts: Vec::new(), kinds: HashMap::new(), keeper, lost };
    let mut plain = Vec::with_capacity(messages.len());
    for (place, message) in messages.iter().enumerate() {
        if let Some(verbatim) = writer.verbatim(message) {
            plain.push(verbatim);
            writer.items.push(Value::Null);
            continue;
        }
        writer.message(message, place, no_developer)?;
    }
    Ok((writer.finish(), plain))
}

struct Writer<'a, 'l> {
    items: Vec<Value>,
    /// Reasoning items, with the part that each was.
    thoughts: Vec<(usize, String)>,
    kinds: HashMap<&'a str, ToolKind>,
    keeper: &'l str,
    lost: &'l mut Vec<Loss>,
}

impl<'a> Writer<'a, '_> {
    /// A message of one text; `None` where the item before it has to know it.
    fn verbatim(&self, message: &'a Message) -> Option<Verbatim<'a>> {
        let text = message.as_plain()?;
        let follows_thought = self.thoughts.last().is_some_and(|(at, _)| at + 1 == self.items.len());
        let before = match message.role {
            Role::System => r#"{"role":"system","content":"#,
            Role::User => r#"{"role":"user","content":"#,
            Role::Assistant if !follows_thought => r#"{"role":"assistant","content":"#,
            _ => return None,
        };
        Some(Verbatim { before, text, after: "}" })
    }

    fn message(&mut self, message: &'a Message, place: usize, no_developer: bool) -> Result<(), Fault> {
        if message.name.is_some() {
            self.lost.push(Loss::dropped(format!("messages[{place}].name")));
        }
        for (field, value) in &message.rest {
            let says_nothing = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            if !says_nothing && !BOOKKEEPING.contains(&&**field) && field != "phase" {
                self.lost.push(Loss::dropped(format!("messages[{place}].{field}")));
            }
        }
        let role = match message.role {
            Role::System => "system",
            Role::Developer if no_developer => "system",
            Role::Developer => "developer",
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let mut said = Vec::new();
        for (at, part) in message.content.iter().enumerate() {
            if !matches!(part, Part::Other(value) if is_own(value)) {
                losses::of_part(part, message.role, (place, at), false, self.lost);
            }
            let path = || format!("messages[{place}].content[{at}]");
            let item = match part {
                Part::Thinking { text, signature, .. } if message.role == Role::Assistant => {
                    self.thought(text, signature.as_deref(), path())
                }
                Part::ToolCall { id, name, arguments, kind, signature, .. }
                    if message.role == Role::Assistant =>
                {
                    if signature.is_some() {
                        let what = "another provider's proof dropped";
                        self.lost.push(Loss::new(path() + ".signature", what));
                    }
                    self.kinds.insert(id, *kind);
                    Some(call(id, name, arguments, *kind))
                }
                Part::ToolResult { id, content, .. } => Some(self.result(id, content, &path())?),
                Part::Other(value) if is_own(value) => Some(value.clone()),
                Part::Other(_) if message.role == Role::Assistant => {
                    if !is_unsayable(part) {
                        self.lost.push(Loss::new(path(), "part of another provider's dialect dropped"));
                    }
                    None
                }
                part => {
                    said.push(content(part, message.role, &path())?);
                    continue;
                }
            };
            if let Some(item) = item {
                self.flush(role, &mut said, message);
                if item.get("type").is_some_and(|kind| kind == "reasoning") {
                    self.thoughts.push((self.items.len(), path()));
                }
                self.items.push(item);
            }
        }
        self.flush(role, &mut said, message);
        Ok(())
    }

    /// Ends the message under way.
    fn flush(&mut self, role: &str, said: &mut Vec<Value>, message: &Message) {
        let mut said = std::mem::take(said);
        let content = match said.as_mut_slice() {
            [] => return,
            [Value::Object(only)] if only.get("text").is_some_and(Value::is_string) => {
                only.get_mut("text").map(Value::take).unwrap_or_default()
            }
            _ => Value::Array(said),
        };
        let mut item = Object::new();
        item.insert("role".into(), role.into());
        item.insert("content".into(), content);
        put(&mut item, "phase", message.rest.get("phase").cloned());
        self.items.push(Value::Object(item));
    }

    /// A reasoning item, where this provider can decrypt it.
    fn thought(&mut self, text: &str, signature: Option<&str>, path: String) -> Option<Value> {
        let Some((id, encrypted)) = signature.and_then(|proof| proof::for_responses(self.keeper, proof))
        else {
            self.lost.push(Loss::new(path, "thinking dropped: this provider has not signed it"));
            return None;
        };
        let mut item = Object::new();
        item.insert("type".into(), "reasoning".into());
        if !id.is_empty() {
            item.insert("id".into(), id.into());
        }
        let summary: &[&str] = if text.is_empty() { &[] } else { &[text] };
        let summary: Vec<_> =
            summary.iter().map(|text| json!({ "type": "summary_text", "text": text })).collect();
        item.insert("summary".into(), Value::Array(summary));
        item.insert("encrypted_content".into(), encrypted.into());
        Some(Value::Object(item))
    }

    fn result(&self, id: &str, parts: &[Part], path: &str) -> Result<Value, Fault> {
        let custom = self.kinds.get(id) == Some(&ToolKind::Custom);
        let kind = if custom { "custom_tool_call_output" } else { "function_call_output" };
        let parts: Vec<&Part> = parts.iter().filter(|part| !is_unsayable(part)).collect();
        let output = match parts.as_slice() {
            [] => "".into(),
            [Part::Text { text, .. }] => text.as_str().into(),
            parts => parts
                .iter()
                .enumerate()
                .map(|(at, part)| content(part, Role::Tool, &format!("{path}.content[{at}]")))
                .collect::<Result<Value, Fault>>()?,
        };
        Ok(json!({ "type": kind, "call_id": call_id(id), "output": output }))
    }

    /// A reasoning item without what it led to is refused, so one that ends its turn stays behind.
    fn finish(mut self) -> Vec<Value> {
        for (at, path) in std::mem::take(&mut self.thoughts).into_iter().rev() {
            let leads = self.items.get(at + 1).is_some_and(|next| {
                let kind = next.get("type").and_then(Value::as_str).unwrap_or_default();
                kind == "reasoning"
                    || kind.ends_with("_call")
                    || next.get("role") == Some(&"assistant".into())
            });
            if !leads && at < self.items.len() {
                self.items.remove(at);
                self.lost.push(Loss::new(path, "thinking dropped: nothing follows it"));
            }
        }
        self.items
    }
}

fn call(id: &str, name: &str, arguments: &str, kind: ToolKind) -> Value {
    let id = call_id(id);
    match kind {
        ToolKind::Custom => {
            json!({ "type": "custom_tool_call", "call_id": id, "name": name, "input": arguments })
        }
        _ => {
            let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
            json!({ "type": "function_call", "call_id": id, "name": name, "arguments": arguments })
        }
    }
}

fn call_id(id: &str) -> String {
    match id {
        "" => "call_".to_owned(),
        id if id.len() <= LONGEST_ID => id.to_owned(),
        id => format!("call_{}", normalise::shortened_id(id, 24)),
    }
}

fn is_own(value: &Value) -> bool {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
    // Anthropic has blocks of this name, too, with a text inside.
    OWN.contains(&kind) && (kind != "compaction" || value.get("encrypted_content").is_some())
}

/// A piece of a message.
fn content(part: &Part, role: Role, path: &str) -> Result<Value, Fault> {
    let cannot = |what: &str| {
        let message = format!("this model's provider cannot take {what}");
        Err(Fault::bad_request(message, path.to_owned()).retry(Retry::Elsewhere))
    };
    let assistant = role == Role::Assistant;
    Ok(match part {
        Part::Text { text, .. } if assistant => json!({ "type": "output_text", "text": text }),
        Part::Text { text, .. } => json!({ "type": "input_text", "text": text }),
        Part::Refusal(text) if assistant => json!({ "type": "refusal", "refusal": text }),
        Part::Refusal(text) => json!({ "type": "input_text", "text": text }),
        _ if assistant => return cannot("an image, a sound or a document from the model"),
        Part::Image { media, detail, .. } => {
            let mut image = Object::new();
            image.insert("type".into(), "input_image".into());
            let (field, value) = match media {
                Media::Url(url) => ("image_url", url.clone()),
                Media::Inline { mime, base64 } => ("image_url", format!("data:{mime};base64,{base64}")),
                Media::FileId(id) => ("file_id", id.clone()),
            };
            image.insert(field.into(), value.into());
            put(&mut image, "detail", detail.clone());
            Value::Object(image)
        }
        Part::Audio { media: Media::Inline { mime, base64 } } => {
            let format = audio_format(mime);
            json!({ "type": "input_audio", "input_audio": { "data": base64, "format": format } })
        }
        Part::Audio { media: Media::Url(_) } => return cannot("audio by URL"),
        Part::Audio { media: Media::FileId(_) } => return cannot("audio by the id of an uploaded file"),
        Part::File { media, filename, .. } => file(media, filename.as_deref()),
        Part::Other(value) => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("unknown");
            if !kind.starts_with("input_") {
                return cannot(&foreign::what_is(value));
            }
            value.clone()
        }
        Part::Thinking { .. } | Part::ToolCall { .. } => {
            return cannot("thinking or tool calls outside of an assistant's message");
        }
        Part::ToolResult { .. } => return cannot("a tool result inside of another"),
    })
}

fn file(media: &Media, filename: Option<&str>) -> Value {
    if let Some(text) = media.as_text() {
        let title = filename.map(|name| format!("{name}\n\n")).unwrap_or_default();
        return json!({ "type": "input_text", "text": title + text.as_str() });
    }
    let mut file = Object::new();
    file.insert("type".into(), "input_file".into());
    match media {
        Media::Url(url) => file.insert("file_url".into(), url.as_str().into()),
        Media::FileId(id) => file.insert("file_id".into(), id.as_str().into()),
        Media::Inline { mime, base64 } => {
            if let Some(name) = filename.map(str::to_owned).or_else(|| media.usual_name()) {
                file.insert("filename".into(), name.into());
            }
            file.insert("file_data".into(), format!("data:{mime};base64,{base64}").into())
        }
    };
    Value::Object(file)
}

//! The items of `input`: messages, calls and their outputs, thoughts, references, and what only OpenAI's tools say.

use serde_json::Value;

use super::super::item::shown;
use super::super::path::Origin;
use super::super::proof::{self, Proof};
use super::{Draft, content, tool};
use crate::api::openai_chat::decode::message::media;
use crate::api::openai_chat::decode::record::{Place, Record, object};
use crate::api::openai_chat::param::{invalid_value, missing};
use crate::chat::{Loss, Object, Part, Role, ToolKind};
use crate::fault::{Fault, Retry};
use crate::json;

/// Items whose names do not end like the others of OpenAI's own tools.
const HOSTED: &[&str] = &[
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "compaction",
    "compaction_summary",
    "compaction_trigger",
    "additional_tools",
    "program",
    "configuration_update",
];

/// OpenAI's tools that the client carries out itself, and the field with what is to be done.
/// <https://platform.openai.com/docs/api-reference/responses/create#responses-create-input>
const CARRIED_OUT: &[(&str, &str)] =
    &[("local_shell", "action"), ("shell", "action"), ("apply_patch", "operation")];

/// Fields of an item that say nothing about its content.
const BOOKKEEPING: &[&str] = &[
    "id",
    "type",
    "status",
    "phase",
    "caller",
    "async",
    "created_by",
    "internal_chat_message_metadata_passthrough",
];

impl Draft<'_> {
    pub(super) fn item(&mut self, value: Value, at: usize, place: &Place<'_>) -> Result<(), Fault> {
        let item = object(value, place)?;
        let word = item.get("type").and_then(Value::as_str).map(str::to_owned);
        let mut fields = Record::new(item, place);
        if let Some((tool, said)) = word.as_deref().and_then(carried_out) {
            return self.carried_out(&mut fields, at, place, tool, said);
        }
        match word.as_deref() {
            Some("message") => self.message(&mut fields, at, place)?,
            None if fields.peek("role").is_some() => self.message(&mut fields, at, place)?,
            Some("function_call") => self.call(&mut fields, at, "arguments", ToolKind::Function)?,
            Some("custom_tool_call") => self.call(&mut fields, at, "input", ToolKind::Custom)?,
            Some("function_call_output" | "custom_tool_call_output") => {
                self.output(&mut fields, at, place)?;
            }
            Some("reasoning") => self.reasoning(&mut fields, at, place)?,
            Some("image_generation_call") => {
                self.picture(&fields.rest(), at, place);
                return Ok(());
            }
            Some("item_reference") => return self.reference(&fields.need_text("id")?, at, place),
            None if fields.peek("id").is_some() => {
                return self.reference(&fields.need_text("id")?, at, place);
            }
            None => return Err(missing(place.key("type").to_string())),
            Some(hosted) if is_hosted(hosted) => {
                self.lost.push(Loss::new(place.to_string(), format!("{hosted} dropped")));
                return Ok(());
            }
            Some(_) => {
                let expected = "the type of an item, such as 'message' or 'function_call_output'";
                return Err(invalid_value(place.key("type").to_string(), expected));
            }
        }
        for (key, value) in fields.rest() {
            if !value.is_null() && !BOOKKEEPING.contains(&&*key) {
                self.lost.push(Loss::dropped(format!("{place}.{key}")));
            }
        }
        Ok(())
    }

    /// A picture that a model painted. No dialect lets models show any, so that the user shows it.
    fn picture(&mut self, item: &Object, at: usize, place: &Place<'_>) {
        let Some(url) = shown(item) else {
            return self.lost.push(Loss::new(place.to_string(), "image_generation_call dropped"));
        };
        self.lost.push(Loss::new(place.to_string(), "the model's picture became the user's"));
        let part = Part::Image { media: media(url), detail: None, cache: None };
        self.push(Role::User, part, Origin::Item(at), false);
    }

    fn message(&mut self, fields: &mut Record<'_>, at: usize, place: &Place<'_>) -> Result<(), Fault> {
        let role = match &*fields.need_text("role")? {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            "developer" => Role::Developer,
            _ => {
                let expected = "one of 'user', 'assistant', 'system', 'developer'";
                return Err(invalid_value(place.key("role").to_string(), expected));
            }
        };
        let below = place.key("content");
        let plain = fields.peek("content").is_some_and(Value::is_string);
        let parts = content::all(fields.take("content"), &below, &mut self.lost)?;
        let mut apart = role != Role::Assistant || self.has_spoken();
        for (inner, part) in parts.into_iter().enumerate() {
            let origin = if plain { Origin::Item(at) } else { Origin::Content(at, inner) };
            self.push(role, part, origin, apart);
            apart = false;
        }
        Ok(())
    }

    fn call(
        &mut self,
        fields: &mut Record<'_>,
        at: usize,
        said: &'static str,
        kind: ToolKind,
    ) -> Result<(), Fault> {
        let id = fields.need_text("call_id")?;
        let name = fields.need_text("name")?;
        let name = match fields.text("namespace")? {
            Some(space) => tool::flat_name(&space, &name),
            None => name,
        };
        let arguments = fields.text(said)?.unwrap_or_default();
        let signature = self.signatures.remove(&id);
        let part = Part::ToolCall { id, name, arguments, kind, signature, cache: None };
        self.push(Role::Assistant, part, Origin::Item(at), false);
        Ok(())
    }

    fn output(&mut self, fields: &mut Record<'_>, at: usize, place: &Place<'_>) -> Result<(), Fault> {
        let id = fields.need_text("call_id")?;
        fields.take("namespace");
        let content = content::all(fields.take("output"), &place.key("output"), &mut self.lost)?;
        let part = Part::ToolResult { id, content, is_error: false, cache: None };
        self.push(Role::Tool, part, Origin::Item(at), false);
        Ok(())
    }

    /// What the client was asked to do with one of OpenAI's own tools, or what came of it. Other dialects know such a tool as
    /// a function; left out, the answer to a call would stand there without it.
    fn carried_out(
        &mut self,
        fields: &mut Record<'_>,
        at: usize,
        place: &Place<'_>,
        tool: &str,
        said: Option<&'static str>,
    ) -> Result<(), Fault> {
        // The output of a local shell has the id of its call in a field of another name.
        let id = match fields.text("call_id")? {
            Some(id) => id,
            None => fields.need_text("id")?,
        };
        let (role, part) = match said {
            Some(said) => {
                let told = format!("{tool}_call told as the call of a function");
                self.lost.push(Loss::new(place.to_string(), told));
                let arguments = json::object_to_text(&fields.object(said)?.unwrap_or_default());
                let (kind, signature, cache) = (ToolKind::Function, None, None);
                let name = tool.to_owned();
                (Role::Assistant, Part::ToolCall { id, name, arguments, kind, signature, cache })
            }
            None => {
                let is_error = fields.text("status")?.is_some_and(|status| status == "failed");
                let output = match fields.take("output") {
                    Some(Value::String(text)) => text,
                    Some(other) => json::to_text(&other),
                    None => String::new(),
                };
                let content = vec![Part::text(output)];
                (Role::Tool, Part::ToolResult { id, content, is_error, cache: None })
            }
        };
        self.push(role, part, Origin::Item(at), false);
        Ok(())
    }

    /// A thought. Its proof stands in `encrypted_content`: ours goes back to whom it belongs, OpenAI's only to OpenAI.
    fn reasoning(&mut self, fields: &mut Record<'_>, at: usize, place: &Place<'_>) -> Result<(), Fault> {
        let content = fields.list("content")?;
        let summary = fields.list("summary")?;
        let shown = if content.is_empty() { summary } else { content };
        let text = |value: &Value| value.get("text").and_then(Value::as_str).map(str::to_owned);
        let text = shown.iter().filter_map(text).collect::<Vec<_>>().join("\n\n");
        let mut proof = fields.text("encrypted_content")?;
        if proof.is_none()
            && let Some(id) = fields.peek("id").and_then(Value::as_str)
            && let Some(Value::String(kept)) =
                self.kept_item(id).and_then(|mut item| item.get_mut("encrypted_content").map(Value::take))
        {
            // A client that keeps no proofs trusts us to find the thought by its id, as OpenAI does.
            proof = Some(kept);
        }
        let (mut signature, mut redacted) = (None, None);
        match proof.as_deref().map(proof::read) {
            None => {}
            Some(Some(Proof::Signature(proof))) => signature = Some(proof),
            Some(Some(Proof::Redacted(data))) => redacted = Some(data),
            Some(Some(Proof::Call { id, signature })) => {
                self.signatures.insert(id, signature);
                return Ok(());
            }
            Some(Some(Proof::Part(part))) => {
                self.push(Role::Assistant, Part::Other(part), Origin::Item(at), false);
                return Ok(());
            }
            Some(None) => self.lost.push(Loss::dropped(place.key("encrypted_content").to_string())),
        }
        if !text.is_empty() || signature.is_some() || redacted.is_some() {
            let part = Part::Thinking { text, signature, redacted };
            self.push(Role::Assistant, part, Origin::Item(at), false);
        }
        Ok(())
    }

    fn reference(&mut self, id: &str, at: usize, place: &Place<'_>) -> Result<(), Fault> {
        let Some(item) = self.kept_item(id) else { return Err(unknown_item(id, place)) };
        self.item(item, at, place)
    }

    /// An item of an answer that is still kept.
    fn kept_item(&self, id: &str) -> Option<Value> {
        let holder = self.shelf.holder(id)?;
        let answer: Value = serde_json::from_slice(&holder.answer).ok()?;
        let items = answer.get("output")?.as_array()?;
        // No reference leads to another, so that there is no circle.
        let is_it = |item: &&Value| {
            item.get("id").is_some_and(|known| known == id)
                && item.get("type").is_some_and(|kind| kind != "item_reference")
        };
        items.iter().find(is_it).cloned()
    }
}

/// The fault for a reference that leads nowhere.
fn unknown_item(id: &str, place: &Place<'_>) -> Fault {
    let id: String = id.chars().take(80).collect();
    let text = format!(
        "item with id '{id}' not found: this gateway keeps it no longer, or never did; send the item itself"
    );
    Fault::bad_request(text, place.to_string()).retry(Retry::Elsewhere)
}

/// The tool of an item that is a call of one of [`CARRIED_OUT`], with the field of what is to be done, or its output.
fn carried_out(word: &str) -> Option<(&'static str, Option<&'static str>)> {
    CARRIED_OUT.iter().find_map(|(tool, said)| match word.strip_prefix(tool)? {
        "_call" => Some((*tool, Some(*said))),
        "_call_output" => Some((*tool, None)),
        _ => None,
    })
}

fn is_hosted(word: &str) -> bool {
    HOSTED.contains(&word) || word.ends_with("_call") || word.ends_with("_output")
}

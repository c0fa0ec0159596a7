//! Anthropic's messages request → the canonical request.

use serde_json::{Value, json};

use super::block;
use super::path::Origin;
use crate::api::openai_chat::decode::record::{Place, Record, kind, object, text};
use crate::api::openai_chat::decode::turns::{self, Turn};
use crate::api::openai_chat::param::{invalid_value, wrong_type};
use crate::chat::{
    CacheHint, Loss, Message, Object, OutputFormat, Part, Reasoning, Request, Role, Sampling, Thinks, Tool,
    ToolChoice, ToolKind,
};
use crate::fault::{Fault, Retry};
use crate::json::Body;

/// A request in the canonical form, for targets that speak another dialect.
#[derive(Debug)]
pub struct Decoded {
    /// What the canonical form can say.
    pub request: Request,
    /// What it cannot, in the client's paths.
    pub lost: Vec<Loss>,
    /// Where each canonical message stood.
    pub(super) origins: Vec<Origin>,
}

/// Paths of what the canonical form cannot say.
pub(super) type Lost = Vec<String>;

/// Decodes a request completely.
///
/// # Errors
/// `BadRequest` with the path of the field that has the wrong type or is missing.
pub fn decode(body: &Body) -> Result<Decoded, Fault> {
    let root = Place::Root;
    let mut lost = Lost::new();
    let mut top = Record::new(turns::beside(body, "messages"), &root);
    let turns = body.field("messages").map_or(0, |field| field.items);
    let (mut messages, mut origins) = (Vec::with_capacity(turns + 1), Vec::with_capacity(turns + 1));
    if let Some(system) = top.take("system") {
        let content = block::system(system, &root.key("system"), &mut lost)?;
        if !content.is_empty() {
            messages.push(message(Role::System, content));
            origins.push(Origin::System);
        }
    }
    let place = root.key("messages");
    for (at, turn) in turns::of(body, "messages")?.enumerate() {
        let value = match turn {
            Turn::Plain(word, text) => match role(word) {
                Some(role) => {
                    messages.push(Message::plain(role, text));
                    origins.push(Origin::Message(at, 0));
                    continue;
                }
                None => json!({ "role": word, "content": text }),
            },
            Turn::Other(value) => value,
        };
        turn_of(value, at, &place.index(at), &mut messages, &mut origins, &mut lost)?;
    }
    let (output, effort) = output(&mut top, &mut lost)?;
    let (tool_choice, parallel_tool_calls) = choice(&mut top, &mut lost)?;
    let mut request = Request {
        model: top.need_text("model")?,
        stream: top.flag("stream")?.unwrap_or(false),
        include_usage: true,
        messages,
        tools: tools(&mut top, &root.key("tools"))?,
        tool_choice,
        parallel_tool_calls,
        output,
        sampling: sampling(&mut top, &root)?,
        max_output_tokens: top.count("max_tokens")?,
        reasoning: reasoning(&mut top, effort, &mut lost)?,
        ..Request::default()
    };
    if let Some(mut metadata) = top.object("metadata")? {
        request.user = match metadata.shift_remove("user_id") {
            Some(Value::String(user)) => Some(user),
            _ => None,
        };
        request.metadata = metadata;
    }
    // The account's default, which says nothing to another provider.
    if top.peek("service_tier").is_some_and(|tier| tier == "auto") {
        top.take("service_tier");
    }
    let thread = top.peek("thread").and_then(|thread| thread.get("type"));
    if thread.is_some_and(|kind| kind == "continue") {
        return Err(elsewhere());
    }
    if top.peek("compaction").is_some_and(|asked| !asked.is_null()) {
        let message = "only a provider of Anthropic's own dialect compacts a conversation";
        return Err(Fault::bad_request(message, "compaction").retry(Retry::Elsewhere));
    }
    let rest = top.rest();
    lost.extend(rest.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key));
    Ok(Decoded { request, lost: lost.into_iter().map(Loss::dropped).collect(), origins })
}

/// What came before is kept at a provider of Anthropic's dialect, if anywhere. By this code Anthropic's SDKs send all of it.
fn elsewhere() -> Fault {
    let message = "this thread is not kept here: only a provider of Anthropic's own dialect keeps threads; send the whole conversation";
    Fault::bad_request(message, "thread.previous_message_id").code("thread_not_found").retry(Retry::Elsewhere)
}

fn message(role: Role, content: Vec<Part>) -> Message {
    Message { role, content, name: None, rest: Object::new() }
}

fn role(word: &str) -> Option<Role> {
    match word {
        "user" => Some(Role::User),
        "assistant" => Some(Role::Assistant),
        "system" => Some(Role::System),
        _ => None,
    }
}

/// One message; the user's becomes several where results of tools and the user's own words stand in it.
fn turn_of(
    value: Value,
    at: usize,
    place: &Place<'_>,
    messages: &mut Vec<Message>,
    origins: &mut Vec<Origin>,
    lost: &mut Lost,
) -> Result<(), Fault> {
    let mut fields = Record::new(object(value, place)?, place);
    let Some(role) = role(&fields.need_text("role")?) else {
        return Err(invalid_value(place.key("role").to_string(), "'user' or 'assistant'"));
    };
    let parts = block::all(fields.take("content"), &place.key("content"), lost)?;
    lost.extend(fields.rest().into_iter().map(|(key, _)| format!("{place}.{key}")));
    if parts.is_empty() {
        messages.push(message(role, parts));
        origins.push(Origin::Message(at, 0));
        return Ok(());
    }
    let mut last = None;
    for (block, part) in parts.into_iter().enumerate() {
        let role = if matches!(part, Part::ToolResult { .. }) { Role::Tool } else { role };
        if last != Some(role) {
            messages.push(message(role, Vec::new()));
            origins.push(Origin::Message(at, block));
            last = Some(role);
        }
        if let Some(message) = messages.last_mut() {
            message.content.push(part);
        }
    }
    Ok(())
}

/// The form of the answer, and the effort, which Anthropic keeps in one object.
fn output(top: &mut Record<'_>, lost: &mut Lost) -> Result<(OutputFormat, Option<String>), Fault> {
    let root = Place::Root;
    let mut format = top.object("output_format")?;
    let mut place = "output_format";
    let mut effort = None;
    if let Some(config) = top.object("output_config")? {
        let below = root.key("output_config");
        let mut config = Record::new(config, &below);
        effort = config.text("effort")?;
        if let Some(own) = config.object("format")? {
            (format, place) = (Some(own), "output_config.format");
        }
        config.close(lost);
    }
    let output = match format {
        None => OutputFormat::Text,
        Some(mut format) if format.get("type").is_some_and(|kind| kind == "json_schema") => {
            let schema = format.shift_remove("schema").unwrap_or_else(|| Value::Object(Object::new()));
            let unread = format.keys().filter(|key| *key != "type" && *key != "name");
            lost.extend(unread.map(|key| format!("{place}.{key}")));
            let name = "answer".to_owned();
            OutputFormat::JsonSchema { name, description: None, schema, strict: Some(true) }
        }
        Some(format) => OutputFormat::Other(Value::Object(format)),
    };
    Ok((output, effort))
}

fn reasoning(
    top: &mut Record<'_>,
    effort: Option<String>,
    lost: &mut Lost,
) -> Result<Option<Reasoning>, Fault> {
    let root = Place::Root;
    let place = root.key("thinking");
    let rest = Object::new();
    let unsaid = |effort: Option<String>| {
        let (budget_tokens, thinks) = (None, Thinks::Unsaid);
        effort.map(|effort| Reasoning { effort: Some(effort), budget_tokens, thinks, rest: Object::new() })
    };
    let Some(thinking) = top.object("thinking")? else { return Ok(unsaid(effort)) };
    let mut thinking = Record::new(thinking, &place);
    let kind = thinking.text("type")?;
    let budget_tokens = thinking.count("budget_tokens")?;
    thinking.close(lost);
    // Models that always think are told other things about it (`block_binding`).
    let Some(kind) = kind else { return Ok(unsaid(effort)) };
    let (budget_tokens, thinks) = match &*kind {
        "enabled" => (budget_tokens, Thinks::Implied),
        "disabled" | "between_tools" => (None, Thinks::Not),
        // As the model likes is what other providers do unasked.
        _ => (None, Thinks::Freely),
    };
    Ok(Some(Reasoning { effort, budget_tokens, thinks, rest }))
}

fn choice(top: &mut Record<'_>, lost: &mut Lost) -> Result<(Option<ToolChoice>, Option<bool>), Fault> {
    let root = Place::Root;
    let place = root.key("tool_choice");
    let Some(choice) = top.object("tool_choice")? else { return Ok((None, None)) };
    let mut choice = Record::new(choice, &place);
    let parallel = choice.flag("disable_parallel_tool_use")?.map(|disabled| !disabled);
    let wanted = match &*choice.need_text("type")? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.need_text("name")?),
        _ => {
            return Err(invalid_value(place.key("type").to_string(), "one of 'auto', 'any', 'tool', 'none'"));
        }
    };
    choice.close(lost);
    Ok((Some(wanted), parallel.filter(|parallel| !parallel)))
}

fn tools(top: &mut Record<'_>, place: &Place<'_>) -> Result<Vec<Tool>, Fault> {
    top.list("tools")?.into_iter().enumerate().map(|(at, value)| tool(value, &place.index(at))).collect()
}

fn tool(value: Value, place: &Place<'_>) -> Result<Tool, Fault> {
    let mut fields = Record::new(object(value, place)?, place);
    let cache = cache(&mut fields)?;
    let kind = fields.peek("type").and_then(Value::as_str).unwrap_or("custom").to_owned();
    if kind != "custom" {
        // Defined by Anthropic, whether it runs there or at the client.
        let name = fields.peek("name").and_then(Value::as_str).unwrap_or(&kind).to_owned();
        let (kind, rest) = (ToolKind::Server, fields.rest());
        return Ok(Tool { name, description: None, parameters: None, strict: None, kind, cache, rest });
    }
    fields.take("type");
    Ok(Tool {
        name: fields.need_text("name")?,
        description: fields.text("description")?,
        parameters: fields.object("input_schema")?.map(Value::Object),
        strict: fields.flag("strict")?,
        kind: ToolKind::Function,
        cache,
        rest: fields.rest(),
    })
}

fn sampling(top: &mut Record<'_>, root: &Place<'_>) -> Result<Sampling, Fault> {
    let place = root.key("stop_sequences");
    let stop = match top.take("stop_sequences") {
        None => Vec::new(),
        Some(Value::Array(stops)) => stops
            .into_iter()
            .enumerate()
            .map(|(at, stop)| text(stop, &place.index(at)))
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong_type(place.to_string(), "an array", kind(&other))),
    };
    Ok(Sampling {
        temperature: top.number("temperature")?,
        top_p: top.number("top_p")?,
        top_k: top.count("top_k")?,
        stop,
        ..Sampling::default()
    })
}

/// A prompt-cache breakpoint.
pub(super) fn cache(fields: &mut Record<'_>) -> Result<Option<CacheHint>, Fault> {
    let Some(mut control) = fields.object("cache_control")? else { return Ok(None) };
    let ttl = match control.shift_remove("ttl") {
        Some(Value::String(ttl)) => Some(ttl),
        _ => None,
    };
    Ok(Some(CacheHint { ttl }))
}

#[cfg(test)]
mod tests;

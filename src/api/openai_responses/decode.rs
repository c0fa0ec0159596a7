//! A Responses request → the canonical request.

mod content;
mod item;
mod tool;

use std::collections::HashMap;

use serde_json::Value;

use super::before::Before;
use super::path::{Origin, Origins};
use crate::api::openai_chat::decode::record::{Place, Record, kind, parse};
use crate::api::openai_chat::param::{invalid_value, missing, wrong_type};
use crate::chat::{
    Loss, Message, Object, OutputFormat, Part, Reasoning, Request, Role, Sampling, ToolChoice,
};
use crate::fault::{Fault, Retry};
use crate::json::Body;
use crate::store::Shelf;

/// Fields that say how this gateway keeps and sends the answer; it does as they say, so the provider need not know.
const OURS: &[&str] = &["store", "stream_options", "background", "previous_response_id"];

/// What `include` can ask of an answer that needs no tool of OpenAI's.
const INCLUDED: &[&str] = &["reasoning.encrypted_content", "message.output_text.logprobs"];

/// A request in the canonical form, for targets that speak another dialect.
#[derive(Debug, Default)]
pub struct Decoded {
    /// What the canonical form can say.
    pub request: Request,
    /// What it cannot, in the client's paths.
    pub lost: Vec<Loss>,
    /// Where everything stood.
    pub(super) origins: Origins,
}

/// A conversation as far as it is read.
pub(super) struct Draft<'a> {
    shelf: &'a Shelf,
    messages: Vec<Message>,
    origins: Vec<Vec<Origin>>,
    lost: Vec<Loss>,
    /// Signatures of calls that are still to come, by the call's id.
    signatures: HashMap<String, String>,
}

/// Decodes a request completely, together with the conversation that it continues.
///
/// # Errors
/// `BadRequest` with the path of the field that has the wrong type, is missing, or needs OpenAI itself.
pub(super) fn decode(body: &Body, before: &Before, shelf: &Shelf) -> Result<Decoded, Fault> {
    let root = Place::Root;
    let mut top = Record::new(parse(body.bytes())?, &root);
    only_at_openai(&mut top)?;
    let mut draft = Draft::new(shelf);
    if let Some(instructions) = top.text("instructions")?.filter(|text| !text.is_empty()) {
        draft.push(Role::System, Part::text(instructions), Origin::Instructions, true);
    }
    for kept in before.conversation()? {
        // Nothing in it stands in this request.
        draft.kept(kept).map_err(|fault| fault.at("previous_response_id"))?;
    }
    draft.input(top.take("input"))?;
    let (tools, places) = tool::all(&mut top, &mut draft.lost)?;
    let mut request = Request {
        model: top.need_text("model")?,
        stream: top.flag("stream")?.unwrap_or(false),
        include_usage: true,
        tools,
        parallel_tool_calls: top.flag("parallel_tool_calls")?,
        sampling: sampling(&mut top, &mut draft.lost)?,
        max_output_tokens: top.count("max_output_tokens")?,
        reasoning: reasoning(&mut top)?,
        user: top.text("user")?,
        ..Request::default()
    };
    let mut origins = Origins { parts: Vec::new(), tools: places };
    request.tool_choice = tool::choice(&mut top, &mut request.tools, &mut origins.tools, &mut draft.lost)?;
    if request.tools.is_empty() {
        // Said without tools, both are refused by some.
        request.parallel_tool_calls = None;
        if matches!(request.tool_choice, Some(ToolChoice::Auto | ToolChoice::None)) {
            request.tool_choice = None;
        }
    }
    // Kept with the answer; a provider that is not OpenAI has no place where anybody could read it.
    top.object("metadata")?;
    request.output = output(&mut top)?;
    if request.user.is_none() {
        request.user = top.peek("safety_identifier").and_then(Value::as_str).map(str::to_owned);
    }
    leave_out(&mut top, &mut draft.lost)?;
    request.rest = top.rest();
    request.rest.retain(|_, value| !value.is_null());
    (request.messages, origins.parts) = (draft.messages, draft.origins);
    Ok(Decoded { request, lost: draft.lost, origins })
}

/// What only OpenAI can do, and an answer would be wrong without.
fn only_at_openai(top: &mut Record<'_>) -> Result<(), Fault> {
    let only = |param: &'static str, what: &str| {
        let text = format!("{what}, and the target of this request is another provider");
        Err(Fault::bad_request(text, param).code("unsupported_parameter").retry(Retry::Elsewhere))
    };
    if top.flag("background")? == Some(true) {
        return only("background", "only a provider of OpenAI's Responses answers in the background");
    }
    if top.take("conversation").is_some() {
        return only("conversation", "conversations live at OpenAI");
    }
    if top.take("prompt").is_some() {
        return only("prompt", "prompt templates live at OpenAI");
    }
    Ok(())
}

/// Further fields that only the API of Responses knows.
const RESPONSES_ALONE: &[&str] = &["context_management", "image", "background_options", "access_programs"];

/// Takes away what does not concern the provider, and names what no other provider can do.
fn leave_out(top: &mut Record<'_>, lost: &mut Vec<Loss>) -> Result<(), Fault> {
    for field in OURS {
        top.take(field);
    }
    if top.text("truncation")?.is_some_and(|word| word != "disabled") {
        lost.push(Loss::dropped("truncation"));
    }
    if top.count("max_tool_calls")?.is_some() {
        lost.push(Loss::dropped("max_tool_calls"));
    }
    for field in RESPONSES_ALONE {
        lost.extend(top.take(field).map(|_| Loss::dropped(*field)));
    }
    // The account's default, which says nothing to another provider.
    if top.peek("service_tier").is_some_and(|tier| tier == "auto" || tier == "default") {
        top.take("service_tier");
    }
    Ok(())
}

fn sampling(top: &mut Record<'_>, lost: &mut Vec<Loss>) -> Result<Sampling, Fault> {
    let mut logprobs = None;
    for (at, wish) in top.list("include")?.into_iter().enumerate() {
        match wish.as_str() {
            Some("message.output_text.logprobs") => logprobs = Some(true),
            Some(known) if INCLUDED.contains(&known) => {}
            _ => lost.push(Loss::dropped(format!("include[{at}]"))),
        }
    }
    let top_logprobs = top.count("top_logprobs")?.filter(|count| *count > 0);
    Ok(Sampling {
        temperature: top.number("temperature")?,
        top_p: top.number("top_p")?,
        logprobs: logprobs.or(top_logprobs.map(|_| true)),
        top_logprobs,
        ..Sampling::default()
    })
}

/// What a provider thinks is always shown, so that a wish for a summary needs no answer of its own.
fn reasoning(top: &mut Record<'_>) -> Result<Option<Reasoning>, Fault> {
    let root = Place::Root;
    let place = root.key("reasoning");
    let Some(reasoning) = top.object("reasoning")? else { return Ok(None) };
    let mut fields = Record::new(reasoning, &place);
    let effort = fields.text("effort")?;
    for field in ["summary", "generate_summary"] {
        fields.take(field);
    }
    top.keep("reasoning", fields.rest());
    Ok(effort.map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() }))
}

/// The form of the answer. How much it shall say goes on under the name that it has in OpenAI's chat.
fn output(top: &mut Record<'_>) -> Result<OutputFormat, Fault> {
    let root = Place::Root;
    let place = root.key("text");
    let Some(text) = top.object("text")? else { return Ok(OutputFormat::Text) };
    let mut text = Record::new(text, &place);
    if let Some(verbosity) = text.text("verbosity")? {
        top.put("verbosity", verbosity.into());
    }
    let format = text.object("format")?;
    top.keep("text", text.rest());
    let Some(format) = format else { return Ok(OutputFormat::Text) };
    let place = place.key("format");
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(OutputFormat::Text),
        Some("json_object") => Ok(OutputFormat::JsonObject),
        Some("json_schema") => {
            let mut format = Record::new(format, &place);
            Ok(OutputFormat::JsonSchema {
                name: format.need_text("name")?,
                description: format.text("description")?,
                schema: format.take("schema").unwrap_or_else(|| Value::Object(Object::new())),
                strict: format.flag("strict")?,
            })
        }
        Some(_) => Ok(OutputFormat::Other(Value::Object(format))),
        None => Err(missing(place.key("type").to_string())),
    }
}

pub(super) use tool::spaces;

impl<'a> Draft<'a> {
    fn new(shelf: &'a Shelf) -> Self {
        Self {
            shelf,
            messages: Vec::new(),
            origins: Vec::new(),
            lost: Vec::new(),
            signatures: HashMap::new(),
        }
    }

    /// Adds a part: to the last message where it belongs to the same turn, else as a message of its own.
    fn push(&mut self, role: Role, part: Part, origin: Origin, apart: bool) {
        let joins = !apart && self.messages.last().is_some_and(|last| last.role == role);
        if !joins {
            self.messages.push(Message { role, content: Vec::new(), name: None, rest: Object::new() });
            self.origins.push(Vec::new());
        }
        if let (Some(message), Some(origins)) = (self.messages.last_mut(), self.origins.last_mut()) {
            message.content.push(part);
            origins.push(origin);
        }
    }

    /// Whether what the assistant says now begins a turn of its own: it has spoken already, and waits for no tool.
    fn has_spoken(&self) -> bool {
        let Some(last) = self.messages.last() else { return false };
        let spoke = last.content.iter().any(|part| matches!(part, Part::Text { .. } | Part::Refusal(_)));
        let calls = last.content.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        last.role == Role::Assistant && spoke && !calls
    }

    fn input(&mut self, input: Option<Value>) -> Result<(), Fault> {
        let root = Place::Root;
        let place = root.key("input");
        let before = self.messages.len();
        match input {
            None => {}
            Some(Value::String(text)) => self.push(Role::User, Part::text(text), Origin::Input, true),
            Some(Value::Array(items)) => {
                for (at, item) in items.into_iter().enumerate() {
                    self.item(item, at, &place.index(at))?;
                }
            }
            Some(other) => {
                return Err(wrong_type(place.to_string(), "a string or an array", kind(&other)));
            }
        }
        // Instructions alone are no question.
        if self.messages.len() == before && self.origins.iter().flatten().all(|o| *o == Origin::Instructions)
        {
            let expected =
                "something to answer: `input`, or a `previous_response_id` that this gateway keeps";
            return Err(invalid_value("input", expected));
        }
        Ok(())
    }

    /// One earlier turn: what was asked and what was answered. Its instructions are not carried over.
    fn kept(&mut self, kept: &crate::store::Kept) -> Result<(), Fault> {
        // What is lost of an earlier turn was told then.
        let told = self.lost.len();
        let request = parse(&kept.request)?;
        let answer = parse(&kept.answer)?;
        let root = Place::Root;
        let place = root.key("input");
        match request.get("input") {
            Some(Value::String(text)) => {
                self.push(Role::User, Part::text(text.as_str()), Origin::Before, true);
            }
            Some(Value::Array(items)) => {
                for (at, item) in items.iter().enumerate() {
                    self.item(item.clone(), at, &place.index(at))?;
                }
            }
            _ => {}
        }
        for (at, item) in answer.get("output").and_then(Value::as_array).into_iter().flatten().enumerate() {
            self.item(item.clone(), at, &place.index(at))?;
        }
        self.lost.truncate(told);
        for origin in self.origins.iter_mut().flatten().filter(|origin| **origin != Origin::Instructions) {
            *origin = Origin::Before;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

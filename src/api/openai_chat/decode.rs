//! OpenAI's chat request → the canonical request.

pub(in crate::api) mod message;
pub(in crate::api) mod record;
mod tool;
pub(in crate::api) mod turns;

use serde_json::Value;

use self::record::{Place, Record, text};
use super::param::wrong_type;
use crate::chat::{CacheHint, Loss, Object, OutputFormat, Reasoning, Request, Sampling, Thinks};
use crate::fault::Fault;
use crate::json::Body;

/// OpenAI's name for the end of what of a prompt shall be kept in the cache.
pub(in crate::api) const BREAKPOINT: &str = "prompt_cache_breakpoint";

/// A request in the canonical form, for targets that speak another dialect.
#[derive(Debug)]
pub(super) struct Decoded {
    /// What the canonical form can say.
    pub(super) request: Request,
    /// Fields inside of messages, parts and tools that it cannot, in the client's paths.
    pub(super) lost: Vec<Loss>,
    /// How many of the tools stand in `tools`; the others stand in `functions`.
    pub(super) tools: usize,
    /// Whether the choice among them is a `function_call`.
    pub(super) chosen_of_old: bool,
    /// Whether breakpoints of the prompt cache stand under OpenAI's name.
    pub(super) breakpoints: bool,
    /// Whether how much the model shall think is said by `thinking` alone.
    pub(super) thinking: bool,
    /// Whether the client knows nothing but the calls of 2023: `functions`, and one `function_call` in an answer.
    pub(super) legacy: bool,
}

/// Decodes a request completely; fields that the canonical form does not know travel in `rest`.
///
/// # Errors
/// `BadRequest` with the path of the field that has the wrong type or is missing.
pub fn decode(body: &Body) -> Result<Request, Fault> {
    read(body).map(|decoded| decoded.request)
}

/// Decodes a request and notes what of it the canonical form leaves out.
pub(super) fn read(body: &Body) -> Result<Decoded, Fault> {
    let root = Place::Root;
    let mut lost = Vec::new();
    let mut top = Record::new(turns::beside(body, "messages"), &root);
    let said = reasoning(&mut top)?;
    let thinking = said.is_none();
    let mut request = Request {
        model: top.need_text("model")?,
        stream: top.flag("stream")?.unwrap_or(false),
        messages: message::decode_all(turns::of(body, "messages")?, &root.key("messages"), &mut lost)?,
        tools: tool::decode_all(top.list("tools")?, &root.key("tools"), &mut lost)?,
        tool_choice: tool::choice(top.take("tool_choice"), &root.key("tool_choice"))?,
        parallel_tool_calls: top.flag("parallel_tool_calls")?,
        output: output(&mut top, &mut lost)?,
        sampling: sampling(&mut top)?,
        reasoning: thought(said, &mut top)?,
        user: top.text("user")?,
        metadata: top.object("metadata")?.unwrap_or_default(),
        ..Request::default()
    };
    let limits = (top.count("max_completion_tokens")?, top.count("max_tokens")?);
    request.max_output_tokens = limits.0.or(limits.1);
    if let Some(mut options) = top.object("stream_options")? {
        let place = root.key("stream_options");
        let mut fields = Record::new(std::mem::take(&mut options), &place);
        request.include_usage = fields.flag("include_usage")?.unwrap_or(false);
        top.keep("stream_options", fields.rest());
    }
    let functions = top.list("functions")?;
    let tools = request.tools.len();
    let legacy = !functions.is_empty() && tools == 0;
    if legacy {
        request.parallel_tool_calls = Some(false);
    }
    for function in functions.into_iter().enumerate() {
        request.tools.push(tool::legacy(function, &root.key("functions"))?);
    }
    let chosen_of_old = request.tool_choice.is_none();
    if chosen_of_old {
        request.tool_choice = tool::choice(top.take("function_call"), &root.key("function_call"))?;
    }
    if request.user.is_none() {
        // Kept in `rest` too, because it is the name that the provider of this dialect knows.
        request.user = top.peek("safety_identifier").and_then(Value::as_str).map(str::to_owned);
    }
    request.rest = top.rest();
    let lost = lost.into_iter().map(Loss::dropped).collect();
    let raw = body.raw("messages").unwrap_or_default();
    let breakpoints = memchr::memmem::find(raw.as_bytes(), BREAKPOINT.as_bytes()).is_some();
    Ok(Decoded { request, lost, tools, chosen_of_old, breakpoints, thinking, legacy })
}

fn output(top: &mut Record<'_>, lost: &mut Vec<String>) -> Result<OutputFormat, Fault> {
    let Some(format) = top.object("response_format")? else { return Ok(OutputFormat::Text) };
    let root = Place::Root;
    let place = root.key("response_format");
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(OutputFormat::Text),
        // Together's, Fireworks' and llama.cpp's form of a schema.
        Some("json_object") if format.get("schema").is_some_and(Value::is_object) => {
            let mut format = Record::new(format, &place);
            let schema = format.take("schema").unwrap_or_default();
            format.close(lost);
            Ok(OutputFormat::JsonSchema { name: "answer".into(), description: None, schema, strict: None })
        }
        Some("json_object") => {
            Record::new(format, &place).close(lost);
            Ok(OutputFormat::JsonObject)
        }
        Some("json_schema") => {
            let mut format = Record::new(format, &place);
            let below = place.key("json_schema");
            let mut schema = Record::new(format.need_object("json_schema")?, &below);
            let output = OutputFormat::JsonSchema {
                name: schema.need_text("name")?,
                description: schema.text("description")?,
                schema: schema.take("schema").unwrap_or_else(|| Value::Object(Object::new())),
                strict: schema.flag("strict")?,
            };
            schema.close(lost);
            format.close(lost);
            Ok(output)
        }
        Some(_) => Ok(OutputFormat::Other(Value::Object(format))),
        None => Err(super::param::missing(place.key("type").to_string())),
    }
}

fn sampling(top: &mut Record<'_>) -> Result<Sampling, Fault> {
    Ok(Sampling {
        temperature: top.number("temperature")?,
        top_p: top.number("top_p")?,
        top_k: top.count("top_k")?,
        presence_penalty: top.number("presence_penalty")?,
        frequency_penalty: top.number("frequency_penalty")?,
        seed: top.integer("seed")?,
        stop: stop(top)?,
        logit_bias: top.object("logit_bias")?,
        logprobs: top.flag("logprobs")?,
        top_logprobs: top.count("top_logprobs")?,
        n: top.count("n")?,
    })
}

fn stop(top: &mut Record<'_>) -> Result<Vec<String>, Fault> {
    let root = Place::Root;
    let place = root.key("stop");
    match top.take("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(stop)) => Ok(vec![stop]),
        Some(Value::Array(stops)) => {
            stops.into_iter().enumerate().map(|(at, stop)| text(stop, &place.index(at))).collect()
        }
        Some(other) => Err(wrong_type(place.to_string(), "a string or an array", record::kind(&other))),
    }
}

/// OpenAI's `reasoning_effort`, or OpenRouter's `reasoning` object.
fn reasoning(top: &mut Record<'_>) -> Result<Option<Reasoning>, Fault> {
    let effort = top.text("reasoning_effort")?;
    let Some(reasoning) = top.object("reasoning")? else {
        return Ok(effort.map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() }));
    };
    let root = Place::Root;
    let place = root.key("reasoning");
    let mut fields = Record::new(reasoning, &place);
    let inner = fields.text("effort")?;
    let budget_tokens = fields.count("max_tokens")?;
    let effort = effort.or(inner);
    Ok(Some(Reasoning { effort, budget_tokens, rest: fields.rest(), ..Reasoning::default() }))
}

/// With what `thinking` says, Anthropic's field, which DeepSeek, Z.ai, LiteLLM and others have taken over for their chat.
fn thought(said: Option<Reasoning>, top: &mut Record<'_>) -> Result<Option<Reasoning>, Fault> {
    let kind = top.peek("thinking").and_then(|thinking| thinking.get("type")).and_then(Value::as_str);
    let thinks = match kind {
        Some("enabled") => Thinks::Implied,
        Some("adaptive" | "auto") => Thinks::Freely,
        Some("disabled") => Thinks::Not,
        _ => return Ok(said),
    };
    let Some(thinking) = top.object("thinking")? else { return Ok(said) };
    let root = Place::Root;
    let place = root.key("thinking");
    let mut fields = Record::new(thinking, &place);
    fields.take("type");
    let budget = fields.count("budget_tokens")?.filter(|_| thinks == Thinks::Implied);
    let mut reasoning = said.unwrap_or_default();
    reasoning.budget_tokens = reasoning.budget_tokens.or(budget);
    let is_open = reasoning.budget_tokens.is_none() && reasoning.effort.is_none();
    reasoning.thinks = if thinks == Thinks::Implied && is_open { Thinks::Freely } else { thinks };
    reasoning.rest.extend(fields.rest());
    Ok(Some(reasoning))
}

/// The prompt-cache breakpoint of Anthropic's form, which several OpenAI-compatible vendors take.
fn cache(fields: &mut Record<'_>) -> Result<Option<CacheHint>, Fault> {
    let Some(mut control) = fields.object("cache_control")? else { return breakpoint(fields) };
    let ttl = match control.remove("ttl") {
        Some(Value::String(ttl)) => Some(ttl),
        _ => None,
    };
    Ok(Some(CacheHint { ttl }))
}

/// OpenAI's own breakpoint. Of the lives that others know, the long one is nearest to any that it names.
/// <https://developers.openai.com/api/docs/guides/prompt-caching>
pub(in crate::api) fn breakpoint(fields: &mut Record<'_>) -> Result<Option<CacheHint>, Fault> {
    let point = fields.object(BREAKPOINT)?;
    Ok(point.map(|point| CacheHint { ttl: point.get("ttl").map(|_| "1h".to_owned()) }))
}

#[cfg(test)]
mod tests;

//! The canonical request in Anthropic's dialect.
//!
//! A JSON schema for the answer goes out as `output_config.format`, which the models since 4.1 follow exactly. For
//! older ones, and for "any JSON", it is asked for in the system prompt, and the loss report says so: a forced tool
//! would forbid thinking and hide the other tools.

use http::HeaderValue;
use serde_json::{Value, json};

use super::model::Claude;
use super::{message, model, request, sampling, schema, think};
use crate::chat::{CacheHint, Loss, Media, Object, OutputFormat, Part, Request, Tool, ToolChoice, ToolKind};
use crate::fault::Fault;
use crate::json;
use crate::providers::choice::Wish;
use crate::providers::foreign::{self, is_usual};
use crate::providers::search::{OPTIONS, Search};
use crate::providers::{Outgoing, QuirkSettings};
use crate::target::TargetName;

/// Fields of Anthropic's own that a client of another dialect may say all the same.
const OWN_FIELDS: &[&str] = &[
    "thinking",
    "mcp_servers",
    "container",
    "context_management",
    "output_config",
    "output_format",
    "cache_control",
    "inference_geo",
    "speed",
    "betas",
];

/// Fields of a tool that Anthropic knows beyond the canonical ones.
const OWN_TOOL_FIELDS: &[&str] = &["type", "input_examples", "eager_input_streaming"];

/// The upstream request.
///
/// # Errors
/// `BadRequest` that names the part which Anthropic's dialect cannot carry and which the answer depends on.
pub(super) fn messages(
    asked: &Request,
    target: &TargetName,
    quirks: &QuirkSettings,
) -> Result<Outgoing, Fault> {
    let mut lost = Vec::new();
    let mut body = Object::new();
    let model = &*target.model;
    let claude = Claude::of(model);
    body.insert("model".into(), model.into());
    let message::Conversation { mut system, messages, plain } =
        message::all(&asked.messages, claude, &mut lost)?;
    let able = Able::of(claude, quirks);
    output(&asked.output, able.schemas, &mut body, &mut system, &mut lost);
    if !system.is_empty() {
        body.insert("system".into(), system_of(system));
    }
    body.insert("messages".into(), Value::Array(messages));
    tools(asked, able, &mut body, &mut lost);
    for (field, value) in &asked.rest {
        match value {
            Value::Null => {}
            value if is_own(field, value) || is_service_tier(field, value) => {
                body.entry(field.clone()).or_insert_with(|| value.clone());
            }
            value if is_usual(field, value) => {}
            Value::Object(_) if field == OPTIONS && able.searches => {}
            Value::String(user) if field == "safety_identifier" && asked.user.as_ref() == Some(user) => {}
            _ => lost.push(Loss::dropped(field.clone())),
        }
    }
    let limit = think(asked, model, &mut body, &mut lost);
    let limit = limit.unwrap_or_else(|| model::default_max_tokens(model));
    body.insert("max_tokens".into(), limit.into());
    sampling(asked, claude, &mut body, &mut lost);
    if let Some(user) = &asked.user {
        body.insert("metadata".into(), json!({ "user_id": user }));
    }
    lost.extend(asked.metadata.keys().map(|key| Loss::dropped(format!("metadata.{key}"))));
    if asked.stream {
        body.insert("stream".into(), true.into());
    }
    quirks.apply(&mut body);
    let json = json::object_with(&body, quirks.renamed("messages"), &plain);
    let mut outgoing = request::outgoing(asked.stream, vec![json.into()]);
    if asked.messages.iter().flat_map(|message| &message.content).any(is_uploaded) {
        outgoing.headers.insert("anthropic-beta", HeaderValue::from_static("files-api-2025-04-14"));
    }
    outgoing.lost = lost;
    Ok(outgoing)
}

fn is_uploaded(part: &Part) -> bool {
    match part {
        Part::Image { media, .. } | Part::File { media, .. } => matches!(media, Media::FileId(_)),
        Part::ToolResult { content, .. } => content.iter().any(is_uploaded),
        _ => false,
    }
}

/// A single plain text as a string, anything else as a list of blocks.
fn system_of(mut blocks: Vec<Value>) -> Value {
    if let [Value::Object(only)] = blocks.as_mut_slice()
        && !only.contains_key("cache_control")
        && let Some(text) = only.get_mut("text").filter(|text| text.is_string())
    {
        return text.take();
    }
    Value::Array(blocks)
}

/// Whether a field is Anthropic's. OpenAI's Responses have a `context_management`, too, which is a list.
fn is_own(field: &str, value: &Value) -> bool {
    OWN_FIELDS.contains(&field) && (field != "context_management" || value.is_object())
}

fn is_service_tier(field: &str, value: &Value) -> bool {
    field == "service_tier" && (value == "auto" || value == "standard_only")
}

fn output(
    output: &OutputFormat,
    knows: bool,
    body: &mut Object,
    system: &mut Vec<Value>,
    lost: &mut Vec<Loss>,
) {
    let mut in_words = |text: String, why: &'static str, lost: &mut Vec<Loss>| {
        system.push(json!({ "type": "text", "text": text }));
        lost.push(Loss::new("response_format", why));
    };
    match output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => in_words(
            "Answer with one JSON object and nothing else: no explanation, no code fence.".to_owned(),
            "asked for in the system prompt",
            lost,
        ),
        OutputFormat::JsonSchema { .. } => {
            let schema = output.described_schema();
            match knows.then(|| schema::down(&schema, schema::OUTPUT, lost)).flatten() {
                Some(schema) => {
                    let format = json!({ "type": "json_schema", "schema": schema });
                    body.insert("output_config".into(), json!({ "format": format }));
                }
                None => in_words(schema::in_words(&schema), schema::why_in_words(knows), lost),
            }
        }
        OutputFormat::Other(_) => lost.push(Loss::dropped("response_format")),
    }
}

/// What the model takes at this provider.
#[derive(Clone, Copy)]
struct Able {
    /// Whether a tool may be forced upon it.
    forced: bool,
    /// Whether it searches the web where it is asked to, which Claude does since it thinks.
    searches: bool,
    /// Whether it takes schemas, for answers and strict tools.
    schemas: bool,
}

impl Able {
    fn of(claude: Option<Claude>, quirks: &QuirkSettings) -> Self {
        let lacks = |word: &str| quirks.lacks.iter().any(|field| field == word);
        let thinks = claude.is_some_and(|claude| !matches!(claude.thinking(), model::Thinking::Never));
        Self {
            forced: claude.is_none_or(Claude::can_be_forced),
            searches: thinks && !lacks("web_search"),
            schemas: claude.is_some_and(Claude::knows_schemas) && !lacks("json_schema"),
        }
    }
}

fn tools(asked: &Request, able: Able, body: &mut Object, lost: &mut Vec<Loss>) {
    let searches = able.searches;
    let says = |tool: &Tool| {
        tool.kind != ToolKind::Server || tool.is_anthropics() || (searches && Search::of(tool).is_some())
    };
    let wish = Wish::read(asked, says, lost);
    // What OpenAI's search would load is there from the beginning without it.
    let loads =
        !asked.tools.iter().any(|tool| tool.rest.get("type").is_some_and(|kind| kind == "tool_search"));
    let mut tools = Vec::with_capacity(asked.tools.len());
    for (at, tool) in asked.tools.iter().enumerate() {
        if wish.leaves_out(tool, at, lost) {
            continue;
        }
        match Search::of(tool).filter(|_| searches && !tool.is_anthropics()) {
            Some(search) => add_search(search, &format!("tools[{at}]"), &mut tools, lost),
            None => tools.extend(encode_tool(tool, at, able.schemas, loads, lost)),
        }
    }
    if let Some(Value::Object(options)) = asked.rest.get(OPTIONS).filter(|_| searches) {
        add_search(Search::read(options), OPTIONS, &mut tools, lost);
    }
    if tools.is_empty() {
        if wish.forces() {
            lost.push(Loss::dropped("tool_choice"));
        }
        return;
    }
    body.insert("tools".into(), Value::Array(tools));
    let mut choice = match wish.word {
        None | Some(ToolChoice::Other(_)) => None,
        Some(ToolChoice::Auto) => Some(json!({ "type": "auto" })),
        Some(ToolChoice::None) => Some(json!({ "type": "none" })),
        Some(ToolChoice::Required | ToolChoice::Named(_)) if !able.forced => {
            lost.push(Loss::new("tool_choice", "left to the model: tools cannot be forced upon it"));
            None
        }
        Some(ToolChoice::Required) => Some(json!({ "type": "any" })),
        Some(ToolChoice::Named(name)) => Some(json!({ "type": "tool", "name": name })),
    };
    if asked.parallel_tool_calls == Some(false) && asked.tool_choice != Some(ToolChoice::None) {
        let choice = choice.get_or_insert_with(|| json!({ "type": "auto" }));
        choice["disable_parallel_tool_use"] = true.into();
    }
    if let Some(choice) = choice {
        body.insert("tool_choice".into(), choice);
    }
}

/// Adds a search that another dialect asks for. Names must be unique, and that of the search is given.
fn add_search(search: Search<'_>, path: &str, tools: &mut Vec<Value>, lost: &mut Vec<Loss>) {
    let (tool, unknown) = search.for_anthropic();
    if tools.iter().any(|known| known.get("name") == tool.get("name")) {
        return lost.push(Loss::new(path.to_owned(), "dropped: another tool has its name"));
    }
    lost.extend(unknown.into_iter().map(|field| Loss::dropped(format!("{path}.{field}"))));
    tools.push(tool);
}

/// Whether Anthropic takes this field of a tool. Two have the names of OpenAI's, which say something else.
fn is_tools_own(field: &str, value: &Value, loads: bool) -> bool {
    match field {
        "defer_loading" => loads,
        "allowed_callers" => value.as_array().is_some_and(|callers| {
            let known = |caller: &str| caller == "direct" || caller.starts_with("code_execution");
            callers.iter().all(|caller| caller.as_str().is_some_and(known))
        }),
        _ => OWN_TOOL_FIELDS.contains(&field),
    }
}

/// `loads`: whether somebody can load tools that are not there from the beginning.
fn encode_tool(tool: &Tool, at: usize, knows: bool, loads: bool, lost: &mut Vec<Loss>) -> Option<Value> {
    let mut object = Object::new();
    match tool.kind {
        ToolKind::Server if tool.is_anthropics() => object.clone_from(&tool.rest),
        ToolKind::Server => {
            lost.push(Loss::dropped(format!("tools[{at}]")));
            return None;
        }
        ToolKind::Function | ToolKind::Custom => {
            object.insert("name".into(), tool.name.as_str().into());
            if let Some(description) = &tool.description {
                object.insert("description".into(), description.as_str().into());
            }
            let mut parameters = input_schema(tool);
            if tool.strict == Some(true) {
                match knows.then(|| schema::strict(&parameters)).flatten() {
                    Some(exact) => {
                        parameters = exact;
                        object.insert("strict".into(), true.into());
                    }
                    None => lost.push(schema::lose_strict(at, knows)),
                }
            }
            object.insert("input_schema".into(), parameters);
            if tool.kind == ToolKind::Custom {
                lost.push(Loss::new(format!("tools[{at}]"), foreign::ONE_TEXT));
            }
            for (field, value) in &tool.rest {
                if is_tools_own(field, value, loads) {
                    object.insert(field.clone(), value.clone());
                } else if tool.kind == ToolKind::Function && !value.is_null() {
                    lost.push(Loss::dropped(format!("tools[{at}].{field}")));
                }
            }
        }
    }
    mark(&mut object, tool.cache.as_ref());
    Some(Value::Object(object))
}

/// The schema of a tool's arguments, which is always one of an object.
pub(in crate::providers) fn input_schema(tool: &Tool) -> Value {
    let mut schema = match (&tool.kind, &tool.parameters) {
        (ToolKind::Custom, _) => {
            return foreign::one_text();
        }
        (_, Some(Value::Object(schema))) => schema.clone(),
        _ => Object::new(),
    };
    // The one thing that Anthropic insists on and OpenAI does not.
    schema.entry("type").or_insert_with(|| "object".into());
    if schema.len() == 1 {
        schema.insert("properties".into(), json!({}));
    }
    Value::Object(schema)
}

/// `cache_control` after a block or a tool.
pub(super) fn mark(object: &mut Object, cache: Option<&CacheHint>) {
    let Some(hint) = cache else { return };
    let mut control = Object::new();
    control.insert("type".into(), "ephemeral".into());
    if let Some(ttl) = &hint.ttl {
        control.insert("ttl".into(), ttl.as_str().into());
    }
    object.insert("cache_control".into(), Value::Object(control));
}

/// Adds what the model is told about thinking, unless the client has said it in Anthropic's words. The answer is the limit
/// of output.
fn think(asked: &Request, model: &str, body: &mut Object, lost: &mut Vec<Loss>) -> Option<u64> {
    let mut rest = asked.reasoning.as_ref().map(|reasoning| reasoning.rest.clone()).unwrap_or_default();
    if body.contains_key("thinking") {
        lost.extend(rest.keys().map(|key| Loss::dropped(format!("reasoning.{key}"))));
        return asked.max_output_tokens;
    }
    let mut thought = think::thought(asked, model, lost);
    if let Some(Value::Object(thinking)) = &mut thought.thinking
        && thinking.get("type").is_some_and(|kind| kind == "enabled" || kind == "adaptive")
        && let Some(display) = rest.shift_remove("display")
    {
        thinking.insert("display".to_owned(), display);
    }
    lost.extend(rest.keys().map(|key| Loss::dropped(format!("reasoning.{key}"))));
    body.extend(thought.thinking.map(|thinking| ("thinking".to_owned(), thinking)));
    put_effort(thought.effort, body);
    asked.max_output_tokens.or(thought.limit)
}

/// Joins what the request says about the effort of the output to what it says about its form.
fn put_effort(effort: Option<String>, body: &mut Object) {
    let Some(effort) = effort else { return };
    let config = body.entry("output_config").or_insert_with(|| json!({}));
    if let Value::Object(config) = config {
        config.entry("effort").or_insert_with(|| effort.into());
    }
}

fn sampling(asked: &Request, claude: Option<Claude>, body: &mut Object, lost: &mut Vec<Loss>) {
    let wanted = &asked.sampling;
    let thinks =
        body.get("thinking").and_then(|thinking| thinking.get("type")).is_some_and(|kind| kind != "disabled");
    let fitted = sampling::fit(wanted, model::freedom(claude, thinks), lost);
    let numbers = [
        ("temperature", fitted.temperature.map(Value::from)),
        ("top_p", fitted.top_p.map(Value::from)),
        ("top_k", fitted.top_k.map(Value::from)),
    ];
    body.extend(numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    // Anthropic refuses sequences of white space alone.
    let (stops, blank): (Vec<&String>, Vec<&String>) =
        wanted.stop.iter().partition(|stop| !stop.trim().is_empty());
    if !blank.is_empty() {
        lost.push(Loss::new("stop", "sequences of white space dropped"));
    }
    if !stops.is_empty() {
        body.insert("stop_sequences".into(), stops.into_iter().map(String::as_str).collect());
    }
    let unsaid = [
        ("presence_penalty", wanted.presence_penalty.is_some_and(|penalty| penalty != 0.0)),
        ("frequency_penalty", wanted.frequency_penalty.is_some_and(|penalty| penalty != 0.0)),
        ("seed", wanted.seed.is_some()),
        ("logit_bias", wanted.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty())),
        ("logprobs", wanted.logprobs == Some(true)),
        ("top_logprobs", wanted.top_logprobs.is_some_and(|count| count > 0)),
    ];
    lost.extend(unsaid.into_iter().filter(|(_, said)| *said).map(|(path, _)| Loss::dropped(path)));
    if wanted.n.is_some_and(|n| n > 1) {
        lost.push(Loss::new("n", "lowered to 1"));
    }
}

#[cfg(test)]
mod tests;

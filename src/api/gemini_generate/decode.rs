//! A generateContent request → the canonical request.

use serde_json::{Value, json};

use super::content::{self, field, unread, wrong};
use super::path::Origin;
use super::schema;
use crate::chat::{Loss, Object, OutputFormat, Reasoning, Request, Tool, ToolChoice, ToolKind};
use crate::fault::{Fault, Retry};
use crate::json::{self, Body};

/// A request read for a target of another dialect.
pub(in crate::api) struct Decoded {
    pub(in crate::api) request: Request,
    /// What only Google understands: its own tools and settings.
    pub(in crate::api) lost: Vec<Loss>,
    /// Where each message stood.
    pub(super) origins: Vec<Origin>,
    /// Where each tool stood: its place, and that of its declaration.
    pub(super) tools: Vec<(usize, Option<usize>)>,
}

/// Reads the whole request, for a target of another dialect: Google's own gets the client's bytes.
///
/// # Errors
/// `BadRequest` with the path of the field that cannot be understood.
pub(in crate::api) fn decode(body: &Body, model: &str, stream: bool) -> Result<Decoded, Fault> {
    let (mut lost, mut origins, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let mut object = match json::parse(body.bytes()) {
        Some(Value::Object(object)) => object,
        // The gate let it through, so it is an object.
        _ => return Err(Fault::bad_request("the body is not a JSON object", "")),
    };
    let mut take = |camel: &str, snake: &str| {
        let value = object.shift_remove(camel).or_else(|| object.shift_remove(snake));
        value.filter(|value| !value.is_null())
    };
    let mut request = Request { model: model.to_owned(), stream, include_usage: true, ..Request::default() };
    take("model", "model");
    if take("cachedContent", "cached_content").is_some() {
        return Err(kept_by_google());
    }
    if let Some(system) = take("systemInstruction", "system_instruction") {
        request.messages.extend(content::instructions(&system, &mut origins, &mut lost)?);
    }
    let contents = take("contents", "contents").unwrap_or_default();
    request.messages.extend(content::messages(&contents, &mut origins, &mut lost)?);
    if let Some(tools) = take("tools", "tools") {
        request.tools = self::tools(&tools, &mut places, &mut lost)?;
    }
    if let Some(Value::Object(config)) = take("toolConfig", "tool_config") {
        unread(&config, &["functionCallingConfig", "function_calling_config"], "toolConfig", &mut lost);
        request.tool_choice = tool_choice(&config, &mut lost);
    }
    if let Some(Value::Object(config)) = take("generationConfig", "generation_config") {
        generation(config, &mut request, &mut lost)?;
    }
    if let Some(Value::String(tier)) = take("serviceTier", "service_tier") {
        // The others' word for the usual one is another.
        let tier = tier.to_ascii_lowercase();
        let tier = if tier == "standard" { "default".to_owned() } else { tier };
        request.rest.insert("service_tier".to_owned(), tier.into());
    }
    lost.extend(object.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| Loss::dropped(key)));
    Ok(Decoded { request, lost, origins, tools: places })
}

/// The beginning of the prompt lies there: any other model would answer the rest of a question.
fn kept_by_google() -> Fault {
    let message = "cached content lives at Google, and the target of this request is another provider: send what it holds";
    Fault::bad_request(message, "cachedContent").retry(Retry::Elsewhere)
}

/// Google's own search.
pub(super) const SEARCH: &str = "googleSearch";

fn tools(
    tools: &Value,
    places: &mut Vec<(usize, Option<usize>)>,
    lost: &mut Vec<Loss>,
) -> Result<Vec<Tool>, Fault> {
    let Some(list) = tools.as_array() else { return Err(wrong("tools".into(), "an array")) };
    let mut out = Vec::new();
    for (at, tool) in list.iter().enumerate() {
        let Some(object) = tool.as_object() else { return Err(wrong(format!("tools[{at}]"), "an object")) };
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            if matches!(&**key, "functionDeclarations" | "function_declarations") {
                for (place, function) in value.as_array().into_iter().flatten().enumerate() {
                    places.push((at, Some(place)));
                    out.push(self::function(
                        function,
                        &format!("tools[{at}].functionDeclarations[{place}]"),
                    )?);
                }
                continue;
            }
            // Others search the web, too.
            if matches!(&**key, "googleSearch" | "google_search") {
                places.push((at, None));
                out.push(search(value));
                continue;
            }
            lost.push(Loss::dropped(format!("tools[{at}].{key}")));
        }
    }
    Ok(out)
}

fn search(settings: &Value) -> Tool {
    let mut rest = Object::new();
    rest.insert(SEARCH.to_owned(), settings.clone());
    let (name, kind) = (SEARCH.to_owned(), ToolKind::Server);
    Tool { name, description: None, parameters: None, strict: None, kind, cache: None, rest }
}

fn function(function: &Value, path: &str) -> Result<Tool, Fault> {
    let Some(object) = function.as_object() else { return Err(wrong(path.to_owned(), "an object")) };
    let Some(name) = object.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return Err(wrong(format!("{path}.name"), "a string"));
    };
    let parameters = match field(object, "parametersJsonSchema", "parameters_json_schema") {
        Some(schema) => schema.clone(),
        None => {
            object.get("parameters").filter(|p| !p.is_null()).map_or_else(content::no_parameters, schema::up)
        }
    };
    const KNOWN: &[&str] =
        &["name", "description", "parameters", "parametersJsonSchema", "parameters_json_schema"];
    let rest = object.iter().filter(|(key, value)| !KNOWN.contains(&&***key) && !value.is_null());
    Ok(Tool {
        name: name.to_owned(),
        description: object.get("description").and_then(Value::as_str).map(str::to_owned),
        parameters: Some(parameters),
        strict: None,
        kind: ToolKind::Function,
        cache: None,
        rest: rest.map(|(key, value)| (key.clone(), value.clone())).collect(),
    })
}

fn tool_choice(config: &Object, lost: &mut Vec<Loss>) -> Option<ToolChoice> {
    const PATH: &str = "toolConfig.functionCallingConfig";
    let calling = field(config, "functionCallingConfig", "function_calling_config")?.as_object()?;
    unread(calling, &["mode", "allowedFunctionNames", "allowed_function_names"], PATH, lost);
    let allowed = field(calling, "allowedFunctionNames", "allowed_function_names");
    let names: Vec<&str> =
        allowed.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    // OpenAI's way to allow some of the tools, which the other dialects of the house understand.
    let some = |mode: &str| {
        let tools: Vec<Value> =
            names.iter().map(|name| json!({ "type": "function", "function": { "name": name } })).collect();
        let allowed = json!({ "mode": mode, "tools": tools });
        Some(ToolChoice::Other(json!({ "type": "allowed_tools", "allowed_tools": allowed })))
    };
    let mode = match calling.get("mode") {
        Some(Value::String(mode)) => mode.as_str(),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(2) => "ANY",
            Some(3) => "NONE",
            _ => "AUTO",
        },
        _ => "AUTO",
    };
    if mode == "VALIDATED" {
        lost.push(Loss::new("toolConfig.functionCallingConfig.mode", "VALIDATED became AUTO"));
    }
    match (mode, names.as_slice()) {
        ("ANY" | "any", []) => Some(ToolChoice::Required),
        ("ANY" | "any", [one]) => Some(ToolChoice::Named((*one).to_owned())),
        ("ANY" | "any", _) => some("required"),
        ("NONE" | "none", _) => Some(ToolChoice::None),
        (_, []) => Some(ToolChoice::Auto),
        _ => some("auto"),
    }
}

fn generation(mut config: Object, request: &mut Request, lost: &mut Vec<Loss>) -> Result<(), Fault> {
    let mut take = |camel: &str, snake: &str| {
        let value = config.shift_remove(camel).or_else(|| config.shift_remove(snake));
        value.filter(|value| !value.is_null())
    };
    let path = |name: &str| format!("generationConfig.{name}");
    let number = |value: Option<Value>, name: &str| match value {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong(path(name), "a number")),
    };
    let count = |value: Option<Value>, name: &str| match value {
        None => Ok(None),
        Some(value) => whole(&value).map(Some).ok_or_else(|| wrong(path(name), "an integer")),
    };
    let sampling = &mut request.sampling;
    sampling.temperature = number(take("temperature", "temperature"), "temperature")?;
    sampling.top_p = number(take("topP", "top_p"), "topP")?;
    sampling.top_k = count(take("topK", "top_k"), "topK")?;
    sampling.n = count(take("candidateCount", "candidate_count"), "candidateCount")?;
    request.max_output_tokens = count(take("maxOutputTokens", "max_output_tokens"), "maxOutputTokens")?;
    sampling.presence_penalty = number(take("presencePenalty", "presence_penalty"), "presencePenalty")?;
    sampling.frequency_penalty = number(take("frequencyPenalty", "frequency_penalty"), "frequencyPenalty")?;
    sampling.seed = take("seed", "seed").and_then(|seed| seed.as_i64());
    sampling.logprobs = take("responseLogprobs", "response_logprobs").and_then(|wanted| wanted.as_bool());
    sampling.top_logprobs = count(take("logprobs", "logprobs"), "logprobs")?;
    if let Some(stop) = take("stopSequences", "stop_sequences") {
        let Some(list) = stop.as_array() else { return Err(wrong(path("stopSequences"), "an array")) };
        sampling.stop = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    if let Some(Value::Object(thinking)) = take("thinkingConfig", "thinking_config") {
        request.reasoning = reasoning(&thinking, lost);
    }
    let mime = take("responseMimeType", "response_mime_type");
    let open = take("responseSchema", "response_schema");
    let json_schema = take("responseJsonSchema", "response_json_schema")
        .or_else(|| take("_responseJsonSchema", "_response_json_schema"));
    request.output = output(mime.as_ref().and_then(Value::as_str), open, json_schema);
    let modalities =
        config.shift_remove("responseModalities").or_else(|| config.shift_remove("response_modalities"));
    if modalities.is_some_and(|words| words != json!(["TEXT"]) && !words.is_null()) {
        lost.push(Loss::dropped("generationConfig.responseModalities"));
    }
    let others = config.into_iter().filter(|(_, value)| !value.is_null());
    lost.extend(others.map(|(key, _)| Loss::dropped(format!("generationConfig.{key}"))));
    Ok(())
}

/// An integer from 0, also where a client writes `50.0` or `"50"`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a small whole number"
)]
fn whole(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|n| (0.0..=1e15).contains(n) && n.fract() == 0.0).map(|n| n as u64);
    value.as_u64().or_else(float).or_else(|| value.as_str()?.parse().ok())
}

fn reasoning(thinking: &Object, lost: &mut Vec<Loss>) -> Option<Reasoning> {
    let mut reasoning = Reasoning::default();
    for (key, value) in thinking.iter().filter(|(_, value)| !value.is_null()) {
        match &**key {
            // A negative budget: as the model likes.
            "thinkingBudget" | "thinking_budget" => reasoning.budget_tokens = value.as_u64(),
            "thinkingLevel" | "thinking_level" => {
                reasoning.effort = value.as_str().map(str::to_ascii_lowercase);
            }
            // Thoughts are shown wherever a provider tells them; a client of this dialect knows them apart.
            "includeThoughts" | "include_thoughts" => {
                if *value == Value::Bool(false) {
                    let path = "generationConfig.thinkingConfig.includeThoughts";
                    lost.push(Loss::new(path, "thoughts are shown where the provider tells them"));
                }
            }
            _ => lost.push(Loss::dropped(format!("generationConfig.thinkingConfig.{key}"))),
        }
    }
    (reasoning != Reasoning::default()).then_some(reasoning)
}

fn output(mime: Option<&str>, open: Option<Value>, json_schema: Option<Value>) -> OutputFormat {
    match (mime, json_schema.or_else(|| open.as_ref().map(schema::up))) {
        (Some("text/x.enum"), schema) => OutputFormat::Other(
            json!({ "responseMimeType": "text/x.enum", "responseSchema": open.or(schema) }),
        ),
        (Some("application/json"), Some(schema)) => {
            OutputFormat::JsonSchema { name: "response".into(), description: None, schema, strict: None }
        }
        (Some("application/json"), None) => OutputFormat::JsonObject,
        (None | Some("text/plain"), _) => OutputFormat::Text,
        (Some(mime), _) => OutputFormat::Other(json!({ "responseMimeType": mime })),
    }
}

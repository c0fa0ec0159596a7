//! Reads answers the long way round, on purpose unlike the gateway: what a person would take from the bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;

/// Everything that matters in a chat answer, whole or streamed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    pub choices: BTreeMap<u64, Choice>,
    pub usage: Option<Tokens>,
    /// The error object, under whatever envelope it came.
    pub error: Option<Value>,
    /// Whether `[DONE]` came.
    pub done: bool,
    /// Departures from what OpenAI's SDKs can read.
    pub oddities: Vec<String>,
}

/// One choice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    pub text: String,
    pub reasoning: String,
    pub refusal: String,
    pub tools: Vec<Tool>,
    pub finish: Option<String>,
}

/// One tool call of the model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tool {
    pub id: String,
    pub name: String,
    pub arguments: String,
}

/// Usage by OpenAI's conventions: prompt includes cache, completion includes reasoning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
    pub cached: u64,
    pub reasoning: u64,
}

/// Reads a whole answer.
pub fn whole(body: &str) -> Facts {
    let mut facts = Facts::default();
    let Ok(answer) = serde_json::from_str::<Value>(body.trim()) else {
        facts.oddities.push("not JSON".into());
        return facts;
    };
    facts.error = error_in(&answer);
    facts.usage = tokens(&answer);
    for (place, choice) in each(&answer["choices"]).enumerate() {
        let index = choice["index"].as_u64().unwrap_or(place as u64);
        let into = facts.choices.entry(index).or_default();
        take_message(into, &choice["message"], &mut facts.oddities, true);
        take_finish(into, choice);
    }
    facts
}

/// Reads an event stream.
pub fn streamed(body: &str) -> Facts {
    let mut facts = Facts::default();
    let body = body.strip_prefix('\u{feff}').unwrap_or(body).replace("\r\n", "\n").replace('\r', "\n");
    for event in body.split("\n\n") {
        let line = |name: &str| {
            let lines = event.lines().filter_map(move |line| line.strip_prefix(name));
            lines.map(|rest| rest.strip_prefix(' ').unwrap_or(rest)).collect::<Vec<_>>().join("\n")
        };
        let data = line("data:");
        if data.is_empty() {
            continue;
        }
        if data.trim() == "[DONE]" {
            facts.done = true;
            continue;
        }
        if facts.done {
            facts.oddities.push(format!("after [DONE]: {data}"));
        }
        let Ok(chunk) = serde_json::from_str::<Value>(&data) else {
            facts.oddities.push(format!("not JSON: {data}"));
            continue;
        };
        if let Some(error) = error_in(&chunk) {
            facts.error.get_or_insert(error);
            continue;
        }
        if let Some(usage) = tokens(&chunk) {
            facts.usage = Some(usage);
        }
        for choice in each(&chunk["choices"]) {
            take_chunk(&mut facts, choice);
        }
    }
    for choice in facts.choices.values_mut() {
        choice.tools.retain(|tool| *tool != Tool::default());
    }
    facts
}

/// The vectors of an embeddings answer, from floats or base64.
pub fn vectors(body: &str) -> Vec<Vec<f32>> {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let mut rows: Vec<&Value> = each(&answer["data"]).collect();
    rows.sort_by_key(|row| row["index"].as_u64());
    rows.into_iter().map(|row| vector(&row["embedding"])).collect()
}

fn vector(embedding: &Value) -> Vec<f32> {
    if let Some(text) = embedding.as_str() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
        return bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    }
    #[allow(clippy::cast_possible_truncation, reason = "embeddings are single precision")]
    each(embedding).filter_map(Value::as_f64).map(|number| number as f32).collect()
}

fn take_chunk(facts: &mut Facts, choice: &Value) {
    let Some(index) = choice["index"].as_u64() else {
        facts.oddities.push("a choice without index".into());
        return;
    };
    let into = facts.choices.entry(index).or_default();
    // Older Perplexity streams repeat the whole message beside the delta; only the delta counts.
    take_message(into, &choice["delta"], &mut facts.oddities, false);
    take_finish(into, choice);
}

fn take_message(into: &mut Choice, message: &Value, oddities: &mut Vec<String>, whole: bool) {
    match &message["content"] {
        Value::String(text) => into.text.push_str(text),
        Value::Array(parts) => {
            oddities.push("content is a list".into());
            for part in parts {
                into.text.push_str(part["text"].as_str().unwrap_or_default());
                for thought in each(&part["thinking"]) {
                    into.reasoning.push_str(thought["text"].as_str().unwrap_or_default());
                }
            }
        }
        Value::Null => {}
        _ => oddities.push("content is neither text nor null".into()),
    }
    for name in ["reasoning_content", "reasoning"] {
        // Some send the same thought under both names.
        if let Some(text) = message[name].as_str().filter(|text| !text.is_empty()) {
            into.reasoning.push_str(text);
            break;
        }
    }
    into.refusal.push_str(message["refusal"].as_str().unwrap_or_default());
    if let Some(call) = message["function_call"].as_object() {
        let part = |name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default();
        slot(into, 0).name.push_str(part("name"));
        slot(into, 0).arguments.push_str(part("arguments"));
    }
    for (place, call) in each(&message["tool_calls"]).enumerate() {
        let index = match (&call["index"], whole) {
            (Value::Number(index), false) => index.as_u64().unwrap_or(0),
            (_, true) => place as u64,
            _ => {
                oddities.push("a tool call without index".into());
                place as u64
            }
        };
        take_call(slot(into, index), call);
    }
}

fn take_call(into: &mut Tool, call: &Value) {
    let body = if call["custom"].is_object() { &call["custom"] } else { &call["function"] };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if into.id.is_empty() {
        into.id = text(&call["id"]);
    }
    if into.name.is_empty() {
        into.name = text(&body["name"]);
    }
    into.arguments.push_str(&text(&body["arguments"]));
    into.arguments.push_str(&text(&body["input"]));
}

fn slot(choice: &mut Choice, index: u64) -> &mut Tool {
    let index = usize::try_from(index).unwrap_or(0);
    if choice.tools.len() <= index {
        choice.tools.resize(index + 1, Tool::default());
    }
    &mut choice.tools[index]
}

fn take_finish(into: &mut Choice, choice: &Value) {
    let old = &choice["finish_details"]["type"];
    if let Some(finish) = choice["finish_reason"].as_str().or(old.as_str()) {
        into.finish = Some(if finish == "eos" { "stop" } else { finish }.to_owned());
    }
}

fn tokens(answer: &Value) -> Option<Tokens> {
    let usage = [&answer["usage"], &answer["x_groq"]["usage"]].into_iter().find(|usage| usage.is_object())?;
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut tokens = Tokens {
        prompt: number(&usage["prompt_tokens"]),
        completion: number(&usage["completion_tokens"]),
        cached: [
            &usage["prompt_tokens_details"]["cached_tokens"],
            &usage["prompt_cache_hit_tokens"],
            &usage["num_cached_tokens"],
        ]
        .into_iter()
        .map(number)
        .max()
        .unwrap_or(0),
        reasoning: [&usage["completion_tokens_details"]["reasoning_tokens"], &usage["reasoning_tokens"]]
            .into_iter()
            .map(number)
            .max()
            .unwrap_or(0),
    };
    // Where the sum only works out with reasoning beside completion, the vendor leaves it out (xAI).
    let total = number(&usage["total_tokens"]);
    if tokens.reasoning > 0 && total == tokens.prompt + tokens.completion + tokens.reasoning {
        tokens.completion += tokens.reasoning;
    }
    Some(tokens)
}

/// The error object, in an envelope or flat.
pub fn error_in(answer: &Value) -> Option<Value> {
    match &answer["error"] {
        Value::Null if answer["object"] == "error" || answer.get("detail").is_some() => Some(answer.clone()),
        Value::Null => None,
        error => Some(error.clone()),
    }
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

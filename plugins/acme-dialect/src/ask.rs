//! From a chat completions request to Acme's words.

use serde_json::{Map, Value, json};
use tollgate_plugin::Failure;

/// Settings that both know, by OpenAI's name and Acme's.
const SETTINGS: [(&str, &str); 5] = [
    ("max_completion_tokens", "most_tokens"),
    ("max_tokens", "most_tokens"),
    ("temperature", "warmth"),
    ("top_p", "nucleus"),
    ("seed", "dice"),
];

/// What is read elsewhere or says nothing to a provider.
const HANDLED: [&str; 7] = ["model", "messages", "stream", "stream_options", "stop", "tools", "tool_choice"];

/// Acme's request as JSON text, and the paths of what it cannot say.
///
/// # Errors
/// Text that is no such request.
pub fn acme(request: &str) -> Result<(String, Vec<String>), Failure> {
    let request: Map<String, Value> = serde_json::from_str(request)
        .map_err(|error| Failure::Internal(format!("not a chat completions request: {error}")))?;
    let mut lost = Vec::new();
    let mut settings = Map::new();
    for (key, value) in request.iter().filter(|(_, value)| !value.is_null()) {
        match SETTINGS.iter().find(|(name, _)| name == key) {
            Some((_, theirs)) => drop(settings.insert((*theirs).to_owned(), value.clone())),
            None if HANDLED.contains(&key.as_str()) => {}
            None => lost.push(key.clone()),
        }
    }
    match request.get("stop") {
        Some(Value::String(one)) => drop(settings.insert("halt".to_owned(), json!([one]))),
        Some(Value::Array(several)) => drop(settings.insert("halt".to_owned(), json!(several))),
        _ => {}
    }
    let (rules, dialogue) = dialogue(&request, &mut lost);
    let mut body = Map::new();
    body.insert("engine".to_owned(), request.get("model").cloned().unwrap_or_default());
    if !rules.is_empty() {
        body.insert("rules".to_owned(), rules.join("\n\n").into());
    }
    body.insert("dialogue".to_owned(), dialogue.into());
    if !settings.is_empty() {
        body.insert("settings".to_owned(), settings.into());
    }
    if let Some(abilities) = abilities(&request, &mut lost) {
        body.insert("abilities".to_owned(), abilities);
    }
    if request.get("stream") == Some(&Value::Bool(true)) {
        body.insert("live".to_owned(), true.into());
    }
    Ok((Value::Object(body).to_string(), lost))
}

/// The instructions, and who said what.
fn dialogue(request: &Map<String, Value>, lost: &mut Vec<String>) -> (Vec<String>, Vec<Value>) {
    let (mut rules, mut dialogue) = (Vec::new(), Vec::new());
    let messages = request.get("messages").and_then(Value::as_array);
    for (number, message) in messages.into_iter().flatten().enumerate() {
        let place = format!("messages[{number}]");
        let text = text(message.get("content"), &format!("{place}.content"), lost);
        lost.extend(unknown(message).map(|key| format!("{place}.{key}")));
        match message.get("role").and_then(Value::as_str) {
            Some("system" | "developer") => rules.push(text),
            Some("user") => dialogue.push(json!({ "speaker": "human", "say": text })),
            Some("tool") => {
                let id = message.get("tool_call_id").cloned().unwrap_or_default();
                dialogue.push(json!({ "speaker": "ability", "id": id, "result": text }));
            }
            Some("assistant") => {
                let mut said = json!({ "speaker": "acme", "say": text });
                if let Some(calls) = message.get("tool_calls").and_then(Value::as_array) {
                    said["uses"] = calls.iter().map(used).collect();
                }
                dialogue.push(said);
            }
            _ => lost.push(place),
        }
    }
    (rules, dialogue)
}

fn unknown(message: &Value) -> impl Iterator<Item = &String> {
    let known = ["role", "content", "tool_calls", "tool_call_id"];
    let keys = message.as_object().into_iter().flatten();
    keys.filter(move |(key, value)| !value.is_null() && !known.contains(&key.as_str())).map(|(key, _)| key)
}

/// The text of a message; pictures and the like are what Acme cannot say.
fn text(content: Option<&Value>, place: &str, lost: &mut Vec<String>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let mut said = String::new();
            for (number, part) in parts.iter().enumerate() {
                match part.get("text").and_then(Value::as_str) {
                    Some(text) => said.push_str(text),
                    None => lost.push(format!("{place}[{number}]")),
                }
            }
            said
        }
        _ => String::new(),
    }
}

/// A tool call; its arguments are JSON text there and JSON here.
fn used(call: &Value) -> Value {
    let function = &call["function"];
    let with = function["arguments"].as_str().and_then(|text| serde_json::from_str(text).ok());
    json!({ "id": call["id"], "ability": function["name"], "with": with.unwrap_or_else(|| json!({})) })
}

fn abilities(request: &Map<String, Value>, lost: &mut Vec<String>) -> Option<Value> {
    match request.get("tool_choice") {
        None | Some(Value::Null) => {}
        Some(Value::String(choice)) if choice == "auto" => {}
        Some(Value::String(choice)) if choice == "none" => return None,
        Some(_) => lost.push("tool_choice".to_owned()),
    }
    let mut abilities = Vec::new();
    for (number, tool) in request.get("tools")?.as_array()?.iter().enumerate() {
        match tool.get("function") {
            Some(function) => abilities.push(json!({
                "ability": function["name"], "purpose": function["description"], "input": function["parameters"],
            })),
            None => lost.push(format!("tools[{number}]")),
        }
    }
    Some(abilities.into())
}

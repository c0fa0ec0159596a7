//! OpenAI's chat completions, read and written by hand.

use serde_json::{Value, json};

use super::asked::{Asked, Choice, Item, Tool};
use super::said::{Call, Said, Stop, Tokens, each, events, input, text};
use crate::recording;

pub fn whole(body: &str) -> Said {
    let answer: Value = serde_json::from_str(body.trim()).unwrap_or_default();
    let facts = recording::whole(body);
    let mut said = of_facts(facts);
    let message = &answer["choices"][0]["message"];
    extras(&mut said, message);
    pages(&mut said, &answer);
    // Older models call one function, without an id.
    if message["function_call"].is_object() {
        said.calls[0].id = "legacy".into();
    }
    said.ended = said.stop.is_some();
    said
}

pub fn streamed(body: &str) -> Said {
    let facts = recording::streamed(body);
    let done = facts.done;
    let mut said = of_facts(facts);
    let (mut id, mut heads) = (None, 0);
    for (_, data) in events(body) {
        let Ok(chunk) = serde_json::from_str::<Value>(&data) else { continue };
        pages(&mut said, &chunk);
        if let Some(choice) = each(&chunk["choices"]).find(|choice| choice["index"] == 0) {
            extras(&mut said, &choice["delta"]);
            heads += usize::from(choice["delta"]["function_call"]["name"].is_string());
        }
        if chunk["object"] == "chat.completion.chunk" {
            let first = id.get_or_insert_with(|| chunk["id"].clone());
            if *first != chunk["id"] {
                said.odd("the id changes on the way");
            }
        }
    }
    if heads > 0
        && let Some(call) = said.calls.first_mut()
    {
        call.id = "legacy".into();
    }
    said.ended = done;
    said
}

fn of_facts(facts: recording::Facts) -> Said {
    let mut said = Said { error: facts.error, oddities: facts.oddities, ..Said::default() };
    said.usage = facts.usage.map(|usage| Tokens {
        prompt: usage.prompt,
        completion: usage.completion,
        cached: usage.cached,
        thinking: usage.reasoning,
    });
    let Some(choice) = facts.choices.into_iter().find(|(index, _)| *index == 0).map(|(_, choice)| choice)
    else {
        return said;
    };
    said.text = choice.text;
    said.thought = choice.reasoning;
    said.refusal = choice.refusal;
    let call = |tool: recording::Tool| Call { id: tool.id, name: tool.name, input: input(&tool.arguments) };
    said.calls = choice.tools.into_iter().map(call).collect();
    said.stop = choice.finish.map(|word| match &*word {
        "length" | "model_length" => Stop::Length,
        "tool_calls" | "function_call" => Stop::Calls,
        "content_filter" => Stop::Filter,
        _ => Stop::End,
    });
    said
}

/// Pages that Perplexity and xAI name beside their answers.
fn pages(said: &mut Said, body: &Value) {
    let named = if body["citations"].is_array() { &body["citations"] } else { &body["search_results"] };
    let urls = each(named).filter_map(|page| page.as_str().or(page["url"].as_str()));
    said.sources.extend(urls.map(str::to_owned));
}

/// What the reader of recordings leaves out.
fn extras(said: &mut Said, message: &Value) {
    for detail in each(&message["reasoning_details"]) {
        said.proofs.extend(detail["signature"].as_str().or(detail["data"].as_str()).map(str::to_owned));
    }
    for call in each(&message["tool_calls"]) {
        let proof = call["extra_content"]["google"]["thought_signature"].as_str();
        said.proofs.extend(proof.map(str::to_owned));
    }
    for note in each(&message["annotations"]) {
        match note["url_citation"]["url"].as_str() {
            Some(url) if note["type"] == "url_citation" => said.sources.push(url.into()),
            _ => said.odd(format!("an annotation that OpenAI's SDKs do not know: {note}")),
        }
    }
}

pub fn read(body: &Value) -> Asked {
    let mut asked = Asked {
        tools: each(&body["tools"]).filter(|tool| tool["type"] == "function").map(tool).collect(),
        limit: body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64()),
        temperature: body["temperature"].as_f64(),
        top_p: body["top_p"].as_f64(),
        stops: match &body["stop"] {
            Value::String(stop) => vec![stop.clone()],
            stops => each(stops).map(text).collect(),
        },
        choice: match &body["tool_choice"] {
            Value::String(word) => match &**word {
                "none" => Some(Choice::None),
                "required" | "any" => Some(Choice::Any),
                _ => Some(Choice::Auto),
            },
            Value::Object(_) => {
                let name = body["tool_choice"]["function"]["name"].as_str();
                name.map(|name| Choice::Named(name.into()))
            }
            _ => None,
        },
        schema: Some(&body["response_format"]["json_schema"]["schema"]).filter(|s| s.is_object()).cloned(),
        ..Asked::default()
    };
    for message in each(&body["messages"]) {
        let role = text(&message["role"]);
        match &*role {
            "system" | "developer" => {
                for item in content(&message["content"]) {
                    if let Item::Text(text) = item {
                        asked.system.push_str(&text);
                        asked.system.push('\n');
                    }
                }
            }
            "tool" | "function" => {
                let said: Vec<String> =
                    content(&message["content"]).into_iter().filter_map(only_text).collect();
                let id = message["tool_call_id"].as_str().unwrap_or("legacy").to_owned();
                asked.say(false, vec![Item::Result { id, text: said.join("\n") }]);
            }
            "assistant" => {
                let mut items = content(&message["content"]);
                if let Some(refusal) = message["refusal"].as_str().filter(|text| !text.is_empty()) {
                    items.push(Item::Text(refusal.into()));
                }
                items.extend(each(&message["tool_calls"]).map(|call| Item::Call {
                    id: text(&call["id"]),
                    name: text(&call["function"]["name"]),
                    input: input(&text(&call["function"]["arguments"])),
                }));
                if message["function_call"].is_object() {
                    let call = &message["function_call"];
                    let (name, input) = (text(&call["name"]), input(&text(&call["arguments"])));
                    items.push(Item::Call { id: "legacy".into(), name, input });
                }
                asked.say(true, items);
            }
            _ => asked.say(false, content(&message["content"])),
        }
    }
    asked
}

fn only_text(item: Item) -> Option<String> {
    if let Item::Text(text) = item { Some(text) } else { None }
}

fn tool(tool: &Value) -> Tool {
    let function = &tool["function"];
    Tool {
        name: text(&function["name"]),
        description: text(&function["description"]),
        schema: function["parameters"].clone(),
    }
}

fn content(content: &Value) -> Vec<Item> {
    if let Some(text) = content.as_str() {
        return vec![Item::Text(text.into())];
    }
    each(content)
        .map(|part| match part["type"].as_str().unwrap_or_default() {
            "text" => Item::Text(text(&part["text"])),
            "image_url" => link(part["image_url"]["url"].as_str().or(part["image_url"].as_str())),
            "input_audio" => Item::Media {
                mime: format!("audio/{}", text(&part["input_audio"]["format"])),
                base64: text(&part["input_audio"]["data"]),
            },
            "file" if part["file"]["file_id"].is_string() => Item::Own("file_id".into()),
            "file" => link(part["file"]["file_data"].as_str()),
            other => Item::Own(other.into()),
        })
        .collect()
}

fn link(url: Option<&str>) -> Item {
    let url = url.unwrap_or_default();
    match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((mime, base64)) => Item::Media { mime: mime.into(), base64: base64.into() },
        None => Item::Link(url.into()),
    }
}

pub fn write(asked: &Asked) -> Value {
    let mut messages = Vec::new();
    if !asked.system.is_empty() {
        messages.push(json!({"role": "system", "content": asked.system}));
    }
    for turn in &asked.turns {
        if turn.model {
            messages.push(assistant(&turn.items));
            continue;
        }
        let mut parts = Vec::new();
        for item in &turn.items {
            match item {
                Item::Result { id, text } => {
                    messages.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
                }
                Item::Text(text) => parts.push(json!({"type": "text", "text": text})),
                Item::Media { mime, base64 } => parts.push(media(mime, base64)),
                Item::Link(url) => parts.push(json!({"type": "image_url", "image_url": {"url": url}})),
                _ => {}
            }
        }
        if !parts.is_empty() {
            messages.push(json!({"role": "user", "content": parts}));
        }
    }
    let mut body = json!({"messages": messages});
    if !asked.tools.is_empty() {
        let tool = |tool: &Tool| {
            let function =
                json!({"name": tool.name, "description": tool.description, "parameters": tool.schema});
            json!({"type": "function", "function": function})
        };
        body["tools"] = asked.tools.iter().map(tool).collect();
    }
    if let Some(choice) = &asked.choice {
        body["tool_choice"] = match choice {
            Choice::Auto => "auto".into(),
            Choice::None => "none".into(),
            Choice::Any => "required".into(),
            Choice::Named(name) => json!({"type": "function", "function": {"name": name}}),
        };
    }
    if let Some(schema) = &asked.schema {
        body["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
    }
    for (name, value) in [
        ("max_completion_tokens", asked.limit.map(Value::from)),
        ("temperature", asked.temperature.map(Value::from)),
        ("top_p", asked.top_p.map(Value::from)),
        ("stop", (!asked.stops.is_empty()).then(|| json!(asked.stops))),
    ] {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    body
}

fn assistant(items: &[Item]) -> Value {
    let (mut said, mut calls) = (String::new(), Vec::new());
    for item in items {
        match item {
            Item::Text(text) => said.push_str(text),
            Item::Call { id, name, input } => {
                let function = json!({"name": name, "arguments": input.to_string()});
                calls.push(json!({"id": id, "type": "function", "function": function}));
            }
            _ => {}
        }
    }
    let mut message = json!({"role": "assistant", "content": said});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
        if said.is_empty() {
            message["content"] = Value::Null;
        }
    }
    message
}

fn media(mime: &str, base64: &str) -> Value {
    let url = format!("data:{mime};base64,{base64}");
    if mime.starts_with("image/") {
        return json!({"type": "image_url", "image_url": {"url": url}});
    }
    if let Some(format) = mime.strip_prefix("audio/") {
        return json!({"type": "input_audio", "input_audio": {"data": base64, "format": format}});
    }
    json!({"type": "file", "file": {"file_data": url, "filename": "paper.pdf"}})
}

/// The error of a body, if it has the shape of the dialect.
pub fn error(body: &Value) -> Option<String> {
    let error = &body["error"];
    let named = |name: &str| error.get(name).is_some_and(|value| value.is_string() || value.is_null());
    let shaped = named("param") && named("code") && error["type"].is_string();
    shaped.then(|| error["message"].as_str().map(str::to_owned)).flatten()
}

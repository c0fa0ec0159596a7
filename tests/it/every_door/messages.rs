//! Anthropic's messages, read and written by hand.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::asked::{Asked, Choice, Item, Tool};
use super::said::{Call, Said, Stop, Tokens, each, events, number, text};

pub fn whole(body: &str) -> Said {
    let mut said = Said::default();
    let message: Value = serde_json::from_str(body.trim()).unwrap_or_default();
    if message["type"] == "error" || message["error"].is_object() {
        said.error = Some(message["error"].clone());
        return said;
    }
    each(&message["content"]).for_each(|block| take(&mut said, block));
    said.usage = tokens(&message["usage"]);
    said.stop = stop(&message["stop_reason"]);
    said.ended = said.stop.is_some();
    for field in ["id", "model", "role", "type"] {
        if !message[field].is_string() {
            said.odd(format!("no {field}"));
        }
    }
    said
}

/// Reads a stream as strictly as Anthropic's grammar is.
pub fn streamed(body: &str) -> Said {
    let mut said = Said::default();
    let (mut blocks, mut open, mut usage): (Vec<Value>, Option<u64>, Value) = Default::default();
    let mut started = false;
    for (name, data) in events(body) {
        let Ok(event) = serde_json::from_str::<Value>(&data) else {
            said.odd(format!("not JSON: {data}"));
            continue;
        };
        let kind = text(&event["type"]);
        if !name.is_empty() && name != kind {
            said.odd(format!("the event {name} is {kind}"));
        }
        if said.ended {
            said.odd(format!("after the end: {data}"));
        }
        if !started && !matches!(&*kind, "message_start" | "ping" | "error") {
            said.odd(format!("{kind} before the start"));
        }
        let index = event["index"].as_u64();
        match &*kind {
            "message_start" => {
                started = true;
                usage = event["message"]["usage"].clone();
            }
            "ping" => {}
            "content_block_start" => {
                if open.is_some() || index != Some(blocks.len() as u64) {
                    said.odd(format!("a block begins out of order: {data}"));
                }
                open = index;
                blocks.push(event["content_block"].clone());
            }
            "content_block_delta" => match blocks.last_mut() {
                Some(block) if open.is_some() && index == open => append(&mut said, block, &event["delta"]),
                _ => said.odd(format!("a delta of no open block: {data}")),
            },
            "content_block_stop" => {
                if open.is_none() || index != open {
                    said.odd(format!("a block ends that is not open: {data}"));
                }
                open = None;
            }
            "message_delta" => {
                if open.is_some() {
                    said.odd("the message ends inside of a block");
                }
                said.stop = stop(&event["delta"]["stop_reason"]);
                for (key, value) in event["usage"].as_object().into_iter().flatten() {
                    if !value.is_null() {
                        usage[key] = value.clone();
                    }
                }
            }
            "message_stop" => said.ended = true,
            "error" => said.error = Some(event["error"].clone()),
            other => said.odd(format!("an event of the type {other}")),
        }
    }
    for mut block in blocks {
        if let Some(json) = block["partial"].as_str().map(str::to_owned) {
            block["input"] = super::said::input(&json);
        }
        take(&mut said, &block);
    }
    said.usage = tokens(&usage);
    said
}

fn append(said: &mut Said, block: &mut Value, delta: &Value) {
    let kind = text(&delta["type"]);
    let fits = match &*kind {
        "text_delta" | "citations_delta" => block["type"] == "text",
        "thinking_delta" | "signature_delta" => block["type"] == "thinking",
        "input_json_delta" => text(&block["type"]).ends_with("tool_use"),
        _ => true,
    };
    if !fits {
        said.odd(format!("a {kind} in a block of the type {}", block["type"]));
    }
    let (key, more) = match &*kind {
        "text_delta" => ("text", &delta["text"]),
        "thinking_delta" => ("thinking", &delta["thinking"]),
        "signature_delta" => ("signature", &delta["signature"]),
        "input_json_delta" => ("partial", &delta["partial_json"]),
        "citations_delta" => {
            let mut list = block["citations"].as_array().cloned().unwrap_or_default();
            list.push(delta["citation"].clone());
            block["citations"] = list.into();
            return;
        }
        _ => return,
    };
    block[key] = (text(&block[key]) + more.as_str().unwrap_or_default()).into();
}

fn take(said: &mut Said, block: &Value) {
    match block["type"].as_str().unwrap_or_default() {
        "text" => {
            said.text.push_str(&text(&block["text"]));
            for citation in each(&block["citations"]) {
                if !text(&citation["type"]).ends_with("_location") {
                    said.odd(format!("a citation that Anthropic's SDKs do not know: {citation}"));
                }
                said.sources.extend(citation["url"].as_str().map(str::to_owned));
            }
        }
        "thinking" => {
            said.thought.push_str(&text(&block["thinking"]));
            said.proofs.extend(block["signature"].as_str().filter(|s| !s.is_empty()).map(str::to_owned));
            if !block["signature"].is_string() {
                said.odd("thinking without a signature");
            }
        }
        "redacted_thinking" => said.proofs.push(text(&block["data"])),
        "tool_use" => {
            let id = text(&block["id"]);
            if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                said.odd(format!("the id of a call: {id}"));
            }
            if !block["input"].is_object() {
                said.odd("the input of a call is no object");
            }
            said.calls.push(Call { id, name: text(&block["name"]), input: block["input"].clone() });
        }
        _ => {}
    }
}

fn stop(reason: &Value) -> Option<Stop> {
    Some(match reason.as_str()? {
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "tool_use" => Stop::Calls,
        "refusal" => Stop::Filter,
        _ => Stop::End,
    })
}

fn tokens(usage: &Value) -> Option<Tokens> {
    usage["output_tokens"].as_u64()?;
    let all = |key: &str| {
        let steps: u64 = each(&usage["iterations"]).map(|step| number(&step[key])).sum();
        steps.max(number(&usage[key]))
    };
    let cached = all("cache_read_input_tokens");
    Some(Tokens {
        prompt: all("input_tokens") + cached + all("cache_creation_input_tokens"),
        completion: all("output_tokens"),
        cached,
        thinking: number(&usage["output_tokens_details"]["thinking_tokens"]),
    })
}

pub fn read(body: &Value) -> Asked {
    let schema = [&body["output_config"]["format"]["schema"], &body["output_format"]["schema"]];
    let mut asked = Asked {
        tools: each(&body["tools"])
            .filter(|tool| tool["type"].as_str().unwrap_or("custom") == "custom")
            .map(|tool| Tool {
                name: text(&tool["name"]),
                description: text(&tool["description"]),
                schema: tool["input_schema"].clone(),
            })
            .collect(),
        choice: match body["tool_choice"]["type"].as_str() {
            Some("auto") => Some(Choice::Auto),
            Some("none") => Some(Choice::None),
            Some("any") => Some(Choice::Any),
            Some(_) => Some(Choice::Named(text(&body["tool_choice"]["name"]))),
            None => None,
        },
        limit: body["max_tokens"].as_u64(),
        temperature: body["temperature"].as_f64(),
        top_p: body["top_p"].as_f64(),
        stops: each(&body["stop_sequences"]).map(text).collect(),
        schema: schema.into_iter().find(|schema| schema.is_object()).cloned(),
        ..Asked::default()
    };
    asked.system = match &body["system"] {
        Value::String(text) => text.clone(),
        blocks => each(blocks).map(|block| text(&block["text"])).collect::<Vec<_>>().join("\n"),
    };
    for message in each(&body["messages"]) {
        asked.say(message["role"] == "assistant", content(&message["content"]));
    }
    asked
}

fn content(content: &Value) -> Vec<Item> {
    if let Some(text) = content.as_str() {
        return vec![Item::Text(text.into())];
    }
    let mut items = Vec::new();
    for block in each(content) {
        items.push(match block["type"].as_str().unwrap_or_default() {
            "text" => Item::Text(text(&block["text"])),
            "thinking" => Item::Thought { text: text(&block["thinking"]), proof: text(&block["signature"]) },
            "redacted_thinking" => Item::Thought { text: String::new(), proof: text(&block["data"]) },
            "tool_use" => Item::Call {
                id: text(&block["id"]),
                name: text(&block["name"]),
                input: block["input"].clone(),
            },
            "tool_result" => {
                let (said, rest): (Vec<Item>, Vec<Item>) =
                    self::content(&block["content"]).into_iter().partition(|i| matches!(i, Item::Text(_)));
                let said: Vec<String> = said
                    .into_iter()
                    .filter_map(|i| if let Item::Text(t) = i { Some(t) } else { None })
                    .collect();
                items.push(Item::Result { id: text(&block["tool_use_id"]), text: said.join("\n") });
                items.extend(rest);
                continue;
            }
            "image" | "document" => source(&block["source"]),
            other => Item::Own(other.into()),
        });
    }
    items
}

fn source(source: &Value) -> Item {
    match source["type"].as_str().unwrap_or_default() {
        "base64" => Item::Media { mime: text(&source["media_type"]), base64: text(&source["data"]) },
        "url" => Item::Link(text(&source["url"])),
        "text" => Item::Text(text(&source["data"])),
        other => Item::Own(other.into()),
    }
}

pub fn write(asked: &Asked) -> Value {
    let mut messages = Vec::new();
    for turn in &asked.turns {
        let blocks: Vec<Value> = turn.items.iter().filter_map(block).collect();
        if !blocks.is_empty() {
            let role = if turn.model { "assistant" } else { "user" };
            messages.push(json!({"role": role, "content": blocks}));
        }
    }
    let mut body = json!({"messages": messages, "max_tokens": asked.limit.unwrap_or(4000)});
    if !asked.tools.is_empty() {
        let tool = |tool: &Tool| {
            let schema =
                if tool.schema.is_object() { tool.schema.clone() } else { json!({"type": "object"}) };
            json!({"name": tool.name, "description": tool.description, "input_schema": schema})
        };
        body["tools"] = asked.tools.iter().map(tool).collect();
    }
    if let Some(choice) = &asked.choice {
        body["tool_choice"] = match choice {
            Choice::Auto => json!({"type": "auto"}),
            Choice::None => json!({"type": "none"}),
            Choice::Any => json!({"type": "any"}),
            Choice::Named(name) => json!({"type": "tool", "name": name}),
        };
    }
    if let Some(schema) = &asked.schema {
        body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
    }
    for (name, value) in [
        ("system", (!asked.system.is_empty()).then(|| asked.system.as_str().into())),
        ("temperature", asked.temperature.map(Value::from)),
        ("top_p", asked.top_p.map(Value::from)),
        ("stop_sequences", (!asked.stops.is_empty()).then(|| json!(asked.stops))),
    ] {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    body
}

fn block(item: &Item) -> Option<Value> {
    Some(match item {
        Item::Text(text) => json!({"type": "text", "text": text}),
        Item::Call { id, name, input } => json!({"type": "tool_use", "id": id, "name": name, "input": input}),
        Item::Result { id, text } => json!({"type": "tool_result", "tool_use_id": id, "content": text}),
        Item::Media { mime, base64 } if mime.starts_with("image/") => {
            json!({"type": "image", "source": {"type": "base64", "media_type": mime, "data": base64}})
        }
        Item::Media { mime, base64 } if mime == "application/pdf" => {
            json!({"type": "document", "source": {"type": "base64", "media_type": mime, "data": base64}})
        }
        Item::Media { mime, base64 } if mime.starts_with("text/") => {
            let text = String::from_utf8(BASE64_STANDARD.decode(base64).ok()?).ok()?;
            json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}})
        }
        Item::Link(url) => json!({"type": "image", "source": {"type": "url", "url": url}}),
        _ => return None,
    })
}

/// The error of a body, if it has the shape of the dialect.
pub fn error(body: &Value) -> Option<String> {
    let shaped = body["type"] == "error" && body["error"]["type"].is_string();
    shaped.then(|| body["error"]["message"].as_str().map(str::to_owned)).flatten()
}

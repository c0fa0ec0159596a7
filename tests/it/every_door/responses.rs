//! OpenAI's Responses, read and written by hand.

use serde_json::{Value, json};

use super::asked::{Asked, Choice, Item, Tool};
use super::said::{Call, Said, Stop, Tokens, each, events, input, number, text};

pub fn whole(body: &str) -> Said {
    let mut said = Said::default();
    let response: Value = serde_json::from_str(body.trim()).unwrap_or_default();
    if !response["error"].is_null() {
        said.error = Some(response["error"].clone());
        return said;
    }
    take(&mut said, &response);
    said
}

/// A response object, as the SDKs expect it.
fn take(said: &mut Said, response: &Value) {
    for field in ["id", "model", "object", "status"] {
        if !response[field].is_string() {
            said.odd(format!("no {field}"));
        }
    }
    for field in ["tools", "metadata", "text", "tool_choice", "parallel_tool_calls"] {
        if response[field].is_null() {
            said.odd(format!("no {field}"));
        }
    }
    let mut refused = false;
    for item in each(&response["output"]) {
        if !item["id"].is_string() {
            said.odd(format!("an item without an id: {item}"));
        }
        match item["type"].as_str().unwrap_or_default() {
            "message" => each(&item["content"]).for_each(|part| match part["type"].as_str() {
                Some("output_text") => {
                    said.text.push_str(&text(&part["text"]));
                    for note in each(&part["annotations"]) {
                        let known = matches!(note["type"].as_str(), Some("url_citation" | "file_citation"));
                        if !known || note["type"] == "url_citation" && !note["start_index"].is_u64() {
                            said.odd(format!("an annotation that the SDKs do not know: {note}"));
                        }
                        said.sources.extend(note["url"].as_str().map(str::to_owned));
                    }
                }
                Some("refusal") => {
                    refused = true;
                    said.refusal.push_str(&text(&part["refusal"]));
                }
                _ => said.odd(format!("a part: {part}")),
            }),
            "reasoning" => {
                each(&item["summary"]).for_each(|part| said.thought.push_str(&text(&part["text"])));
                said.proofs.extend(item["encrypted_content"].as_str().map(str::to_owned));
            }
            kind @ ("function_call" | "custom_tool_call") => {
                let arguments = if kind == "function_call" { &item["arguments"] } else { &item["input"] };
                if kind == "function_call" && text(arguments).is_empty() {
                    said.odd("a call without arguments");
                }
                let (id, name) = (text(&item["call_id"]), text(&item["name"]));
                said.calls.push(Call { id, name, input: input(&text(arguments)) });
            }
            other => said.odd(format!("an item of the type {other}")),
        }
    }
    let reason = response["incomplete_details"]["reason"].as_str();
    said.stop = match (response["status"].as_str(), reason) {
        (Some("incomplete"), Some("content_filter")) => Some(Stop::Filter),
        (Some("incomplete"), _) => Some(Stop::Length),
        (Some("completed"), _) if !said.calls.is_empty() => Some(Stop::Calls),
        (Some("completed"), _) if refused && said.text.is_empty() => Some(Stop::End),
        (Some("completed"), _) => Some(Stop::End),
        _ => None,
    };
    said.ended = said.stop.is_some();
    let usage = &response["usage"];
    said.usage = usage.is_object().then(|| Tokens {
        prompt: number(&usage["input_tokens"]),
        completion: number(&usage["output_tokens"]),
        cached: number(&usage["input_tokens_details"]["cached_tokens"]),
        thinking: number(&usage["output_tokens_details"]["reasoning_tokens"]),
    });
}

/// Reads a stream as strictly as its grammar is: what the deltas say is what the last event says.
pub fn streamed(body: &str) -> Said {
    let mut said = Said::default();
    let (mut texts, mut thoughts, mut items): (String, String, Vec<Value>) = Default::default();
    let mut open: Vec<bool> = Vec::new();
    let mut last = Value::Null;
    for (at, (name, data)) in events(body).into_iter().enumerate() {
        let Ok(event) = serde_json::from_str::<Value>(&data) else {
            said.odd(format!("not JSON: {data}"));
            continue;
        };
        let kind = text(&event["type"]);
        if name != kind || event["sequence_number"] != at {
            said.odd(format!("event {at}: {name} {data}"));
        }
        if (at == 0) != (kind == "response.created") && kind != "error" && at == 0 || !last.is_null() {
            said.odd(format!("out of order: {data}"));
        }
        let place = usize::try_from(event["output_index"].as_u64().unwrap_or(0)).unwrap();
        match &*kind {
            "response.output_item.added" => {
                if place != items.len() {
                    said.odd(format!("an item begins out of order: {data}"));
                }
                items.push(event["item"].clone());
                open.push(true);
            }
            "response.output_item.done" => match (items.get_mut(place), open.get_mut(place)) {
                (Some(item), Some(open)) if *open => {
                    *open = false;
                    *item = event["item"].clone();
                }
                _ => said.odd(format!("an item is done that is not open: {data}")),
            },
            "response.output_text.delta" | "response.refusal.delta" => texts.push_str(&text(&event["delta"])),
            "response.function_call_arguments.delta" => {
                if let Some(item) = items.get_mut(place) {
                    item["arguments"] = (text(&item["arguments"]) + &text(&event["delta"])).into();
                }
            }
            "response.reasoning_summary_text.delta" => thoughts.push_str(&text(&event["delta"])),
            "response.completed" | "response.incomplete" => last = event["response"].clone(),
            "error" => said.error = Some(event["error"].clone()),
            "response.failed" if said.error.is_none() => {
                said.error = Some(event["response"]["error"].clone())
            }
            _ => {}
        }
    }
    if last.is_null() {
        // Broken off: what was heard until then.
        let mut heard = Said::default();
        take(&mut heard, &json!({"output": items}));
        (said.calls, said.proofs) = (heard.calls, heard.proofs);
        (said.text, said.thought) = (texts, thoughts);
        return said;
    }
    if last["output"] != Value::Array(items) {
        said.odd("the items of the stream are not those of the response");
    }
    take(&mut said, &last);
    if texts != format!("{}{}", said.text, said.refusal) || thoughts != said.thought {
        said.odd("the deltas are not the response");
    }
    said
}

pub fn read(body: &Value) -> Asked {
    let mut asked = Asked {
        system: text(&body["instructions"]),
        tools: each(&body["tools"])
            .map(|tool| Tool {
                name: text(&tool["name"]),
                description: text(&tool["description"]),
                schema: tool["parameters"].clone(),
            })
            .collect(),
        choice: match &body["tool_choice"] {
            Value::String(word) if word == "none" => Some(Choice::None),
            Value::String(word) if word == "required" => Some(Choice::Any),
            Value::String(_) => Some(Choice::Auto),
            choice => choice["name"].as_str().map(|name| Choice::Named(name.into())),
        },
        limit: body["max_output_tokens"].as_u64(),
        temperature: body["temperature"].as_f64(),
        top_p: body["top_p"].as_f64(),
        schema: Some(body["text"]["format"]["schema"].clone()).filter(Value::is_object),
        ..Asked::default()
    };
    for item in each(&body["input"]) {
        match item["type"].as_str().unwrap_or_default() {
            "function_call" => {
                let input = input(item["arguments"].as_str().unwrap_or_default());
                let call = Item::Call { id: text(&item["call_id"]), name: text(&item["name"]), input };
                asked.say(true, vec![call]);
            }
            "function_call_output" => {
                let result = Item::Result { id: text(&item["call_id"]), text: text(&item["output"]) };
                asked.say(false, vec![result]);
            }
            _ => asked.say(item["role"] == "assistant", each(&item["content"]).map(part).collect()),
        }
    }
    asked
}

fn part(part: &Value) -> Item {
    let inline = |url: &Value| {
        let url = text(url);
        match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
            Some((mime, base64)) => Item::Media { mime: mime.into(), base64: base64.into() },
            None => Item::Link(url),
        }
    };
    match part["type"].as_str().unwrap_or_default() {
        "input_image" => inline(&part["image_url"]),
        "input_file" => inline(&part["file_data"]),
        "input_audio" => Item::Media {
            mime: format!("audio/{}", text(&part["input_audio"]["format"])),
            base64: text(&part["input_audio"]["data"]),
        },
        _ => Item::Text(text(&part["text"])),
    }
}

pub fn write(asked: &Asked) -> Value {
    let mut items = Vec::new();
    for turn in &asked.turns {
        for item in &turn.items {
            items.extend(written(item, turn.model));
        }
    }
    let mut body = json!({"input": items, "max_output_tokens": asked.limit.unwrap_or(4000)});
    if !asked.tools.is_empty() {
        let tool = |tool: &Tool| {
            let schema =
                if tool.schema.is_object() { tool.schema.clone() } else { json!({"type": "object"}) };
            json!({"type": "function", "name": tool.name, "description": tool.description, "parameters": schema})
        };
        body["tools"] = asked.tools.iter().map(tool).collect();
    }
    if let Some(choice) = &asked.choice {
        body["tool_choice"] = match choice {
            Choice::Auto => "auto".into(),
            Choice::None => "none".into(),
            Choice::Any => "required".into(),
            Choice::Named(name) => json!({"type": "function", "name": name}),
        };
    }
    if let Some(schema) = &asked.schema {
        body["text"] = json!({"format": {"type": "json_schema", "name": "answer", "schema": schema}});
    }
    for (name, value) in [
        ("instructions", (!asked.system.is_empty()).then(|| asked.system.as_str().into())),
        ("temperature", asked.temperature.map(Value::from)),
        ("top_p", asked.top_p.map(Value::from)),
    ] {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    body
}

fn written(item: &Item, model: bool) -> Option<Value> {
    let says = |part: Value| {
        let role = if model { "assistant" } else { "user" };
        json!({"type": "message", "role": role, "content": [part]})
    };
    Some(match item {
        Item::Text(text) if model => says(json!({"type": "output_text", "text": text, "annotations": []})),
        Item::Text(text) => says(json!({"type": "input_text", "text": text})),
        Item::Call { id, name, input } => {
            let arguments = input.as_str().map_or_else(|| input.to_string(), str::to_owned);
            json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments})
        }
        Item::Result { id, text } => json!({"type": "function_call_output", "call_id": id, "output": text}),
        Item::Media { mime, base64 } if mime.starts_with("image/") => {
            says(json!({"type": "input_image", "image_url": format!("data:{mime};base64,{base64}")}))
        }
        Item::Media { mime, base64 } if mime.starts_with("audio/") => {
            let format = mime.trim_start_matches("audio/");
            says(json!({"type": "input_audio", "input_audio": {"data": base64, "format": format}}))
        }
        Item::Media { mime, base64 } => says(
            json!({"type": "input_file", "filename": "f", "file_data": format!("data:{mime};base64,{base64}")}),
        ),
        Item::Link(url) => says(json!({"type": "input_image", "image_url": url})),
        Item::Thought { .. } | Item::Own(_) => return None,
    })
}

/// The error of a body, if it has the shape of the dialect.
pub fn error(body: &Value) -> Option<String> {
    super::chat::error(body)
}

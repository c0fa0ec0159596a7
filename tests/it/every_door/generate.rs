//! Google's generateContent, read and written by hand.

use serde_json::{Value, json};

use super::asked::{Asked, Choice, Item, Tool};
use super::said::{Call, Said, Stop, Tokens, each, events, text};

pub fn whole(body: &str) -> Said {
    let value: Value = serde_json::from_str(body.trim()).unwrap_or_default();
    of_documents(match value {
        Value::Array(list) => list,
        one => vec![one],
    })
}

/// Reads events, or one JSON array.
pub fn streamed(body: &str) -> Said {
    if body.trim_start().starts_with('[') {
        return whole(body);
    }
    let documents = events(body).into_iter().map(|(_, data)| serde_json::from_str(&data).unwrap_or_default());
    of_documents(documents.collect())
}

fn of_documents(documents: Vec<Value>) -> Said {
    let mut said = Said::default();
    let mut open: Vec<String> = Vec::new();
    for document in documents {
        if document["error"].is_object() {
            said.error = Some(document["error"].clone());
            continue;
        }
        if !document.is_object() {
            said.odd("a document that is no object");
        }
        if document["promptFeedback"]["blockReason"].is_string() {
            said.stop = Some(Stop::Filter);
        }
        for (place, candidate) in each(&document["candidates"]).enumerate() {
            if candidate["index"].as_u64().unwrap_or(place as u64) == 0 {
                take(&mut said, candidate, &mut open);
            }
        }
        if document["usageMetadata"].is_object() {
            said.usage = tokens(&document["usageMetadata"]);
        }
    }
    // Google says STOP after calls, too.
    if said.stop == Some(Stop::End) && !said.calls.is_empty() {
        said.stop = Some(Stop::Calls);
    }
    said.ended = said.stop.is_some();
    said
}

fn take(said: &mut Said, candidate: &Value, open: &mut Vec<String>) {
    for part in each(&candidate["content"]["parts"]) {
        said.proofs.extend(part["thoughtSignature"].as_str().filter(|s| !s.is_empty()).map(str::to_owned));
        if let Some(text) = part["text"].as_str() {
            let into = if part["thought"] == true { &mut said.thought } else { &mut said.text };
            into.push_str(text);
        } else if part["functionCall"].is_object() {
            call(said, &part["functionCall"], open);
        }
    }
    for list in [
        &candidate["groundingMetadata"]["groundingChunks"],
        &candidate["citationMetadata"]["citationSources"],
    ] {
        let uris = each(list).filter_map(|one| one["web"]["uri"].as_str().or(one["uri"].as_str()));
        said.sources.extend(uris.map(str::to_owned));
    }
    said.stop = match &candidate["finishReason"] {
        Value::Null => said.stop,
        Value::Number(word) => Some(match word.as_u64() {
            Some(1) => Stop::End,
            Some(2) => Stop::Length,
            _ => Stop::Filter,
        }),
        word => Some(match word.as_str().unwrap_or_default() {
            "MAX_TOKENS" => Stop::Length,
            "STOP" | "OTHER" | "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => {
                Stop::End
            }
            _ => Stop::Filter,
        }),
    };
}

/// A call, whole or a piece of the one before.
fn call(said: &mut Said, call: &Value, open: &mut Vec<String>) {
    let goes_on = call["willContinue"] == true;
    if call["name"].is_string() {
        let name = text(&call["name"]);
        let input = if call["args"].is_object() { call["args"].clone() } else { json!({}) };
        said.calls.push(Call { id: text(&call["id"]), name: name.clone(), input });
        open.clear();
    }
    for piece in each(&call["partialArgs"]) {
        let key = text(&piece["jsonPath"]).trim_start_matches("$.").to_owned();
        let Some(last) = said.calls.last_mut() else { continue };
        if let Some(more) = piece["stringValue"].as_str() {
            let before = if open.contains(&key) { text(&last.input[&key]) } else { String::new() };
            last.input[&key] = (before + more).into();
            open.push(key);
        } else {
            let value = ["numberValue", "boolValue"].iter().find_map(|name| piece.get(*name)).cloned();
            last.input[&key] = value.unwrap_or_default();
        }
    }
    if !goes_on {
        open.clear();
    }
}

fn tokens(usage: &Value) -> Option<Tokens> {
    let number = |key: &str| usage[key].as_u64().unwrap_or(0);
    usage["promptTokenCount"].as_u64().or(usage["totalTokenCount"].as_u64())?;
    Some(Tokens {
        prompt: number("promptTokenCount") + number("toolUsePromptTokenCount"),
        completion: number("candidatesTokenCount") + number("thoughtsTokenCount"),
        cached: number("cachedContentTokenCount"),
        thinking: number("thoughtsTokenCount"),
    })
}

/// A field in either spelling.
fn get<'a>(object: &'a Value, camel: &str) -> &'a Value {
    let snake: String = camel
        .chars()
        .flat_map(|c| if c.is_ascii_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
        .collect();
    if object[camel].is_null() { &object[&*snake] } else { &object[camel] }
}

pub fn read(body: &Value) -> Asked {
    let config = get(body, "generationConfig");
    let calling = get(get(body, "toolConfig"), "functionCallingConfig");
    let names: Vec<String> = each(get(calling, "allowedFunctionNames")).map(text).collect();
    let mut asked = Asked {
        choice: match (calling["mode"].as_str(), names.as_slice()) {
            (Some("ANY"), [one]) => Some(Choice::Named(one.clone())),
            (Some("ANY"), _) => Some(Choice::Any),
            (Some("NONE"), _) => Some(Choice::None),
            (Some(_), _) => Some(Choice::Auto),
            (None, _) => None,
        },
        limit: get(config, "maxOutputTokens").as_u64(),
        temperature: config["temperature"].as_f64(),
        top_p: get(config, "topP").as_f64(),
        stops: each(get(config, "stopSequences")).map(text).collect(),
        schema: [get(config, "responseJsonSchema"), get(config, "responseSchema")]
            .into_iter()
            .find(|schema| schema.is_object())
            .cloned(),
        ..Asked::default()
    };
    for tool in each(&body["tools"]) {
        asked.tools.extend(each(get(tool, "functionDeclarations")).map(|function| {
            Tool {
                name: text(&function["name"]),
                description: text(&function["description"]),
                schema: [get(function, "parametersJsonSchema"), &function["parameters"]]
                    .into_iter()
                    .find(|schema| schema.is_object())
                    .cloned()
                    .unwrap_or_default(),
            }
        }));
    }
    let system = get(body, "systemInstruction");
    let said = each(&system["parts"]).map(|part| text(&part["text"]));
    asked.system = said.collect::<Vec<_>>().join("\n");
    let mut reader = Reader::default();
    for content in each(&body["contents"]) {
        let model = content["role"] == "model";
        let mut items = Vec::new();
        each(&content["parts"]).for_each(|part| reader.part(part, &mut items));
        asked.say(model, items);
    }
    asked
}

#[derive(Default)]
struct Reader {
    calls: usize,
    open: Vec<(String, String)>,
}

impl Reader {
    fn part(&mut self, part: &Value, items: &mut Vec<Item>) {
        let proof = text(get(part, "thoughtSignature"));
        if let Some(said) = part["text"].as_str() {
            if part["thought"] == true {
                items.push(Item::Thought { text: said.into(), proof });
                return;
            }
            items.push(Item::Text(said.into()));
            if !proof.is_empty() {
                items.push(Item::Thought { text: String::new(), proof });
            }
        } else if get(part, "functionCall").is_object() {
            let call = get(part, "functionCall");
            let name = text(&call["name"]);
            let id = call["id"].as_str().map_or_else(|| format!("call{}", self.calls), str::to_owned);
            self.calls += 1;
            self.open.push((name.clone(), id.clone()));
            let input = if call["args"].is_object() { call["args"].clone() } else { json!({}) };
            items.push(Item::Call { id, name, input });
            if !proof.is_empty() {
                items.push(Item::Thought { text: String::new(), proof });
            }
        } else if get(part, "functionResponse").is_object() {
            let result = get(part, "functionResponse");
            let at = self.open.iter().position(|(name, id)| match result["id"].as_str() {
                Some(said) => said == id,
                None => *name == text(&result["name"]),
            });
            let id = at.map(|at| self.open.remove(at).1).unwrap_or_else(|| "?".into());
            items.push(Item::Result { id, text: result["response"].to_string() });
            each(&result["parts"]).for_each(|part| self.part(part, items));
        } else if get(part, "inlineData").is_object() {
            let data = get(part, "inlineData");
            items.push(Item::Media { mime: text(get(data, "mimeType")), base64: text(&data["data"]) });
        } else if get(part, "fileData").is_object() {
            items.push(Item::Link(text(get(get(part, "fileData"), "fileUri"))));
        } else {
            items.push(Item::Own(part.to_string()));
        }
    }
}

pub fn write(asked: &Asked) -> Value {
    let mut names = std::collections::HashMap::new();
    let mut contents = Vec::new();
    for turn in &asked.turns {
        let parts: Vec<Value> = turn.items.iter().filter_map(|item| part(item, &mut names)).collect();
        if !parts.is_empty() {
            contents.push(json!({"role": if turn.model { "model" } else { "user" }, "parts": parts}));
        }
    }
    let mut body = json!({"contents": contents});
    if !asked.system.is_empty() {
        body["systemInstruction"] = json!({"parts": [{"text": asked.system}]});
    }
    if !asked.tools.is_empty() {
        let tool = |tool: &Tool| {
            let mut function = json!({"name": tool.name, "description": tool.description});
            if tool.schema.is_object() {
                function["parametersJsonSchema"] = tool.schema.clone();
            }
            function
        };
        body["tools"] = json!([{"functionDeclarations": asked.tools.iter().map(tool).collect::<Vec<_>>()}]);
    }
    if let Some(choice) = &asked.choice {
        let calling = match choice {
            Choice::Auto => json!({"mode": "AUTO"}),
            Choice::None => json!({"mode": "NONE"}),
            Choice::Any => json!({"mode": "ANY"}),
            Choice::Named(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        };
        body["toolConfig"] = json!({"functionCallingConfig": calling});
    }
    let mut config = json!({});
    for (name, value) in [
        ("maxOutputTokens", asked.limit.map(Value::from)),
        ("temperature", asked.temperature.map(Value::from)),
        ("topP", asked.top_p.map(Value::from)),
        ("stopSequences", (!asked.stops.is_empty()).then(|| json!(asked.stops))),
        ("responseJsonSchema", asked.schema.clone()),
        ("responseMimeType", asked.schema.as_ref().map(|_| "application/json".into())),
    ] {
        if let Some(value) = value {
            config[name] = value;
        }
    }
    body["generationConfig"] = config;
    body
}

fn part(item: &Item, names: &mut std::collections::HashMap<String, String>) -> Option<Value> {
    Some(match item {
        Item::Text(text) => json!({"text": text}),
        Item::Call { id, name, input } => {
            names.insert(id.clone(), name.clone());
            json!({"functionCall": {"name": name, "args": input}})
        }
        Item::Result { id, text } => {
            json!({"functionResponse": {"name": names.get(id), "response": {"output": text}}})
        }
        Item::Media { mime, base64 } => json!({"inlineData": {"mimeType": mime, "data": base64}}),
        Item::Link(url) => json!({"fileData": {"mimeType": "image/png", "fileUri": url}}),
        _ => return None,
    })
}

/// The error of a body, if it has the shape of the dialect.
pub fn error(body: &Value) -> Option<String> {
    let error = &body["error"];
    let shaped = error["code"].is_u64() && error["status"].is_string();
    shaped.then(|| error["message"].as_str().map(str::to_owned)).flatten()
}

//! What the real APIs refuse, each rule as strict as theirs: a scripted provider that checks what it is sent.

use std::collections::HashSet;

use serde_json::Value;

use crate::every_door::said::{each, text};

/// Proofs that a provider has issued, with the thought that each proves.
pub type Issued = HashSet<(String, String)>;

fn only(object: &Value, allowed: &[&str], place: &str) -> Result<(), String> {
    let fields = object.as_object().ok_or_else(|| format!("{place} is no object"))?;
    match fields.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => Err(format!("{place}.{key}: extra inputs are not permitted")),
        None => Ok(()),
    }
}

fn need(good: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(what()) }
}

/// Anthropic's rules. <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>
pub fn messages(body: &Value, issued: &Issued) -> Result<(), String> {
    const TOP: &[&str] = &[
        "model",
        "messages",
        "max_tokens",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "metadata",
        "output_config",
        "service_tier",
    ];
    only(body, TOP, "body")?;
    let limit = body["max_tokens"].as_u64().ok_or("max_tokens: field required")?;
    let thinks = body["thinking"]["type"] == "enabled";
    if thinks {
        let budget = body["thinking"]["budget_tokens"].as_u64().unwrap_or(0);
        need((1024..limit).contains(&budget), || format!("thinking.budget_tokens: {budget} of {limit}"))?;
        need(body["temperature"].as_f64().is_none_or(|t| t == 1.0), || "temperature may only be 1".into())?;
        let forced = matches!(body["tool_choice"]["type"].as_str(), Some("any" | "tool"));
        need(!forced, || "thinking may not be enabled when tool_choice forces tool use".into())?;
    }
    let list: Vec<&Value> = each(&body["messages"]).collect();
    need(list.first().is_some_and(|first| first["role"] == "user"), || {
        "the first message must be the user's".into()
    })?;
    let mut open: Vec<String> = Vec::new();
    let mut known = HashSet::new();
    for (at, message) in list.iter().enumerate() {
        let place = format!("messages.{at}");
        only(message, &["role", "content"], &place)?;
        let role = if at % 2 == 0 { "user" } else { "assistant" };
        need(message["role"] == role, || format!("{place}: roles must alternate"))?;
        let as_block = [serde_json::json!({"type": "text", "text": message["content"]})];
        let blocks = match &message["content"] {
            Value::String(_) => as_block.as_slice(),
            Value::Array(blocks) => blocks.as_slice(),
            _ => return Err(format!("{place}.content: a string or a list")),
        };
        need(!blocks.is_empty(), || format!("{place}: must have non-empty content"))?;
        let answered: Vec<String> = blocks
            .iter()
            .take_while(|b| b["type"] == "tool_result")
            .map(|b| text(&b["tool_use_id"]))
            .collect();
        need(open.iter().all(|id| answered.contains(id)) && answered.len() == open.len(), || {
            format!(
                "{place}: tool_use ids {open:?} were found without tool_result blocks immediately after: {answered:?}"
            )
        })?;
        open.clear();
        for (place, block) in
            blocks.iter().enumerate().map(|(n, block)| (format!("{place}.content.{n}"), block))
        {
            let id = messages_block(block, role, &place, issued)?;
            if let Some(id) = id {
                need(known.insert(id.clone()), || format!("{place}: tool_use ids must be unique: {id}"))?;
                open.push(id);
            }
        }
        let results = blocks.iter().filter(|b| b["type"] == "tool_result").count();
        need(results == answered.len(), || {
            format!("{place}: unexpected tool_use_id, or results behind words")
        })?;
        let last = blocks.last().map(|block| text(&block["type"])).unwrap_or_default();
        need(!(role == "assistant" && last == "thinking"), || {
            format!("{place}: the final block in an assistant message cannot be `thinking`")
        })?;
    }
    need(open.is_empty(), || "the conversation ends with tool calls".into())?;
    if thinks {
        messages_loop(&list)?;
    }
    for (at, tool) in each(&body["tools"]).enumerate() {
        only(
            tool,
            &["name", "description", "input_schema", "cache_control", "strict", "eager_input_streaming"],
            &format!("tools.{at}"),
        )?;
        need(tool["input_schema"]["type"] == "object", || {
            format!("tools.{at}.input_schema.type: field required")
        })?;
    }
    Ok(())
}

fn messages_block(block: &Value, role: &str, place: &str, issued: &Issued) -> Result<Option<String>, String> {
    let kind = text(&block["type"]);
    let (side, allowed): (&str, &[&str]) = match &*kind {
        "text" => (role, &["type", "text", "cache_control", "citations"]),
        "thinking" => ("assistant", &["type", "thinking", "signature"]),
        "redacted_thinking" => ("assistant", &["type", "data"]),
        "tool_use" => ("assistant", &["type", "id", "name", "input", "cache_control", "caller"]),
        "tool_result" => ("user", &["type", "tool_use_id", "content", "is_error", "cache_control"]),
        "image" | "document" => {
            ("user", &["type", "source", "cache_control", "title", "context", "citations"])
        }
        other => return Err(format!("{place}: Input tag '{other}' found using 'type' does not match")),
    };
    only(block, allowed, place)?;
    need(side == role, || format!("{place}: {kind} in a message of the {role}"))?;
    match &*kind {
        "text" => {
            need(!text(&block["text"]).trim().is_empty(), || format!("{place}: text must be non-empty"))?
        }
        "thinking" => {
            let proof = (text(&block["signature"]), text(&block["thinking"]));
            need(issued.contains(&proof), || {
                format!("{place}: Invalid `signature` in `thinking` block: {proof:?}")
            })?;
        }
        "redacted_thinking" => {
            let proof = (text(&block["data"]), String::new());
            need(issued.contains(&proof), || {
                format!("{place}: Invalid `data` in `redacted_thinking` block")
            })?;
        }
        "tool_use" => {
            let id = text(&block["id"]);
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            need(!id.is_empty() && id.bytes().all(plain), || {
                format!("{place}.id: should match ^[a-zA-Z0-9_-]+$")
            })?;
            need(block["input"].is_object(), || format!("{place}.input: should be a dictionary"))?;
            return Ok(Some(id));
        }
        _ => {}
    }
    Ok(None)
}

/// Inside a loop of tools, the turn begins with a thought.
fn messages_loop(list: &[&Value]) -> Result<(), String> {
    let has = |message: &Value, kind: &str| each(&message["content"]).any(|block| block["type"] == kind);
    if !list.last().is_some_and(|last| has(last, "tool_result")) {
        return Ok(());
    }
    let turn = list.iter().rev().take_while(|m| m["role"] == "assistant" || has(m, "tool_result"));
    let first = turn.filter(|message| message["role"] == "assistant").last();
    let kind = first.map(|message| text(&message["content"][0]["type"])).unwrap_or_default();
    need(matches!(&*kind, "thinking" | "redacted_thinking"), || {
        format!(
            "Expected `thinking` or `redacted_thinking`, but found `{kind}`. When `thinking` is enabled, a final \
                 `assistant` message must start with a thinking block"
        )
    })
}

/// OpenAI's rules. <https://platform.openai.com/docs/api-reference/chat/create>
pub fn chat(body: &Value, _: &Issued) -> Result<(), String> {
    const TOP: &[&str] = &[
        "model",
        "messages",
        "max_completion_tokens",
        "max_tokens",
        "tools",
        "tool_choice",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "stop",
        "user",
        "reasoning_effort",
        "parallel_tool_calls",
        "response_format",
        "n",
        "metadata",
        "seed",
    ];
    only(body, TOP, "body")?;
    need(body["max_tokens"].is_null() || body["max_completion_tokens"].is_null(), || "both limits".into())?;
    let mut open: Vec<String> = Vec::new();
    for (at, message) in each(&body["messages"]).enumerate() {
        let place = format!("messages[{at}]");
        let role = text(&message["role"]);
        let allowed: &[&str] = match &*role {
            "system" | "developer" | "user" => &["role", "content", "name"],
            "assistant" => &["role", "content", "name", "refusal", "tool_calls", "audio", "annotations"],
            "tool" => &["role", "content", "tool_call_id"],
            _ => return Err(format!("{place}.role: {role}")),
        };
        only(message, allowed, &place)?;
        if role == "tool" {
            let id = text(&message["tool_call_id"]);
            let known = open.iter().position(|known| *known == id);
            let at = known.ok_or_else(|| {
                format!("{place}: messages with role 'tool' must be a response to a preceding message with 'tool_calls'")
            })?;
            open.remove(at);
        } else {
            need(open.is_empty(), || {
                format!("{place}: tool_call_ids did not have response messages: {open:?}")
            })?;
        }
        let calls: Vec<&Value> = each(&message["tool_calls"]).collect();
        let empty = message["content"].is_null();
        need(!empty || !calls.is_empty() || message["refusal"].is_string(), || {
            format!("Invalid value for 'content': expected a string, got null: {place}")
        })?;
        need(!message["content"].as_array().is_some_and(Vec::is_empty), || {
            format!("{place}.content is empty")
        })?;
        need(!message.get("tool_calls").is_some_and(|_| calls.is_empty()), || {
            format!("{place}: [] is too short")
        })?;
        for call in calls {
            only(call, &["id", "type", "function"], &format!("{place}.tool_calls"))?;
            let id = text(&call["id"]);
            need((1..=64).contains(&id.len()), || format!("{place}.tool_calls.id: too long: {id}"))?;
            let arguments = text(&call["function"]["arguments"]);
            need(serde_json::from_str::<Value>(&arguments).is_ok(), || {
                format!("{place}: arguments {arguments}")
            })?;
            open.push(id);
        }
    }
    need(open.is_empty(), || "the conversation ends with tool calls".into())
}

/// Google's rules, for a model of the third generation.
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>
pub fn generate(body: &Value, issued: &Issued) -> Result<(), String> {
    only(
        body,
        &["contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings"],
        "body",
    )?;
    // Contents of one side that follow each other are one turn.
    let mut merged: Vec<Value> = Vec::new();
    for content in each(&body["contents"]) {
        match merged.last_mut() {
            Some(last) if last["role"] == "model" && content["role"] == "model" => {
                let parts = each(&last["parts"]).chain(each(&content["parts"])).cloned().collect();
                last["parts"] = parts;
            }
            _ => merged.push(content.clone()),
        }
    }
    let contents: Vec<&Value> = merged.iter().collect();
    need(contents.first().is_some_and(|c| c["role"] == "user"), || {
        "contents must begin with the user's".into()
    })?;
    let is_own = |content: &&Value| {
        content["role"] == "user" && each(&content["parts"]).all(|part| part["functionResponse"].is_null())
    };
    let current = contents.iter().rposition(is_own).unwrap_or(0);
    let mut open: Vec<String> = Vec::new();
    for (at, content) in contents.iter().enumerate() {
        let place = format!("contents[{at}]");
        only(content, &["role", "parts"], &place)?;
        need(matches!(content["role"].as_str(), Some("user" | "model")), || format!("{place}.role"))?;
        let parts: Vec<&Value> = each(&content["parts"]).collect();
        need(!parts.is_empty(), || format!("{place}.parts must not be empty"))?;
        let answers: Vec<String> = named(&parts, "functionResponse");
        need(answers == open, || {
            format!(
                "{place}: the number of function response parts must be equal to the number of function call parts: {answers:?} for {open:?}"
            )
        })?;
        open = named(&parts, "functionCall");
        if !open.is_empty() {
            need(content["role"] == "model", || format!("{place}: a call of the user"))?;
            let after = contents[at - 1];
            need(after["role"] == "user", || {
                format!(
                    "{place}: a function call turn comes immediately after a user turn or after a function response turn"
                )
            })?;
        }
        let mut first = true;
        for (n, part) in parts.iter().enumerate() {
            generate_part(part, &format!("{place}.parts[{n}]"), issued)?;
            if part["functionCall"].is_object() && std::mem::take(&mut first) && at > current {
                need(part["thoughtSignature"].is_string(), || {
                    format!("{place}.parts[{n}]: function call is missing a thought_signature")
                })?;
            }
        }
    }
    need(open.is_empty(), || "the conversation ends with calls".into())
}

fn named(parts: &[&Value], kind: &str) -> Vec<String> {
    parts.iter().filter(|part| part[kind].is_object()).map(|part| text(&part[kind]["name"])).collect()
}

fn generate_part(part: &Value, place: &str, issued: &Issued) -> Result<(), String> {
    const DATA: &[&str] = &["text", "functionCall", "functionResponse", "inlineData", "fileData"];
    only(part, &[DATA, &["thought", "thoughtSignature"]].concat(), place)?;
    let kinds: Vec<&&str> = DATA.iter().filter(|kind| part.get(**kind).is_some()).collect();
    need(kinds.len() == 1, || {
        format!("{place}: required oneof field 'data' must have one initialized field")
    })?;
    if let Some(proof) = part["thoughtSignature"].as_str() {
        let proves = text(&part["text"]) + &text(&part["functionCall"]["name"]);
        let known = issued.contains(&(proof.to_owned(), proves.clone()))
            || proof == "skip_thought_signature_validator";
        need(known, || format!("{place}: Corrupted thought signature: {proof} over {proves:?}"))?;
    }
    for (kind, allowed) in [
        ("functionCall", ["id", "name", "args"].as_slice()),
        ("functionResponse", &["id", "name", "response", "parts"]),
    ] {
        if part[kind].is_object() {
            only(&part[kind], allowed, place)?;
        }
    }
    need(part["functionResponse"].is_null() || part["functionResponse"]["response"].is_object(), || {
        format!("{place}: a response is an object")
    })
}

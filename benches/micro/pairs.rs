//! What translation costs between every two dialects: requests of several shapes, and whole answers.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use serde_json::{Value, json};
use tollgate::api::{doors, openai_chat};
use tollgate::gateway::{Door, Head};
use tollgate::json::Body;
use tollgate::providers::{QuirkSettings, Target, Vendor, dialect};
use tollgate::store::{Answers, Bounds, Shelf};
use tollgate::target::TargetName;

use crate::{Result, prompts};

const SIZE: usize = 32 << 10;

/// A dialect, the door for it, and a model that such a provider has.
const DIALECTS: [(&str, &str, &str); 4] = [
    ("openai", "/v1/chat/completions", "chat"),
    ("anthropic", "/v1/messages", "claude-sonnet-4-5"),
    ("gemini", "/v1beta/models/{model}:generateContent", "gemini-2.5-flash"),
    ("openai-responses", "/v1/responses", "gpt-5"),
];

/// Providers that no door speaks like.
const OTHERS: [(&str, &str); 3] = [("bedrock", "nova"), ("cohere", "command-a"), ("ollama", "llama")];

/// Times each pair: the door's reading alone, a translated request, and an answer on its way back.
pub fn all(time: &mut dyn FnMut(&str, &mut dyn FnMut())) -> Result<()> {
    let shelf =
        Arc::new(Answers::default()).shelf(Bounds { keep: Duration::ZERO, entries: 0, bytes: 0 }, None);
    let targets: Vec<Target> = DIALECTS
        .iter()
        .map(|(word, _, model)| (*word, *model))
        .chain(OTHERS)
        .map(|(word, model)| target(word, model))
        .collect::<Result<_>>()?;
    for (shape, conversation) in shapes() {
        let body = Body::read(conversation.to_string().into()).map_err(|fault| fault.to_string())?;
        let request = openai_chat::decode(&body).map_err(|fault| fault.to_string())?;
        for (at, (word, path, model)) in DIALECTS.iter().enumerate() {
            let spoken = targets.get(at).ok_or("no target")?;
            let sent = spoken.wire().encode(&request, &spoken.name).map_err(|fault| fault.to_string())?;
            let sent = Bytes::from(sent.body.concat());
            let door = doors().find(|doorway| doorway.path == *path).ok_or("no door")?.door;
            let uri: Uri = path.replace("{model}", model).parse()?;
            time(&format!("{word} {shape} read"), &mut || drop(black_box(read(door, &sent, &uri, &shelf))));
            for target in targets.iter().filter(|other| other.vendor.name != spoken.vendor.name) {
                time(&format!("{word} {shape} -> {}", target.vendor.name), &mut || {
                    let asked = read(door, &sent, &uri, &shelf);
                    let _ = black_box(asked.map(|asked| asked.outgoing(target).map(|out| out.body.len())));
                });
            }
        }
    }
    answers(&targets, &shelf, time)
}

/// Whole answers of 1 KB and of 32 KB from a provider of OpenAI's dialect, and to its clients from the others.
fn answers(targets: &[Target], shelf: &Shelf, time: &mut dyn FnMut(&str, &mut dyn FnMut())) -> Result<()> {
    let request = json!({"model": "m", "max_tokens": 9, "max_output_tokens": 9, "contents": [{"parts": [{"text": "x"}]}],
        "input": "x", "messages": [{"role": "user", "content": "x"}]});
    for (size, bytes) in [("1 KB", 1 << 10), ("32 KB", 32 << 10)] {
        let text = format!("{{\"text\":\"{}\"}}", prompts::words(bytes));
        let text: Value = serde_json::from_str::<Value>(&text)?["text"].take();
        for (at, (word, path, model)) in DIALECTS.iter().enumerate() {
            let door = doors().find(|doorway| doorway.path == *path).ok_or("no door")?.door;
            let uri: Uri = path.replace("{model}", model).parse()?;
            let asked = read(door, &request.to_string().into(), &uri, shelf)?;
            for (other, target) in
                targets.iter().enumerate().take(DIALECTS.len()).filter(|(other, _)| *other != at)
            {
                let answer = Bytes::from(answer(other, &text).to_string());
                asked.whole(target, answer.clone()).map_err(|fault| fault.to_string())?;
                time(&format!("{word} <- {} answer {size}", target.vendor.name), &mut || {
                    drop(black_box(asked.whole(target, answer.clone())));
                });
            }
        }
    }
    Ok(())
}

fn answer(dialect: usize, text: &Value) -> Value {
    match dialect {
        0 => json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1762000000, "model": "chat",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}}),
        1 => json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 9, "output_tokens": 12}}),
        2 => {
            json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP",
                "index": 0}],
            "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 12, "totalTokenCount": 21},
            "modelVersion": "gemini", "responseId": "r1"})
        }
        _ => json!({"id": "resp_1", "object": "response", "created_at": 1762000000, "status": "completed",
            "model": "gpt-5", "output": [{"id": "msg_1", "type": "message", "role": "assistant",
                "status": "completed", "content": [{"type": "output_text", "text": text, "annotations": []}]}],
            "usage": {"input_tokens": 9, "output_tokens": 12, "total_tokens": 21}}),
    }
}

fn read(
    door: &dyn Door,
    body: &Bytes,
    uri: &Uri,
    shelf: &Shelf,
) -> Result<Arc<dyn tollgate::gateway::Asked>> {
    let headers = HeaderMap::new();
    door.read(body.clone(), Head { uri, headers: &headers, shelf }).map_err(|fault| fault.to_string().into())
}

fn target(word: &str, model: &str) -> Result<Target> {
    let wire = dialect(word, &QuirkSettings::default()).ok_or("no such dialect")?;
    let name = TargetName::parse(&format!("{word}/{model}")).ok_or("not a target")?;
    Ok(Target::new(Arc::new(Vendor::bare(word, wire)), name))
}

/// Conversations of 32 KB: a few long turns, many short ones, and an agent's with tools and their results.
fn shapes() -> [(&'static str, Value); 3] {
    let long = serde_json::from_str(&prompts::chat("bench-chat", SIZE, false)).unwrap_or_default();
    let words = |length| {
        let quoted = format!("\"{}\"", prompts::words(length));
        serde_json::from_str::<Value>(&quoted).unwrap_or_default()
    };
    let chatter: Vec<Value> = (0..160)
        .map(|turn| json!({"role": if turn % 2 == 0 { "user" } else { "assistant" }, "content": words(160)}))
        .collect();
    let mut steps = vec![
        json!({"role": "system", "content": words(4 << 10)}),
        json!({"role": "user", "content": words(300)}),
    ];
    for step in 0..24 {
        let id = format!("call_{step}");
        let arguments = json!({"path": format!("src/lib{step}.rs"), "from": 1, "to": 80}).to_string();
        steps.push(json!({"role": "assistant", "content": "I look there.", "tool_calls": [
            {"id": id, "type": "function", "function": {"name": "read_file", "arguments": arguments}}]}));
        steps.push(json!({"role": "tool", "tool_call_id": id, "content": words(500)}));
    }
    steps.push(json!({"role": "user", "content": "Go on."}));
    let tools: Vec<Value> = (0..16)
        .map(|tool| {
            json!({"type": "function", "function": {"name": format!("tool_{tool}"), "description": words(200),
                "parameters": {"type": "object", "additionalProperties": false, "required": ["path", "from"],
                    "properties": {
                        "path": {"type": "string", "description": "The file's path."},
                        "from": {"type": "integer", "description": "The first line.", "minimum": 1},
                        "to": {"type": "integer", "description": "The last line.", "minimum": 1}}}}})
        })
        .collect();
    [
        ("long", long),
        ("chatter", json!({"model": "m", "messages": chatter, "max_completion_tokens": 512})),
        ("agent", json!({"model": "m", "messages": steps, "tools": tools, "max_completion_tokens": 512})),
    ]
}

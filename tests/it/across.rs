//! One conversation with tools and thinking that moves between providers, through every door: each provider gets only
//! what its real API takes, its own proofs back, and nothing of what was said is lost.

mod providers;
mod strict;

use serde_json::{Value, json};

use crate::client;
use crate::every_door::asked::Asked;
use crate::every_door::said::{each, events, text};
use crate::every_door::{CHAT, GENERATE, MESSAGES, Speech};
use crate::gateway::{self, Gateway};
pub use providers::Providers;

/// Who answers, step by step. Questions and results of tools take turns, so that some loops of tools end elsewhere than
/// they began.
const ROUTE: [&str; 14] = [
    "claude/claude-sonnet-4-5",
    "claude/claude-sonnet-4-5",
    "gpt/gpt-5",
    "gpt/gpt-5",
    "gemini/gemini-3-pro",
    "gemini/gemini-3-pro",
    "claude/claude-sonnet-4-5",
    "gemini/gemini-3-pro",
    "gpt/gpt-5",
    "claude/claude-sonnet-4-5",
    "gemini/gemini-3-pro",
    "gpt/gpt-5",
    "gpt/gpt-5",
    "gemini/gemini-3-pro",
];

/// A client that keeps the conversation as the dialect's SDKs do.
struct Client {
    speech: &'static Speech,
    streams: bool,
    /// Keeps only what OpenAI's own API knows, as many clients do.
    forgets: bool,
    turns: Vec<Value>,
}

#[tokio::test]
async fn a_conversation_moves_between_providers_through_openais_door() {
    walk(&CHAT, &[&ROUTE]).await;
}

#[tokio::test]
async fn a_conversation_moves_between_providers_through_anthropics_door() {
    walk(&MESSAGES, &[&ROUTE]).await;
}

#[tokio::test]
async fn a_conversation_moves_between_providers_through_googles_door() {
    walk(&GENERATE, &[&ROUTE]).await;
}

#[tokio::test]
async fn every_move_in_a_loop_of_tools_is_taken() {
    let names = ["claude/claude-sonnet-4-5", "gpt/gpt-5", "gemini/gemini-3-pro"];
    let mut routes = Vec::new();
    for first in names {
        for second in names {
            for third in names {
                routes.push([first, second, third, third]);
            }
        }
    }
    let routes: Vec<&[&str]> = routes.iter().map(|route| route.as_slice()).collect();
    for speech in [&CHAT, &MESSAGES, &GENERATE] {
        walk(speech, &routes).await;
    }
}

async fn walk(speech: &'static Speech, routes: &[&[&str]]) {
    let providers = Providers::start();
    let gateway = gateway::start(&providers.config());
    for (streams, forgets) in [(false, false), (true, false), (false, true), (true, true)] {
        if forgets && speech.name != CHAT.name {
            continue;
        }
        for route in routes {
            let mut client = Client { speech, streams, forgets, turns: Vec::new() };
            client.ask("What is the weather?");
            for (step, model) in route.iter().enumerate() {
                let what = format!("{} {streams} step {step} of {route:?}", speech.name);
                let answer = client.send(&gateway, model, &what).await;
                let provider = model.split('/').next().unwrap();
                let visit = providers.last_visit(provider);
                assert_eq!(visit.refused, None, "{what}: {:#}", visit.body);
                complete(&client, provider, &visit.body, &what);
                if !forgets {
                    proven(&visit, provider, &what);
                }
                client.take(answer);
            }
        }
    }
}

/// Everything that the client's conversation says has reached the provider.
fn complete(client: &Client, provider: &str, body: &Value, what: &str) {
    let reader = match provider {
        "claude" => &MESSAGES,
        "gemini" => &GENERATE,
        _ => &CHAT,
    };
    let conversation = |asked: Asked| asked.plain().turns;
    let expected = conversation((client.speech.read)(&client.body("m")));
    let got = conversation((reader.read)(body));
    assert_eq!(expected, got, "{what}: {body:#}");
}

/// All proofs that the provider has issued in this conversation come back to it.
fn proven(visit: &providers::Visit, provider: &str, what: &str) {
    if provider == "gpt" {
        return;
    }
    let body = visit.body.to_string();
    let said = |words: &str| body.contains(words);
    for (proof, thought) in &visit.issued {
        // Proofs of other conversations do not count: only those whose thought, or whose number, is in this one.
        let number = providers::number_of(proof);
        let here =
            said(&format!("{provider} looks, {number}.")) || said(&format!("{provider} is done, {number}."));
        assert!(!here || said(proof), "{what}: the proof {proof} of {thought:?} is missing in {body}");
    }
}

impl Client {
    fn ask(&mut self, question: &str) {
        self.turns.push(match self.speech.name {
            "generateContent" => json!({"role": "user", "parts": [{"text": question}]}),
            _ => json!({"role": "user", "content": question}),
        });
    }

    fn body(&self, model: &str) -> Value {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        match self.speech.name {
            "chat" => json!({"model": model, "messages": self.turns, "max_completion_tokens": 8000,
                "reasoning_effort": "medium", "stream": self.streams,
                "tools": [{"type": "function", "function": {"name": "weather", "description": "w", "parameters": schema}},
                    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]}),
            "messages" => {
                json!({"model": model, "messages": self.turns, "max_tokens": 8000, "stream": self.streams,
                "thinking": {"type": "enabled", "budget_tokens": 2000},
                "tools": [{"name": "weather", "description": "w", "input_schema": schema},
                    {"name": "now", "input_schema": {"type": "object"}}]})
            }
            _ => json!({"contents": self.turns,
                "generationConfig": {"maxOutputTokens": 8000, "thinkingConfig": {"includeThoughts": true, "thinkingBudget": 2000}},
                "tools": [{"functionDeclarations": [{"name": "weather", "description": "w", "parametersJsonSchema": schema},
                    {"name": "now"}]}]}),
        }
    }

    /// The answer as the client puts it into its history.
    async fn send(&self, gateway: &Gateway, model: &str, what: &str) -> Value {
        let path = (self.speech.path)(model, self.streams);
        let reply = client::post(gateway.clients, &path, &self.body(model)).await;
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        match (self.speech.name, self.streams) {
            ("chat", false) => reply.json()["choices"][0]["message"].clone(),
            ("messages", false) => json!({"role": "assistant", "content": reply.json()["content"]}),
            (_, false) => reply.json()["candidates"][0]["content"].clone(),
            ("chat", true) => chat_of(&reply.text()),
            ("messages", true) => message_of(&reply.text()),
            (_, true) => content_of(&reply.text()),
        }
    }

    /// Keeps the answer, and answers its calls or asks the next question.
    fn take(&mut self, mut answer: Value) {
        if self.forgets {
            let message = answer.as_object_mut().unwrap();
            message.retain(|key, _| matches!(&**key, "role" | "content" | "tool_calls"));
            for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
                call.as_object_mut().unwrap().remove("extra_content");
            }
        }
        let calls: Vec<Value> = match self.speech.name {
            "chat" => each(&answer["tool_calls"]).cloned().collect(),
            "messages" => {
                each(&answer["content"]).filter(|block| block["type"] == "tool_use").cloned().collect()
            }
            _ => each(&answer["parts"])
                .filter(|p| p["functionCall"].is_object())
                .map(|p| p["functionCall"].clone())
                .collect(),
        };
        self.turns.push(answer);
        if calls.is_empty() {
            return self.ask("And then?");
        }
        let results: Vec<Value> = calls.iter().enumerate().map(|(n, call)| self.result(call, n)).collect();
        match self.speech.name {
            "chat" => self.turns.extend(results),
            "messages" => self.turns.push(json!({"role": "user", "content": results})),
            _ => self.turns.push(json!({"role": "user", "parts": results})),
        }
    }

    fn result(&self, call: &Value, n: usize) -> Value {
        let said = format!("result {n}");
        match self.speech.name {
            "chat" => json!({"role": "tool", "tool_call_id": call["id"], "content": said}),
            "messages" => json!({"type": "tool_result", "tool_use_id": call["id"],
                "content": [{"type": "text", "text": said}]}),
            _ => {
                let mut response = json!({"name": call["name"], "response": {"result": said}});
                if call["id"].is_string() {
                    response["id"] = call["id"].clone();
                }
                json!({ "functionResponse": response })
            }
        }
    }
}

/// The message of a stream as SDKs put it together: texts joined, lists gathered, calls by their index.
fn chat_of(body: &str) -> Value {
    let mut message = json!({"role": "assistant", "content": null});
    for (_, data) in events(body) {
        let Ok(chunk) = serde_json::from_str::<Value>(&data) else { continue };
        let delta = &chunk["choices"][0]["delta"];
        for key in ["content", "reasoning_content"] {
            if let Some(more) = delta[key].as_str() {
                message[key] = (text(&message[key]) + more).into();
            }
        }
        for detail in each(&delta["reasoning_details"]) {
            let mut list = message["reasoning_details"].as_array().cloned().unwrap_or_default();
            list.push(detail.clone());
            message["reasoning_details"] = list.into();
        }
        for call in each(&delta["tool_calls"]) {
            let at = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            let mut calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
            if calls.len() <= at {
                let mut call = call.clone();
                call.as_object_mut().unwrap().remove("index");
                calls.push(call);
            } else {
                let before = text(&calls[at]["function"]["arguments"]);
                calls[at]["function"]["arguments"] = (before + &text(&call["function"]["arguments"])).into();
            }
            message["tool_calls"] = calls.into();
        }
    }
    message
}

fn message_of(body: &str) -> Value {
    let mut blocks: Vec<Value> = Vec::new();
    for (_, data) in events(body) {
        let event: Value = serde_json::from_str(&data).unwrap();
        match event["type"].as_str().unwrap() {
            "content_block_start" => blocks.push(event["content_block"].clone()),
            "content_block_delta" => {
                let (block, delta) = (blocks.last_mut().unwrap(), &event["delta"]);
                let (key, from) = match delta["type"].as_str().unwrap() {
                    "text_delta" => ("text", "text"),
                    "thinking_delta" => ("thinking", "thinking"),
                    "signature_delta" => ("signature", "signature"),
                    _ => ("partial", "partial_json"),
                };
                block[key] = (text(&block[key]) + &text(&delta[from])).into();
            }
            "content_block_stop" => {
                let block = blocks.last_mut().unwrap().as_object_mut().unwrap();
                if let Some(partial) = block.remove("partial") {
                    block.insert("input".into(), crate::every_door::said::input(&text(&partial)));
                }
            }
            _ => {}
        }
    }
    json!({"role": "assistant", "content": blocks})
}

/// All parts of all events, in one content.
fn content_of(body: &str) -> Value {
    let mut parts = Vec::new();
    for (_, data) in events(body) {
        let event: Value = serde_json::from_str(&data).unwrap();
        let bare = |part: &&Value| part["text"] == "" && part.as_object().is_some_and(|part| part.len() == 1);
        parts.extend(each(&event["candidates"][0]["content"]["parts"]).filter(|part| !bare(part)).cloned());
    }
    json!({"role": "model", "parts": parts})
}

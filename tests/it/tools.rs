//! Tools between dialects: names that a provider refuses, choices that it has no word for, and the calls of 2023.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{chat, post};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Heard, Upstream};

/// Calls the first tool that it is offered, if it takes the names of all.
fn claude(heard: &Heard) -> Vec<Act> {
    let asked = heard.json();
    let names = names(&asked["tools"]);
    let takes =
        |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !names.iter().all(takes) {
        let error =
            json!({"type": "invalid_request_error", "message": "tools.0.custom.name: String should match"});
        return acts::whole(400, &json!({"type": "error", "error": error}));
    }
    let call = json!({"type": "tool_use", "id": "toolu_1", "name": names[0], "input": {}});
    let usage = json!({"input_tokens": 12, "output_tokens": 9});
    let mut message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [call], "stop_reason": "tool_use", "stop_sequence": null, "usage": usage});
    if !heard.is_stream() {
        return acts::whole(200, &message);
    }
    message["content"] = json!([]);
    let more = json!({"type": "input_json_delta", "partial_json": "{\"q\":1}"});
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": call}),
        json!({"type": "content_block_delta", "index": 0, "delta": more}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ];
    let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    acts::stream(&text, 40)
}

fn names(tools: &Value) -> Vec<String> {
    tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::start(claude);
    let provider = crate::anthropic::provider("claude", &upstream.url());
    let gateway = gateway::start(&format!("providers:\n{provider}"));
    (upstream, gateway)
}

fn function(name: &str) -> Value {
    json!({"name": name, "parameters": {"type": "object", "properties": {"q": {"type": "integer"}}}})
}

fn asks(fields: Value) -> Value {
    let mut body =
        json!({"model": "claude/claude-sonnet-4-5", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn names_that_a_provider_refuses_reach_it_fitted_and_come_back_as_they_were() {
    let (upstream, gateway) = house();
    let tools = json!([{"type": "function", "function": function("ns.look:up")}]);
    let mut body = asks(json!({"tools": tools}));
    let reply = chat(gateway.clients, &body).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    let said = reply.json()["choices"][0]["message"].clone();
    assert_eq!(said["tool_calls"][0]["function"]["name"], "ns.look:up");
    assert_eq!(reply.header("x-tollgate-warnings"), "tools[0].function.name (became ns_look_up)");

    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(said);
    messages.push(json!({"role": "tool", "tool_call_id": "toolu_1", "content": "found"}));
    body["stream"] = true.into();
    let reply = chat(gateway.clients, &body).await;
    assert!(reply.text().contains(r#""name":"ns.look:up""#), "{reply:#?}");
    let heard = upstream.heard().pop().unwrap().json();
    assert_eq!(names(&heard["tools"]), ["ns_look_up"], "the same in every turn");
    assert_eq!(heard["messages"][1]["content"][0]["name"], "ns_look_up");

    let flat = json!({"type": "function", "name": "ns.look:up", "parameters": {"type": "object"}});
    let body = json!({"model": "claude/claude-sonnet-4-5", "input": "hi", "tools": [flat]});
    let answer = post(gateway.clients, "/v1/responses", &body).await.json();
    assert_eq!(answer["output"][0]["name"], "ns.look:up", "{answer:#}");
}

#[tokio::test]
async fn who_sends_functions_gets_a_function_call() {
    let (upstream, gateway) = house();
    let body = asks(json!({"functions": [function("f")], "function_call": {"name": "f"}}));
    let reply = chat(gateway.clients, &body).await;
    let choice = &reply.json()["choices"][0];
    assert_eq!(choice["finish_reason"], "function_call", "{reply:#?}");
    assert_eq!(choice["message"]["function_call"], json!({"name": "f", "arguments": "{}"}));
    assert_eq!(choice["message"].get("tool_calls"), None);
    let heard = upstream.heard().pop().unwrap().json();
    let expected = json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true});
    assert_eq!(heard["tool_choice"], expected);
    let mut body = body;
    body["stream"] = true.into();
    let text = chat(gateway.clients, &body).await.text();
    assert!(text.contains(r#""function_call":{"name":"f","arguments":""}"#), "{text}");
    assert!(text.contains(r#""finish_reason":"function_call""#) && !text.contains("tool_calls"), "{text}");
}

#[tokio::test]
async fn some_of_the_tools_are_those_that_a_provider_is_offered() {
    let (upstream, gateway) = house();
    let tools: Vec<Value> =
        ["f", "g"].map(|name| json!({"type": "function", "function": function(name)})).to_vec();
    let list = json!([{"type": "function", "function": {"name": "g"}}]);
    let choice = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": list}});
    let reply = chat(gateway.clients, &asks(json!({"tools": tools, "tool_choice": choice}))).await;
    assert_eq!(reply.header("x-tollgate-warnings"), "tools[0] (not offered: the choice names others)");
    let heard = upstream.heard().pop().unwrap().json();
    assert_eq!(names(&heard["tools"]), ["g"]);
    assert_eq!(heard["tool_choice"], json!({"type": "any"}));
}

//! OpenAI's Responses as a provider behind the doors of other dialects.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{Reply, post};
use crate::gateway::{self, CANARY, Gateway};
use crate::upstream::{Act, Heard, Upstream};

/// A response that thinks, speaks and calls.
fn response() -> Value {
    json!({
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": "completed", "error": null,
        "incomplete_details": null, "model": "gpt-5-pro-2025-10-06", "store": false,
        "output": [
            {"id": "rs_1", "type": "reasoning", "encrypted_content": "gAAAA_secret_thought",
             "summary": [{"type": "summary_text", "text": "I look"}]},
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]},
            {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1",
             "name": "weather", "arguments": "{\"city\":\"Rome\"}"},
        ],
        "usage": {"input_tokens": 42, "input_tokens_details": {"cached_tokens": 30}, "output_tokens": 9,
            "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 51},
    })
}

fn event(kind: &str, mut fields: Value) -> String {
    fields["type"] = kind.into();
    format!("event: {kind}\ndata: {fields}\n\n")
}

fn begun() -> String {
    let mut response = response();
    response["status"] = "in_progress".into();
    response["output"] = json!([]);
    response["usage"] = Value::Null;
    event("response.created", json!({"sequence_number": 0, "response": response}))
        + &event(
            "response.output_item.added",
            json!({"output_index": 0, "item": {"id": "rs_1", "type": "reasoning", "summary": []}}),
        )
}

fn stream() -> String {
    let response = response();
    let item = |at: usize| json!({"output_index": at, "item": response["output"][at]});
    let added = |at: usize, mut item: Value| {
        item["status"] = "in_progress".into();
        event("response.output_item.added", json!({"output_index": at, "item": item}))
    };
    [
        begun(),
        event("response.reasoning_summary_text.delta", json!({"output_index": 0, "summary_index": 0, "delta": "I look"})),
        event("response.output_item.done", item(0)),
        added(1, json!({"id": "msg_1", "type": "message", "role": "assistant", "content": []})),
        event("response.output_text.delta", json!({"output_index": 1, "content_index": 0, "delta": "Hel", "obfuscation": "x"})),
        event("response.output_text.delta", json!({"output_index": 1, "content_index": 0, "delta": "lo", "obfuscation": "yz"})),
        event("response.output_item.done", item(1)),
        added(2, json!({"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "weather", "arguments": ""})),
        event("response.function_call_arguments.delta", json!({"output_index": 2, "delta": "{\"city\":"})),
        event("response.function_call_arguments.delta", json!({"output_index": 2, "delta": "\"Rome\"}"})),
        event("response.function_call_arguments.done", json!({"output_index": 2, "arguments": "{\"city\":\"Rome\"}"})),
        event("response.output_item.done", item(2)),
        event("response.completed", json!({"response": response})),
    ]
    .concat()
}

fn failure() -> String {
    let mut response = response();
    response["status"] = "failed".into();
    response["error"] = json!({"code": "server_error", "message": "sorry"});
    event("response.failed", json!({"response": response}))
}

/// What the scripted provider of this dialect says, by model.
fn play(heard: &Heard) -> Vec<Act> {
    assert_eq!(heard.header("authorization"), Some(&*format!("Bearer {CANARY}")));
    if heard.path.ends_with("/chat/completions") {
        return if heard.is_stream() { acts::says_stream(&["cha", "t"]) } else { acts::says("chat") };
    }
    assert_eq!(heard.path, "/v1/responses");
    match heard.model().as_str() {
        "fails" => acts::stream(&(begun() + &failure()), 40),
        "breaks" => {
            let stream = stream();
            let (said, _) = stream.split_once("event: response.output_text.delta").unwrap();
            let delta = event("response.output_text.delta", json!({"output_index": 1, "delta": "Hel"}));
            acts::stream(&format!("{said}{delta}{}", failure()), 40)
        }
        "cut" => acts::stream(&begun(), 40),
        "refuses" => acts::error(400, "no"),
        _ if heard.is_stream() => acts::stream(&stream(), 23),
        _ => acts::whole(200, &response()),
    }
}

fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::start(play);
    let url = upstream.url();
    let keys = "keys: [ env:TEST_KEY ]";
    let gateway = gateway::start(&format!(
        "providers:\n  wire: {{ dialect: openai-responses, base_url: \"{url}\", {keys} }}\n  \
         openai: {{ base_url: \"{url}\", {keys} }}\n\
         retries: {{ retries: 0 }}\n\
         models:\n  careful: {{ targets: [ wire/fails ], fallback: [ openai/gpt-4o ] }}\n  \
         cut: {{ targets: [ wire/cut ], fallback: [ openai/gpt-4o ] }}\n"
    ));
    (upstream, gateway)
}

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "stop": ["x"],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]})
}

async fn chat(gateway: &Gateway, body: &Value) -> Reply {
    post(gateway.clients, "/v1/chat/completions", body).await
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    body
}

/// Chunks of a stream of chat completions.
fn chunks(reply: &Reply) -> Vec<Value> {
    let text = String::from_utf8_lossy(&reply.body);
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

fn joined(chunks: &[Value], path: &str) -> String {
    chunks.iter().filter_map(|chunk| chunk.pointer(path)?.as_str()).collect()
}

#[tokio::test]
async fn a_chat_client_has_the_whole_conversation_with_a_model_of_this_api() {
    let (upstream, gateway) = house();
    for model in ["wire/gpt-5-pro", "openai/gpt-5-pro"] {
        let reply = chat(&gateway, &ask(model)).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        let answer = reply.json();
        let message = &answer["choices"][0]["message"];
        assert_eq!(message["content"], "Hello");
        assert_eq!(message["reasoning_content"], "I look");
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"city\":\"Rome\"}");
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(answer["usage"]["prompt_tokens"], 42);
        assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 30);
        assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 4);
        assert_eq!(reply.header("x-tollgate-warnings"), "stop (dropped)");
        let sent = upstream.heard().pop().unwrap().json();
        assert_eq!(sent["model"], "gpt-5-pro");
        assert_eq!(sent["store"], false);
        assert_eq!(sent["include"], json!(["reasoning.encrypted_content"]));
        assert_eq!(sent["tools"][0]["strict"], false);

        // The next turn brings everything back that the provider needs.
        let mut next = ask(model);
        let result = json!({"role": "tool", "tool_call_id": "call_1", "content": "sunny"});
        next["messages"].as_array_mut().unwrap().extend([message.clone(), result]);
        assert_eq!(chat(&gateway, &next).await.status, 200);
        let sent = upstream.heard().pop().unwrap().json();
        assert_eq!(
            sent["input"],
            json!([
                {"role": "user", "content": "hi"},
                {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAAA_secret_thought",
                 "summary": [{"type": "summary_text", "text": "I look"}]},
                {"role": "assistant", "content": "Hello"},
                {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{\"city\":\"Rome\"}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
            ])
        );

        // A model that speaks chat completions never sees the proof.
        next["model"] = "openai/gpt-4o".into();
        assert_eq!(chat(&gateway, &next).await.json()["choices"][0]["message"]["content"], "chat");
        let sent = upstream.heard().pop().unwrap();
        assert!(!String::from_utf8_lossy(&sent.body).contains("gAAAA"), "{}", sent.json());
    }
}

#[tokio::test]
async fn a_streaming_chat_client_hears_the_same() {
    let (_upstream, gateway) = house();
    let reply = chat(&gateway, &streamed(ask("openai/gpt-5-pro"))).await;
    let chunks = chunks(&reply);
    assert_eq!(joined(&chunks, "/choices/0/delta/content"), "Hello");
    assert_eq!(joined(&chunks, "/choices/0/delta/reasoning_content"), "I look");
    assert_eq!(joined(&chunks, "/choices/0/delta/tool_calls/0/function/arguments"), "{\"city\":\"Rome\"}");
    assert_eq!(joined(&chunks, "/choices/0/finish_reason"), "tool_calls");
    let signature = joined(&chunks, "/choices/0/delta/reasoning_details/0/signature");
    assert!(signature.ends_with(":rs_1:gAAAA_secret_thought"), "{signature}");
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 9);
    assert!(String::from_utf8_lossy(&reply.body).ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn clients_of_anthropic_and_google_carry_the_proof_too() {
    let (upstream, gateway) = house();
    let tool = json!([{"name": "weather", "input_schema": {"type": "object"}}]);
    let mut body = json!({"model": "openai/gpt-5-pro", "max_tokens": 50, "tools": tool,
        "thinking": {"type": "enabled", "budget_tokens": 2048}, "messages": [{"role": "user", "content": "hi"}]});
    let answer = post(gateway.clients, "/v1/messages", &body).await.json();
    assert_eq!(
        upstream.heard().pop().unwrap().json()["reasoning"],
        json!({"effort": "low", "summary": "auto"})
    );
    assert_eq!(answer["content"][0]["thinking"], "I look");
    assert_eq!(answer["stop_reason"], "tool_use");
    let result = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}]});
    let turn = json!({"role": "assistant", "content": answer["content"]});
    body["messages"].as_array_mut().unwrap().extend([turn, result]);
    assert_eq!(post(gateway.clients, "/v1/messages", &body).await.status, 200);
    let sent = upstream.heard().pop().unwrap().json();
    assert_eq!(sent["input"][1]["encrypted_content"], "gAAAA_secret_thought");
    assert_eq!(sent["input"][3]["type"], "function_call");
    assert_eq!(sent["input"][4]["output"], "sunny");

    let path = "/v1beta/models/openai/gpt-5-pro:generateContent";
    let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "tools": [{"functionDeclarations": [{"name": "weather"}]}]});
    let answer = post(gateway.clients, path, &body).await.json();
    let said = answer["candidates"][0]["content"].clone();
    assert_eq!(said["parts"][1]["text"], "Hello", "{answer}");
    let id = said["parts"][2]["functionCall"]["id"].clone();
    let result = json!({"role": "user", "parts": [{"functionResponse": {"name": "weather", "id": id, "response": {"a": 1}}}]});
    body["contents"].as_array_mut().unwrap().extend([said, result]);
    assert_eq!(post(gateway.clients, path, &body).await.status, 200);
    let sent = upstream.heard().pop().unwrap().json();
    assert_eq!(sent["input"][1]["encrypted_content"], "gAAAA_secret_thought", "{sent}");
}

#[tokio::test]
async fn a_streaming_anthropic_client_gets_the_signature_in_its_place() {
    let (_upstream, gateway) = house();
    let body = json!({"model": "wire/gpt-5-pro", "max_tokens": 50, "stream": true,
        "messages": [{"role": "user", "content": "hi"}]});
    let reply = post(gateway.clients, "/v1/messages", &body).await;
    let text = String::from_utf8_lossy(&reply.body);
    let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} in {text}"));
    assert!(at("thinking_delta") < at("signature_delta") && at("signature_delta") < at("text_delta"));
    assert!(at("text_delta") < at("input_json_delta") && at("input_json_delta") < at("message_stop"));
    assert!(text.contains("gAAAA_secret_thought") && text.contains("\"stop_reason\":\"tool_use\""));
}

#[tokio::test]
async fn what_fails_before_its_first_word_is_answered_by_another() {
    let (upstream, gateway) = house();
    for model in ["careful", "cut"] {
        let reply = chat(&gateway, &streamed(ask(model))).await;
        assert_eq!(joined(&chunks(&reply), "/choices/0/delta/content"), "chat", "{model}");
        assert_eq!(reply.header("x-tollgate-target"), "openai/gpt-4o");
        let paths: Vec<_> = upstream.heard().iter().rev().take(2).map(|heard| heard.path.clone()).collect();
        assert_eq!(paths, ["/v1/chat/completions", "/v1/responses"]);
    }
}

#[tokio::test]
async fn what_fails_after_its_first_word_ends_in_an_error() {
    let (_upstream, gateway) = house();
    let reply = chat(&gateway, &streamed(ask("wire/breaks"))).await;
    let chunks = chunks(&reply);
    assert_eq!(joined(&chunks, "/choices/0/delta/content"), "Hel");
    assert_eq!(chunks.last().unwrap()["error"]["code"], "server_error");
    assert!(!String::from_utf8_lossy(&reply.body).contains("[DONE]"));
    let reply = chat(&gateway, &ask("wire/refuses")).await;
    assert_eq!((reply.status, reply.json()["error"]["message"].clone()), (400, "no".into()));
}

#[tokio::test]
async fn a_model_that_calls_tools_in_responses_alone_while_it_thinks_is_asked_there() {
    let (upstream, gateway) = house();
    let sent = || upstream.heard().pop().unwrap();
    let tools = json!([{"name": "weather", "input_schema": {"type": "object"}}]);
    let ask = |model: &str, tools: Value, more: Value| {
        let mut body = json!({"model": model, "max_tokens": 50, "tools": tools, "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (model, tools, more, path) in [
        ("openai/gpt-6.1-sol", tools.clone(), json!({}), "/v1/responses"),
        ("openai/gpt-5.6", tools.clone(), json!({"stream": true}), "/v1/responses"),
        ("openai/gpt-5.6", tools.clone(), json!({"thinking": {"type": "disabled"}}), "/v1/chat/completions"),
        ("openai/gpt-5.6", json!([]), json!({}), "/v1/chat/completions"),
        ("openai/gpt-5.4", tools.clone(), json!({}), "/v1/chat/completions"),
        (
            "openai/gpt-5.4",
            tools.clone(),
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
            "/v1/responses",
        ),
    ] {
        let reply = post(gateway.clients, "/v1/messages", &ask(model, tools, more.clone())).await;
        let text = String::from_utf8_lossy(&reply.body);
        let said = sent();
        assert_eq!((reply.status, &*said.path), (200, path), "{model} {more}: {text}");
        let calls = path == "/v1/responses";
        assert_eq!(
            text.contains("tool_use") && text.contains("gAAAA_secret_thought"),
            calls,
            "{model} {more}: {text}"
        );
        let body = said.json();
        if more.get("thinking").is_some_and(|thinking| thinking["type"] == "disabled") {
            assert_eq!(body["reasoning_effort"], "none");
        }
    }
    // Who speaks the provider's dialect is sent on as it asked.
    let reply = chat(
        &gateway,
        &json!({"model": "openai/gpt-6.1-sol", "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "weather"}}]}),
    )
    .await;
    assert_eq!((reply.status, &*sent().path), (200, "/v1/chat/completions"));
}

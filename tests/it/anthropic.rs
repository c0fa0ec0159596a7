//! Anthropic's dialect on both sides: as a provider behind any door, and as a door in front of any provider.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, chat, post};
use crate::gateway::{self, CANARY, Gateway};
use crate::upstream::{Act, Heard, Upstream};

const STREAM: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"cache_read_input_tokens":30,"output_tokens":1}}}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#,
    "\n\nevent: content_block_stop\n",
    r#"data: {"type":"content_block_stop","index":0}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"weather","input":{}}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"city\":\"Rome\"}"}}"#,
    "\n\nevent: content_block_stop\n",
    r#"data: {"type":"content_block_stop","index":1}"#,
    "\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":9}}"#,
    "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

/// What the scripted provider of this dialect says, by model.
pub fn play(heard: &Heard) -> Vec<Act> {
    if heard.path.ends_with("/count_tokens") {
        return acts::whole(200, &json!({"input_tokens": 20}));
    }
    match heard.model().as_str() {
        "busy" => acts::whole(
            529,
            &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        ),
        "forgetful" if heard.json()["thread"]["type"] == "continue" => acts::whole(
            404,
            &json!({"type": "error", "error": {"type": "not_found_error", "message": "no usable thread",
                "details": {"error_code": "thread_not_found"}}}),
        ),
        "breaks" => {
            let (said, _) = STREAM.split_once("event: content_block_stop").unwrap();
            let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
            acts::stream(&format!("{said}event: error\ndata: {error}\n\n"), 50)
        }
        _ if heard.is_stream() => acts::stream(STREAM, 17),
        _ => acts::whole(200, &message()),
    }
}

/// The lines of one provider of this dialect in a configuration.
pub fn provider(name: &str, url: &str) -> String {
    format!("  {name}: {{ preset: anthropic, base_url: \"{url}\", keys: [ env:TEST_KEY ] }}\n")
}

fn message() -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [{"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 12, "cache_read_input_tokens": 30, "output_tokens": 9},
    })
}

fn house() -> (Upstream, Upstream, Gateway) {
    let (claude, other) = (Upstream::start(play), Upstream::start(speak));
    let config = format!(
        "providers:\n{}{}  sandbox: {{ dialect: sandbox }}\n",
        provider("claude", &claude.url()),
        gateway::provider("other", &other.url())
    );
    let gateway = gateway::start(&config);
    (claude, other, gateway)
}

fn speak(heard: &Heard) -> Vec<Act> {
    if heard.is_stream() { acts::says_stream(&["Hel", "lo"]) } else { acts::says("Hello") }
}

fn ask(model: &str) -> Value {
    json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]})
}

fn ask_stream(model: &str) -> Value {
    let mut ask = ask(model);
    ask["stream"] = true.into();
    ask
}

async fn messages(gateway: &Gateway, body: &Value) -> Reply {
    post(gateway.clients, "/v1/messages", body).await
}

#[tokio::test]
async fn the_same_dialect_goes_through_untouched() {
    let (claude, _other, gateway) = house();
    let body = json!({"model": "claude/claude-x", "max_tokens": 50, "unheard_of": {"a": 1.0},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}]});
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/messages")
        .header("content-type", "application/json")
        .header("anthropic-version", "2026-10-21")
        .header("anthropic-beta", "context-1m-2025-08-07")
        .header("x-api-key", "client's own")
        .body(bytes::Bytes::from(body.to_string()))
        .unwrap();
    let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
    assert_eq!((reply.status, reply.json()), (200, message()));
    assert_eq!(reply.header("x-tollgate-warnings"), "");

    let heard = claude.heard().pop().unwrap();
    assert_eq!(heard.path, "/v1/messages");
    assert_eq!(heard.header("x-api-key"), Some(CANARY));
    assert_eq!(heard.header("anthropic-version"), Some("2026-10-21"));
    assert_eq!(heard.header("anthropic-beta"), Some("context-1m-2025-08-07"));
    assert_eq!(heard.header("authorization"), None);
    assert_eq!(
        String::from_utf8(heard.body).unwrap(),
        body.to_string().replace("claude/claude-x", "claude-x")
    );

    let streamed = messages(&gateway, &ask_stream("claude/claude-x")).await;
    assert_eq!((streamed.status, streamed.text()), (200, STREAM.to_owned()));
    let count = post(gateway.clients, "/v1/messages/count_tokens", &body).await;
    assert_eq!((count.status, count.json()), (200, json!({"input_tokens": 20})));
}

#[tokio::test]
async fn an_openai_client_talks_to_anthropic() {
    let (claude, _other, gateway) = house();
    let mut body = json!({
        "model": "claude/claude-sonnet-4-5", "seed": 7, "parallel_tool_calls": false,
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    });
    let reply = chat(gateway.clients, &body).await;
    assert_eq!(reply.said(), "Hello", "{reply:#?}");
    let answer = reply.json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], r#"{"city":"Rome"}"#);
    assert_eq!(
        (&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]),
        (&json!(42), &json!(9))
    );
    assert_eq!(reply.header("x-tollgate-warnings"), "seed (dropped)");

    let heard = claude.heard().pop().unwrap();
    assert_eq!(heard.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(
        heard.json(),
        json!({
            "model": "claude-sonnet-4-5", "system": "be short",
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
            "max_tokens": 32000,
        })
    );

    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let text = chat(gateway.clients, &body).await.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    for said in
        ["\"content\":\"Hello\"", "\"id\":\"toolu_1\"", "{\\\"city\\\":\\\"Rome\\\"}", "\"prompt_tokens\":42"]
    {
        assert!(text.contains(said), "{said} in {text}");
    }
}

#[tokio::test]
async fn an_anthropic_client_talks_to_any_provider() {
    let (_claude, other, gateway) = house();
    let reply = messages(&gateway, &ask("other/gpt-x")).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    let answer = reply.json();
    assert_eq!((&answer["type"], &answer["stop_reason"]), (&json!("message"), &json!("end_turn")));
    assert_eq!(answer["content"], json!([{"type": "text", "text": "Hello"}]));
    assert_eq!((&answer["usage"]["input_tokens"], &answer["usage"]["output_tokens"]), (&json!(7), &json!(3)));
    assert_eq!(other.heard()[0].json()["max_completion_tokens"], 50);

    for model in ["other/gpt-x", "sandbox/echo"] {
        let text = messages(&gateway, &ask_stream(model)).await.text();
        let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(names[..2], ["message_start", "content_block_start"], "{text}");
        assert_eq!(
            names[names.len() - 3..],
            ["content_block_stop", "message_delta", "message_stop"],
            "{text}"
        );
    }
    let count = post(gateway.clients, "/v1/messages/count_tokens", &ask("other/gpt-x")).await;
    assert!(count.json()["input_tokens"].as_u64().unwrap() > 0, "{count:#?}");
    assert!(count.header("x-tollgate-warnings").contains("estimated"), "{count:#?}");
}

#[tokio::test]
async fn errors_have_anthropics_shape_wherever_they_arise() {
    let (_claude, _other, gateway) = house();
    let kind = |reply: &Reply| {
        let body = reply.json();
        assert_eq!((&body["type"], body["request_id"].is_string()), (&json!("error"), true), "{reply:#?}");
        (reply.status, body["error"]["type"].as_str().unwrap().to_owned())
    };
    let get = client::get(gateway.clients, "/v1/messages").await;
    assert_eq!(kind(&get), (405, "invalid_request_error".into()));
    let nothing = post(gateway.clients, "/v1/messages/nothing", &json!({})).await;
    assert_eq!(kind(&nothing), (404, "not_found_error".into()));
    let unknown = messages(&gateway, &ask("nowhere/m")).await;
    assert_eq!(kind(&unknown), (404, "not_found_error".into()));
    let broken = client::post_text(gateway.clients, "/v1/messages", "{").await;
    assert_eq!(kind(&broken), (400, "invalid_request_error".into()));
    let busy = messages(&gateway, &ask("claude/busy")).await;
    assert_eq!(kind(&busy), (503, "overloaded_error".into()));

    let text = messages(&gateway, &ask_stream("claude/breaks")).await.text();
    assert!(
        text.contains("Hello") && text.contains("event: error\n") && !text.contains("message_stop"),
        "{text}"
    );
    let mut openai = ask_stream("claude/breaks");
    openai["stream_options"] = json!({"include_usage": true});
    let text = chat(gateway.clients, &openai).await.text();
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
}

#[tokio::test]
async fn a_thread_goes_on_where_it_is_kept_and_is_told_to_be_gone_elsewhere() {
    let (claude, other, gateway) = house();
    let ask = async |model: &str, thread: Value| {
        let body = json!({"model": model, "max_tokens": 9, "thread": thread, "messages": [{"role": "user", "content": "hi"}]});
        post(gateway.clients, "/v1/messages", &body).await
    };
    let (begin, more) =
        (json!({"type": "create"}), json!({"type": "continue", "previous_message_id": "msg_1"}));
    assert_eq!(ask("claude/m", more.clone()).await.status, 200);
    assert_eq!(claude.heard()[0].json()["thread"], more);
    // By this code Anthropic's SDKs send the whole conversation.
    for (model, status) in [("claude/forgetful", 404), ("other/m", 400)] {
        let gone = ask(model, more.clone()).await;
        let told = &gone.json()["error"]["details"]["error_code"];
        assert_eq!((gone.status, told), (status, &json!("thread_not_found")), "{gone:#?}");
    }
    assert!(other.heard().is_empty(), "half of a conversation is no question");
    let begun = ask("other/m", begin).await;
    assert_eq!((begun.status, begun.header("x-tollgate-warnings")), (200, "thread (dropped)"), "{begun:#?}");
}

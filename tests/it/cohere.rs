//! Cohere's own dialect behind the doors of chat, Anthropic and Gemini, and its embeddings.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{chat, post};
use crate::gateway::{self, CANARY, Gateway};
use crate::upstream::{Act, Heard, Upstream};

const STREAM: &str = concat!(
    "event: message-start\n",
    r#"data: {"id":"m1","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#,
    "\n\nevent: content-start\n",
    r#"data: {"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
    "\n\nevent: content-delta\n",
    r#"data: {"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Hello"}}}}"#,
    "\n\nevent: citation-start\n",
    r#"data: {"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":5,"text":"Hello","sources":[{"type":"document","id":"d","document":{"title":"T","url":"https://x"}}],"type":"TEXT_CONTENT","content_index":0}}}}"#,
    "\n\nevent: content-end\n",
    r#"data: {"type":"content-end","index":0}"#,
    "\n\nevent: tool-plan-delta\n",
    r#"data: {"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will look."}}}"#,
    "\n\nevent: tool-call-start\n",
    r#"data: {"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"c1","type":"function","function":{"name":"weather","arguments":""}}}}}"#,
    "\n\nevent: tool-call-delta\n",
    r#"data: {"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"city\":\"Rome\"}"}}}}}"#,
    "\n\nevent: tool-call-end\n",
    r#"data: {"type":"tool-call-end","index":0}"#,
    "\n\nevent: message-end\n",
    r#"data: {"type":"message-end","delta":{"finish_reason":"TOOL_CALL","usage":{"billed_units":{"input_tokens":3,"output_tokens":9},"tokens":{"input_tokens":42,"output_tokens":9},"cached_tokens":30}}}"#,
    "\n\ndata: [DONE]\n\n",
);

fn play(heard: &Heard) -> Vec<Act> {
    if heard.path.ends_with("/embed") {
        return acts::whole(
            200,
            &json!({"id": "e", "embeddings": {"float": [[0.5, -1.0]]}, "meta": {"billed_units": {"input_tokens": 2}}}),
        );
    }
    match heard.model().as_str() {
        "gone" => acts::whole(404, &json!({"id": "x", "message": "model 'gone' was removed"})),
        "breaks" => {
            let (said, _) = STREAM.split_once("event: content-end").unwrap();
            let end =
                r#"{"type":"message-end","delta":{"finish_reason":"ERROR","error":"internal failure"}}"#;
            acts::stream(&format!("{said}event: message-end\ndata: {end}\n\n"), 50)
        }
        _ if heard.is_stream() => acts::stream(STREAM, 23),
        _ => acts::whole(200, &message()),
    }
}

fn message() -> Value {
    json!({
        "id": "m1", "finish_reason": "TOOL_CALL",
        "message": {"role": "assistant", "tool_plan": "I will look.", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}}]},
        "usage": {"billed_units": {"input_tokens": 3, "output_tokens": 9},
            "tokens": {"input_tokens": 42, "output_tokens": 9}, "cached_tokens": 30},
    })
}

fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::start(play);
    let url = format!("http://{}/v2", upstream.address);
    let config = format!(
        "retries: {{ retries: 0 }}\nproviders:\n  cohere: {{ base_url: \"{url}\", keys: [ env:TEST_KEY ] }}\n"
    );
    let gateway = gateway::start(&config);
    (upstream, gateway)
}

fn ask(model: &str) -> Value {
    json!({
        "model": format!("cohere/{model}"), "top_p": 1.0,
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        "tool_choice": "required", "safety_mode": "NONE",
    })
}

#[tokio::test]
async fn an_openai_client_talks_to_cohere_and_gives_its_plan_back() {
    let (upstream, gateway) = house();
    let mut body = ask("command-a-03-2025");
    let reply = chat(gateway.clients, &body).await;
    let answer = reply.json();
    let said = &answer["choices"][0]["message"];
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{reply:#?}");
    assert_eq!((&answer["model"], &answer["id"]), (&json!("command-a-03-2025"), &json!("m1")));
    assert_eq!(said["tool_calls"][0]["function"]["arguments"], r#"{"city":"Rome"}"#);
    assert_eq!(said["reasoning_content"], "I will look.");
    let usage = &answer["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]),
        (&json!(42), &json!(30))
    );
    assert_eq!(reply.header("x-tollgate-warnings"), "top_p (became 0.99)");

    let heard = upstream.heard().pop().unwrap();
    assert_eq!(heard.path, "/v2/chat");
    assert_eq!(heard.header("authorization").map(str::to_owned), Some(format!("Bearer {CANARY}")));
    assert_eq!(
        heard.json(),
        json!({
            "model": "command-a-03-2025", "stream": false, "p": 0.99, "tool_choice": "REQUIRED", "safety_mode": "NONE",
            "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        })
    );

    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(said.clone());
    messages.push(json!({"role": "tool", "tool_call_id": "c1", "content": "sunny"}));
    chat(gateway.clients, &body).await;
    let heard = upstream.heard().pop().unwrap().json();
    assert_eq!(
        heard["messages"].as_array().unwrap()[2..],
        [
            json!({"role": "assistant", "tool_plan": "I will look.", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}}]}),
            json!({"role": "tool", "tool_call_id": "c1", "content": "sunny"}),
        ]
    );
}

#[tokio::test]
async fn a_stream_of_cohere_reaches_every_door() {
    let (_upstream, gateway) = house();
    let mut body = ask("command-a-03-2025");
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let text = chat(gateway.clients, &body).await.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    for said in [
        "\"content\":\"Hello\"",
        "\"reasoning_content\":\"I will look.\"",
        "{\\\"city\\\":\\\"Rome\\\"}",
        "\"url\":\"https://x\"",
        "\"prompt_tokens\":42",
        "\"finish_reason\":\"tool_calls\"",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }

    let anthropic = json!({"model": "cohere/command-a-03-2025", "max_tokens": 9, "stream": true,
        "messages": [{"role": "user", "content": "hi"}]});
    let text = post(gateway.clients, "/v1/messages", &anthropic).await.text();
    for said in
        ["\"text\":\"Hello\"", "\"thinking\":\"I will look.\"", "\"name\":\"weather\"", "message_stop"]
    {
        assert!(text.contains(said), "{said} in {text}");
    }

    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let path = "/v1beta/models/cohere/command-a-03-2025:streamGenerateContent?alt=sse";
    let text = post(gateway.clients, path, &gemini).await.text();
    for said in ["Hello", "\"functionCall\"", "\"cachedContentTokenCount\":30", "\"finishReason\":\"STOP\""] {
        assert!(text.contains(said), "{said} in {text}");
    }
}

#[tokio::test]
async fn failures_of_cohere_are_said_in_the_clients_words() {
    let (_upstream, gateway) = house();
    let gone = chat(gateway.clients, &ask("gone")).await;
    assert_eq!((gone.status, gone.error()["message"].as_str().unwrap()), (404, "model 'gone' was removed"));
    let mut body = ask("breaks");
    body["stream"] = true.into();
    let text = chat(gateway.clients, &body).await.text();
    assert!(text.contains("Hello") && text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
}

#[tokio::test]
async fn embeddings_come_in_openais_form() {
    let (upstream, gateway) = house();
    let body = json!({"model": "cohere/embed-v4.0", "input": "a", "encoding_format": "base64"});
    let reply = post(gateway.clients, "/v1/embeddings", &body).await;
    let answer = reply.json();
    assert_eq!(answer["data"][0]["embedding"], "AAAAPwAAgL8=", "{reply:#?}");
    assert_eq!(answer["usage"]["prompt_tokens"], 2);
    let heard = upstream.heard().pop().unwrap();
    assert_eq!(heard.path, "/v2/embed");
    assert_eq!(
        heard.json(),
        json!({"model": "embed-v4.0", "texts": ["a"], "input_type": "search_document", "embedding_types": ["float"]})
    );
}

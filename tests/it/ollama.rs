//! Ollama's own dialect behind the doors of chat, Anthropic and Gemini, and its embeddings.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{chat, post};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Heard, Upstream};

const STREAM: &str = concat!(
    r#"{"model":"qwen3","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
    "\n",
    r#"{"model":"qwen3","created_at":"2026-01-01T00:00:01Z","message":{"role":"assistant","content":"Hello"},"done":false}"#,
    "\n",
    r#"{"model":"qwen3","created_at":"2026-01-01T00:00:02Z","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"weather","arguments":{"city":"Rome"}}}]},"done":false}"#,
    "\n",
    r#"{"model":"qwen3","created_at":"2026-01-01T00:00:03Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":42,"eval_count":9}"#,
    "\n",
);

fn play(heard: &Heard) -> Vec<Act> {
    if heard.path.ends_with("/embed") {
        return acts::whole(
            200,
            &json!({"model": "nomic", "embeddings": [[0.5], [-1.0]], "prompt_eval_count": 2}),
        );
    }
    match heard.model().as_str() {
        "missing" => acts::whole(404, &json!({"error": "model \"missing\" not found, try pulling it first"})),
        "breaks" => acts::stream(
            &format!("{}\n{{\"error\":\"an error was encountered while running the model\"}}\n", lines(2)),
            50,
        ),
        "cut" => acts::stream(&format!("{}\n", lines(2)), 50),
        _ if heard.is_stream() => acts::stream(STREAM, 11),
        _ => acts::whole(200, &whole()),
    }
}

fn lines(n: usize) -> String {
    STREAM.lines().take(n).collect::<Vec<_>>().join("\n")
}

fn whole() -> Value {
    json!({"model": "qwen3", "created_at": "2026-01-01T00:00:00Z", "done": true, "done_reason": "stop",
        "message": {"role": "assistant", "content": "Hello", "thinking": "hm", "tool_calls": [
            {"function": {"name": "weather", "arguments": {"city": "Rome"}}}]},
        "prompt_eval_count": 42, "eval_count": 9})
}

fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::start(play);
    let config = format!(
        "retries: {{ retries: 0 }}\nproviders:\n  local: {{ preset: ollama-native, base_url: \"http://{}\", \
         quirks: {{ defaults: {{ options: {{ num_ctx: 8192 }} }} }} }}\n",
        upstream.address
    );
    let gateway = gateway::start(&config);
    (upstream, gateway)
}

fn ask(model: &str) -> Value {
    json!({
        "model": format!("local/{model}"), "reasoning_effort": "high", "max_completion_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    })
}

#[tokio::test]
async fn an_openai_client_talks_to_ollama_itself() {
    let (upstream, gateway) = house();
    let mut body = ask("qwen3");
    let reply = chat(gateway.clients, &body).await;
    let answer = reply.json();
    let said = &answer["choices"][0]["message"];
    assert_eq!((&said["content"], &said["reasoning_content"]), (&json!("Hello"), &json!("hm")), "{reply:#?}");
    assert_eq!((&answer["usage"]["prompt_tokens"], &answer["created"]), (&json!(42), &json!(1_767_225_600)));
    let heard = upstream.heard().pop().unwrap();
    assert_eq!((heard.path.as_str(), heard.header("authorization")), ("/api/chat", None));
    assert_eq!(
        heard.json(),
        json!({
            "model": "qwen3", "stream": false, "think": true, "options": {"num_predict": 9, "num_ctx": 8192},
            "messages": [{"role": "user", "content": "hi", "images": ["AA=="]}],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        })
    );

    let id = said["tool_calls"][0]["id"].clone();
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(said.clone());
    messages.push(json!({"role": "tool", "tool_call_id": id, "content": "sunny"}));
    chat(gateway.clients, &body).await;
    let heard = upstream.heard().pop().unwrap().json();
    assert_eq!(
        heard["messages"].as_array().unwrap()[1..],
        [
            json!({"role": "assistant", "content": "Hello", "thinking": "hm", "tool_calls": [
                {"id": id, "function": {"index": 0, "name": "weather", "arguments": {"city": "Rome"}}}]}),
            json!({"role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": id}),
        ]
    );
}

#[tokio::test]
async fn lines_of_json_become_the_stream_of_every_door() {
    let (_upstream, gateway) = house();
    let mut body = ask("qwen3");
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let text = chat(gateway.clients, &body).await.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    for said in [
        "\"content\":\"Hello\"",
        "\"reasoning_content\":\"hm\"",
        "{\\\"city\\\":\\\"Rome\\\"}",
        "\"prompt_tokens\":42",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    let anthropic = json!({"model": "local/qwen3", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let text = post(gateway.clients, "/v1/messages", &anthropic).await.text();
    assert!(text.contains("\"thinking\":\"hm\"") && text.contains("message_stop"), "{text}");
    let gemini = json!({"contents": [{"parts": [{"text": "hi"}]}]});
    let reply = post(gateway.clients, "/v1beta/models/local/qwen3:generateContent", &gemini).await;
    assert_eq!(reply.json()["usageMetadata"]["promptTokenCount"], 42, "{reply:#?}");
}

#[tokio::test]
async fn failures_are_said_and_never_look_like_an_end() {
    let (_upstream, gateway) = house();
    let missing = chat(gateway.clients, &ask("missing")).await;
    assert_eq!(missing.status, 404);
    assert!(missing.error()["message"].as_str().unwrap().contains("try pulling it"), "{missing:#?}");
    for model in ["breaks", "cut"] {
        let mut body = ask(model);
        body["stream"] = true.into();
        let text = chat(gateway.clients, &body).await.text();
        assert!(text.contains("Hello") && text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    }
    let mut by_url = ask("qwen3");
    by_url["messages"][0]["content"][1]["image_url"]["url"] = "https://x/y.png".into();
    let refused = chat(gateway.clients, &by_url).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("messages[0].content[1]")));
}

#[tokio::test]
async fn embeddings_come_in_openais_form() {
    let (upstream, gateway) = house();
    let reply =
        post(gateway.clients, "/v1/embeddings", &json!({"model": "local/nomic", "input": ["a", "b"]})).await;
    assert_eq!(reply.json()["data"][1]["embedding"], json!([-1.0]), "{reply:#?}");
    let heard = upstream.heard().pop().unwrap();
    assert_eq!(heard.path, "/api/embed");
    assert_eq!(heard.json(), json!({"model": "nomic", "input": ["a", "b"], "options": {"num_ctx": 8192}}));
}

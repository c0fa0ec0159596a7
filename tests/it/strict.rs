//! Strict requests: all or nothing, decided before anything is sent.

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::acts;
use crate::anthropic;
use crate::client::{self, Reply, ask};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::Upstream;

fn house(top: &str) -> (Upstream, Upstream, Gateway) {
    let (claude, other) = (
        Upstream::start(anthropic::play),
        Upstream::start(|heard| match heard.model().as_str() {
            "down" => acts::error(503, "down"),
            _ if heard.is_stream() => acts::says_stream(&["Hello"]),
            _ => acts::says("Hello"),
        }),
    );
    let config = format!(
        "{top}providers:\n{}{}models:\n  both: {{ targets: [ claude/x, other/y ] }}\n  \
         broken: {{ targets: [ claude/x, other/down ] }}\n  lossy: {{ targets: [ claude/first, claude/second ] }}\n\
         versions:\n  careful: {{ prefix: /careful, strict: true }}\n  easy: {{ prefix: /easy, strict: false }}\n\
         retries: {{ retries: 0 }}\n",
        anthropic::provider("claude", &claude.url()),
        provider("other", &other.url())
    );
    (claude, other, gateway::start(&config))
}

async fn send(gateway: &Gateway, path: &str, body: &Value, strict: Option<&str>) -> Reply {
    let mut builder = Request::builder().method(Method::POST).uri(path);
    builder = builder.header("content-type", "application/json");
    if let Some(word) = strict {
        builder = builder.header("x-tollgate-strict", word);
    }
    let request = builder.body(Bytes::from(body.to_string())).unwrap();
    client::open(gateway.clients, request).await.unwrap().rest().await
}

/// What Anthropic cannot say as it is said here: `seed` not at all, so warm a temperature not quite.
fn warm(model: &str) -> Value {
    let mut body = ask(model);
    body["seed"] = 7.into();
    body["temperature"] = json!(1.7);
    body
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn what_would_be_lost_is_refused_before_anything_is_sent() {
    let (claude, _, gateway) = house("");
    let loose = send(&gateway, CHAT, &warm("claude/x"), None).await;
    assert_eq!(
        (loose.status, loose.header("x-tollgate-warnings")),
        (200, "temperature (lowered to 1), seed (dropped)")
    );
    assert_eq!(claude.heard().len(), 1);
    let before =
        gateway.metric("tollgate_translation_losses_total", &["from=\"openai\"", "field=\"seed\""]).await;
    assert!((before - 1.0).abs() < f64::EPSILON, "{before}");

    for stream in [false, true] {
        let mut body = warm("claude/x");
        body["stream"] = stream.into();
        let reply = send(&gateway, CHAT, &body, Some("true")).await;
        let error = reply.error();
        assert_eq!(
            (reply.status, &error["type"]),
            (400, &json!("invalid_request_error")),
            "{}",
            reply.text()
        );
        assert_eq!((&error["param"], &error["code"]), (&json!("temperature"), &json!("lossy_translation")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("claude/x") && message.contains("seed (dropped)"), "{message}");
    }
    assert_eq!(claude.heard().len(), 1, "nothing was sent");
    let plain = send(&gateway, CHAT, &ask("claude/x"), Some("true")).await;
    assert_eq!(plain.status, 200, "nothing is lost: {}", plain.text());
    assert!(claude.heard().iter().all(|heard| heard.header("x-tollgate-strict").is_none()));
    let nonsense = send(&gateway, CHAT, &ask("claude/x"), Some("maybe")).await;
    assert_eq!((nonsense.status, nonsense.error()["param"].clone()), (400, json!("x-tollgate-strict")));
}

#[tokio::test]
async fn a_target_that_can_carry_everything_is_tried_first() {
    let (claude, other, gateway) = house("");
    let reply = send(&gateway, CHAT, &warm("both"), Some("true")).await;
    assert_eq!((reply.status, reply.header("x-tollgate-target")), (200, "other/y"), "{}", reply.text());
    assert_eq!((claude.heard().len(), other.heard().len()), (0, 1));
    assert_eq!(reply.header("x-tollgate-warnings"), "");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["attempts"][0]["outcome"], "lossy_translation");

    let lossy = send(&gateway, CHAT, &warm("lossy"), Some("true")).await;
    assert!(lossy.error()["message"].as_str().unwrap().contains("claude/first"), "{}", lossy.text());
    let broken = send(&gateway, CHAT, &warm("broken"), Some("true")).await;
    assert_eq!(broken.status, 503, "a passing failure is worth another try: {}", broken.text());
}

#[tokio::test]
async fn every_door_says_it_in_its_own_words() {
    let (_, other, gateway) = house("");
    let message = json!({"model": "other/y", "max_tokens": 9, "top_k": 5, "mcp_servers": [{"type": "url", "url": "https://x", "name": "m"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}]});
    let reply = send(&gateway, "/v1/messages", &message, Some("1")).await;
    let body = reply.json();
    assert_eq!((reply.status, &body["error"]["type"]), (400, &json!("invalid_request_error")), "{body}");
    let told = body["error"]["message"].as_str().unwrap();
    assert!(told.contains("mcp_servers") && told.contains("messages[0].content[0].cache_control"), "{told}");
    let contents = json!({"contents": [{"parts": [{"text": "hi"}]}], "safetySettings": [{"category": "X"}]});
    let reply = send(&gateway, "/v1beta/models/other/y:generateContent", &contents, Some("true")).await;
    let body = reply.json();
    assert_eq!((reply.status, &body["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("safetySettings"), "{body}");
    assert!(other.heard().is_empty());
}

#[tokio::test]
async fn the_configuration_and_a_version_can_want_it() {
    let (_claude, _other, gateway) = house("strict: true\n");
    assert_eq!(send(&gateway, CHAT, &warm("claude/x"), None).await.status, 400);
    assert_eq!(
        send(&gateway, CHAT, &warm("claude/x"), Some("false")).await.status,
        400,
        "only ever stricter"
    );
    assert_eq!(send(&gateway, "/easy/chat/completions", &warm("claude/x"), None).await.status, 200);
    let (_claude, _other, gateway) = house("");
    assert_eq!(send(&gateway, CHAT, &warm("claude/x"), None).await.status, 200);
    assert_eq!(send(&gateway, "/careful/chat/completions", &warm("claude/x"), None).await.status, 400);
}

/// A choice that Anthropic's clients cannot see, and log probabilities that they cannot read.
const TWO: &str = concat!(
    r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"one"},"logprobs":{"content":[{"token":"one","logprob":-0.1,"top_logprobs":[]}]},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":1,"delta":{"content":"two"},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\ndata: [DONE]\n\n",
);

#[tokio::test]
async fn what_a_streamed_answer_loses_is_told_at_its_end() {
    let upstream = Upstream::start(|_| acts::stream(TWO, 33));
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let body = json!({"model": "up/m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let reply = send(&gateway, "/v1/messages", &body, Some("true")).await;
    let text = reply.text();
    assert!(text.contains("one") && !text.contains("two") && text.contains("message_stop"), "{text}");
    let comment = ": tollgate-warnings answer.choices[0].logprobs (dropped), answer.choices[1] (dropped)\n\n";
    assert!(text.contains(comment), "{text}");
    let record = gateway.record(reply.header("x-request-id")).await;
    let paths: Vec<&Value> =
        record["warnings"].as_array().unwrap().iter().map(|loss| &loss["path"]).collect();
    assert_eq!(paths, ["answer.choices[0].logprobs", "answer.choices[1]"]);
    let counted = gateway
        .metric(
            "tollgate_translation_losses_total",
            &["from=\"anthropic\"", "to=\"openai\"", "field=\"answer\""],
        )
        .await;
    assert!((counted - 2.0).abs() < f64::EPSILON, "{counted}");
}

//! A provider that tells the key to everybody who listens: the client must not hear it.
//!
//! `client.rs` looks for the key in every head and body, `gateway.rs` in every log line; here it is provoked.

use serde_json::json;

use crate::acts;
use crate::client::{self, ask, ask_stream, chat};
use crate::gateway::{self, CANARY, provider};
use crate::recording;
use crate::upstream::{Act, Heard, Upstream};

fn tell(heard: &Heard) -> Vec<Act> {
    let key = heard.header("authorization").unwrap_or_default().to_owned();
    let message =
        json!({"error": {"message": format!("bad key {key}"), "type": key, "param": key, "code": key}});
    let json = ("content-type", "application/json");
    match heard.model().as_str() {
        "error-400" => acts::whole(400, &message),
        "error-401" => acts::whole(401, &message),
        "error-429" => acts::whole(429, &message),
        "error-500" => acts::whole(500, &message),
        "html" => acts::answer(500, &[("content-type", "text/html")], format!("<p>{key}</p>")),
        "header" => acts::answer(
            400,
            &[
                json,
                ("x-key", &key),
                ("www-authenticate", &key),
                ("x-request-id", &key),
                ("retry-after", &key),
            ],
            message.to_string(),
        ),
        "error-in-200" => acts::whole(200, &message),
        "broken" => acts::answer(200, &[json], format!("{{\"{key}")),
        "redirect" => {
            acts::answer(302, &[("location", &format!("https://x.invalid/?key={key}"))], key.clone())
        }
        "reason" => acts::raw(format!("HTTP/1.1 500 {key}\r\ncontent-length: 0\r\n\r\n")),
        "garbage" => acts::raw(format!("{key}\r\n\r\n")),
        "stream-error" => acts::stream(&format!("data: {message}\n\n"), usize::MAX),
        "stream-late-error" => {
            acts::stream(&format!("{}data: {message}\n\n", acts::events(&["some", " text"])), usize::MAX)
        }
        _ => acts::stream(&format!("{}data: {key}\n\n", acts::events(&["some"])), usize::MAX),
    }
}

#[tokio::test]
async fn a_key_that_the_provider_repeats_never_reaches_the_client_or_a_log() {
    let upstream = Upstream::start(tell);
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nlog: {{ level: trace }}\nproviders:\n{}",
        provider("up", &upstream.url())
    ));
    for way in [
        "error-400",
        "error-401",
        "error-429",
        "error-500",
        "html",
        "header",
        "error-in-200",
        "broken",
        "redirect",
        "reason",
        "garbage",
        "stream-error",
        "stream-late-error",
        "stream-malformed",
    ] {
        for stream in [false, true] {
            let model = format!("up/{way}");
            let question = if stream { ask_stream(&model) } else { ask(&model) };
            let reply = chat(gateway.clients, &question).await;
            let failed = reply.status >= 400 || recording::streamed(&reply.text()).error.is_some();
            assert!(failed, "{way}: {reply:#?}");
            let text = format!("{reply:?}");
            assert!(!text.contains("sk-canary") && !text.contains("127.0.0.1"), "{way}: {reply:#?}");
        }
        assert!(!upstream.heard_for(way).is_empty(), "{way}: the provider was never asked");
    }
    assert!(!gateway.metrics().await.contains(CANARY));
    assert!(!gateway.status().await.to_string().contains(CANARY));
}

#[tokio::test]
async fn neither_prompts_nor_answers_are_in_the_logs() {
    let upstream = Upstream::start(|_| acts::says("the answer is plaintext-answer"));
    let gateway =
        gateway::start(&format!("log: {{ level: trace }}\nproviders:\n{}", provider("up", &upstream.url())));
    let mut question = ask("up/m");
    question["messages"][0]["content"] = "tell nobody about plaintext-prompt".into();
    let reply = chat(gateway.clients, &question).await;
    assert_eq!(reply.said(), "the answer is plaintext-answer");
    client::post_text(gateway.clients, "/v1/chat/completions", r#"{"model":"plaintext-prompt" oops"#).await;
    gateway.record(reply.header("x-request-id")).await;
    let everything = format!("{:?}{:?}{}", gateway.access(), gateway.log(), gateway.metrics().await);
    assert!(!everything.contains("plaintext-"), "{everything}");
}

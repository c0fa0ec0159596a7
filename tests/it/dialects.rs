//! A provider whose language only a plugin speaks: OpenAI's client, the gateway, and Acme behind it.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{chat, post};
use crate::gateway::{self, Gateway};
use crate::guards::warm;
use crate::plugins::sample;
use crate::upstream::{Act, Heard, Upstream};

/// A gateway that speaks with Acme through the plugin, in so much memory.
fn through_plugin(upstream: &Upstream, memory: &str) -> Option<Gateway> {
    let bytes = sample("acme-dialect")?;
    let config = format!(
        "retries: {{ retries: 0 }}\nplugins:\n  cache: {}\n  list:\n    - name: acme-dialect\n      grants: [log]\n      \
         limits: {{ time: 5s, memory: {memory} }}\n      config: {{ path: /generate }}\n\
         providers:\n  acme: {{ dialect: \"plugin:acme-dialect\", base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n",
        warm(&bytes),
        upstream.url()
    );
    let setup = gateway::setup(&config);
    std::fs::create_dir(setup.path().join("plugins")).unwrap();
    std::fs::write(setup.path().join("plugins/acme-dialect.wasm"), bytes).unwrap();
    Some(setup.start())
}

fn acme(heard: &Heard) -> Vec<Act> {
    let said = heard.json()["dialogue"][0]["say"].as_str().unwrap_or_default().to_owned();
    let lines = |parts: &[Value]| parts.iter().map(|part| format!("{part}\n")).collect::<String>();
    let closing = json!({"part": "closing", "ended": "done", "meter": {"read": 5, "written": 2}});
    match (&*said, heard.json()["live"] == true) {
        ("too fast", _) => {
            let trouble = json!({"trouble": {"kind": "too_fast", "detail": "slow down", "wait_s": 2}});
            acts::whole(429, &trouble)
        }
        ("nonsense", _) => acts::whole(200, &json!({"what": "is this"})),
        ("huge", _) => acts::whole(200, &json!({"reply": {"say": "x".repeat(7 << 20)}, "ended": "done"})),
        ("trouble", true) => {
            let text = [
                json!({"part": "opening", "answer_id": "a1", "engine": "rocket"}),
                json!({"part": "say", "text": "Well, "}),
                json!({"part": "trouble", "kind": "too_busy", "detail": "not now"}),
            ];
            acts::stream(&lines(&text), 9)
        }
        ("cut", true) => acts::stream(&lines(&[json!({"part": "say", "text": "Well, "})]), 9),
        (_, true) => {
            let text = [
                json!({"part": "opening", "answer_id": "a1", "engine": "rocket"}),
                json!({"part": "say", "text": "You "}),
                json!({"part": "say", "text": format!("said: {said}")}),
                closing,
            ];
            acts::stream(&lines(&text), 9)
        }
        _ => acts::whole(
            200,
            &json!({"answer_id": "a1", "engine": "rocket", "reply": {"say": format!("You said: {said}")}, "ended": "done", "meter": {"read": 5, "written": 2}}),
        ),
    }
}

fn asks(text: &str, stream: bool) -> Value {
    json!({
        "model": "acme/rocket", "stream": stream, "temperature": 0.5, "logit_bias": {"1": 2},
        "messages": [{"role": "user", "content": text}],
    })
}

#[tokio::test]
async fn a_client_speaks_with_a_provider_whose_language_only_a_plugin_knows() {
    let upstream = Upstream::start(acme);
    let Some(gateway) = through_plugin(&upstream, "64MiB") else { return };
    let reply = chat(gateway.clients, &asks("hello", false)).await;
    assert_eq!(reply.said(), "You said: hello");
    assert_eq!(reply.json()["usage"]["prompt_tokens"], 5);
    assert!(reply.header("x-tollgate-warnings").contains("logit_bias"), "{reply:#?}");
    let heard = upstream.heard().remove(0);
    assert_eq!((heard.path.as_str(), &heard.json()["engine"]), ("/v1/generate", &json!("rocket")));
    assert_eq!(heard.json()["settings"], json!({"warmth": 0.5}));
    assert!(heard.header("authorization").is_some_and(|key| key.starts_with("Bearer ")), "{heard:?}");

    let reply = chat(gateway.clients, &asks("hello", true)).await;
    assert_eq!(reply.streamed(), "You said: hello");
    assert!(reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["usage"]["input"], &record["usage"]["output"]), (&json!(5), &json!(2)), "{record}");

    // Other dialects of clients get there too.
    let ask =
        json!({"model": "acme/rocket", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let reply = post(gateway.clients, "/v1/messages", &ask).await;
    assert_eq!(reply.json()["content"][0]["text"], "You said: hi", "{reply:#?}");
    let ask = json!({"model": "acme/e", "input": "x"});
    assert!(post(gateway.clients, "/v1/embeddings", &ask).await.status >= 400);
}

#[tokio::test]
async fn errors_of_the_provider_and_of_the_plugin_are_told_as_what_they_are() {
    let upstream = Upstream::start(acme);
    let Some(gateway) = through_plugin(&upstream, "8MiB") else { return };
    let reply = chat(gateway.clients, &asks("too fast", false)).await;
    assert_eq!((reply.status, &reply.error()["message"]), (429, &json!("slow down")), "{reply:#?}");
    assert_eq!(reply.error()["code"], "too_fast");

    let reply = chat(gateway.clients, &asks("nonsense", false)).await;
    assert_eq!(reply.status, 502, "{reply:#?}");
    let said = reply.error()["message"].as_str().unwrap().to_owned();
    assert!(said.contains("plugin `acme-dialect`") && said.contains("not an answer of Acme's"), "{said}");

    // More than its memory holds: the call ends, the gateway does not.
    let reply = chat(gateway.clients, &asks("huge", false)).await;
    assert_eq!((reply.status, &reply.error()["code"]), (502, &json!("dialect_plugin_failed")), "{reply:#?}");

    let reply = chat(gateway.clients, &asks("trouble", true)).await;
    assert!(reply.streamed() == "Well, " && !reply.text().contains("[DONE]"), "{}", reply.text());
    assert!(reply.text().contains("too_busy"), "{}", reply.text());
    let reply = chat(gateway.clients, &asks("cut", true)).await;
    assert!(
        reply.text().contains("ended before its closing") && !reply.text().contains("[DONE]"),
        "{}",
        reply.text()
    );
    assert_eq!(chat(gateway.clients, &asks("hello", false)).await.said(), "You said: hello");
}

#[tokio::test]
async fn a_plugin_that_is_not_there_is_found_by_the_check() {
    let config = "providers:\n  acme: { dialect: \"plugin:acme\", base_url: \"http://127.0.0.1:9/\", keys: [ env:TEST_KEY ] }\n";
    let checked = gateway::setup(&format!("plugins:\n  - name: acne\n{config}")).run(&["check"]);
    assert!(checked.code != Some(0), "{checked:?}");
    assert!(checked.err.contains("there is no plugin `acme`; did you mean `plugin:acne`?"), "{checked:?}");
}

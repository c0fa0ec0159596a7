//! The first request of a newcomer, and what a chat must keep: against the sandbox and a provider.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, ask, ask_stream, chat, chat_live};
use crate::gateway::{self, provider};
use crate::recording;
use crate::upstream::{Act, Upstream};

/// The built-in provider; without a configuration file it is there by itself.
const SANDBOX: &str = "providers:\n  sandbox: { dialect: sandbox }\n";

#[tokio::test]
async fn the_sandbox_answers_without_any_account() {
    let gateway = gateway::start(SANDBOX);
    let reply = chat(gateway.clients, &ask("sandbox/echo")).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    let facts = recording::whole(&reply.text());
    assert!(!facts.choices[&0].text.is_empty(), "{facts:#?}");
    assert_eq!(facts.choices[&0].finish.as_deref(), Some("stop"));
    assert!(facts.usage.is_some_and(|usage| usage.prompt > 0 && usage.completion > 0), "{facts:#?}");
    let again = chat(gateway.clients, &ask("sandbox/echo")).await;
    assert_eq!(recording::whole(&again.text()), facts, "the sandbox is deterministic");
}

#[tokio::test]
async fn the_sandbox_streams_the_same_answer() {
    let gateway = gateway::start(SANDBOX);
    let whole = recording::whole(&chat(gateway.clients, &ask("sandbox/echo")).await.text());
    let reply = chat(gateway.clients, &ask_stream("sandbox/echo")).await;
    assert!(reply.header("content-type").starts_with("text/event-stream"), "{reply:#?}");
    let streamed = recording::streamed(&reply.text());
    assert!(streamed.done && streamed.oddities.is_empty(), "{streamed:#?}");
    assert_eq!(streamed.choices, whole.choices);
    assert_eq!(streamed.usage, whole.usage);
}

#[tokio::test]
async fn usage_is_always_asked_for_and_stripped_when_the_client_did_not() {
    let upstream = Upstream::start(|_| acts::says_stream(&["hel", "lo"]));
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let mut question = ask_stream("up/m");
    question["stream_options"] = Value::Null;
    let plain = question.as_object_mut().map(|fields| fields.remove("stream_options")).map(|_| question);
    let reply = chat(gateway.clients, &plain.unwrap()).await;
    let facts = recording::streamed(&reply.text());
    assert!(facts.done && facts.choices[&0].text == "hello" && facts.usage.is_none(), "{reply:#?}");
    assert!(!reply.text().contains(r#""choices":[]"#), "a chunk that the client cannot expect: {reply:#?}");
    assert_eq!(upstream.heard()[0].json()["stream_options"]["include_usage"], true);
    let record = gateway.record(reply.header("x-request-id")).await;
    assert!(record.to_string().contains(r#""output":3"#), "{record:#}");
}

#[tokio::test]
async fn the_clients_bytes_go_out_but_for_the_model() {
    let upstream = Upstream::start(|_| acts::says("ok"));
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    // Numbers and spaces that a decoder would write otherwise; fields that nobody knows yet.
    let rest = r#"  "messages":[ {"role":"user","content":"h\u00e9 \ud83d\ude00"} ],"big":12345678901234567890123,
        "float":0.1000000000000000055, "vendor":{"deep":[1e2,{"x":null}]}, "temperature" : 1.0}"#;
    let body = format!(r#"{{ "model" : "up/some/model:v1",{rest}"#);
    let reply = client::post_text(gateway.clients, "/v1/chat/completions", &body).await;
    assert_eq!(reply.said(), "ok");
    let heard = String::from_utf8(upstream.heard()[0].body.clone()).unwrap();
    assert!(heard.ends_with(rest), "{heard}");
    assert_eq!(upstream.heard()[0].model(), "some/model:v1");
    assert_eq!(
        (upstream.heard()[0].method.as_str(), upstream.heard()[0].path.as_str()),
        ("POST", "/v1/chat/completions")
    );
}

#[tokio::test]
async fn the_provider_gets_its_key_and_nothing_of_the_clients_headers() {
    let upstream = Upstream::start(|_| acts::says("ok"));
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let mut request = client::request(http::Method::POST, "/v1/chat/completions", &ask("up/m").to_string());
    for (name, value) in [
        ("authorization", "Bearer sk-of-the-client"),
        ("x-api-key", "sk-of-the-client"),
        ("cookie", "session=1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-tollgate-tags", "team=legal"),
        ("openai-organization", "org-of-the-client"),
        ("x-custom", "client"),
        ("te", "trailers"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
    assert_eq!(reply.said(), "ok");
    let heard = &upstream.heard()[0];
    assert_eq!(heard.header("authorization"), Some(format!("Bearer {}", gateway::CANARY).as_str()));
    let names: Vec<_> = heard.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(heard.header("accept-encoding"), Some("identity"));
    let known = [
        "host",
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "authorization",
        "user-agent",
    ];
    let strangers: Vec<_> = names.iter().filter(|name| !known.contains(name)).collect();
    assert!(strangers.is_empty(), "{names:?}");
    assert!(!format!("{:?}", heard.headers).contains("client"), "{:?}", heard.headers);
}

#[tokio::test]
async fn the_providers_headers_stay_behind() {
    let upstream = Upstream::start(|_| {
        let headers = [
            ("content-type", "application/json"),
            ("set-cookie", "a=b"),
            ("openai-organization", "org-secret"),
            ("server", "cloudflare"),
            ("x-request-id", "of-the-provider"),
        ];
        acts::answer(200, &headers, acts::completion("ok").to_string())
    });
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let reply = chat(gateway.clients, &ask("up/m")).await;
    for name in ["set-cookie", "openai-organization", "server"] {
        assert_eq!(reply.header(name), "", "{reply:#?}");
    }
    assert_ne!(reply.header("x-request-id"), "of-the-provider");
}

#[tokio::test]
async fn an_early_token_is_not_held_back() {
    let upstream = Upstream::start(|_| {
        let mut script = acts::stream_head();
        script.push(acts::piece(&acts::events(&["early"])));
        script.push(Act::Pause(Duration::from_secs(2)));
        script.push(acts::piece(&format!("{}{}", acts::events(&["late"]), acts::ENDING)));
        script.push(Act::Write(b"0\r\n\r\n".to_vec()));
        script
    });
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let begun = Instant::now();
    let mut live = chat_live(gateway.clients, &ask_stream("up/m")).await;
    live.until("early").await;
    assert!(begun.elapsed() < Duration::from_secs(1), "held back for {:?}", begun.elapsed());
    assert!(recording::streamed(&live.rest().await.text()).done);
}

#[tokio::test]
async fn a_thinking_provider_is_bridged_by_comments() {
    let upstream =
        Upstream::start(|_| acts::after(Duration::from_millis(700), acts::says_stream(&["at last"])));
    let config = format!("stream: {{ keepalive: 100ms }}\nproviders:\n{}", provider("up", &upstream.url()));
    let gateway = gateway::start(&config);
    let reply = chat(gateway.clients, &ask_stream("up/m")).await;
    assert!(reply.text().starts_with(':'), "no comment while the provider thinks: {reply:#?}");
    let facts = recording::streamed(&reply.text());
    assert!(facts.done && facts.choices[&0].text == "at last", "{reply:#?}");
}

#[tokio::test]
async fn googles_clients_are_kept_waiting_by_empty_lines() {
    let upstream =
        Upstream::start(|_| acts::after(Duration::from_millis(700), acts::says_stream(&["at last"])));
    let config = format!("stream: {{ keepalive: 100ms }}\nproviders:\n{}", provider("up", &upstream.url()));
    let gateway = gateway::start(&config);
    let ask = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let path = "/v1beta/models/up/m:streamGenerateContent?alt=sse";
    let text = client::post(gateway.clients, path, &ask).await.text();
    assert!(text.starts_with('\n') && text.contains("at last"), "{text}");
    let odd: Vec<_> = text.lines().filter(|line| !line.is_empty() && !line.starts_with("data: ")).collect();
    assert!(odd.is_empty(), "their SDK takes such lines for JSON: {odd:?}");
}

#[tokio::test]
async fn a_whole_answer_to_a_stream_request_becomes_a_stream() {
    let upstream = Upstream::start(|_| acts::says("all at once"));
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let reply = chat(gateway.clients, &ask_stream("up/m")).await;
    let facts = recording::streamed(&reply.text());
    assert_eq!(facts.choices.get(&0).map(|choice| choice.text.as_str()), Some("all at once"), "{reply:#?}");
    assert!(facts.done && facts.usage.is_some(), "{reply:#?}");
}

#[tokio::test]
async fn embeddings_come_in_the_encoding_that_was_asked_for() {
    let upstream = Upstream::start(|_| {
        let row = json!({"object": "embedding", "index": 0, "embedding": [0.5, -1.0, 0.25]});
        let usage = json!({"prompt_tokens": 2, "total_tokens": 2});
        acts::whole(200, &json!({"object": "list", "data": [row], "model": "e", "usage": usage}))
    });
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    for (format, is_text) in [("float", false), ("base64", true)] {
        let body = json!({"model": "up/e", "input": "hi", "encoding_format": format});
        let reply = client::post(gateway.clients, "/v1/embeddings", &body).await;
        assert_eq!(reply.json()["data"][0]["embedding"].is_string(), is_text, "{format}: {reply:#?}");
        assert_eq!(recording::vectors(&reply.text()), [[0.5, -1.0, 0.25]], "{format}");
    }
}

#[tokio::test]
async fn models_lists_aliases_and_named_targets() {
    let upstream = Upstream::start(|_| acts::says("ok"));
    let models = "models:\n  fast: { targets: [ up/m1 ] }\n";
    let gateway = gateway::start(&format!("providers:\n{}{models}", provider("up", &upstream.url())));
    let list = client::get(gateway.clients, "/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().filter_map(|m| m["id"].as_str()).collect();
    assert!(ids.contains(&"fast") && ids.contains(&"up/m1"), "{ids:?}");
    for id in ["fast", "up/m1", "up%2Fm1"] {
        let one = client::get(gateway.clients, &format!("/v1/models/{id}")).await;
        assert_eq!((one.status, one.json()["object"].as_str()), (200, Some("model")), "{id}: {one:#?}");
    }
    let missing = client::get(gateway.clients, "/v1/models/nothing").await;
    assert_eq!(missing.status, 404);
    missing.error();
}

#[tokio::test]
async fn a_stream_that_its_provider_calls_json_is_served() {
    let upstream = Upstream::start(|_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
        let events = format!(": a comment\n\n{}{}", acts::events(&["hel", "lo"]), acts::ENDING);
        acts::raw(format!("{head}{events}"))
    });
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let reply = client::chat(gateway.clients, &client::ask_stream("up/m")).await;
    assert_eq!((reply.status, reply.streamed().as_str()), (200, "hello"), "{reply:#?}");
    assert!(reply.text().ends_with("data: [DONE]\n\n"), "{reply:#?}");
}

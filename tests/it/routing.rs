//! Strategies and exclusion with real providers: who is asked, and what the record says of the others.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use crate::acts;
use crate::client::{Reply, ask, chat, open, request};
use crate::gateway::{self, Gateway};
use crate::upstream::Upstream;

/// Two providers, `slow` and `quick`, with this under `models:` and beside it.
fn two(rest: &str) -> (Upstream, Upstream, Gateway) {
    let slow = Upstream::start(|_| acts::after(Duration::from_millis(150), acts::says("slow")));
    let quick = Upstream::start(|_| acts::says("quick"));
    let gateway = gateway::start(&format!(
        "providers:\n{}{}{rest}",
        gateway::provider("slow", &slow.url()),
        gateway::provider("quick", &quick.url()),
    ));
    (slow, quick, gateway)
}

fn explained(reply: &Reply) -> Value {
    serde_json::from_str(reply.header("x-tollgate-explain")).unwrap()
}

async fn asked(gateway: &Gateway, body: &Value, headers: &[(&str, &str)]) -> Reply {
    let mut request = request(Method::POST, "/v1/chat/completions", &body.to_string());
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    open(gateway.clients, request).await.unwrap().rest().await
}

#[tokio::test]
async fn turns_are_taken_and_the_fastest_is_found() {
    let (_slow, _quick, gateway) =
        two("models:\n  turns: { strategy: round_robin, targets: [ slow/m, quick/m ] }\n  \
         swift: { strategy: fastest, targets: [ slow/m, quick/m ] }\n");
    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(chat(gateway.clients, &ask("turns")).await.said());
    }
    assert_eq!(said, ["slow", "quick", "slow", "quick"]);
    // Figures are added up once a second.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    for _ in 0..5 {
        let reply = asked(&gateway, &question("swift"), &[("x-tollgate-explain", "1")]).await;
        assert_eq!(reply.said(), "quick", "{reply:#?}");
        let candidates = &explained(&reply)["candidates"];
        assert_eq!(candidates[0]["target"], "quick/m", "{candidates:#}");
        assert!(candidates[0]["by"].as_str().is_some_and(|by| by.starts_with("fastest")), "{candidates:#}");
        assert!(candidates[1]["score"].as_f64() > candidates[0]["score"].as_f64(), "{candidates:#}");
    }
}

fn question(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] })
}

#[tokio::test]
async fn the_least_busy_is_asked() {
    let (slow, quick, gateway) = two(
        "models:\n  m: { strategy: least_busy, targets: [ slow/m, quick/m ] }\n  s: { targets: [ slow/m ] }\n",
    );
    let clients = gateway.clients;
    let held: Vec<_> = (0..3).map(|_| tokio::spawn(async move { chat(clients, &ask("s")).await })).collect();
    while slow.heard().len() < 3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(chat(clients, &ask("m")).await.said(), "quick");
    for held in held {
        assert_eq!(held.await.unwrap().said(), "slow");
    }
    assert_eq!((slow.heard().len(), quick.heard().len()), (3, 1));
}

#[tokio::test]
async fn what_cannot_see_is_not_shown_images() {
    let (slow, quick, gateway) =
        two("prices:\n  models:\n    slow/m: { context_window: 1000, capabilities: [ tools ] }\n    \
         quick/m: { context_window: 4000, capabilities: [ tools, vision ] }\n\
         models:\n  m: { targets: [ slow/m, quick/m ] }\n  blind: { targets: [ slow/m ] }\n");
    let picture = |model: &str| {
        json!({ "model": model, "messages": [{ "role": "user", "content": [
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgo=" } } ] }] })
    };
    let explain = [("x-tollgate-explain", "1")];
    let reply = asked(&gateway, &picture("m"), &explain).await;
    assert_eq!(reply.said(), "quick", "{reply:#?}");
    let candidates = &explained(&reply)["candidates"];
    assert_eq!(candidates[0], json!({ "target": "slow/m", "rejected": "cannot see images" }));
    let reply = asked(&gateway, &picture("blind"), &explain).await;
    assert_eq!(reply.status, 400, "{reply:#?}");
    let error = &reply.json()["error"];
    assert_eq!(error["code"], "no_capable_target");
    assert_eq!(error["message"], "no target of `blind` can serve this request: slow/m cannot see images");

    let long = |model: &str, words: usize| json!({ "model": model, "messages": [{ "role": "user", "content": "word ".repeat(words) }] });
    let reply = asked(&gateway, &long("m", 1_500), &explain).await;
    assert_eq!(reply.said(), "quick", "{reply:#?}");
    assert_eq!(explained(&reply)["candidates"][0]["rejected"], "context window too small");
    let reply = asked(&gateway, &long("m", 9_000), &explain).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    assert_eq!((slow.heard().len(), quick.heard().len()), (0, 2), "nothing was tried in vain");
}

#[tokio::test]
async fn a_photograph_is_no_long_prompt_at_any_door() {
    let (_slow, quick, gateway) =
        two("prices:\n  models:\n    quick/m: { context_window: 4000, capabilities: [ tools, vision ] }\n");
    let photo = "/9j/4AAQ".repeat(10_000);
    let url = format!("data:image/jpeg;base64,{photo}");
    let says = |part: Value| json!([{ "role": "user", "content": [part] }]);
    let image =
        json!({ "type": "image", "source": { "type": "base64", "media_type": "image/jpeg", "data": photo } });
    for (path, body) in [
        (
            "/v1/chat/completions",
            json!({ "messages": says(json!({ "type": "image_url", "image_url": { "url": url } })) }),
        ),
        ("/v1/responses", json!({ "input": says(json!({ "type": "input_image", "image_url": url })) })),
        ("/v1/messages", json!({ "max_tokens": 100, "messages": says(image) })),
        (
            "/v1beta/models/quick/m:generateContent",
            json!({ "contents": [{ "parts": [{ "inlineData": { "mimeType": "image/jpeg", "data": photo } }] }] }),
        ),
    ] {
        let mut body = body;
        if !path.contains("generateContent") {
            body["model"] = "quick/m".into();
        }
        let reply = open(gateway.clients, request(Method::POST, path, &body.to_string())).await.unwrap();
        assert_eq!(reply.status, 200, "{path}");
    }
    assert_eq!(quick.heard().len(), 4);
    // Nor in the next turn of a conversation that is kept here.
    let first =
        json!({ "model": "quick/m", "input": says(json!({ "type": "input_image", "image_url": url })) });
    let reply =
        open(gateway.clients, request(Method::POST, "/v1/responses", &first.to_string())).await.unwrap();
    let id = reply.rest().await.json()["id"].clone();
    let next = json!({ "model": "quick/m", "previous_response_id": id, "input": "and now?" });
    let reply =
        open(gateway.clients, request(Method::POST, "/v1/responses", &next.to_string())).await.unwrap();
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn clients_choose_a_class_of_cost_and_data_stays_where_it_may() {
    let (_slow, _quick, gateway) = two(
        "prices:\n  models:\n    slow/m: { price: { input: 0.1, output: 0.2 } }\n    quick/m: { price: { input: 9, output: 20 } }\n\
         models:\n  m: { targets: [ quick/m, slow/m ] }\n  \
         careful: { strategy: [ { data_class: { pii: { vendor: ours } } } ], targets: [ quick/m ] }\n",
    );
    let m = question("m");
    for (headers, said) in [
        (vec![], "quick"),
        (vec![("x-tollgate-tier", "cheap")], "slow"),
        (vec![("x-tollgate-tier", "premium")], "quick"),
    ] {
        assert_eq!(asked(&gateway, &m, &headers).await.said(), said, "{headers:?}");
    }
    let reply = asked(&gateway, &m, &[("x-tollgate-tier", "golden")]).await;
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("x-tollgate-tier")));
    let careful = question("careful");
    assert_eq!(asked(&gateway, &careful, &[]).await.said(), "quick");
    let reply = asked(&gateway, &careful, &[("x-tollgate-data-class", "pii")]).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (503, &json!("no_target")));
    let message = reply.json()["error"]["message"].to_string();
    assert!(message.contains("has not the label vendor: ours"), "{message}");
}

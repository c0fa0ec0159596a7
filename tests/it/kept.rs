//! Batches and conversations: kept by their provider, created, read and ended through the gateway.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::acts;
use crate::anthropic;
use crate::client::{self, Reply, get, post};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::{Act, Heard, Upstream};

/// OpenAI, as far as it keeps something; every answer tells of usage, as batches that are done do.
fn openai(heard: &Heard) -> Vec<Act> {
    if heard.path.contains("missing") {
        return acts::error(404, "no such batch");
    }
    let usage = json!({"input_tokens": 500, "output_tokens": 100, "total_tokens": 600});
    acts::whole(200, &json!({"id": "batch_1", "path": heard.path, "method": heard.method, "usage": usage}))
}

/// Anthropic, with one batch whose results are there, and one under way.
fn claude(heard: &Heard) -> Vec<Act> {
    let ended = json!({"id": "msgbatch_1", "type": "message_batch", "processing_status": "ended",
        "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"});
    if heard.path.ends_with("/results") {
        let line = json!({"custom_id": "a", "result": {"type": "succeeded", "message": {"usage": {"input_tokens": 9}}}});
        return acts::answer(200, &[("content-type", "application/x-jsonl")], format!("{line}\n"));
    }
    match heard.method.as_str() {
        "POST" => acts::whole(200, &json!({"id": "msgbatch_2", "results_url": null})),
        _ if heard.path.contains("msgbatch_1") => acts::whole(200, &ended),
        _ => acts::whole(200, &json!({"data": [ended], "has_more": false})),
    }
}

async fn send(gateway: &Gateway, method: Method, path: &str) -> Reply {
    let request = Request::builder().method(method).uri(path).header("anthropic-version", "2023-06-01");
    client::open(gateway.clients, request.body(bytes::Bytes::new()).unwrap()).await.unwrap().rest().await
}

fn create() -> Value {
    json!({"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"})
}

#[tokio::test]
async fn openais_batches_and_conversations_go_to_who_keeps_them() {
    let upstream = Upstream::start(openai);
    let url = upstream.url();
    let gateway = gateway::start(&format!(
        "providers:\n  up: {{ preset: openai, base_url: \"{url}\", keys: [ env:TEST_KEY ] }}\n  \
         sandbox: {{ dialect: sandbox }}\n"
    ));
    let made = post(gateway.clients, "/v1/batches", &create()).await;
    assert_eq!((made.status, made.json()["id"].clone()), (200, json!("batch_1")), "{made:#?}");
    let heard = upstream.heard().pop().unwrap();
    assert_eq!((heard.path.as_str(), heard.json()), ("/v1/batches", create()));
    let record = gateway.record(made.header("x-request-id")).await;
    assert_eq!(record["facts"]["endpoint"], "batches");
    for (method, path, expected) in [
        (Method::GET, "/v1/batches?limit=2&provider=up", "/v1/batches?limit=2"),
        (Method::GET, "/v1/batches/batch_1", "/v1/batches/batch_1"),
        (Method::POST, "/v1/batches/batch_1/cancel", "/v1/batches/batch_1/cancel"),
        (Method::POST, "/v1/conversations", "/v1/conversations"),
        (Method::GET, "/v1/conversations/conv_1/items?limit=3", "/v1/conversations/conv_1/items?limit=3"),
        (Method::DELETE, "/v1/conversations/conv_1/items/msg_1", "/v1/conversations/conv_1/items/msg_1"),
        (Method::DELETE, "/v1/conversations/conv_1", "/v1/conversations/conv_1"),
    ] {
        let reply = send(&gateway, method.clone(), path).await;
        let said = reply.json();
        assert_eq!((&said["path"], &said["method"]), (&json!(expected), &json!(method.as_str())), "{path}");
        // However often a batch tells what it used, nobody is charged for asking.
        let record = gateway.record(reply.header("x-request-id")).await;
        assert!(path.contains("conversations") || record["usage"].is_null(), "{record:#}");
    }
    let missing = send(&gateway, Method::GET, "/v1/batches/missing").await;
    assert_eq!((missing.status, &missing.error()["message"]), (404, &json!("no such batch")));
    let none = send(&gateway, Method::GET, "/v1/messages/batches").await;
    assert_eq!((none.status, &none.json()["type"]), (404, &json!("error")), "in Anthropic's form: {none:#?}");
}

#[tokio::test]
async fn results_of_anthropics_batches_are_found_through_the_gateway() {
    let upstream = Upstream::start(claude);
    let gateway = gateway::start(&format!("providers:\n{}", anthropic::provider("claude", &upstream.url())));
    let ask = json!({"requests": [{"custom_id": "a", "params": {"model": "claude-x", "max_tokens": 5, "messages": []}}]});
    let made = post(gateway.clients, "/v1/messages/batches", &ask).await;
    assert_eq!((made.status, made.json()["results_url"].clone()), (200, Value::Null), "{made:#?}");
    assert_eq!(upstream.heard().pop().unwrap().path, "/v1/messages/batches");
    let one = send(&gateway, Method::GET, "/v1/messages/batches/msgbatch_1").await.json();
    let place = "/v1/messages/batches/msgbatch_1/results";
    assert_eq!((&one["results_url"], &one["processing_status"]), (&json!(place), &json!("ended")));
    let list = send(&gateway, Method::GET, "/v1/messages/batches").await.json();
    assert_eq!(list["data"][0]["results_url"], place);
    let results = send(&gateway, Method::GET, place).await;
    assert!(results.status == 200 && results.text().contains("succeeded"), "{results:#?}");
    assert_eq!(results.header("content-type"), "application/x-jsonl");
}

#[tokio::test]
async fn a_batch_is_not_begun_where_dollars_count_and_nobody_knows_how_many() {
    let upstream = Upstream::start(openai);
    let gateway = gateway::start(&format!(
        "state: {{ ledger: sqlite:./data/tollgate.db }}\nproviders:\n{}budgets: [ {{ name: all, dollars: 5, per: day }} ]\n",
        provider("up", &upstream.url())
    ));
    let refused = post(gateway.clients, "/v1/batches", &create()).await;
    assert_eq!((refused.status, &refused.error()["code"]), (402, &json!("price_unknown")), "{refused:#?}");
    assert!(upstream.heard().is_empty());
    assert_eq!(get(gateway.clients, "/v1/batches/batch_1").await.status, 200);
}

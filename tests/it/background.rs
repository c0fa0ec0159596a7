//! What is paid for later, or not at all: answers that are made in the background, and looks at what was asked for before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::client::{self, Reply, post};
use crate::gateway::{self, Gateway};
use crate::money::{lines, purse, rows};
use crate::upstream::{Act, Heard, Upstream};
use crate::{acts, upstream};

/// A response that was asked for in the background, as far as it has come.
pub fn response(id: &str, status: &str) -> Value {
    let done = status == "completed";
    json!({
        "id": id, "object": "response", "created_at": 1_700_000_000, "status": status, "error": null,
        "incomplete_details": null, "model": "m", "store": true, "background": true,
        "output": if done { json!([{ "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
            "content": [{ "type": "output_text", "text": "Hello", "annotations": [] }] }]) } else { json!([]) },
        "usage": if done { json!({ "input_tokens": 4, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": 2, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 6 }) } else { Value::Null },
    })
}

/// Answers `resp_1`, `resp_2` … in the background; they are there when somebody looks. Streams of them stop after a word.
pub fn provider() -> Upstream {
    let made = AtomicUsize::new(0);
    Upstream::start(move |heard| {
        let id = heard.path.split('/').nth(3).unwrap_or_default();
        match (heard.method.as_str(), id) {
            ("GET", "batch_1") => acts::whole(200, &batch("completed")),
            ("POST", "") if heard.path.ends_with("/batches") => acts::whole(200, &batch("validating")),
            ("GET", id) => acts::whole(200, &response(id, "completed")),
            ("DELETE", id) => acts::whole(200, &json!({ "id": id, "object": "response", "deleted": true })),
            _ => begun(heard, &format!("resp_{}", made.fetch_add(1, Ordering::Relaxed) + 1)),
        }
    })
}

fn begun(heard: &Heard, id: &str) -> Vec<Act> {
    if !heard.is_stream() {
        return acts::whole(200, &response(id, "queued"));
    }
    let event = |kind: &str, number: u64, more: Value| {
        let mut data = json!({ "type": kind, "sequence_number": number });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("event: {kind}\ndata: {data}\n\n")
    };
    let word = json!({ "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "Hello" });
    let text = [
        event("response.created", 0, json!({ "response": response(id, "queued") })),
        event("response.output_text.delta", 1, word),
    ];
    let mut acts = acts::stream_open(&text.concat(), 40);
    acts.push(upstream::Act::Hang);
    acts
}

/// A batch of OpenAI's.
fn batch(status: &str) -> Value {
    let usage = json!({ "input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100 });
    json!({ "id": "batch_1", "object": "batch", "status": status, "model": "m",
        "usage": if status == "completed" { usage } else { Value::Null } })
}

/// With a price of a thousandth of a dollar for each token, and of a hundredth for each request.
fn house(up: &Upstream, more: &str) -> Gateway {
    gateway::start(&format!(
        "state: {{ ledger: sqlite:./data/tollgate.db }}\n\
         providers:\n  a: {{ preset: openai, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n\
         prices: {{ models: {{ \"a/*\": {{ price: {{ input: 1000, output: 1000, request: 0.01 }} }} }} }}\n{more}",
        up.url()
    ))
}

async fn ask(gateway: &Gateway) -> Reply {
    let body = json!({ "model": "a/m", "input": "one", "background": true, "max_output_tokens": 16 });
    post(gateway.clients, "/v1/responses", &body).await
}

async fn look(gateway: &Gateway, method: Method, path: &str) -> Reply {
    client::open(gateway.clients, client::request(method, path, "")).await.unwrap().rest().await
}

const PAID: u64 = 6_000_000 + 10_000_000;

#[tokio::test]
async fn an_answer_in_the_background_is_held_until_it_is_read_and_no_look_is_a_request() {
    let up = provider();
    let gateway = house(&up, "budgets:\n  - { name: all, dollars: 0.5, per: total }\n");
    let first = ask(&gateway).await;
    assert_eq!((first.status, first.headers.get("x-tollgate-cost-usd")), (200, None), "{first:#?}");
    assert_eq!(ask(&gateway).await.status, 200);
    let (used, held) = purse(&gateway).await;
    assert!(used == 0 && held > 300_000_000, "{used} {held}");
    let third = ask(&gateway).await;
    assert_eq!(third.status, 429, "what is held for others leaves nothing: {third:#?}");
    for cost in ["0.016", "0", "0"] {
        let reply = look(&gateway, Method::GET, "/v1/responses/resp_1").await;
        assert_eq!((reply.status, reply.header("x-tollgate-cost-usd")), (200, cost), "{reply:#?}");
    }
    assert_eq!(purse(&gateway).await.0, PAID);
    // Who takes it away will never read it: it is estimated.
    assert_eq!(look(&gateway, Method::DELETE, "/v1/responses/resp_2").await.status, 200);
    let rows = rows(&gateway).await;
    let of = |state: &str, outcome: &str| {
        let such = |row: &&Value| row["state"] == state && row["outcome"] == outcome;
        rows.iter().filter(such).map(|row| row["cost"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of("settled", "ok"), [PAID, 0, 0, 0, 0], "{rows:#?}");
    let unread = of("estimated", "unread");
    assert!(unread.len() == 1 && unread[0] > 26_000_000, "{rows:#?}");
    assert_eq!(purse(&gateway).await, (PAID + unread[0], 0));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_in_time_is_estimated_and_one_under_way_at_the_end_too() {
    let up = provider();
    let mut gateway =
        house(&up, "responses: { keep: 1s }\nbudgets:\n  - { name: all, dollars: 9, per: total }\n");
    assert_eq!(ask(&gateway).await.status, 200);
    assert_eq!(lines(&gateway, "").await[0]["state"], "open");
    let all = rows(&gateway).await;
    assert_eq!((all.len(), &all[0]["state"], &all[0]["outcome"]), (1, &json!("estimated"), &json!("unread")));
    let cost = all[0]["cost"].as_u64().unwrap();
    assert_eq!(purse(&gateway).await, (cost, 0));
    assert_eq!(ask(&gateway).await.status, 200);
    gateway.terminate();
    assert!(gateway.ended(Duration::from_secs(20)).is_some());
    let gateway = gateway.start_again();
    let all = rows(&gateway).await;
    assert_eq!(
        (all.len(), &all[1]["outcome"], &all[1]["cost"]),
        (2, &json!("unread"), &json!(cost)),
        "{all:#?}"
    );
}

#[tokio::test]
async fn a_stream_in_the_background_that_its_client_leaves_is_read_later_and_paid_for_once() {
    let up = provider();
    let gateway = house(&up, "budgets:\n  - { name: all, dollars: 9, per: total }\n");
    let body = json!({ "model": "a/m", "input": "one", "background": true, "stream": true, "max_output_tokens": 16 });
    let request = client::request(Method::POST, "/v1/responses", &body.to_string());
    let mut live = client::open(gateway.clients, request).await.unwrap();
    live.until("Hello").await;
    drop(live);
    client::eventually_async("the access log to tell the end", async || {
        gateway.access().iter().any(|line| line["status"] == 499).then_some(())
    })
    .await;
    let (used, held) = purse(&gateway).await;
    assert!(used == 0 && held > 0, "{used} {held}");
    for cost in ["0.016", "0"] {
        let reply = look(&gateway, Method::GET, "/v1/responses/resp_1").await;
        assert_eq!((reply.status, reply.header("x-tollgate-cost-usd")), (200, cost), "{reply:#?}");
    }
    assert_eq!(rows(&gateway).await.len(), 3);
    assert_eq!(purse(&gateway).await, (PAID, 0));
}

/// Answers in the background, though it keeps nothing for good; streams `resp_1` from where it is asked to.
fn forgetful() -> Upstream {
    Upstream::start(move |heard| {
        let said = |status: &str| {
            let mut response = response("resp_1", status);
            response["store"] = false.into();
            response
        };
        let Some((_, query)) = heard.path.split_once('?') else {
            return acts::whole(200, &said(if heard.method == "POST" { "queued" } else { "completed" }));
        };
        let after = query.split_once("starting_after=").map_or(-1, |(_, after)| after.parse().unwrap());
        let events = [
            json!({ "type": "response.created", "response": said("queued"), "sequence_number": 0 }),
            json!({ "type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hello",
                "item_id": "msg_1", "sequence_number": 1 }),
            json!({ "type": "response.completed", "response": said("completed"), "sequence_number": 2 }),
        ];
        let wanted = events.iter().filter(|event| event["sequence_number"].as_i64() > Some(after));
        let text: String = wanted
            .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))
            .collect();
        acts::stream(&text, 40)
    })
}

#[tokio::test]
async fn what_is_made_in_the_background_is_found_though_nothing_is_kept_for_good() {
    for stored in [true, false] {
        let up = forgetful();
        let gateway = house(&up, "");
        let body = json!({ "model": "a/m", "input": "one", "background": true, "store": stored });
        let queued = post(gateway.clients, "/v1/responses", &body).await;
        assert_eq!(queued.json()["status"], "queued", "{queued:#?}");
        for _ in 0..2 {
            let reply = look(&gateway, Method::GET, "/v1/responses/resp_1").await;
            assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("completed")), "{stored}");
        }
    }
}

#[tokio::test]
async fn an_answer_in_the_background_is_streamed_from_where_the_client_was_and_paid_for_once() {
    let up = forgetful();
    let gateway = house(&up, "budgets:\n  - { name: all, dollars: 9, per: total }\n");
    assert_eq!(ask(&gateway).await.status, 200);
    for (query, events) in [("stream=true", 3), ("stream=true&starting_after=1", 1), ("stream=true", 3)] {
        let reply = look(&gateway, Method::GET, &format!("/v1/responses/resp_1?{query}")).await;
        assert_eq!(reply.status, 200, "{reply:#?}");
        assert_eq!(reply.header("content-type"), "text/event-stream; charset=utf-8");
        let text = reply.text();
        assert_eq!(text.matches("event: response.").count(), events, "{text}");
        assert!(text.ends_with("\n\n") && !text.contains("[DONE]"), "{text}");
        assert!(up.heard().pop().unwrap().path.ends_with(&format!("/responses/resp_1?{query}")));
    }
    let rows = rows(&gateway).await;
    let costs: Vec<_> = rows.iter().map(|row| row["cost"].as_u64().unwrap()).collect();
    assert_eq!(costs, [PAID, 0, 0, 0], "{rows:#?}");
    assert_eq!(purse(&gateway).await, (PAID, 0));
    // Seen to its end, it is here.
    let heard = up.heard().len();
    assert_eq!(look(&gateway, Method::GET, "/v1/responses/resp_1").await.json()["status"], "completed");
    assert_eq!(up.heard().len(), heard);
}

#[tokio::test]
async fn looks_through_the_passthrough_cost_nothing_whatever_they_tell() {
    let up = provider();
    let gateway = house(&up, "budgets:\n  - { name: all, dollars: 1, per: total }\n");
    for (method, path) in [
        (Method::GET, "/passthrough/a/v1/responses/resp_1"),
        (Method::GET, "/passthrough/a/v1/responses/resp_1"),
        (Method::GET, "/passthrough/a/v1/batches/batch_1"),
        (Method::GET, "/v1/batches/batch_1"),
        (Method::DELETE, "/passthrough/a/v1/responses/resp_1"),
    ] {
        let reply = look(&gateway, method, path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:#?}");
    }
    for row in rows(&gateway).await {
        assert_eq!(row["state"], "settled");
        for name in ["cost", "input", "output", "reserved", "estimate"] {
            assert_eq!(row[name], 0, "{name}: {row:#}");
        }
    }
    assert_eq!(purse(&gateway).await, (0, 0));
}

#[tokio::test]
async fn a_batch_is_paid_for_once_by_who_asked_for_it() {
    let up = provider();
    let gateway = house(&up, "budgets:\n  - { name: all, dollars: 90, per: total }\n");
    let asked =
        json!({ "input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h" });
    let made = post(gateway.clients, "/v1/batches", &asked).await;
    assert_eq!(made.status, 200, "{made:#?}");
    assert_eq!(lines(&gateway, "").await[0]["state"], "open");
    for path in ["/v1/batches/batch_1", "/passthrough/a/v1/batches/batch_1", "/v1/batches/batch_1"] {
        assert_eq!(look(&gateway, Method::GET, path).await.json()["status"], "completed");
    }
    let rows = rows(&gateway).await;
    let costs: Vec<_> =
        rows.iter().map(|row| (row["tier"].as_str().unwrap(), row["cost"].as_u64())).collect();
    let nothing = ("standard", Some(0));
    assert_eq!(costs, [("batch", Some(1_110_000_000)), nothing, nothing, nothing], "{rows:#?}");
    assert_eq!((&rows[0]["input"], &rows[0]["output"]), (&json!(1_000), &json!(100)));
    assert_eq!(purse(&gateway).await, (1_110_000_000, 0));
}

/// Anthropic with a batch: three results of two models, one without an answer.
fn anthropics(heard: &Heard) -> Vec<Act> {
    let batch = |status: &str, succeeded: u64| {
        json!({ "id": "msgbatch_1", "type": "message_batch", "processing_status": status, "results_url": null,
            "request_counts": { "processing": 0, "succeeded": succeeded, "errored": 1 } })
    };
    let line = |id: &str, model: &str, input: u64| {
        let usage = json!({ "input_tokens": input, "output_tokens": 10, "service_tier": "batch" });
        let message = json!({ "type": "message", "model": model, "content": [], "usage": usage });
        json!({ "custom_id": id, "result": { "type": "succeeded", "message": message } }).to_string()
    };
    let failed = json!({ "custom_id": "c", "result": { "type": "errored", "error": { "type": "error" } } });
    match (heard.method.as_str(), &*heard.path) {
        ("GET", path) if path.ends_with("msgbatch_2") => {
            let mut none = batch("ended", 0);
            none["id"] = "msgbatch_2".into();
            acts::whole(200, &none)
        }
        ("GET", path) if path.ends_with("/results") => {
            let lines = format!("{}\n{failed}\n{}\n", line("a", "m", 100), line("b", "other", 200));
            acts::answer(200, &[("content-type", "application/x-jsonl")], lines)
        }
        ("GET", _) => acts::whole(200, &batch("ended", 2)),
        _ => {
            let mut made = batch("in_progress", 0);
            let second = String::from_utf8_lossy(&heard.body).contains("second");
            made["id"] = if second { "msgbatch_2" } else { "msgbatch_1" }.into();
            acts::whole(200, &made)
        }
    }
}

#[tokio::test]
async fn a_batch_of_anthropics_is_paid_for_once_when_its_results_are_read() {
    let up = Upstream::start(anthropics);
    let gateway = gateway::start(&format!(
        "state: {{ ledger: sqlite:./data/tollgate.db }}\n\
         providers:\n  a: {{ preset: anthropic, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n\
         prices: {{ models: {{ \"a/*\": {{ price: {{ input: 1000, output: 1000 }} }} }} }}\n\
         budgets:\n  - {{ name: all, dollars: 90, per: total }}\n",
        up.url()
    ));
    for word in ["first", "second"] {
        let params =
            json!({ "model": "m", "max_tokens": 5, "messages": [{ "role": "user", "content": word }] });
        let asked = json!({ "requests": [{ "custom_id": "a", "params": params }] });
        assert_eq!(post(gateway.clients, "/v1/messages/batches", &asked).await.status, 200);
    }
    let batches = "/v1/messages/batches";
    let end = look(&gateway, Method::GET, &format!("{batches}/msgbatch_1")).await;
    assert_eq!(end.json()["processing_status"], "ended");
    assert_eq!(lines(&gateway, "").await[0]["state"], "open", "its results are still to be read");
    for path in ["/v1/messages/batches", "/passthrough/a/v1/messages/batches", "/v1/messages/batches"] {
        let results = look(&gateway, Method::GET, &format!("{path}/msgbatch_1/results")).await;
        assert_eq!(results.text().lines().count(), 3, "{results:#?}");
    }
    assert_eq!(look(&gateway, Method::GET, &format!("{batches}/msgbatch_2")).await.status, 200);
    let rows = rows(&gateway).await;
    let costs: Vec<_> = rows.iter().map(|row| row["cost"].as_u64().unwrap()).collect();
    assert_eq!(costs, [320_000_000, 0, 0, 0, 0, 0, 0], "{rows:#?}");
    assert_eq!((&rows[0]["input"], &rows[0]["output"]), (&json!(300), &json!(20)));
    assert_eq!((&rows[0]["tier"], &rows[1]["state"]), (&json!("batch"), &json!("settled")));
    assert_eq!(purse(&gateway).await, (320_000_000, 0));
}

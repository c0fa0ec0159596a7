//! Tokens through the real binary: counted here where the target cannot, estimated with a price, learned from answers.

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, chat};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Upstream};

const TEXT: &str = "You are a helpful assistant that can answer to questions about the weather.";

fn config(up: &Upstream, more: &str) -> String {
    let url = up.url();
    format!(
        "providers:\n  openai: {{ base_url: \"{url}\", keys: [ env:TEST_KEY ], models: [ gpt-4o, gpt-4o-mini ] }}\n\
         \x20 house: {{ dialect: openai, base_url: \"{url}\", keys: [ env:TEST_KEY ], models: [ llm ] }}\n\
         models:\n  smart: {{ targets: [ {{ to: openai/gpt-4o, quality: 0.9 }}, {{ to: openai/gpt-4o-mini, quality: 0.4 }} ] }}\n\
         prices: {{ models: {{ \"house/*\": {{ price: {{ input: 2.5, output: 10 }}, max_output: 100 }} }} }}\n{more}"
    )
}

/// A provider that counts five tokens where others count one, and cuts streams.
fn provider() -> Upstream {
    Upstream::start(|heard| {
        if heard.is_stream() {
            let mut acts =
                acts::stream_open(&acts::events(&["some words of an answer that ends too soon"]), usize::MAX);
            acts.push(Act::Close);
            return acts;
        }
        let bytes = heard.json()["messages"].to_string().len();
        let mut answer = acts::completion("hi");
        answer["usage"] =
            json!({ "prompt_tokens": bytes, "completion_tokens": 3, "total_tokens": bytes + 3 });
        acts::whole(200, &answer)
    })
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> Reply {
    client::post(gateway.clients, path, body).await
}

async fn admin(gateway: &Gateway, method: Method, path: &str, body: &str) -> Value {
    client::open(gateway.admin, client::request(method, path, body)).await.unwrap().rest().await.json()
}

#[tokio::test]
async fn prompts_are_counted_here_where_the_target_cannot() {
    let up = provider();
    let gateway = gateway::start(&config(&up, ""));
    let claude = |model: &str| json!({ "model": model, "system": TEXT, "messages": [{ "role": "user", "content": "hello world" }] });
    // 3 + 3 for the system prompt's 15 and the user's 2, each with its role, and 3 for the answer.
    let exact = post(&gateway, "/v1/messages/count_tokens", &claude("openai/gpt-4o")).await;
    assert_eq!((exact.status, &exact.json()), (200, &json!({ "input_tokens": 27 })), "{}", exact.text());
    assert!(!exact.headers.contains_key("x-tollgate-warnings"), "{exact:#?}");
    let about = post(&gateway, "/v1/messages/count_tokens", &claude("house/llm")).await;
    assert!((20..40).contains(&about.json()["input_tokens"].as_u64().unwrap()), "{}", about.text());
    assert!(about.header("x-tollgate-warnings").contains("estimated"), "{about:#?}");
    let gemini = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello world" }] }] });
    let gemini = post(&gateway, "/v1beta/models/openai/gpt-4o:countTokens", &gemini).await;
    assert_eq!(gemini.json(), json!({ "totalTokens": 9 }), "{}", gemini.text());
    let responses = json!({ "model": "house/gpt-4", "input": "hello world" });
    let responses = post(&gateway, "/v1/responses/input_tokens", &responses).await;
    assert_eq!(responses.json()["input_tokens"], 9, "{}", responses.text());
    assert!(up.heard().is_empty(), "nobody else was asked");
}

#[tokio::test]
async fn openai_counts_what_is_asked_for_in_its_own_words() {
    let up = Upstream::start(|heard| match &*heard.path {
        "/v1/responses/input_tokens" => {
            acts::whole(200, &json!({ "object": "response.input_tokens", "input_tokens": 51 }))
        }
        _ => acts::error(404, "no such path"),
    });
    let gateway = gateway::start(&config(&up, ""));
    let asked = json!({ "model": "openai/gpt-4o", "input": [{ "role": "user", "content": "hello" }], "truncation": "auto",
        "tools": [{ "type": "web_search" }] });
    let reply = post(&gateway, "/v1/responses/input_tokens", &asked).await;
    assert_eq!((reply.status, &reply.json()["input_tokens"]), (200, &json!(51)), "{}", reply.text());
    assert!(!reply.headers.contains_key("x-tollgate-warnings"), "{reply:#?}");
    let mut sent = up.heard().pop().unwrap().json();
    sent["model"] = asked["model"].clone();
    assert_eq!(sent, asked, "as the client wrote it");
}

#[tokio::test]
async fn estimates_name_the_cheapest_that_keeps_its_bounds() {
    let up = provider();
    let gateway = gateway::start(&config(&up, ""));
    let wanted = json!({
        "models": ["smart", "house/llm"], "messages": [{ "role": "user", "content": "hello world" }],
        "output_tokens": 300, "requests": 1000,
    });
    let reply = post(&gateway, "/v1/estimate", &wanted).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let estimate = reply.json();
    let ids: Vec<&str> =
        estimate["targets"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["openai/gpt-4o-mini", "house/llm", "openai/gpt-4o"], "{estimate:#}");
    assert_eq!(estimate["cheapest"], "openai/gpt-4o-mini");
    let gpt = &estimate["targets"][2];
    assert_eq!((gpt["input_tokens"].as_u64(), &gpt["counted"]["exact"]), (Some(9), &json!(true)));
    // 9 × 2.5 + 300 × 10, in millionths.
    assert_eq!((gpt["cost_usd"].as_f64(), gpt["total_usd"].as_f64()), (Some(0.003_022_5), Some(3.022_5)));
    assert_eq!(estimate["targets"][1]["output_tokens"], 100, "no more than the model can");
    let mut five = wanted.clone();
    five["requests"] = json!(5);
    let all = post(&gateway, "/v1/estimate", &five).await.json()["targets"][2]["total_usd"].as_f64();
    assert_eq!(all, Some(0.015_112_5), "to the nano-dollar");

    // Nothing was measured, so nobody keeps a bound; then one does.
    let mut bounded = wanted.clone();
    bounded["within"] = json!({ "latency_ms": 60000, "quality": 0.5 });
    let nobody = post(&gateway, "/v1/estimate", &bounded).await.json();
    assert!(
        nobody["cheapest"].is_null() && nobody["targets"].to_string().contains("nothing was measured yet"),
        "{nobody:#}"
    );
    for _ in 0..3 {
        let body = json!({ "model": "openai/gpt-4o", "messages": [{ "role": "user", "content": "hi" }] });
        assert_eq!(chat(gateway.clients, &body).await.status, 200);
    }
    client::eventually_async("a measurement", async || {
        let told = post(&gateway, "/v1/estimate", &bounded).await.json();
        (told["cheapest"] == "openai/gpt-4o").then_some(())
    })
    .await;
    bounded["within"] = json!({ "latency_ms": 0.001 });
    let slow = post(&gateway, "/v1/estimate", &bounded).await.json();
    assert!(slow["cheapest"].is_null() && slow.to_string().contains("not 0 ms"), "{slow:#}");

    let same = admin(&gateway, Method::POST, "/admin/v1/estimate", &wanted.to_string()).await;
    assert_eq!(same["cheapest"], "openai/gpt-4o-mini");
}

#[tokio::test]
async fn estimates_say_what_is_wrong_with_the_question() {
    let up = provider();
    let gateway = gateway::start(&config(&up, ""));
    for (body, status, told) in [
        (json!({ "models": ["nobody"], "prompt": "hi" }), 404, "nobody"),
        (json!({ "prompt": "hi" }), 400, "models"),
        (json!({ "models": ["smart"] }), 400, "prompt"),
        (json!({ "models": ["smart"], "prompt": "hi", "input_tokens": 3 }), 400, "one of"),
        (json!({ "models": ["smart"], "prompt": "hi", "tier": "gold" }), 400, "tier"),
        (json!({ "models": ["smart"], "prompt": "hi", "within": { "quality": 7 } }), 400, "within.quality"),
        (json!({ "models": ["smart"], "prompt": "hi", "colour": 1 }), 400, "colour"),
        (json!({ "models": ["smart"], "messages": [] }), 400, "messages"),
        (json!({ "models": ["smart"], "input_tokens": u64::MAX }), 400, "input_tokens"),
        (json!([1]), 400, "object"),
    ] {
        let reply = post(&gateway, "/v1/estimate", &body).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        assert!(reply.error().to_string().contains(told), "{body}: {}", reply.text());
    }
    let vast = json!({ "models": ["smart"], "input_tokens": 900_000_000, "output_tokens": 9, "requests": 1_000_000 });
    let vast = post(&gateway, "/v1/estimate", &vast).await.json();
    assert!(vast["cheapest"].is_null() && vast.to_string().contains("context window"), "{vast:#}");
    let get = client::get(gateway.clients, "/v1/estimate").await;
    assert_eq!(get.status, 405);
}

#[tokio::test]
async fn a_budget_that_is_nearly_empty_bears_what_was_counted() {
    let up = provider();
    let budget = "budgets:\n  - { name: small, dollars: 0.006, per: month }\n";
    let gateway = gateway::start(&config(&up, budget));
    let ask = |model: &str| json!({ "model": model, "max_tokens": 50, "messages": [{ "role": "user", "content": "good morning ".repeat(300) }] });
    // 3,900 bytes would be more than the budget; 601 tokens are not.
    let reply = chat(gateway.clients, &ask("house/llm")).await;
    assert_eq!(reply.status, 402, "nobody can count for it: {}", reply.text());
    let reply = chat(gateway.clients, &ask("openai/gpt-4o")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn what_targets_report_is_learned() {
    let up = provider();
    let gateway = gateway::start(&config(&up, "state: { ledger: sqlite:./data/tollgate.db }\n"));
    let ask = |stream: bool| {
        json!({ "model": "house/llm", "max_tokens": 50, "stream": stream,
            "messages": [{ "role": "user", "content": "good morning ".repeat(100) }] })
    };
    for _ in 0..30 {
        assert_eq!(chat(gateway.clients, &ask(false)).await.status, 200);
    }
    let learned = admin(&gateway, Method::GET, "/admin/v1/tokens", "").await;
    let house = &learned["tokens"][0];
    assert_eq!((&house["target"], &house["reports"]), (&json!("house/llm"), &json!(30)), "{learned}");
    let ratio = house["prompt"].as_f64().unwrap();
    assert!((3.5..4.1).contains(&ratio), "every byte is a token: {learned}");
    // A stream that breaks off is charged by that.
    let _ = chat(gateway.clients, &ask(true)).await;
    let row = client::eventually_async("the row", async || {
        let lines = client::get(gateway.admin, "/admin/v1/usage?format=jsonl").await.text();
        let rows: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        rows.into_iter().find(|row| row["state"] == "estimated")
    })
    .await;
    let input = row["input"].as_u64().unwrap();
    assert!((1_150..1_400).contains(&input), "1,340 bytes: {row}");
    assert!((7..20).contains(&row["output"].as_u64().unwrap()), "{row}");
}

#[test]
fn the_command_reckons_without_a_gateway() {
    let setup = gateway::setup(
        "providers:\n  openai: { keys: [ env:NOT_SET ], models: [ gpt-4o, gpt-4o-mini ] }\n\
         models:\n  smart: { targets: [ openai/gpt-4o, openai/gpt-4o-mini ] }\n",
    );
    let told = setup.run(&["estimate", "smart", "--text", "hello world", "--requests", "1000"]);
    assert_eq!(told.code, Some(0), "{told:#?}");
    let first = told.out.lines().nth(1).unwrap_or_default().to_owned();
    assert!(first.starts_with("openai/gpt-4o-mini") && first.ends_with("cheapest"), "{told:#?}");
    let told = setup.run(&[
        "estimate",
        "openai/gpt-4o",
        "--input-tokens",
        "1000000",
        "--output-tokens",
        "0",
        "--json",
    ]);
    assert_eq!(told.code, Some(0), "{told:#?}");
    assert!(told.out.contains("\"cost_usd\": 2.5"), "{told:#?}");
    for wrong in [
        &["estimate", "smart"][..],
        &["estimate", "nobody", "--text", "x"],
        &["estimate", "smart", "--prompt", "gone.json"],
    ] {
        let told = setup.run(wrong);
        assert!(told.code != Some(0) && !told.err.is_empty(), "{wrong:?}: {told:#?}");
    }
}

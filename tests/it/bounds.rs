//! Bounds that hold however a request is written: many answers in one, many prompts in one, raw bytes, versions of a model.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, ask, chat, get, post};
use crate::gateway::{self, Gateway, provider};
use crate::keys::{chat_as, key, send};
use crate::upstream::Upstream;

/// A provider of every operation in these stories.
fn upstream() -> Upstream {
    Upstream::start(|heard| match heard.path.rsplit('/').next().unwrap_or_default() {
        "embeddings" => acts::after(
            Duration::from_millis(300),
            acts::whole(
                200,
                &json!({"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
                    "usage": {"prompt_tokens": 2, "total_tokens": 2}}),
            ),
        ),
        "completions" if !heard.path.contains("chat") => acts::whole(
            200,
            &json!({"id": "c", "object": "text_completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "text": "hi", "finish_reason": "stop", "logprobs": null}],
                "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}}),
        ),
        "responses" => acts::whole(
            200,
            &json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m", "created_at": 1,
                "output": [{"type": "message", "id": "m1", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": "hi", "annotations": []}]}],
                "usage": {"input_tokens": 2, "output_tokens": 1, "total_tokens": 3}}),
        ),
        _ => acts::says(if heard.model() == "long" { &LONG } else { "hi" }),
    })
}

static LONG: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| "word ".repeat(4_000));

fn providers(upstream: &Upstream) -> String {
    let url = upstream.url();
    format!(
        "providers:\n{}  openai: {{ base_url: \"{url}\", keys: [ env:TEST_KEY ] }}\n",
        provider("up", &url)
    )
}

/// A question with so many tokens for each of so many answers.
fn many(model: &str, answers: u64, tokens: u64) -> Value {
    let mut question = ask(model);
    (question["n"], question["max_tokens"]) = (answers.into(), tokens.into());
    question
}

fn prompts(count: usize, tokens: u64) -> Value {
    json!({"model": "openai/gpt-3.5-turbo-instruct", "prompt": vec!["x"; count], "max_tokens": tokens})
}

#[tokio::test]
async fn a_raw_request_is_for_one_model_whether_path_or_body_names_it() {
    let upstream = upstream();
    let config = "auth: keys\nkeys: { lite: { secret: env:LITE_KEY, scope: { models: [ up/cheap ] } } }\n";
    let setup = gateway::setup(&format!("{}{config}", providers(&upstream)));
    let gateway = setup.env("LITE_KEY", &key("LITE")).start();
    let bearer = format!("Bearer {}", key("LITE"));
    let plain = [("authorization", &*bearer)];
    let original =
        [("authorization", &*bearer), ("x-provider-original", "true"), ("x-tollgate-provider", "up")];
    let renamed = [("authorization", &*bearer), ("x-provider-original", "true")];
    let cheap = json!({"model": "cheap", "messages": []});
    let aliased = json!({"model": "up/cheap", "contents": []});
    for (path, headers, body, status, code) in [
        ("/passthrough/up/deployments/dear/chat/completions", &plain[..], &cheap, 400, "model_mismatch"),
        ("/passthrough/up/Deployments/dear/chat/completions", &plain, &cheap, 400, "model_mismatch"),
        ("/passthrough/up/models/dear:generateContent", &plain, &cheap, 400, "model_mismatch"),
        ("/passthrough/up/model/dear/converse", &plain, &cheap, 400, "model_mismatch"),
        ("/passthrough/up/deployments/dear/chat/completions", &plain, &json!({}), 403, "key_scope"),
        ("/passthrough/up/deployments/cheap/chat/completions", &plain, &cheap, 200, ""),
        ("/passthrough/up/models/cheap:embedContent", &plain, &json!({"model": "models/cheap"}), 200, ""),
        ("/passthrough/up/chat/completions", &plain, &cheap, 200, ""),
        ("/v1beta/models/dear:generateContent", &original, &cheap, 400, ""),
        ("/v1beta/models/up/dear:generateContent", &renamed, &aliased, 400, ""),
    ] {
        let reply = send(gateway.clients, Method::POST, path, headers, &body.to_string()).await;
        assert_eq!(reply.status, status, "{path}: {reply:#?}");
        assert!(code.is_empty() || reply.error()["code"] == code, "{path}: {reply:#?}");
    }
    assert_eq!(upstream.heard().len(), 3);
}

#[tokio::test]
async fn what_one_request_may_cost_holds_for_all_its_answers_and_for_raw_bytes() {
    let upstream = upstream();
    let config = "prices:\n  models:\n    up/m: { price: { input: 1, output: 10 }, max_output: 1000 }\n    \
                  up/img: { price: { image: 0.04 } }\n\
                  auth: keys\nkeys: { cost: { secret: env:COST_KEY, scope: { max_cost: 0.005 } } }\n";
    // What this one keeps was made elsewhere.
    let providers = providers(&upstream).replacen("up: { ", "up: { items: outside, ", 1);
    assert!(providers.contains("outside"), "{providers}");
    let setup = gateway::setup(&format!("{providers}{config}"));
    let gateway = setup.env("COST_KEY", &key("COST")).start();
    let most = || {
        let heard = upstream.heard().pop().expect("a request").json();
        ["max_tokens", "max_completion_tokens"].iter().find_map(|name| heard[*name].as_u64())
    };
    assert_eq!(chat_as(gateway.clients, &key("COST"), &many("up/m", 1, 400)).await.status, 200);
    assert_eq!(most(), Some(400));
    assert_eq!(chat_as(gateway.clients, &key("COST"), &many("up/m", 10, 400)).await.status, 200);
    assert!(most().is_some_and(|most| (40..50).contains(&most)), "{:?}", most());

    let bearer = format!("Bearer {}", key("COST"));
    let plain = [("authorization", &*bearer)];
    let original = [("authorization", &*bearer), ("x-provider-original", "true")];
    // A token of this model's answer costs two millionths of a dollar.
    let body = prompts(50, 900).to_string();
    let reply = send(gateway.clients, Method::POST, "/v1/completions", &plain, &body).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    assert!(most().is_some_and(|most| (35..50).contains(&most)), "{:?}", most());

    let before = upstream.heard().len();
    let raw = json!({"model": "m", "messages": [], "max_tokens": 90_000});
    let pictures = |n: u64| json!({"model": "up/img", "prompt": "x", "n": n});
    for (path, headers, body) in [
        ("/passthrough/up/chat/completions", &plain[..], raw),
        ("/v1/chat/completions", &original, many("up/m", 1, 90_000)),
        ("/v1/images/generations", &plain, pictures(10)),
    ] {
        let reply = send(gateway.clients, Method::POST, path, headers, &body.to_string()).await;
        assert_eq!((reply.status, &reply.error()["code"]), (403, &json!("key_scope")), "{path}: {reply:#?}");
    }
    assert_eq!(upstream.heard().len(), before);
    // Without a body nothing is made, whether the model has a price or not.
    for (method, path) in [
        (Method::GET, "/passthrough/up/responses/r_1"),
        (Method::GET, "/passthrough/up/models/img"),
        (Method::DELETE, "/passthrough/up/responses/r_1"),
        (Method::GET, "/v1/files"),
    ] {
        let headers = [("authorization", &*bearer), ("x-tollgate-provider", "up")];
        let reply = send(gateway.clients, method, path, &headers, "").await;
        assert_eq!(reply.status, 200, "{path}: {reply:#?}");
    }
    assert_eq!(upstream.heard().len(), before + 4);
}

async fn used(gateway: &Gateway, budget: &str) -> Value {
    let all = get(gateway.admin, "/admin/v1/budgets").await.json();
    let one = all["budgets"].as_array().into_iter().flatten().find(|one| one["name"] == budget);
    one.cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_hard_budget_holds_all_that_a_request_can_bring() {
    let upstream = upstream();
    let config = "prices: { models: { up/m: { price: { input: 1, output: 10 }, max_output: 1000 } } }\n\
                  budgets:\n  - { name: all, dollars: 0.004, per: day, for: { model: [ up/m, gpt-3.5-turbo-instruct ] } }\n  \
                  - { name: talk, dollars: 0.1, per: day, for: { model: gpt-4o } }\n";
    let gateway = gateway::start(&format!("{}{config}", providers(&upstream)));
    let candidates = |count: u64| json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 100, "candidateCount": count}});
    let response = |more: Value| {
        let mut body = json!({"model": "openai/gpt-4o", "input": "hi", "max_output_tokens": 16});
        more.as_object().into_iter().flatten().for_each(|(key, value)| body[key] = value.clone());
        body
    };
    let google = "/v1beta/models/up/m:generateContent";
    for (path, body, fits) in [
        (google, candidates(2), true),
        (google, candidates(8), false),
        ("/v1/completions", prompts(2, 100), true),
        ("/v1/completions", prompts(50, 100), false),
        ("/v1/chat/completions", many("up/m", 8, 100), false),
        ("/v1/responses", response(json!({})), true),
        ("/v1/responses", response(json!({"previous_response_id": "resp_of_others"})), false),
        ("/v1/responses", response(json!({"conversation": "conv_1"})), false),
    ] {
        let reply = post(gateway.clients, path, &body).await;
        assert_eq!(reply.status == 200, fits, "{path} {body}: {reply:#?}");
        assert!(fits || [402, 429].contains(&reply.status), "{path} {body}: {reply:#?}");
    }
    // Nobody can put a limit into what goes through as it is.
    let raw = many("up/m", 1, 10).to_string();
    let headers = [("x-provider-original", "true")];
    let reply = send(gateway.clients, Method::POST, "/v1/chat/completions", &headers, &raw).await;
    assert_eq!(reply.error()["code"], "budget_exceeded", "{reply:#?}");
    assert_eq!(upstream.heard().len(), 3);
}

#[tokio::test]
async fn who_judges_answers_is_held_by_what_it_reads() {
    let upstream = upstream();
    let config = "models:\n  short: { targets: [ up/a, up/b ], together: { by: best, judge: up/j } }\n  \
                  long: { targets: [ up/long, up/b ], together: { by: best, judge: up/j } }\n\
                  prices: { models: { \"up/*\": { price: { input: 1, output: 1 }, max_output: 500 } } }\n\
                  budgets: [ { name: judge, dollars: 0.01, per: day, for: { model: up/j } } ]\n";
    let gateway = gateway::start(&format!("{}{config}", providers(&upstream)));
    let judged = async |model: &str| {
        let before = upstream.heard().len();
        let reply = chat(gateway.clients, &many(model, 1, 10)).await;
        assert_eq!(reply.status, 200, "{reply:#?}");
        let heard = upstream.heard().split_off(before);
        let judge = heard.iter().find(|heard| heard.model() == "j").map(crate::upstream::Heard::json);
        judge.map(|judge| {
            ["max_tokens", "max_completion_tokens"].iter().find_map(|name| judge[*name].as_u64())
        })
    };
    assert_eq!(judged("short").await, Some(Some(500)), "what was held stands in the request");
    assert_eq!(judged("long").await, None, "the budget cannot bear it: the first answer counts");
}

#[tokio::test]
async fn versions_of_a_model_count_as_the_model() {
    let upstream = upstream();
    let config = "models:\n  fast:\n    versions:\n      \"1\": { share: 50, targets: [ up/a ] }\n      \"2\": { share: 50, targets: [ up/b ] }\n\
                  rate_limits: [ { name: fast, match: { model: fast }, per: model, limits: { requests: 3/day } } ]\n\
                  budgets: [ { name: fast, tokens: 100000, per: total, for: { model: fast }, each: [ model ] } ]\n";
    let gateway = gateway::start(&format!("{}{config}", providers(&upstream)));
    for (model, status) in [("fast", 200), ("fast@1", 200), ("fast@2", 200), ("fast@1", 429), ("fast", 429)] {
        assert_eq!(chat(gateway.clients, &many(model, 1, 10)).await.status, status, "{model}");
    }
    let budget = client::eventually_async("what was used", async || {
        let budget = used(&gateway, "fast").await;
        (budget["used"] == 30).then_some(budget)
    })
    .await;
    assert_eq!(budget["part"], "model=fast", "{budget}");
}

#[tokio::test]
async fn limits_of_tokens_reckon_with_the_answers_that_there_will_be() {
    let upstream = upstream();
    let config = "rate_limits:\n  - { name: vectors, match: { model: up/v }, limits: { tokens: 600/day } }\n  \
                  - { name: words, match: { model: up/m }, limits: { tokens: 10000/day } }\n";
    let gateway = gateway::start(&format!("{}{config}", providers(&upstream)));
    let to = gateway.clients;
    let embeds = move |_| async move {
        post(to, "/v1/embeddings", &json!({"model": "up/v", "input": "hello"})).await.status
    };
    assert_eq!(client::at_once(5, embeds).await, [200; 5]);
    let reply = chat(to, &many("up/m", 4, 500)).await;
    let left: u64 = reply.header("x-ratelimit-remaining-tokens").parse().expect("a number");
    assert!((7_900..8_000).contains(&left), "{left}");
}

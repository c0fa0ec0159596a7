//! Limits towards clients: exact under concurrency, told in every answer, kept over reloads.

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, ask};
use crate::gateway::{self, Gateway, provider};
use crate::keys::send;
use crate::upstream::{Act, Upstream};

fn config(upstream: &Upstream, limits: &str) -> String {
    format!("providers:\n{}rate_limits:\n{limits}", provider("up", &upstream.url()))
}

fn asked_by(user: &str) -> Value {
    let mut question = ask("up/m");
    question["user"] = user.into();
    question["max_tokens"] = 10.into();
    question
}

async fn chat(gateway: &Gateway, body: &Value) -> client::Reply {
    client::chat(gateway.clients, body).await
}

#[tokio::test]
async fn of_two_hundred_at_once_exactly_as_many_as_allowed_are_let_in() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let limits = "  - { name: each, per: user, limits: { requests: 50/day } }\n";
    let gateway = gateway::start(&config(&upstream, limits));
    let to = gateway.clients;
    let asks = move |n| {
        let body = asked_by(if n % 2 == 0 { "ann" } else { "bob" });
        async move { client::chat(to, &body).await.status }
    };
    let statuses = client::at_once(200, asks).await;
    let count = |status: u16| statuses.iter().filter(|known| **known == status).count();
    assert_eq!((count(200), count(429)), (100, 100));
    assert_eq!(upstream.heard().len(), 100);
    assert_eq!(gateway.metric("tollgate_rate_limited_total", &["limit=\"each\""]).await, 100.0);
}

#[tokio::test]
async fn a_refusal_says_which_limit_and_when_to_come_back_in_every_dialect() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let limits = "  - { name: all, limits: { requests: [ 1/hour, 100/day ], tokens: 100000/hour } }\n";
    let alias = "models: { fast: { targets: [ up/m ] } }\n";
    let gateway = gateway::start(&format!("{}{alias}", config(&upstream, limits)));
    let first = chat(&gateway, &asked_by("ann")).await;
    assert_eq!(first.said(), "hello");
    assert_eq!(first.header("x-ratelimit-limit-requests"), "1");
    assert!(
        first.header("ratelimit-policy").contains("\"all:requests/hour\";q=1;qu=\"requests\";w=3600"),
        "{first:#?}"
    );
    let second = chat(&gateway, &asked_by("ann")).await;
    assert_eq!((second.status, &second.error()["type"]), (429, &json!("rate_limit_error")));
    assert_eq!(second.error()["code"], "rate_limit_exceeded");
    let message = second.error()["message"].to_string();
    assert!(message.contains("the rate limit `all` is reached: 1 requests per hour"), "{message}");
    let after: u64 = second.header("retry-after").parse().expect("seconds");
    assert!((3_590..=3_600).contains(&after), "{after}");
    assert!(second.header("ratelimit").contains("\"all:requests/hour\";r=0;t="), "{second:#?}");
    assert_eq!(second.header("x-ratelimit-remaining-requests"), "0");
    let messages = json!({"model": "up/m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]});
    let reply = client::post(gateway.clients, "/v1/messages", &messages).await;
    assert_eq!((reply.status, &reply.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}]});
    let reply = client::post(gateway.clients, "/v1beta/models/fast:generateContent", &gemini).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["status"]),
        (429, &json!("RESOURCE_EXHAUSTED")),
        "{reply:#?}"
    );
}

#[tokio::test]
async fn tokens_are_corrected_by_what_was_used_and_counts_survive_a_reload() {
    let upstream = Upstream::start(|heard| {
        let mut answer = acts::completion("hello");
        answer["usage"] = json!({"prompt_tokens": 40, "completion_tokens": 60, "total_tokens": 100});
        if heard.model() == "broken" { acts::error(400, "no") } else { acts::whole(200, &answer) }
    });
    let limits = |rate: &str| format!("  - {{ name: t, per: user, limits: {{ tokens: {rate} }} }}\n");
    let gateway = gateway::start(&config(&upstream, &limits("1000/day")));
    let left = |reply: &client::Reply| {
        reply.header("x-ratelimit-remaining-tokens").parse::<u64>().unwrap_or(u64::MAX)
    };
    let mut question = asked_by("ann");
    question["max_tokens"] = 500.into();
    let first = chat(&gateway, &question).await;
    assert!((490..500).contains(&left(&first)), "the estimate is reserved: {}", left(&first));
    let second = chat(&gateway, &question).await;
    assert!((390..400).contains(&left(&second)), "100 were used: {}", left(&second));
    question["model"] = "up/broken".into();
    assert_eq!(chat(&gateway, &question).await.status, 400);
    question["model"] = "up/m".into();
    let after = chat(&gateway, &question).await;
    assert!((290..301).contains(&left(&after)), "what came to nothing cost nothing: {}", left(&after));
    let large = json!({"model": "up/m", "user": "ann", "max_tokens": 1, "messages": [{"role": "user", "content": "x".repeat(8_000)}]});
    let refused = chat(&gateway, &large).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, ""), "{refused:#?}");

    gateway.save_config(&config(&upstream, &limits("2000/day")));
    question["max_tokens"] = 1.into();
    let reloaded = client::eventually_async("the new limit", async || {
        let reply = chat(&gateway, &question).await;
        (reply.header("x-ratelimit-limit-tokens") == "2000").then_some(reply)
    })
    .await;
    assert!(left(&reloaded) < 1_700, "what was used stays used: {}", left(&reloaded));
}

#[tokio::test]
async fn places_are_given_back_however_a_request_ends() {
    let upstream = Upstream::start(|heard| match heard.model().as_str() {
        "stream" => acts::stream_open(&acts::events(&["a", "b"]), usize::MAX),
        _ => acts::says("hello"),
    });
    let limits = "  - { name: once, limits: { concurrent: 1 } }\n";
    let gateway = gateway::start(&config(&upstream, limits));
    let question = client::ask_stream("up/stream");
    for _ in 0..3 {
        let live = client::chat_live(gateway.clients, &question).await;
        assert_eq!(live.status, 200);
        let refused = chat(&gateway, &ask("up/m")).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, "1"), "{refused:#?}");
        drop(live);
        client::eventually_async("the place of a client that left", async || {
            (chat(&gateway, &ask("up/m")).await.status == 200).then_some(())
        })
        .await;
    }
    let unknown =
        send(gateway.clients, Method::POST, "/v1/chat/completions", &[], &ask("nobody").to_string()).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(chat(&gateway, &ask("up/m")).await.status, 200);
}

#[tokio::test]
async fn a_policy_sees_how_much_is_left() {
    let upstream = Upstream::start(|heard| acts::says(&heard.model()));
    let limits = "  - { name: each, per: user, limits: { requests: 4/day } }\n";
    let gateway = gateway::setup(&config(&upstream, limits))
        .policy(
            "10-save.rhai",
            "fn on_request(req) { if rate(\"each\").used_ratio > 0.5 { return route(\"up/cheap\"); } }",
        )
        .start();
    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(chat(&gateway, &asked_by("ann")).await.said());
    }
    assert_eq!(said, ["m", "m", "cheap", "cheap"]);
}

#[tokio::test]
async fn who_leaves_before_the_answer_has_used_his_prompt() {
    let upstream = Upstream::start(|heard| match heard.model().as_str() {
        "hangs" => vec![Act::Hang],
        _ => acts::says("hello"),
    });
    let limits = "  - { name: t, limits: { tokens: 10000/day } }\n";
    let gateway = gateway::start(&config(&upstream, limits));
    let long = json!({"model": "up/hangs", "max_tokens": 10, "messages": [{"role": "user", "content": "word ".repeat(800)}]});
    for n in 1..=3 {
        let leaving = tokio::spawn({
            let (to, long) = (gateway.clients, long.clone());
            async move { client::chat(to, &long).await }
        });
        client::eventually("the prompt at the provider", || (upstream.heard().len() == n).then_some(()))
            .await;
        leaving.abort();
        client::eventually("its line", || (gateway.access().len() == n).then_some(())).await;
    }
    let reply = chat(&gateway, &asked_by("ann")).await;
    let left: u64 = reply.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert!((5_500..7_500).contains(&left), "three prompts of about a thousand tokens: {left}");
}

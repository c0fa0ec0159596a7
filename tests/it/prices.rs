//! What requests cost, seen from outside: header, log, metrics, lists; prices that change while the gateway runs.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, ask, chat};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Upstream};

const USAGE: &str = r#""usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":{"cached_tokens":400}}"#;

fn answer(body: &str) -> Vec<Act> {
    acts::answer(200, &[("content-type", "application/json")], body)
}

/// A provider that bills a thousand tokens in, four hundred of them cached, and a hundred out.
fn biller() -> Upstream {
    Upstream::start(|heard| {
        let tier = heard.json()["service_tier"].as_str().map_or("default", |_| "flex").to_owned();
        if heard.json()["stream"] == true {
            let chunk = |delta: &str, rest: &str| {
                format!(
                    r#"data: {{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{delta}]{rest}}}"#
                )
            };
            let said =
                chunk(r#"{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":null}"#, "");
            let end = chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#, "");
            let usage = chunk("", &format!(",{USAGE}"));
            return acts::stream(&format!("{said}\n\n{end}\n\n{usage}\n\ndata: [DONE]\n\n"), usize::MAX);
        }
        answer(&format!(
            r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","service_tier":"{tier}","choices":[{{"index":0,"message":{{"role":"assistant","content":"hi"}},"finish_reason":"stop"}}],{USAGE}}}"#
        ))
    })
}

fn config(up: &Upstream, more: &str) -> String {
    let url = up.url();
    format!(
        "providers:\n  openai: {{ base_url: \"{url}\", keys: [ env:TEST_KEY ], models: [ gpt-4o, o4-mini, strange ] }}\n\
         models:\n  fast: {{ targets: [ openai/gpt-4o ] }}\n{more}"
    )
}

fn gateway(up: &Upstream) -> Gateway {
    gateway::start(&config(up, ""))
}

async fn admin(gateway: &Gateway, method: Method, path: &str, body: &str) -> Reply {
    client::open(gateway.admin, client::request(method, path, body)).await.unwrap().rest().await
}

async fn cost(gateway: &Gateway, model: &str) -> Option<String> {
    let reply = chat(gateway.clients, &ask(model)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.headers.get("x-tollgate-cost-usd").map(|value| value.to_str().unwrap().to_owned())
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is().await {
        assert!(began.elapsed() < Duration::from_secs(10), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_was_taken_of_reserved_capacity_is_known_after_a_restart() {
    let up = biller();
    let more = "state: { ledger: \"sqlite:./t.db\" }\n\
                prices: { models: { openai/gpt-4o: { reserved: { tokens: 1650, per: month } } } }\n";
    let gateway = gateway::start(&config(&up, more));
    assert_eq!(cost(&gateway, "fast").await.as_deref(), Some("0"), "1,100 of 1,650 tokens");
    until("its row", async || {
        let usage = client::get(gateway.admin, "/admin/v1/usage").await.json();
        usage["usage"][0]["attempts"] == 1 && usage["usage"][0]["open"] == 0
    })
    .await;
    let gateway = gateway.start_again();
    assert_eq!(cost(&gateway, "fast").await.as_deref(), Some("0.0015"), "half of them are left");
    assert_eq!(cost(&gateway, "fast").await.as_deref(), Some("0.003"));
}

#[tokio::test]
async fn every_answer_says_what_it_cost_and_unknown_is_not_zero() {
    let up = biller();
    let gateway = gateway(&up);
    // 600 × 2.5 + 400 × 1.25 + 100 × 10, in millionths.
    assert_eq!(cost(&gateway, "fast").await.as_deref(), Some("0.003"));
    assert_eq!(cost(&gateway, "openai/strange").await, None);
    let mut flex = ask("openai/o4-mini");
    flex["service_tier"] = "flex".into();
    let reply = chat(gateway.clients, &flex).await;
    assert_eq!(
        reply.header("x-tollgate-cost-usd"),
        "0.0006052",
        "half of 600 × 1.1 + 400 × 0.276 + 100 × 4.4"
    );
    let mut streamed = ask("fast");
    streamed["stream"] = true.into();
    assert_eq!(chat(gateway.clients, &streamed).await.status, 200);

    until("four log lines", async || gateway.access().len() == 4).await;
    let costs: Vec<Value> = gateway.access().iter().map(|line| line["cost"].clone()).collect();
    assert_eq!(costs, [json!(3_000_000), Value::Null, json!(605_200), json!(3_000_000)]);
    let metrics = client::get(gateway.admin, "/metrics").await.text();
    for line in [
        "tollgate_cost_usd_total{provider=\"openai\",model=\"gpt-4o\"} 0.006",
        "tollgate_unpriced_total{provider=\"openai\",model=\"strange\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("tollgate_cost_usd_total{provider=\"openai\",model=\"strange\"}"), "{metrics}");
}

/// A provider that names the service as its model's name says, and speaks Google's dialect too.
fn server() -> Upstream {
    Upstream::start(|heard| {
        let model = heard.json()["model"].as_str().unwrap_or_default().to_owned();
        if model.is_empty() {
            return answer(
                r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1000,"candidatesTokenCount":1000,"totalTokenCount":2000}}"#,
            );
        }
        let usage = r#""usage":{"prompt_tokens":1000,"completion_tokens":1000,"total_tokens":2000}"#;
        let tier = match model.as_str() {
            "mute" => String::new(),
            "echo" => r#","service_tier":"default","metadata":{"service_tier":"batch"}"#.into(),
            said => format!(",\"service_tier\":\"{said}\""),
        };
        if heard.json()["stream"] != true {
            return answer(&format!(
                r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"hi"}},"finish_reason":"stop"}}],{usage}{tier}}}"#
            ));
        }
        let chunk = |choice: &str, rest: &str| {
            format!(
                r#"data: {{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{choice}]{tier}{rest}}}"#
            )
        };
        let said =
            chunk(r#"{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":null}"#, "");
        let end = chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#, "");
        let usage = chunk("", &format!(",{usage}"));
        acts::stream(&format!("{said}\n\n{end}\n\n{usage}\n\ndata: [DONE]\n\n"), usize::MAX)
    })
}

#[tokio::test]
async fn the_service_that_did_the_work_is_paid_for() {
    let up = server();
    let url = up.url();
    let price = "price: { input: 1, output: 1 }, batch: { input: 0.5, output: 0.5 }, \
                 flex: { input: 0.5, output: 0.5 }, priority: { input: 2, output: 2 }";
    let place = format!("dialect: openai, base_url: \"{url}\", keys: [ env:TEST_KEY ]");
    let gateway = gateway::start(&format!(
        "prices:\n  models: {{ \"up/*\": {{ {price} }}, \"set/*\": {{ {price} }} }}\nproviders:\n  up: {{ {place} }}\n  \
         set: {{ {place}, quirks: {{ defaults: {{ service_tier: priority }} }} }}\n  \
         gem: {{ preset: gemini, base_url: \"{url}\", keys: [ env:TEST_KEY ], models: [ gemini-2.5-flash ] }}\n"
    ));
    let (usual, half, double) = (2_000_000, 1_000_000, 4_000_000);
    let asked = [
        ("up/mute", None, false, usual),
        ("up/mute", Some("flex"), false, half),
        ("up/mute", Some("flex"), true, half),
        // Nothing that is answered at once is a batch.
        ("up/mute", Some("batch"), false, usual),
        ("up/default", Some("flex"), false, usual),
        ("up/default", Some("batch"), true, usual),
        ("up/default", Some("priority"), true, usual),
        ("up/priority", None, false, double),
        ("up/priority", None, true, double),
        ("up/echo", Some("default"), false, usual),
        // The configuration asks for it.
        ("set/mute", None, false, double),
        ("set/default", None, false, usual),
        // In another dialect's words, by its vendor's own prices.
        ("gem/gemini-2.5-flash", None, false, 2_800_000),
        ("gem/gemini-2.5-flash", Some("flex"), false, 1_400_000),
        ("gem/gemini-2.5-flash", Some("priority"), false, 5_040_000),
    ];
    for (place, (model, tier, stream, nano)) in asked.into_iter().enumerate() {
        let mut request = ask(model);
        request["stream"] = stream.into();
        if let Some(tier) = tier {
            request["service_tier"] = tier.into();
        }
        let reply = chat(gateway.clients, &request).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        until("its line", async || gateway.access().len() == place + 1).await;
        let line = gateway.access().pop().unwrap();
        assert_eq!(line["cost"], nano, "{model} {tier:?} {stream}: {line}");
    }
}

#[tokio::test]
async fn prices_change_while_requests_run() {
    let up = biller();
    let gateway = gateway(&up);
    let push = async |body: &str| admin(&gateway, Method::POST, "/admin/v1/prices", body).await;
    let pushed = push(r#"{"models": {"openai/strange": {"price": {"input": 1, "output": 2}}}}"#).await;
    assert_eq!(pushed.json()["changed"], true, "{}", pushed.text());
    assert_eq!(cost(&gateway, "openai/strange").await.as_deref(), Some("0.0012"), "the next request");
    let list = r#"{"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}}"#;
    assert_eq!(push(list).await.status, 200);
    assert_eq!(cost(&gateway, "fast").await.as_deref(), Some("0.0011"));
    for (bad, part) in
        [("{", "is not JSON"), ("{}", "names no model"), (r#"{"models":{"a":{}}}"#, "provider/model")]
    {
        let refused = push(bad).await;
        assert_eq!(refused.status, 400, "{bad}");
        assert!(refused.text().contains(part), "{bad}: {}", refused.text());
    }

    gateway.save_config(&config(&up, "prices:\n  models:\n    \"openai/*\": { percent: 50 }\n"));
    until("the reload", async || cost(&gateway, "fast").await.as_deref() == Some("0.00055")).await;
    assert_eq!(admin(&gateway, Method::DELETE, "/admin/v1/prices", "").await.json()["changed"], true);
    assert_eq!(cost(&gateway, "fast").await.as_deref(), Some("0.0015"), "half of the built-in price");

    let shown = client::get(gateway.admin, "/admin/v1/prices").await.json();
    let origins: Vec<_> = shown["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["origin"].as_str().unwrap())
        .collect();
    assert_eq!(origins, ["pushed", "configuration", "pushed", "pushed"]);
    assert!(shown["changes"][0]["at_ms"].as_u64() > Some(1_700_000_000_000));
    let one = client::get(gateway.admin, "/admin/v1/prices?model=openai%2Fgpt-4o").await.json();
    assert_eq!((&one["pricing"]["input"], &one["origin"]), (&json!(1.25), &json!("configuration")));
    assert_eq!(client::get(gateway.admin, "/admin/v1/prices?modle=x").await.status, 400);
}

#[tokio::test]
async fn a_file_and_an_address_are_read_and_read_again() {
    let up = biller();
    let lists = Upstream::start(|heard| match heard.path.as_str() {
        "/api/v1/models" => {
            answer(r#"{"data":[{"id":"strange","pricing":{"prompt":"0.000002","completion":"0.000002"}}]}"#)
        }
        _ => vec![Act::Hang],
    });
    let address = lists.url();
    let address = address.trim_end_matches("/v1");
    let setup = gateway::setup(&format!(
        "providers:\n  openai: {{ base_url: \"{}\", keys: [ env:TEST_KEY ], models: [ gpt-4o, strange ] }}\n\
         prices:\n  sources:\n    - {{ from: list.json, every: 1m }}\n    - {{ from: \"{address}/api/v1/models\", provider: openai }}\n    - {{ from: missing.json }}\n",
        up.url()
    ));
    let list = r#"{"gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 7e-6, "output_cost_per_token": 0.0}}"#;
    let gateway = setup.file("list.json", list).start();
    until("both lists", async || {
        cost(&gateway, "openai/strange").await.as_deref() == Some("0.0022")
            && cost(&gateway, "openai/gpt-4o").await.as_deref() == Some("0.007")
    })
    .await;
    let metrics = client::get(gateway.admin, "/metrics").await.text();
    assert!(metrics.contains("tollgate_price_refreshes_total{outcome=\"failed\"} 1"), "{metrics}");
}

#[tokio::test]
async fn lists_of_models_tell_what_is_known() {
    let up = biller();
    let setup = gateway::setup(&config(&up, "  both: { targets: [ openai/gpt-4o, openai/o4-mini ] }\n"));
    let printed = setup.run(&["models", "gpt-4o"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.out.contains("openai/gpt-4o") && printed.out.contains("128000"), "{}", printed.out);
    let none = setup.run(&["models", "--all", "zzzz"]);
    assert!(none.out.contains("no price list knows such a model") && !none.out.contains("--all"), "{none:?}");
    let all = setup.run(&["models", "--all", "--json", "anthropic/claude-sonnet-4-5"]);
    let all: Value = serde_json::from_str(&all.out).unwrap();
    assert_eq!(all[0]["pricing"]["cache_write_long"], 6.0, "{all}");
    let gateway = setup.start();
    let one = client::get(gateway.clients, "/v1/models/openai/gpt-4o").await.json();
    assert_eq!(
        (&one["pricing"]["input"], &one["pricing"]["batch"]["output"]),
        (&json!(2.5), &json!(5.0)),
        "{one}"
    );
    assert_eq!(
        (&one["context_window"], &one["input_modalities"]),
        (&json!(128_000), &json!(["text", "image", "file"]))
    );
    let both = client::get(gateway.clients, "/v1/models/both").await.json();
    assert_eq!((&both["context_window"], &both["pricing"]), (&json!(128_000), &Value::Null), "{both}");
    assert_eq!(both["targets"].as_array().map(Vec::len), Some(2));
    let strange = client::get(gateway.clients, "/v1/models/openai/strange").await.json();
    assert!(strange.get("pricing").is_none(), "{strange}");
}

#[tokio::test]
async fn health_shows_who_fails_and_tells_it() {
    let up = biller();
    let down = Upstream::start(|_| acts::error(500, "always broken"));
    let url = down.url();
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nhealth: {{ window: 30s, alert: {{ min_attempts: 5 }} }}\nproviders:\n  \
         good: {{ dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n  \
         bad: {{ dialect: openai, base_url: \"{url}\", keys: [ env:TEST_KEY ] }}\n\
         models:\n  m: {{ targets: [ bad/x ], fallback: [ good/y ] }}\n",
        up.url()
    ));
    for _ in 0..6 {
        assert_eq!(chat(gateway.clients, &ask("m")).await.header("x-tollgate-target"), "good/y");
    }
    let providers =
        async || client::get(gateway.admin, "/admin/v1/providers").await.json()["providers"].clone();
    until("the figures", async || providers().await[0]["health"]["alert"] == true).await;
    let shown = providers().await;
    let (bad, good) = (&shown[0], &shown[1]);
    assert_eq!(
        (&bad["name"], &bad["health"]["error_rate"], &bad["targets"][0]["model"]),
        (&json!("bad"), &json!(1.0), &json!("x"))
    );
    assert_eq!((&good["health"]["attempts"], &good["health"]["error_rate"]), (&json!(6), &json!(0.0)));
    assert!(good["targets"][0]["health"]["p95_ms"].as_f64() > Some(0.0), "{good}");
    let metrics = client::get(gateway.admin, "/metrics").await.text();
    assert!(metrics.contains("tollgate_provider_alert{provider=\"bad\"} 1"), "{metrics}");
    assert!(gateway.log().join("\n").contains("alert: the provider fails too often"), "{:?}", gateway.log());
}

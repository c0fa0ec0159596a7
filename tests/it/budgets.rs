//! Budgets that operators make while the gateway runs, prices that were pushed, and what was alarming: kept, noted, shown.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, ask, chat};
use crate::gateway::{self, Gateway};
use crate::money::{purse, rows};
use crate::upstream::{Act, Upstream};

fn config(up: &Upstream, more: &str) -> String {
    format!(
        "state: {{ ledger: sqlite:./data/tollgate.db }}\nproviders:\n{}models:\n  fast: {{ targets: [ up/m ] }}\n\
         prices: {{ models: {{ \"up/*\": {{ price: {{ input: 2.5, output: 10 }}, max_output: 100 }} }} }}\n{more}",
        gateway::provider("up", &up.url())
    )
}

/// Seven tokens in and three out, each time: $0.0000475.
fn provider() -> Upstream {
    Upstream::start(|_| acts::says("hi"))
}

async fn admin(gateway: &Gateway, method: Method, path: &str, body: &Value) -> Reply {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    client::open(gateway.admin, client::request(method, path, &text)).await.unwrap().rest().await
}

async fn status(gateway: &Gateway) -> u16 {
    let mut asked = ask("fast");
    asked["max_tokens"] = 20.into();
    chat(gateway.clients, &asked).await.status
}

#[tokio::test]
async fn budgets_are_made_changed_and_taken_away_while_requests_run() {
    let up = provider();
    let gateway = gateway::start(&config(&up, "budgets:\n  - { name: written, dollars: 5, per: day }\n"));
    assert_eq!(status(&gateway).await, 200);
    let small = json!({ "name": "small/day", "dollars": 0.000_05, "per": "day" });
    let made = admin(&gateway, Method::POST, "/admin/v1/budgets", &small).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(made.json()["parts"][0]["used"].as_u64().unwrap() > 0, "what was spent before: {}", made.text());
    assert_eq!(status(&gateway).await, 402);

    let place = "/admin/v1/budgets/small%2Fday";
    let more = admin(&gateway, Method::PATCH, place, &json!({ "dollars": 1, "alerts": [90] })).await;
    assert_eq!(more.status, 200, "{}", more.text());
    assert_eq!(status(&gateway).await, 200);
    let shown = admin(&gateway, Method::GET, place, &Value::Null).await.json();
    assert_eq!((&shown["settings"]["dollars"], &shown["source"]), (&json!(1.0), &json!("database")));
    let all = admin(&gateway, Method::GET, "/admin/v1/budgets", &Value::Null).await.json();
    let sources: Vec<_> =
        all["budgets"].as_array().unwrap().iter().map(|b| (b["name"].clone(), b["source"].clone())).collect();
    assert!(sources.contains(&(json!("written"), json!("configuration"))), "{all}");
    assert!(sources.contains(&(json!("small/day"), json!("database"))), "{all}");

    for (method, path, body, expected) in [
        (Method::POST, "/admin/v1/budgets", small.clone(), 409),
        (Method::POST, "/admin/v1/budgets", json!({ "name": "written", "dollars": 1, "per": "day" }), 409),
        (Method::POST, "/admin/v1/budgets", json!({ "name": "x", "dollars": 1, "per": "year" }), 400),
        (Method::POST, "/admin/v1/budgets", json!({ "name": "x", "per": "day" }), 400),
        (Method::POST, "/admin/v1/budgets", json!({ "name": "x y", "dollars": 1, "per": "day" }), 400),
        (Method::PATCH, place, json!({ "name": "other" }), 400),
        (Method::PATCH, "/admin/v1/budgets/written", json!({ "dollars": 9 }), 409),
        (Method::DELETE, "/admin/v1/budgets/written", Value::Null, 409),
        (Method::DELETE, "/admin/v1/budgets/nobody", Value::Null, 404),
        (Method::GET, "/admin/v1/budgets/nobody", Value::Null, 404),
    ] {
        let reply = admin(&gateway, method.clone(), path, &body).await;
        assert_eq!(reply.status, expected, "{method} {path} {body}: {}", reply.text());
    }

    // A reload of the configuration leaves them alone.
    gateway.save_config(&config(&up, "budgets:\n  - { name: written, dollars: 6, per: day }\n"));
    client::eventually_async("the reload", async || {
        let all = admin(&gateway, Method::GET, "/admin/v1/budgets?name=written", &Value::Null).await.json();
        (all["budgets"][0]["limit"] == 6_000_000_000_u64).then_some(())
    })
    .await;
    let gone = admin(&gateway, Method::DELETE, place, &Value::Null).await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(admin(&gateway, Method::GET, place, &Value::Null).await.status, 404);
    let audit = admin(&gateway, Method::GET, "/admin/v1/audit", &Value::Null).await.text();
    for action in ["budget.create", "budget.update", "budget.delete"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
    let sound = admin(&gateway, Method::GET, "/admin/v1/audit/verify", &Value::Null).await;
    assert!(sound.text().contains("sound"), "{}", sound.text());
}

#[tokio::test]
async fn what_operators_set_outlives_the_process() {
    let up = provider();
    let state = tempfile::tempdir().unwrap();
    let database = state.path().join("ledger.db");
    let config =
        config(&up, "").replace("sqlite:./data/tollgate.db", &format!("sqlite:{}", database.display()));
    let nobody = gateway::provider("openai", "http://127.0.0.1:9/v1");
    let config = config.replace("providers:\n", &format!("providers:\n{nobody}"));
    let mut gateway = gateway::start(&config);
    let small = json!({ "name": "small", "dollars": 0.000_05, "per": "day" });
    assert_eq!(admin(&gateway, Method::POST, "/admin/v1/budgets", &small).await.status, 201);
    let price = json!({ "models": { "up/other": { "price": { "input": 1, "output": 1 } } } });
    let pushed = admin(&gateway, Method::POST, "/admin/v1/prices", &price).await;
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    let list =
        json!({ "gpt-4o": { "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6 } });
    assert_eq!(admin(&gateway, Method::POST, "/admin/v1/prices", &list).await.status, 200);
    let before = admin(&gateway, Method::GET, "/admin/v1/prices", &Value::Null).await.json();
    client::eventually("the changes on the disk", || {
        let db = rusqlite::Connection::open(&database).ok()?;
        let kept: i64 = db
            .query_row("SELECT count(*) FROM setting WHERE kind = 'price_change'", [], |r| r.get(0))
            .ok()?;
        (kept >= 2).then_some(())
    })
    .await;
    gateway.terminate();
    assert!(gateway.ended(client::PATIENCE).is_some());
    let gateway = gateway::start(&config);

    assert_eq!(status(&gateway).await, 402, "the budget holds again");
    let after = admin(&gateway, Method::GET, "/admin/v1/prices", &Value::Null).await.json();
    assert!(after["revision"].as_u64() >= before["revision"].as_u64(), "{before} {after}");
    let changes = after["changes"].as_array().unwrap();
    assert!(changes.iter().filter(|change| change["origin"] == "pushed").count() >= 2, "{after}");
    let other =
        admin(&gateway, Method::GET, "/admin/v1/prices?model=openai%2Fgpt-4o", &Value::Null).await.json();
    assert_eq!((&other["known"], &other["origin"]), (&json!(true), &json!("pushed")), "{other}");
    assert_eq!(
        admin(&gateway, Method::DELETE, "/admin/v1/prices", &Value::Null).await.json()["changed"],
        true
    );
}

#[tokio::test]
async fn each_threshold_is_told_once_in_the_log_the_metrics_and_to_the_webhook() {
    let up = provider();
    let hook = Upstream::start(|_| acts::answer(204, &[], ""));
    let more = format!(
        "budgets: [ {{ name: team, tokens: 60, per: total, hard: false, projection: false }} ]\n\
         alerts: {{ webhooks: [ {{ url: \"{}\", secret: env:HOOK_KEY }} ] }}\n",
        hook.url()
    );
    let gateway = gateway::setup(&config(&up, &more)).env("HOOK_KEY", "0123456789abcdef0123").start();
    // Ten tokens each: half of the budget with the third, 83 % with the fifth, all of it with the sixth.
    for _ in 0..8 {
        assert_eq!(status(&gateway).await, 200, "a soft budget refuses nobody");
    }
    let told =
        client::eventually("three deliveries", || (hook.heard().len() >= 3).then(|| hook.heard())).await;
    let mut told: Vec<_> = told.iter().map(crate::upstream::Heard::json).collect();
    told.sort_by_key(|alert| alert["percent"].as_u64());
    let said: Vec<_> = told.iter().map(|alert| (alert["percent"].clone(), alert["used"].clone())).collect();
    assert_eq!(said, [(50, 30), (80, 50), (100, 60)].map(|(percent, used)| (json!(percent), json!(used))));
    assert!(
        told.iter().all(|alert| alert["event"] == "budget_threshold" && alert["name"] == "team"),
        "{told:?}"
    );
    assert_eq!(gateway.metric("tollgate_budget_alerts_total", &["budget=\"team\""]).await, 3.0);
    let lines: Vec<String> = gateway
        .log()
        .into_iter()
        .filter(|line| line.contains("budget alert") && line.contains("team"))
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for percent in [50, 80, 100] {
        assert!(
            lines.iter().any(|line| line.contains(&format!("\"percent\":{percent}"))),
            "{percent}: {lines:?}"
        );
    }
    assert_eq!(hook.heard().len(), 3);
}

#[tokio::test]
async fn a_webhook_that_is_away_keeps_no_other_waiting_and_all_alerts_are_told() {
    let up = Upstream::start(|heard| match heard.model().as_str() {
        "bad" => acts::error(401, "no such key"),
        _ => acts::says("hi"),
    });
    let (dead, hook) =
        (Upstream::start(|_| acts::answer(500, &[], "")), Upstream::start(|_| acts::answer(204, &[], "")));
    let more = format!(
        "retries: {{ retries: 0 }}\n\
         budgets: [ {{ name: each, tokens: 5, per: day, hard: false, projection: false, alerts: [ 100 ], each: [ user ] }} ]\n\
         alerts:\n  webhooks:\n    - {{ url: \"{}\", secret: env:HOOK_KEY }}\n    - {{ url: env:HOOK, secret: env:HOOK_KEY }}\n    \
         - {{ url: env:HOOK, secret: env:HOOK_KEY, events: [ key_out ] }}\n",
        dead.url()
    );
    let address = format!("{}/hook/?sig=a%2Fb", hook.url());
    let setup = gateway::setup(&config(&up, &more));
    let gateway = setup.env("HOOK_KEY", "0123456789abcdef0123").env("HOOK", &address).start();
    for n in 0..20 {
        let mut asked = ask("fast");
        (asked["user"], asked["max_tokens"]) = (format!("u{n}").into(), 20.into());
        assert_eq!(chat(gateway.clients, &asked).await.status, 200);
    }
    let of = |event: &str| {
        let heard = hook.heard();
        let all = heard.iter().map(|heard| (heard.path.clone(), heard.json()));
        all.filter(|(_, alert)| alert["event"] == event).collect::<Vec<_>>()
    };
    let told = client::eventually("twenty alerts", || {
        let told = of("budget_threshold");
        (told.len() >= 20).then_some(told)
    })
    .await;
    assert_eq!(told.len(), 20, "once, for one of the two wants others");
    assert_eq!(told[0].0, "/v1/hook/?sig=a%2Fb");
    let text = told[0].1["text"].as_str().unwrap();
    assert!(text.starts_with("budget `each` (user=u") && text.contains("100 % of 5 tokens a day"), "{text}");
    assert_eq!(chat(gateway.clients, &ask("up/bad")).await.status, 502);
    let out = client::eventually("a key that is out, told twice", || {
        let told = of("key_out");
        (told.len() >= 2).then_some(told)
    })
    .await;
    assert_eq!(out[0].1["provider"], "up", "{out:?}");
    assert!(out[0].1["text"].as_str().unwrap().starts_with("key out: provider up"), "{out:?}");
}

#[test]
fn what_webhooks_need_is_checked_where_it_stands() {
    let hooks = "providers: { s: { dialect: sandbox, models: [ echo ] } }\nalerts:\n  webhooks:\n    - { url: env:NO_ADDRESS, secret: env:HOOK_KEY }\n    - { url: \"https://h.example/x?y=z\", secret: env:NO_KEY }\n";
    let setup = gateway::setup(hooks).env("HOOK_KEY", "0123456789abcdef0123");
    let told = setup.run(&["check"]);
    assert_eq!(told.code, Some(1), "{told:#?}");
    for says in [
        "alerts.webhooks[0].url: `env:NO_ADDRESS`",
        "alerts.webhooks[1].secret: `env:NO_KEY`",
        "tollgate.yaml:",
    ] {
        assert!(told.err.contains(says), "{says}: {}", told.err);
    }
}

#[tokio::test]
async fn alerts_of_late_are_shown() {
    let up = provider();
    let gateway = gateway::start(&config(
        &up,
        "budgets:\n  - { name: tiny, dollars: 0.0002, per: day, hard: false }\n",
    ));
    for _ in 0..3 {
        assert_eq!(status(&gateway).await, 200);
    }
    let told = client::eventually_async("an alert", async || {
        let told = client::get(gateway.admin, "/admin/v1/alerts?event=budget_threshold").await.json();
        told["alerts"].as_array().is_some_and(|alerts| !alerts.is_empty()).then_some(told)
    })
    .await;
    let alert = &told["alerts"][0];
    assert_eq!((&alert["event"], &alert["name"]), (&json!("budget_threshold"), &json!("tiny")), "{told}");
    assert!(alert["at_ms"].as_u64().unwrap() > 0 && alert["used_text"].as_str().unwrap().starts_with('$'));
    assert_eq!(client::get(gateway.admin, "/admin/v1/alerts?limit=0").await.json()["alerts"], json!([]));
}

#[tokio::test]
async fn the_command_changes_budgets_of_a_running_gateway() {
    let up = provider();
    let gateway = gateway::start(&config(&up, ""));
    let address = gateway.admin.to_string();
    let run = |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().copied().chain(["--admin", &address]).collect();
        let command = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(&all)
            .env_clear()
            .env("TEST_KEY", gateway::CANARY)
            .current_dir(gateway.path(""))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        gateway::Printed { code: command.status.code(), out: text(command.stdout), err: text(command.stderr) }
    };
    let made = run(&[
        "budgets",
        "create",
        "team-x",
        "--dollars",
        "20",
        "--per",
        "day",
        "--for",
        "team=x",
        "--each",
        "user",
    ]);
    assert_eq!(made.code, Some(0), "{made:#?}");
    assert!(made.out.contains("\"limit\": 20000000000"), "{made:#?}");
    let listed = run(&["budgets", "list"]);
    let line = listed.out.lines().find(|line| line.starts_with("team-x")).unwrap_or_default();
    assert!(line.starts_with("team-x (for each user)") && line.contains("for team=x"), "{listed:#?}");
    let listed = run(&["budgets", "create", "all", "--tokens", "1000", "--per", "hour"]);
    assert_eq!(listed.code, Some(0), "{listed:#?}");
    let listed = run(&["budgets", "list"]);
    assert!(listed.out.contains("all") && listed.out.contains("1000 tokens"), "{listed:#?}");
    let changed = run(&["budgets", "update", "all", "--dollars", "3"]);
    assert_eq!(changed.code, Some(0), "{changed:#?}");
    let shown = run(&["budgets", "show", "all"]);
    assert!(shown.out.contains("\"dollars\": 3.0"), "{shown:#?}");
    assert_eq!(run(&["budgets", "delete", "all"]).code, Some(0));
    let gone = run(&["budgets", "show", "all"]);
    assert!(gone.code != Some(0) && gone.err.contains("no such budget"), "{gone:#?}");
}

#[tokio::test]
async fn both_halves_of_an_answer_that_went_on_elsewhere_are_paid_for() {
    let first = Upstream::start(|_| {
        let mut script = acts::stream_open(&acts::events(&["many words "; 50]), usize::MAX);
        script.extend([Act::Pause(Duration::from_millis(20)), Act::Close]);
        script
    });
    let second = Upstream::start(|_| acts::says_stream(&["the", " end"]));
    let gateway = gateway::start(&format!(
        "state: {{ ledger: sqlite:./data/tollgate.db }}\nbudgets: [ {{ name: all, dollars: 100, per: day }} ]\n\
         prices: {{ models: {{ a/dear: {{ price: {{ input: 10, output: 1000 }} }}, b/cheap: {{ price: {{ input: 0.1, output: 0.1 }} }} }} }}\n\
         providers:\n{}{}models:\n  m: {{ targets: [ a/dear, {{ to: b/cheap, continue: true }} ] }}\n",
        gateway::provider("a", &first.url()),
        gateway::provider("b", &second.url()),
    ));
    let mut question = client::ask_stream("m");
    question["max_tokens"] = 3_000.into();
    let reply = client::chat(gateway.clients, &question).await;
    assert!(reply.streamed().ends_with("many words the end"), "{reply:#?}");
    let rows = rows(&gateway).await;
    let of =
        |target: &str| rows.iter().find(|row| row["target"] == target).unwrap_or_else(|| panic!("{rows:#?}"));
    let (dear, cheap) = (of("a/dear"), of("b/cheap"));
    assert_eq!(
        (&dear["role"], &dear["state"], &dear["outcome"]),
        (&json!("primary"), &json!("estimated"), &json!("upstream_truncated")),
        "{dear:#}"
    );
    let said = dear["output"].as_u64().unwrap();
    let cost = |row: &Value| row["cost"].as_u64().unwrap();
    assert!(said > 100 && cost(dear) >= said * 1_000_000, "{dear:#}");
    assert_eq!(
        (&cheap["role"], &cheap["state"], &cheap["input"], &cheap["output"], cost(cheap)),
        (&json!("continuation"), &json!("settled"), &json!(7), &json!(3), 10 * 100),
        "{cheap:#}"
    );
    assert_eq!(purse(&gateway).await, (cost(dear) + cost(cheap), 0), "the budget has both");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["usage"]["output"], said + 3, "the record says what was used in all: {record:#}");
    let used = [
        gateway.metric("tollgate_tokens_total", &["class=\"output\"", "provider=\"a\""]).await,
        gateway.metric("tollgate_tokens_total", &["class=\"output\"", "provider=\"b\""]).await,
    ];
    assert_eq!(used, [said as f64, 3.0]);
}

#[tokio::test]
async fn whoever_goes_on_reads_what_was_said_and_budgets_hold_that_too() {
    for (tokens, goes_on) in [(900, false), (1_300, true)] {
        let first = Upstream::start(|_| {
            let mut script = acts::stream_open(&acts::events(&["many words "; 50]), usize::MAX);
            script.extend([Act::Pause(Duration::from_millis(20)), Act::Close]);
            script
        });
        let second = Upstream::start(|_| acts::says_stream(&["the", " end"]));
        let gateway = gateway::start(&format!(
            "state: {{ ledger: sqlite:./data/tollgate.db }}\n\
             budgets: [ {{ name: all, tokens: {tokens}, per: day, hard: true }} ]\n\
             providers:\n{}{}models:\n  m: {{ targets: [ a/one, {{ to: b/two, continue: true }} ] }}\n",
            gateway::provider("a", &first.url()),
            gateway::provider("b", &second.url()),
        ));
        let mut question = client::ask_stream("m");
        question["max_tokens"] = 300.into();
        // The prompt can be some 200 tokens, the beginning of the answer is 550 bytes and some 140 tokens.
        let reply = client::chat(gateway.clients, &question).await;
        assert_eq!(reply.streamed().ends_with("many words the end"), goes_on, "{tokens}: {reply:#?}");
        assert_eq!(second.heard().len(), usize::from(goes_on), "{tokens}: {reply:#?}");
    }
}

#[tokio::test]
async fn who_names_no_service_is_held_at_the_usual_price_also_beside_a_target_that_names_one() {
    let up = provider();
    let price = "price: { input: 1, output: 10 }, priority: { input: 10, output: 4000 }";
    let place = format!("dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ]", up.url());
    let gateway = gateway::start(&format!(
        "providers:\n  plain: {{ {place} }}\n  set: {{ {place}, quirks: {{ defaults: {{ service_tier: priority }} }} }}\n\
         models:\n  fast: {{ targets: [ plain/m ], fallback: [ set/m ] }}\n  dear: {{ targets: [ set/m ] }}\n\
         budgets: [ {{ name: all, dollars: 0.05, per: day }} ]\n\
         prices: {{ models: {{ plain/m: {{ {price} }}, set/m: {{ {price} }} }} }}\n"
    ));
    let ask = async |model: &str, tier: Option<&str>| {
        let mut asked = ask(model);
        asked["max_tokens"] = 20.into();
        if let Some(tier) = tier {
            asked["service_tier"] = tier.into();
        }
        chat(gateway.clients, &asked).await.status
    };
    assert_eq!((ask("fast", None).await, ask("plain/m", None).await), (200, 200));
    assert_eq!((ask("dear", None).await, ask("plain/m", Some("priority")).await), (402, 402));
}

#[tokio::test]
async fn a_provider_that_chose_a_dearer_service_is_held_at_its_price_from_then_on() {
    let up = Upstream::start(|_| {
        let mut answer = acts::completion("hi");
        answer["service_tier"] = "priority".into();
        acts::whole(200, &answer)
    });
    let gateway = gateway::start(&format!(
        "providers:\n{}models:\n  fast: {{ targets: [ up/m ] }}\nbudgets: [ {{ name: all, dollars: 0.05, per: day }} ]\n\
         prices: {{ models: {{ up/m: {{ price: {{ input: 1, output: 10 }}, priority: {{ input: 10, output: 4000 }} }} }} }}\n",
        gateway::provider("up", &up.url())
    ));
    // Twenty tokens at most cost little, or more than there is.
    assert_eq!(status(&gateway).await, 200, "nobody can know");
    assert_eq!(status(&gateway).await, 402);
    assert_eq!(up.heard().len(), 1);
}

#[tokio::test]
async fn a_service_that_the_client_names_is_not_held_at_the_price_of_a_dearer_one() {
    let up = Upstream::start(|_| acts::says("hi"));
    let gateway = gateway::start(&format!(
        "providers:\n{}budgets: [ {{ name: all, dollars: 0.05, per: day }} ]\n\
         prices: {{ models: {{ up/m: {{ price: {{ input: 1, output: 10 }}, priority: {{ input: 2, output: 20 }}, \
         ultrafast: {{ input: 10, output: 4000 }} }} }} }}\n",
        gateway::provider("up", &up.url())
    ));
    for (tier, expected) in [
        (json!(null), 200),
        (json!("default"), 200),
        (json!("flex"), 200),
        (json!("priority"), 200),
        (json!("auto"), 402),
        (json!("whatever"), 402),
    ] {
        let mut asked = ask("up/m");
        (asked["max_tokens"], asked["service_tier"]) = (20.into(), tier.clone());
        let reply = chat(gateway.clients, &asked).await;
        assert_eq!(reply.status, expected, "{tier}: {reply:#?}");
    }
}

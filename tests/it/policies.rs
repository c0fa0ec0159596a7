//! What policies can do to a request, seen from outside.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::acts;
use crate::client::{self, Reply, ask, chat};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::{Act, Upstream};

/// Two providers that answer with their own name and the model's, and one that is always broken.
fn town(policies: &[(&str, &str)]) -> (Vec<Upstream>, Gateway) {
    town_with("", policies)
}

fn town_with(more: &str, policies: &[(&str, &str)]) -> (Vec<Upstream>, Gateway) {
    let speaker =
        |name: &'static str| Upstream::start(move |heard| acts::says(&format!("{name}/{}", heard.model())));
    let ups = vec![
        speaker("a"),
        speaker("b"),
        Upstream::start(|_| acts::error(500, "always broken")),
        Upstream::start(|_| vec![Act::Hang]),
    ];
    let names = ["a", "b", "broken", "silent"];
    let lines: String = names.iter().zip(&ups).map(|(name, up)| provider(name, &up.url())).collect();
    let config = format!(
        "retries: {{ retries: 0 }}\n{more}providers:\n{lines}models:\n  fast: {{ targets: [ a/fast ] }}\n  strong: {{ targets: [ b/strong ] }}\n"
    );
    let setup = policies.iter().fold(gateway::setup(&config), |setup, (name, text)| setup.policy(name, text));
    (ups, setup.start())
}

async fn with_header(gateway: &Gateway, name: &str, value: &str) -> Reply {
    let mut request = client::request(http::Method::POST, "/v1/chat/completions", &ask("fast").to_string());
    request
        .headers_mut()
        .insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    client::open(gateway.clients, request).await.unwrap().rest().await
}

#[tokio::test]
async fn the_first_opinion_wins_and_silence_means_the_default_plan() {
    let (_ups, gateway) = town(&[
        (
            "10-quiet.rhai",
            "fn on_request(req) { if req.headers[\"x-nothing\"] == \"set\" { route(\"b/never\") } }",
        ),
        ("20-long.rhai", "fn on_request(req) { if req.tokens > 500 { route(\"strong\").named(\"long\") } }"),
        ("30-tools.rhai", "fn on_request(req) { if req.has_tools { route(\"b/tools\") } }"),
    ]);
    assert_eq!(chat(gateway.clients, &ask("fast")).await.said(), "a/fast");

    let mut long = ask("fast");
    long["messages"][0]["content"] = "word ".repeat(1000).into();
    let reply = chat(gateway.clients, &long).await;
    assert_eq!(reply.said(), "b/strong");
    assert_eq!(reply.header("x-tollgate-target"), "b/strong");
    let rule = reply.header("x-tollgate-rule").to_owned();
    assert!(rule.contains("20-long") && rule.contains("long"), "{rule}");

    let mut tools = ask("fast");
    tools["tools"] =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    assert_eq!(chat(gateway.clients, &tools).await.said(), "b/tools");
}

#[tokio::test]
async fn a_split_shares_by_weight() {
    let (_ups, gateway) = town(&[("10.rhai", "fn on_request(req) { split(#{ \"a/x\": 70, \"b/y\": 30 }) }")]);
    let mut counts = BTreeMap::new();
    for _ in 0..400 {
        *counts.entry(chat(gateway.clients, &ask("fast")).await.said()).or_insert(0) += 1;
    }
    // Five standard deviations: about once in two million runs this fails by chance.
    assert!((234..=326).contains(&counts["a/x"]) && counts.len() == 2, "{counts:?}");
}

#[tokio::test]
async fn a_canary_is_sticky() {
    let (_ups, gateway) = town(&[(
        "10.rhai",
        "fn on_request(req) { if bucket(\"canary\", req.user, 100) < 50 { route(\"b/canary\") } }",
    )]);
    let mut seen = BTreeMap::new();
    for round in 0..3 {
        for user in 0..40 {
            let mut question = ask("fast");
            question["user"] = format!("user-{user}").into();
            let said = chat(gateway.clients, &question).await.said();
            let first = seen.entry(user).or_insert_with(|| said.clone());
            assert_eq!(*first, said, "user {user} moved in round {round}");
        }
    }
    let canaries = seen.values().filter(|said| *said == "b/canary").count();
    assert!((5..=35).contains(&canaries), "{canaries} of 40");
}

#[tokio::test]
async fn then_is_tried_when_the_first_fails() {
    let (_ups, gateway) =
        town(&[("10.rhai", "fn on_request(req) { route(\"broken/x\").then(\"b/second\") }")]);
    let reply = chat(gateway.clients, &ask("fast")).await;
    assert_eq!((reply.said().as_str(), reply.header("x-tollgate-attempts")), ("b/second", "2"));
}

#[tokio::test]
async fn timeouts_of_a_policy_bind() {
    let (_ups, gateway) = town(&[(
        "10.rhai",
        r#"fn on_request(req) {
            if req.headers["x-way"] == "total" { return route("silent/x").timeout("300ms").then("silent/y"); }
            if req.headers["x-way"] == "shared" { return route("silent/x").timeout("600ms").then("b/second"); }
            if req.headers["x-way"] == "first" { return route("silent/x").first_token("300ms").then("b/second"); }
        }"#,
    )]);
    let begun = Instant::now();
    let reply = with_header(&gateway, "x-way", "total").await;
    assert_eq!(reply.status, 504, "the whole request has 300 ms: {reply:#?}");
    let reply = with_header(&gateway, "x-way", "shared").await;
    assert_eq!(reply.header("x-tollgate-target"), "b/second", "the first one has half of it: {reply:#?}");
    let mut question =
        client::request(http::Method::POST, "/v1/chat/completions", &client::ask_stream("fast").to_string());
    question.headers_mut().insert("x-way", "first".parse().unwrap());
    let reply = client::open(gateway.clients, question).await.unwrap().rest().await;
    assert_eq!(reply.header("x-tollgate-target"), "b/second", "each attempt has 300 ms: {reply:#?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_rejection_speaks_openai() {
    let (ups, gateway) = town(&[(
        "10.rhai",
        "fn on_request(req) { if req.tags[\"team\"] == () { return reject(403, \"no_team\", \"say who asks\"); } }",
    )]);
    let reply = chat(gateway.clients, &ask("fast")).await;
    assert_eq!(reply.status, 403, "{reply:#?}");
    let error = reply.error();
    assert_eq!((error["code"].as_str(), error["message"].as_str()), (Some("no_team"), Some("say who asks")));
    assert!(ups.iter().all(|up| up.heard().is_empty()), "nothing may leave the house");
}

#[tokio::test]
async fn tags_travel_from_header_to_policy_to_record() {
    let (_ups, gateway) = town(&[(
        "10.rhai",
        "fn on_request(req) { if req.tags[\"team\"] == \"legal\" { route(\"b/legal\").tag(\"seen\", \"yes\") } }",
    )]);
    let reply = with_header(&gateway, "x-tollgate-tags", "team=legal,feature=search").await;
    assert_eq!(reply.said(), "b/legal");
    let record = gateway.record(reply.header("x-request-id")).await;
    for pair in [json!(["team", "legal"]), json!(["feature", "search"]), json!(["seen", "yes"])] {
        assert!(record["tags"].as_array().is_some_and(|tags| tags.contains(&pair)), "{pair} in {record:#}");
    }
}

#[tokio::test]
async fn a_constraint_outlives_the_policies_after_it() {
    let (_ups, gateway) = town_with(
        "",
        &[
            ("10.rhai", "fn on_request(req) { let wanted = \"private\"; req.require(wanted); }"),
            ("20.rhai", "fn on_request(req) { route(\"a/x\").then(\"b/y\") }"),
        ],
    );
    let reply = chat(gateway.clients, &ask("fast")).await;
    assert_eq!((reply.status, reply.error()["code"].as_str()), (503, Some("no_target")), "{reply:#?}");
}

#[tokio::test]
async fn nonsense_from_a_policy_is_an_error_of_the_house_and_not_a_crash() {
    for (name, body) in [
        ("an unknown target", "route(\"nowhere\" + \"/x\")"),
        ("a url", "route(\"http:\" + \"//169.254.169.254/latest\")"),
        ("no weight at all", "let none = 0; split(#{ \"a/x\": none })"),
        ("a negative weight", "let below = -1; split(#{ \"a/x\": below })"),
        ("a number", "let number = 42; number"),
        ("a status that is no error", "let fine = 200; reject(fine, \"x\", \"y\")"),
        ("an exception", "throw \"no\""),
        ("an array out of bounds", "[1][5]"),
        ("recursion", "on_request(req)"),
        ("a string that doubles", "let s = \"x\"; loop { s += s; }"),
    ] {
        let (_ups, gateway) = town(&[("10.rhai", &format!("fn on_request(req) {{ {body} }}"))]);
        let reply = chat(gateway.clients, &ask("fast")).await;
        assert!((500..=599).contains(&reply.status), "{name}: {reply:#?}");
        reply.error();
        assert_eq!(client::get(gateway.admin, "/livez").await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn an_endless_loop_is_stopped_and_the_worker_goes_on() {
    let (_ups, gateway) = town(&[(
        "10.rhai",
        "fn on_request(req) {\n    if req.headers[\"x-way\"] == \"loop\" { loop { } }\n}",
    )]);
    for _ in 0..4 {
        let begun = Instant::now();
        let reply = with_header(&gateway, "x-way", "loop").await;
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
        assert_eq!((reply.status, reply.error()["code"].as_str()), (500, Some("policy_error")), "{reply:#?}");
    }
    assert_eq!(chat(gateway.clients, &ask("fast")).await.said(), "a/fast");
    assert_eq!(gateway.metric("tollgate_policy_errors_total", &["10"]).await, 4.0);
    let log = gateway.log().join("\n");
    assert!(log.contains("10.rhai:"), "no position in the log:\n{log}");
}

#[tokio::test]
async fn a_failing_policy_is_passed_over_where_that_is_declared() {
    for (config, policy) in [
        ("", "const ON_ERROR = \"skip\";\nfn on_request(req) { throw \"no\" }"),
        ("on_error", "fn on_request(req) { throw \"no\" }"),
    ] {
        let up = Upstream::start(|_| acts::says("default"));
        let setup = gateway::setup(&format!("providers:\n{}", provider("up", &up.url())));
        let gateway = if config.is_empty() {
            setup.policy("10.rhai", policy).start()
        } else {
            let text = format!("{}providers:\n{}", gateway::FREE_PORTS, provider("up", &up.url()));
            let text = text.replace("policies: ./policies", "policies: { dir: ./policies, on_error: skip }");
            setup.file("tollgate.yaml", &text).policy("10.rhai", policy).start()
        };
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "default", "{config}");
        assert_eq!(gateway.metric("tollgate_policy_errors_total", &[]).await, 1.0, "{config}");
    }
}

#[test]
fn a_target_that_stands_in_the_text_but_is_not_configured_is_refused_before_it_runs() {
    let setup = gateway::setup("").policy("10.rhai", "fn on_request(req) {\n    route(\"nowhere/x\")\n}\n");
    let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
    assert!(printed.code == Some(1) && printed.err.contains("10.rhai:2:"), "{printed:#?}");
}

/// What the upstream of `a` got.
async fn sent(policy: &str, path: &str, body: &serde_json::Value) -> (serde_json::Value, Reply) {
    let up = Upstream::start(|_| acts::says("ok"));
    let config = format!("providers:\n{}models:\n  fast: {{ targets: [ a/m ] }}\n", provider("a", &up.url()));
    let gateway = gateway::setup(&config).policy("10.rhai", policy).start();
    let request = client::request(http::Method::POST, path, &body.to_string());
    let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
    let heard = up.heard();
    (heard[0].json(), reply)
}

#[tokio::test]
async fn parameters_are_set_whatever_the_client_speaks() {
    let policy =
        "fn on_request(req) { route(\"fast\").set(\"temperature\", 0.2).set(\"stop\", [\"END\", \"FIN\"]) }";
    let messages = json!([{ "role": "user", "content": "hi" }]);
    for (path, body) in [
        (
            "/v1/chat/completions",
            json!({ "model": "fast", "messages": messages, "temperature": 1, "x_own": 1 }),
        ),
        ("/v1/messages", json!({ "model": "fast", "max_tokens": 9, "messages": messages })),
        (
            "/v1beta/models/fast:generateContent",
            json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }], "generationConfig": { "temperature": 1 } }),
        ),
    ] {
        let (heard, reply) = sent(policy, path, &body).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(
            (&heard["temperature"], &heard["stop"]),
            (&json!(0.2), &json!(["END", "FIN"])),
            "{path}: {heard}"
        );
    }
    // What the client's own dialect does not have is told.
    let policy = "fn on_request(req) { route(\"fast\").set(\"seed\", 7) }";
    let body = json!({ "model": "fast", "max_tokens": 9, "messages": messages });
    let (heard, reply) = sent(policy, "/v1/messages", &body).await;
    assert!(heard["seed"].is_null());
    assert!(reply.header("x-tollgate-warnings").contains("seed"), "{}", reply.header("x-tollgate-warnings"));
}

#[tokio::test]
async fn a_ranking_without_targets_is_a_clear_error() {
    let (_ups, gateway) =
        town(&[("10.rhai", "fn on_request(req) { candidates(\"fast\").where(\"nowhere\").cheapest() }")]);
    let reply = chat(gateway.clients, &ask("fast")).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.text().contains("no target satisfies"), "{}", reply.text());
}

#[tokio::test]
async fn candidates_are_the_targets_of_the_configuration() {
    let (_ups, gateway) = town(&[(
        "10.rhai",
        "fn on_request(req) { let all = candidates([\"strong\", \"fast\"]); if all.len == 2 { return cheapest(all); } }",
    )]);
    // Nothing has a price: the order of writing decides.
    assert_eq!(chat(gateway.clients, &ask("fast")).await.said(), "b/strong");
}

#[test]
fn a_policy_that_protects_and_is_not_always_asked_is_told() {
    let setup = gateway::setup("providers: { sandbox: { dialect: sandbox } }\n")
        .policy("10-all.rhai", "fn on_request(req) { route(\"sandbox/echo\") }")
        .policy("90-eu.rhai", "fn on_request(req) { req.avoid(\"sandbox/large\"); }");
    let printed = setup.run(&["check"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    let told = "90-eu.rhai:1:26: warning: `avoid` does not hold for requests that `10-all` decides";
    assert!(printed.err.contains(told), "{}", printed.err);
}

//! Faults injected on purpose: they strike whom they are meant for, loudly, cost nothing, and end by themselves.

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, ask, ask_stream, chat};
use crate::gateway::{self, Gateway, provider};
use crate::keys::send;
use crate::upstream::Upstream;

fn two(config: &str) -> (Upstream, Upstream, Gateway) {
    let [first, second] = ["first", "second"].map(|name| {
        Upstream::start(move |heard| {
            if heard.is_stream() { acts::says_stream(&["a", "b", name]) } else { acts::says(name) }
        })
    });
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\ndeadlines: {{ first_byte: 400ms, first_token: 600ms, idle: 400ms }}\n\
         state: {{ ledger: \"sqlite:./data/t.db\" }}\n{config}providers:\n{}{}",
        provider("first", &first.url()),
        provider("second", &second.url()),
    ));
    (first, second, gateway)
}

async fn admin(gateway: &Gateway, method: Method, query: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(gateway.admin, method, &format!("/admin/v1/chaos{query}"), &[], &body).await
}

async fn ready(gateway: &Gateway) -> String {
    client::get(gateway.admin, "/readyz").await.text()
}

#[tokio::test]
async fn an_operators_fault_is_rescued_counted_told_and_over_by_itself() {
    let (first, _second, gateway) = two(
        "models:\n  m: { targets: [ first/m ], fallback: [ second/m ] }\n  n: { targets: [ first/m ] }\n",
    );
    assert_eq!(chat(gateway.clients, &ask("m")).await.said(), "first");
    assert!(gateway.status().await.get("chaos").is_none());

    let wanted = json!({ "name": "outage", "kind": "error", "status": 500, "match": { "model": "m", "provider": "first" }, "for": "3s" });
    let begun = admin(&gateway, Method::POST, "", &wanted).await;
    assert_eq!((begun.status, &begun.json()["source"]), (201, &json!("admin")), "{begun:#?}");
    for _ in 0..3 {
        let reply = chat(gateway.clients, &ask("m")).await;
        assert_eq!((reply.status, reply.said().as_str()), (200, "second"), "{reply:#?}");
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!(record["attempts"][0]["chaos"], "outage", "{record:#}");
        assert_eq!(record["attempts"][0]["outcome"], "server_error", "{record:#}");
        assert!(record["attempts"][1].get("chaos").is_none(), "{record:#}");
    }
    assert_eq!(chat(gateway.clients, &ask("n")).await.said(), "first", "another model");
    assert_eq!(first.heard().len(), 2, "nothing was sent");
    let struck = ["kind=\"error\"", "provider=\"first\""];
    assert!((gateway.metric("tollgate_chaos_injected_total", &struck).await - 3.0).abs() < 0.1);
    assert!(ready(&gateway).await.contains("ready; chaos: faults are injected on purpose by outage"));
    assert_eq!(gateway.status().await["chaos"][0]["injected"], 3);
    assert!(gateway.log().iter().any(|line| line.contains("chaos begins") && line.contains("WARN")));
    assert_eq!(admin(&gateway, Method::POST, "", &wanted).await.status, 400, "it runs already");

    client::eventually_async("its end", async || {
        (chat(gateway.clients, &ask("m")).await.said() == "first").then_some(())
    })
    .await;
    client::eventually("a line about its end", || {
        gateway
            .log()
            .iter()
            .any(|line| line.contains("chaos ends") && line.contains("its time is over"))
            .then_some(())
    })
    .await;
    assert_eq!(ready(&gateway).await, "ready\n");
    assert!(gateway.metric("tollgate_chaos_active", &[]).await.abs() < 0.1);

    let audit = client::get(gateway.admin, "/admin/v1/audit").await.text();
    assert!(audit.contains("chaos.begin") && audit.contains("outage"), "{audit}");
    let free = client::eventually_async("all attempts in the ledger", async || {
        let text = client::get(gateway.admin, "/admin/v1/usage?format=jsonl").await.text();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let failed: Vec<_> = rows.into_iter().filter(|row| row["outcome"] == "server_error").collect();
        (failed.len() >= 3).then_some(failed)
    })
    .await;
    assert!(free.iter().all(|row| row["state"] == "free" && row["cost"] == 0), "{free:#?}");
}

#[tokio::test]
async fn every_kind_of_the_configuration_strikes_until_somebody_ends_it() {
    let kinds = [
        ("late", "latency, delay: 50ms"),
        ("throttled", "throttle, retry_after: 30s"),
        ("stalled", "stall"),
        ("silent", "stall, at: first_token"),
        ("garbled", "garbage"),
        ("cut", "cut, chunks: 0"),
    ];
    let (mut chaos, mut models) = ("chaos:\n".to_owned(), "models:\n".to_owned());
    for (name, kind) in kinds {
        chaos += &format!(
            "  - {{ name: {name}, kind: {kind}, match: {{ model: {name}, target: \"first/*\" }}, for: 1h }}\n"
        );
        models += &format!("  {name}: {{ targets: [ first/{name} ], fallback: [ second/m ] }}\n");
    }
    let (first, _second, gateway) = two(&format!("{chaos}{models}"));
    for (name, _) in kinds {
        for stream in [false, true] {
            let reply = chat(gateway.clients, &if stream { ask_stream(name) } else { ask(name) }).await;
            let who = if name == "late" { "first" } else { "second" };
            assert_eq!(reply.status, 200, "{name}, {stream}: {reply:#?}");
            assert!(reply.text().contains(who), "{name}, {stream}: {reply:#?}");
            let sent = first.heard_for(name).len();
            let goes_out = matches!(name, "late" | "cut");
            assert_eq!(sent, if goes_out { 1 + usize::from(stream) } else { 0 }, "{name}, {stream}");
        }
    }
    let unknown = admin(&gateway, Method::DELETE, "?name=nobody", &Value::Null).await;
    assert_eq!(unknown.status, 404, "{unknown:#?}");
    let wrong = admin(&gateway, Method::DELETE, "?nmae=late", &Value::Null).await;
    assert_eq!(wrong.status, 400, "a slip of the pen ends nothing: {wrong:#?}");
    let endless = json!({ "name": "endless", "kind": "stall" });
    let endless = admin(&gateway, Method::POST, "", &endless).await;
    assert_eq!(endless.status, 400);
    assert!(endless.text().contains("an end is required"), "{endless:#?}");

    let ended = admin(&gateway, Method::DELETE, "", &Value::Null).await;
    assert_eq!(ended.json()["ended"].as_array().map(Vec::len), Some(6), "{ended:#?}");
    assert_eq!(admin(&gateway, Method::GET, "", &Value::Null).await.json(), json!({ "chaos": [] }));
    assert_eq!(chat(gateway.clients, &ask("garbled")).await.said(), "first");
}

#[tokio::test]
async fn an_answer_that_is_cut_after_its_first_content_ends_with_an_error() {
    let (_first, _second, gateway) = two("models:\n  m: { targets: [ first/m ], fallback: [ second/m ] }\n\
         chaos:\n  - { name: scissors, kind: cut, chunks: 2, match: { provider: first }, for: 1h }\n");
    let reply = chat(gateway.clients, &ask_stream("m")).await;
    assert!(reply.text().contains("\"a\"") && !reply.text().contains("first"), "{reply:#?}");
    assert!(reply.text().contains("error") && !reply.text().contains("[DONE]"), "{reply:#?}");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["attempts"][0]["chaos"], "scissors", "{record:#}");
}

#[tokio::test]
async fn chaos_without_an_end_is_refused_with_its_place() {
    let setup = gateway::setup(
        "providers: { sandbox: { dialect: sandbox } }\nchaos:\n  - { name: a, kind: error, chunks: 2 }\n  - { name: a, kind: eror, for: 1m }\n",
    );
    let printed = setup.run(&["check"]);
    assert_ne!(printed.code, Some(0));
    let setup = setup.file(
        "tollgate.yaml",
        "providers: { sandbox: { dialect: sandbox } }\nchaos:\n  - { name: a, kind: error, chunks: 2 }\n  - { name: a, kind: error, for: 1m, percent: 0 }\n",
    );
    let printed = setup.run(&["check"]);
    for part in ["an end is required", "belongs to `kind: cut`", "two experiments", "percent can be struck"] {
        assert!(printed.err.contains(part) || printed.out.contains(part), "{part}: {printed:#?}");
    }
}

#[tokio::test]
async fn no_web_page_begins_an_experiment() {
    let gateway = gateway::start("providers: { sandbox: { dialect: sandbox } }\n");
    let experiment = r#"{"name":"x","kind":"error","for":"1h","match":{"provider":"none"}}"#;
    let begin =
        async |headers: &[_]| send(gateway.admin, Method::POST, "/admin/v1/chaos", headers, experiment).await;
    for page in [
        [("origin", "https://evil.example"), ("content-type", "text/plain")],
        [("host", "evil.example:9090"), ("origin", "http://evil.example:9090")],
        [("sec-fetch-site", "cross-site"), ("content-type", "application/json")],
    ] {
        let reply = begin(&page).await;
        assert_eq!(reply.status, 403, "{page:?}: {reply:#?}");
        assert!(reply.text().contains("admin.token"), "{reply:#?}");
    }
    let program = begin(&[]).await;
    assert!(program.status < 300, "{program:#?}");
}

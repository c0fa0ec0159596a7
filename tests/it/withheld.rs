//! What guards keep from clients was made, and is paid for; what plugins have done for them is looked at and paid for, too.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, chat};
use crate::gateway::{self, Gateway, Setup, provider};
use crate::guards::warm;
use crate::plugins::sample;
use crate::upstream::{Heard, Upstream};

const MAIL: &str = "ada@example.org";

/// A gateway with a ledger, the PII guard in this role, and further plugins and settings.
fn town(upstream: &Upstream, role: &str, plugins: &str, more: &str) -> Option<Setup> {
    let bytes = sample("pii-guard")?;
    let cache = warm(&bytes);
    let setup = gateway::setup(&format!(
        "plugins:\n  cache: {cache}\n  embeddings: vectors\n  list:\n    - name: pii\n      grants: [log, prompt, rewrite]\n      \
         limits: {{ time: 5s, window: 5s }}\n      guard: {role}\n{plugins}\
         state: {{ ledger: sqlite:./data/tollgate.db }}\n\
         prices: {{ models: {{ \"up/*\": {{ price: {{ input: 1, output: 10 }} }} }} }}\n\
         models: {{ vectors: {{ targets: [ up/e ] }} }}\n{more}providers:\n{}",
        provider("up", &upstream.url())
    ));
    std::fs::create_dir(setup.path().join("plugins")).unwrap();
    std::fs::write(setup.path().join("plugins/pii.wasm"), bytes).unwrap();
    Some(setup)
}

/// The ledger's rows, as soon as none is open.
async fn rows(gateway: &Gateway) -> Vec<Value> {
    client::eventually_async("all attempts to end", async || {
        let text = client::get(gateway.admin, "/admin/v1/usage?format=jsonl").await.text();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let usage = client::get(gateway.admin, "/admin/v1/usage").await.json();
        let over = usage["ledger"]["waiting"] == 0 && rows.iter().all(|row| row["state"] != "open");
        (over && !rows.is_empty()).then_some(rows)
    })
    .await
}

fn asks(stream: bool) -> Value {
    json!({"model": "up/m", "stream": stream, "messages": [{"role": "user", "content": "whom shall I ask?"}]})
}

#[tokio::test]
async fn an_answer_that_nobody_gets_is_paid_for() {
    // The first words are what the guard blocks: no content has gone out before.
    let upstream = Upstream::start(|heard| {
        let text = format!("{MAIL} and many a word more, that the provider has made already");
        if heard.is_stream() { acts::says_stream(&[&text, " and on"]) } else { acts::says(&text) }
    });
    for stream in [false, true] {
        let Some(setup) = town(&upstream, "{ on: [response, stream] }", "", "") else { return };
        let gateway = setup.start();
        let reply = chat(gateway.clients, &asks(stream)).await;
        assert!(reply.text().contains("guard_blocked"), "{reply:#?}");
        let record = gateway.record(reply.header("x-request-id")).await;
        assert!(record["usage"]["output"].as_u64() > Some(2), "stream {stream}: {record}");
        let rows = rows(&gateway).await;
        let row = &rows[0];
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(row["outcome"], "rejected", "{row}");
        assert!(
            row["output"].as_u64() > Some(2) && row["cost"].as_u64() > Some(20),
            "stream {stream}: {row}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_is_blocked_half_way_is_paid_for_to_where_it_came() {
    let upstream = Upstream::start(|_| {
        let long = "x".repeat(400);
        acts::says_stream(&["Well, ", &format!("{MAIL} {long}")])
    });
    let Some(setup) = town(&upstream, "{ on: [stream] }", "", "") else { return };
    let gateway = setup.start();
    let reply = chat(gateway.clients, &asks(true)).await;
    assert!(reply.text().contains("guard_blocked") && !reply.text().contains("xxx"), "{}", reply.text());
    let rows = rows(&gateway).await;
    assert!(rows[0]["output"].as_u64() > Some(90), "{rows:?}");
}

/// Vectors for whoever asks, else the model's name.
fn vectors(heard: &Heard) -> Vec<crate::upstream::Act> {
    if !heard.path.ends_with("/embeddings") {
        return acts::says(&heard.model());
    }
    let texts = heard.json()["input"].as_array().map_or(0, Vec::len);
    let data: Vec<_> = (0..texts).map(|index| json!({"index": index, "embedding": [1.0, 0.0]})).collect();
    acts::whole(200, &json!({"data": data, "model": "e", "usage": {"prompt_tokens": 40, "total_tokens": 40}}))
}

#[tokio::test]
async fn vectors_of_a_plugin_are_looked_at_and_paid_by_who_made_the_request() {
    let Some(intent) = sample("keyword-classifier") else { return };
    let plugins = "    - name: intent\n      grants: [log, ai, prompt]\n      limits: { time: 5s }\n      \
                   config: { labels: { code: { examples: [we sail at dawn] } }, fallback: other, threshold: 0.3 }\n";
    let more = "auth: keys\nkeys: { web: { secret: env:WEB_KEY, team: web } }\nbudgets: [ { name: web, dollars: 1, per: day, for: { team: web } } ]\n";
    let start = |role: &str| {
        let upstream = Upstream::start(vectors);
        let setup = town(&upstream, role, plugins, more)?.env("WEB_KEY", "web-key-of-the-story");
        let setup = setup
            .policy("10-intent.rhai", "fn on_request(req) { plugin(\"intent\").classify(req); return; }\n");
        std::fs::write(setup.path().join("plugins/intent.wasm"), &intent).unwrap();
        let gateway = setup.start();
        Some((upstream, gateway))
    };
    let ask = json!({"model": "up/m", "messages": [{"role": "user", "content": format!("write to {MAIL}")}]});

    let Some((upstream, gateway)) = start("{ on: [request], action: redact }") else { return };
    let before = upstream.heard_for("e").len();
    let reply = crate::keys::chat_as(gateway.clients, "web-key-of-the-story", &ask).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    let asked = upstream.heard_for("e")[before..].to_vec();
    assert!(!asked.is_empty());
    for heard in &asked {
        let text = String::from_utf8_lossy(&heard.body).into_owned();
        assert!(text.contains("[EMAIL_1]") && !text.contains("example.org"), "{text}");
    }
    let rows = rows(&gateway).await;
    let row = rows
        .iter()
        .find(|row| row["target"] == "up/e" && row["team"] == "web")
        .expect("a row of the vectors");
    assert_eq!(
        (&row["input"], &row["cost"], &row["endpoint"]),
        (&json!(40), &json!(40_000), &json!("embeddings"))
    );
    assert!(row["tags"].to_string().contains("intent"), "{row}");
    assert_eq!(row["request"], reply.header("x-request-id"), "{row}");
    let budgets = client::get(gateway.admin, "/admin/v1/budgets").await.json();
    assert!(budgets["budgets"][0]["used"].as_u64() >= Some(40_000), "{budgets}");

    // A guard that lets nothing of it pass keeps the texts from the model; the classifier says so in its own way.
    let Some((upstream, gateway)) = start("{ on: [request], action: block, models: [vectors] }") else {
        return;
    };
    let before = upstream.heard_for("e").len();
    let reply = crate::keys::chat_as(gateway.clients, "web-key-of-the-story", &ask).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    assert_eq!(upstream.heard_for("e").len(), before);
}

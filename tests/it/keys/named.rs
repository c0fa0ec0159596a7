//! What keys name elsewhere, and what operators do beside keys: budgets by name, and the whole audit log.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{ADMIN, admin, chat_as, create, with_store};
use crate::acts;
use crate::client::ask;
use crate::gateway::{self, Gateway, Setup};
use crate::upstream::Upstream;

const NAMED: &str = "auth: keys
models: { fast: { targets: [ up/m ] } }
budgets:
  - { name: purse, tokens: 100000, per: month, by_name: true }
  - { name: empty, tokens: 1, per: month, by_name: true }
  - { name: all, tokens: 1000000, per: month }
";

/// A gateway whose database outlives it.
fn town(upstream: &Upstream, database: &std::path::Path) -> Setup {
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0, token: env:ADMIN_TOKEN }}\n\
         state: {{ ledger: \"sqlite:{}\" }}\nproviders:\n{}{NAMED}",
        database.display(),
        gateway::provider("up", &upstream.url())
    );
    gateway::setup("").file("tollgate.yaml", &config).env("ADMIN_TOKEN", ADMIN)
}

async fn used(gateway: &Gateway, name: &str) -> u64 {
    let all = admin(gateway, Method::GET, "/admin/v1/budgets", &Value::Null).await.json();
    let all = all["budgets"].as_array().unwrap().clone();
    all.iter().find(|budget| budget["name"] == name).map_or(0, |budget| budget["used"].as_u64().unwrap())
}

#[tokio::test]
async fn a_budget_by_name_holds_for_the_keys_that_name_it_and_over_a_restart() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let state = tempfile::tempdir().unwrap();
    let database = state.path().join("t.db");
    let mut gateway = town(&upstream, &database).start();
    let (_, plain) = create(&gateway, json!({ "name": "plain" })).await;
    let (_, named) = create(&gateway, json!({ "name": "named", "budgets": ["purse"] })).await;
    let (_, poor) = create(&gateway, json!({ "name": "poor", "budgets": ["purse", "empty"] })).await;

    assert_eq!(chat_as(gateway.clients, &plain, &ask("fast")).await.status, 200);
    assert_eq!(used(&gateway, "purse").await, 0);
    assert_eq!(chat_as(gateway.clients, &named, &ask("fast")).await.status, 200);
    let spent = used(&gateway, "purse").await;
    assert!(spent > 0 && used(&gateway, "all").await == 2 * spent);
    let refused = chat_as(gateway.clients, &poor, &ask("fast")).await;
    assert_eq!((refused.status, &refused.error()["code"]), (402, &json!("budget_exceeded")));
    assert!(refused.text().contains("budget `empty` of 1 tokens a month"), "{}", refused.text());

    gateway.terminate();
    assert!(gateway.ended(Duration::from_secs(10)).is_some_and(|status| status.success()));
    let gateway = town(&upstream, &database).start();
    assert_eq!((used(&gateway, "purse").await, used(&gateway, "all").await), (spent, 2 * spent));

    for (key, expected) in [
        (json!({ "name": "k", "budgets": ["purze"] }), "`budgets`: there is no budget `purze`"),
        (json!({ "name": "k", "budgets": ["all"] }), "write `by_name: true` there"),
        (json!({ "name": "k", "rate_limits": ["gold"] }), "`rate_limits`: there is no limit `gold`"),
    ] {
        let reply = admin(&gateway, Method::POST, "/admin/v1/keys", &key).await;
        assert!(reply.status == 400 && reply.text().contains(expected), "{reply:#?}");
    }
}

#[tokio::test]
async fn budgets_and_usage_know_a_key_by_its_name() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let config = "auth: keys\nbudgets:\n  - { name: of-ci, tokens: 100000, per: month, for: { key: ci } }\n";
    let gateway = with_store(config, &upstream).start();
    let (id, ci) = create(&gateway, json!({ "name": "ci" })).await;
    let (_, nightly) = create(&gateway, json!({ "name": "nightly" })).await;
    for key in [&ci, &nightly] {
        assert_eq!(chat_as(gateway.clients, key, &ask("up/m")).await.status, 200);
    }
    let spent = used(&gateway, "of-ci").await;
    assert!(spent > 0, "what the key spent counts");
    // A budget that is made later counts what it spent before.
    let budget = json!({ "name": "later", "tokens": 100_000, "per": "month", "for": { "key": "ci" } });
    let made = admin(&gateway, Method::POST, "/admin/v1/budgets", &budget).await;
    assert_eq!(made.status, 201, "{made:#?}");
    assert_eq!(used(&gateway, "later").await, spent);

    let path = "/admin/v1/usage?by=key&only=key=ci";
    let sums = admin(&gateway, Method::GET, path, &Value::Null).await.json();
    let sums = sums["usage"].as_array().unwrap();
    assert_eq!(sums.len(), 1, "{sums:#?}");
    assert_eq!(
        (&sums[0]["key"], &sums[0]["key_name"], &sums[0]["requests"]),
        (&json!(id), &json!("ci"), &json!(1))
    );
    let database = gateway.path("data/t.db").display().to_string();
    let told = |format: &'static str| {
        let database = database.clone();
        tokio::task::spawn_blocking(move || {
            gateway::setup("").run(&[
                "usage",
                "--by",
                "key",
                "--only",
                "key=ci",
                "--database",
                &database,
                "--format",
                format,
            ])
        })
    };
    let table = told("table").await.unwrap();
    assert!(table.out.contains(&format!("ci ({id})")) && !table.out.contains("nightly"), "{table:#?}");
    let csv = told("csv").await.unwrap();
    let lines: Vec<&str> = csv.out.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with(",key_name") && lines[1].ends_with(",ci"), "{csv:#?}");
}

#[tokio::test]
async fn a_name_is_one_keys_until_it_is_revoked() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = with_store("", &upstream).start();
    let (id, _) = create(&gateway, json!({ "name": "a" })).await;
    let again = admin(&gateway, Method::POST, "/admin/v1/keys", &json!({ "name": "a" })).await;
    assert_eq!(again.status, 409, "{again:#?}");
    assert!(again.text().contains("there is a key of this name"), "{}", again.text());
    let revoked = admin(&gateway, Method::DELETE, &format!("/admin/v1/keys/{id}"), &Value::Null).await;
    assert_eq!(revoked.status, 200, "{revoked:#?}");
    create(&gateway, json!({ "name": "a" })).await;
    let strange = json!({ "name": "b", "scope": { "providers": ["up", "nope"] } });
    let strange = admin(&gateway, Method::POST, "/admin/v1/keys", &strange).await;
    assert_eq!(strange.status, 400, "{strange:#?}");
    assert!(strange.text().contains("there is no provider `nope`"), "{}", strange.text());
}

#[tokio::test]
async fn whatever_operators_change_stands_in_the_audit_log() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = with_store("", &upstream).policy("10-a.rhai", "fn on_request(req) { }").start();
    let price = json!({ "models": { "up/m": { "price": { "input": 1, "output": 2 } } } });
    for (path, body, status) in [
        ("/admin/v1/policies/rollback", json!({ "hash": "disk" }), 200),
        ("/admin/v1/policies/rollback", json!({ "hash": "zz" }), 409),
        ("/admin/v1/policies/promote", json!({ "share": 5 }), 409),
        ("/admin/v1/prices", price, 200),
    ] {
        let reply = admin(&gateway, Method::POST, path, &body).await;
        assert_eq!(reply.status, status, "{path}: {reply:#?}");
    }
    let log = admin(&gateway, Method::GET, "/admin/v1/audit", &Value::Null).await.json();
    let noted: Vec<(String, String)> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["actor"] != "gateway")
        .map(|entry| (entry["action"].as_str().unwrap().into(), entry["target"].as_str().unwrap().into()))
        .collect();
    let noted: Vec<(&str, &str)> = noted.iter().map(|(action, target)| (&**action, &**target)).collect();
    let expected = [
        ("policies.rollback", "disk"),
        ("policies.rollback", "zz"),
        ("policies.promote", "none"),
        ("prices.push", "prices"),
    ];
    assert_eq!(noted, expected, "{log:#}");
}

//! The life of a stored key: made, used, rotated, disabled, revoked; and what is written of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::{Value, json};

use super::{ADMIN, admin, chat_as, create, everything_below, with_store};
use crate::acts;
use crate::client::{ask, at_once};
use crate::upstream::Upstream;

const MODELS: &str = "auth: keys\nmodels: { fast: { targets: [ up/m ] } }\n";

#[tokio::test]
async fn a_key_is_made_rotated_disabled_and_revoked() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = with_store(MODELS, &upstream).start();
    let (id, first) = create(
        &gateway,
        json!({ "name": "ci", "team": "platform", "priority": "high", "scope": { "models": ["fast"] } }),
    )
    .await;
    assert!(first.starts_with(&format!("tg-{id}-")), "{first}");
    let used = async |key: &str| chat_as(gateway.clients, key, &ask("fast")).await.status;
    assert_eq!(used(&first).await, 200);
    let listed = admin(&gateway, Method::GET, "/admin/v1/keys", &Value::Null).await;
    assert!(!listed.text().contains(&first) && listed.json()["keys"][0]["state"] == "active", "{listed:#?}");
    assert_eq!(listed.json()["keys"][0]["priority"], "high");

    let act = async |action: &str, body: Value| {
        let path = format!("/admin/v1/keys/{id}/{action}");
        let reply = admin(&gateway, Method::POST, &path, &body).await;
        assert_eq!(reply.status, 200, "{action}: {reply:#?}");
        reply.json()
    };
    let second = act("rotate", json!({ "overlap": "1h" })).await["secret"].as_str().unwrap().to_owned();
    assert_eq!((used(&first).await, used(&second).await), (200, 200), "both count while one takes over");
    let third = act("rotate", json!({ "overlap": "0s" })).await["secret"].as_str().unwrap().to_owned();
    assert_eq!((used(&first).await, used(&second).await, used(&third).await), (401, 401, 200));
    act("disable", Value::Null).await;
    assert_eq!(used(&third).await, 401);
    act("enable", Value::Null).await;
    assert_eq!(used(&third).await, 200);

    let path = format!("/admin/v1/keys/{id}");
    let patched =
        admin(&gateway, Method::PATCH, &path, &json!({ "scope": { "models": ["other"] }, "team": null }))
            .await;
    assert_eq!((patched.status, patched.json().get("team")), (200, None), "{patched:#?}");
    assert_eq!(used(&third).await, 403);
    assert_eq!(admin(&gateway, Method::PATCH, &path, &json!({ "colour": "red" })).await.status, 400);
    assert_eq!(admin(&gateway, Method::DELETE, &path, &Value::Null).await.json()["state"], "revoked");
    assert_eq!(used(&third).await, 401);
    let again = admin(&gateway, Method::POST, &format!("{path}/enable"), &Value::Null).await;
    assert_eq!(again.status, 400, "what is revoked stays so");
    assert_eq!(admin(&gateway, Method::GET, "/admin/v1/keys/nobody", &Value::Null).await.status, 404);

    // Who did what stands in the log, in order and unchanged; no secret does, nor in any other file.
    let log = admin(&gateway, Method::GET, "/admin/v1/audit", &Value::Null).await.json();
    let actions: Vec<_> =
        log["entries"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    let expected = [
        "secrets.read",
        "key.create",
        "key.rotate",
        "key.rotate",
        "key.disable",
        "key.enable",
        "key.update",
        "key.revoke",
    ];
    assert_eq!(actions, expected);
    let verdict = admin(&gateway, Method::GET, "/admin/v1/audit/verify", &Value::Null).await.json();
    assert_eq!((&verdict["state"], &verdict["entries"]), (&json!("sound"), &json!(8)));
    let everything = format!(
        "{}{:?}{:?}{}{log}",
        everything_below(&gateway.path("data")),
        gateway.log(),
        gateway.access(),
        gateway.metrics().await
    );
    for secret in [&first, &second, &third, ADMIN] {
        assert!(!everything.contains(secret), "a secret was written down");
    }
}

#[tokio::test]
async fn changes_of_one_key_that_are_made_at_once_all_hold() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = Arc::new(with_store(MODELS, &upstream).start());
    let (id, _) = create(&gateway, json!({ "name": "ci" })).await;
    let path: Arc<str> = format!("/admin/v1/keys/{id}").into();
    let fields = [
        ("user", json!("ann")),
        ("team", json!("platform")),
        ("app", json!("search")),
        ("priority", json!("high")),
        ("sources", json!(["10.0.0.0/8"])),
        ("tags", json!({ "a": "b" })),
        ("expires", json!("2999-01-01")),
        ("disabled", json!(true)),
    ];
    let change = |n: usize| {
        let (field, value) = &fields[n];
        let (gateway, path, body) = (gateway.clone(), path.clone(), json!({ *field: value }));
        async move { admin(&gateway, Method::PATCH, &path, &body).await.status }
    };
    let statuses = at_once(fields.len(), change).await;
    assert_eq!(statuses, [200; 8]);
    let shown = admin(&gateway, Method::GET, &path, &Value::Null).await.json();
    assert_eq!(shown["state"], "disabled", "{shown:#}");
    for (field, value) in fields.iter().filter(|(field, _)| !["disabled", "expires"].contains(field)) {
        assert_eq!(shown[*field], *value, "{field}: {shown:#}");
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_under_load() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = Arc::new(with_store(MODELS, &upstream).start());
    let (id, secret) = create(&gateway, json!({ "name": "busy" })).await;
    let gone = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (to, secret, gone) = (gateway.clients, secret.clone(), gone.clone());
            tokio::spawn(async move {
                let (mut before, mut after) = (0, 0);
                while after < 5 {
                    let was_gone = gone.load(Ordering::SeqCst);
                    let status = chat_as(to, &secret, &ask("fast")).await.status;
                    if was_gone {
                        assert!(matches!(status, 401 | 429), "a revoked key was let in: {status}");
                        after += 1;
                    } else {
                        before += usize::from(status == 200);
                    }
                }
                before
            })
        })
        .collect();
    while upstream.heard().len() < 100 {
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let path = format!("/admin/v1/keys/{id}/revoke");
    assert_eq!(admin(&gateway, Method::POST, &path, &Value::Null).await.status, 200);
    gone.store(true, Ordering::SeqCst);
    let mut served = 0;
    for client in clients {
        served += client.await.expect("a client that ends");
    }
    assert!(served >= 80, "{served}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_keys_with_and_without_a_running_gateway() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let setup = with_store(MODELS, &upstream);
    let made = setup.run(&[
        "keys",
        "create",
        "first",
        "--team",
        "t",
        "--model",
        "fast",
        "--requests",
        "2/day",
        "--json",
    ]);
    assert_eq!(made.code, Some(0), "{made:#?}");
    let first: Value = serde_json::from_str(&made.out).unwrap();
    assert_eq!(setup.run(&["audit", "verify"]).code, Some(0));
    let path = setup.path().to_owned();
    let gateway = setup.start();
    let secret = first["secret"].as_str().unwrap();
    let first_answer = chat_as(gateway.clients, secret, &ask("fast")).await;
    assert_eq!(first_answer.said(), "hello");
    assert_eq!(first_answer.header("x-ratelimit-remaining-requests"), "1");
    assert_eq!(chat_as(gateway.clients, secret, &ask("fast")).await.said(), "hello");
    let third = chat_as(gateway.clients, secret, &ask("fast")).await;
    assert_eq!((third.status, &third.error()["code"]), (429, &json!("rate_limit_exceeded")));

    // The database is open: the command asks the gateway that has it.
    let run = |arguments: &[&str]| {
        let admin = gateway.admin.to_string();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(arguments)
            .args(["--admin", &admin])
            .current_dir(&path)
            .env("ADMIN_TOKEN", ADMIN)
            .output()
            .expect("a command");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, out) = tokio::task::block_in_place(|| run(&["keys", "rotate", "first", "--overlap", "0s"]));
    assert_eq!(code, Some(0), "{out}");
    let rotated = out.lines().last().unwrap_or_default();
    assert_eq!(chat_as(gateway.clients, secret, &ask("fast")).await.status, 401);
    assert_eq!(
        chat_as(gateway.clients, rotated, &ask("fast")).await.status,
        429,
        "counts go on after a rotation"
    );
    let (_, list) = tokio::task::block_in_place(|| run(&["keys", "list"]));
    assert!(list.contains("first") && !list.contains(rotated), "{list}");
    let (code, verdict) = tokio::task::block_in_place(|| run(&["audit", "verify"]));
    assert_eq!(code, Some(0), "{verdict}");
    assert_eq!(tokio::task::block_in_place(|| run(&["keys", "revoke", "first"])).0, Some(0));
    assert_eq!(chat_as(gateway.clients, rotated, &ask("fast")).await.status, 401);
}

#[test]
fn a_changed_audit_log_is_noticed() {
    let upstream = tokio::runtime::Runtime::new().unwrap();
    let upstream = upstream.block_on(async { Upstream::start(|_| acts::says("hello")) });
    let setup = with_store(MODELS, &upstream);
    for name in ["a", "b", "c"] {
        assert_eq!(setup.run(&["keys", "create", name]).code, Some(0));
    }
    let verified = setup.run(&["audit", "verify"]);
    assert_eq!(verified.code, Some(0), "{verified:#?}");
    let head = verified.out.rsplit(' ').next().unwrap_or_default().to_owned();
    let database = rusqlite::Connection::open(setup.path().join("data/t.db")).unwrap();
    database
        .execute_batch("DROP TRIGGER audit_is_not_changed; UPDATE audit SET actor = 'nobody' WHERE seq = 2")
        .unwrap();
    let verified = setup.run(&["audit", "verify"]);
    assert_eq!(verified.code, Some(1), "{verified:#?}");
    assert!(verified.err.contains("broken at entry 2"), "{}", verified.err);
    database.execute_batch("DROP TRIGGER audit_is_not_cut; DELETE FROM audit WHERE seq >= 2").unwrap();
    assert_eq!(setup.run(&["audit", "verify"]).code, Some(0), "a cut end shows only to who noted the head");
    assert_eq!(setup.run(&["audit", "verify", "--head", &head]).code, Some(1));
    std::fs::remove_file(setup.path().join("data/t.db.pepper")).unwrap();
    let lost = setup.run(&["keys", "list"]);
    assert!(lost.code == Some(1) && lost.err.contains("put it back"), "{lost:#?}");
}

#[tokio::test]
async fn a_secret_of_the_keystore_is_rotated_without_a_restart() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let config = format!(
        "keystore: {{ file: data/secrets.json, key: env:KEYSTORE_KEY }}\nproviders:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ keystore:up ] }}\n",
        upstream.url()
    );
    let setup =
        crate::gateway::setup(&config).env("KEYSTORE_KEY", "a key of the keystore of 32 bytes or more");
    let path = setup.path().to_owned();
    let set = move |command: &str, secret: &str| {
        use std::io::Write as _;
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["secrets", command, "up"])
            .current_dir(&path)
            .env("KEYSTORE_KEY", "a key of the keystore of 32 bytes or more")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a command");
        child.stdin.take().expect("its input").write_all(secret.as_bytes()).expect("a written secret");
        assert!(child.wait().expect("its end").success(), "{command}");
    };
    set("set", "sk-keystore-first\n");
    let gateway = setup.start();
    assert_eq!(chat_as(gateway.clients, "", &ask("up/m")).await.said(), "hello");
    assert_eq!(upstream.heard()[0].header("authorization"), Some("Bearer sk-keystore-first"));
    set("rotate", "sk-keystore-second");
    crate::client::eventually_async("the rotated secret", async || {
        chat_as(gateway.clients, "", &ask("up/m")).await;
        (upstream.heard().last()?.header("authorization")? == "Bearer sk-keystore-second").then_some(())
    })
    .await;
    let written =
        format!("{}{:?}{:?}", everything_below(&gateway.path("data")), gateway.log(), gateway.access());
    assert!(!written.contains("sk-keystore"), "a secret was written down");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_changes_what_was_agreed_on_and_leaves_the_rest() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let setup = with_store(MODELS, &upstream);
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| setup.run(arguments));
    let made = run(&[
        "keys",
        "create",
        "ci",
        "--team",
        "a",
        "--model",
        "fast",
        "--max-cost",
        "5",
        "--requests",
        "1/day",
        "--json",
    ]);
    let secret = serde_json::from_str::<Value>(&made.out).unwrap()["secret"].as_str().unwrap().to_owned();
    let changed = run(&[
        "keys",
        "update",
        "ci",
        "--team",
        "b",
        "--concurrent",
        "9",
        "--clear",
        "scope.max_cost",
        "--tag",
        "x=y",
        "--json",
    ]);
    assert_eq!(changed.code, Some(0), "{changed:#?}");
    let key: Value = serde_json::from_str(&changed.out).unwrap();
    assert_eq!((&key["team"], &key["tags"]), (&json!("b"), &json!({ "x": "y" })), "{key}");
    assert_eq!(key["scope"], json!({ "models": ["fast"] }));
    assert_eq!(key["limits"], json!({ "requests": ["1/day"], "concurrent": 9 }));
    for (arguments, says) in [
        (&["keys", "update", "ci"][..], "nothing is given"),
        (&["keys", "update", "ci", "--clear", "expires"], "the key has no `expires`"),
        (&["keys", "update", "ci", "--clear", "limits.tokens"], "the key has no `limits.tokens`"),
        (&["keys", "update", "nobody", "--team", "b"], "there is no such key"),
    ] {
        let refused = run(arguments);
        assert!(refused.code == Some(1) && refused.err.contains(says), "{arguments:?}: {refused:#?}");
    }
    let path = setup.path().to_owned();
    let gateway = setup.start();
    assert_eq!(chat_as(gateway.clients, &secret, &ask("fast")).await.status, 200);
    assert_eq!(chat_as(gateway.clients, &secret, &ask("fast")).await.status, 429);
    // The database is open: the gateway that has it is asked.
    let admin = gateway.admin.to_string();
    let output = tokio::task::block_in_place(|| {
        std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args([
                "keys",
                "update",
                "ci",
                "--clear",
                "limits.requests",
                "--clear",
                "team",
                "--priority",
                "high",
            ])
            .args(["--json", "--admin", &admin])
            .current_dir(&path)
            .env("ADMIN_TOKEN", ADMIN)
            .output()
            .expect("a command")
    });
    let key: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((&key["team"], &key["priority"]), (&Value::Null, &json!("high")));
    assert_eq!(
        (&key["limits"], &key["scope"]),
        (&json!({ "concurrent": 9 }), &json!({ "models": ["fast"] }))
    );
    assert_eq!(chat_as(gateway.clients, &secret, &ask("fast")).await.status, 200, "at once");
}

//! Policies that are tried on real traffic before they serve: shadows, candidates with a share, and the way back.

use std::fs;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, ask, chat, eventually_async};
use crate::gateway::{self, Gateway, Printed, Setup, field, provider};
use crate::upstream::Upstream;

const LIVE: &str = r#"fn on_request(req) {
    if req.tokens > 500 { return route("up/large").named("long"); }
    route("up/one").named("usual")
}"#;

/// A provider that answers with the name of the model it was asked for.
fn parrot() -> Upstream {
    Upstream::start(|heard| acts::says(&heard.model()))
}

fn town(upstream: &Upstream, more: &str) -> Setup {
    let config = format!("{more}providers:\n{}", provider("up", &upstream.url()));
    gateway::setup(&config).policy("10-route.rhai", LIVE)
}

fn beside(setup: Setup, role: &str, text: &str) -> Setup {
    let dir = setup.path().join("policies").join(role);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("10-route.rhai"), text).unwrap();
    setup
}

async fn policies(gateway: &Gateway) -> Value {
    client::get(gateway.admin, "/admin/v1/policies").await.json()
}

/// Waits until `/admin/v1/policies` passes the test.
async fn until(gateway: &Gateway, what: &str, test: impl Fn(&Value) -> bool) -> Value {
    eventually_async(what, async || {
        let all = policies(gateway).await;
        test(&all).then_some(all)
    })
    .await
}

async fn send(gateway: &Gateway, user: &str, text: &str) -> Reply {
    let mut question = ask("up/any");
    (question["user"], question["messages"][0]["content"]) = (user.into(), text.into());
    chat(gateway.clients, &question).await
}

async fn operate(gateway: &Gateway, path: &str, body: Value) -> Reply {
    let request = client::request(Method::POST, path, &body.to_string());
    client::open(gateway.admin, request).await.unwrap().rest().await
}

/// Runs a command in the gateway's folder, and tells it where the gateway is.
fn run(gateway: &Gateway, arguments: &[&str]) -> Printed {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .args(["--admin", &gateway.admin.to_string()])
        .current_dir(gateway.path(""))
        .env_clear()
        .env("TEST_KEY", gateway::CANARY)
        .output()
        .expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Printed { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test]
async fn a_shadow_sees_real_traffic_and_touches_nothing() {
    const SHADOW: &str = r#"fn on_request(req) {
    state.incr("seen", 1);
    metric("shadowed").add(#{ a: "b" });
    info("the shadow speaks");
    if req.contains_any(["forbidden"]) { return reject(403, "no", "no").named("strict"); }
    if req.tokens > 500 { return route("up/large").named("long"); }
    if req.contains_any(["boom"]) { return 1 / 0; }
    route("up/two").named("cheaper")
}"#;
    let upstream = parrot();
    let setup = town(&upstream, "")
        .policy("05-state.rhai", "fn on_request(req) { req.tag(\"seen\", `${state.get(\"seen\")}`); }");
    let setup = beside(setup, "shadow", SHADOW);
    fs::copy(setup.path().join("policies/05-state.rhai"), setup.path().join("policies/shadow/05-state.rhai"))
        .unwrap();
    let gateway = setup.start();
    let usual = send(&gateway, "u", "hello").await;
    assert_eq!((usual.said().as_str(), usual.header("x-tollgate-rule")), ("one", "10-route/usual"));
    assert_eq!(send(&gateway, "u", "forbidden").await.said(), "one");
    assert_eq!(send(&gateway, "u", &"word ".repeat(1_000)).await.said(), "large");
    assert_eq!(send(&gateway, "u", "boom").await.said(), "one");

    let all =
        until(&gateway, "four views of the shadow", |all| all["shadow"]["findings"]["asked"] == 4).await;
    let found = &all["shadow"]["findings"];
    assert_eq!(
        (&found["same"], &found["diverged"], &found["route"], &found["denial"], &found["failure"]),
        (&json!(1), &json!(3), &json!(1), &json!(2), &json!(1)),
        "{all:#}"
    );
    let sample =
        found["samples"].as_array().unwrap().iter().find(|s| s["kinds"] == json!(["route"])).unwrap();
    assert_eq!(
        (&sample["live"]["at"], &sample["live"]["rule"], &sample["live"]["target"]),
        (&json!("10-route.rhai:3"), &json!("10-route/usual"), &json!("up/one")),
        "{sample:#}"
    );
    assert_eq!(
        (&sample["shadow"]["at"], &sample["shadow"]["rule"], &sample["shadow"]["target"]),
        (&json!("10-route.rhai:8"), &json!("10-route/cheaper"), &json!("up/two")),
    );
    assert_eq!(gateway.metric("tollgate_policy_divergences_total", &["kind=\"denial\""]).await, 2.0);
    let metrics = gateway.metrics().await;
    assert!(!metrics.contains("shadowed") && !metrics.contains("tollgate_policy_errors_total{"), "{metrics}");
    let log = gateway.log().join("\n");
    assert!(
        !log.contains("the shadow speaks") && log.contains("the shadow policies decide otherwise"),
        "{log}"
    );
    assert!(!log.contains("a policy failed"), "{log}");
    let id = usual.header("x-request-id");
    let record = client::get(gateway.admin, &format!("/admin/v1/decisions/{id}")).await.json();
    assert_eq!(record["decision"]["shadow"]["shadow"]["rule"], "10-route/cheaper", "{record:#}");
    assert_eq!(record["decision"]["record"]["tags"], json!([["seen", ""]]), "the shadow's state is not kept");
    let printed = run(&gateway, &["policy", "shadow"]);
    for part in
        ["10-route/cheaper (10-route.rhai:8)", "10-route/usual (10-route.rhai:3)", "route 1, denial 2"]
    {
        assert!(printed.code == Some(0) && printed.out.contains(part), "no {part} in {printed:#?}");
    }

    // A broken shadow is told, and the last good one goes on; the live policies do not care.
    gateway.save("policies/shadow/10-route.rhai", "fn on_request(req) { routee(\"up/two\") }");
    let all = until(&gateway, "a problem", |all| all["shadow"]["problems"] != json!([])).await;
    let problem = all["shadow"]["problems"][0].as_str().unwrap();
    assert!(
        problem.contains("shadow/10-route.rhai:1:") && problem.contains("did you mean `route`"),
        "{problem}"
    );
    assert_eq!(all["alerts"][0]["alert"], "policies_broken");
    assert_eq!(gateway.status().await["reloads"]["errors"], json!([]));
    send(&gateway, "u", "hello").await.said();
    until(&gateway, "the last good shadow", |all| all["shadow"]["findings"]["asked"] == 5).await;
    // The same policies agree, and the figures begin anew.
    gateway.save("policies/shadow/10-route.rhai", LIVE);
    gateway.save(
        "policies/shadow/05-state.rhai",
        "fn on_request(req) { req.tag(\"seen\", `${state.get(\"seen\")}`); }",
    );
    until(&gateway, "a good shadow", |all| {
        all["shadow"]["problems"] == json!([]) && all["shadow"]["hash"] == all["live"]["hash"]
    })
    .await;
    send(&gateway, "u", "hello").await.said();
    let found = until(&gateway, "an agreeing shadow", |all| all["shadow"]["findings"]["asked"] == 1).await;
    assert_eq!(found["shadow"]["findings"]["same"], 1, "{found:#}");
    fs::remove_dir_all(gateway.path("policies/shadow")).unwrap();
    until(&gateway, "no shadow", |all| all["shadow"].is_null()).await;
}

#[tokio::test]
async fn a_candidate_that_refuses_too_much_loses_its_share_and_another_one_gets_it() {
    const STRICT: &str = r#"fn on_request(req) { reject(403, "no", "not any more").named("strict") }"#;
    const FINE: &str = r#"fn on_request(req) { route("up/two").named("fine") }"#;
    let upstream = parrot();
    let more = "decisions: ./decisions\n";
    let setup = town(&upstream, more);
    let config = fs::read_to_string(setup.path().join("tollgate.yaml")).unwrap().replace(
        "policies: ./policies",
        "policies:\n  dir: policies\n  candidate: { share: 30%, sticky: user, roll_back: { min_requests: 20, window: 10m } }",
    );
    let gateway = beside(setup.file("tollgate.yaml", &config), "candidate", FINE).start();
    let mut tried = Vec::new();
    for n in 0..40 {
        let user = format!("user-{n}");
        let reply = send(&gateway, &user, "hello").await;
        let by_candidate = reply.said() == "two";
        let rule = if by_candidate { "10-route/fine; arm=candidate" } else { "10-route/usual" };
        assert_eq!(reply.header("x-tollgate-rule"), rule);
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!(record["arm"], if by_candidate { json!("candidate") } else { Value::Null }, "{record:#}");
        if by_candidate {
            tried.push(user);
        }
    }
    assert!((4..24).contains(&tried.len()), "{} of 40", tried.len());
    for user in &tried {
        assert_eq!(send(&gateway, user, "again").await.said(), "two", "callers stay");
    }
    assert_eq!(policies(&gateway).await["alerts"], json!([]));

    // One that refuses everything.
    gateway.save("policies/candidate/10-route.rhai", STRICT);
    let before = policies(&gateway).await["candidate"]["hash"].clone();
    until(&gateway, "the strict candidate", |all| all["candidate"]["hash"] != before).await;
    let mut refused = 0;
    for round in 0..200 {
        let user = &tried[round % tried.len()];
        if send(&gateway, user, "hello").await.status == 403 {
            refused += 1;
        } else {
            break;
        }
    }
    assert_eq!(refused, 20, "no later than after `min_requests`");
    let all = policies(&gateway).await;
    assert_eq!(
        (&all["rollout"]["share_percent"], &all["alerts"][0]["alert"]),
        (&json!(0.0), &json!("candidate_rolled_back"))
    );
    assert!(
        all["alerts"][0]["reason"].as_str().unwrap().contains("100.00% of 20 requests failed"),
        "{all:#}"
    );
    assert_eq!(gateway.status().await["alerts"][0]["alert"], "candidate_rolled_back");
    assert_eq!(gateway.metric("tollgate_policy_rollbacks_total", &["reason=\"error_rate\""]).await, 1.0);
    let loud = gateway.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let loud: Vec<_> =
        loud.filter(|line| line["level"] == "ERROR" && field(line, "candidate").is_some()).collect();
    assert_eq!(loud.len(), 1, "{:?}", gateway.log());
    for user in &tried {
        assert_eq!(send(&gateway, user, "hello").await.said(), "one", "and stays so");
    }

    // Another configuration of other things does not bring it back; an operator does, and so does another candidate.
    let promoted = operate(&gateway, "/admin/v1/policies/promote", json!({ "share": 100 })).await;
    assert_eq!((promoted.status, promoted.json()["rollout"]["share_percent"].clone()), (200, json!(100.0)));
    assert_eq!(send(&gateway, "x", "hello").await.status, 403);
    let taken = run(&gateway, &["policy", "promote", "0"]);
    assert!(taken.code == Some(0) && taken.out.contains("an operator took the share away"), "{taken:#?}");
    assert_eq!(send(&gateway, "x", "hello").await.said(), "one");
    gateway.save("policies/candidate/10-route.rhai", FINE);
    until(&gateway, "a fine candidate", |all| all["rollout"]["share_percent"] == 30.0).await;
    assert_eq!(send(&gateway, &tried[0], "hello").await.said(), "two");
    for bad in [json!({ "share": 101 }), json!({ "shar": 5 }), json!({ "share": "much" })] {
        let reply = operate(&gateway, "/admin/v1/policies/promote", bad).await;
        assert!(reply.status >= 400 && reply.json()["error"].is_string(), "{reply:?}");
    }
}

#[tokio::test]
async fn older_policies_serve_again_until_those_on_disk_change() {
    let upstream = parrot();
    let gateway = town(&upstream, "").start();
    let rule = |model: &str| format!("fn on_request(req) {{ route(\"up/{model}\").named(\"{model}\") }}");
    for model in ["two", "three"] {
        gateway.save("policies/10-route.rhai", &rule(model));
        eventually_async(model, async || (send(&gateway, "u", "x").await.said() == model).then_some(()))
            .await;
    }
    let on_three = gateway.status().await["snapshot"]["hash"].clone();
    let listed = run(&gateway, &["policy", "versions", "--json"]);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    let hashes: Vec<&str> =
        listed["versions"].as_array().unwrap().iter().map(|v| v["hash"].as_str().unwrap()).collect();
    assert_eq!((hashes.len(), &listed["versions"][0]["serves"]), (3, &json!(true)), "{listed:#}");

    let done = run(&gateway, &["policy", "rollback"]);
    assert!(done.code == Some(0) && done.out.contains(hashes[1]), "{done:#?}");
    let reply = send(&gateway, "u", "x").await;
    assert_eq!(reply.said(), "two");
    let status = gateway.status().await;
    assert_eq!(
        (&status["pinned"]["hash"], &status["pinned"]["on_disk"]),
        (&json!(hashes[1]), &json!(hashes[0]))
    );
    assert_ne!(status["snapshot"]["hash"], on_three, "what decides is told apart");
    assert_eq!(gateway.record(reply.header("x-request-id")).await["snapshot"], status["snapshot"]["hash"]);
    let ready = client::get(gateway.admin, "/readyz").await;
    assert!(ready.status == 200 && ready.text().contains("rolled back"), "{ready:?}");
    assert!(gateway.log().join("\n").contains("rolled back"));

    // Something else on disk changes: the older policies stay. A version by its hash serves as well.
    gateway.save_config(&format!("drain: 7s\nproviders:\n{}", provider("up", &upstream.url())));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(send(&gateway, "u", "x").await.said(), "two");
    let first = operate(&gateway, "/admin/v1/policies/rollback", json!({ "hash": &hashes[2][..8] })).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(send(&gateway, "u", "x").await.said(), "one");
    let unknown = operate(&gateway, "/admin/v1/policies/rollback", json!({ "hash": "zz" })).await;
    assert!(
        unknown.status == 409 && unknown.json()["error"].as_str().unwrap().contains("no version"),
        "{unknown:?}"
    );

    // Broken policies on disk do not hinder: the good ones go on. Good ones on disk serve again.
    gateway.save("policies/10-route.rhai", "fn on_request(req) { rute() }");
    eventually_async("a refusal", async || {
        let status = gateway.status().await;
        (!status["reloads"]["errors"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    assert_eq!(send(&gateway, "u", "x").await.said(), "one");
    let again = operate(&gateway, "/admin/v1/policies/rollback", json!({ "hash": hashes[1] })).await;
    assert_eq!((again.status, send(&gateway, "u", "x").await.said().as_str()), (200, "two"), "{again:?}");
    let broken = async || gateway.status().await["reloads"]["errors"].to_string().contains("rute");
    assert!(broken().await, "what is wrong with the files is told while others serve in their place");
    // The last good ones of the files serve again, however broken the files are.
    let disk = operate(&gateway, "/admin/v1/policies/rollback", json!({ "hash": "disk" })).await;
    assert_eq!((disk.status, send(&gateway, "u", "x").await.said().as_str()), (200, "three"), "{disk:?}");
    assert!(broken().await && gateway.status().await["pinned"].is_null());
    gateway.save("policies/10-route.rhai", &rule("four"));
    eventually_async("four", async || (send(&gateway, "u", "x").await.said() == "four").then_some(())).await;
    let status = gateway.status().await;
    assert!(status["pinned"].is_null() && status["alerts"] == json!([]), "{status:#}");
    assert_eq!(client::get(gateway.admin, "/readyz").await.text(), "ready\n");
}

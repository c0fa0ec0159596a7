//! Plugins in the running gateway: asked by policies, replaced on disk, refused when broken, never silently absent.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use crate::acts;
use crate::client::{self, chat};
use crate::gateway::{self, Gateway, Setup, provider};
use crate::upstream::Upstream;

const POLICY: &str = r#"fn on_request(req) {
    let kind = plugin("intent").classify(req);
    req.tag("intent", kind.top);
    if kind.top == "code" { return route("up/coder").named("code"); }
    route("up/chatter").named(kind.top)
}
"#;

/// One of the samples of `plugins/`, where it was built.
pub fn sample(name: &str) -> Option<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/plugins/{name}.wasm"));
    let bytes = std::fs::read(&file).ok();
    if bytes.is_none() {
        let required = std::env::var_os("TOLLGATE_REQUIRE_WASM").is_some();
        assert!(!required, "{} is not there: plugins/build", file.display());
        eprintln!("SKIPPED: plugins in the gateway: {} is not built (plugins/build)", file.display());
    }
    bytes
}

fn config(upstream: &Upstream, word: &str) -> String {
    format!(
        "plugins:\n  cache: cache\n  list:\n    - name: intent\n      grants: [log, ai, prompt]\n      \
         limits: {{ time: 5s }}\n      config: {{ labels: {{ code: {{ words: {{ {word}: 3 }} }} }}, \
         fallback: other, threshold: 0.3 }}\nproviders:\n{}",
        provider("up", &upstream.url())
    )
}

fn installed(setup: Setup, bytes: &[u8]) -> Setup {
    let file = setup.path().join("plugins/intent.wasm");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, bytes).unwrap();
    setup
}

async fn said(gateway: &Gateway, text: &str) -> String {
    let ask = json!({"model": "auto", "messages": [{"role": "user", "content": text}]});
    chat(gateway.clients, &ask).await.said()
}

/// Asks until the answer is `expected`.
async fn until(gateway: &Gateway, text: &str, expected: &str) {
    let begun = Instant::now();
    loop {
        let now = said(gateway, text).await;
        if now == expected {
            return;
        }
        assert!(begun.elapsed() < client::PATIENCE, "still {now}, not {expected}: {:?}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn file(gateway: &Gateway) -> PathBuf {
    gateway.path("plugins/intent.wasm")
}

#[tokio::test]
async fn a_policy_routes_by_what_a_classifier_says_and_reloads_are_whole_or_not_at_all() {
    let Some(bytes) = sample("keyword-classifier") else { return };
    let upstream = Upstream::start(|heard| acts::says(&heard.model()));
    let setup = gateway::setup(&config(&upstream, "rust")).policy("10-intent.rhai", POLICY);
    let gateway = installed(setup, &bytes).start();
    assert_eq!(said(&gateway, "a rust question").await, "coder");
    assert_eq!(said(&gateway, "a python question").await, "chatter");

    // Other settings: the plugin's `init` sees them.
    gateway.save_config(&config(&upstream, "python"));
    until(&gateway, "a python question", "coder").await;

    // A broken file is refused with its name, and the good one goes on.
    std::fs::write(file(&gateway), b"garbage").unwrap();
    let begun = Instant::now();
    while !gateway.status().await["reloads"]["errors"].to_string().contains("intent.wasm") {
        assert!(begun.elapsed() < client::PATIENCE, "{:?}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(said(&gateway, "a python question").await, "coder");
    std::fs::write(file(&gateway), &bytes).unwrap();
    until(&gateway, "a python question", "coder").await;
    let calls = gateway.metric("tollgate_plugin_calls_total", &["plugin=\"intent\"", "outcome=\"ok\""]).await;
    assert!(calls >= 5.0, "{calls}");
}

#[tokio::test]
async fn a_plugin_that_never_loaded_answers_as_declared() {
    let upstream = Upstream::start(|heard| acts::says(&heard.model()));
    let setup = gateway::setup(&config(&upstream, "rust")).policy("10-intent.rhai", POLICY);
    let checked = setup.run(&["check"]);
    assert!(checked.err.contains("plugin `intent`") && checked.err.contains("intent.wasm"), "{checked:?}");
    let gateway = setup.start();
    let ask = json!({"model": "auto", "messages": [{"role": "user", "content": "a rust question"}]});
    let reply = chat(gateway.clients, &ask).await;
    assert_eq!((reply.said().as_str(), reply.header("x-tollgate-rule")), ("chatter", "10-intent/unknown"));
}

/// A gateway whose requests the sample observer hears of, with this policy.
fn observed(upstream: &Upstream, policy: &str) -> Option<Gateway> {
    let bytes = sample("request-observer")?;
    let config = format!(
        "plugins:\n  cache: cache\n  list:\n    - name: intent\n      grants: [log, metrics]\n      \
         limits: {{ observe: 5s }}\nproviders:\n{}",
        provider("up", &upstream.url())
    );
    Some(installed(gateway::setup(&config).policy("10-observed.rhai", policy), &bytes).start())
}

#[tokio::test]
async fn an_observer_hears_how_every_request_ended() {
    let upstream = Upstream::start(|heard| acts::says(&heard.model()));
    let Some(gateway) = observed(&upstream, "fn on_request(req) {}") else { return };
    for model in ["up/one", "up/two", "up/one"] {
        chat(gateway.clients, &client::ask(model)).await;
    }
    let begun = Instant::now();
    let counted = |text: &str, target: &str| gateway::sum(text, "tollgate_plugin_requests_total", &[target]);
    loop {
        let text = gateway.metrics().await;
        if (counted(&text, "up/one"), counted(&text, "up/two")) == (2.0, 1.0) {
            break;
        }
        assert!(begun.elapsed() < client::PATIENCE, "{text}\n{:?}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn observers_and_policies_hear_of_requests_that_a_policy_failed_on() {
    let upstream = Upstream::start(|heard| acts::says(&heard.model()));
    let policy = r#"
        fn on_request(req) { if req.model == "up/fails" { throw "no"; } }
        fn on_complete(req, out) { metric("ended").add(#{ status: `${out.status}` }); }
    "#;
    let Some(gateway) = observed(&upstream, policy) else { return };
    for (model, status) in [("up/fails", 500), ("up/works", 200)] {
        assert_eq!(chat(gateway.clients, &client::ask(model)).await.status, status, "{model}");
    }
    let begun = Instant::now();
    loop {
        let text = gateway.metrics().await;
        let count = |name: &str, label: &str| gateway::sum(&text, name, &[label]);
        let seen = ["status=\"failed\"", "status=\"ok\""].map(|l| count("tollgate_plugin_requests_total", l));
        let ended = ["status=\"500\"", "status=\"200\""].map(|l| count("tollgate_policy_ended", l));
        if (seen, ended) == ([1.0, 1.0], [1.0, 1.0]) {
            break;
        }
        assert!(begun.elapsed() < client::PATIENCE, "{seen:?} {ended:?}\n{text}\n{:?}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_classifier_without_which_nothing_goes_on_refuses_as_unavailable() {
    let upstream = Upstream::start(|heard| acts::says(&heard.model()));
    for policy in [POLICY, "fn on_request(req) { try { plugin(\"intent\").classify(req); } catch { } }\n"] {
        let config =
            config(&upstream, "rust").replace("grants:", "on_error: { classify: deny }\n      grants:");
        let gateway = gateway::setup(&config).policy("10-intent.rhai", policy).start();
        let ask = json!({"model": "up/m", "messages": [{"role": "user", "content": "a rust question"}]});
        let reply = chat(gateway.clients, &ask).await;
        assert_eq!((reply.status, &reply.error()["code"]), (503, &json!("plugin_unavailable")), "{reply:#?}");
    }
}

#[tokio::test]
async fn the_trial_of_a_plugin_leaves_no_numbers_behind() {
    let upstream = Upstream::start(|heard| acts::says(&heard.model()));
    let Some(gateway) = observed(&upstream, "fn on_request(req) {}") else { return };
    chat(gateway.clients, &client::ask("up/one")).await;
    let counted = || async {
        let text = gateway.metrics().await;
        (gateway::sum(&text, "tollgate_plugin_requests_total", &["up/one"]) > 0.0).then_some(text)
    };
    let text = client::eventually_async("a number", counted).await;
    assert!(!text.contains("trial/model"), "{text}");
}

#[tokio::test]
async fn a_classifier_gets_its_vectors_from_the_gateways_own_model() {
    let Some(bytes) = sample("keyword-classifier") else { return };
    // One direction for ships, another for everything else.
    let upstream = Upstream::start(|heard| {
        if !heard.path.ends_with("/embeddings") {
            return acts::says(&heard.model());
        }
        let texts = heard.json()["input"].as_array().cloned().unwrap_or_default();
        let of = |text: &serde_json::Value| {
            if text.as_str().is_some_and(|text| text.contains("sail")) { [1.0, 0.0] } else { [0.0, 1.0] }
        };
        let data: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": of(text)}))
            .collect();
        acts::whole(
            200,
            &json!({"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1, "cost": 0.25}}),
        )
    });
    let config = format!(
        "state: {{ ledger: sqlite:./data/tollgate.db }}\nplugins:\n  cache: cache\n  embeddings: vectors\n  list:\n    - name: intent\n      grants: [log, ai, prompt]\n      \
         prefetch: true\n      limits: {{ time: 5s }}\n      config: {{ labels: {{ code: {{ examples: [we sail at dawn] }} }}, \
         fallback: other, threshold: 0.3 }}\nmodels: {{ vectors: {{ targets: [ up/e ] }} }}\nproviders:\n{}",
        provider("up", &upstream.url())
    );
    let setup = gateway::setup(&config).policy("10-intent.rhai", POLICY);
    let gateway = installed(setup, &bytes).start();
    assert_eq!(said(&gateway, "let us sail away").await, "coder");
    assert_eq!(said(&gateway, "a cake, please").await, "chatter");
    assert!(upstream.heard_for("e").len() >= 3, "{:?}", upstream.heard());
    // Nobody knows their price, so what their answer says counts.
    let rows = crate::money::rows(&gateway).await;
    let vectors: Vec<_> = rows.iter().filter(|row| row["endpoint"] == "embeddings").collect();
    assert!(!vectors.is_empty() && vectors.iter().all(|row| row["cost"] == 250_000_000), "{rows:?}");
    let wrong = gateway::setup("plugins: { embeddings: vectrs }\n").run(&["check"]);
    assert!(wrong.code != Some(0) && wrong.err.contains("plugins.embeddings"), "{wrong:?}");
}

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

#[tokio::test]
async fn an_observer_hears_how_every_request_ended() {
    let Some(bytes) = sample("request-observer") else { return };
    let upstream = Upstream::start(|heard| acts::says(&heard.model()));
    let config = format!(
        "plugins:\n  cache: cache\n  list:\n    - name: intent\n      grants: [log, metrics]\n      \
         limits: {{ observe: 5s }}\nproviders:\n{}",
        provider("up", &upstream.url())
    );
    let gateway = installed(gateway::setup(&config), &bytes).start();
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

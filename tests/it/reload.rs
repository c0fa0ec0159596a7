//! Files that change while the gateway runs: whole or not at all, at once, and nobody waits.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::acts;
use crate::client::{self, ask, chat};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::Upstream;

/// How long a save may take to take effect.
const SOON: Duration = Duration::from_millis(300);

/// Sends everything to one model of the provider that repeats the model's name.
fn rule(model: &str) -> String {
    format!("fn on_request(req) {{\n    route(\"up/{model}\")\n}}\n")
}

/// A provider that answers with the name of the model it was asked for.
fn parrot() -> Upstream {
    Upstream::start(|heard| acts::says(&heard.model()))
}

fn ruled(upstream: &Upstream) -> Gateway {
    let config = format!("providers:\n{}", provider("up", &upstream.url()));
    gateway::setup(&config).policy("10-rule.rhai", &rule("one")).start()
}

/// Asks until the answer is `expected`; how long that took.
async fn until(gateway: &Gateway, expected: &str) -> Duration {
    let begun = Instant::now();
    loop {
        let said = chat(gateway.clients, &ask("up/any")).await.said();
        if said == expected {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < client::PATIENCE, "still {said}, not {expected}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the status page names an error that has every one of `parts`.
async fn refused(gateway: &Gateway, parts: &[&str]) {
    let begun = Instant::now();
    loop {
        let status = gateway.status().await;
        let errors = status["reloads"]["errors"].to_string();
        if parts.iter().all(|part| errors.contains(part)) {
            break;
        }
        assert!(begun.elapsed() < client::PATIENCE, "no error with {parts:?} in {status:#}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let log = gateway.log().join("\n");
    assert!(parts.iter().all(|part| log.contains(part)), "no error with {parts:?} in the log:\n{log}");
}

/// 200 requests per second, on connections of their own, until told to stop.
struct Traffic {
    stop: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    slowest: Arc<Mutex<Duration>>,
    running: tokio::task::JoinHandle<usize>,
}

impl Traffic {
    fn start(gateway: &Gateway) -> Self {
        let to = gateway.clients;
        let stop = Arc::new(AtomicBool::new(false));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let slowest = Arc::new(Mutex::new(Duration::ZERO));
        let (halt, fail, slow) = (stop.clone(), failures.clone(), slowest.clone());
        let running = tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(5));
            let mut asked = Vec::new();
            while !halt.load(Ordering::SeqCst) {
                beat.tick().await;
                let (fail, slow) = (fail.clone(), slow.clone());
                asked.push(tokio::spawn(async move {
                    let begun = Instant::now();
                    let reply = chat(to, &ask("up/any")).await;
                    if reply.status != 200 || !reply.whole {
                        fail.lock().unwrap().push(format!("{reply:?}"));
                    }
                    let mut slow = slow.lock().unwrap();
                    *slow = (*slow).max(begun.elapsed());
                }));
            }
            let count = asked.len();
            for one in asked {
                one.await.expect("an answer");
            }
            count
        });
        Self { stop, failures, slowest, running }
    }

    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let count = self.running.await.expect("traffic");
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} of {count} failed, first: {}", failures.len(), failures[0]);
        let slowest = *self.slowest.lock().unwrap();
        assert!(slowest < Duration::from_secs(1), "a request waited {slowest:?}");
        count
    }
}

#[tokio::test]
async fn a_policy_is_edited_broken_and_repaired_under_load_and_no_request_fails() {
    let upstream = parrot();
    let gateway = ruled(&upstream);
    until(&gateway, "one").await;
    let traffic = Traffic::start(&gateway);
    tokio::time::sleep(Duration::from_millis(300)).await;

    gateway.save("policies/10-rule.rhai", &rule("two"));
    let took = until(&gateway, "two").await;
    assert!(took < SOON, "an edit took {took:?}");

    gateway.save("policies/10-rule.rhai", "fn on_request(req) {\n    route(\"up/three\"\n}\n");
    refused(&gateway, &["10-rule.rhai", "3:1"]).await;
    assert_eq!(chat(gateway.clients, &ask("up/any")).await.said(), "two", "the old rule goes on");
    assert_eq!(gateway.metric("tollgate_reload_failed", &[]).await, 1.0);

    gateway.save("policies/10-rule.rhai", &rule("four"));
    let took = until(&gateway, "four").await;
    assert!(took < SOON, "the repair took {took:?}");
    assert_eq!(gateway.status().await["reloads"]["errors"].to_string(), "[]");
    assert_eq!(gateway.metric("tollgate_reload_failed", &[]).await, 0.0);

    let count = traffic.stop().await;
    assert!(count > 100, "only {count} requests ran");
    client::eventually("access lines of three snapshots", || {
        let hash = |line: &serde_json::Value| line["snapshot"].as_str().map(str::to_owned);
        let hashes: HashSet<_> = gateway.access().iter().map(hash).collect();
        (hashes.len() == 3 && !hashes.contains(&None)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_uses_an_unknown_name_is_refused_with_its_position() {
    let upstream = parrot();
    let gateway = ruled(&upstream);
    gateway.save("policies/10-rule.rhai", "fn on_request(req) {\n    route(CHEEP)\n}\n");
    refused(&gateway, &["10-rule.rhai", "2:"]).await;
    until(&gateway, "one").await;
}

#[tokio::test]
async fn a_refusal_tells_its_errors_with_what_to_do_and_no_warnings() {
    let gateway = gateway::start("providers: { sandbox: {} }\n");
    gateway.save_config(
        "providers: { sandbox: {} }\nbudgets: [ { name: all, dollars: 5, per: day } ]\nmodls: {}\n",
    );
    refused(&gateway, &["unknown field `modls`"]).await;
    let status = gateway.status().await;
    assert_eq!(status["reloads"]["errors"].as_array().map(Vec::len), Some(1), "{status:#}");
    let told: Vec<_> = gateway.log().into_iter().filter(|line| line.contains("reload refused")).collect();
    let [told] = told.as_slice() else { panic!("{told:#?}") };
    assert!(told.contains("did you mean `models`?"), "{told}");
}

#[tokio::test]
async fn policies_come_and_go() {
    let upstream = parrot();
    let gateway = ruled(&upstream);
    gateway.save("policies/05-first.rhai", &rule("zero"));
    assert!(until(&gateway, "zero").await < SOON);
    fs::remove_file(gateway.path("policies/05-first.rhai")).unwrap();
    // A file that is gone is believed a little later: some editors' saves have such a gap.
    assert!(until(&gateway, "one").await < 4 * SOON);
    fs::remove_file(gateway.path("policies/10-rule.rhai")).unwrap();
    assert!(until(&gateway, "any").await < 4 * SOON);
}

#[tokio::test]
async fn a_policy_saved_in_place_and_in_two_halves_never_serves_the_half() {
    let upstream = parrot();
    let gateway = ruled(&upstream);
    let text = rule("two");
    let path = gateway.path("policies/10-rule.rhai");
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(chat(gateway.clients, &ask("up/any")).await.said(), "one");
    fs::write(&path, &text).unwrap();
    assert!(until(&gateway, "two").await < SOON);
}

#[tokio::test]
async fn a_configuration_saved_by_rename_takes_effect() {
    let upstream = parrot();
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    assert_eq!(chat(gateway.clients, &ask("new")).await.status, 404);
    let alias = "models:\n  new: { targets: [ up/fresh ] }\n";
    gateway.save_config(&format!("providers:\n{}{alias}", provider("up", &upstream.url())));
    let begun = Instant::now();
    let reply = loop {
        let reply = chat(gateway.clients, &ask("new")).await;
        if reply.status == 200 {
            break reply;
        }
        assert!(begun.elapsed() < client::PATIENCE, "{reply:#?}");
    };
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(reply.said(), "fresh");

    gateway.save_config("providrs: {}\n");
    refused(&gateway, &["tollgate.yaml", "4:1", "providrs"]).await;
    assert_eq!(chat(gateway.clients, &ask("new")).await.said(), "fresh");
}

#[tokio::test]
async fn a_config_map_that_swaps_its_symlink_takes_effect() {
    let upstream = parrot();
    let config = format!("{}providers:\n{}", gateway::FREE_PORTS, provider("up", &upstream.url()));
    let setup = gateway::setup("");
    // As Kubernetes mounts it: the files are links into `..data`, which is a link that is swapped whole.
    let root = setup.path().to_owned();
    let version = |name: &str, model: &str| {
        let folder = root.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("tollgate.yaml"), config.replace("./policies", ".")).unwrap();
        fs::write(folder.join("10-rule.rhai"), rule(model)).unwrap();
    };
    let mount = |name: &str| {
        let (beside, data) = (root.join("..data_tmp"), root.join("..data"));
        std::os::unix::fs::symlink(name, &beside).unwrap();
        fs::rename(beside, data).unwrap();
    };
    version("..one", "one");
    mount("..one");
    fs::remove_file(root.join("tollgate.yaml")).unwrap();
    for name in ["tollgate.yaml", "10-rule.rhai"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), root.join(name)).unwrap();
    }
    let gateway = setup.start();
    until(&gateway, "one").await;
    version("..two", "two");
    mount("..two");
    fs::remove_dir_all(root.join("..one")).unwrap();
    let took = until(&gateway, "two").await;
    assert!(took < SOON, "a swap took {took:?}");
}

#[tokio::test]
async fn a_rotated_secret_file_is_used_by_the_next_request() {
    let upstream = parrot();
    let config =
        format!("providers:\n{}", provider("up", &upstream.url())).replace("env:TEST_KEY", "file:key");
    let gateway = gateway::setup(&config).file("key", "sk-first\n").start();
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "m");
    gateway.save("key", "sk-second\n");
    let begun = Instant::now();
    loop {
        chat(gateway.clients, &ask("up/m")).await.said();
        let heard = upstream.heard();
        if heard.last().and_then(|h| h.header("authorization")) == Some("Bearer sk-second") {
            break;
        }
        assert!(begun.elapsed() < client::PATIENCE, "the old key is still in use");
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(upstream.heard()[0].header("authorization"), Some("Bearer sk-first"));
}

#[tokio::test]
async fn a_running_stream_ends_on_the_snapshot_it_began_with() {
    let upstream = Upstream::start(|_| {
        let mut script = acts::stream_head();
        script.push(acts::piece(&acts::events(&["begun"])));
        script.push(crate::upstream::Act::Pause(Duration::from_millis(800)));
        script.push(acts::piece(&format!("{}{}", acts::events(&[" and done"]), acts::ENDING)));
        script.push(crate::upstream::Act::Write(b"0\r\n\r\n".to_vec()));
        script
    });
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let mut live = client::chat_live(gateway.clients, &client::ask_stream("up/m")).await;
    live.until("begun").await;
    gateway.save_config("models: {}\n");
    let begun = Instant::now();
    while chat(gateway.clients, &ask("up/m")).await.status != 404 {
        assert!(begun.elapsed() < client::PATIENCE, "the provider is still there");
    }
    let rest = live.rest().await;
    assert!(rest.whole && rest.text().contains("and done") && rest.text().contains("[DONE]"), "{rest:#?}");
}

#[tokio::test]
async fn a_policy_that_is_a_link_changes_with_the_file_it_leads_to() {
    let upstream = parrot();
    let config = format!("providers:\n{}", provider("up", &upstream.url()));
    let elsewhere = tempfile::tempdir().unwrap();
    let real = elsewhere.path().join("shared.rhai");
    fs::write(&real, rule("one")).unwrap();
    let setup = gateway::setup(&config);
    fs::create_dir_all(setup.path().join("policies")).unwrap();
    std::os::unix::fs::symlink(&real, setup.path().join("policies/10-rule.rhai")).unwrap();
    let gateway = setup.start();
    until(&gateway, "one").await;
    fs::write(&real, rule("two")).unwrap();
    let took = until(&gateway, "two").await;
    assert!(took < SOON, "an edit behind a link took {took:?}");
}

#[tokio::test]
async fn what_could_not_start_again_is_refused_while_it_runs() {
    let upstream = parrot();
    let config = format!("providers:\n{}", provider("up", &upstream.url()));
    let gateway = gateway::start(&config);
    gateway.save_config(&format!("tls: {{ cert: a.pem, key: b.pem }}\n{config}"));
    refused(&gateway, &["a.pem"]).await;
    gateway.save_config(&format!("upstream: {{ extra_roots: nope.pem }}\n{config}"));
    refused(&gateway, &["nope.pem"]).await;
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "m", "the last good one goes on");
}

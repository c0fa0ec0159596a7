//! Policies and plugins that are replaced, or attack, while traffic flows: nobody else notices.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::acts;
use crate::client::{self, Reply, chat};
use crate::gateway::{self, Gateway, Setup, provider};
use crate::upstream::Upstream;

#[path = "../../src/plugin/host/tests/forge.rs"]
#[allow(dead_code, reason = "the host's own tests need more of it")]
mod forge;

use forge::{Forge, Word};

/// Requests per second.
const RATE: u32 = 300;
/// Replacements of files, good and bad ones.
const REPLACEMENTS: usize = 100;
/// Trials until unrelated requests are seen to be as fast under attack as the bound says.
const TRIALS: usize = 4;
/// Below this, nobody tells an attack from what else the machine does.
const FLOOR: Duration = Duration::from_millis(20);
/// How much more memory may be resident after them, in MiB.
const MORE_MEMORY: u64 = 48;

/// A plugin that calls itself by `name`, whatever it is asked.
fn named(name: &str) -> Vec<u8> {
    let mut forge = Forge::new();
    let doc = forge.fixed(&[Word::Text("name"), Word::Text("its name")]);
    let signatures = forge.fixed(&[Word::Number(doc), Word::Number(1)]);
    let answer = forge.fixed(&[Word::Number(0), Word::Text(&format!("\"{name}\"")), Word::Number(0)]);
    forge.exports("functions");
    forge.function("functions", "signatures", "(result i32)", &format!("(i32.const {signatures})"));
    let call = "(param i32 i32 i32 i32) (result i32)";
    forge.function("functions", "call", call, &format!("(i32.const {answer})"));
    forge.module()
}

/// Routes to a model whose name says which policy and which plugin chose it.
fn policy(version: usize) -> String {
    format!(
        "fn on_request(req) {{\n    let by = plugin(\"tool\").call(\"name\", #{{}});\n    \
         route(`up/p{version}-${{by}}`).named(\"p{version}\")\n}}\n"
    )
}

fn town(upstream: &Upstream, plugin: &[u8], limits: &str) -> Setup {
    let config = format!(
        "limits: {{ connections_per_address: 4000, connections: 8000, in_flight: 8000 }}\nplugins:\n  cache: cache\n  list:\n    - name: tool\n      grants: [prompt]\n      on_error: closed\n      limits: {{ {limits} }}\n\
         providers:\n{}",
        provider("up", &upstream.url())
    );
    let setup = gateway::setup(&config);
    install(&setup.path().join("plugins/tool.wasm"), plugin);
    setup
}

fn install(file: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let beside = file.with_extension("saving~");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(beside, file).unwrap();
}

fn parrot() -> Upstream {
    Upstream::start(|heard| acts::says(&heard.model()))
}

/// Resident memory of the gateway, in MiB.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

async fn ask_for(gateway: std::net::SocketAddr, model: &str) -> Reply {
    chat(gateway, &json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] })).await
}

/// Waits until the gateway has taken or refused what was saved.
async fn settled(gateway: &Gateway, before: (u64, u64)) {
    let begun = Instant::now();
    while reloads(gateway).await == before && begun.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn reloads(gateway: &Gateway) -> (u64, u64) {
    let status = gateway.status().await;
    (status["reloads"]["ok"].as_u64().unwrap(), status["reloads"]["failed"].as_u64().unwrap())
}

/// Id, text and rule of an answer; no text where it failed.
type Answer = (String, Option<String>, String);

/// Every answer is explained by the snapshot that decided it: one snapshot, one policy, one plugin. How many there were.
async fn explained(gateway: &Gateway, answers: &[Answer]) -> usize {
    client::eventually("all access lines", || (gateway.access().len() >= answers.len()).then_some(())).await;
    let records: HashMap<String, _> = gateway
        .access()
        .into_iter()
        .map(|line| (line["request_id"].as_str().unwrap().to_owned(), line))
        .collect();
    let mut snapshots: HashMap<String, (String, String)> = HashMap::new();
    for (id, said, rule) in answers {
        let (said, record) = (said.clone().unwrap(), &records[id]);
        let hash = record["snapshot"].as_str().unwrap().to_owned();
        let known = snapshots.entry(hash.clone()).or_insert((said.clone(), rule.clone()));
        assert_eq!((&known.0, &known.1), (&said, rule), "snapshot {hash} decided both");
        assert!(said.starts_with(&format!("{}-", rule.trim_start_matches("10-route/"))), "{said} by {rule}");
    }
    snapshots.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_replacements_of_policies_and_plugins_are_noticed_by_nobody_at_once() {
    let upstream = parrot();
    let gateway =
        town(&upstream, &named("a0"), "time: 2s, wait: 5s").policy("10-route.rhai", &policy(0)).start();
    assert_eq!(ask_for(gateway.clients, "up/x").await.said(), "p0-a0");
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let traffic = {
        let (stop, answers, to) = (stop.clone(), answers.clone(), gateway.clients);
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_secs(1) / RATE);
            beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut asked = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                beat.tick().await;
                let answers = answers.clone();
                asked.push(tokio::spawn(async move {
                    let reply = ask_for(to, "up/x").await;
                    let said = (reply.status == 200 && reply.whole).then(|| reply.said());
                    let seen = (
                        reply.header("x-request-id").to_owned(),
                        said,
                        reply.header("x-tollgate-rule").to_owned(),
                    );
                    answers.lock().unwrap().push(seen);
                }));
            }
            for one in asked {
                one.await.expect("an answer");
            }
        })
    };
    let begun = Instant::now();
    let (mut good, mut before) = ((0, 0), 0);
    for at in 1..=REPLACEMENTS {
        let reloaded = reloads(&gateway).await;
        let file = gateway.path("plugins/tool.wasm");
        match at % 5 {
            4 => install(&file, b"garbage"),
            1 | 3 => {
                good.0 = at;
                gateway.save("policies/10-route.rhai", &policy(at));
            }
            2 => gateway.save("policies/10-route.rhai", "fn on_request(req) { rute(\"up/never\") }"),
            _ => {
                good.1 = at;
                install(&file, &named(&format!("a{at}")));
            }
        }
        settled(&gateway, reloaded).await;
        if at % 20 == 0 {
            eprintln!("{at} replacements: {} MiB", resident(&gateway));
        }
        if at == REPLACEMENTS * 2 / 5 {
            // As many at once as a busy machine may gather: what they take is no growth.
            let many: Vec<_> = (0..600).map(|_| tokio::spawn(ask_for(gateway.clients, "up/x"))).collect();
            for one in many {
                one.await.expect("an answer");
            }
            before = resident(&gateway);
        }
    }
    install(&gateway.path("plugins/tool.wasm"), &named("last"));
    let last = format!("p{}-last", good.0);
    client::eventually_async("the last version", async || {
        (ask_for(gateway.clients, "up/x").await.said() == last).then_some(())
    })
    .await;
    let took = begun.elapsed();
    stop.store(true, Ordering::SeqCst);
    traffic.await.expect("traffic");
    let after = resident(&gateway);
    let answers = std::mem::take(&mut *answers.lock().unwrap());
    let failed = answers.iter().filter(|(_, said, _)| said.is_none()).count();
    assert_eq!(
        failed,
        0,
        "{failed} of {} failed; the last lines: {:?}",
        answers.len(),
        gateway.log().iter().rev().take(5).collect::<Vec<_>>()
    );

    let snapshots = explained(&gateway, &answers).await;
    let (ok, refused) = reloads(&gateway).await;
    eprintln!(
        "{} requests in {took:?} ({:.0}/s), {ok} replacements taken, {refused} refused, {} snapshots, {before} MiB → {after} MiB",
        answers.len(),
        answers.len() as f64 / took.as_secs_f64(),
        snapshots
    );
    assert!(ok >= 50 && refused >= 20 && snapshots > 40, "{ok} taken, {refused} refused, {}", snapshots);
    assert!(after <= before + MORE_MEMORY, "{before} MiB → {after} MiB");
}

const HOSTILE: &str = r#"fn deeper(n) { deeper(n + 1) + 1 }

fn on_request(req) {
    if req.model == "up/calm" { return; }
    if req.model == "up/loop" { loop { } }
    if req.model == "up/text" { let s = "x"; loop { s += s; } }
    if req.model == "up/list" { let a = []; loop { a.push(1); } }
    if req.model == "up/deep" { return route(`up/${deeper(0)}`); }
    if req.model == "up/plugin-loop" { plugin("tool").call("loop", #{}); }
    if req.model == "up/plugin-memory" { plugin("tool").call("memory", #{}); }
    if req.model == "up/plugin-deep" { plugin("tool").call("recursion", #{}); }
    if req.model == "up/plugin-huge" { plugin("tool").call("huge", #{}); }
}
"#;

const ATTACKS: [&str; 8] = [
    "up/loop",
    "up/text",
    "up/list",
    "up/deep",
    "up/plugin-loop",
    "up/plugin-memory",
    "up/plugin-deep",
    "up/plugin-huge",
];

/// Latencies of calm requests, sorted: 100 per second for so long.
async fn calm(gateway: &Gateway, time: Duration) -> Vec<Duration> {
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    let (begun, mut asked) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        beat.tick().await;
        let to = gateway.clients;
        asked.push(tokio::spawn(async move {
            let begun = Instant::now();
            let reply = ask_for(to, "up/calm").await;
            assert_eq!(reply.status, 200, "{reply:?}");
            begun.elapsed()
        }));
    }
    let mut times = Vec::new();
    for one in asked {
        times.push(one.await.expect("an answer"));
    }
    times.sort();
    times
}

/// The same while others attack in every way, each again and again.
async fn attacked(gateway: &Gateway, time: Duration) -> (Vec<Duration>, usize) {
    let (stop, to) = (Arc::new(AtomicBool::new(false)), gateway.clients);
    let attackers: Vec<_> = ATTACKS
        .into_iter()
        .map(|attack| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut sent = 0;
                while !stop.load(Ordering::SeqCst) {
                    ask_for(to, attack).await;
                    sent += 1;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                sent
            })
        })
        .collect();
    let times = calm(gateway, time).await;
    stop.store(true, Ordering::SeqCst);
    let mut sent = 0;
    for attacker in attackers {
        sent += attacker.await.expect("an attacker");
    }
    (times, sent)
}

fn percentile(times: &[Duration], part: f64) -> Duration {
    times[((times.len() - 1) as f64 * part) as usize]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_policies_and_plugins_delay_no_unrelated_request_at_once() {
    let upstream = parrot();
    let plugin = forge::toolbox().module();
    let gateway =
        town(&upstream, &plugin, "time: 50ms, wait: 100ms").policy("10-hostile.rhai", HOSTILE).start();
    for attack in ATTACKS {
        let begun = Instant::now();
        let reply = ask_for(gateway.clients, attack).await;
        let of_plugin = attack.contains("plugin");
        let expected = if of_plugin { (503, "plugin_unavailable") } else { (500, "policy_error") };
        assert_eq!(
            (reply.status, reply.error()["code"].as_str().unwrap_or("")),
            expected,
            "{attack}: {reply:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(2), "{attack} took {:?}", begun.elapsed());
    }
    let log = gateway.log().join("\n");
    for part in [
        "10-hostile.rhai:5:",
        "too many operations (`max_operations`)",
        "a text larger than 8 MiB",
        "nested too deeply",
        "10-hostile.rhai:9:",
        "timeout: not done within 50ms",
    ] {
        assert!(log.contains(part), "no {part} in {log}");
    }
    calm(&gateway, Duration::from_secs(1)).await;
    // On a machine that does other things, too, one of some trials has to show it.
    let mut seen = Vec::new();
    for _ in 0..TRIALS {
        let before = calm(&gateway, Duration::from_secs(3)).await;
        let (during, sent) = attacked(&gateway, Duration::from_secs(3)).await;
        let of = |times: &[Duration]| (percentile(times, 0.5), percentile(times, 0.99));
        let (calm, under) = (of(&before), of(&during));
        eprintln!("{sent} attacks; p50 {:?} → {:?}, p99 {:?} → {:?}", calm.0, under.0, calm.1, under.1);
        if under.1 <= (calm.1 * 2).max(FLOOR) {
            return;
        }
        seen.push((calm, under));
    }
    panic!("p50 and p99, before and under attack: {seen:?}");
}

#[tokio::test]
async fn nobody_waits_for_a_plugin_beyond_his_patience() {
    let upstream = Upstream::start(|_| acts::error(400, "no"));
    let policy = r#"fn on_request(req) { if req.model == "up/asks" { plugin("tool").call("loop", #{}); } }
        fn on_error(req, err) { plugin("tool").call("loop", #{}); }"#;
    let plugin = forge::toolbox().module();
    let gateway = town(&upstream, &plugin, "time: 20s").policy("10-slow.rhai", policy).start();
    for model in ["up/asks", "up/fails"] {
        let mut request =
            client::request(http::Method::POST, "/v1/chat/completions", &client::ask(model).to_string());
        request.headers_mut().insert("x-tollgate-timeout", "300ms".parse().unwrap());
        let begun = Instant::now();
        let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
        let took = begun.elapsed();
        let expected = if model == "up/asks" { (504, "timeout_total") } else { (400, "bad_request") };
        let code = reply.error()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!((reply.status, code.as_str()), expected, "{model}: {reply:?}");
        assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(3), "{model}: {took:?}");
    }
}

//! Whose requests go first while there is too much: keys of a high priority, and low ones still get some.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::acts;
use crate::client::{self, Reply, ask, at_once};
use crate::gateway::{self, Gateway, Setup, provider};
use crate::keys::send;
use crate::upstream::Upstream;

const KEYS: &str = "auth: keys\nkeys:\n  batch: { secret: env:BATCH, priority: low }\n  usual: { secret: env:USUAL }\n  other: { secret: env:OTHER }\n  \
                    people: { secret: env:PEOPLE, priority: high }\n";

fn start(config: &str) -> Gateway {
    let limits = "limits: { connections_per_address: 2000, in_flight: 40 }\nlog: { access: false }\n";
    with_keys(&format!("{limits}{config}")).start()
}

fn with_keys(config: &str) -> Setup {
    let secrets = ["BATCH", "USUAL", "OTHER", "PEOPLE"].map(|name| (name, bearer(&name.to_lowercase())));
    let setup = gateway::setup(&format!("{KEYS}{config}"));
    secrets.iter().fold(setup, |setup, (name, bearer)| setup.env(name, bearer.trim_start_matches("Bearer ")))
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}-key-0123456789")
}

/// A question under a key, with another header if there is one.
async fn asks(to: std::net::SocketAddr, key: &str, header: Option<(&str, &str)>) -> Reply {
    let bearer = bearer(key);
    let headers: Vec<_> = std::iter::once(("authorization", &*bearer)).chain(header).collect();
    send(to, Method::POST, "/v1/chat/completions", &headers, &ask("up/m").to_string()).await
}

/// What came of the requests of one key: how long those took that were served, and how many were refused.
#[derive(Default)]
struct Fared {
    served: Vec<Duration>,
    refused: usize,
}

impl Fared {
    fn median(&self) -> Duration {
        let mut served = self.served.clone();
        served.sort();
        served.get(served.len() / 2).copied().unwrap_or_default()
    }
}

/// So many clients under one key that ask again as soon as they are answered, until they are to stop.
fn flood(gateway: &Gateway, key: &'static str, clients: usize, stop: &Arc<AtomicBool>) -> JoinSet<Fared> {
    let to = gateway.clients;
    (0..clients).fold(JoinSet::new(), |mut flood, _| {
        let stop = stop.clone();
        flood.spawn(async move {
            let mut fared = Fared::default();
            while !stop.load(Ordering::SeqCst) {
                let begun = Instant::now();
                let reply = asks(to, key, None).await;
                if reply.status == 200 {
                    fared.served.push(begun.elapsed());
                    continue;
                }
                assert_eq!(reply.status, 503, "{reply:#?}");
                fared.refused += 1;
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            fared
        });
        flood
    })
}

async fn sum(flood: JoinSet<Fared>) -> Fared {
    flood.join_all().await.into_iter().fold(Fared::default(), |mut all, one| {
        all.served.extend(one.served);
        all.refused += one.refused;
        all
    })
}

/// Sixty clients of one key, and later twelve of another, want more than a target can take: how both fared.
async fn contest(first: &'static str, second: &'static str) -> (Gateway, Fared, Fared) {
    let upstream = Upstream::start(|_| acts::after(Duration::from_millis(200), acts::says("here")));
    let gateway = start(&format!(
        "queue: {{ size: 24, max_wait: 3s }}\nproviders:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ], models: [ m ], concurrency: 4 }}\n",
        upstream.url()
    ));
    let stop = Arc::new(AtomicBool::new(false));
    let many = flood(&gateway, first, 60, &stop);
    client::eventually_async("a line", async || {
        (gateway.metric("tollgate_queue_waiting", &[]).await >= 20.0).then_some(())
    })
    .await;
    let few = flood(&gateway, second, 12, &stop);
    tokio::time::sleep(Duration::from_secs(8)).await;
    stop.store(true, Ordering::SeqCst);
    let (many, few) = (sum(many).await, sum(few).await);
    for (key, fared) in [(first, &many), (second, &few)] {
        let median = fared.median();
        eprintln!("{key}: {} served, {} refused, median {median:?}", fared.served.len(), fared.refused);
    }
    assert_eq!(gateway.status().await["requests_in_flight"], 0);
    (gateway, many, few)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_a_high_priority_go_first_and_low_ones_still_get_some_at_once() {
    let (gateway, low, high) = contest("batch", "people").await;
    // Twelve at a time, four at once, and one of seventeen places is a low one's.
    assert!(high.served.len() > 4 * low.served.len(), "{} {}", high.served.len(), low.served.len());
    assert!(high.refused * 20 < high.served.len(), "{} of {}", high.refused, high.served.len());
    assert!(low.refused > 100, "{}", low.refused);
    assert!(low.served.len() >= 8, "{}: nobody is kept out for ever", low.served.len());
    assert!(high.median() * 2 < low.median(), "{:?} {:?}", high.median(), low.median());
    let refused = async |priority: &str| {
        let label = format!("priority=\"{priority}\"");
        gateway.metric("tollgate_queue_refused_total", &[&label]).await
            + gateway.metric("tollgate_shed_total", &[&label]).await
    };
    assert!(refused("low").await > 100.0 && refused("high").await <= high.refused as f64);
}

/// Without priorities both get the same: the story above would notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_one_priority_share_alike_at_once() {
    let (_gateway, many, few) = contest("usual", "other").await;
    assert!(few.served.len() < 2 * many.served.len(), "{} {}", few.served.len(), many.served.len());
}

#[tokio::test]
async fn a_full_house_refuses_low_ones_first_and_has_room_for_high_ones() {
    let upstream = Upstream::start(|_| acts::after(Duration::from_millis(2_500), acts::says("here")));
    let gateway = start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let to = gateway.clients;
    let usual = tokio::spawn(at_once(40, move |_| async move { asks(to, "usual", None).await.status }));
    client::eventually_async("a full house", async || {
        (gateway.status().await["requests_in_flight"] == 40).then_some(())
    })
    .await;
    let (more, low, high) = tokio::join!(
        asks(to, "usual", None),
        at_once(20, move |_| async move { asks(to, "batch", None).await.status }),
        at_once(12, move |_| async move { asks(to, "people", None).await.status }),
    );
    assert_eq!(high, [200; 12], "all of them find room");
    let served = low.iter().filter(|status| **status == 200).count();
    assert!((1..=8).contains(&served), "a fifth of the places is theirs at most: {low:?}");
    assert_eq!((more.status, more.header("retry-after")), (503, "1"), "{more:#?}");
    assert_eq!(usual.await.unwrap(), [200; 40]);
    let shed = async |label: &str| gateway.metric("tollgate_shed_total", &[label]).await;
    assert_eq!((shed("priority=\"high\"").await, shed("priority=\"normal\"").await), (0.0, 1.0));
    assert_eq!(shed("priority=\"low\"").await as usize, 20 - served);
}

#[tokio::test]
async fn clients_and_policies_say_what_may_wait() {
    let upstream = Upstream::start(|_| acts::after(Duration::from_millis(500), acts::says("here")));
    let config = format!(
        "providers:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ], concurrency: 1 }}\n",
        upstream.url()
    );
    let gateway = with_keys(&config)
        .policy("10-later.rhai", "fn on_request(req) { if req.tags[\"later\"] == \"yes\" { return route(req.model).priority(\"low\"); } if req.tags[\"cheap\"] == \"yes\" && req.priority == \"low\" { return respond(`cheap, as it is ${req.priority}`); } }")
        .start();
    let bad = asks(gateway.clients, "people", Some(("x-tollgate-priority", "urgent"))).await;
    assert_eq!((bad.status, &bad.error()["param"]), (400, &json!("x-tollgate-priority")), "{bad:#?}");
    let cheap = asks(gateway.clients, "batch", Some(("x-tollgate-tags", "cheap=yes"))).await;
    assert_eq!(cheap.said(), "cheap, as it is low");
    let to = gateway.clients;
    let waited = async |key: &'static str, header: (&'static str, &'static str), priority: &str| {
        let label = format!("priority=\"{priority}\"");
        let before = gateway.metric("tollgate_queue_wait_seconds_count", &[&label]).await;
        let all = at_once(2, move |_| async move { asks(to, key, Some(header)).await.status }).await;
        assert_eq!(all, [200, 200]);
        let after = gateway.metric("tollgate_queue_wait_seconds_count", &[&label]).await;
        assert_eq!(after, before + 1.0, "{key} {header:?} waits as {priority}");
    };
    waited("people", ("x-tollgate-priority", "normal"), "normal").await;
    waited("people", ("x-tollgate-priority", "high"), "high").await;
    waited("batch", ("x-tollgate-priority", "high"), "low").await;
    waited("people", ("x-tollgate-tags", "later=yes"), "low").await;
}

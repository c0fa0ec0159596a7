//! More than there is room for: at a target, at a key, in the house. What can be served is served, fairly, and the rest
//! is told at once when to come again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::acts;
use crate::client::{self, Reply, ask, ask_stream, at_once, chat};
use crate::gateway::{self, Gateway, provider};
use crate::keys::send;
use crate::upstream::{Act, Upstream};

/// Requests that a target takes at once, and how long each takes.
const CAPACITY: usize = 10;
const SERVICE: Duration = Duration::from_millis(400);

/// How long overload lasts, in seconds: `TOLLGATE_OVERLOAD_SECONDS`.
fn seconds() -> u64 {
    std::env::var("TOLLGATE_OVERLOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// A target that takes `CAPACITY` requests at once and answers 503 to all others.
struct Limited {
    upstream: Upstream,
    refused: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

fn limited() -> Limited {
    limited_to(|_| SERVICE)
}

/// As many at once, for as long as `service` says of each by its number.
fn limited_to(service: impl Fn(usize) -> Duration + Send + Sync + 'static) -> Limited {
    let asked = AtomicUsize::new(0);
    let (refused, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (refusals, peak) = (refused.clone(), most.clone());
    let there: Mutex<Vec<Instant>> = Mutex::default();
    let upstream = Upstream::start(move |_| {
        let now = Instant::now();
        let mut there = there.lock().unwrap();
        there.retain(|end| *end > now);
        if there.len() >= CAPACITY {
            refusals.fetch_add(1, Ordering::SeqCst);
            return acts::error(503, "too much at once");
        }
        let service = service(asked.fetch_add(1, Ordering::SeqCst));
        there.push(now + service);
        peak.fetch_max(there.len(), Ordering::SeqCst);
        acts::after(service, acts::says("here"))
    });
    Limited { upstream, refused, most }
}

const ROOM: &str = "limits: { connections_per_address: 8000, connections: 8000, in_flight: 4000 }\n";

/// What came of so many requests a second for so long.
async fn load(gateway: &Gateway, rate: u32, time: Duration) -> Vec<(Reply, Duration)> {
    let mut beat = tokio::time::interval(Duration::from_secs(1) / rate);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begun, mut asked) = (Instant::now(), JoinSet::new());
    while begun.elapsed() < time {
        beat.tick().await;
        let to = gateway.clients;
        asked.spawn(async move {
            let begun = Instant::now();
            (chat(to, &ask("up/m")).await, begun.elapsed())
        });
    }
    asked.join_all().await
}

fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort();
    times.get(((times.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or_default()
}

/// Resident memory of the gateway, in MiB.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn descriptors(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count()
}

async fn lane(gateway: &Gateway) -> Value {
    let answer = client::get(gateway.admin, "/admin/v1/providers").await.json();
    answer["providers"][0]["targets"][0]["queue"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_many_times_its_load_a_target_does_its_best_at_once() {
    for (name, concurrency, times) in
        [("written", "concurrency: 10", 3), ("learnt", "tags: []", 3), ("written", "concurrency: 10", 10)]
    {
        let Limited { upstream, refused, most } = limited();
        let gateway = gateway::start(&format!(
            "{ROOM}queue: {{ size: 200, max_wait: 2s }}\nlog: {{ access: false }}\nproviders:\n  up: {{ dialect: openai, base_url: \"{}\", \
             keys: [ env:TEST_KEY ], models: [ m ], {concurrency} }}\n",
            upstream.url()
        ));
        let rate = (CAPACITY as f64 / SERVICE.as_secs_f64()) as u32;
        // Both find their pace; connections are made.
        load(&gateway, rate * times, Duration::from_secs(2)).await;
        let (before, from) = (resident(&gateway), refused.load(Ordering::SeqCst));
        let time = Duration::from_secs(seconds());
        let begun = Instant::now();
        let answers = load(&gateway, rate * times, time).await;
        let took = begun.elapsed();
        let after = resident(&gateway);

        let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(reply, _)| reply.status == 200);
        let mut good: Vec<_> = good.into_iter().map(|(_, took)| took).collect();
        for (reply, _) in &bad {
            assert_eq!(reply.status, 503, "{reply:#?}");
            let after: u64 = reply.header("retry-after").parse().expect("seconds");
            assert!((1..=60).contains(&after), "{reply:#?}");
        }
        let mut bad: Vec<_> = bad.into_iter().map(|(_, took)| took).collect();
        let refused_in = percentile(&mut bad, 0.5);
        let goodput = good.len() as f64 / took.as_secs_f64() / f64::from(rate);
        let (p50, p99) = (percentile(&mut good, 0.5), percentile(&mut good, 0.99));
        eprintln!(
            "{name}, {times} times: {} served in {took:?}, {:.0} % of what the target can; p50 {p50:?}, p99 {p99:?}; {} refused, half of them in {:?}; \
             the target refused {}, had {} at once; {before} → {after} MiB",
            good.len(),
            goodput * 100.0,
            bad.len(),
            refused_in,
            refused.load(Ordering::SeqCst) - from,
            most.load(Ordering::SeqCst),
        );
        assert!(goodput >= 0.9, "{name}: {goodput}");
        assert!(p99 <= Duration::from_secs(4), "{name}: {p99:?}");
        assert!(
            times < 10 || refused_in < Duration::from_millis(50),
            "{refused_in:?}: nobody waits for a refusal"
        );
        assert!(bad.len() > good.len(), "{name}: {} of {}", bad.len(), good.len());
        assert!(after <= before + 24, "{name}: {before} → {after} MiB");

        let begun = Instant::now();
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
        assert!(begun.elapsed() < SERVICE * 4, "{name}: it recovers at once, not in {:?}", begun.elapsed());
        let lane = lane(&gateway).await;
        assert_eq!((&lane["in_flight"], &lane["waiting"]), (&json!(0), &json!(0)), "{lane}");
        let refusals = gateway.metric("tollgate_queue_refused_total", &["provider=\"up\""]).await;
        assert!(refusals > 0.0, "{name}");
        if name == "written" {
            assert_eq!(refused.load(Ordering::SeqCst), 0, "nothing is sent in vain");
            assert_eq!(gateway.metric("tollgate_concurrency_limit", &["model=\"m\""]).await, 10.0);
        }
    }
}

#[tokio::test]
async fn who_cannot_be_served_in_time_is_told_at_once() {
    let Limited { upstream, .. } = limited();
    let gateway = gateway::start(&format!(
        "queue: {{ size: 20, max_wait: 5s }}\nproviders:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ], concurrency: 1 }}\n",
        upstream.url()
    ));
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
    let to = gateway.clients;
    let waiting = tokio::spawn(at_once(6, move |_| async move { chat(to, &ask("up/m")).await.status }));
    client::eventually_async("a line", async || (lane(&gateway).await["waiting"] == 5).then_some(())).await;
    let begun = Instant::now();
    let (name, hurried) = ("x-tollgate-timeout", ask("up/m").to_string());
    let reply =
        send(gateway.clients, Method::POST, "/v1/chat/completions", &[(name, "500ms")], &hurried).await;
    assert_eq!((reply.status, &reply.error()["code"]), (503, &json!("target_busy")), "{reply:#?}");
    assert!(!reply.header("retry-after").is_empty());
    assert!(begun.elapsed() < Duration::from_millis(400), "at once, not after {:?}", begun.elapsed());
    assert_eq!(waiting.await.unwrap(), [200; 6]);
    assert!(gateway.metric("tollgate_queue_refused_total", &["reason=\"late\""]).await >= 1.0);
    assert!(gateway.metric("tollgate_queue_wait_seconds_count", &[]).await >= 5.0);
}

#[tokio::test]
async fn who_waited_in_vain_is_counted_and_told_how_long() {
    let upstream = Upstream::start(|_| acts::after(Duration::from_secs(2), acts::says("late")));
    let gateway = gateway::start(&format!(
        "queue: {{ size: 2, max_wait: 500ms }}\nproviders:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ], concurrency: 1 }}\n",
        upstream.url()
    ));
    let to = gateway.clients;
    let mut replies = at_once(3, move |_| async move { chat(to, &ask("up/m")).await }).await;
    replies.sort_by_key(|reply| reply.status);
    assert_eq!(replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [200, 503, 503]);
    for reply in &replies[1..] {
        assert_eq!(reply.error()["code"], "target_busy", "{reply:#?}");
        assert!(reply.text().contains(" s in its line were in vain"), "{reply:#?}");
    }
    assert_eq!(gateway.metric("tollgate_queue_refused_total", &["reason=\"timeout\""]).await, 2.0);
    assert_eq!(gateway.metric("tollgate_queue_wait_seconds_count", &[]).await, 2.0);
}

#[tokio::test]
async fn other_targets_of_the_plan_are_asked_before_anybody_waits() {
    let Limited { upstream: first, .. } = limited();
    let second = Upstream::start(|_| acts::says("second"));
    let gateway = gateway::start(&format!(
        "providers:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ], concurrency: 1 }}\n{}\
         models:\n  m: {{ targets: [ up/m ], fallback: [ other/m ] }}\n",
        first.url(),
        provider("other", &second.url())
    ));
    let question = ask("m");
    let (a, b) = tokio::join!(chat(gateway.clients, &question), chat(gateway.clients, &question));
    let mut said = [a.said(), b.said()];
    said.sort();
    assert_eq!(said, ["here", "second"]);
    let busy = if a.said() == "second" { a } else { b };
    let record = gateway.record(busy.header("x-request-id")).await;
    assert!(record.to_string().contains("it is busy"), "{record:#}");
}

/// Requests of one key, one after the other, for so long.
async fn one_by_one(gateway: &Gateway, key: &'static str, time: Duration) -> Vec<Duration> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        let asked = Instant::now();
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str())];
        let body = ask("up/m").to_string();
        let reply = send(gateway.clients, Method::POST, "/v1/chat/completions", &headers, &body).await;
        assert_eq!(reply.status, 200, "{reply:#?}");
        times.push(asked.elapsed());
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_tenant_floods_and_the_others_hardly_notice_at_once() {
    // Answers take 300 to 500 ms, so that places come back one by one as they do in life, not ten at a time.
    let Limited { upstream, .. } = limited_to(|n| SERVICE * 3 / 4 + SERVICE / 2 * (n as u32 * 7 % 11) / 10);
    let config = format!(
        "{ROOM}queue: {{ size: 100, max_wait: 3s }}\nlog: {{ access: false }}\nauth: keys\nkeys:\n  loud: {{ secret: env:LOUD }}\n  quiet: {{ secret: env:QUIET }}\n\
         providers:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ], concurrency: 10 }}\n",
        upstream.url()
    );
    let gateway = gateway::setup(&config)
        .env("LOUD", "loud-key-0123456789")
        .env("QUIET", "quiet-key-0123456789")
        .start();
    let mut calm = one_by_one(&gateway, "quiet-key-0123456789", Duration::from_secs(3)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut flood = JoinSet::new();
    for _ in 0..150 {
        let (stop, to) = (stop.clone(), gateway.clients);
        flood.spawn(async move {
            let body = ask("up/m").to_string();
            let mut refused = 0;
            while !stop.load(Ordering::SeqCst) {
                let headers = [("authorization", "Bearer loud-key-0123456789")];
                let reply = send(to, Method::POST, "/v1/chat/completions", &headers, &body).await;
                if reply.status != 200 {
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            refused
        });
    }
    client::eventually_async("a flood", async || {
        (lane(&gateway).await["waiting"].as_u64() > Some(60)).then_some(())
    })
    .await;
    let mut flooded = one_by_one(&gateway, "quiet-key-0123456789", Duration::from_secs(5)).await;
    stop.store(true, Ordering::SeqCst);
    let refused: usize = flood.join_all().await.into_iter().sum();
    let of = |times: &mut [Duration]| (percentile(times, 0.5), percentile(times, 0.99));
    let (calm, under) = (of(&mut calm), of(&mut flooded));
    eprintln!(
        "{refused} of the flood refused; p50 {:?} → {:?}, p99 {:?} → {:?}",
        calm.0, under.0, calm.1, under.1
    );
    assert!(refused > 50, "{refused}");
    // Its turn is the next but one.
    assert!(under.0 <= calm.0.mul_f64(1.5), "{calm:?} → {under:?}");
    assert!(under.1 <= calm.1.mul_f64(1.5), "{calm:?} → {under:?}");
}

#[tokio::test]
async fn who_floods_the_house_keeps_nobody_else_out() {
    let upstream = Upstream::start(|_| acts::after(Duration::from_millis(1_500), acts::says("here")));
    let config = format!(
        "limits: {{ in_flight: 40 }}\nauth: keys\nkeys:\n  loud: {{ secret: env:LOUD }}\n  quiet: {{ secret: env:QUIET }}\nproviders:\n{}",
        provider("up", &upstream.url())
    );
    let gateway = gateway::setup(&config)
        .env("LOUD", "loud-key-0123456789")
        .env("QUIET", "quiet-key-0123456789")
        .start();
    let to = gateway.clients;
    let flood = tokio::spawn(at_once(60, move |_| async move {
        let headers = [("authorization", "Bearer loud-key-0123456789")];
        send(to, Method::POST, "/v1/chat/completions", &headers, &ask("up/m").to_string()).await
    }));
    client::eventually_async("a full house", async || {
        (gateway.status().await["requests_in_flight"] == 40).then_some(())
    })
    .await;
    let headers = [("authorization", "Bearer quiet-key-0123456789")];
    let body = ask("up/m").to_string();
    let reply = send(gateway.clients, Method::POST, "/v1/chat/completions", &headers, &body).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    let answers = flood.await.unwrap();
    let refused: Vec<_> = answers.iter().filter(|reply| reply.status != 200).collect();
    assert!(refused.len() >= 10, "{}", refused.len());
    for reply in &refused {
        assert_eq!((reply.status, reply.header("retry-after")), (503, "1"), "{reply:#?}");
    }
    assert!(gateway.metric("tollgate_shed_total", &["reason=\"in_flight\""]).await >= 1.0);
    assert_eq!(gateway.status().await["requests_in_flight"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_runs_short_lets_fewer_in_and_then_all_again_at_once() {
    let upstream = Upstream::start(|_| acts::after(Duration::from_millis(1_000), acts::says("here")));
    const LIMIT: u64 = 192;
    let gateway = gateway::start(&format!(
        "limits: {{ memory: {LIMIT}MiB, connections_per_address: 1000 }}\nlog: {{ access: false }}\nretries: {{ retries: 0 }}\nproviders:\n{}",
        provider("up", &upstream.url())
    ));
    let text = "x".repeat(3 << 20);
    let large =
        Arc::new(json!({"model": "up/m", "messages": [{"role": "user", "content": text}]}).to_string());
    let (mut asking, mut most) = (JoinSet::new(), 0);
    for _ in 0..120 {
        let (to, large) = (gateway.clients, large.clone());
        asking.spawn(async move {
            let request = client::request(Method::POST, "/v1/chat/completions", &large);
            // Who is refused may find the connection closed while it still sends.
            match client::open(to, request).await {
                Ok(live) => live.rest().await.status,
                Err(_) => 0,
            }
        });
        tokio::time::sleep(Duration::from_millis(15)).await;
        most = most.max(resident(&gateway));
    }
    while let Some(status) = asking.join_next().await {
        assert!([0, 200, 503].contains(&status.expect("an answer")));
        most = most.max(resident(&gateway));
    }
    let shed = gateway.metric("tollgate_shed_total", &["reason=\"memory\""]).await;
    eprintln!("at most {most} of {LIMIT} MiB, {shed} refused for it");
    // What was made of bodies that had been let in.
    assert!(shed > 0.0 && most < LIMIT * 5 / 4, "{shed} refused, {most} MiB");
    client::eventually_async("memory that has come back", async || {
        let memory = gateway.status().await["memory"].clone();
        (memory["short"] == false && memory["limit_bytes"] == LIMIT << 20).then_some(())
    })
    .await;
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_and_clients_that_leave_in_the_middle_leak_nothing_at_once() {
    const STREAMS: usize = 1_000;
    let upstream = Upstream::start(|_| {
        let mut script = acts::stream_open(&acts::events(&["one "]), usize::MAX);
        for _ in 0..300 {
            script.push(Act::Pause(Duration::from_millis(500)));
            script.push(acts::piece(&acts::events(&["more "])));
        }
        script
    });
    let gateway = gateway::start(&format!(
        "{ROOM}state: {{ ledger: \"sqlite:./data/ledger.db\" }}\nlog: {{ access: false }}\nprices: {{ models: {{ \"up/*\": {{ price: {{ input: 1, output: 2 }}, max_output: 100 }} }} }}\n\
         budgets: [ {{ name: all, dollars: 1000000, per: month }} ]\n\
         providers:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ {{ secret: env:TEST_KEY, max_in_flight: 3000 }} ], concurrency: 3000 }}\n",
        upstream.url()
    ));
    let idle = descriptors(&gateway);
    let (mut streams, mut left) = (Vec::with_capacity(STREAMS), 0);
    let open = async || {
        let mut live = client::chat_live(gateway.clients, &ask_stream("up/m")).await;
        assert_eq!(live.status, 200);
        live.until("one").await;
        live
    };
    for _ in 0..STREAMS {
        streams.push(open().await);
    }
    assert_eq!(gateway.status().await["requests_in_flight"], STREAMS);
    let full = resident(&gateway);
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds()) {
        beat.tick().await;
        let place = left * 7 % streams.len();
        drop(std::mem::replace(&mut streams[place], open().await));
        left += 1;
    }
    let rate = left as f64 / begun.elapsed().as_secs_f64();
    let after = resident(&gateway);
    drop(streams);
    client::eventually_async("nobody in flight", async || {
        let status = gateway.status().await;
        let lane = lane(&gateway).await;
        let key =
            client::get(gateway.admin, "/admin/v1/providers").await.json()["providers"][0]["keys"][0].clone();
        let held = gateway.metric("tollgate_budget_held", &[]).await;
        let open = gateway.metric("tollgate_connections", &[]).await;
        let nothing = status["requests_in_flight"] == 0 && status["tenants_in_flight"] == 0;
        let nothing = nothing && lane["in_flight"] == 0 && lane["waiting"] == 0 && key["in_flight"] == 0;
        (nothing && held == 0.0 && open == 0.0 && descriptors(&gateway) <= idle + 12).then_some(())
    })
    .await;
    eprintln!(
        "{left} clients left, {rate:.0} a second; {full} → {after} MiB with {STREAMS} streams; {idle} descriptors before"
    );
    assert!(after <= full + 48, "{full} → {after} MiB");
    assert!(upstream.heard().iter().all(|heard| heard.left.is_some()), "the provider is told");
}

#[tokio::test]
async fn limits_that_the_provider_tells_of_are_kept_and_shown_to_policies() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let upstream = Upstream::start(move |_| {
        let left = 2_usize.saturating_sub(counted.fetch_add(1, Ordering::SeqCst));
        let left = left.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", left.as_str()),
            ("x-ratelimit-reset-requests", "58s"),
        ];
        acts::answer(200, &headers, acts::completion("here").to_string())
    });
    let other = Upstream::start(|_| acts::says("other"));
    let config = format!(
        "queue: {{ max_wait: 3s }}\nproviders:\n{}{}models:\n  m: {{ targets: [ up/m ], fallback: [ other/m ] }}\n",
        provider("up", &upstream.url()),
        provider("other", &other.url())
    );
    let gateway = gateway::setup(&config)
        .policy(
            "10-left.rhai",
            "fn on_request(req) { if req.model == \"left\" { return respond(`left: ${target(\"up/m\").quota.requests}`); } }",
        )
        .start();
    for _ in 0..3 {
        assert_eq!(chat(gateway.clients, &ask("m")).await.said(), "here");
    }
    assert_eq!(chat(gateway.clients, &ask("m")).await.said(), "other", "nothing is left there");
    let begun = Instant::now();
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "here");
    let waited = begun.elapsed();
    assert!(
        (Duration::from_millis(600)..Duration::from_secs(3)).contains(&waited),
        "one a second: {waited:?}"
    );
    let seen = chat(gateway.clients, &ask("left")).await;
    assert!(seen.text().contains("left: 0"), "{seen:#?}");
    let keys = client::get(gateway.admin, "/admin/v1/providers").await.json();
    assert!(keys.to_string().contains("\"left\":[{\"model\":\"m\",\"requests\":"), "{keys:#}");
}

#[tokio::test]
async fn a_stream_that_only_trickles_is_broken_off() {
    let upstream = Upstream::start(|_| {
        let mut script = acts::stream_open(&acts::events(&["one "]), usize::MAX);
        for _ in 0..60 {
            script.push(Act::Pause(Duration::from_millis(500)));
            script.push(acts::piece(": ping\n\n"));
        }
        script
    });
    let gateway = gateway::start(&format!(
        "deadlines: {{ tokens_per_second: 2 }}\nproviders:\n{}",
        provider("up", &upstream.url())
    ));
    let begun = Instant::now();
    let reply = chat(gateway.clients, &ask_stream("up/m")).await;
    assert!(reply.text().contains("too slowly") && !reply.text().contains("[DONE]"), "{reply:#?}");
    assert!((9..16).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_comes_back_is_not_trampled_at_once() {
    let broken = Arc::new(AtomicBool::new(false));
    let (state, there) = (broken.clone(), Arc::new(Mutex::new(Vec::<Instant>::new())));
    let arrived = there.clone();
    let upstream = Upstream::start(move |_| {
        arrived.lock().unwrap().push(Instant::now());
        if state.load(Ordering::SeqCst) {
            return acts::error(500, "boom");
        }
        let mut script = vec![Act::Pause(Duration::from_millis(150))];
        script.extend(acts::says("here"));
        script
    });
    let gateway = gateway::start(&format!(
        "{ROOM}log: {{ access: false }}\nretries: {{ retries: 2, backoff: 20ms, budget: 0.1, budget_floor: 5 }}\n\
         breaker: {{ consecutive: 5, cool_down: 600ms, max_cool_down: 600ms }}\nhealth: {{ probe: {{ interval: 0s }} }}\nproviders:\n{}",
        provider("up", &upstream.url())
    ));
    let second = Duration::from_secs(1);
    let before = load(&gateway, 60, second).await;
    assert!(before.iter().all(|(reply, _)| reply.status == 200));
    broken.store(true, Ordering::SeqCst);
    there.lock().unwrap().clear();
    let during = load(&gateway, 60, second * 2).await;
    let sent = there.lock().unwrap().len();
    assert!(sent as f64 <= during.len() as f64 * 1.1 + 6.0, "{sent} attempts for {}", during.len());
    broken.store(false, Ordering::SeqCst);
    there.lock().unwrap().clear();
    load(&gateway, 60, second).await;
    let after = load(&gateway, 60, second).await;
    let arrivals = there.lock().unwrap().clone();
    let first = arrivals[0];
    let within = |ms| arrivals.iter().filter(|at| **at - first < Duration::from_millis(ms)).count();
    eprintln!(
        "{sent} attempts for {} requests; then {} {} {}",
        during.len(),
        within(100),
        within(280),
        within(600)
    );
    // One finds out, then two, then four.
    assert!(within(100) <= 2 && within(280) <= 5, "{} {}", within(100), within(280));
    assert!(after.iter().all(|(reply, _)| reply.status == 200), "it is well again");
}

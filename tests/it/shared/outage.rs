//! Redis in trouble of every kind: every answer in time, as the configuration declares, and nothing forgotten afterwards.

use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{Server, server_with};
use crate::acts;
use crate::client::{self, Reply, ask, eventually_async};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::Upstream;

/// The longest that an answer may take with Redis in trouble: the clock of one call, and a moment.
const MOST: Duration = Duration::from_millis(50 + 250);

/// A busy machine may hold up some answers, but none as long as the trouble lasts.
const HICCUPS: usize = 2;
const TROUBLED: Duration = Duration::from_millis(1_500);

/// Everything that can happen to it.
const TROUBLES: [&str; 9] =
    ["stop", "kill", "flush", "script flush", "oom", "replica", "slow", "password", "kill clients"];

/// Whether requests notice it at all.
fn is_felt(trouble: &str) -> bool {
    !matches!(trouble, "flush" | "script flush" | "kill clients")
}

pub fn begin(server: &mut Server, trouble: &str) {
    match trouble {
        "stop" => server.signal("STOP"),
        "kill" => server.kill(),
        "flush" => server.ask(&["FLUSHALL"]),
        "script flush" => server.ask(&["SCRIPT", "FLUSH"]),
        "oom" => server.ask(&["CONFIG", "SET", "maxmemory", "1"]),
        "replica" => server.ask(&["REPLICAOF", "127.0.0.1", "1"]),
        "slow" => {
            let url = server.url();
            std::thread::spawn(move || {
                let client = redis::Client::open(url).unwrap();
                let mut connection = client.get_connection().unwrap();
                let _: Result<(), _> = redis::cmd("DEBUG").arg("SLEEP").arg("3").query(&mut connection);
            });
        }
        "password" => {
            server.ask::<()>(&["CONFIG", "SET", "requirepass", "another"]);
            let client = redis::Client::open(server.url().replace("redis://", "redis://:another@")).unwrap();
            let mut connection = client.get_connection().unwrap();
            let kill: Result<i64, _> =
                redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut connection);
            kill.unwrap();
        }
        _ => drop(server.ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])),
    }
}

pub fn end(server: &mut Server, trouble: &str) {
    match trouble {
        "stop" => server.signal("CONT"),
        "kill" => server.start_again(),
        "oom" => server.ask(&["CONFIG", "SET", "maxmemory", "0"]),
        "replica" => server.ask(&["REPLICAOF", "NO", "ONE"]),
        "password" => {
            let client = redis::Client::open(server.url().replace("redis://", "redis://:another@")).unwrap();
            let mut connection = client.get_connection().unwrap();
            let set: Result<(), _> =
                redis::cmd("CONFIG").arg(&["SET", "requirepass", ""]).query(&mut connection);
            set.unwrap();
        }
        _ => {}
    }
}

fn start(server: &Server, up: &Upstream, on_loss: &str) -> Gateway {
    gateway::start(&format!(
        "state: {{ redis: {{ url: \"{}\", on_loss: {on_loss} }} }}\nretries: {{ retries: 0 }}\n\
         breaker: {{ enabled: false }}\nproviders:\n{}\
         rate_limits:\n  - {{ name: all, limits: {{ requests: 1000/day }} }}\n\
         prices: {{ models: {{ \"up/*\": {{ price: {{ input: 2.5, output: 10 }}, max_output: 100 }} }} }}\n\
         budgets:\n  - {{ name: all, dollars: 0.5, per: month }}\n",
        server.url(),
        provider("up", &up.url())
    ))
}

fn question() -> serde_json::Value {
    let mut question = ask("up/m");
    question["max_tokens"] = json!(10);
    question
}

/// Asks, and says how long it took.
async fn timed(gateway: &Gateway) -> (Reply, Duration) {
    let begun = Instant::now();
    let reply = client::chat(gateway.clients, &question()).await;
    (reply, begun.elapsed())
}

async fn is_up(gateway: &Gateway) -> bool {
    gateway.status().await["redis"]["up"] == true
}

/// How long answers take that Redis has nothing to do with: a busy machine is no fault of ours.
async fn usual(gateway: &Gateway) -> Duration {
    let mut most = Duration::ZERO;
    for _ in 0..10 {
        most = most.max(timed(gateway).await.1);
    }
    most
}

async fn suffer(trouble: &str, on_loss: &str) {
    let Some(mut server) = server_with(&[]) else { return };
    let up = Upstream::start(|_| acts::says("hello"));
    let gateway = start(&server, &up, on_loss);
    assert!(is_up(&gateway).await, "{trouble}: {}", gateway.status().await);
    let patience = MOST + usual(&gateway).await;
    let (before, _) = timed(&gateway).await;
    let left = |reply: &Reply| reply.header("x-ratelimit-remaining-requests").parse::<i64>().unwrap_or(-1);
    assert_eq!((before.status, left(&before)), (200, 989), "{trouble}");

    begin(&mut server, trouble);
    let begun = Instant::now();
    let (mut served, mut refused, mut late) = (0, 0, Vec::new());
    while begun.elapsed() < TROUBLED {
        let (reply, took) = timed(&gateway).await;
        if took > patience {
            late.push(took);
        }
        match reply.status {
            200 => served += 1,
            503 => {
                let code = reply.error()["code"].as_str().unwrap_or_default().to_owned();
                assert!(["limits_unavailable", "budget_unavailable"].contains(&code.as_str()), "{reply:#?}");
                assert!(!reply.header("retry-after").is_empty(), "{reply:#?}");
                refused += 1;
            }
            status => panic!("{trouble}, {on_loss}: {status} {}", reply.text()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        late.len() <= HICCUPS && late.iter().all(|took| *took < TROUBLED * 2 / 3),
        "{trouble}, {on_loss}: {late:?}, usually within {patience:?}"
    );
    match (on_loss, is_felt(trouble)) {
        ("share", _) => assert!(served > 10 && refused == 0, "{trouble}: {served} served, {refused} refused"),
        (_, true) => assert!(refused > 5, "{trouble}: {served} served, {refused} refused"),
        (_, false) => assert!(served > 10, "{trouble}: {served} served, {refused} refused"),
    }
    if is_felt(trouble) {
        let metrics = gateway.metrics().await;
        assert_eq!(gateway::sum(&metrics, "tollgate_redis_up", &[]), 0.0, "{trouble}");
        let redis = gateway.status().await["redis"].clone();
        assert!(redis["away_ms"].as_u64().is_some() && redis["error"] != "", "{trouble}: {redis}");
    }

    end(&mut server, trouble);
    eventually_async("Redis to help again, without a restart", async || is_up(&gateway).await.then_some(()))
        .await;
    let (after, _) = eventually_async("an answer", async || {
        let timed = timed(&gateway).await;
        (timed.0.status == 200).then_some(timed)
    })
    .await;
    // What was counted is not forgotten, also where Redis forgot it.
    let taken = i64::try_from(up.heard().len()).unwrap();
    let told = left(&after);
    assert!(
        told <= 1000 - 11 && told <= 1000 - taken + 3,
        "{trouble}, {on_loss}: {told} left of 1000, {taken} taken"
    );
    let cost = up.heard().len() as u64 * (7 * 2_500 + 3 * 10_000);
    eventually_async("all that was spent to be counted", async || {
        let budgets = client::get(gateway.admin, "/admin/v1/budgets").await.json();
        (budgets["budgets"][0]["used"] == cost && budgets["budgets"][0]["held"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn with_a_share_requests_go_on_whatever_happens_to_redis() {
    for trouble in TROUBLES {
        suffer(trouble, "share").await;
    }
}

#[tokio::test]
async fn closed_what_is_counted_is_refused_in_time_whatever_happens_to_redis() {
    for trouble in TROUBLES {
        suffer(trouble, "closed").await;
    }
}

#[tokio::test]
async fn a_share_is_bounded_by_what_was_left() {
    let Some(mut server) = server_with(&[]) else { return };
    let up = Upstream::start(|_| acts::says("hello"));
    let config = format!(
        "state: {{ redis: {{ url: \"{}\" }} }}\nproviders:\n{}\
         rate_limits:\n  - {{ name: all, limits: {{ requests: 40/day }} }}\n",
        server.url(),
        provider("up", &up.url())
    );
    let gateways = [gateway::start(&config), gateway::start(&config)];
    super::met(&gateways).await;
    for _ in 0..10 {
        assert_eq!(client::chat(gateways[0].clients, &question()).await.status, 200);
        assert_eq!(client::chat(gateways[1].clients, &question()).await.status, 200);
    }
    server.kill();
    for n in 0..80 {
        client::chat(gateways[n % 2].clients, &question()).await;
    }
    let heard = up.heard().len();
    assert!((36..=41).contains(&heard), "20 before, and 10 of each gateway's share: {heard}");
}

/// One gateway has let in more than the other has heard of when Redis loses everything.
#[tokio::test]
async fn after_a_loss_whoever_knows_more_is_believed() {
    let Some(server) = server_with(&[]) else { return };
    let up = Upstream::start(|_| acts::says("hello"));
    let config = format!(
        "state: {{ redis: {{ url: \"{}\", timeout: 2s }} }}\nproviders:\n{}\
         rate_limits:\n  - {{ name: all, limits: {{ requests: 100/day }} }}\n",
        server.url(),
        provider("up", &up.url())
    );
    let gateways = [gateway::start(&config), gateway::start(&config)];
    super::met(&gateways).await;
    let [first, second] = &gateways;
    let left = async |gateway: &Gateway| {
        let reply = client::chat(gateway.clients, &question()).await;
        assert_eq!(reply.status, 200, "{reply:#?}");
        reply.header("x-ratelimit-remaining-requests").parse::<i64>().unwrap()
    };
    assert_eq!(left(first).await, 99);
    for taken in 2..=30 {
        assert_eq!(left(second).await, 100 - taken);
    }
    let epoch = async |gateway: &Gateway| gateway.status().await["redis"]["epoch"].clone();
    let before = epoch(first).await;
    server.ask::<()>(&["FLUSHALL"]);
    for gateway in &gateways {
        eventually_async("the loss to be noticed", async || (epoch(gateway).await != before).then_some(()))
            .await;
    }
    assert_eq!(left(first).await, 98, "it knew of one");
    assert_eq!(left(second).await, 69, "it knew of thirty, and this is the next");
    assert_eq!(left(first).await, 68, "now both know");
}

#[tokio::test]
async fn a_gateway_starts_without_redis_and_finds_it_later() {
    let Some(mut server) = server_with(&[]) else { return };
    server.kill();
    let up = Upstream::start(|_| acts::says("hello"));
    let gateway = start(&server, &up, "closed");
    let (reply, _) = timed(&gateway).await;
    assert_eq!((reply.status, reply.error()["code"].clone()), (503, json!("limits_unavailable")));
    assert_eq!(
        client::get(gateway.admin, "/readyz").await.status,
        200,
        "it is not the gateway that is broken"
    );
    server.start_again();
    eventually_async("Redis", async || (timed(&gateway).await.0.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_password_is_taken_by_reference() {
    let Some(server) = server_with(&["--requirepass", "right"]) else { return };
    let up = Upstream::start(|_| acts::says("hello"));
    for (password, works) in [("right", true), ("wrong", false)] {
        let gateway = gateway::setup(&format!(
            "state: {{ redis: {{ url: \"{}\", password: env:REDIS_PASSWORD }} }}\nproviders:\n{}",
            server.url(),
            provider("up", &up.url())
        ))
        .env("REDIS_PASSWORD", password)
        .start();
        assert_eq!(is_up(&gateway).await, works, "{password}");
        let told = gateway.status().await["redis"].to_string();
        assert!(!told.contains(password) || password == "wrong" && told.contains("WRONGPASS"), "{told}");
        assert_eq!(timed(&gateway).await.0.status, 200, "nothing is counted");
        assert!(!gateway.log().iter().any(|line| line.contains(&format!("\"{password}\""))));
    }
}

//! The connections to Redis: closed by somebody, silent, refused, or not allowed to do what they must.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::server::{Server, server, server_with};
use super::{asked_by, cold, config, met, pair, shares, with_key};
use crate::acts;
use crate::client::{self, eventually_async};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Upstream};

const LIMITS: &str = "rate_limits:\n  - { name: all, limits: { requests: 1000/day } }\n";

fn slow() -> Upstream {
    Upstream::start(|_| {
        let mut acts = vec![Act::Pause(Duration::from_millis(900))];
        acts.extend(acts::says("once"));
        acts
    })
}

/// The same key at both gateways, the second a little later.
async fn at_both(gateways: &[Gateway; 2], key: &str) {
    let [first, second] = gateways;
    let question = cold("slow", "ann");
    let (a, b) = tokio::join!(with_key(first, key, &question), async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        with_key(second, key, &question).await
    });
    assert_eq!((a.said(), b.said()), ("once".into(), "once".into()), "{key}");
}

#[tokio::test]
async fn a_key_holds_for_both_gateways_when_their_connections_were_closed() {
    let Some(server) = server() else { return };
    let up = slow();
    let gateways = pair(&config(&up, &shares(&server, ""), ""));
    met(&gateways).await;
    at_both(&gateways, "before").await;
    for round in 1..=5 {
        let killed: i64 = server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert!(killed >= 4, "both connections of both gateways: {killed}");
        at_both(&gateways, &format!("round {round}")).await;
        assert_eq!(up.heard().len(), 1 + round, "one of them asked although the other did");
    }
}

/// Passes bytes on to Redis, and swallows those of connections that are to be silent.
struct Wire {
    port: u16,
    accepted: Arc<AtomicUsize>,
    silent: Arc<Mutex<Vec<usize>>>,
}

impl Wire {
    async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, silent) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, hushed) = (accepted.clone(), silent.clone());
        let there = server.url().trim_start_matches("redis://").to_owned();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let onwards = TcpStream::connect(&there).await.unwrap();
                let (from, to) = socket.into_split();
                let (back, there) = onwards.into_split();
                tokio::spawn(carry(from, there, number, hushed.clone()));
                tokio::spawn(carry(back, to, number, hushed.clone()));
            }
        });
        Self { port, accepted, silent }
    }

    fn state(&self, more: &str) -> String {
        format!("redis: {{ url: \"redis://127.0.0.1:{}\"{more} }}", self.port)
    }
}

async fn carry(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    number: usize,
    silent: Arc<Mutex<Vec<usize>>>,
) {
    let mut bytes = [0; 4096];
    while let Ok(read) = from.read(&mut bytes).await {
        if read > 0 && silent.lock().unwrap().contains(&number) {
            // The connection stands, and nothing comes of it.
            continue;
        }
        if read == 0 || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_second_connection_that_falls_silent_is_made_anew() {
    let Some(server) = server() else { return };
    let wire = Wire::to(&server).await;
    let up = Upstream::start(|_| acts::says("hello"));
    let state = wire.state(", timeout: 200ms");
    let config = config(&up, &state, "cache: { ttl: 10m }\n");
    let gateway = tokio::task::spawn_blocking(move || gateway::start(&config)).await.unwrap();
    eventually_async("both connections", async || (wire.accepted.load(Ordering::SeqCst) >= 2).then_some(()))
        .await;
    // Whatever is open and whatever comes for a while, but the first: it is not Redis that is away.
    *wire.silent.lock().unwrap() = (1..100).collect();
    let told = eventually_async("the status to tell it", async || {
        let redis = gateway.status().await["redis"].clone();
        redis["answers_error"].as_str().map(ToOwned::to_owned)
    })
    .await;
    assert!(told.contains("no answer") || told.contains("no connection"), "{told}");
    assert_eq!(gateway.status().await["redis"]["up"], true);
    // It costs requests nothing any more.
    let begun = Instant::now();
    for n in 0..10 {
        assert_eq!(client::chat(gateway.clients, &cold(&format!("quick {n}"), "ann")).await.status, 200);
    }
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    let of_it = || gateway.log().into_iter().filter(|line| line.contains("second connection")).count();
    assert_eq!(of_it(), 1, "{:#?}", gateway.log());
    *wire.silent.lock().unwrap() = (1..wire.accepted.load(Ordering::SeqCst)).collect();
    eventually_async("another connection", async || {
        gateway.status().await["redis"]["answers_error"].is_null().then_some(())
    })
    .await;
    assert_eq!(client::chat(gateway.clients, &cold("shared", "ann")).await.status, 200);
    eventually_async("an answer in Redis", async || {
        (!server.keys("{tollgate}:1:c:*").is_empty()).then_some(())
    })
    .await;
    assert_eq!(of_it(), 2, "{:#?}", gateway.log());
}

#[tokio::test]
async fn a_gateway_waits_for_a_redis_that_starts_with_it() {
    let Some(mut server) = server() else { return };
    server.kill();
    let up = Upstream::start(|_| acts::says("hello"));
    let state = shares(&server, ", on_loss: closed");
    let later = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(900));
        server.start_again();
        server
    });
    let gateway = gateway::start(&config(&up, &state, LIMITS));
    let _server = later.join().unwrap();
    let reply = client::chat(gateway.clients, &asked_by("ann")).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
}

/// The calls of scripts since the last time.
fn scripts(server: &Server) -> u64 {
    let stats: String = server.ask(&["INFO", "commandstats"]);
    let calls = |line: &str| {
        let rest = line.strip_prefix("cmdstat_evalsha:calls=").or(line.strip_prefix("cmdstat_eval:calls="))?;
        rest.split(',').next()?.parse::<u64>().ok()
    };
    server.ask::<()>(&["CONFIG", "RESETSTAT"]);
    stats.lines().filter_map(calls).sum()
}

#[tokio::test]
async fn a_redis_that_does_not_help_is_tried_four_times_a_second_and_told_once() {
    for (trouble, code) in [("replica", "READONLY"), ("not allowed", "")] {
        let Some(server) = server() else { return };
        let up = Upstream::start(|_| acts::says("hello"));
        let gateway = gateway::start(&config(&up, &shares(&server, ""), LIMITS));
        assert_eq!(gateway.status().await["redis"]["up"], true);
        match trouble {
            "replica" => server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]),
            _ => server.ask::<()>(&["ACL", "SETUSER", "default", "-set"]),
        }
        for _ in 0..20 {
            assert_eq!(client::chat(gateway.clients, &asked_by("ann")).await.status, 200, "{trouble}");
        }
        let error = eventually_async("the reason in the status", async || {
            let redis = gateway.status().await["redis"].clone();
            (redis["up"] == false).then(|| redis["error"].as_str().unwrap_or_default().to_owned())
        })
        .await;
        assert!(error.contains(code) && error.contains(' '), "{trouble}: {error}");
        scripts(&server);
        for _ in 0..20 {
            assert_eq!(client::chat(gateway.clients, &asked_by("ann")).await.status, 200, "{trouble}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let calls = scripts(&server);
        // A round more for what began before, and each asks for its script twice where it is not known.
        assert!((4..=24).contains(&calls), "{trouble}: {calls} calls in two seconds");
        let told = gateway.log().into_iter().filter(|line| line.contains("Redis is away")).count();
        assert_eq!(told, 1, "{trouble}: {:#?}", gateway.log());
        assert_eq!(gateway.status().await["redis"]["up"], false, "{trouble}");
        match trouble {
            "replica" => server.ask::<()>(&["REPLICAOF", "NO", "ONE"]),
            _ => server.ask::<()>(&["ACL", "SETUSER", "default", "+set"]),
        }
        eventually_async("Redis to help again", async || {
            (gateway.status().await["redis"]["up"] == true).then_some(())
        })
        .await;
        assert!(gateway.status().await["redis"]["last_error"].as_str().is_some_and(|why| why == error));
    }
}

#[tokio::test]
async fn a_redis_that_was_never_there_is_told_of() {
    let Some(mut server) = server() else { return };
    server.kill();
    let up = Upstream::start(|_| acts::says("hello"));
    let gateway = gateway::start(&config(&up, &shares(&server, ""), ""));
    assert!(gateway.metrics().await.lines().any(|line| line == "tollgate_redis_up 0"), "no gauge");
    let lines = |what: &str| gateway.log().into_iter().filter(|line| line.contains(what)).collect::<Vec<_>>();
    let away = lines("Redis is away");
    assert!(away.len() == 1 && away[0].contains("refused"), "{away:?}");
    server.start_again();
    client::eventually("that it is there", || (lines("Redis is there").len() == 1).then_some(())).await;
    assert_eq!(gateway.metric("tollgate_redis_up", &[]).await, 1.0);
}

#[tokio::test]
async fn a_redis_that_wants_a_password_says_so() {
    let Some(server) = server_with(&["--requirepass", "right"]) else { return };
    let up = Upstream::start(|_| acts::says("hello"));
    let gateway = gateway::start(&config(&up, &shares(&server, ""), ""));
    let told = gateway.status().await["redis"]["error"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains("NOAUTH") && told.contains("state.redis.password"), "{told}");
}

/// The rights that the guide names are enough for everything that is shared.
#[tokio::test]
async fn the_least_rights_are_enough() {
    let Some(server) = server() else { return };
    let guide = include_str!("../../../docs/several-gateways.md");
    let rights =
        guide.lines().find_map(|line| line.trim().strip_prefix("ACL SETUSER tollgate on >PASSWORD "));
    let mut words = vec!["ACL", "SETUSER", "tollgate", "on", ">word"];
    words.extend(rights.expect("the rights in the guide").split(' '));
    server.ask::<()>(&words);
    let up = slow();
    let state = shares(&server, ", username: tollgate, password: file:word");
    let more = format!(
        "{LIMITS}budgets:\n  - {{ name: all, dollars: 5, per: month }}\n\
         prices: {{ models: {{ \"up/*\": {{ price: {{ input: 2.5, output: 10 }}, max_output: 100 }} }} }}\n"
    );
    let start = || gateway::setup(&config(&up, &state, &more)).file("word", "word").start();
    let gateways = [start(), start()];
    met(&gateways).await;
    at_both(&gateways, "k").await;
    assert_eq!(up.heard().len(), 1);
    let log: Vec<redis::Value> = server.ask(&["ACL", "LOG"]);
    assert!(log.is_empty(), "{log:#?}");
}

/// A password that was changed is taken with the next connection.
#[tokio::test]
async fn a_new_password_needs_no_restart() {
    let Some(server) = server() else { return };
    server.ask::<()>(&["ACL", "SETUSER", "tollgate", "on", ">first", "~*", "+@all"]);
    let up = Upstream::start(|_| acts::says("hello"));
    let state = shares(&server, ", username: tollgate, password: file:word");
    let gateway = gateway::setup(&config(&up, &state, LIMITS)).file("word", "first").start();
    assert_eq!(gateway.status().await["redis"]["up"], true);
    gateway.save("word", "second");
    server.ask::<()>(&["ACL", "SETUSER", "tollgate", "<first", ">second"]);
    server.ask::<i64>(&["CLIENT", "KILL", "USER", "tollgate"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    eventually_async("Redis with the new password", async || {
        (gateway.status().await["redis"]["up"] == true).then_some(())
    })
    .await;
    let reply = client::chat(gateway.clients, &asked_by("ann")).await;
    assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (200, "999"), "{reply:#?}");
}

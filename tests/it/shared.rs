//! Several gateways that share one Redis: they count together, find each other's answers, and warn each other.

mod background;
mod links;
mod money;
mod outage;
pub mod server;
mod several_servers;

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, ask, eventually_async};
use crate::gateway::{self, Gateway, Setup, provider};
use crate::upstream::{Act, Upstream};
use server::{Server, server};

/// What is shared, with a clock that a busy machine does not run out of.
fn shares(server: &Server, more: &str) -> String {
    format!("redis: {{ url: \"{}\", timeout: 2s, lease: 2s{more} }}", server.url())
}

fn config(up: &Upstream, state: &str, more: &str) -> String {
    format!(
        "limits: {{ connections_per_address: 2000 }}\nstate: {{ {state} }}\nproviders:\n{}{more}",
        provider("up", &up.url())
    )
}

fn pair(config: &str) -> [Gateway; 2] {
    [gateway::start(config), gateway::start(config)]
}

fn asked_by(user: &str) -> Value {
    let mut question = ask("up/m");
    question["user"] = user.into();
    question["max_tokens"] = 10.into();
    question
}

/// Both know of each other.
async fn met(gateways: &[Gateway; 2]) {
    for gateway in gateways {
        eventually_async("two gateways", async || {
            let redis = gateway.status().await["redis"].clone();
            (redis["up"] == true && redis["gateways"] == 2).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn two_gateways_let_in_exactly_as_many_as_one() {
    let Some(server) = server() else { return };
    let up = Upstream::start(|_| acts::says("hello"));
    let limits = "rate_limits:\n  - { name: each, per: user, limits: { requests: 50/day } }\n";
    let gateways = pair(&config(&up, &shares(&server, ""), limits));
    met(&gateways).await;
    let asks = |n: usize| {
        let (to, body) = (gateways[n % 2].clients, asked_by(if n % 4 < 2 { "ann" } else { "bob" }));
        async move { client::chat(to, &body).await.status }
    };
    let statuses = client::at_once(200, asks).await;
    let count = |status: u16| statuses.iter().filter(|known| **known == status).count();
    assert_eq!((count(200), count(429)), (100, 100), "{statuses:?}");
    assert_eq!(up.heard().len(), 100);
    // What one was told by the other is told to clients.
    for gateway in &gateways {
        let reply = client::chat(gateway.clients, &asked_by("ann")).await;
        assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (429, "0"), "{reply:#?}");
        assert_eq!(reply.error()["code"], "rate_limit_exceeded");
    }
}

/// The same without Redis lets in twice as many: the story would notice.
#[tokio::test]
async fn two_gateways_that_do_not_share_let_in_twice_as_many() {
    let up = Upstream::start(|_| acts::says("hello"));
    let limits = "rate_limits:\n  - { name: all, limits: { requests: 10/day } }\n";
    let gateways = pair(&config(&up, "", limits));
    for n in 0..40 {
        client::chat(gateways[n % 2].clients, &asked_by("ann")).await;
    }
    assert_eq!(up.heard().len(), 20);
}

#[tokio::test]
async fn tokens_that_were_not_used_are_there_for_the_other_gateway() {
    let Some(server) = server() else { return };
    let up = Upstream::start(|_| acts::says("hello"));
    let limits = "rate_limits:\n  - { name: all, limits: { tokens: 1000/day } }\n";
    let gateways = pair(&config(&up, &shares(&server, ""), limits));
    met(&gateways).await;
    let mut large = asked_by("ann");
    large["max_tokens"] = 800.into();
    assert_eq!(client::chat(gateways[0].clients, &large).await.status, 200);
    // 10 tokens were used of the 800 that were reckoned with; the correction takes a moment.
    eventually_async("what was not used", async || {
        (client::chat(gateways[1].clients, &large).await.status == 200).then_some(())
    })
    .await;
    let mut huge = large.clone();
    huge["messages"][0]["content"] = "so many words ".repeat(2_000).into();
    let refused = client::chat(gateways[1].clients, &huge).await;
    assert_eq!(refused.status, 429, "{refused:#?}");
    assert!(refused.error()["message"].to_string().contains("ever lets through"), "{refused:#?}");
}

#[tokio::test]
async fn places_of_a_gateway_that_was_killed_come_back_when_its_lease_ends() {
    let Some(server) = server() else { return };
    let up = Upstream::start(|_| {
        let mut acts = acts::stream_open(&acts::events(&["hello there"]), usize::MAX);
        acts.push(Act::Hang);
        acts
    });
    let limits = "rate_limits:\n  - { name: all, limits: { concurrent: 3 } }\n";
    let [first, second] = pair(&config(&up, &shares(&server, ""), limits));
    let open = async |gateway: &Gateway| {
        let mut question = asked_by("ann");
        question["stream"] = true.into();
        let mut live = client::chat_live(gateway.clients, &question).await;
        if live.status == 200 {
            live.until("hello there").await;
        }
        live
    };
    let (_one, _two) = (open(&first).await, open(&first).await);
    let three = open(&second).await;
    assert_eq!(three.status, 200);
    assert_eq!(open(&second).await.status, 429);
    drop(three);
    let three = eventually_async("the place that was left", async || {
        let live = open(&second).await;
        (live.status == 200).then_some(live)
    })
    .await;
    // Held for longer than the lease, a place stays.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(open(&second).await.status, 429);
    drop(first);
    eventually_async("the places of the dead", async || (open(&second).await.status == 200).then_some(()))
        .await;
    drop(three);
}

fn cold(prompt: &str, user: &str) -> Value {
    json!({"model": "up/m", "temperature": 0, "user": user,
        "messages": [{"role": "user", "content": prompt}]})
}

async fn with_key(gateway: &Gateway, key: &str, body: &Value) -> Reply {
    let mut request = client::request(Method::POST, "/v1/chat/completions", &body.to_string());
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    client::open(gateway.clients, request).await.unwrap().rest().await
}

#[tokio::test]
async fn an_answer_that_one_gateway_made_is_found_by_the_other() {
    let Some(server) = server() else { return };
    let up = Upstream::start(|heard| match heard.is_stream() {
        true => acts::says_stream(&["in", " pieces"]),
        false => acts::says("whole"),
    });
    let [first, second] = pair(&config(&up, &shares(&server, ""), "cache: { ttl: 10m }\n"));
    let asked = async |gateway: &Gateway, body: &Value| {
        let reply = client::chat(gateway.clients, body).await;
        assert_eq!(reply.status, 200, "{reply:#?}");
        (reply.header("x-tollgate-cache").to_owned(), reply)
    };
    assert_eq!(asked(&first, &cold("a", "ann")).await.0, "miss");
    let (_, reply) = eventually_async("the answer of the other", async || {
        let (cache, reply) = asked(&second, &cold("a", "ann")).await;
        (cache == "hit").then_some((cache, reply))
    })
    .await;
    assert_eq!((reply.said(), reply.header("x-tollgate-target")), ("whole".into(), "up/m"));
    assert!(up.heard().len() <= 2, "asked again at most while it was on its way");
    let before = up.heard().len();
    assert_eq!(asked(&second, &cold("a", "bob")).await.0, "miss", "somebody else's");
    assert_eq!(up.heard().len(), before + 1);

    // What cannot be read is none.
    assert_eq!(asked(&first, &cold("b", "ann")).await.0, "miss");
    let keys = eventually_async("an answer in Redis", async || {
        let keys = server.keys("{tollgate}:1:c:*");
        (keys.len() >= 3).then_some(keys)
    })
    .await;
    for key in &keys {
        assert!(server.ask::<i64>(&["PTTL", key]) > 0, "it ends some time");
        server.ask::<i64>(&["SETRANGE", key, "60", "x"]);
    }
    assert_eq!(asked(&second, &cold("b", "ann")).await.0, "miss");
}

#[tokio::test]
async fn an_idempotency_key_holds_for_both_gateways() {
    let Some(server) = server() else { return };
    let up = Upstream::start(|heard| {
        let slow = heard.json()["messages"][0]["content"] == "slow";
        let mut acts = if slow { vec![Act::Pause(Duration::from_millis(600))] } else { Vec::new() };
        acts.extend(acts::says("once"));
        acts
    });
    let gateways = pair(&config(&up, &shares(&server, ""), ""));
    met(&gateways).await;
    let [first, second] = &gateways;
    let slow = cold("slow", "ann");
    let (a, b) = tokio::join!(with_key(first, "k", &slow), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        with_key(second, "k", &slow).await
    });
    assert_eq!((a.said(), b.said()), ("once".into(), "once".into()));
    assert_eq!(up.heard().len(), 1, "one of them waited for the other");
    assert_eq!(b.header("idempotent-replayed"), "true");
    let other = with_key(second, "k", &cold("another", "ann")).await;
    assert_eq!((other.status, other.error()["code"].clone()), (409, json!("idempotency_conflict")));
    // Elsewhere it was not used.
    assert_eq!(with_key(second, "k2", &cold("x", "ann")).await.header("idempotent-replayed"), "");
    // Whoever made the answer knows it, too.
    assert_eq!(with_key(first, "k", &cold("another", "ann")).await.status, 409);
    assert_eq!(with_key(first, "k", &slow).await.header("idempotent-replayed"), "true");
}

#[tokio::test]
async fn a_key_whose_gateway_was_killed_is_free_again() {
    let Some(server) = server() else { return };
    let up = Upstream::start(|heard| match heard.json()["user"] == "ann" {
        true if heard.json()["messages"][0]["content"] == "hang" => vec![Act::Hang],
        _ => acts::says("made by the other"),
    });
    let state = shares(&server, "").replace("lease: 2s", "lease: 5s");
    let [first, second] = pair(&config(&up, &state, ""));
    let to = first.clients;
    let hanging = tokio::spawn(async move {
        let mut request =
            client::request(Method::POST, "/v1/chat/completions", &cold("hang", "ann").to_string());
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        client::open(to, request).await.is_ok()
    });
    crate::client::eventually("the first request", || (!up.heard().is_empty()).then_some(())).await;
    drop(first);
    let _ = hanging.await;
    // The same key and question; the provider would hang again, so that another one shows that the place is taken first.
    let mut taken = 0;
    eventually_async("the place of the dead", async || {
        let reply = with_key(&second, "k", &cold("other", "ann")).await;
        taken += usize::from(reply.status == 409);
        (reply.status == 200).then_some(())
    })
    .await;
    assert!(taken > 0, "it was taken for a while");
}

#[tokio::test]
async fn what_one_gateway_finds_out_of_a_target_makes_the_other_careful() {
    let Some(server) = server() else { return };
    let up = Upstream::start(|_| acts::error(500, "broken"));
    let more = "retries: { retries: 0 }\nbreaker: { consecutive: 5, cool_down: 30s, max_cool_down: 60s }\n";
    let gateways = pair(&config(&up, &shares(&server, ""), more));
    met(&gateways).await;
    let [first, second] = &gateways;
    let standing = async |gateway: &Gateway| {
        let shown = client::get(gateway.admin, "/admin/v1/providers").await.text();
        (shown.contains("\"state\":\"open\""), shown)
    };
    assert_eq!(client::chat(second.clients, &ask("up/m")).await.status, 500);
    for _ in 0..5 {
        client::chat(first.clients, &ask("up/m")).await;
    }
    assert!(standing(first).await.0, "{}", standing(first).await.1);
    eventually_async("a hint", async || standing(second).await.1.contains("\"health\":0.5").then_some(()))
        .await;
    assert!(!standing(second).await.0, "a hint opens nothing");
    client::chat(second.clients, &ask("up/m")).await;
    assert!(standing(second).await.0, "{}", standing(second).await.1);
}

#[tokio::test]
async fn what_is_wrong_with_the_settings_is_said_with_its_place() {
    let up = Upstream::start(|_| acts::says("hello"));
    for (redis, said) in [
        ("{ url: \"redis://:hunter2@127.0.0.1:1\" }", "user and password do not stand here"),
        ("{ url: \"127.0.0.1:6379\" }", "write `redis://HOST:PORT/DATABASE`"),
        ("{ uri: \"redis://127.0.0.1\" }", "uri"),
        ("{ url: \"redis://127.0.0.1:1\", lease: 1s }", "must be from 2s to 10m"),
        ("{ url: \"redis://127.0.0.1:1\", ca: x.pem }", "is for `rediss://` only"),
        ("{ url: \"redis://127.0.0.1:1\", sentinel: \"\" }", "the name of the primary"),
    ] {
        let setup = gateway::setup(&config(&up, &format!("redis: {redis}"), ""));
        let config = setup.path().join("tollgate.yaml").display().to_string();
        let printed = setup.run(&["check", "--config", &config]);
        assert_ne!(printed.code, Some(0), "{redis}");
        assert!(printed.err.contains(said) || printed.out.contains(said), "{redis}: {printed:#?}");
        let shown = format!("{}{}", printed.err, printed.out);
        assert!(!shown.contains("hunter2"), "a password is shown: {shown}");
    }
}

/// What `serve` would refuse, `check` refuses with the same words.
#[tokio::test]
async fn what_redis_and_postgres_are_reached_with_is_looked_at_by_check_and_serve() {
    let up = Upstream::start(|_| acts::says("hello"));
    let redis = |more: &str| format!("redis: {{ url: \"rediss://127.0.0.1:1\", {more} }}");
    let postgres = |more: &str| {
        format!(
            "ledger: \"postgres://a@127.0.0.1:1/d\", postgres: {{ password: env:GOOD, outbox: ./o.db, {more} }}"
        )
    };
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (state, place, said) in [
        (redis("password: env:NOT_SET"), "state.redis.password", "env:NOT_SET"),
        (redis("password: file:empty"), "state.redis.password", "is empty"),
        (redis("password: \"vault:a#b\""), "state.redis.password", "a store elsewhere cannot be asked"),
        (redis("password: hunter2"), "state.redis.password", "`file:PATH` or `keystore:NAME`, never"),
        (redis("ca: absent.pem"), "state.redis.ca", "absent.pem"),
        (redis("ca: empty"), "state.redis.ca", "no certificate in it"),
        (redis("ca: garbage"), "state.redis.ca", "no certificate in it"),
        (redis("ca: key.pem"), "state.redis.ca", "no certificate in it"),
        (postgres("roots: absent.pem"), "state.postgres.roots", "absent.pem"),
        (postgres("roots: key.pem"), "state.postgres.roots", "no certificate in it"),
    ] {
        let setup: Setup = gateway::setup(&config(&up, &state, "")).env("GOOD", "word");
        let setup = setup.file("empty", "").file("garbage", "none").file("key.pem", &key);
        let config = setup.path().join("tollgate.yaml").display().to_string();
        for command in ["check", "serve"] {
            let printed = setup.run(&[command, "--config", &config]);
            let shown = format!("{}{}", printed.err, printed.out);
            assert!(printed.code.is_some_and(|code| code != 0), "{command} {state}: {shown}");
            for part in [place, said, "tollgate.yaml:"] {
                assert!(shown.contains(part), "{command} {state}: {part} is missing: {shown}");
            }
            assert!(!shown.contains("hunter2") && !shown.contains("aws-secrets"), "{state}: {shown}");
        }
    }
}

//! A Redis of several servers: a cluster, one behind Sentinels, a primary and its replica; and one that speaks TLS.

use super::server::{Server, sentinel, server, server_with};
use super::{asked_by, config};
use crate::acts;
use crate::client::{self, eventually_async};
use crate::gateway::{self, Gateway};
use crate::upstream::Upstream;

/// Four requests a day, however many gateways there are.
const LIMITS: &str = "rate_limits:\n  - { name: all, limits: { requests: 4/day } }\n";

fn pair(up: &Upstream, redis: &str) -> [Gateway; 2] {
    let state = format!("redis: {{ {redis}, timeout: 2s, lease: 2s }}");
    [gateway::start(&config(up, &state, LIMITS)), gateway::start(&config(up, &state, LIMITS))]
}

/// Both go by this server, and know of each other.
async fn are_at(gateways: &[Gateway; 2], server: &Server) {
    for gateway in gateways {
        let mut status = serde_json::Value::Null;
        let there = async {
            loop {
                status = gateway.status().await["redis"].clone();
                if status["up"] == true && status["server"] == server.at() && status["gateways"] == 2 {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(client::PATIENCE, there).await.is_err() {
            panic!("not at {}: {status}", server.at());
        }
    }
}

async fn asks(gateway: &Gateway) -> u16 {
    client::chat(gateway.clients, &asked_by("ann")).await.status
}

/// Three requests are let in before something happens to the server, and one afterwards.
async fn three(gateways: &[Gateway; 2]) {
    for at in [0, 1, 0] {
        assert_eq!(asks(&gateways[at]).await, 200);
    }
}

async fn one_more(gateways: &[Gateway; 2]) {
    assert_eq!(asks(&gateways[1]).await, 200);
    for gateway in gateways {
        assert_eq!(asks(gateway).await, 429);
    }
}

async fn until(what: &str, server: &Server, words: &[&str], wanted: &str) {
    eventually_async(what, async || {
        server.try_ask::<String>(words).is_ok_and(|said| said.contains(wanted)).then_some(())
    })
    .await;
}

/// Replication has brought all that there is.
async fn is_replica(server: &Server) {
    until("a replica", server, &["INFO", "replication"], "master_link_status:up").await;
}

#[tokio::test]
async fn the_server_of_a_cluster_that_has_our_keys_is_found_also_when_another_takes_its_place() {
    let cluster =
        ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-config-file", "n"];
    let (Some(mut first), Some(second)) = (server_with(&cluster), server_with(&cluster)) else { return };
    first.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let (host, port) = first.at().split_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    second.ask::<()>(&["CLUSTER", "MEET", &host, &port]);
    for server in [&first, &second] {
        until("a cluster", server, &["CLUSTER", "INFO"], "cluster_state:ok").await;
    }
    let up = Upstream::start(|_| acts::says("hello"));
    // The second server knows only who has them.
    let gateways = pair(&up, &format!("url: \"redis://{},{}\"", second.at(), first.at()));
    are_at(&gateways, &first).await;
    let away = gateways[0].log().into_iter().find(|line| line.contains("Redis is away"));
    assert_eq!(away, None, "it was sent on at once");
    three(&gateways).await;
    let name: String = first.ask(&["CLUSTER", "MYID"]);
    eventually_async("a replica to be taken", async || {
        second.try_ask::<()>(&["CLUSTER", "REPLICATE", &name]).is_ok().then_some(())
    })
    .await;
    is_replica(&second).await;
    first.kill();
    second.ask::<()>(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    are_at(&gateways, &second).await;
    one_more(&gateways).await;
    // Whoever comes back as a replica sends everybody on.
    first.start_again();
    until("a replica again", &first, &["INFO", "replication"], "role:slave").await;
    first.ask::<()>(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    are_at(&gateways, &first).await;
    one_refused(&gateways).await;
}

async fn one_refused(gateways: &[Gateway; 2]) {
    for gateway in gateways {
        assert_eq!(asks(gateway).await, 429);
    }
}

#[tokio::test]
async fn the_primary_that_sentinels_name_is_asked_also_after_a_failover() {
    let (Some(mut first), Some(second)) = (server(), server()) else { return };
    let (host, port) = first.at().split_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    second.ask::<()>(&["REPLICAOF", &host, &port]);
    is_replica(&second).await;
    let Some(watch) = sentinel("house", &first) else { return };
    let up = Upstream::start(|_| acts::says("hello"));
    // One that does not answer is passed over.
    let gateways = pair(&up, &format!("url: \"redis://127.0.0.1:1,{}\", sentinel: house", watch.at()));
    are_at(&gateways, &first).await;
    three(&gateways).await;
    until("a replica to be known", &watch, &["INFO", "sentinel"], "slaves=1").await;
    first.kill();
    are_at(&gateways, &second).await;
    one_more(&gateways).await;

    let other = format!("redis: {{ url: \"redis://{}\", sentinel: another }}", watch.at());
    let lost = gateway::start(&config(&up, &other, ""));
    let why = lost.status().await["redis"]["error"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("knows no primary called `another`"), "{why}");
    let unsaid = format!("redis: {{ url: \"redis://{}\" }}", watch.at());
    let lost = gateway::start(&config(&up, &unsaid, ""));
    let why = lost.status().await["redis"]["error"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("name the primary by `state.redis.sentinel`"), "{why}");
}

/// Of several servers, the one that takes writes.
#[tokio::test]
async fn of_a_primary_and_its_replica_the_primary_is_found_whichever_it_is() {
    let (Some(first), Some(second)) = (server(), server()) else { return };
    let change = |primary: &Server, replica: &Server| {
        primary.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
        let at = primary.at();
        let (host, port) = at.split_once(':').unwrap();
        replica.ask::<()>(&["REPLICAOF", host, port]);
    };
    change(&second, &first);
    is_replica(&first).await;
    let up = Upstream::start(|_| acts::says("hello"));
    let gateways = pair(&up, &format!("url: \"redis://{},{}\"", first.at(), second.at()));
    are_at(&gateways, &second).await;
    three(&gateways).await;
    change(&first, &second);
    are_at(&gateways, &first).await;
    one_more(&gateways).await;
}

#[tokio::test]
async fn a_redis_that_speaks_tls_is_spoken_to_where_its_certificate_is_trusted() {
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert_at, key_at) = (at("cert.pem", &cert), at("key.pem", &key));
    let Some(server) = super::server::server_over_tls(&cert_at, &key_at) else { return };
    let up = Upstream::start(|_| acts::says("hello"));
    let start = |trusted: &str| {
        let redis = format!("redis: {{ url: \"rediss://{}\", ca: ca.pem, timeout: 2s }}", server.at());
        gateway::setup(&config(&up, &redis, LIMITS)).file("ca.pem", trusted).start()
    };
    let gateways = [start(&cert), start(&cert)];
    are_at(&gateways, &server).await;
    three(&gateways).await;
    one_more(&gateways).await;
    let strict = start(&other.cert.pem());
    let status = strict.status().await["redis"].clone();
    assert_eq!(status["up"], false, "{status}");
    assert!(status["error"].to_string().contains("certificate"), "{status}");
}

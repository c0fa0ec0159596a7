//! Rows C of the fault matrix that need more than a request: readers that never read, floods of HTTP/2, idle crowds.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::acts;
use crate::client::{self, ask, ask_stream, chat};
use crate::gateway::{self, Gateway, provider};
use crate::matrix_upstream::resident;
use crate::upstream::{Act, Upstream};

fn house(more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start(|_| acts::says("ok"));
    let gateway = gateway::start(&format!("{more}providers:\n{}", provider("up", &upstream.url())));
    (upstream, gateway)
}

/// A client with a receive buffer of next to nothing.
async fn deaf(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn two_hundred_readers_that_never_read_cost_little() {
    let event = acts::delta(json!({ "content": "x".repeat(4_000) }), None);
    let upstream = Upstream::start(move |_| {
        let mut script = acts::stream_head();
        script.extend(std::iter::repeat_n(acts::piece(&event), 500));
        script
    });
    let config = format!("limits: {{ write_timeout: 2s }}\nproviders:\n{}", provider("up", &upstream.url()));
    let gateway = gateway::start(&config);
    let body = ask_stream("up/m").to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let before = resident(&gateway);
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = deaf(gateway.clients).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        held.push(stream);
    }
    client::eventually("all of them to be asked upstream", || (upstream.heard().len() == 200).then_some(()))
        .await;
    let grown = resident(&gateway).saturating_sub(before);
    // Two megabytes wait for each of them.
    assert!(grown < 50 << 20, "grew by {} MiB", grown >> 20);
    assert_eq!(client::get(gateway.clients, "/v1/models").await.status, 200, "others are served");
    let streams = || gateway.access().into_iter().filter(|line| line["path"] == "/v1/chat/completions");
    client::eventually("all of them to be given up", || (streams().count() == 200).then_some(())).await;
    assert!(streams().all(|line| line["outcome"] == "cancelled"), "none had its answer");
    drop(held);
}

#[tokio::test]
async fn a_client_that_leaves_in_any_way_cancels_the_provider_and_is_settled() {
    let upstream = Upstream::start(|heard| {
        if heard.is_stream() {
            let mut script = acts::stream_open(&acts::events(&["first"]), usize::MAX);
            script.push(Act::Hang);
            return script;
        }
        vec![Act::Hang]
    });
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let mut number = 0;
    for stream in [false, true] {
        for way in ["fin", "reset"] {
            number += 1;
            let body = if stream { ask_stream("up/m") } else { ask("up/m") }.to_string();
            let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
            let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
            let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            socket.write_all(request.as_bytes()).await.unwrap();
            client::eventually("the request upstream", || (upstream.heard().len() == number).then_some(()))
                .await;
            if stream {
                let mut bytes = Vec::new();
                while !String::from_utf8_lossy(&bytes).contains("first") {
                    socket.read_buf(&mut bytes).await.unwrap();
                }
            }
            if way == "reset" {
                socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
            }
            let gone = Instant::now();
            drop(socket);
            let left =
                client::eventually("the provider to be left", || upstream.heard()[number - 1].left).await;
            assert!(left - gone < Duration::from_secs(1), "{way}, stream {stream}: {:?}", left - gone);
            client::eventually("its line", || (gateway.access().len() == number).then_some(())).await;
            let line = gateway.access().pop().unwrap();
            assert_eq!(line["outcome"], "cancelled", "{way}, stream {stream}: {line:#}");
        }
    }
    assert!(gateway.metric("tollgate_in_flight", &[]).await < 0.5, "nothing is held");
}

#[tokio::test]
async fn numbers_and_crowds_beyond_sense_are_named() {
    let (upstream, gateway) = house("");
    let message = json!({ "role": "user", "content": "hi" });
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": {} } });
    for (field, value, param) in [
        ("max_tokens", json!(-1), "max_tokens"),
        ("max_tokens", json!(0), "max_tokens"),
        ("max_tokens", json!(4_294_967_296_u64), "max_tokens"),
        ("max_tokens", json!("12"), "max_tokens"),
        ("max_completion_tokens", json!(0), "max_completion_tokens"),
        ("n", json!(1_000), "n"),
        ("messages", json!(vec![message.clone(); 10_001]), "messages"),
        ("tools", json!(vec![tool.clone(); 1_025]), "tools"),
    ] {
        let mut body = ask("up/m");
        body[field] = value;
        let reply = chat(gateway.clients, &body).await;
        assert_eq!((reply.status, &reply.error()["param"]), (400, &json!(param)), "{field}: {reply:#?}");
    }
    assert!(upstream.heard().is_empty());
    // What is merely unusual goes on as it was written.
    let odd = r#"{"model":"up/m","seed":9007199254740993,"temperature":0.10000000000000000555,"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(client::post_text(gateway.clients, "/v1/chat/completions", odd).await.status, 200);
    let heard = String::from_utf8_lossy(&upstream.heard()[0].body).into_owned();
    assert!(heard.contains("9007199254740993") && heard.contains("0.10000000000000000555"), "{heard}");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `GET /v1/models` of the host `a`, as static entries of HPACK.
const GET: &[u8] =
    &[0x82, 0x86, 0x04, 10, b'/', b'v', b'1', b'/', b'm', b'o', b'd', b'e', b'l', b's', 0x01, 1, b'a'];

/// What a flood says, over and over.
fn flood(way: &str) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    let ids = (0..20_000_u32).map(|n| n * 2 + 1);
    match way {
        "settings" => (0..20_000).for_each(|_| bytes.extend(frame(4, 0, 0, &[]))),
        "pings" => (0..20_000).for_each(|_| bytes.extend(frame(6, 0, 0, &[0; 8]))),
        "resets" => ids.for_each(|id| {
            bytes.extend(frame(1, 5, id, GET));
            bytes.extend(frame(3, 0, id, &8_u32.to_be_bytes()));
        }),
        "streams" => ids.for_each(|id| bytes.extend(frame(1, 5, id, GET))),
        "continuations" => {
            bytes.extend(frame(1, 1, 1, &GET[..4]));
            (0..20_000).for_each(|_| bytes.extend(frame(9, 0, 1, &[])));
        }
        "empty data" => {
            bytes.extend(frame(1, 4, 1, GET));
            (0..20_000).for_each(|_| bytes.extend(frame(0, 0, 1, &[])));
        }
        // No room for any answer, and requests all the same.
        _ => {
            bytes.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
            (0..90).for_each(|n| bytes.extend(frame(1, 5, n * 2 + 1, GET)));
        }
    }
    bytes
}

#[tokio::test]
async fn floods_of_http2_cost_their_own_connection_and_nobody_else() {
    let (_upstream, gateway) = house("");
    assert_eq!(client::get(gateway.clients, "/v1/models").await.status, 200);
    let before = resident(&gateway);
    for way in ["settings", "pings", "resets", "streams", "continuations", "empty data", "no window"] {
        let mut attackers = Vec::new();
        for _ in 0..4 {
            let to = gateway.clients;
            let bytes = flood(way);
            attackers.push(tokio::spawn(async move {
                let mut socket = deaf(to).await;
                // Whatever comes back is never read.
                let _ = tokio::time::timeout(Duration::from_secs(2), socket.write_all(&bytes)).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
                drop(socket);
            }));
        }
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let begun = Instant::now();
            assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "ok", "{way}");
            longest = longest.max(begun.elapsed());
        }
        assert!(longest < Duration::from_secs(1), "{way}: others waited {longest:?}");
        for attacker in attackers {
            attacker.await.unwrap();
        }
    }
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 40 << 20, "grew by {} MiB", grown >> 20);
}

/// A connection from another address of this machine.
async fn from(address: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((address, 0)))?;
    socket.connect(to).await
}

/// Whether a request on this connection is answered.
async fn is_served(mut stream: TcpStream) -> bool {
    let request = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    stream.write_all(request).await.is_ok()
        && tokio::time::timeout(client::PATIENCE, stream.read_to_end(&mut answer)).await.is_ok()
        && answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn a_crowd_of_idle_connections_is_capped_by_address_and_in_all() {
    let (_upstream, gateway) = house("limits: { connections: 300, connections_per_address: 100 }\n");
    let mut crowd = Vec::new();
    for _ in 0..150 {
        crowd.push(from([127, 0, 0, 1], gateway.clients).await);
    }
    // Its own address is full; another one is served.
    client::eventually_async("the cap", async || {
        let full = !is_served(from([127, 0, 0, 1], gateway.clients).await.unwrap()).await;
        full.then_some(())
    })
    .await;
    assert!(is_served(from([127, 0, 0, 2], gateway.clients).await.unwrap()).await);
    for last in 3..6 {
        for _ in 0..100 {
            crowd.push(from([127, 0, 0, last], gateway.clients).await);
        }
    }
    client::eventually_async("the cap of all", async || {
        let full = !is_served(from([127, 0, 0, 9], gateway.clients).await.unwrap()).await;
        full.then_some(())
    })
    .await;
    drop(crowd);
    client::eventually_async("room", async || {
        is_served(from([127, 0, 0, 9], gateway.clients).await.unwrap()).await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_bad_keys_say_the_same_and_hold_nobody_up() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let secret = crate::keys::key("OPEN");
    let setup = gateway::setup(&format!(
        "auth: {{ mode: keys }}\nkeys: {{ open: {{ secret: env:OPEN_KEY }} }}\nproviders:\n{}",
        provider("up", &upstream.url())
    ));
    let gateway = setup.env("OPEN_KEY", &secret).start();
    let to = gateway.clients;
    let guesses: Vec<_> = (0..8)
        .map(|client| {
            tokio::spawn(async move {
                let mut stream = from([127, 0, 0, 2], to).await.unwrap();
                let mut requests = String::new();
                for number in 0..250 {
                    requests.push_str(&format!(
                        "GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer guess-{client}-{number}\r\n\r\n"
                    ));
                }
                let _ = stream.write_all(requests.as_bytes()).await;
                let mut answers = Vec::new();
                while let Ok(Ok(1..)) =
                    tokio::time::timeout(Duration::from_millis(500), stream.read_buf(&mut answers)).await
                {}
                String::from_utf8_lossy(&answers).into_owned()
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        let reply = crate::keys::chat_as(to, &secret, &ask("up/m")).await;
        assert_eq!(reply.said(), "hello", "{reply:#?}");
        longest = longest.max(begun.elapsed());
    }
    assert!(longest < Duration::from_secs(1), "the others waited {longest:?}");
    for answers in guesses {
        let answers = answers.await.unwrap();
        assert!(!answers.contains("HTTP/1.1 200"), "{answers}");
        assert!(answers.contains("HTTP/1.1 401") || answers.contains("HTTP/1.1 429"), "{answers}");
    }
}

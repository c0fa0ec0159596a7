//! Raw bytes at the front door: what bare hyper lets through and we must refuse, limits, deadlines, and the drain.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::acts;
use crate::client::{self, ask, chat};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::{Act, Upstream};

/// How long a silent connection is watched.
const SILENCE: Duration = Duration::from_millis(400);

fn house(more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start(|_| acts::says("ok"));
    let gateway = gateway::start(&format!("{more}providers:\n{}", provider("up", &upstream.url())));
    (upstream, gateway)
}

const BODY: &str = r#"{"model":"up/m","messages":[{"role":"user","content":"hi"}]}"#;

/// A request with these further header lines and this body; `{n}` in it is the body's length.
fn post(lines: &str, body: &str) -> String {
    let lines = lines.replace("{n}", &body.len().to_string());
    format!("POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json\r\n{lines}\r\n{body}")
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_their_connection_is_closed() {
    let (upstream, gateway) = house("");
    let chunked = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut refused = 0.0;
    for (name, request) in [
        (
            "length and chunks",
            post("host: a\r\ncontent-length: {n}\r\ntransfer-encoding: chunked\r\n", &chunked),
        ),
        ("two lengths", post("host: a\r\ncontent-length: {n}\r\ncontent-length: 3\r\n", BODY)),
        ("a list of lengths", post("host: a\r\ncontent-length: 3, 3\r\n", "abc")),
        ("a signed length", post("host: a\r\ncontent-length: +3\r\n", "abc")),
        ("gzip before chunked", post("host: a\r\ntransfer-encoding: gzip, chunked\r\n", &chunked)),
        (
            "chunked twice",
            post("host: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", &chunked),
        ),
        ("identity", post("host: a\r\ntransfer-encoding: identity\r\n", BODY)),
        ("a space before the colon", post("host: a\r\ntransfer-encoding : chunked\r\n", &chunked)),
        ("no host", post("content-length: {n}\r\n", BODY)),
        ("two hosts", post("host: a\r\nhost: b\r\ncontent-length: {n}\r\n", BODY)),
        ("bare line feeds", post("host: a\r\ncontent-length: {n}\r\n", BODY).replace("\r\n", "\n")),
        ("one bare line feed", post("host: a\nx: y\r\ncontent-length: {n}\r\n", BODY)),
        ("a folded header", post("host: a\r\nx: y\r\n z\r\ncontent-length: {n}\r\n", BODY)),
        ("a nul", post("host: a\r\nx: y\0z\r\ncontent-length: {n}\r\n", BODY)),
        ("another host", get("http://b/v1/models")),
        ("a tunnel", "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n".into()),
        ("dots", get("/v1/../v1/models")),
        ("encoded dots", get("/v1/%2e%2E/v1/models")),
        ("no slash", get("v1/models")),
        ("http/1.2", "GET /v1/models HTTP/1.2\r\nhost: a\r\n\r\n".into()),
        ("tls hello", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}".into()),
    ] {
        // A second request behind it must not be answered: that would be smuggling.
        let bytes = format!("{request}{}", get("/v1/models"));
        let raw = client::raw(gateway.clients, bytes.as_bytes(), SILENCE).await;
        let statuses = raw.statuses();
        assert!(statuses.len() <= 1 && raw.closed, "{name}: {raw:#?}");
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{name}: {raw:#?}");
        refused += if statuses.is_empty() { 0.0 } else { 1.0 };
    }
    // What hyper refuses by itself is counted when its connection has ended, which the client may see first.
    let begun = std::time::Instant::now();
    loop {
        let counted = gateway.metric("tollgate_requests_refused_total", &[]).await;
        if counted >= refused {
            break;
        }
        assert!(begun.elapsed() < client::PATIENCE, "{counted} of {refused} refusals are counted");
    }
    assert!(upstream.heard().is_empty(), "the provider heard {:#?}", upstream.heard());
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "ok");
}

#[tokio::test]
async fn limits_have_their_own_statuses() {
    let (upstream, gateway) = house("limits: { body: 100KiB }\n");
    let many: String = (0..80).map(|n| format!("x-{n}: y\r\n")).collect();
    let big = "x".repeat(101 << 10);
    let chunks = format!("{:x}\r\n{big}\r\n0\r\n\r\n", big.len());
    for (name, request, status) in [
        ("80 headers", post(&format!("host: a\r\n{many}content-length: {{n}}\r\n"), BODY), 431),
        ("a head of 200 KB", post(&format!("host: a\r\nx: {}\r\n", "y".repeat(200_000)), ""), 431),
        ("a long path", format!("GET /v1/models/{} HTTP/1.1\r\nhost: a\r\n\r\n", "m".repeat(9_000)), 414),
        ("a long body", post("host: a\r\ncontent-length: {n}\r\n", &big), 413),
        ("a huge length", post("host: a\r\ncontent-length: 2147483648\r\n", ""), 413),
        ("a length of 2^63", post("host: a\r\ncontent-length: 9223372036854775808\r\n", ""), 413),
        ("long chunks", post("host: a\r\ntransfer-encoding: chunked\r\n", &chunks), 413),
        ("gzip", post("host: a\r\ncontent-encoding: gzip\r\ncontent-length: {n}\r\n", BODY), 415),
    ] {
        let raw = client::raw(gateway.clients, request.as_bytes(), SILENCE).await;
        assert_eq!(raw.statuses(), [status], "{name}: {raw:#?}");
    }
    assert!(upstream.heard().is_empty());
}

#[tokio::test]
async fn a_body_in_chunks_is_as_good_as_any_and_trailers_are_dropped() {
    let (upstream, gateway) = house("");
    let (first, second) = BODY.split_at(20);
    let chunks = format!(
        "{:x}\r\n{first}\r\n{:x};ext=1\r\n{second}\r\n0\r\nx-trailer: evil\r\n\r\n",
        first.len(),
        second.len()
    );
    let request = post("host: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n", &chunks);
    let raw = client::raw(gateway.clients, request.as_bytes(), SILENCE).await;
    assert_eq!(raw.statuses(), [200], "{raw:#?}");
    let heard = &upstream.heard()[0];
    assert!(heard.header("x-trailer").is_none() && heard.header("transfer-encoding").is_none(), "{heard:?}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (upstream, gateway) = house("");
    let one = |n: usize| {
        let body = BODY.replace("up/m", &format!("up/m{n}"));
        post("host: a\r\ncontent-length: {n}\r\n", &body)
    };
    let all: String = (0..20).map(one).collect();
    let raw = client::raw(gateway.clients, all.as_bytes(), SILENCE).await;
    assert_eq!(raw.statuses(), [200; 20], "{raw:#?}");
    let models: Vec<_> = upstream.heard().iter().map(crate::upstream::Heard::model).collect();
    assert_eq!(models, (0..20).map(|n| format!("m{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away() {
    let limits = "limits: { header_timeout: 500ms, body_timeout: 700ms, idle_timeout: 600ms }\n";
    let (upstream, gateway) = house(limits);
    let long = Duration::from_secs(5);
    for (name, bytes, statuses) in [
        ("half a head", "POST /v1/chat/completions HTTP/1.1\r\nhost:".to_owned(), &[408][..]),
        ("half a body", post("host: a\r\ncontent-length: 100\r\n", "{"), &[408]),
        ("an idle connection", "GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), &[200]),
    ] {
        let begun = Instant::now();
        let raw = client::raw(gateway.clients, bytes.as_bytes(), long).await;
        let took = begun.elapsed();
        assert!(raw.closed && took < Duration::from_secs(3), "{name}: {took:?} {raw:#?}");
        let statuses_seen = raw.statuses();
        // Without a head there is nobody to answer; closing without a word is as good.
        assert!(
            statuses_seen == statuses || name == "half a head" && statuses_seen.is_empty(),
            "{name}: {raw:#?}"
        );
    }
    assert!(upstream.heard().is_empty());
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let (_upstream, gateway) = house("limits: { connections_per_address: 5 }\n");
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(tokio::net::TcpStream::connect(gateway.clients).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let sixth = client::raw(gateway.clients, b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n", SILENCE).await;
    assert!(sixth.closed && !sixth.statuses().contains(&200), "{sixth:#?}");
    drop(held);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(client::get(gateway.clients, "/v1/models").await.status, 200);
}

#[tokio::test]
async fn more_requests_than_fit_are_told_to_come_back() {
    let upstream = Upstream::start(|_| vec![Act::Hang]);
    let gateway = gateway::start(&format!(
        "limits: {{ in_flight: 2 }}\nproviders:\n{}",
        provider("up", &upstream.url())
    ));
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let to = gateway.clients;
        waiting.push(tokio::spawn(async move { chat(to, &ask("up/m")).await }));
    }
    client::eventually("two requests upstream", || (upstream.heard().len() == 2).then_some(())).await;
    let reply = chat(gateway.clients, &ask("up/m")).await;
    assert_eq!(reply.status, 503, "{reply:#?}");
    assert!(!reply.header("retry-after").is_empty(), "{reply:#?}");
    reply.error();
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn http2_with_prior_knowledge_works() {
    let (_upstream, gateway) = house("");
    let stream = tokio::net::TcpStream::connect(gateway.clients).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    // A head within `limits.h2_head`, and one beyond it.
    for (length, status) in [(1, 200), (10 << 10, 200), (30 << 10, 431)] {
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("http://{}/v1/chat/completions", gateway.clients))
            .header("content-type", "application/json")
            .header("x-long", "x".repeat(length))
            .body(http_body_util::Full::new(bytes::Bytes::from_static(BODY.as_bytes())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let found = (response.status().as_u16(), response.version());
        assert_eq!(found, (status, http::Version::HTTP_2), "{length} bytes");
    }
}

#[tokio::test]
async fn a_reader_that_never_reads_does_not_fill_the_memory() {
    let event = acts::delta(serde_json::json!({"content": "x".repeat(4_000)}), None);
    let upstream = Upstream::start(move |_| {
        let mut script = acts::stream_head();
        script.extend((0..8_000).map(|_| acts::piece(&event)));
        script
    });
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let body = client::ask_stream("up/m").to_string();
    let request = post("host: a\r\ncontent-length: {n}\r\n", &body);
    let before = resident(&gateway);
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut stream = tokio::net::TcpStream::connect(gateway.clients).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        held.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let grown = resident(&gateway).saturating_sub(before);
    // Ten streams of 32 MB each wait; a queue without backpressure would hold all of them.
    assert!(grown < 40 << 20, "grew by {} MiB", grown >> 20);
}

/// Resident memory of the gateway, in bytes.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn slow_stream(gap: Duration) -> Upstream {
    Upstream::start(move |_| {
        let mut script = acts::stream_head();
        script.push(acts::piece(&acts::events(&["begun"])));
        script.push(Act::Pause(gap));
        script.push(acts::piece(&format!("{}{}", acts::events(&[" and done"]), acts::ENDING)));
        script.push(Act::Write(b"0\r\n\r\n".to_vec()));
        script
    })
}

#[tokio::test]
async fn a_drain_lets_running_streams_finish_and_takes_nothing_new() {
    let upstream = slow_stream(Duration::from_millis(1_200));
    let mut gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut live = client::chat_live(gateway.clients, &client::ask_stream("up/m")).await;
        live.until("begun").await;
        streams.push(live);
    }
    gateway.terminate();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(client::get(gateway.admin, "/readyz").await.status, 503, "readiness says that we are leaving");
    let late = tokio::net::TcpStream::connect(gateway.clients).await;
    if late.is_ok() {
        let raw = client::raw(gateway.clients, b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n", SILENCE).await;
        assert!(!raw.statuses().contains(&200), "a new request was served: {raw:#?}");
    }
    for live in streams {
        let reply = live.rest().await;
        assert!(
            reply.whole && reply.text().contains("and done") && reply.text().contains("[DONE]"),
            "{reply:#?}"
        );
    }
    let status = gateway.ended(Duration::from_secs(5)).expect("the process ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(gateway.access().len(), 20, "every request has its line");
}

#[tokio::test]
async fn a_drain_that_takes_too_long_ends_streams_with_an_error() {
    let upstream = slow_stream(Duration::from_secs(60));
    let mut gateway =
        gateway::start(&format!("drain: 500ms\nproviders:\n{}", provider("up", &upstream.url())));
    let mut live = client::chat_live(gateway.clients, &client::ask_stream("up/m")).await;
    live.until("begun").await;
    let begun = Instant::now();
    gateway.terminate();
    let reply = live.rest().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(reply.text().contains("\"error\"") && !reply.text().contains("[DONE]"), "{reply:#?}");
    assert!(gateway.ended(Duration::from_secs(5)).is_some_and(|status| status.success()));
}

#[tokio::test]
async fn a_drain_that_takes_too_long_answers_who_waits_for_a_whole_answer() {
    let upstream = Upstream::start(|_| vec![Act::Hang]);
    let mut gateway =
        gateway::start(&format!("drain: 300ms\nproviders:\n{}", provider("up", &upstream.url())));
    let to = gateway.clients;
    let waiting = tokio::spawn(async move { chat(to, &ask("up/m")).await });
    client::eventually("the request", || (upstream.heard().len() == 1).then_some(())).await;
    gateway.terminate();
    let reply = waiting.await.expect("an answer");
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"), "{reply:#?}");
    assert_eq!(reply.error()["code"], "shutting_down");
    assert!(gateway.ended(Duration::from_secs(5)).is_some_and(|status| status.success()));
    assert_eq!(gateway.access()[0]["status"], 503);
}

#[tokio::test]
async fn a_drain_that_takes_too_long_tells_also_who_reads_slowly() {
    let word = "x".repeat(32 << 10);
    let upstream = Upstream::start(move |_| {
        let mut script = acts::stream_open(&acts::events(&vec![word.as_str(); 1_500]), usize::MAX);
        script.push(Act::Hang);
        script
    });
    let mut gateway =
        gateway::start(&format!("drain: 300ms\nproviders:\n{}", provider("up", &upstream.url())));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut stream = socket.connect(gateway.clients).await.unwrap();
    let body = client::ask_stream("up/m").to_string();
    let request = post("host: a\r\ncontent-length: {n}\r\n", &body);
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut piece, mut tail, mut told) = (vec![0; 16 << 10], Vec::new(), None);
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let since = *told.get_or_insert_with(|| {
            gateway.terminate();
            Instant::now()
        });
        tail.extend_from_slice(&piece[..read]);
        tail.drain(..tail.len().saturating_sub(2_000));
        // Slowly until the drain is over: what the kernel holds then is read in the time that is left.
        if since.elapsed() < Duration::from_millis(400) {
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
    }
    let tail = String::from_utf8_lossy(&tail);
    assert!(tail.contains("shutting_down"), "{tail}");
    assert!(gateway.ended(Duration::from_secs(5)).is_some_and(|status| status.success()));
}

#[tokio::test]
async fn a_connection_beyond_the_limit_of_its_address_is_told_in_the_log() {
    let (_upstream, gateway) = house("limits: { connections_per_address: 1 }\n");
    let held = tokio::net::TcpStream::connect(gateway.clients).await.expect("a connection");
    let refused = client::raw(gateway.clients, b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n", SILENCE).await;
    assert!(refused.statuses().is_empty(), "{refused:#?}");
    client::eventually("a warning", || {
        gateway.log().iter().any(|line| line.contains("limits.connections_per_address")).then_some(())
    })
    .await;
    drop(held);
}

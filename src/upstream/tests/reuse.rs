//! Connections: kept, closed, found stale, opened in advance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::fault::{FaultKind, Phase};
use crate::settings::Period;
use crate::target::{Origin, Reach};
use crate::upstream::resolve::Resolver;
use crate::upstream::scripted::{
    Blackhole, CONNECT, Scripted, ask, ok, origin, read_request, request, reset, send, until, upstream,
};
use crate::upstream::{Outbound, Upstream, UpstreamSettings};

#[tokio::test]
async fn a_request_goes_out_rebuilt_and_whole() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = Scripted::start(move |_, mut stream| {
        let tell = tell.clone();
        async move {
            tell.send(read_request(&mut stream).await.unwrap()).unwrap();
            stream.write_all(ok("hi").as_bytes()).await.unwrap();
        }
    })
    .await;
    assert_eq!(ask(&upstream(), &server.origin()).await.unwrap(), "hi");
    let expected = format!(
        "POST /v1/chat/completions?api-version=1 HTTP/1.1\r\nauthorization: Bearer key\r\n\
         content-type: application/json\r\nhost: {}\r\ncontent-length: 13\r\n\r\n{{\"model\":\"m\"}}",
        server.address
    );
    assert_eq!(told.recv().await.unwrap(), expected);
}

#[tokio::test]
async fn an_empty_body_has_a_length_where_one_is_expected() {
    for (method, length) in [
        (Method::POST, Some("0")),
        (Method::PUT, Some("0")),
        (Method::PATCH, Some("0")),
        (Method::GET, None),
        (Method::DELETE, None),
    ] {
        let (tell, mut told) = mpsc::unbounded_channel();
        let server = Scripted::start(move |_, mut stream| {
            let tell = tell.clone();
            async move {
                tell.send(read_request(&mut stream).await.unwrap()).unwrap();
                stream.write_all(ok("hi").as_bytes()).await.unwrap();
            }
        })
        .await;
        let empty = Outbound { method: method.clone(), body: Vec::new(), ..request() };
        upstream().send(&server.origin(), empty, CONNECT).await.unwrap();
        let head = told.recv().await.unwrap();
        let told = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(told, length, "{method}: {head}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_when_its_answer_was_read_to_the_end() {
    let kept = [
        ("with the head", ok("hi")),
        ("without a body", "HTTP/1.1 204 No Content\r\n\r\n".into()),
        (
            "in chunks",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n".into(),
        ),
        (
            "with trailers",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n0\r\nx-t: 1\r\n\r\n".into(),
        ),
        ("of 300 KB", ok(&"x".repeat(300_000))),
        ("an error", "HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno".into()),
    ];
    for (what, answer) in kept {
        let (server, upstream) = (Scripted::saying(answer, false).await, upstream());
        for _ in 0..3 {
            ask(&upstream, &server.origin()).await.unwrap();
        }
        assert_eq!((server.accepted(), upstream.idle()), (1, 1), "{what}");
        assert_eq!((upstream.stats().opened, upstream.stats().reused), (1, 2), "{what}");
    }
}

#[tokio::test]
async fn a_connection_is_not_kept_when_more_or_less_came_than_announced() {
    let closed = [
        ("asked to close", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"),
        ("until the end of the connection", "HTTP/1.1 200 OK\r\n\r\nhi"),
        ("http/1.0", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
        (
            "two answers to one request",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n",
        ),
        ("a 204 with a body", "HTTP/1.1 204 No Content\r\n\r\nhi"),
    ];
    for (what, answer) in closed {
        let (server, upstream) = (Scripted::saying(answer, true).await, upstream());
        for nth in 1..=2 {
            let body = ask(&upstream, &server.origin()).await.unwrap();
            assert!(body == "hi" || body.is_empty(), "{what}: {body:?}");
            assert_eq!((server.accepted(), upstream.idle()), (nth, 0), "{what}");
        }
    }
}

#[tokio::test]
async fn requests_at_the_same_time_have_a_connection_each_and_the_idle_ones_are_bounded() {
    let server = Scripted::saying(ok("hi"), false).await;
    let settings = UpstreamSettings { idle_connections: 2, ..Default::default() };
    let (upstream, origin) = (Upstream::new(&settings).unwrap(), server.origin());
    let (a, b, c) = tokio::join!(ask(&upstream, &origin), ask(&upstream, &origin), ask(&upstream, &origin));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!((server.accepted(), upstream.idle()), (3, 2));
}

#[tokio::test]
async fn an_answer_dropped_early_closes_the_connection_at_once() {
    for when in ["before the head", "within the body"] {
        let (tell, mut told) = mpsc::unbounded_channel();
        let server = Scripted::start(move |_, mut stream| {
            let tell = tell.clone();
            async move {
                read_request(&mut stream).await.unwrap();
                if when == "within the body" {
                    let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
                    stream.write_all(begin.as_bytes()).await.unwrap();
                }
                tell.send("asked").unwrap();
                // EOF or a reset, both end it.
                stream.read_u8().await.unwrap_err();
                tell.send("closed").unwrap();
            }
        })
        .await;
        let upstream = upstream();
        let origin = server.origin();
        let mut sending = Box::pin(send(&upstream, &origin));
        if when == "before the head" {
            tokio::select! { _ = &mut sending => panic!("no head was sent"), asked = told.recv() => assert_eq!(asked, Some("asked")) }
            drop(sending);
        } else {
            let mut body = sending.await.unwrap().into_body();
            assert_eq!(body.chunk().await.unwrap().unwrap(), "hello");
            assert_eq!(told.recv().await, Some("asked"));
            drop(body);
        }
        assert_eq!(told.recv().await, Some("closed"), "{when}");
        assert_eq!(upstream.idle(), 0, "{when}");
    }
}

#[tokio::test]
async fn a_stream_left_at_its_last_event_still_gives_its_connection_back() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    let (server, upstream) = (Scripted::saying(answer, false).await, upstream());
    for _ in 0..2 {
        let mut body = send(&upstream, &server.origin()).await.unwrap().into_body();
        assert_eq!(body.chunk().await.unwrap().unwrap(), "data: [DONE]\n\n");
        drop(body);
    }
    assert_eq!((server.accepted(), upstream.idle()), (1, 1));
}

#[tokio::test]
async fn a_keep_alive_connection_closed_by_the_peer_is_never_noticed() {
    for (what, late) in [("before the next request", false), ("when the next request arrives", true)] {
        for by_reset in [false, true] {
            let server = Scripted::start(move |nth, mut stream| async move {
                read_request(&mut stream).await.unwrap();
                stream.write_all(ok("hi").as_bytes()).await.unwrap();
                if late && nth % 2 == 0 {
                    stream.read_u8().await.ok();
                }
                if by_reset {
                    reset(stream);
                }
            })
            .await;
            let upstream = upstream();
            for _ in 0..6 {
                assert_eq!(ask(&upstream, &server.origin()).await.unwrap(), "hi", "closed {what}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let stats = upstream.stats();
            assert_eq!(stats.resent > 0, late, "closed {what}, {stats:?}");
        }
    }
}

#[tokio::test]
async fn what_must_not_be_carried_out_twice_is_not_sent_on_after_a_connection_died_with_it() {
    for once in [false, true] {
        let heard = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&heard);
        // Each connection answers one request, and hears a second one before it dies.
        let server = Scripted::start(move |_, mut stream| {
            let count = Arc::clone(&count);
            async move {
                for answer in [Some(ok("hi")), None] {
                    if read_request(&mut stream).await.is_none() {
                        return;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    stream.write_all(answer.unwrap_or_default().as_bytes()).await.unwrap();
                }
            }
        })
        .await;
        let (upstream, origin) = (upstream(), server.origin());
        ask(&upstream, &origin).await.unwrap();
        let second = upstream.send(&origin, Outbound { once, ..request() }, CONNECT).await;
        assert_eq!(second.is_err(), once, "{:?}", second.err());
        assert_eq!(heard.load(Ordering::Relaxed), if once { 2 } else { 3 });
        assert_eq!(upstream.stats().resent, u64::from(!once));
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_worked_on_is_not_sent_twice() {
    // The second answer begins, then the connection dies.
    let server = Scripted::start(|_, mut stream| async move {
        read_request(&mut stream).await.unwrap();
        stream.write_all(ok("hi").as_bytes()).await.unwrap();
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 20").await.unwrap();
    })
    .await;
    let upstream = upstream();
    ask(&upstream, &server.origin()).await.unwrap();
    let fault = ask(&upstream, &server.origin()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Truncated, "{fault}");
    assert_eq!((server.accepted(), upstream.stats().resent), (1, 0));
}

#[tokio::test]
async fn idle_connections_are_closed_after_their_time() {
    let server = Scripted::saying(ok("hi"), false).await;
    let settings = UpstreamSettings { idle_timeout: Period::millis(400), ..Default::default() };
    let upstream = Upstream::new(&settings).unwrap();
    ask(&upstream, &server.origin()).await.unwrap();
    assert_eq!(upstream.idle(), 1);
    until("the sweep", || upstream.idle() == 0).await;
    assert!(upstream.inner.pools().is_empty(), "an unused pool goes too");
    ask(&upstream, &server.origin()).await.unwrap();
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_prewarmed_connection_serves_the_first_request() {
    let server = Scripted::saying(ok("hi"), false).await;
    let upstream = Arc::new(upstream());
    upstream.prewarm(&server.origin());
    until("prewarming", || upstream.idle() == 1).await;
    ask(&upstream, &server.origin()).await.unwrap();
    assert_eq!((server.accepted(), upstream.stats().reused), (1, 1));
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    // Bound, never listening: nobody else can take the port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let upstream = upstream();
    let fault = ask(&upstream, &origin(socket.local_addr().unwrap().as_socket().unwrap())).await.unwrap_err();
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Unreachable, "connection refused"));
    assert_eq!(upstream.stats().failed, 1);
}

#[tokio::test]
async fn a_peer_that_never_accepts_costs_the_connect_deadline() {
    let hole = Blackhole::new("127.0.0.1:0".parse().unwrap()).await;
    let deadline = Duration::from_millis(100);
    let fault = upstream().send(&origin(hole.address), request(), deadline).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Timeout(Phase::Connect), "{fault}");
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_fails_or_stays_silent() {
    let server = Scripted::saying(ok("hi"), false).await;
    let named = Origin { host: "upstream.test".into(), ..server.origin() };
    // 127.0.0.2 refuses on this port, 127.0.0.3 swallows everything.
    let _hole = Blackhole::new(([127, 0, 0, 3], server.address.port()).into()).await;
    for first in [[127, 0, 0, 2], [127, 0, 0, 3]] {
        let mut upstream = upstream();
        let resolver =
            Resolver::with(move |_| Box::pin(async move { Ok(vec![first.into(), [127, 0, 0, 1].into()]) }));
        let inner = Arc::get_mut(&mut upstream.inner).unwrap();
        inner.dialer = inner.dialer.clone().resolving(resolver);
        assert_eq!(ask(&upstream, &named).await.unwrap(), "hi", "{first:?}");
    }
}

#[tokio::test]
async fn an_unknown_host_says_so() {
    let mut upstream = upstream();
    let resolver =
        Resolver::with(|_| Box::pin(async { Err(std::io::Error::other("Name or service not known")) }));
    let inner = Arc::get_mut(&mut upstream.inner).unwrap();
    inner.dialer = inner.dialer.clone().resolving(resolver);
    let unknown = Origin { host: "nowhere.invalid".into(), ..origin("127.0.0.1:9".parse().unwrap()) };
    let fault = ask(&upstream, &unknown).await.unwrap_err();
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Unreachable, "dns: no such host"));
}

#[tokio::test]
async fn a_name_that_turns_to_a_private_address_is_not_followed_there() {
    let server = Scripted::saying(ok("hi"), false).await;
    let named = |reach| Origin { host: "api.example.com".into(), reach, ..server.origin() };
    for private in [[127, 0, 0, 1], [10, 0, 0, 1], [169, 254, 169, 254]] {
        let mut upstream = upstream();
        let resolver = Resolver::with(move |_| Box::pin(async move { Ok(vec![private.into()]) }));
        let inner = Arc::get_mut(&mut upstream.inner).unwrap();
        inner.dialer = inner.dialer.clone().resolving(resolver);
        // The connection goes to the address that was judged, however the name answers the next time.
        let fault = ask(&upstream, &named(Reach::Public)).await.unwrap_err();
        assert_eq!(fault.code_str(), "egress_refused", "{private:?}: {fault}");
        if private == [127, 0, 0, 1] {
            assert_eq!(server.accepted(), 0);
            assert_eq!(ask(&upstream, &named(Reach::Private)).await.unwrap(), "hi", "declared");
            let fault = ask(&upstream, &named(Reach::Public)).await.unwrap_err();
            assert_eq!(fault.code_str(), "egress_refused", "its kept connection is another's: {fault}");
        }
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn ipv6_literals_are_dialled_and_named_in_brackets() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        return eprintln!("SKIPPED: no IPv6 on this machine");
    };
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = read_request(&mut stream).await.unwrap();
        stream.write_all(ok("hi").as_bytes()).await.unwrap();
        asked
    });
    let response = upstream().send(&origin(address), request(), CONNECT).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(serving.await.unwrap().contains(&format!("host: [::1]:{}\r\n", address.port())));
}

#[tokio::test]
async fn many_tasks_get_their_own_answers_whatever_the_pieces() {
    // Echoes the path in shapes and pieces that depend on it; sometimes closes without a word.
    let server = Scripted::start(|_, mut stream| async move {
        while let Some(asked) = read_request(&mut stream).await {
            let number: usize = asked[6..].split(' ').next().unwrap().parse().unwrap();
            let body = body_of(number);
            if number.is_multiple_of(3) {
                stream.write_all(ok(&body).as_bytes()).await.ok();
            } else {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok();
                for piece in body.as_bytes().chunks(1 + number * 97 % 9_000) {
                    let head = format!("{:x}\r\n", piece.len());
                    stream.write_all(&[head.as_bytes(), piece, b"\r\n"].concat()).await.ok();
                    if number.is_multiple_of(5) {
                        tokio::task::yield_now().await;
                    }
                }
                stream.write_all(b"0\r\n\r\n").await.ok();
            }
            if number.is_multiple_of(7) {
                return;
            }
        }
    })
    .await;
    let upstream = Arc::new(upstream());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..40_usize {
        let (upstream, origin) = (Arc::clone(&upstream), server.origin());
        tasks.spawn(async move {
            for nth in 0..25 {
                let number = task * 25 + nth;
                let mut asked = request();
                asked.path_and_query = format!("/{number}").parse().unwrap();
                let mut answer = upstream.send(&origin, asked, CONNECT).await.unwrap().into_body();
                if number.is_multiple_of(11) {
                    answer.chunk().await.unwrap().unwrap();
                } else {
                    assert_eq!(answer.collect(1 << 20).await.unwrap(), body_of(number), "{number}");
                }
            }
        });
    }
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap()
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("nobody waits for ever");
    let stats = upstream.stats();
    assert!(stats.reused > stats.opened, "{stats:?}");
}

fn body_of(number: usize) -> String {
    let times = if number % 50 == 1 { 60_000 } else { number % 40 + 1 };
    format!("{number}, ").repeat(times)
}

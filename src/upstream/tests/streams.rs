//! HTTP/2: one connection for many, its limits, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::fault::FaultKind;
use crate::settings::Period;
use crate::target::Origin;
use crate::upstream::scripted::{CONNECT, Scripted, ask, read_request, request, send, until, upstream};
use crate::upstream::{Outbound, Upstream, UpstreamSettings};

fn prior_knowledge(server: &Scripted) -> Origin {
    Origin { h2c: true, ..server.origin() }
}

async fn handshake<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    most_streams: u32,
) -> h2::server::Connection<T, Bytes> {
    h2::server::Builder::new().max_concurrent_streams(most_streams).handshake(io).await.unwrap()
}

fn answer(respond: &mut h2::server::SendResponse<Bytes>, body: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
}

/// Answers `hi` to every request.
pub(super) async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, most_streams: u32) {
    let mut connection = handshake(io, most_streams).await;
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        answer(&mut respond, "hi");
    }
}

#[tokio::test]
async fn a_request_by_prior_knowledge_carries_authority_length_and_body() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = Scripted::start(move |_, stream| {
        let tell = tell.clone();
        async move {
            let mut connection = handshake(stream, 100).await;
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let (parts, mut body) = request.into_parts();
                    let body = body.data().await.unwrap().unwrap();
                    tell.send((parts, body)).unwrap();
                    answer(&mut respond, "hi");
                });
            }
        }
    })
    .await;
    assert_eq!(ask(&upstream(), &prior_knowledge(&server)).await.unwrap(), "hi");
    let (parts, body) = told.recv().await.unwrap();
    let uri = format!("http://{}/v1/chat/completions?api-version=1", server.address);
    assert_eq!(parts.uri.to_string(), uri);
    assert_eq!((parts.headers["content-length"].as_bytes(), parts.headers.get("host")), (&b"13"[..], None));
    assert!(br#"{"model":"m"}"#.starts_with(&body));
}

#[tokio::test]
async fn requests_share_a_connection_until_its_streams_are_used_up() {
    let server = Scripted::start(|_, stream| async move {
        let mut connection = handshake(stream, 2).await;
        let mut held = Vec::new();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            held.push(respond.send_response(Response::new(()), false).unwrap());
        }
    })
    .await;
    let (upstream, origin) = (upstream(), prior_knowledge(&server));
    let mut open = Vec::new();
    for expected in [1, 1, 2, 2, 3] {
        open.push(send(&upstream, &origin).await.unwrap());
        assert_eq!(server.accepted(), expected);
    }
    drop(open);
    assert_eq!(upstream.idle(), 3);
}

#[tokio::test]
async fn a_stream_dropped_early_is_reset_and_the_connection_lives() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = Scripted::start(move |_, stream| {
        let tell = tell.clone();
        async move {
            let mut connection = handshake(stream, 100).await;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
                    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
                    tell.send(reason).unwrap();
                });
            }
        }
    })
    .await;
    let upstream = upstream();
    for _ in 0..2 {
        let mut body = send(&upstream, &prior_knowledge(&server)).await.unwrap().into_body();
        assert_eq!(body.chunk().await.unwrap().unwrap(), "hello");
        drop(body);
        assert_eq!(told.recv().await, Some(h2::Reason::CANCEL));
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn requests_beyond_a_goaway_go_to_a_new_connection() {
    let server = Scripted::start(|_, stream| async move {
        let mut connection = handshake(stream, 100).await;
        let mut left = 2;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            answer(&mut respond, "hi");
            left -= 1;
            if left == 0 {
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let (upstream, origin) = (upstream(), prior_knowledge(&server));
    for _ in 0..10 {
        assert_eq!(ask(&upstream, &origin).await.unwrap(), "hi");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(server.accepted(), 5);
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_once() {
    for (always, what) in [(false, "once"), (true, "always")] {
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        let server = Scripted::start(move |_, stream| {
            let count = Arc::clone(&count);
            async move {
                let mut connection = handshake(stream, 100).await;
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    match count.fetch_add(1, Ordering::Relaxed) {
                        0 => answer(&mut respond, "hi"),
                        nth if always || nth == 1 => respond.send_reset(h2::Reason::REFUSED_STREAM),
                        _ => answer(&mut respond, "hi"),
                    }
                }
            }
        })
        .await;
        let (upstream, origin) = (upstream(), prior_knowledge(&server));
        ask(&upstream, &origin).await.unwrap();
        let second = ask(&upstream, &origin).await;
        if always {
            let fault = second.unwrap_err();
            assert_eq!(fault.kind, FaultKind::Unreachable, "refused {what}: {fault}");
        } else {
            assert_eq!(second.unwrap(), "hi", "refused {what}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3, "refused {what}");
    }
}

#[tokio::test]
async fn requests_refused_together_share_one_new_connection() {
    const BURST: usize = 30;
    let server = Scripted::start(|nth, stream| async move {
        let mut connection = handshake(stream, 100).await;
        let mut refused = Vec::new();
        let mut first = true;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            if nth > 0 || std::mem::take(&mut first) {
                answer(&mut respond, "hi");
                continue;
            }
            refused.push(respond);
            if refused.len() == BURST {
                refused.iter_mut().for_each(|respond| respond.send_reset(h2::Reason::REFUSED_STREAM));
            }
        }
    })
    .await;
    let (upstream, origin) = (Arc::new(upstream()), prior_knowledge(&server));
    ask(&upstream, &origin).await.unwrap();
    let mut burst = JoinSet::new();
    for _ in 0..BURST {
        let (upstream, origin) = (Arc::clone(&upstream), origin.clone());
        // A refusal says that nobody worked on it, so that it may go out again whatever it is.
        let asked = Outbound { once: true, ..request() };
        burst.spawn(async move { upstream.send(&origin, asked, CONNECT).await.unwrap().status() });
    }
    assert_eq!(burst.join_all().await, [200; BURST]);
    assert_eq!((server.accepted(), upstream.stats().resent), (2, BURST as u64));
}

#[tokio::test]
async fn requests_on_a_busy_connection_that_dies_do_not_go_out_twice() {
    const BURST: usize = 10;
    let heard = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&heard);
    // The first connection answers one request, hears many at once, and ends without a word.
    let server = Scripted::start(move |nth, stream| {
        let count = Arc::clone(&count);
        async move {
            let mut connection = handshake(stream, 100).await;
            let mut open = Vec::new();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let first = count.fetch_add(1, Ordering::Relaxed) == 0;
                if first || nth > 0 {
                    answer(&mut respond, "hi");
                    continue;
                }
                open.push(respond);
                if open.len() == BURST {
                    return;
                }
            }
        }
    })
    .await;
    let (upstream, origin) = (Arc::new(upstream()), prior_knowledge(&server));
    ask(&upstream, &origin).await.unwrap();
    let mut burst = JoinSet::new();
    for _ in 0..BURST {
        let (upstream, origin) = (Arc::clone(&upstream), origin.clone());
        burst.spawn(async move { ask(&upstream, &origin).await });
    }
    let ended = burst.join_all().await;
    let answered = ended.iter().filter(|end| end.is_ok()).count();
    assert!(ended.iter().flatten().all(|body| body == "hi"), "{ended:?}");
    // The one that found nobody on the connection could take it for stale.
    assert_eq!((answered, upstream.stats().resent), (1, 1), "{ended:?}");
    assert_eq!(heard.load(Ordering::Relaxed), 1 + BURST + 1);
}

#[tokio::test]
async fn a_shared_connection_that_went_stale_is_replaced_unseen() {
    // Each connection answers one request and ends with the next one, as if its idle timer had fired just then.
    let server = Scripted::start(|_, stream| async move {
        let mut connection = handshake(stream, 100).await;
        if let Some(Ok((_, mut respond))) = connection.accept().await {
            answer(&mut respond, "hi");
            connection.accept().await;
        }
    })
    .await;
    let (upstream, origin) = (upstream(), prior_knowledge(&server));
    for round in 0..4 {
        assert_eq!(ask(&upstream, &origin).await.unwrap(), "hi", "round {round}");
    }
    assert_eq!((server.accepted(), upstream.stats().resent), (4, 3));
    let once = upstream.send(&origin, Outbound { once: true, ..request() }, CONNECT).await;
    let fault = once.expect_err("it may have been carried out");
    assert_eq!((fault.kind, server.accepted()), (FaultKind::Unreachable, 4), "{fault}");
}

#[tokio::test]
async fn streams_that_break_off_are_told_apart() {
    let server = Scripted::start(|nth, stream| async move {
        let mut connection = handshake(stream, 100).await;
        let Some(Ok((_, mut respond))) = connection.accept().await else { return };
        // Frames are written while the connection is polled, and it goes away with its task.
        let connection = tokio::spawn(async move { connection.accept().await.is_some() });
        if nth == 0 {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
        } else {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"half"), false).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            if nth == 1 {
                stream.send_reset(h2::Reason::INTERNAL_ERROR);
            } else {
                connection.abort();
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    // The stream before and after its head; then the whole connection.
    for expected in [FaultKind::Unreachable, FaultKind::Truncated, FaultKind::Truncated] {
        let fault = ask(&upstream(), &prior_knowledge(&server)).await.unwrap_err();
        assert_eq!(fault.kind, expected, "{fault}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_speak_http2_is_found_out() {
    let server = Scripted::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await.ok();
    })
    .await;
    let fault = ask(&upstream(), &prior_knowledge(&server)).await.unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Malformed | FaultKind::Unreachable), "{fault}");
}

#[tokio::test]
async fn an_idle_shared_connection_is_closed_after_its_time_and_a_busy_one_is_not() {
    let gone = Arc::<Notify>::default();
    let tell = Arc::clone(&gone);
    let server = Scripted::start(move |_, stream| {
        let tell = Arc::clone(&tell);
        async move {
            serve_slowly(stream).await;
            tell.notify_one();
        }
    })
    .await;
    let settings = UpstreamSettings { idle_timeout: Period::millis(400), ..Default::default() };
    let (upstream, origin) = (Upstream::new(&settings).unwrap(), prior_knowledge(&server));
    // Takes longer than the idle timeout.
    assert_eq!(ask(&upstream, &origin).await.unwrap(), "hi");
    assert_eq!((server.accepted(), upstream.idle()), (1, 1));
    until("the sweep", || upstream.idle() == 0).await;
    gone.notified().await;
}

async fn serve_slowly(stream: tokio::net::TcpStream) {
    let mut connection = handshake(stream, 100).await;
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(600)).await;
            answer(&mut respond, "hi");
        });
    }
}

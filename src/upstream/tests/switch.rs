//! Requests that ask for WebSocket: who agrees, who refuses, who agrees to something else.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::secure::{Authority, BOTH, secure};
use crate::fault::{Fault, FaultKind};
use crate::frames::websocket::accept_key;
use crate::upstream::scripted::{CONNECT, Scripted, read_request, upstream};
use crate::upstream::{Duplex, Outbound, Switching, Upstream};

const MOST: usize = 1_000;

fn wish() -> Outbound {
    let path = "/v1/realtime?model=m".parse().unwrap();
    Outbound::new(Method::GET, path, HeaderMap::new(), Vec::new())
}

/// The head that agrees to a request.
fn agreement(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let accept = accept_key(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
    )
}

async fn switched(upstream: &Upstream, origin: &crate::target::Origin) -> (Box<dyn Duplex>, Bytes) {
    match upstream.switch(origin, wish(), CONNECT, MOST).await.unwrap() {
        Switching::Switched { stream, begun } => (stream, begun),
        Switching::Refused(answer) => panic!("refused: {answer:?}"),
    }
}

/// Reads on behind what has begun until `wanted` is here.
async fn read(stream: &mut Box<dyn Duplex>, begun: Bytes, wanted: &[u8]) {
    let mut all = begun.to_vec();
    while all.len() < wanted.len() {
        assert!(stream.read_buf(&mut all).await.unwrap() > 0, "{all:?}");
    }
    assert_eq!(all, wanted);
}

#[tokio::test]
async fn bytes_flow_both_ways_after_an_agreement_also_those_that_come_with_it() {
    let server = Scripted::start(|_, mut stream| async move {
        let request = read_request(&mut stream).await.unwrap();
        assert!(request.starts_with("GET /v1/realtime?model=m HTTP/1.1\r\n"), "{request}");
        stream.write_all((agreement(&request) + "at once").as_bytes()).await.unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.unwrap();
        stream.write_all(&back).await.unwrap();
    })
    .await;
    let upstream = upstream();
    for _ in 0..2 {
        let (mut stream, begun) = switched(&upstream, &server.origin()).await;
        read(&mut stream, begun, b"at once").await;
        stream.write_all(b"hello").await.unwrap();
        read(&mut stream, Bytes::new(), b"hello").await;
    }
    assert_eq!((server.accepted(), upstream.idle()), (2, 0), "each has a connection of its own");
}

#[tokio::test]
async fn over_tls_only_http_1_1_is_offered() {
    let authority = Authority::new("ours");
    let mut config = authority.server("127.0.0.1", false, BOTH);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let server = Scripted::start(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut tls = acceptor.accept(stream).await.unwrap();
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            let request = read_request(&mut tls).await.unwrap();
            tls.write_all((agreement(&request) + "hi").as_bytes()).await.unwrap();
            tls.read_u8().await.ok();
        }
    })
    .await;
    let (mut stream, begun) = switched(&authority.trusted(), &secure(&server, false)).await;
    read(&mut stream, begun, b"hi").await;
}

#[tokio::test]
async fn a_refusal_is_read_as_far_as_it_says_something() {
    let long = "x".repeat(5_000);
    for (answer, status, body) in [
        ("HTTP/1.1 401 No\r\ncontent-length: 6\r\n\r\nno key".to_owned(), 401, "no key".to_owned()),
        (
            format!("HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n1388\r\n{long}\r\n"),
            503,
            "x".repeat(MOST),
        ),
        ("HTTP/1.1 404 No\r\nconnection: close\r\n\r\ngone".to_owned(), 404, "gone".to_owned()),
    ] {
        let server = Scripted::saying(answer, true).await;
        match upstream().switch(&server.origin(), wish(), CONNECT, MOST).await.unwrap() {
            Switching::Refused(answer) => {
                assert_eq!((answer.status().as_u16(), answer.into_body()), (status, body.into()));
            }
            Switching::Switched { .. } => panic!("nobody agreed"),
        }
    }
}

#[tokio::test]
async fn what_is_no_agreement_is_a_fault() {
    let fault = async |answer: &str| -> Fault {
        let server = Scripted::saying(answer, true).await;
        let (upstream, origin) = (upstream(), server.origin());
        let wished = upstream.switch(&origin, wish(), CONNECT, MOST);
        let said = tokio::time::timeout(Duration::from_secs(20), wished).await.unwrap();
        said.err().unwrap_or_else(|| panic!("no fault: {answer}"))
    };
    let other =
        "HTTP/1.1 101 Yes\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: AAAA\r\n\r\n";
    assert_eq!(fault(other).await.kind, FaultKind::Malformed);
    assert_eq!(fault("HTTP/1.1 101 Yes\r\nupgrade: websocket\r\n\r\n").await.kind, FaultKind::Malformed);
    assert_eq!(fault("garbage\r\n\r\n").await.kind, FaultKind::Malformed);
    assert_eq!(fault("").await.kind, FaultKind::Unreachable);
}

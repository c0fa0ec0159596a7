//! Peers that break off, lie, or never stop.

use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use tokio::io::AsyncWriteExt;

use crate::fault::{Fault, FaultKind};
use crate::upstream::scripted::{Scripted, ask, ok, read_request, reset, send, upstream};

/// What [`ask`] makes of an answer after which the peer closes the connection.
async fn fault_of(answer: impl Into<Vec<u8>>) -> Fault {
    let (server, upstream) = (Scripted::saying(answer, true).await, upstream());
    let fault = ask(&upstream, &server.origin()).await.expect_err("a fault");
    assert_eq!(upstream.idle(), 0, "the connection of {fault} was kept");
    fault
}

#[tokio::test]
async fn answers_that_break_off_or_are_not_http_have_their_own_faults() {
    use FaultKind::{Malformed, Truncated, Unreachable};
    let head = "HTTP/1.1 200 OK\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let cases: &[(&str, String, FaultKind)] = &[
        ("nothing", String::new(), Unreachable),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-".into(), Truncated),
        ("half a body", format!("{head}content-length: 10\r\n\r\nhalf"), Truncated),
        ("half a chunk", format!("{chunked}a\r\nhalf"), Truncated),
        ("no last chunk", format!("{chunked}2\r\nhi\r\n"), Truncated),
        ("a bad chunk", format!("{chunked}zz\r\nhi\r\n"), Malformed),
        ("a bad second chunk", format!("{chunked}2\r\nhi\r\n-1\r\n"), Malformed),
        ("garbage", "SSH-2.0-OpenSSH_9.6\r\n".into(), Malformed),
        ("a tls alert", "\x15\x03\x01\0\x02\x02F".into(), Malformed),
        ("an html page without a head", "<html>hello</html>".into(), Malformed),
        (
            "switching protocols",
            format!("{}upgrade: x\r\n\r\n", "HTTP/1.1 101 OK\r\nconnection: upgrade\r\n"),
            Malformed,
        ),
        ("status 999", "HTTP/1.1 999 Ha\r\ncontent-length: 0\r\n\r\n".into(), Malformed),
        ("status 099", "HTTP/1.1 099 Ha\r\ncontent-length: 0\r\n\r\n".into(), Malformed),
        ("status abc", "HTTP/1.1 abc Ha\r\ncontent-length: 0\r\n\r\n".into(), Malformed),
        ("two lengths", format!("{head}content-length: 2\r\ncontent-length: 3\r\n\r\nhi!"), Malformed),
        (
            "length and chunks",
            format!("{head}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            Malformed,
        ),
        ("101 headers", format!("{head}{}\r\n", "a: b\r\n".repeat(101)), Malformed),
        ("a header of 100 KB", format!("{head}a: {}\r\n\r\n", "b".repeat(100_000)), Malformed),
        ("an endless head", format!("{head}{}", "a: b\r\n".repeat(100_000)), Malformed),
        ("brotli", format!("{head}content-encoding: br\r\ncontent-length: 2\r\n\r\nhi"), Malformed),
    ];
    for (what, answer, expected) in cases {
        let fault = fault_of(answer.clone()).await;
        assert_eq!(fault.kind, *expected, "{what}: {fault}");
        assert!(!fault.message.contains("127.0.0.1"), "{what}: {fault}");
    }
}

#[tokio::test]
async fn a_head_over_the_limits_says_so() {
    for head in [format!("a: {}\r\n\r\n", "b".repeat(70_000)), "a: b\r\n".repeat(101) + "\r\n"] {
        let fault = fault_of(format!("HTTP/1.1 200 OK\r\n{head}")).await;
        assert_eq!(&*fault.message, "the answer's head exceeds 64 KiB or 100 headers");
    }
}

#[tokio::test]
async fn a_reset_is_unreachable_before_the_answer_and_truncated_within() {
    for (begin, expected) in [
        ("", FaultKind::Unreachable),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", FaultKind::Truncated),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n", FaultKind::Truncated),
    ] {
        let server = Scripted::start(move |_, mut stream| async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(begin.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            reset(stream);
        })
        .await;
        let fault = ask(&upstream(), &server.origin()).await.unwrap_err();
        assert_eq!(fault.kind, expected, "{begin:?}: {fault}");
    }
}

#[tokio::test]
async fn sixteen_interim_answers_are_read_and_no_more() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let server = Scripted::saying(hints.repeat(16) + ok("hi").as_str(), false).await;
    let patient = upstream();
    for _ in 0..3 {
        assert_eq!(ask(&patient, &server.origin()).await.unwrap(), "hi");
    }
    assert_eq!(server.accepted(), 1);
    let fault = fault_of(hints.repeat(17) + ok("hi").as_str()).await;
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Malformed, "more than 16 interim answers"));
    let fault = fault_of(hints.repeat(200_000)).await;
    assert_eq!(fault.kind, FaultKind::Malformed, "{fault}");
}

#[tokio::test]
async fn a_body_about_interim_answers_is_not_taken_for_some() {
    let text = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40);
    let server = Scripted::saying(ok(&text), false).await;
    assert_eq!(ask(&upstream(), &server.origin()).await.unwrap(), text);
}

#[tokio::test]
async fn an_answer_over_the_limit_is_stopped_there() {
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n";
    let fault = fault_of(announced).await;
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Malformed, "answer exceeds 1048576 bytes"));

    let server = Scripted::start(|_, mut stream| async move {
        read_request(&mut stream).await.unwrap();
        let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(begin.as_bytes()).await.unwrap();
        let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    })
    .await;
    let fault = ask(&upstream(), &server.origin()).await.unwrap_err();
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Malformed, "answer exceeds 1048576 bytes"));
}

#[tokio::test]
async fn a_redirect_is_returned_and_not_followed() {
    let trap = Scripted::saying(ok("secret"), false).await;
    let answer =
        format!("HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", trap.address);
    let server = Scripted::saying(answer, false).await;
    let response = send(&upstream(), &server.origin()).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(trap.accepted(), 0);
}

#[tokio::test]
async fn an_answer_to_a_later_request_is_never_delivered() {
    // The peer speaks out of turn a moment after its answer.
    let (spoke, mut spoken) = tokio::sync::mpsc::unbounded_channel();
    let server = Scripted::start(move |_, mut stream| {
        let spoke = spoke.clone();
        async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(ok("mine").as_bytes()).await.ok();
                tokio::time::sleep(Duration::from_millis(5)).await;
                stream.write_all(ok("not yours").as_bytes()).await.ok();
                spoke.send(()).ok();
            }
        }
    })
    .await;
    let upstream = upstream();
    for _ in 0..5 {
        assert_eq!(ask(&upstream, &server.origin()).await.unwrap(), "mine");
        // What comes after the next request is its answer, as far as anybody can tell.
        spoken.recv().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.accepted(), 5);
}

fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    let packed = encoder.finish().unwrap();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
    [head.as_bytes(), &packed].concat()
}

#[tokio::test]
async fn gzip_is_unpacked_though_nobody_asked_and_a_bomb_is_not() {
    let text = br#"{"object":"chat.completion"}"#;
    let (server, upstream) = (Scripted::saying(gzipped(text), false).await, upstream());
    let response = send(&upstream, &server.origin()).await.unwrap();
    assert!(response.headers().is_empty(), "{:?}", response.headers());
    assert_eq!(response.into_body().collect(1 << 20).await.unwrap(), &text[..]);
    assert_eq!(upstream.idle(), 1);

    let bomb = Scripted::saying(gzipped(&vec![0; 50 << 20]), false).await;
    let body = send(&upstream, &bomb.origin()).await.unwrap().into_body();
    let fault = body.collect(64 << 20).await.unwrap_err();
    assert_eq!(
        (fault.kind, &*fault.message),
        (FaultKind::Malformed, "the compressed answer is too large unpacked")
    );
}

#[tokio::test]
async fn an_early_answer_to_a_large_request_is_delivered() {
    let server = Scripted::start(|_, mut stream| async move {
        // Answers after the head of the request and reads the rest slowly.
        let mut head = [0; 64];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
    })
    .await;
    let mut large = crate::upstream::scripted::request();
    large.body = vec![Bytes::from(vec![b'x'; 20 << 20])];
    let response =
        upstream().send(&server.origin(), large, crate::upstream::scripted::CONNECT).await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(response.into_body().collect(10).await.unwrap(), "no");
}

#[tokio::test]
async fn chunks_come_out_one_by_one_as_they_arrive() {
    let server = Scripted::start(|_, mut stream| async move {
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        for nth in 0..50 {
            let event = format!("data: {nth:02}\n\n");
            stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let upstream = upstream();
    let mut body = send(&upstream, &server.origin()).await.unwrap().into_body();
    let mut all = String::new();
    while let Some(chunk) = body.chunk().await {
        all.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let expected: String = (0..50).map(|nth| format!("data: {nth:02}\n\n")).collect();
    assert_eq!(all, expected);
    assert_eq!(upstream.idle(), 1);
}

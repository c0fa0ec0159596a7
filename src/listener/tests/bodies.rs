//! Request bodies: limits, time, compression.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn post(headers: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n")
}

fn chunked(body: &[u8], chunk: usize) -> Vec<u8> {
    let mut text = post("transfer-encoding: chunked\r\n").into_bytes();
    for part in body.chunks(chunk) {
        text.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        text.extend_from_slice(part);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    text
}

#[tokio::test]
async fn an_announced_body_over_the_limit_is_refused_unread() {
    let stand = Stand::start(with_limits(|limits| (limits.body, limits.upload) = (Size(1000), Size(1000))));
    for length in ["1001", "2147483648", "9223372036854775808", "18446744073709551613"] {
        let answer = stand.say(post(&format!("content-length: {length}\r\n"))).await;
        assert_eq!(statuses(&answer), [413], "{length}: {answer}");
        assert!(answer.contains("connection: close"));
    }
    assert_eq!(stand.arrived(), 0);
    stand.stop().await;
}

/// A connection on which the probe answers a POST without reading its body, and what it said of the connection's end.
async fn unread(stand: &Stand, headers: &str, body: &str) -> (TcpStream, String) {
    let mut stream = stand.connect().await;
    let head = format!("POST /path HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.expect("the listener reads");
    stream.flush().await.expect("the listener reads");
    // Clients write head and body apart.
    tokio::time::sleep(Duration::from_millis(5)).await;
    stream.write_all(body.as_bytes()).await.expect("the listener reads");
    let answer = read_until(&mut stream, "\r\n\r\n/path").await;
    (stream, answer)
}

#[tokio::test]
async fn behind_a_body_that_nobody_read_the_connection_serves_on_or_says_that_it_ends() {
    let stand = Stand::start(ListenerSettings::default());
    for (headers, body) in [
        ("content-length: 5\r\n", "hello"),
        ("transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("content-length: 0\r\n", ""),
    ] {
        let (mut stream, answer) = unread(&stand, headers, body).await;
        assert!(!answer.contains("connection: close"), "{headers}: {answer}");
        stream.write_all(post("content-length: 2\r\n").as_bytes()).await.expect("the listener reads");
        stream.write_all(b"on").await.expect("the listener reads");
        assert!(read_all(&mut stream).await.ends_with("\r\n\r\non"), "{headers}");
    }
    for (headers, body) in [
        ("content-length: 5\r\n", "hell"),
        ("content-length: 500000\r\n", "hello"),
        ("content-length: 5\r\nexpect: 100-continue\r\n", ""),
    ] {
        let (mut stream, answer) = unread(&stand, headers, body).await;
        assert!(answer.contains("connection: close"), "{headers}: {answer}");
        assert!(!answer.contains("100 Continue"), "{headers}: {answer}");
        read_all(&mut stream).await;
    }
    stand.stop().await;
}

#[tokio::test]
async fn the_answer_to_a_large_refused_body_arrives() {
    let stand = Stand::start(with_limits(|limits| limits.body = Size(1000)));
    let mut stream = stand.connect().await;
    stream.write_all(post("content-length: 800000\r\n").as_bytes()).await.expect("the listener reads");
    for _ in 0..50 {
        // A client that sends its whole body before it looks for an answer.
        let _ = stream.write_all(&[b'x'; 16_000]).await;
    }
    assert_eq!(statuses(&read_all(&mut stream).await), [413]);
    stand.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_refused_where_it_passes_the_limit() {
    let stand = Stand::start(with_limits(|limits| limits.body = Size(100_000)));
    assert_eq!(statuses(&stand.say(chunked(&[b'x'; 100_000], 999)).await), [200]);
    assert_eq!(statuses(&stand.say(chunked(&[b'x'; 100_001], 999)).await), [413]);
    stand.stop().await;
}

#[tokio::test]
async fn bodies_of_every_size_come_back_whole() {
    let stand = Stand::start(ListenerSettings::default());
    for size in [0, 1, 1000, 8192, 300_000, 3_000_000] {
        let body: String = ('a'..='z').cycle().take(size).collect();
        for text in [
            (post(&format!("content-length: {size}\r\n")) + body.as_str()).into_bytes(),
            chunked(body.as_bytes(), 7000),
        ] {
            let answer = stand.say(text).await;
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{size}: {}", answer.len());
        }
    }
    stand.stop().await;
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on_or_not() {
    let stand = Stand::start(with_limits(|limits| limits.body = Size(1000)));
    let mut stream = stand.connect().await;
    let head = post("content-length: 5\r\nexpect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).await.expect("the listener reads");
    read_until(&mut stream, "100 Continue\r\n\r\n").await;
    stream.write_all(b"hello").await.expect("the listener reads");
    assert!(read_all(&mut stream).await.ends_with("hello"));

    let answer = stand.say(post("content-length: 5000\r\nexpect: 100-continue\r\n")).await;
    assert_eq!(statuses(&answer), [413]);
    stand.stop().await;
}

#[tokio::test]
async fn a_body_that_stops_or_trickles_is_a_408() {
    let stand = Stand::start(with_limits(|limits| limits.body_timeout = millis(200)));
    assert_eq!(statuses(&stand.say(post("content-length: 5\r\n") + "hell").await), [408]);

    let mut stream = stand.connect().await;
    stream.write_all(post("content-length: 500\r\n").as_bytes()).await.expect("the listener reads");
    let (mut reader, mut writer) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(statuses(&read_until(&mut reader, "in time").await), [408]);
    trickle.abort();
    drop(reader);
    stand.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let stand = Stand::start(ListenerSettings::default());
    for (gone, path) in ["/hang", "/drip", "/flood"].into_iter().enumerate() {
        let mut stream = stand.connect().await;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.expect("reads");
        timeout(PATIENCE, async {
            while stand.arrived() <= gone {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the request arrives");
        drop(stream);
        stand.until_left(gone + 1).await;
    }
    stand.stop().await;
}

#[tokio::test]
async fn compressed_bodies_are_refused_unless_allowed_and_then_bounded() {
    let gzip = |body: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).expect("compresses");
        encoder.finish().expect("compresses")
    };
    let text = |body: &[u8]| {
        let head = post(&format!("content-length: {}\r\ncontent-encoding: gzip\r\n", body.len()));
        [head.as_bytes(), body].concat()
    };
    let stand = Stand::start(ListenerSettings::default());
    assert_eq!(statuses(&stand.say(text(&gzip(b"hello"))).await), [415]);
    assert_eq!(stand.arrived(), 0);
    stand.stop().await;

    let mut settings = ListenerSettings::default();
    settings.compression.accept = true;
    let stand = Stand::start(settings);
    let body: String =
        (0..100_000).map(|n: u32| char::from(b'a' + (n.wrapping_mul(2_654_435_761) % 26) as u8)).collect();
    assert!(stand.say(text(&gzip(body.as_bytes()))).await.ends_with(&body));
    assert_eq!(statuses(&stand.say(text(&gzip(&vec![0; 10_000_000]))).await), [413], "a bomb");
    assert_eq!(statuses(&stand.say(text(b"hello")).await), [400]);
    stand.stop().await;
}

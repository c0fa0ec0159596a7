//! Malformed and ambiguous HTTP/1 requests: exact verdicts, and nothing reaches the handler.

use super::*;

/// `(what, request, statuses of the answers, requests that reached the handler)`; an empty list of
/// statuses means that the connection is just closed.
type Case<'a> = (&'a str, &'a str, &'a [u16], usize);

async fn check(cases: &[Case<'_>]) {
    let stand = Stand::start(with_limits(|limits| {
        limits.uri = Size(100);
        limits.body = Size(1000);
        limits.header_timeout = millis(300);
        limits.idle_timeout = millis(300);
    }));
    for (what, request, expected, reached) in cases {
        let before = stand.arrived();
        let answer = stand.say(request).await;
        assert_eq!(statuses(&answer), *expected, "{what}: {answer}");
        assert_eq!(stand.arrived() - before, *reached, "{what}");
    }
    stand.stop().await;
}

#[tokio::test]
async fn sound_requests_are_served() {
    check(&[
        ("plain", "GET /a HTTP/1.1\r\nhost: a\r\n\r\n", &[200], 1),
        ("1.0 without host", "GET /a HTTP/1.0\r\n\r\n", &[200], 1),
        ("absolute form", "GET http://a/b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", &[200], 1),
        ("leading empty line", "\r\nGET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", &[200], 1),
        ("chunked", "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", &[200], 1),
        ("trailers", "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n", &[200], 1),
        ("two", "GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n", &[200, 200], 2),
        ("h2c upgrade ignored", "GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n", &[200], 1),
        ("websocket ignored", "GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", &[200], 1),
        ("options *", "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", &[200], 1),
    ])
    .await;
}

#[tokio::test]
async fn smuggling_is_refused_and_nothing_behind_it_is_served() {
    let cl_te =
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG";
    let te_cl = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n";
    let hidden = "GET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
    let head = |headers: &str| format!("POST /echo HTTP/1.1\r\nhost: a\r\n{headers}\r\n{hidden}");
    let second = format!("GET /a HTTP/1.1\r\nhost: a\r\n\r\n{cl_te}");
    check(&[
        ("cl+te", &format!("{cl_te}{hidden}"), &[400], 0),
        ("te+cl", &format!("{te_cl}{hidden}"), &[400], 0),
        ("cl+te behind a sound one", &second, &[200, 400], 1),
        ("te: gzip, chunked", &head("transfer-encoding: gzip, chunked\r\n"), &[400], 0),
        ("te: chunked, identity", &head("transfer-encoding: chunked, identity\r\n"), &[400], 0),
        ("te: identity", &head("transfer-encoding: identity\r\n"), &[400], 0),
        ("te: xchunked", &head("transfer-encoding: xchunked\r\n"), &[400], 0),
        ("te twice", &head("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"), &[400], 0),
        ("te with a space", &head("transfer-encoding : chunked\r\n"), &[400], 0),
        ("te in 1.0", "POST /echo HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", &[400], 0),
        ("two lengths", &head("content-length: 0\r\ncontent-length: 3\r\n"), &[400], 0),
        ("same length twice", &head("content-length: 0\r\ncontent-length: 0\r\n"), &[400], 0),
        ("length list", &head("content-length: 0, 0\r\n"), &[400], 0),
        ("length +3", &head("content-length: +3\r\n"), &[400], 0),
        ("length -1", &head("content-length: -1\r\n"), &[400], 0),
        ("length 0x3", &head("content-length: 0x3\r\n"), &[400], 0),
        ("empty length", &head("content-length: \r\n"), &[400], 0),
        ("length 2^64", &head("content-length: 18446744073709551616\r\n"), &[400], 0),
        ("bare lf header", &head("x: y\n"), &[400], 0),
        ("bare lf everywhere", "GET /a HTTP/1.1\nhost: a\n\n", &[400], 0),
        ("bare lf ends the head", "GET /a HTTP/1.1\r\nhost: a\r\n\n", &[400], 0),
        ("bare cr", &head("x: y\rz: a\r\n"), &[400], 0),
        ("folded", &head("x: y\r\n z\r\n"), &[400], 0),
        ("nul", &head("x: y\0z\r\n"), &[400], 0),
        ("space in a name", &head("x y: z\r\n"), &[400], 0),
        ("chunk size z", "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nz\r\n\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n", &[400], 1),
        ("chunk without its crlf", "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcGET /a HTTP/1.1\r\nhost: a\r\n\r\n", &[400], 1),
        ("bare lf chunk", "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n", &[400], 1),
    ])
    .await;
}

#[tokio::test]
async fn targets_hosts_and_methods_are_unambiguous() {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
    let long = format!("/{}", "u".repeat(100));
    check(&[
        ("no host", "GET /a HTTP/1.1\r\n\r\n", &[400], 0),
        ("two hosts", "GET /a HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", &[400], 0),
        ("another host", &get("http://b/a"), &[400], 0),
        ("connect", "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", &[405], 0),
        ("star", &get("*"), &[400], 0),
        ("dot segments", &get("/v1/../admin"), &[400], 0),
        ("encoded dot segments", &get("/v1/%2e%2e/admin"), &[400], 0),
        ("two slashes", &get("/v1//admin"), &[400], 0),
        ("encoded slash", &get("/v1%2fadmin"), &[400], 0),
        ("backslash", &get("/v1\\admin"), &[400], 0),
        ("long target", &get(&long), &[414], 0),
        ("1.2", "GET /a HTTP/1.2\r\nhost: a\r\n\r\n", &[400], 0),
        ("0.9", "GET /a\r\n", &[400], 0),
        ("tabs", "GET\t/a\tHTTP/1.1\r\nhost: a\r\n\r\n", &[400], 0),
        ("two spaces", "GET  /a  HTTP/1.1\r\nhost: a\r\n\r\n", &[400], 0),
        ("tls hello", "\x16\x03\x01\x02\x00\x01\x00", &[400], 0),
    ])
    .await;
}

#[tokio::test]
async fn heads_are_bounded() {
    let headers = |count: usize| {
        format!("GET /a HTTP/1.1\r\nhost: a\r\n{}connection: close\r\n\r\n", "x: y\r\n".repeat(count))
    };
    let large = |size: usize| {
        format!("GET /a HTTP/1.1\r\nhost: a\r\nx: {}\r\nconnection: close\r\n\r\n", "y".repeat(size))
    };
    check(&[
        ("64 headers", &headers(62), &[200], 1),
        ("65 headers", &headers(63), &[431], 0),
        ("500 headers", &headers(500), &[431], 0),
        ("60 KB header", &large(60_000), &[200], 1),
        ("500 KB header", &large(500_000), &[431], 0),
        ("100 KB target", &format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "u".repeat(60_000)), &[414], 0),
    ])
    .await;
}

#[tokio::test]
async fn a_hundred_pipelined_requests_are_answered_in_order() {
    let stand = Stand::start(ListenerSettings::default());
    let mut text: String = (0..99).map(|n| format!("GET /n{n}x HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
    text += "GET /n99x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = stand.say(&text).await;
    assert_eq!(statuses(&answer), [200; 100]);
    let mut at = 0;
    for n in 0..100 {
        at += answer.get(at..).and_then(|rest| rest.find(&format!("/n{n}x"))).expect("the next answer");
    }
    assert_eq!(stand.arrived(), 100);
    stand.stop().await;
}

#[tokio::test]
async fn a_head_torn_at_every_byte_is_read_all_the_same() {
    let stand = Stand::start(ListenerSettings::default());
    let good = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhiGET /b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let bad = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n";
    for (text, expected) in [(good, &[200, 200][..]), (bad, &[400])] {
        let mut stream = stand.connect().await;
        stream.set_nodelay(true).expect("a socket");
        for byte in text.as_bytes() {
            stream.write_all(&[*byte]).await.expect("the listener reads");
            tokio::task::yield_now().await;
        }
        assert_eq!(statuses(&read_all(&mut stream).await), expected);
    }
    stand.stop().await;
}

#[tokio::test]
async fn a_panic_costs_its_own_connection_only() {
    let stand = Stand::start(ListenerSettings::default());
    let mut other = stand.connect().await;
    other.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the listener reads");
    read_until(&mut other, "/a").await;
    assert_eq!(stand.say("GET /panic HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
    other.write_all(b"GET /b HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the listener reads");
    read_until(&mut other, "/b").await;
    assert_eq!(stand.drain.in_flight(), 0);
    drop(other);
    stand.stop().await;
}

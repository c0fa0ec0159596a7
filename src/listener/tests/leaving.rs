//! Shutting down: what runs may finish, what is new is refused, what does not end is cut.

use std::time::Instant;

use super::protocols::{ask, request, speak_http2};
use super::*;

async fn open(stand: &Stand, path: &str) -> TcpStream {
    let mut stream = stand.connect().await;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.expect("reads");
    stream
}

#[tokio::test]
async fn idle_connections_close_at_once_and_nobody_new_gets_in() {
    let stand = Stand::with_workers(ListenerSettings::default(), 2);
    let mut idle = Vec::new();
    for _ in 0..10 {
        let mut stream = open(&stand, "/a").await;
        read_until(&mut stream, "/a").await;
        idle.push(stream);
    }
    let silent = stand.connect().await;
    let start = Instant::now();
    let address = stand.address;
    stand.drain.begin(Duration::from_secs(10));
    timeout(PATIENCE, stand.serving).await.expect("ends").expect("without a panic");
    assert!(start.elapsed() < Duration::from_secs(5));
    for mut stream in idle {
        assert_eq!(read_all(&mut stream).await, "");
    }
    drop(silent);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_running_stream_outlives_the_signal_and_ends_with_an_event_at_the_deadline() {
    let stand = Stand::start(ListenerSettings::default());
    let mut stream = open(&stand, "/drip").await;
    read_until(&mut stream, "data: drop").await;
    assert_eq!(stand.drain.in_flight(), 1);
    let start = Instant::now();
    stand.drain.begin(Duration::from_millis(300));
    let rest = read_all(&mut stream).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(rest.matches("data: drop").count() > 3, "{rest}");
    assert!(rest.ends_with("event: error\n\n\r\n0\r\n\r\n"), "{rest}");
    timeout(PATIENCE, stand.serving).await.expect("ends").expect("without a panic");
    assert_eq!(stand.drain.in_flight(), 0);
}

#[tokio::test]
async fn what_does_not_end_is_cut_a_second_after_the_deadline() {
    let stand = Stand::start(ListenerSettings::default());
    let mut stream = open(&stand, "/hang").await;
    while stand.arrived() == 0 {
        tokio::task::yield_now().await;
    }
    stand.drain.begin(Duration::from_secs(60));
    stand.drain.begin(Duration::from_millis(10));
    let start = Instant::now();
    assert_eq!(read_all(&mut stream).await, "");
    assert!((1..4).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    timeout(PATIENCE, stand.serving).await.expect("ends").expect("without a panic");
}

#[tokio::test]
async fn an_answer_that_begins_while_draining_says_that_it_is_the_last() {
    let stand = Stand::start(ListenerSettings::default());
    let mut stream = stand.connect().await;
    stream.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nh").await.expect("reads");
    while stand.arrived() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stand.drain.begin(Duration::from_secs(10));
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(b"i").await.expect("the listener reads");
    let answer = read_all(&mut stream).await;
    assert_eq!(statuses(&answer), [200]);
    assert!(answer.contains("connection: close") && answer.ends_with("hi"), "{answer}");
    timeout(PATIENCE, stand.serving).await.expect("ends").expect("without a panic");
}

#[tokio::test]
async fn a_head_that_completes_while_draining_is_refused() {
    let stand = Stand::start(ListenerSettings::default());
    let mut stream = stand.connect().await;
    stream.write_all(b"GET /b HTTP/1.1\r\nho").await.expect("reads");
    tokio::time::sleep(Duration::from_millis(100)).await;
    stand.drain.begin(Duration::from_secs(10));
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(b"st: a\r\n\r\n").await.expect("the listener reads");
    let answer = read_all(&mut stream).await;
    assert_eq!(statuses(&answer), [503]);
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(stand.arrived(), 0);
    timeout(PATIENCE, stand.serving).await.expect("ends").expect("without a panic");
}

/// Asks once more on a connection that is open.
async fn ask_again(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.expect("reads");
    read_until(stream, path).await
}

#[tokio::test]
async fn while_it_leaves_everybody_is_served_and_asked_to_go_elsewhere() {
    let stand = Stand::start(ListenerSettings::default());
    let mut kept = open(&stand, "/a").await;
    assert!(!read_until(&mut kept, "/a").await.contains("connection: close"));
    let mut silent = stand.connect().await;
    stand.drain.leave_soon();
    assert!(stand.drain.is_leaving() && !stand.drain.is_draining());
    tokio::time::sleep(Duration::from_millis(50)).await;
    for stream in [&mut kept, &mut silent, &mut stand.connect().await] {
        let answer = ask_again(stream, "/b").await;
        assert!(statuses(&answer) == [200] && answer.contains("connection: close"), "{answer}");
        assert_eq!(read_all(stream).await, "");
    }
    stand.stop().await;
}

#[tokio::test]
async fn http2_connections_are_told_to_go_and_new_ones_are_served() {
    let stand = Stand::start(ListenerSettings::default());
    let (mut before, ended) = speak_http2(stand.connect().await).await;
    assert_eq!(ask(&mut before, request("/a", "")).await.0, 200);
    stand.drain.leave_soon();
    timeout(PATIENCE, ended).await.expect("a farewell").expect("no panic");
    let (mut after, ended) = speak_http2(stand.connect().await).await;
    for _ in 0..3 {
        assert_eq!(ask(&mut after, request("/b", "")).await.0, 200);
    }
    assert!(!ended.is_finished());
    stand.drain.begin(Duration::from_secs(10));
    timeout(PATIENCE, ended).await.expect("a farewell").expect("no panic");
    timeout(PATIENCE, stand.serving).await.expect("ends").expect("without a panic");
}

#[tokio::test]
async fn on_a_shared_port_those_who_wait_are_served_and_the_next_ones_go_to_the_other() {
    let shared = || ListenerSettings { reuse_port: true, ..Default::default() };
    let older = Stand::start(shared());
    let younger = Stand::at(older.address, shared());
    // All but the acceptor's own task is kept from running: these queue up, by the kernel's dice, for either of both.
    let waiting: Vec<_> =
        (0..40).map(|_| std::net::TcpStream::connect(older.address).expect("the kernel answers")).collect();
    older.drain.leave_soon();
    for stream in waiting {
        stream.set_nonblocking(true).expect("a socket");
        let mut stream = TcpStream::from_std(stream).expect("a socket");
        assert_eq!(statuses(&ask_again(&mut stream, "/a").await), [200]);
    }
    let before = older.arrived();
    assert!((1..40).contains(&before), "of 40, {before} came to the older one");
    for _ in 0..20 {
        assert_eq!(statuses(&ask_again(&mut younger.connect().await, "/b").await), [200]);
    }
    assert_eq!((older.arrived(), younger.arrived()), (before, 40 - before + 20));
    older.stop().await;
    younger.stop().await;
}

//! Connections that cost without asking: slow heads, idle ones, clients that do not read, too many.

use super::*;

fn impatient() -> ListenerSettings {
    with_limits(|limits| {
        limits.header_timeout = millis(150);
        limits.idle_timeout = millis(300);
        limits.write_timeout = millis(300);
    })
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away_and_one_that_stops_in_the_head_is_told() {
    let stand = Stand::start(impatient());
    assert_eq!(stand.say("").await, "");
    assert_eq!(stand.say("P").await, "", "not even the protocol is known");
    assert_eq!(statuses(&stand.say("GET /a HTT").await), [408]);
    assert_eq!(statuses(&stand.say("GET /a HTTP/1.1\r\nhost: a\r\n").await), [408]);
    let second = "GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nho";
    assert_eq!(statuses(&stand.say(second).await), [200, 408]);
    stand.stop().await;
}

#[tokio::test]
async fn a_trickling_head_gets_no_more_time_than_a_silent_one() {
    let stand = Stand::start(impatient());
    let (mut reader, mut writer) = stand.connect().await.into_split();
    let trickle = tokio::spawn(async move {
        let _ = writer.write_all(b"GET /a HTTP/1.1\r\n").await;
        while writer.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(statuses(&read_until(&mut reader, "\r\n\r\n").await), [408]);
    trickle.abort();
    stand.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_a_waiting_request_is_not() {
    let stand = Stand::start(impatient());
    let start = std::time::Instant::now();
    assert_eq!(statuses(&stand.say("GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await), [200]);
    assert!(start.elapsed() >= Duration::from_millis(300));

    let mut stream = stand.connect().await;
    stream.write_all(b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the listener reads");
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(900), stream.read(&mut byte)).await.is_err(), "still open");
    drop(stream);
    stand.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let stand = Stand::start(impatient());
    let mut stream = stand.connect().await;
    stream.write_all(b"GET /flood HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the listener reads");
    stand.until_left(1).await;

    let mut slow = stand.connect().await;
    slow.write_all(b"GET /flood HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the listener reads");
    let mut piece = vec![0; 256 << 10];
    for _ in 0..12 {
        slow.read_exact(&mut piece).await.expect("a slow reader is served on");
        tokio::time::sleep(Duration::from_millis(80)).await;
    }
    drop((stream, slow));
    stand.stop().await;
}

#[tokio::test]
async fn connections_of_one_address_are_capped() {
    let stand = Stand::start(with_limits(|limits| limits.connections_per_address = 2));
    let get = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = stand.connect().await;
        stream.write_all(get).await.expect("the listener reads");
        read_until(&mut stream, "/a").await;
        held.push(stream);
    }
    let mut third = stand.connect().await;
    let _ = third.write_all(get).await;
    assert_eq!(read_all(&mut third).await, "");
    held.pop();
    timeout(PATIENCE, async {
        while !stand.say("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.contains("200") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("a free seat is given again");
    drop(held);
    stand.stop().await;
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_to_come_back() {
    let stand = Stand::with_workers(with_limits(|limits| limits.in_flight = 1), 2);
    let mut first = stand.connect().await;
    first.write_all(b"GET /drip HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the listener reads");
    read_until(&mut first, "data: drop").await;
    let mut second = stand.connect().await;
    second.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the listener reads");
    let answer = read_until(&mut second, "at capacity").await;
    assert_eq!(statuses(&answer), [503]);
    drop(first);
    stand.until_left(1).await;
    second.write_all(b"GET /b HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the connection was kept");
    read_until(&mut second, "/b").await;
    drop(second);
    stand.stop().await;
}

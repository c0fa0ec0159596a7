//! Pages in browsers, and proxies in front: who asks, and from where.

use bytes::Bytes;
use hyper::{Method, Request};

use crate::acts;
use crate::client::{self, Reply, ask};
use crate::gateway::{self, Gateway, Setup, provider};
use crate::upstream::Upstream;

const PAGE: &str = "https://app.example.com";

async fn send(gateway: &Gateway, method: Method, headers: &[(&str, &str)], model: &str) -> Reply {
    let mut request = Request::builder().method(method.clone()).uri("/v1/chat/completions");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if method == Method::POST { ask(model).to_string() } else { String::new() };
    let request = request.body(Bytes::from(body)).expect("a request");
    client::open(gateway.clients, request).await.expect("an answer").rest().await
}

fn house(upstream: &Upstream, more: &str) -> Setup {
    gateway::setup(&format!("{more}providers:\n{}", provider("up", &upstream.url())))
        .env("PAGE_KEY", "tg-story-secret-page")
}

const KEYS: &str = "auth: keys\nkeys:\n  page: { secret: env:PAGE_KEY }\n";
const QUESTION: [(&str, &str); 3] = [
    ("origin", PAGE),
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "authorization,content-type"),
];

#[tokio::test]
async fn a_page_asks_first_and_then_reads_answers_and_refusals() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway =
        house(&upstream, &format!("{KEYS}cors: {{ origins: [ \"https://*.example.com\" ] }}\n")).start();
    let may = send(&gateway, Method::OPTIONS, &QUESTION, "").await;
    assert_eq!((may.status, may.header("access-control-allow-origin")), (204, PAGE), "{may:#?}");
    assert_eq!(may.header("access-control-allow-headers"), "authorization,content-type");
    assert!(may.header("access-control-allow-methods").contains("POST"), "{may:#?}");

    let asks = [
        ("origin", PAGE),
        ("authorization", "Bearer tg-story-secret-page"),
        ("sec-fetch-site", "cross-site"),
    ];
    let answer = send(&gateway, Method::POST, &asks, "up/m").await;
    assert_eq!(answer.said(), "hello");
    assert_eq!(answer.header("access-control-allow-origin"), PAGE);
    assert_eq!((answer.header("access-control-expose-headers"), answer.header("vary")), ("*", "origin"));
    let refused = send(&gateway, Method::POST, &asks[..1], "up/m").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, PAGE), "{refused:#?}");

    let other = [("origin", "https://evil.example"), QUESTION[1]];
    let refused = send(&gateway, Method::OPTIONS, &other, "").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, ""));
    assert!(refused.text().contains("cors.origins"), "{refused:#?}");

    // A saved change counts for the next request.
    gateway.save_config(&format!("{KEYS}providers:\n{}", provider("up", &upstream.url())));
    client::eventually_async("the page is forgotten", async || {
        let answer = send(&gateway, Method::POST, &asks, "up/m").await;
        answer.header("access-control-allow-origin").is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_no_key_is_needed_pages_of_others_spend_nothing() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = house(&upstream, "").start();
    let unasked = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    let refused = send(&gateway, Method::POST, &unasked, "up/m").await;
    assert_eq!(refused.status, 403, "{refused:#?}");
    assert!(refused.text().contains("https://evil.example"), "{refused:#?}");
    assert!(upstream.heard().is_empty());
    assert_eq!(send(&gateway, Method::POST, &[], "up/m").await.said(), "hello");
}

#[tokio::test]
async fn behind_a_proxy_the_client_is_who_the_proxy_says() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let limits = "rate_limits:\n- { name: each, per: [ address ], limits: { requests: 1/h } }\n";
    let gateway = house(&upstream, &format!("proxies: [ 127.0.0.0/8 ]\n{limits}")).start();
    let from = async |address: &str| {
        let headers = [("x-forwarded-for", address)];
        send(&gateway, Method::POST, &headers, "up/m").await.status
    };
    assert_eq!(from("198.51.100.7").await, 200);
    assert_eq!(from("198.51.100.8").await, 200);
    assert_eq!(from("203.0.113.1, 198.51.100.7").await, 429, "what the client claims itself does not count");
    let addresses: Vec<_> = client::eventually("access lines", || {
        let lines = gateway.access();
        (lines.len() == 3).then(|| lines.iter().map(|line| line["address"].clone()).collect::<Vec<_>>())
    })
    .await;
    assert_eq!(addresses, ["198.51.100.7", "198.51.100.8", "198.51.100.7"]);
}

//! Answers that are made in the background are found, cancelled and paid for at whichever gateway their caller asks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::met;
use super::server::{Server, server};
use crate::acts;
use crate::background::response;
use crate::client::{self, Reply, eventually_async};
use crate::gateway::{self, Gateway, Setup};
use crate::keys::send;
use crate::money::{lines, purse, rows};
use crate::upstream::Upstream;

const ANN: &str = "key-of-ann-0123456789";
const BOB: &str = "key-of-bob-0123456789";

/// What an answer costs: six tokens at a thousandth of a dollar, and a hundredth for the request.
const PAID: u64 = 6_000_000 + 10_000_000;

/// Answers `resp_1`, `resp_2` … in the background; one is complete when it is looked at for the second time.
fn provider() -> Upstream {
    let (made, looks) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Upstream::start(move |heard| {
        let mut parts = heard.path.split('/').skip(3);
        match (heard.method.as_str(), parts.next(), parts.next()) {
            ("GET", Some(id), None) => {
                let status =
                    if looks.fetch_add(1, Ordering::Relaxed) == 0 { "in_progress" } else { "completed" };
                acts::whole(200, &response(id, status))
            }
            ("POST", Some(id), Some("cancel")) => acts::whole(200, &response(id, "cancelled")),
            _ => acts::whole(
                200,
                &response(&format!("resp_{}", made.fetch_add(1, Ordering::Relaxed) + 1), "queued"),
            ),
        }
    })
}

const KEYS: &str = "auth: keys\nkeys: { ann: { secret: env:ANN }, bob: { secret: env:BOB } }\n";

fn house(up: &Upstream, server: &Server, auth: &str) -> Setup {
    let config = format!(
        "state: {{ ledger: sqlite:./data/tollgate.db, redis: {{ url: \"{}\", timeout: 2s, lease: 5s }} }}\n\
         providers:\n  a: {{ preset: openai, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n\
         prices: {{ models: {{ \"a/*\": {{ price: {{ input: 1000, output: 1000, request: 0.01 }} }} }} }}\n\
         budgets:\n  - {{ name: all, dollars: 9, per: total }}\n\
         {auth}",
        server.url(),
        up.url()
    );
    gateway::setup(&config).env("ANN", ANN).env("BOB", BOB)
}

async fn call(gateway: &Gateway, key: &str, method: Method, path: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {key}");
    send(gateway.clients, method, path, &[("authorization", &bearer)], body).await
}

async fn ask(gateway: &Gateway) -> Reply {
    let body = json!({ "model": "a/m", "input": "one", "background": true, "max_output_tokens": 16 });
    let reply = call(gateway, ANN, Method::POST, "/v1/responses", &body.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    reply
}

async fn look(gateway: &Gateway, key: &str, id: &str) -> Reply {
    call(gateway, key, Method::GET, &format!("/v1/responses/{id}"), "").await
}

async fn stands(gateway: &Gateway, used: u64) {
    let mut known = (0, 0);
    let reached = async {
        while known != (used, 0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            known = purse(gateway).await;
        }
    };
    assert!(tokio::time::timeout(client::PATIENCE, reached).await.is_ok(), "{known:?}, not {used}");
}

fn costs(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["cost"].as_u64().unwrap_or(u64::MAX)).collect()
}

#[tokio::test]
async fn an_answer_in_the_background_is_read_and_paid_for_at_another_gateway() {
    let Some(server) = server() else { return };
    let up = provider();
    let gateways = [house(&up, &server, KEYS).start(), house(&up, &server, KEYS).start()];
    met(&gateways).await;
    let [first, second] = &gateways;
    ask(first).await;
    assert_eq!(look(second, BOB, "resp_1").await.status, 404, "somebody else's");
    let heard = up.heard().len();
    let begun = look(second, ANN, "resp_1").await;
    assert_eq!((begun.status, begun.json()["status"].clone()), (200, json!("in_progress")), "{begun:#?}");
    assert_eq!(up.heard().len(), heard + 1);
    assert_eq!(lines(first, "").await[0]["state"], "open", "it is waited for");
    let done = look(second, ANN, "resp_1").await;
    assert_eq!(
        (done.json()["status"].clone(), done.header("x-tollgate-cost-usd")),
        (json!("completed"), "0.016")
    );
    // Once: neither here nor there again, and nothing is held any more.
    for gateway in [second, first, second] {
        let reply = look(gateway, ANN, "resp_1").await;
        assert_eq!((reply.status, reply.header("x-tollgate-cost-usd")), (200, "0"), "{reply:#?}");
    }
    stands(first, PAID).await;
    stands(second, PAID).await;
    assert_eq!(costs(&rows(first).await), [0, 0]);
    assert_eq!(costs(&rows(second).await), [0, PAID, 0, 0]);

    // To cancel it, too.
    ask(first).await;
    let cancelled = call(second, ANN, Method::POST, "/v1/responses/resp_2/cancel", "").await;
    assert_eq!(
        (cancelled.status, cancelled.json()["status"].clone()),
        (200, json!("cancelled")),
        "{cancelled:#?}"
    );
}

#[tokio::test]
async fn what_is_read_elsewhere_closes_what_is_held_and_what_was_estimated_is_not_paid_for_again() {
    let Some(server) = server() else { return };
    let up = provider();
    let mut first = house(&up, &server, "").start();
    let second = house(&up, &server, "").start();
    ask(&first).await;
    look(&second, ANN, "resp_1").await;
    look(&second, ANN, "resp_1").await;
    // Nobody looks at the first one again: it hears of it.
    let row = eventually_async("the row of who asked", async || {
        lines(&first, "").await.into_iter().find(|row| row["state"] == "settled")
    })
    .await;
    assert_eq!(row["cost"], 0, "{row:#}");
    stands(&first, PAID).await;
    ask(&first).await;
    first.terminate();
    assert!(first.ended(client::PATIENCE).is_some());
    let late = look(&second, ANN, "resp_2").await;
    assert_eq!(
        (late.json()["status"].clone(), late.header("x-tollgate-cost-usd")),
        (json!("completed"), "0")
    );
    let unread = rows(&first.start_again()).await;
    assert_eq!(unread[1]["outcome"], "unread", "{unread:#?}");
}

#[tokio::test]
async fn a_stream_in_the_background_that_its_client_leaves_is_read_at_another_gateway() {
    let Some(server) = server() else { return };
    let up = crate::background::provider();
    let [first, second] = [house(&up, &server, KEYS).start(), house(&up, &server, KEYS).start()];
    let body = json!({ "model": "a/m", "input": "one", "background": true, "stream": true, "max_output_tokens": 16 });
    let mut request = client::request(Method::POST, "/v1/responses", &body.to_string());
    request.headers_mut().insert("authorization", format!("Bearer {ANN}").parse().unwrap());
    let mut live = client::open(first.clients, request).await.unwrap();
    live.until("Hello").await;
    drop(live);
    let done = eventually_async("the answer at the other gateway", async || {
        let reply = look(&second, ANN, "resp_1").await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    assert_eq!(
        (done.json()["status"].clone(), done.header("x-tollgate-cost-usd")),
        (json!("completed"), "0.016")
    );
    stands(&first, PAID).await;
    stands(&second, PAID).await;
    assert_eq!(costs(&rows(&first).await), [0]);
}

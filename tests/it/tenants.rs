//! What providers keep is the tenant's who made it: nobody else names it, finds it in a list, or pays for it.

use std::sync::Mutex;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::Reply;
use crate::gateway::{self, Gateway, Setup};
use crate::keys::send;
use crate::money::rows;
use crate::upstream::{Act, Heard, Upstream};

/// An account at OpenAI, in which there are `before` files that were made elsewhere.
fn openai(before: usize) -> Upstream {
    let files: Vec<String> = (0..before).map(|at| format!("file-{at}")).collect();
    let files = Mutex::new(files);
    Upstream::start(move |heard| account(&mut files.lock().unwrap(), heard))
}

fn account(files: &mut Vec<String>, heard: &Heard) -> Vec<Act> {
    let (path, query) = heard.path.split_once('?').unwrap_or((&heard.path, ""));
    let pair = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let id = path.split('/').nth(3).unwrap_or_default();
    match (heard.method.as_str(), path) {
        ("POST", "/v1/files") => {
            files.insert(0, format!("file-{}", files.len()));
            acts::whole(200, &json!({ "id": files[0], "object": "file" }))
        }
        ("GET", "/v1/files" | "/v1/batches") => {
            let limit = pair("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10_000);
            let after = pair("after").and_then(|after| files.iter().position(|id| id == after));
            let from = after.map_or(0, |at| at + 1);
            let page: Vec<Value> =
                files[from..].iter().take(limit).map(|id| json!({ "id": id, "object": "file" })).collect();
            let more = from + page.len() < files.len();
            acts::whole(
                200,
                &json!({ "object": "list", "data": page, "first_id": page.first().map(|file| &file["id"]),
                    "last_id": page.last().map(|file| &file["id"]), "has_more": more }),
            )
        }
        ("POST", "/v1/batches") => acts::whole(200, &batch("validating")),
        ("GET", _) if path.starts_with("/v1/batches/") => acts::whole(200, &batch("completed")),
        ("POST", "/v1/responses") => acts::whole(200, &response()),
        _ => acts::whole(200, &json!({ "id": id, "object": "file", "path": heard.path })),
    }
}

fn batch(status: &str) -> Value {
    let usage = json!({ "input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100 });
    let done = status == "completed";
    json!({ "id": "batch_1", "object": "batch", "status": status, "model": "m",
        "output_file_id": if done { json!("file-out") } else { Value::Null },
        "usage": if done { usage } else { Value::Null } })
}

fn response() -> Value {
    json!({ "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m", "store": true,
        "output": [{ "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{ "type": "output_text", "text": "hi", "annotations": [] }] }],
        "usage": { "input_tokens": 4, "output_tokens": 2, "total_tokens": 6 } })
}

/// Two teams, one of them with two keys, and a key of no team.
const KEYS: &str = "auth: keys
keys:
  ann: { secret: env:ANN, team: one }
  bob: { secret: env:BOB, team: one }
  eve: { secret: env:EVE, team: two }
  lone: { secret: env:LONE }
";
const ANN: &str = "key-of-ann-0123456789";
const BOB: &str = "key-of-bob-0123456789";
const EVE: &str = "key-of-eve-0123456789";
const LONE: &str = "key-of-lone-0123456789";

fn house(up: &Upstream, state: &str, sharing: &str, auth: &str) -> Setup {
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0 }}\n{state}providers:\n  \
         up: {{ preset: openai, base_url: \"{}\", keys: [ env:TEST_KEY ]{sharing} }}\n\
         prices: {{ models: {{ \"up/*\": {{ price: {{ input: 1000, output: 1000 }} }} }} }}\n{auth}",
        up.url()
    );
    gateway::setup("")
        .file("tollgate.yaml", &config)
        .env("ANN", ANN)
        .env("BOB", BOB)
        .env("EVE", EVE)
        .env("LONE", LONE)
}

const SQLITE: &str = "state: { ledger: \"sqlite:./data/t.db\" }\n";

/// A database that outlives its gateway.
fn lasting(dir: &tempfile::TempDir) -> String {
    format!("state: {{ ledger: \"sqlite:{}\" }}\n", dir.path().join("t.db").display())
}

async fn call(gateway: &Gateway, key: &str, method: Method, path: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer {key}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(gateway.clients, method, path, &[("authorization", &bearer)], &body).await
}

async fn get(gateway: &Gateway, key: &str, path: &str) -> Reply {
    call(gateway, key, Method::GET, path, &Value::Null).await
}

async fn upload(gateway: &Gateway, key: &str) -> String {
    let made = call(gateway, key, Method::POST, "/v1/files", &json!({ "purpose": "batch" })).await;
    assert_eq!(made.status, 200, "{made:#?}");
    made.json()["id"].as_str().unwrap().to_owned()
}

async fn listed(gateway: &Gateway, key: &str, path: &str) -> Vec<String> {
    let list = get(gateway, key, path).await;
    assert_eq!(list.status, 200, "{list:#?}");
    list.json()["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn create(file: &str) -> Value {
    json!({ "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h" })
}

#[tokio::test]
async fn nobody_finds_what_another_tenant_has_made_also_after_a_restart() {
    let (up, dir) = (openai(3), tempfile::tempdir().unwrap());
    let mut gateway = house(&up, &lasting(&dir), "", KEYS).start();
    let file = upload(&gateway, ANN).await;
    for round in 0..2 {
        for (key, expected) in
            [(ANN, vec![file.clone()]), (BOB, vec![file.clone()]), (EVE, vec![]), (LONE, vec![])]
        {
            for list in [
                "/v1/files",
                "/v1/files?limit=1",
                "/passthrough/up/files",
                "/passthrough/up/v1/files?limit=2",
            ] {
                assert_eq!(listed(&gateway, key, list).await, expected, "{key} {list} {round}");
            }
            let status = if expected.is_empty() { 404 } else { 200 };
            for one in [
                "/v1/files/",
                "/passthrough/up/files/",
                "/passthrough/up/v1/files/",
                "/passthrough/up/Files/",
            ] {
                let reply = get(&gateway, key, &format!("{one}{file}")).await;
                assert_eq!(reply.status, status, "{one} {reply:#?}");
            }
            assert_eq!(get(&gateway, key, &format!("/v1/files/{file}/content")).await.status, status);
        }
        let heard = up.heard().len();
        let stolen = call(&gateway, EVE, Method::DELETE, &format!("/v1/files/{file}"), &Value::Null).await;
        assert_eq!(stolen.status, 404, "{stolen:#?}");
        let batch = call(&gateway, EVE, Method::POST, "/v1/batches", &create(&file)).await;
        assert_eq!((batch.status, &batch.error()["param"]), (400, &json!("input_file_id")), "{batch:#?}");
        let part = json!([{ "type": "file", "file": { "file_id": file } }]);
        let chat = json!({ "model": "up/m", "messages": [{ "role": "user", "content": part }] });
        assert_eq!(call(&gateway, EVE, Method::POST, "/v1/chat/completions", &chat).await.status, 400);
        assert_eq!(get(&gateway, EVE, "/v1/files/file-1").await.status, 404, "what was made elsewhere");
        assert_eq!(up.heard().len(), heard, "nobody was asked");
        if round == 0 {
            gateway.terminate();
            assert!(gateway.ended(Duration::from_secs(20)).is_some());
            gateway = house(&up, &lasting(&dir), "", KEYS).start();
        }
    }
}

#[tokio::test]
async fn what_was_made_elsewhere_is_found_where_the_configuration_shares_it() {
    let up = openai(2);
    let gateway = house(&up, SQLITE, ", items: outside", KEYS).start();
    let file = upload(&gateway, ANN).await;
    assert_eq!(listed(&gateway, EVE, "/v1/files").await, ["file-0", "file-1"]);
    assert_eq!(listed(&gateway, ANN, "/v1/files").await, [&*file, "file-0", "file-1"]);
    assert_eq!(get(&gateway, EVE, "/v1/files/file-0").await.status, 200);
    assert_eq!(get(&gateway, EVE, &format!("/v1/files/{file}")).await.status, 404);
    let gateway = house(&up, SQLITE, ", items: all", KEYS).start();
    assert_eq!(listed(&gateway, EVE, "/v1/files").await.len(), 3);
    assert_eq!(get(&gateway, EVE, &format!("/v1/files/{file}")).await.status, 200);
    let gateway = house(&up, SQLITE, "", "").start();
    assert_eq!(listed(&gateway, "", "/v1/files").await.len(), 3, "nobody has to say who he is");
}

#[tokio::test]
async fn a_list_goes_on_behind_pages_of_others() {
    let up = openai(0);
    let gateway = house(&up, "", "", KEYS).start();
    let first = upload(&gateway, EVE).await;
    for _ in 0..250 {
        upload(&gateway, ANN).await;
    }
    let second = upload(&gateway, EVE).await;
    let page = get(&gateway, EVE, "/v1/batches?limit=1").await.json();
    assert_eq!((&page["data"][0]["id"], &page["has_more"]), (&json!(second), &json!(true)), "{page}");
    assert_eq!(page["last_id"], json!(second));
    let page = get(&gateway, EVE, &format!("/v1/batches?limit=1&after={second}")).await.json();
    assert_eq!((&page["data"][0]["id"], &page["has_more"]), (&json!(first), &json!(false)), "{page}");
    let asked: Vec<String> = up.heard().into_iter().rev().take(3).map(|heard| heard.path).collect();
    assert!(asked.iter().all(|path| path.contains("limit=100")), "{asked:?}");
}

#[tokio::test]
async fn an_answer_is_continued_by_who_got_it() {
    let up = openai(0);
    let gateway = house(&up, SQLITE, "", &format!("responses: {{ keep: 0s }}\n{KEYS}")).start();
    let ask = json!({ "model": "up/gpt-4o", "input": "hi" });
    assert_eq!(call(&gateway, ANN, Method::POST, "/v1/responses", &ask).await.status, 200);
    let next = json!({ "model": "up/gpt-4o", "input": "and?", "previous_response_id": "resp_1" });
    for (key, path, expected) in [
        (ANN, "/v1/responses", 200),
        (BOB, "/v1/responses", 200),
        (EVE, "/v1/responses", 400),
        (EVE, "/passthrough/up/responses", 400),
        (BOB, "/passthrough/up/responses", 200),
    ] {
        let reply = call(&gateway, key, Method::POST, path, &next).await;
        assert_eq!(reply.status, expected, "{path} {reply:#?}");
        if expected == 400 {
            assert_eq!(reply.error()["code"], "previous_response_not_found");
        }
    }
    assert_eq!(get(&gateway, EVE, "/passthrough/up/responses/resp_1").await.status, 404);
    assert_eq!(get(&gateway, BOB, "/passthrough/up/responses/resp_1").await.status, 200);
}

#[tokio::test]
async fn a_batch_is_booked_once_also_by_a_gateway_that_was_started_anew() {
    let (up, dir) = (openai(0), tempfile::tempdir().unwrap());
    let mut gateway = house(&up, &lasting(&dir), "", KEYS).start();
    let file = upload(&gateway, ANN).await;
    assert_eq!(call(&gateway, ANN, Method::POST, "/v1/batches", &create(&file)).await.status, 200);
    gateway.terminate();
    assert!(gateway.ended(Duration::from_secs(20)).is_some());
    let gateway = house(&up, &lasting(&dir), "", KEYS).start();
    assert_eq!(get(&gateway, EVE, "/v1/batches/batch_1").await.status, 404);
    let costs = async || {
        let all = rows(&gateway).await;
        all.iter().filter_map(|row| row["cost"].as_u64()).sum::<u64>()
    };
    assert_eq!(costs().await, 0);
    for path in ["/v1/batches/batch_1", "/v1/batches/batch_1", "/passthrough/up/batches/batch_1"] {
        assert_eq!(get(&gateway, BOB, path).await.status, 200);
        assert_eq!(costs().await, 1_100_000_000, "{path}");
    }
    // Its results are the tenant's, too.
    assert_eq!(get(&gateway, BOB, "/v1/files/file-out/content").await.status, 200);
    assert_eq!(get(&gateway, EVE, "/v1/files/file-out/content").await.status, 404);
}

#[tokio::test]
async fn two_gateways_know_whose_something_is_and_book_a_batch_once() {
    let Some(postgres) = crate::postgres::Postgres::start() else { return };
    postgres.ready().await;
    let up = openai(0);
    let start = || crate::postgres::with_password(house(&up, &postgres.state(""), "", KEYS)).start();
    let [first, second] = [start(), start()];
    let file = upload(&first, ANN).await;
    assert_eq!(listed(&second, BOB, "/v1/files").await, [&*file]);
    assert!(listed(&second, EVE, "/v1/files").await.is_empty());
    assert_eq!(call(&first, ANN, Method::POST, "/v1/batches", &create(&file)).await.status, 200);
    assert_eq!(get(&second, EVE, "/v1/batches/batch_1").await.status, 404);
    for gateway in [&second, &first, &second] {
        assert_eq!(get(gateway, BOB, "/v1/batches/batch_1").await.status, 200);
    }
    let booked = "SELECT coalesce(sum(cost), 0)::bigint FROM tollgate.attempt";
    crate::client::eventually_async("all rows to be there", async || {
        let open = postgres.count("SELECT count(*) FROM tollgate.attempt WHERE endpoint = 'batches'").await;
        (open == 4).then_some(())
    })
    .await;
    assert_eq!(postgres.count(booked).await, 1_100_000_000);
}

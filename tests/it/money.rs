//! Budgets and ledger through the real binary: a provider with a meter of its own, and everything that can end a request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request};
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, ask, chat};
use crate::gateway::{self, Gateway, Setup};
use crate::postgres::{Postgres, with_password};
use crate::upstream::{Act, Upstream};

/// Nano-dollars for a token of a prompt, and of an answer.
const PRICE: (u64, u64) = (2_500, 10_000);

/// The ledger of one gateway.
const SQLITE: &str = "state: { ledger: sqlite:./data/tollgate.db }\n";

/// What the provider says it used: prompt and answer.
pub type Meter = Arc<Mutex<HashMap<String, Vec<(u64, u64)>>>>;

/// `kind-number`, as the client wrote it.
fn asked(heard: &crate::upstream::Heard) -> (String, u64, String) {
    let text = heard.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    let (kind, number) = text.split_once('-').unwrap_or((&text, "0"));
    (kind.to_owned(), number.parse().unwrap_or(0), text.clone())
}

/// A provider that does to a request what its message says, and meters what it gives away whole.
pub fn provider(meter: &Meter) -> Upstream {
    let meter = meter.clone();
    let calls: Mutex<HashMap<String, usize>> = Mutex::default();
    Upstream::start(move |heard| {
        let (kind, number, text) = asked(heard);
        let usage = (20 + number % 7, 5 + number % 11);
        let count = |usage: (u64, u64)| meter.lock().unwrap().entry(text.clone()).or_default().push(usage);
        let mut calls = calls.lock().unwrap();
        let call = calls.entry(text.clone()).or_default();
        *call += 1;
        match kind.as_str() {
            "fails" if *call == 1 => acts::error(500, "try again"),
            "whole" | "fails" => {
                count(usage);
                acts::whole(200, &answer(usage))
            }
            "stream" => {
                count(usage);
                acts::stream(&format!("{}{}", acts::events(&["a", "b"]), ending(usage)), usize::MAX)
            }
            "cut" => {
                let mut acts = acts::stream_open(&acts::events(&["four", "more"]), usize::MAX);
                acts.push(Act::Close);
                acts
            }
            "leaves" => {
                let mut acts = acts::stream_open(&acts::events(&["hello there"]), usize::MAX);
                acts.push(Act::Hang);
                acts
            }
            "truncated" => acts::truncated(),
            "bad" => acts::error(400, "no"),
            _ => vec![Act::Hang],
        }
    })
}

fn answer((prompt, output): (u64, u64)) -> Value {
    let mut answer = acts::completion("hi");
    answer["usage"] =
        json!({ "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output });
    answer
}

fn ending((prompt, output): (u64, u64)) -> String {
    acts::ENDING
        .replace("\"prompt_tokens\":7", &format!("\"prompt_tokens\":{prompt}"))
        .replace("\"completion_tokens\":3", &format!("\"completion_tokens\":{output}"))
        .replace("\"total_tokens\":10", &format!("\"total_tokens\":{}", prompt + output))
}

fn cost((prompt, output): (u64, u64)) -> u64 {
    prompt * PRICE.0 + output * PRICE.1
}

pub fn config(up: &Upstream, more: &str) -> String {
    config_in(SQLITE, up, more)
}

/// The same with another ledger.
pub fn config_in(state: &str, up: &Upstream, more: &str) -> String {
    format!(
        "limits: {{ connections_per_address: 2000 }}\nbreaker: {{ enabled: false }}\n{state}\
         providers:\n{}models:\n  fast: {{ targets: [ up/m ] }}\n\
         prices: {{ models: {{ \"up/*\": {{ price: {{ input: 2.5, output: 10 }}, max_output: 100 }} }} }}\n{more}",
        gateway::provider("up", &up.url())
    )
}

/// One request that is called as its message is.
pub fn named(text: &str, stream: bool) -> Request<bytes::Bytes> {
    let mut body =
        json!({ "model": "fast", "max_tokens": 50, "messages": [{ "role": "user", "content": text }] });
    if stream {
        body["stream"] = true.into();
        body["stream_options"] = json!({ "include_usage": true });
    }
    let mut request = client::request(Method::POST, "/v1/chat/completions", &body.to_string());
    request.headers_mut().insert("x-request-id", text.parse().unwrap());
    if text.starts_with("hangs") {
        request.headers_mut().insert("x-tollgate-timeout", "300ms".parse().unwrap());
    }
    request
}

/// What the client of one request did and got: the status, and what a whole answer cost.
pub async fn play(gateway: std::net::SocketAddr, kind: &str, number: usize) -> (u16, Option<u64>) {
    let text = format!("{kind}-{number}");
    let streams = matches!(kind, "stream" | "cut" | "leaves");
    let request = named(&text, streams);
    if kind == "gone" {
        let _ = tokio::time::timeout(Duration::from_millis(150), client::open(gateway, request)).await;
        return (0, None);
    }
    let mut live = client::open(gateway, request).await.unwrap();
    if kind == "leaves" && live.status == 200 {
        live.until("hello there").await;
        return (0, None);
    }
    let reply = live.rest().await;
    let dollars = reply.headers.get("x-tollgate-cost-usd").map(|value| value.to_str().unwrap().to_owned());
    (reply.status, dollars.map(|dollars| nano(&dollars)))
}

/// Dollars with up to nine decimals.
fn nano(dollars: &str) -> u64 {
    let (whole, part) = dollars.split_once('.').unwrap_or((dollars, ""));
    whole.parse::<u64>().unwrap() * 1_000_000_000 + format!("{part:0<9}").parse::<u64>().unwrap()
}

pub async fn admin(gateway: &Gateway, path: &str) -> Value {
    client::get(gateway.admin, path).await.json()
}

/// Used and held of the first budget.
pub async fn purse(gateway: &Gateway) -> (u64, u64) {
    let budgets = admin(gateway, "/admin/v1/budgets").await;
    let first = &budgets["budgets"][0];
    (first["used"].as_u64().unwrap(), first["held"].as_u64().unwrap())
}

/// The ledger's rows, as soon as none is open; of a shared ledger, as soon as it has all of them.
pub async fn rows(gateway: &Gateway) -> Vec<Value> {
    client::eventually_async("all attempts to end", async || {
        let (own, all) = (told(gateway, "&scope=own").await?, told(gateway, "").await?);
        let waiting = admin(gateway, "/admin/v1/usage?scope=own").await["ledger"]["waiting"].as_u64();
        let whole = own.len() == all.len() && own.iter().all(|row| row["state"] != "open");
        (waiting == Some(0) && whole).then_some(all)
    })
    .await
}

/// Single attempts, as the gateway tells them.
pub async fn lines(gateway: &Gateway, more: &str) -> Vec<Value> {
    told(gateway, more).await.expect("a ledger that answers")
}

async fn told(gateway: &Gateway, more: &str) -> Option<Vec<Value>> {
    let reply = client::get(gateway.admin, &format!("/admin/v1/usage?format=jsonl{more}")).await;
    let lines = || reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (reply.status == 200).then(lines)
}

pub const KINDS: [&str; 10] =
    ["whole", "whole", "stream", "cut", "fails", "hangs", "leaves", "gone", "bad", "truncated"];

/// The same, tried again while others hold what is left.
pub async fn persist(gateway: std::net::SocketAddr, kind: &str, number: usize) -> (u16, Option<u64>) {
    for _ in 0..400 {
        let played = play(gateway, kind, number).await;
        if played.0 != 429 {
            return played;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    (429, None)
}

/// 500 clients at once against one budget, with this ledger; says what was spent of it, and the most that was spent and
/// held.
async fn rush(hard: bool, limit: u64, state: &str) -> (u64, u64) {
    let meter = Meter::default();
    let up = provider(&meter);
    let budget =
        format!("budgets:\n  - {{ name: all, dollars: {}, per: month, hard: {hard} }}\n", limit as f64 / 1e9);
    let gateway = with_password(gateway::setup(&config_in(state, &up, &budget))).start();
    let to = gateway.clients;
    let clients: Vec<_> = (0..500)
        .map(|number| tokio::spawn(async move { persist(to, KINDS[number % KINDS.len()], number).await }))
        .collect();
    let mut most = 0;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        let (used, held) = purse(&gateway).await;
        most = most.max(used + held);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut told, mut refused) = (HashMap::new(), 0);
    for (number, client) in clients.into_iter().enumerate() {
        let (status, cost) = client.await.unwrap();
        refused += usize::from(matches!(status, 402 | 429));
        if let Some(cost) = cost {
            told.insert(format!("{}-{number}", KINDS[number % KINDS.len()]), cost);
        }
    }
    let rows = rows(&gateway).await;
    let (used, held) = purse(&gateway).await;
    assert_eq!(held, 0, "nothing stays held");
    let sum: u64 = rows.iter().map(|row| row["cost"].as_u64().unwrap()).sum();
    assert_eq!(sum, used, "the ledger and the budget agree");
    let sums = admin(&gateway, "/admin/v1/usage").await;
    assert_eq!(sums["usage"][0]["cost_nano"], sum);

    // Every attempt that the provider heard of stands there once, and what it gave away whole at its price.
    let mut by_request: HashMap<&str, Vec<&Value>> = HashMap::new();
    for row in &rows {
        by_request.entry(row["request"].as_str().unwrap()).or_default().push(row);
    }
    let mut heard: HashMap<String, usize> = HashMap::new();
    // On a busy machine, somebody may leave before his whole request is out: half a body names nobody.
    for one in up.heard().into_iter().filter(|one| !asked(one).2.is_empty()) {
        *heard.entry(asked(&one).2).or_default() += 1;
    }
    for (text, times) in &heard {
        assert_eq!(by_request.get(text.as_str()).map(Vec::len), Some(*times), "{text}: {rows:#?}");
    }
    for (text, usages) in meter.lock().unwrap().iter() {
        let settled: u64 = by_request[text.as_str()]
            .iter()
            .filter(|row| row["state"] == "settled")
            .map(|row| row["cost"].as_u64().unwrap())
            .sum();
        assert_eq!(settled, usages.iter().map(|usage| cost(*usage)).sum::<u64>(), "{text}");
    }
    for (text, cost) in &told {
        let row = by_request[text.as_str()].last().unwrap();
        assert_eq!((row["cost"].as_u64(), &row["state"]), (Some(*cost), &json!("settled")), "{text}");
    }
    for kind in ["cut", "leaves", "gone", "hangs", "truncated"] {
        let states = rows.iter().filter(|row| row["request"].as_str().unwrap().starts_with(kind));
        for row in states {
            assert_eq!(row["state"], "estimated", "{row}");
            assert!(row["cost"].as_u64().unwrap() > 0, "{row}");
        }
    }
    if hard {
        assert!(refused > 100 && told.len() > 10, "{refused} refused, {} answered", told.len());
    } else {
        assert_eq!(refused, 0);
    }
    (used, most)
}

#[tokio::test]
async fn five_hundred_at_once_do_not_overspend_a_hard_budget() {
    let limit = 20_000_000;
    let (used, most) = rush(true, limit, SQLITE).await;
    assert!(used <= limit && most <= limit, "{used} spent, at most {most} spent and held, of {limit}");
    assert!(used > limit / 2, "most of it could be spent: {used} of {limit}");
}

#[tokio::test]
async fn with_postgres_five_hundred_do_not_overspend_either_at_once() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let limit = 20_000_000;
    let (used, most) = rush(true, limit, &postgres.state("")).await;
    assert!(used <= limit && most <= limit, "{used} spent, at most {most} spent and held, of {limit}");
    assert_eq!(postgres.count("SELECT sum(cost) FROM tollgate.attempt").await, used as i64);
}

/// The same without the limit: the story would notice.
#[tokio::test]
async fn without_a_hard_budget_the_same_crowd_spends_more() {
    let limit = 20_000_000;
    let (used, most) = rush(false, limit, SQLITE).await;
    assert!(used > limit && most > limit, "{used} spent, at most {most}, of {limit}");
}

#[tokio::test]
async fn refusals_say_which_budget_and_when_it_resets_in_the_clients_words() {
    let up = provider(&Meter::default());
    let more = "budgets:\n\
        \x20 - { name: anna, dollars: 0.0001, per: month, for: { user: anna } }\n\
        \x20 - { name: each-tag, tokens: 1000, per: total, each: ['tag:team'] }\n\
        \x20 - { name: soon, tokens: 10, per: hour, rolling: true, status: 429, for: { user: ben } }\n\
        \x20 - { name: unknown, dollars: 1, per: day, for: { model: up/strange } }\n";
    let config = config(&up, more).replace("\"up/*\"", "\"up/m\"");
    let gateway = gateway::start(&config);
    let ask = |user: &str| {
        let mut body = ask("fast");
        body["user"] = user.into();
        body["messages"][0]["content"] = "whole-1".into();
        body
    };
    let refused = chat(gateway.clients, &ask("anna")).await;
    assert_eq!(refused.status, 402, "{}", refused.text());
    let error = refused.error();
    assert_eq!(error["code"], "budget_exceeded");
    let text = error["message"].as_str().unwrap();
    for part in ["budget `anna` of $0.0001 a month", "this request may take $0.00", "it resets at 20"] {
        assert!(text.contains(part), "{text}");
    }
    let refused = chat(gateway.clients, &ask("ben")).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 60, "{refused:?}");
    let body = json!({ "model": "fast", "max_tokens": 2000, "messages": [{ "role": "user", "content": "whole-1" }] });
    let mut request = client::request(Method::POST, "/v1/messages", &body.to_string());
    request.headers_mut().insert("x-tollgate-tags", "team=legal".parse().unwrap());
    let refused = client::open(gateway.clients, request).await.unwrap().rest().await;
    assert_eq!(refused.status, 402, "{}", refused.text());
    assert_eq!(refused.json()["error"]["type"], "billing_error");
    let text = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(text.contains("budget `each-tag` (tag:team=legal) of 1000 tokens in all"), "{text}");
    assert!(text.contains("it does not reset"), "{text}");
    let mut strange = ask("x");
    strange["model"] = "up/strange".into();
    strange["max_tokens"] = 10.into();
    let refused = chat(gateway.clients, &strange).await;
    assert_eq!((refused.status, refused.error()["code"].clone()), (402, json!("price_unknown")));
    assert_eq!(up.heard().len(), 0, "nothing went out");
    assert_eq!(chat(gateway.clients, &ask("carl")).await.status, 200);
}

#[tokio::test]
async fn an_empty_budget_of_one_provider_leads_to_the_next() {
    let (dear, cheap) = (provider(&Meter::default()), provider(&Meter::default()));
    let more = "budgets: [ { name: dear, tokens: 5, per: day, for: { provider: up } } ]\n";
    let config = config(&dear, more)
        .replace("models:\n", &format!("{}models:\n", gateway::provider("down", &cheap.url())))
        .replace("targets: [ up/m ]", "targets: [ up/m ], fallback: [ down/m ]");
    let gateway = gateway::start(&config);
    let reply = play_reply(&gateway, "whole-3").await;
    assert_eq!((reply.status, reply.header("x-tollgate-target")), (200, "down/m"));
    assert_eq!((dear.heard().len(), cheap.heard().len()), (0, 1));
}

async fn play_reply(gateway: &Gateway, text: &str) -> Reply {
    client::open(gateway.clients, named(text, false)).await.unwrap().rest().await
}

#[tokio::test]
async fn answers_are_capped_and_shortened_as_the_budget_says() {
    let up = provider(&Meter::default());
    let more = "budgets: [ { name: all, tokens: 400, per: total, shrink: true, max_tokens: 60 } ]\n";
    let gateway = gateway::start(&config(&up, more));
    let mut open = ask("fast");
    open["messages"][0]["content"] = "whole-1".into();
    assert_eq!(chat(gateway.clients, &open).await.status, 200);
    assert_eq!(up.heard()[0].json()["max_completion_tokens"], 60, "the budget's own limit");
    open["max_tokens"] = 5_000.into();
    let reply = chat(gateway.clients, &open).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let shortened = up.heard()[1].json()["max_tokens"].as_u64().unwrap();
    assert!((16..400).contains(&shortened), "{shortened}");
}

#[tokio::test]
async fn near_the_end_of_a_budget_a_policy_takes_the_cheaper_model() {
    let up = provider(&Meter::default());
    let more = "budgets: [ { name: team, tokens: 1000, per: day } ]\n";
    let config = config(&up, more).replace("fast:", "cheap: { targets: [ up/small ] }\n  fast:");
    let policy = "fn on_request(req) { if budget(\"team\").used_ratio >= 0.025 { route(\"cheap\") } }";
    let gateway = gateway::setup(&config).policy("10-thrift.rhai", policy).start();
    let targets = async || play_reply(&gateway, "whole-0").await.header("x-tollgate-target").to_owned();
    assert_eq!(targets().await, "up/m");
    assert_eq!(targets().await, "up/small", "25 of 1000 tokens are used");
}

#[tokio::test]
async fn what_the_cache_gives_again_stands_in_the_ledger_and_costs_nothing() {
    let up = provider(&Meter::default());
    let gateway = gateway::start(&config(&up, "cache: { ttl: 1h }\n"));
    let mut body = ask("fast");
    body["messages"][0]["content"] = "whole-1".into();
    body["temperature"] = 0.into();
    body["user"] = "anna".into();
    for _ in 0..3 {
        assert_eq!(chat(gateway.clients, &body).await.status, 200);
    }
    // An answer that is given again to its own key is told in the same way.
    for _ in 0..2 {
        let mut request = named("whole-2", false);
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        request.headers_mut().insert("x-tollgate-tags", "feature=search".parse().unwrap());
        assert_eq!(client::open(gateway.clients, request).await.unwrap().rest().await.status, 200);
    }
    assert_eq!(up.heard().len(), 2);
    let all = client::eventually_async("a row for each of them", async || {
        let all = rows(&gateway).await;
        (all.len() >= 5).then_some(all)
    })
    .await;
    let states: Vec<_> = all.iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["settled", "cached", "cached", "settled", "cached"]);
    let (first, second) = (cost((21, 6)), cost((22, 7)));
    assert_eq!((&all[1]["cost"], &all[1]["saved"]), (&json!(0), &json!(first)), "{}", all[1]);
    assert_eq!((&all[4]["saved"], &all[4]["tags"]), (&json!(second), &json!({ "feature": "search" })));
    assert_eq!((&all[2]["user"], &all[2]["target"]), (&json!("anna"), &json!("up/m")));
    let sums = admin(&gateway, "/admin/v1/usage").await["usage"][0].clone();
    assert_eq!((&sums["requests"], &sums["hits"], &sums["attempts"]), (&json!(5), &json!(3), &json!(2)));
    assert_eq!(
        (&sums["cost_nano"], &sums["saved_nano"]),
        (&json!(first + second), &json!(2 * first + second))
    );
}

#[tokio::test]
async fn a_price_that_changes_meanwhile_counts_for_the_next() {
    let up = Upstream::start(|_| {
        let mut acts = acts::stream_open(&acts::events(&["begun"]), usize::MAX);
        acts.push(Act::Pause(Duration::from_millis(800)));
        acts.push(acts::piece(&ending((20, 5))));
        acts.push(Act::Write(b"0\r\n\r\n".to_vec()));
        acts
    });
    let config = config(&up, "");
    let gateway = gateway::start(&config);
    let mut live = client::open(gateway.clients, named("stream-1", true)).await.unwrap();
    live.until("begun").await;
    let dearer = r#"{"models": {"up/m": {"price": {"input": 25, "output": 100}}}}"#;
    let dearer = client::request(Method::POST, "/admin/v1/prices", dearer);
    let pushed = client::open(gateway.admin, dearer).await.unwrap().rest().await;
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    // What is written in the configuration counts more than what is pushed, so it has to change there.
    gateway.save_config(&config.replace("input: 2.5, output: 10", "input: 25, output: 100"));
    client::eventually_async("the reload", async || {
        let shown = admin(&gateway, "/admin/v1/prices?model=up%2Fm").await;
        (shown["pricing"]["input"] == json!(25.0)).then_some(())
    })
    .await;
    assert!(live.rest().await.text().contains("[DONE]"));
    let reply = client::open(gateway.clients, named("stream-2", true)).await.unwrap().rest().await;
    assert_eq!(reply.status, 200);
    let all = rows(&gateway).await;
    let costs: Vec<_> = all.iter().map(|row| row["cost"].as_u64().unwrap()).collect();
    assert_eq!(costs, [cost((20, 5)), 10 * cost((20, 5))]);
    assert_ne!(all[0]["price_rev"], all[1]["price_rev"]);
}

#[tokio::test]
async fn a_request_that_went_out_whole_is_paid_for_and_one_that_did_not_is_free() {
    // It reads the whole request, and hangs up without a word.
    let rude = Upstream::start(|_| vec![Act::Reset]);
    let gateway = gateway::start(&config(&rude, "retries: { max_attempts: 1 }\n"));
    assert_eq!(play_reply(&gateway, "whole-1").await.status, 502);
    let all = rows(&gateway).await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((&all[0]["state"], &all[0]["outcome"]), (&json!("estimated"), &json!("upstream_unreachable")));
    assert!(all[0]["cost"].as_u64() > Some(0), "{}", all[0]);

    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody =
        config(&rude, "retries: { max_attempts: 1 }\n").replace(&rude.url(), &format!("http://{gone}/v1"));
    let gateway = gateway::start(&nobody);
    assert_eq!(play_reply(&gateway, "whole-1").await.status, 502);
    let all = rows(&gateway).await;
    assert_eq!((&all[0]["state"], &all[0]["cost"]), (&json!("free"), &json!(0)), "{}", all[0]);
}

#[tokio::test]
async fn what_was_spent_is_known_after_a_restart_and_usage_tells_it() {
    let meter = Meter::default();
    let up = provider(&meter);
    let state = tempfile::tempdir().unwrap();
    let database = state.path().join("ledger.db");
    let more = "budgets: [ { name: all, dollars: 1, per: month, each: [user] } ]\n";
    let config =
        config(&up, more).replace("sqlite:./data/tollgate.db", &format!("sqlite:{}", database.display()));
    let mut gateway = gateway::start(&config);
    for (number, user) in ["anna", "ben", "anna"].into_iter().enumerate() {
        let mut body = ask("fast");
        body["user"] = user.into();
        body["messages"][0]["content"] = format!("whole-{number}").into();
        assert_eq!(chat(gateway.clients, &body).await.status, 200);
    }
    assert_eq!(rows(&gateway).await.len(), 3);
    let before = admin(&gateway, "/admin/v1/budgets").await;
    gateway.terminate();
    assert!(gateway.ended(Duration::from_secs(10)).is_some_and(|status| status.success()));
    let gateway = gateway::start(&config);
    let after = admin(&gateway, "/admin/v1/budgets").await;
    assert_eq!(after["budgets"][0]["part"], "user=anna");
    assert_eq!(after["budgets"][0]["used"], cost((20, 5)) + cost((22, 7)));
    assert_eq!(before, after);

    let setup = gateway::setup(&config);
    let table = setup.run(&["usage", "--by", "user,model"]);
    assert_eq!(table.code, Some(0), "{table:?}");
    let lines: Vec<Vec<&str>> = table.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["anna", "fast", "2", "2", "0", "42", "0", "12", "0.000225", "0"], "{}", table.out);
    assert_eq!(lines[3][0], "all");
    let sums: Value =
        serde_json::from_str(&setup.run(&["usage", "--by", "day", "--format", "json"]).out).unwrap();
    assert_eq!((sums[0]["requests"].as_u64(), sums[0]["input"].as_u64()), (Some(3), Some(63)));
    let csv = setup.run(&["usage", "--attempts", "--format", "csv", "--only", "user=ben"]).out;
    assert!(csv.lines().count() == 2 && csv.starts_with("id,request,n,role,state"), "{csv}");
    let wrong = setup.run(&["usage", "--by", "usr"]);
    assert!(
        wrong.code == Some(1) && wrong.err.contains("`usr` is nothing to tell usage apart by"),
        "{wrong:?}"
    );
    // A second gateway on the same database does not start.
    let second = gateway::setup(&config).run(&["serve", "--config", "tollgate.yaml"]);
    assert!(second.code == Some(78) && second.err.contains("is in use by another gateway"), "{second:?}");
}

#[tokio::test]
async fn while_the_ledger_cannot_be_written_budgeted_requests_are_refused_and_others_are_booked_later() {
    let up = provider(&Meter::default());
    let more = "budgets: [ { name: anna, dollars: 1, per: day, for: { user: anna } } ]\n";
    let gateway = gateway::start(&config(&up, more));
    let ask = |user: &str| {
        let mut body = ask("fast");
        body["user"] = user.into();
        body["messages"][0]["content"] = format!("whole-{}", user.len()).into();
        body
    };
    assert_eq!(chat(gateway.clients, &ask("anna")).await.status, 200);
    let other = rusqlite::Connection::open(gateway.path("data/tollgate.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let (anna, ben) = (ask("anna"), ask("ben"));
    let (budgeted, free) = tokio::join!(chat(gateway.clients, &anna), chat(gateway.clients, &ben));
    assert_eq!((budgeted.status, budgeted.error()["code"].clone()), (503, json!("ledger_unavailable")));
    assert_eq!(free.status, 200);
    let began = std::time::Instant::now();
    assert_eq!(chat(gateway.clients, &ask("anna")).await.status, 503, "known by now");
    assert!(began.elapsed() < Duration::from_secs(1), "nobody waits for what is known");
    assert_eq!(gateway.metric("tollgate_store_trouble", &[]).await, 1.0);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    client::eventually_async("the ledger to recover", async || {
        (chat(gateway.clients, &ask("anna")).await.status == 200).then_some(())
    })
    .await;
    let rows = rows(&gateway).await;
    let of = |user: &str| rows.iter().filter(|row| row["user"] == user).count();
    assert_eq!(of("ben"), 1, "what went through in the meantime stands there");
    assert!(of("anna") >= 2);
    assert_eq!(purse(&gateway).await.1, 0);
    assert_eq!(admin(&gateway, "/admin/v1/usage").await["ledger"]["lost"], 0);
}

#[tokio::test]
async fn alerts_are_signed_and_sent_until_they_arrive() {
    let up = provider(&Meter::default());
    let calls = Mutex::new(0);
    let hook = Upstream::start(move |_| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        acts::answer(if *calls == 1 { 500 } else { 204 }, &[], "")
    });
    let more = format!(
        "budgets: [ {{ name: all, tokens: 40, per: day, hard: false, projection: false }} ]\n\
         alerts: {{ webhooks: [ {{ url: \"{}\", secret: env:HOOK_KEY }} ] }}\n",
        hook.url().replace("/v1", "/told")
    );
    let gateway = gateway::setup(&config(&up, &more)).env("HOOK_KEY", "0123456789abcdef0123").start();
    assert_eq!(play_reply(&gateway, "whole-0").await.status, 200);
    let heard =
        client::eventually("two deliveries", || (hook.heard().len() >= 2).then(|| hook.heard())).await;
    let told = heard[1].json();
    assert_eq!(
        (&told["event"], &told["percent"], &told["used"]),
        (&json!("budget_threshold"), &json!(50), &json!(25))
    );
    assert_eq!(heard[1].path, "/told");
    let signature = heard[1].header("x-tollgate-signature").unwrap();
    let (time, mac) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"0123456789abcdef0123");
    let mut signed = format!("{time}.").into_bytes();
    signed.extend_from_slice(&heard[1].body);
    let tag: String = ring::hmac::sign(&key, &signed).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(mac, tag);
    assert_eq!(gateway.metric("tollgate_budget_alerts_total", &["all"]).await, 1.0);
}

/// Requests without end until the gateway is killed; says which of them were answered whole.
pub async fn until_killed(setup: Setup, round: usize, for_so_long: Duration) -> Vec<String> {
    let mut gateway = setup.start();
    let to = gateway.clients;
    let clients: Vec<_> = (0..32)
        .map(|client| {
            tokio::spawn(async move {
                let mut answered = Vec::new();
                for number in 0.. {
                    let text = format!(
                        "{}-{round}{client:02}{number:05}",
                        if number % 2 == 0 { "whole" } else { "stream" }
                    );
                    let request = named(&text, number % 2 == 1);
                    let Ok(mut stream) = tokio::net::TcpStream::connect(to).await else { break };
                    let Ok(reply) = exchange(&mut stream, request).await else { break };
                    let ends = if number % 2 == 0 { "\"finish_reason\":\"stop\"" } else { "data: [DONE]" };
                    if !reply.contains(ends) {
                        break;
                    }
                    answered.push(text);
                }
                answered
            })
        })
        .collect();
    tokio::time::sleep(for_so_long).await;
    let pid = gateway.pid().to_string();
    std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    gateway.ended(Duration::from_secs(5));
    let mut answered = Vec::new();
    for client in clients {
        answered.extend(client.await.unwrap());
    }
    answered
}

/// Sends a request on this connection and reads to its end.
async fn exchange(
    stream: &mut tokio::net::TcpStream,
    request: Request<bytes::Bytes>,
) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (head, body) = request.into_parts();
    let mut text = format!(
        "{} {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
        head.method,
        head.uri,
        body.len()
    );
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    stream.write_all(&body).await?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// Answers that are not in the ledger exactly once.
fn unaccounted(database: &std::path::Path, answered: &[String]) -> Vec<String> {
    let db = rusqlite::Connection::open(database).unwrap();
    let mut rows = db.prepare("SELECT count(*) FROM booked WHERE request = ?1").unwrap();
    let count = |text: &String| rows.query_row([text], |row| row.get::<_, i64>(0)).unwrap();
    let mut count = count;
    answered.iter().filter(|text| count(text) != 1).cloned().collect()
}

#[tokio::test]
async fn a_killed_gateway_has_every_answer_that_was_heard_in_its_ledger() {
    let up = provider(&Meter::default());
    let state = tempfile::tempdir().unwrap();
    let database = state.path().join("ledger.db");
    let more = "budgets: [ { name: all, dollars: 100, per: total } ]\n";
    let config =
        config(&up, more).replace("sqlite:./data/tollgate.db", &format!("sqlite:{}", database.display()));
    let mut answered = Vec::new();
    for round in 0..4 {
        let long = Duration::from_millis(150 + 180 * round as u64);
        answered.extend(until_killed(gateway::setup(&config), round, long).await);
    }
    assert!(answered.len() > 20, "{} answers are no proof", answered.len());
    let gateway = gateway::start(&config);
    let rows = rows(&gateway).await;
    assert_eq!(unaccounted(&database, &answered), Vec::<String>::new(), "of {}", answered.len());
    let sum: u64 = rows.iter().filter_map(|row| row["cost"].as_u64()).sum();
    assert_eq!(purse(&gateway).await, (sum, 0), "the budget was rebuilt from the ledger");
    drop(gateway);
    // The proof notices a row that is missing.
    let db = rusqlite::Connection::open(&database).unwrap();
    db.execute("DELETE FROM attempt WHERE request = ?1", [&answered[0]]).unwrap();
    assert_eq!(unaccounted(&database, &answered), [answered[0].clone()]);
}

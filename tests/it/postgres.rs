//! The ledger of all gateways in a real PostgreSQL: it gets every row once, whatever happens in between.

mod generations;
mod server;
mod shared_keys;

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{self, ask, chat};
use crate::gateway::{self, Gateway};
use crate::money::{Meter, admin, config, config_in, lines, named, play, provider, rows, until_killed};
use crate::upstream::Upstream;
pub use server::{Postgres, with_password};

/// Answers of one gateway until `number` of them are there.
async fn ask_for(gateway: &Gateway, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let (status, _) = play(gateway.clients, "whole", number).await;
        assert_eq!(status, 200);
    }
}

/// How the outbox stands.
async fn outbox(gateway: &Gateway) -> Value {
    admin(gateway, "/admin/v1/usage?scope=own").await["ledger"]["outbox"].clone()
}

#[tokio::test]
async fn while_postgres_is_away_requests_go_on_and_every_row_arrives_once_afterwards() {
    let Some(postgres) = Postgres::start() else { return };
    let up = provider(&Meter::default());
    let config = config_in(&postgres.state(", timeout: 500ms"), &up, "");
    let gateway = with_password(gateway::setup(&config)).start();
    ask_for(&gateway, 0..20).await;
    assert_eq!(rows(&gateway).await.len(), 20);

    // It holds the connection and says nothing; then it dies.
    postgres.freeze(true);
    let began = std::time::Instant::now();
    ask_for(&gateway, 20..120).await;
    let frozen = began.elapsed();
    client::eventually_async("the trouble to be told", async || {
        outbox(&gateway).await["trouble"].as_str().map(ToOwned::to_owned)
    })
    .await;
    postgres.freeze(false);
    postgres.kill();
    ask_for(&gateway, 120..160).await;
    assert!(frozen < Duration::from_secs(10), "100 requests took {frozen:?}");
    assert_eq!(gateway.metric("tollgate_outbox_trouble", &[]).await, 1.0);
    let refused = client::get(gateway.admin, "/admin/v1/usage").await;
    assert_eq!(refused.status, 503, "nobody is told another ledger's sums");
    assert!(refused.text().contains("scope=own"), "{}", refused.text());
    assert_eq!(admin(&gateway, "/admin/v1/usage?scope=own").await["usage"][0]["requests"], 160);
    let waiting = outbox(&gateway).await["waiting"].as_u64().unwrap();
    assert!(waiting >= 10, "{waiting} wait");

    postgres.again();
    postgres.ready().await;
    let all = rows(&gateway).await;
    assert_eq!(all.len(), 160);
    assert_eq!(postgres.count("SELECT count(DISTINCT request) FROM tollgate.attempt").await, 160);
    assert_eq!(all, with_name(lines(&gateway, "&scope=own").await, &all[0]["gateway"]), "the same rows");
    client::eventually_async("the outbox to be empty", async || {
        let standing = outbox(&gateway).await;
        (standing["waiting"] == 0 && standing["trouble"].is_null()).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("tollgate_outbox_waiting", &[]).await, 0.0);
}

/// Own rows as the shared ledger has them.
fn with_name(mut rows: Vec<Value>, name: &Value) -> Vec<Value> {
    rows.iter_mut().for_each(|row| row["gateway"] = name.clone());
    rows
}

#[tokio::test]
async fn a_killed_gateway_sends_what_it_had_not_sent_and_nothing_twice() {
    let Some(postgres) = Postgres::start() else { return };
    let up = provider(&Meter::default());
    let state = tempfile::tempdir().unwrap();
    let own = state.path().join("own.db").display().to_string();
    let words = postgres.state("").replace("./data/tollgate.db", &own);
    let config = config_in(&words, &up, "");
    let mut answered = Vec::new();
    for round in 0..4 {
        let long = Duration::from_millis(300 + 450 * round as u64);
        answered.extend(until_killed(with_password(gateway::setup(&config)), round, long).await);
    }
    assert!(answered.len() > 20, "{} answers are no proof", answered.len());
    let gateway = with_password(gateway::setup(&config)).start();
    let all = rows(&gateway).await;
    let mut times: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
    for row in &all {
        *times.entry(row["request"].as_str().unwrap()).or_default() += 1;
    }
    let wrong: Vec<_> = answered.iter().filter(|text| times.get(text.as_str()) != Some(&1)).collect();
    assert!(wrong.is_empty(), "{wrong:?} of {}", answered.len());
    assert!(all.iter().all(|row| row["state"] != "open"));
}

#[tokio::test]
async fn two_gateways_share_one_ledger_and_either_answers_for_both() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = provider(&Meter::default());
    let setup = |name: &str| {
        let config = config_in(&postgres.state(&format!(", gateway: {name}")), &up, "");
        with_password(gateway::setup(&config))
    };
    // Both are first at once, and make the tables.
    let (west, east) = std::thread::scope(|scope| {
        let west = scope.spawn(|| setup("west").start());
        let east = scope.spawn(|| setup("east").start());
        (west.join().unwrap(), east.join().unwrap())
    });
    ask_for(&west, 0..7).await;
    ask_for(&east, 7..12).await;
    let both = client::eventually_async("the rows of both", async || {
        let sums = admin(&west, "/admin/v1/usage?by=gateway").await["usage"].clone();
        let requests: i64 = sums.as_array()?.iter().filter_map(|sum| sum["requests"].as_i64()).sum();
        (requests == 12).then_some(sums)
    })
    .await;
    assert_eq!((&both[0]["gateway"], &both[0]["requests"]), (&json!("west"), &json!(7)), "{both}");
    assert_eq!(admin(&east, "/admin/v1/usage?by=gateway").await["usage"], both, "either says the same");
    assert_eq!(admin(&east, "/admin/v1/usage?scope=own").await["usage"][0]["requests"], 5);
    assert_eq!(postgres.count("SELECT count(*) FROM tollgate.ledger").await, 1);

    let elsewhere = setup("north");
    let table = elsewhere.run(&["usage", "--by", "gateway", "--format", "csv"]);
    assert_eq!(table.code, Some(0), "{table:?}");
    assert!(table.out.contains("\nwest,7,0,7,0,") && table.out.contains("\neast,5,"), "{}", table.out);
    let exported = elsewhere.run(&["usage", "--attempts", "--format", "jsonl", "--only", "gateway=east"]);
    assert_eq!(exported.out.lines().count(), 5, "{exported:?}");
    let by_time = elsewhere.run(&["usage", "--by", "hour,model,tag:none", "--format", "json"]);
    let by_time: Value = serde_json::from_str(&by_time.out).unwrap();
    let hour = by_time[0]["hour"].as_str().unwrap();
    assert!(hour.starts_with("20") && hour.ends_with(":00Z"), "{by_time}");
    let own = elsewhere.run(&["usage", "--own"]);
    assert!(own.code == Some(1) && own.err.contains("tollgate.db"), "it has no file yet: {own:?}");
    postgres.kill();
    let away = elsewhere.run(&["usage"]);
    assert!(away.code == Some(1) && away.err.contains("--own"), "{away:?}");
}

#[tokio::test]
async fn with_more_rows_waiting_than_may_budgeted_requests_are_refused_until_postgres_has_them() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.kill();
    let up = provider(&Meter::default());
    let more = "budgets: [ { name: anna, dollars: 1, per: day, for: { user: anna } } ]\n";
    let config = config_in(&postgres.state(", timeout: 1s, outbox_max: 1000"), &up, more);
    let gateway = with_password(gateway::setup(&config)).start();
    let anna = async || {
        let mut body = ask("fast");
        body["user"] = "anna".into();
        body["messages"][0]["content"] = "whole-1".into();
        chat(gateway.clients, &body).await
    };
    assert_eq!(anna().await.status, 200, "its absence alone refuses nobody");
    let to = gateway.clients;
    let clients = (0..20).map(|client| {
        tokio::spawn(async move {
            for number in 0..51 {
                assert_eq!(play(to, "whole", client * 100 + number).await.0, 200);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let refused = client::eventually_async("the outbox to be full", async || {
        let reply = anna().await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert_eq!((refused.status, refused.error()["code"].clone()), (503, json!("ledger_unavailable")));
    assert_eq!(play(to, "whole", 5_000).await.0, 200, "whom no budget counts goes on");
    postgres.again();
    postgres.ready().await;
    client::eventually_async("anna to be served again", async || (anna().await.status == 200).then_some(()))
        .await;
    let all = rows(&gateway).await;
    assert!(all.len() >= 1_022, "{}", all.len());
    assert_eq!(postgres.count("SELECT count(*) FROM tollgate.attempt").await, all.len() as i64);
}

#[tokio::test]
async fn rows_of_the_time_before_are_sent_too_and_only_once_to_each_ledger() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = provider(&Meter::default());
    let state = tempfile::tempdir().unwrap();
    let own = state.path().join("own.db").display().to_string();
    let alone = config(&up, "").replace("./data/tollgate.db", &own);
    let shared = config_in(&postgres.state("").replace("./data/tollgate.db", &own), &up, "");
    let run = async |config: &str, numbers: std::ops::Range<usize>| {
        let mut gateway = with_password(gateway::setup(config)).start();
        ask_for(&gateway, numbers).await;
        let found = rows(&gateway).await.len();
        gateway.terminate();
        assert!(gateway.ended(Duration::from_secs(15)).is_some_and(|status| status.success()));
        found
    };
    assert_eq!(run(&alone, 0..6).await, 6);
    assert_eq!(run(&shared, 6..8).await, 8, "the six of before as well");
    assert_eq!(run(&alone, 8..9).await, 9);
    assert_eq!(run(&shared, 9..10).await, 10);
    let ids = "SELECT count(DISTINCT id) FROM tollgate.attempt";
    assert_eq!(
        (postgres.count(ids).await, postgres.count("SELECT count(*) FROM tollgate.attempt").await),
        (10, 10)
    );
    // What came from a copy of before is known.
    postgres.run("UPDATE tollgate.ledger SET id = 'another'; DELETE FROM tollgate.attempt WHERE n = 1").await;
    assert_eq!(run(&shared, 10..11).await, 11, "a ledger that was lost is filled again");
}

#[tokio::test]
async fn what_is_settled_last_arrives_before_the_gateway_ends() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = provider(&Meter::default());
    let mut gateway = with_password(gateway::setup(&config_in(&postgres.state(""), &up, ""))).start();
    ask_for(&gateway, 0..30).await;
    gateway.terminate();
    assert!(gateway.ended(Duration::from_secs(15)).is_some_and(|status| status.success()));
    assert_eq!(postgres.count("SELECT count(*) FROM tollgate.attempt").await, 30);
}

#[tokio::test]
async fn old_rows_become_sums_of_their_days_in_both_ledgers() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = provider(&Meter::default());
    let state = tempfile::tempdir().unwrap();
    let own = state.path().join("own.db");
    let words = postgres.state("").replace("./data/tollgate.db", &own.display().to_string());
    let config = config_in(&words.replace("state: {", "state: { keep: 2d,"), &up, "");
    let run = async |numbers: std::ops::Range<usize>| {
        let mut gateway = with_password(gateway::setup(&config)).start();
        ask_for(&gateway, numbers).await;
        client::eventually_async("the rows", async || (outbox(&gateway).await["waiting"] == 0).then_some(()))
            .await;
        gateway.terminate();
        assert!(gateway.ended(Duration::from_secs(15)).is_some_and(|status| status.success()));
    };
    run(0..9).await;
    // Nine days have passed for most of them.
    let past = "opened_ms = opened_ms - 777600000 WHERE request <> 'whole-3'";
    postgres.run(&format!("UPDATE tollgate.attempt SET {past}")).await;
    rusqlite::Connection::open(&own).unwrap().execute(&format!("UPDATE attempt SET {past}"), []).unwrap();
    let gateway = with_password(gateway::setup(&config)).start();
    client::eventually_async("both to be tidied", async || {
        let there = postgres.count("SELECT count(*) FROM tollgate.attempt").await;
        (there == 1 && lines(&gateway, "&scope=own").await.len() == 1).then_some(())
    })
    .await;
    for scope in ["own", "all"] {
        let sums = admin(&gateway, &format!("/admin/v1/usage?by=day,model&scope={scope}")).await;
        let sums = sums["usage"].as_array().unwrap().clone();
        assert_eq!(sums.len(), 2, "{scope}: {sums:?}");
        assert_eq!((&sums[0]["requests"], &sums[1]["requests"]), (&json!(8), &json!(1)), "{scope}");
        let cost: u64 = sums.iter().filter_map(|sum| sum["cost_nano"].as_u64()).sum();
        let expected: u64 = (0..9).map(|n| (20 + n % 7) * 2_500 + (5 + n % 11) * 10_000).sum();
        assert_eq!(cost, expected, "{scope}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_told_and_keeps_nobody_from_starting() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = provider(&Meter::default());
    let told = async |gateway: &Gateway, part: &str| {
        client::eventually_async(part, async || {
            let trouble = outbox(gateway).await["trouble"].as_str().map(ToOwned::to_owned)?;
            trouble.contains(part).then_some(())
        })
        .await;
        ask_for(gateway, 0..2).await;
    };
    let config = config_in(&postgres.state(""), &up, "");
    let gateway = gateway::setup(&config).env("PG_WORD", "not-it").start();
    told(&gateway, "password authentication failed").await;
    drop(gateway);

    let without = gateway::setup(&config).run(&["check"]);
    assert!(without.code != Some(0) && without.err.contains("PG_WORD"), "{without:?}");
    let shown = config.replace("tollgate@", "tollgate:secret@");
    let shown = with_password(gateway::setup(&shown)).run(&["check"]);
    let all = format!("{}{}", shown.out, shown.err);
    assert!(shown.code != Some(0) && all.contains("take the password out of the address"), "{shown:?}");

    postgres
        .run(
            "CREATE SCHEMA tollgate; CREATE TABLE tollgate.step (version INTEGER PRIMARY KEY, \
                  bearable INTEGER NOT NULL, program TEXT NOT NULL, at TIMESTAMPTZ DEFAULT now()); \
                  INSERT INTO tollgate.step VALUES (900, 800, '9.0.0')",
        )
        .await;
    let gateway = with_password(gateway::setup(&config)).start();
    told(&gateway, "newer version of Tollgate").await;
    // Steps that only add something do not lock older gateways out.
    postgres.run("DROP SCHEMA tollgate CASCADE").await;
    rows(&gateway).await;
    postgres
        .run(
            "INSERT INTO tollgate.step VALUES (901, 1, '9.0.0'); \
                  ALTER TABLE tollgate.attempt ADD COLUMN colour TEXT DEFAULT 'red'",
        )
        .await;
    drop(gateway);
    let gateway = with_password(gateway::setup(&config)).start();
    ask_for(&gateway, 5..7).await;
    client::eventually_async("the rows of both", async || {
        (postgres.count("SELECT count(*) FROM tollgate.attempt").await == 4).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_row_that_postgres_refuses_stops_no_other() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = provider(&Meter::default());
    let gateway = with_password(gateway::setup(&config_in(&postgres.state(""), &up, ""))).start();
    ask_for(&gateway, 0..1).await;
    rows(&gateway).await;
    postgres.run("ALTER TABLE tollgate.attempt ADD CHECK (request <> 'whole-3')").await;
    ask_for(&gateway, 1..6).await;
    client::eventually_async("the others", async || {
        (postgres.count("SELECT count(*) FROM tollgate.attempt").await == 5).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("tollgate_outbox_refused_total", &[]).await, 1.0);
    // Texts that PostgreSQL cannot hold arrive without what it cannot hold.
    let mut body = ask("fast");
    body["user"] = "an\0na".into();
    body["messages"][0]["content"] = "whole-9".into();
    assert_eq!(chat(gateway.clients, &body).await.status, 200);
    client::eventually_async("the odd one", async || {
        (postgres.count("SELECT count(*) FROM tollgate.attempt").await == 6).then_some(())
    })
    .await;
    let names = admin(&gateway, "/admin/v1/usage?by=user,tag:x").await;
    assert_eq!(names["usage"].as_array().map(Vec::len), Some(2), "{names}");
}

#[tokio::test]
async fn connections_are_encrypted_and_certificates_are_checked() {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let started = Postgres::with(&["ssl=on"], |data| {
        for (name, text) in [("server.crt", own.cert.pem()), ("server.key", own.signing_key.serialize_pem())]
        {
            let path = data.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            server::give_away(&path);
        }
    });
    let Some(postgres) = started else { return };
    postgres.ready().await;
    let up = provider(&Meter::default());
    let config = config_in(&postgres.state(", roots: roots.pem"), &up, "")
        .replace("/postgres\"", "/postgres?sslmode=verify-full\"");
    let trusting = |pem: String| with_password(gateway::setup(&config)).file("roots.pem", &pem).start();
    let gateway = trusting(other.cert.pem());
    client::eventually_async("the trouble", async || {
        let trouble = outbox(&gateway).await["trouble"].as_str().map(ToOwned::to_owned)?;
        trouble.contains("certificate").then_some(())
    })
    .await;
    drop(gateway);
    let gateway = trusting(own.cert.pem());
    ask_for(&gateway, 0..3).await;
    assert_eq!(rows(&gateway).await.len(), 3);
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE ssl AND application_name = 'tollgate'";
    assert!(postgres.count(encrypted).await > 0);
}

/// Nothing that must not be anywhere is in the database.
#[tokio::test]
async fn neither_keys_nor_texts_are_in_the_shared_ledger() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = Upstream::start(|_| crate::acts::whole(200, &crate::acts::completion("a-secret-answer")));
    let gateway = with_password(gateway::setup(&config_in(&postgres.state(""), &up, ""))).start();
    let reply = client::open(gateway.clients, named("whole-1", false)).await.unwrap().rest().await;
    assert_eq!(reply.status, 200);
    let mut failing = named(&format!("x {}", gateway::CANARY), false);
    failing.headers_mut().insert("x-request-id", "odd".parse().unwrap());
    client::open(gateway.clients, failing).await.unwrap().rest().await;
    rows(&gateway).await;
    let all = "SELECT coalesce(string_agg(attempt::text, ' '), '') FROM tollgate.attempt";
    let client = postgres.ready().await;
    let told = client.query_one(all, &[]).await.unwrap().get::<_, String>(0);
    assert!(told.contains("fast"), "{told}");
    for secret in [gateway::CANARY, gateway::DATABASE_CANARY, "a-secret-answer", "hunter2"] {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused_with_its_encoding() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0").await;
    let up = provider(&Meter::default());
    let config = config_in(&postgres.state("").replace("/postgres\"", "/latin\""), &up, "");
    let gateway = with_password(gateway::setup(&config)).start();
    let told = client::eventually_async("the trouble", async || {
        outbox(&gateway).await["trouble"].as_str().map(ToOwned::to_owned)
    })
    .await;
    assert!(told.contains("the database's encoding is LATIN1"), "{told}");
}

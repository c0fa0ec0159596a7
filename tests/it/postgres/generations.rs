//! Gateways of two versions share one ledger: the older one sends and reads as ever, and sums nothing up that it does not
//! know whole.

use serde_json::json;

use super::{ask_for, outbox};
use crate::client;
use crate::gateway;
use crate::money::{Meter, admin, config_in, provider};
use crate::postgres::{Postgres, with_password};

/// Takes back what the third step added, and those after it, as if only an older gateway had been there.
const AS_BEFORE: &str = "
DELETE FROM tollgate.step WHERE version >= 3;
DROP TABLE tollgate.owned;
ALTER TABLE tollgate.attempt DROP COLUMN app, DROP COLUMN tier, DROP COLUMN cached_audio, DROP COLUMN cached_image,
    DROP COLUMN cache_write_long, DROP COLUMN input_audio, DROP COLUMN input_image, DROP COLUMN output_audio,
    DROP COLUMN output_image, DROP COLUMN searches, DROP COLUMN billed_input, DROP COLUMN billed_output;
ALTER TABLE tollgate.day DROP COLUMN app, DROP COLUMN tier, DROP COLUMN cached_audio, DROP COLUMN cached_image,
    DROP COLUMN cache_write_long, DROP COLUMN input_audio, DROP COLUMN input_image, DROP COLUMN output_audio,
    DROP COLUMN output_image, DROP COLUMN searches, DROP COLUMN billed_input, DROP COLUMN billed_output;";

/// What an older gateway sends: it names the columns that it knows.
const SENT: &str = r#"
INSERT INTO tollgate.attempt (gateway, id, request, n, role, state, outcome, status, run, opened_ms, closed_ms, endpoint,
    key, "user", team, tags, model, provider, target, snapshot, price_rev, reserved, estimate, cost, input, cached_read,
    cache_write, output, reasoning, audio_ms, characters, images, saved)
SELECT 'old', ID, ID, 1, 'primary', 'settled', 'ok', 200, 1, 1700000000000, 1700000000001, 'chat', NULL, 'anna', NULL, '{}',
    'fast', 'up', 'up/m', 's', 1, 9, 8, 1000, 20, 0, 0, 5, 0, 0, 0, 0, 0 ON CONFLICT (id) DO NOTHING"#;

/// The sum of a day that it made of a row before, and would make again.
const SUMMED: &str = r#"
INSERT INTO tollgate.day (day, whose, endpoint, key, "user", team, tags, model, provider, target, requests, hits, attempts,
    failed, unpriced, cost, saved, input, cached_read, cache_write, output, reasoning, audio_ms, characters, images)
VALUES (19675, encode(sha256(convert_to(jsonb_build_array('chat', NULL, 'anna', NULL, '{}', 'fast', 'up', 'up/m')::text,
    'UTF8')), 'hex'), 'chat', '', 'anna', '', '{}', 'fast', 'up', 'up/m', 2, 0, 2, 0, 0, 2000, 0, 40, 0, 0, 10, 0, 0, 0, 0)
ON CONFLICT (day, whose) DO UPDATE SET requests = day.requests + excluded.requests"#;

#[tokio::test]
async fn an_older_gateway_goes_on_beside_a_newer_one_and_loses_none_of_its_columns() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = provider(&Meter::default());
    let setup = || with_password(gateway::setup(&config_in(&postgres.state(", gateway: new"), &up, "")));
    // The newer one makes the tables; then they are as if an older one had, with rows of its own.
    let gateway = setup().start();
    ask_for(&gateway, 0..1).await;
    client::eventually_async("its row", async || (outbox(&gateway).await["shipped"] == 1).then_some(()))
        .await;
    drop(gateway);
    postgres.run(&format!("{AS_BEFORE};{};{SUMMED}", SENT.replace("ID", "'first'"))).await;

    // Another newer one finds them so, and adds its columns. Old rows become sums; these stay those of before.
    let gateway = setup().start();
    ask_for(&gateway, 1..3).await;
    client::eventually_async("the rows of both", async || {
        let sums = admin(&gateway, "/admin/v1/usage?by=app,tier,user").await;
        let of = |tier: &str, user: &str| {
            let all = sums["usage"].as_array()?;
            all.iter().find(|sum| sum["tier"] == tier && sum["user"] == user)?["requests"].as_u64()
        };
        // Two of a sum of before, one that came after it; one of a gateway whose columns were taken away.
        (of("", "anna") == Some(3) && of("", "") == Some(1) && of("standard", "") == Some(2)).then_some(())
    })
    .await;
    assert_eq!(postgres.count("SELECT max(version) FROM tollgate.step").await, 5);
    assert_eq!(postgres.count("SELECT max(bearable) FROM tollgate.step").await, 1, "older ones can go on");

    // The older one sends, and reads.
    let before = admin(&gateway, "/admin/v1/usage").await["usage"][0]["requests"].as_u64();
    postgres.run(&SENT.replace("ID", "'second'").replace("17000000", "19000000")).await;
    let after = admin(&gateway, "/admin/v1/usage").await["usage"][0]["requests"].as_u64();
    assert_eq!(after, before.map(|requests| requests + 1));
    assert!(outbox(&gateway).await["trouble"].is_null());
    // But it cannot make sums in which classes would be missing; its rows stay rows.
    let refused = postgres.ready().await.batch_execute(SUMMED).await.unwrap_err();
    let refused =
        refused.as_db_error().map(|error| (error.code().code().to_owned(), error.message().to_owned()));
    let (code, text) = refused.unwrap();
    assert!(code == "23502" && text.contains("\"app\""), "{code} {text}");
}

#[tokio::test]
async fn both_ledgers_tell_the_days_of_a_zone_alike() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = provider(&Meter::default());
    let state = tempfile::tempdir().unwrap();
    let own = state.path().join("own.db");
    let words = postgres.state("").replace("./data/tollgate.db", &own.display().to_string());
    let mut gateway = with_password(gateway::setup(&config_in(&words, &up, ""))).start();
    ask_for(&gateway, 0..8).await;
    gateway.terminate();
    assert!(gateway.ended(std::time::Duration::from_secs(15)).is_some_and(|status| status.success()));
    // Every seventh hour of some days around the turn of the year.
    let spread = "opened_ms = 1798700000000 + 25200000 * substr(request, 7)::int";
    postgres.run(&format!("UPDATE tollgate.attempt SET {spread}")).await;
    let own = rusqlite::Connection::open(&own).unwrap();
    let changed = own.execute(&format!("UPDATE attempt SET {}", spread.replace("::int", "")), []).unwrap();
    assert_eq!(changed, 8);
    drop(own);
    let gateway = with_password(gateway::setup(&config_in(&words, &up, ""))).start();
    for zone in ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"] {
        let asked = async |scope: &str| {
            let path = format!("/admin/v1/usage?by=hour,day,week,month&zone={zone}&scope={scope}");
            admin(&gateway, &path).await["usage"].clone()
        };
        let (all, own) = (asked("all").await, asked("own").await);
        assert_eq!(all, own, "{zone}");
        assert_eq!(all.as_array().map(Vec::len), Some(8), "{zone}: {all:#}");
        assert!(all[0]["week"] == json!("2026-W53"), "{zone}: {all:#}");
    }
}

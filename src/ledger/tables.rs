//! The tables of the ledger.

use crate::store::SHARED_OWNERS;
use crate::store::postgres::Step;
use crate::store::registry::SHARED_REGISTRY;
use crate::store::sqlite::Migration;

/// The steps by which they came to be.
pub const TABLES: &[Migration] = &[
    Migration { room: "ledger", version: 1, sql: ATTEMPTS },
    Migration { room: "ledger", version: 2, sql: OUTBOX },
    Migration { room: "ledger", version: 3, sql: INTENTS },
    Migration { room: "ledger", version: 4, sql: CLASSES },
    Migration { room: "ledger", version: 5, sql: BILLED },
];

/// One row for every attempt at an upstream; money in nano-dollars, times in Unix milliseconds. `cost` is NULL where
/// something was used that has no price. `day` holds the sums of days whose rows have gone.
const ATTEMPTS: &str = "
CREATE TABLE attempt (
    id TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    n INTEGER NOT NULL,
    role TEXT NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER,
    run INTEGER NOT NULL,
    opened_ms INTEGER NOT NULL,
    closed_ms INTEGER,
    endpoint TEXT NOT NULL,
    key TEXT,
    user TEXT,
    team TEXT,
    tags TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    target TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    price_rev INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    estimate INTEGER,
    cost INTEGER,
    input INTEGER NOT NULL DEFAULT 0,
    cached_read INTEGER NOT NULL DEFAULT 0,
    cache_write INTEGER NOT NULL DEFAULT 0,
    output INTEGER NOT NULL DEFAULT 0,
    reasoning INTEGER NOT NULL DEFAULT 0,
    audio_ms INTEGER NOT NULL DEFAULT 0,
    characters INTEGER NOT NULL DEFAULT 0,
    images INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_opened ON attempt (opened_ms);
CREATE INDEX attempt_open ON attempt (run) WHERE state = 'open';
CREATE TABLE day (
    day INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    key TEXT NOT NULL,
    user TEXT NOT NULL,
    team TEXT NOT NULL,
    tags TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    target TEXT NOT NULL,
    requests INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cached_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    audio_ms INTEGER NOT NULL,
    characters INTEGER NOT NULL,
    images INTEGER NOT NULL,
    PRIMARY KEY (day, endpoint, key, user, team, tags, model, provider, target)
) STRICT, WITHOUT ROWID;
";

/// `outbox` holds the rows that the ledger of all gateways has not got yet, in the order of their ends; `unshippable`
/// those that it refused. `saved` is what an answer would have cost that was known.
const OUTBOX: &str = "
CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE outbox_note (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE unshippable (id TEXT PRIMARY KEY, why TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
ALTER TABLE attempt ADD COLUMN saved INTEGER NOT NULL DEFAULT 0;
ALTER TABLE day ADD COLUMN hits INTEGER NOT NULL DEFAULT 0;
ALTER TABLE day ADD COLUMN saved INTEGER NOT NULL DEFAULT 0;
";

/// `intent` holds what is under way: on each sheet the attempts that began together, a JSON array with one array for each.
/// `booked` is all attempts, whether they have ended or not.
const INTENTS: &str = "
CREATE TABLE intent (sheet INTEGER PRIMARY KEY, attempts TEXT NOT NULL) STRICT;
CREATE VIEW booked AS
SELECT id, request, n, role, state, outcome, status, run, opened_ms, closed_ms, endpoint, key, user, team, tags, model,
    provider, target, snapshot, price_rev, reserved, estimate, cost, input, cached_read, cache_write, output, reasoning,
    audio_ms, characters, images, saved
FROM attempt
UNION ALL
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, 'open', 'open', NULL, value ->> 4, value ->> 5, NULL,
    value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13,
    value ->> 14, value ->> 15, value ->> 16, value ->> 17, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0
FROM intent, json_each(intent.attempts)
WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.id = value ->> 0);
";

/// `app` is whose key it was, `tier` the service that did it: NULL where gateways before did not write them, and in `day`
/// empty. The classes are parts of others: `cached_audio` and `cached_image` of `cached_read`, `cache_write_long` (an hour
/// or more) of `cache_write`, `input_audio` and `input_image` of `input`, `output_audio` and `output_image` of `output`;
/// `searches` is how often the price of a request was charged, where the provider said so.
const CLASSES: &str = "
DROP VIEW booked;
ALTER TABLE attempt ADD COLUMN app TEXT;
ALTER TABLE attempt ADD COLUMN tier TEXT;
ALTER TABLE attempt ADD COLUMN cached_audio INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN cached_image INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN cache_write_long INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN input_audio INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN input_image INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN output_audio INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN output_image INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN searches INTEGER NOT NULL DEFAULT 0;
CREATE VIEW booked AS
SELECT id, request, n, role, state, outcome, status, run, opened_ms, closed_ms, endpoint, key, user, team, tags, model,
    provider, target, snapshot, price_rev, reserved, estimate, cost, input, cached_read, cache_write, output, reasoning,
    audio_ms, characters, images, saved, app, tier, cached_audio, cached_image, cache_write_long, input_audio,
    input_image, output_audio, output_image, searches
FROM attempt
UNION ALL
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, 'open', 'open', NULL, value ->> 4, value ->> 5, NULL,
    value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13,
    value ->> 14, value ->> 15, value ->> 16, value ->> 17, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, value ->> 20, value ->> 21,
    0, 0, 0, 0, 0, 0, 0, 0
FROM intent, json_each(intent.attempts)
WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.id = value ->> 0);
ALTER TABLE day RENAME TO day_before;
CREATE TABLE day (
    day INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    key TEXT NOT NULL,
    user TEXT NOT NULL,
    team TEXT NOT NULL,
    tags TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    target TEXT NOT NULL,
    app TEXT NOT NULL DEFAULT '',
    tier TEXT NOT NULL DEFAULT '',
    requests INTEGER NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    saved INTEGER NOT NULL DEFAULT 0,
    input INTEGER NOT NULL,
    cached_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    audio_ms INTEGER NOT NULL,
    characters INTEGER NOT NULL,
    images INTEGER NOT NULL,
    cached_audio INTEGER NOT NULL DEFAULT 0,
    cached_image INTEGER NOT NULL DEFAULT 0,
    cache_write_long INTEGER NOT NULL DEFAULT 0,
    input_audio INTEGER NOT NULL DEFAULT 0,
    input_image INTEGER NOT NULL DEFAULT 0,
    output_audio INTEGER NOT NULL DEFAULT 0,
    output_image INTEGER NOT NULL DEFAULT 0,
    searches INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, endpoint, key, user, team, tags, model, provider, target, app, tier)
) STRICT, WITHOUT ROWID;
INSERT INTO day (day, endpoint, key, user, team, tags, model, provider, target, requests, hits, attempts, failed,
    unpriced, cost, saved, input, cached_read, cache_write, output, reasoning, audio_ms, characters, images)
SELECT day, endpoint, key, user, team, tags, model, provider, target, requests, hits, attempts, failed,
    unpriced, cost, saved, input, cached_read, cache_write, output, reasoning, audio_ms, characters, images
FROM day_before;
DROP TABLE day_before;
";

/// `billed_input` and `billed_output` are the tokens that the provider charges for, where it says that these are others than
/// those that were read and written; else nothing.
const BILLED: &str = "
DROP VIEW booked;
ALTER TABLE attempt ADD COLUMN billed_input INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN billed_output INTEGER NOT NULL DEFAULT 0;
ALTER TABLE day ADD COLUMN billed_input INTEGER NOT NULL DEFAULT 0;
ALTER TABLE day ADD COLUMN billed_output INTEGER NOT NULL DEFAULT 0;
CREATE VIEW booked AS
SELECT id, request, n, role, state, outcome, status, run, opened_ms, closed_ms, endpoint, key, user, team, tags, model,
    provider, target, snapshot, price_rev, reserved, estimate, cost, input, cached_read, cache_write, output, reasoning,
    audio_ms, characters, images, saved, app, tier, cached_audio, cached_image, cache_write_long, input_audio,
    input_image, output_audio, output_image, searches, billed_input, billed_output
FROM attempt
UNION ALL
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, 'open', 'open', NULL, value ->> 4, value ->> 5, NULL,
    value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13,
    value ->> 14, value ->> 15, value ->> 16, value ->> 17, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, value ->> 20, value ->> 21,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0
FROM intent, json_each(intent.attempts)
WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.id = value ->> 0);
";

/// The steps of the tables that all gateways share. They say the same as those above; a row of `attempt` is there once
/// it has ended, with the name of its gateway.
pub(super) const SHARED: &[Step] = &[
    Step { version: 1, bearable: 1, sql: SHARED_ATTEMPTS },
    SHARED_REGISTRY,
    Step { version: 3, bearable: 1, sql: SHARED_CLASSES },
    Step { version: 4, bearable: 1, sql: SHARED_BILLED },
    SHARED_OWNERS,
];

/// `ledger` has one row: which ledger it is. `day` is keyed by a hash of what its sums are told apart by, because an
/// index takes no long texts.
const SHARED_ATTEMPTS: &str = r#"
CREATE TABLE tollgate.ledger (id TEXT PRIMARY KEY, horizon_ms BIGINT NOT NULL DEFAULT 0);
INSERT INTO tollgate.ledger (id) VALUES (gen_random_uuid()::text);
CREATE TABLE tollgate.attempt (
    id TEXT PRIMARY KEY,
    gateway TEXT NOT NULL,
    request TEXT NOT NULL,
    n BIGINT NOT NULL,
    role TEXT NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status BIGINT,
    run BIGINT NOT NULL,
    opened_ms BIGINT NOT NULL,
    closed_ms BIGINT,
    endpoint TEXT NOT NULL,
    key TEXT,
    "user" TEXT,
    team TEXT,
    tags TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    target TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    price_rev BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    estimate BIGINT,
    cost BIGINT,
    input BIGINT NOT NULL,
    cached_read BIGINT NOT NULL,
    cache_write BIGINT NOT NULL,
    output BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    audio_ms BIGINT NOT NULL,
    characters BIGINT NOT NULL,
    images BIGINT NOT NULL,
    saved BIGINT NOT NULL,
    shipped_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX attempt_opened ON tollgate.attempt (opened_ms);
CREATE TABLE tollgate.day (
    day BIGINT NOT NULL,
    whose TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    key TEXT NOT NULL,
    "user" TEXT NOT NULL,
    team TEXT NOT NULL,
    tags TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    target TEXT NOT NULL,
    requests BIGINT NOT NULL,
    hits BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    unpriced BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    saved BIGINT NOT NULL,
    input BIGINT NOT NULL,
    cached_read BIGINT NOT NULL,
    cache_write BIGINT NOT NULL,
    output BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    audio_ms BIGINT NOT NULL,
    characters BIGINT NOT NULL,
    images BIGINT NOT NULL,
    PRIMARY KEY (day, whose)
);
"#;

/// What [`CLASSES`] says. Gateways before go on sending rows, which get nothing there, and go on reading. They can make no
/// more sums of days, because these would lose what they do not know: `app` has no default, so they are refused, their
/// rows stay rows, and a gateway that knows all columns sums them up.
const SHARED_CLASSES: &str = "
ALTER TABLE tollgate.attempt
    ADD COLUMN app TEXT,
    ADD COLUMN tier TEXT,
    ADD COLUMN cached_audio BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN cached_image BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN cache_write_long BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN input_audio BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN input_image BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN output_audio BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN output_image BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN searches BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tollgate.day
    ADD COLUMN app TEXT NOT NULL DEFAULT '',
    ADD COLUMN tier TEXT NOT NULL DEFAULT '',
    ADD COLUMN cached_audio BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN cached_image BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN cache_write_long BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN input_audio BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN input_image BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN output_audio BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN output_image BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN searches BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tollgate.day ALTER COLUMN app DROP DEFAULT;
";

/// What [`BILLED`] says. As with the classes, gateways before leave sums of days to those that know all columns.
const SHARED_BILLED: &str = "
ALTER TABLE tollgate.attempt
    ADD COLUMN billed_input BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN billed_output BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tollgate.day
    ADD COLUMN billed_input BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN billed_output BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tollgate.day ALTER COLUMN billed_input DROP DEFAULT;
";

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, FixedClock};
    use crate::ledger::Desk;
    use crate::ledger::usage::{By, Question, ROW, sums};
    use crate::store::StateSettings;
    use crate::store::sqlite::Sqlite;

    /// What a gateway before the classes left behind: an attempt that ended, one under way, and the sum of a day.
    const BEFORE: &str = r#"
        INSERT INTO attempt (id, request, n, role, state, outcome, run, opened_ms, closed_ms, endpoint, key, tags, model,
            provider, target, snapshot, price_rev, reserved, cost, input, cache_write, output)
        VALUES ('a', 'r', 1, 'primary', 'settled', 'ok', 1, 86400000, 86400001, 'chat', 'k', '{"x":"y"}', 'fast', 'up',
            'up/m', 's', 1, 9, 700, 10, 4, 5);
        INSERT INTO intent (attempts) VALUES ('[["b", "r2", 1, "primary", 1, 86400002, "chat", null, "anna", null, "{}",
            "fast", "up", "up/m", "s", 1, 9, 8, 30, 12]]');
        INSERT INTO day (day, endpoint, key, user, team, tags, model, provider, target, requests, attempts, failed,
            unpriced, cost, input, cached_read, cache_write, output, reasoning, audio_ms, characters, images, hits, saved)
        VALUES (0, 'chat', 'k', '', '', '{}', 'fast', 'up', 'up/m', 3, 4, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    "#;

    #[test]
    fn a_file_of_a_gateway_before_keeps_all_its_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let before = Sqlite::open(&path, &[&TABLES[..3]], 10).unwrap();
        before.write(|db| db.execute_batch(BEFORE)).wait().unwrap();
        before.close(Duration::from_secs(5));
        drop(before);
        let now = Sqlite::open(&path, &[TABLES], 10).unwrap();
        let asked = |by: &str| {
            let question = Question { until_ms: u64::MAX, by: By::list(by).unwrap(), ..Question::default() };
            now.read_now(|db| sums(db, &question)).unwrap()
        };
        let all = asked("").remove(0);
        let expected =
            [5, 14, 6, 1, 1, 2, 705, 15, 9, 16, 7, 12, 14, 10, 11, 12, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(all.numbers(), expected);
        assert_eq!(asked("app,tier").iter().map(|sum| &sum.of[..]).collect::<Vec<_>>(), [["", ""]]);
        assert_eq!(asked("tag:x").len(), 2);
        let booked = "SELECT name FROM pragma_table_info('booked')";
        let columns = now.read_now(|db| {
            let mut rows = db.prepare(booked)?;
            rows.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
        });
        assert_eq!(columns.unwrap(), ROW, "whoever copies rows names the columns alone");
        // What was under way is closed as ever.
        let clock: Arc<dyn Clock> = Arc::new(FixedClock(86_500_000));
        Desk::open(Some(now.clone()), None, &StateSettings::default(), clock).unwrap();
        let all = asked("").remove(0);
        assert_eq!((all.open, all.input, all.output, all.cost_nano.0), (0, 46, 26, 713));
    }
}

//! The tables of the ledger.

use crate::store::postgres::Step;
use crate::store::registry::SHARED_REGISTRY;
use crate::store::sqlite::Migration;

/// The steps by which they came to be.
pub const TABLES: &[Migration] = &[
    Migration { room: "ledger", version: 1, sql: ATTEMPTS },
    Migration { room: "ledger", version: 2, sql: OUTBOX },
    Migration { room: "ledger", version: 3, sql: INTENTS },
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

/// The steps of the tables that all gateways share. They say the same as those above; a row of `attempt` is there once
/// it has ended, with the name of its gateway.
pub(super) const SHARED: &[Step] = &[Step { version: 1, bearable: 1, sql: SHARED_ATTEMPTS }, SHARED_REGISTRY];

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

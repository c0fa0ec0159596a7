//! The tables of the ledger.

use crate::store::sqlite::Migration;

/// The steps by which they came to be.
pub const TABLES: &[Migration] = &[Migration { room: "ledger", version: 1, sql: ATTEMPTS }];

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

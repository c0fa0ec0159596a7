//! The rows: in the gateway's own database, and in the one that gateways share.

use std::sync::Arc;

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use tokio_postgres::types::Type;

use super::{Claim, Known, Made};
use crate::store::postgres::{Absent, Postgres, Step};
use crate::store::sqlite::Migration;

/// Answers that are remembered at most; those made first go first.
const MOST_ANSWERS: u32 = 1_000_000;
/// Rows that are sent at a time.
const PARCEL: usize = 1_000;

/// The steps of the tables.
pub const OWNERS_TABLES: &[Migration] = &[Migration { room: "owners", version: 1, sql: TABLES }];

/// `until_ms` is when the provider keeps it no longer, `paid_ms` when what it used was booked, `sent` whether PostgreSQL
/// has it.
const TABLES: &str = "
CREATE TABLE owned (
    id TEXT NOT NULL,
    provider TEXT NOT NULL,
    owner TEXT NOT NULL,
    made_ms INTEGER NOT NULL,
    until_ms INTEGER,
    paid_ms INTEGER,
    sent INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (id, provider)
) STRICT, WITHOUT ROWID;
CREATE INDEX owned_unsent ON owned (made_ms) WHERE sent = 0;
CREATE INDEX owned_until ON owned (until_ms) WHERE until_ms IS NOT NULL;
";

/// The step that makes the table which gateways share.
pub const SHARED_OWNERS: Step = Step { version: 5, bearable: 1, sql: SHARED_TABLES };

const SHARED_TABLES: &str = "
CREATE TABLE tollgate.owned (
    id TEXT NOT NULL,
    provider TEXT NOT NULL,
    owner TEXT NOT NULL,
    made_ms BIGINT NOT NULL,
    until_ms BIGINT,
    paid_ms BIGINT,
    PRIMARY KEY (id, provider)
);
CREATE INDEX owned_until ON tollgate.owned (until_ms) WHERE until_ms IS NOT NULL;
";

/// One row on its way.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    id: String,
    provider: String,
    owner: String,
    made_ms: i64,
    until_ms: Option<i64>,
}

fn unfit(error: &tokio_postgres::Error) -> Absent {
    Absent::Unfit(error.to_string())
}

fn number(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

pub(super) fn insert(db: &Connection, made: &Made, now: u64, until: Option<u64>) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO owned (id, provider, owner, made_ms, until_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id, provider) DO UPDATE SET owner = ?3, sent = 0 WHERE owner = '' AND ?3 <> ''",
    )?;
    for id in &made.ids {
        insert.execute(params![id, &made.provider, &made.owner, number(now), until.map(number)])?;
    }
    Ok(())
}

pub(super) fn find(db: &Connection, ids: &[Box<str>]) -> rusqlite::Result<Vec<(Box<str>, Known)>> {
    let mut look = db.prepare_cached("SELECT provider, owner FROM owned WHERE id = ?1")?;
    let mut found = Vec::new();
    for id in ids {
        let rows = look.query_map([id], |row| {
            Ok(Known { provider: row.get::<_, String>(0)?.into(), owner: row.get::<_, String>(1)?.into() })
        })?;
        for known in rows {
            found.push((id.clone(), known?));
        }
    }
    Ok(found)
}

pub(super) fn claim(db: &Connection, provider: &str, id: &str, now: u64) -> rusqlite::Result<Claim> {
    let sql = "UPDATE owned SET paid_ms = ?3 WHERE id = ?1 AND provider = ?2 AND paid_ms IS NULL";
    if db.execute(sql, params![id, provider, number(now)])? > 0 {
        return Ok(Claim::Mine);
    }
    let known = "SELECT 1 FROM owned WHERE id = ?1 AND provider = ?2";
    let known = db.query_row(known, params![id, provider], |_| Ok(())).optional()?;
    Ok(if known.is_some() { Claim::Done } else { Claim::Unknown })
}

pub(super) fn release(db: &Connection, provider: &str, id: &str) -> rusqlite::Result<()> {
    db.execute("UPDATE owned SET paid_ms = NULL WHERE id = ?1 AND provider = ?2", params![id, provider])
        .map(drop)
}

pub(super) fn tidy(db: &Connection, now: u64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM owned WHERE until_ms <= ?1", [number(now)])?;
    let excess = "DELETE FROM owned WHERE until_ms < (SELECT until_ms FROM owned WHERE until_ms IS NOT NULL
        ORDER BY until_ms DESC LIMIT 1 OFFSET ?1)";
    db.execute(excess, [MOST_ANSWERS]).map(drop)
}

/// Rows that PostgreSQL has not got: of these ids, or some of all.
pub(super) fn unsent(db: &Connection, ids: Option<&[Box<str>]>) -> rusqlite::Result<Vec<Row>> {
    let columns = "SELECT id, provider, owner, made_ms, until_ms FROM owned WHERE sent = 0";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Row {
            id: row.get(0)?,
            provider: row.get(1)?,
            owner: row.get(2)?,
            made_ms: row.get(3)?,
            until_ms: row.get(4)?,
        })
    };
    let Some(ids) = ids else {
        let mut look = db.prepare_cached(&format!("{columns} ORDER BY made_ms LIMIT {PARCEL}"))?;
        return look.query_map([], read)?.collect();
    };
    let mut look = db.prepare_cached(&format!("{columns} AND id = ?1"))?;
    let mut found = Vec::new();
    for id in ids {
        for row in look.query_map([Cell::Text(id.to_string())], read)? {
            found.push(row?);
        }
    }
    Ok(found)
}

pub(super) fn sent(db: &Connection, rows: &[Row]) -> rusqlite::Result<()> {
    let mut mark =
        db.prepare_cached("UPDATE owned SET sent = 1 WHERE id = ?1 AND provider = ?2 AND owner = ?3")?;
    for row in rows {
        mark.execute(params![row.id, row.provider, row.owner])?;
    }
    Ok(())
}

pub(super) async fn send(postgres: &Postgres, steps: &[Step], rows: &[Row]) -> Result<(), Absent> {
    let text = serde_json::to_string(rows).map_err(|error| Absent::Refused(error.to_string()))?;
    let session = postgres.prepared(steps).await?;
    let take = "INSERT INTO tollgate.owned AS known (id, provider, owner, made_ms, until_ms)
        SELECT id, provider, owner, made_ms, until_ms FROM jsonb_to_recordset($1::jsonb)
            AS sent (id TEXT, provider TEXT, owner TEXT, made_ms BIGINT, until_ms BIGINT)
        ON CONFLICT (id, provider) DO UPDATE SET owner = excluded.owner WHERE known.owner = ''";
    session.execute(take, &[(&text, Type::TEXT)]).await?;
    postgres.give_back(session);
    Ok(())
}

pub(super) async fn find_shared(
    postgres: &Postgres,
    steps: &[Step],
    ids: &[Box<str>],
) -> Result<Vec<(Box<str>, Known)>, Absent> {
    let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
    let session = postgres.prepared(steps).await?;
    let look = "SELECT id, provider, owner FROM tollgate.owned WHERE id = ANY($1)";
    let rows = session.query(look, &[(&ids, Type::TEXT_ARRAY)]).await?;
    postgres.give_back(session);
    let text =
        |row: &tokio_postgres::Row, at: usize| row.try_get::<_, String>(at).map_err(|error| unfit(&error));
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let (provider, owner): (Arc<str>, Arc<str>) = (text(row, 1)?.into(), text(row, 2)?.into());
        found.push((text(row, 0)?.into(), Known { provider, owner }));
    }
    Ok(found)
}

pub(super) async fn claim_shared(
    postgres: &Postgres,
    steps: &[Step],
    provider: &str,
    id: &str,
    now: u64,
) -> Result<Claim, Absent> {
    let session = postgres.prepared(steps).await?;
    let of: [_; 2] = [(&id as _, Type::TEXT), (&provider as _, Type::TEXT)];
    let now = number(now);
    let claim = "UPDATE tollgate.owned SET paid_ms = $3 WHERE id = $1 AND provider = $2 AND paid_ms IS NULL";
    let [one, two] = of.clone();
    let claimed = session.execute(claim, &[one, two, (&now, Type::INT8)]).await?;
    let known = match claimed {
        0 => session.query("SELECT 1 FROM tollgate.owned WHERE id = $1 AND provider = $2", &of).await?.len(),
        _ => 1,
    };
    postgres.give_back(session);
    Ok(match (claimed, known) {
        (0, 0) => Claim::Unknown,
        (0, _) => Claim::Done,
        _ => Claim::Mine,
    })
}

pub(super) async fn release_shared(
    postgres: &Postgres,
    steps: &[Step],
    provider: &str,
    id: &str,
) -> Result<(), Absent> {
    let session = postgres.prepared(steps).await?;
    let release = "UPDATE tollgate.owned SET paid_ms = NULL WHERE id = $1 AND provider = $2";
    session.execute(release, &[(&id, Type::TEXT), (&provider, Type::TEXT)]).await?;
    postgres.give_back(session);
    Ok(())
}

pub(super) async fn tidy_shared(postgres: &Postgres, steps: &[Step], now: u64) -> Result<(), Absent> {
    let session = postgres.prepared(steps).await?;
    let now = number(now);
    session.execute("DELETE FROM tollgate.owned WHERE until_ms <= $1", &[(&now, Type::INT8)]).await?;
    postgres.give_back(session);
    Ok(())
}

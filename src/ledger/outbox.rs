//! What the ledger of all gateways has not got yet: rows that ended here, in the order of their ends.
//!
//! A row is noted in the transaction that settles it, and struck off when the other side has it for good. In between it
//! may be sent more than once; it is taken once, by its id.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::usage::ROW;

/// How the outbox stands; shared by whoever sends, and by requests, which may have to be refused.
#[derive(Default)]
pub struct Outbox {
    most: u64,
    waiting: AtomicU64,
    oldest_ms: AtomicU64,
    shipped: AtomicU64,
    full: AtomicBool,
    trouble: Mutex<Option<Arc<str>>>,
    closing: AtomicBool,
    pub(super) hurry: Notify,
}

/// How the outbox stands, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OutboxStanding {
    /// Rows that wait to be sent.
    pub waiting: u64,
    /// When the first of them ended, in Unix milliseconds.
    pub oldest_ms: Option<u64>,
    /// Rows that were sent since the start.
    pub shipped: u64,
    /// Why nothing is sent now.
    pub trouble: Option<Arc<str>>,
}

impl Outbox {
    /// More than `most` rows should not wait.
    pub(super) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), ..Self::default() })
    }

    /// Whether more wait than should.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// How it stands.
    pub fn standing(&self) -> OutboxStanding {
        let oldest = self.oldest_ms.load(Ordering::Relaxed);
        OutboxStanding {
            waiting: self.waiting.load(Ordering::Relaxed),
            oldest_ms: Some(oldest).filter(|ms| *ms > 0),
            shipped: self.shipped.load(Ordering::Relaxed),
            trouble: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Whoever sends sends what is left and ends.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.hurry.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn counted(&self, count: &Count, now_ms: u64) {
        self.waiting.store(count.waiting, Ordering::Relaxed);
        self.oldest_ms.store(count.oldest_ms.unwrap_or(0), Ordering::Relaxed);
        let full = count.waiting > self.most;
        if self.full.swap(full, Ordering::Relaxed) != full && full {
            tracing::error!(
                waiting = count.waiting,
                most = self.most,
                "more rows wait for PostgreSQL than should"
            );
        }
        let age = count.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
        metrics::gauge!("tollgate_outbox_waiting").set(count.waiting as f64);
        metrics::gauge!("tollgate_outbox_oldest_seconds").set(age as f64 / 1_000.0);
    }

    pub(super) fn sent(&self, rows: u64) {
        self.shipped.fetch_add(rows, Ordering::Relaxed);
        metrics::counter!("tollgate_outbox_shipped_total").increment(rows);
    }

    pub(super) fn ill(&self, why: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.as_deref().is_none_or(|known| !is_same(known, why)) {
            tracing::warn!(why, "the ledger of all gateways takes nothing; rows wait on this one's disk");
        }
        *trouble = Some(why.into());
        metrics::gauge!("tollgate_outbox_trouble").set(1.0);
    }

    pub(super) fn well(&self) {
        if self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("the ledger of all gateways takes rows again");
        }
        metrics::gauge!("tollgate_outbox_trouble").set(0.0);
    }
}

/// Whether two troubles differ in numbers alone: how long ago a certificate ended makes no other trouble of it.
fn is_same(one: &str, other: &str) -> bool {
    let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    words(one) == words(other)
}

/// How many rows wait, and when the first of them ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) waiting: u64,
    pub(super) oldest_ms: Option<u64>,
}

/// Rows on their way, each an object, and the number of the last one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Parcel {
    pub(super) rows: Vec<Value>,
    pub(super) last: i64,
}

/// Notes that a row has ended.
pub(super) fn note(db: &Connection, id: &str) -> rusqlite::Result<()> {
    // An insert that is ignored would use up a number all the same.
    let sql = "INSERT INTO outbox (id) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE id = ?1)";
    db.prepare_cached(sql)?.execute([id]).map(drop)
}

/// Notes all rows that a dead process left and that were closed now.
pub(super) fn note_abandoned(db: &Connection, closed_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO outbox (id) SELECT id FROM attempt WHERE state = 'abandoned' AND closed_ms = ?1
        AND id NOT IN (SELECT id FROM outbox)";
    db.execute(sql, [closed_ms]).map(drop)
}

/// How many rows wait. Numbers only grow and go from the front, so nobody has to count.
pub(super) fn count(db: &Connection) -> rusqlite::Result<Count> {
    let bounds = "SELECT (SELECT min(seq) FROM outbox), (SELECT max(seq) FROM outbox)";
    let (first, last): (Option<i64>, Option<i64>) =
        db.query_row(bounds, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(Count::default()) };
    let oldest: Option<Option<i64>> = db
        .query_row("SELECT closed_ms FROM outbox JOIN attempt USING (id) WHERE seq = ?1", [first], |row| {
            row.get(0)
        })
        .optional()?;
    let positive = |number: i64| u64::try_from(number).ok();
    Ok(Count {
        waiting: positive(last - first + 1).unwrap_or(0),
        oldest_ms: oldest.flatten().and_then(positive),
    })
}

/// The first rows that wait, at most so many.
pub(super) fn parcel(db: &Connection, most: usize) -> rusqlite::Result<Parcel> {
    let columns = ROW.map(|name| format!("attempt.\"{name}\"")).join(", ");
    let sql = format!(
        "SELECT seq, {columns} FROM outbox LEFT JOIN attempt ON attempt.id = outbox.id ORDER BY seq LIMIT ?1"
    );
    let mut rows = db.prepare_cached(&sql)?;
    let mut found = rows.query([i64::try_from(most).unwrap_or(i64::MAX)])?;
    let mut parcel = Parcel::default();
    while let Some(row) = found.next()? {
        parcel.last = row.get(0)?;
        let mut object = Map::new();
        for (at, name) in ROW.iter().enumerate() {
            let value = match row.get::<_, Cell>(at + 1)? {
                Cell::Integer(number) => number.into(),
                Cell::Text(text) if *name == "tags" => tags(&text).into(),
                Cell::Text(text) => plain(text).into(),
                Cell::Real(_) | Cell::Null | Cell::Blob(_) => Value::Null,
            };
            object.insert((*name).to_owned(), value);
        }
        // A row that is gone was rolled up by hand; nobody can send it any more.
        if !object["id"].is_null() {
            parcel.rows.push(object.into());
        }
    }
    Ok(parcel)
}

/// The other side has all rows up to this number.
pub(super) fn strike(db: &Connection, last: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM outbox WHERE seq <= ?1")?.execute([last]).map(drop)
}

/// The other side refused this row, and would again.
pub(super) fn set_aside(db: &Connection, id: &str, why: &str, now_ms: i64) -> rusqlite::Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO unshippable (id, why, at_ms) VALUES (?1, ?2, ?3)",
        params![id, why, now_ms],
    )
    .map(drop)
}

/// Which ledger has all rows that ended here, or is getting them.
pub(super) fn destination(db: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM outbox_note WHERE name = 'destination'";
    db.query_row(sql, [], |row| row.get(0)).optional()
}

/// Forgets it: rows that end from now on are not noted.
pub(super) fn forget(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM outbox_note", [])?;
    db.execute("DELETE FROM outbox", []).map(drop)
}

/// Another ledger than before gets all rows that are still here; these are the next of them, after that id. Says the
/// last one; nothing when all are noted, and the ledger's name with them.
pub(super) fn refill(
    db: &Connection,
    after: &str,
    since_ms: i64,
    destination: &str,
    most: usize,
) -> rusqlite::Result<Option<String>> {
    let next =
        "SELECT id FROM attempt WHERE id > ?1 AND state <> 'open' AND opened_ms >= ?2 ORDER BY id LIMIT ?3";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let last = format!("SELECT max(id) FROM ({next})");
    let last: Option<String> = db.query_row(&last, params![after, since_ms, most], |row| row.get(0))?;
    let Some(last) = last else {
        let sql = "INSERT OR REPLACE INTO outbox_note (name, value) VALUES ('destination', ?1)";
        return db.execute(sql, [destination]).map(|_| None);
    };
    let note =
        format!("INSERT INTO outbox (id) SELECT id FROM ({next}) WHERE id NOT IN (SELECT id FROM outbox)");
    db.execute(&note, params![after, since_ms, most])?;
    Ok(Some(last))
}

/// PostgreSQL's texts hold no zero bytes.
fn plain(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// Tags as they are, but for zero bytes, which stand escaped in them.
fn tags(text: &str) -> String {
    if !text.contains("\\u0000") {
        return text.to_owned();
    }
    let Ok(Value::Object(tags)) = serde_json::from_str(text) else { return "{}".to_owned() };
    let clean = tags.into_iter().map(|(name, value)| match value {
        Value::String(value) => (plain(name), Value::from(plain(value))),
        other => (plain(name), other),
    });
    Value::Object(clean.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_certificate_is_one_trouble_however_long_ago_it_ended() {
        let expired = |at, ago| {
            format!(
                "PostgreSQL: certificate expired: verification time {at} (UNIX), but it is not valid after \
                 1763718556 ({ago} seconds ago)"
            )
        };
        assert!(is_same(&expired(1_763_804_956_u64, 86_400), &expired(1_763_804_971, 86_415)));
        assert!(!is_same(&expired(1_763_804_956, 86_400), "PostgreSQL: no answer within 10s"));
    }
}

//! What the ledger writes while requests run: that attempts begin, and how they end.
//!
//! An attempt that begins is on the disk before its answer goes out, but nobody needs its row as long as all goes well. So
//! the intents of many attempts stand together on one sheet, a JSON array of arrays; each attempt gets its row when it
//! ends; and a sheet is thrown away when all on it have ended. What still stands on sheets when a process starts was
//! under way when the one before it died.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, params};

use super::outbox;
use super::row::{End, Row, SETTLE};
use super::usage::{ROW, columns};
use crate::store::sqlite::Gathered;

/// Something to be written of an attempt.
pub(super) enum Record {
    /// It begins.
    Intent(Arc<Row>),
    /// It has ended.
    Ended(Arc<Row>, Box<End>),
}

/// Writes down what is gathered.
#[derive(Default)]
pub(super) struct Intents {
    /// Whether rows that end are noted for the ledger of all gateways.
    ships: bool,
    /// How many attempts of a sheet are under way.
    open: HashMap<i64, usize>,
    /// Sheets on which all have ended.
    done: Vec<i64>,
}

impl Intents {
    pub(super) fn new(ships: bool) -> Self {
        Self { ships, ..Self::default() }
    }
}

impl Gathered for Intents {
    type Item = Record;

    fn make(&mut self, db: &Connection, records: &[&Record]) -> rusqlite::Result<()> {
        if !self.done.is_empty() {
            let mut throw = db.prepare_cached("DELETE FROM intent WHERE sheet = ?1")?;
            for sheet in &self.done {
                throw.execute([sheet])?;
            }
        }
        // A try before this one was undone.
        for record in records {
            if let Record::Intent(row) = record {
                row.sheet.store(0, Ordering::Relaxed);
            }
        }
        // Who has ended before his beginning was written needs no beginning.
        let ended = |record: &&Record| match record {
            Record::Ended(row, _) if unwritten(row) => Some(Arc::as_ptr(row)),
            _ => None,
        };
        let ended: HashSet<*const Row> = records.iter().filter_map(ended).collect();
        let begins = records.iter().filter_map(|record| match record {
            Record::Intent(row) if !ended.contains(&Arc::as_ptr(row)) => Some(&**row),
            _ => None,
        });
        let begin: Vec<&Row> = begins.collect();
        if !begin.is_empty() {
            let sheet = serde_json::to_string(&begin)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            let sheet = db.prepare_cached("INSERT INTO intent (attempts) VALUES (?1)")?.insert([sheet])?;
            begin.iter().for_each(|row| row.sheet.store(sheet, Ordering::Relaxed));
        }
        let mut settle = db.prepare_cached(SETTLE)?;
        for record in records {
            if let Record::Ended(row, end) = record
                && row.settle(&mut settle, end)?
                && self.ships
            {
                outbox::note(db, &row.id)?;
            }
        }
        Ok(())
    }

    fn made(&mut self, records: &[&Record]) {
        self.done.clear();
        for record in records {
            if let Record::Intent(row) = record
                && !unwritten(row)
            {
                *self.open.entry(row.sheet.load(Ordering::Relaxed)).or_default() += 1;
            }
        }
        for record in records {
            let Record::Ended(row, _) = record else { continue };
            let sheet = row.sheet.load(Ordering::Relaxed);
            if let Some(left) = self.open.get_mut(&sheet) {
                *left -= 1;
                if *left == 0 {
                    self.open.remove(&sheet);
                    self.done.push(sheet);
                }
            }
        }
    }
}

/// Whether its intent stands on no sheet.
fn unwritten(row: &Row) -> bool {
    row.sheet.load(Ordering::Relaxed) == 0
}

/// Closes what a dead process left open, and says how much that was: charged for what it was estimated at, or free.
pub(super) fn close_abandoned(
    db: &Connection,
    now_ms: i64,
    charge: bool,
    run: i64,
) -> rusqlite::Result<usize> {
    // Gateways before these sheets left open rows.
    let rows = db.execute(
        "UPDATE attempt SET state = 'abandoned', outcome = 'abandoned', closed_ms = ?1,
         cost = CASE WHEN ?2 THEN estimate ELSE 0 END WHERE state = 'open' AND run < ?3",
        params![now_ms, charge, run],
    )?;
    let closed = ROW.map(|name| match name {
        "state" | "outcome" => "'abandoned'".to_owned(),
        "closed_ms" => "?1".to_owned(),
        "cost" => "CASE WHEN ?2 THEN estimate ELSE 0 END".to_owned(),
        name => format!("\"{name}\""),
    });
    let take = format!(
        "INSERT INTO attempt ({}) SELECT {} FROM booked WHERE state = 'open' AND run < ?3",
        columns(),
        closed.join(", ")
    );
    let sheets = db.execute(&take, params![now_ms, charge, run])?;
    if charge {
        // Sheets of gateways before say nothing of tokens.
        db.execute(
            "UPDATE attempt SET input = coalesce(value ->> 18, 0), output = coalesce(value ->> 19, 0)
             FROM intent, json_each(intent.attempts)
             WHERE attempt.id = value ->> 0 AND attempt.state = 'abandoned'",
            [],
        )?;
    }
    db.execute("DELETE FROM intent", [])?;
    Ok(rows + sheets)
}

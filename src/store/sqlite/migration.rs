//! Tables and how they came to be: each room brings its steps, each step is taken once, in order.

use std::collections::HashMap;

use rusqlite::{Connection, TransactionBehavior};

use super::trouble::told;
use crate::clock::{Clock, SystemClock};

/// One step of a room's tables. Steps that were released are never changed; new ones are added.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Whose tables they are.
    pub room: &'static str,
    /// Counts up from 1 within the room.
    pub version: u32,
    /// What is done. Tables are `STRICT`.
    pub sql: &'static str,
}

/// Takes all steps that were not taken yet, in one transaction.
///
/// # Errors
/// When the database has seen a newer version of the program, or a step fails; then nothing is changed.
pub(super) fn run(db: &mut Connection, rooms: &[&[Migration]]) -> Result<(), String> {
    let failed = |error: rusqlite::Error| told(&error);
    let steps = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    steps
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS migration (room TEXT NOT NULL, version INTEGER NOT NULL,
             at_ms INTEGER NOT NULL, PRIMARY KEY (room, version)) STRICT, WITHOUT ROWID",
        )
        .map_err(failed)?;
    let taken = taken(&steps).map_err(failed)?;
    let now = i64::try_from(SystemClock.unix_ms()).unwrap_or(i64::MAX);
    for room in rooms {
        let Some(last) = room.last() else { continue };
        let done = taken.get(last.room).copied().unwrap_or(0);
        if done > last.version {
            return Err(format!(
                "was written by a newer version of Tollgate (tables of `{}`: {done}, known: {}); start that one",
                last.room, last.version
            ));
        }
        for step in room.iter().filter(|step| step.version > done) {
            steps
                .execute_batch(step.sql)
                .and_then(|()| {
                    let note = "INSERT INTO migration (room, version, at_ms) VALUES (?1, ?2, ?3)";
                    steps.execute(note, (step.room, step.version, now))
                })
                .map_err(|error| format!("step {} of `{}`: {}", step.version, step.room, told(&error)))?;
        }
    }
    steps.commit().map_err(failed)
}

/// What is strange about a database in which a room's tables cannot be read: that another version made them, or none.
pub fn strangeness(db: &Connection, room: &[Migration]) -> Option<String> {
    let last = room.last()?;
    let done = taken(db).ok().and_then(|taken| taken.get(last.room).copied());
    let versions = |done: u32| format!("tables of `{}`: {done}, known: {}", last.room, last.version);
    match done {
        None => Some(format!("is no database of Tollgate: it has no tables of `{}`", last.room)),
        Some(done) if done < last.version => Some(format!(
            "was written by an older version of Tollgate ({}); a gateway of this version brings it up to date when it \
             starts: of a backup, name a copy of it as `state.ledger`",
            versions(done)
        )),
        Some(done) if done > last.version => Some(format!(
            "was written by a newer version of Tollgate ({}); ask with that one",
            versions(done)
        )),
        Some(_) => None,
    }
}

fn taken(db: &Connection) -> rusqlite::Result<HashMap<String, u32>> {
    let mut rows = db.prepare("SELECT room, max(version) FROM migration GROUP BY room")?;
    rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

//! A database of one file: one thread writes, many changes at a time; a few connections read.
//!
//! What is handed over is durable when its answer comes: the transaction was synced to the disk. Nobody who hands
//! something over waits for the disk unless he awaits that answer.

mod gathering;
mod job;
mod lock;
mod migration;
mod readers;
#[cfg(test)]
mod tests;
mod trouble;
mod writer;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub use gathering::{Gathered, Gathering};
pub use job::Written;
pub use migration::{Migration, strangeness};
pub use trouble::Trouble;

use crate::clock::{Clock, SystemClock};
use job::Job;
use lock::Lock;
use readers::Readers;
use writer::Writer;

/// Versions before this one may corrupt a database that two connections write (fixed on 2026-03-13,
/// <https://sqlite.org/wal.html#walresetbug>).
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long another process may hold the database before a write is given up.
const BUSY: Duration = Duration::from_secs(5);

/// How long what waits may be written out when nobody needs the database any more.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Table of the processes that had the database open.
const RUNS: &str = "CREATE TABLE IF NOT EXISTS run (
    id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, version TEXT NOT NULL,
    started_ms INTEGER NOT NULL, seen_ms INTEGER NOT NULL, ended_ms INTEGER) STRICT";

/// The database; cheap to clone.
#[derive(Clone)]
pub struct Sqlite(Arc<Inner>);

struct Inner {
    path: PathBuf,
    run: i64,
    unclean: bool,
    writer: Writer,
    readers: Readers,
    /// Held until the process ends, or nobody needs the database any more.
    _lock: Lock,
}

impl Drop for Inner {
    /// Commands that open the database end without a word otherwise, and the next start would take that for a crash.
    fn drop(&mut self) {
        self.writer.close(LAST_PATIENCE);
    }
}

impl Sqlite {
    /// Opens the database, makes it if it is not there, brings its tables up to date, and starts the thread that
    /// writes. `most` changes may wait to be written. Blocks; meant for the start of a process.
    ///
    /// # Errors
    /// When the file cannot be used, is broken, is in use by another gateway, or is of a newer version.
    pub fn open(path: &Path, migrations: &[&[Migration]], most: usize) -> Result<Self, String> {
        let complain = |what: String| format!("`{}`: {what}", path.display());
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(complain(format!("SQLite {} is too old", rusqlite::version())));
        }
        prepare_file(path).map_err(|error| complain(format!("cannot be written: {error}")))?;
        let lock = Lock::take(path).map_err(complain)?;
        let mut db = connect(path).map_err(|error| complain(trouble::told(&error)))?;
        let opened = open_run(&mut db, migrations).map_err(complain)?;
        let (run, unclean) = opened;
        let writer = Writer::start(db, run, most).map_err(|error| complain(error.to_string()))?;
        let (path, readers) = (path.to_owned(), Readers::new(path.to_owned()));
        Ok(Self(Arc::new(Inner { path, run, unclean, writer, readers, _lock: lock })))
    }

    /// Hands over a change. It is made together with others; what it says comes back when it is durable. If the disk
    /// is in trouble, it is given up, and the answer says why. The change may be tried more than once, and sees
    /// nothing of a try that failed.
    pub fn write<T, F>(&self, change: F) -> Written<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (job, written) = Job::new(change, false);
        self.0.writer.push(job);
        written
    }

    /// Hands over a change that must not be lost: while the disk is in trouble, it waits in memory. The answer tells
    /// of the first try.
    pub fn keep<T, F>(&self, change: F) -> Written<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (job, written) = Job::new(change, true);
        self.0.writer.push(job);
        written
    }

    /// A heap for changes of one kind that must not be lost, which are made together; so many may lie there as changes
    /// may wait. Who reads sees all of them that were handed over before a change that is durable.
    pub fn gathering<G: Gathered>(&self, gathered: G) -> Gathering<G> {
        Gathering::new(self.0.writer.clone(), gathered)
    }

    /// Looks something up, on a thread that may block.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read<T, F>(&self, look: F) -> Result<T, Trouble>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.0.readers.read(look).await
    }

    /// Looks something up, here and now. Blocks; not for workers.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn read_now<T>(&self, look: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Trouble> {
        self.0.readers.read_now(look)
    }

    /// What keeps the database from being written, if anything does.
    pub fn trouble(&self) -> Option<Trouble> {
        self.0.writer.trouble()
    }

    /// Changes that wait to be written.
    pub fn waiting(&self) -> usize {
        self.0.writer.waiting()
    }

    /// Kept changes that found no room, since the start.
    pub fn lost(&self) -> u64 {
        self.0.writer.lost()
    }

    /// The number of this process among all that had the database open.
    pub fn run(&self) -> i64 {
        self.0.run
    }

    /// Whether the process before this one ended without closing the database.
    pub fn was_unclean(&self) -> bool {
        self.0.unclean
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Writes out what waits and closes the database; waits at most so long. Blocks.
    pub fn close(&self, patience: Duration) {
        self.0.writer.close(patience);
    }
}

/// Opens a database that a gateway may have open, only to read it.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn look_into(path: &Path) -> Result<Connection, String> {
    readers::connect(path).map_err(|error| format!("`{}`: {}", path.display(), trouble::told(&error)))
}

/// The directory and the file, which others may not read: the database knows who asked what for.
fn prepare_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir)?;
    }
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map(drop)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    // `synchronous=FULL` is what makes an acknowledged change survive a power cut; in groups, it costs nothing.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 67108864; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;",
    )?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// Checks what a crash may have left behind, brings the tables up to date, and notes that this process has the
/// database open. Says the number of this run, and whether the one before ended without a word.
fn open_run(db: &mut Connection, migrations: &[&[Migration]]) -> Result<(i64, bool), String> {
    let told = |error: rusqlite::Error| trouble::told(&error);
    db.execute_batch(RUNS).map_err(told)?;
    let open: i64 = db
        .query_row("SELECT count(*) FROM run WHERE ended_ms IS NULL", [], |row| row.get(0))
        .map_err(told)?;
    if open > 0 {
        let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(told)?;
        if found != "ok" {
            return Err(format!("is broken ({found}); restore it from a copy, or move it aside"));
        }
        tracing::warn!("the database was not closed; it is sound");
    }
    migration::run(db, migrations)?;
    let now = i64::try_from(SystemClock.unix_ms()).unwrap_or(i64::MAX);
    let sql = "INSERT INTO run (pid, version, started_ms, seen_ms) VALUES (?1, ?2, ?3, ?3)";
    db.execute(sql, (std::process::id(), env!("CARGO_PKG_VERSION"), now)).map_err(told)?;
    Ok((db.last_insert_rowid(), open > 0))
}

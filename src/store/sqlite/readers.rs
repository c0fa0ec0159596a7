//! Connections that only read: a few, kept open, used on threads that may block.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::trouble::Trouble;

/// Connections at the same time. Readings are short: a long one would keep the write-ahead log from being reset.
const MOST: usize = 4;

/// The connections of one database.
pub(super) struct Readers {
    shelf: Arc<Shelf>,
    turns: Arc<Semaphore>,
}

struct Shelf {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        let shelf = Arc::new(Shelf { path, idle: Mutex::default() });
        Self { shelf, turns: Arc::new(Semaphore::new(MOST)) }
    }

    pub(super) async fn read<T, F>(&self, look: F) -> Result<T, Trouble>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Trouble::Closed)?;
        let shelf = self.shelf.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let found = shelf.read(look);
            drop(turn);
            found
        });
        looked.await.unwrap_or(Err(Trouble::Closed))
    }

    pub(super) fn read_now<T>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Trouble> {
        self.shelf.read(look)
    }
}

impl Shelf {
    fn read<T>(&self, look: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Trouble> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = match idle {
            Some(db) => db,
            None => connect(&self.path).map_err(|error| Trouble::of(&error))?,
        };
        let found = look(&db).map_err(|error| Trouble::of(&error));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST && !matches!(found, Err(Trouble::Broken(_))) {
            idle.push(db);
        }
        found
    }
}

/// A connection that can change nothing.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(2))?;
    db.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;")?;
    Ok(db)
}

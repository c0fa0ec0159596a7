//! Opens the database that the configuration names, with the tables of every room that keeps something in it.

use super::House;
use crate::ledger;
use crate::store::sqlite::{Migration, Sqlite};

/// The tables of all rooms.
const TABLES: &[&[Migration]] = &[ledger::TABLES];

impl House {
    /// Opens the database; `None` where none is configured. Blocks.
    ///
    /// # Errors
    /// When it cannot be used: the setting, the file, and what is wrong with it.
    pub fn database(&self) -> Result<Option<Sqlite>, String> {
        let state = &self.checked.config.state;
        let complain = |error: String| format!("state.ledger: {error}");
        let Some(path) = state.database().map_err(complain)? else { return Ok(None) };
        Sqlite::open(&path, TABLES, state.spool).map(Some).map_err(complain)
    }
}

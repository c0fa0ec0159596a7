//! What can keep a database from taking something.

use std::fmt;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi;

/// Why something was not written or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The disk is full, or another process holds the database: it may pass.
    Away(Arc<str>),
    /// The database is damaged, or the disk no longer says what it has: only a restart can help.
    Broken(Arc<str>),
    /// More waits already than there is room for.
    Swamped,
    /// The change itself cannot be made: it contradicts what is there.
    Refused(Arc<str>),
    /// The database is closed.
    Closed,
}

impl Trouble {
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        let text: Arc<str> = told(error).into();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Broken(text),
            // What a failed sync has left on the disk is unknown, and asking again says `ok` for what is lost.
            Some(ErrorCode::SystemIoFailure) if is_failed_sync(error) => Self::Broken(text),
            Some(
                ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed,
            ) => Self::Away(text),
            _ => Self::Refused(text),
        }
    }

    /// Whether it is the database that is in trouble, not what it was asked.
    pub(super) fn is_of_the_database(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Broken(_))
    }
}

fn is_failed_sync(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_extended_error_code();
    code.is_some_and(|code| matches!(code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

/// An error in SQLite's own words, without the statement.
pub(super) fn told(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(text)) => format!("{text} ({code})"),
        other => other.to_string(),
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(text) => write!(f, "the database cannot be written now: {text}"),
            Self::Broken(text) => write!(f, "the database is broken: {text}"),
            Self::Swamped => f.write_str("too much waits to be written to the database"),
            Self::Refused(text) => write!(f, "the database refused the change: {text}"),
            Self::Closed => f.write_str("the database is closed"),
        }
    }
}

impl std::error::Error for Trouble {}

//! Keys and audit log in the SQLite database.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row};
use serde_json::Value;

use super::audit::{Anchor, AuditKey, BEGINNING, Entry, Noted};
use super::{Answer, KeyRow, Registry};
use crate::store::sqlite::{Migration, Sqlite};

/// The steps by which the tables came to be.
pub const REGISTRY_TABLES: &[Migration] = &[
    Migration { room: "registry", version: 1, sql: TABLES },
    Migration { room: "registry", version: 2, sql: SETTINGS },
];

/// Times are Unix milliseconds; `secrets` is a list of hashes with the moments at which they end. Entries of the audit
/// log are never changed: the triggers keep honest programs from it, the chain tells of others.
const TABLES: &str = "
CREATE TABLE vkey (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    terms TEXT NOT NULL,
    secrets TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE registry (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_cut BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
";

/// What operators set while a gateway runs; `value` is JSON.
const SETTINGS: &str = "
CREATE TABLE setting (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
";

/// The registry of one database.
#[derive(Clone)]
pub struct SqliteRegistry {
    database: Sqlite,
    key: AuditKey,
    mark: String,
}

impl SqliteRegistry {
    /// Keeps keys in this database and chains its audit log with a key that is made from `pepper`. Blocks; meant for
    /// the start of a process.
    ///
    /// # Errors
    /// When the database cannot be written, or its keys were hashed with another pepper.
    pub fn open(database: Sqlite, pepper: &[u8]) -> Result<Self, String> {
        let mark = blake3::derive_key("tollgate 2026 mark of the pepper", pepper);
        let mark = blake3::Hash::from_bytes(mark).to_hex().to_string();
        let fresh = mark.clone();
        let known = database.write(move |db| {
            db.execute("INSERT OR IGNORE INTO registry VALUES ('pepper', ?1)", [&fresh])?;
            db.query_row("SELECT value FROM registry WHERE name = 'pepper'", [], |row| {
                row.get::<_, String>(0)
            })
        });
        match known.wait() {
            Ok(known) if known == mark => Ok(Self { database, key: AuditKey::of(pepper), mark }),
            Ok(_) => Err("the pepper is not the one that the stored keys were hashed with".into()),
            Err(trouble) => Err(trouble.to_string()),
        }
    }

    /// Whether a pepper was used with this database before. Blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn is_seasoned(database: &Sqlite) -> Result<bool, String> {
        let found = database
            .read_now(|db| db.query_row("SELECT count(*) FROM registry", [], |row| row.get::<_, i64>(0)));
        found.map(|count| count > 0).map_err(|trouble| trouble.to_string())
    }
}

impl SqliteRegistry {
    /// What tells peppers apart without telling what they are.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Which shared database this is a copy of.
    pub(super) fn copied(&self) -> Answer<'_, Option<String>> {
        Box::pin(self.database.read(|db| {
            let of = "SELECT value FROM registry WHERE name = 'copy'";
            db.query_row(of, [], |row| row.get(0)).optional()
        }))
    }

    /// Becomes a copy of `database`: of all its keys, and of its settings of these kinds (kind, name, value).
    pub(super) fn copy(
        &self,
        database: String,
        keys: Vec<KeyRow>,
        kinds: &'static [&'static str],
        settings: Vec<(String, String, Value)>,
    ) -> Answer<'_, ()> {
        Box::pin(self.database.write(move |db| {
            db.execute("INSERT OR REPLACE INTO registry VALUES ('copy', ?1)", [&database])?;
            db.execute("DELETE FROM vkey", [])?;
            for row in &keys {
                keep(db, row)?;
            }
            for kind in kinds {
                db.execute("DELETE FROM setting WHERE kind = ?1", [kind])?;
            }
            for (kind, name, value) in settings.iter().filter(|(kind, ..)| kinds.contains(&&**kind)) {
                let mut set = db.prepare_cached("INSERT OR REPLACE INTO setting VALUES (?1, ?2, ?3)")?;
                set.execute((kind, name, value.to_string()))?;
            }
            Ok(())
        }))
    }

    /// Beside the database.
    fn anchors_path(&self) -> PathBuf {
        let mut name = self.database.path().as_os_str().to_owned();
        name.push(".audit");
        name.into()
    }
}

/// Lines of a number and a hash; what cannot be read is left out.
fn read_anchors(path: &Path) -> Vec<Anchor> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let anchor = |line: &str| {
        let (seq, head) = line.split_once(' ')?;
        Some(Anchor { seq: seq.parse().ok()?, head: head.to_owned() })
    };
    text.lines().filter_map(anchor).collect()
}

fn append_anchor(path: &Path, anchor: &Anchor) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    writeln!(file, "{} {}", anchor.seq, anchor.head)?;
    file.sync_all()
}

impl Registry for SqliteRegistry {
    fn keys(&self) -> Answer<'_, Vec<KeyRow>> {
        Box::pin(self.database.read(|db| {
            let mut rows = db.prepare("SELECT * FROM vkey ORDER BY created_ms, id")?;
            rows.query_map([], key_of)?.collect()
        }))
    }

    fn put(&self, row: KeyRow, entry: Entry) -> Answer<'_, bool> {
        let key = self.key.clone();
        Box::pin(self.database.write(move |db| {
            let known = "SELECT revision FROM vkey WHERE id = ?1";
            let known: Option<u64> =
                db.prepare_cached(known)?.query_row([&row.id], |found| number(found, 0)).optional()?;
            if row.revision != known.unwrap_or(0) + 1 {
                return Ok(false);
            }
            keep(db, &row)?;
            append(db, &key, &entry)?;
            Ok(true)
        }))
    }

    fn note(&self, entry: Entry) -> Answer<'_, ()> {
        let key = self.key.clone();
        Box::pin(self.database.write(move |db| append(db, &key, &entry)))
    }

    fn settings(&self, kind: &'static str) -> Answer<'_, Vec<(String, Value)>> {
        Box::pin(self.database.read(move |db| {
            let mut rows = db.prepare("SELECT name, value FROM setting WHERE kind = ?1 ORDER BY name")?;
            let found = rows.query_map([kind], |row| {
                let text: String = row.get(1)?;
                let value = serde_json::from_str(&text).map_err(|_| rusqlite::Error::InvalidQuery)?;
                Ok((row.get(0)?, value))
            })?;
            found.collect()
        }))
    }

    fn set(
        &self,
        kind: &'static str,
        changes: Vec<(String, Option<Value>)>,
        entry: Option<Entry>,
    ) -> Answer<'_, ()> {
        let key = self.key.clone();
        Box::pin(self.database.write(move |db| {
            for (name, value) in &changes {
                adjust(db, kind, name, value.as_ref())?;
            }
            entry.as_ref().map_or(Ok(()), |entry| append(db, &key, entry))
        }))
    }

    fn exchange(
        &self,
        kind: &'static str,
        name: String,
        (was, becomes): (Option<Value>, Option<Value>),
        entry: Entry,
    ) -> Answer<'_, bool> {
        let key = self.key.clone();
        Box::pin(self.database.write(move |db| {
            let known = "SELECT value FROM setting WHERE kind = ?1 AND name = ?2";
            let known: Option<String> =
                db.prepare_cached(known)?.query_row((kind, &name), |row| row.get(0)).optional()?;
            let known = known.map(|text| serde_json::from_str::<Value>(&text)).transpose();
            if known.map_err(|_| rusqlite::Error::InvalidQuery)? != was {
                return Ok(false);
            }
            adjust(db, kind, &name, becomes.as_ref())?;
            append(db, &key, &entry)?;
            Ok(true)
        }))
    }

    fn anchor(&self) -> Answer<'_, Option<Anchor>> {
        let path = self.anchors_path();
        Box::pin(self.database.read(move |db| {
            let last = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
            let last = db.query_row(last, [], |row| Ok(Anchor { seq: number(row, 0)?, head: row.get(1)? }));
            let Some(last) = last.optional()? else { return Ok(None) };
            if read_anchors(&path).last() == Some(&last) {
                return Ok(None);
            }
            if let Err(error) = append_anchor(&path, &last) {
                tracing::warn!(file = %path.display(), %error, "the end of the audit log is not noted beside the database");
            }
            Ok(Some(last))
        }))
    }

    fn anchors(&self) -> Vec<Anchor> {
        read_anchors(&self.anchors_path())
    }

    fn audit_key(&self) -> &AuditKey {
        &self.key
    }

    fn entries(&self, after: u64, most: usize) -> Answer<'_, Vec<Noted>> {
        Box::pin(self.database.read(move |db| {
            let mut rows = db.prepare("SELECT * FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
            rows.query_map((signed(after), signed(most as u64)), noted)?.collect()
        }))
    }
}

fn keep(db: &Connection, row: &KeyRow) -> rusqlite::Result<()> {
    let secrets = serde_json::to_string(&row.secrets).unwrap_or_default();
    let mut keep = db.prepare_cached("INSERT OR REPLACE INTO vkey VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let (created, revoked, revision) =
        (signed(row.created_ms), row.revoked_ms.map(signed), signed(row.revision));
    keep.execute((&row.id, &row.name, row.terms.to_string(), secrets, created, revoked, revision)).map(drop)
}

/// Sets one of a kind, or takes it away.
fn adjust(db: &Connection, kind: &str, name: &str, value: Option<&Value>) -> rusqlite::Result<()> {
    let changed = match value {
        Some(value) => db.prepare_cached("INSERT OR REPLACE INTO setting VALUES (?1, ?2, ?3)")?.execute((
            kind,
            name,
            value.to_string(),
        )),
        None => db.prepare_cached("DELETE FROM setting WHERE kind = ?1 AND name = ?2")?.execute((kind, name)),
    };
    changed.map(drop)
}

/// Adds an entry to the chain, within the transaction that is open.
fn append(db: &Connection, key: &AuditKey, entry: &Entry) -> rusqlite::Result<()> {
    let last = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
    let last: Option<(u64, String)> =
        db.prepare_cached(last)?.query_row([], |row| Ok((number(row, 0)?, row.get(1)?))).optional()?;
    let (seq, prev) = last.unwrap_or((0, BEGINNING.to_owned()));
    let Noted { seq, at_ms, actor, action, target, detail, prev, hash } = key.chain(seq + 1, prev, entry);
    db.prepare_cached("INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute((signed(seq), signed(at_ms), actor, action, target, detail, prev, hash))
        .map(drop)
}

fn key_of(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    let json = |at: usize| -> rusqlite::Result<_> {
        let text: String = row.get(at)?;
        serde_json::from_str(&text).map_err(|_| rusqlite::Error::InvalidQuery)
    };
    let secrets = serde_json::from_value(json(3)?).map_err(|_| rusqlite::Error::InvalidQuery)?;
    Ok(KeyRow {
        id: row.get(0)?,
        name: row.get(1)?,
        terms: json(2)?,
        secrets,
        created_ms: number(row, 4)?,
        revoked_ms: row.get::<_, Option<i64>>(5)?.map(|ms| ms.try_into().unwrap_or(0)),
        revision: number(row, 6)?,
    })
}

fn noted(row: &Row<'_>) -> rusqlite::Result<Noted> {
    Ok(Noted {
        seq: number(row, 0)?,
        at_ms: number(row, 1)?,
        actor: row.get(2)?,
        action: row.get(3)?,
        target: row.get(4)?,
        detail: row.get(5)?,
        prev: row.get(6)?,
        hash: row.get(7)?,
    })
}

/// The database knows signed numbers alone.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(at)?.try_into().unwrap_or(0))
}

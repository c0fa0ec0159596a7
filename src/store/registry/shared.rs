//! Keys and settings that all gateways share, in PostgreSQL.
//!
//! The database of each gateway has a copy, with which it starts and goes on while PostgreSQL is away; then nothing can be
//! changed. Changes take turns by a number that counts them, which is also how the others notice. Each gateway notes in an
//! audit log of its own what was done at it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::audit::{Anchor, AuditKey, Entry, Noted};
use super::sqlite::SqliteRegistry;
use super::{Answer, KeyRow, Registry};
use crate::store::postgres::{Absent, Postgres, Session, Step};
use crate::store::sqlite::Trouble;

/// The step that makes the tables. Gateways that do not know them have keys of their own.
pub const SHARED_REGISTRY: Step = Step { version: 2, bearable: 1, sql: TABLES };

/// As in the database of one gateway. `registry` has the number of the last change and the mark of the pepper.
const TABLES: &str = "
CREATE TABLE tollgate.registry (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO tollgate.registry VALUES ('change', '0');
CREATE TABLE tollgate.vkey (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    terms TEXT NOT NULL,
    secrets TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    revoked_ms BIGINT,
    revision BIGINT NOT NULL
);
CREATE TABLE tollgate.setting (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);
";

const STANDING: &str = "SELECT (SELECT id FROM tollgate.ledger LIMIT 1),
    (SELECT value FROM tollgate.registry WHERE name = 'pepper'),
    (SELECT value::bigint FROM tollgate.registry WHERE name = 'change')";

/// Whoever has counted his change has the turn until he commits.
const TURN: &str = "UPDATE tollgate.registry SET value = (value::bigint + 1)::text WHERE name = 'change' RETURNING value::bigint";

const SEASON: &str = "INSERT INTO tollgate.registry VALUES ('pepper', $1) ON CONFLICT (name) DO NOTHING";

const KEYS: &str = "SELECT id, name, terms, secrets, created_ms, revoked_ms, revision FROM tollgate.vkey";

const SETTINGS: &str = "SELECT kind, name, value FROM tollgate.setting";

const BRING_KEY: &str =
    "INSERT INTO tollgate.vkey VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";

const PUT_KEY: &str =
    "INSERT INTO tollgate.vkey VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO UPDATE SET
    name = $2, terms = $3, secrets = $4, created_ms = $5, revoked_ms = $6, revision = $7";

const BRING_SETTING: &str =
    "INSERT INTO tollgate.setting VALUES ($1, $2, $3) ON CONFLICT (kind, name) DO NOTHING";

const PUT_SETTING: &str =
    "INSERT INTO tollgate.setting VALUES ($1, $2, $3) ON CONFLICT (kind, name) DO UPDATE SET value = $3";

/// No change was seen yet.
const NONE: i64 = -1;

/// The registry of all gateways, seen from one.
pub struct SharedRegistry {
    own: SqliteRegistry,
    db: Postgres,
    steps: &'static [Step],
    /// Settings of other kinds stay with each gateway.
    kinds: &'static [&'static str],
    /// Which database the copy is of, once that is known.
    joined: Mutex<Option<String>>,
    /// The number of the last change that is in the copy.
    seen: AtomicI64,
    news: AtomicBool,
    /// Whoever brings or changes something does so alone: what was brought is older than what was changed meanwhile.
    alone: tokio::sync::Mutex<()>,
}

impl SharedRegistry {
    /// The registry in this database, which `steps` prepare, with a copy in `own`. Settings of `kinds` are shared.
    pub fn new(
        own: SqliteRegistry,
        db: Postgres,
        steps: &'static [Step],
        kinds: &'static [&'static str],
    ) -> Self {
        let (joined, seen, news) = (Mutex::default(), AtomicI64::new(NONE), AtomicBool::new(false));
        Self { own, db, steps, kinds, joined, seen, news, alone: tokio::sync::Mutex::default() }
    }

    /// Brings the copy up to date.
    async fn bring(&self) -> Result<(), Trouble> {
        let session = self.db.prepared(self.steps).await?;
        let (database, mark, change) = standing(&session).await?;
        self.same_pepper(mark.as_deref())?;
        if mark.is_none() || self.joined().as_ref() != Some(&database) {
            self.join(&session, &database).await?;
        } else if change == self.seen.load(Ordering::Acquire) {
            self.db.give_back(session);
            return Ok(());
        }
        session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let (_, _, change) = standing(&session).await?;
        let keys = session.query(KEYS, &[]).await?;
        let settings = session.query(SETTINGS, &[]).await?;
        session.batch("COMMIT").await?;
        let keys = keys.iter().map(key_of).collect::<Result<Vec<_>, _>>()?;
        let settings = settings.iter().map(setting_of).collect::<Result<Vec<_>, _>>()?;
        self.own.copy(database.clone(), keys, self.kinds, settings).await?;
        self.seen.store(change, Ordering::Release);
        *self.joined() = Some(database);
        self.news.store(true, Ordering::Release);
        self.db.give_back(session);
        Ok(())
    }

    /// Takes there what this gateway had by itself, once for each database.
    async fn join(&self, session: &Session, database: &str) -> Result<(), Trouble> {
        let copied = self.own.copied().await?;
        session.batch("BEGIN").await?;
        session.query(TURN, &[]).await?;
        session.execute(SEASON, &[(&self.own.mark(), Type::TEXT)]).await?;
        // Another gateway may have been faster.
        let (_, mark, _) = standing(session).await?;
        self.same_pepper(mark.as_deref())?;
        if copied.as_deref() != Some(database) {
            for row in self.own.keys().await? {
                put_key(session, BRING_KEY, &row).await?;
            }
            for kind in self.kinds {
                for (name, value) in self.own.settings(kind).await? {
                    put_setting(session, BRING_SETTING, kind, &name, &value).await?;
                }
            }
        }
        Ok(session.batch("COMMIT").await?)
    }

    fn same_pepper(&self, mark: Option<&str>) -> Result<(), Trouble> {
        match mark {
            Some(mark) if mark != self.own.mark() => Err(Trouble::Refused(
                "the gateways that share this PostgreSQL hash keys with another pepper: give all of them the same \
                 `auth.pepper`"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    /// A connection whose turn it is to change something, and the number of the change.
    async fn turn(&self) -> Result<(Session, i64), Trouble> {
        self.bring().await?;
        let session = self.db.prepared(self.steps).await?;
        session.batch("BEGIN").await?;
        let rows = session.query(TURN, &[]).await?;
        let change = cell(rows.first(), 0)?;
        Ok((session, change))
    }

    async fn commit(&self, session: Session, change: i64) -> Result<(), Trouble> {
        if let Err(absent) = session.batch("COMMIT").await {
            // Nobody knows whether it is there: the copy is made anew.
            self.seen.store(NONE, Ordering::Release);
            return Err(absent.into());
        }
        // Where others were in between, the copy lacks their changes.
        let _ = self.seen.compare_exchange(change - 1, change, Ordering::AcqRel, Ordering::Acquire);
        self.db.give_back(session);
        Ok(())
    }

    fn joined(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for SharedRegistry {
    fn keys(&self) -> Answer<'_, Vec<KeyRow>> {
        self.own.keys()
    }

    fn put(&self, row: KeyRow, entry: Entry) -> Answer<'_, bool> {
        Box::pin(async move {
            let _alone = self.alone.lock().await;
            let (session, change) = self.turn().await?;
            let known = "SELECT revision FROM tollgate.vkey WHERE id = $1";
            let known = session.query(known, &[(&row.id, Type::TEXT)]).await?;
            let known: i64 = known.first().map_or(Ok(0), |row| cell(Some(row), 0))?;
            if i64::try_from(row.revision) != Ok(known + 1) {
                // Dropping the connection undoes the turn.
                return Ok(false);
            }
            put_key(&session, PUT_KEY, &row).await?;
            // Here first: a note of what was not done in the end is better than what was done without a note.
            if !self.own.put(row, entry).await? {
                self.seen.store(NONE, Ordering::Release);
                return Ok(false);
            }
            self.commit(session, change).await?;
            Ok(true)
        })
    }

    fn note(&self, entry: Entry) -> Answer<'_, ()> {
        self.own.note(entry)
    }

    fn settings(&self, kind: &'static str) -> Answer<'_, Vec<(String, Value)>> {
        self.own.settings(kind)
    }

    fn set(
        &self,
        kind: &'static str,
        changes: Vec<(String, Option<Value>)>,
        entry: Option<Entry>,
    ) -> Answer<'_, ()> {
        if !self.kinds.contains(&kind) {
            return self.own.set(kind, changes, entry);
        }
        Box::pin(async move {
            let _alone = self.alone.lock().await;
            let (session, change) = self.turn().await?;
            for (name, value) in &changes {
                adjust(&session, kind, name, value.as_ref()).await?;
            }
            self.own.set(kind, changes, entry).await?;
            self.commit(session, change).await
        })
    }

    fn exchange(
        &self,
        kind: &'static str,
        name: String,
        (was, becomes): (Option<Value>, Option<Value>),
        entry: Entry,
    ) -> Answer<'_, bool> {
        if !self.kinds.contains(&kind) {
            return self.own.exchange(kind, name, (was, becomes), entry);
        }
        Box::pin(async move {
            let _alone = self.alone.lock().await;
            let (session, change) = self.turn().await?;
            let known = "SELECT value FROM tollgate.setting WHERE kind = $1 AND name = $2";
            let known = session.query(known, &[(&kind, Type::TEXT), (&name, Type::TEXT)]).await?;
            let known = known.first().map(|row| json(&cell::<String>(Some(row), 0)?)).transpose()?;
            if known != was {
                // Dropping the connection undoes the turn.
                return Ok(false);
            }
            adjust(&session, kind, &name, becomes.as_ref()).await?;
            if !self.own.exchange(kind, name, (was, becomes), entry).await? {
                self.seen.store(NONE, Ordering::Release);
                return Ok(false);
            }
            self.commit(session, change).await?;
            Ok(true)
        })
    }

    fn entries(&self, after: u64, most: usize) -> Answer<'_, Vec<Noted>> {
        self.own.entries(after, most)
    }

    fn anchor(&self) -> Answer<'_, Option<Anchor>> {
        self.own.anchor()
    }

    fn anchors(&self) -> Vec<Anchor> {
        self.own.anchors()
    }

    fn audit_key(&self) -> &AuditKey {
        self.own.audit_key()
    }

    fn pull(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let _alone = self.alone.lock().await;
            self.bring().await
        })
    }

    fn news(&self) -> bool {
        self.news.swap(false, Ordering::AcqRel)
    }
}

impl From<Absent> for Trouble {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::Refused(_) => Self::Refused(absent.to_string().into()),
            Absent::Away(_) | Absent::Unfit(_) => Self::Away(absent.to_string().into()),
        }
    }
}

/// Which database it is, the mark of its pepper, the number of its last change.
async fn standing(session: &Session) -> Result<(String, Option<String>, i64), Trouble> {
    let rows = session.query(STANDING, &[]).await?;
    Ok((cell(rows.first(), 0)?, cell(rows.first(), 1)?, cell(rows.first(), 2)?))
}

async fn put_key(session: &Session, sql: &str, row: &KeyRow) -> Result<(), Trouble> {
    let secrets = serde_json::to_string(&row.secrets).unwrap_or_default();
    let terms = row.terms.to_string();
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (created, revoked, revision) =
        (signed(row.created_ms), row.revoked_ms.map(signed), signed(row.revision));
    session
        .execute(
            sql,
            &[
                (&row.id, Type::TEXT),
                (&row.name, Type::TEXT),
                (&terms, Type::TEXT),
                (&secrets, Type::TEXT),
                (&created, Type::INT8),
                (&revoked, Type::INT8),
                (&revision, Type::INT8),
            ],
        )
        .await?;
    Ok(())
}

/// Sets one of a kind, or takes it away.
async fn adjust(session: &Session, kind: &str, name: &str, value: Option<&Value>) -> Result<(), Trouble> {
    if let Some(value) = value {
        return put_setting(session, PUT_SETTING, kind, name, value).await;
    }
    let delete = "DELETE FROM tollgate.setting WHERE kind = $1 AND name = $2";
    session.execute(delete, &[(&kind, Type::TEXT), (&name, Type::TEXT)]).await?;
    Ok(())
}

async fn put_setting(
    session: &Session,
    sql: &str,
    kind: &str,
    name: &str,
    value: &Value,
) -> Result<(), Trouble> {
    let value = value.to_string();
    session.execute(sql, &[(&kind, Type::TEXT), (&name, Type::TEXT), (&value, Type::TEXT)]).await?;
    Ok(())
}

fn key_of(row: &Row) -> Result<KeyRow, Trouble> {
    let number = |at| Ok::<_, Trouble>(u64::try_from(cell::<i64>(Some(row), at)?).unwrap_or(0));
    Ok(KeyRow {
        id: cell(Some(row), 0)?,
        name: cell(Some(row), 1)?,
        terms: json(&cell::<String>(Some(row), 2)?)?,
        secrets: serde_json::from_value(json(&cell::<String>(Some(row), 3)?)?).map_err(unreadable)?,
        created_ms: number(4)?,
        revoked_ms: cell::<Option<i64>>(Some(row), 5)?.map(|ms| u64::try_from(ms).unwrap_or(0)),
        revision: number(6)?,
    })
}

fn setting_of(row: &Row) -> Result<(String, String, Value), Trouble> {
    Ok((cell(Some(row), 0)?, cell(Some(row), 1)?, json(&cell::<String>(Some(row), 2)?)?))
}

fn json(text: &str) -> Result<Value, Trouble> {
    serde_json::from_str(text).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Trouble {
    Trouble::Away(format!("PostgreSQL: keys or settings cannot be read: {error}").into())
}

fn cell<'r, T: FromSql<'r>>(row: Option<&'r Row>, at: usize) -> Result<T, Trouble> {
    let row = row.ok_or_else(|| Trouble::Away("PostgreSQL: a table is empty that never is".into()))?;
    row.try_get(at).map_err(|error| Trouble::Away(format!("PostgreSQL: {error}").into()))
}

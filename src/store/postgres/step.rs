//! How the tables came to be, so that gateways of different versions can share them.

use tokio_postgres::types::Type;

use super::{Absent, Parameter, Postgres, Session};

/// One step. Steps that were released are never changed; new ones are added.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Counts up from 1.
    pub version: i32,
    /// Programs whose last step is this one or a later one can go on once this step was taken. A step that only adds
    /// what older programs need not know leaves it as it was.
    pub bearable: i32,
    /// What is done.
    pub sql: &'static str,
}

/// Whoever holds it brings the tables up to date; the number means nothing, but no other program takes it.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7813604421155437)";

/// Asked before anything is made, because most often all is there.
const IS_THERE: &str = "SELECT to_regclass('tollgate.step') IS NOT NULL";

/// Making a schema needs a right that the user may not have where somebody else made it for him.
const FIRST: &str =
    "DO $$ BEGIN IF to_regnamespace('tollgate') IS NULL THEN CREATE SCHEMA tollgate; END IF; END $$;
CREATE TABLE IF NOT EXISTS tollgate.step (
    version INTEGER PRIMARY KEY, bearable INTEGER NOT NULL, program TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL DEFAULT now())";

const STATE: &str = "SELECT coalesce(max(version), 0), coalesce(max(bearable), 0) FROM tollgate.step";

impl Postgres {
    /// A connection to a database with all tables of these steps. Steps that are missing are taken, by one gateway at a
    /// time, in one transaction.
    ///
    /// # Errors
    /// When the database is away, a step fails, or the tables are too new for this program.
    pub async fn prepared(&self, steps: &[Step]) -> Result<Session, Absent> {
        let session = self.session().await?;
        let there = session.query(IS_THERE, &[]).await?;
        let there = there.first().is_some_and(|row| row.try_get(0).unwrap_or(false));
        if there && missing(&session, steps).await?.is_empty() {
            return Ok(session);
        }
        // Whatever fails in between closes the connection, and undoes all of it.
        session.batch("BEGIN").await?;
        session.batch(LOCK).await?;
        if !there {
            session.batch(FIRST).await?;
        }
        // Another gateway may have been faster.
        for step in missing(&session, steps).await? {
            session.batch(step.sql).await.map_err(|absent| at_step(step.version, absent))?;
            let program = env!("CARGO_PKG_VERSION");
            let note = "INSERT INTO tollgate.step (version, bearable, program) VALUES ($1, $2, $3)";
            let values: [Parameter<'_>; 3] =
                [(&step.version, Type::INT4), (&step.bearable, Type::INT4), (&program, Type::TEXT)];
            session.execute(note, &values).await?;
        }
        session.batch("COMMIT").await?;
        Ok(session)
    }
}

fn at_step(version: i32, absent: Absent) -> Absent {
    match absent {
        Absent::Away(text) => Absent::Away(format!("step {version} of the tables: {text}")),
        other => other,
    }
}

/// The steps that were not taken yet.
async fn missing<'s>(session: &Session, steps: &'s [Step]) -> Result<Vec<&'s Step>, Absent> {
    let rows = session.query(STATE, &[]).await?;
    let number = |at: usize| rows.first().and_then(|row| row.try_get::<_, i32>(at).ok()).unwrap_or(0);
    let (taken, bearable) = (number(0), number(1));
    let known = steps.iter().map(|step| step.version).max().unwrap_or(0);
    if known < bearable {
        return Err(Absent::Unfit(format!(
            "its tables were made by a newer version of Tollgate (step {taken}, known: {known}); upgrade this gateway"
        )));
    }
    Ok(steps.iter().filter(|step| step.version > taken).collect())
}

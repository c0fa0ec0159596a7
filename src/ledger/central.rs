//! The ledger of all gateways, in PostgreSQL: it takes the rows of each, once, and answers what all of them used.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};

use super::retention::{ADD, SUMMED, SUMS};
use super::tables::SHARED;
use super::usage::{Dialect, NUMBERS, OPENED, Question, ROW, Statement, Sum, Term, WORDS, columns};
use crate::store::postgres::{Absent, Parameter, Postgres, Session, Step};

/// An hour's rows are rolled up at a time, so that nobody waits long for it.
const HOUR_MS: i64 = 3_600_000;
/// A day of UTC.
const DAY_MS: i64 = 24 * HOUR_MS;
/// How long questions and upkeep may take, at least.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for what administrators change.
const SHARED_CALLS: Duration = Duration::from_secs(5);
/// Single attempts that are fetched at a time.
const PAGE: usize = 2_000;

/// The ledger of all gateways; cheap to clone.
#[derive(Clone)]
pub struct Central {
    db: Postgres,
    /// The same, for questions, which may take longer than rows that are sent.
    asked: Postgres,
    gateway: Arc<str>,
    take: Arc<str>,
}

/// Which ledger it is, and before when its rows have become sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) horizon_ms: i64,
}

impl Central {
    /// The ledger in this database; `gateway` is how this one is called there.
    pub fn new(db: Postgres, gateway: &str) -> Self {
        let columns = columns();
        let kinds = ROW
            .map(|name| format!("\"{name}\" {}", if WORDS.contains(&name) { "TEXT" } else { "BIGINT" }))
            .join(", ");
        let take = format!(
            "INSERT INTO tollgate.attempt (gateway, {columns})
             SELECT $2, {columns} FROM jsonb_to_recordset($1::jsonb) AS sent ({kinds})
             ON CONFLICT (id) DO NOTHING"
        );
        let asked = db.patient(PATIENCE);
        Self { db, asked, gateway: gateway.into(), take: take.into() }
    }

    /// The database, with the steps that make all its tables, for those who share something else in it.
    pub fn database(&self) -> (Postgres, &'static [Step]) {
        (self.db.patient(SHARED_CALLS), SHARED)
    }

    /// A connection to it, with all its tables.
    ///
    /// # Errors
    /// When the database is away, or none that this program can use.
    pub(super) async fn session(&self) -> Result<Session, Absent> {
        self.db.prepared(SHARED).await
    }

    /// Which ledger it is.
    pub(super) async fn identity(&self, session: &Session) -> Result<Identity, Absent> {
        let rows = session.query("SELECT id, horizon_ms FROM tollgate.ledger LIMIT 1", &[]).await?;
        let row = rows.first().ok_or_else(|| Absent::Unfit("its table `ledger` is empty".to_owned()))?;
        let id = row.try_get(0).map_err(|error| Absent::Unfit(error.to_string()))?;
        let horizon_ms = row.try_get(1).map_err(|error| Absent::Unfit(error.to_string()))?;
        Ok(Identity { id, horizon_ms })
    }

    /// Takes rows; those that it has already change nothing. All of them or none.
    pub(super) async fn take(&self, session: &Session, rows: &[Value]) -> Result<(), Absent> {
        let text = serde_json::to_string(rows).map_err(|error| Absent::Refused(error.to_string()))?;
        let gateway = &*self.gateway;
        session.execute(&self.take, &[(&text, Type::TEXT), (&gateway, Type::TEXT)]).await.map(drop)
    }

    /// The sums that were asked for, over all gateways.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn sums(&self, question: &Question) -> Result<Vec<Sum>, Absent> {
        let statement = Statement::sums(question, Dialect::Postgres);
        let session = self.asked.prepared(SHARED).await?;
        let rows = session.query(&statement.sql, &parameters(&statement.terms)).await?;
        self.asked.give_back(session);
        let named = question.by.len();
        let unfit = |error: tokio_postgres::Error| Absent::Unfit(error.to_string());
        rows.iter()
            .map(|row| {
                let of = (0..named).map(|at| row.try_get::<_, String>(at)).collect::<Result<_, _>>();
                let mut numbers = [0; NUMBERS.len()];
                for (at, number) in numbers.iter_mut().enumerate() {
                    *number = row.try_get(named + at).map_err(unfit)?;
                }
                Ok(Sum::of(of.map_err(unfit)?, numbers))
            })
            .collect()
    }

    /// Names of the keys that gateways share, by their ids.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn names(&self) -> Result<Vec<(Arc<str>, Arc<str>)>, Absent> {
        let session = self.asked.prepared(SHARED).await?;
        let rows = session.query("SELECT id, name FROM tollgate.vkey", &[]).await?;
        self.asked.give_back(session);
        let text = |row: &tokio_postgres::Row, at: usize| {
            row.try_get::<_, String>(at).map(Arc::from).map_err(|error| Absent::Unfit(error.to_string()))
        };
        rows.iter().map(|row| Ok((text(row, 0)?, text(row, 1)?))).collect()
    }

    /// Shows single attempts of all gateways, in the order of their beginning, to `visit`, at most `most`; says how many
    /// there were. They are fetched page by page.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn attempts(
        &self,
        question: &Question,
        most: usize,
        mut visit: impl FnMut(&[String], &[Value]),
    ) -> Result<usize, Absent> {
        let names: Vec<String> = ROW.iter().copied().chain(["gateway"]).map(Into::into).collect();
        let session = self.asked.prepared(SHARED).await?;
        let mut statement = Statement::attempts(question, PAGE.min(most), Dialect::Postgres);
        let mut count = 0;
        loop {
            let rows = session.query(&statement.sql, &parameters(&statement.terms)).await?;
            let mut last = None;
            for row in &rows {
                let cells = cells(row).map_err(|error| Absent::Unfit(error.to_string()))?;
                visit(&names, &cells);
                last =
                    Some((cells[OPENED].as_i64().unwrap_or(0), cells[0].as_str().unwrap_or("").to_owned()));
                count += 1;
            }
            let Some((at, id)) = last.filter(|_| rows.len() == PAGE && count < most) else { break };
            let left = PAGE.min(most - count);
            statement = Statement::attempts_after(question, Some((at, id)), left, Dialect::Postgres);
        }
        self.asked.give_back(session);
        Ok(count)
    }

    /// Turns rows that are older than `keep` into sums of their days, an hour's at a time. Says how many went. Of
    /// several gateways that try at once, one does it.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn tidy(&self, now_ms: u64, keep: Duration) -> Result<u64, Absent> {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let before = i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_sub(keep) / DAY_MS * DAY_MS;
        let session = self.asked.prepared(SHARED).await?;
        // One statement, so that a row that comes meanwhile is neither summed nor gone.
        let roll_up = format!(
            "WITH gone AS (DELETE FROM tollgate.attempt WHERE opened_ms >= $1 AND opened_ms < $2 RETURNING *),
             sums AS (SELECT opened_ms / 86400000, encode(sha256(convert_to(jsonb_build_array(endpoint, key, \"user\",
                 team, tags, model, provider, target, app, tier)::text, 'UTF8')), 'hex'), {SUMS}
                 FROM gone GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
             added AS (INSERT INTO tollgate.day AS day (day, whose, {SUMMED}) SELECT * FROM sums
                 ON CONFLICT (day, whose) DO UPDATE SET {ADD})
             SELECT count(*) FROM gone"
        );
        let oldest = "SELECT min(opened_ms) FROM tollgate.attempt WHERE opened_ms < $1";
        let mut all = 0;
        loop {
            let rows = session.query(oldest, &[(&before, Type::INT8)]).await?;
            let oldest = rows.first().and_then(|row| row.try_get::<_, Option<i64>>(0).ok().flatten());
            let Some(oldest) = oldest else { break };
            session.batch("BEGIN").await?;
            let lock = session.query("SELECT pg_try_advisory_xact_lock(7813604421155438)", &[]).await?;
            if !lock.first().is_some_and(|row| row.try_get(0).unwrap_or(false)) {
                session.batch("ROLLBACK").await?;
                break;
            }
            let since = oldest / HOUR_MS * HOUR_MS;
            let until = (since + HOUR_MS).min(before);
            let horizon = "UPDATE tollgate.ledger SET horizon_ms = greatest(horizon_ms, $1)";
            session.execute(horizon, &[(&until, Type::INT8)]).await?;
            let span: [Parameter<'_>; 2] = [(&since, Type::INT8), (&until, Type::INT8)];
            let gone = session.query(&roll_up, &span).await?;
            session.batch("COMMIT").await?;
            let gone = gone.first().and_then(|row| row.try_get::<_, i64>(0).ok()).unwrap_or(0);
            all += u64::try_from(gone).unwrap_or(0);
        }
        self.asked.give_back(session);
        Ok(all)
    }
}

fn parameters(terms: &[Term]) -> Vec<Parameter<'_>> {
    let parameter = |term: &'_ Term| match term {
        Term::Number(_) => Type::INT8,
        Term::Text(_) => Type::TEXT,
    };
    terms
        .iter()
        .map(|term| {
            let kind = parameter(term);
            let value: &(dyn ToSql + Sync) = match term {
                Term::Number(number) => number,
                Term::Text(text) => text,
            };
            (value, kind)
        })
        .collect()
}

fn cells(row: &tokio_postgres::Row) -> Result<Vec<Value>, tokio_postgres::Error> {
    let word = |at: usize| row.try_get::<_, Option<String>>(at);
    ROW.iter()
        .enumerate()
        .map(|(at, name)| match *name {
            "tags" => word(at)
                .map(|text| text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null)),
            name if WORDS.contains(&name) => word(at).map(Value::from),
            _ => row.try_get::<_, Option<i64>>(at).map(Value::from),
        })
        .chain([word(ROW.len()).map(Value::from)])
        .collect()
}

//! Questions as statements of SQL, for either database. Everything that somebody wrote is a parameter.

use std::fmt::Write as _;

use super::{By, NUMBERS, Question};

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ledger) enum Dialect {
    /// The gateway's own database.
    Sqlite,
    /// That of all gateways.
    Postgres,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ledger) enum Term {
    Number(i64),
    Text(String),
}

/// A statement with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ledger) struct Statement {
    pub(in crate::ledger) sql: String,
    pub(in crate::ledger) terms: Vec<Term>,
}

/// What the row of an attempt says, in the order of its table.
pub(in crate::ledger) const ROW: [&str; 32] = [
    "id",
    "request",
    "n",
    "role",
    "state",
    "outcome",
    "status",
    "run",
    "opened_ms",
    "closed_ms",
    "endpoint",
    "key",
    "user",
    "team",
    "tags",
    "model",
    "provider",
    "target",
    "snapshot",
    "price_rev",
    "reserved",
    "estimate",
    "cost",
    "input",
    "cached_read",
    "cache_write",
    "output",
    "reasoning",
    "audio_ms",
    "characters",
    "images",
    "saved",
];

/// Where it says when its attempt began.
pub(in crate::ledger) const OPENED: usize = 8;

/// Its columns as SQL names them.
pub(in crate::ledger) fn columns() -> String {
    ROW.map(|name| format!("\"{name}\"")).join(", ")
}

/// Those of its columns that are words.
pub(in crate::ledger) const WORDS: [&str; 14] = [
    "id", "request", "role", "state", "outcome", "endpoint", "key", "user", "team", "tags", "model",
    "provider", "target", "snapshot",
];

/// Rows of single attempts, and the sums of days whose rows have gone, side by side.
const SPENT: &str = r#"WITH spent AS (
    SELECT opened_ms AS at, endpoint, coalesce(key, '') AS key, coalesce("user", '') AS "user",
        coalesce(team, '') AS team, tags, model, provider, target, state, outcome, role, GATEWAY AS gateway,
        CASE WHEN n = 1 THEN 1 ELSE 0 END AS requests,
        CASE WHEN state = 'cached' THEN 1 ELSE 0 END AS hits,
        CASE WHEN state = 'cached' THEN 0 ELSE 1 END AS attempts,
        CASE WHEN outcome IN ('ok', 'open') THEN 0 ELSE 1 END AS failed,
        CASE WHEN state = 'open' THEN 1 ELSE 0 END AS open,
        CASE WHEN cost IS NULL AND state <> 'open' THEN 1 ELSE 0 END AS unpriced,
        coalesce(cost, 0) AS cost_nano, saved AS saved_nano,
        CASE WHEN state = 'open' THEN reserved ELSE 0 END AS reserved_nano,
        input, cached_read, cache_write, output, reasoning, audio_ms, characters, images
    FROM ATTEMPT WHERE opened_ms >= ?1 AND opened_ms < ?2
    UNION ALL
    SELECT day * 86400000, endpoint, key, "user", team, tags, model, provider, target, 'settled', '', '', '',
        requests, hits, attempts, failed, 0, unpriced, cost, saved, 0,
        input, cached_read, cache_write, output, reasoning, audio_ms, characters, images
    FROM DAY WHERE day * 86400000 >= ?1 AND day * 86400000 < ?2) "#;

impl Dialect {
    /// A statement with the names of this dialect. Words in capitals stand for what they do not share.
    pub(in crate::ledger) fn said(self, sql: &str) -> String {
        match self {
            Self::Sqlite => sql.replace("GATEWAY", "''").replace("ATTEMPT", "booked").replace("DAY", "day"),
            Self::Postgres => sql
                .replace("GATEWAY", "gateway")
                .replace("ATTEMPT", "tollgate.attempt")
                .replace("DAY", "tollgate.day")
                .replace('?', "$"),
        }
    }

    fn time(self, unit: &str) -> String {
        let (sqlite, postgres) = match unit {
            "hour" => ("%Y-%m-%dT%H:00Z", "YYYY-MM-DD\"T\"HH24:00\"Z\""),
            "month" => ("%Y-%m", "YYYY-MM"),
            _ => ("%Y-%m-%d", "YYYY-MM-DD"),
        };
        match self {
            Self::Sqlite => format!("strftime('{sqlite}', at / 1000, 'unixepoch')"),
            Self::Postgres => format!("to_char(to_timestamp(at / 1000) AT TIME ZONE 'UTC', '{postgres}')"),
        }
    }
}

impl By {
    /// The expression for it.
    fn sql(&self, dialect: Dialect, terms: &mut Vec<Term>) -> String {
        match self {
            Self::Column(name) => format!("\"{name}\""),
            Self::Time(unit) => dialect.time(unit),
            Self::Tag(name) => match dialect {
                Dialect::Sqlite => {
                    terms.push(Term::Text(format!("$.\"{name}\"")));
                    format!("coalesce(json_extract(tags, ?{}), '')", terms.len())
                }
                Dialect::Postgres => {
                    terms.push(Term::Text(name.clone()));
                    format!("coalesce(tags::jsonb ->> ?{}, '')", terms.len())
                }
            },
        }
    }
}

impl Statement {
    /// Asks for sums.
    pub(in crate::ledger) fn sums(question: &Question, dialect: Dialect) -> Self {
        let mut terms = beginning(question);
        let by: Vec<String> = question.by.iter().map(|by| by.sql(dialect, &mut terms)).collect();
        let conditions = conditions(question, dialect, &mut terms);
        // Sums of PostgreSQL have no end; these fit.
        let numbers = NUMBERS.map(|name| format!("CAST(coalesce(sum({name}), 0) AS BIGINT)")).join(", ");
        let mut sql = SPENT.to_owned() + "SELECT ";
        // Writing to a String cannot fail.
        for expression in &by {
            let _ = write!(sql, "{expression}, ");
        }
        let _ = write!(sql, "{numbers} FROM spent{conditions}");
        if !by.is_empty() {
            let places: Vec<String> = (1..=by.len()).map(|place| place.to_string()).collect();
            let _ = write!(sql, " GROUP BY {}", places.join(", "));
            let time = question.by.iter().position(|by| matches!(by, By::Time(_)));
            let cost = NUMBERS.iter().position(|name| *name == "cost_nano").unwrap_or(0);
            let cost = by.len() + cost + 1;
            let order = match time {
                Some(time) => format!("{}, {cost} DESC", time + 1),
                None => format!("{cost} DESC"),
            };
            let _ = write!(sql, " ORDER BY {order}, {}", places.join(", "));
        }
        Self { sql: dialect.said(&sql), terms }
    }

    /// Asks for single attempts, at most so many, in the order of their beginning.
    pub(in crate::ledger) fn attempts(question: &Question, most: usize, dialect: Dialect) -> Self {
        Self::attempts_after(question, None, most, dialect)
    }

    /// The same, after the one that began at this time and has this id.
    pub(in crate::ledger) fn attempts_after(
        question: &Question,
        after: Option<(i64, String)>,
        most: usize,
        dialect: Dialect,
    ) -> Self {
        Self::page(question, after, most, dialect, "ATTEMPT WHERE")
    }

    /// Asks for single attempts in the gateway's own database that are under way, or for those that are not: apart, so
    /// that the many are read in the order in which they stand there.
    pub(in crate::ledger) fn own_attempts(question: &Question, most: usize, open: bool) -> Self {
        let from = if open { "booked WHERE state = 'open' AND" } else { "attempt WHERE state <> 'open' AND" };
        Self::page(question, None, most, Dialect::Sqlite, from)
    }

    fn page(
        question: &Question,
        after: Option<(i64, String)>,
        most: usize,
        dialect: Dialect,
        from: &str,
    ) -> Self {
        let mut terms = beginning(question);
        let mut conditions = conditions(question, dialect, &mut terms);
        if let Some((at, id)) = after {
            terms.extend([Term::Number(at), Term::Text(id)]);
            let word = if conditions.is_empty() { " WHERE" } else { " AND" };
            // Writing to a String cannot fail.
            let _ = write!(conditions, "{word} (at, id) > (?{}, ?{})", terms.len() - 1, terms.len());
        }
        terms.push(Term::Number(i64::try_from(most).unwrap_or(i64::MAX)));
        let columns = columns();
        let also = if dialect == Dialect::Postgres { ", gateway" } else { "" };
        let sql = format!(
            "SELECT {columns}{also} FROM (SELECT {columns}, GATEWAY AS gateway, opened_ms AS at FROM {from}
             opened_ms >= ?1 AND opened_ms < ?2) AS found{conditions} ORDER BY at, id LIMIT ?{}",
            terms.len()
        );
        Self { sql: dialect.said(&sql), terms }
    }
}

fn beginning(question: &Question) -> Vec<Term> {
    let whole = |ms: u64| Term::Number(i64::try_from(ms).unwrap_or(i64::MAX));
    vec![whole(question.since_ms), whole(question.until_ms)]
}

fn conditions(question: &Question, dialect: Dialect, terms: &mut Vec<Term>) -> String {
    let mut sql = String::new();
    for (at, (by, words)) in question.only.iter().enumerate() {
        let expression = by.sql(dialect, terms);
        let places: Vec<String> = (1..=words.len()).map(|n| format!("?{}", terms.len() + n)).collect();
        terms.extend(words.iter().cloned().map(Term::Text));
        let word = if at == 0 { " WHERE" } else { " AND" };
        let _ = write!(sql, "{word} {expression} IN ({})", places.join(", "));
    }
    sql
}

//! Questions as statements of SQL, for either database. Everything that somebody wrote is a parameter.

use std::fmt::Write as _;

use super::calendar::ahead;
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
pub(in crate::ledger) const ROW: [&str; 44] = [
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
    "app",
    "tier",
    "cached_audio",
    "cached_image",
    "cache_write_long",
    "input_audio",
    "input_image",
    "output_audio",
    "output_image",
    "searches",
    "billed_input",
    "billed_output",
];

/// Where it says when its attempt began.
pub(in crate::ledger) const OPENED: usize = 8;

/// Its columns as SQL names them.
pub(in crate::ledger) fn columns() -> String {
    ROW.map(|name| format!("\"{name}\"")).join(", ")
}

/// Those of its columns that are words.
pub(in crate::ledger) const WORDS: [&str; 16] = [
    "id", "request", "role", "state", "outcome", "endpoint", "key", "user", "team", "tags", "model",
    "provider", "target", "snapshot", "app", "tier",
];

/// Rows of single attempts, and the sums of days whose rows have gone, side by side.
const SPENT: &str = r#"WITH spent AS (
    SELECT opened_ms AS at, opened_ms AS middle, endpoint, coalesce(key, '') AS key, coalesce("user", '') AS "user",
        coalesce(team, '') AS team, tags, model, provider, target, coalesce(app, '') AS app,
        coalesce(tier, '') AS tier, state, outcome, role, GATEWAY AS gateway,
        CASE WHEN n = 1 THEN 1 ELSE 0 END AS requests,
        CASE WHEN state = 'cached' THEN 1 ELSE 0 END AS hits,
        CASE WHEN state = 'cached' THEN 0 ELSE 1 END AS attempts,
        CASE WHEN outcome IN ('ok', 'open', 'unread') THEN 0 ELSE 1 END AS failed,
        CASE WHEN state = 'open' THEN 1 ELSE 0 END AS open,
        CASE WHEN cost IS NULL AND state <> 'open' THEN 1 ELSE 0 END AS unpriced,
        coalesce(cost, 0) AS cost_nano, saved AS saved_nano,
        CASE WHEN state = 'open' THEN reserved ELSE 0 END AS reserved_nano,
        input, cached_read, cache_write, output, reasoning, audio_ms, characters, images, cached_audio, cached_image,
        cache_write_long, input_audio, input_image, output_audio, output_image, searches,
        billed_input, billed_output
    FROM ATTEMPT WHERE opened_ms >= ?1 AND opened_ms < ?2
    UNION ALL
    SELECT day * 86400000, day * 86400000 + 43200000, endpoint, key, "user", team, tags, model, provider, target, app,
        tier, 'settled', '', '', '',
        requests, hits, attempts, failed, 0, unpriced, cost, saved, 0,
        input, cached_read, cache_write, output, reasoning, audio_ms, characters, images, cached_audio, cached_image,
        cache_write_long, input_audio, input_image, output_audio, output_image, searches,
        billed_input, billed_output
    FROM DAY WHERE day * 86400000 + 43200000 >= ?1 AND day * 86400000 + 43200000 < ?2) "#;

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

    /// The hour, day, week (ISO 8601) or month of an attempt, as text.
    fn time(self, unit: &str, question: &Question) -> String {
        let (sqlite, postgres) = match unit {
            "hour" => ("%Y-%m-%dT%H:00Z", "YYYY-MM-DD\"T\"HH24:00\"Z\""),
            "week" => ("%G-W%V", "IYYY-\"W\"IW"),
            "month" => ("%Y-%m", "YYYY-MM"),
            _ => ("%Y-%m-%d", "YYYY-MM-DD"),
        };
        let seconds = match (&question.zone, unit) {
            (_, "hour") => "at / 1000".to_owned(),
            (None, _) => "middle / 1000".to_owned(),
            (Some(zone), _) => {
                format!("(middle / 1000 + {})", ahead(zone, question.since_ms, question.until_ms, "middle"))
            }
        };
        match self {
            Self::Sqlite => format!("strftime('{sqlite}', {seconds}, 'unixepoch')"),
            Self::Postgres => format!("to_char(to_timestamp({seconds}) AT TIME ZONE 'UTC', '{postgres}')"),
        }
    }
}

impl By {
    /// The expression for it.
    fn sql(&self, question: &Question, dialect: Dialect, terms: &mut Vec<Term>) -> String {
        match self {
            Self::Column(name) => format!("\"{name}\""),
            Self::Time(unit) => dialect.time(unit, question),
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
        let by: Vec<String> = question.by.iter().map(|by| by.sql(question, dialect, &mut terms)).collect();
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
            "SELECT {columns}{also} FROM (SELECT {columns}, GATEWAY AS gateway, opened_ms AS at, opened_ms AS middle
             FROM {from}
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
        let expression = by.sql(question, dialect, terms);
        let places: Vec<String> = (1..=words.len()).map(|n| format!("?{}", terms.len() + n)).collect();
        terms.extend(words.iter().cloned().map(Term::Text));
        let word = if at == 0 { " WHERE" } else { " AND" };
        let _ = write!(sql, "{word} {expression} IN ({})", places.join(", "));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::TABLES;
    use crate::ledger::usage::{Question, sums, zone};
    use crate::store::sqlite::Sqlite;

    /// Attempts around the turn of a year, and the sum of a day of UTC.
    const ROWS: &str = "
        INSERT INTO attempt (id, request, n, role, state, outcome, run, opened_ms, closed_ms, endpoint, tags, model,
            provider, target, snapshot, price_rev, reserved, cost)
        SELECT value, value, 1, 'primary', 'settled', 'ok', 1, unixepoch(value) * 1000, 1, 'chat', '{}', 'm', 'up', 'up/m',
            's', 1, 0, 1
        FROM json_each('[\"2026-12-31T23:30:00Z\", \"2027-01-03T23:30:00Z\", \"2027-03-28T00:30:00Z\"]');
        INSERT INTO day (day, endpoint, key, user, team, tags, model, provider, target, requests, attempts, failed,
            unpriced, cost, input, cached_read, cache_write, output, reasoning, audio_ms, characters, images)
        VALUES (unixepoch('2026-11-22') / 86400, 'chat', '', '', '', '{}', 'm', 'up', 'up/m', 1, 1, 0, 0, 1, 0, 0, 0, 0, 0,
            0, 0, 0)";

    #[test]
    fn days_weeks_and_months_begin_where_the_zone_says() {
        let dir = tempfile::tempdir().unwrap();
        let database = Sqlite::open(&dir.path().join("t.db"), &[TABLES], 10).unwrap();
        database.write(|db| db.execute_batch(ROWS)).wait().unwrap();
        let asked = |question: &Question| {
            let sums = database.read_now(|db| sums(db, question)).unwrap();
            sums.into_iter().map(|sum| (sum.of.join(" "), sum.requests)).collect::<Vec<_>>()
        };
        for (unit, name, expected) in [
            ("day", None, ["2026-11-22", "2026-12-31", "2027-01-03", "2027-03-28"]),
            ("day", Some("Europe/Berlin"), ["2026-11-22", "2027-01-01", "2027-01-04", "2027-03-28"]),
            ("day", Some("America/New_York"), ["2026-11-22", "2026-12-31", "2027-01-03", "2027-03-27"]),
            // Most of that day of UTC is the next one there.
            ("day", Some("Pacific/Kiritimati"), ["2026-11-23", "2027-01-01", "2027-01-04", "2027-03-28"]),
            ("week", None, ["2026-W47", "2026-W53", "2026-W53", "2027-W12"]),
            ("week", Some("Europe/Berlin"), ["2026-W47", "2026-W53", "2027-W01", "2027-W12"]),
            ("month", None, ["2026-11", "2026-12", "2027-01", "2027-03"]),
            ("month", Some("Europe/Berlin"), ["2026-11", "2027-01", "2027-01", "2027-03"]),
            (
                "hour",
                Some("Europe/Berlin"),
                ["2026-11-22T00:00Z", "2026-12-31T23:00Z", "2027-01-03T23:00Z", "2027-03-28T00:00Z"],
            ),
        ] {
            let zone = name.map(|name| zone(name).unwrap());
            let by = By::list(unit).unwrap();
            let mut question = Question { until_ms: u64::MAX, zone, by, ..Question::default() };
            let mut counted: Vec<(String, u64)> = Vec::new();
            for word in expected {
                match counted.last_mut() {
                    Some((last, times)) if last == word => *times += 1,
                    _ => counted.push((word.to_owned(), 1)),
                }
            }
            assert_eq!(asked(&question), counted, "{unit} in {name:?}");
            question.filter(&format!("{unit}={}", expected[3])).unwrap();
            assert_eq!(asked(&question), counted[counted.len() - 1..], "{unit} in {name:?}, one of them");
        }
    }

    #[test]
    fn the_sum_of_a_day_counts_in_the_days_that_hold_its_middle() {
        let dir = tempfile::tempdir().unwrap();
        let database = Sqlite::open(&dir.path().join("t.db"), &[TABLES], 10).unwrap();
        database.write(|db| db.execute_batch(ROWS)).wait().unwrap();
        let new_york = zone("America/New_York").unwrap();
        let midnight = |day: &str| crate::clock::moment_in(&new_york, day, 0).unwrap();
        for (since, until, expected) in [
            ("2026-11-21", "2026-11-22", 0),
            ("2026-11-22", "2026-11-23", 1),
            ("2026-11-23", "2026-11-24", 0),
        ] {
            let (since_ms, until_ms) = (midnight(since), midnight(until));
            let question = Question { since_ms, until_ms, ..Question::default() };
            let sums = database.read_now(|db| sums(db, &question)).unwrap();
            assert_eq!(sums[0].requests, expected, "from {since} to {until}");
        }
    }
}

//! What was used and spent: sums by any dimension and period, and single rows, read from the ledger's database.

use std::fmt::Write as _;

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, Row, params_from_iter};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::money::Nano;

/// By what sums are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A column of the ledger, by its name.
    Column(&'static str),
    /// A tag of this name.
    Tag(String),
    /// The hour, day or month in which an attempt began, UTC.
    Time(&'static str),
}

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// From when on, in Unix milliseconds.
    pub since_ms: u64,
    /// Until when; this moment is not part of it.
    pub until_ms: u64,
    /// By what sums are told apart; one sum, where nothing is named.
    pub by: Vec<By>,
    /// What must hold.
    pub only: Vec<(By, String)>,
}

/// What was used and spent, for one combination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// The values of what it was asked by, in that order.
    #[serde(skip)]
    pub of: Vec<String>,
    /// Requests that got as far as an upstream.
    pub requests: u64,
    /// Attempts at upstreams.
    pub attempts: u64,
    /// Attempts that failed or were left.
    pub failed: u64,
    /// Attempts under way.
    pub open: u64,
    /// Attempts whose cost nobody knows.
    pub unpriced: u64,
    /// What they cost.
    pub cost_nano: Nano,
    /// What is held for those under way.
    pub reserved_nano: Nano,
    /// Tokens of prompts, without those below.
    pub input: u64,
    /// Tokens of prompts that came out of a cache.
    pub cached_read: u64,
    /// Tokens of prompts that went into a cache.
    pub cache_write: u64,
    /// Tokens of answers.
    pub output: u64,
    /// Those of them that were reasoning.
    pub reasoning: u64,
    /// Milliseconds of sound.
    pub audio_ms: u64,
    /// Characters that were spoken.
    pub characters: u64,
    /// Pictures.
    pub images: u64,
}

/// Columns by which sums can be told apart.
const COLUMNS: [&str; 10] =
    ["key", "user", "team", "model", "provider", "target", "endpoint", "state", "outcome", "role"];

/// The names of the numbers of a sum, in their order.
pub const NUMBERS: [&str; 15] = [
    "requests",
    "attempts",
    "failed",
    "open",
    "unpriced",
    "cost_nano",
    "reserved_nano",
    "input",
    "cached_read",
    "cache_write",
    "output",
    "reasoning",
    "audio_ms",
    "characters",
    "images",
];

/// Rows of single attempts, and the sums of days whose rows have gone, side by side.
const SPENT: &str = "WITH spent AS (
    SELECT opened_ms AS at, endpoint, coalesce(key, '') AS key, coalesce(user, '') AS user,
        coalesce(team, '') AS team, tags, model, provider, target, state, outcome, role,
        n = 1 AS requests, 1 AS attempts, outcome NOT IN ('ok', 'open') AS failed, state = 'open' AS open,
        cost IS NULL AND state <> 'open' AS unpriced, coalesce(cost, 0) AS cost_nano,
        CASE WHEN state = 'open' THEN reserved ELSE 0 END AS reserved_nano,
        input, cached_read, cache_write, output, reasoning, audio_ms, characters, images
    FROM attempt WHERE opened_ms >= ?1 AND opened_ms < ?2
    UNION ALL
    SELECT day * 86400000, endpoint, key, user, team, tags, model, provider, target, 'settled', '', '',
        requests, attempts, failed, 0, unpriced, cost, 0,
        input, cached_read, cache_write, output, reasoning, audio_ms, characters, images
    FROM day WHERE day * 86400000 >= ?1 AND day * 86400000 < ?2) ";

impl By {
    /// As it is written: `user`, `tag:feature`, `day`.
    ///
    /// # Errors
    /// What can be written instead.
    pub fn named(word: &str) -> Result<Self, String> {
        if let Some(column) = COLUMNS.into_iter().find(|column| *column == word) {
            return Ok(Self::Column(column));
        }
        if let Some(time) = ["hour", "day", "month"].into_iter().find(|time| *time == word) {
            return Ok(Self::Time(time));
        }
        match word.strip_prefix("tag:") {
            Some(name) if !name.is_empty() && !name.contains(['"', '\\']) => Ok(Self::Tag(name.to_owned())),
            _ => Err(format!(
                "`{word}` is nothing to tell usage apart by; there are {}, tag:NAME, hour, day, month",
                COLUMNS.join(", ")
            )),
        }
    }

    /// Several of them with commas between.
    ///
    /// # Errors
    /// As [`Self::named`].
    pub fn list(words: &str) -> Result<Vec<Self>, String> {
        words.split(',').map(str::trim).filter(|word| !word.is_empty()).map(Self::named).collect()
    }

    /// As it is written.
    pub fn shown(&self) -> String {
        match self {
            Self::Column(name) | Self::Time(name) => (*name).to_owned(),
            Self::Tag(name) => format!("tag:{name}"),
        }
    }

    /// The expression for it. Everything that somebody wrote is a parameter.
    fn sql(&self, parameters: &mut Vec<Cell>) -> String {
        match self {
            Self::Column(name) => (*name).to_owned(),
            Self::Time("hour") => "strftime('%Y-%m-%dT%H:00Z', at / 1000, 'unixepoch')".to_owned(),
            Self::Time("month") => "strftime('%Y-%m', at / 1000, 'unixepoch')".to_owned(),
            Self::Time(_) => "strftime('%Y-%m-%d', at / 1000, 'unixepoch')".to_owned(),
            Self::Tag(name) => {
                parameters.push(Cell::Text(format!("$.\"{name}\"")));
                format!("coalesce(json_extract(tags, ?{}), '')", parameters.len())
            }
        }
    }
}

impl Question {
    /// Reads `user=anna` into what must hold.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn filter(&mut self, text: &str) -> Result<(), String> {
        let Some((by, value)) = text.split_once('=') else {
            return Err(format!("write `{text}` as `user=anna`"));
        };
        self.only.push((By::named(by.trim())?, value.trim().to_owned()));
        Ok(())
    }

    fn beginning(&self) -> Vec<Cell> {
        let whole = |ms: u64| Cell::Integer(i64::try_from(ms).unwrap_or(i64::MAX));
        vec![whole(self.since_ms), whole(self.until_ms)]
    }

    fn conditions(&self, parameters: &mut Vec<Cell>) -> String {
        let mut sql = String::new();
        for (at, (by, value)) in self.only.iter().enumerate() {
            let expression = by.sql(parameters);
            parameters.push(Cell::Text(value.clone()));
            let word = if at == 0 { " WHERE" } else { " AND" };
            // Writing to a String cannot fail.
            let _ = write!(sql, "{word} {expression} = ?{}", parameters.len());
        }
        sql
    }
}

/// The sums that were asked for, the dearest first; in order of time, if they are told apart by it.
///
/// # Errors
/// When the database cannot be read.
pub fn sums(db: &Connection, question: &Question) -> rusqlite::Result<Vec<Sum>> {
    let mut parameters = question.beginning();
    let by: Vec<String> = question.by.iter().map(|by| by.sql(&mut parameters)).collect();
    let conditions = question.conditions(&mut parameters);
    let numbers = NUMBERS.map(|name| format!("coalesce(sum({name}), 0)")).join(", ");
    let mut sql = SPENT.to_owned() + "SELECT ";
    for expression in &by {
        let _ = write!(sql, "{expression}, ");
    }
    let _ = write!(sql, "{numbers} FROM spent{conditions}");
    if !by.is_empty() {
        let places: Vec<String> = (1..=by.len()).map(|place| place.to_string()).collect();
        let _ = write!(sql, " GROUP BY {}", places.join(", "));
        let time = question.by.iter().position(|by| matches!(by, By::Time(_)));
        let cost = by.len() + 6;
        let order = time.map_or_else(|| format!("{cost} DESC"), |time| format!("{}, {cost} DESC", time + 1));
        let _ = write!(sql, " ORDER BY {order}");
    }
    let mut rows = db.prepare(&sql)?;
    let found = rows.query_map(params_from_iter(parameters), |row| sum(row, by.len()))?;
    found.collect()
}

fn sum(row: &Row<'_>, named: usize) -> rusqlite::Result<Sum> {
    let of = (0..named).map(|at| row.get::<_, Option<String>>(at).map(Option::unwrap_or_default));
    let number = |at: usize| row.get::<_, i64>(named + at).map(|number| u64::try_from(number).unwrap_or(0));
    Ok(Sum {
        of: of.collect::<Result<_, _>>()?,
        requests: number(0)?,
        attempts: number(1)?,
        failed: number(2)?,
        open: number(3)?,
        unpriced: number(4)?,
        cost_nano: Nano(number(5)?),
        reserved_nano: Nano(number(6)?),
        input: number(7)?,
        cached_read: number(8)?,
        cache_write: number(9)?,
        output: number(10)?,
        reasoning: number(11)?,
        audio_ms: number(12)?,
        characters: number(13)?,
        images: number(14)?,
    })
}

impl Sum {
    /// Its numbers, in the order of [`NUMBERS`].
    pub fn numbers(&self) -> [u64; 15] {
        [
            self.requests,
            self.attempts,
            self.failed,
            self.open,
            self.unpriced,
            self.cost_nano.0,
            self.reserved_nano.0,
            self.input,
            self.cached_read,
            self.cache_write,
            self.output,
            self.reasoning,
            self.audio_ms,
            self.characters,
            self.images,
        ]
    }

    /// As an object: what it is of, the numbers, and the cost in dollars, exactly.
    pub fn object(&self, by: &[By]) -> Map<String, Value> {
        let of = by.iter().zip(&self.of).map(|(by, value)| (by.shown(), Value::from(value.as_str())));
        let mut object: Map<String, Value> = of.collect();
        object.extend(NUMBERS.iter().zip(self.numbers()).map(|(name, n)| ((*name).to_owned(), n.into())));
        object.insert("cost_usd".to_owned(), self.cost_nano.to_string().into());
        object
    }
}

/// Shows the single attempts that were asked for, in the order of their beginning, to `visit`, at most `most`; says how
/// many there were.
///
/// # Errors
/// When the database cannot be read.
pub fn attempts(
    db: &Connection,
    question: &Question,
    most: usize,
    mut visit: impl FnMut(&[String], &[Value]),
) -> rusqlite::Result<usize> {
    let mut parameters = question.beginning();
    let conditions = question.conditions(&mut parameters);
    parameters.push(Cell::Integer(i64::try_from(most).unwrap_or(i64::MAX)));
    let sql = format!(
        "SELECT * FROM (SELECT *, opened_ms AS at FROM attempt WHERE opened_ms >= ?1 AND opened_ms < ?2){conditions}
         ORDER BY at LIMIT ?{}",
        parameters.len()
    );
    let mut rows = db.prepare(&sql)?;
    let names: Vec<String> =
        rows.column_names().filter(|name| *name != "at").map(Into::into).collect();
    let mut found = rows.query(params_from_iter(parameters))?;
    let mut count = 0;
    while let Some(row) = found.next()? {
        let cells = names.iter().enumerate().map(|(at, name)| {
            Ok(match row.get::<_, Cell>(at)? {
                Cell::Integer(number) => number.into(),
                Cell::Text(text) if name == "tags" => serde_json::from_str(&text).unwrap_or(Value::Null),
                Cell::Text(text) => text.into(),
                Cell::Real(number) => number.into(),
                Cell::Null | Cell::Blob(_) => Value::Null,
            })
        });
        visit(&names, &cells.collect::<rusqlite::Result<Vec<Value>>>()?);
        count += 1;
    }
    Ok(count)
}

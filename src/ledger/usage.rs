//! What was used and spent: sums by any dimension and period, and single rows, read from the ledger's database or from
//! that of all gateways.

mod calendar;
pub mod csv;
mod names;
mod statement;

use jiff::tz::TimeZone;
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, Row, params_from_iter};
use serde::Serialize;
use serde_json::{Map, Value};

pub use super::hours::zone;
use crate::money::Nano;
pub use names::Names;
pub(super) use statement::{Dialect, OPENED, ROW, Statement, Term, WORDS, columns};

/// By what sums are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A column of the ledger, by its name.
    Column(&'static str),
    /// A tag of this name.
    Tag(String),
    /// The hour, day, week or month in which an attempt began. Hours are those of UTC.
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
    /// What must hold: each is one of these words.
    pub only: Vec<(By, Vec<String>)>,
    /// Where days, weeks and months begin; UTC, where nothing is said. Of rows that became the sum of their day, a day of
    /// UTC, all count where the middle of that day does.
    pub zone: Option<TimeZone>,
}

/// What was used and spent, for one combination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// The values of what it was asked by, in that order.
    #[serde(skip)]
    pub of: Vec<String>,
    /// Requests that got as far as an upstream.
    pub requests: u64,
    /// Those of them that were answered with what was known.
    pub hits: u64,
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
    /// What answers would have cost that were known.
    pub saved_nano: Nano,
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
    /// Those of `cached_read` that were audio.
    pub cached_audio: u64,
    /// Those of `cached_read` that were pictures.
    pub cached_image: u64,
    /// Those of `cache_write` that are kept for an hour or more.
    pub cache_write_long: u64,
    /// Those of `input` that were audio.
    pub input_audio: u64,
    /// Those of `input` that were pictures.
    pub input_image: u64,
    /// Those of `output` that were audio.
    pub output_audio: u64,
    /// Those of `output` that were pictures.
    pub output_image: u64,
    /// How often the price of a request was charged, where the provider said so.
    pub searches: u64,
    /// Tokens of prompts that were charged for, where the provider says that these are others.
    pub billed_input: u64,
    /// Tokens of answers that were charged for, where the provider says that these are others.
    pub billed_output: u64,
}

/// Columns by which sums can be told apart.
const COLUMNS: [&str; 13] = [
    "key", "user", "team", "app", "model", "provider", "target", "endpoint", "tier", "state", "outcome",
    "role", "gateway",
];

/// Spans of time by which sums can be told apart.
const TIMES: [&str; 4] = ["hour", "day", "week", "month"];

/// The names of the numbers of a sum, in their order.
pub const NUMBERS: [&str; 27] = [
    "requests",
    "hits",
    "attempts",
    "failed",
    "open",
    "unpriced",
    "cost_nano",
    "saved_nano",
    "reserved_nano",
    "input",
    "cached_read",
    "cache_write",
    "output",
    "reasoning",
    "audio_ms",
    "characters",
    "images",
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

/// What the name of a key is called beside its id.
pub const KEY_NAME: &str = "key_name";

impl By {
    /// As it is written: `user`, `tag:feature`, `day`.
    ///
    /// # Errors
    /// What can be written instead.
    pub fn named(word: &str) -> Result<Self, String> {
        if let Some(column) = COLUMNS.into_iter().find(|column| *column == word) {
            return Ok(Self::Column(column));
        }
        if let Some(time) = TIMES.into_iter().find(|time| *time == word) {
            return Ok(Self::Time(time));
        }
        match word.strip_prefix("tag:") {
            Some(name) if !name.is_empty() && !name.contains(['"', '\\']) => Ok(Self::Tag(name.to_owned())),
            _ => Err(format!(
                "`{word}` is nothing to tell usage apart by; there are {}, tag:NAME, {}",
                COLUMNS.join(", "),
                TIMES.join(", ")
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
        self.only.push((By::named(by.trim())?, vec![value.trim().to_owned()]));
        Ok(())
    }

    /// Whether there is a time between its moments.
    ///
    /// # Errors
    /// When it ends before it begins.
    pub fn period(&self) -> Result<(), String> {
        if self.since_ms <= self.until_ms {
            return Ok(());
        }
        Err("`since` is later than `until`: durations count back from now (`24h` is a day ago)".to_owned())
    }
}

/// The sums that were asked for, the dearest first; in order of time, if they are told apart by it.
///
/// # Errors
/// When the database cannot be read.
pub fn sums(db: &Connection, question: &Question) -> rusqlite::Result<Vec<Sum>> {
    let statement = Statement::sums(question, Dialect::Sqlite);
    let mut rows = db.prepare(&statement.sql)?;
    let named = question.by.len();
    let found = rows.query_map(params_from_iter(cells(statement.terms)), |row| sum(row, named))?;
    found.collect()
}

fn cells(terms: Vec<Term>) -> impl Iterator<Item = Cell> {
    terms.into_iter().map(|term| match term {
        Term::Number(number) => Cell::Integer(number),
        Term::Text(text) => Cell::Text(text),
    })
}

fn sum(row: &Row<'_>, named: usize) -> rusqlite::Result<Sum> {
    let of = (0..named).map(|at| row.get::<_, Option<String>>(at).map(Option::unwrap_or_default));
    let of = of.collect::<Result<_, _>>()?;
    let mut numbers = [0; NUMBERS.len()];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = row.get::<_, i64>(named + at)?;
    }
    Ok(Sum::of(of, numbers))
}

impl Sum {
    pub(super) fn of(of: Vec<String>, numbers: [i64; NUMBERS.len()]) -> Self {
        let [
            requests,
            hits,
            attempts,
            failed,
            open,
            unpriced,
            cost,
            saved,
            reserved,
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_ms,
            characters,
            images,
            cached_audio,
            cached_image,
            cache_write_long,
            input_audio,
            input_image,
            output_audio,
            output_image,
            searches,
            billed_input,
            billed_output,
        ] = numbers.map(|number| u64::try_from(number).unwrap_or(0));
        Self {
            of,
            requests,
            hits,
            attempts,
            failed,
            open,
            unpriced,
            cost_nano: Nano(cost),
            saved_nano: Nano(saved),
            reserved_nano: Nano(reserved),
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_ms,
            characters,
            images,
            cached_audio,
            cached_image,
            cache_write_long,
            input_audio,
            input_image,
            output_audio,
            output_image,
            searches,
            billed_input,
            billed_output,
        }
    }

    /// Its numbers, in the order of [`NUMBERS`].
    pub fn numbers(&self) -> [u64; NUMBERS.len()] {
        [
            self.requests,
            self.hits,
            self.attempts,
            self.failed,
            self.open,
            self.unpriced,
            self.cost_nano.0,
            self.saved_nano.0,
            self.reserved_nano.0,
            self.input,
            self.cached_read,
            self.cache_write,
            self.output,
            self.reasoning,
            self.audio_ms,
            self.characters,
            self.images,
            self.cached_audio,
            self.cached_image,
            self.cache_write_long,
            self.input_audio,
            self.input_image,
            self.output_audio,
            self.output_image,
            self.searches,
            self.billed_input,
            self.billed_output,
        ]
    }

    /// All of them together.
    pub fn total(sums: &[Self]) -> Self {
        let add = |all: [i64; NUMBERS.len()], sum: &Self| {
            let numbers = sum.numbers();
            std::array::from_fn(|at| all[at].saturating_add(i64::try_from(numbers[at]).unwrap_or(i64::MAX)))
        };
        Self::of(Vec::new(), sums.iter().fold([0; NUMBERS.len()], add))
    }

    /// The name of the key that it is of, where that is another word than its id.
    pub fn key_name<'n>(&self, by: &[By], names: &'n Names) -> Option<&'n str> {
        let at = by.iter().position(By::is_key)?;
        names.beside(self.of.get(at)?)
    }

    /// As an object: what it is of, a key's name beside its id, the numbers, and the cost in dollars, exactly.
    pub fn object(&self, by: &[By], names: &Names) -> Map<String, Value> {
        let of = by.iter().zip(&self.of).map(|(by, value)| (by.shown(), Value::from(value.as_str())));
        let mut object: Map<String, Value> = of.collect();
        if let Some(name) = self.key_name(by, names) {
            object.insert(KEY_NAME.to_owned(), name.into());
        }
        object.extend(NUMBERS.iter().zip(self.numbers()).map(|(name, n)| ((*name).to_owned(), n.into())));
        object.insert("cost_usd".to_owned(), self.cost_nano.to_string().into());
        object.insert("saved_usd".to_owned(), self.saved_nano.to_string().into());
        object
    }
}

/// What is told of a single attempt: the names, in their order, and whether each is a word rather than a number.
pub fn fields() -> impl Iterator<Item = (&'static str, bool)> {
    ROW.into_iter().map(|name| (name, WORDS.contains(&name)))
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
    let names: Vec<String> = ROW.iter().copied().map(Into::into).collect();
    // What ends meanwhile is seen once.
    let _moment = db.unchecked_transaction()?;
    let mut open = Vec::new();
    each_row(db, Statement::own_attempts(question, most, true), |row| {
        open.push(row);
        true
    })?;
    let mut open = open.into_iter().peekable();
    let count = std::cell::Cell::new(0);
    let mut show = |row: Vec<Value>| {
        visit(&names, &row);
        count.set(count.get() + 1);
        count.get() < most
    };
    each_row(db, Statement::own_attempts(question, most, false), |row| {
        let at = began(&row);
        while let Some(before) = open.next_if(|open| began(open) < at) {
            if !show(before) {
                return false;
            }
        }
        show(row)
    })?;
    if count.get() < most {
        let _ = open.all(show);
    }
    Ok(count.get())
}

/// When an attempt began, and its id, which tells those of one time apart.
fn began(row: &[Value]) -> (Option<i64>, Option<&str>) {
    (row[OPENED].as_i64(), row[0].as_str())
}

/// Shows rows of attempts to `visit` until it has seen enough.
fn each_row(
    db: &Connection,
    statement: Statement,
    mut visit: impl FnMut(Vec<Value>) -> bool,
) -> rusqlite::Result<()> {
    let mut rows = db.prepare(&statement.sql)?;
    let mut found = rows.query(params_from_iter(cells(statement.terms)))?;
    while let Some(row) = found.next()? {
        let cells = ROW.iter().enumerate().map(|(at, name)| {
            Ok(match row.get::<_, Cell>(at)? {
                Cell::Integer(number) => number.into(),
                Cell::Text(text) if *name == "tags" => serde_json::from_str(&text).unwrap_or(Value::Null),
                Cell::Text(text) => text.into(),
                Cell::Real(number) => number.into(),
                Cell::Null | Cell::Blob(_) => Value::Null,
            })
        });
        if !visit(cells.collect::<rusqlite::Result<_>>()?) {
            break;
        }
    }
    Ok(())
}

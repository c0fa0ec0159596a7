//! `tollgate usage`: what was used and spent, by any dimension and period, read from the ledger's database, or from that
//! of all gateways.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use crate::clock::{Clock, SystemClock, moment_in};
use crate::house::House;
use crate::ledger::usage::{self, By, Names, Question, Sum, csv};
use crate::ledger::{Central, TABLES};
use crate::store::postgres::Absent;
use crate::store::sqlite::{look_into, strangeness};

/// What to show.
#[derive(Debug, clap::Args)]
pub(super) struct UsageArgs {
    /// From when on: so long ago (`24h`, `30d`), a date, or a time in RFC 3339's form.
    #[arg(long, default_value = "30d")]
    since: String,
    /// Until when.
    #[arg(long)]
    until: Option<String>,
    /// By what to tell sums apart, with commas between: key, user, team, app, model, provider, target, endpoint, tier,
    /// tag:NAME, hour, day, week, month, state, outcome, role, gateway.
    #[arg(long, default_value = "")]
    by: String,
    /// The time zone in which days, weeks and months begin, such as `Europe/Berlin`.
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// Only what is so, word for word: `--only user=anna`; several must all hold.
    #[arg(long, value_name = "NAME=VALUE")]
    only: Vec<String>,
    /// Single attempts instead of sums: an export.
    #[arg(long, conflicts_with = "by")]
    attempts: bool,
    /// The form; without it, a table of sums, or single attempts as `csv`.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The database, if it is not the one that the configuration names.
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// Only what the gateway of this configuration has in its own file, also where the ledger of all gateways is in
    /// PostgreSQL.
    #[arg(long)]
    own: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One JSON array.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// Values with commas between.
    Csv,
}

/// Shows usage.
pub(super) fn usage(args: &UsageArgs, config: Option<PathBuf>) -> ExitCode {
    match shown(args, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn shown(args: &UsageArgs, config: Option<PathBuf>) -> Result<(), String> {
    let format = args.form()?;
    let now = SystemClock.unix_ms();
    let zone = usage::zone(&args.zone).map_err(|error| format!("--zone: {error}"))?;
    let mut question = Question {
        since_ms: moment_in(&zone, &args.since, now).map_err(|error| format!("--since: {error}"))?,
        until_ms: match &args.until {
            Some(until) => moment_in(&zone, until, now).map_err(|error| format!("--until: {error}"))?,
            None => u64::MAX,
        },
        by: By::list(&args.by).map_err(|error| format!("--by: {error}"))?,
        only: Vec::new(),
        zone: (zone != TimeZone::UTC).then_some(zone),
    };
    for filter in &args.only {
        question.filter(filter).map_err(|error| format!("--only: {error}"))?;
    }
    question.period()?;
    let ledger = Ledger::of(args, config)?;
    let names = if question.is_of_keys() { ledger.names()? } else { Names::default() };
    question.resolve(&names);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (is_empty, written) = if args.attempts {
        attempts(&ledger, &question, format, &mut out)?
    } else {
        let sums = ledger.sums(&question)?;
        let written = write_sums(&sums, (&question.by, &names), format, &mut out);
        (Sum::total(&sums) == Sum::default(), written)
    };
    match written.and_then(|()| out.flush()) {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.to_string()),
        _ => {}
    }
    if is_empty && !args.only.is_empty() {
        eprintln!("tollgate: {}", nothing_fits(&args.only));
    }
    Ok(())
}

impl UsageArgs {
    fn form(&self) -> Result<Format, String> {
        match self.format {
            Some(Format::Table) if self.attempts => {
                Err("--format: there is no table of single attempts; write csv, json or jsonl".into())
            }
            Some(format) => Ok(format),
            None if self.attempts => Ok(Format::Csv),
            None => Ok(Format::Table),
        }
    }
}

/// Nobody shall take a word that is misspelt for somebody who spent nothing.
fn nothing_fits(only: &[String]) -> String {
    let all: Vec<String> = only.iter().map(|filter| format!("`{filter}`")).collect();
    let whole = if only.iter().any(|filter| filter.contains('*')) {
        "; a `*` stands for itself there, not for any text"
    } else {
        ""
    };
    format!("nothing of this time fits --only {}{whole}", all.join(" and "))
}

/// The ledger that is asked.
enum Ledger {
    /// A file.
    Own(rusqlite::Connection),
    /// That of all gateways; and the file of this one, where it is there.
    All(tokio::runtime::Runtime, Box<Central>, Option<rusqlite::Connection>),
}

impl Ledger {
    fn of(args: &UsageArgs, config: Option<PathBuf>) -> Result<Self, String> {
        if let Some(file) = &args.database {
            return look_into(file).map(Self::Own);
        }
        let house = House::open(config).map_err(|problems| problems.to_string())?;
        let path = house.checked().config.state.database();
        if !args.own
            && let Some(central) = house.central()?
        {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| format!("runtime: {error}"))?;
            let own = path.ok().flatten().and_then(|path| look_into(&path).ok());
            return Ok(Self::All(runtime, Box::new(central), own));
        }
        let path = path.map_err(|error| format!("state.ledger: {error}"))?;
        let path = path
            .ok_or("the configuration has no ledger; set `state: { ledger: sqlite:./data/tollgate.db }`")?;
        look_into(&path).map(Self::Own)
    }

    fn sums(&self, question: &Question) -> Result<Vec<Sum>, String> {
        match self {
            Self::Own(db) => usage::sums(db, question).map_err(|error| unreadable(db, &error)),
            Self::All(runtime, central, _) => {
                runtime.block_on(central.sums(question)).map_err(|absent| away(&absent))
            }
        }
    }

    /// How keys are called. Those of the configuration are called as in the ledger anyway.
    fn names(&self) -> Result<Names, String> {
        match self {
            Self::Own(db) => Ok(Names::read(db)),
            Self::All(runtime, central, own) => {
                let mut names = own.as_ref().map(Names::read).unwrap_or_default();
                names.extend(runtime.block_on(central.names()).map_err(|absent| away(&absent))?);
                Ok(names)
            }
        }
    }

    fn attempts(&self, question: &Question, visit: impl FnMut(&[String], &[Value])) -> Result<usize, String> {
        match self {
            Self::Own(db) => {
                usage::attempts(db, question, usize::MAX, visit).map_err(|error| unreadable(db, &error))
            }
            Self::All(runtime, central, _) => {
                let read = runtime.block_on(central.attempts(question, usize::MAX, visit));
                read.map_err(|absent| away(&absent))
            }
        }
    }
}

/// Why a file cannot be read: in the first place, because another version wrote it.
fn unreadable(db: &rusqlite::Connection, error: &rusqlite::Error) -> String {
    let why = strangeness(db, TABLES).unwrap_or_else(|| error.to_string());
    format!("`{}`: {why}", db.path().unwrap_or_default())
}

fn away(absent: &Absent) -> String {
    format!("{absent}; with `--own`, the gateway's own file is asked")
}

/// Single attempts as they come, so that large exports need no memory; says whether there are none.
fn attempts(
    ledger: &Ledger,
    question: &Question,
    format: Format,
    out: &mut impl Write,
) -> Result<(bool, io::Result<()>), String> {
    let of_all = matches!(ledger, Ledger::All(..));
    let mut first = true;
    let mut written = Ok(());
    ledger.attempts(question, |names, cells| {
        if written.is_ok() {
            written = attempt(names, cells, format, (std::mem::take(&mut first), of_all), out);
        }
    })?;
    let written = written.and_then(|()| match format {
        Format::Json => writeln!(out, "{}", if first { "[]" } else { "\n]" }),
        Format::Csv | Format::Table if first => csv::head(out, of_all),
        _ => Ok(()),
    });
    Ok((first, written))
}

fn attempt(
    names: &[String],
    cells: &[Value],
    format: Format,
    (first, of_all): (bool, bool),
    out: &mut impl Write,
) -> io::Result<()> {
    let object = || names.iter().cloned().zip(cells.iter().cloned()).collect::<Map<String, Value>>();
    match format {
        Format::Jsonl => writeln!(out, "{}", Value::Object(object())),
        Format::Json => write!(out, "{}{}", if first { "[\n" } else { ",\n" }, Value::Object(object())),
        Format::Csv | Format::Table => {
            if first {
                csv::head(out, of_all)?;
            }
            csv::attempt(out, cells)
        }
    }
}

fn write_sums(
    sums: &[Sum],
    (by, names): (&[By], &Names),
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    match format {
        Format::Json => {
            let all: Vec<Value> = sums.iter().map(|sum| Value::Object(sum.object(by, names))).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&all).unwrap_or_default())
        }
        Format::Jsonl => {
            sums.iter().try_for_each(|sum| writeln!(out, "{}", Value::Object(sum.object(by, names))))
        }
        Format::Csv => csv::sums(out, sums, by, names),
        Format::Table => table(sums, (by, names), out),
    }
}

/// A column: its head, and what a sum says in it.
type Column = (&'static str, fn(&Sum) -> String);

/// What most ledgers know nothing of: shown where there is any.
const RARE: [Column; 7] = [
    ("hits", |sum| sum.hits.to_string()),
    ("saved in $", |sum| sum.saved_nano.to_string()),
    ("written for 1h", |sum| sum.cache_write_long.to_string()),
    ("audio tokens", |sum| (sum.input_audio + sum.cached_audio + sum.output_audio).to_string()),
    ("image tokens", |sum| (sum.input_image + sum.cached_image + sum.output_image).to_string()),
    ("searches", |sum| sum.searches.to_string()),
    ("billed", |sum| (sum.billed_input + sum.billed_output).to_string()),
];

/// What people want to see of a sum.
fn table(sums: &[Sum], (by, names): (&[By], &Names), out: &mut impl Write) -> io::Result<()> {
    let all = Sum::total(sums);
    let none = Sum::default();
    let rare: Vec<_> = RARE.into_iter().filter(|(_, shown)| shown(&all) != shown(&none)).collect();
    let mut rows: Vec<Vec<String>> = vec![by.iter().map(By::shown).collect()];
    let heads = ["requests", "attempts", "failed", "input", "cached", "output", "cost in $", "unpriced"];
    rows[0].extend(heads.into_iter().chain(rare.iter().map(|(head, _)| *head)).map(ToOwned::to_owned));
    for sum in sums {
        let of = by.iter().zip(&sum.of).map(|(by, of)| match names.beside(of) {
            Some(name) if *by == By::Column("key") => format!("{name} ({of})"),
            _ if of.is_empty() => "–".to_owned(),
            _ => of.clone(),
        });
        rows.push(row(sum, of, &rare));
    }
    if sums.len() > 1 {
        let of = by.iter().enumerate().map(|(at, _)| (if at == 0 { "all" } else { "" }).to_owned());
        rows.push(row(&all, of, &rare));
    }
    let columns = rows[0].len();
    let width = |at: usize| rows.iter().map(|row| row.get(at).map_or(0, |cell| cell.chars().count())).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
            let space = " ".repeat(width.saturating_sub(cell.chars().count()));
            // Names stand to the left, numbers to the right.
            if at < by.len() { format!("{cell}{space}") } else { format!("{space}{cell}") }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn row(sum: &Sum, of: impl Iterator<Item = String>, rare: &[Column]) -> Vec<String> {
    let input = sum.input + sum.cached_read + sum.cache_write;
    let numbers = [sum.requests, sum.attempts, sum.failed, input, sum.cached_read, sum.output];
    let numbers = numbers.iter().map(ToString::to_string);
    let rare = rare.iter().map(|(_, shown)| shown(sum));
    of.chain(numbers).chain([sum.cost_nano.to_string(), sum.unpriced.to_string()]).chain(rare).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::store::sqlite::Sqlite;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: UsageArgs,
    }

    #[test]
    fn single_attempts_are_no_table() {
        for (words, expected) in [
            (&["--attempts"][..], Some(Format::Csv)),
            (&[], Some(Format::Table)),
            (&["--attempts", "--format", "jsonl"], Some(Format::Jsonl)),
            (&["--attempts", "--format", "table"], None),
            (&["--format", "table"], Some(Format::Table)),
        ] {
            let args = Line::try_parse_from(["usage"].iter().chain(words)).unwrap().args;
            assert_eq!(args.form().ok(), expected, "{words:?}");
        }
    }

    #[test]
    fn who_asks_by_a_pattern_hears_that_it_is_none() {
        for (only, says, hears) in [
            ("key=nope", "nothing of this time fits --only `key=nope` and `user=anna`", false),
            ("team=k*", "nothing of this time fits --only `team=k*` and `user=anna`; a `*` stands", true),
        ] {
            let said = nothing_fits(&[only.to_owned(), "user=anna".to_owned()]);
            assert!(said.starts_with(says) && said.contains('*') == hears, "{said}");
        }
    }

    #[test]
    fn a_ledger_of_another_version_is_told_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let question = Question { until_ms: u64::MAX, ..Question::default() };
        let said =
            |path: &std::path::Path| Ledger::Own(look_into(path).unwrap()).sums(&question).unwrap_err();
        let old = dir.path().join("old.db");
        Sqlite::open(&old, &[&TABLES[..3]], 10).unwrap().close(std::time::Duration::from_secs(5));
        let told = said(&old);
        assert!(
            told.contains("was written by an older version of Tollgate (tables of `ledger`: 3, known: "),
            "{told}"
        );
        assert!(told.starts_with(&format!("`{}`: ", old.display())) && !told.contains("SELECT"), "{told}");
        let other = dir.path().join("other.db");
        rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
        assert!(said(&other).contains("is no database of Tollgate"), "{}", said(&other));
    }
}

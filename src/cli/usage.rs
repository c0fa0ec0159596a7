//! `tollgate usage`: what was used and spent, by any dimension and period, read from the ledger's database, or from that
//! of all gateways.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::clock::{Clock, SystemClock, moment};
use crate::house::House;
use crate::ledger::Central;
use crate::ledger::usage::{self, By, KEY_NAME, NUMBERS, Names, Question, Sum};
use crate::store::postgres::Absent;
use crate::store::sqlite::look_into;

/// What to show.
#[derive(Debug, clap::Args)]
pub(super) struct UsageArgs {
    /// From when on: so long ago (`24h`, `30d`), a date, or a time in RFC 3339's form.
    #[arg(long, default_value = "30d")]
    since: String,
    /// Until when.
    #[arg(long)]
    until: Option<String>,
    /// By what to tell sums apart, with commas between: key, user, team, model, provider, target, endpoint, tag:NAME,
    /// hour, day, month, state, outcome, role, gateway.
    #[arg(long, default_value = "")]
    by: String,
    /// Only what is so: `--only user=anna`; several must all hold.
    #[arg(long, value_name = "NAME=VALUE")]
    only: Vec<String>,
    /// Single attempts instead of sums: an export.
    #[arg(long)]
    attempts: bool,
    /// The form.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
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
    let now = SystemClock.unix_ms();
    let mut question = Question {
        since_ms: moment(&args.since, now).map_err(|error| format!("--since: {error}"))?,
        until_ms: match &args.until {
            Some(until) => moment(until, now).map_err(|error| format!("--until: {error}"))?,
            None => u64::MAX,
        },
        by: By::list(&args.by).map_err(|error| format!("--by: {error}"))?,
        only: Vec::new(),
    };
    for filter in &args.only {
        question.filter(filter).map_err(|error| format!("--only: {error}"))?;
    }
    let ledger = Ledger::of(args, config)?;
    let names = if question.is_of_keys() { ledger.names()? } else { Names::default() };
    question.resolve(&names);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.attempts {
        attempts(&ledger, &question, args.format, &mut out)?
    } else {
        write_sums(&ledger.sums(&question)?, (&question.by, &names), args.format, &mut out)
    };
    match written.and_then(|()| out.flush()) {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
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
            Self::Own(db) => usage::sums(db, question).map_err(|error| error.to_string()),
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
                usage::attempts(db, question, usize::MAX, visit).map_err(|error| error.to_string())
            }
            Self::All(runtime, central, _) => {
                let read = runtime.block_on(central.attempts(question, usize::MAX, visit));
                read.map_err(|absent| away(&absent))
            }
        }
    }
}

fn away(absent: &Absent) -> String {
    format!("{absent}; with `--own`, the gateway's own file is asked")
}

/// Single attempts as they come, so that large exports need no memory.
fn attempts(
    ledger: &Ledger,
    question: &Question,
    format: Format,
    out: &mut impl Write,
) -> Result<io::Result<()>, String> {
    let mut first = true;
    let mut written = Ok(());
    ledger.attempts(question, |names, cells| {
        if written.is_ok() {
            written = attempt(names, cells, format, std::mem::take(&mut first), out);
        }
    })?;
    if format == Format::Json && written.is_ok() {
        written = writeln!(out, "{}", if first { "[]" } else { "\n]" });
    }
    Ok(written)
}

fn attempt(
    names: &[String],
    cells: &[Value],
    format: Format,
    first: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let object = || names.iter().cloned().zip(cells.iter().cloned()).collect::<Map<String, Value>>();
    match format {
        Format::Jsonl => writeln!(out, "{}", Value::Object(object())),
        Format::Json => write!(out, "{}{}", if first { "[\n" } else { ",\n" }, Value::Object(object())),
        Format::Csv | Format::Table => {
            if first {
                line(out, names.iter().map(String::as_str))?;
            }
            let texts: Vec<String> = cells.iter().map(plain).collect();
            line(out, texts.iter().map(String::as_str))
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
        Format::Csv => {
            let heads: Vec<String> = by.iter().map(By::shown).collect();
            let heads = heads.iter().map(String::as_str).chain(NUMBERS).chain(["cost_usd", "saved_usd"]);
            // Last, so that the other columns stay where they were.
            let with_names = by.contains(&By::Column("key"));
            line(out, heads.chain(with_names.then_some(KEY_NAME)))?;
            for sum in sums {
                let numbers: Vec<String> = sum.numbers().iter().map(ToString::to_string).collect();
                let money = [sum.cost_nano, sum.saved_nano].map(|nano| nano.to_string());
                let of = sum.of.iter().map(String::as_str);
                let name = with_names.then(|| sum.key_name(by, names).unwrap_or_default());
                line(out, of.chain(numbers.iter().chain(&money).map(String::as_str)).chain(name))?;
            }
            Ok(())
        }
        Format::Table => table(sums, (by, names), out),
    }
}

/// What people want to see of a sum.
fn table(sums: &[Sum], (by, names): (&[By], &Names), out: &mut impl Write) -> io::Result<()> {
    let mut all = Sum::default();
    sums.iter().for_each(|sum| add(&mut all, sum));
    // Most ledgers know of no answers that were given again.
    let hits = all.hits > 0;
    let mut rows: Vec<Vec<String>> = vec![by.iter().map(By::shown).collect()];
    let heads = ["requests", "attempts", "failed", "input", "cached", "output", "cost in $", "unpriced"];
    rows[0].extend(heads.map(ToOwned::to_owned));
    rows[0].extend(["hits", "saved in $"].iter().filter(|_| hits).map(|head| (*head).to_owned()));
    for sum in sums {
        let of = by.iter().zip(&sum.of).map(|(by, of)| match names.beside(of) {
            Some(name) if *by == By::Column("key") => format!("{name} ({of})"),
            _ if of.is_empty() => "–".to_owned(),
            _ => of.clone(),
        });
        rows.push(row(sum, of, hits));
    }
    if sums.len() > 1 {
        let of = by.iter().enumerate().map(|(at, _)| (if at == 0 { "all" } else { "" }).to_owned());
        rows.push(row(&all, of, hits));
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

fn row(sum: &Sum, of: impl Iterator<Item = String>, hits: bool) -> Vec<String> {
    let input = sum.input + sum.cached_read + sum.cache_write;
    let numbers = [sum.requests, sum.attempts, sum.failed, input, sum.cached_read, sum.output];
    let numbers = numbers.iter().map(ToString::to_string);
    let again = [sum.hits.to_string(), sum.saved_nano.to_string()].into_iter().filter(|_| hits);
    of.chain(numbers).chain([sum.cost_nano.to_string(), sum.unpriced.to_string()]).chain(again).collect()
}

fn add(all: &mut Sum, sum: &Sum) {
    all.requests += sum.requests;
    all.hits += sum.hits;
    all.attempts += sum.attempts;
    all.failed += sum.failed;
    all.unpriced += sum.unpriced;
    all.cost_nano += sum.cost_nano;
    all.saved_nano += sum.saved_nano;
    all.input += sum.input;
    all.cached_read += sum.cached_read;
    all.cache_write += sum.cache_write;
    all.output += sum.output;
}

/// One line of CSV (RFC 4180). A cell that a spreadsheet would take for a formula is kept from being one.
fn line<'a>(out: &mut impl Write, cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            write!(out, ",")?;
        }
        let formula = cell.starts_with(['=', '+', '-', '@', '\t']);
        if formula || cell.contains([',', '"', '\n', '\r']) {
            let guard = if formula { "'" } else { "" };
            write!(out, "\"{guard}{}\"", cell.replace('"', "\"\""))?;
        } else {
            write!(out, "{cell}")?;
        }
    }
    writeln!(out)
}

fn plain(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

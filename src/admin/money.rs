//! `/admin/v1/usage` and `/admin/v1/budgets`: what was spent, and what may be.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Admin;
use crate::clock::moment_in;
use crate::ledger::usage::{self, By, Names, Question, Sum, csv};
use crate::ledger::{Central, Standing, shown_amount};
use crate::store::sqlite::Sqlite;

/// Parts of one budget in an answer, unless the question says otherwise.
pub(super) const USUAL_PARTS: usize = 100;
/// The most single attempts in one answer.
const MOST_ATTEMPTS: usize = 100_000;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    since: Option<String>,
    until: Option<String>,
    by: String,
    /// `user=anna,model=fast`.
    only: String,
    format: Option<Format>,
    /// Single attempts rather than sums; as a rule, those of `jsonl` are.
    attempts: Option<bool>,
    limit: Option<usize>,
    scope: Option<Scope>,
    /// Where days, weeks and months begin.
    zone: Option<String>,
}

/// Whose ledger is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    /// That of all gateways, in PostgreSQL; asked where there is one.
    All,
    /// This gateway's own: with what is under way, and what waits to be sent.
    Own,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// One object, with how the ledger stands.
    Json,
    /// One object per line.
    Jsonl,
    /// Values with commas between.
    Csv,
}

impl Wanted {
    fn question(&self, now: u64) -> Result<Question, String> {
        let zone =
            self.zone.as_deref().map(usage::zone).transpose().map_err(|error| format!("zone: {error}"))?;
        let days = zone.clone().unwrap_or(TimeZone::UTC);
        let at = |name: &str, text: &Option<String>, usual: u64| match text {
            Some(text) => moment_in(&days, text, now).map_err(|error| format!("{name}: {error}")),
            None => Ok(usual),
        };
        let mut question = Question {
            since_ms: at("since", &self.since, 0)?,
            until_ms: at("until", &self.until, u64::MAX)?,
            by: By::list(&self.by)?,
            only: Vec::new(),
            zone,
        };
        for filter in self.only.split(',').filter(|filter| !filter.trim().is_empty()) {
            question.filter(filter)?;
        }
        question.period()?;
        Ok(question)
    }

    /// The form, and whether it is of single attempts. What the address says goes before what the client accepts.
    fn form(&self, accept: Option<&str>) -> Result<(Format, bool), String> {
        let usual = if prefers_csv(accept.unwrap_or_default()) { Format::Csv } else { Format::Json };
        let format = self.format.unwrap_or(usual);
        let attempts = self.attempts.unwrap_or(format == Format::Jsonl);
        if attempts && format == Format::Json {
            return Err("single attempts come with `format=jsonl` or `format=csv`".to_owned());
        }
        Ok((format, attempts))
    }
}

/// Whether who accepts this wants CSV at least as much as JSON or anything else.
fn prefers_csv(accept: &str) -> bool {
    let weight = |kinds: &[&str]| {
        let of = |part: &str| {
            let mut words = part.split(';').map(str::trim);
            let kind = words.next().filter(|kind| kinds.iter().any(|known| kind.eq_ignore_ascii_case(known)));
            let q = words.find_map(|word| word.strip_prefix("q=").or_else(|| word.strip_prefix("Q=")));
            kind.map(|_| q.and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0))
        };
        accept.split(',').filter_map(of).fold(0.0, f32::max)
    };
    let csv = weight(&["text/csv"]);
    csv > 0.0 && csv >= weight(&["application/json", "application/*", "*/*"])
}

/// Sums by any dimension and period; or single attempts.
pub(super) async fn usage(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let desk = admin.shared.figures.desk();
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let read = wanted.question(desk.now()).and_then(|question| Ok((question, wanted.form(accept)?)));
    let (mut question, (format, attempts)) = match read {
        Ok(read) => read,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let Some(database) = desk.database().cloned() else {
        let hint = "there is no ledger; set `state: { ledger: sqlite:./data/tollgate.db }`\n";
        return (StatusCode::NOT_FOUND, hint).into_response();
    };
    let names = match question.is_of_keys() {
        true => admin.shared.figures.keys.payers().into_iter().map(|(id, key)| (id, key.name)).collect(),
        false => Names::default(),
    };
    question.resolve(&names);
    let central = desk.central().filter(|_| wanted.scope != Some(Scope::Own));
    if wanted.scope == Some(Scope::All) && central.is_none() {
        let hint =
            "this gateway has a ledger of its own; `scope=all` needs `state: { ledger: postgres://… }`\n";
        return (StatusCode::BAD_REQUEST, hint).into_response();
    }
    if attempts {
        let most = wanted.limit.unwrap_or(MOST_ATTEMPTS).min(MOST_ATTEMPTS);
        return match written(&database, central, question, most, format).await {
            Ok(lines) => told(format, lines),
            Err(error) => unknown(&error, central.is_some()),
        };
    }
    let by = question.by.clone();
    let mut sums = match desk.sums(question, central.is_none()).await.unwrap_or_else(|| Ok(Vec::new())) {
        Ok(sums) => sums,
        Err(error) => return unknown(&error, central.is_some()),
    };
    sums.truncate(wanted.limit.unwrap_or(usize::MAX));
    let objects = || sums.iter().map(|sum| sum.object(&by, &names));
    match format {
        Format::Json => {
            let mut ledger = json!({
                "scope": if central.is_some() { "all" } else { "own" },
                "waiting": database.waiting(), "lost": database.lost(),
                "trouble": database.trouble().map(|trouble| trouble.to_string()),
            });
            if let Some(outbox) = desk.outbox() {
                ledger["outbox"] = serde_json::to_value(outbox.standing()).unwrap_or_default();
            }
            Json(json!({ "usage": objects().collect::<Vec<_>>(), "ledger": ledger })).into_response()
        }
        Format::Jsonl => {
            let mut lines = Vec::new();
            objects().for_each(|object| line(&mut lines, &object));
            told(format, lines)
        }
        Format::Csv => told(format, table(&sums, &by, &names)),
    }
}

/// Single attempts, line by line.
async fn written(
    database: &Sqlite,
    central: Option<&Central>,
    question: Question,
    most: usize,
    format: Format,
) -> Result<Vec<u8>, String> {
    let mut lines = Vec::new();
    if format == Format::Csv {
        // A Vec takes everything.
        let _ = csv::head(&mut lines, central.is_some());
    }
    let write = move |lines: &mut Vec<u8>, names: &[String], cells: &[Value]| match format {
        Format::Csv => {
            let _ = csv::attempt(lines, cells);
        }
        _ => line(lines, &names.iter().cloned().zip(cells.iter().cloned()).collect()),
    };
    match central {
        Some(central) => {
            let read =
                central.attempts(&question, most, |names, cells| write(&mut lines, names, cells)).await;
            read.map(|_| lines).map_err(|absent| absent.to_string())
        }
        None => {
            let read = database.read(move |db| {
                usage::attempts(db, &question, most, |names, cells| write(&mut lines, names, cells))?;
                Ok(lines)
            });
            read.await.map_err(|trouble| trouble.to_string())
        }
    }
}

fn table(sums: &[Sum], by: &[By], names: &Names) -> Vec<u8> {
    let mut lines = Vec::new();
    // A Vec takes everything.
    let _ = csv::sums(&mut lines, sums, by, names);
    lines
}

fn told(format: Format, lines: Vec<u8>) -> Response {
    let kind = if format == Format::Csv { "text/csv; charset=utf-8" } else { "application/x-ndjson" };
    ([(header::CONTENT_TYPE, kind)], Body::from(lines)).into_response()
}

fn line(lines: &mut Vec<u8>, object: &Map<String, Value>) {
    // What is data can be serialised.
    if serde_json::to_writer(&mut *lines, object).is_ok() {
        lines.push(b'\n');
    }
}

/// The ledger that was asked does not answer. Nobody is told another one's sums instead.
fn unknown(error: &str, shared: bool) -> Response {
    let hint = if shared { "; `scope=own` asks this gateway's own ledger" } else { "" };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}{hint}\n")).into_response()
}

/// What is asked of budgets.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Named {
    name: Option<String>,
    limit: Option<usize>,
}

/// How all budgets stand; of those that are split, the parts that were spent most.
pub(super) async fn budgets(State(admin): State<Arc<Admin>>, Query(named): Query<Named>) -> Response {
    let desk = admin.shared.figures.desk();
    let standings = desk.budgets.standings(desk.now(), named.limit.unwrap_or(USUAL_PARTS));
    let wanted = |standing: &&Standing| named.name.as_ref().is_none_or(|name| **name == *standing.name);
    let figures = &admin.shared.figures;
    let shown = standings.iter().filter(wanted).map(|standing| {
        let mut shown = shown(standing);
        let source = if figures.is_written(&standing.name) { "configuration" } else { "database" };
        shown["source"] = source.into();
        shown
    });
    let shown: Vec<_> = shown.collect();
    Json(json!({ "budgets": shown })).into_response()
}

pub(super) fn shown(standing: &Standing) -> Value {
    let text = |amount| shown_amount(standing.measure, amount);
    let at = |ms: u64| {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).ok()
    };
    let mut object = serde_json::to_value(standing).unwrap_or_default();
    object["remaining"] = standing.remaining().into();
    object["used_ratio"] = standing.ratio().into();
    object["resets_at"] = standing.resets_ms.and_then(at).into();
    object["shown"] = json!({
        "limit": text(standing.limit), "used": text(standing.used),
        "held": text(standing.held), "remaining": text(standing.remaining()),
    });
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_accepts_csv_gets_csv_and_the_address_goes_before() {
        fn check(query: &str, accept: &str, expected: Result<(Format, bool), ()>) {
            let uri = format!("http://localhost/?{query}").parse().unwrap();
            let Query(wanted) = Query::<Wanted>::try_from_uri(&uri).unwrap();
            let form = wanted.form(Some(accept)).map_err(drop);
            assert_eq!(form, expected, "?{query}, accept: {accept}");
        }
        check("", "", Ok((Format::Json, false)));
        check("", "*/*", Ok((Format::Json, false)));
        check("", "text/csv", Ok((Format::Csv, false)));
        check("", "Text/CSV; header=present, */*;q=0.1", Ok((Format::Csv, false)));
        check("", "application/json, text/csv;q=0.5", Ok((Format::Json, false)));
        check("", "text/csv;q=0", Ok((Format::Json, false)));
        check("attempts=true", "text/csv", Ok((Format::Csv, true)));
        check("format=json", "text/csv", Ok((Format::Json, false)));
        check("format=csv", "application/json", Ok((Format::Csv, false)));
        check("format=jsonl", "", Ok((Format::Jsonl, true)));
        check("format=jsonl&attempts=false", "", Ok((Format::Jsonl, false)));
        check("attempts=true", "", Err(()));
    }

    #[test]
    fn a_date_is_that_of_the_zone_and_a_zone_that_there_is_not_is_told() {
        let wanted = |zone: &str| Wanted {
            since: Some("2026-11-22".into()),
            by: "week".into(),
            zone: Some(zone.into()),
            ..Wanted::default()
        };
        let since = |zone| wanted(zone).question(0).map(|question| question.since_ms);
        assert_eq!(since("UTC"), Ok(1_795_305_600_000));
        assert_eq!(since("Europe/Berlin"), Ok(1_795_305_600_000 - 3_600_000));
        let error = since("Europe/Berlim").unwrap_err();
        assert!(error.starts_with("zone: `Europe/Berlim` is not a time zone"), "{error}");
    }
}

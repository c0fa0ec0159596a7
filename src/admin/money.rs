//! `/admin/v1/usage` and `/admin/v1/budgets`: what was spent, and what may be.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Admin;
use crate::clock::moment;
use crate::ledger::usage::{self, By, Names, Question};
use crate::ledger::{Standing, shown_amount};

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
    limit: Option<usize>,
    scope: Option<Scope>,
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
    /// Sums.
    Json,
    /// Single attempts, one per line.
    Jsonl,
}

impl Wanted {
    fn question(&self, now: u64) -> Result<Question, String> {
        let at = |name: &str, text: &Option<String>, usual: u64| match text {
            Some(text) => moment(text, now).map_err(|error| format!("{name}: {error}")),
            None => Ok(usual),
        };
        let mut question = Question {
            since_ms: at("since", &self.since, 0)?,
            until_ms: at("until", &self.until, u64::MAX)?,
            by: By::list(&self.by)?,
            only: Vec::new(),
        };
        for filter in self.only.split(',').filter(|filter| !filter.trim().is_empty()) {
            question.filter(filter)?;
        }
        Ok(question)
    }
}

/// Sums by any dimension and period; or single attempts.
pub(super) async fn usage(State(admin): State<Arc<Admin>>, Query(wanted): Query<Wanted>) -> Response {
    let desk = admin.shared.figures.desk();
    let mut question = match wanted.question(desk.now()) {
        Ok(question) => question,
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
    if wanted.format == Some(Format::Jsonl) {
        let most = wanted.limit.unwrap_or(MOST_ATTEMPTS).min(MOST_ATTEMPTS);
        let read = match central {
            Some(central) => {
                let mut lines = Vec::new();
                let read =
                    central.attempts(&question, most, |names, cells| line(&mut lines, names, cells)).await;
                read.map(|_| lines).map_err(|absent| absent.to_string())
            }
            None => {
                let read = database.read(move |db| {
                    let mut lines = Vec::new();
                    usage::attempts(db, &question, most, |names, cells| line(&mut lines, names, cells))?;
                    Ok(lines)
                });
                read.await.map_err(|trouble| trouble.to_string())
            }
        };
        return match read {
            Ok(lines) => {
                ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from(lines)).into_response()
            }
            Err(error) => unknown(&error, central.is_some()),
        };
    }
    let by = question.by.clone();
    match desk.sums(question, central.is_none()).await.unwrap_or_else(|| Ok(Vec::new())) {
        Ok(mut sums) => {
            sums.truncate(wanted.limit.unwrap_or(usize::MAX));
            let usage: Vec<_> = sums.iter().map(|sum| sum.object(&by, &names)).collect();
            let mut ledger = json!({
                "scope": if central.is_some() { "all" } else { "own" },
                "waiting": database.waiting(), "lost": database.lost(),
                "trouble": database.trouble().map(|trouble| trouble.to_string()),
            });
            if let Some(outbox) = desk.outbox() {
                ledger["outbox"] = serde_json::to_value(outbox.standing()).unwrap_or_default();
            }
            Json(json!({ "usage": usage, "ledger": ledger })).into_response()
        }
        Err(error) => unknown(&error, central.is_some()),
    }
}

fn line(lines: &mut Vec<u8>, names: &[String], cells: &[Value]) {
    let line: Map<String, Value> = names.iter().cloned().zip(cells.iter().cloned()).collect();
    // What is data can be serialised.
    if serde_json::to_writer(&mut *lines, &line).is_ok() {
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

//! `/admin/v1/decisions`: what was decided lately, and why.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Admin;
use crate::clock::{Clock, SystemClock, moment};
use crate::plan::{Dossier, Outcome};
use crate::store::find_in;

/// Decisions in an answer, unless the question says otherwise.
const USUAL: usize = 100;
/// The most decisions in one answer.
const MOST: usize = 10_000;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    rule: Option<String>,
    target: Option<String>,
    outcome: Option<Outcome>,
    model: Option<String>,
    status: Option<u16>,
    since: Option<String>,
    limit: Option<usize>,
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// A list of short entries.
    Json,
    /// Whole records, one per line, as they stand on disk.
    Jsonl,
}

/// One decision in the list.
#[derive(Serialize)]
struct Brief<'a> {
    id: &'a str,
    at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    attempts: usize,
    status: u16,
    outcome: Outcome,
    ms: f64,
    snapshot: &'a str,
    more: String,
}

/// The list, newest first.
pub(super) async fn list(State(admin): State<Arc<Admin>>, Query(wanted): Query<Wanted>) -> Response {
    let since = match wanted.since.as_deref().map(|text| moment(text, SystemClock.unix_ms())) {
        Some(Err(error)) => return (StatusCode::BAD_REQUEST, format!("since: {error}\n")).into_response(),
        Some(Ok(since)) => since,
        None => 0,
    };
    let most = wanted.limit.unwrap_or(USUAL).min(MOST);
    let store = &admin.shared.decisions;
    let found = store.recent(most, |dossier| dossier.at_ms >= since && wanted.matches(dossier));
    if wanted.format == Some(Format::Jsonl) {
        let mut lines = Vec::new();
        // Oldest first, as on disk. What is data can be serialised.
        for dossier in found.iter().rev() {
            if serde_json::to_writer(&mut lines, &**dossier).is_ok() {
                lines.push(b'\n');
            }
        }
        return ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from(lines)).into_response();
    }
    let all: Vec<_> = found.iter().map(|dossier| Brief::of(dossier)).collect();
    Json(json!({ "decisions": all, "kept": store.settings().recent, "dir": store.dir() })).into_response()
}

/// One decision with everything that is known of it: from memory, or from disk.
pub(super) async fn one(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Response {
    let store = &admin.shared.decisions;
    let found = match (store.get(&id), store.dir()) {
        (Some(dossier), _) => Ok(Some(dossier)),
        (None, None) => Ok(None),
        (None, Some(dir)) => {
            let wanted = id.clone();
            let search = tokio::task::spawn_blocking(move || find_in(&dir, &wanted)).await;
            search
                .map_err(|error| error.to_string())
                .and_then(|found| found.map(|found| found.map(Arc::new)).map_err(|error| error.to_string()))
        }
    };
    match found {
        Ok(Some(dossier)) => {
            Json(json!({ "decision": &*dossier, "explained": dossier.explained() })).into_response()
        }
        Ok(None) => {
            let hint =
                "no such decision: it is too old, was not sampled, or did not get as far as the policies\n";
            (StatusCode::NOT_FOUND, hint).into_response()
        }
        Err(error) => {
            tracing::warn!(error, "decision records cannot be read");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("decision records: {error}\n")).into_response()
        }
    }
}

impl Wanted {
    fn matches(&self, dossier: &Dossier) -> bool {
        let record = &dossier.record;
        let rule = |wanted: &String| {
            record.rule.as_ref().is_some_and(|rule| {
                *rule.policy == **wanted || rule.name.as_deref() == Some(wanted) || rule.shown() == *wanted
            })
        };
        let target = |wanted: &String| {
            dossier.target().is_some_and(|name| *name.provider == **wanted || name.to_string() == *wanted)
        };
        let model = |wanted: &String| record.facts.as_ref().is_some_and(|facts| *facts.model == **wanted);
        self.rule.as_ref().is_none_or(rule)
            && self.target.as_ref().is_none_or(target)
            && self.model.as_ref().is_none_or(model)
            && self.outcome.is_none_or(|wanted| record.outcome == wanted)
            && self.status.is_none_or(|wanted| dossier.status == wanted)
    }
}

impl<'a> Brief<'a> {
    fn of(dossier: &'a Dossier) -> Self {
        let record = &dossier.record;
        let verdict = dossier.decision.as_ref().map(|decision| decision.verdict.as_ref());
        Self {
            id: &record.request_id,
            at_ms: dossier.at_ms,
            endpoint: record.facts.as_ref().map(|facts| facts.endpoint.as_str()),
            model: record.facts.as_ref().map(|facts| &*facts.model),
            rule: record.rule.as_ref().map(|rule| rule.shown()),
            verdict: match verdict {
                Some(Some(verdict)) => verdict.kind(),
                Some(None) => "default",
                None => "failed",
            },
            target: dossier.target().map(ToString::to_string),
            attempts: record.attempts.len(),
            status: dossier.status,
            outcome: record.outcome,
            ms: dossier.ms,
            snapshot: &record.snapshot,
            more: format!("/admin/v1/decisions/{}", record.request_id),
        }
    }
}

//! `/admin/v1/alerts`: what was alarming of late: budgets, providers, their keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use crate::telemetry;

/// Which alerts are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    /// Only events of this kind: `budget_threshold`, `provider_fails`, …
    event: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

/// Alerts of this process, the last one first; and the providers that fail now.
pub(super) async fn show(State(admin): State<Arc<Admin>>, Query(wanted): Query<Wanted>) -> Response {
    let mut recent = telemetry::alerts();
    recent.retain(|alert| wanted.event.as_ref().is_none_or(|event| *event == alert.event));
    recent.truncate(wanted.limit.unwrap_or(usize::MAX));
    let failing = admin.shared.figures.health.readings().failing();
    let failing: Vec<&str> = failing.iter().map(|name| &**name).collect();
    Json(json!({ "alerts": recent, "failing_providers": failing })).into_response()
}

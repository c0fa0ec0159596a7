//! `/admin/v1/audit`: who did what, and whether the log is as it was written.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::keys::refusal;

/// Entries of one page, unless the request says otherwise, and at most.
const PAGE: (usize, usize) = (100, 1_000);

/// Which entries are wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Those after this number.
    #[serde(default)]
    after: u64,
    /// At most so many.
    limit: Option<usize>,
}

/// Entries in order.
pub(super) async fn list(State(admin): State<Arc<Admin>>, Query(wanted): Query<Wanted>) -> Response {
    let most = wanted.limit.unwrap_or(PAGE.0).clamp(1, PAGE.1);
    match admin.shared.keys.audit(wanted.after, most).await {
        Ok(entries) => axum::Json(json!({ "entries": entries })).into_response(),
        Err(refused) => refusal(&refused),
    }
}

/// Looks through the whole chain.
pub(super) async fn verify(State(admin): State<Arc<Admin>>) -> Response {
    match admin.shared.keys.verify().await {
        Ok(verdict) => axum::Json(verdict).into_response(),
        Err(refused) => refusal(&refused),
    }
}

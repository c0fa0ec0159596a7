//! `/admin/v1/plugins`: what is loaded, from which file, and what is wrong with it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Admin;

/// The plugins of the snapshot in service, in the order of their names.
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Response {
    let snapshot = admin.shared.snapshot.load();
    let plugins: Vec<_> = snapshot.plugins.iter().map(|plugin| plugin.status()).collect();
    axum::Json(json!({ "snapshot": snapshot.hash, "plugins": plugins })).into_response()
}

//! `/admin/v1/providers`: how every provider and every target of it fares.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Admin;

/// Providers of the configuration, sorted, each with the figures of its targets within the window.
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Response {
    let snapshot = admin.shared.snapshot.load();
    let readings = admin.shared.figures.health.readings();
    let providers = snapshot.catalogue.vendors().into_iter().map(|vendor| {
        let targets = readings.targets_of(&vendor.name);
        let targets: Vec<Value> = targets
            .into_iter()
            .map(|(model, reading)| json!({ "model": model, "health": reading }))
            .collect();
        json!({
            "name": vendor.name,
            "preset": vendor.preset,
            "models": vendor.models,
            "health": readings.provider(&vendor.name),
            "targets": targets,
        })
    });
    axum::Json(json!({ "providers": providers.collect::<Vec<_>>() })).into_response()
}

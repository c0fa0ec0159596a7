//! `/admin/v1/providers`: how every provider and every target of it fares.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Admin;
use crate::breaker::{Look, Reading};
use crate::queue::LaneLook;

/// How a target does, whether its breaker lets anybody through, and who waits for it.
type Figures<'a> = (Option<&'a Reading>, Option<Look>, Option<LaneLook>);

/// Providers of the configuration, sorted, each with the figures of its targets within the window.
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Response {
    let snapshot = admin.shared.snapshot.load();
    let readings = admin.shared.figures.health.readings();
    let now = Instant::now();
    let providers = snapshot.catalogue.vendors().into_iter().map(|vendor| {
        let mut targets: BTreeMap<Arc<str>, Figures<'_>> = BTreeMap::new();
        for (model, reading) in readings.targets_of(&vendor.name) {
            targets.entry(model.into()).or_default().0 = Some(reading);
        }
        for (model, look) in admin.shared.figures.gates.of_provider(&vendor.name, now) {
            targets.entry(model).or_default().1 = Some(look);
        }
        for (model, look) in admin.shared.figures.lanes.of_provider(&vendor.name) {
            targets.entry(model).or_default().2 = Some(look);
        }
        let targets: Vec<Value> = targets
            .into_iter()
            .map(|(model, (reading, look, lane))| {
                json!({ "model": model, "health": reading, "breaker": look, "queue": lane })
            })
            .collect();
        json!({
            "name": vendor.name,
            "preset": vendor.preset,
            "models": vendor.models,
            "health": readings.provider(&vendor.name),
            "keys": vendor.ring.looks(now),
            "targets": targets,
        })
    });
    axum::Json(json!({ "providers": providers.collect::<Vec<_>>() })).into_response()
}

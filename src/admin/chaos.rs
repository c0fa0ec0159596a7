//! `/admin/v1/chaos`: faults that are injected on purpose, begun and ended by operators.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::keys::{actor, refusal};
use crate::executor::ChaosSettings;

/// Which experiment is to end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    /// Its name; all, where none is given.
    name: Option<String>,
}

/// All that run.
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    axum::Json(json!({ "chaos": admin.shared.figures.chaos.shown() })).into_response()
}

/// Begins one: `{ "name": "…", "kind": "error", "match": { "provider": "openai" }, "percent": "20%", "for": "10m" }`.
pub(super) async fn begin(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let settings: ChaosSettings = match serde_json::from_slice(&body) {
        Ok(settings) => settings,
        Err(error) => return bad(&format!("send an experiment as JSON: {error}")),
    };
    let chaos = &admin.shared.figures.chaos;
    if let Err(complaint) = chaos.examine(&settings) {
        return bad(&complaint);
    }
    let (actor, detail) = (actor(peer, &headers), json!(settings));
    if let Err(refused) = admin.shared.keys.note(&actor, "chaos.begin", &settings.name, detail).await {
        return refusal(&refused);
    }
    match chaos.begin(settings, &actor) {
        Ok(shown) => (StatusCode::CREATED, axum::Json(shown)).into_response(),
        Err(complaint) => bad(&complaint),
    }
}

/// Ends one by its name (`?name=…`), or all.
pub(super) async fn end(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    named: Result<Query<Named>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let name = match named {
        Ok(Query(Named { name })) => name,
        Err(error) => return bad(&error.body_text()),
    };
    let chaos = &admin.shared.figures.chaos;
    if let Some(name) = name.as_deref().filter(|name| !chaos.has(name)) {
        let text = format!("no experiment called `{name}` is running\n");
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    let actor = actor(peer, &headers);
    let target = name.as_deref().unwrap_or("*");
    // Whoever wants chaos to end gets it, also while the log cannot be written.
    if let Err(error) = admin.shared.keys.note(&actor, "chaos.end", target, json!({})).await {
        tracing::error!(%error, actor, "the end of chaos could not be noted in the audit log");
    }
    axum::Json(json!({ "ended": chaos.end(name.as_deref(), &actor) })).into_response()
}

fn bad(what: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{what}\n")).into_response()
}

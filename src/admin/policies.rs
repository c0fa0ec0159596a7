//! `/admin/v1/policies`: which policies serve, what stands beside them, which served before, and what operators change.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Admin;
use super::keys::{actor, refusal};
use crate::gateway::{Side, rolled_back};
use crate::policy::Sticky;
use crate::settings::Percent;

/// Who puts older policies in the place of those on disk.
pub trait Desk: Send + Sync {
    /// Serves the version whose hash begins so, else the one that served before `serving`; `disk` gives the place back to
    /// the files. Waits until it is done; what was done.
    ///
    /// # Errors
    /// Why it was not done.
    fn roll_back(&self, to: Option<&str>, serving: &str) -> Result<String, String>;
}

/// `POST …/promote`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Promote {
    share: Percent,
    sticky: Option<Sticky>,
}

/// `POST …/rollback`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RollBack {
    hash: Option<String>,
}

/// What serves and what stands beside it.
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Response {
    Json(all(&admin)).into_response()
}

/// Sets of policies that were in service, the last one first.
pub(super) async fn versions(State(admin): State<Arc<Admin>>) -> Response {
    let snapshot = admin.shared.snapshot.load();
    let serving = snapshot.policies.hash();
    let versions: Vec<Value> = admin
        .shared
        .versions
        .all()
        .iter()
        .map(|version| {
            let files: Vec<&str> = version.files.iter().map(|file| &*file.name).collect();
            json!({
                "hash": version.hash, "first_ms": version.first_ms, "last_ms": version.last_ms,
                "serves": version.hash == *serving, "files": files,
            })
        })
        .collect();
    Json(json!({ "serving": serving, "pinned": snapshot.pinned, "versions": versions })).into_response()
}

/// Serves an older set until the files on disk change.
pub(super) async fn roll_back(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let wanted: RollBack = match asked(&body) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    let (desk, serving) = (admin.desk.clone(), admin.shared.snapshot.load().policies.hash().clone());
    let target = wanted.hash.as_deref().unwrap_or("before");
    let detail = json!({ "serving": &*serving });
    if let Err(refused) =
        admin.shared.keys.note(&actor(peer, &headers), "policies.rollback", target, detail).await
    {
        return refusal(&refused);
    }
    let done = tokio::task::spawn_blocking(move || desk.roll_back(wanted.hash.as_deref(), &serving)).await;
    match done.map_err(|error| error.to_string()).and_then(|done| done) {
        Ok(done) => {
            let snapshot = admin.shared.snapshot.load();
            let (hash, pinned) = (snapshot.policies.hash(), &snapshot.pinned);
            Json(json!({ "done": done, "serving": hash, "pinned": pinned, "snapshot": snapshot.hash }))
                .into_response()
        }
        Err(error) => refused(StatusCode::CONFLICT, &error),
    }
}

/// Gives the candidate a share of the callers, until its files change.
pub(super) async fn promote(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let wanted: Promote = match asked(&body) {
        Ok(wanted) => wanted,
        Err(refusal) => return *refusal,
    };
    let shared = &admin.shared;
    let snapshot = shared.snapshot.load_full();
    let candidate = snapshot.beside.candidate.as_ref().and_then(|side| side.policies.as_ref());
    let target = candidate.map_or("none", |policies| &**policies.hash());
    if let Err(refused) =
        shared.keys.note(&actor(peer, &headers), "policies.promote", target, json!(wanted)).await
    {
        return refusal(&refused);
    }
    if wanted.share.0 == 0.0 {
        return match shared.rollout.withdraw(shared.clock.unix_ms()) {
            Some(halted) => {
                rolled_back(shared, &halted);
                Json(all(&admin)).into_response()
            }
            None => refused(StatusCode::CONFLICT, "no candidate has a share"),
        };
    }
    match shared.rollout.promote(wanted.share.0, wanted.sticky, Instant::now()) {
        Ok(()) => {
            shared.versions.remember(None);
            tracing::warn!(share_percent = wanted.share.0, "an operator promoted the candidate policies");
            Json(all(&admin)).into_response()
        }
        Err(error) => refused(StatusCode::CONFLICT, &error),
    }
}

/// What operators should look at.
pub(super) fn alerts(admin: &Admin) -> Vec<Value> {
    let snapshot = admin.shared.snapshot.load();
    let mut alerts = Vec::new();
    if let Some(halted) = admin.shared.rollout.standing(Instant::now()).and_then(|it| it.rolled_back) {
        alerts.push(
            json!({ "alert": "candidate_rolled_back", "reason": halted.reason, "since_ms": halted.at_ms,
            "candidate": halted.hash }),
        );
    }
    if let Some(pinned) = &snapshot.pinned {
        alerts.push(json!({ "alert": "policies_rolled_back", "reason":
            format!("the policies {} serve in the place of {} on disk", pinned.hash, pinned.on_disk),
            "since_ms": pinned.since_ms }));
    }
    for (role, side) in snapshot.beside.sides().filter(|(_, side)| !side.problems.is_empty()) {
        alerts.push(json!({ "alert": "policies_broken", "role": role, "reason": side.problems.join("; ") }));
    }
    alerts
}

fn all(admin: &Admin) -> Value {
    let snapshot = admin.shared.snapshot.load();
    let beside = &snapshot.beside;
    let side = |side: &Side| {
        let hash = side.policies.as_ref().map(|policies| policies.hash().clone());
        let names: Vec<&str> = side.policies.iter().flat_map(|policies| policies.names()).collect();
        json!({ "dir": side.dir, "hash": hash, "policies": names, "problems": side.problems })
    };
    let shadow = beside.shadow.as_ref().map(|of| {
        let mut shown = side(of);
        shown["sample_percent"] = json!(beside.sample * 100.0);
        shown["findings"] = json!(admin.shared.shadows.findings());
        shown
    });
    let names: Vec<&str> = snapshot.policies.names().collect();
    json!({
        "snapshot": snapshot.hash,
        "live": { "hash": snapshot.policies.hash(), "policies": names, "pinned": snapshot.pinned },
        "shadow": shadow,
        "candidate": beside.candidate.as_ref().map(side),
        "rollout": admin.shared.rollout.standing(Instant::now()),
        "alerts": alerts(admin),
    })
}

/// The body as JSON; none at all is an empty object.
fn asked<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Box::new(refused(StatusCode::BAD_REQUEST, &error.to_string())))
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

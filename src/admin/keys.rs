//! `/admin/v1/keys`: virtual keys, made, shown, changed and revoked.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::Admin;
use crate::keys::{Change, KeyTerms, Refused};
use crate::settings::Period;

/// How long the secrets of before go on after a rotation, unless the request says otherwise.
const OVERLAP: Period = Period::secs(86_400);

/// Who asks, for the audit log.
pub(super) fn actor(peer: SocketAddr, headers: &HeaderMap) -> String {
    let named = headers.get("x-tollgate-actor").and_then(|value| value.to_str().ok());
    let named: String = named.unwrap_or_default().chars().take(64).collect();
    let address = peer.ip().to_canonical();
    if named.is_empty() { format!("admin {address}") } else { format!("admin {address} as {named}") }
}

/// All keys, without secrets.
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    axum::Json(json!({ "keys": admin.shared.keys.list() })).into_response()
}

/// One key by its id or name, without secrets.
pub(super) async fn show(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Response {
    match admin.shared.keys.show(&id) {
        Ok(key) => axum::Json(key).into_response(),
        Err(refused) => refusal(&refused),
    }
}

/// Makes a key: `{ "name": "ci", "team": "platform", … }`. Its secret is in this answer, and in none after it.
pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (name, terms) = match read(&body) {
        Ok((Some(name), terms)) => (name, terms),
        Ok((None, _)) => return bad("`name` is missing"),
        Err(error) => return bad(&error),
    };
    match admin.shared.keys.create(&name, terms, &actor(peer, &headers)).await {
        Ok((key, secret)) => (StatusCode::CREATED, told(key, Some(&secret))).into_response(),
        Err(refused) => refusal(&refused),
    }
}

/// Changes what was agreed on: fields that are given replace those of before, `null` takes one away.
pub(super) async fn update(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(Value::Object(fields)) = serde_json::from_slice(&body) else {
        return bad("send an object as JSON");
    };
    change(&admin, &id, &Change::Terms(fields), &actor(peer, &headers)).await
}

/// Revokes a key, for good.
pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    change(&admin, &id, &Change::Revoke, &actor(peer, &headers)).await
}

/// `revoke`, `disable`, `enable`, or `rotate` with `{ "overlap": "24h" }`.
pub(super) async fn act(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((id, action)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let wanted = match action.as_str() {
        "revoke" => Change::Revoke,
        "disable" => Change::Disable,
        "enable" => Change::Enable,
        "rotate" => match overlap(&body) {
            Ok(overlap) => Change::Rotate(overlap),
            Err(error) => return bad(&error),
        },
        _ => {
            let text = "there are revoke, disable, enable and rotate\n";
            return (StatusCode::NOT_FOUND, text).into_response();
        }
    };
    change(&admin, &id, &wanted, &actor(peer, &headers)).await
}

async fn change(admin: &Admin, id: &str, change: &Change, actor: &str) -> Response {
    match admin.shared.keys.change(id, change, actor).await {
        Ok((key, secret)) => told(key, secret.as_ref()).into_response(),
        Err(refused) => refusal(&refused),
    }
}

fn told(mut key: Value, secret: Option<&SecretString>) -> Response {
    if let (Some(key), Some(secret)) = (key.as_object_mut(), secret) {
        key.insert("secret".into(), secret.expose_secret().into());
    }
    axum::Json(key).into_response()
}

/// The name, and the other fields.
fn read(body: &[u8]) -> Result<(Option<String>, KeyTerms), String> {
    let mut fields: serde_json::Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("send an object as JSON: {error}"))?;
    let name = match fields.shift_remove("name") {
        None => None,
        Some(Value::String(name)) => Some(name),
        Some(_) => return Err("`name` is a text".into()),
    };
    let terms = serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
    Ok((name, terms))
}

fn overlap(body: &[u8]) -> Result<u64, String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rotation {
        overlap: Option<Period>,
    }
    let rotation = if body.is_empty() {
        Rotation { overlap: None }
    } else {
        serde_json::from_slice(body).map_err(|error| error.to_string())?
    };
    Ok(u64::try_from(rotation.overlap.unwrap_or(OVERLAP).0.as_millis()).unwrap_or(u64::MAX))
}

fn bad(what: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{what}\n")).into_response()
}

/// Why nothing was done.
pub(super) fn refusal(refused: &Refused) -> Response {
    let status = match refused {
        Refused::Unknown => StatusCode::NOT_FOUND,
        Refused::Invalid(_) => StatusCode::BAD_REQUEST,
        Refused::Fixed(_) => StatusCode::CONFLICT,
        Refused::Trouble(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{refused}\n")).into_response()
}

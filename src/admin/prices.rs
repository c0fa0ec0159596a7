//! `/admin/v1/prices`: what models cost, how that came to be, and the webhook by which others push prices.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Admin;
use super::keys::{actor, refusal};
use crate::keys::PRICES;
use crate::ledger::{Document, Known, facts, kept};
use crate::providers::percent::decoded;
use crate::target::TargetName;

/// What is asked for.
#[derive(Default)]
struct Asked {
    /// `provider/model`: this target alone. For DELETE, the name under which prices were pushed.
    model: Option<String>,
    /// Whose models a list in OpenRouter's form names.
    provider: Option<String>,
}

impl Asked {
    /// Reads `?model=…&provider=…`.
    fn read(query: Option<&str>) -> Result<Self, String> {
        let mut asked = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = Some(decoded(value).ok_or_else(|| format!("`{key}` is not properly escaped\n"))?);
            match key {
                "model" => asked.model = value,
                "provider" => asked.provider = value,
                other => {
                    return Err(format!("`{other}` is not known here; there are `model` and `provider`\n"));
                }
            }
        }
        Ok(asked)
    }
}

/// Every listed model of every provider with what is known of it, and the changes, the last one first.
pub(super) async fn show(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let asked = match Asked::read(query.as_deref()) {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, error).into_response(),
    };
    let (snapshot, prices) = (admin.shared.snapshot.load(), &admin.shared.figures.prices);
    let book = prices.book();
    let vendors = snapshot.catalogue.vendors();
    let entry = |provider: &str, model: &str| {
        let vendor = vendors.iter().find(|vendor| *vendor.name == *provider)?;
        let name = TargetName { provider: vendor.name.clone(), model: model.into() };
        Some(shown(&name, book.of(&name, vendor.preset.as_deref()).as_deref()))
    };
    if let Some(model) = &asked.model {
        let found = model.split_once('/').and_then(|(provider, model)| entry(provider, model));
        return match found {
            Some(found) => axum::Json(found).into_response(),
            None => {
                (StatusCode::NOT_FOUND, "no such provider; write `?model=provider/model`\n").into_response()
            }
        };
    }
    let models =
        vendors.iter().flat_map(|vendor| vendor.models.iter().map(|model| entry(&vendor.name, model)));
    axum::Json(json!({
        "revision": book.revision,
        "models": models.flatten().collect::<Vec<_>>(),
        "changes": prices.changes(),
    }))
    .into_response()
}

fn shown(name: &TargetName, known: Option<&Known>) -> Value {
    let mut shown = json!({ "model": name.to_string(), "known": known.is_some() });
    if let (Some(known), Some(object)) = (known, shown.as_object_mut()) {
        object.insert("origin".into(), (&*known.origin).into());
        if let Some(listed) = &known.listed_as {
            object.insert("listed_as".into(), listed.as_str().into());
        }
        object.extend(facts(&known.model));
    }
    shown
}

/// Takes prices in any form that a source may have; they count from the next request on, until they are withdrawn; without
/// a database, or the process ends.
pub(super) async fn push(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = match Asked::read(query.as_deref()) {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, error).into_response(),
    };
    let provider = asked.provider.unwrap_or_else(|| "openrouter".to_owned());
    let size = body.len();
    let read = tokio::task::spawn_blocking(move || {
        let document = Document::read(&body, &provider)?;
        let rows = kept(&body, &document).into_iter().map(|(name, value)| (name, Some(value))).collect();
        Ok::<_, String>((document, rows))
    });
    let read = read.await;
    match read {
        Ok(Ok((document, rows))) => {
            let detail = json!({ "bytes": size });
            let actor = actor(peer, &headers);
            let who = Some((actor.as_str(), "prices.push", "prices", detail));
            if let Err(refused) = admin.shared.keys.set(PRICES, rows, who).await {
                return refusal(&refused);
            }
            let others = if let Document::Models(_, others) = &document { *others } else { 0 };
            let change = admin.shared.figures.prices.push(document);
            changed(&admin, change.is_some(), json!({ "change": change, "left_out": others }))
        }
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("the document {error}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the document could not be read\n").into_response(),
    }
}

/// Forgets pushed prices: `?model=…`, or all.
pub(super) async fn withdraw(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let asked = match Asked::read(query.as_deref()) {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, error).into_response(),
    };
    let (actor, target) = (actor(peer, &headers), asked.model.as_deref().unwrap_or("*"));
    let keys = &admin.shared.keys;
    let gone = match keys.settings(PRICES).await {
        Ok(kept) => kept.into_iter().map(|(name, _)| name),
        Err(refused) => return refusal(&refused),
    };
    let gone = gone.filter(|name| asked.model.as_ref().is_none_or(|model| model == name));
    let gone = gone.map(|name| (name, None)).collect();
    let who = Some((actor.as_str(), "prices.withdraw", target, json!({})));
    if let Err(refused) = keys.set(PRICES, gone, who).await {
        return refusal(&refused);
    }
    let change = admin.shared.figures.prices.withdraw(asked.model.as_deref());
    changed(&admin, change.is_some(), json!({ "change": change }))
}

fn changed(admin: &Admin, changed: bool, mut said: Value) -> Response {
    if let Some(object) = said.as_object_mut() {
        object.insert("changed".into(), changed.into());
        object.insert("revision".into(), admin.shared.figures.prices.book().revision.into());
    }
    axum::Json(said).into_response()
}

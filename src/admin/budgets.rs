//! `/admin/v1/budgets`: budgets that are made, changed and taken away while the gateway runs, beside those of the
//! configuration.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::Admin;
use super::keys::{actor, refusal};
use super::money::shown;
use super::refusals::{bad, json_of};
use crate::keys::{BUDGETS, Refused, patch};
use crate::ledger::BudgetSettings;

/// Why a budget of the configuration stays as it is.
const WRITTEN: Refused = Refused::Fixed("this budget stands in the configuration: change it there");
/// Why none can be made.
const NOWHERE: Refused =
    Refused::Fixed("there is no database for budgets: set `state.ledger`, or write them under `budgets:`");

/// Who asks.
type Peer = ConnectInfo<SocketAddr>;

/// Makes a budget; it counts what the ledger knows of its period.
pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let settings: Map<String, Value> = match json_of(&body, "a budget") {
        Ok(settings) => settings,
        Err(why) => return bad(&why),
    };
    let settings = Value::Object(settings);
    let name = settings["name"].as_str().unwrap_or_default().to_owned();
    let who = (&*actor(peer, &headers), "budget.create");
    let made = amend(&admin, &name, who, |known| {
        if known.is_some() || admin.shared.figures.is_written(&name) {
            return Err(Refused::Fixed("there is a budget of this name"));
        }
        checked(settings.clone()).map(Some)
    });
    answered(&admin, &name, StatusCode::CREATED, made.await)
}

/// One budget: what was agreed on, where it stands, and what is spent of it.
pub(super) async fn one(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    match found(&admin, &name).await {
        Ok(settings) => match said(&admin, &name, settings.as_ref()) {
            Some(budget) => Json(budget).into_response(),
            None => no(&Refused::Unknown),
        },
        Err(refused) => no(&refused),
    }
}

/// Changes the fields given; null takes one away. What was spent stays, as long as the same requests are counted.
pub(super) async fn update(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): Peer,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fields: Map<String, Value> = match json_of(&body, "the fields that change") {
        Ok(fields) => fields,
        Err(why) => return bad(&why),
    };
    let who = (&*actor(peer, &headers), "budget.update");
    let changed = amend(&admin, &name, who, |known| {
        let mut settings = changeable(&admin, &name, known)?;
        patch::<BudgetSettings>(&mut settings, &fields)?;
        if settings["name"] != *name {
            return Err(Refused::Invalid("a budget keeps its name; make another one".into()));
        }
        checked(settings).map(Some)
    });
    answered(&admin, &name, StatusCode::OK, changed.await)
}

/// Takes a budget away.
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): Peer,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let who = (&*actor(peer, &headers), "budget.delete");
    let gone = amend(&admin, &name, who, |known| changeable(&admin, &name, known).map(|_| None));
    match gone.await {
        Ok(()) => Json(json!({ "name": name, "deleted": true })).into_response(),
        Err(refused) => no(&refused),
    }
}

fn no(refused: &Refused) -> Response {
    match refused {
        Refused::Unknown => (StatusCode::NOT_FOUND, "there is no such budget\n").into_response(),
        other => refusal(other),
    }
}

/// What was set under this name.
async fn found(admin: &Admin, name: &str) -> Result<Option<Value>, Refused> {
    let all = admin.shared.keys.settings(BUDGETS).await?;
    Ok(all.into_iter().find(|(known, _)| known == name).map(|(_, settings)| settings))
}

/// What was set under this name, of a budget that can be changed.
fn changeable(admin: &Admin, name: &str, known: Option<Value>) -> Result<Value, Refused> {
    let none = || if admin.shared.figures.is_written(name) { WRITTEN } else { Refused::Unknown };
    known.ok_or_else(none)
}

/// Makes of a budget what `change` says, at all gateways that share it, and takes what is kept into service.
async fn amend(
    admin: &Admin,
    name: &str,
    who: (&str, &str),
    change: impl Fn(Option<Value>) -> Result<Option<Value>, Refused> + Send + Sync,
) -> Result<(), Refused> {
    if !admin.shared.keys.amend(BUDGETS, name, who, change).await? {
        return Err(NOWHERE);
    }
    take(admin).await
}

/// The settings as they are kept.
fn checked(settings: Value) -> Result<Value, Refused> {
    let read: BudgetSettings =
        serde_json::from_value(settings).map_err(|error| Refused::Invalid(format!("the budget: {error}")))?;
    read.checked().map_err(|errors| {
        let told = errors.into_iter().map(|(field, what)| format!("`{field}`: {what}"));
        Refused::Invalid(told.collect::<Vec<_>>().join("; "))
    })?;
    // Only what was written and can be read comes here.
    Ok(serde_json::to_value(&read).unwrap_or_default())
}

/// Takes what is kept into service.
async fn take(admin: &Admin) -> Result<(), Refused> {
    let kept = admin.shared.keys.settings(BUDGETS).await?;
    let set = kept.into_iter().filter_map(|(_, value)| serde_json::from_value(value).ok()).collect();
    let figures = admin.shared.figures.clone();
    // What was spent is read from the ledger.
    let taken = tokio::task::spawn_blocking(move || figures.set_budgets(set)).await;
    taken.map_err(|_| Refused::Invalid("the budgets could not be taken".into()))
}

fn answered(admin: &Admin, name: &str, status: StatusCode, done: Result<(), Refused>) -> Response {
    match done {
        Ok(()) => (status, Json(said(admin, name, None))).into_response(),
        Err(refused) => no(&refused),
    }
}

fn said(admin: &Admin, name: &str, settings: Option<&Value>) -> Option<Value> {
    let desk = admin.shared.figures.desk();
    let standings = desk.budgets.standings(desk.now(), super::money::USUAL_PARTS);
    let parts: Vec<Value> = standings.iter().filter(|s| *s.name == *name).map(shown).collect();
    let source = if admin.shared.figures.is_written(name) { "configuration" } else { "database" };
    let known = settings.is_some() || desk.budgets.names().iter().any(|known| **known == *name);
    known.then(|| {
        let mut said = json!({ "name": name, "source": source, "parts": parts });
        if let Some(settings) = settings {
            said["settings"] = settings.clone();
        }
        said
    })
}

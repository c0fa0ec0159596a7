//! `GET /v1/models` and `/v1/models/{id}`: what a client may ask for.

use http::{Response, StatusCode};
use serde::Serialize;

use super::reply::{self, ReplyBody};
use crate::gateway::Snapshot;
use crate::planner::{Known, unknown_model};

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
}

/// Aliases in the order written, each with its versions, then the listed models of each provider: what clients of this
/// version of the API may ask for.
pub(super) fn list(snapshot: &Snapshot, version: Option<usize>, request_id: &str) -> Response<ReplyBody> {
    let created = snapshot.built_ms / 1_000;
    let catalogue = snapshot.catalogue_of(version);
    let aliases = catalogue.names().into_iter().map(|name| model(name, "tollgate", created));
    let vendors = if catalogue.is_open() { catalogue.vendors() } else { Vec::new() };
    let targets = vendors.iter().flat_map(|vendor| {
        vendor.models.iter().map(|m| model(&format!("{}/{m}", vendor.name), &vendor.name, created))
    });
    answer(&List { object: "list", data: aliases.chain(targets).collect() }, request_id)
}

/// One model: an alias or a version of it, or any `provider/model` of a configured provider.
pub(super) fn one(
    snapshot: &Snapshot,
    version: Option<usize>,
    id: &str,
    request_id: &str,
) -> Response<ReplyBody> {
    let created = snapshot.built_ms / 1_000;
    let catalogue = snapshot.catalogue_of(version);
    match catalogue.find(id).filter(|_| catalogue.offers(id)) {
        Some(Known::Alias(_) | Known::Split(_)) => answer(&model(id, "tollgate", created), request_id),
        Some(Known::Target(target)) => answer(&model(id, &target.name.provider, created), request_id),
        None => reply::fault(&unknown_model(id), request_id),
    }
}

fn model(id: &str, owner: &str, created: u64) -> Model {
    Model { id: id.to_owned(), object: "model", created, owned_by: owner.to_owned() }
}

fn answer(body: &impl Serialize, request_id: &str) -> Response<ReplyBody> {
    // Plain structs of strings and numbers always serialise.
    let mut response = reply::json(StatusCode::OK, serde_json::to_vec(body).unwrap_or_default());
    reply::name(&mut response, request_id);
    response
}

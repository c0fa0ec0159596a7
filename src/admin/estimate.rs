//! `/admin/v1/estimate`: what prompts would cost at each of several models; the same that clients get at `/v1/estimate`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Admin;
use crate::api::estimate::{Sight, draft};
use crate::caller::Caller;
use crate::fault::Fault;

/// The estimate, for every model that there is.
pub(super) async fn make(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    match told(&admin, body).await {
        Ok(estimate) => Json(estimate).into_response(),
        Err(fault) => {
            let status = StatusCode::from_u16(fault.client_status()).unwrap_or(StatusCode::BAD_REQUEST);
            let place = fault.param.as_deref().map(|param| format!("{param}: ")).unwrap_or_default();
            (status, Json(json!({ "error": format!("{place}{}", fault.message) }))).into_response()
        }
    }
}

async fn told(admin: &Admin, body: Bytes) -> Result<Value, Fault> {
    let draft = {
        let (snapshot, figures) = (admin.shared.snapshot.load(), &admin.shared.figures);
        let (book, caller) = (figures.prices.book(), Caller::default());
        let sight = Sight {
            catalogue: &snapshot.catalogue,
            market: &*snapshot.market,
            book: &book,
            caller: &caller,
            unix_ms: admin.shared.clock.unix_ms(),
        };
        draft(body, &sight)?
    };
    draft.make(&admin.shared.figures.tokens).await
}

/// What was learned of the tokens that targets count.
pub(super) async fn tokens(State(admin): State<Arc<Admin>>) -> Response {
    Json(json!({ "tokens": admin.shared.figures.tokens.learned() })).into_response()
}

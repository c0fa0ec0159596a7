//! The admin listener: health, metrics, status.

mod admit;
mod alerts;
mod audit;
mod budgets;
mod chaos;
mod decisions;
mod estimate;
mod keys;
mod money;
mod openapi;
mod plugins;
mod policies;
mod prices;
mod providers;
mod refusals;
mod settings;
mod status;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
pub use policies::Desk;
use secrecy::SecretString;
pub use settings::AdminSettings;
pub use status::{ReloadState, Status};
use tokio::net::TcpListener;

use crate::gateway::Shared;
use crate::plugin::{Consequence, Interface, Plugin};

/// The largest price document that may be pushed, in bytes.
const MOST_PRICES: usize = 8 << 20;

/// What the admin listener shows.
pub struct Admin {
    /// What the workers share.
    pub shared: Arc<Shared>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// How reloads went.
    pub reloads: Arc<ReloadState>,
    /// Whether new requests are still wanted; readiness says so.
    pub draining: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Who puts older policies in the place of those on disk.
    pub desk: Arc<dyn Desk>,
    /// How secrets in stores elsewhere stand, without their values.
    pub secrets: Arc<dyn Fn() -> Vec<serde_json::Value> + Send + Sync>,
    /// Bearer token of `/admin/v1/*`; without one these paths answer on loopback only.
    pub token: Option<SecretString>,
}

/// Binds the admin listener.
///
/// # Errors
/// When the address is in use or not ours.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => {
            format!("admin.listen: cannot listen on {address}: another process listens there")
        }
        ErrorKind::AddrNotAvailable => {
            format!("admin.listen: cannot listen on {address}: this machine does not have that address")
        }
        _ => format!("admin.listen: cannot listen on {address}: {error}"),
    })
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, admin: Admin) {
    let admin = Arc::new(admin);
    tokio::spawn(upkeep(admin.metrics.clone()));
    let guarded = Router::new()
        .route("/admin/v1/openapi.json", get(openapi::show))
        .route("/admin/v1/status", get(status_page))
        .route("/admin/v1/decisions", get(decisions::list))
        .route("/admin/v1/decisions/{id}", get(decisions::one))
        .route("/admin/v1/providers", get(providers::show))
        .route("/admin/v1/keys", get(keys::list).post(keys::create))
        .route("/admin/v1/keys/{id}", get(keys::show).patch(keys::update).delete(keys::revoke))
        .route("/admin/v1/keys/{id}/{action}", post(keys::act))
        .route("/admin/v1/audit", get(audit::list))
        .route("/admin/v1/audit/verify", get(audit::verify))
        .route("/admin/v1/chaos", get(chaos::list).post(chaos::begin).delete(chaos::end))
        .route("/admin/v1/plugins", get(plugins::show))
        .route("/admin/v1/estimate", post(estimate::make))
        .route("/admin/v1/tokens", get(estimate::tokens))
        .route("/admin/v1/usage", get(money::usage))
        .route("/admin/v1/budgets", get(money::budgets).post(budgets::create))
        .route("/admin/v1/budgets/{name}", get(budgets::one).patch(budgets::update).delete(budgets::delete))
        .route("/admin/v1/alerts", get(alerts::show))
        .route("/admin/v1/policies", get(policies::show))
        .route("/admin/v1/policies/versions", get(policies::versions))
        .route("/admin/v1/policies/rollback", post(policies::roll_back))
        .route("/admin/v1/policies/promote", post(policies::promote))
        .route("/admin/v1/prices", get(prices::show).post(prices::push).delete(prices::withdraw))
        .layer(DefaultBodyLimit::max(MOST_PRICES))
        .route_layer(middleware::from_fn_with_state(admin.clone(), admit::admit))
        .layer(middleware::map_response(refusals::shape));
    let app = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .merge(guarded)
        .fallback(nowhere)
        .with_state(admin);
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).await {
        tracing::error!(%error, "admin listener ended");
    }
}

/// What is asked of a path that there is not; programs get it in the form of every refusal.
async fn nowhere(path: Uri) -> Response {
    let pages = "no such page; try /livez /readyz /metrics /admin/v1/status /admin/v1/decisions /admin/v1/providers \
                 /admin/v1/policies /admin/v1/plugins /admin/v1/prices /admin/v1/keys /admin/v1/audit /admin/v1/chaos \
                 /admin/v1/usage /admin/v1/budgets /admin/v1/alerts /admin/v1/estimate /admin/v1/tokens \
                 /admin/v1/openapi.json\n";
    let answer = (StatusCode::NOT_FOUND, pages).into_response();
    if path.path().starts_with("/admin/") { refusals::shape(answer).await } else { answer }
}

/// Histograms gather their samples in memory until somebody looks; nobody may ever look.
async fn upkeep(metrics: PrometheusHandle) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        metrics.run_upkeep();
    }
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    if (admin.draining)() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    let snapshot = admin.shared.snapshot.load();
    // A plugin without which requests are refused, whatever it exports: nobody knows as long as it is not loaded.
    let needed = |plugin: &Plugin| {
        let closed = |interface| plugin.on_error(interface) == Consequence::Deny;
        plugin.absent().is_some() && closed(Interface::Classify) && closed(Interface::Route)
    };
    if let Some(plugin) = snapshot.plugins.iter().find(|plugin| needed(plugin)) {
        let reason = plugin.absent().unwrap_or_default();
        let text = format!("plugin `{}` is not there: {reason}\n", plugin.name());
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let mut text = "ready".to_owned();
    if let Some(pinned) = &snapshot.pinned {
        text += &format!("; rolled back: the policies {} serve until those on disk change", pinned.hash);
    }
    let chaos = admin.shared.figures.chaos.names();
    if !chaos.is_empty() {
        text += &format!("; chaos: faults are injected on purpose by {}", chaos.join(", "));
    }
    (text + "\n").into_response()
}

async fn metrics_page(State(admin): State<Arc<Admin>>) -> Response {
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; the count is small")]
    metrics::gauge!("tollgate_requests_in_flight").set(admin.shared.admission.in_flight() as f64);
    let desk = admin.shared.figures.desk();
    for standing in desk.budgets.standings(desk.now(), 1) {
        let budget = standing.name.to_string();
        metrics::gauge!("tollgate_budget_used_ratio", "budget" => budget.clone()).set(standing.ratio());
        metrics::gauge!("tollgate_budget_held", "budget" => budget)
            .set(standing.measure.shown(standing.held));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render())
        .into_response()
}

async fn status_page(State(admin): State<Arc<Admin>>) -> Response {
    axum::Json(Status::of(&admin)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn a_path_that_there_is_not_is_told_to_programs_as_every_refusal() {
        for (path, is_json) in [("/admin/v1/prces", true), ("/metricz", false)] {
            let answer = nowhere(Uri::from_static(path)).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            let body = to_bytes(answer.into_body(), 4_096).await.unwrap();
            let said = serde_json::from_slice::<serde_json::Value>(&body);
            assert_eq!(said.is_ok_and(|said| said["error"].is_string()), is_json, "{path}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_told_with_its_setting() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let told = bind(address).await.unwrap_err();
        assert_eq!(told, format!("admin.listen: cannot listen on {address}: another process listens there"));
    }
}

//! Keeps the figures fresh: adds up health every second, and reads price sources when they are due.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::check::base;
use crate::breaker::TICK;
use crate::gateway::Figures;
use crate::ledger::{Document, SourceSettings};
use crate::upstream::{Outbound, Upstream};

/// For one reading of an address.
const DEADLINE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);

/// The largest document; the largest known is a tenth of it.
const MOST: u64 = 32 << 20;

/// How long until a source that failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// When a source is to be read again, or the reading that is under way.
struct Turn {
    settings: SourceSettings,
    due: Instant,
    reading: Option<JoinHandle<bool>>,
}

/// Runs as long as the process.
pub async fn feed(figures: Arc<Figures>, upstream: Arc<Upstream>) {
    let mut turns: HashMap<String, Turn> = HashMap::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = Instant::now();
        figures.health.tick(now);
        figures.gates.tick(now);
        figures.lanes.tick(now);
        figures.chaos.tick(now);
        let sources = figures.sources.load_full();
        if sources.is_empty() && turns.is_empty() {
            continue;
        }
        turns.retain(|_, turn| sources.contains(&turn.settings));
        for source in sources.iter() {
            let fresh = || Turn { settings: source.clone(), due: now, reading: None };
            let turn = turns.entry(source.from.clone()).or_insert_with(fresh);
            if turn.reading.as_ref().is_some_and(JoinHandle::is_finished)
                && let Some(reading) = turn.reading.take()
            {
                let good = reading.await.unwrap_or(false);
                turn.due = now + if good { source.every.0 } else { source.every.0.min(AGAIN) };
            }
            if turn.reading.is_none() && turn.due <= now {
                let (figures, upstream, source) = (figures.clone(), upstream.clone(), source.clone());
                turn.reading = Some(tokio::spawn(async move { refresh(&figures, &upstream, &source).await }));
            }
        }
    }
}

/// Reads one source; the prices of before go on when it cannot be read.
async fn refresh(figures: &Figures, upstream: &Upstream, source: &SourceSettings) -> bool {
    let read = tokio::time::timeout(DEADLINE, text(upstream, &source.from)).await;
    let read = read.unwrap_or_else(|_| Err("did not answer in time".to_owned()));
    let provider = source.provider.clone();
    // Two megabytes of JSON take a while; health is added up in the meantime.
    let document = match read {
        Ok(text) => tokio::task::spawn_blocking(move || Document::read(&text, &provider))
            .await
            .unwrap_or_else(|_| Err("could not be read".to_owned())),
        Err(error) => Err(error),
    };
    let outcome = match document {
        Ok(document) => {
            let sources = figures.sources.load();
            let order: Vec<Arc<str>> = sources.iter().map(|source| source.from.as_str().into()).collect();
            let name: Arc<str> = source.from.as_str().into();
            let change =
                order.contains(&name).then(|| figures.prices.fetched(&name, document, &order)).flatten();
            if change.is_some() { "changed" } else { "unchanged" }
        }
        Err(error) => {
            tracing::warn!(source = source.from, error, "prices were not refreshed; those of before go on");
            "failed"
        }
    };
    metrics::counter!("tollgate_price_refreshes_total", "outcome" => outcome).increment(1);
    outcome != "failed"
}

pub(super) async fn text(upstream: &Upstream, from: &str) -> Result<Vec<u8>, String> {
    if !from.contains("://") {
        let path = PathBuf::from(from);
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        return read.map_err(|error| error.to_string())?.map_err(|error| error.to_string());
    }
    let base = base(from).map_err(ToOwned::to_owned)?;
    let path = if base.path.is_empty() { "/" } else { &base.path };
    let path_and_query = PathAndQuery::try_from(path).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    let agent = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [(USER_AGENT, agent), (ACCEPT_ENCODING, "identity"), (ACCEPT, "application/json")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let request = Outbound::new(Method::GET, path_and_query, headers, Vec::new());
    let answer = upstream.send(&base.origin, request, CONNECT).await.map_err(|fault| fault.to_string())?;
    let (head, body) = answer.into_parts();
    if head.status != 200 {
        return Err(format!("answered {}", head.status));
    }
    body.collect(MOST).await.map(Into::into).map_err(|fault| fault.to_string())
}

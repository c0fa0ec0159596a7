//! Alerts of budgets: written to the log, counted, and carried to webhooks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

use super::check::{Base, base};
use crate::clock::{Clock, SystemClock};
use crate::ledger::{Alert, AlertKind, Desk, shown_amount};
use crate::settings::SecretRef;
use crate::telemetry;
use crate::upstream::{Outbound, Upstream};

/// Where alerts go besides the log and the metrics.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct AlertSettings {
    /// Addresses that are told of every alert, by POST with a JSON body.
    pub webhooks: Vec<WebhookSettings>,
}

/// An address that is told of alerts.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// `https://…`; plain HTTP only for this machine and private networks.
    pub url: String,
    /// The key of the signature, at least 16 bytes: `x-tollgate-signature: t=SECONDS,v1=HEX` is HMAC-SHA256 over the
    /// seconds, a dot and the body.
    pub secret: SecretRef,
}

/// The shortest key that is worth the name.
const MIN_SECRET: usize = 16;
/// Alerts that wait to be told.
const QUEUE: usize = 1_024;
/// Alerts on their way at the same time.
const AT_ONCE: usize = 16;
/// For one delivery.
const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// Pauses before the tries after the first.
const AGAIN: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];

/// A webhook with its key.
struct Hook {
    base: Base,
    shown: String,
    secret: SecretString,
}

impl super::House {
    /// The webhooks of the configuration, with their keys.
    ///
    /// # Errors
    /// A key that cannot be read, or is too short; an address that is none.
    pub fn courier(&self, upstream: Upstream) -> Result<Courier, String> {
        let secrets = self.secrets();
        let hooks = self.checked.config.alerts.webhooks.iter().enumerate().map(|(at, settings)| {
            let complain = |error: String| format!("alerts.webhooks[{at}]: {error}");
            let base = base(&settings.url).map_err(|error| complain(format!("the address {error}")))?;
            let secret = secrets.resolve_token(&settings.secret, MIN_SECRET).map_err(complain)?;
            let shown = base.origin.authority();
            Ok(Arc::new(Hook { base, shown, secret }))
        });
        Ok(Courier { hooks: hooks.collect::<Result<_, String>>()?, upstream: Arc::new(upstream) })
    }
}

/// Carries alerts.
pub struct Courier {
    hooks: Vec<Arc<Hook>>,
    upstream: Arc<Upstream>,
}

/// Listens to the alerts of the ledger's budgets, as long as the process runs.
pub async fn carry_alerts(desk: Arc<Desk>, courier: Courier) {
    let (to, mut alerts) = mpsc::channel(QUEUE);
    desk.budgets.alert_to(to);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(alert) = alerts.recv().await {
        tell(&alert);
        let Ok(body) = serde_json::to_vec(&message(&alert)) else { continue };
        let body = Bytes::from(body);
        for hook in &courier.hooks {
            let Ok(place) = places.clone().try_acquire_owned() else {
                metrics::counter!("tollgate_alerts_dropped_total").increment(1);
                continue;
            };
            let (hook, upstream, body) = (hook.clone(), courier.upstream.clone(), body.clone());
            tokio::spawn(async move {
                deliver(&hook, &upstream, body).await;
                drop(place);
            });
        }
    }
}

fn tell(alert: &Alert) {
    let (event, percent) = match alert.kind {
        AlertKind::BudgetThreshold { percent } => ("budget_threshold", percent),
        AlertKind::BudgetProjection { percent } => ("budget_projection", percent),
    };
    let about = message(alert);
    telemetry::alarm(event, without_event(about));
    let standing = &alert.standing;
    let budget = standing.name.to_string();
    let used = shown_amount(standing.measure, standing.used);
    let limit = shown_amount(standing.measure, standing.limit);
    tracing::warn!(event, budget, part = standing.part, percent, used, limit, "budget alert");
    metrics::counter!("tollgate_budget_alerts_total", "budget" => budget, "event" => event).increment(1);
}

/// The event stands beside it.
fn without_event(mut about: serde_json::Value) -> serde_json::Value {
    if let Some(about) = about.as_object_mut() {
        about.shift_remove("event");
        about.shift_remove("at_ms");
    }
    about
}

/// What a webhook is told: the event, and how the budget stands, in numbers and in words.
fn message(alert: &Alert) -> serde_json::Value {
    let mut message = serde_json::to_value(alert).unwrap_or_default();
    let standing = &alert.standing;
    message["used_text"] = shown_amount(standing.measure, standing.used).into();
    message["limit_text"] = shown_amount(standing.measure, standing.limit).into();
    message
}

async fn deliver(hook: &Hook, upstream: &Upstream, body: Bytes) {
    let mut pauses = AGAIN.iter();
    loop {
        let sent = tokio::time::timeout(DEADLINE, send(hook, upstream, body.clone())).await;
        let sent = sent.unwrap_or_else(|_| Err("did not answer in time".to_owned()));
        let outcome = if sent.is_ok() { "ok" } else { "failed" };
        metrics::counter!("tollgate_webhooks_total", "outcome" => outcome).increment(1);
        let Err(error) = sent else { return };
        match pauses.next() {
            Some(pause) => {
                tracing::warn!(webhook = hook.shown, error, "an alert will be sent again");
                tokio::time::sleep(*pause).await;
            }
            None => {
                tracing::error!(webhook = hook.shown, error, "an alert was not delivered");
                return;
            }
        }
    }
}

async fn send(hook: &Hook, upstream: &Upstream, body: Bytes) -> Result<(), String> {
    let path = if hook.base.path.is_empty() { "/" } else { &hook.base.path };
    let path_and_query = PathAndQuery::try_from(path).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    let agent = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
    for (name, value) in
        [(USER_AGENT, agent), (ACCEPT_ENCODING, "identity"), (CONTENT_TYPE, "application/json")]
    {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let signature = signature(hook.secret.expose_secret(), SystemClock.unix_ms() / 1_000, &body);
    let signature = HeaderValue::from_str(&signature).map_err(|error| error.to_string())?;
    headers.insert(HeaderName::from_static("x-tollgate-signature"), signature);
    let request = Outbound::new(Method::POST, path_and_query, headers, vec![body]);
    let answer =
        upstream.send(&hook.base.origin, request, CONNECT).await.map_err(|fault| fault.to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("answered {}", answer.status())) }
}

/// `t=SECONDS,v1=HEX`: nobody without the key can make it, and an old one is seen to be old.
fn signature(secret: &str, unix: u64, body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = ring::hmac::Context::with_key(&key);
    context.update(format!("{unix}.").as_bytes());
    context.update(body);
    let tag = context.sign();
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={unix},v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_that_others_compute() {
        // openssl: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let signed = signature("0123456789abcdef", 1_700_000_000, br#"{"a":1}"#);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"0123456789abcdef");
        let expected = ring::hmac::sign(&key, br#"1700000000.{"a":1}"#);
        let hex: String = expected.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(signed, format!("t=1700000000,v1={hex}"));
    }
}

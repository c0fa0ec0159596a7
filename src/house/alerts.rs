//! Alerts: those of budgets are written to the log and counted, and all of them are carried to webhooks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

use super::check::{Base, base};
use super::secrets::Secrets;
use crate::clock::{Clock, SystemClock};
use crate::ledger::{Alert, AlertKind, Desk, Standing, shown_amount};
use crate::settings::SecretRef;
use crate::store::redis::{Redis, Value as RedisValue, cmd};
use crate::target::Origin;
use crate::telemetry::{self, Alarm};
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
    /// `https://…`, or a reference to it where who knows the address may write to it: `env:NAME`, `file:PATH`. Plain HTTP
    /// only for this machine and private networks.
    pub url: String,
    /// The key of the signature, at least 16 bytes: `x-tollgate-signature: t=SECONDS,v1=HEX` is HMAC-SHA256 over the
    /// seconds, a dot and the body.
    pub secret: SecretRef,
    /// Which alerts it is told of; all, where nothing is said.
    #[serde(default)]
    pub events: Vec<AlertEvent>,
}

/// What alerts tell of.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum AlertEvent {
    /// So much of a budget is spent.
    BudgetThreshold,
    /// A budget will be exceeded at its pace.
    BudgetProjection,
    /// A provider fails too often.
    ProviderFails,
    /// It does no longer.
    ProviderRecovered,
    /// A target is left alone.
    BreakerOpened,
    /// A provider refuses a key.
    KeyOut,
    /// A secret of a store is not used any more.
    SecretLapsed,
}

/// The shortest key that is worth the name.
const MIN_SECRET: usize = 16;
/// Alerts that wait to be told, to each address.
const QUEUE: usize = 1_024;
/// Alerts on their way to one address at the same time.
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

/// In an alert: another gateway has told the webhooks of it.
const ELSEWHERE: &str = "told_elsewhere";
/// How long it is known that an alert was told: beyond the window, of one that has no end, and of one that rolls.
const AFTERWARDS: Duration = Duration::from_secs(3_600);
const FOR_GOOD: Duration = Duration::from_secs(400 * 86_400);
const ROLLING: Duration = Duration::from_secs(300);

/// A webhook with its key.
pub(super) struct Hook {
    origin: Origin,
    target: PathAndQuery,
    shown: String,
    secret: SecretString,
    events: Vec<AlertEvent>,
}

impl WebhookSettings {
    /// What its address is, where it is a reference.
    pub(super) fn reference(&self) -> Option<SecretRef> {
        if self.url.contains("://") { None } else { self.url.parse().ok() }
    }
}

impl Hook {
    /// A webhook of the configuration.
    ///
    /// # Errors
    /// The field, and what is wrong with it: a secret that cannot be read, or is too short; an address that is none.
    pub(super) fn of(
        settings: &WebhookSettings,
        secrets: &Secrets<'_>,
    ) -> Result<Self, (&'static str, String)> {
        let url = match settings.reference() {
            Some(reference) => secrets.resolve(&reference).map_err(|error| ("url", error))?,
            None => settings.url.as_str().into(),
        };
        let (origin, target) =
            address(url.expose_secret()).map_err(|error| ("url", format!("the address {error}")))?;
        let secret =
            secrets.resolve_token(&settings.secret, MIN_SECRET).map_err(|error| ("secret", error))?;
        Ok(Self { shown: origin.authority(), origin, target, secret, events: settings.events.clone() })
    }

    fn wants(&self, event: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|wanted| wanted.as_str() == event)
    }
}

impl AlertEvent {
    fn as_str(self) -> &'static str {
        match self {
            Self::BudgetThreshold => "budget_threshold",
            Self::BudgetProjection => "budget_projection",
            Self::ProviderFails => "provider_fails",
            Self::ProviderRecovered => "provider_recovered",
            Self::BreakerOpened => "breaker_opened",
            Self::KeyOut => "key_out",
            Self::SecretLapsed => "secret_lapsed",
        }
    }
}

/// Where a webhook is, and what is asked for there. Unlike base URLs, addresses of webhooks may have a query, and end with
/// a slash that means something.
///
/// # Errors
/// What is wrong with it; it is not repeated, for it may be a secret.
pub(super) fn address(text: &str) -> Result<(Origin, PathAndQuery), &'static str> {
    let place = text.split_once('?').map_or(text, |(place, _)| place);
    let Base { origin, .. } = base(place)?;
    if text.contains('#') {
        return Err("has a fragment (`#…`)");
    }
    let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
    let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok((origin, target))
}

impl super::House {
    /// The webhooks of the configuration, with their keys.
    ///
    /// # Errors
    /// A key that cannot be read, or is too short; an address that is none.
    pub fn courier(&self, upstream: Upstream) -> Result<Courier, String> {
        let secrets = self.secrets();
        let hooks = self.checked.config.alerts.webhooks.iter().enumerate().map(|(at, settings)| {
            let hook = Hook::of(settings, &secrets);
            hook.map(Arc::new).map_err(|(field, error)| format!("alerts.webhooks[{at}].{field}: {error}"))
        });
        Ok(Courier { hooks: hooks.collect::<Result<_, String>>()?, upstream: Arc::new(upstream) })
    }
}

/// Carries alerts.
pub struct Courier {
    hooks: Vec<Arc<Hook>>,
    upstream: Arc<Upstream>,
}

/// Tells of the alerts of the ledger's budgets, and carries all alerts, as long as the process runs. Where gateways count
/// budgets together in `redis`, one of them tells the webhooks.
pub async fn carry_alerts(desk: Arc<Desk>, courier: Courier, redis: Option<Arc<Redis>>) {
    let (to, mut of_budgets) = mpsc::channel(QUEUE);
    desk.budgets.alert_to(to);
    let (to, mut alarms) = mpsc::channel(QUEUE);
    telemetry::alarm_to(to);
    let Courier { hooks, upstream } = courier;
    let lines = hooks.into_iter().map(|hook| {
        let (to, line) = mpsc::channel(QUEUE);
        tokio::spawn(carry(hook.clone(), upstream.clone(), line));
        (hook, to)
    });
    let lines: Vec<_> = lines.collect();
    loop {
        tokio::select! {
            Some(alert) = of_budgets.recv() => tell(&alert, is_told_elsewhere(&alert, redis.as_deref()).await),
            Some(alarm) = alarms.recv() => {
                if alarm.about[ELSEWHERE] == true {
                    continue;
                }
                let Ok(body) = serde_json::to_vec(&message(&alarm)) else { continue };
                let body = Bytes::from(body);
                for (_, line) in lines.iter().filter(|(hook, _)| hook.wants(alarm.event)) {
                    if line.try_send(body.clone()).is_err() {
                        metrics::counter!("tollgate_alerts_dropped_total").increment(1);
                    }
                }
            }
            else => return,
        }
    }
}

/// Each address has a line of its own: one that does not answer keeps no other waiting.
async fn carry(hook: Arc<Hook>, upstream: Arc<Upstream>, mut line: mpsc::Receiver<Bytes>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(body) = line.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (hook, upstream) = (hook.clone(), upstream.clone());
        tokio::spawn(async move {
            deliver(&hook, &upstream, body).await;
            drop(place);
        });
    }
}

/// Whether another gateway has told the webhooks of this: whoever is first does. Where Redis is away, everybody does.
async fn is_told_elsewhere(alert: &Alert, redis: Option<&Redis>) -> bool {
    let Some(redis) = redis else { return false };
    let Standing { name, part, measure, limit, per, rolling, since_ms, resets_ms, .. } = &alert.standing;
    // What rolls has no beginning that all would name: what is told within the same minutes is the same.
    let (since, life) = match resets_ms {
        _ if *rolling => (0, ROLLING),
        Some(resets) => (*since_ms, Duration::from_millis(resets.saturating_sub(alert.at_ms)) + AFTERWARDS),
        None => (*since_ms, FOR_GOOD),
    };
    let what = format!("{name}\0{part}\0{measure:?}\0{limit}\0{per}\0{since}\0{:?}", alert.kind.threshold());
    let key = redis.key(&format!("a:{}", blake3::hash(what.as_bytes()).to_hex()));
    let mut set = cmd("SET");
    set.arg(key).arg("1").arg("NX").arg("PX").arg(u64::try_from(life.as_millis()).unwrap_or(u64::MAX >> 2));
    matches!(redis.fetch(&set).await, Ok(RedisValue::Nil))
}

/// An alert of a budget stands in the log and the metrics, and goes on with all others.
fn tell(alert: &Alert, elsewhere: bool) {
    let (event, percent) = match alert.kind {
        AlertKind::BudgetThreshold { percent } => (AlertEvent::BudgetThreshold.as_str(), percent),
        AlertKind::BudgetProjection { percent } => (AlertEvent::BudgetProjection.as_str(), percent),
    };
    let mut about = about(alert);
    if elsewhere {
        about[ELSEWHERE] = true.into();
    }
    telemetry::alarm(event, about);
    let standing = &alert.standing;
    let budget = standing.name.to_string();
    let used = shown_amount(standing.measure, standing.used);
    let limit = shown_amount(standing.measure, standing.limit);
    tracing::warn!(event, budget, part = standing.part, percent, used, limit, "budget alert");
    metrics::counter!("tollgate_budget_alerts_total", "budget" => budget, "event" => event).increment(1);
}

/// How the budget stands, in numbers and in words. The event and the time stand beside it.
fn about(alert: &Alert) -> Value {
    let mut about = serde_json::to_value(alert).unwrap_or_default();
    let standing = &alert.standing;
    if let Some(about) = about.as_object_mut() {
        about.shift_remove("event");
        about.shift_remove("at_ms");
        about.insert("used_text".into(), shown_amount(standing.measure, standing.used).into());
        about.insert("limit_text".into(), shown_amount(standing.measure, standing.limit).into());
    }
    about
}

/// What a webhook is told: the event, and a sentence, which Slack and its like show.
fn message(alarm: &Alarm) -> Value {
    let mut message = serde_json::to_value(alarm).unwrap_or_default();
    message["text"] = words(alarm).into();
    message
}

fn words(alarm: &Alarm) -> String {
    let word = |name: &str| match &alarm.about[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if alarm.about.get("limit_text").is_some() {
        let part = match &*word("part") {
            "" => String::new(),
            part => format!(" ({part})"),
        };
        let (percent, limit, used) = (word("percent"), word("limit_text"), word("used_text"));
        let per = match &*word("per") {
            "total" => " in all".to_owned(),
            per => format!(" a {per}"),
        };
        return match alarm.event {
            "budget_projection" => format!(
                "budget `{}`{part}: at this pace, {percent} % of {limit}{per} will be spent ({used} by now)",
                word("name")
            ),
            _ => format!("budget `{}`{part}: {percent} % of {limit}{per} are spent ({used})", word("name")),
        };
    }
    let facts = alarm.about.as_object().into_iter().flatten();
    let facts: Vec<String> = facts.map(|(name, _)| format!("{name} {}", word(name))).collect();
    format!("{}: {}", alarm.event.replace('_', " "), facts.join(", "))
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
    let request = Outbound::new(Method::POST, hook.target.clone(), headers, vec![body]);
    let answer = upstream.send(&hook.origin, request, CONNECT).await.map_err(|fault| fault.to_string())?;
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

    #[test]
    fn addresses_of_webhooks_keep_what_is_asked_for_there() {
        for (text, expected) in [
            ("https://hooks.example.com/services/T0/B0/x", Ok("/services/T0/B0/x")),
            ("https://x.webhook.office.com/a/?api-version=1&sig=a%2Fb", Ok("/a/?api-version=1&sig=a%2Fb")),
            ("https://chat.googleapis.com?key=a", Ok("/?key=a")),
            ("https://h", Ok("/")),
            ("http://hooks.example.com/x?a=b", Err("would send prompts and keys over the open network")),
            ("https://u:p@h/?a", Err("contains credentials")),
            ("https://h/?a#b", Err("has a fragment (`#…`)")),
            ("hooks", Err("does not begin with `https://` or `http://`")),
        ] {
            let found = address(text).map(|(_, target)| target.to_string());
            assert_eq!(found.as_deref().map_err(|error| *error), expected, "{text}");
        }
    }

    #[test]
    fn every_alert_is_told_in_a_sentence() {
        let budget = serde_json::json!({
            "percent": 80, "name": "each-user", "part": "user=anna", "per": "day", "used_text": "$1.6", "limit_text": "$2",
        });
        let all = serde_json::json!({ "percent": 120, "name": "all", "part": "", "per": "total", "used_text": "$3", "limit_text": "$5" });
        let key = serde_json::json!({ "provider": "openai", "key": "env:K", "why": 401 });
        for (event, about, expected) in [
            ("budget_threshold", budget, "budget `each-user` (user=anna): 80 % of $2 a day are spent ($1.6)"),
            (
                "budget_projection",
                all,
                "budget `all`: at this pace, 120 % of $5 in all will be spent ($3 by now)",
            ),
            ("key_out", key, "key out: provider openai, key env:K, why 401"),
        ] {
            let message = message(&Alarm { at_ms: 7, event, about });
            assert_eq!(message["text"], expected);
            assert_eq!((&message["event"], &message["at_ms"]), (&event.into(), &7.into()));
        }
    }
}

//! Alerts about providers that fail: told once in the log, shown in the metrics as long as they last.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use metrics::{Gauge, gauge};
use serde_json::json;

use super::health::{ProviderReading, Reading};
use super::settings::AlertSettings;
use crate::telemetry;

/// Which alerts last, and the handles of the metrics.
#[derive(Default)]
pub(super) struct Alarms {
    lasting: HashSet<Arc<str>>,
    gauges: HashMap<Arc<str>, Gauges>,
}

struct Gauges {
    error_ratio: Gauge,
    alert: Gauge,
    latency: [Gauge; 3],
    first_token: [Gauge; 3],
    speed: Gauge,
}

impl Alarms {
    /// Whether the provider is in alert now. Beginning and end are told.
    pub(super) fn judge(&mut self, provider: &Arc<str>, reading: &Reading, settings: AlertSettings) -> bool {
        let (bound, attempts, failed) = (settings.error_rate, reading.attempts, reading.failed);
        let alert = attempts >= settings.min_attempts && reading.error_rate > bound;
        let (name, error_rate) = (&**provider, reading.error_rate);
        if alert && self.lasting.insert(provider.clone()) {
            tracing::warn!(
                provider = name,
                error_rate,
                bound,
                attempts,
                failed,
                "alert: the provider fails too often"
            );
            let about =
                json!({ "provider": name, "error_rate": error_rate, "bound": bound, "attempts": attempts });
            telemetry::alarm("provider_fails", about);
        } else if !alert && self.lasting.remove(provider) {
            tracing::info!(provider = name, error_rate, bound, attempts, failed, "alert is over");
            telemetry::alarm("provider_recovered", json!({ "provider": name, "error_rate": error_rate }));
        }
        alert
    }

    /// Shows the figures in the metrics.
    pub(super) fn show(&mut self, providers: &BTreeMap<Arc<str>, ProviderReading>) {
        // A provider that is no longer heard of has nothing to show.
        for (name, gauges) in &self.gauges {
            if !providers.contains_key(name) {
                gauges.show(&ProviderReading::default());
                self.lasting.remove(name);
            }
        }
        self.gauges.retain(|name, _| providers.contains_key(name));
        for (name, provider) in providers {
            self.gauges.entry(name.clone()).or_insert_with(|| Gauges::of(name)).show(provider);
        }
    }
}

impl Gauges {
    fn of(provider: &Arc<str>) -> Self {
        let name = || provider.to_string();
        let quantiles = ["0.5", "0.95", "0.99"];
        Self {
            error_ratio: gauge!("tollgate_provider_error_ratio", "provider" => name()),
            alert: gauge!("tollgate_provider_alert", "provider" => name()),
            latency: quantiles
                .map(|q| gauge!("tollgate_provider_latency_seconds", "provider" => name(), "quantile" => q)),
            first_token: quantiles.map(
                |q| gauge!("tollgate_provider_first_token_seconds", "provider" => name(), "quantile" => q),
            ),
            speed: gauge!("tollgate_provider_tokens_per_second", "provider" => name()),
        }
    }

    fn show(&self, provider: &ProviderReading) {
        let reading = &provider.reading;
        self.error_ratio.set(reading.error_rate);
        self.alert.set(f64::from(u8::from(provider.alert)));
        let latency = [reading.p50_ms, reading.p95_ms, reading.p99_ms];
        let first = [reading.first_token_p50_ms, reading.first_token_p95_ms, reading.first_token_p99_ms];
        for (gauge, ms) in self.latency.iter().chain(&self.first_token).zip(latency.into_iter().chain(first))
        {
            gauge.set(ms.map_or(f64::NAN, |ms| ms / 1e3));
        }
        self.speed.set(reading.tokens_per_second.unwrap_or(f64::NAN));
    }
}

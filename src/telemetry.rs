//! Every metric, log line and event name of the house, in one place.

mod access_log;
mod alerts;
mod losses;
mod meters;
mod metrics_table;
mod settings;

use std::io;

pub use access_log::AccessLog;
pub use alerts::{Alarm, alarm, alarm_to, alerts};
pub use meters::{Meters, RequestMeters, TargetMeters};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
pub use metrics_table::{METRICS, Metric, MetricKind, is_label, is_own, metrics_markdown};
pub use settings::LogSettings;
use tracing_subscriber::EnvFilter;

/// Upper bounds of the duration histograms, in seconds: 100 µs to 10 min.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0, 120.0, 300.0, 600.0,
];

/// Upper bounds of what policies and plugins observe, whatever it is: thousandths to a hundred thousand.
const ANYTHING: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0,
    500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0, 50_000.0, 100_000.0,
];

/// Upper bounds of the histograms of our own work, in seconds: 1 µs to 100 ms.
const MICROSECONDS: &[f64] = &[
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.1,
];

/// Installs the process-wide metrics recorder and describes every metric. Call once.
///
/// # Errors
/// When a recorder is already installed.
pub fn install_metrics() -> Result<PrometheusHandle, String> {
    let own_work = |name: &str| Matcher::Full(name.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(own_work("tollgate_gateway_overhead_seconds"), MICROSECONDS)
        .and_then(|b| b.set_buckets_for_metric(own_work("tollgate_policy_duration_seconds"), MICROSECONDS))
        .and_then(|b| b.set_buckets_for_metric(own_work("tollgate_plugin_duration_seconds"), MICROSECONDS))
        .and_then(|b| b.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS))
        .and_then(|b| b.set_buckets(ANYTHING))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| format!("metrics recorder: {error}"))?;
    metrics_table::describe();
    metrics::gauge!("tollgate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// Starts the operational log: one JSON object per line on standard error.
///
/// # Errors
/// When `level` is not a filter, or a log is already installed.
pub fn install_log(level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(LogSettings::filter(level))
        .map_err(|error| format!("log.level: `{level}`: {error}"))?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        // A log that cannot be written must not stop anybody, least of all the task that waits for signals.
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .try_init()
        .map_err(|error| format!("log: {error}"))
}

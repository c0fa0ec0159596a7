//! What the gateway counts of plugins: calls by outcome, their time, memory, loads.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::function::Function;
use super::outcome::Outcome;

/// The handles of one plugin, looked up at their first use.
pub(super) struct PluginMeters {
    plugin: String,
    calls: [[OnceLock<Counter>; Outcome::ALL.len()]; Function::ALL.len()],
    durations: [OnceLock<Histogram>; Function::ALL.len()],
    memory: OnceLock<Gauge>,
}

impl PluginMeters {
    pub(super) fn new(plugin: &str) -> Self {
        Self {
            plugin: plugin.to_owned(),
            calls: Default::default(),
            durations: Default::default(),
            memory: OnceLock::new(),
        }
    }

    /// Counts a call that is over.
    pub(super) fn called(&self, function: Function, outcome: Outcome, took: Duration) {
        let name = function.as_str();
        // Both indices are places in arrays that are as long as their enums.
        if let Some(handle) = self.calls.get(function as usize).and_then(|row| row.get(outcome as usize)) {
            handle
                .get_or_init(|| {
                    counter!("tollgate_plugin_calls_total", "plugin" => self.plugin.clone(), "fn" => name, "outcome" => outcome.as_str())
                })
                .increment(1);
        }
        if let Some(handle) = self.durations.get(function as usize) {
            handle
                .get_or_init(|| {
                    histogram!("tollgate_plugin_duration_seconds", "plugin" => self.plugin.clone(), "fn" => name)
                })
                .record(took.as_secs_f64());
        }
    }

    /// Notes how much memory an instance had at the end of a call.
    pub(super) fn memory(&self, bytes: usize) {
        #[allow(clippy::cast_precision_loss, reason = "sizes of memories are far below 2^52")]
        let bytes = bytes as f64;
        self.memory
            .get_or_init(|| gauge!("tollgate_plugin_memory_bytes", "plugin" => self.plugin.clone()))
            .set(bytes);
    }
}

/// Counts a load: `ok`, `failed`, or `kept` where the file and its settings have not changed.
pub(super) fn loaded(plugin: &str, outcome: &'static str) {
    counter!("tollgate_plugin_loads_total", "plugin" => plugin.to_owned(), "outcome" => outcome).increment(1);
}

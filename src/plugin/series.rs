//! Metrics that plugins make themselves: `tollgate_plugin_NAME{plugin="…", …}`, a hundred series for each plugin.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Histogram, Key, Label, Level, Metadata, with_recorder};

use crate::telemetry;

/// Series of one plugin; what comes later is not counted.
const MOST_SERIES: usize = 100;
/// Labels of one series, besides `plugin`.
const MOST_LABELS: usize = 8;
/// Bytes of a name.
const LONGEST_NAME: usize = 64;
/// Bytes of a label's value.
const LONGEST_VALUE: usize = 128;

/// What the names of plugins' metrics begin with.
const PREFIX: &str = concat!("tollgate", "_plugin_");

const METADATA: Metadata<'static> = Metadata::new("tollgate::plugin", Level::INFO, None);

/// The series of one plugin.
pub struct Series {
    plugin: Arc<str>,
    known: Mutex<HashMap<Key, Meter>>,
    /// Whether the log has it that there are too many.
    told: AtomicBool,
}

enum Meter {
    /// With what is left of fractions, since counters count whole things.
    Counter(Counter, f64),
    Histogram(Histogram),
}

impl Series {
    /// No series yet.
    pub fn new(plugin: Arc<str>) -> Self {
        Self { plugin, known: Mutex::default(), told: AtomicBool::new(false) }
    }

    /// Adds to a counter. What is negative or no number is not counted.
    pub fn add(&self, name: &str, labels: &[(String, String)], by: f64) {
        if !by.is_finite() || by < 0.0 {
            return;
        }
        let counter = |key: &Key| {
            Meter::Counter(with_recorder(|recorder| recorder.register_counter(key, &METADATA)), 0.0)
        };
        self.with(name, "_total", labels, counter, |meter| {
            if let Meter::Counter(counter, rest) = meter {
                let sum = *rest + by;
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "not negative; what does not fit saturates"
                )]
                counter.increment(sum as u64);
                *rest = sum.fract();
            }
        });
    }

    /// Adds an observation to a distribution. What ends with `_total` is a counter's name.
    pub fn observe(&self, name: &str, labels: &[(String, String)], value: f64) {
        if name.ends_with("_total") {
            return;
        }
        let histogram = |key: &Key| {
            Meter::Histogram(with_recorder(|recorder| recorder.register_histogram(key, &METADATA)))
        };
        self.with(name, "", labels, histogram, |meter| {
            if let Meter::Histogram(histogram) = meter {
                histogram.record(value);
            }
        });
    }

    fn with(
        &self,
        name: &str,
        ending: &str,
        labels: &[(String, String)],
        new: impl FnOnce(&Key) -> Meter,
        use_it: impl FnOnce(&mut Meter),
    ) {
        let Some(key) = self.key(name, ending, labels) else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = known.get_mut(&key) {
            return use_it(meter);
        }
        if known.len() < MOST_SERIES {
            let mut meter = new(&key);
            use_it(&mut meter);
            known.insert(key, meter);
        } else if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                plugin = &*self.plugin,
                metric = name,
                "a plugin has 100 series of metrics; further ones are not counted"
            );
        }
    }

    /// The series' key, if the name and the labels can be a metric's and the name is not one of the gateway's own.
    fn key(&self, name: &str, ending: &str, labels: &[(String, String)]) -> Option<Key> {
        let name = name.replace(['-', '.'], "_");
        let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(known);
        if !fits || labels.len() > MOST_LABELS {
            return None;
        }
        let ending = if name.ends_with(ending) { "" } else { ending };
        let full = format!("{PREFIX}{name}{ending}");
        if telemetry::is_own(&full) {
            return None;
        }
        let mut all = vec![Label::new("plugin", self.plugin.to_string())];
        for (label, value) in labels {
            let is_new = all.iter().all(|other| other.key() != label);
            if !is_new
                || !telemetry::is_label(label)
                || label.len() > LONGEST_NAME
                || value.len() > LONGEST_VALUE
            {
                return None;
            }
            all.push(Label::new(label.clone(), value.clone()));
        }
        Some(Key::from_parts(full, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_named_after_the_plugin_and_never_like_our_own() {
        let series = Series::new("intent".into());
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (name, labels, full) in [
            ("guesses", pair("kind", "code"), Some("guesses_total")),
            ("guesses_total", vec![], Some("guesses_total")),
            ("cache-hits", vec![], Some("cache_hits_total")),
            ("calls", vec![], None),
            ("", vec![], None),
            ("a b", vec![], None),
            ("x", pair("plugin", "other"), None),
            ("x", pair("k", &"v".repeat(LONGEST_VALUE + 1)), None),
            ("x", [pair("k", "a"), pair("k", "b")].concat(), None),
            ("x", pair("quantile", "0.5"), None),
            ("x", pair("9k", "v"), None),
        ] {
            let key = series.key(name, "_total", &labels);
            assert_eq!(key.as_ref().and_then(|key| key.name().strip_prefix(PREFIX)), full, "{name}");
        }
    }

    #[test]
    fn a_plugin_that_invents_labels_meets_the_cap() {
        let series = Series::new("wild".into());
        for n in 0..1000 {
            series.add("x", &[("n".into(), n.to_string())], 0.5);
        }
        assert!(series.known.lock().unwrap().len() <= MOST_SERIES);
    }
}

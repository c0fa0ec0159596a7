//! `metric("name")` in scripts: counters and histograms of their own, under `tollgate_policy_`, with a bounded number
//! of series.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rhai::{Dynamic, Map};

use super::request::{Outcome, Pair, Request, fault, label};
use super::wishes::{Effect, Series};
use crate::telemetry;

/// Series of one metric; values of labels beyond them are counted under `other`.
const MAX_SERIES: usize = 100;
/// Names of metrics in the life of a process.
const MAX_METRICS: usize = 200;
/// Labels of one metric.
const MAX_LABELS: usize = 8;
/// A label's value is cut here.
const MAX_VALUE: usize = 64;
/// The value of a label for `()`.
const NOTHING: &str = "none";
/// What the names of these metrics begin with.
pub(super) const PREFIX: &str = concat!("tollgate", "_policy_");

/// `metric("canary_requests")`.
#[derive(Clone)]
pub(super) struct Metric(Arc<str>);

impl Metric {
    /// A metric of this name: small letters, digits and `_`.
    pub(super) fn named(name: &str) -> Outcome<Self> {
        let good = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= MAX_VALUE
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !good {
            return Err(fault(format!(
                "metric: '{name}' is no name for a metric (try \"canary_requests\"); `{PREFIX}` is put before it"
            )));
        }
        if telemetry::is_own(&format!("{PREFIX}{name}")) {
            return Err(fault(format!(
                "metric: `{PREFIX}{name}` is one of the gateway's own: take another name"
            )));
        }
        Ok(Self(name.into()))
    }

    /// Counts.
    pub(super) fn add(&self, request: &Request, labels: Option<&Map>, by: f64) -> Outcome<()> {
        if !by.is_finite() || by < 0.0 {
            return Err(fault(format!("metric: a counter only grows, so it cannot add {by}")));
        }
        let series = self.series(labels)?;
        request.wishes().effect(Effect::Count { series, by });
        Ok(())
    }

    /// Notes one number among others.
    pub(super) fn observe(&self, request: &Request, value: &Dynamic, labels: Option<&Map>) -> Outcome<()> {
        if value.is_unit() {
            // A time to first token that there was none of, for example.
            return Ok(());
        }
        let value = number(value).ok_or_else(|| fault(format!("metric: '{value}' is not a number")))?;
        let series = self.series(labels)?;
        request.wishes().effect(Effect::Observation { series, value });
        Ok(())
    }

    fn series(&self, given: Option<&Map>) -> Outcome<Series> {
        let given = given.into_iter().flatten();
        let mut labels: Vec<Pair> = Vec::new();
        for (name, value) in given {
            if labels.len() == MAX_LABELS {
                return Err(fault(format!("metric: at most {MAX_LABELS} labels")));
            }
            if !telemetry::is_label(name) {
                return Err(fault(not_a_label(name)));
            }
            // Nobody answered, for example: a series of its own rather than none.
            let value = if value.is_unit() { NOTHING.into() } else { cut(&label("metric", value)?) };
            labels.push((name.as_str().into(), value));
        }
        Ok(Series { name: Arc::clone(&self.0), labels })
    }
}

/// What is wrong with the name of a label.
pub(super) fn not_a_label(name: &str) -> String {
    format!(
        "metric: '{name}' is no name for a label (try \"model\"): a letter, then letters, digits and `_`; not `le` or `quantile`"
    )
}

/// Why a metric cannot be counted and observed.
pub(super) fn both_ways(name: &str) -> String {
    format!("metric: `{name}` cannot be counted (`add`) and observed: give one of both another name")
}

/// Counts what a finished evaluation wanted to count.
pub(super) fn count(series: &Series, by: f64) {
    let Some(admitted) = admitted(series, Kind::Counter, by) else { return };
    metrics::counter!(admitted.name, &admitted.labels).increment(admitted.whole);
}

/// Notes what a finished evaluation wanted to note.
pub(super) fn observe(series: &Series, value: f64) {
    let Some(admitted) = admitted(series, Kind::Histogram, 0.0) else { return };
    metrics::histogram!(admitted.name, &admitted.labels).record(value);
}

/// A series as the exporter has it.
struct Admitted {
    name: String,
    labels: Vec<(String, String)>,
    /// How many more to count.
    whole: u64,
}

/// The series under its full name; with `other` for its labels once there are too many of them.
fn admitted(series: &Series, kind: Kind, by: f64) -> Option<Admitted> {
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    let (fits, whole) = known.lock().unwrap_or_else(PoisonError::into_inner).admit(series, kind, by)?;
    let value = |value: &Arc<str>| if fits { value.to_string() } else { "other".to_owned() };
    let labels = series.labels.iter().map(|(name, text)| (name.to_string(), value(text))).collect();
    Some(Admitted { name: format!("{PREFIX}{}", series.name), labels, whole })
}

/// What a metric is: Prometheus knows each name as one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Histogram,
}

/// The metrics of all policies, by name.
#[derive(Default)]
struct Known(HashMap<Arc<str>, Named>);

/// One metric.
struct Named {
    kind: Kind,
    /// Whether the log has it that it is used for something else, too.
    told: bool,
    /// Its series, with what is left of fractions: counters of the exporter are whole numbers.
    series: HashMap<Vec<Pair>, f64>,
}

impl Known {
    /// Whether the series may have its own labels, and how many whole things it counts by now; `None` when there are too
    /// many metrics, or the name is that of another thing.
    fn admit(&mut self, series: &Series, kind: Kind, by: f64) -> Option<(bool, u64)> {
        if !self.0.contains_key(&series.name) && self.0.len() >= MAX_METRICS {
            return None;
        }
        let metric = self.0.entry(Arc::clone(&series.name));
        let metric = metric.or_insert_with(|| Named { kind, told: false, series: HashMap::new() });
        if metric.kind != kind {
            if !std::mem::replace(&mut metric.told, true) {
                tracing::warn!(problem = both_ways(&series.name), "what a policy tells a metric is left out");
            }
            return None;
        }
        let all = &mut metric.series;
        let fits = all.contains_key(&series.labels) || all.len() < MAX_SERIES;
        // Those beyond share what is left, as they share a series.
        let labels = if fits { series.labels.clone() } else { Vec::new() };
        let rest = all.entry(labels).or_default();
        let sum = *rest + by;
        *rest = sum.fract();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked when it was asked for; what does not fit saturates"
        )]
        Some((fits, sum as u64))
    }
}

#[allow(clippy::cast_precision_loss, reason = "a measurement")]
fn number(value: &Dynamic) -> Option<f64> {
    value.as_float().or_else(|_| value.as_int().map(|whole| whole as f64)).ok().filter(|n| n.is_finite())
}

fn cut(text: &Arc<str>) -> Arc<str> {
    let end = text.floor_char_boundary(MAX_VALUE);
    if end == text.len() { Arc::clone(text) } else { text[..end].into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_without_a_value_is_none() {
        let labels = Map::from([("model".into(), Dynamic::UNIT), ("team".into(), "web".into())]);
        let series = Metric("canary".into()).series(Some(&labels)).unwrap();
        assert_eq!(series.labels, [("model".into(), "none".into()), ("team".into(), "web".into())]);
    }

    #[test]
    fn series_are_capped() {
        let mut known = Known::default();
        let series = |n: usize| Series {
            name: "capped".into(),
            labels: vec![("user".into(), format!("u{n}").into())],
        };
        for n in 0..MAX_SERIES {
            assert_eq!(known.admit(&series(n), Kind::Counter, 1.0), Some((true, 1)));
        }
        assert_eq!(known.admit(&series(MAX_SERIES), Kind::Counter, 1.0), Some((false, 1)));
        assert_eq!(known.admit(&series(3), Kind::Counter, 1.0), Some((true, 1)), "what is known stays");
    }

    #[test]
    fn fractions_add_up() {
        let mut known = Known::default();
        let series = Series { name: "dollars".into(), labels: Vec::new() };
        let counted = (0..10).filter_map(|_| known.admit(&series, Kind::Counter, 0.25));
        let counted: Vec<_> = counted.map(|(_, n)| n).collect();
        assert_eq!(counted, [0, 0, 0, 1, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_name_is_counted_or_observed() {
        let mut known = Known::default();
        let series = Series { name: "answers".into(), labels: Vec::new() };
        assert_eq!(known.admit(&series, Kind::Counter, 1.0), Some((true, 1)));
        assert_eq!(known.admit(&series, Kind::Histogram, 0.0), None);
        assert_eq!(known.admit(&series, Kind::Counter, 1.0), Some((true, 1)));
    }
}

//! What targets report, beside what was taken for it: so that the next estimate is nearer.
//!
//! Two ratios are kept of each target, each of sums, so that long texts count for more than short ones; what is old fades.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;

use super::family::Family;
use crate::target::TargetName;

/// Clients may ask for any model by name; beyond so many, nothing more is learned.
const MOST_TARGETS: usize = 4_096;

/// What is believed before anything was heard, in tokens: the first reports shall not turn everything over.
const BELIEF: f64 = 500.0;

/// Half is forgotten when so many tokens were heard.
const MEMORY: f64 = 200_000.0;

/// A report that is off by more than this says something of pictures or caches, nothing of texts.
const BELIEVABLE: std::ops::RangeInclusive<f64> = 0.1..=12.0;

/// Bytes of text for a token: less means that much was thought in silence.
const BYTES: std::ops::RangeInclusive<f64> = 1.0..=12.0;

/// What a target reported of one request, beside what was taken for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// The prompt's tokens, as they were taken: four bytes each.
    pub rough: u64,
    /// As they were reported.
    pub prompt: u64,
    /// Bytes of text that were heard of the answer; zero where nobody listened.
    pub bytes: u64,
    /// Its tokens as they were reported, without what was thought in silence.
    pub output: u64,
}

/// What was learned of a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Learned {
    /// `provider/model`.
    pub target: String,
    /// Reports that were heard.
    pub reports: u64,
    /// Tokens of a prompt for each that a quarter of its bytes would be.
    pub prompt: f64,
    /// Bytes of an answer's text for each token.
    pub bytes_per_token: f64,
}

/// What was learned of all targets.
#[derive(Default)]
pub(super) struct Calibrations(ArcSwap<HashMap<TargetName, Arc<Cell>>>);

/// What was learned of one target. Requests read the ratios, and wait for nobody.
struct Cell {
    sums: Mutex<Sums>,
    prompt: AtomicU64,
    output: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Sums {
    reports: u64,
    /// Reported tokens of prompts, for `rough` that were taken for them.
    prompt: f64,
    rough: f64,
    /// Bytes heard, for `output` reported tokens.
    bytes: f64,
    output: f64,
}

impl Sums {
    fn of(family: &Family) -> Self {
        Self {
            reports: 0,
            prompt: BELIEF,
            rough: BELIEF,
            bytes: BELIEF * family.bytes_per_token(),
            output: BELIEF,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "no request has 2^53 tokens")]
    fn hear(&mut self, report: Report) {
        let (rough, prompt) = (report.rough as f64, report.prompt as f64);
        if rough > 0.0 && BELIEVABLE.contains(&(prompt / rough)) {
            (self.rough, self.prompt) = (self.rough + rough, self.prompt + prompt);
            self.reports += 1;
        }
        let (bytes, output) = (report.bytes as f64, report.output as f64);
        if output > 0.0 && BYTES.contains(&(bytes / output)) {
            (self.bytes, self.output) = (self.bytes + bytes, self.output + output);
        }
        if self.rough > MEMORY {
            (self.rough, self.prompt) = (self.rough / 2.0, self.prompt / 2.0);
        }
        if self.output > MEMORY {
            (self.bytes, self.output) = (self.bytes / 2.0, self.output / 2.0);
        }
    }
}

impl Cell {
    fn of(family: &Family) -> Self {
        let sums = Sums::of(family);
        let cell = Self { sums: Mutex::new(sums), prompt: AtomicU64::new(0), output: AtomicU64::new(0) };
        cell.show(&sums);
        cell
    }

    fn hear(&self, report: Report) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.hear(report);
        self.show(&sums);
    }

    fn show(&self, sums: &Sums) {
        self.prompt.store((sums.prompt / sums.rough).to_bits(), Ordering::Relaxed);
        self.output.store((sums.output / sums.bytes).to_bits(), Ordering::Relaxed);
    }
}

impl Calibrations {
    /// Takes a report into account.
    pub(super) fn learn(&self, target: &TargetName, report: Report) {
        let known = self.0.load().get(target).cloned();
        if let Some(cell) = known.or_else(|| self.begin(target)) {
            cell.hear(report);
        }
    }

    fn begin(&self, target: &TargetName) -> Option<Arc<Cell>> {
        let fresh = Arc::new(Cell::of(Family::of(&[&target.model])));
        self.0.rcu(|known| {
            let mut known = HashMap::clone(known);
            if known.len() < MOST_TARGETS {
                known.entry(target.clone()).or_insert_with(|| fresh.clone());
            }
            known
        });
        self.0.load().get(target).cloned()
    }

    /// The prompt's tokens here, of which a quarter of the bytes are `rough`.
    pub(super) fn prompt(&self, target: &TargetName, rough: u64) -> u64 {
        match self.0.load().get(target) {
            Some(cell) => times(rough, f64::from_bits(cell.prompt.load(Ordering::Relaxed))),
            None => rough,
        }
    }

    /// The tokens of so many bytes of an answer.
    pub(super) fn output(&self, target: &TargetName, bytes: u64) -> u64 {
        match self.0.load().get(target) {
            Some(cell) => times(bytes, f64::from_bits(cell.output.load(Ordering::Relaxed))),
            None => times(bytes, Family::of(&[&target.model]).bytes_per_token().recip()),
        }
    }

    /// What was learned so far, by the names of targets.
    pub(super) fn learned(&self) -> Vec<Learned> {
        let known = self.0.load();
        let mut learned: Vec<Learned> = known
            .iter()
            .map(|(target, cell)| {
                let sums = *cell.sums.lock().unwrap_or_else(PoisonError::into_inner);
                Learned {
                    target: target.to_string(),
                    reports: sums.reports,
                    prompt: sums.prompt / sums.rough,
                    bytes_per_token: sums.bytes / sums.output,
                }
            })
            .collect();
        learned.sort_by(|a, b| a.target.cmp(&b.target));
        learned
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate, finite and not below zero"
)]
fn times(count: u64, ratio: f64) -> u64 {
    (count as f64 * ratio).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> TargetName {
        TargetName::parse(name).unwrap()
    }

    #[test]
    fn estimates_follow_what_targets_report() {
        let calibrations = Calibrations::default();
        let claude = target("anthropic/claude-opus-4-6");
        assert_eq!(calibrations.prompt(&claude, 1_000), 1_000, "nothing was heard");
        assert_eq!(calibrations.output(&claude, 386), 101, "as the family says: 3.86 bytes each");
        for _ in 0..50 {
            let report = Report { rough: 2_000, prompt: 2_600, bytes: 700, output: 200 };
            calibrations.learn(&claude, report);
        }
        assert!((1_295..=1_301).contains(&calibrations.prompt(&claude, 1_000)));
        assert!(
            (98..=101).contains(&calibrations.output(&claude, 350)),
            "{}",
            calibrations.output(&claude, 350)
        );
        // Another target keeps its own.
        assert_eq!(calibrations.prompt(&target("openai/gpt-4o"), 1_000), 1_000);
        let [learned] = &calibrations.learned()[..] else { panic!("one") };
        assert_eq!((learned.target.as_str(), learned.reports), ("anthropic/claude-opus-4-6", 50));
    }

    #[test]
    fn what_changes_is_followed_and_what_cannot_be_is_not_believed() {
        let calibrations = Calibrations::default();
        let one = target("p/m");
        let report = |rough, prompt| Report { rough, prompt, ..Report::default() };
        (0..100).for_each(|_| calibrations.learn(&one, report(10_000, 10_000)));
        (0..60).for_each(|_| calibrations.learn(&one, report(10_000, 15_000)));
        assert!(calibrations.prompt(&one, 1_000) > 1_400, "{}", calibrations.prompt(&one, 1_000));
        // A picture in base64 is a million bytes and a thousand tokens.
        (0..100).for_each(|_| calibrations.learn(&one, report(250_000, 1_000)));
        assert!(calibrations.prompt(&one, 1_000) > 1_400);
        calibrations.learn(&one, Report::default());
    }
}

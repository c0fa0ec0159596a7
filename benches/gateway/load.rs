//! The load generator: a lean client, so that what is measured has the machine.

mod closed;
mod open;
mod slow;

use std::collections::BTreeMap;
use std::time::Duration;

pub use closed::saturate;
pub use open::pace;
pub use slow::hold;

/// When a round measures.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// What passes first, unmeasured.
    pub warmup: Duration,
    /// What is measured.
    pub length: Duration,
}

/// What went wrong, and how often.
#[derive(Debug, Default, Clone)]
pub struct Faults(BTreeMap<String, u64>);

/// Different faults that are told apart; a proxy that fails fails in the same way again and again.
const KINDS: usize = 8;

impl Faults {
    /// Counts one.
    pub fn add(&mut self, fault: String) {
        self.add_times(fault, 1);
    }

    /// Counts those of another.
    pub fn merge(&mut self, other: Self) {
        for (fault, times) in other.0 {
            self.add_times(fault, times);
        }
    }

    /// All of them.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each kind with its number.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(fault, times)| (fault.as_str(), *times))
    }

    fn add_times(&mut self, fault: String, times: u64) {
        let known = self.0.contains_key(&fault) || self.0.len() < KINDS;
        *self.0.entry(if known { fault } else { "other faults".to_owned() }).or_default() += times;
    }
}

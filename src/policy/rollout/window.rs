//! What happened lately: requests, failures and costs of one arm within a window of time.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::End;

/// Parts of a window: what is older than it goes one part at a time.
const PARTS: usize = 20;

/// The sum over a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Requests that ended.
    pub requests: u64,
    /// Those of them that failed: a policy's failure, a refusal, no whole answer.
    pub failed: u64,
    /// Those whose cost is known.
    pub priced: u64,
    /// What these cost, in dollars.
    pub cost_usd: f64,
}

/// Requests of one arm.
#[derive(Debug)]
pub(super) struct Window {
    part: Duration,
    began: Instant,
    /// The part that is counted in now, from the beginning.
    at: u128,
    parts: [Tally; PARTS],
}

impl Tally {
    /// Failures among a hundred requests; 0 without requests.
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    pub fn error_percent(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failed as f64 / self.requests as f64 * 100.0 }
    }

    /// What a request cost on average, in dollars, where enough of them say.
    #[allow(clippy::cast_precision_loss, reason = "an average")]
    pub fn mean_cost(&self, enough: u64) -> Option<f64> {
        (self.priced >= enough.max(1)).then(|| self.cost_usd / self.priced as f64)
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.priced += other.priced;
        self.cost_usd += other.cost_usd;
    }
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        let part = (length / u32::try_from(PARTS).unwrap_or(1)).max(Duration::from_millis(1));
        Self { part, began: now, at: 0, parts: [Tally::default(); PARTS] }
    }

    pub(super) fn count(&mut self, end: End, now: Instant) {
        self.turn(now);
        let place = usize::try_from(self.at % PARTS as u128).unwrap_or_default();
        if let Some(part) = self.parts.get_mut(place) {
            part.requests += 1;
            part.failed += u64::from(end.failed);
            part.priced += u64::from(end.cost.is_some());
            part.cost_usd += end.cost.unwrap_or_default();
        }
    }

    pub(super) fn sum(&mut self, now: Instant) -> Tally {
        self.turn(now);
        let mut sum = Tally::default();
        self.parts.iter().for_each(|part| sum.add(part));
        sum
    }

    /// Empties the parts that time has passed over.
    fn turn(&mut self, now: Instant) {
        let at = now.saturating_duration_since(self.began).as_nanos() / self.part.as_nanos().max(1);
        for passed in (self.at + 1..=at).take(PARTS) {
            let place = usize::try_from(passed % PARTS as u128).unwrap_or_default();
            if let Some(part) = self.parts.get_mut(place) {
                *part = Tally::default();
            }
        }
        self.at = self.at.max(at);
    }
}

//! So many in a minute: a bucket that fills evenly.

use std::time::Duration;

use tokio::time::Instant;

/// What one key may still do within a minute.
#[derive(Debug)]
pub(super) struct Bucket {
    per_minute: f64,
    /// Below zero after more was used than was booked ahead.
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_minute: f64, now: Instant) -> Self {
        Self { per_minute, left: per_minute, at: now }
    }

    /// How long until so many are free; what is more than the bucket holds waits until it is full.
    pub(super) fn wait(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        let missing = amount.min(self.per_minute) - self.left;
        if missing <= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(missing * 60.0 / self.per_minute)
        }
    }

    pub(super) fn take(&mut self, amount: f64, now: Instant) {
        self.fill(now);
        self.left -= amount;
    }

    /// Takes what was used already.
    pub(super) fn owe(&mut self, amount: f64) {
        self.left -= amount;
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_minute / 60.0).min(self.per_minute);
        self.at = now;
    }
}

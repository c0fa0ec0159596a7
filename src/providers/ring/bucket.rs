//! So many within a time: a bucket that fills evenly.

use std::time::Duration;

use tokio::time::Instant;

/// What may still be used.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    size: f64,
    per_second: f64,
    /// Below zero after more was used than was booked ahead.
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one, which fills within `period`.
    pub(super) fn new(size: f64, period: Duration, now: Instant) -> Self {
        Self { size, per_second: size / period.as_secs_f64(), left: size, at: now }
    }

    /// How long until so many are free; what is more than the bucket holds waits until it is full.
    pub(super) fn wait(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        let missing = amount.min(self.size) - self.left;
        if missing <= 0.0 {
            Duration::ZERO
        } else {
            Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(Duration::MAX)
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

    /// Somebody who counts himself says how it stands: its size, what is left, and when it will be full.
    pub(super) fn told(&mut self, size: f64, left: f64, full_in: Option<Duration>, now: Instant) {
        let missing = size - left;
        if let Some(full_in) = full_in.filter(|full_in| missing > 0.0 && !full_in.is_zero()) {
            self.per_second = missing / full_in.as_secs_f64();
        }
        (self.size, self.left, self.at) = (size, left, now);
    }

    /// How many are left.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole requests or tokens")]
    pub(super) fn left(&mut self, now: Instant) -> u64 {
        self.fill(now);
        self.left.max(0.0) as u64
    }

    /// Whether it is nearly empty.
    pub(super) fn is_low(&mut self, share: f64, now: Instant) -> bool {
        self.fill(now);
        self.left < self.size * share
    }

    fn fill(&mut self, now: Instant) {
        // Asked and taken at once.
        if now == self.at {
            return;
        }
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.size);
        self.at = now;
    }
}

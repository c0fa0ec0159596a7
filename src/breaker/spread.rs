//! How often what happened, by size: counters that many threads may raise at once.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counters for each doubling of the size; a percentile is off by a twelfth at most.
const PER_DOUBLING: u32 = 4;
/// From 1 to 2²⁰: of milliseconds, that is more than a quarter of an hour.
const DOUBLINGS: u32 = 20;
const COUNTERS: usize = (PER_DOUBLING * DOUBLINGS) as usize;

/// Counts of sizes from one up.
#[derive(Debug)]
pub(super) struct Spread([AtomicU32; COUNTERS]);

/// A sum of spreads, to be asked for percentiles.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    counts: [u32; COUNTERS],
    all: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Default for Sum {
    fn default() -> Self {
        Self { counts: [0; COUNTERS], all: 0 }
    }
}

impl Spread {
    /// Counts one of this size.
    pub(super) fn count(&self, size: u64) {
        if let Some(counter) = self.0.get(place(size)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn clear(&self) {
        for counter in &self.0 {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

impl Sum {
    pub(super) fn add(&mut self, spread: &Spread) {
        for (count, counter) in self.counts.iter_mut().zip(&spread.0) {
            let more = counter.load(Ordering::Relaxed);
            *count = count.saturating_add(more);
            self.all += u64::from(more);
        }
    }

    /// Takes another sum in.
    pub(super) fn join(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.all += other.all;
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.all == 0
    }

    /// The size that `share` (0 to 1) of all do not exceed; `None` when there are none.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    pub(super) fn percentile(&self, share: f64) -> Option<f64> {
        if self.all == 0 {
            return None;
        }
        let wanted = ((self.all as f64 * share).ceil() as u64).clamp(1, self.all);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            let before = seen;
            seen += u64::from(*count);
            if seen >= wanted {
                // Between the ends of the counter, as if its sizes lay evenly.
                let part = ((wanted - before) as f64 - 0.5) / f64::from(*count);
                let (low, high) = (start(place), start(place + 1));
                return Some(low + (high - low) * part);
            }
        }
        None
    }
}

/// Four counters between two powers of two, evenly.
fn place(size: u64) -> usize {
    let size = size.max(1);
    let doubling = size.ilog2();
    let quarter = if doubling >= 2 { (size >> (doubling - 2)) & 3 } else { (size << (2 - doubling)) & 3 };
    let place = u64::from(doubling * PER_DOUBLING) + quarter;
    usize::try_from(place).unwrap_or(usize::MAX).min(COUNTERS - 1)
}

/// The smallest size of the counter.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "below 128"
)]
fn start(place: usize) -> f64 {
    let (doubling, quarter) = (place / 4, place % 4);
    2_f64.powi(doubling as i32) * (1.0 + quarter as f64 / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_near_the_truth() {
        for (sizes, share, truth) in [
            (vec![100; 50], 0.5, 100.0),
            ((1..=1_000).collect::<Vec<u64>>(), 0.5, 500.0),
            ((1..=1_000).collect(), 0.95, 950.0),
            ((1..=1_000).collect(), 0.99, 990.0),
            (vec![1, 1, 1, 1, 60_000], 0.99, 60_000.0),
        ] {
            let spread = Spread::default();
            sizes.iter().for_each(|size| spread.count(*size));
            let mut sum = Sum::default();
            sum.add(&spread);
            let found = sum.percentile(share).unwrap();
            assert!(
                (found - truth).abs() / truth < 0.13,
                "{share} of {} sizes: {found}, not {truth}",
                sizes.len()
            );
        }
    }

    #[test]
    fn no_size_is_lost() {
        let spread = Spread::default();
        for size in [0, 1, 2, 3, 5, 1 << 20, u64::MAX] {
            spread.count(size);
        }
        let mut sum = Sum::default();
        sum.add(&spread);
        assert_eq!(sum.all, 7);
        spread.clear();
        let mut sum = Sum::default();
        sum.add(&spread);
        assert_eq!(sum.percentile(0.5), None);
    }
}

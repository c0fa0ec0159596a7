//! One count: a generic cell rate algorithm in one atomic word, or requests at once in another.
//!
//! The word holds the theoretical arrival time: when the count will be back at nothing. What was let in moves it into
//! the future, time catches up with it. <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::settings::Rate;

/// Ticks of one nanosecond: fine enough for a thousand million tokens a second.
const PER_NANO: u64 = 256;

/// The time at which this process began, in ticks: later than any period is long, so that nothing falls below zero.
pub(super) const BEGINNING: u64 = 1 << 58;

/// A duration in ticks.
pub(super) fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).saturating_mul(PER_NANO)
}

/// The time of cells, which began at `origin`.
pub(super) fn since(origin: Instant, now: Instant) -> u64 {
    ticks(now.saturating_duration_since(origin)).saturating_add(BEGINNING)
}

/// Ticks as a duration.
pub(super) fn duration(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.div_ceil(PER_NANO))
}

/// Ticks in microseconds, as Redis counts.
#[allow(clippy::cast_precision_loss, reason = "finer than Redis' clock")]
pub(super) fn micros(ticks: u64) -> f64 {
    ticks as f64 / (PER_NANO * 1_000) as f64
}

/// Microseconds in ticks.
pub(super) fn of_micros(micros: u64) -> u64 {
    micros.saturating_mul(PER_NANO * 1_000)
}

/// What one subject has used of one limit.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// When the count is back at nothing, in ticks; or the number of requests at once.
    word: AtomicU64,
    /// The count and the period for which `word` was last written: after a reload, they may differ. Of requests at once,
    /// how many other gateways have.
    pace: AtomicU64,
    /// The memory of Redis that was told of this count, by its mark.
    told: AtomicU64,
}

/// How a cell is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    count: u64,
    period: u64,
    capacity: u64,
}

/// How a count stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// How many more may come now.
    pub(super) remaining: u64,
    /// How long until nothing counts any more.
    pub(super) reset: Duration,
}

impl Pace {
    pub(super) fn of(rate: Rate) -> Self {
        Self { count: rate.count, period: ticks(rate.period), capacity: rate.capacity() }
    }

    pub(super) fn capacity(self) -> u64 {
        self.capacity
    }

    /// So many in a period.
    pub(super) fn count(self) -> u64 {
        self.count
    }

    /// How far so many move the word.
    pub(super) fn span(self, cost: u64) -> u64 {
        let span = u128::from(cost) * u128::from(self.period) / u128::from(self.count.max(1));
        u64::try_from(span).unwrap_or(u64::MAX >> 2).min(u64::MAX >> 2)
    }

    /// How many fit into a span.
    fn count_in(self, span: u64) -> u64 {
        let count = u128::from(span) * u128::from(self.count) / u128::from(self.period.max(1));
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Rates over the same period tell their words apart by the count.
    fn mark(self) -> u64 {
        self.count
    }
}

impl Cell {
    /// Takes `cost`, or says how long to wait for it.
    pub(super) fn take(&self, pace: Pace, cost: u64, now: u64) -> Result<(), Duration> {
        self.adopt(pace, now);
        let span = pace.span(cost);
        let most = now.saturating_add(pace.span(pace.capacity));
        let result = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let next = word.max(now).saturating_add(span);
            (next <= most).then_some(next)
        });
        match result {
            Ok(_) => Ok(()),
            Err(word) => Err(duration(word.max(now).saturating_add(span).saturating_sub(most))),
        }
    }

    /// Whether `cost` could be taken now.
    pub(super) fn would_take(&self, pace: Pace, cost: u64, now: u64) -> Result<(), Duration> {
        self.adopt(pace, now);
        let next = self.word.load(Ordering::Acquire).max(now).saturating_add(pace.span(cost));
        let most = now.saturating_add(pace.span(pace.capacity));
        if next <= most { Ok(()) } else { Err(duration(next - most)) }
    }

    /// More was used than was taken: the count may go beyond its limit, and later ones wait longer.
    pub(super) fn add(&self, pace: Pace, more: u64, now: u64) {
        let span = pace.span(more);
        let later = |word: u64| Some(word.max(now).saturating_add(span));
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }

    /// Less was used than was taken.
    pub(super) fn give_back(&self, pace: Pace, less: u64) {
        let span = pace.span(less);
        let _ = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| Some(word.saturating_sub(span)));
    }

    pub(super) fn level(&self, pace: Pace, now: u64) -> Level {
        let ahead = self.word.load(Ordering::Acquire).saturating_sub(now);
        let free = pace.span(pace.capacity).saturating_sub(ahead);
        // A fraction of a tick that was rounded away must not cost a whole one.
        let remaining = pace.count_in(free.saturating_add(1)).min(pace.capacity);
        Level { remaining, reset: duration(ahead) }
    }

    /// Takes a place among at most `most`.
    pub(super) fn enter(&self, most: u64) -> bool {
        let more = |count: u64| (count < most).then_some(count + 1);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        let less = |count: u64| Some(count.saturating_sub(1));
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// Requests at once of this gateway.
    pub(super) fn own_inside(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// Requests at once, those of other gateways among them.
    pub(super) fn inside(&self) -> u64 {
        self.word.load(Ordering::Acquire).saturating_add(self.pace.load(Ordering::Relaxed))
    }

    /// All gateways together have so many requests at once.
    pub(super) fn all_inside(&self, all: u64) {
        self.pace.store(all.saturating_sub(self.word.load(Ordering::Acquire)), Ordering::Relaxed);
    }

    /// The count is back at nothing after so long, as all gateways together know it.
    pub(super) fn stands(&self, pace: Pace, ahead: u64, now: u64) {
        self.pace.store(pace.mark(), Ordering::Release);
        self.word.store(now.saturating_add(ahead), Ordering::Release);
    }

    /// How long until the count is back at nothing, in ticks.
    pub(super) fn ahead(&self, pace: Pace, now: u64) -> u64 {
        self.adopt(pace, now);
        self.word.load(Ordering::Acquire).saturating_sub(now)
    }

    /// Whether this memory of Redis was never told of the count.
    pub(super) fn is_news(&self, mark: u64) -> bool {
        self.told.load(Ordering::Relaxed) != mark
    }

    /// This memory of Redis was told.
    pub(super) fn was_told(&self, mark: u64) {
        self.told.store(mark, Ordering::Relaxed);
    }

    /// Whether it says the same as a fresh one.
    pub(super) fn is_idle(&self, now: u64) -> bool {
        let word = self.word.load(Ordering::Acquire);
        word == 0 || word >= BEGINNING && word <= now
    }

    /// After a reload with another rate, what was used stays used: the word is stretched to the new pace.
    fn adopt(&self, pace: Pace, now: u64) {
        let before = self.pace.load(Ordering::Relaxed);
        if before == pace.mark()
            || self.pace.swap(pace.mark(), Ordering::AcqRel) == pace.mark()
            || before == 0
        {
            return;
        }
        let stretch = |word: u64| {
            let ahead = word.saturating_sub(now);
            let stretched = u128::from(ahead) * u128::from(before) / u128::from(pace.count.max(1));
            (ahead > 0).then(|| now.saturating_add(u64::try_from(stretched).unwrap_or(u64::MAX >> 2)))
        };
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, stretch);
    }
}

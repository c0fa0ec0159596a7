//! What happened at one target in the last minutes: a ring of slots, written by all workers without a lock, read and
//! cleared by the one who keeps the time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::spread::{Spread, Sum};
use crate::fault::{Fault, FaultKind, Phase, Whose};

/// Slots that a window is made of.
pub(super) const SLOTS: u64 = 30;

/// One slot is written to, and one is kept clear for the time after it.
const RING: u64 = SLOTS + 2;

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An answer, or the first content of a stream.
    Good,
    /// The provider failed.
    Failed,
    /// The provider limits the rate.
    Throttled,
    /// The request was at fault, or the client left: nothing is said of the provider.
    Void,
}

impl Verdict {
    /// What a fault says of the provider. A deadline that the caller set may have been too short for anybody.
    pub fn of(fault: &Fault) -> Self {
        match fault.kind {
            FaultKind::RateLimited => Self::Throttled,
            FaultKind::Credentials => Self::Failed,
            FaultKind::Cancelled | FaultKind::Timeout(Phase::Total) => Self::Void,
            _ if fault.whose == Whose::Upstream => Self::Failed,
            _ => Self::Void,
        }
    }
}

/// One target's ring.
#[derive(Debug)]
pub(super) struct Window {
    slots: Vec<Slot>,
    /// The slot up to which all have been cleared.
    cleared: AtomicU64,
    /// The slot in which it was made.
    made: u64,
}

#[derive(Debug, Default)]
struct Slot {
    good: AtomicU32,
    failed: AtomicU32,
    throttled: AtomicU32,
    /// Streams that broke off after a good beginning.
    broken: AtomicU32,
    /// Milliseconds to the end of an answer.
    latency: Spread,
    /// Milliseconds to the first content of a stream.
    first_token: Spread,
    /// Tokens per second, in tenths.
    speed: Spread,
}

/// The window added up.
#[derive(Debug, Default)]
pub(super) struct Total {
    pub(super) good: u64,
    pub(super) failed: u64,
    pub(super) throttled: u64,
    pub(super) broken: u64,
    pub(super) latency: Sum,
    pub(super) first_token: Sum,
    pub(super) speed: Sum,
}

impl Window {
    /// An empty window at this slot.
    pub(super) fn new(now: u64) -> Self {
        Self {
            slots: (0..RING).map(|_| Slot::default()).collect(),
            cleared: AtomicU64::new(now + 1),
            made: now,
        }
    }

    /// Whether it has stood for longer than it reaches.
    pub(super) fn is_old(&self, now: u64) -> bool {
        now > self.made + SLOTS
    }

    fn slot(&self, at: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(at % RING).ok()?)
    }

    pub(super) fn verdict(&self, now: u64, verdict: Verdict) {
        let Some(slot) = self.slot(now) else { return };
        let counter = match verdict {
            Verdict::Good => &slot.good,
            Verdict::Failed => &slot.failed,
            Verdict::Throttled => &slot.throttled,
            Verdict::Void => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn broke(&self, now: u64) {
        if let Some(slot) = self.slot(now) {
            slot.broken.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn first_token(&self, now: u64, ms: u64) {
        if let Some(slot) = self.slot(now) {
            slot.first_token.count(ms);
        }
    }

    pub(super) fn answered(&self, now: u64, ms: u64, tokens_per_second_tenths: Option<u64>) {
        if let Some(slot) = self.slot(now) {
            slot.latency.count(ms);
            if let Some(speed) = tokens_per_second_tenths {
                slot.speed.count(speed);
            }
        }
    }

    /// Clears the slots that come next. Only the one who keeps the time calls it.
    pub(super) fn turn(&self, now: u64) {
        let next = now + 1;
        let cleared = self.cleared.swap(next, Ordering::Relaxed);
        let from = cleared.saturating_add(1).max(next.saturating_sub(RING - 1));
        for at in from..=next {
            if let Some(slot) = self.slot(at) {
                slot.clear();
            }
        }
    }

    /// All slots of the window that ends now.
    pub(super) fn total(&self, now: u64) -> Total {
        let mut total = Total::default();
        for at in now.saturating_sub(SLOTS - 1)..=now {
            let Some(slot) = self.slot(at) else { continue };
            let count = |counter: &AtomicU32| u64::from(counter.load(Ordering::Relaxed));
            total.good += count(&slot.good);
            total.failed += count(&slot.failed);
            total.throttled += count(&slot.throttled);
            total.broken += count(&slot.broken);
            total.latency.add(&slot.latency);
            total.first_token.add(&slot.first_token);
            total.speed.add(&slot.speed);
        }
        total
    }
}

impl Total {
    /// Takes another target's in.
    pub(super) fn join(&mut self, other: &Self) {
        self.good += other.good;
        self.failed += other.failed;
        self.throttled += other.throttled;
        self.broken += other.broken;
        self.latency.join(&other.latency);
        self.first_token.join(&other.first_token);
        self.speed.join(&other.speed);
    }

    /// Whether nothing happened.
    pub(super) fn is_empty(&self) -> bool {
        self.good + self.failed + self.throttled + self.broken == 0 && self.latency.is_empty()
    }
}

impl Slot {
    fn clear(&self) {
        for counter in [&self.good, &self.failed, &self.throttled, &self.broken] {
            counter.store(0, Ordering::Relaxed);
        }
        self.latency.clear();
        self.first_token.clear();
        self.speed.clear();
    }
}

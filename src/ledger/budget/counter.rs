//! What was spent of one budget, and what is held for requests under way.

use std::collections::VecDeque;

use super::period::{Period, Window};
use super::shared::Credit;

/// A projection needs a part of the time to stand on.
const LEAST_PASSED: f64 = 0.1;

/// One budget's sums, in its own unit.
#[derive(Debug, Clone)]
pub(super) struct Counter {
    window: Window,
    used: u64,
    held: u64,
    /// For a rolling time: what was spent in each of its slots, the newest last; `window` is the newest one's.
    slots: VecDeque<u64>,
    /// Thresholds of which was told in this window, by their place.
    pub(super) told: u32,
    /// Whether it was told that the limit will be exceeded.
    pub(super) projected: bool,
    /// What is agreed with other gateways.
    pub(super) credit: Credit,
}

impl Counter {
    pub(super) fn new(period: &Period, now: u64) -> Self {
        let (window, slots) = match period.slots() {
            Some((slot, count)) => {
                let since = now / slot * slot;
                (Window { since, until: since + slot }, VecDeque::from(vec![0; count + 1]))
            }
            None => (period.window(now), VecDeque::new()),
        };
        Self { window, used: 0, held: 0, slots, told: 0, projected: false, credit: Credit::default() }
    }

    /// Goes on to the window in which the moment falls. A moment before the window in use is one of that window: a clock
    /// that goes back gives nothing twice.
    pub(super) fn roll(&mut self, period: &Period, now: u64) {
        if now < self.window.until {
            return;
        }
        let Some((slot, _)) = period.slots() else {
            *self = Self::new(period, now);
            return;
        };
        let passed = usize::try_from((now - self.window.since) / slot).unwrap_or(usize::MAX);
        for _ in 0..passed.min(self.slots.len()) {
            let gone = self.slots.pop_front().unwrap_or(0);
            self.used = self.used.saturating_sub(gone);
            self.slots.push_back(0);
        }
        let since = now / slot * slot;
        self.window = Window { since, until: since + slot };
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// What was spent here and by other gateways.
    pub(super) fn used_by_all(&self) -> u64 {
        self.used.saturating_add(self.credit.others_used)
    }

    /// What is held here, and what other gateways may still spend.
    pub(super) fn held_by_all(&self) -> u64 {
        self.held.saturating_add(self.credit.others_held)
    }

    /// The window of the calendar, or the newest slot.
    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// Whether nobody would miss it.
    pub(super) fn is_idle(&self) -> bool {
        self.used == 0 && self.held == 0
    }

    /// Holds so much for a request; says in which window.
    pub(super) fn hold(&mut self, amount: u64) -> u64 {
        self.held = self.held.saturating_add(amount);
        self.window.since
    }

    /// Gives back what was held in the window that began at `since`, and spends `spent` in it. A window that has passed
    /// keeps its sums to itself.
    pub(super) fn settle(&mut self, since: u64, held: u64, spent: u64) {
        if self.slots.is_empty() {
            if since == self.window.since {
                self.held = self.held.saturating_sub(held);
                self.used = self.used.saturating_add(spent);
            }
            return;
        }
        self.held = self.held.saturating_sub(held);
        self.spend_in_slot(since, spent);
    }

    /// Spends what was spent at this moment, as far as it still counts.
    pub(super) fn recount(&mut self, at: u64, spent: u64) {
        if self.slots.is_empty() {
            if at >= self.window.since && at < self.window.until {
                self.used = self.used.saturating_add(spent);
            }
        } else {
            self.spend_in_slot(at, spent);
        }
    }

    fn spend_in_slot(&mut self, at: u64, spent: u64) {
        let slot = self.window.until - self.window.since;
        // Slots count back from the newest; a moment after it belongs to it.
        let back = (self.window.since.saturating_sub(at)).div_ceil(slot);
        let back = usize::try_from(back).unwrap_or(usize::MAX);
        let place = self.slots.len().checked_sub(back.saturating_add(1));
        if let Some(sum) = place.and_then(|place| self.slots.get_mut(place)) {
            *sum = sum.saturating_add(spent);
            self.used = self.used.saturating_add(spent);
        }
    }

    /// When something of what was spent goes out of the count; `None` for good.
    pub(super) fn resets_at(&self) -> Option<u64> {
        if self.slots.is_empty() {
            return Some(self.window.until).filter(|until| *until != u64::MAX);
        }
        let slot = self.window.until - self.window.since;
        let oldest = self.slots.iter().position(|spent| *spent > 0).unwrap_or(self.slots.len() - 1);
        Some(self.window.until.saturating_add(slot.saturating_mul(oldest as u64)))
    }

    /// When the window of the calendar began.
    pub(super) fn since(&self) -> u64 {
        let slot = self.window.until - self.window.since;
        let back = slot.saturating_mul(self.slots.len().saturating_sub(1) as u64);
        if self.slots.is_empty() { self.window.since } else { self.window.since.saturating_sub(back) }
    }

    /// What will have been spent at the end of the window, at the pace so far.
    #[allow(clippy::cast_precision_loss, reason = "a projection is not exact")]
    pub(super) fn projection(&self, now: u64) -> Option<f64> {
        if !self.slots.is_empty() || self.window.until == u64::MAX {
            return None;
        }
        let length = (self.window.until - self.window.since) as f64;
        let passed = now.saturating_sub(self.window.since) as f64 / length;
        (passed >= LEAST_PASSED).then(|| self.used_by_all() as f64 / passed)
    }
}

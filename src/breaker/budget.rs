//! How often a target may be tried again: a share of its requests, so that retries never multiply an outage.

use tokio::time::Instant;

/// The floor comes back over so many seconds.
const REFILL: f64 = 10.0;

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// Retries for each first try.
    pub share: f64,
    /// Retries within ten seconds that are always allowed.
    pub floor: u32,
}

/// The retries that one target has left.
#[derive(Debug)]
pub(super) struct Budget {
    earned: f64,
    floor_spent: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { earned: 0.0, floor_spent: 0.0, at: now }
    }

    /// A first try earns its share.
    pub(super) fn earn(&mut self, allowance: Allowance) {
        // What was earned in quiet times does not pay for a storm.
        let most = f64::from(allowance.floor) + 10.0;
        self.earned = (self.earned + allowance.share).min(most);
    }

    /// Whether one more retry is allowed; it is spent then.
    pub(super) fn spend(&mut self, allowance: Allowance, now: Instant) -> bool {
        let floor = f64::from(allowance.floor);
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.floor_spent = (self.floor_spent - floor * passed / REFILL).max(0.0);
        self.at = now;
        if self.earned >= 1.0 {
            self.earned -= 1.0;
            return true;
        }
        let free = self.floor_spent + 1.0 <= floor;
        if free {
            self.floor_spent += 1.0;
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_share_of_requests_with_a_small_floor() {
        let (mut now, allowance) = (Instant::now(), Allowance { share: 0.1, floor: 3 });
        let mut budget = Budget::new(now);
        let mut retries = |requests: u32, now| {
            let mut allowed = 0;
            for _ in 0..requests {
                budget.earn(allowance);
                allowed += u32::from(budget.spend(allowance, now));
            }
            allowed
        };
        assert_eq!(retries(4, now), 3, "the floor");
        let allowed = retries(1_000, now);
        assert!((95..=105).contains(&allowed), "a tenth of 1000, not {allowed}");
        now += Duration::from_secs(10);
        assert_eq!(retries(3, now), 3, "the floor came back");
    }
}

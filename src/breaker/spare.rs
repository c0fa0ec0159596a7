//! What part of the traffic may be sent twice: an account that requests fill and hedges draw on.

use std::sync::atomic::{AtomicI64, Ordering};

/// One hedge, in the account's units.
const ONE: i64 = 1_000_000;

/// The most that is saved up, so that a quiet hour does not pay for a storm.
const MOST: i64 = 5 * ONE;

/// The account. It begins with one hedge.
#[derive(Debug)]
pub struct Spare(AtomicI64);

impl Default for Spare {
    fn default() -> Self {
        Self(AtomicI64::new(ONE))
    }
}

impl Spare {
    /// A request came that may be hedged; `share` of such requests may.
    pub fn earn(&self, share: f64) {
        #[allow(clippy::cast_possible_truncation, reason = "a share is at most 1")]
        let earned = (share.clamp(0.0, 1.0) * ONE as f64) as i64;
        // The function always gives a value.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| Some((saved + earned).min(MOST)));
    }

    /// Takes one hedge, if there is one.
    pub fn take(&self) -> bool {
        let taken = |saved: i64| (saved >= ONE).then_some(saved - ONE);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_share_is_spent() {
        let spare = Spare::default();
        let mut spent = 0;
        for _ in 0..10_000 {
            spare.earn(0.05);
            spent += u32::from(spare.take());
        }
        assert!((498..=501).contains(&spent), "{spent}");
        (0..10_000).for_each(|_| spare.earn(0.05));
        assert_eq!((0..100).filter(|_| spare.take()).count(), 5, "a quiet hour does not pay for a storm");
        let (all, none) = (Spare::default(), Spare::default());
        (0..50).for_each(|_| all.earn(1.0));
        assert!(none.take() && !none.take() && all.take());
    }
}

//! How long to wait before another try at the same target.

use std::time::Duration;

use super::Limits;
use crate::clock::Dice;
use crate::fault::Fault;

/// The pause after failed try number `again` (from 0) of `retries + 1`; `None` when the next target is the better try.
///
/// Exponential with full jitter (`0..=base·2^again`), never below what the upstream asked for by `Retry-After`; a
/// `Retry-After` beyond the longest pause ends the tries here.
pub(super) fn pause(
    again: u32,
    retries: u32,
    fault: &Fault,
    limits: &Limits,
    dice: &Dice,
) -> Option<Duration> {
    if again >= retries {
        return None;
    }
    let ceiling =
        limits.backoff.saturating_mul(1_u32.checked_shl(again.min(16)).unwrap_or(1)).min(limits.max_backoff);
    let jittered = ceiling.mul_f64(dice.unit());
    match fault.after {
        Some(after) if after > limits.max_backoff => None,
        Some(after) => Some(jittered.max(after)),
        None => Some(jittered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    const LIMITS: Limits = Limits {
        retries: 3,
        max_attempts: 6,
        backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(5),
        max_body: 1 << 20,
        allowance: crate::breaker::Allowance { share: 0.1, floor: 10 },
    };

    fn paused(again: u32, after: Option<u64>) -> Option<Duration> {
        let fault = Fault::new(FaultKind::RateLimited, "slow down").after(after.map(Duration::from_secs));
        pause(again, 3, &fault, &LIMITS, &Dice::loaded(3))
    }

    #[test]
    fn pauses_grow_and_stay_below_the_ceiling() {
        for again in 0..3 {
            assert!(paused(again, None).unwrap() <= Duration::from_millis(200 << again), "{again}");
        }
    }

    #[test]
    fn retry_after_is_a_floor() {
        assert!(paused(0, Some(2)).unwrap() >= Duration::from_secs(2));
    }

    #[test]
    fn a_long_retry_after_moves_the_request_on() {
        assert_eq!(paused(0, Some(30)), None);
    }

    #[test]
    fn the_last_try_is_the_last() {
        assert_eq!(paused(3, None), None);
    }
}

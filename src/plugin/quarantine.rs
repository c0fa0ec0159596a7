//! Rest for a plugin that keeps failing: after five traps in half a minute it is not run, but for one trial now and then.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Faults within [`SPAN`] that put a plugin into quarantine.
const FAULTS: usize = 5;
const SPAN: Duration = Duration::from_secs(30);
/// The pause before the first trial; it doubles with each that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Whether a plugin may run.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    /// Whether `state.rest` is there: a plugin in good health costs no lock.
    resting: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: VecDeque<Instant>,
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    pause: Duration,
    /// A trial is under way.
    tried: bool,
}

/// What entering means for the end of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// An ordinary call.
    Free,
    /// The one that shows whether the plugin has recovered.
    Trial,
}

/// What the end of a call changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The plugin rests from now on, this long.
    Began(Duration),
    /// The plugin works again.
    Ended,
}

impl Quarantine {
    /// Lets a call in, or says how long the plugin rests still.
    pub(super) fn enter(&self) -> Result<Entry, Duration> {
        if !self.resting.load(Ordering::Acquire) {
            return Ok(Entry::Free);
        }
        let mut state = self.state();
        let Some(rest) = &mut state.rest else { return Ok(Entry::Free) };
        let left = rest.until.saturating_duration_since(Instant::now());
        if rest.tried || !left.is_zero() {
            return Err(left);
        }
        rest.tried = true;
        Ok(Entry::Trial)
    }

    /// Books the end of a call: `None` where it says nothing of the plugin's health, as when its caller left.
    pub(super) fn leave(&self, entry: Entry, healthy: Option<bool>) -> Change {
        if entry == Entry::Free && healthy != Some(false) {
            return Change::None;
        }
        let mut state = self.state();
        let now = Instant::now();
        match (&mut state.rest, healthy) {
            (Some(rest), None) => {
                rest.tried = false;
                Change::None
            }
            (Some(_), Some(true)) => {
                *state = State::default();
                self.resting.store(false, Ordering::Release);
                Change::Ended
            }
            (Some(rest), Some(false)) if entry == Entry::Trial => {
                rest.pause = (rest.pause * 2).min(LONGEST_PAUSE);
                rest.until = now + rest.pause;
                rest.tried = false;
                Change::Began(rest.pause)
            }
            (None, Some(false)) => {
                state.faults.push_back(now);
                while state.faults.front().is_some_and(|first| now.duration_since(*first) > SPAN) {
                    state.faults.pop_front();
                }
                if state.faults.len() < FAULTS {
                    return Change::None;
                }
                state.faults.clear();
                state.rest = Some(Rest { until: now + FIRST_PAUSE, pause: FIRST_PAUSE, tried: false });
                self.resting.store(true, Ordering::Release);
                Change::Began(FIRST_PAUSE)
            }
            _ => Change::None,
        }
    }

    /// Whether the plugin rests.
    pub(super) fn rests(&self) -> bool {
        self.resting.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole before the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(quarantine: &Quarantine) -> Change {
        let entry = quarantine.enter().unwrap();
        quarantine.leave(entry, Some(false))
    }

    #[tokio::test(start_paused = true)]
    async fn five_faults_in_half_a_minute_are_too_many() {
        let quarantine = Quarantine::default();
        for _ in 0..20 {
            assert_eq!(fail(&quarantine), Change::None, "slowly failing");
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        tokio::time::advance(SPAN * 2).await;
        for _ in 0..4 {
            assert_eq!(fail(&quarantine), Change::None);
        }
        assert_eq!(fail(&quarantine), Change::Began(FIRST_PAUSE));
        assert!(quarantine.enter().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_trial_at_a_time_and_longer_pauses() {
        let quarantine = Quarantine::default();
        for _ in 0..5 {
            fail(&quarantine);
        }
        for pause in [10, 20, 40, 80, 120, 120] {
            assert!(quarantine.enter().is_err());
            tokio::time::advance(LONGEST_PAUSE).await;
            let trial = quarantine.enter();
            assert_eq!(trial, Ok(Entry::Trial));
            assert!(quarantine.enter().is_err(), "one trial at a time");
            assert_eq!(
                quarantine.leave(Entry::Trial, Some(false)),
                Change::Began(Duration::from_secs(pause))
            );
        }
        tokio::time::advance(LONGEST_PAUSE).await;
        assert_eq!(quarantine.enter(), Ok(Entry::Trial));
        assert_eq!(quarantine.leave(Entry::Trial, None), Change::None, "its caller left");
        assert_eq!(quarantine.enter(), Ok(Entry::Trial));
        assert_eq!(quarantine.leave(Entry::Trial, Some(true)), Change::Ended);
        assert_eq!(quarantine.enter(), Ok(Entry::Free));
    }
}

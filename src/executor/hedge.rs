//! When somebody else is asked too: how a job's manner becomes a pace.

use std::time::Duration;

use super::race::Pace;
use super::{Executor, Job};
use crate::plan::{By, Late, Manner, Role};
use crate::providers::Target;

/// A standby that waits for a figure that is not there yet begins after this part of the time to the first content.
const STANDBY_PART: u32 = 2;

impl Executor {
    /// The pace of a job's attempts; `None` when they are simply made one after the other.
    pub(super) fn pace(&self, job: &Job, manner: &Manner) -> Option<Pace> {
        if !job.is_repeatable() {
            return None;
        }
        let streams = job.carry.wants_stream();
        let later = |role, later, gap, sparing| Pace { at_once: 1, later, gap, role, sparing };
        if let Some(together) = manner.together.as_ref().filter(|together| together.by == By::Race) {
            return Some(Pace { at_once: together.of, ..later(Role::Race, 0, Duration::ZERO, false) });
        }
        let primary = job.targets.first()?;
        if job.targets.len() < 2 {
            return None;
        }
        if streams {
            let gap = self.standby_after(job, primary, manner.standby?);
            return Some(later(Role::Standby, 1, gap, false));
        }
        let hedge = manner.hedge?;
        self.health.loads.spare.earn(hedge.share);
        let gap = match hedge.after {
            Late::After(gap) => gap,
            // Nothing is known to be late yet.
            Late::P95 => ms(self.figure(primary, |reading| reading.p95_ms)?),
        };
        Some(later(Role::Hedge, usize::from(hedge.targets.saturating_sub(1)), gap, true))
    }

    /// Always before the primary's time is over.
    fn standby_after(&self, job: &Job, primary: &Target, after: Late) -> Duration {
        let deadlines = &primary.vendor.deadlines;
        let limit = job.first_token.unwrap_or(deadlines.first_token.min(deadlines.handover));
        let middle = limit / STANDBY_PART;
        let wanted = match after {
            Late::After(gap) => gap,
            Late::P95 => self.figure(primary, |reading| reading.first_token_p95_ms).map_or(middle, ms),
        };
        if wanted < limit { wanted } else { middle }
    }

    pub(super) fn figure(
        &self,
        target: &Target,
        figure: impl Fn(&crate::breaker::Reading) -> Option<f64>,
    ) -> Option<f64> {
        self.health.readings().of(&target.name.to_string()).and_then(figure)
    }
}

impl Job {
    /// Whether it can be sent twice: all of it is here, and its answer is read.
    pub(super) fn is_repeatable(&self) -> bool {
        self.targets.first().is_none_or(|target| self.is_repeatable_at(target))
    }

    /// The same for one target.
    pub(super) fn is_repeatable_at(&self, target: &Target) -> bool {
        self.carry.upload().is_none() && self.carry.switch().is_none() && self.carry.raw(target).is_none()
    }
}

pub(super) fn ms(number: f64) -> Duration {
    Duration::try_from_secs_f64(number / 1e3).unwrap_or(Duration::ZERO)
}

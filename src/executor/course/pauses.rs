//! Pauses before another try at the same place, and who is asked meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::super::backoff;
use super::{Again, Course, PutOff, Step, Turn, Waiting};
use crate::fault::Fault;
use crate::providers::Target;

impl<'j> Course<'j> {
    /// Nobody else could answer: whoever wanted a pause is given it, and tried once more.
    pub(super) fn after_all(&mut self, now: Instant) -> Step<'j> {
        let soonest = self.put_off.iter().enumerate().min_by_key(|(_, off)| off.due).map(|(at, _)| at);
        let Some(PutOff { place, due }) = soonest.map(|at| self.put_off.swap_remove(at)) else {
            return Step::Over;
        };
        let target = self.job.targets.get(place).filter(|target| self.may_retry(target));
        if due >= self.job.deadline || target.is_none() {
            return self.after_all(now);
        }
        self.again.push(Again { place, but: None });
        Step::Wait(Waiting::Pause(due.saturating_duration_since(now)))
    }

    /// When the first of those that wanted a pause may be tried once more.
    pub(in crate::executor) fn soonest(&self) -> Option<Instant> {
        self.put_off.iter().map(|off| off.due).min()
    }

    /// Another try where the pause is over, while others are under way.
    pub(in crate::executor) fn after_pause(&mut self) -> Option<Box<Turn<'j>>> {
        let now = Instant::now();
        if !self.has_attempts() {
            return None;
        }
        let over = self.put_off.iter().position(|off| off.due <= now)?;
        let PutOff { place, .. } = self.put_off.swap_remove(over);
        self.job.targets.get(place).filter(|target| self.allows(place) && self.may_retry(target))?;
        match self.repeat(Again { place, but: None }, now) {
            Ok(turn) => Some(self.begins(turn)),
            Err(resting) => {
                self.rests(resting);
                None
            }
        }
    }

    /// How long to wait before another try at this place; `None` when another place is the better try.
    pub(super) fn pause(
        &mut self,
        place: usize,
        target: &Target,
        fault: &Fault,
        least: Option<Duration>,
    ) -> Option<Duration> {
        let pause = self.pause_before(place, fault, least)?;
        self.pause_or_put_off(place, target, pause)
    }

    /// The pause, unless others are under way: they go on meanwhile, and only when they have failed, too, is the place
    /// tried once more.
    pub(super) fn pause_or_put_off(
        &mut self,
        place: usize,
        target: &Target,
        pause: Duration,
    ) -> Option<Duration> {
        if self.open > 0 {
            self.put_off.push(PutOff { place, due: Instant::now() + pause });
            return None;
        }
        self.may_retry(target).then_some(pause)
    }

    /// The same before the budget of retries is asked.
    pub(super) fn pause_before(
        &self,
        place: usize,
        fault: &Fault,
        least: Option<Duration>,
    ) -> Option<Duration> {
        let limits = &self.job.limits;
        let retries = self.job.retries.unwrap_or(limits.retries);
        let failed = self.failed.iter().find(|(failed, _)| *failed == place).map_or(0, |(_, times)| *times);
        let pause = backoff::pause(failed, retries, fault, limits, &self.executor.dice)?;
        Some(least.map_or(pause, |least| pause.max(least)))
    }

    pub(super) fn may_retry(&self, target: &Target) -> bool {
        self.executor.gates.may_retry(&target.name, self.job.limits.allowance, Instant::now())
    }
}

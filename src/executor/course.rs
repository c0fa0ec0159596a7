//! The course of one request: what was tried, what is left, and what comes after a failure.
//!
//! Whoever carries a request out takes turns from here and tells how they ended. Turns may be raced: several can be
//! taken before the first of them ends.

use std::time::Duration;

use tokio::time::Instant;

use super::{Executor, Job, backoff};
use crate::fault::{Fault, FaultKind, Phase, Retry, Whose};
use crate::plan::Reaction;
use crate::providers::Target;
use crate::upstream::Upload;

/// What was tried of a job, and what is left.
pub(super) struct Course<'j> {
    job: &'j Job,
    /// The first place of the plan that no turn was taken for yet.
    next: usize,
    /// The place to be tried once more.
    again: Option<usize>,
    /// How often each place has failed; only those that have.
    failed: Vec<(usize, u32)>,
    /// Attempts that were made and failed.
    made: u32,
    /// Turns that were taken and have not ended.
    open: u32,
    /// The fault of the first attempt that was made: what the client is told when nothing helps.
    original: Option<Fault>,
    /// What the first target that cannot carry all of the request would lose.
    lossy: Option<Fault>,
}

/// One try at one target, about to be made.
pub(super) struct Turn<'j> {
    /// Where it goes.
    pub(super) target: &'j Target,
    place: usize,
}

/// What comes after a failure.
pub(super) enum Onward {
    /// The next turn, after this pause.
    Turn(Duration),
    /// Nothing: this is what the client is told.
    End(Fault),
}

impl<'j> Course<'j> {
    /// Nothing was tried yet.
    pub(super) fn new(job: &'j Job) -> Self {
        Self { job, next: 0, again: None, failed: Vec::new(), made: 0, open: 0, original: None, lossy: None }
    }

    /// The next try; `None` when nothing is left.
    pub(super) fn turn(&mut self) -> Option<Turn<'j>> {
        if self.made + self.open >= self.job.limits.max_attempts {
            return None;
        }
        let place = self.again.take().filter(|place| self.allows(*place)).or_else(|| self.ahead())?;
        let target = self.job.targets.get(place)?;
        self.open += 1;
        Some(Turn { target, place })
    }

    /// The next place that no turn was taken for.
    fn ahead(&mut self) -> Option<usize> {
        let place = (self.next..self.job.targets.len()).find(|place| self.allows(*place));
        self.next = place.map_or(self.job.targets.len(), |place| place + 1);
        place
    }

    fn allows(&self, place: usize) -> bool {
        self.job.targets.get(place).is_some_and(|target| self.job.allows(target))
    }

    /// A turn has failed: what now.
    pub(super) async fn failed(&mut self, turn: Turn<'j>, fault: Fault, executor: &Executor) -> Onward {
        let Turn { target, place } = turn;
        self.open = self.open.saturating_sub(1);
        if fault.kind == FaultKind::Lossy {
            // Nothing was sent: no attempt is used up.
            self.lossy.get_or_insert(fault);
            return Onward::Turn(Duration::ZERO);
        }
        self.made += 1;
        let reaction = self.job.reaction(target, self.made, &fault).await;
        if let Reaction::Refuse(refusal) = reaction {
            return Onward::End(*refusal);
        }
        if self.job.carry.upload().is_some_and(Upload::is_spent) {
            // What has gone out cannot be sent again.
            return Onward::End(fault);
        }
        let pause = match (reaction, fault.retry) {
            (Reaction::Fail | Reaction::Refuse(_), _) | (Reaction::Usual, Retry::Never) => {
                return Onward::End(fault);
            }
            (Reaction::NextTarget, _) | (Reaction::Usual, Retry::Elsewhere) => None,
            (Reaction::RetryAfter(pause), _) => Some(pause),
            (Reaction::Usual, Retry::Here) => self.pause(place, &fault, executor),
        };
        self.note(place);
        self.original.get_or_insert(fault);
        match pause.filter(|pause| Instant::now() + *pause < self.job.deadline) {
            Some(pause) => {
                self.again = Some(place);
                Onward::Turn(pause)
            }
            None => Onward::Turn(Duration::ZERO),
        }
    }

    /// How long to wait before another try at this place; `None` when another place is the better try.
    fn pause(&self, place: usize, fault: &Fault, executor: &Executor) -> Option<Duration> {
        let retries = self.job.retries.unwrap_or(self.job.limits.retries);
        let failed = self.failed.iter().find(|(failed, _)| *failed == place).map_or(0, |(_, times)| *times);
        backoff::pause(failed, retries, fault, &self.job.limits, &executor.dice)
    }

    fn note(&mut self, place: usize) {
        match self.failed.iter_mut().find(|(failed, _)| *failed == place) {
            Some((_, times)) => *times += 1,
            None => self.failed.push((place, 1)),
        }
    }

    /// What the client is told when nothing is left. A provider's failure is told rather than the losses of others:
    /// another try may succeed.
    pub(super) fn verdict(self) -> Fault {
        match (self.original, self.lossy) {
            (Some(original), Some(lossy)) if original.whose == Whose::Caller => lossy,
            (Some(original), _) => original,
            (None, Some(lossy)) => lossy,
            (None, None) => out_of_time(),
        }
    }
}

fn out_of_time() -> Fault {
    Fault::new(FaultKind::Timeout(Phase::Total), "the request's deadline passed before any target answered")
}

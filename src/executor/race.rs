//! Several attempts at a time: the first that brings an answer counts, the others end at once.
//!
//! Hedges, standbys and races are the same but for when the others begin.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::course::{Course, Onward, Step, Turn};
use super::{Answered, Executor, Job};
use crate::fault::Fault;
use crate::plan::Role;
use crate::target::TargetName;

/// A turn that has ended, and how.
type Ended<'j> = (Turn<'j>, Result<Answered, Fault>);

/// An attempt under way. Dropped, it ends: its connection is closed, and the journal has it as cancelled.
type Attempt<'j> = Pin<Box<dyn Future<Output = Ended<'j>> + Send + 'j>>;

/// When attempts begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Attempts that begin at once.
    pub(super) at_once: usize,
    /// Attempts that may begin later although none has failed, and how long after the last one began.
    pub(super) later: usize,
    pub(super) gap: Duration,
    /// Why those attempts are made.
    pub(super) role: Role,
    /// Whether they draw on the share of traffic that may be sent twice.
    pub(super) sparing: bool,
}

/// Attempts under way, each with whom it asks.
#[derive(Default)]
pub(super) struct Running<'j>(Vec<(&'j TargetName, Attempt<'j>)>);

impl Executor {
    /// Carries out a job at this pace.
    pub(super) async fn race(&self, job: &Job, pace: Pace) -> Result<Answered, Fault> {
        let mut course = Course::new(job, self);
        let mut running = Running::default();
        let mut role = Role::Primary;
        let mut later = pace.later;
        let mut due = Instant::now();
        // What the client is told if those who still run bring nothing.
        let mut end = None;
        loop {
            while running.is_empty() {
                if let Some(fault) = end {
                    return Err(fault);
                }
                match course.step() {
                    Step::Over => return Err(course.verdict()),
                    Step::Wait(place) => match Box::pin(course.wait(place)).await {
                        Some(turn) => running.begin(self, job, turn, role),
                        None => continue,
                    },
                    Step::Turn(turn) => running.begin(self, job, turn, role),
                }
                let beside = if role == Role::Primary { pace.at_once.saturating_sub(1) } else { 0 };
                for turn in (0..beside).map_while(|_| course.another()).collect::<Vec<_>>() {
                    running.begin(self, job, turn, pace.role);
                }
                role = Role::Retry;
                due = Instant::now() + pace.gap;
            }
            let ended = if later > 0 && end.is_none() {
                tokio::time::timeout_at(due, running.next()).await.ok()
            } else {
                Some(running.next().await)
            };
            match ended {
                // It is late: somebody else is asked too.
                None => {
                    later -= 1;
                    due = Instant::now() + pace.gap;
                    if pace.sparing && !self.may_hedge(&running) {
                        later = 0;
                    } else if let Some(turn) = course.another() {
                        running.begin(self, job, turn, pace.role);
                    }
                }
                Some((_, Ok(answered))) => return Ok(answered),
                Some((turn, Err(fault))) => match course.failed(turn, fault).await {
                    Onward::End(fault) => drop(end.get_or_insert(fault)),
                    // None while others run: the course puts the place off for that long.
                    Onward::Step(pause) => wait(job, pause).await,
                },
            }
        }
    }

    /// Whether a late answer may be asked for elsewhere: not when its target has become slow as a whole, which more
    /// requests would only make worse, nor beyond the share of traffic that may be sent twice.
    fn may_hedge(&self, running: &Running<'_>) -> bool {
        let slower = running.0.iter().any(|(target, _)| self.health.loads.is_slower(target));
        let outcome = if slower {
            "shifted"
        } else if self.health.loads.spare.take() {
            "sent"
        } else {
            "spent"
        };
        metrics::counter!("tollgate_hedges_total", "outcome" => outcome).increment(1);
        outcome == "sent"
    }
}

impl<'j> Running<'j> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn begin(&mut self, executor: &'j Executor, job: &'j Job, turn: Turn<'j>, role: Role) {
        let target = &turn.target.name;
        let attempt = async move {
            let mut turn = turn;
            let result = executor.attempt(job, &mut turn, role).await;
            (turn, result)
        };
        self.0.push((target, Box::pin(attempt)));
    }

    /// The next one that ends. Waits for ever where none is under way.
    pub(super) fn next(&mut self) -> impl Future<Output = Ended<'j>> + Send {
        std::future::poll_fn(move |cx| {
            for place in 0..self.0.len() {
                let Some((_, attempt)) = self.0.get_mut(place) else { break };
                if let Poll::Ready(ended) = attempt.as_mut().poll(cx) {
                    drop(self.0.remove(place));
                    return Poll::Ready(ended);
                }
            }
            Poll::Pending
        })
    }
}

/// The pause before the next step of a course.
pub(super) async fn wait(job: &Job, pause: Duration) {
    if !pause.is_zero() {
        job.journal.pause(Instant::now());
        tokio::time::sleep(pause).await;
    }
}

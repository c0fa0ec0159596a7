//! Several attempts at a time: the first that brings an answer counts, the others end at once.
//!
//! Hedges, standbys and races are the same but for when the others begin. So is a request whose target is late, which
//! nobody had foreseen.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::course::{Course, End, Onward, Step, Turn};
use super::due::Late;
use super::{Answered, Executor, Job};
use crate::fault::Fault;
use crate::heap;
use crate::plan::Role;
use crate::target::TargetName;

/// A turn that has ended, and how.
pub(super) type Ended<'j> = (Box<Turn<'j>>, Result<Answered, Fault>);

/// An attempt under way. Dropped, it ends: its connection is closed, and the journal has it as cancelled.
type Attempt<'r, 'j> = Pin<Box<dyn Future<Output = Ended<'j>> + Send + 'r>>;

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
pub(super) struct Running<'r, 'j>(Vec<(&'j TargetName, Attempt<'r, 'j>)>);

/// What happens while attempts are under way.
#[allow(clippy::large_enum_variant, reason = "taken apart as soon as it is made")]
enum Event<'j> {
    /// One has ended.
    Ended(Ended<'j>),
    /// A target is late.
    Late,
    /// The time has come for another one.
    Due,
}

impl Pace {
    /// One after the other, as long as none is late.
    const PLAIN: Self =
        Self { at_once: 1, later: 0, gap: Duration::ZERO, role: Role::Standby, sparing: false };
}

impl Executor {
    /// Carries out a job at this pace.
    pub(super) async fn race(&self, job: &Job, pace: Pace) -> Result<Answered, Fault> {
        let late = Late::default();
        let mut course = Course::new(job, self);
        self.run(job, &mut course, Running::default(), pace, &late).await
    }

    /// Goes on with a job of which one attempt is under way and late: somebody else is asked beside it.
    pub(super) async fn relieve<'r, 'j>(
        &'j self,
        job: &'j Job,
        course: &mut Course<'j>,
        (target, attempt): (&'j TargetName, impl Future<Output = Ended<'j>> + Send + 'r),
        late: &'j Late,
    ) -> Result<Answered, Fault>
    where
        'j: 'r,
    {
        let mut running = Running::default();
        running.0.push((target, Box::pin(attempt)));
        if let Some(turn) = course.another() {
            running.begin(self, job, turn, Role::Standby, Some(late));
        }
        self.run(job, course, running, Pace::PLAIN, late).await
    }

    async fn run<'r, 'j>(
        &'j self,
        job: &'j Job,
        course: &mut Course<'j>,
        mut running: Running<'r, 'j>,
        pace: Pace,
        late: &'j Late,
    ) -> Result<Answered, Fault>
    where
        'j: 'r,
    {
        // Somebody is late: whoever was asked beside him and failed is followed by another.
        let mut relieved = !running.is_empty();
        let mut role = if relieved { Role::Retry } else { Role::Primary };
        let mut later = pace.later;
        let mut again = None;
        let mut due = Instant::now();
        // What the client is told if those who still run bring nothing.
        let mut end = None::<End>;
        loop {
            while running.is_empty() {
                if let Some(end) = end {
                    return Err(course.ended(end));
                }
                match course.step() {
                    Step::Over => return Err(course.verdict()),
                    Step::Wait(place) => match Box::pin(course.wait(place)).await {
                        Some(turn) => running.begin(self, job, turn, role, Some(late)),
                        None => continue,
                    },
                    Step::Turn(turn) => running.begin(self, job, turn, role, Some(late)),
                }
                let beside = if role == Role::Primary { pace.at_once.saturating_sub(1) } else { 0 };
                for turn in (0..beside).map_while(|_| course.another()).collect::<Vec<_>>() {
                    running.begin(self, job, turn, pace.role, Some(late));
                }
                role = Role::Retry;
                due = Instant::now() + pace.gap;
            }
            let alarms = [(later > 0).then_some(due), again];
            let event = match alarms.into_iter().flatten().min().filter(|_| end.is_none()) {
                Some(at) => tokio::time::timeout_at(at, running.event(late)).await.unwrap_or(Event::Due),
                None => running.event(late).await,
            };
            let beside = match event {
                Event::Due if again.is_some_and(|again| again <= Instant::now()) => {
                    again = None;
                    course.after_pause().map(|turn| (turn, Role::Retry))
                }
                // It is late: somebody else is asked too.
                Event::Due => {
                    later -= 1;
                    due = Instant::now() + pace.gap;
                    if pace.sparing && !self.may_hedge(&running) {
                        later = 0;
                        continue;
                    }
                    course.another().map(|turn| (turn, pace.role))
                }
                Event::Late => {
                    relieved = true;
                    if end.is_some() { None } else { course.another().map(|turn| (turn, Role::Standby)) }
                }
                Event::Ended((_, Ok(answered))) => return Ok(answered),
                Event::Ended((turn, Err(fault))) => match course.failed(turn, fault).await {
                    Onward::End(other) => {
                        if end.as_ref().is_none_or(|end| other.is_before(end)) {
                            end = Some(other);
                        }
                        None
                    }
                    // What is decided waits for nobody's pause.
                    Onward::Step(_) if end.is_some() => None,
                    Onward::Step(_) if relieved && !running.is_empty() => {
                        let other = course.another();
                        again = course.soonest().filter(|_| other.is_none());
                        other.map(|turn| (turn, Role::Standby))
                    }
                    // None while others run: the course puts the place off for that long.
                    Onward::Step(pause) => {
                        wait(job, pause).await;
                        None
                    }
                },
            };
            if let Some((turn, role)) = beside {
                running.begin(self, job, turn, role, Some(late));
            }
        }
    }

    /// Whether a late answer may be asked for elsewhere: not when its target has become slow as a whole, which more
    /// requests would only make worse, nor beyond the share of traffic that may be sent twice.
    fn may_hedge(&self, running: &Running<'_, '_>) -> bool {
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

impl<'r, 'j: 'r> Running<'r, 'j> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins an attempt. Without anybody to be told that its target is late, it ends when that is so.
    pub(super) fn begin(
        &mut self,
        executor: &'j Executor,
        job: &'j Job,
        turn: Box<Turn<'j>>,
        role: Role,
        late: Option<&'j Late>,
    ) {
        let target = &turn.target.name;
        self.0.push((target, heap::pinned(|| executor.turn(job, turn, role, late))));
    }

    /// The next one that ends. Waits for ever where none is under way.
    pub(super) fn next(&mut self) -> impl Future<Output = Ended<'j>> + Send {
        std::future::poll_fn(move |cx| self.poll_next(cx))
    }

    /// What happens next.
    fn event(&mut self, late: &Late) -> impl Future<Output = Event<'j>> + Send {
        std::future::poll_fn(move |cx| match self.poll_next(cx) {
            Poll::Ready(ended) => Poll::Ready(Event::Ended(ended)),
            Poll::Pending if late.take() => Poll::Ready(Event::Late),
            Poll::Pending => Poll::Pending,
        })
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Ended<'j>> {
        for place in 0..self.0.len() {
            let Some((_, attempt)) = self.0.get_mut(place) else { break };
            if let Poll::Ready(ended) = attempt.as_mut().poll(cx) {
                drop(self.0.remove(place));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    }
}

/// The pause before the next step of a course.
pub(super) async fn wait(job: &Job, pause: Duration) {
    if !pause.is_zero() {
        job.journal.pause(Instant::now());
        tokio::time::sleep(pause).await;
    }
}

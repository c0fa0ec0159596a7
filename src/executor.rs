//! Carries out a plan within its deadlines: ordered attempts, classified faults, invisible fallback.
//!
//! `course.rs` knows what was tried and what comes next; `attempt.rs` makes one attempt. Attempts can be raced: take
//! several turns from the course before the first of them has ended.

mod advice;
mod answering;
mod attempt;
mod backoff;
mod bond;
mod chaos;
mod counting;
mod course;
mod due;
mod ensemble;
mod grip;
mod hedge;
mod hollow;
mod journal;
mod live;
mod opening;
mod pace;
mod passing;
mod probe;
mod race;
mod raw;
mod said;
mod secrecy;
mod sequel;
mod shape;
mod switch;
mod token;
mod watchdog;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

pub use advice::{Advice, Advising};
pub use bond::Bond;
pub use chaos::{Chaos, ChaosKind, ChaosMatch, ChaosSettings, Exposed, StallAt};
use course::{Course, Onward, Step, Turn};
use due::Late;
pub use ensemble::Judge;
pub use grip::Grip;
pub use journal::{Journal, Spent};
pub use live::{Live, Piece};
use race::Ended;
pub use raw::{Raw, RawForm};
pub use secrecy::can_be_hidden;
pub use sequel::{Again, Remainder, Sequel};
pub use switch::Switched;
pub use token::{Place, exchange, fetch};

use crate::breaker::{Allowance, Gates, Health};
use crate::caller::Tenant;
use crate::chat;
use crate::clock::{Clock, Dice};
use crate::facts::market::Market;
use crate::fault::Fault;
use crate::heap;
use crate::ledger::{Size, Tab};
use crate::plan::{Manner, Role};
use crate::providers::{Outgoing, Relayed, StreamRelay, Target};
use crate::queue::Lanes;
use crate::telemetry::Meters;
use crate::tokens::Counter;
use crate::upstream::{Upload, Upstream};

/// How failed attempts are repeated, and how large an answer may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tries at the same target beyond the first.
    pub retries: u32,
    /// Attempts of one request over all its targets.
    pub max_attempts: u32,
    /// First pause before another try at the same target.
    pub backoff: Duration,
    /// Longest pause; a `Retry-After` beyond it moves the request to the next target.
    pub max_backoff: Duration,
    /// Bytes of a whole answer.
    pub max_body: u64,
    /// How many repeats a target's requests pay for.
    pub allowance: Allowance,
}

/// Makes an answer, beside the workers.
pub type Instead = Box<dyn FnOnce(&Counter) -> Relayed + Send>;

/// What the executor needs to know of a request: how it goes out, and how answers come back to the client's dialect.
pub trait Carry: Send + Sync {
    /// The request as this target wants it.
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault>;
    /// A whole answer for the client.
    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault>;
    /// How an answer is made that needs no upstream (a count where the target cannot count). Never for streams.
    fn instead(&self, _target: &Target) -> Option<Instead> {
        None
    }
    /// The request in the canonical form, for who counts its tokens; `None` where it has none.
    fn counted(&self) -> Option<chat::Request> {
        None
    }
    /// How large it can be, where it is no request of the client's own.
    fn size(&self) -> Option<Size> {
        None
    }
    /// Whether the client wants a stream.
    fn wants_stream(&self) -> bool;
    /// The part of the request's body that is still arriving; it follows the body of `outgoing`.
    fn upload(&self) -> Option<&Upload> {
        None
    }
    /// How this target's answer is relayed as bytes; `None` when it is read, whole or as a stream.
    fn raw(&self, _target: &Target) -> Option<RawForm> {
        None
    }
    /// For a client who wants to speak WebSocket with the target: the headers that answer its handshake.
    fn switch(&self) -> Option<&HeaderMap> {
        None
    }
    /// Whether it goes on with an answer of which the client has the beginning.
    fn is_sequel(&self) -> bool {
        false
    }
    /// Whether an answer without a word is an answer, too: nothing may be missing where a text goes on, or a gap is filled.
    fn may_be_empty(&self) -> bool {
        self.is_sequel()
    }
    /// The translation of this target's stream into the client's.
    fn stream(&self, target: &Target) -> Result<Box<dyn StreamRelay>, Fault>;
}

/// One request on its way out.
pub struct Job {
    /// Where it may go, first choice first.
    pub targets: Vec<Target>,
    /// Tries at the same target beyond the first, as the policy said; `None` leaves it to `limits`.
    pub retries: Option<u32>,
    /// Deadline of each attempt to its first content, as the policy said; `None` leaves it to the target.
    pub first_token: Option<Duration>,
    /// How the attempts are made, where not simply one after the other.
    pub manner: Option<Box<Manner>>,
    /// Who judges the answers of several.
    pub judge: Option<Judge>,
    /// How it is said.
    pub carry: Arc<dyn Carry>,
    /// What happens to it is noted here, also when it is dropped half-way.
    pub journal: Arc<Journal>,
    /// Where its attempts are written down and counted, if they are.
    pub tab: Option<Arc<Tab>>,
    /// What chaos may do to it; `None` where there is none.
    pub exposed: Option<Arc<Exposed>>,
    /// Who has a say between attempts, if anybody has.
    pub advice: Option<Arc<dyn Advice>>,
    /// Whether a target that cannot carry all of the request is passed over.
    pub strict: bool,
    /// Repeats and sizes.
    pub limits: Limits,
    /// End of the whole request.
    pub deadline: Instant,
    /// Whether it, or one of its targets, names a class of service, so that what goes out is looked at for it.
    pub tiered: bool,
    /// Tokens of its prompt, for keys with a limit of tokens.
    pub tokens: u64,
    /// Whose turn it takes where it has to wait.
    pub tenant: Tenant,
    /// What it has in common with other requests that should bear the same key.
    pub bond: Bond,
    /// Who knows the context windows of targets.
    pub market: Option<Arc<dyn Market>>,
}

#[allow(clippy::large_enum_variant, reason = "made once per request and taken apart at once")]
/// An answer that has begun well enough to be shown to the client.
pub enum Answered {
    /// All of it.
    Whole(Relayed, Target),
    /// A stream whose first content is here.
    Stream(Box<Live>),
    /// Bytes of which the head is here.
    Raw(Box<Raw>),
    /// A conversation that can begin.
    Switched(Box<Switched>),
}

/// What is known of targets, by all workers together.
#[derive(Clone)]
pub struct TargetState {
    /// How they do.
    pub health: Arc<Health>,
    /// Their breakers.
    pub gates: Arc<Gates>,
    /// Who is at them, and who waits.
    pub lanes: Arc<Lanes>,
    /// What they make of texts.
    pub counter: Arc<Counter>,
}

/// Sends requests to targets until one answers. One per worker thread.
pub struct Executor {
    upstream: Arc<Upstream>,
    meters: Arc<Meters>,
    health: Arc<Health>,
    gates: Arc<Gates>,
    lanes: Arc<Lanes>,
    dice: Arc<Dice>,
    clock: Arc<dyn Clock>,
    counter: Arc<Counter>,
}

impl Executor {
    /// An executor on this transport.
    pub fn new(
        upstream: Arc<Upstream>,
        meters: Arc<Meters>,
        known: TargetState,
        dice: Arc<Dice>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let TargetState { health, gates, lanes, counter } = known;
        Self { upstream, meters, health, gates, lanes, dice, clock, counter }
    }

    /// Tries the plan's targets in order until one answers, the attempts are used up, or the deadline passes.
    ///
    /// # Errors
    /// The first attempt's fault; in a strict request that no target can carry, what the first could not.
    pub async fn carry_out(&self, job: &Job) -> Result<Answered, Fault> {
        if let Some(manner) = &job.manner {
            // Boxed, as all that few requests need.
            if let Some(together) = self.ensemble_of(job, manner) {
                return Box::pin(self.ensemble(job, together)).await;
            }
            if let Some(pace) = self.pace(job, manner) {
                return heap::pinned(|| self.race(job, pace)).await;
            }
        }
        let late = Late::default();
        let mut course = Course::new(job, self);
        let mut role = if job.carry.is_sequel() { Role::Continuation } else { Role::Primary };
        loop {
            let turn = match course.step() {
                Step::Over => return Err(course.verdict()),
                Step::Turn(turn) => Some(turn),
                // Boxed, as all that few requests need.
                Step::Wait(place) => Box::pin(course.wait(place)).await,
            };
            let Some(turn) = turn else { continue };
            let (turn, result) = match self.unless_late(job, &mut course, turn, role, &late).await {
                ControlFlow::Continue(ended) => ended,
                ControlFlow::Break(result) => return result,
            };
            let pause = match result {
                Ok(answered) => return Ok(answered),
                Err(fault) => {
                    role = Role::Retry;
                    match course.failed(turn, fault).await {
                        Onward::End(end) => return Err(course.ended(end)),
                        Onward::Step(pause) => pause,
                    }
                }
            };
            race::wait(job, pause).await;
        }
    }

    /// The end of an attempt; of one that becomes late, that of the whole job, for which somebody else is asked beside it.
    ///
    /// By itself, so that no other future of the job has to keep its room beside it.
    async fn unless_late<'j>(
        &'j self,
        job: &'j Job,
        course: &mut Course<'j>,
        turn: Box<Turn<'j>>,
        role: Role,
        late: &'j Late,
    ) -> ControlFlow<Result<Answered, Fault>, Ended<'j>> {
        let target = &turn.target.name;
        let mut attempt = std::pin::pin!(self.turn(job, turn, role, Some(late)));
        match late.before(attempt.as_mut()).await {
            Some(ended) => ControlFlow::Continue(ended),
            // Boxed, as all that few requests need.
            None => ControlFlow::Break(Box::pin(self.relieve(job, course, (target, attempt), late)).await),
        }
    }

    /// An attempt with its turn, which comes back with its end.
    async fn turn<'j>(
        &self,
        job: &Job,
        mut turn: Box<Turn<'j>>,
        role: Role,
        late: Option<&Late>,
    ) -> Ended<'j> {
        let result = self.attempt(job, &mut turn, role, late).await;
        (turn, result)
    }
}

#[cfg(test)]
mod tests;

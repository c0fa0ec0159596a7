//! The course of one request: what was tried, what is left, and what comes after a failure.
//!
//! Whoever carries a request out takes turns from here and tells how they ended. Turns may be raced: several can be
//! taken before the first of them ends.

mod pauses;
mod told;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub(super) use told::End;
use told::Original;

use super::{Executor, Job};
use crate::breaker::{Admission, Pass};
use crate::fault::{Counts, Fault, FaultKind, Then};
use crate::plan::Reaction;
use crate::providers::{Hold, Rest, Target, Why, Wish};
use crate::queue::{Berth, Lane, Ticket};
use crate::upstream::Upload;

/// How long who waits for a place relies on being told of it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What was tried of a job, and what is left.
pub(super) struct Course<'j> {
    job: &'j Job,
    executor: &'j Executor,
    /// The first place of the plan that no turn was taken for yet.
    next: usize,
    /// Places to be tried once more, in this order.
    again: Vec<Again>,
    /// Places that rest and were passed over.
    resting: Vec<Resting>,
    /// Places to be tried once more after a pause that others need not wait for.
    put_off: Vec<PutOff>,
    /// Places whose line was waited in without a turn: nobody waits there again.
    in_vain: Vec<usize>,
    /// How often each place has failed; only those that have.
    failed: Vec<(usize, u32)>,
    /// Attempts that were made and failed.
    made: u32,
    /// Turns that were taken and have not ended.
    open: u32,
    /// How long it has waited in lines.
    waited: Duration,
    /// The window of the largest target for which the prompt was too long.
    too_small: Option<u64>,
    /// Turns that were taken.
    begun: u32,
    /// What the client is told when nothing helps.
    original: Option<Original>,
    /// What the first target that cannot carry all of the request would lose.
    lossy: Option<Fault>,
}

/// A place to be tried once more.
#[derive(Clone, Copy)]
struct Again {
    place: usize,
    /// The key that failed, where another one is to be tried.
    but: Option<usize>,
}

/// A place to be tried once more, not before its time.
#[derive(Clone, Copy)]
struct PutOff {
    place: usize,
    due: Instant,
}

/// A place that was passed over.
#[derive(Clone, Copy)]
pub(super) struct Resting {
    place: usize,
    wait: Duration,
    why: Bar,
}

/// Why a place was passed over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bar {
    Breaker,
    Key(Why),
    /// No more at once, or others wait already.
    Busy,
}

/// What is to be waited for.
#[derive(Clone, Copy)]
pub(super) enum Waiting {
    /// The line of a place is to be joined.
    Line(Resting),
    /// A place that is to be tried once more wants a pause.
    Pause(Duration),
}

/// One try at one target, about to be made.
pub(super) struct Turn<'j> {
    /// Where it goes.
    pub(super) target: &'j Target,
    /// One of the places at the target; taken by the attempt.
    pub(super) berth: Option<Berth>,
    /// The leave of its breaker; taken by the attempt.
    pub(super) pass: Option<Pass>,
    /// The key that it bears; taken by the attempt.
    pub(super) hold: Option<Hold>,
    /// Whether nobody else is left who is well.
    pub(super) is_last: bool,
    /// Whether it goes to an open breaker, because nothing else was left.
    is_desperate: bool,
    place: usize,
    /// Its number among the turns of the job, from 1.
    number: u32,
    /// The place of its key among the provider's.
    key: Option<usize>,
}

/// What can be done next.
pub(super) enum Step<'j> {
    /// Make this try. Boxed, as it is handed on from future to future.
    Turn(Box<Turn<'j>>),
    /// Wait: all who could be asked are busy, or their limits are used up, or they wanted a pause.
    Wait(Waiting),
    /// Nothing is left.
    Over,
}

/// What comes after a failure.
pub(super) enum Onward {
    /// The next step, after this pause.
    Step(Duration),
    /// Nothing: this is what the client is told.
    End(End),
}

impl<'j> Course<'j> {
    /// Nothing was tried yet.
    pub(super) fn new(job: &'j Job, executor: &'j Executor) -> Self {
        Self {
            job,
            executor,
            next: 0,
            again: Vec::new(),
            resting: Vec::new(),
            put_off: Vec::new(),
            in_vain: Vec::new(),
            failed: Vec::new(),
            made: 0,
            open: 0,
            waited: Duration::ZERO,
            too_small: None,
            begun: 0,
            original: None,
            lossy: None,
        }
    }

    /// What can be done next: a target that is well, in the plan's order; else the least bad of those that rest.
    pub(super) fn step(&mut self) -> Step<'j> {
        if !self.has_attempts() {
            return Step::Over;
        }
        let now = Instant::now();
        while !self.again.is_empty() {
            let again = self.again.remove(0);
            match self.allows(again.place).then(|| self.repeat(again, now)) {
                Some(Ok(turn)) => return self.taken(turn),
                Some(Err(resting)) => self.rests(resting),
                None => {}
            }
        }
        if let Some(turn) = self.well(now) {
            return self.taken(turn);
        }
        match self.least_bad(now) {
            Step::Over => self.after_all(now),
            step => step,
        }
    }

    /// A target that is well and was not asked yet, to be asked beside the others.
    pub(super) fn another(&mut self) -> Option<Box<Turn<'j>>> {
        if !self.has_attempts() {
            return None;
        }
        let turn = self.well(Instant::now())?;
        Some(self.begins(turn))
    }

    /// The next target in the plan's order that is well.
    fn well(&mut self, now: Instant) -> Option<Turn<'j>> {
        while let Some(place) = self.ahead() {
            match self.enter(place, now) {
                Ok(turn) => return Some(turn),
                Err(resting) => self.rests(resting),
            }
        }
        None
    }

    fn taken(&mut self, turn: Turn<'j>) -> Step<'j> {
        Step::Turn(self.begins(turn))
    }

    /// The turn counts as under way from now on.
    fn begins(&mut self, mut turn: Turn<'j>) -> Box<Turn<'j>> {
        self.open += 1;
        self.begun += 1;
        turn.number = self.begun;
        turn.is_last = !self.has_other_well();
        Box::new(turn)
    }

    fn has_attempts(&self) -> bool {
        self.made + self.open < self.job.limits.max_attempts
    }

    /// Whether a target that was not asked yet is well, and may be asked.
    fn has_other_well(&self) -> bool {
        self.has_attempts()
            && (self.next..self.job.targets.len()).any(|place| {
                let target =
                    self.job.targets.get(place).filter(|_| self.allows(place) && self.is_roomier(place));
                target.is_some_and(|target| self.executor.gates.is_closed(&target.name))
            })
    }

    /// The next place that no turn was taken for.
    fn ahead(&mut self) -> Option<usize> {
        let place = self.find_ahead();
        self.next = place.map_or(self.job.targets.len(), |place| place + 1);
        place
    }

    fn find_ahead(&self) -> Option<usize> {
        (self.next..self.job.targets.len()).find(|place| self.allows(*place) && self.is_roomier(*place))
    }

    fn allows(&self, place: usize) -> bool {
        self.job.targets.get(place).is_some_and(|target| self.job.allows(target))
    }

    /// Whether the place may have room for a prompt that was too long elsewhere.
    fn is_roomier(&self, place: usize) -> bool {
        let Some(too_small) = self.too_small else { return true };
        self.job
            .targets
            .get(place)
            .and_then(|target| self.window(target))
            .is_none_or(|window| window > too_small)
    }

    fn window(&self, target: &Target) -> Option<u64> {
        self.job.market.as_ref()?.listing(&target.name)?.context_window
    }

    /// Whether all attempts that are left are needed by those who were not asked yet.
    fn is_tight(&self) -> bool {
        let left = self.job.limits.max_attempts.saturating_sub(self.made + self.open) as usize;
        let ahead = (self.next..self.job.targets.len()).filter(|at| self.allows(*at) && self.is_roomier(*at));
        let ahead = ahead.count();
        ahead > 0 && left <= ahead
    }

    fn lane(&self, target: &Target) -> Arc<Lane> {
        self.executor.lanes.of(&target.name, || target.vendor.models.contains(&target.name.model))
    }

    /// A first try: breaker, target and keys are asked.
    fn enter(&self, place: usize, now: Instant) -> Result<Turn<'j>, Resting> {
        let shut = Resting { place, wait: Duration::ZERO, why: Bar::Breaker };
        let target = self.job.targets.get(place).ok_or(shut)?;
        let listed = target.vendor.models.contains(&target.name.model);
        let gates = &self.executor.gates;
        let pass = match gates.enter(&target.name, listed, self.job.limits.allowance, now) {
            Admission::Pass(pass) => pass,
            Admission::Shut(wait) => return Err(Resting { wait, ..shut }),
        };
        let berth = self.berth(place, target)?;
        self.take_key(place, target, pass, berth, now)
    }

    /// A try of whoever waits in line, as soon as it is his turn.
    fn enter_from_line(&self, place: usize, ticket: &Ticket, now: Instant) -> Result<Turn<'j>, Resting> {
        let shut = Resting { place, wait: Duration::ZERO, why: Bar::Breaker };
        let target = self.job.targets.get(place).ok_or(shut)?;
        let pass = match self.executor.gates.enter_again(&target.name, false, now) {
            Admission::Pass(pass) => pass,
            Admission::Shut(wait) => return Err(Resting { wait, ..shut }),
        };
        let berth = ticket.enter().ok_or(Resting { place, wait: LOOK_AGAIN, why: Bar::Busy })?;
        self.take_key(place, target, pass, berth, now)
    }

    fn berth(&self, place: usize, target: &'j Target) -> Result<Berth, Resting> {
        let lane = self.lane(target);
        lane.enter().ok_or_else(|| Resting { place, wait: lane.wait(self.job.tenant), why: Bar::Busy })
    }

    fn take_key(
        &self,
        place: usize,
        target: &'j Target,
        pass: Pass,
        berth: Berth,
        now: Instant,
    ) -> Result<Turn<'j>, Resting> {
        match target.vendor.ring.choose(self.wish(target, None), &self.executor.dice, now) {
            Ok(hold) => Ok(turn(target, place, pass, hold, berth)),
            Err(Rest { wait, why }) => {
                berth.put_back();
                Err(Resting { place, wait, why: Bar::Key(why) })
            }
        }
    }

    /// Another try at the same place. The pause has passed, so that a key that rests may be tried all the same.
    fn repeat(&self, again: Again, now: Instant) -> Result<Turn<'j>, Resting> {
        let place = again.place;
        let shut = Resting { place, wait: Duration::ZERO, why: Bar::Breaker };
        let target = self.job.targets.get(place).ok_or(shut)?;
        let pass = match self.executor.gates.enter_again(&target.name, false, now) {
            Admission::Pass(pass) => pass,
            Admission::Shut(wait) => return Err(Resting { wait, ..shut }),
        };
        let berth = self.berth(place, target)?;
        let (ring, wish) = (&target.vendor.ring, self.wish(target, again.but));
        let hold = match ring.choose(wish, &self.executor.dice, now) {
            Ok(hold) => hold,
            Err(Rest { wait, why }) => match ring.least_bad(wish, now) {
                Some(hold) => Some(hold),
                None => {
                    berth.put_back();
                    return Err(Resting { place, wait, why: Bar::Key(why) });
                }
            },
        };
        Ok(turn(target, place, pass, hold, berth))
    }

    /// Everything rests: whoever rests for the shortest time is tried, an open breaker by one request at a time. Whoever
    /// is busy, or whose limits are used up, is waited for.
    fn least_bad(&mut self, now: Instant) -> Step<'j> {
        let mut resting = std::mem::take(&mut self.resting);
        resting.sort_by_key(|resting| resting.wait);
        let mut others = resting.into_iter();
        while let Some(shortest) = others.next() {
            let Resting { place, wait, why } = shortest;
            let Some(target) = self.job.targets.get(place).filter(|_| self.allows(place)) else { continue };
            let waits = !self.in_vain.contains(&place);
            if why.is_waited_for() {
                if waits {
                    self.resting.extend(others);
                    return Step::Wait(Waiting::Line(shortest));
                }
                self.note_full(why, wait);
                continue;
            }
            let Admission::Pass(pass) = self.executor.gates.enter_again(&target.name, true, now) else {
                self.note_rest(wait);
                continue;
            };
            let berth = match self.berth(place, target) {
                Ok(berth) => berth,
                Err(busy) if waits => {
                    self.resting.extend(others);
                    return Step::Wait(Waiting::Line(busy));
                }
                Err(busy) => {
                    self.note_full(busy.why, busy.wait);
                    continue;
                }
            };
            let ring = &target.vendor.ring;
            let hold = ring.least_bad(self.wish(target, None), now);
            if hold.is_none() && !ring.is_empty() {
                berth.put_back();
                continue;
            }
            self.resting.extend(others);
            let turn = Turn { is_desperate: why == Bar::Breaker, ..turn(target, place, pass, hold, berth) };
            return self.taken(turn);
        }
        Step::Over
    }

    /// Waits in the line of a target until there is room; `None` when that would take too long, or something else came
    /// in the way.
    pub(super) async fn wait(&mut self, waiting: Waiting) -> Option<Box<Turn<'j>>> {
        let Resting { place, wait, why } = match waiting {
            Waiting::Line(resting) => resting,
            Waiting::Pause(pause) => {
                self.job.journal.pause(Instant::now());
                tokio::time::sleep(pause).await;
                return None;
            }
        };
        let target = self.job.targets.get(place)?;
        self.in_vain.push(place);
        let (now, queue) = (Instant::now(), self.executor.lanes.queue());
        let until = (now + queue.max_wait.0.saturating_sub(self.waited)).min(self.job.deadline);
        // How long a line takes, the line knows; what else is in the way has been told.
        let rest = if why == Bar::Busy { Duration::ZERO } else { wait };
        let ticket = match self.lane(target).join(self.job.tenant, rest, until, queue) {
            Ok(ticket) => ticket,
            Err(refused) => {
                self.note_full(why, refused.wait);
                return None;
            }
        };
        self.job.journal.pause(now);
        let ended = tokio::time::timeout_at(until, self.served(place, &ticket, until)).await;
        self.waited += now.elapsed();
        match ended {
            Ok(Ok(turn)) => {
                ticket.served();
                self.in_vain.retain(|other| *other != place);
                return Some(self.begins(turn));
            }
            Ok(Err(Some(resting))) if resting.why.is_waited_for() => {
                self.note_full(resting.why, resting.wait);
            }
            Ok(Err(Some(resting))) => self.rests(resting),
            // Who has no time left when he comes was counted where he waited.
            Err(_) if now < until => {
                let wait = self.lane(target).wait(self.job.tenant);
                self.note_in_vain(why, ticket.gave_up(), wait);
            }
            Ok(Err(None)) | Err(_) => {
                let wait = self.lane(target).wait(self.job.tenant);
                self.note_full(why, wait);
            }
        }
        None
    }

    /// The turn of one in line; what is in the way if it is nothing that passes in time, `None` if somebody else took
    /// the place in line.
    async fn served(
        &self,
        place: usize,
        ticket: &Ticket,
        until: Instant,
    ) -> Result<Turn<'j>, Option<Resting>> {
        ticket.turn().await.map_err(|_| None)?;
        loop {
            let now = Instant::now();
            match self.enter_from_line(place, ticket, now) {
                Ok(turn) => return Ok(turn),
                Err(resting) if resting.why == Bar::Busy => ticket.changed(resting.wait).await,
                Err(resting)
                    if resting.why.is_waited_for() && resting.wait < until.saturating_duration_since(now) =>
                {
                    ticket.changed(resting.wait).await;
                }
                Err(resting) => return Err(Some(resting)),
            }
        }
    }

    fn rests(&mut self, resting: Resting) {
        if let Some(target) = self.job.targets.get(resting.place) {
            let reason = match resting.why {
                Bar::Breaker => "breaker is open",
                Bar::Key(Why::Refused) => "its keys are refused",
                Bar::Key(Why::Throttled) => "its keys rest after a rate limit",
                Bar::Key(Why::Limited) => "the limits of its keys are used up",
                Bar::Key(Why::UsedUp) => "the provider's limits for its keys are used up",
                Bar::Key(Why::Tried) => "no other key is left",
                Bar::Busy => "it is busy",
            };
            self.job.journal.skip(&target.name, reason);
            metrics::counter!("tollgate_targets_skipped_total", "provider" => target.name.provider.to_string(),
                "reason" => resting.why.word())
            .increment(1);
        }
        self.resting.push(resting);
    }

    fn wish(&self, target: &'j Target, but: Option<usize>) -> Wish<'j> {
        let sticky = self.job.bond.of(target.vendor.ring.sticky());
        Wish { model: &target.name.model, tokens: self.job.tokens, sticky, but }
    }

    /// A turn has failed: what now.
    pub(super) async fn failed(&mut self, turn: Box<Turn<'j>>, fault: Fault) -> Onward {
        let Turn { target, place, number, key, is_desperate, .. } = *turn;
        self.open = self.open.saturating_sub(1);
        if matches!(fault.kind, FaultKind::Lossy | FaultKind::Budget) {
            // Nothing was sent: no attempt is used up. Another target may carry more, or cost less.
            self.lossy.get_or_insert(fault);
            return Onward::Step(Duration::ZERO);
        }
        self.made += 1;
        let reaction = self.job.reaction(target, self.made, &fault).await;
        if let Reaction::Refuse(refusal) = reaction {
            return Onward::End(End::at_once(*refusal));
        }
        if self.job.carry.upload().is_some_and(Upload::is_spent) {
            // What has gone out cannot be sent again.
            return Onward::End(End::at_once(fault));
        }
        let rule = target.vendor.faults.of(&fault);
        let then = match reaction {
            Reaction::Fail | Reaction::Refuse(_) => return Onward::End(End::at_once(fault)),
            Reaction::Usual if rule.then == Then::Stop => return Onward::End(End { fault, number, place }),
            Reaction::NextTarget => Then::NextTarget,
            Reaction::RetryAfter(pause) => {
                let pause = self.pause_or_put_off(place, target, pause);
                return self.onward((place, number), pause, fault);
            }
            Reaction::Usual => rule.then,
        };
        if self.turns_to_another_key(then, &fault, target, place, key) {
            self.note(Some(place), number, fault);
            return Onward::Step(Duration::ZERO);
        }
        let pause = match then {
            // It is left alone, and this was the one try that it gets all the same.
            Then::Retry | Then::RetryLast if is_desperate => None,
            Then::Retry if self.is_tight() || wants_a_pause(&fault) && self.has_other_well() => {
                let pause = self.pause_before(place, &fault, rule.after);
                self.put_off.extend(pause.map(|pause| PutOff { place, due: Instant::now() + pause }));
                None
            }
            Then::Retry => self.pause(place, target, &fault, rule.after),
            Then::RetryLast if self.find_ahead().is_none() => self.pause(place, target, &fault, rule.after),
            Then::LargerContext => {
                let known = self.window(target).max(self.too_small);
                self.too_small = known;
                None
            }
            _ => None,
        };
        self.onward((place, number), pause, fault)
    }

    /// Another try at this place after the pause, or the next place.
    fn onward(&mut self, (place, number): (usize, u32), pause: Option<Duration>, fault: Fault) -> Onward {
        match self.failed.iter_mut().find(|(failed, _)| *failed == place) {
            Some((_, times)) => *times += 1,
            None => self.failed.push((place, 1)),
        }
        self.note(Some(place), number, fault);
        match pause.filter(|pause| Instant::now() + *pause < self.job.deadline) {
            Some(pause) => {
                self.again.push(Again { place, but: None });
                Onward::Step(pause)
            }
            None => Onward::Step(Duration::ZERO),
        }
    }

    /// A fault of the key is the key's: another one is tried at once, where there is one.
    fn turns_to_another_key(
        &mut self,
        then: Then,
        fault: &Fault,
        target: &'j Target,
        place: usize,
        key: Option<usize>,
    ) -> bool {
        let of_key = matches!(fault.counts(), Counts::Key | Counts::Account) && then == Then::Retry;
        if !of_key && then != Then::OtherKey {
            return false;
        }
        let other = key.is_some() && target.vendor.ring.has_other(self.wish(target, key), Instant::now());
        // Keys that are not out by their fault (a provider's own rule) could be tried for ever.
        let bounded = (self.made as usize) < self.job.targets.len() + target.vendor.ring.len();
        let turns = other && bounded && !self.is_tight();
        if turns {
            self.again.push(Again { place, but: key });
        }
        turns
    }
}

impl Bar {
    /// Whether it passes by itself, so that waiting in line for it makes sense.
    fn is_waited_for(self) -> bool {
        matches!(self, Self::Busy | Self::Key(Why::Limited | Why::UsedUp))
    }

    fn word(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Key(Why::Refused) => "refused",
            Self::Key(Why::Throttled) => "throttled",
            Self::Key(Why::Limited) => "limited",
            Self::Key(Why::UsedUp) => "used_up",
            Self::Key(Why::Tried) => "tried",
            Self::Busy => "busy",
        }
    }
}

fn turn(target: &Target, place: usize, pass: Pass, hold: Option<Hold>, berth: Berth) -> Turn<'_> {
    let key = hold.as_ref().map(Hold::place);
    let (berth, pass) = (Some(berth), Some(pass));
    Turn { target, key, berth, pass, hold, place, number: 0, is_last: true, is_desperate: false }
}

/// Whether another try at once would only be refused again.
fn wants_a_pause(fault: &Fault) -> bool {
    fault.kind == FaultKind::RateLimited || fault.after.is_some_and(|after| !after.is_zero())
}

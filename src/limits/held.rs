//! What a request has taken of its limits, until it is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cell::since;
use super::rules::{Bound, Meter};
use super::shared::Far;
use super::{Notice, Weights, What};
use crate::chat::Usage;
use crate::facts::Rated;
use crate::fault::{Fault, FaultKind, Retry, Whose};

/// Tokens of an answer that are reckoned with where the client sets no limit.
pub const USUAL_OUTPUT: u64 = 512;

/// When to come back where requests at once are limited, and nobody knows when one ends.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// What a request will need, as far as it is known beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Need {
    /// Tokens of the prompt, estimated.
    pub input: u64,
    /// Tokens of all answers that the client allows.
    pub output: Option<u64>,
}

/// What a request has taken. Places among requests at once are given back on drop.
#[derive(Debug)]
pub struct Held {
    origin: Instant,
    taken: Vec<Taken>,
    notice: Notice,
    /// What is held in Redis besides.
    far: Option<Far>,
}

#[derive(Debug)]
struct Taken {
    meter: Meter,
    /// What was taken here.
    cost: u64,
    /// What it is reckoned to need.
    reckoned: u64,
    /// By how much everything counts: while Redis is away, for all gateways.
    times: u64,
}

/// A limit that is reached.
#[derive(Debug)]
pub struct Denied {
    /// Its name.
    pub limit: Arc<str>,
    /// How all limits of the request stand.
    pub notice: Notice,
    what: What,
    bound: String,
    after: Option<Duration>,
    /// More than the limit ever lets through at once.
    too_large: Option<u64>,
    /// The count is kept elsewhere, and cannot be asked for.
    away: bool,
}

/// Takes from every meter, or from none; `times` as much where this gateway has only a share.
pub(super) fn take(
    meters: Vec<Meter>,
    need: &Need,
    origin: Instant,
    now: u64,
    times: u64,
) -> Result<Option<Box<Held>>, Box<Denied>> {
    if meters.is_empty() {
        return Ok(None);
    }
    // Looked at first, so that a request which one limit refuses does not stand in the way of others for a moment.
    for meter in &meters {
        if let Err(refusal) = meter.would_take(need, now, times) {
            let notice = Notice::of(meters.iter(), now);
            return Err(Box::new(Denied { notice, ..Denied::of(meter, refusal) }));
        }
    }
    let taken = Vec::with_capacity(meters.len());
    let mut held = Held { origin, taken, notice: Notice::default(), far: None };
    let mut rest = meters.into_iter();
    while let Some(meter) = rest.next() {
        let reckoned = meter.cost(need);
        let cost = meter.share_of(reckoned, times);
        let result = match meter.bound {
            Bound::Rate(_, pace) => meter.cell.take(pace, cost, now).map_err(Refusal::Wait),
            Bound::AtOnce(most) if meter.cell.enter((most / times).max(1)) => Ok(()),
            Bound::AtOnce(_) => Err(Refusal::Wait(SOON)),
        };
        match result {
            Ok(()) => held.taken.push(Taken { meter, cost, reckoned, times }),
            Err(refusal) => {
                let mut denied = Denied::of(&meter, refusal);
                let mut all = held.undo();
                all.push(meter);
                denied.notice = Notice::of(all.iter().chain(rest.as_slice()), now);
                return Err(Box::new(denied));
            }
        }
    }
    held.notice = Notice::of(held.taken.iter().map(|taken| &taken.meter), now);
    Ok(Some(Box::new(held)))
}

/// What Redis let through: everything is taken there, and the counts here follow.
pub(super) fn taken(meters: Vec<Meter>, need: &Need, origin: Instant, now: u64, far: Far) -> Box<Held> {
    let notice = Notice::of(meters.iter(), now);
    let taken = meters.into_iter().map(|meter| {
        let cost = meter.cost(need);
        Taken { meter, cost, reckoned: cost, times: 1 }
    });
    Box::new(Held { origin, taken: taken.collect(), notice, far: Some(far) })
}

/// Why nothing can be taken.
pub(super) enum Refusal {
    Wait(Duration),
    TooLarge(u64),
    Away,
}

impl Meter {
    /// What counts `times` as much, but never more than what is let through at once.
    fn share_of(&self, cost: u64, times: u64) -> u64 {
        match self.bound {
            Bound::Rate(_, pace) => cost.saturating_mul(times).min(pace.capacity().max(cost)),
            Bound::AtOnce(_) => cost,
        }
    }

    /// More than is ever let through.
    pub(super) fn too_large(&self, need: &Need) -> Option<Refusal> {
        let Bound::Rate(_, pace) = self.bound else { return None };
        let cost = self.cost(need);
        (cost > pace.capacity()).then_some(Refusal::TooLarge(cost))
    }

    /// What the request is reckoned to cost here.
    pub(super) fn cost(&self, need: &Need) -> u64 {
        let capacity = match self.bound {
            Bound::Rate(_, pace) => pace.capacity(),
            Bound::AtOnce(_) => return 1,
        };
        let input = self.weigh(need.input, 0, 0);
        let output = need.output.unwrap_or(USUAL_OUTPUT);
        match self.what {
            What::Requests | What::Concurrent => 1,
            What::InputTokens => need.input,
            What::OutputTokens => output.min(capacity),
            What::Tokens => {
                input.saturating_add(self.weigh(0, 0, output).min(capacity.saturating_sub(input)))
            }
        }
    }

    /// What was used in the end.
    fn used(&self, usage: &Usage) -> u64 {
        match self.what {
            What::Requests | What::Concurrent => 1,
            What::InputTokens => usage.prompt(),
            What::OutputTokens => usage.output,
            What::Tokens => {
                self.weigh(usage.input.saturating_add(usage.cache_write), usage.cached_read, usage.output)
            }
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "weights are from 0 to 1000, and nobody counts single tokens beyond 2^53"
    )]
    fn weigh(&self, input: u64, cached: u64, output: u64) -> u64 {
        let Weights { input: of_input, cached: of_cached, output: of_output } = self.weights;
        (input as f64 * of_input + cached as f64 * of_cached + output as f64 * of_output).ceil() as u64
    }

    fn would_take(&self, need: &Need, now: u64, times: u64) -> Result<(), Refusal> {
        if let Some(refusal) = self.too_large(need) {
            return Err(refusal);
        }
        match self.bound {
            Bound::Rate(_, pace) => {
                let cost = self.share_of(self.cost(need), times);
                self.cell.would_take(pace, cost, now).map_err(Refusal::Wait)
            }
            Bound::AtOnce(most) if self.cell.own_inside() < (most / times).max(1) => Ok(()),
            Bound::AtOnce(_) => Err(Refusal::Wait(SOON)),
        }
    }
}

impl Held {
    /// It was taken without Redis, which is told later.
    pub(super) fn owes(&mut self, far: Far) {
        for taken in &self.taken {
            if let Bound::Rate(_, pace) = taken.meter.bound {
                far.correct(&taken.meter, pace, [0, taken.reckoned], [0, taken.cost]);
            }
        }
        self.far = Some(far);
    }

    /// How the limits stood when the request was let in.
    pub fn notice(&self) -> &Notice {
        &self.notice
    }

    /// What policies see of the limits.
    pub fn rated(&self, now: Instant) -> Vec<Rated> {
        let now = since(self.origin, now);
        let mut all: Vec<Rated> = Vec::with_capacity(self.taken.len());
        for taken in &self.taken {
            let (limit, remaining) = match taken.meter.bound {
                Bound::Rate(_, pace) => (pace.capacity(), taken.meter.cell.level(pace, now).remaining),
                Bound::AtOnce(most) => (most, most.saturating_sub(taken.meter.cell.inside())),
            };
            let rated = Rated {
                name: taken.meter.limit.clone(),
                what: taken.meter.what.as_str().into(),
                limit,
                remaining,
            };
            all.push(rated);
        }
        all
    }

    /// Corrects what was reckoned by what was used. What is not known counts as nothing: nobody worked on an answer.
    pub fn settle(mut self, usage: Option<&Usage>, now: Instant) {
        let now = since(self.origin, now);
        for taken in std::mem::take(&mut self.taken) {
            let Bound::Rate(_, pace) = taken.meter.bound else {
                taken.meter.cell.leave();
                continue;
            };
            if taken.meter.what == What::Requests {
                continue;
            }
            let used = usage.map_or(0, |usage| taken.meter.used(usage));
            let here = used.saturating_mul(taken.times);
            if here >= taken.cost {
                taken.meter.cell.add(pace, here - taken.cost, now);
            } else {
                taken.meter.cell.give_back(pace, taken.cost - here);
            }
            if let Some(far) = &self.far {
                far.correct(&taken.meter, pace, [taken.reckoned, used], [taken.cost, here]);
            }
        }
    }

    /// Nothing was taken.
    fn undo(&mut self) -> Vec<Meter> {
        let taken = std::mem::take(&mut self.taken);
        let undo = |taken: Taken| {
            match taken.meter.bound {
                Bound::Rate(_, pace) => taken.meter.cell.give_back(pace, taken.cost),
                Bound::AtOnce(_) => taken.meter.cell.leave(),
            }
            taken.meter
        };
        taken.into_iter().map(undo).collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for taken in &self.taken {
            if let Bound::AtOnce(_) = taken.meter.bound {
                taken.meter.cell.leave();
            }
        }
    }
}

impl Denied {
    fn of(reached: &Meter, refusal: Refusal) -> Self {
        let bound = match reached.bound {
            Bound::Rate(rate, _) => {
                let burst = rate.burst.map_or_else(String::new, |burst| format!(", {burst} at once"));
                format!("{} {} per {}{burst}", rate.count, words(reached.what), rate.period_name())
            }
            Bound::AtOnce(most) => format!("{most} requests at once"),
        };
        let (after, too_large) = match &refusal {
            Refusal::Wait(after) => (Some(*after), None),
            Refusal::TooLarge(cost) => (None, Some(*cost)),
            Refusal::Away => (Some(SOON), None),
        };
        let (notice, away) = (Notice::default(), matches!(refusal, Refusal::Away));
        Self { limit: reached.limit.clone(), notice, what: reached.what, bound, after, too_large, away }
    }

    /// One of these cannot bear it, as Redis says.
    pub(super) fn by(meters: &[Meter], at: usize, refusal: Refusal, now: u64) -> Option<Box<Self>> {
        let notice = Notice::of(meters.iter(), now);
        Some(Box::new(Self { notice, ..Self::of(meters.get(at)?, refusal) }))
    }

    /// The refusal as the client sees it.
    pub fn fault(&self) -> Fault {
        let Self { limit, bound, .. } = self;
        if self.away {
            let text =
                format!("the rate limit `{limit}` is counted over all gateways, which cannot be done now");
            return Fault::new(FaultKind::Unavailable, text).code("limits_unavailable").after(self.after);
        }
        let message = match (self.too_large, self.after) {
            (Some(cost), _) => format!(
                "the request takes about {cost} {}, more than the rate limit `{limit}` ever lets through at once: {bound}",
                words(self.what)
            ),
            (None, after) => {
                let wait = after.unwrap_or(SOON).as_secs_f64().ceil().max(1.0);
                format!("the rate limit `{limit}` is reached: {bound}; try again in {wait} s")
            }
        };
        let mut fault = Fault::new(FaultKind::RateLimited, message)
            .code("rate_limit_exceeded")
            .after(self.after)
            .retry(Retry::Never);
        fault.whose = Whose::Caller;
        fault
    }
}

fn words(what: What) -> &'static str {
    match what {
        What::Requests | What::Concurrent => "requests",
        What::Tokens => "tokens",
        What::InputTokens => "input tokens",
        What::OutputTokens => "output tokens",
    }
}

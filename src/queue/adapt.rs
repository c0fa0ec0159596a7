//! How many requests a target takes at once, learnt from how it does.
//!
//! Nothing is limited until the target itself says that it has too much: how long an answer of a model takes says
//! nothing, it grows with what is asked. A target that refuses all is out of order, which is the breaker's business.

use std::time::Duration;

use tokio::time::Instant;

use crate::target::{Adaptive, ConcurrencyRules};

/// No limit.
pub(super) const NONE: u32 = u32::MAX;

/// Refusals are a sign of overload when so many came, and so large a share of all answers, within this time.
const WINDOW: Duration = Duration::from_secs(5);
const REFUSALS: u32 = 8;
const SHARE: u64 = 4;

/// Within one epoch, a limit falls to a half at most: refusals come in bursts.
const EPOCH: Duration = Duration::from_secs(1);

/// After so long without a sign, a limit that is used up grows by a quarter with each round, not by one.
const QUIET: Duration = Duration::from_secs(10);
const QUICKLY: f64 = 0.25;

/// After so long without a sign, what was learnt is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// First contents are compared by the median of at least so many, over at least this time.
const SAMPLES: usize = 16;
const SPAN: Duration = Duration::from_secs(1);
/// What lateness leaves of a limit.
const LATE: f64 = 0.8;
/// The usual time follows the measured one by this part of the difference, so that a change for good is believed.
const BELIEF: f32 = 0.02;

/// What was learnt of one target.
#[derive(Debug)]
pub(super) struct Adapt {
    rules: ConcurrencyRules,
    /// When the target became known.
    since: Instant,
    /// Infinite while nothing was.
    learnt: f64,
    /// When overload was seen last.
    sign: Option<Instant>,
    /// Since when, and from what on, the limit falls now.
    epoch: Option<(Instant, f64)>,
    refusals: Refusals,
    lateness: Lateness,
}

/// Refusals of late, besides good answers.
#[derive(Debug)]
struct Refusals {
    since: Instant,
    count: u32,
    /// Good answers ever until this window began, and until the one before.
    good: u64,
    good_before: u64,
}

#[derive(Debug)]
struct Lateness {
    since: Instant,
    times: Vec<f32>,
    /// The usual median, in milliseconds.
    usual: Option<f32>,
}

impl Adapt {
    pub(super) fn new(rules: ConcurrencyRules, now: Instant) -> Self {
        Self {
            rules,
            since: now,
            learnt: f64::INFINITY,
            sign: None,
            epoch: None,
            refusals: Refusals { since: now, count: 0, good: 0, good_before: 0 },
            lateness: Lateness { since: now, times: Vec::new(), usual: None },
        }
    }

    /// Takes other rules. What was learnt stays where something may be learnt.
    pub(super) fn configure(&mut self, rules: ConcurrencyRules) {
        self.rules = rules;
        if rules.adaptive == Adaptive::Off {
            self.learnt = f64::INFINITY;
        }
    }

    /// The most requests at once.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded above and below")]
    pub(super) fn limit(&self) -> u32 {
        let most = self.rules.max.unwrap_or(NONE);
        if self.learnt.is_infinite() { most } else { most.min(self.learnt.max(1.0) as u32) }
    }

    /// What was learnt, if anything was.
    pub(super) fn is_learnt(&self) -> bool {
        self.learnt.is_finite()
    }

    /// The target said that it has too much, with so many under way, this one included. `good`: its good answers ever.
    /// Says whether it takes others at the same time.
    pub(super) fn overloaded(&mut self, under_way: u32, good: u64, now: Instant) -> bool {
        if self.rules.adaptive == Adaptive::Off {
            return false;
        }
        let (alive, many) = self.refusals.tell(good, now);
        if !alive || !(many || self.learnt.is_finite()) {
            // Nobody knows yet how it does: those that are still under way were taken.
            let new = good == 0 && now.saturating_duration_since(self.since) < WINDOW;
            return under_way > 1 && (alive || new);
        }
        let under_way = f64::from(under_way.max(1));
        let begins = self.epoch.is_none_or(|(since, _)| now.saturating_duration_since(since) >= EPOCH);
        let from = if begins { self.learnt.min(under_way) } else { self.epoch.map_or(0.0, |(_, from)| from) };
        if begins {
            self.epoch = Some((now, from));
        }
        // Those that are still under way were taken.
        let least = (from / 2.0).ceil().max(f64::from(self.rules.min));
        self.learnt = self.learnt.min(under_way - 1.0).max(least);
        self.sign = Some(now);
        true
    }

    /// It did well. `full`: whether more would have been sent to it.
    pub(super) fn did_well(&mut self, full: bool, now: Instant) {
        if self.learnt.is_infinite() {
            return;
        }
        let quiet = self.sign.map_or(FORGOTTEN, |sign| now.saturating_duration_since(sign));
        if quiet >= FORGOTTEN {
            (self.learnt, self.sign, self.epoch) = (f64::INFINITY, None, None);
        } else if full {
            self.learnt += if quiet >= QUIET { QUICKLY } else { 1.0 / self.learnt.max(1.0) };
        }
    }

    /// Its first content came after so long, with so many under way.
    pub(super) fn first_content(&mut self, took: Duration, under_way: u32, now: Instant) {
        if self.rules.adaptive != Adaptive::Latency {
            return;
        }
        let Some(ratio) = self.lateness.heard(took, now) else { return };
        if ratio > self.rules.slow && under_way > self.rules.min {
            let from = self.learnt.min(f64::from(under_way));
            self.learnt = (from * LATE).floor().max(f64::from(self.rules.min));
            self.sign = Some(now);
        }
    }
}

impl Refusals {
    /// One more. Says whether the target does well otherwise, and whether they are many.
    fn tell(&mut self, good: u64, now: Instant) -> (bool, bool) {
        if now.saturating_duration_since(self.since) >= WINDOW {
            *self = Self { since: now, count: 0, good, good_before: self.good };
        }
        self.count += 1;
        let answers = good.saturating_sub(self.good);
        let alive = good > self.good_before;
        let many = self.count >= REFUSALS && u64::from(self.count) * SHARE >= answers + u64::from(self.count);
        (alive, many)
    }
}

impl Lateness {
    /// How many times the usual the latest times are, once there are enough of them.
    fn heard(&mut self, took: Duration, now: Instant) -> Option<f32> {
        self.times.push(took.as_secs_f32() * 1e3);
        if self.times.len() < SAMPLES || now.saturating_duration_since(self.since) < SPAN {
            // A target that answers thousands within a second needs no more of them.
            self.times.truncate(SAMPLES * 64);
            return None;
        }
        let middle = self.times.len() / 2;
        let (_, median, _) = self.times.select_nth_unstable_by(middle, f32::total_cmp);
        let median = median.max(1.0);
        (self.since, self.times) = (now, Vec::with_capacity(SAMPLES));
        let usual = self.usual.unwrap_or(median);
        self.usual = Some(if median < usual { median } else { usual + (median - usual) * BELIEF });
        Some(median / usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Dice;

    fn adaptive(adaptive: Adaptive) -> Adapt {
        Adapt::new(ConcurrencyRules { adaptive, ..ConcurrencyRules::default() }, Instant::now())
    }

    /// A target that takes `capacity` at once and refuses the others at once; answers take a second. How many it had at
    /// once in the last of so many seconds, and how many it refused then.
    async fn ask_for_more(adapt: &mut Adapt, capacity: u32, demand: u32, seconds: u64) -> (u32, u32) {
        let (mut good, mut last) = (100, (0, 0));
        for _ in 0..seconds {
            let now = Instant::now();
            let (mut taken, mut refused) = (0, 0);
            for _ in 0..demand {
                if taken >= adapt.limit() {
                    break;
                }
                if taken < capacity {
                    taken += 1;
                } else {
                    refused += 1;
                    adapt.overloaded(taken + 1, good, now);
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            for _ in 0..taken {
                good += 1;
                adapt.did_well(demand > taken, Instant::now());
            }
            last = (taken, refused);
        }
        last
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_finds_what_a_target_takes_and_follows_it() {
        let mut adapt = adaptive(Adaptive::Overload);
        assert_eq!(adapt.limit(), NONE);
        let (taken, refused) = ask_for_more(&mut adapt, 32, 300, 20).await;
        assert_eq!(taken, 32, "all of it is used");
        assert!(refused <= 2, "{refused} of 33 were sent in vain");
        let (taken, refused) = ask_for_more(&mut adapt, 8, 300, 10).await;
        assert!(taken == 8 && refused <= 1, "{taken} {refused}");
        let (taken, _) = ask_for_more(&mut adapt, 200, 300, 40).await;
        assert_eq!(taken, 200, "what has recovered is used again");
        ask_for_more(&mut adapt, 200, 100, 70).await;
        assert_eq!(adapt.limit(), NONE, "what is not needed is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_refusals_and_an_outage_limit_nothing() {
        let mut adapt = adaptive(Adaptive::Overload);
        let dice = Dice::loaded(5);
        let mut good = 0;
        for _ in 0..5_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if dice.unit() < 0.05 {
                adapt.overloaded(1 + (dice.unit() * 50.0) as u32, good, Instant::now());
            } else {
                good += 1;
                adapt.did_well(false, Instant::now());
            }
            assert_eq!(adapt.limit(), NONE, "one in twenty, whoever is under way");
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        adapt.overloaded(9, good, Instant::now());
        tokio::time::sleep(Duration::from_secs(6)).await;
        for _ in 0..500 {
            adapt.overloaded(9, good, Instant::now());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(adapt.limit(), NONE, "nothing goes at all: that is the breaker's business");
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_answers_take_limits_nothing_and_late_beginnings_only_where_they_are_to() {
        for (mode, limited) in [(Adaptive::Overload, false), (Adaptive::Latency, true)] {
            let mut adapt = adaptive(mode);
            let dice = Dice::loaded(3);
            for second in 0..60 {
                for _ in 0..20 {
                    // Prompts differ: from 200 ms to 600 ms.
                    let usual = 200.0 + dice.unit() * 400.0;
                    let took = if second < 40 { usual } else { usual * 6.0 };
                    let took = Duration::from_secs_f64(took / 1e3);
                    adapt.first_content(took, 50, Instant::now());
                    adapt.did_well(true, Instant::now());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                assert!(second >= 40 || adapt.limit() == NONE, "second {second}: {}", adapt.limit());
            }
            assert_eq!(adapt.limit() < 50, limited, "{mode:?}: {}", adapt.limit());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_configured_holds_whatever_is_learnt() {
        let rules = ConcurrencyRules { max: Some(10), min: 4, ..ConcurrencyRules::default() };
        let mut adapt = Adapt::new(rules, Instant::now());
        assert_eq!(adapt.limit(), 10);
        ask_for_more(&mut adapt, 1, 50, 10).await;
        assert_eq!(adapt.limit(), 4);
        adapt.configure(ConcurrencyRules { adaptive: Adaptive::Off, ..rules });
        assert_eq!(adapt.limit(), 10);
    }
}

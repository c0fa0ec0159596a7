//! What became of one key: whether it rests, is out, or has used up its limits.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::quota::{Counts, Learnt, Left};
use super::{KeyLimits, Rest};
use crate::caller::glob;
use crate::chat::Usage;
use crate::providers::allowance::Allowance;

/// First and longest time that a refused key is out; doubled each time. A refusal that passes (a provider's own trouble)
/// is over after the first.
const OUT: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(600));
/// First and longest rest after a 429 that names no time.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));
/// How long a request waits that finds all places taken, before it looks again.
const BUSY: Duration = Duration::from_millis(50);
/// Rate limits are of one model; so many models are remembered.
const MOST_MODELS: usize = 64;

/// Why a key may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The provider refused it.
    Refused,
    /// The provider limits its rate.
    Throttled,
    /// The configuration limits its use.
    Limited,
    /// The provider said in an earlier answer that nothing is left.
    UsedUp,
    /// It was tried just now.
    Tried,
}

/// How a key fares, for `/admin/v1/providers`.
#[derive(Debug, Clone, Serialize)]
pub struct KeyLook {
    /// Its name: never the secret.
    pub name: Arc<str>,
    /// Whose account it is.
    pub account: Arc<str>,
    /// `ok`, or why it is not used.
    pub state: &'static str,
    /// Milliseconds until it is used again.
    pub retry_in_ms: u64,
    /// Requests under way.
    pub in_flight: u32,
    /// Models for which it rests.
    pub resting: Vec<Arc<str>>,
    /// What the provider says is left.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<ModelLeft>,
}

/// What the provider says is left of a key for one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelLeft {
    /// The model.
    pub model: Arc<str>,
    /// Requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// What became of a key.
#[derive(Debug)]
pub(super) struct State {
    limits: KeyLimits,
    in_flight: AtomicU32,
    /// Attempts ever.
    sent: AtomicU64,
    /// Whether anything in `troubles` matters; the usual key has none.
    troubled: AtomicBool,
    troubles: Mutex<Troubles>,
}

#[derive(Debug)]
struct Troubles {
    out: Option<Out>,
    resting: Vec<Resting>,
    /// Of the whole key, and of models with limits of their own: each by the pattern of their names.
    counts: Vec<(Option<Arc<str>>, Counts)>,
    /// What the provider said.
    learnt: Vec<Learnt>,
}

#[derive(Debug)]
struct Out {
    until: Instant,
    strikes: u32,
    /// One request finds out whether it is accepted again.
    probing: bool,
}

#[derive(Debug)]
struct Resting {
    model: Arc<str>,
    until: Instant,
    strikes: u32,
}

/// What an attempt took of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// Whether it finds out if a refused key is accepted again.
    pub(super) probe: bool,
    /// The how manieth of the key's attempts it is.
    pub(super) number: u64,
}

impl State {
    pub(super) fn new(limits: KeyLimits) -> Self {
        let now = Instant::now();
        let mut counts: Vec<_> = Vec::new();
        if limits.all.is_any() {
            counts.push((None, Counts::new(limits.all, now)));
        }
        counts.extend(limits.models.iter().map(|(name, own)| (Some(name.clone()), Counts::new(*own, now))));
        Self {
            limits,
            in_flight: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            troubled: AtomicBool::new(!counts.is_empty()),
            troubles: Mutex::new(Troubles { out: None, resting: Vec::new(), counts, learnt: Vec::new() }),
        }
    }

    /// How long it may not be used, if it may not.
    pub(super) fn rest(&self, model: &str, tokens: u64, now: Instant) -> Option<Rest> {
        if !self.troubled.load(Ordering::Acquire) {
            return None;
        }
        let mut troubles = self.troubles();
        if let Some(out) = &troubles.out
            && (now < out.until || out.probing)
        {
            let wait = out.until.saturating_duration_since(now).max(BUSY);
            return Some(Rest { wait, why: Why::Refused });
        }
        if let Some(resting) = troubles.resting.iter().find(|r| *r.model == *model)
            && now < resting.until
        {
            return Some(Rest { wait: resting.until - now, why: Why::Throttled });
        }
        let own = troubles.counts_of(model).map(|counts| counts.wait(tokens, BUSY, now)).max();
        if let Some(wait) = own.filter(|wait| !wait.is_zero()) {
            return Some(Rest { wait, why: Why::Limited });
        }
        let wait = troubles.learnt_of(model).map_or(Duration::ZERO, |learnt| learnt.wait(tokens, now));
        (!wait.is_zero()).then_some(Rest { wait, why: Why::UsedUp })
    }

    /// One attempt takes it.
    pub(super) fn take(&self, model: &str, tokens: u64, now: Instant) -> Taken {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.troubled.load(Ordering::Acquire) {
            return Taken { probe: false, number };
        }
        let mut troubles = self.troubles();
        troubles.counts_of(model).for_each(|counts| counts.take(tokens, now));
        if let Some(learnt) = troubles.learnt_of(model) {
            learnt.take(tokens, now);
        }
        let probe = match &mut troubles.out {
            // Before its time it is tried for want of another: a refusal then says nothing new.
            Some(out) if now >= out.until && !out.probing => {
                out.probing = true;
                true
            }
            _ => false,
        };
        Taken { probe, number }
    }

    /// The provider says in the headers of an answer how its limits stand; `number` is that of the attempt.
    pub(super) fn told(&self, model: &Arc<str>, said: &Allowance, number: u64, now: Instant) {
        let mut troubles = self.troubles();
        let since = self.sent.load(Ordering::Relaxed).saturating_sub(number);
        match troubles.learnt_of(model) {
            Some(learnt) => learnt.told(said, since, now),
            None => {
                if troubles.learnt.len() >= MOST_MODELS {
                    troubles.learnt.remove(0);
                }
                let mut learnt = Learnt::new(model.clone());
                learnt.told(said, since, now);
                troubles.learnt.push(learnt);
            }
        }
        self.mark(&mut troubles, now);
    }

    /// What is left for a model, as far as anybody knows.
    pub(super) fn left(&self, model: &str, now: Instant) -> Left {
        let mut troubles = self.troubles();
        let own = troubles.counts_of(model).map(|counts| counts.left(now)).fold(Left::default(), Left::min);
        let learnt = troubles.learnt_of(model).map(|learnt| learnt.left(now)).unwrap_or_default();
        own.min(learnt)
    }

    pub(super) fn give_back(&self, model: &str, was_probe: bool) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_counted() {
            self.troubles().counts_of(model).for_each(Counts::give_back);
        }
        if was_probe && let Some(out) = &mut self.troubles().out {
            out.probing = false;
        }
    }

    /// It was accepted. Says whether it had been out.
    pub(super) fn good(&self, model: &str, now: Instant) -> bool {
        if !self.troubled.load(Ordering::Acquire) {
            return false;
        }
        let mut troubles = self.troubles();
        troubles.resting.retain(|resting| *resting.model != *model);
        let was_out = troubles.out.take().is_some();
        self.mark(&mut troubles, now);
        was_out
    }

    /// It rests for one model.
    pub(super) fn throttled(&self, model: &Arc<str>, after: Option<Duration>, now: Instant, dice: f64) {
        let mut troubles = self.troubles();
        if let Some(out) = &mut troubles.out {
            // Who limits its rate has accepted it.
            out.probing = false;
        }
        let place = troubles.resting.iter().position(|resting| resting.model == *model);
        let strikes = place.and_then(|place| troubles.resting.get(place)).map_or(0, |resting| {
            // Those that were under way together are one strike.
            if now < resting.until { resting.strikes.saturating_sub(1) } else { resting.strikes }
        });
        let usual = REST.0.saturating_mul(1 << strikes.min(16)).min(REST.1).mul_f64(0.5 + dice / 2.0);
        let until = now + after.unwrap_or(usual);
        match place.and_then(|place| troubles.resting.get_mut(place)) {
            Some(resting) => {
                (resting.until, resting.strikes) = (resting.until.max(until), strikes + 1);
            }
            None => {
                if troubles.resting.len() >= MOST_MODELS {
                    troubles.resting.retain(|resting| now < resting.until);
                    troubles.resting.truncate(MOST_MODELS - 1);
                }
                troubles.resting.push(Resting { model: model.clone(), until, strikes: 1 });
            }
        }
        self.mark(&mut troubles, now);
    }

    /// It is out. Says whether that is news.
    pub(super) fn refused(&self, now: Instant, dice: f64) -> bool {
        let mut troubles = self.troubles();
        let strikes = match &troubles.out {
            // Those that were under way together are one strike.
            Some(out) if now < out.until && !out.probing => return false,
            Some(out) => out.strikes,
            None => 0,
        };
        let pause = OUT.0.saturating_mul(1 << strikes.min(16)).min(OUT.1).mul_f64(0.9 + dice / 5.0);
        troubles.out = Some(Out { until: now + pause, strikes: strikes + 1, probing: false });
        self.mark(&mut troubles, now);
        true
    }

    /// What was used, of which so many tokens were booked ahead.
    pub(super) fn book(&self, model: &str, usage: &Usage, booked: u64) {
        self.troubles().counts_of(model).for_each(|counts| counts.book(usage, booked));
    }

    fn is_counted(&self) -> bool {
        self.limits.all.is_any() || !self.limits.models.is_empty()
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn look(&self, name: &Arc<str>, account: &Arc<str>, now: Instant) -> KeyLook {
        let mut troubles = self.troubles();
        let left = troubles.learnt.iter_mut().map(|learnt| {
            let Left { requests, tokens } = learnt.left(now);
            ModelLeft { model: learnt.model.clone(), requests, tokens }
        });
        let left = left.collect();
        let resting: Vec<&Resting> = troubles.resting.iter().filter(|resting| now < resting.until).collect();
        let out = troubles.out.as_ref().map(|out| out.until.saturating_duration_since(now));
        let rest = resting.iter().map(|resting| resting.until - now).max();
        let state = match (&out, &rest) {
            (Some(_), _) => "refused",
            (None, Some(_)) => "throttled",
            (None, None) => "ok",
        };
        let wait = out.or(rest).unwrap_or_default();
        KeyLook {
            name: name.clone(),
            account: account.clone(),
            state,
            retry_in_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            in_flight: self.in_flight(),
            resting: resting.iter().map(|resting| resting.model.clone()).collect(),
            left,
        }
    }

    fn mark(&self, troubles: &mut Troubles, now: Instant) {
        let any = troubles.out.is_some()
            || !troubles.resting.is_empty()
            || !troubles.counts.is_empty()
            || troubles.learnt.iter_mut().any(|learnt| learnt.is_low(now));
        self.troubled.store(any, Ordering::Release);
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Troubles {
    /// The counts that hold for a model: those of the key, and those of the first pattern that fits.
    fn counts_of(&mut self, model: &str) -> impl Iterator<Item = &mut Counts> {
        let mut found = false;
        self.counts.iter_mut().filter_map(move |(pattern, counts)| match pattern {
            None => Some(counts),
            Some(pattern) if !found && glob::fits(pattern, model) => {
                found = true;
                Some(counts)
            }
            Some(_) => None,
        })
    }

    fn learnt_of(&mut self, model: &str) -> Option<&mut Learnt> {
        self.learnt.iter_mut().find(|learnt| *learnt.model == *model)
    }
}

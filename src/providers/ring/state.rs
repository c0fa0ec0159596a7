//! What became of one key: whether it rests, is out, or has used up its limits.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::{KeyLimits, Rest};

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
}

/// What became of a key.
#[derive(Debug)]
pub(super) struct State {
    limits: KeyLimits,
    in_flight: AtomicU32,
    /// Whether anything in `troubles` matters; the usual key has none.
    troubled: AtomicBool,
    troubles: Mutex<Troubles>,
}

#[derive(Debug)]
struct Troubles {
    out: Option<Out>,
    resting: Vec<Resting>,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
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

impl State {
    pub(super) fn new(limits: KeyLimits) -> Self {
        let now = Instant::now();
        let requests = limits.rpm.map(|rpm| Bucket::new(f64::from(rpm), now));
        #[allow(clippy::cast_precision_loss, reason = "a number of tokens")]
        let tokens = limits.tpm.map(|tpm| Bucket::new(tpm as f64, now));
        Self {
            limits,
            in_flight: AtomicU32::new(0),
            troubled: AtomicBool::new(requests.is_some() || tokens.is_some()),
            troubles: Mutex::new(Troubles { out: None, resting: Vec::new(), requests, tokens }),
        }
    }

    /// How long it may not be used, if it may not.
    #[allow(clippy::cast_precision_loss, reason = "a number of tokens")]
    pub(super) fn rest(&self, model: &str, tokens: u64, now: Instant) -> Option<Rest> {
        if self.limits.max_in_flight.is_some_and(|most| self.in_flight() >= most) {
            return Some(Rest { wait: BUSY, why: Why::Limited });
        }
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
        let requests = troubles.requests.as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(1.0, now));
        let tokens =
            troubles.tokens.as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(tokens as f64, now));
        let wait = requests.max(tokens);
        (!wait.is_zero()).then_some(Rest { wait, why: Why::Limited })
    }

    /// One attempt takes it. Says whether the attempt finds out if a refused key is accepted again.
    #[allow(clippy::cast_precision_loss, reason = "a number of tokens")]
    pub(super) fn take(&self, tokens: u64, now: Instant) -> bool {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        if !self.troubled.load(Ordering::Acquire) {
            return false;
        }
        let mut troubles = self.troubles();
        if let Some(bucket) = &mut troubles.requests {
            bucket.take(1.0, now);
        }
        if let Some(bucket) = &mut troubles.tokens {
            bucket.take(tokens as f64, now);
        }
        match &mut troubles.out {
            Some(out) if !out.probing => {
                out.probing = true;
                true
            }
            _ => false,
        }
    }

    pub(super) fn give_back(&self, was_probe: bool) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if was_probe && let Some(out) = &mut self.troubles().out {
            out.probing = false;
        }
    }

    /// It was accepted. Says whether it had been out.
    pub(super) fn good(&self, model: &str) -> bool {
        if !self.troubled.load(Ordering::Acquire) {
            return false;
        }
        let mut troubles = self.troubles();
        troubles.resting.retain(|resting| *resting.model != *model);
        let was_out = troubles.out.take().is_some();
        self.mark(&troubles);
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
        self.mark(&troubles);
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
        self.mark(&troubles);
        true
    }

    /// Tokens that were used and not booked ahead.
    #[allow(clippy::cast_precision_loss, reason = "a number of tokens")]
    pub(super) fn book(&self, tokens: u64) {
        if let Some(bucket) = &mut self.troubles().tokens {
            bucket.owe(tokens as f64);
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn look(&self, name: &Arc<str>, account: &Arc<str>, now: Instant) -> KeyLook {
        let troubles = self.troubles();
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
        }
    }

    fn mark(&self, troubles: &Troubles) {
        let any = troubles.out.is_some()
            || !troubles.resting.is_empty()
            || troubles.requests.is_some()
            || troubles.tokens.is_some();
        self.troubled.store(any, Ordering::Release);
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

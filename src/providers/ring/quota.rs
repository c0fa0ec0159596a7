//! What a key may use within a minute or a day: as it is configured, and as the provider says in the headers of its
//! answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;
use crate::chat::Usage;
use crate::providers::allowance::Allowance;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// What is learnt holds requests back only when less than this share is left: until then, nothing is counted.
const LOW: f64 = 0.1;

/// What may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Requests a minute.
    pub rpm: Option<u32>,
    /// Requests a day.
    pub rpd: Option<u32>,
    /// Tokens a minute, of prompts and answers.
    pub tpm: Option<u64>,
    /// Tokens of prompts a minute.
    pub input_tpm: Option<u64>,
    /// Tokens of answers a minute.
    pub output_tpm: Option<u64>,
    /// Requests at once.
    pub max_in_flight: Option<u32>,
}

/// What is left of it.
#[derive(Debug)]
pub(super) struct Counts {
    quotas: Quotas,
    in_flight: u32,
    requests: [Option<Bucket>; 2],
    tokens: Option<Bucket>,
    input: Option<Bucket>,
    output: Option<Bucket>,
}

/// What the provider says is left for one model.
#[derive(Debug)]
pub(super) struct Learnt {
    pub(super) model: Arc<str>,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    input: Option<Bucket>,
    output: Option<Bucket>,
}

/// What is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Requests.
    pub requests: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
}

impl Quotas {
    /// Whether tokens count.
    pub(super) fn counts_tokens(&self) -> bool {
        self.tpm.is_some() || self.input_tpm.is_some() || self.output_tpm.is_some()
    }

    /// Whether anything is limited.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

#[allow(clippy::cast_precision_loss, reason = "numbers of tokens and requests")]
impl Counts {
    pub(super) fn new(quotas: Quotas, now: Instant) -> Self {
        let of = |size: Option<f64>, period| size.map(|size| Bucket::new(size, period, now));
        Self {
            quotas,
            in_flight: 0,
            requests: [of(quotas.rpm.map(f64::from), MINUTE), of(quotas.rpd.map(f64::from), DAY)],
            tokens: of(quotas.tpm.map(|n| n as f64), MINUTE),
            input: of(quotas.input_tpm.map(|n| n as f64), MINUTE),
            output: of(quotas.output_tpm.map(|n| n as f64), MINUTE),
        }
    }

    /// How long a request with a prompt of so many tokens has to wait. `busy` is how long one waits before it looks
    /// again whether a place is free.
    pub(super) fn wait(&mut self, tokens: u64, busy: Duration, now: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        if self.quotas.max_in_flight.is_some_and(|most| self.in_flight >= most) {
            longest = busy;
        }
        // Of answers nothing is known ahead: whoever comes waits until what they used is paid for.
        let [minute, day] = &mut self.requests;
        let needs = [
            (minute, 1.0),
            (day, 1.0),
            (&mut self.tokens, tokens as f64),
            (&mut self.input, tokens as f64),
            (&mut self.output, 1.0),
        ];
        for (bucket, amount) in needs {
            if let Some(bucket) = bucket {
                longest = longest.max(bucket.wait(amount, now));
            }
        }
        longest
    }

    pub(super) fn take(&mut self, tokens: u64, now: Instant) {
        self.in_flight += 1;
        let [minute, day] = &mut self.requests;
        let amounts =
            [(minute, 1.0), (day, 1.0), (&mut self.tokens, tokens as f64), (&mut self.input, tokens as f64)];
        for (bucket, amount) in amounts {
            if let Some(bucket) = bucket {
                bucket.take(amount, now);
            }
        }
    }

    pub(super) fn give_back(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// So many tokens were used; those of the prompt that were booked ahead are known.
    pub(super) fn book(&mut self, usage: &Usage, booked: u64) {
        // A provider that says nothing of the prompt has read it all the same.
        let prompt = if usage.prompt() == 0 { booked } else { usage.prompt() };
        let owed = [
            (&mut self.tokens, prompt.saturating_add(usage.output).saturating_sub(booked)),
            (&mut self.input, prompt.saturating_sub(usage.cached_read).saturating_sub(booked)),
            (&mut self.output, usage.output),
        ];
        for (bucket, amount) in owed {
            if let Some(bucket) = bucket {
                bucket.owe(amount as f64);
            }
        }
    }

    pub(super) fn left(&mut self, now: Instant) -> Left {
        let requests = self.requests.iter_mut().flatten().map(|bucket| bucket.left(now)).min();
        let tokens = [&mut self.tokens, &mut self.input];
        Left { requests, tokens: tokens.into_iter().flatten().map(|bucket| bucket.left(now)).min() }
    }
}

#[allow(clippy::cast_precision_loss, reason = "numbers of tokens and requests")]
impl Learnt {
    pub(super) fn new(model: Arc<str>) -> Self {
        Self { model, requests: None, tokens: None, input: None, output: None }
    }

    /// The provider says how it stands; `since` requests went out after the one that it answers.
    pub(super) fn told(&mut self, said: &Allowance, since: u64, now: Instant) {
        for (bucket, said, since) in [
            (&mut self.requests, said.requests, since),
            (&mut self.tokens, said.tokens, 0),
            (&mut self.input, said.input, 0),
            (&mut self.output, said.output, 0),
        ] {
            let Some(said) = said.filter(|said| said.limit > 0) else { continue };
            let (size, left) = (said.limit as f64, said.remaining.saturating_sub(since) as f64);
            // Most limits are of a minute; how fast it fills is seen once something is missing.
            let bucket = bucket.get_or_insert_with(|| Bucket::new(size, MINUTE, now));
            bucket.told(size, left, said.full_in, now);
        }
    }

    /// How long a request has to wait.
    pub(super) fn wait(&mut self, tokens: u64, now: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        let tokens = tokens as f64;
        for (bucket, amount) in [
            (&mut self.requests, 1.0),
            (&mut self.tokens, tokens),
            (&mut self.input, tokens),
            (&mut self.output, 1.0),
        ] {
            if let Some(bucket) = bucket {
                longest = longest.max(bucket.wait(amount, now));
            }
        }
        longest
    }

    pub(super) fn take(&mut self, tokens: u64, now: Instant) {
        let tokens = tokens as f64;
        for (bucket, amount) in
            [(&mut self.requests, 1.0), (&mut self.tokens, tokens), (&mut self.input, tokens)]
        {
            if let Some(bucket) = bucket {
                bucket.take(amount, now);
            }
        }
    }

    /// Whether little is left of anything.
    pub(super) fn is_low(&mut self, now: Instant) -> bool {
        let all = [&mut self.requests, &mut self.tokens, &mut self.input, &mut self.output];
        all.into_iter().flatten().any(|bucket| bucket.is_low(LOW, now))
    }

    pub(super) fn left(&mut self, now: Instant) -> Left {
        let tokens = [&mut self.tokens, &mut self.input];
        Left {
            requests: self.requests.as_mut().map(|bucket| bucket.left(now)),
            tokens: tokens.into_iter().flatten().map(|bucket| bucket.left(now)).min(),
        }
    }
}

impl Left {
    /// The less of both.
    pub(super) fn min(self, other: Self) -> Self {
        let less = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self { requests: less(self.requests, other.requests), tokens: less(self.tokens, other.tokens) }
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).reduce(u64::saturating_add);
        Self { requests: sum(self.requests, other.requests), tokens: sum(self.tokens, other.tokens) }
    }
}

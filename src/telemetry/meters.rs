//! Metric handles, looked up once and kept: one set per worker thread, so that the lock is never contended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::losses;
use crate::chat::{Loss, Usage};
use crate::facts::Endpoint;
use crate::money::Nano;
use crate::plan::{Decision, Outcome, Verdict};

type Cache<K, V> = Mutex<HashMap<K, Arc<V>>>;

/// All handles of one worker.
pub struct Meters {
    requests: Cache<(Endpoint, Arc<str>), RequestMeters>,
    targets: Cache<(Arc<str>, Arc<str>), TargetMeters>,
    verdicts: Mutex<Vec<(Arc<str>, &'static str, Counter)>>,
    /// Evaluation of the chain of policies.
    pub policy: Histogram,
}

/// Handles for requests of one endpoint and model label.
pub struct RequestMeters {
    endpoint: Endpoint,
    model: Arc<str>,
    duration: Histogram,
    overhead: Histogram,
    answered: Mutex<Vec<((u16, Outcome), Counter)>>,
}

/// Handles for one target.
pub struct TargetMeters {
    provider: Arc<str>,
    upstream: Histogram,
    first_token: Histogram,
    tokens: [Counter; 5],
    /// Made when they are first needed: where no price is known, nothing says zero.
    cost: OnceLock<Gauge>,
    unpriced: OnceLock<Counter>,
    model: Arc<str>,
    attempts: Mutex<Vec<(&'static str, Counter)>>,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            requests: Mutex::default(),
            targets: Mutex::default(),
            verdicts: Mutex::default(),
            policy: histogram!("tollgate_policy_duration_seconds"),
        }
    }
}

impl Meters {
    /// The handles for requests to `endpoint` under the label `model`: an alias, a listed target, or `other`.
    pub fn request(&self, endpoint: Endpoint, model: &Arc<str>) -> Arc<RequestMeters> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests
            .entry((endpoint, model.clone()))
            .or_insert_with(|| Arc::new(RequestMeters::new(endpoint, model.clone())))
            .clone()
    }

    /// Counts the verdict of the policies; requests without one are not counted.
    pub fn verdict(&self, decision: &Decision) {
        let (Some(rule), Some(verdict)) = (&decision.rule, &decision.verdict) else { return };
        let verdict = match verdict {
            Verdict::Route(_) => "route",
            Verdict::Respond(_) => "respond",
            Verdict::Reject(_) => "reject",
        };
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, counter)) = verdicts.iter().find(|(p, v, _)| *p == rule.policy && *v == verdict) {
            return counter.increment(1);
        }
        let counter = counter!("tollgate_policy_verdicts_total", "policy" => rule.policy.to_string(), "verdict" => verdict);
        counter.increment(1);
        verdicts.push((rule.policy.clone(), verdict, counter));
    }

    /// Counts one fetch of a short-lived credential: `ok` or the kind of its fault. Rare, so no handle is kept.
    pub fn token_refresh(&self, provider: &Arc<str>, outcome: &'static str) {
        counter!("tollgate_token_refreshes_total", "provider" => provider.to_string(), "outcome" => outcome)
            .increment(1);
    }

    /// Counts what a translation between two dialects could not carry.
    pub fn losses(&self, from: &'static str, to: &'static str, lost: &[Loss]) {
        for loss in lost {
            let field = losses::field(&loss.path);
            counter!("tollgate_translation_losses_total", "from" => from, "to" => to, "field" => field)
                .increment(1);
        }
    }

    /// The handles for a target under the label `model`.
    pub fn target(&self, provider: &Arc<str>, model: &Arc<str>) -> Arc<TargetMeters> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets
            .entry((provider.clone(), model.clone()))
            .or_insert_with(|| Arc::new(TargetMeters::new(provider, model)))
            .clone()
    }
}

impl RequestMeters {
    fn new(endpoint: Endpoint, model: Arc<str>) -> Self {
        let name = endpoint.as_str();
        Self {
            duration: histogram!("tollgate_request_duration_seconds", "endpoint" => name, "model" => model.to_string()),
            overhead: histogram!("tollgate_gateway_overhead_seconds", "endpoint" => name),
            answered: Mutex::default(),
            endpoint,
            model,
        }
    }

    /// Counts one request that is over.
    pub fn answered(&self, status: u16, outcome: Outcome, duration: Duration, overhead: Duration) {
        self.duration.record(duration.as_secs_f64());
        self.overhead.record(overhead.as_secs_f64());
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (status, outcome);
        if let Some((_, counter)) = answered.iter().find(|(k, _)| *k == key) {
            return counter.increment(1);
        }
        let counter = counter!("tollgate_requests_total", "endpoint" => self.endpoint.as_str(),
            "model" => self.model.to_string(), "status" => status.to_string(), "outcome" => outcome.as_str());
        counter.increment(1);
        answered.push((key, counter));
    }
}

impl TargetMeters {
    fn new(provider: &Arc<str>, model: &Arc<str>) -> Self {
        let tokens = |class: &'static str| {
            counter!("tollgate_tokens_total", "provider" => provider.to_string(), "model" => model.to_string(),
                "class" => class)
        };
        Self {
            provider: provider.clone(),
            upstream: histogram!("tollgate_upstream_duration_seconds", "provider" => provider.to_string()),
            first_token: histogram!("tollgate_time_to_first_token_seconds", "provider" => provider.to_string(),
                "model" => model.to_string()),
            tokens: ["input", "cached_read", "cache_write", "output", "reasoning"].map(tokens),
            cost: OnceLock::new(),
            unpriced: OnceLock::new(),
            model: model.clone(),
            attempts: Mutex::default(),
        }
    }

    /// Counts what an answer cost; `None` where nobody knows.
    pub fn cost(&self, cost: Option<Nano>) {
        let (provider, model) = (|| self.provider.to_string(), || self.model.to_string());
        match cost {
            Some(cost) => {
                let made = || gauge!("tollgate_cost_usd_total", "provider" => provider(), "model" => model());
                self.cost.get_or_init(made).increment(cost.dollars());
            }
            None => {
                let made =
                    || counter!("tollgate_unpriced_total", "provider" => provider(), "model" => model());
                self.unpriced.get_or_init(made).increment(1);
            }
        }
    }

    /// Counts one attempt: `ok` or the word of its fault.
    pub fn attempt(&self, outcome: &'static str, took: Duration) {
        self.upstream.record(took.as_secs_f64());
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = attempts.iter().find(|(known, _)| *known == outcome) {
            return counter.increment(1);
        }
        let counter = counter!("tollgate_attempts_total", "provider" => self.provider.to_string(), "outcome" => outcome);
        counter.increment(1);
        attempts.push((outcome, counter));
    }

    /// Notes how long the client waited for the first content of a stream.
    pub fn first_token(&self, waited: Duration) {
        self.first_token.record(waited.as_secs_f64());
    }

    /// Counts the tokens of one answer.
    pub fn tokens(&self, usage: &Usage) {
        let classes = [usage.input, usage.cached_read, usage.cache_write, usage.output, usage.reasoning];
        for (counter, tokens) in self.tokens.iter().zip(classes) {
            if tokens > 0 {
                counter.increment(tokens);
            }
        }
        if usage.unpriced_tools > 0 && usage.said_cost.is_none() {
            counter!("tollgate_unpriced_tools_total", "provider" => self.provider.to_string(),
                "model" => self.model.to_string())
            .increment(usage.unpriced_tools);
        }
    }
}

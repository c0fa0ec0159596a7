//! Checks of a provider's keys, of what happens after its faults, and of the breakers.

use std::sync::Arc;

use super::{CheckedKey, Desk, bad_word};
use crate::fault::{FaultRule, FaultRules};
use crate::providers::{
    FaultSettings, KeyLimits, KeySettings, PooledKey, ProviderSettings, QuotaSettings, Quotas,
};
use crate::settings::SecretRef;
use crate::target::ConcurrencyRules;

/// The account of keys for which none is written.
const ACCOUNT: &str = "default";

impl CheckedKey {
    /// A key of which nothing is written but where it is.
    pub fn plain(secret: SecretRef) -> Self {
        let name = secret.to_string().into();
        Self { secret, name, account: ACCOUNT.into(), limits: KeyLimits::default(), headers: Vec::new() }
    }
}

impl Desk<'_> {
    /// All that is written of the keys.
    pub(super) fn pool(&mut self, name: &str, own: &ProviderSettings, keys: &[SecretRef]) -> Vec<CheckedKey> {
        if own.keys.is_empty() {
            return keys.iter().cloned().map(CheckedKey::plain).collect();
        }
        let mut pool: Vec<CheckedKey> = Vec::with_capacity(own.keys.len());
        for (place, key) in own.keys.iter().enumerate() {
            let place = place.to_string();
            let path = ["providers", name, "keys", &place];
            let mut checked = match key {
                KeySettings::Plain(secret) => CheckedKey::plain(secret.clone()),
                KeySettings::Full(written) => self.pooled(&path, written),
            };
            if pool.iter().any(|other| other.secret == checked.secret) {
                self.warning(
                    &path,
                    format!("`{}` stands twice among the keys of `{name}`", key.secret()),
                    None,
                );
            }
            if pool.iter().any(|other| other.name == checked.name) {
                checked.name = format!("{} ({place})", checked.name).into();
            }
            pool.push(checked);
        }
        if pool.iter().all(|key| key.limits.weight <= 0.0) {
            let message = format!("no key of `{name}` has a weight above 0");
            self.error(&["providers", name, "keys"], message, None);
        }
        pool
    }

    fn pooled(&mut self, path: &[&str], written: &PooledKey) -> CheckedKey {
        let plain = CheckedKey::plain(written.secret.clone());
        let weight = written.weight.unwrap_or(1.0);
        if !weight.is_finite() || weight < 0.0 {
            self.error(&[path, &["weight"]].concat(), "a key's `weight` is a number from 0 up", None);
        }
        let all = self.quotas(path, written.together());
        let mut models: Vec<_> = written
            .models
            .iter()
            .map(|(name, own)| (name.as_str().into(), self.quotas(&[path, &["models", name]].concat(), *own)))
            .collect();
        // The longest pattern says most.
        models.sort_by_key(|(name, _): &(Arc<str>, Quotas)| std::cmp::Reverse(name.len()));
        for (field, word) in [("name", &written.name), ("account", &written.account)] {
            if let Some(complaint) = word.as_deref().and_then(bad_word) {
                self.error(&[path, &[field]].concat(), format!("a key's `{field}` {complaint}"), None);
            }
        }
        let or = |word: &Option<String>, usual: Arc<str>| word.as_deref().map_or(usual, Into::into);
        CheckedKey {
            name: or(&written.name, plain.name),
            account: or(&written.account, plain.account),
            limits: KeyLimits { weight, all, models, learn: written.learn_limits.unwrap_or(true) },
            headers: self.headers(&[path, &["headers"]].concat(), &written.headers),
            secret: plain.secret,
        }
    }

    fn quotas(&mut self, path: &[&str], written: QuotaSettings) -> Quotas {
        let QuotaSettings { rpm, rpd, tpm, input_tpm, output_tpm, max_in_flight } = written;
        let none = [
            ("rpm", rpm.map(u64::from)),
            ("rpd", rpd.map(u64::from)),
            ("tpm", tpm),
            ("input_tpm", input_tpm),
            ("output_tpm", output_tpm),
            ("max_in_flight", max_in_flight.map(u64::from)),
        ];
        for (field, _) in none.into_iter().filter(|(_, most)| *most == Some(0)) {
            self.error(&[path, &[field]].concat(), format!("a key's `{field}` must be at least 1"), None);
        }
        Quotas { rpm, rpd, tpm, input_tpm, output_tpm, max_in_flight }
    }

    /// How many may be at each target of a provider at once.
    pub(super) fn concurrency(&mut self, name: &str, own: &ProviderSettings) -> ConcurrencyRules {
        let rules = own.concurrency.map(ConcurrencyRules::from).unwrap_or_default();
        let mut wrong = |message: &str| {
            self.error(
                &["providers", name, "concurrency"],
                format!("`concurrency` of `{name}`: {message}"),
                None,
            );
        };
        if rules.max == Some(0) || rules.min == 0 {
            wrong("at least 1 request must be let through");
        }
        if rules.max.is_some_and(|max| max < rules.min) {
            wrong("`max` is less than `min`");
        }
        if !rules.slow.is_finite() || rules.slow < 1.0 {
            wrong("`slow` is a number above 1");
        }
        rules
    }

    /// What happens after faults, where it is not the usual.
    pub(super) fn faults(&mut self, name: &str, own: &ProviderSettings) -> FaultRules {
        let mut rules = FaultRules::default();
        for (which, written) in &own.faults {
            let rule = match written {
                FaultSettings::Plain(then) => FaultRule { then: *then, after: None },
                FaultSettings::Full(written) => {
                    FaultRule { then: written.then, after: written.after.map(|after| after.0) }
                }
            };
            if let Err(complaint) = rules.add(which, rule) {
                self.error(&["providers", name, "faults", which], format!("`{which}` {complaint}"), None);
            }
        }
        rules
    }

    /// Networks that connections may lead to.
    pub(super) fn egress(&mut self) {
        if let Err((place, error)) = self.reading.config.upstream.egress.rules() {
            self.error(&["upstream", "egress", "networks", &place.to_string()], error, None);
        }
    }

    /// Breakers and probes.
    pub(super) fn breaker(&mut self) {
        let (breaker, probe) = (self.reading.config.breaker, self.reading.config.health.probe);
        let mut wrong = |field: &str, message: &str| {
            self.error(&["breaker", field], format!("`breaker.{field}` {message}"), None);
        };
        if !(0.0..=1.0).contains(&breaker.failure_rate) {
            wrong("failure_rate", "is a share from 0 to 1");
        }
        if breaker.min_attempts == 0 {
            wrong("min_attempts", "must be at least 1");
        }
        if !(1..=16).contains(&breaker.probes) {
            wrong("probes", "must be from 1 to 16");
        }
        for (field, period) in [("window", breaker.window), ("cool_down", breaker.cool_down)] {
            if period.0.is_zero() {
                wrong(field, "must be more than 0s");
            }
        }
        if breaker.cool_down > breaker.max_cool_down {
            wrong("cool_down", "is longer than `breaker.max_cool_down`");
        }
        if breaker.slow.is_some_and(|slow| slow.checks == 0 || slow.min_attempts == 0) {
            wrong("slow", "needs at least one check and one attempt");
        }
        if !probe.interval.0.is_zero() && probe.timeout.0.is_zero() {
            let message = "`health.probe.timeout` must be more than 0s";
            self.error(&["health", "probe", "timeout"], message, None);
        }
    }
}

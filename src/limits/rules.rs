//! Which limits hold for a request, and whose count of each it is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::cell::{Cell, Pace};
use super::table::Table;
use super::{Dimension, Limits, MatchSettings, RateLimitSettings, Rates, Weights, What};
use crate::caller::{Caller, glob};
use crate::settings::Rate;

/// The name of the limits that stand in a key itself.
const OF_KEY: &str = "key";

/// The limits of one configuration.
#[derive(Default)]
pub struct Rules(Vec<Rule>);

/// The limits that stand in a key itself.
pub struct KeyRules(Vec<Gauge>);

/// What limits ask of a request.
pub struct Subject<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// The model as the client writes it.
    pub model: &'a str,
    /// The alias of which that is a version.
    pub alias: Option<&'a str>,
    /// Tags of the request.
    pub tags: &'a [(Arc<str>, Arc<str>)],
}

/// One of `rate_limits:`.
struct Rule {
    name: Arc<str>,
    matches: MatchSettings,
    by_name: bool,
    per: Vec<Dimension>,
    gauges: Vec<Gauge>,
}

/// One rate of a limit.
struct Gauge {
    limit: Arc<str>,
    what: What,
    bound: Bound,
    weights: Weights,
    table: Arc<Table>,
}

/// How much is let through.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound {
    Rate(Rate, Pace),
    AtOnce(u64),
}

/// The count that a request is about to change.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) limit: Arc<str>,
    pub(super) what: What,
    pub(super) bound: Bound,
    pub(super) weights: Weights,
    pub(super) cell: Arc<Cell>,
    /// The name of the count in Redis, where gateways share it.
    pub(super) far: Option<String>,
}

impl Limits {
    /// The rules that these settings make. Counts of limits that keep their names go on.
    pub fn rules(&self, settings: &[RateLimitSettings]) -> Rules {
        let rule = |settings: &RateLimitSettings| {
            let name: Arc<str> = settings.name.as_str().into();
            Rule {
                gauges: self.gauges(&name, &settings.limits),
                name,
                matches: settings.matches.clone(),
                by_name: settings.by_name,
                per: settings.per.clone(),
            }
        };
        Rules(settings.iter().map(rule).collect())
    }

    /// The rules of keys with these limits.
    pub fn key_rules(&self, rates: &Rates) -> KeyRules {
        KeyRules(self.gauges(&OF_KEY.into(), rates))
    }

    fn gauges(&self, limit: &Arc<str>, rates: &Rates) -> Vec<Gauge> {
        let gauge = |what: What, bound: Bound, period: Duration| Gauge {
            limit: limit.clone(),
            what,
            bound,
            weights: rates.weights,
            table: self.table(limit, what, period),
        };
        let all = [
            (What::Requests, &rates.requests),
            (What::Tokens, &rates.tokens),
            (What::InputTokens, &rates.input_tokens),
            (What::OutputTokens, &rates.output_tokens),
        ];
        let paced = all.into_iter().flat_map(|(what, rates)| rates.iter().map(move |rate| (what, *rate)));
        let paced = paced.map(|(what, rate)| gauge(what, Bound::Rate(rate, Pace::of(rate)), rate.period));
        let at_once =
            rates.concurrent.map(|most| gauge(What::Concurrent, Bound::AtOnce(most), Duration::ZERO));
        paced.chain(at_once).collect()
    }
}

impl Rules {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a limit has this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|rule| *rule.name == *name)
    }

    /// The counts that a request changes; with the names that they have in Redis if they are `shared`.
    pub(super) fn meters(
        &self,
        of_key: Option<&KeyRules>,
        subject: &Subject<'_>,
        now: u64,
        shared: bool,
    ) -> Vec<Meter> {
        let mut meters = Vec::new();
        if let (Some(rules), Some(id)) = (of_key, &subject.caller.key_id) {
            meters.extend(rules.0.iter().map(|gauge| gauge.meter(&[id], now, shared)));
        }
        let address = subject.caller.address.map(|address| whose(address).to_string());
        for rule in self.0.iter().filter(|rule| rule.holds_for(subject)) {
            let parts: Vec<&str> =
                rule.per.iter().map(|dimension| subject.part(*dimension, address.as_deref())).collect();
            meters.extend(rule.gauges.iter().map(|gauge| gauge.meter(&parts, now, shared)));
        }
        meters
    }
}

impl KeyRules {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Rule {
    fn holds_for(&self, subject: &Subject<'_>) -> bool {
        let caller = subject.caller;
        let named = caller.grant.as_ref().is_some_and(|grant| grant.rate_limits.contains(&self.name));
        if self.by_name && !named {
            return false;
        }
        let fits = |pattern: &Option<String>, values: &[Option<&str>]| match pattern {
            None => true,
            Some(pattern) => values.iter().flatten().any(|value| glob::fits(pattern, value)),
        };
        let MatchSettings { key, team, user, model, tag } = &self.matches;
        let name = caller.grant.as_ref().map(|grant| &*grant.name);
        let tagged = |wanted: &String| {
            let (key, pattern) = wanted.split_once('=').unwrap_or((wanted, "*"));
            subject.tags.iter().any(|(known, value)| **known == *key && glob::fits(pattern, value))
        };
        fits(key, &[caller.key_id.as_deref(), name])
            && fits(team, &[caller.team.as_deref()])
            && fits(user, &[caller.user.as_deref()])
            && fits(model, &[Some(subject.model), subject.alias])
            && tag.as_ref().is_none_or(tagged)
    }
}

impl<'a> Subject<'a> {
    fn part(&self, dimension: Dimension, address: Option<&'a str>) -> &'a str {
        let caller = self.caller;
        let value = match dimension {
            Dimension::Key => caller.key_id.as_deref(),
            Dimension::Team => caller.team.as_deref(),
            Dimension::User => caller.user.as_deref(),
            Dimension::Model => Some(self.alias.unwrap_or(self.model)),
            Dimension::Address => address,
        };
        // No name has a zero byte in it: this one is nobody's.
        value.unwrap_or("\0")
    }
}

/// An address as far as it tells clients apart: whoever has one address of IPv6 has 2^64 of them.
pub fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

impl Gauge {
    fn meter(&self, subject: &[&str], now: u64, shared: bool) -> Meter {
        Meter {
            far: shared.then(|| self.far(subject)),
            limit: self.limit.clone(),
            what: self.what,
            bound: self.bound,
            weights: self.weights,
            cell: self.table.cell(subject, now),
        }
    }

    /// The name of a count in Redis: hashed, because part of it comes from clients.
    fn far(&self, subject: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        };
        add(self.limit.as_bytes());
        add(self.what.as_str().as_bytes());
        let period = match self.bound {
            Bound::Rate(rate, _) => rate.period,
            Bound::AtOnce(_) => Duration::ZERO,
        };
        add(&period.as_nanos().to_le_bytes());
        subject.iter().for_each(|part| add(part.as_bytes()));
        let hex = hasher.finalize().to_hex();
        hex.get(..32).unwrap_or(&hex).to_owned()
    }
}

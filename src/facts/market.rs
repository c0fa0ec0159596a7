//! What targets cost and how they fare: the candidates that policies rank, with the numbers of this moment.
//!
//! Every number may be unknown. Scripts see what is unknown as `()`, and it never wins a ranking.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::caller::Caller;
use crate::target::{TargetName, Traits};

/// Where candidates and their numbers come from: prices and health as measured in the gateway, data in tests and replays.
pub trait Market: Send + Sync {
    /// The target `provider/model`; `None` where there is no such provider.
    fn offer(&self, target: &str) -> Option<Offer>;

    /// The same for a record of what nobody looked at: its numbers may be a second old.
    fn offer_of_late(&self, target: &str) -> Option<Offer> {
        self.offer(target)
    }

    /// The same for the order of a plan: load and health are those of this moment, the rest may be a second old.
    fn offer_to_order(&self, target: &TargetName) -> Option<Offer> {
        self.offer(&target.to_string())
    }

    /// What stays the same of `provider/model` while a snapshot lasts.
    fn listing(&self, target: &TargetName) -> Option<Arc<Listing>> {
        self.offer(&target.to_string()).map(|offer| offer.listing)
    }

    /// Whether requests are really sent to what is on offer, so that trying a target tells something.
    fn is_live(&self) -> bool {
        false
    }

    /// What stands behind a name of `models:`: its targets in the order written, then those of its fallbacks, none
    /// twice. Behind `provider/model` stands that target alone; behind an unknown name, nothing.
    fn behind(&self, name: &str) -> Vec<Offer>;

    /// Every target that the configuration names.
    fn all(&self) -> Vec<Offer>;

    /// Dollars that a request of this size costs there.
    fn cost(&self, offer: &Offer, size: Size) -> Option<f64> {
        offer.listing.cost(size)
    }

    /// How the part of a budget stands that counts this request; `None` where there is no such budget.
    fn purse(&self, _budget: &str, _who: Who<'_>) -> Option<Purse> {
        None
    }
}

/// Who asks, and for what, as far as budgets tell it apart.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    /// Key, team and user.
    pub caller: &'a Caller,
    /// Tags of the request.
    pub tags: &'a [(Arc<str>, Arc<str>)],
    /// The model that was asked for.
    pub model: &'a str,
}

/// How a budget stands, in dollars or tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Purse {
    /// The budget's name.
    pub name: Arc<str>,
    /// What may be spent.
    pub limit: f64,
    /// What is spent.
    pub used: f64,
    /// What is held for requests under way.
    pub held: f64,
    /// When something of it is free again, in Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_ms: Option<u64>,
}

impl Purse {
    /// What is neither spent nor held.
    pub fn remaining(&self) -> f64 {
        (self.limit - self.used - self.held).max(0.0)
    }

    /// The share of the limit that is spent; a limit of nothing is spent.
    pub fn used_ratio(&self) -> f64 {
        if self.limit > 0.0 { self.used / self.limit } else { 1.0 }
    }
}

/// Who knows what targets make of a prompt.
pub trait Scale: Send + Sync {
    /// The tokens that a target is likely to count, where a quarter of the prompt's bytes are `rough`. Asked on the path of
    /// requests.
    fn likely(&self, target: &TargetName, rough: u64) -> u64;

    /// The tokens that a target is likely to count for so many bytes of an answer's text.
    fn heard(&self, target: &TargetName, bytes: u64) -> u64;
}

/// Where a market of the gateway takes its numbers from: prices when they change, health when somebody looks.
pub trait Numbers: Send + Sync {
    /// Fills in what is known of a target besides its tags and labels.
    fn fill(&self, _listing: &mut Listing) {}

    /// Changes whenever `fill` would say something else.
    fn revision(&self) -> u64 {
        0
    }

    /// Dollars that a request of this size costs there now.
    fn cost(&self, listing: &Listing, size: Size) -> Option<f64> {
        listing.cost(size)
    }

    /// How the target `provider/model` fared lately. Asked on the path of requests: no lock is waited for.
    fn live(&self, _target: &str) -> Live {
        Live::default()
    }

    /// Of how a target fared, what changes with each request: its load, and whether it is let through.
    fn refresh(&self, _target: &TargetName, _live: &mut Live) {}

    /// How the part of a budget stands that counts this request.
    fn purse(&self, _budget: &str, _who: Who<'_>) -> Option<Purse> {
        None
    }
}

/// Nothing was measured, and nothing has a price.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNumbers;

impl Numbers for NoNumbers {}

/// A target as it is offered at this moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offer {
    /// What stays the same while a snapshot lasts.
    #[serde(flatten)]
    pub listing: Arc<Listing>,
    /// What was measured lately.
    #[serde(flatten)]
    pub live: Live,
}

/// What is known of a target without asking it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listing {
    /// `provider/model`.
    pub name: Arc<str>,
    /// Free words: `private`, `fast`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Arc<str>>,
    /// Key and value: `region: eu`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What its tokens cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Tokens of prompt and answer together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// The most tokens of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// What it can do.
    pub can: Abilities,
    /// Whether a list of many models says what it cannot do, which may leave abilities out, rather than the configuration.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_list: bool,
}

/// What the tokens of a target cost, in dollars per million of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// Tokens of the prompt.
    pub input: f64,
    /// Tokens of the answer.
    pub output: f64,
}

/// What a target can do; `None` where nobody said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Abilities {
    /// Calls tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<bool>,
    /// Sees images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<bool>,
    /// Hears audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<bool>,
    /// Reads files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<bool>,
    /// Answers in JSON of a given schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<bool>,
    /// Thinks before it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<bool>,
}

/// How a target fared lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Live {
    /// From sending a request to the end of its answer, in milliseconds.
    pub latency: Quantiles,
    /// From sending a request to its first content, in milliseconds.
    pub first_token: Quantiles,
    /// Tokens of the answer per second, while it comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Share of attempts that failed, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    /// Requests under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// How long attempts took lately, to their first content or whole answer, in milliseconds; the latest weigh most, and
    /// failed ones count as slow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ewma: Option<f64>,
    /// Whether requests are let through. `None`, where nothing was measured, counts as healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// From 0 to 1: follows the attempts of late smoothly; by it, weights are multiplied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<f64>,
    /// What the provider still lets through.
    pub quota: Quota,
}

/// Half, 95 % and 99 % of what was measured was at most this.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    /// The median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// Exceeded by one in twenty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95: Option<f64>,
    /// Exceeded by one in a hundred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
}

/// What a provider still lets through, by its own rate-limit headers or by the configuration's limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// Requests until the window ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Tokens until the window ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// How large a request is, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer that is expected.
    pub output: u64,
}

impl Price {
    /// Dollars for so many tokens.
    #[allow(clippy::cast_precision_loss, reason = "an estimate; no request has 2^53 tokens")]
    pub fn of(&self, size: Size) -> f64 {
        (self.input * size.input as f64 + self.output * size.output as f64) / 1e6
    }
}

impl Listing {
    /// A target of which nothing is known but its name and what constraints can ask for.
    pub fn bare(name: Arc<str>, traits: &Traits) -> Self {
        Self { name, tags: traits.tags.clone(), labels: traits.labels.clone(), ..Self::default() }
    }

    /// Dollars for a request of this size, by its usual prices; no answer is longer than the model can make it.
    pub fn cost(&self, size: Size) -> Option<f64> {
        let most = self.max_output.unwrap_or(u64::MAX);
        Some(self.price?.of(Size { output: size.output.min(most), ..size }))
    }

    /// The provider's name in the configuration.
    pub fn provider(&self) -> &str {
        self.cut().map_or(&*self.name, |(provider, _)| provider)
    }

    /// The model's name as the provider knows it.
    pub fn model(&self) -> &str {
        self.cut().map_or("", |(_, model)| model)
    }

    /// Provider and model: the hot path looks for listings by them.
    fn cut(&self) -> Option<(&str, &str)> {
        let slash = memchr::memchr(b'/', self.name.as_bytes())?;
        Some((self.name.get(..slash)?, self.name.get(slash + 1..)?))
    }
}

/// A market that is data: of tests, mocks and replays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// Targets with their numbers.
    pub offers: Vec<Offer>,
    /// What names stand for, as names of targets.
    pub aliases: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// Budgets as they stand.
    pub purses: Vec<Purse>,
}

impl Market for Told {
    fn offer(&self, target: &str) -> Option<Offer> {
        self.offers.iter().find(|offer| *offer.listing.name == *target).cloned()
    }

    fn behind(&self, name: &str) -> Vec<Offer> {
        match self.aliases.get(name) {
            Some(targets) => targets.iter().filter_map(|target| self.offer(target)).collect(),
            None => self.offer(name).into_iter().collect(),
        }
    }

    fn all(&self) -> Vec<Offer> {
        self.offers.clone()
    }

    fn purse(&self, budget: &str, _: Who<'_>) -> Option<Purse> {
        self.purses.iter().find(|purse| *purse.name == *budget).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_market_of_data_reads_as_it_is_written() {
        let told: Told = serde_json::from_value(serde_json::json!({
            "offers": [{
                "name": "openai/gpt-5", "labels": { "region": "eu" },
                "price": { "input": 2.0, "output": 8.0 }, "max_output": 1000,
                "can": { "tools": true }, "latency": { "p95": 900.0 }, "healthy": true
            }],
            "aliases": { "strong": ["openai/gpt-5", "gone/away"] }
        }))
        .unwrap();
        let [offer] = &told.behind("strong")[..] else { panic!("{told:?}") };
        assert_eq!((offer.listing.provider(), offer.listing.model()), ("openai", "gpt-5"));
        assert_eq!(offer.live.latency, Quantiles { p95: Some(900.0), ..Quantiles::default() });
        // The answer is never longer than the model can make it.
        let cost = told.cost(offer, Size { input: 1_000_000, output: 5_000 });
        assert_eq!(cost, Some(2.008));
        assert!(told.behind("nobody").is_empty());
        let again: Told = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
        assert_eq!(again.offers[0].listing, offer.listing);
    }
}

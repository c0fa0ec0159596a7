//! Settings of what is given again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Period, Size};

/// Answers that are kept and given again to the same question. Off unless a `ttl` is set here or at an alias.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// How long answers are given again, for models that say nothing of their own; `0s` keeps none.
    pub ttl: Period,
    /// Which requests are answered from the cache.
    pub when: When,
    /// Whether callers share answers. Otherwise each key (else user, else session, else address) has its own.
    pub shared: bool,
    /// Memory for all kept answers; those not asked for go first. Changing it needs a restart.
    pub max_size: Size,
    /// The largest answer that is kept.
    pub max_answer: Size,
}

/// Which requests are answered from the cache.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Those whose answer is always the same: `temperature: 0`, embeddings, moderations, reranking.
    #[default]
    Deterministic,
    /// All of them.
    Always,
}

/// The cache of one alias: how long answers are given again, or a map with that.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum AliasCache {
    /// How long answers are given again; `0s` keeps none.
    Ttl(Period),
    /// With further settings.
    Full(AliasCacheSettings),
}

/// The cache of one alias.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct AliasCacheSettings {
    /// How long answers are given again; `0s` keeps none.
    pub ttl: Period,
    /// Which requests are answered from the cache; as for all models where it is left out.
    pub when: Option<When>,
    /// Whether callers share answers; as for all models where it is left out.
    pub shared: Option<bool>,
}

/// Answers that are kept for clients who send the same `Idempotency-Key` again.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct IdempotencySettings {
    /// How long an answer is given again; `0s` leaves the header alone.
    pub keep: Period,
    /// Memory for all kept answers; those not asked for go first. Changing it needs a restart.
    pub max_size: Size,
}

/// How the requests for one model are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long answers are given again; zero keeps none.
    pub ttl: Duration,
    /// Which requests.
    pub when: When,
    /// Whether callers share answers.
    pub shared: bool,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            ttl: Period::secs(0),
            when: When::default(),
            shared: false,
            max_size: Size(128 << 20),
            max_answer: Size(4 << 20),
        }
    }
}

impl Default for IdempotencySettings {
    fn default() -> Self {
        Self { keep: Period::secs(3_600), max_size: Size(64 << 20) }
    }
}

impl CacheSettings {
    /// The rules for a model that says nothing of its own, or this.
    pub fn rules(&self, own: Option<&AliasCache>) -> Rules {
        let usual = Rules { ttl: self.ttl.0, when: self.when, shared: self.shared };
        match own {
            None => usual,
            Some(AliasCache::Ttl(ttl)) => Rules { ttl: ttl.0, ..usual },
            Some(AliasCache::Full(own)) => Rules {
                ttl: own.ttl.0,
                when: own.when.unwrap_or(usual.when),
                shared: own.shared.unwrap_or(usual.shared),
            },
        }
    }
}

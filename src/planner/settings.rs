//! Settings of the model aliases.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use super::manner::{HedgeSettings, TogetherSettings};
use super::strategy::{StrategySettings, TierWord};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::cache::AliasCache;

/// Model aliases in the order written, which is the order of `GET /v1/models`.
pub type Models = InOrder<ModelSettings>;

/// One alias under `models:`. It has either `targets` or `versions`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// One target is drawn by weight; when it fails, the others follow in the order written.
    #[serde(default)]
    pub targets: Vec<TargetSettings>,
    /// Aliases or targets tried in this order when all targets failed.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// How the targets are put in order, instead of a draw by weight.
    pub strategy: Option<StrategySettings>,
    /// When another target is asked too because a whole answer is late: a duration, or `p95`. The first answer counts.
    pub hedge: Option<HedgeSettings>,
    /// When another target is asked too because the first content of a stream is late: a duration, or `p95`.
    pub standby: Option<String>,
    /// Asks several targets at once: `race` for the first answer, `vote` for what most of them say, or with a judge.
    pub together: Option<TogetherSettings>,
    /// Versions by name, each with its share of the callers. A caller (key, else user, else `x-tollgate-session`, else
    /// address) keeps its version; a client can pin one with `alias@version`.
    #[serde(default)]
    pub versions: InOrder<ModelVersionSettings>,
    /// Mixed into the draw of versions; with another text, all callers are drawn anew. By default the alias's name.
    pub seed: Option<String>,
    /// How long answers are given again to the same question, `10m`, or a map with that; otherwise as `cache:` says.
    #[serde(default)]
    pub cache: Option<AliasCache>,
}

/// One version of an alias.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ModelVersionSettings {
    /// Percent of the callers that get this version; the shares of all versions make 100. With 0, only those who pin it.
    pub share: f64,
    /// One target is drawn by weight; when it fails, the others follow in the order written.
    pub targets: Vec<TargetSettings>,
    /// Aliases or targets tried in this order when all targets failed; then follow those of the alias.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// How its targets are put in order; by default as the alias says.
    pub strategy: Option<StrategySettings>,
}

/// One target of an alias: `provider/model`, or with more to say of it.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum TargetSettings {
    /// `provider/model`; listed first means tried first.
    Plain(String),
    /// With a weight, or more.
    Weighted(WeightedTarget),
}

/// A target with more to say of it.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct WeightedTarget {
    /// `provider/model`.
    pub to: String,
    /// Share of the requests that try this target first, relative to the other weights; 0 means only as a fallback.
    pub weight: Option<f64>,
    /// Its place where a strategy goes by `priority`: the lowest number first; 1 where others have one and this has not.
    pub priority: Option<u32>,
    /// The class of its cost: `cheap`, `balanced` or `premium`; by default by its price.
    pub tier: Option<TierWord>,
    /// How good its answers are, 0 to 1, for `score` and `cheapest`.
    pub quality: Option<f64>,
    /// A stream of text that broke off after its first content goes on here, after the text so far: for models that take
    /// the beginning of their answer as the last message. Otherwise the client gets an error event.
    #[serde(default, rename = "continue")]
    pub continues: bool,
}

/// A map that keeps the order in which it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct InOrder<T>(pub Vec<(String, T)>);

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = InOrder<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(InOrder(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: Serialize> Serialize for InOrder<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<T: JsonSchema> JsonSchema for InOrder<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("InOrder_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, T>::json_schema(generator)
    }
}

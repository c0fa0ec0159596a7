//! Settings of strategies: how the targets of an alias are put in order.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Period;

/// How the targets of an alias are put in order: a word, a step with its settings, or a list of steps. The steps of a
/// list work from left to right; each divides or orders what the steps before left equal.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum StrategySettings {
    /// A word.
    Word(StrategyWord),
    /// A step with settings.
    Step(Box<StepSettings>),
    /// Several steps.
    Steps(Vec<StrategyStep>),
}

/// One of several steps.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum StrategyStep {
    /// A word.
    Word(StrategyWord),
    /// With settings.
    Step(Box<StepSettings>),
}

/// A strategy that needs no settings.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum StrategyWord {
    /// The lowest `priority` of the targets first; without any, the order written.
    Priority,
    /// One is drawn by weight; the others follow in the order written.
    Weighted,
    /// Each target in turn.
    RoundRobin,
    /// The target with the fewest requests under way, in proportion to its weight.
    LeastBusy,
    /// Of two targets drawn by weight, the one with the lower load: its recent latency times its requests under way.
    PowerOfTwo,
    /// The lowest median of the time to a whole answer, or to the first content where a stream is asked for.
    Fastest,
    /// The lowest estimated cost of the request.
    Cheapest,
    /// The lowest sum of latency, cost and quality, each stretched from 0 (the best of these) to 1 (the worst).
    Score,
    /// The class of cost that the client asks for with `x-tollgate-tier` first.
    Tier,
    /// Always the same target for the same caller, as far as targets and weights stay the same.
    Sticky,
    /// Only targets that may see data of the class in `x-tollgate-data-class`: those that have it as a tag.
    DataClass,
    /// The smallest context window that holds the request first.
    SmallestWindow,
}

/// One step with its settings: exactly one of these.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// One is drawn by weight.
    pub weighted: Option<WeightedSettings>,
    /// The fastest first.
    pub fastest: Option<FastestSettings>,
    /// The cheapest that keeps the bounds first; those beyond a bound come after all that are within.
    pub cheapest: Option<CheapestSettings>,
    /// The lowest weighted score first.
    pub score: Option<ScoreSettings>,
    /// This class of cost first, then the nearest: `cheap`, `balanced` or `premium`. `x-tollgate-tier` has precedence.
    pub tier: Option<TierWord>,
    /// A share of the requests, or of the callers, goes to one target first.
    pub canary: Option<CanarySettings>,
    /// Always the same target for the same caller, user, session, key, or beginning of the prompt.
    pub sticky: Option<StickyWord>,
    /// Only targets whose label `region` is this one, or one of these, in this order.
    pub region: Option<OneOrMany>,
    /// Only targets that meet this.
    pub only: Option<ConditionSettings>,
    /// Targets that meet this first.
    pub prefer: Option<ConditionSettings>,
    /// What targets must meet for data of each class in `x-tollgate-data-class`; `none` stands for requests without one.
    /// Data of a class that is not listed goes nowhere.
    pub data_class: Option<BTreeMap<String, ConditionSettings>>,
    /// Targets that are known for these abilities first (`tools`, `vision`, `audio`, `files`, `json`, `reasoning`), those
    /// that are known to lack one not at all.
    pub can: Option<OneOrMany>,
}

/// Settings of a draw by weight.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct WeightedSettings {
    /// Whose draw falls the same way every time.
    pub sticky: Option<StickyWord>,
}

/// Settings of `fastest`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct FastestSettings {
    /// Which time counts; by default that to the first content for streams, and that to the whole answer otherwise.
    pub by: Option<TimeWord>,
    /// Which percentile.
    pub at: PercentileWord,
}

/// Bounds of `cheapest`. A target of which a number is unknown is taken to be within.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct CheapestSettings {
    /// The most time to a whole answer.
    pub latency: Option<Period>,
    /// The most time to the first content.
    pub first_token: Option<Period>,
    /// The percentile of both times.
    pub at: PercentileWord,
    /// The least quality, 0 to 1, as the targets' `quality` says.
    pub quality: Option<f64>,
    /// The largest share of failed attempts, 0 to 1.
    pub errors: Option<f64>,
}

/// Weights of `score`, relative to each other.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ScoreSettings {
    /// The median of the time to a whole answer.
    pub latency: f64,
    /// The median of the time to the first content.
    pub first_token: f64,
    /// What the request is estimated to cost.
    pub cost: f64,
    /// The targets' `quality`.
    pub quality: f64,
    /// The share of failed attempts.
    pub errors: f64,
    /// Requests under way.
    pub busy: f64,
}

/// Settings of a canary.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CanarySettings {
    /// One of the alias's targets.
    pub to: String,
    /// Percent of the requests, or of the callers.
    pub share: f64,
    /// Who stays with the draw; by default each request is drawn anew.
    #[serde(default)]
    pub sticky: Option<StickyWord>,
}

/// Whose requests stay together.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum StickyWord {
    /// The key, else the user, else the session, else the address.
    Caller,
    /// The user.
    User,
    /// `x-tollgate-session`.
    Session,
    /// The virtual key.
    Key,
    /// The system prompt and the first kilobyte of the text, so that prompt caches stay warm.
    Prompt,
}

/// A class of cost.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum TierWord {
    /// Below $1 per million tokens, three of four of them in the prompt, unless a target's `tier` says otherwise.
    Cheap,
    /// Between.
    Balanced,
    /// From $5.
    Premium,
}

/// A time that targets are compared by.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum TimeWord {
    /// To the first content of a stream.
    FirstToken,
    /// To the end of the answer.
    Total,
}

/// A percentile.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum PercentileWord {
    /// The median.
    #[default]
    P50,
    /// Exceeded by one in twenty.
    P95,
    /// Exceeded by one in a hundred.
    P99,
}

/// One text, or several.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// What a target must have: a tag, all of several tags, or labels.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum ConditionSettings {
    /// A tag.
    Tag(String),
    /// All of these tags.
    Tags(Vec<String>),
    /// All of these labels.
    Labels(BTreeMap<String, String>),
}

impl StrategySettings {
    /// The steps, first to last.
    pub fn steps(&self) -> Vec<StrategyStep> {
        match self {
            Self::Word(word) => vec![StrategyStep::Word(*word)],
            Self::Step(step) => vec![StrategyStep::Step(step.clone())],
            Self::Steps(steps) => steps.clone(),
        }
    }
}

impl StrategyWord {
    /// All of them, as they are written.
    pub const ALL: [(&'static str, Self); 12] = [
        ("priority", Self::Priority),
        ("weighted", Self::Weighted),
        ("round_robin", Self::RoundRobin),
        ("least_busy", Self::LeastBusy),
        ("power_of_two", Self::PowerOfTwo),
        ("fastest", Self::Fastest),
        ("cheapest", Self::Cheapest),
        ("score", Self::Score),
        ("tier", Self::Tier),
        ("sticky", Self::Sticky),
        ("data_class", Self::DataClass),
        ("smallest_window", Self::SmallestWindow),
    ];

    /// The word as it is written.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, word)| *word == self).map_or("", |(name, _)| name)
    }

    /// The word that is written so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(word, _)| *word == name).map(|(_, word)| *word)
    }
}

impl OneOrMany {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl TierWord {
    /// The class as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cheap => "cheap",
            Self::Balanced => "balanced",
            Self::Premium => "premium",
        }
    }
}

impl PercentileWord {
    /// The percentile as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
        }
    }
}

//! Settings of budgets: what may be spent, by whom, on what, in which time.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::period::{Per, Period};
use super::scope::{Dimension, Match, Pattern};
use super::{Budget, Measure};
use crate::ledger::hours::zone;

/// A budget holds no more than this: sums stay exact everywhere, in floating-point numbers of other programs too.
const MOST_DOLLARS: f64 = 9_000_000.0;

/// What may be spent in a time. All budgets that match a request count it.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct BudgetSettings {
    /// Its name, in errors, alerts, metrics and policies.
    pub name: String,
    /// The limit in US dollars. Either this or `tokens`.
    #[serde(default)]
    pub dollars: Option<f64>,
    /// The limit in tokens, in and out.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// The time for which the limit holds: `hour`, `day`, `week`, `month` or `total`.
    pub per: Per,
    /// Whether the last hour (day, 7 days, 30 days) counts, rather than the hour (day, week, month) of the calendar.
    #[serde(default)]
    pub rolling: bool,
    /// The time zone in which days, weeks (from Monday) and months begin.
    #[serde(default = "utc")]
    pub zone: String,
    /// Which requests it counts; all, where nothing is written. Everything that is written must hold.
    #[serde(default, rename = "for")]
    pub of: PayerSettings,
    /// Counts only requests of keys that name it under `budgets`.
    #[serde(default)]
    pub by_name: bool,
    /// One budget for each of these rather than one for all: `key`, `user`, `team`, `model`, `provider`, `tag:NAME`. All
    /// requests that do not say it have one together.
    #[serde(default)]
    pub each: Vec<String>,
    /// Whether requests that could exceed it are refused. A budget that is not hard only raises alerts.
    #[serde(default = "yes")]
    pub hard: bool,
    /// Whether a request that asks for more tokens than can be paid for gets fewer instead of a refusal.
    #[serde(default)]
    pub shrink: bool,
    /// The most tokens of an answer where the client sets no limit; without it, the most that the model can.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u64>,
    /// What becomes of requests to models without a known price, where dollars count.
    #[serde(default)]
    pub unpriced: Unpriced,
    /// Dollars (or tokens) by which requests under way may exceed the limit at worst. 0 reserves the worst case of each.
    #[serde(default)]
    pub overrun: f64,
    /// Percent of the limit at which an alert is raised.
    #[serde(default = "thresholds")]
    pub alerts: Vec<u32>,
    /// Whether an alert is raised when the limit will be exceeded at the pace so far.
    #[serde(default = "yes")]
    pub projection: bool,
    /// The status of a refusal: 402 or 429. By default 429 where waiting a minute helps, else 402, which clients do not
    /// try again.
    #[serde(default)]
    pub status: Option<u16>,
}

/// Which requests a budget counts. Each is a word, in which `*` stands for any text, or a list of these.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PayerSettings {
    /// Virtual keys, by their names or public ids.
    pub key: Option<Words>,
    /// Users.
    pub user: Option<Words>,
    /// Teams.
    pub team: Option<Words>,
    /// Models: as the client asks for them (an alias), as the provider calls them, or `provider/model`.
    pub model: Option<Words>,
    /// Providers.
    pub provider: Option<Words>,
    /// Tags of the request by name.
    pub tags: BTreeMap<String, Words>,
}

/// A word, or several of which one must fit.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum Words {
    /// One.
    One(String),
    /// One of these.
    Any(Vec<String>),
}

/// What becomes of requests to models without a known price.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Unpriced {
    /// They are refused.
    #[default]
    Refuse,
    /// They count as nothing.
    Free,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn yes() -> bool {
    true
}

fn thresholds() -> Vec<u32> {
    vec![50, 80, 100]
}

impl BudgetSettings {
    /// These settings, checked.
    ///
    /// # Errors
    /// Everything that is wrong with them: the key and the complaint.
    pub fn checked(&self) -> Result<Budget, Vec<(&'static str, String)>> {
        let mut errors = Vec::new();
        let sound = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(sound) {
            errors.push(("name", "names have 1 to 64 letters, digits, or any of `-_.:/`".to_owned()));
        }
        let (measure, limit) = match (self.dollars, self.tokens) {
            (Some(dollars), None) => (Measure::Dollars, nano(dollars)),
            (None, Some(tokens)) => (Measure::Tokens, Some(tokens).filter(|tokens| *tokens <= 1 << 53)),
            (Some(_), Some(_)) => {
                errors.push(("tokens", "stands beside `dollars`: write one of them".to_owned()));
                (Measure::Dollars, Some(0))
            }
            (None, None) => {
                errors.push(("dollars", "is missing: write either `dollars` or `tokens`".to_owned()));
                (Measure::Dollars, Some(0))
            }
        };
        let (key, amounts) = match measure {
            Measure::Dollars => ("dollars", "0 to 9 million dollars"),
            Measure::Tokens => ("tokens", "0 to 9,007,199,254,740,992 tokens"),
        };
        let limit = limit.unwrap_or_else(|| {
            errors.push((key, format!("is not an amount ({amounts})")));
            0
        });
        if let Some(error) = self.of.nobody() {
            errors.push(("for", error));
        }
        let overrun = match measure {
            Measure::Dollars => nano(self.overrun),
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
            Measure::Tokens => (0.0..=9e15).contains(&self.overrun).then_some(self.overrun as u64),
        };
        let overrun = overrun.unwrap_or_else(|| {
            errors.push(("overrun", "is not an amount".to_owned()));
            0
        });
        let zone = zone(&self.zone).unwrap_or_else(|error| {
            errors.push(("zone", error));
            TimeZone::UTC
        });
        if self.rolling && self.per == Per::Total {
            errors.push(("rolling", "what counts for good does not roll".to_owned()));
        }
        if self.status.is_some_and(|status| !matches!(status, 402 | 429)) {
            errors.push(("status", "is 402 or 429".to_owned()));
        }
        let mut each = Vec::new();
        for word in &self.each {
            match Dimension::named(word) {
                Some(dimension) => each.push(dimension),
                None => errors.push((
                    "each",
                    format!("`{word}` is none of `key`, `user`, `team`, `model`, `provider`, `tag:NAME`"),
                )),
            }
        }
        let mut alerts = self.alerts.clone();
        alerts.sort_unstable();
        alerts.dedup();
        if alerts.iter().any(|percent| !(1..=1_000).contains(percent)) || alerts.len() > 16 {
            errors.push(("alerts", "are up to 16 percentages from 1 to 1000".to_owned()));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Budget {
            name: self.name.as_str().into(),
            measure,
            limit,
            overrun,
            period: Period { per: self.per, rolling: self.rolling, zone },
            of: self.of.checked(),
            by_name: self.by_name,
            each,
            hard: self.hard,
            shrink: self.shrink,
            max_tokens: self.max_tokens,
            unpriced: self.unpriced,
            alerts,
            projection: self.projection,
            status: self.status,
        })
    }
}

impl PayerSettings {
    /// What is wrong where no word stands of which one must fit, or one that fits nothing.
    fn nobody(&self) -> Option<String> {
        let fixed = [
            ("key", &self.key),
            ("user", &self.user),
            ("team", &self.team),
            ("model", &self.model),
            ("provider", &self.provider),
        ];
        let fixed = fixed.into_iter().filter_map(|(name, words)| Some((name, words.as_ref()?)));
        let tags = self.tags.iter().map(|(name, words)| (name.as_str(), words));
        fixed.chain(tags).find_map(|(name, words)| match words.all()[..] {
            [] => Some(format!("no word stands under `{name}`, so the budget would count nothing")),
            ref words if words.contains(&"") => {
                Some(format!("an empty word stands under `{name}`, which no request has"))
            }
            _ => None,
        })
    }

    fn checked(&self) -> Match {
        let words =
            |dimension: Dimension, words: &Option<Words>| Some((dimension, words.as_ref()?.patterns()));
        let fixed = [
            words(Dimension::Key, &self.key),
            words(Dimension::User, &self.user),
            words(Dimension::Team, &self.team),
            words(Dimension::Model, &self.model),
            words(Dimension::Provider, &self.provider),
        ];
        let tags =
            self.tags.iter().map(|(name, words)| (Dimension::Tag(name.as_str().into()), words.patterns()));
        Match(fixed.into_iter().flatten().chain(tags).collect())
    }
}

impl Words {
    /// All of them.
    pub fn all(&self) -> Vec<&str> {
        match self {
            Self::One(word) => vec![word],
            Self::Any(words) => words.iter().map(String::as_str).collect(),
        }
    }

    fn patterns(&self) -> Vec<Pattern> {
        self.all().into_iter().map(Pattern::of).collect()
    }
}

/// Dollars in nano-dollars.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
fn nano(dollars: f64) -> Option<u64> {
    (0.0..=MOST_DOLLARS).contains(&dollars).then(|| (dollars * 1e9).round() as u64)
}

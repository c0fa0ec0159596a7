//! Settings of an experiment: which fault, for whom, until when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Date, Percent, Period};

/// The longest name of an experiment, in bytes.
const LONGEST: usize = 64;

/// A fault that is injected on purpose into some of the traffic, until it ends by itself.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ChaosSettings {
    /// Its name, in logs, records and the status.
    pub name: String,
    /// What goes wrong.
    pub kind: ChaosKind,
    /// Which attempts it may strike; all, where nothing is said.
    #[serde(default, rename = "match", skip_serializing_if = "ChaosMatch::is_all")]
    pub matches: ChaosMatch,
    /// How many of these attempts it strikes.
    #[serde(default = "all")]
    #[schemars(default = "all")]
    pub percent: Percent,
    /// When it ends. Either this or `for` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// How long it lasts, from when it is taken into service.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Period>,
    /// Of `latency`: how long the request is held back; `1s` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Period>,
    /// Of `error`: the provider's status, 400 to 599; 503 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 400, max = 599))]
    pub status: Option<u16>,
    /// Of `throttle`: what `Retry-After` says, in whole seconds; `1s` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Period>,
    /// Of `stall`: before the answer's head (`head`, the usual), or after it and before any content (`first_token`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<StallAt>,
    /// Of `cut`: after how many events of a stream it breaks off; 1 where nothing is said. Of a whole answer, half
    /// arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub chunks: Option<u32>,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ChaosKind {
    /// The request goes out late.
    Latency,
    /// The provider answers with an error.
    Error,
    /// The provider answers 429.
    Throttle,
    /// The provider says nothing, or nothing after its answer's head.
    Stall,
    /// The provider's answer breaks off. The request is sent, and costs.
    Cut,
    /// The provider answers 200 with something that is no answer.
    Garbage,
}

/// Where a stall sets in.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum StallAt {
    /// Before the answer's head.
    Head,
    /// After the head, before any content.
    FirstToken,
}

/// Which attempts: those that have all of these. A `*` in a name stands for any text.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ChaosMatch {
    /// The provider's name in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The target, `provider/model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The model as the client writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A tag, `feature=search`, or `feature` with any value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Id or name of the virtual key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

fn all() -> Percent {
    Percent(100.0)
}

impl ChaosMatch {
    fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

impl ChaosKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Error => "error",
            Self::Throttle => "throttle",
            Self::Stall => "stall",
            Self::Cut => "cut",
            Self::Garbage => "garbage",
        }
    }
}

impl ChaosSettings {
    /// What cannot be meant, each with its field.
    pub fn complaints(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.name.is_empty() || self.name.len() > LONGEST || !self.name.chars().all(plain) {
            found.push(("name", "a name has letters, digits, `.`, `_` and `-`, at most 64 of them".into()));
        }
        if !(self.percent.0 > 0.0 && self.percent.0 <= 100.0) {
            found.push(("percent", "more than 0 and at most 100 percent can be struck".into()));
        }
        match (self.until, self.lasts) {
            (None, None) => {
                found.push(("for", "an end is required: `for: 10m`, or `until` with a date".into()));
            }
            (Some(_), Some(_)) => found.push(("for", "`for` and `until` exclude each other".into())),
            (None, Some(lasts)) if lasts.0.is_zero() => {
                found.push(("for", "it would be over at once".into()));
            }
            _ => {}
        }
        if self.status.is_some_and(|status| !(400..=599).contains(&status)) {
            found.push(("status", "a status of an error is 400 to 599".into()));
        }
        let of_kinds = [
            ("delay", self.delay.is_some(), ChaosKind::Latency),
            ("status", self.status.is_some(), ChaosKind::Error),
            ("retry_after", self.retry_after.is_some(), ChaosKind::Throttle),
            ("at", self.at.is_some(), ChaosKind::Stall),
            ("chunks", self.chunks.is_some(), ChaosKind::Cut),
        ];
        for (field, _, kind) in of_kinds.into_iter().filter(|(_, given, kind)| *given && *kind != self.kind) {
            let (own, kind) = (kind.as_str(), self.kind.as_str());
            found.push((field, format!("`{field}` belongs to `kind: {own}`, and this is `{kind}`")));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cannot_be_meant_is_told_with_its_field() {
        let good = json!({ "name": "a", "kind": "error", "for": "5m" });
        for (change, expected) in [
            (json!({}), &[] as &[_]),
            (json!({ "status": 500, "percent": "0.5%" }), &[]),
            (json!({ "name": "a b" }), &["name"]),
            (json!({ "name": "" }), &["name"]),
            (json!({ "percent": 0 }), &["percent"]),
            (json!({ "percent": 101 }), &["percent"]),
            (json!({ "for": null }), &["for"]),
            (json!({ "for": "0s" }), &["for"]),
            (json!({ "until": "2026-11-21" }), &["for"]),
            (json!({ "status": 200 }), &["status"]),
            (json!({ "chunks": 3, "delay": "1s" }), &["delay", "chunks"]),
            (json!({ "kind": "stall", "at": "first_token" }), &[]),
        ] {
            let mut whole = good.clone();
            for (field, value) in change.as_object().unwrap() {
                whole[field] = value.clone();
            }
            let settings: ChaosSettings = serde_json::from_value(whole).unwrap();
            let fields: Vec<_> = settings.complaints().into_iter().map(|(field, _)| field).collect();
            assert_eq!(fields, expected, "{change}");
        }
    }
}

//! Settings of limits: `rate_limits:`, and `limits` of a key.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::settings::Rate;

/// A limit for all requests that it matches.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RateLimitSettings {
    /// Its name, in answers, metrics and policies (`rate("name")`).
    pub name: String,
    /// Which requests it counts; all, where nothing is said.
    #[serde(default, rename = "match")]
    pub matches: MatchSettings,
    /// Counts each of these by itself: `user` gives every user a count of their own. Without it, all requests that
    /// match share one. What a request does not have (no user) counts as one more.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Option<OneOrMany<Dimension>>")]
    pub per: Vec<Dimension>,
    /// Holds only for keys that name it under `rate_limits`.
    #[serde(default)]
    pub by_name: bool,
    /// What is counted, and how much of it is let through.
    pub limits: Rates,
}

/// How much is let through. Where several are given, all of them hold.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Requests: `60/min`, or a list: `[ 60/min, 1000/day ]`.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<OneOrMany<Rate>>")]
    pub requests: Vec<Rate>,
    /// Tokens of prompt and answer together, by `weights`.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<OneOrMany<Rate>>")]
    pub tokens: Vec<Rate>,
    /// Tokens of the prompt.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<OneOrMany<Rate>>")]
    pub input_tokens: Vec<Rate>,
    /// Tokens of the answer.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<OneOrMany<Rate>>")]
    pub output_tokens: Vec<Rate>,
    /// Requests at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrent: Option<u64>,
    /// What a token counts under `tokens`.
    #[serde(default, skip_serializing_if = "Weights::is_usual")]
    pub weights: Weights,
}

/// What a token counts.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// One of the prompt.
    #[schemars(range(min = 0, max = 1000))]
    pub input: f64,
    /// One of the prompt that the provider had in its cache.
    #[schemars(range(min = 0, max = 1000))]
    pub cached: f64,
    /// One of the answer.
    #[schemars(range(min = 0, max = 1000))]
    pub output: f64,
}

/// Which requests a limit counts: those that have all of these. A `*` in a name stands for any text.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct MatchSettings {
    /// Id or name of the virtual key.
    pub key: Option<String>,
    /// The key's team.
    pub team: Option<String>,
    /// The user: of the key, else as the request says.
    pub user: Option<String>,
    /// The model as the client writes it.
    pub model: Option<String>,
    /// A tag, `feature=search`, or `feature` with any value.
    pub tag: Option<String>,
}

/// What requests can be told apart by.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// The virtual key.
    Key,
    /// The key's team.
    Team,
    /// The user: of the key, else as the request says.
    User,
    /// The model as the client writes it.
    Model,
    /// The client's address.
    Address,
}

impl Default for Weights {
    fn default() -> Self {
        Self { input: 1.0, cached: 1.0, output: 1.0 }
    }
}

impl Weights {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl Rates {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        let Self { requests, tokens, input_tokens, output_tokens, concurrent, .. } = self;
        [requests, tokens, input_tokens, output_tokens].into_iter().all(Vec::is_empty) && concurrent.is_none()
    }
}

impl Rates {
    /// What is wrong with them, and where.
    pub fn complaints(&self) -> Vec<(&'static str, String)> {
        let mut complaints = Vec::new();
        let all = [
            ("requests", &self.requests),
            ("tokens", &self.tokens),
            ("input_tokens", &self.input_tokens),
            ("output_tokens", &self.output_tokens),
        ];
        for (field, rates) in all {
            for (at, rate) in rates.iter().enumerate() {
                if rates.iter().take(at).any(|other| other.period == rate.period) {
                    complaints.push((field, format!("two rates per {} stand here", rate.period_name())));
                }
            }
        }
        if self.concurrent == Some(0) {
            complaints.push(("concurrent", "`concurrent` must be more than 0".into()));
        }
        complaints
    }
}

/// One, or a list.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[allow(dead_code, reason = "the form alone is of interest")]
pub(super) enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

/// Reads one value or a list of them.
///
/// # Errors
/// When it is neither, or what is wrong with the value.
pub fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one, or a list")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_none<E: de::Error>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        Ok(vec![T::deserialize(text.into_deserializer())?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_a_list_says_what_is_wrong_with_it() {
        let read = |text: &str| serde_json::from_str::<Rates>(text);
        for (text, expected) in [
            (r#"{"requests": "3/min"}"#, 1),
            (r#"{"requests": ["3/min", "100/day"]}"#, 2),
            (r#"{"requests": null}"#, 0),
            ("{}", 0),
        ] {
            assert_eq!(read(text).unwrap().requests.len(), expected, "{text}");
        }
        for text in [r#"{"requests": "0/min"}"#, r#"{"requests": ["0/min"]}"#, r#"{"requests": 3}"#] {
            let error = read(text).unwrap_err().to_string();
            assert!(!error.contains("OneOrMany"), "{text}: {error}");
        }
    }
}

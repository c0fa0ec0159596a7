//! What a caller may do, and what is said of it: the part of a key or token that counts for its requests.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cidr::Cidr;
use super::{Priority, glob};
use crate::facts::Endpoint;
use crate::target::TargetName;

/// What a virtual key or a token grants. Policies see it and cannot widen it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// The name that people gave to the key.
    pub name: Arc<str>,
    /// The application that it belongs to.
    pub app: Option<Arc<str>>,
    /// What it may be used for.
    pub scope: Scope,
    /// How important its requests are.
    pub priority: Priority,
    /// Where it may be used from; everywhere, where nothing is said.
    pub sources: Option<Vec<Cidr>>,
    /// Limits of `rate_limits:` that hold for it by name.
    pub rate_limits: Vec<Arc<str>>,
    /// Budgets that hold for it by name.
    pub budgets: Vec<Arc<str>>,
    /// Tags that every request gets, whatever the client says.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
}

/// What a key may be used for. What is left out is not restricted; an empty list allows nothing.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// Operations: `chat`, `embeddings`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<Endpoint>>,
    /// Models by pattern: an alias (`fast`), `provider/model`, or the model alone; `*` stands for any text. An alias that
    /// fits allows all targets behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Providers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub providers: Option<Vec<String>>,
    /// The most that one request may cost at the price of its target, in dollars, by the worst case that budgets hold.
    /// Longer answers are cut to it; what has no price is not allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
    /// Values of `x-tollgate-data-class` that a client may give; where it gives none, the first one counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_classes: Option<Vec<String>>,
}

impl Scope {
    /// Whether nothing is restricted.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an operation may be asked for.
    pub fn allows_endpoint(&self, endpoint: Endpoint) -> bool {
        self.endpoints.as_ref().is_none_or(|all| all.contains(&endpoint))
    }

    /// Whether a model may be asked for by this name: an alias, or `provider/model`.
    pub fn allows_name(&self, name: &str) -> bool {
        let Some(patterns) = &self.models else { return true };
        // `alias@version` is the alias.
        let alias = name.rsplit_once('@').map_or(name, |(alias, _)| alias);
        let model = name.split_once('/').map_or(name, |(_, model)| model);
        patterns.iter().any(|pattern| [name, alias, model].iter().any(|name| glob::fits(pattern, name)))
    }

    /// Whether requests may go to this target: of an alias that is allowed, its provider alone counts.
    pub fn allows_target(&self, target: &TargetName, by_alias: bool) -> bool {
        let provider = |all: &Vec<String>| all.iter().any(|name| **name == *target.provider);
        self.providers.as_ref().is_none_or(provider)
            && (by_alias || self.models.is_none() || self.allows_name(&target.to_string()))
    }

    /// The data class of a request for which the client says this.
    ///
    /// # Errors
    /// [`NotYours`] when the client may not give it.
    pub fn data_class<'a>(&'a self, said: Option<&'a str>) -> Result<Option<&'a str>, NotYours> {
        match (&self.data_classes, said) {
            (None, said) => Ok(said),
            (Some(all), None) => Ok(all.first().map(String::as_str)),
            (Some(all), Some(said)) if all.iter().any(|class| class == said) => Ok(Some(said)),
            (Some(_), Some(_)) => Err(NotYours),
        }
    }
}

/// A data class that the key is not for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotYours;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_allowed_by_pattern() {
        let scope = |models: &[&str]| Scope {
            models: Some(models.iter().map(|&model| model.to_owned()).collect()),
            ..Scope::default()
        };
        for (models, name, expected) in [
            (&["fast"][..], "fast", true),
            (&["fast"], "fast@2", true),
            (&["fast"], "faster", false),
            (&["gpt-4o*"], "openai/gpt-4o-mini", true),
            (&["openai/*"], "openai/gpt-4o", true),
            (&["openai/*"], "azure/gpt-4o", false),
            (&["a", "b"], "b", true),
            (&[], "a", false),
        ] {
            assert_eq!(scope(models).allows_name(name), expected, "{models:?} {name}");
        }
        assert!(Scope::default().allows_name("anything"));
    }
}

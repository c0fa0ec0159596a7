//! Who pays for a request, and which budgets that concerns.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::caller::glob;
use crate::facts::Endpoint;
use crate::target::TargetName;

/// What a request that nobody named something for has in common with others.
const NOBODY: &str = "";

/// Who pays for a request, and what for. Never holds a credential.
#[derive(Debug, Clone, Default)]
pub struct Payer {
    /// The operation.
    pub endpoint: Endpoint,
    /// The public id of the virtual key.
    pub key: Option<Arc<str>>,
    /// The name that people gave that key.
    pub key_name: Option<Arc<str>>,
    /// The user.
    pub user: Option<Arc<str>>,
    /// The team.
    pub team: Option<Arc<str>>,
    /// The application that the key belongs to.
    pub app: Option<Arc<str>>,
    /// Tags of the request.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// The model as the client asked for it.
    pub model: Arc<str>,
    /// The alias of which `model` is a version.
    pub alias: Option<Arc<str>>,
    /// Budgets that hold for it by name.
    pub named: Vec<Arc<str>>,
}

/// What budgets go by of a key besides its id.
#[derive(Debug, Clone)]
pub struct PayerKey {
    /// The name that people gave it.
    pub name: Arc<str>,
    /// Budgets that hold for it by name.
    pub budgets: Vec<Arc<str>>,
}

/// Something by which spending is told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// The public id of the virtual key.
    Key,
    /// The user.
    User,
    /// The team.
    Team,
    /// The model as it was asked for.
    Model,
    /// The provider.
    Provider,
    /// A tag of this name.
    Tag(Arc<str>),
}

/// A word, in which `*` stands for any text.
#[derive(Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Without a `*`.
    Word(Box<str>),
    /// The beginning of words: a `*` stands at the end alone.
    Beginning(Box<str>),
    /// With a `*` elsewhere, as it is written.
    Glob(Box<str>),
}

/// What must hold of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match(pub(super) Vec<(Dimension, Vec<Pattern>)>);

/// The aliases of a configuration, and which of them have versions.
#[derive(Debug, Clone, Default)]
pub struct Aliases(HashMap<Arc<str>, bool>);

impl Aliases {
    /// Adds an alias. One that has versions for some of the callers has versions.
    pub fn add(&mut self, name: &Arc<str>, versions: bool) {
        *self.0.entry(name.clone()).or_default() |= versions;
    }

    /// The alias of which `model` is a version. Of names that are not known, or not any more, the name itself tells, unless
    /// it is that of a provider's model, which may have an `@`, too.
    pub fn of(&self, model: &str) -> Option<Arc<str>> {
        let (alias, _) = model.rsplit_once('@').filter(|_| !self.0.contains_key(model))?;
        match self.0.get_key_value(alias) {
            Some((alias, true)) => Some(alias.clone()),
            _ => (!alias.contains('/')).then(|| alias.into()),
        }
    }
}

impl Dimension {
    /// As it is written: `user`, `tag:feature`.
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "key" => Self::Key,
            "user" => Self::User,
            "team" => Self::Team,
            "model" => Self::Model,
            "provider" => Self::Provider,
            _ => Self::Tag(word.strip_prefix("tag:").filter(|name| !name.is_empty())?.into()),
        })
    }

    /// As it is written.
    pub fn shown(&self) -> String {
        match self {
            Self::Key => "key".to_owned(),
            Self::User => "user".to_owned(),
            Self::Team => "team".to_owned(),
            Self::Model => "model".to_owned(),
            Self::Provider => "provider".to_owned(),
            Self::Tag(name) => format!("tag:{name}"),
        }
    }

    /// What it is for this request; nothing where nobody said.
    pub(super) fn of(&self, payer: &Payer, target: Option<&TargetName>) -> Arc<str> {
        let value = match self {
            Self::Key => payer.key.clone(),
            Self::User => payer.user.clone(),
            Self::Team => payer.team.clone(),
            Self::Model => Some(payer.alias.as_ref().unwrap_or(&payer.model).clone()),
            Self::Provider => target.map(|target| target.provider.clone()),
            Self::Tag(name) => {
                payer.tags.iter().rev().find(|(known, _)| known == name).map(|(_, v)| v.clone())
            }
        };
        value.unwrap_or_else(|| NOBODY.into())
    }
}

impl Pattern {
    pub(super) fn of(word: &str) -> Self {
        match word.split_once('*') {
            None => Self::Word(word.into()),
            Some((beginning, "")) => Self::Beginning(beginning.into()),
            Some(_) => Self::Glob(word.into()),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Word(text) | Self::Glob(text) => text.to_string(),
            Self::Beginning(text) => format!("{text}*"),
        }
    }

    fn fits(&self, word: &str) -> bool {
        match self {
            Self::Word(text) => word == &**text,
            Self::Beginning(text) => word.starts_with(&**text),
            Self::Glob(text) => glob::fits(text, word),
        }
    }
}

// Names of budgets in Redis are made of this (`shared::name`): gateways of another version must find the same ones.
impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, open) = match self {
            Self::Word(text) | Self::Glob(text) => (text, false),
            Self::Beginning(text) => (text, true),
        };
        f.debug_struct("Pattern").field("text", text).field("open", &open).finish()
    }
}

impl Match {
    /// As it is written.
    pub(super) fn shown(&self) -> BTreeMap<String, Vec<String>> {
        let words = |patterns: &[Pattern]| patterns.iter().map(Pattern::shown).collect();
        self.0.iter().map(|(dimension, patterns)| (dimension.shown(), words(patterns))).collect()
    }

    /// Whether all of it holds. Without a target, what only a target decides counts as holding.
    pub(super) fn holds(&self, payer: &Payer, target: Option<&TargetName>) -> bool {
        self.0.iter().all(|(dimension, patterns)| {
            let any = |word: &str| patterns.iter().any(|pattern| pattern.fits(word));
            match (dimension, target) {
                (Dimension::Key, _) => {
                    [&payer.key, &payer.key_name].into_iter().flatten().any(|word| any(word))
                }
                (Dimension::Model, Some(target)) => {
                    any(&payer.model)
                        || payer.alias.as_deref().is_some_and(any)
                        || any(&target.model)
                        || any(&target.to_string())
                }
                (Dimension::Model | Dimension::Provider, None) => true,
                (dimension, target) => {
                    let value = dimension.of(payer, target);
                    !value.is_empty() && any(&value)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::PayerSettings;
    use super::*;

    #[test]
    fn a_version_counts_as_its_alias() {
        let mut aliases = Aliases::default();
        for (name, versions) in [("gpt", false), ("gpt@eu", false), ("team/fast", true), ("slow", true)] {
            aliases.add(&name.into(), versions);
        }
        let of = |model: &str| Payer { model: model.into(), alias: aliases.of(model), ..Payer::default() };
        let fast = Match(vec![(Dimension::Model, vec![Pattern::of("fast")])]);
        let target = TargetName::parse("up/m").unwrap();
        for (model, holds, part) in [
            ("fast", true, "fast"),
            ("fast@2", true, "fast"),
            ("slow@2", false, "slow"),
            ("vertex/claude@20250514", false, "vertex/claude@20250514"),
            ("gpt@eu", false, "gpt@eu"),
            ("team/fast@2", false, "team/fast"),
        ] {
            let payer = of(model);
            assert_eq!(fast.holds(&payer, Some(&target)), holds, "{model}");
            assert_eq!(&*Dimension::Model.of(&payer, Some(&target)), part, "{model}");
        }
    }

    #[test]
    fn all_that_is_written_must_hold() {
        let payer = Payer {
            user: Some("anna".into()),
            team: Some("x".into()),
            tags: vec![("feature".into(), "search".into())],
            model: "fast".into(),
            ..Payer::default()
        };
        let target = TargetName::parse("openai/gpt-4o-mini").unwrap();
        for (yaml, holds) in [
            ("{}", true),
            ("{ team: x, model: fast }", true),
            ("{ team: x, model: gpt-4o }", false),
            ("{ model: gpt-4o* }", true),
            ("{ model: openai/gpt-4o-mini }", true),
            ("{ model: [a, 'gpt-4o-mini'] }", true),
            ("{ model: '*st' }", true),
            ("{ model: 'gpt-*-mini' }", true),
            ("{ model: '*-large' }", false),
            ("{ team: 'x*y' }", false),
            ("{ provider: openai, user: [bob, an*] }", true),
            ("{ provider: anthropic }", false),
            ("{ key: '*' }", false),
            ("{ tags: { feature: search } }", true),
            ("{ tags: { feature: '*arch' } }", true),
            ("{ tags: { feature: chat } }", false),
            ("{ tags: { other: '*' } }", false),
        ] {
            check(yaml, &payer, &target, holds);
        }
    }

    fn check(yaml: &str, payer: &Payer, target: &TargetName, holds: bool) {
        let settings: PayerSettings = serde_yaml::from_str(yaml).unwrap();
        let budget = super::super::settings::BudgetSettings {
            of: settings,
            ..serde_yaml::from_str("{ name: b, dollars: 1, per: day }").unwrap()
        };
        assert_eq!(budget.checked().unwrap().of.holds(payer, Some(target)), holds, "{yaml}");
    }

    #[test]
    fn a_pattern_is_called_in_redis_as_it_always_was() {
        for (word, called) in [
            ("fast", r#"Pattern { text: "fast", open: false }"#),
            ("gpt-4*", r#"Pattern { text: "gpt-4", open: true }"#),
            ("*st", r#"Pattern { text: "*st", open: false }"#),
        ] {
            let pattern = Pattern::of(word);
            assert_eq!((format!("{pattern:?}").as_str(), pattern.shown().as_str()), (called, word));
        }
    }

    #[test]
    fn a_key_is_meant_by_its_name_as_well_as_by_its_id() {
        let (key, key_name) = (Some("k3f9a2b7c1d0".into()), Some("ci".into()));
        let payer = Payer { key, key_name, ..Payer::default() };
        let target = TargetName::parse("openai/gpt-4o-mini").unwrap();
        for (yaml, holds) in [
            ("{ key: ci }", true),
            ("{ key: [ nightly, c* ] }", true),
            ("{ key: k3f9a2b7c1d0 }", true),
            ("{ key: nightly }", false),
        ] {
            check(yaml, &payer, &target, holds);
        }
    }
}

//! Rhai policies: compiled at load, run in file-name order, facts in, decision out.
//!
//! Evaluation is inline on the calling thread, holds no lock and never reaches out: everything that a policy sees
//! was gathered before, so that a decision can be recorded and replayed.

mod bridge;
mod call;
mod call_word;
mod candidate;
mod compile;
mod engine;
mod error;
mod hook;
mod hosted;
mod journal;
mod language;
mod library;
mod lint;
mod lists;
mod memo;
mod moment;
mod narrow;
mod parameters;
mod patterns;
pub mod plugins;
mod ranking;
pub mod replay;
mod request;
pub mod rollout;
mod seen;
mod series;
mod session;
mod settings;
mod side_road;
mod slips;
mod state;
mod suggest;
mod tables;
mod texts;
pub mod trial;
mod unheard;
mod verdict;
mod vocabulary;
mod wishes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::facts::{Facts, Reads};
use crate::fault::Fault;
use crate::plan::{Decision, Hook};
use crate::target::Traits;
use compile::{Policy, World};
pub use engine::ELEMENTS;
pub use error::{PolicyError, RuntimeError};
pub use hosted::{Hosted, NamedPlugins};
use library::Library;
pub use memo::Answered;
use plugins::{NoPlugins, Plugins};
pub use seen::{Answer, Completion, FailedAttempt, SeenTarget};
pub use session::{Said, Session};
pub use settings::{
    CandidateSettings, OnError, PolicySettings, RollBackSettings, ShadowSettings, Sticky, Switch,
};
pub use unheard::unheard;
pub use vocabulary::{Entry, definitions, described, reference, vocabulary};

/// A policy file as read.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path below the policies' directory without `.rhai`: `10-cheap`, or `lib/teams` for files that others import.
    pub name: String,
    /// The file, for error messages.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// What policies can name as targets.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Aliases under `models:`.
    pub aliases: BTreeSet<String>,
    /// Configured providers.
    pub providers: BTreeSet<String>,
    /// Names under `rate_limits:`.
    pub rate_limits: BTreeSet<String>,
    /// Names under `budgets:`.
    pub budgets: BTreeSet<String>,
    /// Tags and labels of the providers; `None` where they are not known.
    pub marks: Option<Marks>,
}

/// What constraints can ask for besides names.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    /// Tags that some provider has.
    pub tags: BTreeSet<String>,
    /// Labels that some provider has, and their values.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

/// The policies of one snapshot. Sessions share them, so that a request ends with those that it began with.
#[derive(Default)]
pub struct PolicySet(Arc<Chain>);

/// Policies in the order in which they are asked.
#[derive(Default)]
struct Chain {
    policies: Vec<Arc<Policy>>,
    /// Hooks that any of them defines.
    hooks: [bool; hook::HOOKS.len()],
    /// Hash of the texts.
    hash: Arc<str>,
}

/// What the chain said of one request.
#[derive(Debug)]
pub struct Decided {
    /// The decision; a fault where a policy failed that must not be skipped.
    pub decision: Result<Decision, Fault>,
    /// Policies that failed, already logged; the caller counts them.
    pub errors: Vec<RuntimeError>,
    /// What the policies read.
    pub reads: Reads,
}

impl PolicySet {
    /// Compiles and checks all files. `data` are the configuration's tables, which scripts see as the constant
    /// `data`. No files make a set that has no opinion.
    ///
    /// # Errors
    /// Every error of every file, in the order of file names.
    pub fn load(
        sources: &[Source],
        settings: &PolicySettings,
        data: &serde_json::Map<String, serde_json::Value>,
        names: &Names,
    ) -> Result<Self, Vec<PolicyError>> {
        Self::load_with(sources, settings, data, names, Arc::new(NoPlugins))
    }

    /// As [`PolicySet::load`], for policies that may ask plugins.
    ///
    /// # Errors
    /// Every error of every file, in the order of file names.
    pub fn load_with(
        sources: &[Source],
        settings: &PolicySettings,
        data: &serde_json::Map<String, serde_json::Value>,
        names: &Names,
        plugins: Arc<dyn Plugins>,
    ) -> Result<Self, Vec<PolicyError>> {
        Self::load_watched(sources, settings, data, names, plugins, None)
    }

    /// As [`PolicySet::load_with`], of texts whose statements say that they were reached.
    fn load_watched(
        sources: &[Source],
        settings: &PolicySettings,
        data: &serde_json::Map<String, serde_json::Value>,
        names: &Names,
        plugins: Arc<dyn Plugins>,
        lines: Option<Arc<trial::Lines>>,
    ) -> Result<Self, Vec<PolicyError>> {
        let world = World {
            settings,
            data: tables::Table::new(data),
            names: Arc::new(names.clone()),
            patterns: Arc::default(),
            tiers: Arc::new(ranking::Tiers::of(data)),
            plugins,
            lines,
        };
        let mut sources: Vec<&Source> = sources.iter().collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        let mut errors = Vec::new();
        let library = Library::load(&sources, &world, &mut errors);
        let policies: Vec<Arc<Policy>> = sources
            .iter()
            .filter(|source| !source.name.starts_with(library::PREFIX))
            .filter_map(|source| compile::policy(source, &world, &library, &mut errors).map(Arc::new))
            .collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self::of(policies, hash_of(sources.iter().map(|source| (&*source.name, &*source.text)))))
    }

    fn of(policies: Vec<Arc<Policy>>, hash: Arc<str>) -> Self {
        let hooks = hook::HOOKS.each_ref().map(|form| policies.iter().any(|policy| policy.has(form.hook)));
        Self(Arc::new(Chain { policies, hooks, hash }))
    }

    /// Hash of the texts that it was made of, as [`hash_of`] reckons it.
    pub fn hash(&self) -> &Arc<str> {
        &self.0.hash
    }

    /// The set of this policy alone.
    fn alone(&self, name: &str) -> Self {
        let of_name = |policy: &&Arc<Policy>| *policy.host.journal.policy == *name;
        Self::of(self.0.policies.iter().filter(of_name).cloned().collect(), self.0.hash.clone())
    }

    /// Names of the policies in the order in which they are asked.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.policies.iter().map(|policy| &*policy.host.journal.policy)
    }

    /// The hooks behind the decision that any of them defines: `on_error`, `on_response`, `on_complete`.
    pub fn later_hooks(&self) -> impl Iterator<Item = &'static str> {
        let later = hook::HOOKS.iter().filter(|form| form.hook != Hook::OnRequest && self.0.has(form.hook));
        later.map(|form| form.name)
    }

    /// Whether there are no policies.
    pub fn is_empty(&self) -> bool {
        self.0.policies.is_empty()
    }

    /// Begins one request's way through the policies.
    pub fn begin(&self, facts: &Arc<Facts>) -> Session {
        Session::new(Arc::clone(&self.0), Arc::clone(facts), Vec::new())
    }

    /// As [`PolicySet::begin`], where it is known already what plugins say.
    pub fn begin_with(&self, facts: &Arc<Facts>, known: Vec<Answered>) -> Session {
        Session::new(Arc::clone(&self.0), Arc::clone(facts), known)
    }

    /// Begins the way of a request that other policies have decided: without effect, and on the answers that those got.
    pub fn shadow(&self, facts: &Arc<Facts>, known: Vec<Answered>, earlier: Reads) -> Session {
        let session = Session::new(Arc::clone(&self.0), Arc::clone(facts), known);
        session.in_silence(earlier)
    }

    /// Asks the policies in order until one gives a verdict, without waiting for plugins.
    pub fn decide(&self, facts: &Arc<Facts>) -> Decided {
        self.begin(facts).decide_now()
    }
}

/// Hash of a set of policies, by names and texts in the order of the names: 16 hexadecimal digits.
pub fn hash_of<'s>(texts: impl Iterator<Item = (&'s str, &'s str)>) -> Arc<str> {
    let mut hasher = blake3::Hasher::new();
    for part in texts.flat_map(|(name, text)| [name, text]) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().chars().take(16).collect::<String>().into()
}

impl Chain {
    fn has(&self, hook: Hook) -> bool {
        self.hooks[hook as usize]
    }
}

impl Marks {
    /// Those of all these providers.
    pub fn of<'t>(all: impl Iterator<Item = &'t Traits>) -> Self {
        let mut marks = Self::default();
        for traits in all {
            marks.tags.extend(traits.tags.iter().map(ToString::to_string));
            for (key, value) in &traits.labels {
                marks.labels.entry(key.to_string()).or_default().insert(value.to_string());
            }
        }
        marks
    }
}

impl Names {
    /// Whether `name` is an alias, or a model at a configured provider.
    pub fn knows(&self, name: &str) -> bool {
        if self.aliases.contains(name) {
            return true;
        }
        match name.split_once('/') {
            Some((provider, model)) => !model.is_empty() && self.providers.contains(provider),
            None => false,
        }
    }

    /// Why `name` is not known, and what is.
    pub fn unknown(&self, name: &str) -> String {
        let list = |names: &BTreeSet<String>| {
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.iter().cloned().collect::<Vec<_>>().join(", ")
            }
        };
        let (aliases, providers) = (list(&self.aliases), list(&self.providers));
        let all = self.aliases.iter().chain(&self.providers).map(String::as_str);
        let problem = match name.split_once('/') {
            Some((provider, model)) if !model.is_empty() => {
                let meant = suggest::closest(provider, self.providers.iter().map(String::as_str));
                let hint =
                    meant.map(|meant| format!(" (did you mean `{meant}/{model}`?)")).unwrap_or_default();
                format!("unknown target `{name}`: there is no provider `{provider}`{hint}")
            }
            _ => format!("unknown alias `{name}`{}", suggest::hint(name, all)),
        };
        format!("{problem}; aliases under `models:`: {aliases}; providers: {providers}")
    }
}

//! Rhai policies: compiled at load, run in file-name order, facts in, decision out.
//!
//! Evaluation is inline on the calling thread, holds no lock and never reaches out: everything that a policy sees
//! was gathered before, so that a decision can be recorded and replayed.

mod call;
mod candidate;
mod compile;
mod engine;
mod error;
mod journal;
mod language;
mod library;
mod lint;
mod moment;
mod parameters;
mod patterns;
mod ranking;
mod request;
mod settings;
mod suggest;
mod tables;
mod verdict;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::facts::{Facts, Reads};
use crate::fault::{Fault, FaultKind};
use crate::plan::{Decision, Rule, Verdict};
use compile::{Opinion, Policy, World};
pub use error::{PolicyError, RuntimeError};
use library::Library;
use request::Request;
pub use settings::{OnError, PolicySettings};
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
}

/// The policies of one snapshot.
#[derive(Default)]
pub struct PolicySet {
    policies: Vec<Policy>,
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
        let world = World {
            settings,
            data: tables::Table::new(data),
            names: Arc::new(names.clone()),
            patterns: Arc::default(),
            tiers: Arc::new(ranking::Tiers::of(data)),
        };
        let mut sources: Vec<&Source> = sources.iter().collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        let mut errors = Vec::new();
        let library = Library::load(&sources, &world, &mut errors);
        let policies = sources
            .iter()
            .filter(|source| !source.name.starts_with(library::PREFIX))
            .filter_map(|source| compile::policy(source, &world, &library, &mut errors))
            .collect();
        if errors.is_empty() { Ok(Self { policies }) } else { Err(errors) }
    }

    /// Names of the policies in the order in which they are asked.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(|policy| &*policy.host.journal.policy)
    }

    /// Whether there are no policies.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Asks the policies in order until one gives a verdict.
    pub fn decide(&self, facts: &Arc<Facts>) -> Decided {
        let mut errors = Vec::new();
        if self.policies.is_empty() {
            return Decided { decision: Ok(Decision::default()), errors, reads: Reads::default() };
        }
        let request = Request::new(Arc::clone(facts));
        let mut verdict = None;
        for policy in &self.policies {
            match policy.ask(&request) {
                Ok(Opinion::None) => continue,
                Ok(opinion) => {
                    verdict = Some((policy, opinion));
                    break;
                }
                Err(error) => {
                    policy.host.journal.failed(&error, &facts.request_id);
                    errors.push(error);
                    if policy.on_error == OnError::Deny {
                        let fault = Fault::new(FaultKind::Policy, "a policy failed on this request");
                        return Decided { decision: Err(fault), errors, reads: request.reads() };
                    }
                }
            }
        }
        Decided { decision: Ok(decision(&request, verdict)), errors, reads: request.reads() }
    }
}

fn decision(request: &Request, verdict: Option<(&Policy, Opinion)>) -> Decision {
    let mut decision = Decision::default();
    if let Some((policy, opinion)) = verdict {
        let (verdict, name, tags) = match opinion {
            Opinion::None => (None, None, Vec::new()),
            Opinion::Route(route) => {
                let name = route.plan.name.clone();
                (Some(Verdict::Route(route.plan)), name, route.tags)
            }
            Opinion::Reject(it) => (Some(Verdict::Reject(it.reject)), it.name, it.tags),
        };
        request.add_tags(tags);
        decision.verdict = verdict;
        decision.rule = Some(Rule { policy: Arc::clone(&policy.host.journal.policy), name });
    }
    let wishes = request.take_wishes();
    decision.tags = wishes.tags;
    decision.require = wishes.require;
    decision.avoid = wishes.avoid;
    decision.rankings = wishes.rankings;
    decision
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
    fn unknown(&self, name: &str) -> String {
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

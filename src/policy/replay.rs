//! A recorded decision, asked of a set of policies again.

use std::sync::Arc;

use super::{Answered, PolicySet};
use crate::facts::market::Market;
use crate::facts::{Noted, Past};
use crate::plan::{Decision, Dossier, Failure, PluginAnswer};

/// What a set of policies says of a recorded request.
#[derive(Debug)]
pub struct Replayed {
    /// Its decision; `None` where a policy failed that must not be skipped.
    pub decision: Option<Decision>,
    /// Policies that failed.
    pub failures: Vec<Failure>,
    /// What the policies asked that nobody wrote down: then the decision is worth nothing.
    pub missed: Vec<String>,
}

/// How far a decision is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// It is the same.
    None,
    /// Another rule decided the same.
    Rule,
    /// Something else is done: another route, a refusal, other constraints, tags or limits.
    Act,
}

/// Asks `policies` about a recorded request; `None` where the request never got as far as the policies. `today` has the
/// targets and prices of the configuration; with `fresh_prices` its prices count, otherwise those of the record.
pub fn replay(
    policies: &PolicySet,
    dossier: &Dossier,
    today: &Arc<dyn Market>,
    fresh_prices: bool,
) -> Option<Replayed> {
    let (record, seen) = (dossier.record.facts.clone()?, dossier.seen.as_deref()?.clone());
    let id = dossier.record.request_id.clone();
    let past = seen.visited.clone();
    let (mut facts, notes) = Noted::facts(id, dossier.at_ms, record, seen, dossier.reads.clone());
    facts.market = Arc::new(Past::new(past, today.clone(), notes.clone(), fresh_prices));
    let known = dossier.plugins.iter().filter_map(|answer| {
        let value = serde_json::to_value(answer).ok()?;
        serde_json::from_value::<Answered>(value).ok()
    });
    let decided = policies.begin_with(&Arc::new(facts), known.collect()).decide_now();
    Some(Replayed {
        decision: decided.decision.ok(),
        failures: decided.errors.iter().map(Into::into).collect(),
        missed: notes.missed(),
    })
}

/// Compares two decisions by what they would do. What dice decide later does not count, nor the line on which a rule
/// stands.
pub fn difference(old: Option<&Decision>, new: Option<&Decision>) -> Difference {
    let (old, new) = match (old, new) {
        (None, None) => return Difference::None,
        (Some(old), Some(new)) => (old, new),
        _ => return Difference::Act,
    };
    if nameless(old) != nameless(new) {
        return Difference::Act;
    }
    let name =
        |decision: &Decision| decision.rule.as_ref().map(|rule| (rule.policy.clone(), rule.name.clone()));
    if name(old) == name(new) { Difference::None } else { Difference::Rule }
}

/// The decision without the names of its rule, and without the scores that led to it.
fn nameless(decision: &Decision) -> Decision {
    let mut decision = Decision { rule: None, rankings: Vec::new(), ..decision.clone() };
    if let Some(crate::plan::Verdict::Route(route)) = &mut decision.verdict {
        route.name = None;
    }
    decision
}

impl From<&Answered> for PluginAnswer {
    fn from(answered: &Answered) -> Self {
        Self {
            plugin: answered.plugin.clone(),
            question: serde_json::to_value(&answered.question).unwrap_or_default(),
            reply: serde_json::to_value(&answered.reply).unwrap_or_default(),
            micros: answered.micros,
        }
    }
}

impl From<&super::RuntimeError> for Failure {
    fn from(error: &super::RuntimeError) -> Self {
        Self {
            policy: error.policy.clone(),
            at: format!("{}:{}:{}", error.file.display(), error.line, error.column).into(),
            message: error.message.as_str().into(),
        }
    }
}

//! Decision and catalogue become ordered attempts: the only place where names turn into targets.

mod catalogue;
mod draw;
mod judges;
mod settings;
mod split;

use std::sync::Arc;
use std::time::Duration;

pub use catalogue::{Alias, AliasTarget, Catalogue, Entry, Known};
use draw::draw;
pub use judges::MODERATION;
pub use settings::{InOrder, ModelSettings, ModelVersionSettings, Models, TargetSettings, WeightedTarget};
pub use split::{Split, SplitVersion};

use crate::caller::Caller;
use crate::clock::Dice;
use crate::fault::{Fault, FaultKind};
use crate::plan::{Candidate, Constraint, Decision, Route, Step, Verdict};
use crate::providers::{Target, respond};
use crate::target::{TargetName, Traits};

/// The deepest chain of aliases that name aliases. The configuration check refuses cycles; this is the second lock.
const MAX_ALIAS_DEPTH: usize = 8;

/// The most targets that one plan holds; a policy that names more loses the rest.
const MAX_TARGETS: usize = 32;

/// Why a target is left out that the caller's key is not for.
const BEYOND_KEY: &str = "is beyond what the key allows";

/// Ordered targets for one request, none of them twice, each satisfying every constraint.
#[derive(Debug, Clone)]
pub struct Plan {
    /// First choice first; never empty.
    pub targets: Vec<Target>,
    /// Tries at the same target beyond the first; `None` means the configuration's.
    pub retries: Option<u32>,
    /// Deadline of the whole request; `None` means the configuration's.
    pub timeout: Option<Duration>,
    /// Deadline to the first content; `None` means the target's own.
    pub first_token: Option<Duration>,
    /// Everything that was considered, for the decision record.
    pub candidates: Vec<Candidate>,
    /// The version of a model (`alias@version`) by which a target came into the plan, where it came by one.
    pub versions: Vec<(TargetName, Arc<str>)>,
}

impl Plan {
    /// A plan of one target, which is tried once.
    fn of(target: Target) -> Self {
        let candidate = Candidate { target: target.name.clone(), rank: Some(0), rejected: None };
        Self {
            targets: vec![target],
            retries: Some(0),
            timeout: None,
            first_token: None,
            candidates: vec![candidate],
            versions: Vec::new(),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone)]
pub struct Unplanned {
    /// For the client.
    pub fault: Fault,
    /// Everything that was considered, and why it was rejected.
    pub candidates: Vec<Candidate>,
}

/// Plans a request of `caller` for `model` under `decision`.
///
/// # Errors
/// `NotFound` for a model that nobody knows, `NoTarget` when constraints leave nothing over, `Policy` when a policy
/// names only targets that do not exist, `Rejected` when it refuses.
pub fn plan(
    catalogue: &Catalogue,
    model: &Arc<str>,
    decision: &Decision,
    caller: &Caller,
    dice: &Dice,
) -> Result<Plan, Box<Unplanned>> {
    let default;
    let route = match &decision.verdict {
        Some(Verdict::Reject(reject)) => {
            return Err(Box::new(Unplanned { fault: reject.fault(), candidates: Vec::new() }));
        }
        Some(Verdict::Respond(text)) => return Ok(Plan::of(respond(text))),
        Some(Verdict::Route(route)) => route,
        None => {
            default = Route { steps: vec![Step { choices: vec![(model.clone(), 1.0)] }], ..Route::default() };
            &default
        }
    };

    let mut draft = Draft {
        catalogue,
        decision,
        caller,
        dice,
        targets: Vec::new(),
        candidates: Vec::new(),
        versions: Vec::new(),
        known: 0,
        nothing_named: route.steps.is_empty(),
    };
    for step in &route.steps {
        if let Some(name) = draw(&step.choices, dice) {
            draft.add(name, 0, false);
        }
    }

    if draft.targets.is_empty() {
        let fault = draft.nothing_left(model, decision.verdict.is_none());
        return Err(Box::new(Unplanned { fault, candidates: draft.candidates }));
    }
    Ok(Plan {
        targets: draft.targets,
        retries: route.retries,
        timeout: route.timeout,
        first_token: route.first_token,
        candidates: draft.candidates,
        versions: draft.versions,
    })
}

struct Draft<'a> {
    catalogue: &'a Catalogue,
    decision: &'a Decision,
    caller: &'a Caller,
    dice: &'a Dice,
    targets: Vec<Target>,
    candidates: Vec<Candidate>,
    versions: Vec<(TargetName, Arc<str>)>,
    /// How many of the names led to something that exists.
    known: usize,
    /// A policy found no target fit and named none.
    nothing_named: bool,
}

impl Draft<'_> {
    /// `granted` says that the key allows all targets behind the name.
    fn add(&mut self, name: &Arc<str>, depth: usize, granted: bool) {
        let scope = self.caller.grant.as_ref().map(|grant| &grant.scope);
        let granted = granted || scope.is_some_and(|scope| scope.models.is_some() && scope.allows_name(name));
        match self.catalogue.find(name) {
            Some(Known::Target(target)) => self.consider(target, granted),
            Some(Known::Alias(alias)) if depth < MAX_ALIAS_DEPTH => self.expand(alias, depth, granted),
            Some(Known::Split(split)) if depth < MAX_ALIAS_DEPTH => {
                if let Some(alias) = split.version_for(self.caller, self.dice) {
                    self.expand(alias, depth, granted);
                }
            }
            Some(Known::Alias(_) | Known::Split(_)) | None => {
                self.note(TargetName::parse(name), name, "unknown target")
            }
        }
    }

    /// The drawn target first, the others in the order written, then the fallbacks.
    fn expand(&mut self, alias: &Alias, depth: usize, granted: bool) {
        self.known += 1;
        let first = alias.draw_first(self.dice);
        let others = alias.targets.iter().enumerate().filter(|(place, _)| Some(*place) != first);
        let first = first.and_then(|first| alias.targets.get(first));
        for AliasTarget { target, .. } in first.into_iter().chain(others.map(|(_, other)| other)) {
            if let Some(version) = &alias.version
                && !self.candidates.iter().any(|seen| seen.target == target.name)
            {
                self.versions.push((target.name.clone(), version.clone()));
            }
            self.consider(target.clone(), granted);
        }
        for name in &alias.fallback {
            self.add(name, depth + 1, granted);
        }
    }

    fn consider(&mut self, target: Target, granted: bool) {
        self.known += 1;
        if self.candidates.iter().any(|seen| seen.target == target.name) {
            return;
        }
        if self.targets.len() >= MAX_TARGETS {
            return self.note(Some(target.name), "", "plan is full");
        }
        let scope = self.caller.grant.as_ref().map(|grant| &grant.scope);
        if scope.is_some_and(|scope| !scope.allows_target(&target.name, granted)) {
            return self.note(Some(target.name), "", BEYOND_KEY);
        }
        if let Some(reason) = excluded(&target, self.decision) {
            return self.note(Some(target.name), "", reason);
        }
        let rank = Some(self.targets.len());
        self.candidates.push(Candidate { target: target.name.clone(), rank, rejected: None });
        self.targets.push(target);
    }

    fn note(&mut self, target: Option<TargetName>, text: &str, reason: &'static str) {
        let target = target.unwrap_or_else(|| TargetName { provider: "?".into(), model: text.into() });
        self.candidates.push(Candidate { target, rank: None, rejected: Some(reason.into()) });
    }

    fn nothing_left(&self, model: &str, by_default: bool) -> Fault {
        if self.candidates.iter().any(|seen| seen.rejected.as_deref() == Some(BEYOND_KEY)) {
            let text = "no target that this key is for satisfies the constraints that apply to this request";
            return Fault::new(FaultKind::Forbidden, text).code("key_scope").at("model");
        }
        if self.known > 0 || self.nothing_named {
            return Fault::new(
                FaultKind::NoTarget,
                "no target satisfies the constraints that apply to this request",
            );
        }
        if by_default || self.candidates.iter().all(|seen| names(&seen.target, model)) {
            return unknown_model(model);
        }
        Fault::new(FaultKind::Policy, "a policy chose a target that does not exist")
            .code("policy_target_unknown")
    }
}

fn names(target: &TargetName, model: &str) -> bool {
    target.to_string() == model || *target.model == *model
}

/// Whether a caller may ask for a model by this name: it, or one of the targets behind it, is within what its key is for.
/// Of a name that leads nowhere, the key's patterns alone decide, so that nobody learns which names exist.
pub fn is_allowed(catalogue: &Catalogue, caller: &Caller, name: &str) -> bool {
    let Some(scope) = caller.grant.as_ref().map(|grant| &grant.scope) else { return true };
    if scope.models.is_none() && scope.providers.is_none() {
        return true;
    }
    let by_name = scope.allows_name(name);
    let any = |alias: &Alias| alias.targets.iter().any(|one| scope.allows_target(&one.target.name, by_name));
    match catalogue.find(name) {
        Some(Known::Target(target)) => scope.allows_target(&target.name, false),
        Some(Known::Alias(alias)) => any(alias),
        Some(Known::Split(split)) => split.versions.iter().any(|version| any(&version.alias)),
        None => by_name,
    }
}

/// The 404 for a model that nobody knows.
pub fn unknown_model(model: &str) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        format!(
            "the model `{}` does not exist here: use an alias or `provider/model`; GET /v1/models lists them",
            shown(model)
        ),
    )
    .code("model_not_found")
    .at("model")
}

/// A client's model name as an error may repeat it: visible ASCII only, at most 64 characters.
fn shown(model: &str) -> String {
    model.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

fn excluded(target: &Target, decision: &Decision) -> Option<&'static str> {
    let meets = |constraint: &Constraint| meets(&target.name, &target.vendor.traits, constraint);
    if !decision.require.iter().all(meets) {
        return Some("does not meet a required constraint");
    }
    decision.avoid.iter().any(meets).then_some("has what a policy avoids")
}

/// Whether a constraint applies to a target.
pub fn meets(name: &TargetName, traits: &Traits, constraint: &Constraint) -> bool {
    match constraint {
        Constraint::Tag(tag) => traits.tags.contains(tag),
        Constraint::Label(key, value) => traits.labels.get(key) == Some(value),
        Constraint::Name(wanted) => name.provider == *wanted || name.to_string() == **wanted,
    }
}

#[cfg(test)]
mod tests;

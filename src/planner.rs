//! Decision and catalogue become ordered attempts: the only place where names turn into targets.

mod catalogue;
mod draft;
mod draw;
mod judges;
mod manner;
mod settings;
mod split;
mod strategy;

use std::sync::Arc;
use std::time::Duration;

pub use catalogue::{Alias, AliasTarget, Catalogue, Entry, Known};
use draft::{Draft, Drawn};
pub use judges::MODERATION;
pub use manner::{HedgeSettings, TogetherSettings, manner};
pub use settings::{InOrder, ModelSettings, ModelVersionSettings, Models, TargetSettings, WeightedTarget};
pub use split::{Split, SplitVersion};
use strategy::Scene;
pub use strategy::{Strategy, StrategySettings, StrategyWord, TierWord};

use crate::caller::{Caller, Priority, Scope};
use crate::clock::Dice;
use crate::facts::Facts;
use crate::facts::measure::TIERS;
use crate::fault::{Fault, FaultKind};
use crate::headers;
use crate::plan::{Candidate, Constraint, Decision, Manner, Route, Step, Verdict};
use crate::providers::{Target, respond};
use crate::target::{TargetName, Traits};

/// Ordered targets for one request, none of them twice, each satisfying every constraint.
#[derive(Debug, Clone)]
pub struct Plan {
    /// First choice first; never empty.
    pub targets: Vec<Target>,
    /// Tries at the same target beyond the first; `None` means the configuration's.
    pub retries: Option<u32>,
    /// Its place among those who wait; `None` means the caller's.
    pub priority: Option<Priority>,
    /// Deadline of the whole request; `None` means the configuration's.
    pub timeout: Option<Duration>,
    /// Deadline to the first content; `None` means the target's own.
    pub first_token: Option<Duration>,
    /// How the attempts are made, where not simply one after the other.
    pub manner: Option<Box<Manner>>,
    /// Who judges the answers of several.
    pub judge: Option<Target>,
    /// Those that can go on with an answer that another one began, in the order of the plan.
    pub sequels: Vec<Target>,
    /// Everything that was considered, for the decision record.
    pub candidates: Vec<Candidate>,
    /// The version of a model (`alias@version`) by which a target came into the plan, where it came by one.
    pub versions: Vec<(TargetName, Arc<str>)>,
}

impl Plan {
    /// A plan of one target, which is tried once.
    fn of(target: Target) -> Self {
        let candidate = Candidate { rank: Some(0), ..Candidate::of(target.name.clone()) };
        Self {
            targets: vec![target],
            retries: Some(0),
            priority: None,
            timeout: None,
            first_token: None,
            manner: None,
            judge: None,
            sequels: Vec::new(),
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

/// Plans a request under a decision.
///
/// # Errors
/// `NotFound` for a model that nobody knows, `NoTarget` when constraints leave nothing over, `ContextTooLong` or
/// `BadRequest` when no target can serve such a request, `Policy` when a policy names only targets that do not exist,
/// `Rejected` when it refuses.
pub fn plan(
    catalogue: &Catalogue,
    facts: &Facts,
    decision: &Decision,
    dice: &Dice,
) -> Result<Plan, Box<Unplanned>> {
    let refused = |fault| Box::new(Unplanned { fault, candidates: Vec::new() });
    let default;
    let route = match &decision.verdict {
        Some(Verdict::Reject(reject)) => return Err(refused(reject.fault())),
        Some(Verdict::Respond(text)) => return Ok(Plan::of(respond(text))),
        Some(Verdict::Route(route)) => route,
        None => {
            default =
                Route { steps: vec![Step { choices: vec![(facts.model.clone(), 1.0)] }], ..Route::default() };
            &default
        }
    };
    let tier = tier_asked(facts).map_err(refused)?;
    let scene = Scene { facts, dice, tier };
    let drawn = Draft::new(catalogue, decision, scene, route).draw(route);
    let Drawn { targets, candidates, versions, manner, judge, sequels } = drawn?;
    Ok(Plan {
        targets,
        manner: (!manner.is_plain()).then(|| Box::new(manner)),
        judge,
        sequels,
        retries: route.retries,
        priority: route.priority,
        timeout: route.timeout,
        first_token: route.first_token,
        candidates,
        versions,
    })
}

/// `x-tollgate-tier: cheap`.
fn tier_asked(facts: &Facts) -> Result<Option<&'static str>, Fault> {
    let name = &headers::TIER;
    let Some(value) = facts.headers.get(name) else { return Ok(None) };
    let known = TIERS.into_iter().find(|tier| value.as_bytes().eq_ignore_ascii_case(tier.as_bytes()));
    match known {
        Some(tier) => Ok(Some(tier)),
        None => Err(Fault::bad_request(
            format!("write {name} as {}", TIERS.map(|tier| format!("`{tier}`")).join(", ")),
            name.as_str(),
        )),
    }
}

/// Whether a caller may ask for a model by this name: it, or one of the targets behind it, is within what its key is for.
/// Of a name that leads nowhere, the key's patterns alone decide, so that nobody learns which names exist.
pub fn is_allowed(catalogue: &Catalogue, caller: &Caller, name: &str) -> bool {
    let Some(scope) = caller.grant.as_ref().map(|grant| &grant.scope) else { return true };
    if scope.models.is_none() && scope.providers.is_none() {
        return true;
    }
    match catalogue.find(name) {
        None => scope.allows_name(name),
        Some(_) => leads_within(catalogue, scope, (name, false), &mut Vec::new()),
    }
}

/// Whether a target behind this name is within the scope, be it behind a fallback; with whether the key is for a name before
/// it, and so for all behind that. Nobody is asked twice: fallbacks may go round in circles.
fn leads_within<'c>(
    catalogue: &'c Catalogue,
    scope: &Scope,
    (name, granted): (&'c str, bool),
    seen: &mut Vec<(&'c str, bool)>,
) -> bool {
    let granted = granted || scope.allows_name(name);
    if seen.contains(&(name, granted)) {
        return false;
    }
    seen.push((name, granted));
    let mut any = |alias: &'c Alias| {
        let mut targets = alias.targets.iter();
        targets.any(|one| scope.allows_target(&one.target.name, granted))
            || alias.fallback.iter().any(|name| leads_within(catalogue, scope, (&**name, granted), seen))
    };
    match catalogue.find(name) {
        Some(Known::Target(target)) => scope.allows_target(&target.name, granted),
        Some(Known::Alias(alias)) => any(alias),
        Some(Known::Split(split)) => split.versions.iter().any(|version| any(&version.alias)),
        None => false,
    }
}

/// The 404 for a model that nobody knows.
pub fn unknown_model(model: &str) -> Fault {
    let model = shown(model);
    let way = if model.contains('/') {
        "use an alias or `provider/model`".to_owned()
    } else {
        format!("use an alias, or name its provider, too (`provider/{model}`)")
    };
    let message = format!("the model `{model}` does not exist here: {way}; GET /v1/models lists them");
    Fault::new(FaultKind::NotFound, message).code("model_not_found").at("model")
}

/// A client's model name as an error may repeat it: visible ASCII only, at most 64 characters.
fn shown(model: &str) -> String {
    model.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
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

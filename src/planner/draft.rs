//! A plan in the making: names become targets, each is judged, and the reasons are kept.

use std::borrow::Cow;
use std::sync::Arc;

use super::catalogue::{Alias, AliasTarget, Catalogue, Known};
use super::draw::draw;
use super::strategy::{Runner, Scene, Strategy, health};
use super::{Unplanned, meets, unknown_model};
use crate::facts::Endpoint;
use crate::facts::fit::{Unfit, unfit};
use crate::fault::{Fault, FaultKind};
use crate::plan::{Candidate, Constraint, Decision, Route};
use crate::providers::Target;
use crate::target::TargetName;

/// The deepest chain of aliases that name aliases. The configuration check refuses cycles; this is the second lock.
const MAX_ALIAS_DEPTH: usize = 8;

/// The most targets that one plan holds; a policy that names more loses the rest.
const MAX_TARGETS: usize = 32;

/// An error names so many targets with what they lack.
const MAX_NAMED: usize = 8;

/// The plan's targets, all that was considered, and the versions by which targets came into it.
pub(super) type Drawn = (Vec<Target>, Vec<Candidate>, Vec<(TargetName, Arc<str>)>);

pub(super) struct Draft<'a> {
    catalogue: &'a Catalogue,
    decision: &'a Decision,
    scene: Scene<'a>,
    targets: Vec<Target>,
    candidates: Vec<Candidate>,
    versions: Vec<(TargetName, Arc<str>)>,
    /// Targets that probably cannot serve the request, for want of any that can.
    doubtful: Vec<Target>,
    /// Why targets cannot.
    unfit: Vec<(TargetName, Unfit)>,
    /// Whether targets are judged by what they can.
    judges: bool,
    /// How many of the names led to something that exists.
    known: usize,
    /// A policy found no target fit and named none.
    nothing_named: bool,
}

/// What is to become of a target.
enum Judgement {
    Taken,
    Doubtful(Unfit),
    Out(Cow<'static, str>),
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        catalogue: &'a Catalogue,
        decision: &'a Decision,
        scene: Scene<'a>,
        route: &Route,
    ) -> Self {
        // Of other operations the book does not know what windows and abilities mean.
        let judged = matches!(scene.facts.endpoint, Endpoint::Chat | Endpoint::Completions);
        Self {
            catalogue,
            decision,
            scene,
            targets: Vec::new(),
            candidates: Vec::new(),
            versions: Vec::new(),
            doubtful: Vec::new(),
            unfit: Vec::new(),
            judges: judged && !route.pinned,
            known: 0,
            nothing_named: route.steps.is_empty(),
        }
    }

    /// The targets of a route.
    pub(super) fn draw(mut self, route: &Route) -> Result<Drawn, Box<Unplanned>> {
        if route.strategy.is_empty() {
            for step in &route.steps {
                if let Some(name) = draw(&step.choices, self.scene.dice) {
                    self.add(name, 0);
                }
            }
        } else {
            self.arranged(route);
        }
        if self.targets.is_empty() {
            self.relent();
        }
        if self.targets.is_empty() {
            let fault = self.nothing_left(self.decision.verdict.is_none());
            return Err(Box::new(Unplanned { fault, candidates: self.candidates }));
        }
        Ok((self.targets, self.candidates, self.versions))
    }

    /// All that the steps name, in the order of the route's own strategy; then what the aliases among them fall back to.
    fn arranged(&mut self, route: &Route) {
        let (mut all, mut behind): (Vec<AliasTarget>, Vec<Arc<str>>) = (Vec::new(), Vec::new());
        for (name, weight) in route.steps.iter().flat_map(|step| &step.choices) {
            let alias = match self.catalogue.find(name) {
                Some(Known::Target(target)) => {
                    all.push(AliasTarget::new(target, Some(*weight)));
                    continue;
                }
                Some(Known::Alias(alias)) => Some(alias),
                Some(Known::Split(split)) => split.version_for(&self.scene.facts.caller, self.scene.dice),
                None => None,
            };
            let Some(alias) = alias else {
                self.note(TargetName::parse(name), name, "unknown target");
                continue;
            };
            self.note_version(alias);
            let weighed = |target: &AliasTarget| AliasTarget {
                weight: Some(target.weight.unwrap_or(1.0) * weight),
                ..target.clone()
            };
            all.extend(alias.targets.iter().map(weighed));
            behind.extend(alias.fallback.iter().cloned());
        }
        self.run(&self.catalogue.strategy_of(&route.strategy), &all);
        behind.iter().for_each(|name| self.add(name, 1));
    }

    fn add(&mut self, name: &Arc<str>, depth: usize) {
        match self.catalogue.find(name) {
            Some(Known::Target(target)) => self.consider(target),
            Some(Known::Alias(alias)) if depth < MAX_ALIAS_DEPTH => self.expand(alias, depth),
            Some(Known::Split(split)) if depth < MAX_ALIAS_DEPTH => {
                if let Some(alias) = split.version_for(&self.scene.facts.caller, self.scene.dice) {
                    self.expand(alias, depth);
                }
            }
            Some(Known::Alias(_) | Known::Split(_)) | None => {
                self.note(TargetName::parse(name), name, "unknown target");
            }
        }
    }

    /// The targets in the order of the alias's strategy, then the fallbacks.
    fn expand(&mut self, alias: &Alias, depth: usize) {
        self.known += 1;
        self.note_version(alias);
        match (&alias.strategy, self.scene.tier) {
            (Some(strategy), _) => self.run(strategy, &alias.targets),
            (None, Some(_)) if alias.targets.len() > 1 => self.run(&Strategy::by_tier(), &alias.targets),
            (None, _) => self.in_order(alias),
        }
        for name in &alias.fallback {
            self.add(name, depth + 1);
        }
    }

    /// The drawn target first, the others in the order written.
    fn in_order(&mut self, alias: &Alias) {
        let market = &self.scene.facts.market;
        let first = alias.draw_first(self.scene.dice, |target| {
            market.offer(&target.name.to_string()).map_or(1.0, |offer| health(&offer.live))
        });
        let others = alias.targets.iter().enumerate().filter(|(place, _)| Some(*place) != first);
        let first = first.and_then(|first| alias.targets.get(first));
        for AliasTarget { target, .. } in first.into_iter().chain(others.map(|(_, other)| other)) {
            self.consider(target.clone());
        }
    }

    /// Those that can serve the request, as a strategy puts them in order. What cannot takes no turn and no share.
    fn run(&mut self, strategy: &Strategy, targets: &[AliasTarget]) {
        let mut able = Vec::with_capacity(targets.len());
        for written in targets {
            let twice = |runner: &Runner| runner.target.name == written.target.name;
            if self.is_known(&written.target.name) || able.iter().any(twice) {
                continue;
            }
            match self.judge(&written.target) {
                Judgement::Taken => able.push(Runner::of(written, self.scene.facts)),
                _ => self.consider(written.target.clone()),
            }
        }
        let arranged = strategy.arrange(self.scene, able);
        for (target, reason) in arranged.left_out {
            self.known += 1;
            self.note_as(Some(target.name), "", reason.into());
        }
        for runner in arranged.order {
            let before = self.candidates.len();
            self.consider(runner.target);
            if let (Some(candidate), Some((by, score))) = (self.candidates.get_mut(before), runner.ranked) {
                (candidate.by, candidate.score) = (Some(by), score.filter(|score| score.is_finite()));
            }
        }
    }

    fn consider(&mut self, target: Target) {
        self.known += 1;
        if self.is_known(&target.name) {
            return;
        }
        if self.targets.len() >= MAX_TARGETS {
            return self.note(Some(target.name), "", "plan is full");
        }
        match self.judge(&target) {
            Judgement::Taken => {
                let rank = Some(self.targets.len());
                self.candidates.push(Candidate { rank, ..Candidate::of(target.name.clone()) });
                self.targets.push(target);
            }
            Judgement::Doubtful(unfit) => {
                self.unfit.push((target.name.clone(), unfit));
                self.note(Some(target.name.clone()), "", unfit.reason());
                self.doubtful.push(target);
            }
            Judgement::Out(reason) => self.note_as(Some(target.name), "", reason),
        }
    }

    fn is_known(&self, name: &TargetName) -> bool {
        self.candidates.iter().any(|seen| seen.target == *name)
    }

    fn judge(&mut self, target: &Target) -> Judgement {
        if let Some(reason) = excluded(target, self.decision) {
            return Judgement::Out(reason.into());
        }
        if !self.judges {
            return Judgement::Taken;
        }
        let facts = self.scene.facts;
        let listing = facts.market.listing(&target.name);
        match listing.and_then(|listing| unfit(&*facts.body, &listing)) {
            None => Judgement::Taken,
            Some(unfit) if unfit.is_certain() => {
                if !self.unfit.iter().any(|(name, _)| *name == target.name) {
                    self.unfit.push((target.name.clone(), unfit));
                }
                Judgement::Out(unfit.reason().into())
            }
            Some(unfit) => Judgement::Doubtful(unfit),
        }
    }

    /// Nothing else is left: what probably cannot serve the request gets it after all.
    fn relent(&mut self) {
        for target in std::mem::take(&mut self.doubtful) {
            let rank = self.targets.len();
            let candidate = self.candidates.iter_mut().find(|seen| seen.target == target.name);
            if let Some(candidate) = candidate {
                (candidate.rank, candidate.rejected) = (Some(rank), None);
            }
            self.targets.push(target);
        }
    }

    fn note(&mut self, target: Option<TargetName>, text: &str, reason: &'static str) {
        self.note_as(target, text, reason.into());
    }

    fn note_as(&mut self, target: Option<TargetName>, text: &str, reason: Cow<'static, str>) {
        let target = target.unwrap_or_else(|| TargetName { provider: "?".into(), model: text.into() });
        self.candidates.push(Candidate { rejected: Some(reason), ..Candidate::of(target) });
    }

    fn note_version(&mut self, alias: &Alias) {
        let Some(version) = &alias.version else { return };
        for AliasTarget { target, .. } in &alias.targets {
            if !self.is_known(&target.name) {
                self.versions.push((target.name.clone(), version.clone()));
            }
        }
    }

    fn nothing_left(&self, by_default: bool) -> Fault {
        if !self.unfit.is_empty() {
            return self.nobody_can();
        }
        if self.known > 0 || self.nothing_named {
            let left_out: Vec<_> = self.candidates.iter().filter_map(reason_of_strategy).collect();
            let text = "no target satisfies the constraints that apply to this request";
            let text = match &left_out[..] {
                [] => text.into(),
                reasons => format!("{text}: {}", listed(reasons)),
            };
            return Fault::new(FaultKind::NoTarget, text);
        }
        let model = &self.scene.facts.model;
        if by_default || self.candidates.iter().all(|seen| names(&seen.target, model)) {
            return unknown_model(model);
        }
        Fault::new(FaultKind::Policy, "a policy chose a target that does not exist")
            .code("policy_target_unknown")
    }

    /// Every target lacks something that the request needs.
    fn nobody_can(&self) -> Fault {
        let why = |(name, unfit): &(TargetName, Unfit)| match unfit {
            Unfit::TooSmall { window, wanted } => {
                format!("{name} holds {window} tokens, the request needs about {wanted}")
            }
            Unfit::Unable(need) => format!("{name} {}", need.lacking()),
        };
        let all: Vec<_> = self.unfit.iter().map(why).collect();
        let text = format!(
            "no target of `{}` can serve this request: {}",
            super::shown(&self.scene.facts.model),
            listed(&all)
        );
        let too_long = self.unfit.iter().all(|(_, unfit)| matches!(unfit, Unfit::TooSmall { .. }));
        if too_long {
            return Fault::new(FaultKind::ContextTooLong, text);
        }
        Fault::new(FaultKind::BadRequest, text).code("no_capable_target").at("model")
    }
}

/// Why a strategy left a target out; what constraints exclude is not the client's business.
fn reason_of_strategy(seen: &Candidate) -> Option<String> {
    match &seen.rejected {
        Some(Cow::Owned(reason)) => Some(format!("{} {reason}", seen.target)),
        _ => None,
    }
}

fn listed(all: &[String]) -> String {
    let mut text = all.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join("; ");
    if all.len() > MAX_NAMED {
        text.push_str(&format!("; and {} more", all.len() - MAX_NAMED));
    }
    text
}

fn names(target: &TargetName, model: &str) -> bool {
    target.to_string() == model || *target.model == *model
}

fn excluded(target: &Target, decision: &Decision) -> Option<&'static str> {
    let meets = |constraint: &Constraint| meets(&target.name, &target.vendor.traits, constraint);
    if !decision.require.iter().all(meets) {
        return Some("does not meet a required constraint");
    }
    decision.avoid.iter().any(meets).then_some("has what a policy avoids")
}

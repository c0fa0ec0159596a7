//! A plan in the making: names become targets, each is judged, and the reasons are kept.

use std::borrow::Cow;
use std::sync::Arc;

use super::catalogue::{Alias, AliasTarget, Catalogue, Known};
use super::draw::{draw, foremost};
use super::strategy::{Runner, Scene, Strategy, health};
use super::{Unplanned, meets, unknown_model};
use crate::facts::Endpoint;
use crate::facts::fit::{Unfit, unfit};
use crate::fault::{Fault, FaultKind};
use crate::plan::{Candidate, Decision, Excluded, Manner, Route};
use crate::providers::Target;
use crate::target::TargetName;

/// The deepest chain of aliases that name aliases. The configuration check refuses cycles; this is the second lock.
const MAX_ALIAS_DEPTH: usize = 8;

/// The most targets that one plan holds; a policy that names more loses the rest.
const MAX_TARGETS: usize = 32;

/// An error names so many targets with what they lack.
const MAX_NAMED: usize = 8;

/// Why a target is left out that the caller's key is not for.
const BEYOND_KEY: &str = "is beyond what the key allows";

/// What a draft came to.
pub(super) struct Drawn {
    /// First choice first.
    pub(super) targets: Vec<Target>,
    /// All that was considered.
    pub(super) candidates: Vec<Candidate>,
    /// The versions by which targets came into it.
    pub(super) versions: Vec<(TargetName, Arc<str>)>,
    /// How the attempts are made.
    pub(super) manner: Manner,
    /// Who judges the answers of several.
    pub(super) judge: Option<Target>,
    /// Those that can go on with an answer that another one began.
    pub(super) sequels: Vec<Target>,
}

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
    /// Whom a strategy left out, and why: what constraints exclude is not the client's business.
    left_out: Vec<String>,
    /// Whether targets are judged by what they can.
    judges: bool,
    /// Whether the caller's key is for a name by which the targets at hand came.
    granted: bool,
    /// How the attempts are made, as the route or the first alias says.
    manner: Manner,
    /// Whether the caller's key is for the alias that names the judge.
    judge_granted: bool,
    /// Targets that are asked together, as a route names them.
    members: Vec<TargetName>,
    /// Those that can go on with an answer that another one began.
    sequels: Vec<TargetName>,
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

/// How well a target can serve the request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    None,
    Doubtful,
    Full,
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
            left_out: Vec::new(),
            judges: judged && !route.pinned,
            granted: false,
            manner: route.manner.clone(),
            judge_granted: false,
            members: Vec::new(),
            sequels: Vec::new(),
            known: 0,
            nothing_named: route.steps.is_empty(),
        }
    }

    /// The targets of a route.
    pub(super) fn draw(mut self, route: &Route) -> Result<Drawn, Box<Unplanned>> {
        if route.strategy.is_empty() {
            let together = route.manner.together.as_ref().map_or(0, |together| together.of);
            for (place, step) in route.steps.iter().enumerate() {
                let before = self.targets.len();
                let dice = self.scene.dice;
                let name = if route.sticky.contains(&place) {
                    foremost(&step.choices, |name| self.fitness(name, 0)).map(|(name, _)| name)
                } else {
                    draw(&step.choices, |name| self.fitness(name, 0), dice)
                };
                if let Some(name) = name {
                    self.add(name, 0);
                }
                // Of a name that stands for several targets, the first one is asked with the others.
                let member = self.targets.get(before).filter(|_| place < together);
                self.members.extend(member.map(|target| target.name.clone()));
            }
            self.gather();
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
        let judge = self.judge()?;
        let Self { targets, candidates, versions, manner, sequels, .. } = self;
        let continues = |target: &&Target| sequels.contains(&target.name);
        let sequels = targets.iter().filter(continues).cloned().collect();
        Ok(Drawn { targets, candidates, versions, manner, judge, sequels })
    }

    /// Those that are asked together come first.
    fn gather(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let members = std::mem::take(&mut self.members);
        self.targets.sort_by_key(|target| !members.contains(&target.name));
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.rank.is_some()) {
            candidate.rank = self.targets.iter().position(|target| target.name == candidate.target);
        }
        if let Some(together) = &mut self.manner.together {
            together.of = members.len();
        }
    }

    /// Who judges reads the prompt, so what constrains the targets constrains the judge. Streams, and single answers, have
    /// none.
    fn judge(&self) -> Result<Option<Target>, Box<Unplanned>> {
        let together = self.manner.together.as_ref();
        let Some(name) = together.and_then(|together| together.judge.as_ref()) else { return Ok(None) };
        if self.targets.len() < 2 || self.scene.facts.body.stream() {
            return Ok(None);
        }
        let target = match self.catalogue.find(name) {
            Some(Known::Target(target)) => Some(target),
            Some(Known::Alias(alias)) => alias.targets.first().map(|first| first.target.clone()),
            Some(Known::Split(_)) | None => None,
        };
        let refused = |fault| Err(Box::new(Unplanned { fault, candidates: self.candidates.clone() }));
        let Some(target) = target else {
            return refused(Fault::new(FaultKind::Policy, "the judge of the answers does not exist"));
        };
        let grant = self.scene.facts.caller.grant.as_ref();
        let granted = self.judge_granted || self.grants(name);
        if grant.is_some_and(|grant| !grant.scope.allows_target(&target.name, granted)) {
            let text = format!("the judge of the answers {BEYOND_KEY}");
            return refused(Fault::new(FaultKind::Forbidden, text).code("key_scope").at("model"));
        }
        match excluded(&target, self.decision) {
            Some(excluded) => {
                let text = format!("the judge of the answers {}", excluded.brief());
                refused(Fault::new(FaultKind::NoTarget, text))
            }
            None => Ok(Some(target)),
        }
    }

    /// All that the steps name, in the order of the route's own strategy; then what the aliases among them fall back to.
    fn arranged(&mut self, route: &Route) {
        let (mut all, mut behind): (Vec<AliasTarget>, Vec<(Arc<str>, bool)>) = (Vec::new(), Vec::new());
        let mut written: Vec<&(Arc<str>, f64)> = Vec::new();
        for (place, step) in route.steps.iter().enumerate() {
            if route.sticky.contains(&place) {
                written.extend(foremost(&step.choices, |name| self.fitness(name, 0)));
            } else {
                written.extend(&step.choices);
            }
        }
        for (name, weight) in written {
            self.granted = self.grants(name);
            let alias = match self.catalogue.find(name) {
                Some(Known::Target(target)) if self.is_beyond(&target) => {
                    self.consider(target);
                    continue;
                }
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
            let (beyond, within): (Vec<_>, Vec<_>) =
                alias.targets.iter().map(weighed).partition(|written| self.is_beyond(&written.target));
            beyond.into_iter().for_each(|written| self.consider(written.target));
            all.extend(within);
            behind.extend(alias.fallback.iter().map(|name| (name.clone(), self.granted)));
        }
        // What is beyond the key was taken out above.
        self.granted = true;
        self.run(&self.catalogue.strategy_of(&route.strategy), &all);
        for (name, granted) in behind {
            self.granted = granted;
            self.add(&name, 1);
        }
    }

    fn add(&mut self, name: &Arc<str>, depth: usize) {
        let before = self.granted;
        self.granted = before || self.grants(name);
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
        self.granted = before;
    }

    /// Whether the caller's key is for this name, so that it is for all targets behind it.
    fn grants(&self, name: &str) -> bool {
        let grant = self.scene.facts.caller.grant.as_ref();
        grant.is_some_and(|grant| grant.scope.models.is_some() && grant.scope.allows_name(name))
    }

    fn is_beyond(&self, target: &Target) -> bool {
        let grant = self.scene.facts.caller.grant.as_ref();
        grant.is_some_and(|grant| !grant.scope.allows_target(&target.name, self.granted))
    }

    /// The targets in the order of the alias's strategy, then the fallbacks.
    fn expand(&mut self, alias: &Alias, depth: usize) {
        self.known += 1;
        self.note_version(alias);
        let continues = alias.targets.iter().filter(|written| written.continues);
        self.sequels.extend(continues.map(|written| written.target.name.clone()));
        let first = self.targets.is_empty();
        match (&alias.strategy, self.scene.tier) {
            (Some(strategy), _) => self.run(strategy, &alias.targets),
            (None, Some(_)) if alias.targets.len() > 1 => self.run(&Strategy::by_tier(), &alias.targets),
            (None, _) => self.in_order(alias),
        }
        if let Some(manner) = alias.manner.as_ref().filter(|_| first && !self.targets.is_empty()) {
            let asked = self.manner.together.is_some();
            self.manner.or(manner);
            self.judge_granted = self.granted && !asked;
            if let Some(together) = self.manner.together.as_mut().filter(|_| !asked) {
                together.of = together.of.min(self.targets.len());
            }
        }
        for name in &alias.fallback {
            self.add(name, depth + 1);
        }
    }

    /// The drawn target first, the others in the order written.
    fn in_order(&mut self, alias: &Alias) {
        let market = &self.scene.facts.market;
        let first = alias.draw_first(self.scene.dice, |target| {
            market.offer_to_order(&target.name).map_or(1.0, |offer| health(&offer.live))
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
            match self.weigh(&written.target) {
                Judgement::Taken => able.push(Runner::of(written, self.scene.facts)),
                _ => self.consider(written.target.clone()),
            }
        }
        let arranged = strategy.arrange(self.scene, able);
        for (target, reason) in arranged.left_out {
            self.known += 1;
            self.left_out.push(format!("{} {reason}", target.name));
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
        match self.weigh(&target) {
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

    fn weigh(&mut self, target: &Target) -> Judgement {
        if self.is_beyond(target) {
            return Judgement::Out(BEYOND_KEY.into());
        }
        if let Some(excluded) = excluded(target, self.decision) {
            return Judgement::Out(excluded.reason().into());
        }
        match self.unfit_for(target) {
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

    /// Whether the target must not serve the request, whatever it can.
    fn is_barred(&self, target: &Target) -> bool {
        self.is_beyond(target) || excluded(target, self.decision).is_some()
    }

    fn unfit_for(&self, target: &Target) -> Option<Unfit> {
        let facts = self.scene.facts;
        let listing = self.judges.then(|| facts.market.listing(&target.name))??;
        unfit(&*facts.body, &listing)
    }

    /// How well the best target behind the name can serve the request: a share goes to nobody who is less fit.
    fn fitness(&mut self, name: &str, depth: usize) -> Fitness {
        let before = self.granted;
        self.granted = before || self.grants(name);
        let aliases: Vec<&Alias> = match self.catalogue.find(name) {
            Some(Known::Target(target)) => {
                let fitness = self.fitness_of(&target);
                self.granted = before;
                return fitness;
            }
            Some(Known::Alias(alias)) => vec![alias],
            Some(Known::Split(split)) => split.versions.iter().map(|version| &version.alias).collect(),
            None => Vec::new(),
        };
        let targets = aliases.iter().flat_map(|alias| &alias.targets);
        let mut best = targets.map(|written| self.fitness_of(&written.target)).max().unwrap_or(Fitness::None);
        if depth < MAX_ALIAS_DEPTH {
            for fallback in aliases.iter().flat_map(|alias| &alias.fallback) {
                if best == Fitness::Full {
                    break;
                }
                best = best.max(self.fitness(fallback, depth + 1));
            }
        }
        self.granted = before;
        best
    }

    fn fitness_of(&self, target: &Target) -> Fitness {
        match self.unfit_for(target) {
            _ if self.is_barred(target) => Fitness::None,
            None => Fitness::Full,
            Some(unfit) if unfit.is_certain() => Fitness::None,
            Some(_) => Fitness::Doubtful,
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
        if self.candidates.iter().any(|seen| seen.rejected.as_deref() == Some(BEYOND_KEY)) {
            let text = "no target that this key is for satisfies the constraints that apply to this request";
            return Fault::new(FaultKind::Forbidden, text).code("key_scope").at("model");
        }
        if self.known > 0 || self.nothing_named {
            let text = "no target satisfies the constraints that apply to this request";
            let text = match &self.left_out[..] {
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
            Unfit::TooSmall { window, wanted, .. } => {
                format!("{name} holds {window} tokens, the request needs about {wanted}")
            }
            Unfit::Unable { need, .. } => format!("{name} {}", need.lacking()),
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

/// The constraint that leaves the target out, if one does.
fn excluded<'a>(target: &Target, decision: &'a Decision) -> Option<Excluded<'a>> {
    decision.excludes(|constraint| meets(&target.name, &target.vendor.traits, constraint))
}

//! Aliases: every target exists, weights and shares make sense.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::validate::did_you_mean;
use super::{CheckedModel, CheckedTarget, CheckedVersion, Desk, Hop, bad_word};
use crate::plan::Manner;
use crate::planner::{
    self, InOrder, ModelSettings, ModelVersionSettings, Models, Strategy, StrategySettings, TargetSettings,
    WeightedTarget,
};
use crate::target::TargetName;

/// How far the sum of shares may be from 100, for shares such as 33.3.
const SLACK: f64 = 0.5;

impl Desk<'_> {
    /// Checks all aliases and resolves what their names lead to.
    pub(super) fn models(&mut self) -> Vec<CheckedModel> {
        let written = self.reading.config.models.clone();
        let aliases = self.alias_names(&["models"], &written);
        let checked = self.aliases(&["models"], &written, &aliases);
        self.cycles(&[(&["models"], &written)], None);
        self.out_of_reach(&checked);
        checked
    }

    /// Targets that a request never gets to where all before them fail.
    fn out_of_reach(&mut self, checked: &[CheckedModel]) {
        let most = self.reading.config.retries.max_attempts as usize;
        for alias in checked {
            let names = alias.versions.iter().map(|version| &*version.name);
            let longest = names.chain([&*alias.name]).map(|name| line_of(checked, name).len()).max();
            let Some(over) = longest.and_then(|count| count.checked_sub(most)).filter(|over| *over > 0)
            else {
                continue;
            };
            let message = format!(
                "a request for `{}` makes at most {most} attempts: where all others fail, {over} of its targets are never asked",
                alias.name
            );
            let help = "raise `retries.max_attempts`, or name fewer targets";
            self.warning(&["models", &alias.name], message, Some(help.into()));
        }
    }

    /// The names of aliases and of their versions, also of entries that were left out.
    pub(super) fn alias_names(&self, base: &[&str], written: &Models) -> Vec<String> {
        let mut names = self.reading.keys(base);
        for (alias, model) in &written.0 {
            names.extend(model.versions.0.iter().map(|(version, _)| format!("{alias}@{version}")));
        }
        names
    }

    /// Checks the aliases written at `base`; `known` are the names that they may lead to.
    pub(super) fn aliases(&mut self, base: &[&str], written: &Models, known: &[String]) -> Vec<CheckedModel> {
        written.0.iter().map(|(name, model)| self.model(base, name, model, known)).collect()
    }

    fn model(&mut self, base: &[&str], name: &str, model: &ModelSettings, known: &[String]) -> CheckedModel {
        let here = [base, &[name]].concat();
        if let Some(complaint) = bad_word(name) {
            self.error(&here, format!("the alias {name:?} {complaint}"), None);
        }
        if let Some((provider, _)) = name.split_once('/')
            && self.reading.config.providers.contains_key(provider)
        {
            let message = format!("the alias `{name}` reads like a model of the provider `{provider}`");
            self.error(&here, message, Some("choose another name".into()));
        }
        if known.iter().filter(|other| *other == name).count() > 1 {
            let message = format!("the alias `{name}` reads like a version of another");
            self.error(&here, message, Some("choose another name".into()));
        }
        let versioned = !model.versions.0.is_empty();
        if versioned && !model.targets.is_empty() {
            let message = format!("the alias `{name}` has both `targets` and `versions`");
            let help = "move the targets into a version with a share";
            self.error(&[&here[..], &["targets"]].concat(), message, Some(help.into()));
        }
        if model.seed.is_some() && !versioned {
            let message = format!("the alias `{name}` has a `seed` and no `versions` that it could draw");
            self.warning(&[&here[..], &["seed"]].concat(), message, None);
        }
        let fallback = self.fallback(&here, &model.fallback, known);
        let general = model.strategy.as_ref();
        let versions = self.versions_of(&here, name, &model.versions, general, known);
        let targets = if versioned { Vec::new() } else { self.targets(&here, name, &model.targets, known) };
        if !versioned {
            self.strategy(&here, name, model.strategy.as_ref(), &targets);
        }
        let seed = model.seed.as_deref().unwrap_or(name).into();
        let strategy = model.strategy.clone();
        let least = model.versions.0.iter().map(|(_, version)| version.targets.len()).min();
        let manner = self.manner(&here, name, model, least.unwrap_or(targets.len()));
        CheckedModel { name: name.into(), targets, strategy, manner, fallback, versions, seed }
    }

    fn versions_of(
        &mut self,
        alias_at: &[&str],
        alias: &str,
        written: &InOrder<ModelVersionSettings>,
        general: Option<&StrategySettings>,
        known: &[String],
    ) -> Vec<CheckedVersion> {
        let base = [alias_at, &["versions"]].concat();
        let (mut checked, mut sum, mut bad) = (Vec::new(), 0.0, false);
        for (name, version) in &written.0 {
            let here = [&base[..], &[name]].concat();
            if let Some(complaint) =
                bad_word(name).or_else(|| name.contains(['@', '/']).then_some("contains `@` or `/`"))
            {
                self.error(&here, format!("the version {name:?} of `{alias}` {complaint}"), None);
            }
            if !(0.0..=100.0).contains(&version.share) {
                let message = format!("`{}` is not a share: 0 to 100 percent, please", version.share);
                self.error(&[&here[..], &["share"]].concat(), message, None);
                bad = true;
            }
            sum += version.share;
            let full = format!("{alias}@{name}");
            let targets = self.targets(&here, &full, &version.targets, known);
            let fallback = self.fallback(&here, &version.fallback, known);
            let strategy = version.strategy.clone().or_else(|| general.cloned());
            self.strategy(&here, &full, strategy.as_ref(), &targets);
            let (name, share) = (full.into(), version.share);
            checked.push(CheckedVersion { name, share, targets, strategy, fallback });
        }
        if !bad && !written.0.is_empty() && self.reading.is_sound(&base) && (sum - 100.0).abs() > SLACK {
            let message = format!("the shares of `{alias}` make {sum}, not 100");
            self.error(&base, message, None);
        }
        checked
    }

    fn fallback(&mut self, here: &[&str], written: &[String], known: &[String]) -> Vec<Hop> {
        let mut fallback = Vec::new();
        for (index, text) in written.iter().enumerate() {
            let index = index.to_string();
            let path = [here, &["fallback", &index]].concat();
            if known.contains(text) {
                fallback.push(Hop::Alias(text.as_str().into()));
            } else if let Some(target) = self.target(&path, text, known, true) {
                fallback.push(Hop::Target(target));
            }
        }
        fallback
    }

    fn targets(
        &mut self,
        here: &[&str],
        name: &str,
        all: &[TargetSettings],
        known: &[String],
    ) -> Vec<CheckedTarget> {
        let mut targets: Vec<CheckedTarget> = Vec::new();
        let (mut total, mut bad) = (0.0, false);
        for (index, written) in all.iter().enumerate() {
            let index = index.to_string();
            let entry = [here, &["targets", &index]].concat();
            let (written, path) = match written {
                TargetSettings::Plain(text) => {
                    (WeightedTarget { to: text.clone(), ..WeightedTarget::default() }, entry.clone())
                }
                TargetSettings::Weighted(written) => (written.clone(), [&entry[..], &["to"]].concat()),
            };
            let WeightedTarget { to: text, weight, priority, tier, quality, continues } = &written;
            if let Some(quality) = quality.filter(|quality| !(0.0..=1.0).contains(quality)) {
                let place = [&entry[..], &["quality"]].concat();
                self.error(&place, format!("`{quality}` is not between 0 and 1"), None);
            }
            let share = weight.unwrap_or(1.0);
            if !share.is_finite() || share < 0.0 {
                let place = [&entry[..], &["weight"]].concat();
                bad = true;
                self.error(&place, format!("`{share}` is not a weight: 0 or more, please"), None);
            } else {
                total += share;
            }
            let Some(target) = self.target(&path, text, known, false) else { continue };
            if targets.iter().any(|earlier| earlier.name == target) {
                self.warning(&path, format!("the target `{target}` stands twice in `{name}`"), None);
            }
            let (weight, priority, tier, quality) = (*weight, *priority, *tier, *quality);
            let continues = *continues;
            targets.push(CheckedTarget { name: target, weight, priority, tier, quality, continues });
        }
        if !bad && self.reading.is_sound(here) {
            let complaint = if all.is_empty() {
                Some(format!("the alias `{name}` has no targets"))
            } else if total == 0.0 {
                Some(format!("all weights of `{name}` are 0, so nothing can be drawn"))
            } else if !total.is_finite() {
                Some(format!("the weights of `{name}` are too large"))
            } else {
                None
            };
            if let Some(complaint) = complaint {
                self.error(&[here, &["targets"]].concat(), complaint, None);
            }
        }
        targets
    }

    /// Hedges, standbys and ensembles make sense, and whoever judges exists.
    fn manner(&mut self, here: &[&str], name: &str, model: &ModelSettings, targets: usize) -> Manner {
        let (hedge, standby) = (model.hedge.as_ref(), model.standby.as_deref());
        let written = planner::manner(hedge, standby, model.together.as_ref(), targets);
        let manner = written.unwrap_or_else(|(field, message)| {
            let path = [here, &[field]].concat();
            if self.reading.is_sound(&path) {
                self.error(&path, format!("`{field}` of `{name}`: {message}"), None);
            }
            Manner::default()
        });
        if let Some(judge) = manner.together.as_ref().and_then(|together| together.judge.clone()) {
            let path = [here, &["together", "judge"]].concat();
            self.target(&path, &judge, &[], false);
        }
        let late = [("hedge", manner.hedge.is_some()), ("standby", manner.standby.is_some())];
        for (field, _) in
            late.into_iter().filter(|(_, written)| *written && targets < 2 && model.fallback.is_empty())
        {
            let message = format!("`{field}` of `{name}` never has another target to ask");
            self.warning(
                &[here, &[field]].concat(),
                message,
                Some("add a second target or a fallback".into()),
            );
        }
        manner
    }

    /// A strategy says something, and names targets that are there.
    fn strategy(
        &mut self,
        here: &[&str],
        name: &str,
        written: Option<&StrategySettings>,
        targets: &[CheckedTarget],
    ) {
        let Some(written) = written else { return };
        let here = [here, &["strategy"]].concat();
        if !self.reading.is_sound(&here) {
            return;
        }
        if let Err((path, message)) = Strategy::of(written) {
            let path: Vec<&str> = here.iter().copied().chain(path.iter().map(String::as_str)).collect();
            return self.error(&path, format!("the strategy of `{name}`: {message}"), None);
        }
        for canary in Strategy::canaries(written) {
            if !targets.iter().any(|target| target.name.to_string() == canary) {
                let names = targets.iter().map(|target| target.name.to_string()).collect::<Vec<_>>();
                let help = did_you_mean(&canary, names.iter().map(String::as_str));
                let help = help.map(|near| format!("did you mean `{near}`?"));
                self.error(&here, format!("the canary `{canary}` is not a target of `{name}`"), help);
            }
        }
    }

    /// The target that `text` names, if its provider exists.
    fn target(
        &mut self,
        path: &[&str],
        text: &str,
        aliases: &[String],
        or_alias: bool,
    ) -> Option<TargetName> {
        let name = TargetName::parse(text);
        let bad = name.as_ref().and_then(|target| bad_word(&target.model));
        let Some(target) = name.filter(|_| bad.is_none()) else {
            let (message, help) = if let Some(wrong) = bad {
                (format!("`{text}`: the model's name {wrong}"), None)
            } else if aliases.iter().any(|alias| alias == text) {
                let help = "a target is `provider/model`; an alias can stand in `fallback`";
                (format!("`{text}` is an alias, not a target"), Some(help.to_owned()))
            } else if or_alias {
                let help = did_you_mean(text, aliases.iter().map(String::as_str));
                let help = help.map(|alias| format!("did you mean `{alias}`?"));
                (format!("`{text}` is neither an alias nor `provider/model`"), help)
            } else {
                (format!("`{text}` is not `provider/model`"), None)
            };
            self.error(path, message, help);
            return None;
        };
        let providers = self.reading.names("providers");
        if !providers.iter().any(|name| **name == *target.provider) {
            let known = providers.iter().map(String::as_str);
            let help = match did_you_mean(&target.provider, known.clone()) {
                Some(name) => format!("did you mean `{name}/{}`?", target.model),
                None if providers.is_empty() => "declare it under `providers`".into(),
                None => format!("known providers: {}", known.collect::<Vec<_>>().join(", ")),
            };
            self.error(path, format!("unknown provider `{}`", target.provider), Some(help));
            return None;
        }
        Some(target)
    }
}

/// All targets that a request for this alias, or a version of one, may be led to.
fn line_of(checked: &[CheckedModel], name: &str) -> HashSet<TargetName> {
    let (mut found, mut known, mut next) = (HashSet::new(), HashSet::new(), vec![Arc::<str>::from(name)]);
    while let Some(name) = next.pop() {
        if !known.insert(name.clone()) {
            continue;
        }
        let mut take = |targets: &[CheckedTarget], hops: &[Hop]| {
            found.extend(targets.iter().map(|target| target.name.clone()));
            found.extend(hops.iter().filter_map(|hop| match hop {
                Hop::Target(target) => Some(target.clone()),
                Hop::Alias(_) => None,
            }));
            next.extend(hops.iter().filter(|hop| matches!(hop, Hop::Alias(_))).map(Hop::name));
        };
        for alias in checked {
            let version = alias.versions.iter().find(|version| version.name == name);
            if let Some(version) = version {
                take(&version.targets, &version.fallback);
            }
            if version.is_some() || alias.name == name {
                take(&alias.targets, &alias.fallback);
            }
        }
    }
    found
}

impl Hop {
    /// The name of the alias or target.
    pub fn name(&self) -> Arc<str> {
        match self {
            Self::Alias(name) => name.clone(),
            Self::Target(target) => target.to_string().into(),
        }
    }
}

//! Aliases: every target exists, weights make sense, fallbacks end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::validate::did_you_mean;
use super::{CheckedModel, Desk, Hop, bad_word};
use crate::planner::{ModelSettings, TargetSettings};
use crate::target::TargetName;

impl Desk<'_> {
    /// Checks all aliases and resolves what their names lead to.
    pub(super) fn models(&mut self) -> Vec<CheckedModel> {
        let aliases = self.reading.names("models");
        let written = self.reading.config.models.0.clone();
        let checked = written.iter().map(|(name, model)| self.model(name, model, &aliases)).collect();
        self.cycles(&written);
        checked
    }

    fn model(&mut self, name: &str, model: &ModelSettings, aliases: &[String]) -> CheckedModel {
        if let Some(complaint) = bad_word(name) {
            self.error(&["models", name], format!("the alias {name:?} {complaint}"), None);
        }
        if let Some((provider, _)) = name.split_once('/')
            && self.reading.config.providers.contains_key(provider)
        {
            let message = format!("the alias `{name}` reads like a model of the provider `{provider}`");
            self.error(&["models", name], message, Some("choose another name".into()));
        }
        let targets = self.targets(name, model, aliases);
        let mut fallback = Vec::new();
        for (index, text) in model.fallback.iter().enumerate() {
            let index = index.to_string();
            let path = ["models", name, "fallback", &index];
            if aliases.contains(text) {
                fallback.push(Hop::Alias(text.as_str().into()));
            } else if let Some(target) = self.target(&path, text, aliases, true) {
                fallback.push(Hop::Target(target));
            }
        }
        CheckedModel { name: name.into(), targets, fallback }
    }

    fn targets(&mut self, name: &str, model: &ModelSettings, aliases: &[String]) -> Vec<(TargetName, f64)> {
        let mut targets: Vec<(TargetName, f64)> = Vec::new();
        let (mut total, mut bad) = (0.0, false);
        for (index, written) in model.targets.iter().enumerate() {
            let index = index.to_string();
            let (text, weight, path) = match written {
                TargetSettings::Plain(text) => (text, 1.0, vec!["models", name, "targets", &index]),
                TargetSettings::Weighted(w) => {
                    (&w.to, w.weight, vec!["models", name, "targets", &index, "to"])
                }
            };
            if !weight.is_finite() || weight < 0.0 {
                let place = ["models", name, "targets", &index, "weight"];
                bad = true;
                self.error(&place, format!("`{weight}` is not a weight: 0 or more, please"), None);
            } else {
                total += weight;
            }
            let Some(target) = self.target(&path, text, aliases, false) else { continue };
            if targets.iter().any(|(earlier, _)| *earlier == target) {
                self.warning(&path, format!("the target `{target}` stands twice in `{name}`"), None);
            }
            targets.push((target, weight));
        }
        if !bad && self.reading.is_sound(&["models", name]) {
            let complaint = if model.targets.is_empty() {
                Some(format!("the alias `{name}` has no targets"))
            } else if total == 0.0 {
                Some(format!("all weights of `{name}` are 0, so nothing can be drawn"))
            } else if !total.is_finite() {
                Some(format!("the weights of `{name}` are too large"))
            } else {
                None
            };
            if let Some(complaint) = complaint {
                self.error(&["models", name, "targets"], complaint, None);
            }
        }
        targets
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
        let Some(target) = name.filter(|target| bad_word(&target.model).is_none()) else {
            let (message, help) = if aliases.iter().any(|alias| alias == text) {
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

    /// Reports each fallback that leads back to where it came from.
    fn cycles(&mut self, models: &[(String, ModelSettings)]) {
        let mut state: BTreeMap<&str, State> = BTreeMap::new();
        let by_name: BTreeMap<&str, &ModelSettings> = models.iter().map(|(n, m)| (n.as_str(), m)).collect();
        for (name, _) in models {
            // Depth first, with the way so far on a stack of our own: (alias, next fallback to look at).
            let mut way: Vec<(&str, usize)> = Vec::new();
            if !state.contains_key(name.as_str()) {
                state.insert(name, State::OnTheWay);
                way.push((name, 0));
            }
            while let Some((alias, next)) = way.pop() {
                let Some(hop) = by_name.get(alias).and_then(|model| model.fallback.get(next)) else {
                    state.insert(alias, State::Done);
                    continue;
                };
                way.push((alias, next + 1));
                match state.get(hop.as_str()) {
                    None if by_name.contains_key(hop.as_str()) => {
                        state.insert(hop, State::OnTheWay);
                        way.push((hop, 0));
                    }
                    Some(State::OnTheWay) => {
                        let from = way.iter().position(|(on, _)| on == hop).unwrap_or_default();
                        let mut names: Vec<&str> = way.iter().skip(from).map(|(on, _)| *on).collect();
                        names.push(hop);
                        let message = format!("the fallback goes in a circle: {}", names.join(" → "));
                        self.error(&["models", alias, "fallback", &next.to_string()], message, None);
                    }
                    _ => {}
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum State {
    OnTheWay,
    Done,
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

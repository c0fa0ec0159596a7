//! The price book: for every target its model's facts and price, out of four layers of which the upper counts.
//!
//! What the configuration sets; what was pushed; what was fetched, the later source first; what is built in. Lists know
//! models by the preset of their provider; settings, those of a source in our own form among them, by the provider's name
//! in the configuration or by its preset, and count before lists, since they may say as little as a discount.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::compact::List;
use super::model::Model;
use super::names::candidates;
use super::own::{Own, Owns};
use super::price::{Price, When};
use super::rate::{Rate, Tier, Unit};
use super::reserved::Reserved;
use crate::chat::Usage;
use crate::money::{Nano, Pico};
use crate::target::TargetName;

/// Prices as they were known when this version was made.
const BUILT_IN: List = List::embedded(include_str!("models.tsv"));

/// Clients may ask for any model by name; answers to names beyond so many are not remembered.
const MOST_REMEMBERED: usize = 4_096;

/// The preset whose models run inside the process and cost nothing.
const SANDBOX: &str = "sandbox";

/// One revision of all prices. Immutable but for what it remembers.
#[derive(Default)]
pub struct Book {
    /// Counts up with each change, from 1.
    pub revision: u64,
    /// What the configuration sets.
    pub(super) own: Owns,
    /// What was pushed.
    pub(super) pushed: Owns,
    /// What was fetched: sources in the order of the configuration.
    pub(super) fetched: Vec<(Arc<str>, Fetched)>,
    known: ArcSwap<HashMap<TargetName, Option<Arc<Known>>>>,
}

/// What a source said.
#[derive(Clone)]
pub(super) enum Fetched {
    /// Whole models.
    Models(List),
    /// Settings in our own form.
    Own(Owns),
}

/// What is known of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Facts and price.
    pub model: Model,
    /// Who said so: `configuration`, `pushed`, the name of a source, or `built-in`; the uppermost layer.
    pub origin: Arc<str>,
    /// The name under which a list has it.
    pub listed_as: Option<String>,
    /// Whether what it cannot do was set, and is not only missing in a list.
    pub states_abilities: bool,
    /// The preset of the provider, under which its other models are known.
    pub preset: Option<Box<str>>,
}

impl Known {
    /// The price, where it is known.
    pub fn price(&self) -> Option<&Price> {
        self.model.price.as_ref()
    }
}

impl Book {
    pub(super) fn new(revision: u64, own: Owns, pushed: Owns, fetched: Vec<(Arc<str>, Fetched)>) -> Self {
        Self { revision, own, pushed, fetched, known: ArcSwap::default() }
    }

    /// What is known of a target whose provider is of this preset; looked up once, then remembered.
    pub fn of(&self, target: &TargetName, preset: Option<&str>) -> Option<Arc<Known>> {
        if let Some(known) = self.known.load().get(target) {
            return known.clone();
        }
        let preset = preset.map(Box::from);
        let found = self.look_up(target, preset.as_deref());
        let found = found.map(|known| Arc::new(Known { preset, ..known }));
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            if known.len() < MOST_REMEMBERED {
                known.insert(target.clone(), found.clone());
            }
            known
        });
        found
    }

    /// What this usage costs at a target, by its price; where that is not known, or not of all that was used, what its
    /// answer says that it cost. `None` where neither is known, or something was used that has no price.
    pub fn cost(&self, target: &TargetName, preset: Option<&str>, usage: &Usage, when: When) -> Option<Nano> {
        self.cost_at(target, self.of(target, preset).as_deref(), usage, when)
    }

    /// The same at a target of which this is known. What another model did for the answer costs what that one costs; where
    /// nobody knows that, as if the model that answers had done it.
    pub(super) fn cost_at(
        &self,
        target: &TargetName,
        known: Option<&Known>,
        usage: &Usage,
        when: When,
    ) -> Option<Nano> {
        let apart = usage.apart().filter(|_| usage.said_cost.is_none()).and_then(|(own, model, helped)| {
            let helper = TargetName { provider: target.provider.clone(), model: model.into() };
            let helper = self.of(&helper, known?.preset.as_deref())?;
            let mut sum = known?.price()?.settle(&own, when)?;
            sum += helper.price()?.settle(&helped, when)?;
            Some(sum)
        });
        apart.or_else(|| cost(known, usage, when))
    }

    fn look_up(&self, target: &TargetName, preset: Option<&str>) -> Option<Known> {
        let mut known = preset.and_then(|preset| self.listed(preset, &target.model));
        // What is set by the provider's own name counts before what is set by its preset's.
        let (provider, model) = (&*target.provider, &*target.model);
        let fetched =
            self.settings().filter_map(|(origin, owns)| Some((owns.find(provider, model)?, origin)));
        let pushed = self.pushed.find(provider, model).map(|own| (own, "pushed"));
        let own = self.own.find(provider, model).map(|own| (own, "configuration"));
        for (own, origin) in fetched.chain(pushed).chain(own) {
            if let Some((preset, model)) = own.like.as_deref().and_then(|like| like.split_once('/')) {
                known = self.listed(preset, model).or(known);
            }
            known = Some(above(&own, origin, known));
        }
        known
    }

    /// What lists, settings of sources and pushed prices say of a preset's model, under its own name or one that means
    /// the same.
    fn listed(&self, preset: &str, model: &str) -> Option<Known> {
        if preset == SANDBOX {
            return Some(Known {
                model: free(),
                origin: "built-in".into(),
                listed_as: None,
                states_abilities: false,
                preset: None,
            });
        }
        let names = candidates(preset, model);
        let mut found = names.iter().find_map(|name| {
            let lists = self.lists().filter_map(|(source, list)| Some((list.find(preset, name)?, source)));
            let (model, origin) =
                lists.chain(BUILT_IN.find(preset, name).map(|model| (model, "built-in"))).next()?;
            let listed_as = Some(format!("{preset}/{name}"));
            Some(Known { model, origin: origin.into(), listed_as, states_abilities: false, preset: None })
        });
        for (origin, owns) in self.settings().chain([("pushed", &self.pushed)]) {
            if let Some(own) = names.iter().find_map(|name| owns.find(preset, name)) {
                found = Some(above(&own, origin, found));
            }
        }
        found
    }

    /// What is set to be like a model that nobody lists: under which name, and which model.
    pub fn unlisted<'o>(&self, owns: &'o Owns) -> Vec<(&'o str, &'o str)> {
        let likes = owns.0.iter().filter_map(|(name, own)| Some((name.as_str(), own.like.as_deref()?)));
        let is_listed = |like: &str| {
            like.split_once('/').is_some_and(|(preset, model)| self.listed(preset, model).is_some())
        };
        likes.filter(|(_, like)| !is_listed(like)).collect()
    }

    /// Sources of whole models, those that count first in front.
    fn lists(&self) -> impl Iterator<Item = (&str, &List)> {
        self.fetched.iter().rev().filter_map(|(source, fetched)| match fetched {
            Fetched::Models(list) => Some((&**source, list)),
            Fetched::Own(_) => None,
        })
    }

    /// Sources of settings, those that count first at the end.
    fn settings(&self) -> impl Iterator<Item = (&str, &Owns)> {
        self.fetched.iter().filter_map(|(source, fetched)| match fetched {
            Fetched::Own(owns) => Some((&**source, owns)),
            Fetched::Models(_) => None,
        })
    }

    /// Capacity that is paid for already.
    pub fn reserved(&self) -> Vec<Arc<Reserved>> {
        let owns = self.settings().map(|(_, owns)| owns).chain([&self.pushed, &self.own]);
        owns.flat_map(|owns| owns.0.values().filter_map(|own| own.reserved.clone())).collect()
    }

    /// All models of a preset by the names of lists, with where they come from; what is built in last.
    pub fn models_of(&self, preset: &str) -> Vec<(String, Arc<str>, Model)> {
        let prefix = format!("{preset}/");
        let mut models: Vec<(String, Arc<str>, Model)> = Vec::new();
        let set = self.settings().flat_map(|(_, owns)| owns.0.keys());
        for name in set.filter(|name| !name.ends_with('*')) {
            let known = name.strip_prefix(&prefix).and_then(|model| self.listed(preset, model));
            models.extend(known.map(|known| (name.clone(), known.origin, known.model)));
        }
        for (origin, list) in self.lists().chain([("built-in", &BUILT_IN)]) {
            models.extend(list.below(&prefix).map(|(name, model)| (name.to_owned(), origin.into(), model)));
        }
        models.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        models.dedup_by(|(a, ..), (b, ..)| a == b);
        models
    }
}

/// What this usage of one model costs, as [`Book::cost`] tells it.
fn cost(known: Option<&Known>, usage: &Usage, when: When) -> Option<Nano> {
    match known.and_then(Known::price) {
        Some(price) if usage.said_cost.is_none() || usage.unpriced_tools == 0 => price.settle(usage, when),
        _ => usage.said_cost,
    }
}

/// What is known with this set over it.
fn above(own: &Own, origin: &str, below: Option<Known>) -> Known {
    let below = below.map(|known| (known.model, known.listed_as, known.states_abilities));
    let (below, listed_as, stated) = below.unwrap_or_default();
    let states_abilities = stated || own.abilities.is_some();
    Known { model: own.over(below), origin: origin.into(), listed_as, states_abilities, preset: None }
}

/// A model that costs nothing.
fn free() -> Model {
    let nothing = |unit| Rate { unit, tier: Tier::Standard, above: 0, price: Pico(0) };
    let units = [Unit::Input, Unit::Output, Unit::Image, Unit::AudioSecond, Unit::Character];
    let rates = units.into_iter().map(nothing).collect();
    Model { price: Some(Price { rates, ..Price::default() }), ..Model::default() }
}

//! What can be named: configured providers with any of their models, and the aliases of `models:`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use super::draw::pick;
use super::judges::{MODERATION, judges};
use super::split::Split;
use super::strategy::Strategy;
use crate::clock::Dice;
use crate::plan::Manner;
use crate::providers::{Target, Vendor};
use crate::target::TargetName;

/// All providers and aliases of a snapshot, as one version of the API offers them.
#[derive(Default)]
pub struct Catalogue {
    vendors: HashMap<Arc<str>, Arc<Vendor>>,
    aliases: HashMap<Arc<str>, Entry>,
    /// Alias names in the order written, as far as clients may ask for them.
    order: Vec<Arc<str>>,
    /// Where clients who name no model to moderate are served, unless an alias says so.
    moderation: Option<Alias>,
    /// Clients may ask for the aliases in `order` and for nothing else.
    closed: bool,
    /// Whose turn it is among targets that policies name.
    turn: Arc<AtomicUsize>,
}

/// One entry of `models:`.
#[derive(Clone)]
pub enum Entry {
    /// The same for everybody.
    One(Alias),
    /// With versions.
    Split(Split),
}

/// Targets under one name.
#[derive(Clone)]
pub struct Alias {
    /// In the order written; never empty.
    pub targets: Vec<AliasTarget>,
    /// Names tried when all targets failed.
    pub fallback: Vec<Arc<str>>,
    /// `alias@version`, where the alias has versions.
    pub version: Option<Arc<str>>,
    /// How the targets are put in order; without one, by weight and in the order written.
    pub strategy: Option<Arc<Strategy>>,
    /// How the attempts are made, where not simply one after the other.
    pub manner: Option<Manner>,
}

/// One target of an alias.
#[derive(Clone)]
pub struct AliasTarget {
    /// Where it leads.
    pub target: Target,
    /// Share of first tries; `None` for targets written without a weight: then the order decides.
    pub weight: Option<f64>,
    /// Its place among the others where strategies ask for it, the lowest first.
    pub priority: Option<u32>,
    /// The class of its cost, where its price does not say it.
    pub tier: Option<Arc<str>>,
    /// How good its answers are, 0 to 1.
    pub quality: Option<f64>,
    /// Whether it can go on with an answer that another one began.
    pub continues: bool,
    /// When it was last tried for want of figures, in Unix milliseconds.
    pub(super) explored: Arc<AtomicU64>,
}

impl AliasTarget {
    /// A target with nothing beyond its weight.
    pub fn new(target: Target, weight: Option<f64>) -> Self {
        Self {
            target,
            weight,
            priority: None,
            tier: None,
            quality: None,
            continues: false,
            explored: Arc::default(),
        }
    }
}

/// What a name leads to.
pub enum Known<'a> {
    /// `provider/model`.
    Target(Target),
    /// An entry of `models:`, or one version of it.
    Alias(&'a Alias),
    /// An entry of `models:` that has versions.
    Split(&'a Split),
}

impl Alias {
    /// The place of the target to try first: drawn by weight as far as the target is well (0 to 1), or the first where no
    /// weights are written.
    pub fn draw_first(&self, dice: &Dice, well: impl Fn(&Target) -> f64) -> Option<usize> {
        if self.targets.iter().all(|t| t.weight.is_none()) {
            return (!self.targets.is_empty()).then_some(0);
        }
        pick(self.targets.iter().map(|t| t.weight.unwrap_or(1.0) * well(&t.target)), dice)
    }
}

impl Catalogue {
    /// A catalogue of these providers and aliases; later aliases of the same name replace earlier ones.
    pub fn new(vendors: Vec<Arc<Vendor>>, aliases: Vec<(Arc<str>, Entry)>) -> Self {
        let order = aliases.iter().map(|(name, _)| name.clone()).collect();
        Self {
            moderation: judges(&vendors),
            vendors: vendors.into_iter().map(|vendor| (vendor.name.clone(), vendor)).collect(),
            aliases: aliases.into_iter().collect(),
            order,
            closed: false,
            turn: Arc::default(),
        }
    }

    /// This catalogue with further aliases before its own. `inherit`: whether clients may still ask for what this one
    /// offers; policies and fallbacks always may.
    pub fn with(&self, aliases: Vec<(Arc<str>, Entry)>, inherit: bool) -> Self {
        let mut order: Vec<Arc<str>> = aliases.iter().map(|(name, _)| name.clone()).collect();
        if inherit {
            let others = self.order.iter().filter(|name| !order.contains(name)).cloned();
            order.extend(others.collect::<Vec<_>>());
        }
        let mut all = self.aliases.clone();
        all.extend(aliases);
        let moderation = self.moderation.clone().filter(|_| inherit);
        Self {
            vendors: self.vendors.clone(),
            aliases: all,
            order,
            moderation,
            closed: !inherit,
            turn: self.turn.clone(),
        }
    }

    /// What `name` leads to: an alias first, then a version of one, then `provider/model`.
    pub fn find(&self, name: &str) -> Option<Known<'_>> {
        match self.aliases.get(name) {
            Some(Entry::One(alias)) => return Some(Known::Alias(alias)),
            Some(Entry::Split(split)) => return Some(Known::Split(split)),
            None => {}
        }
        if let Some((alias, _)) = name.rsplit_once('@')
            && let Some(Entry::Split(split)) = self.aliases.get(alias)
        {
            return split.pinned(name).map(Known::Alias);
        }
        if name == MODERATION
            && let Some(alias) = &self.moderation
        {
            return Some(Known::Alias(alias));
        }
        let (provider, model) = name.split_once('/')?;
        let vendor = self.vendors.get(provider)?;
        (!model.is_empty()).then(|| {
            let name = TargetName { provider: vendor.name.clone(), model: model.into() };
            Known::Target(Target::new(vendor.clone(), name))
        })
    }

    /// The alias of which `name` is a version, known or not.
    pub fn alias_of(&self, name: &str) -> Option<&Arc<str>> {
        let (alias, _) = name.rsplit_once('@').filter(|_| !self.aliases.contains_key(name))?;
        let (alias, entry) = self.aliases.get_key_value(alias)?;
        matches!(entry, Entry::Split(_)).then_some(alias)
    }

    /// The strategy of these words, for targets that a policy names.
    pub(super) fn strategy_of(&self, words: &[Arc<str>]) -> Strategy {
        Strategy::of_words(words, &self.turn)
    }

    /// Whether a client may ask for `name`. A name that leads nowhere may be asked for: a policy may know better.
    pub fn offers(&self, name: &str) -> bool {
        if !self.closed {
            return true;
        }
        let is = |wanted: &str| self.order.iter().any(|known| **known == *wanted);
        is(name)
            || name
                .rsplit_once('@')
                .is_some_and(|(alias, _)| is(alias) && matches!(self.find(name), Some(Known::Alias(_))))
    }

    /// Whether `name` leads anywhere.
    pub fn knows(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether `name` stands in the configuration: an alias, or a listed model of a provider.
    pub fn lists(&self, name: &str) -> bool {
        match self.find(name) {
            Some(Known::Alias(_) | Known::Split(_)) => true,
            Some(Known::Target(target)) => target.vendor.models.contains(&target.name.model),
            None => false,
        }
    }

    /// Alias names in the order written.
    pub fn aliases(&self) -> impl Iterator<Item = &Arc<str>> {
        self.order.iter()
    }

    /// All entries of `models:` that policies may name, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.aliases.iter()
    }

    /// What clients may ask for besides `provider/model`: aliases in the order written, each with its versions.
    pub fn names(&self) -> Vec<&Arc<str>> {
        let mut names = Vec::with_capacity(self.order.len());
        for name in &self.order {
            names.push(name);
            if let Some(Entry::Split(split)) = self.aliases.get(name) {
                names.extend(split.versions.iter().filter_map(|version| version.alias.version.as_ref()));
            }
        }
        names
    }

    /// Whether clients may ask for `provider/model`.
    pub fn is_open(&self) -> bool {
        !self.closed
    }

    /// The provider of this name.
    pub fn vendor(&self, name: &str) -> Option<&Arc<Vendor>> {
        self.vendors.get(name)
    }

    /// Configured providers, sorted by name.
    pub fn vendors(&self) -> Vec<&Arc<Vendor>> {
        let mut vendors: Vec<_> = self.vendors.values().collect();
        vendors.sort_by(|a, b| a.name.cmp(&b.name));
        vendors
    }
}

//! What can be named: configured providers with any of their models, and the aliases of `models:`.

use std::collections::HashMap;
use std::sync::Arc;

use super::draw::pick;
use crate::clock::Dice;
use crate::providers::{Place, Target, Vendor};
use crate::target::TargetName;

/// All providers and aliases of a snapshot.
#[derive(Default)]
pub struct Catalogue {
    vendors: HashMap<Arc<str>, Arc<Vendor>>,
    aliases: HashMap<Arc<str>, Alias>,
    /// Alias names in the order written.
    order: Vec<Arc<str>>,
    /// Where clients who name no model to moderate are served, unless an alias says so.
    moderation: Option<Alias>,
}

/// The model of clients who name none to moderate.
pub const MODERATION: &str = "moderation";

/// Every provider that moderates, with its usual model: those that see pictures first, the one inside the process last.
fn judges(vendors: &[Arc<Vendor>]) -> Option<Alias> {
    let mut judges: Vec<_> = vendors
        .iter()
        .filter_map(|vendor| Some((vendor.wire.moderations()?, vendor)))
        .filter(|(judge, _)| !judge.usual_model().is_empty())
        .map(|(judge, vendor)| {
            let local = matches!(vendor.place, Place::Local);
            ((local, !judge.sees_images(), vendor.name.clone()), judge.usual_model(), vendor)
        })
        .collect();
    judges.sort_by(|a, b| a.0.cmp(&b.0));
    let target = |vendor: &Arc<Vendor>, model: &str| {
        let name = TargetName { provider: vendor.name.clone(), model: model.into() };
        AliasTarget { target: Target { vendor: vendor.clone(), name }, weight: None }
    };
    let targets: Vec<_> = judges.into_iter().map(|(_, model, vendor)| target(vendor, model)).collect();
    (!targets.is_empty()).then(|| Alias { targets, fallback: Vec::new() })
}

/// One entry of `models:`.
pub struct Alias {
    /// In the order written; never empty.
    pub targets: Vec<AliasTarget>,
    /// Names tried when all targets failed.
    pub fallback: Vec<Arc<str>>,
}

/// One target of an alias.
pub struct AliasTarget {
    /// Where it leads.
    pub target: Target,
    /// Share of first tries; `None` for targets written without a weight: then the order decides.
    pub weight: Option<f64>,
}

/// What a name leads to.
pub enum Known<'a> {
    /// `provider/model`.
    Target(Target),
    /// An entry of `models:`.
    Alias(&'a Alias),
}

impl Alias {
    /// The place of the target to try first: drawn by weight, or the first where no weights are written.
    pub fn draw_first(&self, dice: &Dice) -> Option<usize> {
        if self.targets.iter().all(|t| t.weight.is_none()) {
            return (!self.targets.is_empty()).then_some(0);
        }
        pick(self.targets.iter().map(|t| t.weight.unwrap_or(1.0)), dice)
    }
}

impl Catalogue {
    /// A catalogue of these providers and aliases; later aliases of the same name replace earlier ones.
    pub fn new(vendors: Vec<Arc<Vendor>>, aliases: Vec<(Arc<str>, Alias)>) -> Self {
        let order = aliases.iter().map(|(name, _)| name.clone()).collect();
        Self {
            moderation: judges(&vendors),
            vendors: vendors.into_iter().map(|vendor| (vendor.name.clone(), vendor)).collect(),
            aliases: aliases.into_iter().collect(),
            order,
        }
    }

    /// What `name` leads to: an alias first, then `provider/model`.
    pub fn find(&self, name: &str) -> Option<Known<'_>> {
        if let Some(alias) = self.aliases.get(name) {
            return Some(Known::Alias(alias));
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
            Known::Target(Target { vendor: vendor.clone(), name })
        })
    }

    /// Whether `name` leads anywhere.
    pub fn knows(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether `name` stands in the configuration: an alias, or a listed model of a provider.
    pub fn lists(&self, name: &str) -> bool {
        match self.find(name) {
            Some(Known::Alias(_)) => true,
            Some(Known::Target(target)) => target.vendor.models.contains(&target.name.model),
            None => false,
        }
    }

    /// Alias names in the order written, with their aliases.
    pub fn aliases(&self) -> impl Iterator<Item = (&Arc<str>, &Alias)> {
        self.order.iter().filter_map(|name| self.aliases.get_key_value(name))
    }

    /// Configured providers, sorted by name.
    pub fn vendors(&self) -> Vec<&Arc<Vendor>> {
        let mut vendors: Vec<_> = self.vendors.values().collect();
        vendors.sort_by(|a, b| a.name.cmp(&b.name));
        vendors
    }
}

//! The targets of a catalogue as policies see them, with the numbers of the price book and of health.

use std::collections::HashMap;
use std::sync::Arc;

use crate::facts::market::{Listing, Market, Numbers, Offer};
use crate::planner::{Alias, Catalogue, Entry, Known};
use crate::providers::Vendor;

/// The deepest chain of aliases that name aliases, as in a plan.
const MAX_ALIAS_DEPTH: usize = 8;

/// One catalogue's market. Listings are made once; only what was measured is looked up for each request.
pub struct Board {
    /// Targets that the configuration names, in the order of their names.
    all: Vec<Arc<Listing>>,
    /// What stands behind each alias, and each version of one.
    aliases: HashMap<Arc<str>, Vec<Arc<Listing>>>,
    vendors: HashMap<Arc<str>, Arc<Vendor>>,
    numbers: Arc<dyn Numbers>,
}

impl Board {
    /// The market of this catalogue.
    pub fn new(catalogue: &Catalogue, numbers: &Arc<dyn Numbers>) -> Self {
        let vendors = catalogue.vendors();
        let mut board = Self {
            all: Vec::new(),
            aliases: HashMap::new(),
            vendors: vendors.iter().map(|vendor| (vendor.name.clone(), Arc::clone(vendor))).collect(),
            numbers: numbers.clone(),
        };
        for vendor in vendors {
            let mut listings: Vec<_> =
                vendor.models.iter().map(|model| board.listing(vendor, model)).collect();
            board.all.append(&mut listings);
        }
        board.all.sort_by(|a, b| a.name.cmp(&b.name));
        let mut aliases = HashMap::new();
        for (name, entry) in catalogue.entries() {
            let ways: Vec<&Alias> = match entry {
                Entry::One(alias) => vec![alias],
                Entry::Split(split) => split.versions.iter().map(|version| &version.alias).collect(),
            };
            let mut behind = Vec::new();
            for way in ways {
                board.gather(catalogue, way, 0, &mut behind);
                if let Some(version) = &way.version {
                    let mut alone = Vec::new();
                    board.gather(catalogue, way, 0, &mut alone);
                    aliases.insert(version.clone(), alone);
                }
            }
            aliases.insert(name.clone(), behind);
        }
        board.aliases = aliases;
        board
    }

    fn listing(&self, vendor: &Vendor, model: &str) -> Arc<Listing> {
        let name = format!("{}/{model}", vendor.name).into();
        let mut listing = Listing::bare(name, &vendor.traits);
        self.numbers.fill(&mut listing);
        Arc::new(listing)
    }

    fn gather(&self, catalogue: &Catalogue, alias: &Alias, depth: usize, behind: &mut Vec<Arc<Listing>>) {
        for target in &alias.targets {
            self.add(&target.target.name.to_string(), behind);
        }
        for name in alias.fallback.iter().filter(|_| depth < MAX_ALIAS_DEPTH) {
            match catalogue.find(name) {
                Some(Known::Alias(alias)) => self.gather(catalogue, alias, depth + 1, behind),
                Some(Known::Split(split)) => {
                    for version in &split.versions {
                        self.gather(catalogue, &version.alias, depth + 1, behind);
                    }
                }
                Some(Known::Target(_)) => self.add(name, behind),
                None => {}
            }
        }
    }

    fn add(&self, target: &str, behind: &mut Vec<Arc<Listing>>) {
        if !behind.iter().any(|seen| *seen.name == *target) {
            behind.extend(self.find(target));
        }
    }

    /// The listing of `provider/model`; made for this one look where the configuration does not name the model.
    fn find(&self, target: &str) -> Option<Arc<Listing>> {
        if let Ok(place) = self.all.binary_search_by(|listing| (*listing.name).cmp(target)) {
            return self.all.get(place).cloned();
        }
        let (provider, model) = target.split_once('/').filter(|(_, model)| !model.is_empty())?;
        Some(self.listing(self.vendors.get(provider)?, model))
    }

    fn now(&self, listing: Arc<Listing>) -> Offer {
        Offer { live: self.numbers.live(&listing.name), listing }
    }
}

impl Market for Board {
    fn offer(&self, target: &str) -> Option<Offer> {
        self.find(target).map(|listing| self.now(listing))
    }

    fn behind(&self, name: &str) -> Vec<Offer> {
        match self.aliases.get(name) {
            Some(listings) => listings.iter().map(|listing| self.now(listing.clone())).collect(),
            None => self.offer(name).into_iter().collect(),
        }
    }

    fn all(&self) -> Vec<Offer> {
        self.all.iter().map(|listing| self.now(listing.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::market::{Live, Price};
    use crate::planner::AliasTarget;
    use crate::providers::{QuirkSettings, Target, dialect};
    use crate::target::TargetName;

    struct Told;

    impl Numbers for Told {
        fn fill(&self, listing: &mut Listing) {
            listing.price = (listing.model() == "echo").then_some(Price { input: 1.0, output: 2.0 });
        }
        fn live(&self, target: &str) -> Live {
            Live { healthy: Some(target != "sandbox/down"), ..Live::default() }
        }
    }

    #[test]
    fn names_stand_for_targets_with_numbers() {
        let wire = dialect("openai", &QuirkSettings::default()).unwrap();
        let mut vendor = Vendor::bare("sandbox", wire);
        vendor.models = vec!["echo".into(), "down".into()];
        vendor.traits.tags = vec!["private".into()];
        let vendor = Arc::new(vendor);
        let target = |model: &str| AliasTarget {
            target: Target::new(
                vendor.clone(),
                TargetName { provider: "sandbox".into(), model: model.into() },
            ),
            weight: None,
        };
        let alias = |models: &[&str], fallback: &[&str]| {
            Entry::One(Alias {
                targets: models.iter().map(|model| target(model)).collect(),
                fallback: fallback.iter().map(|name| (*name).into()).collect(),
                version: None,
            })
        };
        let aliases = vec![
            ("cheap".into(), alias(&["echo"], &["strong", "sandbox/other"])),
            ("strong".into(), alias(&["down", "echo"], &["cheap"])),
        ];
        let catalogue = Catalogue::new(vec![vendor.clone()], aliases);
        let board = Board::new(&catalogue, &(Arc::new(Told) as Arc<dyn Numbers>));
        let names = |offers: &[Offer]| offers.iter().map(|o| o.listing.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&board.all()), ["sandbox/down", "sandbox/echo"]);
        // A circle of fallbacks ends, and nothing stands there twice.
        assert_eq!(names(&board.behind("cheap")), ["sandbox/echo", "sandbox/down", "sandbox/other"]);
        assert_eq!(names(&board.behind("sandbox/made-up")), ["sandbox/made-up"]);
        assert!(board.behind("nobody/x").is_empty() && board.behind("nobody").is_empty());
        let echo = board.offer("sandbox/echo").unwrap();
        assert_eq!(echo.listing.price, Some(Price { input: 1.0, output: 2.0 }));
        assert_eq!(echo.listing.tags, ["private".into()]);
        assert_eq!(board.offer("sandbox/down").unwrap().live.healthy, Some(false));
    }
}

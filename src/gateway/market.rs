//! The targets of a catalogue as policies see them, with the numbers of the price book and of health.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use tokio::time::Instant;

use crate::facts::market::{Listing, Live, Market, Numbers, Offer, Purse, Quota, Size, Who};
use crate::planner::{Alias, Catalogue, Entry, Known};
use crate::providers::{Left, Vendor};
use crate::target::TargetName;

/// How old numbers may be that go into records: health is read as often.
const OF_LATE: Duration = Duration::from_secs(1);

/// The deepest chain of aliases that name aliases, as in a plan.
const MAX_ALIAS_DEPTH: usize = 8;

/// One catalogue's market. Listings are made when prices change; only what was measured is looked up for each request.
pub struct Board {
    made: ArcSwap<Made>,
    vendors: HashMap<Arc<str>, Arc<Vendor>>,
    /// What aliases say of their targets.
    said: HashMap<TargetName, Vec<(&'static str, Arc<str>)>>,
    numbers: Arc<dyn Numbers>,
}

/// Listings as they are at one revision of the numbers.
#[derive(Default)]
struct Made {
    revision: u64,
    /// Targets that the configuration names, in the order of their names.
    all: Vec<Arc<Listing>>,
    /// What was measured of each of them when somebody last noted it.
    noted: Vec<ArcSwapOption<(Instant, Live)>>,
    /// What stands behind each alias, and each version of one.
    aliases: HashMap<Arc<str>, Vec<Arc<Listing>>>,
}

impl Board {
    /// The market of this catalogue.
    pub fn new(catalogue: &Catalogue, numbers: &Arc<dyn Numbers>) -> Self {
        let vendors = catalogue.vendors();
        let mut made = Made { revision: numbers.revision(), ..Made::default() };
        let board = Self {
            made: ArcSwap::default(),
            vendors: vendors.iter().map(|vendor| (vendor.name.clone(), Arc::clone(vendor))).collect(),
            said: said(catalogue),
            numbers: numbers.clone(),
        };
        for vendor in vendors {
            let mut listings: Vec<_> =
                vendor.models.iter().map(|model| board.listing(vendor, model)).collect();
            made.all.append(&mut listings);
        }
        made.all.sort_by(|a, b| (a.provider(), a.model()).cmp(&(b.provider(), b.model())));
        made.noted = made.all.iter().map(|_| ArcSwapOption::empty()).collect();
        let mut aliases = HashMap::new();
        for (name, entry) in catalogue.entries() {
            let ways: Vec<&Alias> = match entry {
                Entry::One(alias) => vec![alias],
                Entry::Split(split) => split.versions.iter().map(|version| &version.alias).collect(),
            };
            let mut behind = Vec::new();
            for way in ways {
                board.gather(&made, catalogue, way, 0, &mut behind);
                if let Some(version) = &way.version {
                    let mut alone = Vec::new();
                    board.gather(&made, catalogue, way, 0, &mut alone);
                    aliases.insert(version.clone(), alone);
                }
            }
            aliases.insert(name.clone(), behind);
        }
        made.aliases = aliases;
        board.made.store(Arc::new(made));
        board
    }

    /// The listings with the prices of now.
    fn made(&self) -> Guard<Arc<Made>> {
        let made = self.made.load();
        let revision = self.numbers.revision();
        if made.revision == revision {
            return made;
        }
        self.made.store(Arc::new(self.again(&made, revision)));
        self.made.load()
    }

    #[cold]
    fn again(&self, older: &Made, revision: u64) -> Made {
        let fresh = |listing: &Arc<Listing>| {
            let vendor = self.vendors.get(listing.provider());
            vendor.map_or_else(|| listing.clone(), |vendor| self.listing(vendor, listing.model()))
        };
        Made {
            revision,
            all: older.all.iter().map(fresh).collect(),
            noted: older.all.iter().map(|_| ArcSwapOption::empty()).collect(),
            aliases: older
                .aliases
                .iter()
                .map(|(name, behind)| (name.clone(), behind.iter().map(fresh).collect()))
                .collect(),
        }
    }

    fn listing(&self, vendor: &Vendor, model: &str) -> Arc<Listing> {
        let name = format!("{}/{model}", vendor.name).into();
        let mut listing = Listing::bare(name, &vendor.traits);
        self.numbers.fill(&mut listing);
        if !self.said.is_empty() {
            let name = TargetName { provider: vendor.name.clone(), model: model.into() };
            for (label, value) in self.said.get(&name).into_iter().flatten() {
                listing.labels.insert((*label).into(), value.clone());
            }
        }
        Arc::new(listing)
    }

    fn gather(
        &self,
        made: &Made,
        catalogue: &Catalogue,
        alias: &Alias,
        depth: usize,
        behind: &mut Vec<Arc<Listing>>,
    ) {
        for target in &alias.targets {
            self.add(made, &target.target.name.to_string(), behind);
        }
        for name in alias.fallback.iter().filter(|_| depth < MAX_ALIAS_DEPTH) {
            match catalogue.find(name) {
                Some(Known::Alias(alias)) => self.gather(made, catalogue, alias, depth + 1, behind),
                Some(Known::Split(split)) => {
                    for version in &split.versions {
                        self.gather(made, catalogue, &version.alias, depth + 1, behind);
                    }
                }
                Some(Known::Target(_)) => self.add(made, name, behind),
                None => {}
            }
        }
    }

    fn add(&self, made: &Made, target: &str, behind: &mut Vec<Arc<Listing>>) {
        if !behind.iter().any(|seen| *seen.name == *target) {
            behind.extend(self.find(made, target));
        }
    }

    /// The listing of `provider/model`; made for this one look where the configuration does not name the model.
    fn find(&self, made: &Made, target: &str) -> Option<Arc<Listing>> {
        let (provider, model) = target.split_once('/').filter(|(_, model)| !model.is_empty())?;
        match made.place(provider, model) {
            Some(place) => made.all.get(place).cloned(),
            None => Some(self.listing(self.vendors.get(provider)?, model)),
        }
    }

    /// What stands at this place, with numbers that are less than a second old.
    fn of_late(&self, made: &Made, at: usize) -> Option<Offer> {
        let (listing, noted) = made.all.get(at).zip(made.noted.get(at))?;
        let now = Instant::now();
        if let Some((_, live)) = noted.load().as_deref().filter(|(at, _)| now.duration_since(*at) < OF_LATE) {
            return Some(Offer { live: *live, listing: listing.clone() });
        }
        let offer = self.now(listing.clone());
        noted.store(Some(Arc::new((now, offer.live))));
        Some(offer)
    }

    fn now(&self, listing: Arc<Listing>) -> Offer {
        let mut live = self.numbers.live(&listing.name);
        if let Some(vendor) = self.vendors.get(listing.provider()).filter(|vendor| !vendor.ring.is_empty()) {
            let Left { requests, tokens } = vendor.ring.left(listing.model(), Instant::now());
            live.quota = Quota { requests, tokens };
        }
        Offer { live, listing }
    }
}

/// The classes and qualities that aliases give to targets, as labels. Where two differ, the last alias by name counts.
fn said(catalogue: &Catalogue) -> HashMap<TargetName, Vec<(&'static str, Arc<str>)>> {
    let mut entries: Vec<_> = catalogue.entries().collect();
    entries.sort_by_key(|(name, _)| *name);
    let ways = entries.into_iter().flat_map(|(_, entry)| match entry {
        Entry::One(alias) => vec![alias],
        Entry::Split(split) => split.versions.iter().map(|version| &version.alias).collect(),
    });
    let mut said = HashMap::new();
    for written in ways.flat_map(|alias| &alias.targets) {
        let quality = written.quality.map(|quality| ("quality", quality.to_string().into()));
        let labels: Vec<_> =
            written.tier.clone().map(|tier| ("tier", tier)).into_iter().chain(quality).collect();
        if !labels.is_empty() {
            said.insert(written.target.name.clone(), labels);
        }
    }
    said
}

impl Made {
    fn place(&self, provider: &str, model: &str) -> Option<usize> {
        self.all
            .binary_search_by(|listing| (listing.provider(), listing.model()).cmp(&(provider, model)))
            .ok()
    }
}

impl Market for Board {
    fn offer(&self, target: &str) -> Option<Offer> {
        self.find(&self.made(), target).map(|listing| self.now(listing))
    }

    fn offer_of_late(&self, target: &str) -> Option<Offer> {
        let made = self.made();
        let known = target.split_once('/').and_then(|(provider, model)| made.place(provider, model));
        known.map_or_else(|| self.offer(target), |at| self.of_late(&made, at))
    }

    fn offer_to_order(&self, target: &TargetName) -> Option<Offer> {
        let made = self.made();
        let Some(at) = made.place(&target.provider, &target.model) else {
            return self.offer(&target.to_string());
        };
        let mut offer = self.of_late(&made, at)?;
        self.numbers.refresh(target, &mut offer.live);
        Some(offer)
    }

    fn listing(&self, target: &TargetName) -> Option<Arc<Listing>> {
        let made = self.made();
        match made.place(&target.provider, &target.model) {
            Some(place) => made.all.get(place).cloned(),
            None => Some(self.listing(self.vendors.get(&target.provider)?, &target.model)),
        }
    }

    fn is_live(&self) -> bool {
        true
    }

    fn behind(&self, name: &str) -> Vec<Offer> {
        match self.made().aliases.get(name) {
            Some(listings) => listings.iter().map(|listing| self.now(listing.clone())).collect(),
            None => self.offer(name).into_iter().collect(),
        }
    }

    fn all(&self) -> Vec<Offer> {
        self.made().all.iter().map(|listing| self.now(listing.clone())).collect()
    }

    fn cost(&self, offer: &Offer, size: Size) -> Option<f64> {
        self.numbers.cost(&offer.listing, size)
    }

    fn purse(&self, budget: &str, who: Who<'_>) -> Option<Purse> {
        self.numbers.purse(budget, who)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::facts::market::{Live, Price};
    use crate::planner::AliasTarget;
    use crate::providers::{QuirkSettings, Target, dialect};

    /// Prices rise with each revision.
    #[derive(Default)]
    struct Told(AtomicU64);

    impl Numbers for Told {
        fn revision(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
        #[allow(clippy::cast_precision_loss, reason = "small")]
        fn fill(&self, listing: &mut Listing) {
            let input = 1.0 + self.revision() as f64;
            listing.price = (listing.model() == "echo").then_some(Price { input, output: 2.0 });
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
        let target = |model: &str| {
            let name = TargetName { provider: "sandbox".into(), model: model.into() };
            AliasTarget::new(Target::new(vendor.clone(), name), None)
        };
        let alias = |models: &[&str], fallback: &[&str]| {
            Entry::One(Alias {
                targets: models.iter().map(|model| target(model)).collect(),
                fallback: fallback.iter().map(|name| (*name).into()).collect(),
                version: None,
                strategy: None,
                manner: None,
            })
        };
        let aliases = vec![
            ("cheap".into(), alias(&["echo"], &["strong", "sandbox/other"])),
            ("strong".into(), alias(&["down", "echo"], &["cheap"])),
        ];
        let catalogue = Catalogue::new(vec![vendor.clone()], aliases);
        let told = Arc::new(Told::default());
        let board = Board::new(&catalogue, &(told.clone() as Arc<dyn Numbers>));
        let names = |offers: &[Offer]| offers.iter().map(|o| o.listing.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&board.all()), ["sandbox/down", "sandbox/echo"]);
        // A circle of fallbacks ends, and nothing stands there twice.
        assert_eq!(names(&board.behind("cheap")), ["sandbox/echo", "sandbox/down", "sandbox/other"]);
        assert_eq!(names(&board.behind("sandbox/made-up")), ["sandbox/made-up"]);
        assert!(board.behind("nobody/x").is_empty() && board.behind("nobody").is_empty());
        let echo = board.offer("sandbox/echo").unwrap();
        assert_eq!(echo.listing.price, Some(Price { input: 1.0, output: 2.0 }));
        assert_eq!(echo.listing.tags, [Arc::<str>::from("private")]);
        told.0.store(4, Ordering::Relaxed);
        let prices: Vec<_> = board.behind("cheap").iter().map(|offer| offer.listing.price).collect();
        assert_eq!(prices, [Some(Price { input: 5.0, output: 2.0 }), None, None], "the prices of now");
        assert_eq!(board.offer("sandbox/down").unwrap().live.healthy, Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_into_records_is_measured_once_a_second() {
        /// Says how often it was asked.
        #[derive(Default)]
        struct Counts(AtomicU64);

        impl Numbers for Counts {
            fn revision(&self) -> u64 {
                0
            }
            fn fill(&self, _: &mut Listing) {}
            fn live(&self, _: &str) -> Live {
                Live { in_flight: Some(self.0.fetch_add(1, Ordering::Relaxed)), ..Live::default() }
            }
        }

        let wire = dialect("openai", &QuirkSettings::default()).unwrap();
        let mut vendor = Vendor::bare("sandbox", wire);
        vendor.models = vec!["echo".into()];
        let numbers: Arc<dyn Numbers> = Arc::new(Counts::default());
        let board = Board::new(&Catalogue::new(vec![Arc::new(vendor)], Vec::new()), &numbers);
        let noted = |target: &str| board.offer_of_late(target).and_then(|offer| offer.live.in_flight);
        assert_eq!([noted("sandbox/echo"), noted("sandbox/echo")], [Some(0), Some(0)]);
        assert_eq!(
            board.offer("sandbox/echo").and_then(|offer| offer.live.in_flight),
            Some(1),
            "always anew"
        );
        assert_eq!([noted("sandbox/made-up"), noted("sandbox/made-up")], [Some(2), Some(3)]);
        tokio::time::advance(OF_LATE).await;
        assert_eq!([noted("sandbox/echo"), noted("sandbox/echo")], [Some(4), Some(4)]);
        assert_eq!(noted("nobody/x"), None);
    }
}

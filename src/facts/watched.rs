//! A market whose visitors are noted, and a market as it was when a request was decided.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::market::{Listing, Market, Offer, Purse, Size, Who};
use super::notes::Notes;
use crate::target::TargetName;

/// The name under which all targets are noted.
const ALL: &str = "*";

/// Costs that are noted of one request.
const COSTS: usize = 256;

/// A market that notes which offers somebody looked at.
pub struct Watched {
    market: Arc<dyn Market>,
    seen: Mutex<Visited>,
}

/// What a request of a size was said to cost at a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Costed {
    /// `provider/model`.
    pub target: Arc<str>,
    /// Tokens of prompt and answer.
    pub size: (u64, u64),
    /// Dollars; `None` where nobody knew.
    pub dollars: Option<f64>,
}

/// What somebody looked at in a market.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Visited {
    /// Targets with their numbers, those of the plan too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
    /// What names of `models:` stood for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// What was reckoned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<Costed>,
    /// How budgets stood.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub purses: Vec<Purse>,
}

impl Watched {
    /// The same market, under watch.
    pub fn new(market: Arc<dyn Market>) -> Arc<Self> {
        Arc::new(Self { market, seen: Mutex::default() })
    }

    /// What was looked at, with the targets of `plan` added.
    pub fn take<'a>(&self, plan: impl Iterator<Item = &'a str>) -> Visited {
        let mut visited = std::mem::take(&mut *self.visits());
        for target in plan {
            if !visited.offers.iter().any(|offer| *offer.listing.name == *target) {
                visited.offers.extend(self.market.offer_of_late(target));
            }
        }
        visited
    }

    fn note(&self, offers: &[Offer]) {
        let mut visits = self.visits();
        for offer in offers {
            if !visits.offers.iter().any(|known| known.listing.name == offer.listing.name) {
                visits.offers.push(offer.clone());
            }
        }
    }

    fn note_name(&self, name: &str, offers: &[Offer]) {
        self.note(offers);
        let names = || offers.iter().map(|offer| offer.listing.name.clone()).collect();
        self.visits().aliases.entry(name.into()).or_insert_with(names);
    }

    fn visits(&self) -> std::sync::MutexGuard<'_, Visited> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Market for Watched {
    fn offer(&self, target: &str) -> Option<Offer> {
        let offer = self.market.offer(target);
        self.note(offer.as_slice());
        offer
    }

    fn offer_to_order(&self, target: &TargetName) -> Option<Offer> {
        let offer = self.market.offer_to_order(target);
        self.note(offer.as_slice());
        offer
    }

    /// The plan's targets are noted at the end.
    fn listing(&self, target: &TargetName) -> Option<Arc<Listing>> {
        self.market.listing(target)
    }

    fn is_live(&self) -> bool {
        self.market.is_live()
    }

    fn behind(&self, name: &str) -> Vec<Offer> {
        let offers = self.market.behind(name);
        self.note_name(name, &offers);
        offers
    }

    fn all(&self) -> Vec<Offer> {
        let offers = self.market.all();
        self.note_name(ALL, &offers);
        offers
    }

    fn cost(&self, offer: &Offer, size: Size) -> Option<f64> {
        let dollars = self.market.cost(offer, size);
        let (target, size) = (offer.listing.name.clone(), (size.input, size.output));
        let mut visits = self.visits();
        if visits.costs.len() < COSTS
            && !visits.costs.iter().any(|known| known.target == target && known.size == size)
        {
            visits.costs.push(Costed { target, size, dollars });
        }
        dollars
    }

    fn purse(&self, budget: &str, who: Who<'_>) -> Option<Purse> {
        let purse = self.market.purse(budget, who)?;
        let mut visits = self.visits();
        if !visits.purses.iter().any(|known| known.name == purse.name) {
            visits.purses.push(purse.clone());
        }
        Some(purse)
    }
}

/// The market of a recorded request: what was noted of it, and what the configuration of today says of the rest. Numbers
/// that were measured then and not noted are missed.
pub struct Past {
    visited: Visited,
    today: Arc<dyn Market>,
    /// Where it is noted what nobody knows any more; `None` while `today` is the day of the request.
    notes: Option<Arc<Notes>>,
    fresh_prices: bool,
}

impl Past {
    /// The market of which this was noted. With `fresh_prices`, what targets cost is as `today` says.
    pub fn new(visited: Visited, today: Arc<dyn Market>, notes: Arc<Notes>, fresh_prices: bool) -> Self {
        Self { visited, today, notes: Some(notes), fresh_prices }
    }

    /// The market of a request that was decided a moment ago: what was noted stands, the rest is as it is now.
    pub fn just_now(visited: Visited, today: Arc<dyn Market>) -> Self {
        Self { visited, today, notes: None, fresh_prices: false }
    }

    fn named(&self, targets: &[Arc<str>]) -> Vec<Offer> {
        targets.iter().filter_map(|target| self.offer(target)).collect()
    }
}

impl Market for Past {
    fn offer(&self, target: &str) -> Option<Offer> {
        let noted = self.visited.offers.iter().find(|offer| *offer.listing.name == *target);
        match noted {
            Some(offer) if !self.fresh_prices => Some(offer.clone()),
            Some(offer) => {
                let listing =
                    self.today.offer(target).map_or_else(|| offer.listing.clone(), |now| now.listing);
                Some(Offer { listing, live: offer.live })
            }
            None => {
                let today = self.today.offer(target)?;
                let Some(notes) = &self.notes else { return Some(today) };
                notes.miss(&format!("numbers of {target}"));
                Some(Offer { live: Default::default(), ..today })
            }
        }
    }

    fn behind(&self, name: &str) -> Vec<Offer> {
        if let Some(targets) = self.visited.aliases.get(name) {
            return self.named(targets);
        }
        let today: Vec<_> =
            self.today.behind(name).into_iter().map(|offer| offer.listing.name.clone()).collect();
        self.named(&today)
    }

    fn all(&self) -> Vec<Offer> {
        if let Some(targets) = self.visited.aliases.get(ALL) {
            return self.named(targets);
        }
        let today: Vec<_> = self.today.all().into_iter().map(|offer| offer.listing.name.clone()).collect();
        self.named(&today)
    }

    /// As it was reckoned then; for a size that nobody reckoned with, as the configuration says.
    fn cost(&self, offer: &Offer, size: Size) -> Option<f64> {
        let asked = |known: &&Costed| {
            known.target == offer.listing.name
                && known.size == (size.input, size.output)
                && !self.fresh_prices
        };
        match self.visited.costs.iter().find(asked) {
            Some(known) => known.dollars,
            None => self.today.cost(offer, size),
        }
    }

    /// As it stood then. How another one stood, nobody knows any more.
    fn purse(&self, budget: &str, who: Who<'_>) -> Option<Purse> {
        let noted = self.visited.purses.iter().find(|purse| *purse.name == *budget).cloned();
        noted.or_else(|| {
            let today = self.today.purse(budget, who)?;
            if let Some(notes) = &self.notes {
                notes.miss(&format!("budget {budget}"));
            }
            Some(today)
        })
    }
}

impl fmt::Debug for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Past")
    }
}

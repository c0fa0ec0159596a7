//! Prices that somebody would like to try.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::facts::market::{Listing, Market, Offer, Price, Purse, Size, Who};

/// Prices by target (`provider/model`) or by model.
#[derive(Debug)]
pub struct Prices(BTreeMap<String, Price>);

impl Prices {
    /// Reads a file: YAML or JSON, `name: { input: 2.5, output: 10 }` in dollars per million tokens.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(file: &Path) -> Result<Self, String> {
        let complain = |what: String| format!("{}: {what}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| complain(error.to_string()))?;
        let prices: BTreeMap<String, Price> =
            serde_yaml::from_str(&text).map_err(|error| complain(error.to_string()))?;
        for (name, price) in &prices {
            if [price.input, price.output].iter().any(|dollars| !dollars.is_finite() || *dollars < 0.0) {
                return Err(complain(format!("`{name}`: a price is a number from 0")));
            }
        }
        Ok(Self(prices))
    }

    /// Names that no target of this market has.
    pub fn strangers(&self, market: &dyn Market) -> Vec<&str> {
        let offers = market.all();
        let has = |target: &str, name: &str| {
            target == name || target.split_once('/').is_some_and(|(_, model)| model == name)
        };
        let names = self.0.keys().map(String::as_str);
        names.filter(|name| !offers.iter().any(|offer| has(&offer.listing.name, name))).collect()
    }

    fn of(&self, target: &str) -> Option<Price> {
        let model = || self.0.get(target.split_once('/')?.1);
        self.0.get(target).or_else(model).copied()
    }
}

/// A market in which some prices are others.
pub(super) struct Repriced {
    market: Arc<dyn Market>,
    prices: Arc<Prices>,
}

impl Repriced {
    pub(super) fn new(market: Arc<dyn Market>, prices: Arc<Prices>) -> Self {
        Self { market, prices }
    }

    fn priced(&self, offer: Offer) -> Offer {
        match self.prices.of(&offer.listing.name) {
            Some(price) => {
                let listing = Listing { price: Some(price), ..Listing::clone(&offer.listing) };
                Offer { listing: Arc::new(listing), live: offer.live }
            }
            None => offer,
        }
    }
}

impl Market for Repriced {
    fn offer(&self, target: &str) -> Option<Offer> {
        self.market.offer(target).map(|offer| self.priced(offer))
    }

    fn behind(&self, name: &str) -> Vec<Offer> {
        self.market.behind(name).into_iter().map(|offer| self.priced(offer)).collect()
    }

    fn all(&self) -> Vec<Offer> {
        self.market.all().into_iter().map(|offer| self.priced(offer)).collect()
    }

    fn cost(&self, offer: &Offer, size: Size) -> Option<f64> {
        match self.prices.of(&offer.listing.name) {
            Some(price) => Some(price.of(size)),
            None => self.market.cost(offer, size),
        }
    }

    fn purse(&self, budget: &str, who: Who<'_>) -> Option<Purse> {
        self.market.purse(budget, who)
    }
}

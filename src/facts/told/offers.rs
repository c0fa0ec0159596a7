//! A market in which some targets fare otherwise than usual: the rest is as around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::facts::market::{Listing, Live, Market, Offer, Purse, Size, Who};

/// What can be told of a target.
const FIELDS: [&str; 16] = [
    "tags",
    "labels",
    "price",
    "context_window",
    "max_output",
    "can",
    "latency",
    "first_token",
    "tokens_per_second",
    "error_rate",
    "in_flight",
    "ewma",
    "healthy",
    "health",
    "quota",
    "name",
];

/// Told offers over a market.
pub(super) struct Overlay {
    around: Arc<dyn Market>,
    told: BTreeMap<String, Offer>,
    budgets: BTreeMap<String, Purse>,
}

impl Overlay {
    /// The market with what is told of some targets, field by field.
    pub(super) fn over(
        around: &Arc<dyn Market>,
        candidates: &BTreeMap<String, Map<String, Value>>,
        budgets: &BTreeMap<String, Purse>,
    ) -> Result<Arc<dyn Market>, String> {
        let mut told = BTreeMap::new();
        for (name, fields) in candidates {
            if let Some(unknown) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
                let hint = super::meant(unknown, &FIELDS);
                return Err(format!("`candidates.{name}`: unknown field `{unknown}`{hint}"));
            }
            let usual = around.offer(name).unwrap_or_else(|| Offer {
                listing: Arc::new(Listing { name: name.as_str().into(), ..Listing::default() }),
                live: Live::default(),
            });
            let offer = told_of(&usual, fields).map_err(|error| format!("`candidates.{name}`: {error}"))?;
            told.insert(name.clone(), offer);
        }
        let named = |(name, purse): (&String, &Purse)| {
            let name: Arc<str> = name.as_str().into();
            (name.to_string(), Purse { name, ..purse.clone() })
        };
        let budgets = budgets.iter().map(named).collect();
        Ok(Arc::new(Self { around: Arc::clone(around), told, budgets }))
    }

    fn told(&self, offer: Offer) -> Offer {
        self.told.get(&*offer.listing.name).cloned().unwrap_or(offer)
    }
}

impl Market for Overlay {
    fn offer(&self, target: &str) -> Option<Offer> {
        self.told.get(target).cloned().or_else(|| self.around.offer(target))
    }

    fn behind(&self, name: &str) -> Vec<Offer> {
        self.around.behind(name).into_iter().map(|offer| self.told(offer)).collect()
    }

    fn all(&self) -> Vec<Offer> {
        let mut all: Vec<Offer> = self.around.all().into_iter().map(|offer| self.told(offer)).collect();
        let further =
            self.told.values().filter(|told| !all.iter().any(|o| o.listing.name == told.listing.name));
        let further: Vec<Offer> = further.cloned().collect();
        all.extend(further);
        all
    }

    fn cost(&self, offer: &Offer, size: Size) -> Option<f64> {
        match self.told.get(&*offer.listing.name) {
            Some(told) => Some(told.listing.price?.of(size)),
            None => self.around.cost(offer, size),
        }
    }

    fn purse(&self, budget: &str, who: Who<'_>) -> Option<Purse> {
        self.budgets.get(budget).cloned().or_else(|| self.around.purse(budget, who))
    }
}

fn told_of(usual: &Offer, fields: &Map<String, Value>) -> serde_json::Result<Offer> {
    let mut offer = serde_json::to_value(usual)?;
    for (name, value) in fields {
        lay(&mut offer[name.as_str()], value);
    }
    serde_json::from_value(offer)
}

/// Maps are laid over each other field by field; everything else is replaced.
fn lay(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                lay(under.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

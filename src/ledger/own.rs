//! Prices and facts that somebody set by hand or by webhook, over what lists say.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;

use super::model::{Abilities, Kind, Model};
use super::price::{OffPeak, Price};
use super::rate::Rate;
use super::reserved::Reserved;

/// What was set for one model; what is `None` stays as it is known otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Own {
    /// Another model, as a list calls it, with the same price and facts.
    pub like: Option<String>,
    /// How much of the list price is paid, in percent.
    pub percent: Option<u32>,
    /// All rates.
    pub rates: Option<Vec<Rate>>,
    /// Other rates at certain times.
    pub off_peak: Vec<OffPeak>,
    /// Capacity that is paid for already.
    pub reserved: Option<Arc<Reserved>>,
    /// What it is for.
    pub kind: Option<Kind>,
    /// Tokens that a prompt may have.
    pub context_window: Option<u32>,
    /// Tokens that an answer may have.
    pub max_output: Option<u32>,
    /// What it can.
    pub abilities: Option<Abilities>,
    /// The day on which its maker switches it off.
    pub deprecation: Option<Date>,
}

/// What was set, by `provider/model`, or by the beginning of such names with `*` at the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Owns(pub BTreeMap<String, Own>);

impl Own {
    /// What is known of `model` with this over it.
    pub fn over(&self, mut model: Model) -> Model {
        if let Some(rates) = &self.rates {
            model.price = Some(Price { rates: rates.clone(), ..Price::default() });
        }
        if let Some(price) = &mut model.price {
            if !self.off_peak.is_empty() {
                price.off_peak.clone_from(&self.off_peak);
            }
            if let Some(percent) = self.percent {
                price.percent = Some(percent);
            }
            if self.reserved.is_some() {
                price.reserved.clone_from(&self.reserved);
            }
        }
        model.kind = self.kind.unwrap_or(model.kind);
        model.context_window = self.context_window.or(model.context_window);
        model.max_output = self.max_output.or(model.max_output);
        model.abilities = self.abilities.unwrap_or(model.abilities);
        model.deprecation = self.deprecation.or(model.deprecation);
        model
    }

    /// This over what was set for more models than this one. Of what is like another model, only the terms of payment
    /// were meant there, not price and facts; and who writes a price wants no discount on it that was set for others.
    fn onto(&self, mut wider: Self) -> Self {
        if self.like.is_some() {
            let Self { percent, off_peak, reserved, .. } = wider;
            wider = Self { percent, off_peak, reserved, ..Self::default() };
        }
        if self.rates.is_some() {
            wider = Self { percent: None, off_peak: Vec::new(), reserved: None, ..wider };
        }
        Self {
            like: self.like.clone().or(wider.like),
            percent: self.percent.or(wider.percent),
            rates: self.rates.clone().or(wider.rates),
            off_peak: if self.off_peak.is_empty() { wider.off_peak } else { self.off_peak.clone() },
            reserved: self.reserved.clone().or(wider.reserved),
            kind: self.kind.or(wider.kind),
            context_window: self.context_window.or(wider.context_window),
            max_output: self.max_output.or(wider.max_output),
            abilities: self.abilities.or(wider.abilities),
            deprecation: self.deprecation.or(wider.deprecation),
        }
    }

    /// All of a model, as a list has it.
    pub fn whole(model: Model) -> Self {
        Self {
            rates: model.price.as_ref().map(|price| price.rates.clone()),
            off_peak: model.price.map(|price| price.off_peak).unwrap_or_default(),
            kind: Some(model.kind),
            context_window: model.context_window,
            max_output: model.max_output,
            abilities: Some(model.abilities),
            deprecation: model.deprecation,
            ..Self::default()
        }
    }
}

impl Owns {
    /// What was set for this model: by its name, over what was set by beginnings of it, the longer over the shorter.
    pub fn find(&self, provider: &str, model: &str) -> Option<Own> {
        if self.0.is_empty() {
            return None;
        }
        let name = format!("{provider}/{model}");
        let beginnings = self.0.iter().filter_map(|(key, own)| Some((key.strip_suffix('*')?, own)));
        let mut fitting: Vec<_> = beginnings.filter(|(beginning, _)| name.starts_with(beginning)).collect();
        fitting.sort_by_key(|(beginning, _)| beginning.len());
        let mut all = fitting.into_iter().map(|(_, own)| own).chain(self.0.get(&name));
        let widest = all.next()?.clone();
        Some(all.fold(widest, |wider, own| own.onto(wider)))
    }

    /// Keeps what was taken already of capacity whose terms have not changed.
    pub fn inherit(&mut self, older: &Self) {
        for (name, own) in &mut self.0 {
            if let (Some(fresh), Some(Some(old))) =
                (&own.reserved, older.0.get(name).map(|old| &old.reserved))
                && fresh == old
            {
                own.reserved = Some(old.clone());
            }
        }
    }
}

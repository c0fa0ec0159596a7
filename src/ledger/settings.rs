//! Settings of the price book: where prices come from, and prices of one's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hours::{EVERY_DAY, Hours, span, zone};
use super::model::Abilities;
use super::own::Own;
use super::price::OffPeak;
use super::rate::{Rate, Tier, Unit};
use super::reserved::{Every, Reserved};
use crate::money::Pico;
use crate::settings::{Date, Period};

/// What models cost. Without this section, prices of the vendors' own pages count as they were known when this version
/// was made.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PriceSettings {
    /// Price lists that are read at the start and then again and again. A later one counts before an earlier one, and
    /// each before the built-in prices.
    pub sources: Vec<SourceSettings>,
    /// Prices and facts of one's own, by `provider/model` (the provider's name in this configuration), or by the beginning
    /// of such a name with `*` at its end. They count before all others. Where several fit a model, the longer ones count
    /// before the shorter ones, which say what those leave open.
    pub models: BTreeMap<String, ModelPrice>,
}

/// A price list elsewhere.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// The path of a file, or an `https://` address. The form is recognised: LiteLLM's price file, the `/models` of
    /// OpenRouter, or a document with `models:` as below.
    pub from: String,
    /// How long until it is read again; at least `1m`.
    #[serde(default = "day")]
    pub every: Period,
    /// Whose models a list in OpenRouter's form names.
    #[serde(default = "openrouter")]
    pub provider: String,
}

fn day() -> Period {
    Period::secs(86_400)
}

fn openrouter() -> String {
    "openrouter".to_owned()
}

/// Units and their prices in US dollars: tokens and characters by the million, pictures, seconds and requests one by one.
pub type Rates = BTreeMap<Unit, f64>;

/// What one model costs, and what is known of it. What is not written stays as it is known otherwise; but once `price`
/// is written, no other price of the model counts.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ModelPrice {
    /// A model with the same price and facts, as a price list calls it (`azure/gpt-4o`): for deployments with names of
    /// one's own.
    pub like: Option<String>,
    /// How much of the list price is paid, in percent: 80 for a discount of a fifth, 110 for a surcharge.
    #[schemars(range(min = 0, max = 1000))]
    pub percent: Option<u32>,
    /// Prices in the standard tier, in US dollars: for a million of `input`, `cached_read`, `cache_write`,
    /// `cache_write_long`, `output`, `reasoning`, `input_audio`, `output_audio`, `cached_audio`, `input_image`,
    /// `output_image`, `cached_image`, `character`; for one `image`, `audio_second`, `request`.
    pub price: Option<Rates>,
    /// Prices in the batch tier, as far as they are others.
    pub batch: Rates,
    /// Prices in the flex tier, as far as they are others.
    pub flex: Rates,
    /// Prices in the priority tier, as far as they are others.
    pub priority: Rates,
    /// Prices in the ultrafast tier, as far as they are others.
    pub ultrafast: Rates,
    /// Prices for long prompts, as far as they are others.
    pub above: Vec<AbovePrice>,
    /// Prices at certain times.
    pub off_peak: Vec<OffPeakPrice>,
    /// Capacity that is paid for already.
    pub reserved: Option<ReservedSettings>,
    /// Tokens that a prompt may have.
    #[schemars(range(min = 1))]
    pub context_window: Option<u32>,
    /// Tokens that an answer may have.
    #[schemars(range(min = 1))]
    pub max_output: Option<u32>,
    /// What the model can; replaces what is known otherwise.
    pub capabilities: Option<Abilities>,
    /// The day on which its maker switches it off.
    pub deprecation: Option<Date>,
}

/// Prices for long prompts.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AbovePrice {
    /// Prompts of more than this many tokens.
    #[schemars(range(min = 1))]
    pub tokens: u32,
    /// What every token of such a request costs.
    pub price: Rates,
}

/// Prices at certain times.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct OffPeakPrice {
    /// Hours of the day, such as `16:30-00:30`.
    pub hours: Vec<String>,
    /// Days of the week; all where none are written.
    #[serde(default)]
    pub days: Vec<Day>,
    /// The time zone of hours and days, such as `Asia/Shanghai`.
    #[serde(default = "utc")]
    pub zone: String,
    /// How much of the usual price is paid then, in percent.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub percent: Option<u32>,
    /// Prices then.
    #[serde(default)]
    pub price: Rates,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A day of the week.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "days of the week")]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// Capacity that is paid for already.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ReservedSettings {
    /// Tokens of each period, in and out, that cost nothing more.
    pub tokens: u64,
    /// The period.
    pub per: Every,
    /// The time zone in which days and months begin.
    #[serde(default = "utc")]
    pub zone: String,
}

impl ModelPrice {
    /// These settings, checked.
    ///
    /// # Errors
    /// Everything that is wrong with them: the key and the complaint.
    pub fn checked(&self) -> Result<Own, Vec<(&'static str, String)>> {
        let mut errors = Vec::new();
        let mut rates = Vec::new();
        let tiers = [
            ("batch", Tier::Batch, &self.batch),
            ("flex", Tier::Flex, &self.flex),
            ("priority", Tier::Priority, &self.priority),
            ("ultrafast", Tier::Ultrafast, &self.ultrafast),
        ];
        let all = self.price.iter().map(|price| ("price", Tier::Standard, 0, price));
        let all = all.chain(tiers.into_iter().map(|(key, tier, prices)| (key, tier, 0, prices)));
        let above = self.above.iter().map(|above| ("above", Tier::Standard, above.tokens, &above.price));
        for (key, tier, above, prices) in all.chain(above) {
            for (unit, price) in prices {
                match pico(*unit, *price) {
                    Ok(price) => rates.push(Rate { unit: *unit, tier, above, price }),
                    Err(error) => errors.push((key, error)),
                }
            }
        }
        if self.price.is_none() && !rates.is_empty() {
            errors.push(("price", "prices of tiers and of long prompts need `price` beside them".to_owned()));
        }
        if self.like.as_ref().is_some_and(|like| !like.contains('/')) {
            errors.push(("like", "write it as `provider/model`".to_owned()));
        }
        let mut off_peak = Vec::new();
        for part in &self.off_peak {
            match part.checked() {
                Ok(part) => off_peak.push(part),
                Err(error) => errors.push(("off_peak", error)),
            }
        }
        let reserved = match &self.reserved {
            None => None,
            Some(reserved) => zone(&reserved.zone)
                .map(|zone| Arc::new(Reserved::new(reserved.tokens, reserved.per, zone)))
                .map_err(|error| errors.push(("reserved", error)))
                .ok(),
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Own {
            like: self.like.clone(),
            percent: self.percent,
            rates: self.price.is_some().then_some(rates),
            off_peak,
            reserved,
            kind: None,
            context_window: self.context_window,
            max_output: self.max_output,
            abilities: self.capabilities,
            deprecation: self.deprecation.map(|date| date.0.to_zoned(TimeZone::UTC).date()),
        })
    }
}

impl OffPeakPrice {
    fn checked(&self) -> Result<OffPeak, String> {
        if self.hours.is_empty() {
            return Err("has no hours, so it would never apply (\"00:00-00:00\" are whole days)".to_owned());
        }
        let spans = self.hours.iter().map(|text| {
            span(text).ok_or_else(|| format!("`{text}` is not a span of hours (try \"16:30-00:30\")"))
        });
        let spans = spans.collect::<Result<Vec<_>, _>>()?;
        let days = self.days.iter().fold(0, |all, day| all | 1 << (*day as u8));
        let days = if days == 0 { EVERY_DAY } else { days };
        let hours = Hours { zone: zone(&self.zone)?, days_zone: None, days, spans };
        let rates = self.price.iter().map(|(unit, price)| Ok((*unit, pico(*unit, *price)?)));
        let rates = rates.collect::<Result<Vec<_>, String>>()?;
        if rates.is_empty() && self.percent.is_none() {
            return Err("write `percent` or `price`".to_owned());
        }
        Ok(OffPeak { hours: vec![hours], rates, percent: self.percent })
    }
}

fn pico(unit: Unit, dollars: f64) -> Result<Pico, String> {
    let price = if unit.by_million() { Pico::per_million(dollars) } else { Pico::per_unit(dollars) };
    price.ok_or_else(|| format!("{dollars} for `{}` is not a price in US dollars", unit.name()))
}

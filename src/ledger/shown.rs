//! Facts and prices as JSON, for lists of models and the admin API. Prices are dollars: for a million tokens or
//! characters, and for one of everything else, under the names that the configuration uses.

use serde_json::{Map, Number, Value, json};

use super::model::Model;
use super::price::Price;
use super::rate::{Rate, Tier, Unit};
use crate::money::Pico;

/// What is known of a model; what is not known is left out.
pub fn facts(model: &Model) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut say = |name: &str, value: Value| drop(facts.insert(name.to_owned(), value));
    say("kind", model.kind.name().into());
    for (name, number) in [("context_window", model.context_window), ("max_output_tokens", model.max_output)]
    {
        if let Some(number) = number {
            say(name, number.into());
        }
    }
    say("input_modalities", model.input_modalities().into());
    say("output_modalities", model.output_modalities().into());
    if !model.abilities.is_empty() {
        say("capabilities", model.abilities.names().collect::<Vec<_>>().into());
    }
    if let Some(date) = model.deprecation {
        say("deprecation_date", date.to_string().into());
    }
    if let Some(price) = &model.price {
        say("pricing", pricing(price));
    }
    facts
}

/// A price; tiers, thresholds and off-peak hours only where there are some.
pub fn pricing(price: &Price) -> Value {
    let rates = |tier: Tier, above: u32| {
        let own = price.rates.iter().filter(move |rate| rate.tier == tier && rate.above == above);
        said(own.map(|rate| (rate.unit, rate.price)), price.percent)
    };
    let mut shown = rates(Tier::Standard, 0);
    shown.insert("unit".to_owned(), "USD per million tokens".into());
    for (tier, _, name) in Tier::ALL.into_iter().filter(|(tier, ..)| *tier != Tier::Standard) {
        let own = rates(tier, 0);
        if !own.is_empty() {
            shown.insert(name.to_owned(), own.into());
        }
    }
    let mut thresholds: Vec<u32> =
        price.rates.iter().map(|rate: &Rate| rate.above).filter(|above| *above > 0).collect();
    thresholds.sort_unstable();
    thresholds.dedup();
    let above: Vec<Value> = thresholds
        .into_iter()
        .map(|above| {
            let mut band = rates(Tier::Standard, above);
            band.insert("tokens".to_owned(), above.into());
            band.into()
        })
        .collect();
    if !above.is_empty() {
        shown.insert("above".to_owned(), above.into());
    }
    let off_peak: Vec<Value> = price
        .off_peak
        .iter()
        .map(|off_peak| {
            let mut part = said(off_peak.rates.iter().copied(), price.percent);
            if let Some(percent) = off_peak.percent {
                part.insert("percent".to_owned(), percent.into());
            }
            part.into()
        })
        .collect();
    if !off_peak.is_empty() {
        shown.insert("off_peak".to_owned(), off_peak.into());
    }
    if let Some(reserved) = &price.reserved {
        shown.insert("reserved".to_owned(), json!({ "tokens": reserved.tokens, "per": reserved.every }));
    }
    shown.into()
}

fn said(rates: impl Iterator<Item = (Unit, Pico)>, percent: Option<u32>) -> Map<String, Value> {
    rates
        .map(|(unit, price)| {
            let price = percent.map_or(price, |percent| price.percent(percent));
            let dollars = if unit.by_million() { price.million() } else { price.one() };
            (unit.name().to_owned(), Number::from_f64(dollars).map_or(Value::Null, Value::Number))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::compact;
    use super::*;

    #[test]
    fn facts_are_shown_in_the_words_of_the_configuration() {
        let line = "a/b\tchat\t128000\t16384\t2027-01-14\ttv\ti=2500000 i.b=1250000 i>200000=5000000 o=10000000 q=5000000000";
        let shown = Value::Object(facts(&compact::read(line).unwrap()));
        let expected = json!({
            "kind": "chat", "context_window": 128_000, "max_output_tokens": 16_384,
            "input_modalities": ["text", "image"], "output_modalities": ["text"], "capabilities": ["tools", "vision"],
            "deprecation_date": "2027-01-14",
            "pricing": {
                "input": 2.5, "output": 10.0, "request": 0.005, "unit": "USD per million tokens",
                "batch": {"input": 1.25}, "above": [{"input": 5.0, "tokens": 200_000}]
            }
        });
        assert_eq!(shown, expected);
        let bare = Value::Object(facts(&Model::default()));
        assert_eq!(
            bare,
            json!({"kind": "chat", "input_modalities": ["text"], "output_modalities": ["text"]})
        );
    }
}

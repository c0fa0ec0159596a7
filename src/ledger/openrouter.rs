//! OpenRouter's list of models: `GET /models`, prices as text in dollars for one unit.
//! <https://openrouter.ai/docs/api-reference/list-available-models>

use serde_json::Value;

use super::model::{Abilities, Kind, Model};
use super::price::Price;
use super::rate::{Rate, Tier, Unit};
use crate::money::Pico;

const PRICES: &[(&str, Unit)] = &[
    ("prompt", Unit::Input),
    ("completion", Unit::Output),
    ("input_cache_read", Unit::CachedRead),
    ("input_cache_write", Unit::CacheWrite),
    ("internal_reasoning", Unit::Reasoning),
    ("audio", Unit::InputAudio),
    ("request", Unit::Request),
];

const PARAMETERS: &[(&str, Abilities)] = &[
    ("tools", Abilities::TOOLS),
    ("structured_outputs", Abilities::JSON),
    ("response_format", Abilities::JSON),
    ("reasoning", Abilities::REASONING),
    ("web_search_options", Abilities::WEB_SEARCH),
];

const READS: &[(&str, Abilities)] = &[
    ("image", Abilities::VISION),
    ("audio", Abilities::AUDIO_IN),
    ("video", Abilities::VIDEO),
    ("file", Abilities::FILES),
];

const MAKES: &[(&str, Abilities)] = &[("image", Abilities::IMAGE_OUT), ("audio", Abilities::AUDIO_OUT)];

/// Names and facts of all models in the list, as models of `provider`, and how many entries have no name.
pub fn read(data: &[Value], provider: &str) -> (Vec<(String, Model)>, usize) {
    let models: Vec<_> = data
        .iter()
        .filter_map(|entry| {
            let id = entry.get("id")?.as_str().filter(|id| !id.is_empty() && !id.contains(['\t', '\n']))?;
            Some((format!("{provider}/{id}"), model(entry)))
        })
        .collect();
    let nameless = data.len() - models.len();
    (models, nameless)
}

fn model(entry: &Value) -> Model {
    let number = |path: &str| entry.pointer(path)?.as_u64().and_then(|n| u32::try_from(n).ok());
    let set = |path: &str, table: &[(&str, Abilities)]| {
        let words = entry.pointer(path).and_then(Value::as_array).into_iter().flatten();
        let known = words.filter_map(|word| table.iter().find(|(name, _)| word == name));
        known.fold(Abilities::default(), |all, (_, one)| all.with(*one))
    };
    let rates: Vec<Rate> = PRICES
        .iter()
        .filter_map(|(field, unit)| {
            let price = match entry.get("pricing")?.get(field)? {
                Value::String(text) => text.parse().ok()?,
                number => number.as_f64()?,
            };
            // Everything has the field `request`; nobody charges for it who says nothing.
            let price = Pico::per_unit(price).filter(|price| price.0 > 0 || token(*unit))?;
            Some(Rate { unit: *unit, tier: Tier::Standard, above: 0, price })
        })
        // Cached and reasoning tokens at zero mean that nothing special is charged for them.
        .filter(|rate| rate.price.0 > 0 || matches!(rate.unit, Unit::Input | Unit::Output))
        .collect();
    Model {
        kind: Kind::Chat,
        context_window: number("/context_length"),
        max_output: number("/top_provider/max_completion_tokens"),
        abilities: set("/supported_parameters", PARAMETERS)
            .with(set("/architecture/input_modalities", READS))
            .with(set("/architecture/output_modalities", MAKES)),
        deprecation: entry.get("expiration_date").and_then(Value::as_str).and_then(|date| date.parse().ok()),
        price: (!rates.is_empty()).then(|| Price { rates, ..Price::default() }),
    }
}

fn token(unit: Unit) -> bool {
    unit != Unit::Request
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ledger::compact;

    #[test]
    fn a_list_is_read_as_it_is_published() {
        let data = [
            json!({
                "id": "anthropic/claude-sonnet-4.5", "context_length": 1_000_000,
                "architecture": {"input_modalities": ["text", "image", "file"], "output_modalities": ["text"]},
                "pricing": {"prompt": "0.000003", "completion": "0.000015", "request": "0", "image": "0.0048",
                    "internal_reasoning": "0", "input_cache_read": "0.0000003", "input_cache_write": "0.00000375"},
                "top_provider": {"max_completion_tokens": 64_000}, "supported_parameters": ["tools", "reasoning"]
            }),
            json!({"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}}),
            json!({"id": "meta/llama:free", "pricing": {"prompt": "0", "completion": "0"}}),
            json!({"name": "nobody"}),
        ];
        let (models, nameless) = read(&data, "openrouter");
        let mut lines = String::new();
        for (name, model) in &models {
            compact::write(&mut lines, name, model);
        }
        let expected = "openrouter/anthropic/claude-sonnet-4.5\tchat\t1000000\t64000\t\ttvrp\ti=3000000 r=300000 w=3750000 o=15000000\n\
            openrouter/openrouter/auto\tchat\t\t\t\t\t\n\
            openrouter/meta/llama:free\tchat\t\t\t\t\ti=0 o=0\n";
        assert_eq!((lines.as_str(), nameless), (expected, 1));
    }
}

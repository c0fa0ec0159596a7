//! The price file that LiteLLM publishes: a JSON object of model names, whose form has become the usual one.
//! <https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json>

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::hours::{EVERY_DAY, Hours, span, zone};
use super::model::{Abilities, Kind, Model};
use super::price::{OffPeak, Price};
use super::rate::{Rate, Tier, Unit};
use crate::money::Pico;

/// Its providers, ours, and what its names begin with besides.
const PROVIDERS: &[(&str, &str, &[&str])] = &[
    ("openai", "openai", &["openai/"]),
    ("text-completion-openai", "openai", &[]),
    ("azure", "azure", &["azure/"]),
    ("azure_text", "azure", &["azure/"]),
    ("azure_ai", "azure-foundry", &["azure_ai/"]),
    ("anthropic", "anthropic", &["anthropic/"]),
    ("bedrock", "bedrock", &["bedrock/"]),
    ("bedrock_converse", "bedrock", &["bedrock/"]),
    ("gemini", "gemini", &["gemini/"]),
    ("mistral", "mistral", &["mistral/"]),
    ("text-completion-codestral", "mistral", &["text-completion-codestral/"]),
    ("codestral", "mistral", &["codestral/"]),
    ("cohere", "cohere", &["cohere/"]),
    ("cohere_chat", "cohere", &["cohere_chat/"]),
    ("deepseek", "deepseek", &["deepseek/"]),
    ("dashscope", "qwen", &["dashscope/"]),
    ("groq", "groq", &["groq/"]),
    ("xai", "xai", &["xai/"]),
    ("openrouter", "openrouter", &["openrouter/"]),
    ("together_ai", "together", &["together_ai/"]),
    ("fireworks_ai", "fireworks", &["fireworks_ai/"]),
    ("fireworks_ai-embedding-models", "fireworks", &["fireworks_ai/"]),
    ("cerebras", "cerebras", &["cerebras/"]),
    ("perplexity", "perplexity", &["perplexity/"]),
    ("moonshot", "moonshot", &["moonshot/"]),
    ("zai", "zai", &["zai/"]),
    ("deepinfra", "deepinfra", &["deepinfra/"]),
    ("nebius", "nebius", &["nebius/"]),
    ("nvidia_nim", "nvidia", &["nvidia_nim/"]),
    ("huggingface", "huggingface", &["huggingface/"]),
    ("github", "github", &["github/"]),
    ("jina_ai", "jina", &["jina_ai/"]),
    ("voyage", "voyage", &["voyage/"]),
];

/// Claude in Azure's Foundry is a preset of its own.
const AZURE_CLAUDE: &str = "azure-anthropic";

/// Our units by the beginnings of its field names; the rest of a name is a threshold and a tier.
const FIELDS: &[(&str, Unit)] = &[
    ("input_cost_per_token", Unit::Input),
    ("cache_read_input_token_cost", Unit::CachedRead),
    ("cache_read_input_audio_token_cost", Unit::CachedAudio),
    ("cache_read_input_image_token_cost", Unit::CachedImage),
    ("cache_creation_input_token_cost_above_1hr", Unit::CacheWriteLong),
    ("cache_creation_input_token_cost", Unit::CacheWrite),
    ("output_cost_per_token", Unit::Output),
    ("output_cost_per_reasoning_token", Unit::Reasoning),
    ("input_cost_per_audio_token", Unit::InputAudio),
    ("output_cost_per_audio_token", Unit::OutputAudio),
    ("input_cost_per_image_token", Unit::InputImage),
    ("output_cost_per_image_token", Unit::OutputImage),
    ("citation_cost_per_token", Unit::Citation),
];

/// What a search costs, by how much it reads.
const SEARCH: &str = "search_context_cost_per_query";

/// Models that search for every request pay for each of them.
const SEARCHES: [(&str, Unit); 3] = [
    ("search_context_size_low", Unit::Request),
    ("search_context_size_medium", Unit::RequestMedium),
    ("search_context_size_high", Unit::RequestHigh),
];

/// OpenAI's own: <https://platform.openai.com/docs/models/gpt-4o-search-preview>
const SEARCHERS: [&str; 3] = ["gpt-4o-search-preview", "gpt-4o-mini-search-preview", "gpt-5-search-api"];

/// Providers whose models search for a whole prompt, unless it is said that each search is paid for.
const GOOGLES: [&str; 3] = ["gemini", "vertex_ai", "vertex_ai-language-models"];

/// Dollars for a search by a model of xAI, which lists leave out: <https://docs.x.ai/docs/models#tools-pricing>
const XAI_SEARCH: f64 = 0.005;

/// What an answer costs that is grounded on Google's maps.
const MAPS: &str = "google_maps_grounding_cost_per_query";

/// Factors of prices that only one provider has: how many times the price of tokens.
const FACTORS: (&str, [(&str, Unit); 2]) =
    ("provider_specific_entry", [("fast", Unit::Fast), ("us", Unit::UsOnly)]);

/// The fast modes of Anthropic's models, where a list does not say them: what they cost at OpenRouter over what the models
/// cost there otherwise, in November of 2026. <https://platform.claude.com/docs/en/build-with-claude/fast-mode>
const FAST: [(&str, f64); 5] = [
    ("claude-opus-4-6", 6.0),
    ("claude-opus-4-7", 6.0),
    ("claude-opus-4-8", 2.0),
    ("claude-opus-5-5", 2.0),
    ("claude-opus-5", 2.0),
];

/// What counts where models search when they want to: nobody says how much is read, and it is the usual.
const SEARCHED: [&str; 2] = ["search_context_size_medium", "search_context_size_low"];

const FLAGS: &[(&str, Abilities)] = &[
    ("supports_function_calling", Abilities::TOOLS),
    ("supports_vision", Abilities::VISION),
    ("supports_response_schema", Abilities::JSON),
    ("supports_native_structured_output", Abilities::JSON),
    ("supports_reasoning", Abilities::REASONING),
    ("supports_prompt_caching", Abilities::CACHE),
    ("supports_audio_input", Abilities::AUDIO_IN),
    ("supports_audio_output", Abilities::AUDIO_OUT),
    ("supports_pdf_input", Abilities::FILES),
    ("supports_video_input", Abilities::VIDEO),
    ("supports_web_search", Abilities::WEB_SEARCH),
    ("supports_computer_use", Abilities::COMPUTER),
    ("supports_assistant_prefill", Abilities::PREFILL),
    ("supports_parallel_function_calling", Abilities::PARALLEL),
];

/// Names and facts of all models of providers that we know, and how many were of others.
pub fn read(file: &Map<String, Value>) -> (Vec<(String, Model)>, usize) {
    let (mut models, mut others) = (Vec::new(), 0);
    for (name, facts) in file {
        let facts = facts.as_object();
        match facts.and_then(|facts| entry(name, facts)) {
            Some(entry) => {
                if let Some(claude) = entry.0.strip_prefix("azure-foundry/claude") {
                    models.push((format!("{AZURE_CLAUDE}/claude{claude}"), entry.1.clone()));
                }
                models.push(entry);
            }
            None => others += 1,
        }
    }
    // A plain name was first; one with the provider's prefix is the same model, said anew.
    (models, others)
}

fn entry(name: &str, facts: &Map<String, Value>) -> Option<(String, Model)> {
    let provider = facts.get("litellm_provider")?.as_str()?;
    let (ours, prefixes): (_, &[&str]) = match PROVIDERS.iter().find(|(theirs, ..)| *theirs == provider) {
        Some((_, ours, prefixes)) => (*ours, prefixes),
        None if provider.starts_with("vertex_ai") => ("vertex", &["vertex_ai/"]),
        None => return None,
    };
    let own = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    // Sizes and terms of contracts stand in names that nobody can ask for.
    let odd = own.contains("-x-") || own.contains("-commitment/") || own.contains(['\t', '\n', '*']);
    (!odd && !own.is_empty()).then(|| (format!("{ours}/{own}"), model(own, facts)))
}

/// The facts of one entry.
fn model(name: &str, facts: &Map<String, Value>) -> Model {
    let mode = facts.get("mode").and_then(Value::as_str).unwrap_or("chat");
    let kind = Kind::ALL.iter().find(|(_, theirs, _)| *theirs == mode).map_or(Kind::Chat, |(kind, ..)| *kind);
    let number = |key: &str| {
        let number = facts.get(key)?.as_f64().filter(|n| *n >= 1.0 && *n <= f64::from(u32::MAX))?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
        Some(number as u32)
    };
    let mut abilities = FLAGS
        .iter()
        .filter(|(flag, _)| facts.get(*flag).and_then(Value::as_bool) == Some(true))
        .fold(Abilities::default(), |all, (_, one)| all.with(*one));
    let makes = facts.get("supported_output_modalities").and_then(Value::as_array).into_iter().flatten();
    for (word, ability) in [("image", Abilities::IMAGE_OUT), ("audio", Abilities::AUDIO_OUT)] {
        if kind == Kind::Chat && makes.clone().any(|made| made == word) {
            abilities = abilities.with(ability);
        }
    }
    Model {
        kind,
        context_window: number("max_input_tokens"),
        max_output: number("max_output_tokens"),
        abilities,
        deprecation: facts.get("deprecation_date").and_then(Value::as_str).and_then(|date| date.parse().ok()),
        price: price(name, kind, facts),
    }
}

fn price(name: &str, kind: Kind, facts: &Map<String, Value>) -> Option<Price> {
    let mut rates: Vec<Rate> = facts.iter().filter_map(|(field, value)| token_rate(field, value)).collect();
    rates.extend(bands(facts));
    let perplexity = facts.get("litellm_provider").is_some_and(|provider| provider == "perplexity");
    let searches_always = perplexity || SEARCHERS.iter().any(|model| name.starts_with(model));
    rates.extend(searches(searches_always, facts));
    let standard = |unit, price| Rate { unit, tier: Tier::Standard, above: 0, price };
    let has = |rates: &[Rate], unit| rates.iter().any(|rate| rate.unit == unit);
    for (unit, fields) in units(kind) {
        let price = fields.iter().find_map(|field| Pico::per_unit(facts.get(*field)?.as_f64()?));
        rates.extend(price.map(|price| standard(*unit, price)));
    }
    // What makes only pictures has no other tokens.
    if kind == Kind::Image && !has(&rates, Unit::Output) {
        let pictures: Vec<Rate> =
            rates.iter().filter(|rate| rate.unit == Unit::OutputImage).copied().collect();
        rates.extend(pictures.into_iter().map(|rate| Rate { unit: Unit::Output, ..rate }));
    }
    // Zeros that only fill the fields of what is paid by other units.
    let costs = |rate: &Rate| rate.price.0 > 0;
    if rates.iter().any(|rate| costs(rate) && !token(rate.unit))
        && !rates.iter().any(|r| costs(r) && token(r.unit))
    {
        rates.retain(costs);
    }
    // A chat that costs nothing at all is a preview whose price nobody knows.
    let free = !rates.iter().any(costs) && kind != Kind::Moderation;
    rates.extend(searched(facts).filter(|_| !searches_always && !free));
    if !free && !rates.is_empty() {
        let maps = facts.get(MAPS).and_then(Value::as_f64).and_then(Pico::per_unit);
        rates.extend(maps.map(|price| standard(Unit::MapsPrompt, price)));
        rates.extend(factors(name, facts).map(|(unit, factor)| standard(unit, factor)));
    }
    (!free && !rates.is_empty()).then(|| Price { off_peak: off_peak(facts), rates, ..Price::default() })
}

/// How many times the price of its tokens a model costs that works in a certain manner.
fn factors<'a>(name: &'a str, facts: &'a Map<String, Value>) -> impl Iterator<Item = (Unit, Pico)> + 'a {
    let (field, words) = FACTORS;
    let anthropics = facts.get("litellm_provider").is_some_and(|provider| provider == "anthropic");
    words.into_iter().filter_map(move |(word, unit)| {
        let said = facts.get(field).and_then(|all| all.get(word)).and_then(Value::as_f64);
        let own = name.rsplit('/').next().unwrap_or(name);
        let is = |model: &str| {
            own.strip_prefix(model).is_some_and(|date| date.is_empty() || date.starts_with("-20"))
        };
        let known = FAST.iter().find(|(model, _)| anthropics && unit == Unit::Fast && is(model));
        Some((unit, Pico::per_unit(said.or(known.map(|(_, times)| *times))?)?))
    })
}

fn token(unit: Unit) -> bool {
    unit.by_million() && unit != Unit::Character
}

/// Units beside tokens, with the fields that price them, the first that is there counts.
fn units(kind: Kind) -> &'static [(Unit, &'static [&'static str])] {
    match kind {
        Kind::Image => &[(Unit::Image, &["output_cost_per_image", "input_cost_per_image"])],
        Kind::Transcription => &[(Unit::AudioSecond, &["input_cost_per_second", "output_cost_per_second"])],
        Kind::Speech => &[(Unit::Character, &["input_cost_per_character"])],
        Kind::Rerank => &[(Unit::Request, &["input_cost_per_query"])],
        _ => &[(Unit::Request, &["input_cost_per_request"])],
    }
}

/// What each request costs that is a search.
fn searches(searches_always: bool, facts: &Map<String, Value>) -> Vec<Rate> {
    let Some(costs) = facts.get(SEARCH).filter(|_| searches_always) else { return Vec::new() };
    let rate = |(size, unit): (&str, Unit)| search(costs.get(size)?, unit);
    let mut rates: Vec<Rate> = SEARCHES.into_iter().filter_map(rate).collect();
    // The smaller one stands in for the larger.
    rates.dedup_by_key(|rate| rate.price);
    rates
}

/// What searches cost that a model makes when it wants to, each or all of a prompt.
fn searched(facts: &Map<String, Value>) -> Option<Rate> {
    let of = |name: &str| facts.get("litellm_provider").is_some_and(|provider| provider == name);
    let Some(costs) = facts.get(SEARCH) else {
        return search(&XAI_SEARCH.into(), Unit::WebSearch).filter(|_| of("xai"));
    };
    let by_prompt = GOOGLES.iter().any(|google| of(google));
    let each = !by_prompt || facts.get("web_search_billing_unit").is_some_and(|unit| unit == "per_query");
    let unit = if each { Unit::WebSearch } else { Unit::WebSearchPrompt };
    search(SEARCHED.iter().find_map(|size| costs.get(*size))?, unit)
}

fn search(cost: &Value, unit: Unit) -> Option<Rate> {
    Some(Rate { unit, tier: Tier::Standard, above: 0, price: Pico::per_unit(cost.as_f64()?)? })
}

/// `input_cost_per_token_above_200k_tokens_priority`.
fn token_rate(field: &str, value: &Value) -> Option<Rate> {
    let price = Pico::per_unit(value.as_f64()?)?;
    let (mut rest, unit) =
        FIELDS.iter().find_map(|(start, unit)| Some((field.strip_prefix(start)?, *unit)))?;
    let mut above = 0;
    if let Some(threshold) = rest.strip_prefix("_above_") {
        let (thousands, after) = threshold.split_once("k_tokens")?;
        above = thousands.parse::<u32>().ok()?.checked_mul(1_000)?;
        rest = after;
    }
    let tier = match rest {
        "" => Tier::Standard,
        "_batches" => Tier::Batch,
        "_flex" => Tier::Flex,
        "_priority" => Tier::Priority,
        "_ultrafast" => Tier::Ultrafast,
        _ => return None,
    };
    Some(Rate { unit, tier, above, price })
}

/// `tiered_pricing`: rates by the size of the prompt.
fn bands(facts: &Map<String, Value>) -> Vec<Rate> {
    let bands = facts.get("tiered_pricing").and_then(Value::as_array).into_iter().flatten();
    let band = |band: &Value| {
        let band = band.as_object()?;
        let from = band.get("range")?.as_array()?.first()?.as_f64().filter(|n| (0.0..4e9).contains(n))?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
        let above = from as u32;
        let rates = band.iter().filter_map(|(field, value)| token_rate(field, value));
        Some(rates.map(|rate| Rate { above, ..rate }).collect::<Vec<_>>())
    };
    bands.filter_map(band).flatten().collect()
}

/// `off_peak_pricing`. What cannot be read is left out: then the usual price counts, which is the higher one.
fn off_peak(facts: &Map<String, Value>) -> Vec<OffPeak> {
    let read = || {
        let off_peak = facts.get("off_peak_pricing")?.as_object()?;
        let days_zone = match off_peak.get("weekday_timezone") {
            None => None,
            Some(name) => Some(zone(name.as_str()?).ok()?),
        };
        let hours = off_peak.get("windows")?.as_array()?.iter().map(|window| {
            let spans = match window.get("hours_utc")? {
                Value::String(text) => vec![span(text)?],
                Value::Array(texts) => {
                    texts.iter().map(|text| span(text.as_str()?)).collect::<Option<_>>()?
                }
                _ => return None,
            };
            let days = match window.get("weekdays").and_then(Value::as_array) {
                None => EVERY_DAY,
                Some(days) => days.iter().try_fold(0, |all, day| {
                    let day = day.as_u64().filter(|day| (1..=7).contains(day))?;
                    Some(all | 1 << (day - 1))
                })?,
            };
            Some(Hours { zone: TimeZone::UTC, days_zone: days_zone.clone(), days, spans })
        });
        let hours: Option<Vec<_>> = hours.collect();
        let rates = off_peak.iter().filter_map(|(field, value)| token_rate(field, value));
        let rates = rates.filter(|rate| rate.above == 0 && rate.tier == Tier::Standard);
        Some(OffPeak { hours: hours?, rates: rates.map(|r| (r.unit, r.price)).collect(), percent: None })
    };
    read().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rates(price: Option<Price>) -> Vec<(Unit, Tier, u32, u64)> {
        let mut rates: Vec<_> = price
            .unwrap_or_default()
            .rates
            .iter()
            .map(|rate| (rate.unit, rate.tier, rate.above, rate.price.0))
            .collect();
        rates.sort_unstable();
        rates
    }

    #[test]
    fn fields_say_unit_threshold_and_tier() {
        use Tier::{Batch, Flex, Priority, Standard, Ultrafast};
        for (facts, expected) in [
            (
                json!({"input_cost_per_token": 2.5e-6, "input_cost_per_token_above_200k_tokens_priority": 5e-6,
                    "cache_read_input_token_cost_flex": 1e-6, "output_cost_per_token_batches": 5e-6,
                    "output_cost_per_token_above_272k_tokens_ultrafast": 4.5e-4,
                    "cache_read_input_audio_token_cost": 1e-7, "cache_read_input_image_token_cost": 2e-6,
                    "cache_creation_input_token_cost_above_1hr": 6e-6, "output_cost_per_token_balanced": 1.0}),
                vec![
                    (Unit::Input, Standard, 0, 2_500_000),
                    (Unit::Input, Priority, 200_000, 5_000_000),
                    (Unit::CachedRead, Flex, 0, 1_000_000),
                    (Unit::CacheWriteLong, Standard, 0, 6_000_000),
                    (Unit::Output, Batch, 0, 5_000_000),
                    (Unit::Output, Ultrafast, 272_000, 450_000_000),
                    (Unit::CachedAudio, Standard, 0, 100_000),
                    (Unit::CachedImage, Standard, 0, 2_000_000),
                ],
            ),
            (
                json!({"tiered_pricing": [{"input_cost_per_token": 1e-7, "range": [0, 32000.0]},
                    {"input_cost_per_token": 2e-7, "range": [32000.0, 128000.0]}]}),
                vec![(Unit::Input, Standard, 0, 100_000), (Unit::Input, Standard, 32_000, 200_000)],
            ),
            (
                json!({"mode": "rerank", "input_cost_per_query": 0.002, "input_cost_per_token": 0.0}),
                vec![(Unit::Request, Standard, 0, 2_000_000_000)],
            ),
            (
                json!({"litellm_provider": "perplexity", "input_cost_per_token": 1e-6, "citation_cost_per_token": 2e-6,
                    "search_context_cost_per_query": {"search_context_size_low": 0.005,
                        "search_context_size_medium": 0.008, "search_context_size_high": 0.008}}),
                vec![
                    (Unit::Input, Standard, 0, 1_000_000),
                    (Unit::Request, Standard, 0, 5_000_000_000),
                    (Unit::RequestMedium, Standard, 0, 8_000_000_000),
                    (Unit::Citation, Standard, 0, 2_000_000),
                ],
            ),
            (
                json!({"mode": "audio_transcription", "input_cost_per_second": 1e-4, "output_cost_per_second": 1e-4}),
                vec![(Unit::AudioSecond, Standard, 0, 100_000_000)],
            ),
            (
                json!({"mode": "image_generation", "input_cost_per_token": 5e-6, "output_cost_per_image_token": 4e-5}),
                vec![
                    (Unit::Input, Standard, 0, 5_000_000),
                    (Unit::Output, Standard, 0, 40_000_000),
                    (Unit::OutputImage, Standard, 0, 40_000_000),
                ],
            ),
            (json!({"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}), vec![]),
            (json!({"mode": "moderation", "input_cost_per_token": 0.0}), vec![(Unit::Input, Standard, 0, 0)]),
            (json!({"input_cost_per_token": "free", "output_cost_per_token": -1}), vec![]),
        ] {
            let found = rates(model("m", facts.as_object().unwrap()).price);
            assert_eq!(found, expected, "{facts}");
        }
    }

    #[test]
    fn searches_are_paid_for_by_what_makes_them() {
        let same = |dollars: f64| {
            json!({"search_context_size_low": dollars, "search_context_size_medium": dollars,
                "search_context_size_high": dollars})
        };
        for (name, provider, unit, expected) in [
            ("claude-5", "anthropic", None, Unit::WebSearch),
            ("claude-5", "vertex_ai-anthropic_models", None, Unit::WebSearch),
            ("gpt-5", "openai", None, Unit::WebSearch),
            ("gpt-4o-search-preview-2025-03-11", "openai", None, Unit::Request),
            ("gemini-2.5-pro", "gemini", None, Unit::WebSearchPrompt),
            ("gemini-2.5-pro", "vertex_ai-language-models", None, Unit::WebSearchPrompt),
            ("gemini-3-pro", "gemini", Some("per_query"), Unit::WebSearch),
        ] {
            let facts = json!({"litellm_provider": provider, "input_cost_per_token": 1e-6,
                "web_search_billing_unit": unit, "search_context_cost_per_query": same(0.01)});
            let found = rates(model(name, facts.as_object().unwrap()).price);
            let input = (Unit::Input, Tier::Standard, 0, 1_000_000);
            assert_eq!(found, [input, (expected, Tier::Standard, 0, 10_000_000_000)], "{name} of {provider}");
        }
        let grok = json!({"litellm_provider": "xai", "input_cost_per_token": 1e-6});
        let searched = (Unit::WebSearch, Tier::Standard, 0, 5_000_000_000);
        assert!(rates(model("grok-4", grok.as_object().unwrap()).price).contains(&searched));
        let free = json!({"input_cost_per_token": 0, "search_context_cost_per_query": same(0.01)});
        assert_eq!(model("m", free.as_object().unwrap()).price, None, "a preview stays without a price");
    }

    #[test]
    fn names_lead_to_our_providers() {
        let file = json!({
            "gpt-4o": {"litellm_provider": "openai"},
            "azure/eu/gpt-4o": {"litellm_provider": "azure"},
            "azure_ai/claude-opus": {"litellm_provider": "azure_ai"},
            "vertex_ai/claude@1": {"litellm_provider": "vertex_ai-anthropic_models"},
            "gemini-pro": {"litellm_provider": "vertex_ai-language-models"},
            "dashscope/qwen-max": {"litellm_provider": "dashscope"},
            "1024-x-1024/gpt-image-1": {"litellm_provider": "openai"},
            "bedrock/*/1-month-commitment/x": {"litellm_provider": "bedrock"},
            "novita/x": {"litellm_provider": "novita"},
            "sample_spec": "text",
        });
        let (models, others) = read(file.as_object().unwrap());
        let names: Vec<_> = models.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "openai/gpt-4o",
            "azure/eu/gpt-4o",
            "azure-anthropic/claude-opus",
            "azure-foundry/claude-opus",
            "vertex/claude@1",
            "vertex/gemini-pro",
            "qwen/qwen-max",
        ];
        assert_eq!((names, others), (expected.to_vec(), 4));
    }
}

//! `usageMetadata` in disjoint classes.
//!
//! Google counts thinking outside of `candidatesTokenCount`, the prompts of server tools outside of
//! `promptTokenCount`, and cached tokens inside of it; a count of nothing is left out:
//! <https://ai.google.dev/api/generate-content#UsageMetadata>

use serde_json::Value;

use crate::chat::{Tier, Usage};

/// No answer has more tokens than this; what claims to is cut, so that no sum overflows.
const MOST: u64 = 1 << 40;

/// Reads one `usageMetadata`. `None` when it counts nothing (Vertex names only the traffic's type at first).
pub(super) fn read(metadata: &Value) -> Option<Usage> {
    let count = |key: &str| metadata.get(key).and_then(number);
    // The Live API has another word for what is said.
    let candidates = count("candidatesTokenCount").or_else(|| count("responseTokenCount"));
    let prompt = count("promptTokenCount");
    let (thoughts, total) = (count("thoughtsTokenCount"), count("totalTokenCount"));
    if prompt.is_none() && candidates.is_none() && thoughts.is_none() && total.is_none() {
        return None;
    }
    let prompt = prompt.unwrap_or(0) + count("toolUsePromptTokenCount").unwrap_or(0);
    let reasoning = thoughts.unwrap_or(0);
    let output = candidates.unwrap_or(0) + reasoning;
    let cached_read = count("cachedContentTokenCount").unwrap_or(0).min(prompt);
    let input = prompt - cached_read;
    let part = |list: &str, word: &str, code: u64| {
        let entries = metadata.get(list).and_then(Value::as_array).into_iter().flatten();
        entries
            .filter(|entry| {
                let modality = entry.get("modality");
                modality.is_some_and(|m| m.as_str() == Some(word) || m.as_u64() == Some(code))
            })
            .filter_map(|entry| number(entry.get("tokenCount")?))
            .fold(0, u64::saturating_add)
    };
    let input_of = |word: &str, code: u64| {
        let cached = part("cacheTokensDetails", word, code);
        (part("promptTokensDetails", word, code).saturating_sub(cached)).min(input)
    };
    let output_of = |word: &str, code: u64| {
        let said = part("candidatesTokensDetails", word, code);
        said.max(part("responseTokensDetails", word, code)).min(output)
    };
    let cached_audio = part("cacheTokensDetails", "AUDIO", 4).min(cached_read);
    Some(Usage {
        input,
        cached_read,
        cached_audio,
        cached_image: part("cacheTokensDetails", "IMAGE", 2).min(cached_read - cached_audio),
        output,
        reasoning,
        input_audio: input_of("AUDIO", 4),
        input_image: input_of("IMAGE", 2),
        output_audio: output_of("AUDIO", 4),
        output_image: output_of("IMAGE", 2),
        tier: tier(metadata),
        ..Usage::default()
    })
}

/// How often the web was searched for a candidate.
pub(super) fn searches(candidate: &Value) -> u64 {
    candidate.get("groundingMetadata").map_or(0, queries)
}

/// How often the web was searched, by what an answer is grounded on:
/// <https://ai.google.dev/gemini-api/docs/google-search>
pub(super) fn queries(grounding: &Value) -> u64 {
    let queries = grounding.get("webSearchQueries").and_then(Value::as_array);
    queries.map_or(0, |queries| queries.len() as u64)
}

/// Whether a candidate is grounded on Google's maps: <https://ai.google.dev/gemini-api/docs/maps-grounding>
pub(super) fn is_mapped(candidate: &Value) -> bool {
    candidate.get("groundingMetadata").is_some_and(maps)
}

/// The same, by what the answer is grounded on.
pub(super) fn maps(grounding: &Value) -> bool {
    let chunks = grounding.get("groundingChunks").and_then(Value::as_array);
    chunks.is_some_and(|chunks| chunks.iter().any(|chunk| chunk.get("maps").is_some()))
}

/// Vertex AI names the traffic. What is paid for in advance has no tier.
fn tier(metadata: &Value) -> Option<Tier> {
    let word = |key: &str| metadata.get(key).and_then(Value::as_str);
    let traffic = word("trafficType").filter(|traffic| traffic.starts_with("ON_DEMAND"));
    traffic.or_else(|| word("serviceTier")).and_then(Tier::said)
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().map(|n| n.min(MOST)),
        // Protobuf writes 64-bit numbers as text.
        Value::String(text) => text.parse::<u64>().ok().map(|n| n.min(MOST)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn thinking_tools_and_the_cache_are_counted_where_they_belong() {
        for (metadata, expected) in [
            (
                json!({"promptTokenCount": 208, "candidatesTokenCount": 45, "totalTokenCount": 1861,
                       "toolUsePromptTokenCount": 1461, "thoughtsTokenCount": 147}),
                Some((1669, 0, 192, 147)),
            ),
            (
                json!({"promptTokenCount": 9613, "cachedContentTokenCount": 9602, "candidatesTokenCount": 33,
                       "thoughtsTokenCount": 39}),
                Some((11, 9602, 72, 39)),
            ),
            (json!({"promptTokenCount": 14, "totalTokenCount": 14}), Some((14, 0, 0, 0))),
            (json!({"candidatesTokenCount": "18"}), Some((0, 0, 18, 0))),
            (json!({"trafficType": "ON_DEMAND"}), None),
            (json!(null), None),
        ] {
            let found = read(&metadata).map(|u| (u.input, u.cached_read, u.output, u.reasoning));
            assert_eq!(found, expected, "{metadata}");
        }
    }

    #[test]
    fn maps_are_known_by_what_the_answer_is_grounded_on() {
        let grounded = |chunk: serde_json::Value| json!({"groundingMetadata": {"groundingChunks": [chunk]}});
        assert!(is_mapped(&grounded(
            json!({"maps": {"uri": "https://maps.google.com/?cid=1", "placeId": "p"}})
        )));
        assert!(!is_mapped(&grounded(json!({"web": {"uri": "https://x"}}))) && !is_mapped(&json!({})));
    }

    #[test]
    fn searches_are_counted_by_their_queries() {
        for (candidate, expected) in [
            (json!({"groundingMetadata": {"webSearchQueries": ["a", "b"], "groundingChunks": []}}), 2),
            (json!({"groundingMetadata": {"groundingChunks": []}}), 0),
            (json!({"groundingMetadata": {"webSearchQueries": "a"}}), 0),
            (json!({"content": {}}), 0),
        ] {
            assert_eq!(searches(&candidate), expected, "{candidate}");
        }
    }

    #[test]
    fn the_traffic_is_the_tier() {
        for (word, expected) in [
            ("ON_DEMAND", Some(Tier::Standard)),
            ("ON_DEMAND_PRIORITY", Some(Tier::Priority)),
            ("ON_DEMAND_FLEX", Some(Tier::Flex)),
            ("PROVISIONED_THROUGHPUT", None),
        ] {
            let usage = read(&json!({"promptTokenCount": 1, "trafficType": word})).unwrap();
            assert_eq!(usage.tier, expected, "{word}");
        }
    }

    #[test]
    fn the_cache_tells_what_was_in_it() {
        let metadata = json!({"promptTokenCount": 1_000, "cachedContentTokenCount": 600,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 300}, {"modality": "AUDIO", "tokenCount": 700}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 500}, {"modality": "IMAGE", "tokenCount": 200}]});
        let usage = read(&metadata).unwrap();
        assert_eq!((usage.input, usage.input_audio), (400, 200));
        assert_eq!(
            (usage.cached_read, usage.cached_audio, usage.cached_image),
            (600, 500, 100),
            "no more than all"
        );
    }

    #[test]
    fn modalities_are_words_or_numbers() {
        let metadata = json!({"promptTokenCount": 300, "promptTokensDetails": [
            {"modality": "IMAGE", "tokenCount": 258}, {"modality": 4, "tokenCount": 7}]});
        let usage = read(&metadata).unwrap();
        assert_eq!((usage.input, usage.input_image, usage.input_audio), (300, 258, 7));
    }
}

//! `usageMetadata` in disjoint classes.
//!
//! Google counts thinking outside of `candidatesTokenCount`, the prompts of server tools outside of
//! `promptTokenCount`, and cached tokens inside of it; a count of nothing is left out:
//! <https://ai.google.dev/api/generate-content#UsageMetadata>

use serde_json::Value;

use crate::chat::{Tier, Usage};

/// No answer has more tokens than this; what claims to is cut, so that no sum overflows.
const MOST: u64 = 1 << 40;

/// Reads one `usageMetadata`, or the `usage` of an interaction, which has other words for the same. `None` when it counts
/// nothing (Vertex names only the traffic's type at first).
pub(super) fn read(metadata: &Value) -> Option<Usage> {
    let count = |keys: [&str; 2]| keys.iter().find_map(|key| metadata.get(key).and_then(number));
    // The Live API has another word for what is said.
    let candidates = count(["candidatesTokenCount", "responseTokenCount"]);
    let candidates = candidates.or_else(|| count(["total_output_tokens"; 2]));
    let prompt = count(["promptTokenCount", "total_input_tokens"]);
    let (thoughts, total) =
        (count(["thoughtsTokenCount", "total_thought_tokens"]), count(["totalTokenCount"; 2]));
    if prompt.is_none() && candidates.is_none() && thoughts.is_none() && total.is_none() {
        return None;
    }
    let tools = count(["toolUsePromptTokenCount", "total_tool_use_tokens"]);
    let prompt = prompt.unwrap_or(0) + tools.unwrap_or(0);
    let reasoning = thoughts.unwrap_or(0);
    let output = candidates.unwrap_or(0) + reasoning;
    let cached_read = count(["cachedContentTokenCount", "total_cached_tokens"]).unwrap_or(0).min(prompt);
    let input = prompt - cached_read;
    let part = |lists: [&str; 2], word: &str, code: u64| {
        let entries = lists.iter().filter_map(|list| metadata.get(list).and_then(Value::as_array)).flatten();
        entries
            .filter(|entry| {
                let is_word = |said: &str| said.eq_ignore_ascii_case(word);
                let modality = entry.get("modality");
                modality.is_some_and(|m| m.as_str().is_some_and(is_word) || m.as_u64() == Some(code))
            })
            .filter_map(|entry| number(entry.get("tokenCount").or_else(|| entry.get("tokens"))?))
            .fold(0, u64::saturating_add)
    };
    let cached_of =
        |word: &str, code: u64| part(["cacheTokensDetails", "cached_tokens_by_modality"], word, code);
    let input_of = |word: &str, code: u64| {
        let read = part(["promptTokensDetails", "input_tokens_by_modality"], word, code);
        let brought = part(["toolUsePromptTokensDetails", "tool_use_tokens_by_modality"], word, code);
        read.saturating_sub(cached_of(word, code)).saturating_add(brought).min(input)
    };
    let output_of = |word: &str, code: u64| {
        let said = part(["candidatesTokensDetails", "output_tokens_by_modality"], word, code);
        said.max(part(["responseTokensDetails", ""], word, code)).min(output)
    };
    let cached_audio = cached_of("AUDIO", 4).min(cached_read);
    Some(Usage {
        input,
        cached_read,
        cached_audio,
        cached_image: cached_of("IMAGE", 2).min(cached_read - cached_audio),
        output,
        reasoning,
        input_audio: input_of("AUDIO", 4),
        input_image: input_of("IMAGE", 2),
        output_audio: output_of("AUDIO", 4),
        output_image: output_of("IMAGE", 2),
        searches: grounded(metadata),
        tier: tier(metadata),
        ..Usage::default()
    })
}

/// How often the web was searched in an interaction.
fn grounded(usage: &Value) -> u64 {
    let tools = usage.get("grounding_tool_count").and_then(Value::as_array).into_iter().flatten();
    let searches = tools.filter(|tool| tool.get("type").is_some_and(|kind| kind == "google_search"));
    let times = |tool: &Value| number(tool.get("search_query_count").or_else(|| tool.get("count"))?);
    searches.filter_map(times).fold(0, u64::saturating_add)
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
    fn interactions_are_counted_in_their_own_words() {
        let usage = json!({"total_tokens": 400, "total_input_tokens": 150, "total_cached_tokens": 50,
            "total_output_tokens": 20, "total_tool_use_tokens": 30, "total_thought_tokens": 200,
            "input_tokens_by_modality": [{"modality": "text", "tokens": 110}, {"modality": "image", "tokens": 40}],
            "grounding_tool_count": [{"type": "google_search", "count": 1, "search_query_count": 3}]});
        let read = read(&usage).unwrap();
        assert_eq!((read.input, read.cached_read, read.output, read.reasoning), (130, 50, 220, 200));
        assert_eq!((read.input_image, read.searches), (40, 3));
    }

    #[test]
    fn what_tools_brought_has_its_kinds_too() {
        let metadata = json!({"promptTokenCount": 20, "toolUsePromptTokenCount": 900, "candidatesTokenCount": 1,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}, {"modality": "IMAGE", "tokenCount": 10}],
            "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 600}, {"modality": "IMAGE", "tokenCount": 300}]});
        let usage = read(&metadata).unwrap();
        assert_eq!((usage.input, usage.input_image, usage.input_audio), (920, 310, 0));
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

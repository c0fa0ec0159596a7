//! Grounding as citations in OpenAI's form (`url_citation`), which the doors understand.
//!
//! Google counts bytes of the candidate's text, OpenAI characters.
//! <https://ai.google.dev/api/generate-content#GroundingMetadata>

use serde_json::{Value, json};

use crate::chat::Object;

/// The citations of a candidate whose whole text is `text`.
pub(super) fn citations(candidate: &Object, text: &str) -> Vec<Value> {
    let mut found = grounding(candidate.get("groundingMetadata"), text).unwrap_or_default();
    let sources = candidate.get("citationMetadata").and_then(|metadata| {
        metadata.get("citationSources").or_else(|| metadata.get("citations")).and_then(Value::as_array)
    });
    for source in sources.into_iter().flatten() {
        let Some(uri) = source.get("uri").and_then(Value::as_str) else { continue };
        let at = |key: &str| source.get(key).and_then(Value::as_u64);
        let title = source.get("title").and_then(Value::as_str).unwrap_or_default();
        found.push(citation(text, at("startIndex").unwrap_or(0), at("endIndex").unwrap_or(0), uri, title));
    }
    found
}

fn grounding(metadata: Option<&Value>, text: &str) -> Option<Vec<Value>> {
    let chunks = metadata?.get("groundingChunks")?.as_array()?;
    let supports = metadata?.get("groundingSupports")?.as_array()?;
    let mut found = Vec::new();
    for support in supports {
        let segment = support.get("segment");
        let at = |key: &str| segment.and_then(|s| s.get(key)).and_then(Value::as_u64).unwrap_or(0);
        let indices = support.get("groundingChunkIndices").and_then(Value::as_array).into_iter().flatten();
        for index in indices.filter_map(|index| usize::try_from(index.as_u64()?).ok()) {
            let Some(source) = chunks.get(index).and_then(Value::as_object) else { continue };
            // `web`, `retrievedContext` or `maps`.
            let Some(source) = source.values().find(|value| value.get("uri").is_some()) else { continue };
            let text_of = |key: &str| source.get(key).and_then(Value::as_str).unwrap_or_default();
            found.push(citation(text, at("startIndex"), at("endIndex"), text_of("uri"), text_of("title")));
        }
    }
    Some(found)
}

fn citation(text: &str, start: u64, end: u64, url: &str, title: &str) -> Value {
    json!({ "type": "url_citation", "url_citation": {
        "start_index": characters(text, start),
        "end_index": characters(text, end),
        "url": url,
        "title": title,
    }})
}

/// Characters before the byte at `at`.
fn characters(text: &str, at: u64) -> usize {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    text.char_indices().take_while(|(begin, _)| *begin < at).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_characters() {
        let candidate = json!({"groundingMetadata": {
            "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}, {"web": {}}],
            "groundingSupports": [{"segment": {"startIndex": 3, "endIndex": 6}, "groundingChunkIndices": [0, 1, 7]}],
        }});
        let found = citations(candidate.as_object().unwrap(), "dü né");
        let expected = json!([{"type": "url_citation", "url_citation":
            {"start_index": 2, "end_index": 5, "url": "https://a", "title": "A"}}]);
        assert_eq!(Value::Array(found), expected);
    }
}

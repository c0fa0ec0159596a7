//! Cohere's `usage` in disjoint classes.
//!
//! `tokens` counts what the model read and wrote, Cohere's own preamble and tool prompts included; `billed_units`
//! leaves those out. Cached tokens are a part of `tokens.input_tokens` (1,591 read, 992 of them cached, 68 billed), so
//! that only `tokens` can be split into classes; `billed_units` says what is charged for.

use serde_json::Value;

use crate::chat::{Billed, Usage};

/// No answer has more tokens than this; what claims to is cut, so that no sum overflows.
const MOST: u64 = 1 << 40;

/// Reads a `usage` object, or the `meta` object of other endpoints. `None` when it counts nothing.
pub(super) fn read(usage: &Value) -> Option<Usage> {
    let tokens = usage.get("tokens").filter(|tokens| tokens.is_object());
    let billed = usage.get("billed_units");
    let count = |key: &str| {
        let of = |place: Option<&Value>| place.and_then(|place| place.get(key)).and_then(number);
        of(tokens).or_else(|| of(billed))
    };
    let (input, output) = (count("input_tokens"), count("output_tokens"));
    let images = count("image_tokens");
    if input.is_none() && output.is_none() && images.is_none() {
        // A ranking is billed by its searches alone.
        let searches = billed.and_then(|billed| billed.get("search_units")).and_then(number)?;
        return Some(Usage { searches, ..Usage::default() });
    }
    let images = images.unwrap_or(0);
    // Embeddings count text and images apart.
    let prompt = input.unwrap_or(0) + images;
    let output = output.unwrap_or(0);
    let charged = |key: &str| billed.and_then(|billed| billed.get(key)).and_then(number);
    // What it does not bill for, it leaves out.
    let charged = tokens.and_then(|_| {
        let parts = ["input_tokens", "image_tokens", "output_tokens"].map(charged);
        let [input, images, output] = parts.map(|part| part.unwrap_or(0));
        let told = parts.iter().any(Option::is_some);
        told.then(|| Billed { input: input.saturating_add(images), output })
    });
    let cached_read = usage.get("cached_tokens").and_then(number).unwrap_or(0).min(prompt);
    Some(Usage {
        input: prompt - cached_read,
        cached_read,
        output,
        reasoning: count("reasoning_tokens").unwrap_or(0).min(output),
        input_image: images.min(prompt - cached_read),
        billed: charged.filter(|charged| (charged.input, charged.output) != (prompt, output)),
        ..Usage::default()
    })
}

/// Cohere's schema says that counts are fractions.
fn number(value: &Value) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to positive counts")]
    let from_float = |n: f64| n.clamp(0.0, 1e12) as u64;
    value.as_u64().or_else(|| value.as_f64().map(from_float)).map(|n| n.min(MOST))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ranking_is_counted_by_its_searches() {
        let meta = json!({ "api_version": { "version": "2" }, "billed_units": { "search_units": 3 } });
        assert_eq!(read(&meta), Some(Usage { searches: 3, ..Usage::default() }));
        assert_eq!(read(&json!({ "api_version": { "version": "2" } })), None);
    }

    #[test]
    fn what_is_billed_stands_beside_what_was_read() {
        let told = read(&json!({
            "tokens": { "input_tokens": 1591, "output_tokens": 40 }, "cached_tokens": 992,
            "billed_units": { "input_tokens": 68, "output_tokens": 21 },
        }));
        let told = told.unwrap();
        assert_eq!((told.prompt(), told.output), (1591, 40));
        assert_eq!(told.billed, Some(Billed { input: 68, output: 21 }));
        let alike = json!({
            "tokens": { "input_tokens": 5, "output_tokens": 2 }, "billed_units": { "input_tokens": 5, "output_tokens": 2 },
        });
        assert_eq!(read(&alike).unwrap().billed, None);
        let tokens = json!({ "input_tokens": 500, "output_tokens": 7 });
        for (units, expected) in [
            (json!({ "input_tokens": 10 }), Some(Billed { input: 10, output: 0 })),
            (json!({ "output_tokens": 5, "search_units": 1 }), Some(Billed { input: 0, output: 5 })),
            (json!({ "search_units": 1 }), None),
            (json!({ "input_tokens": null }), None),
        ] {
            let usage = json!({ "tokens": tokens, "billed_units": units });
            assert_eq!(read(&usage).unwrap().billed, expected, "{units}");
        }
        assert_eq!(read(&json!({ "billed_units": { "input_tokens": 5 } })).unwrap().billed, None);
    }
}

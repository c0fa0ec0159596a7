//! Usage in OpenAI's shape.

use serde_json::{Value, json};

use crate::chat::Usage;

/// The `usage` object of OpenAI's dialect: prompt tokens include cache reads and writes, completion tokens include
/// reasoning.
pub fn usage_json(usage: &Usage) -> Value {
    let audio = usage.input_audio.saturating_add(usage.cached_audio);
    let image = usage.input_image.saturating_add(usage.cached_image);
    let mut prompt = json!({ "cached_tokens": usage.cached_read, "audio_tokens": audio });
    // Not OpenAI's own, but the names that OpenAI-compatible vendors use.
    for (key, count) in [("cache_write_tokens", usage.cache_write), ("image_tokens", image)] {
        if count > 0
            && let Some(details) = prompt.as_object_mut()
        {
            details.insert(key.to_owned(), count.into());
        }
    }
    json!({
        "prompt_tokens": usage.prompt(),
        "completion_tokens": usage.output,
        "total_tokens": usage.total(),
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.output_audio,
            "accepted_prediction_tokens": usage.accepted_prediction,
            "rejected_prediction_tokens": usage.rejected_prediction,
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::usage_json;
    use crate::chat::Usage;

    #[test]
    fn classes_add_up_as_openai_counts() {
        let usage = Usage {
            input: 10,
            cached_read: 20,
            cache_write: 5,
            output: 7,
            reasoning: 3,
            input_audio: 1,
            output_audio: 2,
            accepted_prediction: 4,
            rejected_prediction: 6,
            ..Usage::default()
        };
        let expected = json!({
            "prompt_tokens": 35, "completion_tokens": 7, "total_tokens": 42,
            "prompt_tokens_details": { "cached_tokens": 20, "audio_tokens": 1, "cache_write_tokens": 5 },
            "completion_tokens_details": {
                "reasoning_tokens": 3, "audio_tokens": 2,
                "accepted_prediction_tokens": 4, "rejected_prediction_tokens": 6,
            },
        });
        assert_eq!(usage_json(&usage), expected);
        assert_eq!(
            usage_json(&Usage::default())["prompt_tokens_details"],
            json!({"cached_tokens":0,"audio_tokens":0})
        );
    }
}

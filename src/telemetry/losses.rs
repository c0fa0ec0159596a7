//! The label of a loss in metrics: the field's name where it is a known one, so that no client invents labels.

/// Names of request fields, of every client dialect, that a loss can begin with; `answer` stands for all of an answer.
const FIELDS: &[&str] = &[
    "answer",
    "audio",
    "background",
    "cache_control",
    "cachedContent",
    "container",
    "contents",
    "context_management",
    "conversation",
    "documents",
    "extra_body",
    "frequency_penalty",
    "function_call",
    "functions",
    "generationConfig",
    "google",
    "include",
    "inference_geo",
    "input",
    "instructions",
    "labels",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "max_tool_calls",
    "mcp_servers",
    "messages",
    "metadata",
    "modalities",
    "modelArmorConfig",
    "moderation",
    "n",
    "output_config",
    "output_format",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "reasoning_effort",
    "response_format",
    "safetySettings",
    "safety_identifier",
    "safety_settings",
    "seed",
    "serviceTier",
    "service_tier",
    "speed",
    "stop",
    "stop_sequences",
    "store",
    "stream_options",
    "system",
    "systemInstruction",
    "temperature",
    "text",
    "thinking",
    "thread",
    "toolConfig",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
    "verbosity",
    "web_search_options",
];

/// The label for the loss at `path`: its first name without places (`messages[2].name` → `messages`), or `other`.
pub(super) fn field(path: &str) -> &'static str {
    let first = path.split(['.', '[']).next().unwrap_or_default();
    FIELDS.binary_search(&first).map_or("other", |at| FIELDS.get(at).copied().unwrap_or("other"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names_of_the_table() {
        assert!(FIELDS.is_sorted(), "searched by halves");
        for (path, expected) in [
            ("seed", "seed"),
            ("messages[2].content[0].cache_control", "messages"),
            ("answer.choices[0].logprobs", "answer"),
            ("generationConfig.labels", "generationConfig"),
            ("x-by-the-client\n", "other"),
            ("", "other"),
        ] {
            assert_eq!(field(path), expected, "{path}");
        }
    }
}

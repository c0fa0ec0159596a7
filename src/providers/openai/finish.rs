//! Finish reasons: every vendor's words in OpenAI's.

use crate::chat::FinishReason;

/// OpenAI's word for a vendor's finish reason.
///
/// `None` when the word says that the answer broke off by a fault of the provider.
pub(super) fn word(raw: &str) -> Option<&'static str> {
    Some(match raw {
        "length"
        | "max_tokens"
        | "MAX_TOKENS"
        | "model_length"
        | "max_length"
        | "max_output_tokens"
        | "token_limit"
        | "model_context_window_exceeded"
        | "context_length_exceeded" => "length",
        "tool_calls" | "tool_call" | "tool_use" | "TOOL_CALL" | "TOOL_CALLS" => "tool_calls",
        "function_call" => "function_call",
        // Z.ai says `sensitive`: https://docs.z.ai/api-reference/llm/chat-completion
        "content_filter" | "content_filtered" | "SAFETY" | "safety" | "sensitive" | "refusal"
        | "RECITATION" | "recitation" | "PROHIBITED_CONTENT" | "BLOCKLIST" => "content_filter",
        // DeepSeek: https://api-docs.deepseek.com/api/create-chat-completion
        // Z.ai: `network_error`. OpenRouter: `error`.
        "error" | "ERROR" | "network_error" | "insufficient_system_resource" => return None,
        // `stop`, Together's `eos`, Anthropic's `end_turn`, and whatever comes next: the answer has an end.
        _ => "stop",
    })
}

/// Whether a word is one of OpenAI's own.
pub(super) fn known(raw: &str) -> Option<&'static str> {
    ["stop", "length", "tool_calls", "content_filter", "function_call"].into_iter().find(|word| *word == raw)
}

/// The word that clients are told: without any call, an answer that ends with some has come to its end. Seen of servers
/// whose parser of calls found none: clients would run no tool and ask again.
pub(super) fn told(word: &'static str, called: bool) -> &'static str {
    if word == "tool_calls" && !called { "stop" } else { word }
}

/// Whether a finish reason says nothing: absent, null, empty, or DashScope's string "null".
pub(super) fn is_unsaid(raw: &str) -> bool {
    raw.is_empty() || raw == "null"
}

/// The canonical reason for one of OpenAI's words.
pub(super) fn canonical(word: &str) -> FinishReason {
    match word {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_becomes_one_of_openais() {
        for (raw, expected) in [
            ("stop", Some("stop")),
            ("eos", Some("stop")),
            ("end_turn", Some("stop")),
            ("MAX_TOKENS", Some("length")),
            ("tool_use", Some("tool_calls")),
            ("sensitive", Some("content_filter")),
            ("something new", Some("stop")),
            ("error", None),
            ("insufficient_system_resource", None),
        ] {
            assert_eq!(word(raw), expected, "{raw}");
            assert!(expected.is_none_or(|word| known(word).is_some()), "{raw}");
        }
    }
}

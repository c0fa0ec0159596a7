//! Why Anthropic's answers stop. <https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons>

use crate::chat::{Finish, FinishReason};

/// The canonical finish for a `stop_reason`; `sequence` is the stop sequence that was hit.
pub(super) fn finish(raw: &str, sequence: Option<&str>) -> Finish {
    Finish { reason: reason(raw), raw: Some(raw.to_owned()), stop_sequence: sequence.map(str::to_owned) }
}

/// The canonical reason for a `stop_reason`.
pub(super) fn reason(raw: &str) -> FinishReason {
    match raw {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        "pause_turn" => FinishReason::Pause,
        "model_context_window_exceeded" => FinishReason::ContextExceeded,
        _ => FinishReason::Other,
    }
}

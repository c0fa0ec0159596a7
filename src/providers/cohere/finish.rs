//! Why Cohere stopped, in canonical terms. <https://docs.cohere.com/reference/chat#response.body.finish_reason>

use super::fault;
use crate::chat::{Finish, FinishReason};
use crate::fault::{Fault, FaultKind};

/// The finish of an answer; `error` is what Cohere says beside it.
///
/// # Errors
/// `ServerError` where the word says that the answer broke off by a fault of the provider.
pub(super) fn read(word: &str, calls: bool, error: Option<&str>, now_ms: u64) -> Result<Finish, Fault> {
    let reason = match word {
        "ERROR" => {
            let said = error.map(|text| fault::inside_success(&serde_json::json!({ "error": text }), now_ms));
            let broken =
                || Fault::new(FaultKind::ServerError, "the provider broke the answer off with an error");
            return Err(said.unwrap_or_else(broken));
        }
        "TIMEOUT" => {
            let text = "the provider ran out of time before its answer was complete";
            return Err(Fault::new(FaultKind::ServerError, text).status(504));
        }
        "MAX_TOKENS" => FinishReason::Length,
        "ERROR_LIMIT" => FinishReason::ContextExceeded,
        "ERROR_TOXIC" => FinishReason::ContentFilter,
        "TOOL_CALL" => FinishReason::ToolCalls,
        "COMPLETE" if calls => FinishReason::ToolCalls,
        "COMPLETE" | "STOP_SEQUENCE" => FinishReason::Stop,
        _ => FinishReason::Other,
    };
    Ok(Finish { reason, raw: Some(word.to_owned()), stop_sequence: None })
}

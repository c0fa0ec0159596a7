//! Why an answer ended, in Bedrock's words:
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseResponse.html>

use serde_json::Value;

use crate::chat::{Finish, FinishReason};
use crate::fault::{Fault, FaultKind};

/// The reason. `fields` are those of the model's own answer that were asked for.
///
/// # Errors
/// A fault when the model wrote something that Bedrock could not read: that is no answer.
pub(super) fn finish(word: &str, fields: Option<&Value>) -> Result<Finish, Fault> {
    let reason = match word {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "guardrail_intervened" | "content_filtered" => FinishReason::ContentFilter,
        "model_context_window_exceeded" => FinishReason::ContextExceeded,
        "malformed_model_output" => return Err(unreadable("the model wrote what the provider cannot read")),
        "malformed_tool_use" => {
            return Err(unreadable("the model wrote a tool call that the provider cannot read"));
        }
        _ => FinishReason::Other,
    };
    // The second is where it stands in the last event of a stream of Anthropic's.
    let stop = fields.and_then(|fields| {
        [fields.get("stop_sequence"), fields.pointer("/delta/stop_sequence")].into_iter().flatten().next()
    });
    let stop_sequence = stop.and_then(Value::as_str).map(str::to_owned);
    Ok(Finish { reason, raw: Some(word.to_owned()), stop_sequence })
}

/// The next try may do better.
fn unreadable(message: &'static str) -> Fault {
    Fault::new(FaultKind::ServerError, message)
}

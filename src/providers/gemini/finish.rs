//! Why a candidate ended: Google's words, or the numbers that stand for them, in canonical terms.

use serde_json::Value;

use crate::chat::{Finish, FinishReason};

/// The words in the order of their numbers, for answers with `enum-encoding=int`:
/// <https://ai.google.dev/api/generate-content#FinishReason>
const NUMBERED: &[&str] = &[
    "FINISH_REASON_UNSPECIFIED",
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "OTHER",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
    "IMAGE_SAFETY",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
];

/// The finish word of a candidate; `None` while it goes on.
pub(super) fn word(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(word) if word.is_empty() || word == "FINISH_REASON_UNSPECIFIED" => None,
        Value::String(word) => Some(word.clone()),
        Value::Number(number) => match number.as_u64()? {
            0 => None,
            n => {
                let known = usize::try_from(n).ok().and_then(|n| NUMBERED.get(n));
                Some(known.map_or_else(|| n.to_string(), |word| (*word).to_owned()))
            }
        },
        _ => None,
    }
}

/// What a word means. `calls`: whether the candidate called a tool of the client; Google says STOP then.
pub(super) fn reason(word: &str, calls: bool) -> FinishReason {
    match word {
        "STOP" | "UNEXPECTED_TOOL_CALL" if calls => FinishReason::ToolCalls,
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "JAILBREAK"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}

/// The canonical end of a candidate.
pub(super) fn finish(word: String, calls: bool) -> Finish {
    Finish { reason: reason(&word, calls), raw: Some(word), stop_sequence: None }
}

/// The end of an answer whose prompt was blocked.
pub(super) fn blocked(reason: String) -> Finish {
    Finish { reason: FinishReason::ContentFilter, raw: Some(reason), stop_sequence: None }
}

/// Why the prompt was blocked, if it was.
pub(super) fn block_reason(feedback: Option<&Value>) -> Option<String> {
    match feedback?.get("blockReason")? {
        Value::String(word) => Some(word.clone()),
        Value::Number(number) => Some(match number.as_u64()? {
            1 => "SAFETY".to_owned(),
            3 => "BLOCKLIST".to_owned(),
            4 => "PROHIBITED_CONTENT".to_owned(),
            5 => "IMAGE_SAFETY".to_owned(),
            _ => "OTHER".to_owned(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_end_has_its_meaning() {
        use FinishReason as R;
        for (value, calls, expected) in [
            (json!("STOP"), false, Some(R::Stop)),
            (json!("STOP"), true, Some(R::ToolCalls)),
            (json!(1), true, Some(R::ToolCalls)),
            (json!("MAX_TOKENS"), true, Some(R::Length)),
            (json!(2), false, Some(R::Length)),
            (json!("SAFETY"), false, Some(R::ContentFilter)),
            (json!(4), false, Some(R::ContentFilter)),
            (json!("MODEL_ARMOR"), false, Some(R::ContentFilter)),
            (json!("MALFORMED_FUNCTION_CALL"), false, Some(R::Other)),
            (json!("UNEXPECTED_TOOL_CALL"), true, Some(R::ToolCalls)),
            (json!("SOMETHING_NEW"), false, Some(R::Other)),
            (json!(99), false, Some(R::Other)),
            (json!("FINISH_REASON_UNSPECIFIED"), false, None),
            (json!(0), false, None),
            (json!(null), false, None),
        ] {
            let found = word(Some(&value)).map(|word| reason(&word, calls));
            assert_eq!(found, expected, "{value} {calls}");
        }
    }
}

//! Content blocks of answers as canonical parts.

use serde_json::Value;

use crate::chat::{Object, Part, ToolKind};

/// A block of a whole answer. What is neither said, thought nor a call of the client's tools is kept as it is.
pub(super) fn part(block: Value) -> Part {
    let text = |key: &str| block.get(key).and_then(Value::as_str).map(str::to_owned);
    match block.get("type").and_then(Value::as_str) {
        Some("text") => Part::Text {
            text: text("text").unwrap_or_default().into(),
            cache: None,
            citations: block.get("citations").and_then(Value::as_array).cloned().unwrap_or_default(),
        },
        Some("thinking") => Part::Thinking {
            text: text("thinking").unwrap_or_default(),
            signature: text("signature").filter(|signature| !signature.is_empty()),
            redacted: None,
        },
        Some("redacted_thinking") => {
            Part::Thinking { text: String::new(), signature: None, redacted: text("data") }
        }
        Some("tool_use") => Part::ToolCall {
            id: text("id").unwrap_or_default(),
            name: text("name").unwrap_or_default(),
            arguments: arguments(block.get("input")),
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        },
        _ => Part::Other(block),
    }
}

/// Whether a block has the form of its type, as far as it is read here.
pub(super) fn is_sound(block: &Value) -> bool {
    match block.get("type").and_then(Value::as_str) {
        Some("text") => block.get("text").is_some_and(Value::is_string),
        kind => kind.is_some(),
    }
}

/// The JSON text of a call's `input`; `{}` where there is none.
pub(super) fn arguments(input: Option<&Value>) -> String {
    match input {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(input) => input.to_string(),
    }
}

/// Whether a block's `input` in `content_block_start` already says something.
pub(super) fn has_input(block: &Object) -> bool {
    block.get("input").is_some_and(|input| match input {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    })
}

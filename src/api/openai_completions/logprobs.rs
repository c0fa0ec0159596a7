//! Log probabilities of a chat in the older form: lists side by side, with the place of each token in the text.

use serde_json::{Value, json};

use crate::chat::Object;

/// The older form of a chat's `logprobs`; `offset` is the place of the first token, in characters, and moves on.
pub(super) fn older(chat: &Value, offset: &mut usize) -> Option<Value> {
    let content = chat.get("content")?.as_array()?;
    let (mut tokens, mut logprobs, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in content {
        let token = entry.get("token").and_then(Value::as_str).unwrap_or_default();
        offsets.push(*offset);
        *offset += token.chars().count();
        tokens.push(token);
        logprobs.push(entry.get("logprob").cloned().unwrap_or_default());
        let mut top = Object::new();
        for other in entry.get("top_logprobs").and_then(Value::as_array).into_iter().flatten() {
            let token = other.get("token").and_then(Value::as_str).unwrap_or_default();
            top.insert(token.to_owned(), other.get("logprob").cloned().unwrap_or_default());
        }
        tops.push(if top.is_empty() { Value::Null } else { Value::Object(top) });
    }
    Some(json!({
        "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stand_side_by_side() {
        let chat = json!({"content": [
            {"token": "hé", "logprob": -0.5, "top_logprobs": [{"token": "hé", "logprob": -0.5}]},
            {"token": "y", "logprob": -1.0, "top_logprobs": []}]});
        let mut offset = 3;
        assert_eq!(
            older(&chat, &mut offset).unwrap(),
            json!({"tokens": ["hé", "y"], "token_logprobs": [-0.5, -1.0],
                "top_logprobs": [{"hé": -0.5}, null], "text_offset": [3, 5]})
        );
        assert_eq!(offset, 6);
        assert_eq!(older(&Value::Null, &mut offset), None);
    }
}

//! `reasoning_details`: thinking with the proofs of the provider behind a router, which wants them back unchanged.
//! <https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks>

use serde_json::{Value, json};

use crate::chat::proof::{self, Detail};
use crate::chat::{Object, Part};

/// Takes the details out of a message or delta whose thinking, as told elsewhere in it, is `told`; gives the thinking in
/// parts, each with its proof. A detail that nobody here understands stays.
pub(super) fn take(message: &mut Object, told: Option<String>) -> Vec<Part> {
    let details = match message.shift_remove("reasoning_details") {
        Some(Value::Array(details)) => details,
        Some(other) => {
            message.insert("reasoning_details".into(), other);
            Vec::new()
        }
        None => Vec::new(),
    };
    let parts: Vec<Part> = details.iter().filter_map(part).collect();
    let text = |part: &Part| match part {
        Part::Thinking { text, .. } => text.clone(),
        _ => String::new(),
    };
    let proven = |part: &Part| {
        matches!(part, Part::Thinking { signature: Some(_), .. } | Part::Thinking { redacted: Some(_), .. })
    };
    let Some(told) = told else { return parts };
    if parts.iter().map(text).collect::<String>() == told && parts.iter().any(proven) {
        return parts;
    }
    // The details tell it otherwise: what is told counts, and their proofs stand behind it.
    let thought = Part::Thinking { text: told, signature: None, redacted: None };
    let bare = parts.into_iter().filter(proven).map(|part| match part {
        Part::Thinking { signature, redacted, .. } => {
            Part::Thinking { text: String::new(), signature, redacted }
        }
        other => other,
    });
    std::iter::once(thought).chain(bare).collect()
}

/// One detail; `None` where it says nothing.
fn part(detail: &Value) -> Option<Part> {
    let text = |key: &str| detail.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mark = |proof: &str| {
        // Without a form it is Anthropic's, as this house itself writes it.
        let plain = text("format").is_none() && text("id").is_none();
        let index = detail.get("index").and_then(Value::as_u64);
        let (format, id) = (text("format").unwrap_or_default(), text("id").unwrap_or_default());
        if plain { proof.to_owned() } else { Detail { format, index, id, proof }.mark() }
    };
    if let Some(data) = text("data") {
        return Some(Part::Thinking { text: String::new(), signature: None, redacted: Some(mark(data)) });
    }
    let said = text("text").or_else(|| text("summary")).unwrap_or_default().to_owned();
    let signature = text("signature").map(mark);
    let says = !said.is_empty() || signature.is_some();
    says.then(|| Part::Thinking { text: said, signature, redacted: None })
}

/// The detail that a proof came as; `None` for proofs that no router can pass on.
pub(super) fn write(text: &str, signature: Option<&str>, redacted: Option<&str>) -> Option<Value> {
    let (proof, hidden) = match (redacted, signature) {
        (Some(data), _) => (data, true),
        (None, Some(signature)) => (signature, false),
        (None, None) => return None,
    };
    let mut object = Object::new();
    object.insert("type".into(), if hidden { "reasoning.encrypted" } else { "reasoning.text" }.into());
    let detail = Detail::read(proof);
    let own = match detail {
        Some(detail) => detail.proof,
        None => proof::for_anthropic(proof)?,
    };
    if hidden {
        object.insert("data".into(), own.into());
    } else {
        object.insert("text".into(), text.into());
        object.insert("signature".into(), own.into());
    }
    if let Some(detail) = detail {
        for (key, value) in [("format", detail.format), ("id", detail.id)] {
            if !value.is_empty() {
                object.insert(key.into(), value.into());
            }
        }
        if let Some(index) = detail.index {
            object.insert("index".into(), json!(index));
        }
    }
    Some(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_go_back_as_they_came() {
        for detail in [
            json!({"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1", "index": 0}),
            json!({"type": "reasoning.encrypted", "data": "d", "format": "openai-responses-v1", "id": "rs_1", "index": 1}),
            json!({"type": "reasoning.text", "text": "hm", "signature": "s"}),
        ] {
            let mut message = Object::new();
            message.insert("reasoning_details".into(), json!([detail]));
            let parts = take(&mut message, None);
            let [Part::Thinking { text, signature, redacted }] = parts.as_slice() else {
                panic!("{parts:?}")
            };
            assert_eq!(write(text, signature.as_deref(), redacted.as_deref()), Some(detail));
            assert!(message.is_empty());
        }
        assert_eq!(write("", Some("tollgate:gemini:x"), None), None);
    }

    #[test]
    fn what_is_told_counts_once() {
        let details = json!([{"type": "reasoning.summary", "summary": "a"}, {"type": "reasoning.encrypted", "data": "d"}]);
        for (told, expected) in
            [(Some("a"), ["a", ""].as_slice()), (Some("b"), &["b", ""]), (None, &["a", ""])]
        {
            let mut message = Object::new();
            message.insert("reasoning_details".into(), details.clone());
            let parts = take(&mut message, told.map(str::to_owned));
            let texts: Vec<&str> = parts
                .iter()
                .map(|part| match part {
                    Part::Thinking { text, .. } => text.as_str(),
                    _ => panic!("{part:?}"),
                })
                .collect();
            assert_eq!(texts, expected);
            assert!(matches!(parts.last(), Some(Part::Thinking { redacted: Some(data), .. }) if data == "d"));
        }
    }
}

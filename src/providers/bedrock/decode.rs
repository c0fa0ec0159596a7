//! A whole Converse answer as the canonical answer.

use serde_json::Value;

use super::block::{self, Said};
use super::usage::WireUsage;
use super::{fault, finish};
use crate::chat::{Answer, Choice, Object};
use crate::fault::Fault;

/// Fields that tell of the answer what a client may want to know.
const KEPT: &[&str] = &["trace", "performanceConfig", "serviceTier", "additionalModelResponseFields"];

/// The canonical answer. Bedrock gives it no id and no model.
///
/// # Errors
/// `Malformed` when the body is no answer; the provider's own fault when it is an error object.
pub(super) fn answer(body: &[u8]) -> Result<Answer, Fault> {
    let value = serde_json::from_slice::<Value>(body)
        .map_err(|_| fault::malformed("the provider's answer is not JSON"))?;
    let Value::Object(mut whole) = value else {
        return Err(fault::malformed("the provider's answer is not an object"));
    };
    let Some(word) = whole.get("stopReason").and_then(Value::as_str) else {
        return Err(fault::inside_success(&Value::Object(whole)));
    };
    let finish = finish::finish(word, whole.get("additionalModelResponseFields"))?;
    let content = whole.get_mut("output").and_then(|output| output.pointer_mut("/message/content"));
    let blocks = match content.map(Value::take) {
        Some(Value::Array(blocks)) => blocks,
        _ => Vec::new(),
    };
    let (mut content, mut images) = (Vec::new(), Vec::new());
    for block in blocks {
        match block::read(block) {
            Said::Part(part) => content.push(part),
            Said::Image(image) => images.push(image),
            Said::Nothing => {}
        }
    }
    let mut rest = Object::new();
    if !images.is_empty() {
        rest.insert("images".into(), Value::Array(images));
    }
    let usage: Option<WireUsage> = whole.get("usage").and_then(|usage| serde_json::from_value(usage.clone()).ok());
    Ok(Answer {
        choices: vec![Choice { content, finish: Some(finish), rest, ..Choice::default() }],
        usage: usage.and_then(|usage| usage.classes()),
        rest: kept(whole),
        ..Answer::default()
    })
}

/// What of the fields beside the content is worth keeping.
pub(super) fn kept(fields: Object) -> Object {
    fields.into_iter().filter(|(key, value)| KEPT.contains(&key.as_str()) && !value.is_null()).collect()
}

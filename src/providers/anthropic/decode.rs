//! A whole message as the canonical answer.

use serde_json::Value;

use super::usage::WireUsage;
use super::{block, fault, stop};
use crate::chat::{Answer, Choice, FinishReason, Object};
use crate::fault::Fault;
use crate::json;

/// The canonical answer.
pub(super) fn answer(body: &[u8], now_ms: u64) -> Result<Answer, Fault> {
    let mut object = message(body, now_ms)?;
    let usage: WireUsage = match object.shift_remove("usage") {
        Some(usage) => serde_json::from_value(usage).unwrap_or_default(),
        None => WireUsage::default(),
    };
    let mut text = |key: &str| match object.shift_remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (id, model) = (text("id").unwrap_or_default(), text("model").unwrap_or_default());
    let (reason, sequence) = (text("stop_reason"), text("stop_sequence"));
    let content = match object.shift_remove("content") {
        Some(Value::Array(blocks)) => blocks.into_iter().map(block::part).collect(),
        _ => Vec::new(),
    };
    object.shift_remove("type");
    object.shift_remove("role");
    object.retain(|_, value| !value.is_null());
    let finish = match reason {
        Some(reason) => stop::finish(&reason, sequence.as_deref()),
        None => FinishReason::Stop.into(),
    };
    let choice = Choice { index: 0, content, finish: Some(finish), logprobs: None, rest: Object::new() };
    Ok(Answer { id, model, created: 0, choices: vec![choice], usage: usage.classes(), rest: object })
}

/// The fields of a body that is a message.
pub(super) fn message(body: &[u8], now_ms: u64) -> Result<Object, Fault> {
    let Some(value) = json::parse(body.trim_ascii()) else {
        return Err(fault::malformed("the provider's answer is not JSON"));
    };
    match value {
        Value::Object(object) if object.get("content").is_some_and(Value::is_array) => Ok(object),
        Value::Object(ref object) if object.contains_key("error") => {
            Err(fault::inside_success(&value, now_ms))
        }
        _ => Err(fault::malformed("the provider's answer is not a message")),
    }
}

//! A whole message as the canonical answer.

use serde_json::Value;

use super::usage::WireUsage;
use super::{block, fault, stop};
use crate::chat::{Answer, Choice, Object};
use crate::fault::Fault;
use crate::json;

/// The canonical answer.
pub(super) fn answer(body: &[u8], now_ms: u64) -> Result<Answer, Fault> {
    let mut object = message(body, now_ms)?;
    let mut usage: WireUsage = match object.shift_remove("usage") {
        Some(usage) => serde_json::from_value(usage).unwrap_or_default(),
        None => WireUsage::default(),
    };
    usage.ran_code = object.get("container").is_some_and(|container| !container.is_null());
    let mut text = |key: &str| match object.shift_remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (id, model) = (text("id").unwrap_or_default(), text("model").unwrap_or_default());
    let (reason, sequence) = (text("stop_reason"), text("stop_sequence"));
    let Some(reason) = reason else { return Err(fault::unfinished()) };
    let content = match object.shift_remove("content") {
        Some(Value::Array(blocks)) => blocks.into_iter().map(block::part).collect(),
        _ => Vec::new(),
    };
    object.shift_remove("type");
    object.shift_remove("role");
    object.retain(|_, value| !value.is_null());
    let finish = stop::finish(&reason, sequence.as_deref());
    let choice = Choice { index: 0, content, finish: Some(finish), logprobs: None, rest: Object::new() };
    Ok(Answer { id, model, created: 0, choices: vec![choice], usage: usage.classes(), rest: object })
}

/// The fields of a body that is a message. One that holds an error beside its content is that error.
pub(super) fn message(body: &[u8], now_ms: u64) -> Result<Object, Fault> {
    let Some(value) = json::parse(body.trim_ascii()) else {
        return Err(fault::malformed("the provider's answer is not JSON"));
    };
    if value.get("error").is_some_and(|error| !error.is_null()) {
        return Err(fault::inside_success(&value, now_ms));
    }
    let sound = |content: &Value| content.as_array().is_some_and(|blocks| blocks.iter().all(block::is_sound));
    match value {
        Value::Object(object) if object.get("content").is_some_and(sound) => Ok(object),
        _ => Err(fault::malformed("the provider's answer is not a message")),
    }
}

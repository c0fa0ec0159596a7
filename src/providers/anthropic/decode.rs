//! A whole message as the canonical answer.

use serde_json::Value;

use super::usage::WireUsage;
use super::{block, fault, stop};
use crate::chat::{Answer, Choice, Finish, Object};
use crate::fault::Fault;
use crate::json;

/// The canonical answer.
pub(super) fn answer(body: &[u8], now_ms: u64) -> Result<Answer, Fault> {
    let mut object = message(body, now_ms)?;
    let mut usage: WireUsage = match object.shift_remove("usage") {
        Some(usage) => serde_json::from_value(usage).unwrap_or_default(),
        None => WireUsage::default(),
    };
    usage.ran_code = has_container(&object);
    let mut text = |key: &str| match object.shift_remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (id, model) = (text("id").unwrap_or_default(), text("model").unwrap_or_default());
    let Some(finish) = take_finish(&mut object) else { return Err(fault::unfinished()) };
    let content = match object.shift_remove("content") {
        Some(Value::Array(blocks)) => blocks.into_iter().map(block::part).collect(),
        _ => Vec::new(),
    };
    let choice = Choice { index: 0, content, finish: Some(finish), logprobs: None, rest: Object::new() };
    Ok(Answer { id, model, created: 0, choices: vec![choice], usage: usage.classes(), rest: rest(object) })
}

/// Why a message ended, taken out of it; `None` while it goes on.
pub(super) fn take_finish(message: &mut Object) -> Option<Finish> {
    let mut text = |key: &str| match message.shift_remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (reason, sequence) = (text("stop_reason"), text("stop_sequence"));
    reason.map(|reason| stop::finish(&reason, sequence.as_deref()))
}

/// Whether code was run for a message.
pub(super) fn has_container(message: &Object) -> bool {
    message.get("container").is_some_and(|container| !container.is_null())
}

/// What is left of a message whose content and usage were taken, and says something.
pub(super) fn rest(mut message: Object) -> Object {
    message.retain(|key, value| !value.is_null() && !matches!(&**key, "type" | "role"));
    message
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

//! Whole answers: clean ones go back as they came, deviating ones are normalised, errors under status 200 are faults.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::peek::{Shape, Word};
use super::state::seconds;
use super::stream::frame;
use super::{envelope, fault, finish, normalise, usage};
use crate::chat::{Object, Usage};
use crate::fault::Fault;
use crate::frames::SSE_DONE;
use crate::json;
use crate::providers::Relayed;

/// A whole answer in OpenAI's form.
pub(super) struct Whole {
    pub(super) object: Object,
    pub(super) usage: Option<Usage>,
}

/// The body for the client, what it says was used, and how it ended.
pub(super) fn relay(body: &Bytes, excludes_reasoning: bool, now_ms: u64) -> Result<Relayed, Fault> {
    // OpenRouter pads with whitespace to keep the connection alive.
    let body = body.slice_ref(body.trim_ascii());
    if let Ok(text) = simdutf8::basic::from_utf8(&body)
        && let Ok(peek) = serde_json::from_str::<WholePeek<'_>>(text)
        && let Some((usage, finish)) = peek.clean(excludes_reasoning)
    {
        return Ok(Relayed { body: body.clone(), usage, finish, lost: Vec::new() });
    }
    let whole = normalised(&body, excludes_reasoning, now_ms)?;
    let finish = first_finish(&whole.object);
    let body = serde_json::to_vec(&whole.object).unwrap_or_default();
    Ok(Relayed { body: body.into(), usage: whole.usage, finish, lost: Vec::new() })
}

/// A whole answer where a stream was asked for, as a stream of one chunk.
pub(super) fn as_stream(
    body: &[u8],
    include_usage: bool,
    excludes_reasoning: bool,
    now_ms: u64,
) -> Result<Relayed, Fault> {
    let Whole { mut object, usage } = normalised(body, excludes_reasoning, now_ms)?;
    let finish = first_finish(&object);
    object.insert("object".into(), "chat.completion.chunk".into());
    let counted = object.shift_remove("usage").filter(Value::is_object);
    if let Some(Value::Array(choices)) = object.get_mut("choices") {
        for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
            let mut delta = choice.shift_remove("message").unwrap_or_default();
            if let Some(Value::Array(calls)) = delta.get_mut("tool_calls") {
                for (at, call) in calls.iter_mut().filter_map(Value::as_object_mut).enumerate() {
                    call.insert("index".into(), at.into());
                }
            }
            choice.insert("delta".into(), delta);
        }
    }
    let mut stream = frame(&object).to_vec();
    if let (true, Some(usage)) = (include_usage, counted) {
        object.insert("choices".into(), Value::Array(Vec::new()));
        object.insert("usage".into(), usage);
        stream.extend_from_slice(&frame(&object));
    }
    stream.extend_from_slice(SSE_DONE);
    Ok(Relayed { body: stream.into(), usage, finish, lost: Vec::new() })
}

/// Reads and normalises an answer.
pub(super) fn normalised(body: &[u8], excludes_reasoning: bool, now_ms: u64) -> Result<Whole, Fault> {
    let text = json::text_of(body.trim_ascii());
    if text.is_empty() {
        return Err(fault::malformed("the provider sent an empty answer"));
    }
    let Some(value) = json::parse(text.as_bytes()) else {
        return Err(fault::malformed("the provider's answer is not JSON"));
    };
    let Value::Object(mut object) = value else {
        return Err(fault::inside_success(&value, now_ms));
    };
    if envelope::is_error(&object) {
        return Err(fault::inside_success(&Value::Object(object), now_ms));
    }
    fill_head(&mut object, "chat.completion", &text, now_ms);
    let id = object.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    match object.get_mut("choices") {
        Some(Value::Array(choices)) if !choices.is_empty() => {
            for (place, choice) in choices.iter_mut().enumerate() {
                let Value::Object(choice) = choice else {
                    return Err(fault::malformed("the provider sent a choice that is not an object"));
                };
                fill_choice(choice, place, &id, now_ms)?;
            }
        }
        _ => return Err(fault::malformed("the provider's answer has no choices")),
    }
    let usage = fill_usage(&mut object, excludes_reasoning);
    let tier = object.get("service_tier").and_then(Value::as_str);
    let usage = usage.map(|usage| usage.in_tier(tier));
    Ok(Whole { object, usage })
}

/// Fills `id`, `object`, `created` and `model` where they are missing or of another form.
fn fill_head(object: &mut Object, kind: &str, body: &str, now_ms: u64) {
    if object.get("id").and_then(Value::as_str).is_none_or(str::is_empty) {
        object.insert("id".into(), normalise::answer_id(body.as_bytes(), now_ms).into());
    }
    object.insert("object".into(), kind.into());
    let created = object.get("created").map_or(0, seconds);
    let created = if created == 0 { now_ms / 1000 } else { created };
    object.insert("created".into(), created.into());
    if !object.get("model").is_some_and(Value::is_string) {
        object.insert("model".into(), "".into());
    }
}

fn fill_choice(choice: &mut Object, place: usize, answer: &str, now_ms: u64) -> Result<(), Fault> {
    if let Some(error) = choice.get("error").filter(|error| !error.is_null()) {
        return Err(fault::inside_success(&serde_json::json!({ "error": error }), now_ms));
    }
    let index = choice.get("index").and_then(Value::as_u64).unwrap_or(place as u64);
    choice.insert("index".into(), index.into());
    let mut message = match choice.get_mut("message").map(Value::take) {
        Some(Value::Object(message)) if !message.is_empty() => message,
        None | Some(Value::Null | Value::Object(_)) if is_whole_without(choice) => Object::new(),
        _ => return Err(fault::malformed("the provider sent a choice without a message")),
    };
    if message.get("role").and_then(Value::as_str).is_none_or(str::is_empty) {
        message.insert("role".into(), "assistant".into());
    }
    normalise::message(&mut message);
    if message.get("content").is_some_and(|content| !content.is_string() && !content.is_null()) {
        return Err(fault::malformed("the provider sent a message whose content is no text"));
    }
    if !message.contains_key("content") {
        let text = choice.get("text").filter(|text| text.is_string()).cloned();
        message.insert("content".into(), text.unwrap_or_default());
    }
    let called = message.contains_key("tool_calls") || message.contains_key("function_call");
    if let Some(Value::Array(list)) = message.get_mut("tool_calls") {
        for (at, call) in list.iter_mut().enumerate() {
            let Value::Object(call) = call else {
                return Err(fault::malformed("the provider sent a tool call that is not an object"));
            };
            let name = call.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
            let name = name.unwrap_or_default().to_owned();
            normalise::whole_call(call, || crate::providers::call_id::invent(answer, index, at, &name));
        }
    }
    choice.insert("message".into(), Value::Object(message));
    let raw = choice.get("finish_reason").and_then(Value::as_str).filter(|raw| !finish::is_unsaid(raw));
    // The vision preview of 2023 said it there.
    let raw = raw.or_else(|| choice.get("finish_details")?.get("type")?.as_str());
    let word = match raw {
        Some(raw) => finish::word(raw).ok_or_else(|| fault::failed_finish(raw))?,
        // As of a stream: nobody knows whether this is all of it.
        None => return Err(fault::unfinished()),
    };
    choice.insert("finish_reason".into(), finish::told(word, called).into());
    Ok(())
}

/// Whether a choice may lack its message: Azure leaves it out where its filter took the answer, others say the text
/// beside it.
fn is_whole_without(choice: &Object) -> bool {
    let text = |key: &str| choice.get(key).and_then(Value::as_str);
    text("text").is_some() || text("finish_reason").and_then(finish::word) == Some("content_filter")
}

/// Brings the usage object to the convention, wherever it was.
fn fill_usage(object: &mut Object, excludes_reasoning: bool) -> Option<Usage> {
    if !object.get("usage").is_some_and(Value::is_object)
        && let Some(usage) = object.get("x_groq").and_then(|groq| groq.get("usage")).filter(|u| u.is_object())
    {
        let usage = usage.clone();
        object.insert("usage".into(), usage);
    }
    if let Some(Value::Object(usage)) = object.get_mut("usage") {
        let tally = usage::read_value(usage, excludes_reasoning)?;
        if tally.deviates {
            tally.rewrite(usage);
        }
        return Some(tally.usage);
    }
    let tally = object.get("timings").and_then(Value::as_object).and_then(usage::from_timings)?;
    let mut usage = Object::new();
    tally.rewrite(&mut usage);
    object.insert("usage".into(), Value::Object(usage));
    Some(tally.usage)
}

fn first_finish(object: &Object) -> Option<&'static str> {
    let choices = object.get("choices")?.as_array()?;
    finish::known(choices.first()?.get("finish_reason")?.as_str()?)
}

/// What decides whether an answer is clean, read without building a tree.
#[derive(Deserialize, Default)]
#[serde(default)]
struct WholePeek<'a> {
    #[serde(borrow)]
    id: Word<'a>,
    #[serde(borrow)]
    object: Word<'a>,
    created: Shape,
    #[serde(borrow)]
    model: Word<'a>,
    error: Shape,
    #[serde(borrow)]
    choices: Vec<WholeChoice<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Word<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WholeChoice<'a> {
    index: Shape,
    error: Shape,
    #[serde(borrow)]
    message: Option<WholeMessage<'a>>,
    #[serde(borrow)]
    finish_reason: Word<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WholeMessage<'a> {
    #[serde(borrow)]
    role: Word<'a>,
    content: Shape,
    reasoning: Shape,
    reasoning_content: Shape,
    /// The inner option: the key is there, and null.
    #[serde(borrow, deserialize_with = "present")]
    tool_calls: Option<Option<Vec<WholeCall<'a>>>>,
}

fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WholeCall<'a> {
    #[serde(borrow)]
    id: Word<'a>,
    #[serde(rename = "type", borrow)]
    kind: Word<'a>,
    function: Option<WholeFunction>,
    custom: Shape,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WholeFunction {
    arguments: Shape,
}

impl WholePeek<'_> {
    /// Usage and finish reason of an answer that is already OpenAI's; `None` for any other.
    fn clean(&self, excludes_reasoning: bool) -> Option<(Option<Usage>, Option<&'static str>)> {
        let head = self.id.text().is_some()
            && self.model.text().is_some()
            && matches!(&self.object, Word::Text(object) if object == "chat.completion")
            && matches!(self.created, Shape::Count(1..))
            && self.error.is_unsaid();
        if !head || self.choices.is_empty() || !self.choices.iter().all(WholeChoice::is_clean) {
            return None;
        }
        let tally = usage::read(self.usage?.get(), excludes_reasoning)?;
        let Word::Text(finish) = &self.choices.first()?.finish_reason else { return None };
        let usage = tally.usage.in_tier(self.service_tier.text());
        (!tally.deviates).then(|| (Some(usage), finish::known(finish)))
    }
}

impl WholeChoice<'_> {
    fn is_clean(&self) -> bool {
        let Some(message) = &self.message else { return false };
        matches!(self.index, Shape::Count(_))
            && self.error.is_unsaid()
            && matches!(&self.finish_reason, Word::Text(word) if finish::known(word)
                .is_some_and(|word| finish::told(word, message.tool_calls.is_some()) == word))
            && message.role.text().is_some()
            && matches!(message.content, Shape::Null | Shape::Text(_))
            && (message.reasoning.is_unsaid() || matches!(message.reasoning_content, Shape::Text(_)))
            && message.reasoning_content.is_texty()
            && message.tool_calls.as_ref().is_none_or(|calls| {
                calls.as_ref().is_some_and(|calls| !calls.is_empty() && calls.iter().all(WholeCall::is_clean))
            })
    }
}

impl WholeCall<'_> {
    fn is_clean(&self) -> bool {
        let arguments = match &self.function {
            Some(function) => matches!(function.arguments, Shape::Text(1..)),
            None => !self.custom.is_unsaid(),
        };
        self.id.text().is_some() && self.kind.text().is_some() && arguments
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fault::{FaultKind, Then};

    #[test]
    fn a_whole_answer_says_why_it_ended_or_counts_for_broken_off() {
        let body = |choice: Value| Bytes::from(json!({ "choices": [choice] }).to_string());
        let text = json!({ "role": "assistant", "content": "The first of three steps is to" });
        let call = json!({ "role": "assistant", "content": null,
            "tool_calls": [{ "id": "c", "type": "function", "function": { "name": "pay", "arguments": "{\"amount\": 1" } }] });
        for choice in [
            json!({ "message": text, "finish_reason": null }),
            json!({ "message": text }),
            json!({ "message": text, "finish_reason": "" }),
            json!({ "message": call, "finish_reason": null }),
            json!({ "message": { "role": "assistant" } }),
        ] {
            for answer in
                [relay(&body(choice.clone()), false, 0), as_stream(&body(choice.clone()), true, false, 0)]
            {
                let fault = answer.unwrap_err();
                assert_eq!(fault.kind, FaultKind::Truncated, "{choice}");
                assert_ne!(fault.then(), Then::Stop, "{choice}");
            }
        }
        let whole = relay(&body(json!({ "message": text, "finish_reason": "eos" })), false, 0).unwrap();
        assert_eq!(whole.finish, Some("stop"));
    }

    #[test]
    fn an_answer_that_ends_with_calls_and_has_none_has_come_to_its_end() {
        let call = json!([{ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }]);
        for (calls, expected) in [(json!(null), "stop"), (json!([]), "stop"), (call, "tool_calls")] {
            let mut message = json!({ "role": "assistant", "content": "hi" });
            if !calls.is_null() {
                message["tool_calls"] = calls.clone();
            }
            let choice = json!({ "index": 0, "message": message, "finish_reason": "tool_calls" });
            let answer = json!({ "id": "a", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [choice], "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 } });
            let whole = relay(&answer.to_string().into(), false, 0).unwrap();
            let told: Value = serde_json::from_slice(&whole.body).unwrap();
            assert_eq!(told["choices"][0]["finish_reason"], expected, "{calls}");
            assert_eq!(whole.finish, Some(expected), "{calls}");
        }
    }
}

//! The canonical answer as a text completion.

use serde_json::{Value, json};

use super::logprobs;
use crate::api::openai_chat::{Fallback, usage_json};
use crate::api::tongue::{Tongue, never};
use crate::chat::{Answer, Choice, Finish, FinishReason, Object, Part};
use crate::json;

/// What this API has words for.
pub(in crate::api) const TONGUE: Tongue = Tongue {
    choices: true,
    logprobs: true,
    stop_sequence: false,
    refusal: false,
    thinking: false,
    calls: false,
    one_call: false,
    texts: true,
    citation: |_| false,
    foreign: never,
    media: never,
    field: |_, _| false,
    fields: false,
    usage: crate::api::openai_chat::TONGUE.usage,
    ends: &[(FinishReason::ToolCalls, "stop"), (FinishReason::Other, "stop")],
    comments: true,
};

/// The body of a whole answer. `echo` is what every choice begins with.
pub(super) fn encode(answer: &Answer, echo: Option<&str>, fallback: &Fallback) -> Vec<u8> {
    let mut body = head(&answer.id, &answer.model, answer.created, fallback);
    let choices: Vec<Value> = answer.choices.iter().map(|choice| self::choice(choice, echo)).collect();
    body.insert("choices".into(), Value::Array(choices));
    if let Some(usage) = &answer.usage {
        body.insert("usage".into(), usage_json(usage));
    }
    json::object_to_text(&body).into_bytes()
}

/// What stands in every answer and chunk.
pub(super) fn head(id: &str, model: &str, created: u64, fallback: &Fallback) -> Object {
    let mut head = Object::new();
    head.insert("id".into(), if id.is_empty() { &fallback.id } else { id }.into());
    head.insert("object".into(), "text_completion".into());
    head.insert("created".into(), if created == 0 { fallback.created } else { created }.into());
    head.insert("model".into(), model.into());
    head
}

/// One choice of an answer or of a chunk.
pub(super) fn piece(index: u32, text: &str, logprobs: Option<Value>, finish: Option<&'static str>) -> Value {
    json!({ "text": text, "index": index, "logprobs": logprobs, "finish_reason": finish })
}

fn choice(choice: &Choice, echo: Option<&str>) -> Value {
    let mut text = echo.unwrap_or_default().to_owned();
    let mut offset = text.chars().count();
    for part in &choice.content {
        match part {
            Part::Text { text: more, .. } => text.push_str(more),
            Part::Refusal(more) => text.push_str(more),
            _ => {}
        }
    }
    let logprobs = choice.logprobs.as_ref().and_then(|chat| logprobs::older(chat, &mut offset));
    piece(choice.index, &text, logprobs, choice.finish.as_ref().map(word))
}

/// Why a choice ended: this API knows no tools.
pub(super) fn word(finish: &Finish) -> &'static str {
    match finish.reason.word() {
        "tool_calls" => "stop",
        word => word,
    }
}

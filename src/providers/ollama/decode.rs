//! A whole answer of `/api/chat` as the canonical answer.

use bytes::Bytes;
use serde_json::Value;

use super::fault;
use super::message::{self, Said};
use crate::chat::{Answer, Choice, Object, Part, ToolKind};
use crate::fault::Fault;
use crate::frames::LineSplitter;

/// The canonical answer. Servers that know streams only send lines all the same; they are joined.
///
/// # Errors
/// `Malformed` when the body is no answer, `Truncated` when its last line is missing, and the provider's own fault
/// when it is an error.
pub(super) fn answer(body: &[u8], now_ms: u64) -> Result<Answer, Fault> {
    let mut answer = Answer::default();
    let (mut thinking, mut text, mut calls) = (String::new(), String::new(), Vec::new());
    let mut logprobs: Vec<Value> = Vec::new();
    let mut ended = None;
    let mut seed = String::new();
    // A whole answer may be printed over several lines.
    let whole = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let mut lines = LineSplitter::with_max_line(body.len());
    if !whole {
        lines.push(Bytes::copy_from_slice(body));
    }
    let mut first = whole.then(|| Bytes::copy_from_slice(body.trim_ascii()));
    while let Some(line) = first.take().map_or_else(|| lines.finish(), |line| Ok(Some(line)))? {
        let said = Said::read(&line, now_ms)?;
        if answer.model.is_empty() {
            answer.created = said.created();
            answer.model.clone_from(&said.model);
            seed = format!("{}{}", said.model, said.created_at);
        }
        thinking.push_str(&said.thinking);
        text.push_str(&said.text);
        calls.extend(said.calls);
        if let Some(Value::Array(more)) =
            said.logprobs.and_then(|mut l| l.get_mut("content").map(Value::take))
        {
            logprobs.extend(more);
        }
        if said.done.is_some() {
            (ended, answer.usage) = (said.done, said.usage);
        }
    }
    let Some(reason) = ended else {
        let nothing = seed.is_empty() && text.is_empty();
        return Err(if nothing {
            fault::malformed("the provider's answer is empty")
        } else {
            fault::truncated()
        });
    };
    let mut content = Vec::new();
    if !thinking.is_empty() {
        content.push(Part::Thinking { text: thinking, signature: None, redacted: None });
    }
    if !text.is_empty() {
        content.push(Part::text(text));
    }
    let finish = message::finish(&reason, !calls.is_empty());
    content.extend(calls.into_iter().enumerate().map(|(place, call)| Part::ToolCall {
        id: message::id_of(&call, &seed, place),
        name: call.name,
        arguments: call.arguments,
        kind: ToolKind::Function,
        signature: None,
        cache: None,
    }));
    let logprobs =
        (!logprobs.is_empty()).then(|| serde_json::json!({ "content": logprobs, "refusal": null }));
    answer.choices = vec![Choice { index: 0, content, finish: Some(finish), logprobs, rest: Object::new() }];
    Ok(answer)
}

//! One JSON document of Ollama's: a whole answer, or a line of a stream.

use serde_json::{Value, json};

use super::fault;
use crate::chat::{Finish, FinishReason, Object, Usage};
use crate::clock;
use crate::fault::Fault;
use crate::json;
use crate::providers::call_id;

/// What a document says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) model: String,
    pub(super) created_at: String,
    pub(super) text: String,
    pub(super) thinking: String,
    pub(super) calls: Vec<Call>,
    pub(super) logprobs: Option<Value>,
    /// Why it stopped, where this is the last document.
    pub(super) done: Option<String>,
    pub(super) usage: Option<Usage>,
}

/// One tool call, complete: Ollama does not stream arguments.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: Option<String>,
    pub(super) name: String,
    /// JSON text of the arguments.
    pub(super) arguments: String,
}

impl Said {
    /// Reads a document.
    ///
    /// # Errors
    /// `Malformed` when it is no JSON or no answer; the provider's own fault when it is an error.
    pub(super) fn read(json: &[u8], now_ms: u64) -> Result<Self, Fault> {
        Self::of(json::parse(json), now_ms)
    }

    /// What a document says that was read already; `None` is one that is no JSON.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn of(value: Option<Value>, now_ms: u64) -> Result<Self, Fault> {
        let value = value.ok_or_else(|| fault::malformed("the provider's answer is not JSON"))?;
        let mut object = match value {
            Value::Object(object) if object.get("error").is_none_or(Value::is_null) => object,
            other => return Err(fault::inside_success(&other, now_ms)),
        };
        let mut message = match object.shift_remove("message") {
            Some(Value::Object(message)) => message,
            None | Some(Value::Null) if object.contains_key("done") => Object::new(),
            _ => return Err(fault::malformed("the provider's answer is not a chat answer")),
        };
        let calls = match message.shift_remove("tool_calls") {
            Some(Value::Array(calls)) => calls.iter().map(call).collect(),
            _ => Vec::new(),
        };
        let done = object.shift_remove("done") == Some(Value::Bool(true));
        let reason = take_text(&mut object, "done_reason");
        let mut said = Self {
            model: take_text(&mut object, "model"),
            created_at: take_text(&mut object, "created_at"),
            text: take_text(&mut message, "content"),
            thinking: take_text(&mut message, "thinking"),
            calls,
            logprobs: logprobs(object.shift_remove("logprobs")),
            done: done.then_some(reason),
            ..Self::default()
        };
        if done {
            said.usage = usage(&object);
        }
        Ok(said)
    }

    /// Unix seconds; 0 where it does not say.
    pub(super) fn created(&self) -> u64 {
        clock::unix_seconds(&self.created_at)
    }
}

/// The id of a call: its own, or an invented one.
pub(super) fn id_of(call: &Call, answer: &str, place: usize) -> String {
    call.id.clone().unwrap_or_else(|| call_id::invent(answer, 0, place, &call.name))
}

/// Why an answer ended.
pub(super) fn finish(reason: &str, calls: bool) -> Finish {
    let canonical = match reason {
        "length" => FinishReason::Length,
        _ if calls => FinishReason::ToolCalls,
        // `load` and `unload` answer a request without messages: the model was loaded, nothing was said.
        "" | "stop" | "load" | "unload" => FinishReason::Stop,
        _ => FinishReason::Other,
    };
    Finish { reason: canonical, raw: (!reason.is_empty()).then(|| reason.to_owned()), stop_sequence: None }
}

/// `prompt_eval_count` is missing where the whole prompt was cached; nothing says how long it was then.
fn usage(object: &Object) -> Option<Usage> {
    let count = |key: &str| object.get(key).and_then(Value::as_u64).map(|n| n.min(1 << 40));
    let (input, output) = (count("prompt_eval_count"), count("eval_count"));
    (input.is_some() || output.is_some()).then(|| Usage {
        input: input.unwrap_or(0),
        output: output.unwrap_or(0),
        ..Usage::default()
    })
}

fn call(call: &Value) -> Call {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let function = call.get("function");
    let arguments = match function.and_then(|function| function.get("arguments")) {
        // Some models of old wrote a text.
        Some(Value::String(text)) if !text.trim().is_empty() => text.clone(),
        None | Some(Value::Null | Value::String(_)) => "{}".to_owned(),
        Some(arguments) => arguments.to_string(),
    };
    Call {
        id: Some(text(call.get("id"))).filter(|id| !id.is_empty()),
        name: text(function.and_then(|function| function.get("name"))),
        arguments,
    }
}

/// The entries are those of OpenAI.
fn logprobs(list: Option<Value>) -> Option<Value> {
    match list {
        Some(Value::Array(list)) if !list.is_empty() => Some(json!({ "content": list, "refusal": null })),
        _ => None,
    }
}

fn take_text(object: &mut Object, key: &str) -> String {
    match object.shift_remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

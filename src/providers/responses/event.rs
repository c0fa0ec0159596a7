//! One event of a stream, read as far as a decoder or a relay needs it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fault;
use crate::fault::Fault;
use crate::providers::openai;

/// An event's data. What is large stays text until somebody asks.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    pub(super) output_index: Option<u64>,
    pub(super) content_index: Option<u64>,
    pub(super) summary_index: Option<u64>,
    #[serde(borrow)]
    pub(super) delta: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) item: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) response: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) annotation: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
    /// What a `done` event repeats.
    #[serde(borrow)]
    pub(super) arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The response as a whole: it is created, queued, in progress.
    Begun,
    /// It is complete, or cut by a limit or a filter.
    Ended,
    /// It failed.
    Failed,
    /// An error in place of an event.
    Error,
    ItemAdded,
    ItemDone,
    Text,
    Annotation,
    Refusal,
    /// The summary of reasoning.
    Summary,
    /// Reasoning itself, of open models.
    Reasoning,
    /// Arguments of a function, or the input of a custom tool.
    Arguments,
    ArgumentsDone,
    /// Frames around the content that say nothing of their own.
    Frame,
    /// Anything else: progress of built-in tools, repeated content.
    Other,
}

impl Event<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self.kind.strip_prefix("response.").unwrap_or(&self.kind) {
            "created" | "queued" | "in_progress" => Kind::Begun,
            "completed" | "incomplete" | "done" => Kind::Ended,
            "failed" | "cancelled" => Kind::Failed,
            "error" => Kind::Error,
            "output_item.added" => Kind::ItemAdded,
            "output_item.done" => Kind::ItemDone,
            "output_text.delta" => Kind::Text,
            "output_text.annotation.added" => Kind::Annotation,
            "refusal.delta" => Kind::Refusal,
            "reasoning_summary_text.delta" | "reasoning_summary.delta" => Kind::Summary,
            "reasoning_text.delta" | "reasoning.delta" => Kind::Reasoning,
            "function_call_arguments.delta" | "custom_tool_call_input.delta" => Kind::Arguments,
            "function_call_arguments.done" | "custom_tool_call_input.done" => Kind::ArgumentsDone,
            "content_part.added" | "reasoning_summary_part.added" | "keepalive" | "rate_limits.updated" => {
                Kind::Frame
            }
            _ => Kind::Other,
        }
    }
}

/// Reads an event.
///
/// # Errors
/// The provider's error where one stands in its place; `Malformed` for anything else.
pub(super) fn read(text: &str, now_ms: u64) -> Result<Event<'_>, Fault> {
    if let Ok(event) = serde_json::from_str::<Event<'_>>(text)
        && !event.kind.is_empty()
    {
        return Ok(event);
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.get("type").is_none() => Err(fault::event(&value, now_ms)),
        Ok(_) => Err(openai::fault::malformed("the provider sent a stream event of another form")),
        Err(_) => Err(openai::fault::malformed("the provider sent a stream event that is not JSON")),
    }
}

/// The text of a raw string; empty for anything else.
pub(super) fn text(raw: Option<&RawValue>) -> Cow<'_, str> {
    raw.and_then(|raw| crate::json::text(raw.get())).unwrap_or_default()
}

/// A raw value read; null where it is missing.
pub(super) fn value(raw: Option<&RawValue>) -> Value {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

impl Event<'_> {
    /// The type of the item that it holds.
    pub(super) fn item_kind(&self) -> Option<String> {
        let raw = self.item?.get();
        let (_, kind) = crate::json::entries(raw).find(|(key, _)| key == "type")?;
        crate::json::text(kind).map(Cow::into_owned)
    }
}

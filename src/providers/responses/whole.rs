//! A whole response on its way to a client of the same dialect: read for its status and its usage, untouched.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fault;
use crate::chat::{Finish, FinishReason, Usage};
use crate::fault::Fault;
use crate::json;
use crate::providers::{Relayed, openai};

/// What of a response decides, read without building a tree of the rest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Peek<'a> {
    #[serde(borrow)]
    object: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
    error: Option<Value>,
    incomplete_details: Option<Details>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    service_tier: Option<Value>,
    /// What tools of the provider's own were used.
    #[serde(borrow)]
    tool_usage: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<Vec<ItemPeek<'a>>>,
    /// The tools as they were offered.
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
}

/// Items of tools that the provider runs and charges for. Of a shell, the client's own has its outputs in the next request.
const UNPRICED: [&str; 4] =
    ["code_interpreter_call", "file_search_call", "image_generation_call", "shell_call_output"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ItemPeek<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
}

/// The body for the client, what it says was used, and how it ended.
pub(super) fn relay(body: Bytes, now_ms: u64) -> Result<Relayed, Fault> {
    let body = body.slice_ref(body.trim_ascii());
    let text = json::text_of(&body);
    let peek = complete(&text, now_ms)?;
    let (usage, finish) = (peek.usage(), peek.finish().map(|finish| finish.reason.word()));
    Ok(Relayed { usage, finish, lost: Vec::new(), body })
}

/// Reads a response.
///
/// # Errors
/// The provider's error where one stands in its place, and that of a response that failed.
pub(super) fn read(text: &str, now_ms: u64) -> Result<Peek<'_>, Fault> {
    read_if(text, now_ms, |peek| peek.output.is_some() || peek.object.as_deref() == Some("response"))
}

/// Reads the response of a stream's last event. The event says what it is, so that its status alone will do.
///
/// # Errors
/// As [`read`].
pub(super) fn last(text: &str, now_ms: u64) -> Result<Peek<'_>, Fault> {
    let is_one = |peek: &Peek<'_>| peek.output.is_some() || peek.object.is_some() || peek.status.is_some();
    read_if(text, now_ms, is_one)
}

fn read_if<'a>(text: &'a str, now_ms: u64, is_one: impl Fn(&Peek<'a>) -> bool) -> Result<Peek<'a>, Fault> {
    match serde_json::from_str::<Peek<'_>>(text) {
        Ok(peek) if is_one(&peek) && peek.has_failed() => Err(fault::failed(peek.error.as_ref(), now_ms)),
        Ok(peek) if is_one(&peek) => Ok(peek),
        _ => Err(no_response(text, now_ms)),
    }
}

/// Reads a response that is all there is of an answer: one that is complete has what was said in it.
///
/// # Errors
/// As [`read`].
pub(super) fn complete(text: &str, now_ms: u64) -> Result<Peek<'_>, Fault> {
    let peek = read(text, now_ms)?;
    let says_nothing = peek.output.is_none() && peek.status.as_deref() == Some("completed");
    if says_nothing { Err(no_response(text, now_ms)) } else { Ok(peek) }
}

/// A count of tokens, as it came.
pub(super) fn count(body: Bytes, now_ms: u64) -> Result<Relayed, Fault> {
    match serde_json::from_slice::<Value>(&body) {
        Ok(value) if value.get("input_tokens").is_some_and(Value::is_u64) => {
            Ok(Relayed { body, usage: None, finish: None, lost: Vec::new() })
        }
        Ok(value) if value.get("error").is_some_and(|error| !error.is_null()) => {
            Err(fault::event(&value, now_ms))
        }
        _ => Err(openai::fault::malformed("the provider's answer is not a count of tokens")),
    }
}

/// What a body says that is no response.
pub(super) fn no_response(text: &str, now_ms: u64) -> Fault {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if speaks_of_error(&value) => fault::event(&value, now_ms),
        Ok(_) => openai::fault::malformed("the provider's answer is not a response"),
        Err(_) if text.trim().is_empty() => openai::fault::malformed("the provider sent an empty answer"),
        Err(_) => openai::fault::malformed("the provider's answer is not JSON"),
    }
}

fn speaks_of_error(value: &Value) -> bool {
    let Value::Object(object) = value else { return false };
    ["error", "detail", "message", "errors", "code"]
        .iter()
        .any(|key| object.get(*key).is_some_and(|v| !v.is_null()))
}

impl Peek<'_> {
    /// Usage in disjoint classes.
    pub(super) fn usage(&self) -> Option<Usage> {
        let tier = self.service_tier.as_ref().and_then(Value::as_str);
        let tally = openai::usage::read(self.usage?.get(), false)?;
        let searches = tally.usage.searches.max(self.searches());
        let unpriced_tools = tally.usage.unpriced_tools.max(self.unpriced_tools());
        Some(Usage { searches, unpriced_tools, ..tally.usage.in_tier(tier) })
    }

    /// How often a tool was used that is paid for by the call, the session or its own tokens, which are in no `usage`:
    /// <https://platform.openai.com/docs/pricing#built-in-tools>
    fn unpriced_tools(&self) -> u64 {
        let kinds = self.output.iter().flatten().map(|item| &*item.kind);
        kinds.filter(|kind| UNPRICED.contains(kind)).count() as u64
    }

    /// How often the web was searched: as OpenAI counts it, or where nobody does, by the items. To open a page is none:
    /// <https://platform.openai.com/docs/guides/tools-web-search>
    fn searches(&self) -> u64 {
        #[derive(Deserialize)]
        struct Counted {
            web_search: Requests,
        }
        #[derive(Deserialize)]
        struct Requests {
            num_requests: u64,
        }
        #[derive(Deserialize)]
        struct Action {
            #[serde(rename = "type")]
            kind: String,
        }
        if let Some(counted) = self.tool_usage.and_then(|raw| serde_json::from_str::<Counted>(raw.get()).ok())
        {
            return counted.web_search.num_requests;
        }
        let is_search = |raw: &RawValue| {
            serde_json::from_str::<Action>(raw.get()).is_ok_and(|action| action.kind == "search")
        };
        let calls = self.output.iter().flatten().filter(|item| item.kind == "web_search_call");
        calls.filter(|call| call.action.is_none_or(is_search)).count() as u64
    }

    /// Why it ended; `None` while it goes on in the background.
    pub(super) fn finish(&self) -> Option<Finish> {
        let mut kinds = self.output.iter().flatten().map(|item| &*item.kind);
        let calls = kinds.any(|kind| is_call(kind) && !(kind == CUSTOM && self.searches_x()));
        let reason = self.incomplete_details.as_ref().and_then(|details| details.reason.as_deref());
        finish(self.status.as_deref(), reason, calls)
    }

    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.output.as_ref().is_none_or(Vec::is_empty)
    }

    /// As [`searches_x`] of the tools that were offered.
    pub(super) fn searches_x(&self) -> bool {
        #[derive(Deserialize)]
        struct Tool<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
        }
        let tools = self.tools.and_then(|raw| serde_json::from_str::<Vec<Tool<'_>>>(raw.get()).ok());
        searches_x(tools.iter().flatten().map(|tool| &*tool.kind))
    }

    fn has_failed(&self) -> bool {
        match self.status.as_deref() {
            Some("failed" | "cancelled") => true,
            // A vendor that names no status but an error.
            None => self.error.as_ref().is_some_and(|error| !error.is_null()),
            _ => false,
        }
    }
}

/// Whether an item is a call of a tool of the client.
pub(super) fn is_call(kind: &str) -> bool {
    matches!(kind, "function_call" | CUSTOM)
}

/// An item that calls a tool which takes text.
pub(super) const CUSTOM: &str = "custom_tool_call";

/// Whether calls of custom tools are the provider's own: xAI says so what it looks up on X. `kinds` of the tools that were
/// offered. <https://docs.x.ai/docs/guides/tools/overview>
pub(super) fn searches_x<'a>(kinds: impl Iterator<Item = &'a str>) -> bool {
    let (mut searches, mut custom) = (false, false);
    for kind in kinds {
        searches |= kind == "x_search";
        custom |= kind == "custom";
    }
    searches && !custom
}

/// Why a response of this status ended.
pub(super) fn finish(status: Option<&str>, reason: Option<&str>, calls: bool) -> Option<Finish> {
    let (word, raw) = match (status, reason) {
        (Some("queued" | "in_progress"), _) => return None,
        (Some("incomplete"), Some(reason)) => {
            let word = match reason {
                "max_output_tokens" | "max_tokens" | "length" => FinishReason::Length,
                "content_filter" => FinishReason::ContentFilter,
                "context_length_exceeded" | "model_context_window_exceeded" => FinishReason::ContextExceeded,
                _ => FinishReason::Other,
            };
            (word, reason)
        }
        (Some("incomplete"), None) => (FinishReason::Length, "incomplete"),
        _ if calls => (FinishReason::ToolCalls, "completed"),
        _ => (FinishReason::Stop, "completed"),
    };
    Some(Finish { reason: word, raw: Some(raw.to_owned()), stop_sequence: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    #[test]
    fn a_response_is_read_for_its_end_and_its_usage() {
        for (body, expected) in [
            (
                r#"{"object":"response","status":"completed","error":null,"output":[],"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":1},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":15}}"#,
                Ok((Some("stop"), Some((5, 4, 1, 5, 3)))),
            ),
            (
                r#"{"object":"response","status":"completed","output":[{"type":"reasoning"},{"type":"function_call"}]}"#,
                Ok((Some("tool_calls"), None)),
            ),
            (
                r#"{"object":"response","status":"completed","tools":[{"type":"x_search"}],"output":[{"type":"custom_tool_call","name":"x_keyword_search"},{"type":"message"}]}"#,
                Ok((Some("stop"), None)),
            ),
            (
                r#"{"object":"response","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[]}"#,
                Ok((Some("length"), None)),
            ),
            (
                r#"{"object":"response","status":"incomplete","incomplete_details":{"reason":"content_filter"},"output":[]}"#,
                Ok((Some("content_filter"), None)),
            ),
            (r#"{"object":"response","status":"queued","output":[]}"#, Ok((None, None))),
            (
                r#"{"object":"response","status":"failed","error":{"code":"server_error","message":"x"},"output":[]}"#,
                Err(FaultKind::ServerError),
            ),
            (r#"{"object":"response","status":"cancelled","output":[]}"#, Err(FaultKind::ServerError)),
            (r#"{"error":{"message":"x","type":"rate_limit_error"}}"#, Err(FaultKind::RateLimited)),
            (r#"{"error":"Model is overloaded","code":"overloaded"}"#, Err(FaultKind::Overloaded)),
            (r#"{"object":"chat.completion","choices":[]}"#, Err(FaultKind::Malformed)),
            (r#"{"object":"response","status":"completed"}"#, Err(FaultKind::Malformed)),
            ("<html>", Err(FaultKind::Malformed)),
            ("", Err(FaultKind::Malformed)),
        ] {
            let got = relay(Bytes::from_static(body.as_bytes()), 0).map(|relayed| {
                assert_eq!(relayed.body, body, "untouched");
                let classes = |u: Usage| (u.input, u.cached_read, u.cache_write, u.output, u.reasoning);
                (relayed.finish, relayed.usage.map(classes))
            });
            assert_eq!(got.map_err(|fault| fault.kind), expected, "{body}");
        }
    }

    #[test]
    fn tools_that_no_price_knows_are_counted() {
        let item = |kind: &str| format!(r#"{{"type":"{kind}","id":"x","status":"completed"}}"#);
        for (kinds, expected) in [
            (&["message", "web_search_call", "function_call", "mcp_call", "shell_call"][..], 0),
            (&["code_interpreter_call", "code_interpreter_call", "file_search_call"], 3),
            (&["image_generation_call", "shell_call", "shell_call_output"], 2),
        ] {
            let items: Vec<_> = kinds.iter().map(|kind| item(kind)).collect();
            let body = format!(
                r#"{{"object":"response","status":"completed","output":[{}],
                    "usage":{{"input_tokens":1,"output_tokens":2,"total_tokens":3}}}}"#,
                items.join(",")
            );
            let usage = read(&body, 0).unwrap().usage().unwrap();
            assert_eq!((usage.unpriced_tools, usage.output), (expected, 2), "{kinds:?}");
        }
    }
}

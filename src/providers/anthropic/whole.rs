//! Whole messages for clients of the same dialect: checked, and passed on as they came.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::usage::WireUsage;
use super::{decode, fault, stop};
use crate::chat::Object;
use crate::fault::Fault;
use crate::frames::sse_named;
use crate::providers::Relayed;
use crate::providers::openai::peek::Shape;

/// As much of a message as has to be known to let it pass.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<Vec<BlockPeek<'a>>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    usage: Option<WireUsage>,
    container: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct BlockPeek<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    text: Shape,
}

impl Peek<'_> {
    /// Whether it is a message, whole and without an error.
    fn is_clean(&self) -> bool {
        let sound = |block: &BlockPeek<'_>| block.kind != "text" || matches!(block.text, Shape::Text(_));
        self.kind == "message"
            && self.error.is_none()
            && self.stop_reason.is_some()
            && self.content.as_ref().is_some_and(|blocks| blocks.iter().all(sound))
    }
}

/// The body as it came, what it says was used, and how it ended.
pub(super) fn relay(body: &Bytes, now_ms: u64) -> Result<Relayed, Fault> {
    let body = body.slice_ref(body.trim_ascii());
    match serde_json::from_slice::<Peek<'_>>(&body) {
        Ok(peek) if peek.is_clean() => {
            let finish = peek.stop_reason.as_deref().map(|raw| stop::reason(raw).word());
            let ran_code = peek.container.is_some();
            let usage = peek.usage.and_then(|mut usage| {
                usage.ran_code = ran_code;
                usage.classes()
            });
            Ok(Relayed { body, usage, finish, lost: Vec::new() })
        }
        // Says what is wrong with it; a message in spite of all goes on.
        _ => {
            let answer = decode::answer(&body, now_ms)?;
            Ok(Relayed { body, usage: answer.usage, finish: None, lost: Vec::new() })
        }
    }
}

/// A count of tokens.
pub(super) fn count(body: Bytes, now_ms: u64) -> Result<Relayed, Fault> {
    match serde_json::from_slice::<Value>(&body) {
        Ok(value) if value.get("input_tokens").is_some_and(Value::is_u64) => {
            Ok(Relayed { body, usage: None, finish: None, lost: Vec::new() })
        }
        Ok(value) if value.get("error").is_some() => Err(fault::inside_success(&value, now_ms)),
        _ => Err(fault::malformed("the provider's answer is not a count of tokens")),
    }
}

/// A whole message where a stream was asked for, as the stream that says the same.
pub(super) fn as_stream(body: &[u8], now_ms: u64) -> Result<Bytes, Fault> {
    let mut message = decode::message(body, now_ms)?;
    let blocks = message.insert("content".to_owned(), json!([]));
    let mut end = Object::new();
    for key in ["stop_reason", "stop_sequence", "stop_details", "container"] {
        if let Some(value) = message.get_mut(key) {
            end.insert(key.to_owned(), value.take());
        }
    }
    let usage = message.get("usage").cloned().unwrap_or_else(|| json!({}));
    let mut out = Vec::new();
    let mut say = |value: Value| {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        sse_named(&mut out, &kind, value.to_string().as_bytes());
    };
    say(json!({ "type": "message_start", "message": message }));
    if let Some(Value::Array(blocks)) = blocks {
        for (index, mut block) in blocks.into_iter().enumerate() {
            let deltas = deltas(&mut block);
            say(json!({ "type": "content_block_start", "index": index, "content_block": block }));
            for delta in deltas {
                say(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
            }
            say(json!({ "type": "content_block_stop", "index": index }));
        }
    }
    say(json!({ "type": "message_delta", "delta": end, "usage": usage }));
    say(json!({ "type": "message_stop" }));
    Ok(out.into())
}

/// What of a block comes by deltas in a stream; it is taken out of the block.
fn deltas(block: &mut Value) -> Vec<Value> {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(fields) = block.as_object_mut() else { return Vec::new() };
    let mut take = |key: &str, empty: Value| match fields.get_mut(key) {
        Some(value) if !value.is_null() => std::mem::replace(value, empty),
        _ => Value::Null,
    };
    match kind.as_str() {
        "text" => {
            let citations = take("citations", json!([]));
            let mut deltas: Vec<Value> = match citations {
                Value::Array(list) => {
                    list.into_iter().map(|c| json!({ "type": "citations_delta", "citation": c })).collect()
                }
                _ => Vec::new(),
            };
            deltas.push(json!({ "type": "text_delta", "text": take("text", "".into()) }));
            deltas
        }
        "thinking" => {
            let thinking = take("thinking", "".into());
            let mut deltas = vec![json!({ "type": "thinking_delta", "thinking": thinking })];
            let signature = take("signature", "".into());
            if signature.is_string() {
                deltas.push(json!({ "type": "signature_delta", "signature": signature }));
            }
            deltas
        }
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            let input = take("input", json!({}));
            let json = if input.is_null() { String::new() } else { input.to_string() };
            vec![json!({ "type": "input_json_delta", "partial_json": json })]
        }
        _ => Vec::new(),
    }
}

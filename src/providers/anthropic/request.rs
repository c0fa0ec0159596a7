//! Requests as they go to Anthropic: path, headers, and the client's own bytes with what must change spliced in.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::chat::Loss;
use crate::json::Splice;
use crate::providers::{ClientBody, Outgoing, QuirkSettings, UNSIGNED_THOUGHT};
use crate::target::TargetName;

/// The version of the API that we speak: <https://platform.claude.com/docs/en/api/versioning>
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// A request with JSON in its body.
pub(super) fn outgoing(streams: bool, body: Vec<Bytes>) -> Outgoing {
    let accept = if streams { "text/event-stream" } else { "application/json" };
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert("anthropic-version", VERSION);
    Outgoing { method: Method::POST, path: "/messages".to_owned(), headers, body, lost: Vec::new() }
}

/// The client's own request with the model's name at this provider.
pub(super) fn splice(body: &ClientBody, target: &TargetName, quirks: &QuirkSettings) -> Outgoing {
    let mut splice = Splice::new(body);
    splice.set_text("model", &target.model);
    let mut lost = Vec::new();
    if let Some(Signed { messages, loop_unproven }) = signed(body, &mut lost) {
        splice.set("messages", messages);
        // Inside a loop of tools, Anthropic wants its own thought at the turn's beginning, or no thinking at all.
        if loop_unproven && body.has("thinking") {
            splice.set("thinking", r#"{"type":"disabled"}"#);
            lost.push(Loss::new(
                "thinking",
                "no thinking until the tool calls of another provider are through",
            ));
        }
    }
    for (old, new) in &quirks.rename {
        splice.rename(old, new);
    }
    for field in &quirks.drop {
        splice.remove(field);
    }
    for (field, value) in &quirks.defaults {
        if body.field(field).is_none() {
            splice.set(field, value.to_string());
        }
    }
    Outgoing { lost, ..outgoing(body.bool("stream") == Some(true), splice.finish()) }
}

/// Messages without the thoughts that no provider has signed.
struct Signed {
    messages: String,
    /// The last turn is one of tool calls, and no signed thought begins it.
    loop_unproven: bool,
}

/// Takes out the thoughts of providers that sign none, which Anthropic would refuse; `None` when there are none.
fn signed(body: &ClientBody, lost: &mut Vec<Loss>) -> Option<Signed> {
    memchr::memmem::find(body.raw_bytes("messages")?, UNSIGNED_THOUGHT.as_bytes())?;
    let mut messages: Vec<Value> = serde_json::from_str(body.raw("messages")?).ok()?;
    for (place, message) in messages.iter_mut().enumerate() {
        let Some(Value::Array(blocks)) = message.get_mut("content") else { continue };
        let mut at = 0;
        blocks.retain(|block| {
            let is_signed = block.get("signature").is_none_or(|signature| signature != UNSIGNED_THOUGHT);
            if !is_signed {
                let path = format!("messages[{place}].content[{at}]");
                lost.push(Loss::new(path, "thinking without a signature dropped"));
            }
            at += 1;
            is_signed
        });
    }
    messages.retain(|message| message.get("content").and_then(Value::as_array).is_none_or(|c| !c.is_empty()));
    let loop_unproven = is_unproven_loop(&messages);
    Some(Signed { messages: Value::Array(messages).to_string(), loop_unproven })
}

fn is_unproven_loop(messages: &[Value]) -> bool {
    let has =
        |message: &Value, kinds: &[&str]| {
            message.get("content").and_then(Value::as_array).into_iter().flatten().any(|block| {
                block.get("type").and_then(Value::as_str).is_some_and(|kind| kinds.contains(&kind))
            })
        };
    let is_result = |message: &&Value| has(message, &["tool_result"]);
    let is_model = |message: &&Value| message.get("role").is_some_and(|role| role == "assistant");
    if !messages.last().is_some_and(|last| is_result(&last)) {
        return false;
    }
    let turn = messages.iter().rev().take_while(|message| is_model(message) || is_result(message));
    turn.filter(is_model).last().is_some_and(|first| !has(first, &["thinking", "redacted_thinking"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_model_changes() {
        let body = ClientBody::read(Bytes::from_static(
            br#"{ "model":"fast", "x" : [1.0],"messages":[{"role":"user","content":"hi"}],"stream":true }"#,
        ))
        .unwrap();
        let outgoing = splice(&body, &TargetName::parse("p/claude-x").unwrap(), &QuirkSettings::default());
        let expected =
            r#"{ "model":"claude-x", "x" : [1.0],"messages":[{"role":"user","content":"hi"}],"stream":true}"#;
        assert_eq!(String::from_utf8(outgoing.body.concat()).unwrap(), expected);
        assert_eq!(outgoing.headers[ACCEPT], "text/event-stream");
    }

    #[test]
    fn thoughts_of_others_never_reach_anthropic() {
        let thought = json!({"type": "thinking", "thinking": "hm", "signature": UNSIGNED_THOUGHT});
        let call = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
        let result = json!({"type": "tool_result", "tool_use_id": "t"});
        let user = json!({"role": "user", "content": "hi"});
        let text = json!({
            "model": "m", "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [user, {"role": "assistant", "content": [thought, call]}, {"role": "user", "content": [result]}],
        });
        let body = ClientBody::read(Bytes::from(text.to_string())).unwrap();
        let outgoing = splice(&body, &TargetName::parse("p/m").unwrap(), &QuirkSettings::default());
        let sent: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        assert_eq!(sent["messages"][1]["content"], json!([call]));
        assert_eq!(sent["thinking"], json!({"type": "disabled"}));
        let lost: Vec<&str> = outgoing.lost.iter().map(|loss| &*loss.path).collect();
        assert_eq!(lost, ["messages[1].content[0]", "thinking"]);
    }
}

//! Requests as they go to Anthropic: path, headers, and the client's own bytes with what must change spliced in.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::chat::{Loss, proof};
use crate::json::{self, Splice};
use crate::providers::service::tier_in;
use crate::providers::{ClientBody, Outgoing, QuirkSettings};
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
    Outgoing {
        method: Method::POST,
        path: "/messages".to_owned(),
        is_absolute: false,
        headers,
        body,
        lost: Vec::new(),

        tier: None,
    }
}

/// The client's own request with the model's name at this provider.
pub(super) fn splice(body: &ClientBody, target: &TargetName, quirks: &QuirkSettings) -> Outgoing {
    let mut splice = Splice::new(body);
    splice.set_text("model", &target.model);
    let mut lost = Vec::new();
    let signed = signed(body, &mut lost);
    let messages = signed.as_deref().or_else(|| body.raw("messages")).unwrap_or_default();
    // Inside a loop of tools, Anthropic wants its own thought at the turn's beginning, or no thinking at all.
    let dumb = body.raw("thinking").is_some_and(|thinking| thinking.contains("\"enabled\""))
        && is_unproven_loop(messages);
    if dumb {
        splice.set("thinking", r#"{"type":"disabled"}"#);
        let what = "disabled until the tool calls of another provider are through";
        lost.push(Loss::new("thinking", what));
    }
    if let Some(messages) = signed {
        splice.set("messages", messages);
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
    let tier = Some(tier_in(&splice));
    Outgoing { lost, tier, ..outgoing(body.bool("stream") == Some(true), splice.finish()) }
}

/// Takes out the thoughts that no provider or another one has signed, which Anthropic would refuse; `None` when there
/// are none.
fn signed(body: &ClientBody, lost: &mut Vec<Loss>) -> Option<String> {
    if !body.may_hold_ours() {
        return None;
    }
    let mut messages: Vec<Value> = serde_json::from_str(body.raw("messages")?).ok()?;
    for (place, message) in messages.iter_mut().enumerate() {
        let Some(Value::Array(blocks)) = message.get_mut("content") else { continue };
        let mut at = 0;
        blocks.retain_mut(|block| {
            let kept = ["signature", "data"].into_iter().all(|field| match block.get_mut(field) {
                Some(Value::String(proof)) => own(proof),
                _ => true,
            });
            if !kept {
                let path = format!("messages[{place}].content[{at}]");
                lost.push(Loss::new(path, "thinking without Anthropic's signature dropped"));
            }
            at += 1;
            kept
        });
    }
    messages.retain(|message| message.get("content").and_then(Value::as_array).is_none_or(|c| !c.is_empty()));
    Some(Value::Array(messages).to_string())
}

/// Whether a proof is Anthropic's own; one that came by way of a router is unwrapped.
fn own(proof: &mut String) -> bool {
    let Some(own) = proof::for_anthropic(proof) else { return false };
    if own.len() < proof.len() {
        *proof = own.to_owned();
    }
    true
}

/// Whether the conversation, in JSON, ends inside a loop of tools that begins without a thought. Read from the text:
/// agents send long ones.
fn is_unproven_loop(messages: &str) -> bool {
    let of = |message, key| json::entries(message).find(|(name, _)| name == key).map(|(_, value)| value);
    let is = |text: Option<&str>, word: &str| text.and_then(json::text).is_some_and(|text| text == word);
    let has = |message, kinds: &[&str]| {
        let blocks = json::elements(of(message, "content").unwrap_or_default());
        blocks.into_iter().any(|block| kinds.iter().any(|kind| is(of(block, "type"), kind)))
    };
    // The first answer since the user's own last words, and whether results of tools stand at the end.
    let (mut first, mut ends) = (None, false);
    for message in json::elements(messages) {
        if is(of(message, "role"), "assistant") {
            ends = false;
            first = first.or(Some(message));
        } else {
            ends = has(message, &["tool_result"]);
            first = first.filter(|_| ends);
        }
    }
    ends && first.is_some_and(|first| !has(first, &["thinking", "redacted_thinking"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::providers::UNSIGNED_THOUGHT;

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
        let of_openai = json!({"type": "thinking", "thinking": "", "signature": proof::of_responses("openai", "rs", "x")});
        let call = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
        let result = json!({"type": "tool_result", "tool_use_id": "t"});
        let user = json!({"role": "user", "content": "hi"});
        let text = json!({
            "model": "m", "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [user, {"role": "assistant", "content": [thought, of_openai, call]}, {"role": "user", "content": [result]}],
        });
        let body = ClientBody::read(Bytes::from(text.to_string())).unwrap();
        let outgoing = splice(&body, &TargetName::parse("p/m").unwrap(), &QuirkSettings::default());
        let sent: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        assert_eq!(sent["messages"][1]["content"], json!([call]));
        assert_eq!(sent["thinking"], json!({"type": "disabled"}));
        let lost: Vec<&str> = outgoing.lost.iter().map(|loss| &*loss.path).collect();
        assert_eq!(lost, ["messages[1].content[0]", "messages[1].content[1]", "thinking"]);

        // A call that comes without any thought is no better; the user's own words end the loop.
        let call = json!({"role": "assistant", "content": [call]});
        let asks = json!({"role": "user", "content": [{"type": "text", "text": "and?"}]});
        let results = json!({"role": "user", "content": [result]});
        for (messages, thinks) in [
            (json!([user, call, results]), false),
            (json!([user, call, results, call, results]), false),
            (json!([user, call, results, {"role": "assistant", "content": "so"}, asks]), true),
            (json!([user]), true),
        ] {
            let text = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "messages": messages});
            let body = ClientBody::read(Bytes::from(text.to_string())).unwrap();
            let outgoing = splice(&body, &TargetName::parse("p/m").unwrap(), &QuirkSettings::default());
            let sent: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
            assert_eq!(sent["thinking"]["type"] == "enabled", thinks, "{messages}");
        }
    }
}

//! The client's own bytes as they go upstream: only what must change is spliced in.

use bytes::Bytes;
use serde_json::Value;

use super::{normalise, turns};
use crate::chat::{Loss, Object, proof};
use crate::fault::Fault;
use crate::json::Splice;
use crate::providers::percent::segment;
use crate::providers::service::tier_in;
use crate::providers::{ClientBody, Outgoing, QuirkSettings};
use crate::target::TargetName;

/// A chat request.
pub(super) fn chat(
    body: &ClientBody,
    target: &TargetName,
    quirks: &QuirkSettings,
) -> Result<Outgoing, Fault> {
    let streams = body.bool("stream") == Some(true);
    let model = quirks.deployed(&target.model);
    let mut splice = Splice::new(body);
    splice.set_text("model", model);
    ask_for_usage(&mut splice, body, streams && !quirks.no_stream_options);
    let mut lost = Vec::new();
    if let Some(messages) = messages(body, target, quirks, &mut lost) {
        splice.set("messages", messages);
    }
    effort(&mut splice, body, target, quirks, &mut lost);
    apply(&mut splice, body, quirks);
    let path = path(quirks.chat_path.as_deref().unwrap_or("/chat/completions"), model);
    let tier = Some(tier_in(&splice));
    Ok(Outgoing { lost, tier, ..outgoing(path, streams, splice.finish()) })
}

/// The effort of thinking, where this vendor has other words for it.
fn effort(
    splice: &mut Splice<'_>,
    body: &ClientBody,
    target: &TargetName,
    quirks: &QuirkSettings,
    lost: &mut Vec<Loss>,
) {
    if !quirks.thinking_switch && quirks.efforts.is_empty() {
        return;
    }
    let Some(asked) = body.str("reasoning_effort") else { return };
    let mut fields = Object::new();
    fields.insert("reasoning_effort".into(), (&*asked).into());
    turns::effort(&mut fields, &target.model, quirks, lost);
    match fields.get("reasoning_effort") {
        None => {
            splice.remove("reasoning_effort");
        }
        Some(effort) if *effort != *asked => {
            splice.set("reasoning_effort", effort.to_string());
        }
        Some(_) => {}
    }
    if let Some(thinking) = fields.get("thinking").filter(|_| !body.has("thinking")) {
        splice.set("thinking", thinking.to_string());
    }
}

/// Asks for the usage of a stream, or takes away what the client said about it.
pub(super) fn ask_for_usage(splice: &mut Splice<'_>, body: &ClientBody, asks: bool) {
    if !asks {
        splice.remove("stream_options");
        return;
    }
    match body.raw("stream_options").map(with_usage) {
        Some(Some(options)) => {
            splice.set("stream_options", options);
        }
        Some(None) => {}
        None => {
            splice.set("stream_options", r#"{"include_usage":true}"#);
        }
    }
}

/// An embeddings request.
pub(in crate::providers) fn embeddings(
    body: &ClientBody,
    target: &TargetName,
    quirks: &QuirkSettings,
) -> Result<Outgoing, Fault> {
    let model = quirks.deployed(&target.model);
    let mut splice = Splice::new(body);
    splice.set_text("model", model);
    for (old, new) in &quirks.rename {
        splice.rename(old, new);
    }
    for field in &quirks.drop {
        splice.remove(field);
    }
    let path = path(quirks.embeddings_path.as_deref().unwrap_or("/embeddings"), model);
    Ok(outgoing(path, false, splice.finish()))
}

/// A request with JSON in its body.
pub(in crate::providers) fn outgoing(path: String, streams: bool, body: Vec<Bytes>) -> Outgoing {
    Outgoing::json(path, if streams { "text/event-stream" } else { "application/json" }, body)
}

/// A path template with the model's name in it.
pub(in crate::providers) fn path(template: &str, model: &str) -> String {
    if template.contains("{model}") {
        template.replace("{model}", &segment(model, b""))
    } else {
        template.to_owned()
    }
}

/// The quirks of a request that is an object already.
pub(in crate::providers) fn apply_to_object(object: &mut Object, quirks: &QuirkSettings) {
    for (old, new) in &quirks.rename {
        if let Some(value) = object.shift_remove(old).filter(|value| !value.is_null()) {
            object.insert(new.clone(), value);
        }
    }
    for field in &quirks.drop {
        object.shift_remove(field);
    }
    for (field, value) in &quirks.defaults {
        object.entry(field.clone()).or_insert_with(|| value.clone());
    }
    if let Some(Value::Array(messages)) = object.get_mut("messages") {
        messages.iter_mut().filter_map(Value::as_object_mut).for_each(|message| fit(message, quirks));
    }
}

/// The quirks of a request that stays the client's bytes.
pub(in crate::providers) fn apply(splice: &mut Splice<'_>, body: &ClientBody, quirks: &QuirkSettings) {
    for (old, new) in &quirks.rename {
        splice.rename(old, new);
    }
    for field in &quirks.drop {
        splice.remove(field);
    }
    for (field, value) in &quirks.defaults {
        let says = |old: &str| body.raw(old).is_some_and(|value| value != "null");
        let renamed = quirks.rename.iter().any(|(old, new)| new == field && says(old));
        if body.field(field).is_none() && !renamed {
            splice.set(field, value.to_string());
        }
    }
}

/// `stream_options` with usage asked for; `None` when it is already.
fn with_usage(raw: &str) -> Option<String> {
    let mut options = match serde_json::from_str(raw) {
        Ok(Value::Object(options)) => options,
        _ => Object::new(),
    };
    if options.get("include_usage") == Some(&Value::Bool(true)) {
        return None;
    }
    options.insert("include_usage".into(), true.into());
    Some(Value::Object(options).to_string())
}

/// The messages as this vendor takes them; `None` when nothing has to change.
fn messages(
    body: &ClientBody,
    target: &TargetName,
    quirks: &QuirkSettings,
    lost: &mut Vec<Loss>,
) -> Option<String> {
    let bytes = body.raw_bytes("messages")?;
    let has = |needle: &str| memchr::memmem::find(bytes, needle.as_bytes()).is_some();
    let ours =
        body.may_hold_ours() && (OURS.iter().any(|field| lacks(quirks, field) && has(field)) || has(WRAPPED));
    let drops =
        quirks.drop_in_messages.iter().chain(quirks.rename_in_messages.keys()).any(|field| has(field));
    let ids = quirks.tool_id_length.is_some() && has("tool_call");
    let roles = quirks.no_developer_role && has("developer");
    let ordered = quirks.thinking_parts
        || !quirks.thinking_with_calls.is_empty()
        || quirks.answer_after_tools
        || quirks.prefix_last
        || quirks.document_url;
    let changes = drops || ids || roles || ours;
    if !changes && !ordered {
        return None;
    }
    let raw = body.raw("messages")?;
    if !changes && !turns::deviate(raw, &target.model, quirks) {
        return None;
    }
    let Ok(Value::Array(mut messages)) = serde_json::from_str(raw) else { return None };
    turns::fit(&mut messages, &target.model, quirks, lost);
    messages.iter_mut().filter_map(Value::as_object_mut).for_each(|message| fit(message, quirks));
    Some(Value::Array(messages).to_string())
}

/// What the doors of this house add to OpenAI's answers, and clients send back with the conversation, whoever is asked
/// next.
const OURS: &[&str] = &["reasoning_content", "reasoning_details", "extra_content"];

/// A proof that no provider of this dialect knows.
const WRAPPED: &str = "\"tollgate:";

fn lacks(quirks: &QuirkSettings, field: &str) -> bool {
    quirks.lacks.iter().any(|lacked| lacked == field)
}

/// Takes out what this house has added to other providers' answers, as far as the vendor does not know it.
fn leave_ours(message: &mut Object, quirks: &QuirkSettings) {
    let before = message.len();
    for field in OURS.iter().filter(|field| lacks(quirks, field)) {
        message.shift_remove(*field);
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            call.as_object_mut().and_then(|call| call.shift_remove(*field));
        }
    }
    if let Some(Value::Array(details)) = message.get_mut("reasoning_details") {
        let is_foreign = |value: Option<&Value>| {
            value.and_then(Value::as_str).is_some_and(|proof| proof.starts_with(proof::MARK))
        };
        details.retain(|detail| !is_foreign(detail.get("signature")) && !is_foreign(detail.get("data")));
        if details.is_empty() {
            message.shift_remove("reasoning_details");
        }
    }
    // Thinking alone was no answer to others; neither is nothing.
    let silent = message.get("content").is_some_and(Value::is_null)
        && ["tool_calls", "refusal", "function_call", "audio"]
            .iter()
            .all(|field| message.get(*field).is_none_or(Value::is_null));
    if silent && message.len() < before {
        message.insert("content".into(), "".into());
    }
}

fn fit(message: &mut Object, quirks: &QuirkSettings) {
    leave_ours(message, quirks);
    for field in &quirks.drop_in_messages {
        message.shift_remove(field);
    }
    for (old, new) in &quirks.rename_in_messages {
        if let Some(value) = message.shift_remove(old).filter(|value| !value.is_null()) {
            message.entry(new.clone()).or_insert(value);
        }
    }
    if quirks.no_developer_role
        && let Some(role) = message.get_mut("role").filter(|role| *role == "developer")
    {
        *role = "system".into();
    }
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(call) = call {
            quirks.drop_in_messages.iter().for_each(|field| drop(call.shift_remove(field)));
        }
    }
    let Some(length) = quirks.tool_id_length else { return };
    let shorten = |value: Option<&mut Value>| {
        if let Some(Value::String(id)) = value {
            *id = normalise::shortened_id(id, length);
        }
    };
    shorten(message.get_mut("tool_call_id"));
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        calls.iter_mut().for_each(|call| shorten(call.get_mut("id")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spliced(body: &str, quirks: Value) -> (Outgoing, String) {
        let body = ClientBody::read(Bytes::from(body.to_owned())).unwrap();
        let quirks: QuirkSettings = serde_json::from_value(quirks).unwrap();
        let target = TargetName::parse("p/vendor/model-1").unwrap();
        let outgoing = chat(&body, &target, &quirks).unwrap();
        let text = String::from_utf8(outgoing.body.concat()).unwrap();
        (outgoing, text)
    }

    #[test]
    fn only_what_must_change_changes() {
        for (body, quirks, expected) in [
            (r#"{ "model":"fast", "x" : [1.0] }"#, json!({}), r#"{ "model":"vendor/model-1", "x" : [1.0]}"#),
            (
                r#"{"model":"fast","stream":true}"#,
                json!({}),
                r#"{"model":"vendor/model-1","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"model":"fast","stream":true,"stream_options":{"include_obfuscation":false,"include_usage":false}}"#,
                json!({}),
                r#"{"model":"vendor/model-1","stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true}}"#,
            ),
            (
                r#"{"model":"fast","stream":true,"stream_options":{"include_usage":true}}"#,
                json!({}),
                r#"{"model":"vendor/model-1","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"model":"fast","stream":true,"stream_options":{"include_usage":true}}"#,
                json!({"no_stream_options": true}),
                r#"{"model":"vendor/model-1","stream":true}"#,
            ),
            (
                r#"{"model":"fast","stream":false,"stream_options":{"include_usage":true}}"#,
                json!({}),
                r#"{"model":"vendor/model-1","stream":false}"#,
            ),
            (
                r#"{"model":"fast","store":true,"max_completion_tokens":5}"#,
                json!({"drop": ["store"], "rename": {"max_completion_tokens": "max_tokens"}, "defaults": {"max_tokens": 9, "n": 1}}),
                r#"{"model":"vendor/model-1","max_tokens":5,"n":1}"#,
            ),
            (
                r#"{"model":"fast","max_completion_tokens":null,"max_tokens":5,"seed":null}"#,
                json!({"rename": {"max_completion_tokens": "max_tokens", "seed": "random_seed"}, "defaults": {"random_seed": 1}}),
                r#"{"model":"vendor/model-1","max_tokens":5,"random_seed":1}"#,
            ),
            (
                r#"{"model":"f","messages":[{"role":"assistant","reasoning_content":"r","tool_calls":[{"id":"call_long"}]},{"role":"tool","tool_call_id":"call_long"}]}"#,
                json!({"drop_in_messages": ["reasoning_content"], "tool_id_length": 9}),
                &format!(
                    r#"{{"model":"vendor/model-1","messages":[{{"role":"assistant","tool_calls":[{{"id":"{0}"}}]}},{{"role":"tool","tool_call_id":"{0}"}}]}}"#,
                    normalise::shortened_id("call_long", 9)
                ),
            ),
            (
                r#"{"model":"f","messages":[{"role":"assistant","content":"a","reasoning_details":[{"type":"reasoning.text","signature":"tollgate:responses:openai:rs:g"}]},{"role":"assistant","reasoning_details":[{"signature":"own"}]}]}"#,
                json!({}),
                r#"{"model":"vendor/model-1","messages":[{"role":"assistant","content":"a"},{"role":"assistant","reasoning_details":[{"signature":"own"}]}]}"#,
            ),
            (
                r#"{"model":"f","messages":[{"role":"assistant","content":null,"reasoning_content":"r","reasoning_details":[{"signature":"s"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"c","extra_content":{}}]}]}"#,
                json!({"lacks": ["reasoning_content", "reasoning_details", "extra_content"]}),
                r#"{"model":"vendor/model-1","messages":[{"role":"assistant","content":""},{"role":"assistant","content":null,"tool_calls":[{"id":"c"}]}]}"#,
            ),
            (
                r#"{"model":"f","messages":[{"role":"assistant","content":"a","reasoning_details":[{"signature":"tollgate:x"},{"data":"own"}]}]}"#,
                json!({}),
                r#"{"model":"vendor/model-1","messages":[{"role":"assistant","content":"a","reasoning_details":[{"data":"own"}]}]}"#,
            ),
            (
                r#"{"model":"f","messages":[{"role":"assistant","content":"a","reasoning_content":"hm"},{"role":"assistant","content":"b","reasoning_content":null}]}"#,
                json!({"rename_in_messages": {"reasoning_content": "reasoning"}}),
                r#"{"model":"vendor/model-1","messages":[{"role":"assistant","content":"a","reasoning":"hm"},{"role":"assistant","content":"b"}]}"#,
            ),
            (
                r#"{"model":"f","messages":[{"role":"developer","content":"be short"}]}"#,
                json!({"no_developer_role": true}),
                r#"{"model":"vendor/model-1","messages":[{"role":"system","content":"be short"}]}"#,
            ),
        ] {
            assert_eq!(spliced(body, quirks).1, expected, "{body}");
        }
    }

    #[test]
    fn a_renamed_null_takes_nothing_away_from_objects_either() {
        let Value::Object(mut object) = json!({"seed": null, "random_seed": 2, "n": 1}) else { panic!() };
        let quirks =
            serde_json::from_value(json!({"rename": {"seed": "random_seed", "n": "count"}})).unwrap();
        apply_to_object(&mut object, &quirks);
        assert_eq!(Value::Object(object), json!({"random_seed": 2, "count": 1}));
    }

    #[test]
    fn the_path_may_name_the_model() {
        let (outgoing, _) = spliced(
            r#"{"model":"x"}"#,
            json!({"chat_path": "/openai/deployments/{model}/chat/completions?api-version=2024-10-21"}),
        );
        let expected = "/openai/deployments/vendor%2Fmodel-1/chat/completions?api-version=2024-10-21";
        assert_eq!(outgoing.path, expected);
        assert_eq!(path("/{model}", ".."), "/%2E%2E");
    }
}

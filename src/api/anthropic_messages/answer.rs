//! The canonical answer → Anthropic's message.

use serde_json::{Value, json};

use super::block::UNSIGNED;
use super::call_id;
use crate::api::tongue::{Tongue, never};
use crate::chat::{Answer, Finish, FinishReason, Part, ToolKind, Usage};
use crate::json;

/// What a client of Anthropic's dialect can be told.
pub(in crate::api) const TONGUE: Tongue = Tongue {
    choices: false,
    logprobs: false,
    stop_sequence: true,
    refusal: true,
    thinking: true,
    calls: true,
    one_call: false,
    texts: false,
    citation: is_own_citation,
    foreign: is_own_block,
    media: never,
    field: |_, _| false,
    fields: false,
    usage: &["cached_read", "cache_write", "cache_write_long", "reasoning"],
    ends: &[(FinishReason::Other, "end_turn")],
    comments: true,
};

/// The body of a whole message. Of several choices, the first.
///
/// Parts that Anthropic's dialect has no place for are left out.
pub fn encode_answer(answer: &Answer, fallback_id: &str) -> Vec<u8> {
    let id = if answer.id.is_empty() { fallback_id } else { &answer.id };
    let choice = answer.choices.first();
    let content = choice.map(|choice| choice.content.as_slice()).unwrap_or_default();
    let mut blocks: Vec<Value> = Vec::new();
    content.iter().filter_map(block).for_each(|block| push(&mut blocks, block));
    let finish = choice.and_then(|choice| choice.finish.as_ref());
    let calls = content.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    let refuses = content.iter().any(|part| matches!(part, Part::Refusal(_)));
    let mut out = Vec::with_capacity(1024);
    put(&mut out, "{\"id\":", Some(id));
    put(&mut out, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":", Some(&answer.model));
    out.extend_from_slice(b",\"content\":");
    json::write_value(&mut out, &Value::Array(blocks));
    put(&mut out, ",\"stop_reason\":", Some(stop_reason(finish, calls, refuses)));
    put(&mut out, ",\"stop_sequence\":", finish.and_then(|finish| finish.stop_sequence.as_deref()));
    out.extend_from_slice(b",\"usage\":");
    json::write_value(&mut out, &usage_json(&answer.usage.unwrap_or_default()));
    out.push(b'}');
    out
}

/// Appends a key as it is, with what stands before it, and a text.
fn put(out: &mut Vec<u8>, key: &str, text: Option<&str>) {
    out.extend_from_slice(key.as_bytes());
    match text {
        Some(text) => json::write_text(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// Texts that follow each other are one block, as in streams and as Anthropic itself says them: its SDKs read a structured
/// answer block by block, and others cut theirs anywhere.
fn push(blocks: &mut Vec<Value>, block: Value) {
    let plain = |block: &Value| block["type"] == "text" && block.get("citations").is_none();
    if plain(&block)
        && let Some(last) = blocks.last_mut().filter(|last| plain(last))
        && let (Value::String(said), Some(more)) = (&mut last["text"], block["text"].as_str())
    {
        said.push_str(more);
    } else {
        blocks.push(block);
    }
}

fn block(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text { text, .. } if text.is_empty() => return None,
        Part::Text { text, citations, .. } => {
            let own: Vec<&Value> = citations.iter().filter(|citation| is_own_citation(citation)).collect();
            let mut block = json!({ "type": "text", "text": text });
            if !own.is_empty() {
                block["citations"] = own.into_iter().cloned().collect();
            }
            block
        }
        Part::Refusal(text) => json!({ "type": "text", "text": text }),
        Part::Thinking { redacted: Some(data), .. } => json!({ "type": "redacted_thinking", "data": data }),
        Part::Thinking { text, signature, .. } => {
            let signature = signature.as_deref().unwrap_or(UNSIGNED);
            json!({ "type": "thinking", "thinking": text, "signature": signature })
        }
        Part::ToolCall { id, name, arguments, kind, signature, .. } => {
            let id = call_id::written(id, signature.as_deref());
            json!({ "type": "tool_use", "id": id, "name": name, "input": input(arguments, *kind) })
        }
        Part::Other(value) if is_own_block(value) => value.clone(),
        _ => return None,
    })
}

/// The object that a call's arguments are.
pub(super) fn input(arguments: &str, kind: ToolKind) -> Value {
    if kind != ToolKind::Custom {
        if arguments.trim().is_empty() {
            return json!({});
        }
        if let Some(input @ Value::Object(_)) = json::parse(arguments.as_bytes()) {
            return input;
        }
    }
    json!({ "input": arguments })
}

/// Anthropic's word for why a message ended.
pub(super) fn stop_reason(finish: Option<&Finish>, calls: bool, refuses: bool) -> &'static str {
    match finish.map_or(FinishReason::Stop, |finish| finish.reason) {
        FinishReason::Stop | FinishReason::Other if calls => "tool_use",
        FinishReason::Stop | FinishReason::Other if refuses => "refusal",
        FinishReason::Stop if finish.is_some_and(|finish| finish.stop_sequence.is_some()) => "stop_sequence",
        FinishReason::Stop | FinishReason::Other => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
        FinishReason::Pause => "pause_turn",
        FinishReason::ContextExceeded => "model_context_window_exceeded",
    }
}

/// Usage in Anthropic's classes: input leaves cache reads and writes out, output includes thinking.
pub(super) fn usage_json(usage: &Usage) -> Value {
    let mut counts = json!({
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached_read,
        "output_tokens": usage.output,
    });
    if usage.cache_write > 0 {
        counts["cache_creation"] = json!({
            "ephemeral_5m_input_tokens": usage.cache_write.saturating_sub(usage.cache_write_long),
            "ephemeral_1h_input_tokens": usage.cache_write_long,
        });
    }
    if usage.reasoning > 0 {
        counts["output_tokens_details"] = json!({ "thinking_tokens": usage.reasoning });
    }
    counts
}

/// Whether citations are of Anthropic's form.
pub(super) fn is_own_citation(citation: &Value) -> bool {
    citation.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("_location"))
}

/// Whether a foreign part is one of Anthropic's blocks.
pub(super) fn is_own_block(value: &Value) -> bool {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
    matches!(kind, "server_tool_use" | "mcp_tool_use" | "container_upload") || kind.ends_with("_tool_result")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Choice;

    fn encoded(parts: Vec<Part>, finish: Finish) -> Value {
        let choice = Choice { content: parts, finish: Some(finish), ..Choice::default() };
        let usage = Usage { input: 3, cached_read: 4, cache_write: 5, output: 6, ..Usage::default() };
        let answer =
            Answer { model: "m".into(), choices: vec![choice], usage: Some(usage), ..Answer::default() };
        serde_json::from_slice(&encode_answer(&answer, "msg_1")).unwrap()
    }

    #[test]
    fn an_answer_has_anthropics_shape() {
        let call = Part::ToolCall {
            id: "functions.f:0".into(),
            name: "f".into(),
            arguments: r#"{"a":1}"#.into(),
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        };
        let thinking = Part::Thinking { text: "hm".into(), signature: None, redacted: None };
        let body = encoded(vec![thinking, Part::text("Hi"), call], FinishReason::ToolCalls.into());
        assert_eq!(
            body,
            json!({
                "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": UNSIGNED},
                    {"type": "text", "text": "Hi"},
                    {"type": "tool_use", "id": "functions_f_0", "name": "f", "input": {"a": 1}}],
                "stop_reason": "tool_use", "stop_sequence": null,
                "usage": {"input_tokens": 3, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 4,
                    "output_tokens": 6,
                    "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0}},
            })
        );
    }

    #[test]
    fn texts_that_follow_each_other_are_one_block() {
        let cited = |text: &str| Part::Text {
            text: text.into(),
            citations: vec![json!({"type": "char_location", "cited_text": "x"})],
            cache: None,
        };
        let hidden = Part::Thinking { text: "hm".into(), signature: None, redacted: None };
        let parts = vec![
            Part::text("{\"a\""),
            Part::text(":1}"),
            hidden,
            Part::text("b"),
            cited("c"),
            cited("d"),
            Part::text("e"),
            Part::Refusal("f".into()),
        ];
        let body = encoded(parts, FinishReason::Stop.into());
        let texts: Vec<_> =
            body["content"].as_array().unwrap().iter().map(|block| block["text"].clone()).collect();
        assert_eq!(json!(texts), json!(["{\"a\":1}", null, "b", "c", "d", "ef"]));
    }

    #[test]
    fn stop_reasons_are_anthropics_words() {
        let hit = Finish { stop_sequence: Some("END".into()), ..FinishReason::Stop.into() };
        for (finish, expected) in [
            (FinishReason::Stop.into(), "end_turn"),
            (hit, "stop_sequence"),
            (FinishReason::Length.into(), "max_tokens"),
            (FinishReason::ContentFilter.into(), "refusal"),
            (FinishReason::Pause.into(), "pause_turn"),
            (FinishReason::ContextExceeded.into(), "model_context_window_exceeded"),
            (FinishReason::Other.into(), "end_turn"),
        ] {
            assert_eq!(encoded(vec![], finish)["stop_reason"], expected);
        }
        assert_eq!(
            encoded(vec![Part::Refusal("no".into())], FinishReason::Stop.into())["stop_reason"],
            "refusal"
        );
    }
}

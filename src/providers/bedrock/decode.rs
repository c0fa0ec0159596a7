//! A whole Converse answer as the canonical answer.

use serde_json::Value;

use super::block::{self, Said};
use super::usage::WireUsage;
use super::{fault, finish};
use crate::chat::{Answer, Choice, Object};
use crate::fault::Fault;
use crate::json;

/// Fields that tell of the answer what a client may want to know.
const KEPT: &[&str] = &["trace", "performanceConfig", "serviceTier", OWN_FIELDS];

/// Fields of the model's own answer that were asked for.
const OWN_FIELDS: &str = "additionalModelResponseFields";

/// The canonical answer. Bedrock gives it no id and no model.
///
/// # Errors
/// `Malformed` when the body is no answer; the provider's own fault when it is an error object.
pub(super) fn answer(body: &[u8]) -> Result<Answer, Fault> {
    let value = json::parse(body).ok_or_else(|| fault::malformed("the provider's answer is not JSON"))?;
    let Value::Object(mut whole) = value else {
        return Err(fault::malformed("the provider's answer is not an object"));
    };
    let Some(word) = whole.get("stopReason").and_then(Value::as_str) else {
        return Err(fault::inside_success(&Value::Object(whole)));
    };
    let finish = finish::finish(word, whole.get("additionalModelResponseFields"))?;
    let content = whole.get_mut("output").and_then(|output| output.pointer_mut("/message/content"));
    let blocks = match content.map(Value::take) {
        Some(Value::Array(blocks)) => blocks,
        _ => Vec::new(),
    };
    let (mut content, mut images) = (Vec::new(), Vec::new());
    for block in blocks {
        match block::read(block) {
            Said::Part(part) => content.push(part),
            Said::Image(image) => images.push(image),
            Said::Nothing => {}
        }
    }
    let mut rest = Object::new();
    if !images.is_empty() {
        rest.insert("images".into(), Value::Array(images));
    }
    let usage: Option<WireUsage> =
        whole.get("usage").and_then(|usage| serde_json::from_value(usage.clone()).ok());
    Ok(Answer {
        choices: vec![Choice { content, finish: Some(finish), rest, ..Choice::default() }],
        usage: usage.and_then(|usage| usage.classes()).map(|usage| usage.in_tier(tier(&whole))),
        rest: kept(whole),
        ..Answer::default()
    })
}

/// The service that answered: `{"serviceTier": {"type": "priority"}}`.
pub(super) fn tier(fields: &Object) -> Option<&str> {
    fields.get("serviceTier")?.get("type")?.as_str()
}

/// What of the fields beside the content is worth keeping.
pub(super) fn kept(mut fields: Object) -> Object {
    if let Some(Value::Object(own)) = fields.get_mut(OWN_FIELDS) {
        // The sequence that stopped the model was asked for by the gateway itself, and is told as such.
        own.shift_remove("stop_sequence");
        if let Some(Value::Object(delta)) = own.get_mut("delta") {
            delta.shift_remove("stop_sequence");
        }
        own.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|inner| !inner.is_empty()));
        if own.is_empty() {
            fields.shift_remove(OWN_FIELDS);
        }
    }
    fields.into_iter().filter(|(key, value)| KEPT.contains(&key.as_str()) && !value.is_null()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::{FinishReason, Part, ToolKind, Usage};
    use crate::fault::FaultKind;

    #[test]
    fn every_block_has_its_part() {
        let body = json!({
            "output": {"message": {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                {"reasoningContent": {"redactedContent": "AAAA"}},
                {"text": "hi"},
                {"citationsContent": {"content": [{"text": "so"}], "citations": [{"title": "T",
                    "sourceContent": [{"text": "c"}], "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}}]}},
                {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}},
                {"toolUse": {"toolUseId": "s1", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}},
                {"image": {"format": "png", "source": {"bytes": "iVBO"}}},
            ]}},
            "stopReason": "tool_use",
            "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7},
            "metrics": {"latencyMs": 5},
            "trace": {"guardrail": {}},
        });
        let answer = answer(body.to_string().as_bytes()).unwrap();
        let choice = &answer.choices[0];
        let thought = |text: &str, signature: Option<&str>, redacted: Option<&str>| Part::Thinking {
            text: text.into(),
            signature: signature.map(Into::into),
            redacted: redacted.map(Into::into),
        };
        assert_eq!(
            choice.content,
            [
                thought("hm", Some("s"), None),
                thought("", None, Some("AAAA")),
                Part::text("hi"),
                Part::Text {
                    text: "so".into(),
                    cache: None,
                    citations: vec![
                        json!({"type": "page_location", "document_index": 0, "document_title": "T", "cited_text": "c", "start_page_number": 1, "end_page_number": 2})
                    ]
                },
                Part::ToolCall {
                    id: "t1".into(),
                    name: "f".into(),
                    arguments: r#"{"a":1}"#.into(),
                    kind: ToolKind::Function,
                    signature: None,
                    cache: None
                },
                Part::Other(json!({"type": "toolUse", "toolUse":
                    {"toolUseId": "s1", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}})),
            ]
        );
        assert_eq!(choice.rest["images"][0]["image_url"]["url"], "data:image/png;base64,iVBO");
        assert_eq!(choice.finish.as_ref().unwrap().reason, FinishReason::ToolCalls);
        assert_eq!(answer.usage, Some(Usage { input: 3, output: 4, ..Usage::default() }));
        assert_eq!(answer.rest.keys().collect::<Vec<_>>(), ["trace"]);
    }

    #[test]
    fn what_is_no_answer_is_a_fault() {
        for (body, kind) in [
            ("", FaultKind::Malformed),
            ("[]", FaultKind::Malformed),
            ("{}", FaultKind::Malformed),
            (r#"{"__type":"ThrottlingException","message":"slow"}"#, FaultKind::RateLimited),
            (r#"{"stopReason":"malformed_model_output","output":{}}"#, FaultKind::ServerError),
        ] {
            assert_eq!(answer(body.as_bytes()).unwrap_err().kind, kind, "{body}");
        }
        let empty = answer(br#"{"stopReason":"content_filtered","output":null}"#).unwrap();
        assert_eq!(empty.choices[0].finish.as_ref().unwrap().reason, FinishReason::ContentFilter);
    }

    #[test]
    fn the_sequence_that_stopped_the_model_is_told_once() {
        for (fields, left) in [
            (json!({"stop_sequence": "END"}), None),
            (json!({"delta": {"stop_sequence": "END"}}), None),
            (json!({"stop_sequence": null, "delta": {"stop_sequence": null}}), None),
            (json!({"stop_sequence": "END", "x": 1}), Some(json!({"x": 1}))),
        ] {
            let body = json!({"output": {"message": {"content": [{"text": "hi"}]}}, "stopReason": "stop_sequence",
                "additionalModelResponseFields": fields});
            let answer = answer(body.to_string().as_bytes()).unwrap();
            assert_eq!(answer.rest.get(OWN_FIELDS), left.as_ref(), "{fields}");
        }
    }
}

//! Whole answers of one text and nothing else, as most are: the canonical answer without a tree in between. All others
//! go the long way, which makes the same of these.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::peek::Word;
use super::state::seconds;
use super::usage::WireUsage;
use super::{decode, finish};
use crate::chat::{Answer, Choice, Object, Part};

/// What may stand in such an answer. A field of another form, or any other field, sends it the long way.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainAnswer<'a> {
    id: String,
    #[serde(borrow)]
    object: Cow<'a, str>,
    created: u64,
    model: String,
    #[serde(borrow)]
    choices: [PlainChoice<'a>; 1],
    usage: WireUsage,
    #[serde(borrow, default)]
    service_tier: Word<'a>,
    #[serde(borrow, default)]
    system_fingerprint: Word<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainChoice<'a> {
    index: u32,
    #[serde(borrow)]
    message: PlainMessage<'a>,
    logprobs: Option<IgnoredAny>,
    #[serde(borrow)]
    finish_reason: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainMessage<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    content: String,
    refusal: Option<IgnoredAny>,
    #[serde(default)]
    annotations: Vec<IgnoredAny>,
}

/// The answer in `body`; `None` when it is not of this kind.
pub(super) fn answer(body: &[u8], excludes_reasoning: bool) -> Option<Answer> {
    let plain: PlainAnswer<'_> = serde_json::from_str(simdutf8::basic::from_utf8(body).ok()?).ok()?;
    let [choice] = plain.choices;
    let message = choice.message;
    let word = finish::known(&choice.finish_reason)?;
    let is_plain = plain.object == "chat.completion"
        && !plain.id.is_empty()
        && !message.role.is_empty()
        && !message.content.is_empty()
        && finish::told(word, false) == word
        && choice.logprobs.is_none()
        && message.refusal.is_none()
        && message.annotations.is_empty();
    let created = seconds(&plain.created.into());
    if !is_plain || created == 0 {
        return None;
    }
    let tally = plain.usage.tally(excludes_reasoning)?;
    let tier = if let Word::Text(tier) = &plain.service_tier { Some(&**tier) } else { None };
    let usage = tally.usage.in_tier(tier);
    let mut rest = Object::new();
    for (key, word) in
        [("service_tier", plain.service_tier), ("system_fingerprint", plain.system_fingerprint)]
    {
        let value = match word {
            Word::Missing => continue,
            Word::Null => serde_json::Value::Null,
            Word::Text(text) => text.into(),
            Word::Other => return None,
        };
        rest.insert(key.to_owned(), value);
    }
    let choice = Choice {
        index: choice.index,
        content: vec![Part::text(message.content)],
        finish: Some(decode::finish(word)),
        ..Choice::default()
    };
    Some(Answer {
        id: plain.id,
        model: plain.model,
        created,
        choices: vec![choice],
        usage: Some(usage),
        rest,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::providers::openai::whole;

    fn long_way(body: &str) -> Option<Answer> {
        whole::normalised(body.as_bytes(), false, 1_700_000_000_000).ok().map(decode::answer)
    }

    fn usual() -> Value {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_741_569_952, "model": "gpt-5.4-2026-03-05",
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": "H\u{e9}llo\n\"you\"", "refusal": null, "annotations": [] },
                "logprobs": null,
                "finish_reason": "stop"
            }],
            "usage": {
                "prompt_tokens": 1019, "completion_tokens": 210, "total_tokens": 1229,
                "prompt_tokens_details": { "cached_tokens": 1000, "audio_tokens": 0 },
                "completion_tokens_details": {
                    "reasoning_tokens": 110, "audio_tokens": 0, "accepted_prediction_tokens": 3,
                    "rejected_prediction_tokens": 2
                }
            },
            "service_tier": "priority", "system_fingerprint": null
        })
    }

    /// The usual answer with `value` at `path`, or without what stands there.
    fn with(path: &str, value: Option<Value>) -> Value {
        let mut answer = usual();
        let (above, key) = path.rsplit_once('/').unwrap();
        let object = answer.pointer_mut(above).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => object.insert(key.to_owned(), value),
            None => object.shift_remove(key),
        };
        answer
    }

    #[test]
    fn a_plain_answer_is_what_the_long_way_makes_of_it() {
        let plain = [
            usual(),
            with("/service_tier", None),
            with("/service_tier", Some("".into())),
            with("/service_tier", Some("flex".into())),
            with("/system_fingerprint", Some("fp_1".into())),
            with("/created", Some(1_741_569_952_123_u64.into())),
            with("/model", Some("".into())),
            with("/choices/0/index", Some(3.into())),
            with("/choices/0/logprobs", None),
            with("/choices/0/finish_reason", Some("length".into())),
            with("/choices/0/finish_reason", Some("content_filter".into())),
            with("/choices/0/message/refusal", None),
            with("/choices/0/message/annotations", None),
            with("/usage/prompt_tokens_details", None),
            with("/usage/total_tokens", None),
            with("/usage/total_tokens", Some(1339.into())),
            with("/usage/prompt_tokens", Some("1019".into())),
            with("/usage/queue_time", Some(0.1.into())),
        ];
        for answer in plain {
            let body = format!(" {answer}\n");
            let read = super::answer(body.as_bytes(), false);
            assert!(read.is_some(), "{body}");
            assert_eq!(read, long_way(&body), "{body}");
        }
    }

    #[test]
    fn any_other_answer_goes_the_long_way() {
        let call = json!([{ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }]);
        let page = json!([{ "type": "url_citation", "url_citation": { "url": "https://a.example" } }]);
        for answer in [
            json!({}),
            json!([]),
            with("/id", Some("".into())),
            with("/id", None),
            with("/object", Some("error".into())),
            with("/created", Some(0.into())),
            with("/created", Some(1.5.into())),
            with("/citations", Some(json!(["https://a.example"]))),
            with("/error", Some(json!({ "message": "no" }))),
            with("/choices", Some(json!([]))),
            with("/choices", Some(json!([usual()["choices"][0], usual()["choices"][0]]))),
            with("/choices/0/finish_reason", Some(Value::Null)),
            with("/choices/0/finish_reason", Some("tool_calls".into())),
            with("/choices/0/finish_reason", Some("end_turn".into())),
            with("/choices/0/finish_reason", Some("error".into())),
            with("/choices/0/logprobs", Some(json!({ "content": [] }))),
            with("/choices/0/stop_reason", Some(7.into())),
            with("/choices/0/message/content", Some("".into())),
            with("/choices/0/message/content", Some(Value::Null)),
            with("/choices/0/message/refusal", Some("no".into())),
            with("/choices/0/message/annotations", Some(page)),
            with("/choices/0/message/tool_calls", Some(call)),
            with("/choices/0/message/reasoning_content", Some("hm".into())),
            with("/choices/0/message/audio", Some(json!({ "id": "a" }))),
            with("/usage", Some(Value::Null)),
            with("/usage", Some(json!({ "queue_time": 1 }))),
            with("/service_tier", Some(7.into())),
        ] {
            assert_eq!(super::answer(answer.to_string().as_bytes(), false), None, "{answer}");
        }
        assert_eq!(super::answer(b"\xff", false), None);
        let twice = usual().to_string().replacen('{', "{\"id\":\"x\",", 1);
        assert_eq!(super::answer(twice.as_bytes(), false), None);
    }
}

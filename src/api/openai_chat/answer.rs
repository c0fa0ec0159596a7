//! The canonical answer → OpenAI's `chat.completion`.

use serde_json::{Value, json};

use super::usage_json;
use crate::api::tongue::{Tongue, never};
use crate::chat::{Answer, Choice, Finish, FinishReason, Media, Object, Part, ToolKind};
use crate::json;

/// Fields that OpenAI-compatible vendors put beside a choice's `message` or `delta`, not into it.
pub(super) const BESIDE_MESSAGE: &[&str] = &[
    "content_filter_results",
    "content_filter_result",
    "content_filter_offsets",
    "native_finish_reason",
    "matched_stop",
    "stop_reason",
    "token_ids",
];

/// What a client of OpenAI's dialect can be told.
pub(in crate::api) const TONGUE: Tongue = Tongue {
    choices: true,
    logprobs: true,
    stop_sequence: false,
    refusal: true,
    thinking: true,
    calls: true,
    one_call: false,
    texts: true,
    citation: is_whole_annotation,
    foreign: never,
    media: |part| match part {
        Part::Image { media, .. } => !matches!(media, Media::FileId(_)),
        Part::Audio { media } => matches!(media, Media::Inline { .. }),
        _ => false,
    },
    field: |_, _| true,
    fields: true,
    usage: &[
        "cached_read",
        "cache_write",
        "reasoning",
        "input_audio",
        "input_image",
        "output_audio",
        "accepted_prediction",
        "rejected_prediction",
    ],
    ends: &[
        (FinishReason::ContextExceeded, "length"),
        (FinishReason::Pause, "stop"),
        (FinishReason::Other, "stop"),
    ],
    comments: true,
};

/// The same of one that knows nothing but `function_call`.
pub(super) const LEGACY: Tongue = Tongue { one_call: true, ..TONGUE };

/// What an answer is given where the provider says nothing.
#[derive(Debug, Clone)]
pub struct Fallback {
    /// The id of the answer.
    pub id: String,
    /// Unix seconds.
    pub created: u64,
}

/// The body of a whole answer.
///
/// Parts that OpenAI's dialect has no place for (server tools) are left out: a client would take them for its own.
pub fn encode_answer(answer: &Answer, fallback: &Fallback) -> Vec<u8> {
    encode(answer, fallback, false)
}

/// The same for a client that knows nothing but `function_call`.
pub(super) fn encode_legacy(answer: &Answer, fallback: &Fallback) -> Vec<u8> {
    encode(answer, fallback, true)
}

fn encode(answer: &Answer, fallback: &Fallback, legacy: bool) -> Vec<u8> {
    let id = if answer.id.is_empty() { &fallback.id } else { &answer.id };
    let created = if answer.created == 0 { fallback.created } else { answer.created };
    let mut body = Object::new();
    body.insert("id".into(), id.as_str().into());
    body.insert("object".into(), "chat.completion".into());
    body.insert("created".into(), created.into());
    body.insert("model".into(), answer.model.as_str().into());
    body.insert("choices".into(), answer.choices.iter().map(|one| choice(one, legacy)).collect());
    if let Some(usage) = &answer.usage {
        body.insert("usage".into(), usage_json(usage));
    }
    fill(&mut body, &answer.rest);
    json::object_to_text(&body).into_bytes()
}

fn choice(choice: &Choice, legacy: bool) -> Value {
    let mut message = Said::read(&choice.content).message();
    let mut body = Object::new();
    body.insert("index".into(), choice.index.into());
    let legacy =
        legacy || choice.finish.as_ref().is_some_and(|finish| finish.raw.as_deref() == Some("function_call"));
    if legacy && let Some(Value::Array(calls)) = message.shift_remove("tool_calls") {
        let function =
            calls.into_iter().next().and_then(|mut call| call.get_mut("function").map(Value::take));
        message.insert("function_call".into(), function.unwrap_or_default());
    }
    for (key, value) in &choice.rest {
        let place = if BESIDE_MESSAGE.contains(&&**key) { &mut body } else { &mut message };
        // An unknown field must not shadow what the canonical form says.
        place.entry(key).or_insert_with(|| value.clone());
    }
    body.insert("message".into(), Value::Object(message));
    body.insert("logprobs".into(), choice.logprobs.clone().unwrap_or_default());
    let finish = choice.finish.as_ref().map(|finish| finish_word(finish, legacy));
    body.insert("finish_reason".into(), finish.into());
    Value::Object(body)
}

/// OpenAI's word for why a choice ended.
pub(super) fn finish_word(finish: &Finish, legacy: bool) -> &'static str {
    match finish.reason {
        FinishReason::ToolCalls if legacy || finish.raw.as_deref() == Some("function_call") => {
            "function_call"
        }
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Length | FinishReason::ContextExceeded => "length",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Stop | FinishReason::Pause | FinishReason::Other => "stop",
    }
}

/// A tool call as it stands in a message, or with its `index` in a delta.
pub(super) fn tool_call(
    kind: ToolKind,
    id: &str,
    name: &str,
    arguments: &str,
    signature: Option<&str>,
) -> Object {
    let mut call = Object::new();
    call.insert("id".into(), id.into());
    if kind == ToolKind::Custom {
        call.insert("type".into(), "custom".into());
        call.insert("custom".into(), json!({ "name": name, "input": arguments }));
    } else {
        call.insert("type".into(), "function".into());
        call.insert("function".into(), json!({ "name": name, "arguments": arguments }));
    }
    if let Some(signature) = signature {
        // Where Google's own OpenAI-compatible endpoint puts it; the client's next request brings it back.
        call.insert("extra_content".into(), json!({ "google": { "thought_signature": signature } }));
    }
    call
}

/// Whether a citation says no more than its annotation does.
fn is_whole_annotation(citation: &Value) -> bool {
    let kind = citation.get("type").and_then(Value::as_str).unwrap_or_default();
    let fields = citation.as_object().into_iter().flatten();
    let is_told = |key: &str| matches!(key, "type" | "url" | "source" | "title");
    matches!(kind, "url_citation" | "file")
        || kind.ends_with("_location")
            && address(citation).is_some()
            && fields.into_iter().all(|(key, _)| is_told(key))
}

/// A citation as an annotation; `None` for one that names no address, which OpenAI's clients cannot read. The text that
/// it stands at begins and ends at these characters of the whole.
pub(super) fn annotation(citation: &Value, start: usize, end: usize) -> Option<Value> {
    let kind = citation.get("type").and_then(Value::as_str).unwrap_or_default();
    if !kind.ends_with("_location") {
        // Clients of chats know no other kind, and strict ones give up the whole answer for it. OpenRouter's clients send
        // what was read of a file back, to not pay for it again.
        if !matches!(kind, "url_citation" | "file") {
            return None;
        }
        let mut note = citation.clone();
        if let Some(Value::Object(cited)) = note.get_mut("url_citation") {
            // Where nobody says to what it belongs, to all of the text. OpenAI's clients count on both.
            cited.entry("start_index").or_insert_with(|| start.into());
            cited.entry("end_index").or_insert_with(|| end.into());
            if !cited.get("title").is_some_and(Value::is_string) {
                cited.insert("title".into(), "".into());
            }
        }
        return Some(note);
    }
    let url = address(citation)?;
    let title = citation.get("title").and_then(Value::as_str).unwrap_or_default();
    let cited = json!({ "start_index": start, "end_index": end, "url": url, "title": title });
    Some(json!({ "type": "url_citation", "url_citation": cited }))
}

/// Where it is that Anthropic's citation is of: a page, or a search result of the client's own that is one.
fn address(citation: &Value) -> Option<&str> {
    let field = |key: &str| citation.get(key).and_then(Value::as_str);
    let is_page = |source: &&str| source.starts_with("https://") || source.starts_with("http://");
    field("url").or_else(|| field("source").filter(is_page))
}

/// A thought with its provider's proof, in OpenRouter's form; `None` where there is no proof to carry.
pub(super) fn reasoning_detail(text: &str, signature: Option<&str>, redacted: Option<&str>) -> Option<Value> {
    match (signature, redacted) {
        (_, Some(data)) => Some(json!({ "type": "reasoning.encrypted", "data": data })),
        (Some(signature), None) => {
            Some(json!({ "type": "reasoning.text", "text": text, "signature": signature }))
        }
        (None, None) => None,
    }
}

/// Adds fields that are not there yet.
pub(super) fn fill(object: &mut Object, rest: &Object) {
    for (key, value) in rest {
        object.entry(key).or_insert_with(|| value.clone());
    }
}

/// The parts of a choice, gathered by the message fields that they belong to.
#[derive(Default)]
struct Said {
    text: Option<String>,
    refusal: Option<String>,
    thinking: String,
    details: Vec<Value>,
    calls: Vec<Value>,
    citations: Vec<Value>,
    images: Vec<Value>,
    audio: Option<Value>,
}

impl Said {
    fn read(parts: &[Part]) -> Self {
        let mut said = Self::default();
        for part in parts {
            match part {
                Part::Text { text, citations, .. } => {
                    let all = said.text.get_or_insert_default();
                    let start = all.chars().count();
                    all.push_str(text);
                    let end = start + text.chars().count();
                    said.citations.extend(citations.iter().filter_map(|cited| annotation(cited, start, end)));
                }
                Part::Refusal(text) => said.refusal.get_or_insert_default().push_str(text),
                Part::Thinking { text, signature, redacted } => {
                    said.thinking.push_str(text);
                    said.details.extend(reasoning_detail(text, signature.as_deref(), redacted.as_deref()));
                }
                Part::ToolCall { kind: ToolKind::Server, .. } => {}
                Part::ToolCall { id, name, arguments, kind, signature, .. } => {
                    let call = tool_call(*kind, id, name, arguments, signature.as_deref());
                    said.calls.push(Value::Object(call));
                }
                Part::Image { media, .. } => {
                    said.images
                        .extend(url(media).map(|url| json!({"type":"image_url","image_url":{"url":url}})));
                }
                Part::Audio { media: Media::Inline { base64, .. } } => {
                    said.audio = Some(json!({ "id": "", "data": base64, "expires_at": 0, "transcript": "" }));
                }
                Part::Audio { .. } | Part::File { .. } | Part::ToolResult { .. } | Part::Other(_) => {}
            }
        }
        said
    }

    fn message(self) -> Object {
        let mut message = Object::new();
        message.insert("role".into(), "assistant".into());
        message.insert("content".into(), self.text.into());
        message.insert("refusal".into(), self.refusal.into());
        if !self.thinking.is_empty() {
            message.insert("reasoning_content".into(), self.thinking.into());
        }
        for (key, values) in [
            ("reasoning_details", self.details),
            ("annotations", self.citations),
            ("tool_calls", self.calls),
            ("images", self.images),
        ] {
            if !values.is_empty() {
                message.insert(key.into(), Value::Array(values));
            }
        }
        if let Some(audio) = self.audio {
            message.insert("audio".into(), audio);
        }
        message
    }
}

fn url(media: &Media) -> Option<String> {
    match media {
        Media::Url(url) => Some(url.clone()),
        Media::Inline { mime, base64 } => Some(format!("data:{mime};base64,{base64}")),
        Media::FileId(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Fallback, encode_answer};
    use crate::chat::{Answer, Choice, Finish, FinishReason, Object, Part, ToolKind, Usage};

    fn fallback() -> Fallback {
        Fallback { id: "chatcmpl-own".to_owned(), created: 99 }
    }

    fn encoded(answer: &Answer) -> Value {
        serde_json::from_slice(&encode_answer(answer, &fallback())).unwrap()
    }

    fn fields(value: Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    fn call(id: &str, kind: ToolKind, signature: Option<&str>) -> Part {
        Part::ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: "{}".into(),
            kind,
            signature: signature.map(Into::into),
            cache: None,
        }
    }

    fn message(parts: Vec<Part>) -> Value {
        let choice = Choice { content: parts, finish: Some(FinishReason::Stop.into()), ..Choice::default() };
        encoded(&Answer { choices: vec![choice], ..Answer::default() })["choices"][0]["message"].clone()
    }

    #[test]
    fn an_answer_has_openais_shape() {
        let answer = Answer {
            id: "chatcmpl-1".into(),
            model: "gpt-4o".into(),
            created: 7,
            choices: vec![Choice {
                index: 0,
                content: vec![Part::text("Hel"), Part::text("lo")],
                finish: Some(FinishReason::Stop.into()),
                logprobs: Some(json!({"content": []})),
                rest: fields(json!({"annotations": [], "stop_reason": null, "role": "shadow"})),
            }],
            usage: Some(Usage { input: 3, output: 2, ..Usage::default() }),
            rest: fields(json!({"system_fingerprint": "fp", "id": "shadow"})),
        };
        let body = encoded(&answer);
        let mut expected = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "gpt-4o",
            "choices": [{
                "index": 0, "stop_reason": null,
                "message": {"role": "assistant", "content": "Hello", "refusal": null, "annotations": []},
                "logprobs": {"content": []}, "finish_reason": "stop",
            }],
            "system_fingerprint": "fp",
        });
        expected["usage"] = super::usage_json(&answer.usage.unwrap());
        assert_eq!(body, expected);
        let bare = encoded(&Answer::default());
        assert_eq!((&bare["id"], &bare["created"]), (&json!("chatcmpl-own"), &json!(99)));
        assert_eq!(bare.get("usage"), None);
    }

    #[test]
    fn parts_find_their_place() {
        let thinking = |text: &str, signature: Option<&str>, redacted: Option<&str>| Part::Thinking {
            text: text.into(),
            signature: signature.map(Into::into),
            redacted: redacted.map(Into::into),
        };
        let table = [
            (vec![], json!({"content": null, "refusal": null})),
            (vec![Part::Refusal("no".into())], json!({"content": null, "refusal": "no"})),
            (
                vec![thinking("hm", None, None), Part::text("a")],
                json!({"content": "a", "refusal": null, "reasoning_content": "hm"}),
            ),
            (
                vec![thinking("hm", Some("sig"), None), thinking("", None, Some("blob")), Part::text("a")],
                json!({"content": "a", "refusal": null, "reasoning_content": "hm", "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "signature": "sig"},
                    {"type": "reasoning.encrypted", "data": "blob"}]}),
            ),
            (
                vec![
                    call("c1", ToolKind::Function, Some("s")),
                    call("c2", ToolKind::Custom, None),
                    call("srv", ToolKind::Server, None),
                    Part::Other(json!({"type": "server_tool_use"})),
                ],
                json!({"content": null, "refusal": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"},
                     "extra_content": {"google": {"thought_signature": "s"}}},
                    {"id": "c2", "type": "custom", "custom": {"name": "f", "input": "{}"}}]}),
            ),
        ];
        for (parts, mut expected) in table {
            expected["role"] = "assistant".into();
            assert_eq!(message(parts.clone()), expected, "{parts:?}");
        }
    }

    #[test]
    fn finish_reasons_are_openais_words() {
        for (reason, raw, expected) in [
            (FinishReason::Stop, Some("end_turn"), "stop"),
            (FinishReason::Length, None, "length"),
            (FinishReason::ToolCalls, Some("tool_use"), "tool_calls"),
            (FinishReason::ContentFilter, None, "content_filter"),
            (FinishReason::ContextExceeded, None, "length"),
            (FinishReason::Pause, None, "stop"),
            (FinishReason::Other, Some("weird"), "stop"),
        ] {
            let finish = Finish { raw: raw.map(Into::into), ..reason.into() };
            assert_eq!(super::finish_word(&finish, false), expected, "{reason:?}");
        }
    }

    #[test]
    fn who_knows_no_calls_but_the_legacy_one_gets_it_from_everybody() {
        let content = vec![call("c", ToolKind::Function, Some("s")), call("d", ToolKind::Function, None)];
        for (reason, word) in [(FinishReason::ToolCalls, "function_call"), (FinishReason::Stop, "stop")] {
            let finish = Finish { raw: Some("tool_use".into()), ..reason.into() };
            let choice = Choice { content: content.clone(), finish: Some(finish), ..Choice::default() };
            let answer = Answer { choices: vec![choice], ..Answer::default() };
            let body: Value = serde_json::from_slice(&super::encode_legacy(&answer, &fallback())).unwrap();
            let choice = &body["choices"][0];
            assert_eq!(choice["finish_reason"], word);
            assert_eq!(choice["message"]["function_call"], json!({"name": "f", "arguments": "{}"}));
            assert_eq!(choice["message"].get("tool_calls"), None);
        }
    }

    #[test]
    fn a_legacy_call_stays_legacy() {
        let finish = Finish { raw: Some("function_call".into()), ..FinishReason::ToolCalls.into() };
        let content = vec![call("", ToolKind::Function, None)];
        let choice = Choice { content, finish: Some(finish), ..Choice::default() };
        let body = encoded(&Answer { choices: vec![choice], ..Answer::default() });
        let choice = &body["choices"][0];
        assert_eq!(choice["finish_reason"], "function_call");
        assert_eq!(choice["message"]["function_call"], json!({"name": "f", "arguments": "{}"}));
        assert_eq!(choice["message"].get("tool_calls"), None);
    }

    #[test]
    fn search_results_of_the_clients_own_are_annotations_where_they_are_pages() {
        for (source, expected) in [("https://kb/1", Some("https://kb/1")), ("shelf-7", None)] {
            let cited =
                json!({"type": "search_result_location", "source": source, "title": "T", "cited_text": "c"});
            let found = super::annotation(&cited, 1, 2);
            let url = found.as_ref().map(|note| note["url_citation"]["url"].as_str().unwrap());
            assert_eq!(url, expected);
        }
        let file = json!({"type": "file_citation", "file_id": "f", "filename": "a.pdf", "index": 3});
        assert_eq!(super::annotation(&file, 1, 2), None);
        let page = json!({"type": "url_citation", "url_citation": {"url": "https://a", "title": "A"}});
        let whole = json!({"url": "https://a", "title": "A", "start_index": 1, "end_index": 9});
        assert_eq!(super::annotation(&page, 1, 9).unwrap()["url_citation"], whole);
    }
}

//! What a client gets for a sequence of events.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ChatEncoder, Fallback};
use crate::chat::{Event, Finish, FinishReason, Role, StreamEncoder, ToolKind, Usage};
use crate::fault::{Fault, FaultKind};
use crate::frames::SseSplitter;

fn encoder(include_usage: bool) -> ChatEncoder {
    ChatEncoder::new(include_usage, Fallback { id: "chatcmpl-own".into(), created: 99 })
}

fn start() -> Event {
    Event::Start { id: "c1".into(), model: "m".into(), created: 5 }
}

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.into() }
}

fn finish(choice: u32, reason: FinishReason) -> Event {
    Event::Finish { choice, finish: reason.into() }
}

fn call(choice: u32, call: u32, kind: ToolKind) -> Event {
    Event::ToolCallStart {
        choice,
        call,
        id: format!("id{call}"),
        name: format!("f{call}"),
        kind,
        signature: None,
    }
}

fn arguments(choice: u32, call: u32, arguments: &str) -> Event {
    Event::ToolCallDelta { choice, call, arguments: arguments.into() }
}

/// The data of all events, `[DONE]` as a string.
fn parsed(bytes: Vec<u8>) -> Vec<Value> {
    let mut splitter = SseSplitter::new();
    splitter.push(bytes.into());
    let mut events = Vec::new();
    while let Some(event) = splitter.next().unwrap() {
        let data = event.text();
        events.push(serde_json::from_str(&data).unwrap_or_else(|_| data.as_ref().into()));
    }
    assert_eq!(splitter.finish().unwrap(), None, "the last event has its blank line");
    events
}

fn run(include_usage: bool, events: &[Event]) -> Vec<Value> {
    let mut encoder = encoder(include_usage);
    let mut out = Vec::new();
    for event in events {
        encoder.encode(event, &mut out);
    }
    parsed(out)
}

/// The deltas of all chunks that have a choice.
fn deltas(events: &[Event]) -> Vec<Value> {
    let chunks = run(false, events);
    chunks.iter().filter_map(|chunk| chunk.get("choices")?.get(0)?.get("delta").cloned()).collect()
}

#[test]
fn a_plain_answer_looks_like_openais() {
    let usage = Usage { input: 3, output: 2, ..Usage::default() };
    let events = [
        start(),
        Event::ChoiceStart { choice: 0, role: Role::Assistant },
        text("Hel"),
        text(""),
        text("lo \"\n"),
        finish(0, FinishReason::Stop),
        Event::Usage(Usage::default()),
        Event::Usage(usage),
        Event::End,
        text("nothing after the end"),
    ];
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m",
               "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]})
    };
    let expected = vec![
        chunk(json!({"role": "assistant", "content": ""}), Value::Null),
        chunk(json!({"content": "Hel"}), Value::Null),
        chunk(json!({"content": "lo \"\n"}), Value::Null),
        chunk(json!({}), "stop".into()),
        "[DONE]".into(),
    ];
    assert_eq!(run(false, &events), expected);

    let chunks = run(true, &events);
    let [content @ .., last, done] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!(done, "[DONE]");
    assert!(content.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &super::usage_json(&usage)));
}

#[test]
fn a_missing_start_is_made_good() {
    let chunks = run(false, &[text("a"), finish(0, FinishReason::Stop), Event::End]);
    assert_eq!((&chunks[0]["id"], &chunks[0]["created"]), (&json!("chatcmpl-own"), &json!(99)));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks[1]["choices"][0]["delta"], json!({"content": "a"}));
}

#[test]
fn tool_calls_keep_dense_indexes() {
    let events = [
        call(0, 1, ToolKind::Function),
        arguments(0, 1, ""),
        arguments(0, 1, "{\"a\""),
        call(0, 7, ToolKind::Server),
        arguments(0, 7, "hidden"),
        call(0, 3, ToolKind::Custom),
        arguments(0, 1, ":1}"),
        arguments(0, 3, "free"),
        call(0, 3, ToolKind::Custom),
    ];
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"tool_calls": [{"index": 0, "id": "id1", "type": "function", "function": {"name": "f1", "arguments": ""}}]}),
        json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\""}}]}),
        json!({"tool_calls": [{"index": 1, "id": "id3", "type": "custom", "custom": {"name": "f3", "input": ""}}]}),
        json!({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
        json!({"tool_calls": [{"index": 1, "custom": {"input": "free"}}]}),
    ];
    assert_eq!(deltas(&events), expected);
}

#[test]
fn choices_are_told_apart() {
    let events = [
        Event::Text { choice: 12, text: "b".into() },
        call(12, 0, ToolKind::Function),
        call(0, 0, ToolKind::Function),
        finish(12, FinishReason::ToolCalls),
    ];
    let chunks = run(false, &events);
    let seen: Vec<_> = chunks.iter().map(|chunk| chunk["choices"][0]["index"].as_u64().unwrap()).collect();
    assert_eq!(seen, [12, 12, 12, 0, 0, 12]);
    assert_eq!(chunks[4]["choices"][0]["delta"]["tool_calls"][0]["index"], 0);
    assert_eq!(chunks[5]["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn thoughts_refusals_and_citations_have_their_fields() {
    let thinking = |text: &str, signature: Option<&str>| Event::Thinking {
        choice: 0,
        text: text.into(),
        signature: signature.map(Into::into),
        redacted: None,
    };
    let redacted =
        Event::Thinking { choice: 0, text: "".into(), signature: None, redacted: Some("blob".into()) };
    let events = [
        Event::ChoiceStart { choice: 0, role: Role::Assistant },
        thinking("hm", None),
        thinking("", None),
        thinking("", Some("sig")),
        redacted,
        Event::Refusal { choice: 0, text: "no".into() },
        Event::Citation { choice: 0, value: json!({"type": "file"}) },
    ];
    let expected = [
        json!({"reasoning_content": "hm"}),
        json!({"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "sig", "index": 0}]}),
        json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "blob", "index": 1}]}),
        json!({"refusal": "no"}),
        json!({"annotations": [{"type": "file", "index": 0}]}),
    ];
    assert_eq!(deltas(&events)[1..], expected);
}

#[test]
fn lists_of_several_deltas_can_be_put_together() {
    let cited =
        |choice: u32, url: &str| Event::Citation { choice, value: json!({"type": "file", "file": url}) };
    let images = |entries: Value| Event::Other {
        choice: Some(0),
        fields: json!({ "images": entries }).as_object().cloned().unwrap(),
    };
    let events = [
        Event::ChoiceStart { choice: 0, role: Role::Assistant },
        Event::ChoiceStart { choice: 1, role: Role::Assistant },
        cited(0, "a"),
        cited(0, "b"),
        cited(1, "c"),
        images(json!([{"n": 1}, {"n": 2}])),
        images(json!([{"n": 3}, {"n": 4, "index": 7}, "five"])),
    ];
    let expected = [
        json!({"annotations": [{"type": "file", "file": "a", "index": 0}]}),
        json!({"annotations": [{"type": "file", "file": "b", "index": 1}]}),
        json!({"annotations": [{"type": "file", "file": "c", "index": 0}]}),
        json!({"images": [{"n": 1, "index": 0}, {"n": 2, "index": 1}]}),
        json!({"images": [{"n": 3, "index": 2}, {"n": 4, "index": 7}, "five"]}),
    ];
    assert_eq!(deltas(&events)[2..], expected);
}

#[test]
fn log_probabilities_join_their_text() {
    let logprobs = |choice| Event::Logprobs { choice, value: json!({"content": [choice]}) };
    for include_usage in [false, true] {
        let mut encoder = encoder(include_usage);
        let mut out = Vec::new();
        encoder.encode(&text("a"), &mut out);
        encoder.encode(&logprobs(0), &mut out);
        let chunks = parsed(std::mem::take(&mut out));
        assert_eq!(chunks.len(), 2, "the role, and the text with its log probabilities");
        let choice = &chunks[1]["choices"][0];
        assert_eq!(
            (&choice["delta"]["content"], &choice["logprobs"]),
            (&json!("a"), &json!({"content": [0]}))
        );

        encoder.encode(&logprobs(0), &mut out);
        let chunks = parsed(std::mem::take(&mut out));
        let choice = &chunks[0]["choices"][0];
        assert_eq!((&choice["delta"], &choice["logprobs"]), (&json!({}), &json!({"content": [0]})));
    }
}

#[test]
fn unknown_fields_travel() {
    let fields = |value: Value| value.as_object().cloned().unwrap();
    let events = [
        Event::Other { choice: None, fields: fields(json!({"citations": ["u"], "service_tier": "x"})) },
        Event::Other { choice: Some(0), fields: fields(json!({"audio": {"id": "a"}, "stop_reason": "s"})) },
        finish(0, FinishReason::Stop),
    ];
    let chunks = run(false, &events);
    assert!(chunks.iter().all(|chunk| chunk["choices"] != json!([])), "clients look at the first choice");
    let last = chunks.last().unwrap();
    assert_eq!((&last["citations"], &last["service_tier"]), (&json!(["u"]), &json!("x")));
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    let choice = &chunks[1]["choices"][0];
    assert_eq!((&choice["delta"], &choice["stop_reason"]), (&json!({"audio": {"id": "a"}}), &json!("s")));
}

#[test]
fn fields_that_come_after_the_finish_are_told_all_the_same() {
    let late = || {
        let fields = json!({"trace": {"guardrail": {}}}).as_object().cloned().unwrap();
        [start(), text("a"), finish(0, FinishReason::Stop), Event::Other { choice: None, fields }]
    };
    let usage = Event::Usage(Usage { input: 3, output: 2, ..Usage::default() });
    let chunks = run(false, &[&late()[..], &[usage.clone(), Event::End]].concat());
    let [.., finished, last, done] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!((&finished["choices"][0]["finish_reason"], done), (&json!("stop"), &json!("[DONE]")));
    assert_eq!(last["trace"], json!({"guardrail": {}}));
    let choice = json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": null}]);
    assert_eq!(last["choices"], choice, "clients look at the first choice");

    let chunks = run(true, &[&late()[..], &[usage, Event::End]].concat());
    let [.., last, _] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!((&last["trace"], &last["choices"]), (&json!({"guardrail": {}}), &json!([])));
    let chunks = run(true, &[&late()[..], &[Event::End]].concat());
    let [.., last, _] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!((&last["trace"], &last["choices"]), (&json!({"guardrail": {}}), &choice));
}

#[test]
fn a_fault_ends_the_stream_without_done() {
    let mut encoder = encoder(true);
    let mut out = Vec::new();
    encoder.encode(&text("a"), &mut out);
    let fault = Fault::new(FaultKind::Truncated, "the upstream ended too early");
    let frames = parsed(encoder.fault(&fault).to_vec());
    let expected = json!({"error": {"message": "the upstream ended too early", "type": "server_error",
                                    "param": null, "code": "upstream_truncated"}});
    assert_eq!(frames, [expected]);
    out.clear();
    for event in [text("b"), finish(0, FinishReason::Stop), Event::End] {
        encoder.encode(&event, &mut out);
    }
    assert!(out.is_empty(), "nothing follows a fault, least of all [DONE]");
}

#[test]
fn a_finish_alone_still_has_a_role_before_it() {
    let filtered = Finish { raw: Some("SAFETY".into()), ..FinishReason::ContentFilter.into() };
    let chunks = run(false, &[start(), Event::Finish { choice: 0, finish: filtered }, Event::End]);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks[1]["choices"][0]["finish_reason"], "content_filter");
}

proptest! {
    /// Whatever is said in whatever pieces, the client joins it to the same.
    #[test]
    fn nothing_is_lost_or_mixed_up(
        said in proptest::collection::vec((0u32..3, 0u32..4, "\\PC{0,6}|[\\x00-\\x20\"\\\\\u{2028}]{0,3}"), 0..30),
        include_usage in any::<bool>(),
    ) {
        let mut expected = BTreeMap::<(u64, String), String>::new();
        let mut events = vec![start()];
        for (choice, way, piece) in &said {
            let (key, event) = match way {
                0 => ("content", Event::Text { choice: *choice, text: piece.clone() }),
                1 => ("refusal", Event::Refusal { choice: *choice, text: piece.clone() }),
                2 => {
                    let (signature, redacted) = (None, None);
                    let text = piece.clone();
                    ("reasoning_content", Event::Thinking { choice: *choice, text, signature, redacted })
                }
                _ => {
                    events.push(call(*choice, 5, ToolKind::Function));
                    ("arguments", arguments(*choice, 5, piece))
                }
            };
            expected.entry((u64::from(*choice), key.to_owned())).or_default().push_str(piece);
            events.push(event);
        }
        events.push(Event::End);
        let mut chunks = run(include_usage, &events);
        prop_assert_eq!(chunks.pop(), Some("[DONE]".into()));
        let mut heard = BTreeMap::<(u64, String), String>::new();
        for chunk in chunks {
            let choice = &chunk["choices"][0];
            let index = choice["index"].as_u64().unwrap();
            for (key, value) in choice["delta"].as_object().unwrap() {
                let (key, piece) = match &**key {
                    "role" => continue,
                    "tool_calls" => ("arguments", &value[0]["function"]["arguments"]),
                    key => (key, value),
                };
                heard.entry((index, key.to_owned())).or_default().push_str(piece.as_str().unwrap());
            }
        }
        heard.retain(|_, text| !text.is_empty());
        expected.retain(|_, text| !text.is_empty());
        prop_assert_eq!(heard, expected);
    }
}

#[test]
fn who_knows_no_calls_but_the_legacy_one_gets_it_from_everybody() {
    let events = [
        start(),
        call(0, 0, ToolKind::Function),
        arguments(0, 0, "{\"a\":"),
        arguments(0, 0, "1}"),
        call(0, 1, ToolKind::Function),
        arguments(0, 1, "{}"),
        finish(0, FinishReason::ToolCalls),
        Event::End,
    ];
    let (mut encoder, mut out) = (encoder(false).legacy(true), Vec::new());
    events.iter().for_each(|event| encoder.encode(event, &mut out));
    let chunks = parsed(out);
    let calls: Vec<&Value> =
        chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta/function_call")).collect();
    let expected =
        [json!({"name": "f0", "arguments": ""}), json!({"arguments": "{\"a\":"}), json!({"arguments": "1}"})];
    assert_eq!(calls, expected.iter().collect::<Vec<_>>(), "one call, and no other");
    assert!(chunks.iter().all(|chunk| chunk.pointer("/choices/0/delta/tool_calls").is_none()));
    let ends = chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/finish_reason")?.as_str());
    assert_eq!(ends.collect::<Vec<_>>(), ["function_call"]);
}

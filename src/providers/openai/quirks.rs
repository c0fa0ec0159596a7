//! Each quirk of quirky vendors as a small fixture of our own, with what the client must get.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::OpenAi;
use super::completions::Completions;
use super::conformance::{
    ChoiceSaid, Said, assert_openai_stream, joined, of_answer, of_events, read_stream, read_whole, relayed,
};
use super::whole::as_stream;
use crate::chat::Event;
use crate::clock::FixedClock;
use crate::providers::{Embeddings, Provider, QuirkSettings, Relay};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openai_quirks")
}

fn fixtures(ending: &str) -> Vec<(String, Vec<u8>, Value)> {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap();
    let mut fixtures = Vec::new();
    for file in std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "expected.json" || !name.ends_with(ending) {
            continue;
        }
        let expected = expected.get(&name).unwrap_or_else(|| panic!("{name} has no expectation")).clone();
        fixtures.push((name, std::fs::read(&file).unwrap(), expected));
    }
    assert!(fixtures.len() > 10);
    fixtures
}

fn provider() -> OpenAi {
    OpenAi::with_clock(QuirkSettings::default(), Arc::new(FixedClock(1_767_225_600_000)))
}

fn said(expected: &Value) -> Said {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let choices = expected["choices"].as_array().unwrap().iter().enumerate().map(|(index, choice)| {
        let calls = choice["calls"].as_array().into_iter().flatten();
        let mut calls: Vec<_> = calls.map(|call| (text(&call[0]), call[1].clone())).collect();
        if choice["custom"] == true {
            calls.push((String::new(), serde_json::json!({})));
        }
        let finish = choice["finish"].as_str().unwrap_or("stop").to_owned();
        let said = ChoiceSaid {
            text: text(&choice["text"]),
            thought: text(&choice["thought"]),
            refusal: text(&choice["refusal"]),
            calls,
            finish,
        };
        (index as u64, said)
    });
    let usage = expected["usage"].as_array().map(|usage| {
        let numbers: Vec<u64> = usage.iter().map(|n| n.as_u64().unwrap()).collect();
        numbers.try_into().unwrap()
    });
    Said { choices: choices.collect(), usage }
}

fn assert_contains(name: &str, text: &str, expected: &Value) {
    for needle in expected["contains"].as_array().into_iter().flatten() {
        assert!(text.contains(needle.as_str().unwrap()), "{name} keeps {needle}: {text}");
    }
}

#[test]
fn every_quirky_stream_is_openais_for_the_client() {
    for (name, body, expected) in fixtures(".sse") {
        let provider = provider();
        if let Some(kind) = expected["fault"].as_str() {
            for size in [1, 5, 1 << 20] {
                let (frames, result, _) = relayed(&provider, &body, size, true);
                let fault = result.expect_err(&name);
                assert_eq!(fault.kind.as_str(), kind, "{name}: {fault}");
                assert!(
                    !joined(&frames).contains("[DONE]") && !fault.message.contains("secret"),
                    "{name}: {fault}"
                );
                let mut decoder = provider.stream_decoder();
                let mut events = Vec::new();
                let fed = body.chunks(size).try_for_each(|chunk| decoder.feed(chunk, &mut events));
                let fault = fed.and_then(|()| decoder.finish(&mut events)).expect_err(&name);
                assert_eq!(fault.kind.as_str(), kind, "{name}: {fault}");
            }
            continue;
        }
        let expected_said = said(&expected);
        for include_usage in [true, false] {
            let mut whole: Option<String> = None;
            for size in (1..80).chain([body.len()]) {
                let (frames, result, usage) = relayed(&provider, &body, size, include_usage);
                result.unwrap_or_else(|fault| panic!("{name} at {size}: {fault}"));
                assert_eq!(usage, expected_said.usage, "{name}");
                let text = joined(&frames);
                assert_eq!(*whole.get_or_insert_with(|| text.clone()), text, "{name} at {size}");
            }
            let text = whole.unwrap();
            assert_openai_stream(&name, &text, include_usage);
            let mut client = read_stream(&text);
            if include_usage {
                assert_contains(&name, &text, &expected);
            } else {
                assert!(client.usage.is_none(), "{name}: {text}");
                client.usage = expected_said.usage;
            }
            assert_eq!(client, expected_said, "{name}: {text}");
            if expected["untouched"] == true && include_usage {
                let plain = |text: &str| text.replace("\r\n", "\n");
                let frames: Vec<String> = plain(&text).split("\n\n").map(str::to_owned).collect();
                let original = plain(std::str::from_utf8(&body).unwrap());
                // The usage chunk is written anew; everything before it is as it came.
                let all: Vec<&str> = original.split("\n\n").collect();
                assert_eq!(frames[..frames.len() - 3], all[..all.len() - 3], "{name}");
            }
        }
        for size in [1, 7, body.len()] {
            let mut decoder = provider.stream_decoder();
            let mut events = Vec::new();
            body.chunks(size).for_each(|chunk| decoder.feed(chunk, &mut events).unwrap());
            decoder.finish(&mut events).unwrap();
            assert_eq!(of_events(&events), expected_said, "{name} decoded");
        }
    }
}

#[test]
fn every_quirky_answer_is_openais_for_the_client() {
    for (name, body, expected) in fixtures(".json") {
        let provider = provider();
        let bytes = Bytes::from(body.clone());
        if let Some(kind) = expected["fault"].as_str() {
            let fault = Relay::whole(&provider, bytes.clone()).expect_err(&name);
            assert_eq!(fault.kind.as_str(), kind, "{name}: {fault}");
            assert_eq!(provider.decode(&body).expect_err(&name).kind.as_str(), kind, "{name}");
            assert_eq!(as_stream(&bytes, true, false, 0).expect_err(&name).kind.as_str(), kind, "{name}");
            continue;
        }
        let expected_said = said(&expected);
        let relay = Relay::whole(&provider, bytes.clone()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let text = std::str::from_utf8(&relay.body).unwrap();
        assert_eq!(read_whole(text), expected_said, "{name}: {text}");
        assert_contains(&name, text, &expected);
        if expected["untouched"] == true {
            assert_eq!(&*relay.body, body.trim_ascii(), "{name}");
        }
        if expected["choices"][0]["custom"] != true {
            assert_eq!(of_answer(&provider.decode(&body).unwrap()), expected_said, "{name}");
        }
        let client: Value = serde_json::from_str(text).unwrap();
        assert_eq!(client["object"], "chat.completion", "{name}");
        assert!(client["id"].as_str().is_some_and(|id| !id.is_empty()), "{name}");
        assert!(client["created"].as_u64().is_some_and(|created| created > 0), "{name}");
        for choice in client["choices"].as_array().unwrap() {
            assert!(choice["message"].get("content").is_some(), "{name}: {text}");
            for call in choice["message"]["tool_calls"].as_array().into_iter().flatten() {
                assert!(call["id"].as_str().is_some_and(|id| !id.is_empty()), "{name}: {text}");
                assert!(call["type"].is_string(), "{name}: {text}");
            }
        }
        let again = Relay::whole(&provider, relay.body.clone()).unwrap();
        assert_eq!(again.body, relay.body, "{name}: what was normalised stays as it is");
    }
}

#[test]
fn frames_before_the_first_content_are_told_apart() {
    let body = std::fs::read(folder().join("clean.sse")).unwrap();
    let (frames, ..) = relayed(&provider(), &body, 1, true);
    let contents: Vec<bool> = frames.iter().map(|frame| frame.content).collect();
    assert_eq!(contents, [false, true, true, true, false, false]);
}

#[test]
fn a_stream_of_two_answers_is_complete_when_both_are() {
    let chunk = |index: u64, text: &str, finish: Option<&str>| {
        let choice = serde_json::json!({"index": index, "delta": {"role": "assistant", "content": text}, "finish_reason": finish});
        let chunk = serde_json::json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let [begin, first, second] = [
        [chunk(0, "a", None), chunk(1, "b", None)].concat(),
        chunk(0, "", Some("stop")),
        chunk(1, "", Some("stop")),
    ];
    for (text, complete) in [
        (format!("{begin}{first}data: [DONE]\n\n"), false),
        (format!("{begin}{second}data: [DONE]\n\n"), false),
        (format!("{begin}{second}{first}data: [DONE]\n\n"), true),
        (format!("{begin}{first}{second}"), true),
    ] {
        let (frames, result, _) = relayed(&provider(), text.as_bytes(), text.len(), false);
        assert_eq!((result.is_ok(), joined(&frames).contains("[DONE]")), (complete, complete), "{text}");
    }
}

#[test]
fn a_stream_that_ends_with_calls_and_has_none_has_come_to_its_end() {
    let chunk = |delta: serde_json::Value, finish: Option<&str>| {
        let choice = serde_json::json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = serde_json::json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let text = chunk(serde_json::json!({"role": "assistant", "content": "a"}), None);
    let call = serde_json::json!([{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let end = chunk(serde_json::json!({}), Some("tool_calls"));
    for (calls, expected) in
        [(String::new(), "stop"), (chunk(serde_json::json!({"tool_calls": call}), None), "tool_calls")]
    {
        let body = format!("{text}{calls}{end}data: [DONE]\n\n");
        let (frames, result, _) = relayed(&provider(), body.as_bytes(), body.len(), false);
        result.unwrap();
        let told = joined(&frames);
        assert!(told.contains(&format!("\"finish_reason\":\"{expected}\"")), "{told}");
    }
}

#[test]
fn clean_frames_of_one_chunk_go_on_as_one_slice_of_it() {
    let body = Bytes::from(std::fs::read(folder().join("clean.sse")).unwrap());
    let mut relay = provider().stream(false);
    let mut out = Vec::new();
    relay.feed(body.clone(), &mut out).unwrap();
    assert!(relay.is_complete());
    relay.finish(&mut out).unwrap();
    assert_eq!(out.len(), 2, "the content, and the end");
    assert_eq!(out[0].bytes.as_ptr(), body.as_ptr());
    assert_eq!(relay.text_bytes(), "Hello é".len() as u64);
    assert_eq!(relay.finish_reason(), Some("stop"));
}

#[test]
fn clients_get_plain_line_ends_whatever_came() {
    let body = std::fs::read_to_string(folder().join("clean.sse")).unwrap();
    for (space, end) in [("data: ", "\r\n"), ("data:", "\n"), ("data: ", "\r"), ("\u{feff}data: ", "\n")] {
        let strange = body.replacen("data: ", space, 1).replace('\n', end);
        for size in [1, 3, strange.len()] {
            let (frames, result, _) = relayed(&provider(), strange.as_bytes(), size, false);
            result.unwrap();
            let text = joined(&frames);
            assert!(!text.contains('\r') && text.starts_with("data: {"), "{end:?} at {size}: {text}");
            assert_openai_stream("line ends", &text, false);
        }
    }
}

#[test]
fn a_line_without_end_is_refused() {
    let mut relay = provider().stream(false);
    let mut out = Vec::new();
    let chunk = Bytes::from(vec![b'x'; 64 << 10]);
    let fault = (0..100).find_map(|_| relay.feed(chunk.clone(), &mut out).err()).unwrap();
    assert_eq!(fault.kind.as_str(), "upstream_malformed");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_answers_never_crash(place in 0usize..2000, bytes in proptest::collection::vec(0u8.., 0..4), size in 1usize..64) {
        let provider = provider();
        for (_, mut body, _) in fixtures(".sse").into_iter().chain(fixtures(".json")) {
            let at = place % (body.len() + 1);
            let end = (at + bytes.len()).min(body.len());
            body.splice(at..end, bytes.iter().copied());
            let (frames, result, _) = relayed(&provider, &body, size, true);
            if result.is_err() {
                proptest::prop_assert!(!frames.iter().any(|frame| frame.bytes.ends_with(b"[DONE]\n\n")));
            }
            let mut decoder = provider.stream_decoder();
            let mut events = Vec::new();
            let _ = body.chunks(size).try_for_each(|chunk| decoder.feed(chunk, &mut events));
            let _ = decoder.finish(&mut events);
            let body = Bytes::from(body);
            let _ = Relay::whole(&provider, body.clone());
            let _ = provider.decode(&body);
            let _ = as_stream(&body, true, false, 0);
            let _ = Embeddings::whole(&provider, body.clone(), true);
            for status in [200, 400, 429, 500] {
                let fault = provider.fault(status, &http::HeaderMap::new(), &body);
                proptest::prop_assert!(fault.message.chars().count() <= 512);
            }
        }
    }
}

#[test]
fn a_character_that_was_cut_in_halves_is_one_again() {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
             \"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let body = [
        chunk(r#"{"role":"assistant","content":"a\ud83d"}"#, "null"),
        chunk(r#"{"content":"\ude00b"}"#, "null"),
        chunk(r#"{"content":"c\ud83d d"}"#, "null"),
        chunk("{}", "\"stop\""),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat();
    let provider = provider();
    let (frames, result, _) = relayed(&provider, body.as_bytes(), body.len(), true);
    result.unwrap();
    assert_eq!(joined(&frames), body, "a client of the dialect gets what was sent");
    let (mut decoder, mut events) = (provider.stream_decoder(), Vec::new());
    decoder.feed(body.as_bytes(), &mut events).unwrap();
    decoder.finish(&mut events).unwrap();
    let text: String = events
        .iter()
        .filter_map(|event| match event {
            Event::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(text, "a😀bc\u{fffd} d");
}

#[test]
fn a_stream_has_said_all_when_each_of_its_choices_has() {
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}"#;
    let head = r#""id":"c","object":"chat.completion.chunk","created":1,"model":"m""#;
    let chunk = |index: u8, finish: &str| {
        let choice = format!(
            r#"{{"index":{index},"delta":{{"role":"assistant","content":"a"}},"text":"a","finish_reason":{finish}}}"#
        );
        format!("data: {{{head},\"choices\":[{choice}],{usage}}}\n\n")
    };
    let completions = Completions::new(QuirkSettings::default(), Arc::new(FixedClock(0)));
    for mut relay in [Relay::stream(&provider(), true), completions.stream(true)] {
        for (index, finish, all) in
            [(0, "null", false), (1, "null", false), (0, "\"stop\"", false), (1, "\"stop\"", true)]
        {
            relay.feed(chunk(index, finish).into(), &mut Vec::new()).unwrap();
            assert_eq!(relay.has_said_all(), all, "{index} {finish}");
        }
        assert!(!relay.is_complete() && relay.usage().is_some());
    }
}

//! Recorded answers through a door of another dialect, compared with a plain reading of the raw JSON.
//!
//! The recordings are not part of this repository: `TOLLGATE_FIXTURES` names their folder.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::api::anthropic_messages::{self, MessageEncoder, encode_answer as encode_message};
use crate::api::openai_chat::{self, ChatEncoder, Fallback, encode_answer};
use crate::executor::Carry;
use crate::json::Body;
use crate::providers::{QuirkSettings, Vendor, dialect};
use crate::target::TargetName;

/// What an answer says, in the simplest terms of any dialect.
#[derive(Debug, Default, PartialEq, Clone)]
struct Said {
    text: String,
    thought: String,
    /// Id, name, arguments.
    calls: Vec<(String, String, Value)>,
    finish: String,
    /// Prompt, completion, cache reads.
    usage: [u64; 3],
}

struct Case {
    id: String,
    stream: bool,
    text: String,
}

fn cases(vendor: &str, op: &str) -> Vec<Case> {
    let folder = std::env::var_os("TOLLGATE_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let Ok(files) = std::fs::read_dir(folder.join(vendor)) else {
        eprintln!("SKIPPED: no recorded traffic in {} (set TOLLGATE_FIXTURES)", folder.display());
        return Vec::new();
    };
    files
        .map(|file| serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap())
        .filter(|case: &Value| case["op"] == op && case["response"]["status"] == 200)
        .map(|case| Case {
            id: text(&case["id"]),
            stream: case["stream"] == true,
            text: text(&case["response"]["text"]),
        })
        .collect()
}

fn target(word: &str) -> Target {
    let vendor = Vendor::bare("p", dialect(word, &QuirkSettings::default()).unwrap());
    Target::new(Arc::new(vendor), TargetName::parse("p/m").unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn object(json: &str) -> Value {
    if json.is_empty() { json!({}) } else { serde_json::from_str(json).unwrap() }
}

fn fallback() -> Fallback {
    Fallback { id: "chatcmpl-own".into(), created: 1 }
}

fn stream_through(
    target: &Target,
    tongue: &'static Tongue,
    encoder: Box<dyn StreamEncoder>,
    body: &str,
    size: usize,
) -> (String, Box<dyn StreamRelay>) {
    let mut relay = stream(target, tongue, None, encoder);
    let mut frames = Vec::new();
    for chunk in body.as_bytes().chunks(size) {
        relay.feed(Bytes::copy_from_slice(chunk), &mut frames).unwrap();
    }
    relay.finish(&mut frames).unwrap();
    assert!(relay.is_complete() && relay.finish_reason().is_some());
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
    (String::from_utf8(bytes).unwrap(), relay)
}

fn data(stream: &str) -> impl Iterator<Item = Value> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data:"));
    lines.filter(|line| line.trim() != "[DONE]").map(|line| serde_json::from_str(line).unwrap())
}

fn anthropics_usage(usage: &Value) -> [u64; 3] {
    let n = |key: &str| usage[key].as_u64().unwrap_or(0);
    let read = n("cache_read_input_tokens");
    [n("input_tokens") + read + n("cache_creation_input_tokens"), n("output_tokens"), read]
}

fn openais_usage(usage: &Value) -> [u64; 3] {
    let n = |value: &Value| value.as_u64().unwrap_or(0);
    let cached = n(&usage["prompt_tokens_details"]["cached_tokens"]);
    [n(&usage["prompt_tokens"]), n(&usage["completion_tokens"]), cached]
}

#[test]
fn what_is_spoken_is_written_for_a_door_without_sounds() {
    let target = target("openai");
    let message = |audio: Value, content: Value| {
        let choice = json!({"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": content, "audio": audio}});
        json!({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
    };
    let spoken = json!({"id": "a", "data": "AAAA", "expires_at": 9, "transcript": "good day"});
    for (content, expected) in [(Value::Null, "good day"), (json!("in words"), "in words")] {
        let body = message(spoken.clone(), content.clone()).to_string();
        let told = whole(&target, body.as_bytes(), &anthropic_messages::TONGUE, None, |answer| {
            encode_message(answer, "msg")
        });
        let told = told.unwrap();
        assert_eq!(read_message(&serde_json::from_slice(&told.body).unwrap()).text, expected);
        assert_eq!(told.lost, [Loss::dropped("answer.choices[0].audio")]);

        let delta = |delta: Value, finish: Value| {
            json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        };
        let deltas = [
            json!({"role": "assistant", "content": content}),
            json!({"audio": {"id": "a", "transcript": "good "}}),
            json!({"audio": {"data": "AAAA"}}),
            json!({"audio": {"transcript": "day"}}),
        ];
        let last = delta(json!({}), json!("stop"));
        let chunks = deltas.into_iter().map(|said| delta(said, Value::Null)).chain([last]);
        let body: String = chunks.map(|chunk| format!("data: {chunk}\n\n")).collect();
        let encoder = Box::new(MessageEncoder::new("msg".into()));
        let body = format!("{body}data: [DONE]\n\n");
        let (text, relay) = stream_through(&target, &anthropic_messages::TONGUE, encoder, &body, 50);
        assert_eq!(read_message_stream(&text).text, expected);
        assert_eq!(relay.lost(), [Loss::dropped("answer.choices[0].audio")]);

        let encoder = Box::new(ChatEncoder::new(true, fallback()));
        let (text, relay) = stream_through(&target, &openai_chat::TONGUE, encoder, &body, 50);
        assert!(text.contains(r#""audio":{"transcript":"day"}"#) && relay.lost().is_empty(), "{text}");
        assert_eq!(read_chat_stream(&text).text, content.as_str().unwrap_or_default());
    }
}

/// Anthropic's stop reason in OpenAI's word.
fn word(stop: &str) -> String {
    match stop {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        _ => "stop",
    }
    .into()
}

fn read_message(message: &Value) -> Said {
    let mut said = Said {
        finish: word(message["stop_reason"].as_str().unwrap()),
        usage: anthropics_usage(&message["usage"]),
        ..Said::default()
    };
    for block in message["content"].as_array().unwrap() {
        match block["type"].as_str().unwrap() {
            "text" => said.text += block["text"].as_str().unwrap(),
            "thinking" => said.thought += block["thinking"].as_str().unwrap(),
            "tool_use" => said.calls.push((text(&block["id"]), text(&block["name"]), block["input"].clone())),
            _ => {}
        }
    }
    said
}

fn read_message_stream(stream: &str) -> Said {
    let (mut blocks, mut message, mut usage): (Vec<Value>, Value, Value) = Default::default();
    for event in data(stream) {
        let delta = &event["delta"];
        match event["type"].as_str().unwrap() {
            "message_start" => usage = event["message"]["usage"].clone(),
            "content_block_start" => blocks.push(event["content_block"].clone()),
            "content_block_delta" => {
                let block = blocks.last_mut().unwrap();
                for (key, place) in [("text", "text"), ("thinking", "thinking"), ("partial_json", "json")] {
                    if let Some(more) = delta[key].as_str() {
                        block[place] = (text(&block[place]) + more).into();
                    }
                }
            }
            "message_delta" => {
                message["stop_reason"] = delta["stop_reason"].clone();
                event["usage"].as_object().unwrap().iter().for_each(|(k, v)| usage[k] = v.clone());
            }
            _ => {}
        }
    }
    for block in &mut blocks {
        if block["type"] == "tool_use" {
            block["input"] = object(block["json"].as_str().unwrap_or_default());
        }
    }
    message["content"] = blocks.into();
    message["usage"] = usage;
    read_message(&message)
}

fn read_chat(body: &Value) -> Said {
    let choice = &body["choices"][0];
    let message = &choice["message"];
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    Said {
        text: text(&message["content"]) + text(&message["refusal"]).as_str(),
        thought: text(&message["reasoning_content"]),
        calls: calls
            .map(|call| {
                let function = &call["function"];
                (text(&call["id"]), text(&function["name"]), object(function["arguments"].as_str().unwrap()))
            })
            .collect(),
        finish: text(&choice["finish_reason"]),
        usage: openais_usage(&body["usage"]),
    }
}

fn read_chat_stream(stream: &str) -> Said {
    let mut said = Said::default();
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for chunk in data(stream) {
        if chunk["usage"].is_object() {
            said.usage = openais_usage(&chunk["usage"]);
        }
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        said.text += text(&delta["content"]).as_str();
        said.text += text(&delta["refusal"]).as_str();
        said.thought += &text(&delta["reasoning_content"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let at = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if at == calls.len() {
                calls.push((text(&call["id"]), text(&call["function"]["name"]), String::new()));
            }
            calls[at].2 += call["function"]["arguments"].as_str().unwrap_or_default();
        }
        said.finish += choice["finish_reason"].as_str().unwrap_or_default();
    }
    said.calls = calls.into_iter().map(|(id, name, json)| (id, name, object(&json))).collect();
    said
}

#[test]
fn anthropics_answers_come_through_openais_door() {
    let target = target("anthropic");
    for case in cases("anthropic", "messages") {
        if case.text.contains("event: error") {
            continue;
        }
        if !case.stream {
            let expected = read_message(&serde_json::from_str(&case.text).unwrap());
            let relayed = whole(&target, case.text.as_bytes(), &openai_chat::TONGUE, None, |answer| {
                encode_answer(answer, &fallback())
            })
            .unwrap();
            let said = read_chat(&serde_json::from_slice(&relayed.body).unwrap());
            assert_eq!(said, expected, "{}", case.id);
            assert_eq!(relayed.finish, Some(&*expected.finish), "{}", case.id);
            // The JSON answer to a request for a stream.
            let mut relay =
                stream(&target, &openai_chat::TONGUE, None, Box::new(ChatEncoder::new(true, fallback())));
            let mut frames = Vec::new();
            relay.whole(Bytes::from(case.text), &mut frames).unwrap();
            let text: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
            assert_eq!(read_chat_stream(str::from_utf8(&text).unwrap()), expected, "{}", case.id);
            continue;
        }
        let expected = read_message_stream(&case.text);
        for size in [1, 7, 64, 1 << 20] {
            let encoder = Box::new(ChatEncoder::new(true, fallback()));
            let (text, relay) = stream_through(&target, &openai_chat::TONGUE, encoder, &case.text, size);
            assert_eq!(read_chat_stream(&text), expected, "{} at {size}", case.id);
            assert!(text.ends_with("data: [DONE]\n\n"), "{}", case.id);
            assert_eq!(relay.usage().map(|u| u.prompt()), Some(expected.usage[0]), "{}", case.id);
        }
    }
}

#[test]
fn openais_answers_come_through_anthropics_door() {
    let target = target("openai");
    let strange = [
        "function_call\"",
        "\"custom\"",
        "\"error\":",
        "\"audio\"",
        "\"index\":1,\"delta\"",
        "\"index\":1,\"message\"",
    ];
    for vendor in ["openai", "deepseek", "cerebras", "xai", "moonshot", "openrouter"] {
        for case in cases(vendor, "chat") {
            if strange.iter().any(|word| case.text.contains(word)) {
                continue;
            }
            // The relay of the same dialect brings the vendors' own habits to OpenAI's form.
            let own = target.vendor.wire.relay().unwrap();
            let mut expected = if case.stream {
                let (mut relay, mut frames) = (own.stream(true), Vec::new());
                relay.feed(Bytes::from(case.text.clone()), &mut frames).unwrap();
                relay.finish(&mut frames).unwrap();
                let text: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
                read_chat_stream(str::from_utf8(&text).unwrap())
            } else {
                let body = own.whole(Bytes::from(case.text.clone())).unwrap().body;
                read_chat(&serde_json::from_slice(&body).unwrap())
            };
            if case.text.replace("\": ", "\":").contains("\"refusal\":\"") {
                expected.finish = "content_filter".into();
            }
            for call in &mut expected.calls {
                call.0 = call.0.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_', "_");
            }
            if case.stream {
                for size in [1, 64, 1 << 20] {
                    let encoder = Box::new(MessageEncoder::new("msg".into()));
                    let (text, _) =
                        stream_through(&target, &anthropic_messages::TONGUE, encoder, &case.text, size);
                    assert_eq!(read_message_stream(&text), expected, "{} at {size}", case.id);
                }
            } else {
                let relayed =
                    whole(&target, case.text.as_bytes(), &anthropic_messages::TONGUE, None, |answer| {
                        encode_message(answer, "msg")
                    })
                    .unwrap();
                let said = read_message(&serde_json::from_slice(&relayed.body).unwrap());
                assert_eq!(said, expected, "{}", case.id);
            }
        }
    }
}

#[test]
fn a_fault_inside_a_stream_comes_after_what_was_said() {
    let target = target("anthropic");
    let said = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n\
                event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
                event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hel\"}}\n\n";
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";
    let mut relay = stream(&target, &openai_chat::TONGUE, None, Box::new(ChatEncoder::new(true, fallback())));
    let mut frames = Vec::new();
    let fault = relay.feed(Bytes::from(format!("{said}{error}")), &mut frames).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Overloaded);
    assert!(frames.iter().any(|frame| frame.content) && relay.text_bytes() == 3);

    let mut relay = stream(&target, &openai_chat::TONGUE, None, Box::new(ChatEncoder::new(true, fallback())));
    let mut frames = Vec::new();
    relay.feed(Bytes::from(said), &mut frames).unwrap();
    assert_eq!(relay.finish(&mut frames).unwrap_err().kind, FaultKind::Truncated);
    let text: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
    assert!(!String::from_utf8_lossy(&text).contains("[DONE]"));
}

#[test]
fn a_stream_of_openais_kind_has_said_all_before_it_says_that_it_is_done() {
    let chunk = |rest: &str| format!("data: {{\"id\":\"c\",\"model\":\"m\",{rest}}}\n\n");
    let said = chunk(r#""choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]"#);
    let used = chunk(r#""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}"#);
    for (body, all) in [(said.clone(), false), (format!("{said}{used}"), true)] {
        let encoder = Box::new(MessageEncoder::new("msg_own".into()));
        let mut relay = stream(&target("openai"), &anthropic_messages::TONGUE, None, encoder);
        let mut frames = Vec::new();
        relay.feed(Bytes::from(body), &mut frames).unwrap();
        assert_eq!((relay.has_said_all(), relay.is_complete()), (all, false));
        relay.settle(&mut frames).unwrap();
        let text: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.matches("message_delta").count(), 2, "its name and its type: {text}");
        assert!(text.contains("\"output_tokens\":1") == all && text.contains("message_stop"), "{text}");
    }
}

#[test]
fn an_answer_that_ends_with_calls_and_has_none_has_come_to_its_end() {
    let target = target("anthropic");
    let call = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
    for (block, expected) in [(json!({"type": "text", "text": "hi"}), "stop"), (call, "tool_calls")] {
        let usage = json!({"input_tokens": 1, "output_tokens": 1});
        let message = json!({"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [block],
            "stop_reason": "tool_use", "usage": usage});
        let body = message.to_string();
        let whole = whole(&target, body.as_bytes(), &openai_chat::TONGUE, None, |answer| {
            encode_answer(answer, &fallback())
        });
        let whole = whole.unwrap();
        let told: Value = serde_json::from_slice(&whole.body).unwrap();
        assert_eq!((&told["choices"][0]["finish_reason"], whole.finish), (&json!(expected), Some(expected)));

        let events = [
            json!({"type": "message_start", "message": {"id": "m", "usage": usage}}),
            json!({"type": "content_block_start", "index": 0, "content_block": block}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": usage}),
            json!({"type": "message_stop"}),
        ];
        let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let encoder = Box::new(ChatEncoder::new(false, fallback()));
        let (text, relay) = stream_through(&target, &openai_chat::TONGUE, encoder, &body, body.len());
        assert_eq!(relay.finish_reason(), Some(expected), "{text}");
        assert!(text.contains(&format!("\"finish_reason\":\"{expected}\"")), "{text}");
    }
}

/// Google's documents of one answer, read in the plainest way.
fn read_gemini(body: &str) -> Said {
    let documents = match serde_json::from_str(body) {
        Ok(Value::Array(list)) => list,
        Ok(one) => vec![one],
        Err(_) => data(body).collect(),
    };
    let mut said = Said::default();
    for document in &documents {
        let candidate = &document["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            if let Some(call) = part["functionCall"].as_object() {
                let args = call.get("args").cloned().unwrap_or_else(|| json!({}));
                said.calls.push((
                    text(&call.get("id").cloned().unwrap_or_default()),
                    text(&call["name"]),
                    args,
                ));
            } else if part["thought"] == true {
                said.thought += &text(&part["text"]);
            } else {
                said.text += &text(&part["text"]);
            }
        }
        match &candidate["finishReason"] {
            Value::Null => {}
            word if word == "MAX_TOKENS" || word == 2 => said.finish = "length".into(),
            word if word == "SAFETY" || word == "MODEL_ARMOR" => said.finish = "content_filter".into(),
            _ if !said.calls.is_empty() => said.finish = "tool_calls".into(),
            _ => said.finish = "stop".into(),
        }
        let usage = &document["usageMetadata"];
        let n = |key: &str| usage[key].as_u64().unwrap_or(0);
        let counted = [
            n("promptTokenCount") + n("toolUsePromptTokenCount"),
            n("candidatesTokenCount") + n("thoughtsTokenCount"),
            n("cachedContentTokenCount"),
        ];
        if counted != [0; 3] {
            said.usage = counted;
        }
    }
    said
}

#[test]
fn googles_answers_come_through_every_other_door() {
    let target = target("gemini");
    // Ids are invented where Google gives none, and Anthropic's door carries proofs in them.
    let bare = |mut said: Said| {
        let ids: std::collections::BTreeSet<_> = said.calls.iter().map(|call| call.0.clone()).collect();
        assert_eq!(ids.len(), said.calls.len(), "ids are unique");
        said.calls.iter_mut().for_each(|call| call.0.clear());
        said
    };
    for case in cases("gemini", "generateContent").into_iter().chain(cases("vertex", "generateContent")) {
        let mut expected = read_gemini(&case.text);
        expected.calls.iter_mut().for_each(|call| call.0.clear());
        if case.stream {
            for size in [1, 64, 1 << 20] {
                let encoder = Box::new(ChatEncoder::new(true, fallback()));
                let (text, relay) = stream_through(&target, &openai_chat::TONGUE, encoder, &case.text, size);
                assert_eq!(bare(read_chat_stream(&text)), expected, "{} at {size}", case.id);
                assert_eq!(relay.usage().map(|u| u.prompt()), Some(expected.usage[0]), "{}", case.id);
                let encoder = Box::new(MessageEncoder::new("msg".into()));
                let (text, _) =
                    stream_through(&target, &anthropic_messages::TONGUE, encoder, &case.text, size);
                assert_eq!(bare(read_message_stream(&text)), expected, "{} at {size}", case.id);
            }
        } else {
            let chat = whole(&target, case.text.as_bytes(), &openai_chat::TONGUE, None, |answer| {
                encode_answer(answer, &fallback())
            })
            .unwrap();
            let said = read_chat(&serde_json::from_slice(&chat.body).unwrap());
            assert_eq!(bare(said), expected, "{}", case.id);
            let message = whole(&target, case.text.as_bytes(), &anthropic_messages::TONGUE, None, |answer| {
                encode_message(answer, "msg")
            })
            .unwrap();
            let said = read_message(&serde_json::from_slice(&message.body).unwrap());
            assert_eq!(bare(said), expected, "{}", case.id);
        }
    }
}

#[test]
fn names_that_a_provider_refuses_are_its_own_there_and_the_clients_here() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "ns.look:up", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "ns.look:up"}}});
    let ask = openai_chat::Ask::read(Body::read(body.to_string().into()).unwrap()).unwrap();
    let sent = |word: &str| {
        let outgoing = ask.outgoing(&target(word)).unwrap();
        (serde_json::from_slice::<Value>(&outgoing.body.concat()).unwrap(), outgoing.lost)
    };
    let (native, _) = sent("openai");
    assert_eq!(native["tools"], body["tools"], "a client's own dialect is none of our business");
    let (translated, lost) = sent("anthropic");
    assert_eq!(translated["tools"][0]["name"], "ns_look_up");
    assert_eq!(translated["tool_choice"]["name"], "ns_look_up");
    let lost: Vec<String> = lost.iter().map(Loss::to_string).collect();
    assert_eq!(lost, ["tools[0].function.name (became ns_look_up)"]);

    let call = json!({"type": "tool_use", "id": "t", "name": "ns_look_up", "input": {}});
    let message = json!({"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [call],
        "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}});
    let relayed = ask.whole(&target("anthropic"), message.to_string().into()).unwrap();
    let answer: Value = serde_json::from_slice(&relayed.body).unwrap();
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "ns.look:up");
    let (mut stream, mut frames) = (ask.stream(&target("anthropic")).unwrap(), Vec::new());
    let event = json!({"type": "content_block_start", "index": 0, "content_block": call});
    stream.feed(format!("data: {event}\n\n").into(), &mut frames).unwrap();
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
    assert!(String::from_utf8_lossy(&bytes).contains(r#""name":"ns.look:up""#), "{frames:?}");
}

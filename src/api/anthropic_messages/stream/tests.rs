//! Canonical events in Anthropic's grammar, read back by an independent reader.

use serde_json::{Value, json};

use super::*;
use crate::chat::{FinishReason, Role};
use crate::frames::SseSplitter;

/// The data of all events, after a check of the grammar: names, order and indexes.
fn encoded(events: &[Event]) -> Vec<Value> {
    let mut encoder = MessageEncoder::new("msg_own".into());
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.encode(event, &mut out));
    let mut splitter = SseSplitter::new();
    splitter.push(out.into());
    let mut all: Vec<Value> = Vec::new();
    while let Some(event) = splitter.next().unwrap() {
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        assert!(event.is(data["type"].as_str().unwrap()), "{data}");
        all.push(data);
    }
    let (mut open, mut next) = (None, 0);
    for (at, event) in all.iter().enumerate() {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "message_start" => assert_eq!(at, 0),
            "content_block_start" => {
                assert_eq!((open, index), (None, Some(next)), "{event}");
                (open, next) = (index, next + 1);
            }
            "content_block_delta" => assert_eq!(index, open, "{event}"),
            "content_block_stop" => {
                assert_eq!(index, open, "{event}");
                open = None;
            }
            "message_delta" => assert_eq!((at, open), (all.len() - 2, None)),
            "message_stop" => assert_eq!(at, all.len() - 1),
            "ping" => {}
            other => panic!("{other}"),
        }
    }
    all
}

fn start() -> Vec<Event> {
    vec![
        Event::Start { id: "msg_1".into(), model: "m".into(), created: 0 },
        Event::ChoiceStart { choice: 0, role: Role::Assistant },
    ]
}

fn end(reason: FinishReason) -> Vec<Event> {
    let usage = Usage { input: 3, output: 2, ..Usage::default() };
    vec![Event::Finish { choice: 0, finish: reason.into() }, Event::Usage(usage), Event::End]
}

fn call(call: u32) -> Event {
    let (id, name) = (format!("c:{call}"), format!("f{call}"));
    Event::ToolCallStart { choice: 0, call, id, name, kind: ToolKind::Function, signature: None }
}

fn arguments(call: u32, arguments: &str) -> Event {
    Event::ToolCallDelta { choice: 0, call, arguments: arguments.into() }
}

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.into() }
}

fn thought(text: &str, signature: Option<&str>) -> Event {
    Event::Thinking { choice: 0, text: text.into(), signature: signature.map(Into::into), redacted: None }
}

/// The blocks that a client puts together.
fn blocks(all: &[Value]) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    for event in all {
        if event["type"] == "content_block_start" {
            blocks.push(event["content_block"].clone());
        }
        let Some(last) = blocks.last_mut() else { continue };
        for (key, place) in
            [("text", "text"), ("thinking", "thinking"), ("signature", "signature"), ("partial_json", "json")]
        {
            if let Some(more) = event["delta"][key].as_str() {
                last[place] = (last[place].as_str().unwrap_or_default().to_owned() + more).into();
            }
        }
    }
    blocks
}

#[test]
fn a_stream_has_anthropics_grammar() {
    let said = [
        start(),
        vec![thought("h", None), thought("m", Some("sig")), thought("more", None)],
        vec![text("Hel"), text("lo"), call(0), arguments(0, "{\"a\":"), arguments(0, "1}"), call(1)],
        end(FinishReason::ToolCalls),
    ]
    .concat();
    let all = encoded(&said);
    assert_eq!(all[0]["message"]["id"], "msg_1");
    assert_eq!(
        blocks(&all),
        [
            json!({"type": "thinking", "thinking": "hm", "signature": "sig"}),
            json!({"type": "thinking", "thinking": "more", "signature": UNSIGNED}),
            json!({"type": "text", "text": "Hello"}),
            json!({"type": "tool_use", "id": "c_0", "name": "f0", "input": {}, "json": "{\"a\":1}"}),
            json!({"type": "tool_use", "id": "c_1", "name": "f1", "input": {}, "json": ""}),
        ]
    );
    let delta = &all[all.len() - 2];
    assert_eq!(delta["delta"], json!({"stop_reason": "tool_use", "stop_sequence": null}));
    assert_eq!((&delta["usage"]["input_tokens"], &delta["usage"]["output_tokens"]), (&json!(3), &json!(2)));
}

#[test]
fn interleaved_calls_come_one_after_the_other() {
    let said = [
        start(),
        vec![call(0), call(1), arguments(0, "{\"a\""), arguments(1, "{}"), arguments(0, ":1}"), text("x")],
        end(FinishReason::Stop),
    ]
    .concat();
    let all = encoded(&said);
    let calls: Vec<_> =
        blocks(&all).iter().map(|block| (block["name"].clone(), block["json"].clone())).collect();
    assert_eq!(calls[..2], [(json!("f0"), json!("{\"a\":1}")), (json!("f1"), json!("{}"))]);
    assert_eq!(all[all.len() - 2]["delta"]["stop_reason"], "tool_use");
}

#[test]
fn an_empty_answer_is_still_a_message() {
    let kinds: Vec<_> = encoded(&[Event::End]).iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["message_start", "message_delta", "message_stop"]);
}

#[test]
fn a_fault_is_the_end_without_a_stop() {
    let mut encoder = MessageEncoder::new("msg".into());
    let mut out = Vec::new();
    encoder.encode(&text("Hel"), &mut out);
    let fault = Fault::new(crate::fault::FaultKind::Overloaded, "busy").status(529);
    let event = encoder.fault(&fault);
    assert!(String::from_utf8_lossy(&event).contains("overloaded_error"));
    let before = out.len();
    encoder.encode(&Event::End, &mut out);
    assert_eq!(out.len(), before);
}

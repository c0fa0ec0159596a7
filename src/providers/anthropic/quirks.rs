//! The quirks of Anthropic's streams, each in the smallest stream that shows it.

use bytes::Bytes;
use serde_json::json;

use super::Anthropic;
use crate::chat::{Event, FinishReason, Usage};
use crate::fault::{Fault, FaultKind};
use crate::providers::{Provider, QuirkSettings, Relay};

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x","content":[],"usage":{"input_tokens":3456,"output_tokens":21}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

fn events(data: &[&str]) -> Result<Vec<Event>, Fault> {
    let text: String = data.iter().map(|data| format!("data: {data}\n\n")).collect();
    let mut decoder = Anthropic::new(QuirkSettings::default()).stream_decoder();
    let mut events = Vec::new();
    decoder.feed(text.as_bytes(), &mut events)?;
    decoder.finish(&mut events)?;
    Ok(events)
}

fn between(data: &[&str]) -> Vec<Event> {
    let all: Vec<&str> = [START].iter().chain(data).chain([&STOP]).copied().collect();
    let events = events(&all).unwrap();
    events
        .into_iter()
        .filter(|e| !matches!(e, Event::Start { .. } | Event::ChoiceStart { .. } | Event::End))
        .collect()
}

#[test]
fn a_tool_without_arguments_is_called_with_an_empty_object() {
    let said = between(&[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t2","name":"g","input":{"a":1}}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":5}}"#,
    ]);
    let arguments: Vec<_> = said
        .iter()
        .filter_map(|event| match event {
            Event::ToolCallDelta { call, arguments, .. } => Some((*call, arguments.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(arguments, [(0, "{}"), (1, r#"{"a":1}"#)]);
}

#[test]
fn counts_of_the_end_replace_those_of_the_beginning() {
    let said = between(&[
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":7172,"output_tokens":90}}"#,
    ]);
    let last = said.iter().rev().find_map(|event| match event {
        Event::Usage(usage) => Some(*usage),
        _ => None,
    });
    assert_eq!(last, Some(Usage { input: 7172, output: 90, ..Usage::default() }));
}

#[test]
fn server_tools_are_kept_whole_and_never_the_clients() {
    let said = between(&[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s1","name":"web_search","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\":"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"\"x\"}"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"compaction","content":"a"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"compaction_delta","content":"b"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
    ]);
    let foreign: Vec<_> = said
        .iter()
        .filter_map(|event| match event {
            Event::Foreign { value, .. } => Some(value.clone()),
            _ => None,
        })
        .collect();
    let expected = [
        json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}),
        json!({"type": "compaction", "content": "ab"}),
    ];
    assert_eq!(foreign, expected);
    assert!(!said.iter().any(|event| matches!(event, Event::ToolCallStart { .. })));
}

#[test]
fn every_stop_reason_has_its_meaning() {
    for (raw, expected) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("tool_use", FinishReason::ToolCalls),
        ("refusal", FinishReason::ContentFilter),
        ("pause_turn", FinishReason::Pause),
        ("model_context_window_exceeded", FinishReason::ContextExceeded),
        ("something_new", FinishReason::Other),
    ] {
        let delta = json!({"type": "message_delta", "delta": {"stop_reason": raw, "stop_sequence": "x"}});
        let said = between(&[&delta.to_string()]);
        let Some(Event::Finish { finish, .. }) = said.last() else { panic!("{raw}: {said:?}") };
        assert_eq!((finish.reason, finish.raw.as_deref()), (expected, Some(raw)));
        assert_eq!(finish.stop_sequence.as_deref(), Some("x"));
    }
}

#[test]
fn an_error_as_the_first_event_can_still_fail_over() {
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    assert_eq!(events(&[error]).unwrap_err().kind, FaultKind::Overloaded);
    let provider = Anthropic::new(QuirkSettings::default());
    let (mut relay, mut frames) = (provider.stream(false), Vec::new());
    let text =
        format!("event: message_start\ndata: {START}\n\nevent: ping\ndata: {{\"type\": \"ping\"}}\n\n");
    relay.feed(Bytes::from(text), &mut frames).unwrap();
    assert!(!frames.is_empty() && frames.iter().all(|frame| !frame.content), "nothing is committed yet");
    let text = format!("event: error\ndata: {error}\n\n");
    assert_eq!(relay.feed(Bytes::from(text), &mut frames).unwrap_err().kind, FaultKind::Overloaded);
}

fn relayed(data: &[&str]) -> Result<String, Fault> {
    let text: String = data.iter().map(|data| format!("data: {data}\n\n")).collect();
    let provider = Anthropic::new(QuirkSettings::default());
    let (mut relay, mut frames) = (provider.stream(false), Vec::new());
    relay.feed(Bytes::from(text), &mut frames)?;
    relay.finish(&mut frames)?;
    Ok(String::from_utf8(frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect()).unwrap())
}

const DELTA: &str =
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}"#;

#[test]
fn a_stream_needs_its_own_end_and_a_reason_for_it() {
    let text = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"half"}}"#;
    let call = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}"#;
    let json = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#;
    let unsaid = r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":1}}"#;
    for (data, expected) in [
        (&[START, text, DELTA, STOP][..], None),
        (&[START, DELTA], Some(FaultKind::Truncated)),
        (&[START, text, STOP], Some(FaultKind::Truncated)),
        (&[START, text, unsaid, STOP], Some(FaultKind::Truncated)),
        (&[START, call, json, STOP], Some(FaultKind::Truncated)),
        (&[START, STOP], Some(FaultKind::Truncated)),
        (&[STOP], Some(FaultKind::Truncated)),
        (&["{}", "nonsense"], Some(FaultKind::Malformed)),
        (&[], Some(FaultKind::Truncated)),
    ] {
        assert_eq!(events(data).err().map(|fault| fault.kind), expected, "decoded: {data:?}");
        assert_eq!(relayed(data).err().map(|fault| fault.kind), expected, "relayed: {data:?}");
    }
}

#[test]
fn events_without_names_get_them() {
    let expected = format!("event: message_delta\ndata: {DELTA}\n\nevent: message_stop\ndata: {STOP}\n\n");
    assert_eq!(relayed(&[DELTA, STOP]).unwrap(), expected);
}

#[test]
fn a_whole_answer_is_a_message_or_a_fault() {
    use FaultKind as K;
    let message = |fields: serde_json::Value| {
        let mut message = json!({"id": "m", "type": "message", "role": "assistant", "model": "x",
            "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 1, "output_tokens": 1}});
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        message
    };
    let provider = Anthropic::new(QuirkSettings::default());
    for (fields, expected) in [
        (json!({}), None),
        (json!({"error": null}), None),
        (json!({"content": []}), None),
        (json!({"content": [{"type": "something_new", "text": 5}]}), None),
        (json!({"content": [{}]}), Some(K::Malformed)),
        (json!({"content": [null]}), Some(K::Malformed)),
        (json!({"content": ["oops"]}), Some(K::Malformed)),
        (json!({"content": "oops"}), Some(K::Malformed)),
        (json!({"content": null}), Some(K::Malformed)),
        (json!({"content": [{"type": "text", "text": 5}]}), Some(K::Malformed)),
        (json!({"content": [{"type": "text"}]}), Some(K::Malformed)),
        (json!({"content": [], "stop_reason": null}), Some(K::Truncated)),
        (json!({"stop_reason": null}), Some(K::Truncated)),
        (json!({"error": {"type": "api_error", "message": "x"}}), Some(K::ServerError)),
        (json!({"error": {"type": "overloaded_error", "message": "x"}}), Some(K::Overloaded)),
    ] {
        let body = Bytes::from(message(fields.clone()).to_string());
        let kind = |fault: Fault| fault.kind;
        assert_eq!(provider.decode(&body).err().map(kind), expected, "decoded: {fields}");
        let whole = Relay::whole(&provider, body.clone());
        assert_eq!(whole.err().map(kind), expected, "relayed: {fields}");
        let stream = provider.stream(false).whole(body, &mut Vec::new());
        assert_eq!(stream.err().map(kind), expected, "as a stream: {fields}");
    }
}

#[test]
fn what_was_cleared_of_the_prompt_is_told() {
    let said = between(&[
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"context_management":{"applied_edits":[{"type":"clear_tool_uses_20250919"}]}}"#,
    ]);
    let told = said.iter().any(|event| match event {
        Event::Other { choice: None, fields } => {
            fields["context_management"]["applied_edits"][0]["type"] == "clear_tool_uses_20250919"
        }
        _ => false,
    });
    assert!(told, "{said:?}");
}

#[test]
fn a_character_that_was_cut_in_halves_is_one_again() {
    let halves = [
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\ud83d"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\ude00b"}}"#,
    ];
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#;
    let [first, second] = halves;
    let said = between(&[first, second, end]);
    let text: String = said
        .iter()
        .filter_map(|event| match event {
            Event::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(text, "a😀b");
    let provider = Anthropic::new(QuirkSettings::default());
    let (mut relay, mut frames) = (Relay::stream(&provider, true), Vec::new());
    let sent = halves.map(|data| format!("event: content_block_delta\ndata: {data}\n\n")).concat();
    relay.feed(Bytes::from(sent.clone()), &mut frames).unwrap();
    let passed: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
    assert_eq!(String::from_utf8_lossy(&passed), sent, "a client of the dialect gets what was sent");
}

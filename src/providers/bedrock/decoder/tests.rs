//! Small streams, each with what it must mean.

use serde_json::json;

use super::*;
use crate::chat::{FinishReason, Usage};
use crate::fault::FaultKind;
use crate::frames::aws_message;

fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    aws_message(&headers, payload.to_string().as_bytes())
}

fn exception(kind: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":exception-type", kind), (":message-type", "exception")];
    aws_message(&headers, payload.to_string().as_bytes())
}

fn stream(events: &[(&str, Value)]) -> Vec<u8> {
    events.iter().flat_map(|(kind, payload)| event(kind, payload)).collect()
}

fn decode(pieces: &[&[u8]]) -> Result<Vec<Event>, Fault> {
    let (mut decoder, mut events) = (ConverseDecoder::default(), Vec::new());
    for piece in pieces {
        decoder.feed(piece, &mut events)?;
    }
    decoder.finish(&mut events)?;
    Ok(events)
}

/// Thinking, text in two pieces, a tool call, the end and the counts. `p` is the padding that AWS adds.
fn whole() -> Vec<u8> {
    stream(&[
        ("messageStart", json!({"p": "abc", "role": "assistant"})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}, "p": "abcd"}),
        ),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "s1"}}}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 1, "delta": {"reasoningContent": {"redactedContent": "AAAA"}}}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 1})),
        ("contentBlockDelta", json!({"contentBlockIndex": 2, "delta": {"text": "h\u{e9}"}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 2, "delta": {"text": "llo"}})),
        ("contentBlockStop", json!({"contentBlockIndex": 2})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t1", "name": "f"}}}),
        ),
        ("contentBlockDelta", json!({"contentBlockIndex": 3, "delta": {"toolUse": {"input": ""}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 3, "delta": {"toolUse": {"input": "{\"a\":"}}})),
        ("contentBlockDelta", json!({"contentBlockIndex": 3, "delta": {"toolUse": {"input": "1}"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 3})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 4, "start": {"toolUse": {"toolUseId": "t2", "name": "g"}}}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 4})),
        ("messageStop", json!({"stopReason": "tool_use"})),
        (
            "metadata",
            json!({"usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 45, "cacheReadInputTokens": 30},
                "metrics": {"latencyMs": 100}, "trace": {"guardrail": {}}}),
        ),
    ])
}

#[test]
fn a_stream_is_read_at_any_boundary() {
    let bytes = whole();
    let expected = decode(&[&bytes]).unwrap();
    let thought = |text: &str, signature: Option<&str>, redacted: Option<&str>| Event::Thinking {
        choice: 0,
        text: text.into(),
        signature: signature.map(Into::into),
        redacted: redacted.map(Into::into),
    };
    let call = |call: u32, id: &str, name: &str| Event::ToolCallStart {
        choice: 0,
        call,
        id: id.into(),
        name: name.into(),
        kind: ToolKind::Function,
        signature: None,
    };
    let arguments = |call: u32, text: &str| Event::ToolCallDelta { choice: 0, call, arguments: text.into() };
    let raw = Some("tool_use".to_owned());
    assert_eq!(
        expected,
        [
            Event::Start { id: String::new(), model: String::new(), created: 0 },
            Event::ChoiceStart { choice: 0, role: Role::Assistant },
            thought("hm", None, None),
            thought("", Some("s1"), None),
            thought("", None, Some("AAAA")),
            Event::Text { choice: 0, text: "h\u{e9}".into() },
            Event::Text { choice: 0, text: "llo".into() },
            call(0, "t1", "f"),
            arguments(0, "{\"a\":"),
            arguments(0, "1}"),
            call(1, "t2", "g"),
            arguments(1, "{}"),
            Event::Finish {
                choice: 0,
                finish: crate::chat::Finish { reason: FinishReason::ToolCalls, raw, stop_sequence: None }
            },
            Event::Usage(Usage { input: 10, cached_read: 30, output: 5, ..Usage::default() }),
            Event::Other {
                choice: None,
                fields: [("trace".to_owned(), json!({"guardrail": {}}))].into_iter().collect()
            },
            Event::End,
        ]
    );
    for cut in 0..=bytes.len() {
        assert_eq!(decode(&[&bytes[..cut], &bytes[cut..]]).unwrap(), expected, "cut at {cut}");
    }
    let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode(&bytewise).unwrap(), expected);
}

#[test]
fn a_stream_that_breaks_off_is_truncated() {
    let bytes = whole();
    let stop = stream(&[("messageStop", json!({"stopReason": "end_turn"}))]);
    let end = bytes.len() - event("metadata", &json!({})).len();
    for cut in [0, 10, 200, end] {
        assert_eq!(decode(&[&bytes[..cut]]).unwrap_err().kind, FaultKind::Truncated, "cut at {cut}");
    }
    // Without counts it is complete all the same.
    let events = decode(&[&stream(&[("messageStart", json!({"role": "assistant"}))]), &stop]).unwrap();
    assert_eq!(events.last(), Some(&Event::End));
}

#[test]
fn exceptions_end_the_stream_with_their_own_fault() {
    let start = stream(&[("messageStart", json!({"role": "assistant"}))]);
    for (bytes, kind) in [
        (exception("throttlingException", &json!({"message": "Too many requests"})), FaultKind::RateLimited),
        (
            exception("modelStreamErrorException", &json!({"message": "x", "originalStatusCode": 500})),
            FaultKind::ServerError,
        ),
        (
            exception("validationException", &json!({"message": "Input is too long"})),
            FaultKind::ContextTooLong,
        ),
        (
            aws_message(
                &[
                    (":message-type", "error"),
                    (":error-code", "ServiceUnavailable"),
                    (":error-message", "busy"),
                ],
                b"",
            ),
            FaultKind::Overloaded,
        ),
        (stream(&[("messageStop", json!({"stopReason": "malformed_tool_use"}))]), FaultKind::ServerError),
        (event("contentBlockDelta", &json!("nonsense")), FaultKind::Malformed),
        (b"data: {}\n\ndata: {}\n\n".to_vec(), FaultKind::Malformed),
    ] {
        let fault = decode(&[&start, &bytes]).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
    }
}

#[test]
fn tools_of_the_provider_are_kept_whole_and_never_the_clients() {
    let bytes = stream(&[
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "s1", "name": "nova_grounding", "type": "server_tool_use"}}}),
        ),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{\"q\":1}"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 1, "start": {"toolResult": {"toolUseId": "s1", "status": "success"}}}),
        ),
        ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": {"toolResult": [{"text": "found"}]}})),
        ("contentBlockStop", json!({"contentBlockIndex": 1})),
        ("contentBlockDelta", json!({"contentBlockIndex": 2, "delta": {"text": "so"}})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 2, "delta": {"citation": {"title": "A", "location": {"web": {"url": "https://a"}}}}}),
        ),
        (
            "messageStop",
            json!({"stopReason": "stop_sequence", "additionalModelResponseFields": {"delta": {"stop_sequence": "END"}}}),
        ),
    ]);
    let events = decode(&[&bytes]).unwrap();
    let foreign: Vec<&Value> = events
        .iter()
        .filter_map(|event| match event {
            Event::Foreign { value, .. } | Event::Citation { value, .. } => Some(value),
            _ => None,
        })
        .collect();
    let call =
        json!({"toolUseId": "s1", "name": "nova_grounding", "type": "server_tool_use", "input": {"q": 1}});
    let result = json!({"toolUseId": "s1", "status": "success", "content": [{"text": "found"}]});
    assert_eq!(
        foreign,
        [
            &json!({"type": "toolUse", "toolUse": call}),
            &json!({"type": "toolResult", "toolResult": result}),
            &json!({"type": "url_citation", "url_citation": {"url": "https://a", "title": "A"}}),
        ]
    );
    let stop = events.iter().find_map(|event| match event {
        Event::Finish { finish, .. } => finish.stop_sequence.clone(),
        _ => None,
    });
    assert_eq!(stop.as_deref(), Some("END"));
    assert!(!events.iter().any(|event| matches!(event, Event::ToolCallStart { .. })));
}

#[test]
fn a_character_that_was_cut_in_halves_is_one_again() {
    let cut = |delta: &str| {
        let headers = [(":event-type", "contentBlockDelta"), (":message-type", "event")];
        aws_message(&headers, format!("{{\"contentBlockIndex\":0,\"delta\":{delta}}}").as_bytes())
    };
    let start = json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}});
    let body = [
        cut(r#"{"reasoningContent":{"text":"a\ud83d"}}"#),
        cut(r#"{"reasoningContent":{"text":"\ude00b"}}"#),
        cut(r#"{"text":"c\ud83d"}"#),
        cut(r#"{"text":"\ude00d\ud83d e"}"#),
        event("contentBlockStart", &start),
        cut(r#"{"toolUse":{"input":"{\"q\":\"\ud83d"}}"#),
        cut(r#"{"toolUse":{"input":"\ude00\"}"}}"#),
        event("messageStop", &json!({"stopReason": "tool_use"})),
        event("metadata", &json!({"usage": {"inputTokens": 1, "outputTokens": 1}})),
    ]
    .concat();
    let (mut thought, mut text, mut arguments) = (String::new(), String::new(), String::new());
    for event in decode(&[&body]).unwrap() {
        match event {
            Event::Thinking { text, .. } => thought += &text,
            Event::Text { text: piece, .. } => text += &piece,
            Event::ToolCallDelta { arguments: piece, .. } => arguments += &piece,
            _ => {}
        }
    }
    assert_eq!((&*thought, &*text, &*arguments), ("a😀b", "c😀d\u{fffd} e", "{\"q\":\"😀\"}"));
}

#[test]
fn what_a_text_cites_is_told_after_it() {
    let cited = json!({"citation": {"title": "A", "location": {"web": {"url": "https://a"}}}});
    for ended in [true, false] {
        let mut all = vec![
            ("messageStart", json!({"role": "assistant"})),
            ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": cited})),
            ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": "said"}})),
        ];
        if ended {
            all.push(("contentBlockStop", json!({"contentBlockIndex": 0})));
        }
        all.push(("messageStop", json!({"stopReason": "end_turn"})));
        let said = decode(&[&stream(&all)]).unwrap();
        let at = |wanted: fn(&Event) -> bool| said.iter().position(wanted).unwrap();
        let text = at(|event| matches!(event, Event::Text { .. }));
        let citation = at(|event| matches!(event, Event::Citation { .. }));
        let finish = at(|event| matches!(event, Event::Finish { .. }));
        assert!(text < citation && citation < finish, "{said:?}");
    }
}

//! Real traffic of Anthropic's through relay and decoder, compared with a plain reading of the raw JSON.
//!
//! The recordings are not part of this repository: `TOLLGATE_FIXTURES` names their folder.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Anthropic;
use crate::chat::{Answer, Event, Part, Usage};
use crate::fault::{Fault, FaultKind};
use crate::providers::recorded::{self, Case};
use crate::providers::{CountTokens, Frame, Provider, QuirkSettings, Relay};

/// What a message says, in the simplest terms.
#[derive(Debug, Default, PartialEq, Clone)]
struct Said {
    text: String,
    thought: String,
    signatures: Vec<String>,
    calls: Vec<(String, String, Value)>,
    foreign: Vec<Value>,
    citations: Vec<Value>,
    stop: String,
    sequence: Option<String>,
    /// Prompt, completion, cache reads, cache writes.
    usage: [u64; 4],
}

fn cases() -> Vec<Case> {
    recorded::cases(&["anthropic"], &[])
}

fn anthropic() -> Anthropic {
    Anthropic::new(QuirkSettings::default())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn read_block(block: &Value, said: &mut Said) {
    match block["type"].as_str().unwrap() {
        "text" => {
            said.text.push_str(block["text"].as_str().unwrap());
            said.citations.extend(block["citations"].as_array().cloned().unwrap_or_default());
        }
        "thinking" => {
            said.thought.push_str(block["thinking"].as_str().unwrap());
            said.signatures.push(text(&block["signature"]));
        }
        "redacted_thinking" => said.signatures.push(text(&block["data"])),
        "tool_use" => said.calls.push((text(&block["id"]), text(&block["name"]), block["input"].clone())),
        _ => said.foreign.push(block.clone()),
    }
}

fn counted(usage: &Value) -> [u64; 4] {
    let n = |key: &str| usage[key].as_u64().unwrap_or(0);
    let (read, written) = (n("cache_read_input_tokens"), n("cache_creation_input_tokens"));
    [n("input_tokens") + read + written, n("output_tokens"), read, written]
}

fn read_whole(body: &str) -> Said {
    let body: Value = serde_json::from_str(body).unwrap();
    let mut said = Said {
        stop: text(&body["stop_reason"]),
        sequence: body["stop_sequence"].as_str().map(str::to_owned),
        usage: counted(&body["usage"]),
        ..Said::default()
    };
    body["content"].as_array().unwrap().iter().for_each(|block| read_block(block, &mut said));
    said
}

/// The message that a stream says, put together as Anthropic's SDK does.
fn read_stream(text_of: &str) -> Said {
    let (mut said, mut blocks, mut usage): (Said, Vec<Value>, Value) = Default::default();
    for line in text_of.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(line).unwrap();
        let at = usize::try_from(event["index"].as_u64().unwrap_or(0)).unwrap();
        let mut append = |key: &str, more: &Value| {
            let old = text(&blocks[at][key]);
            blocks[at][key] = (old + more.as_str().unwrap()).into();
        };
        match event["type"].as_str().unwrap() {
            "message_start" => usage = event["message"]["usage"].clone(),
            "content_block_start" => blocks.push(event["content_block"].clone()),
            "content_block_delta" => match event["delta"]["type"].as_str().unwrap() {
                "text_delta" => append("text", &event["delta"]["text"]),
                "thinking_delta" => append("thinking", &event["delta"]["thinking"]),
                "signature_delta" => append("signature", &event["delta"]["signature"]),
                "input_json_delta" => append("json", &event["delta"]["partial_json"]),
                "citations_delta" => {
                    let mut list = blocks[at]["citations"].as_array().cloned().unwrap_or_default();
                    list.push(event["delta"]["citation"].clone());
                    blocks[at]["citations"] = list.into();
                }
                other => panic!("{other}"),
            },
            "message_delta" => {
                said.stop = text(&event["delta"]["stop_reason"]);
                said.sequence = event["delta"]["stop_sequence"].as_str().map(str::to_owned);
                for (key, value) in event["usage"].as_object().unwrap() {
                    usage[key] = value.clone();
                }
            }
            _ => {}
        }
    }
    for mut block in blocks {
        if let Some(json) =
            block.as_object_mut().unwrap().shift_remove("json").as_ref().and_then(Value::as_str)
            && !json.is_empty()
        {
            block["input"] = serde_json::from_str(json).unwrap();
        }
        read_block(&block, &mut said);
    }
    said.usage = counted(&usage);
    said
}

fn classes(usage: Option<Usage>) -> [u64; 4] {
    usage.map_or([0; 4], |u| [u.prompt(), u.output, u.cached_read, u.cache_write])
}

fn of_answer(answer: &Answer) -> Said {
    of_events(&answer.clone().into_events())
}

fn of_events(events: &[Event]) -> Said {
    let mut said = Said::default();
    let mut usage = None;
    for event in events {
        match event {
            Event::Text { text, .. } => said.text.push_str(text),
            Event::Thinking { text, signature, redacted, .. } => {
                said.thought.push_str(text);
                said.signatures.extend(signature.clone().or(redacted.clone()));
            }
            Event::ToolCallStart { call, id, name, .. } => {
                assert_eq!(*call as usize, said.calls.len());
                said.calls.push((id.clone(), name.clone(), json!("")));
            }
            Event::ToolCallDelta { call, arguments, .. } => {
                let place = &mut said.calls[*call as usize].2;
                *place = (text(place) + arguments.as_str()).into();
            }
            Event::Foreign { value, .. } => said.foreign.push(value.clone()),
            Event::Citation { value, .. } => said.citations.push(value.clone()),
            Event::Finish { finish, .. } => {
                said.stop = finish.raw.clone().unwrap();
                said.sequence.clone_from(&finish.stop_sequence);
            }
            Event::Usage(counted) => usage = Some(*counted),
            _ => {}
        }
    }
    for call in &mut said.calls {
        call.2 = serde_json::from_str(call.2.as_str().unwrap()).unwrap();
    }
    said.usage = classes(usage);
    said
}

fn relayed(body: &[u8], size: usize) -> (Vec<Frame>, Result<(), Fault>, Option<Usage>, Option<&'static str>) {
    let provider = anthropic();
    let mut relay = provider.stream(false);
    let mut frames = Vec::new();
    let mut result = Ok(());
    for chunk in body.chunks(size) {
        result = relay.feed(Bytes::copy_from_slice(chunk), &mut frames);
        if result.is_err() {
            break;
        }
    }
    let result = result.and_then(|()| relay.finish(&mut frames));
    assert_eq!(relay.is_complete(), result.is_ok());
    (frames, result, relay.usage(), relay.finish_reason())
}

fn joined(frames: &[Frame]) -> String {
    String::from_utf8(frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect()).unwrap()
}

fn decoded(body: &[u8], size: usize) -> (Vec<Event>, Result<(), Fault>) {
    let mut decoder = anthropic().stream_decoder();
    let mut events = Vec::new();
    for chunk in body.chunks(size) {
        if let Err(fault) = decoder.feed(chunk, &mut events) {
            return (events, Err(fault));
        }
    }
    let result = decoder.finish(&mut events);
    (events, result)
}

#[test]
fn whole_messages_say_what_the_raw_json_says() {
    for case in cases().iter().filter(|c| c.op == "messages" && !c.stream && c.status == 200) {
        let expected = read_whole(&case.text);
        let answer = anthropic().decode(case.text.as_bytes()).unwrap_or_else(|f| panic!("{}: {f}", case.id));
        assert_eq!(of_answer(&answer), expected, "{}", case.id);
        let server = answer.choices[0].content.iter().filter(|part| matches!(part, Part::Other(_))).count();
        assert_eq!(server, expected.foreign.len(), "{}", case.id);

        let relay = Relay::whole(&anthropic(), Bytes::from(case.text.clone())).unwrap();
        assert_eq!(relay.body, case.text.trim().as_bytes(), "{} goes on untouched", case.id);
        assert_eq!(classes(relay.usage), expected.usage, "{}", case.id);

        // The same message where a stream was asked for.
        let provider = anthropic();
        let (mut stream, mut frames) = (provider.stream(false), Vec::new());
        stream.whole(Bytes::from(case.text.clone()), &mut frames).unwrap();
        assert!(stream.is_complete(), "{}", case.id);
        assert_eq!(read_stream(&joined(&frames)), expected, "{} as a stream", case.id);
    }
}

#[test]
fn streams_say_what_the_raw_events_say_however_they_are_cut() {
    for case in cases().iter().filter(|c| c.stream && c.status == 200 && !c.text.contains("event: error")) {
        let expected = read_stream(&case.text);
        let sizes: &[usize] =
            if case.text.len() < 20_000 { &[1, 2, 3, 7, 64, 1 << 20] } else { &[1, 64, 1 << 20] };
        for &size in sizes {
            let (events, result) = decoded(case.text.as_bytes(), size);
            result.unwrap_or_else(|fault| panic!("{} at {size}: {fault}", case.id));
            assert_eq!(of_events(&events), expected, "{} at {size}", case.id);
            assert_eq!(events.last(), Some(&Event::End));

            let (frames, result, usage, finish) = relayed(case.text.as_bytes(), size);
            result.unwrap_or_else(|fault| panic!("{} at {size}: {fault}", case.id));
            assert_eq!(joined(&frames).trim_end(), case.text.trim_end(), "{} goes on untouched", case.id);
            assert_eq!(classes(usage), expected.usage, "{} at {size}", case.id);
            assert!(finish.is_some(), "{}", case.id);
        }
    }
}

#[test]
fn a_recorded_stream_cut_anywhere_before_its_end_is_truncated() {
    for case in cases().iter().filter(|c| c.stream && c.status == 200 && c.text.len() < 6_000) {
        let Some(end) = case.text.find("data: {\"type\":\"message_stop\"") else { continue };
        for cut in (0..end).step_by(3) {
            let (_, result) = decoded(&case.text.as_bytes()[..cut], 64);
            assert_eq!(result.unwrap_err().kind, FaultKind::Truncated, "{} at {cut}", case.id);
            let (frames, result, ..) = relayed(&case.text.as_bytes()[..cut], 64);
            assert_eq!(result.unwrap_err().kind, FaultKind::Truncated, "{} at {cut}", case.id);
            assert!(!joined(&frames).contains("message_stop"), "{} at {cut}", case.id);
        }
    }
}

#[test]
fn an_error_inside_a_stream_is_a_fault_and_no_frame() {
    for case in cases().iter().filter(|c| c.text.contains("event: error")) {
        for size in [1, 1 << 20] {
            let (frames, result, usage, _) = relayed(case.text.as_bytes(), size);
            let fault = result.unwrap_err();
            assert_eq!((fault.kind, fault.client_status()), (FaultKind::Overloaded, 503), "{}", case.id);
            assert!(!joined(&frames).contains("error") && usage.is_some(), "{}", case.id);
            assert_eq!(decoded(case.text.as_bytes(), size).1.unwrap_err().kind, FaultKind::Overloaded);
        }
    }
}

#[test]
fn recorded_errors_get_their_kind() {
    for case in cases().iter().filter(|c| c.status != 200) {
        let fault = anthropic().fault(case.status, &case.headers, case.text.as_bytes());
        let expected = match case.status {
            400 => (FaultKind::BadRequest, 400),
            401 => (FaultKind::Credentials, 502),
            404 => (FaultKind::NotFound, 404),
            529 => (FaultKind::Overloaded, 503),
            other => panic!("{}: {other}", case.id),
        };
        assert_eq!((fault.kind, fault.client_status()), expected, "{}: {fault}", case.id);
    }
}

#[test]
fn recorded_counts_pass() {
    for case in cases().iter().filter(|c| c.op == "count_tokens" && c.status == 200) {
        let count = CountTokens::whole(&anthropic(), Bytes::from(case.text.clone())).unwrap();
        assert_eq!(count.body, case.text.as_bytes(), "{}", case.id);
    }
}

#[test]
fn damaged_traffic_never_breaks_more_than_itself() {
    let mut dice = fastrand::Rng::with_seed(7);
    let provider = anthropic();
    for case in cases().iter().filter(|c| c.text.len() < 8_000) {
        for _ in 0..40 {
            let mut bytes = case.text.clone().into_bytes();
            for _ in 0..dice.usize(1..4) {
                if bytes.len() < 2 {
                    break;
                }
                let at = dice.usize(..bytes.len());
                match dice.u8(..3) {
                    0 => bytes[at] = dice.u8(..),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let size = dice.usize(1..200);
            let _ = (decoded(&bytes, size).1, relayed(&bytes, size).1);
            let _ = (provider.decode(&bytes), Relay::whole(&provider, bytes.clone().into()));
            let _ = (
                CountTokens::whole(&provider, bytes.clone().into()),
                provider.stream(true).whole(bytes.into(), &mut Vec::new()),
            );
            provider.fault(case.status, &case.headers, case.text.as_bytes());
        }
    }
}

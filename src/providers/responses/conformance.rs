//! Recorded traffic through the relay, the decoder and the stream decoder, against a reading of its own.

use bytes::Bytes;
use serde_json::Value;

use super::Responses;
use crate::chat::{Event, FinishReason, Part, Usage, proof};
use crate::fault::{Fault, FaultKind};
use crate::providers::recorded::{Case, cases};
use crate::providers::{Frame, Provider, QuirkSettings, Relay};

/// What an answer says, however it was read.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    id: String,
    model: String,
    text: String,
    refusal: String,
    thought: String,
    /// Id and encrypted content of reasoning.
    proofs: Vec<(String, String)>,
    /// Id, name and arguments.
    calls: Vec<(String, String, String)>,
    citations: usize,
    /// Types of items of built-in tools.
    others: Vec<String>,
    finish: String,
    /// Input without cache, cached, output, reasoning.
    usage: Option<[u64; 4]>,
}

fn provider() -> Responses {
    Responses::new(QuirkSettings { encrypted_by: Some("them".into()), ..QuirkSettings::default() })
}

/// The independent reading: straight from the response object.
fn reading(response: &Value) -> Heard {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut heard = Heard { id: text(&response["id"]), model: text(&response["model"]), ..Heard::default() };
    for item in response["output"].as_array().unwrap() {
        match item["type"].as_str().unwrap() {
            "message" => {
                for part in item["content"].as_array().unwrap() {
                    heard.text += &text(&part["text"]);
                    heard.refusal += &text(&part["refusal"]);
                    heard.citations += part["annotations"].as_array().map_or(0, Vec::len);
                }
            }
            "reasoning" => {
                let parts: Vec<_> =
                    item["summary"].as_array().unwrap().iter().map(|part| text(&part["text"])).collect();
                heard.thought += &parts.join("\n\n");
                if let Some(encrypted) = item["encrypted_content"].as_str() {
                    heard.proofs.push((text(&item["id"]), encrypted.to_owned()));
                }
            }
            "function_call" => {
                heard.calls.push((text(&item["call_id"]), text(&item["name"]), text(&item["arguments"])));
            }
            other => heard.others.push(other.to_owned()),
        }
    }
    heard.finish = match (response["status"].as_str(), heard.calls.is_empty()) {
        (Some("completed"), true) => "stop",
        (Some("completed"), false) => "tool_calls",
        _ => "length",
    }
    .to_owned();
    let count = |path: &str| response["usage"].pointer(path).and_then(Value::as_u64).unwrap_or(0);
    heard.usage = response["usage"].is_object().then(|| {
        let cached = count("/input_tokens_details/cached_tokens");
        [
            count("/input_tokens") - cached,
            cached,
            count("/output_tokens"),
            count("/output_tokens_details/reasoning_tokens"),
        ]
    });
    heard
}

fn classes(usage: Usage) -> [u64; 4] {
    [usage.input, usage.cached_read, usage.output, usage.reasoning]
}

fn proven(signature: Option<&str>, heard: &mut Heard) {
    let proofs = signature.map(|signature| proof::for_responses("them", signature).unwrap());
    heard.proofs.extend(proofs.map(|(id, encrypted)| (id.to_owned(), encrypted.to_owned())));
}

fn decoded(body: &[u8]) -> Heard {
    let answer = provider().decode(body).unwrap();
    let mut heard = Heard { id: answer.id, model: answer.model, ..Heard::default() };
    let choice = answer.choices.into_iter().next().unwrap();
    for part in choice.content {
        match part {
            Part::Text { text, citations, .. } => {
                heard.text += &text;
                heard.citations += citations.len();
            }
            Part::Refusal(text) => heard.refusal += &text,
            Part::Thinking { text, signature, .. } => {
                heard.thought += &text;
                proven(signature.as_deref(), &mut heard);
            }
            Part::ToolCall { id, name, arguments, .. } => heard.calls.push((id, name, arguments)),
            Part::Other(value) => heard.others.push(value["type"].as_str().unwrap().to_owned()),
            other => panic!("{other:?}"),
        }
    }
    heard.finish = choice.finish.unwrap().reason.word().to_owned();
    heard.usage = answer.usage.map(classes);
    heard
}

fn streamed<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<Heard, Fault> {
    let mut decoder = provider().stream_decoder();
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk, &mut events)?;
    }
    decoder.finish(&mut events)?;
    assert_eq!(events.last(), Some(&Event::End));
    assert!(matches!(events.first(), Some(Event::Start { .. })));
    let mut heard = Heard::default();
    for event in events {
        match event {
            Event::Start { id, model, .. } => (heard.id, heard.model) = (id, model),
            Event::Text { text, .. } => heard.text += &text,
            Event::Refusal { text, .. } => heard.refusal += &text,
            Event::Thinking { text, signature, .. } => {
                heard.thought += &text;
                proven(signature.as_deref(), &mut heard);
            }
            Event::ToolCallStart { call, id, name, .. } => {
                assert_eq!(call as usize, heard.calls.len());
                heard.calls.push((id, name, String::new()));
            }
            Event::ToolCallDelta { call, arguments, .. } => heard.calls[call as usize].2 += &arguments,
            Event::Citation { .. } => heard.citations += 1,
            Event::Foreign { value, .. } => heard.others.push(value["type"].as_str().unwrap().to_owned()),
            Event::Finish { finish, .. } => heard.finish = finish.reason.word().to_owned(),
            Event::Usage(usage) => heard.usage = Some(classes(usage)),
            _ => {}
        }
    }
    Ok(heard)
}

/// Ways to cut a body: at every byte where it is small.
fn cuts(body: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut cuts: Vec<Vec<&[u8]>> =
        [1, 3, 61, 1_000, 1 << 20].iter().map(|size| body.chunks(*size).collect()).collect();
    if body.len() < 8_000 {
        cuts.extend((0..body.len()).map(|at| vec![&body[..at], &body[at..]]));
    }
    cuts
}

/// The reading of a stream: the response in its last event, with reasoning as its items had it, because OpenAI
/// encrypts it anew for the last event.
fn reading_of_stream(stream: &str) -> Heard {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
    let last = events.iter().rev().find(|event| !event["response"].is_null()).unwrap();
    let mut response = last["response"].clone();
    for event in events.iter().filter(|event| event["type"] == "response.output_item.done") {
        let at = usize::try_from(event["output_index"].as_u64().unwrap()).unwrap();
        if event["item"]["type"] == "reasoning" {
            assert_eq!(response["output"][at]["id"], event["item"]["id"]);
            response["output"][at] = event["item"].clone();
        }
    }
    reading(&response)
}

fn recorded() -> Vec<Case> {
    cases(&["openai", "xai"], &["responses"])
}

#[test]
fn every_recorded_response_is_relayed_untouched_and_decoded_right() {
    for case in recorded().iter().filter(|case| case.status == 200 && !case.stream) {
        let expected = reading(&serde_json::from_str(&case.text).unwrap());
        let relayed = Relay::whole(&provider(), Bytes::from(case.text.clone())).unwrap();
        assert_eq!(relayed.body, case.text.trim(), "{}", case.id);
        assert_eq!(relayed.usage.map(classes), expected.usage, "{}", case.id);
        assert_eq!(relayed.finish, Some(&*expected.finish), "{}", case.id);
        assert_eq!(decoded(case.text.as_bytes()), expected, "{}", case.id);
        // The same answer where a stream was asked for.
        let mut relay = Relay::stream(&provider(), true);
        let mut out = Vec::new();
        relay.whole(Bytes::from(case.text.clone()), &mut out).unwrap();
        relay.finish(&mut out).unwrap();
        assert_eq!(streamed(std::iter::once(&*joined(&out))).unwrap(), expected, "{}", case.id);
    }
}

fn joined(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect()
}

#[test]
fn every_recorded_stream_is_relayed_untouched_and_decoded_right() {
    for case in recorded().iter().filter(|case| case.status == 200 && case.stream) {
        let expected = reading_of_stream(&case.text);
        let body = case.text.as_bytes();
        for cut in cuts(body) {
            let got = streamed(cut.iter().copied()).unwrap_or_else(|fault| panic!("{}: {fault}", case.id));
            assert_eq!(got, expected, "{}", case.id);

            let mut relay = Relay::stream(&provider(), true);
            let mut out = Vec::new();
            for chunk in &cut {
                relay.feed(Bytes::copy_from_slice(chunk), &mut out).unwrap();
            }
            relay.finish(&mut out).unwrap();
            assert_eq!(
                String::from_utf8_lossy(&joined(&out)).trim_end(),
                case.text.trim_end(),
                "{}",
                case.id
            );
            assert_eq!(relay.usage().map(classes), expected.usage, "{}", case.id);
            assert_eq!(relay.finish_reason(), Some(&*expected.finish), "{}", case.id);
            assert!(relay.is_complete() && out.iter().any(|frame| frame.content), "{}", case.id);
        }
    }
}

#[test]
fn a_recorded_stream_that_breaks_off_is_truncated() {
    for case in recorded().iter().filter(|case| case.status == 200 && case.stream) {
        let end = case.text.rfind("event: response.completed").unwrap();
        for at in [end, end / 2, end / 3] {
            let body = &case.text.as_bytes()[..at];
            let fault = streamed(std::iter::once(body)).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Truncated, "{} at {at}", case.id);
            let mut relay = Relay::stream(&provider(), true);
            let mut out = Vec::new();
            relay.feed(Bytes::copy_from_slice(body), &mut out).unwrap();
            assert_eq!(relay.finish(&mut out).unwrap_err().kind, FaultKind::Truncated, "{}", case.id);
        }
    }
}

#[test]
fn every_recorded_error_gets_its_kind() {
    for case in recorded().iter().filter(|case| case.status != 200) {
        let fault = provider().fault(case.status, &case.headers, case.text.as_bytes());
        let key = case.status == 401 || case.text.contains("API key");
        let expected = if key { FaultKind::Credentials } else { FaultKind::BadRequest };
        assert_eq!(fault.kind, expected, "{}: {fault}", case.id);
    }
}

#[test]
fn an_answer_without_its_pieces_is_heard_all_the_same() {
    let item = r#"{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":"{\"a\":1}"}"#;
    let message = r#"{"type":"message","content":[{"type":"output_text","text":"hi","annotations":[{"type":"url_citation","url":"u"}]}]}"#;
    let thought =
        r#"{"type":"reasoning","id":"rs","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]}"#;
    let last = |output: &str| {
        format!(
            "data: {{\"type\":\"response.completed\",\"response\":{{\"id\":\"r\",\"model\":\"m\",\"status\":\"completed\",\"output\":[{output}]}}}}\n\n"
        )
    };
    let done = |at: u32, item: &str| {
        format!("data: {{\"type\":\"response.output_item.done\",\"output_index\":{at},\"item\":{item}}}\n\n")
    };
    let args = |kind: &str, key: &str| {
        format!(
            "data: {{\"type\":\"response.output_item.added\",\"output_index\":2,\"item\":{{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"\"}}}}\n\n\
             data: {{\"type\":\"response.function_call_arguments.{kind}\",\"output_index\":2,\"{key}\":\"{{\\\"a\\\":1}}\"}}\n\n"
        )
    };
    let all = [thought, message, item].join(",");
    let whole = format!("{}{}", done(0, thought), done(1, message));
    for stream in [
        last(&all),
        format!("{whole}{}{}", done(2, item), last(&all)),
        format!("{whole}{}{}", args("delta", "delta"), last("")),
        format!("{whole}{}{}{}", args("done", "arguments"), done(2, item), last(&all)),
        format!("{whole}{}{}{}", args("delta", "delta"), done(2, item), last(&all)),
    ] {
        let heard = streamed(std::iter::once(stream.as_bytes())).unwrap();
        assert_eq!((&*heard.text, &*heard.thought, heard.citations), ("hi", "hm", 1), "{stream}");
        assert_eq!(heard.calls, [("c".to_owned(), "f".to_owned(), r#"{"a":1}"#.to_owned())], "{stream}");
        assert_eq!(heard.finish, FinishReason::ToolCalls.word(), "{stream}");
    }
}

//! Stories of responses: the order of their events, and that whole and stream say the same.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::chat::{Choice, Part};
use crate::fault::FaultKind;
use crate::json::Body;

fn given(request: &str) -> Arc<Given> {
    Arc::new(Given::read(&Body::read(Bytes::from(request.to_owned())).unwrap()))
}

fn encoder(request: &str) -> ResponseEncoder {
    ResponseEncoder::new(given(request), None)
}

/// The events of a stream: name and data. Their numbers count up from 0 without a gap.
fn told(bytes: &[u8]) -> Vec<(String, Value)> {
    let text = std::str::from_utf8(bytes).unwrap();
    let events: Vec<(String, Value)> = text
        .split_terminator("\n\n")
        .map(|event| {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            let name = name.strip_prefix("event: ").unwrap();
            assert_eq!(data["type"], name);
            (name.to_owned(), data)
        })
        .collect();
    for (at, (_, data)) in events.iter().enumerate() {
        assert_eq!(data["sequence_number"], at, "{events:#?}");
    }
    events
}

fn streamed(request: &str, events: &[Event]) -> Vec<(String, Value)> {
    let (mut encoder, mut out) = (encoder(request), Vec::new());
    events.iter().for_each(|event| encoder.encode(event, &mut out));
    told(&out)
}

fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(name, _)| name.strip_prefix("response.").unwrap_or(name)).collect()
}

/// The last event's response, with what differs from run to run made the same.
fn last(events: &[(String, Value)]) -> Value {
    let mut response = events.last().unwrap().1["response"].clone();
    same_for_all(&mut response);
    response
}

fn same_for_all(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match &**key {
                    "id" => {
                        let id = value.as_str().unwrap();
                        let (kind, _) = id.split_once('_').unwrap();
                        let (_, number) = id.split_at(id.len().saturating_sub(2));
                        *value = if kind == "resp" { kind.into() } else { format!("{kind}{number}").into() };
                    }
                    "created_at" | "completed_at" if value.is_number() => *value = 1.into(),
                    _ => same_for_all(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(same_for_all),
        _ => {}
    }
}

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.into() }
}

fn thinking(text: &str, signature: Option<&str>) -> Event {
    Event::Thinking { choice: 0, text: text.into(), signature: signature.map(Into::into), redacted: None }
}

fn call(call: u32, name: &str, kind: ToolKind, signature: Option<&str>) -> Event {
    let signature = signature.map(Into::into);
    Event::ToolCallStart { choice: 0, call, id: format!("call_{call}"), name: name.into(), kind, signature }
}

fn arguments(call: u32, arguments: &str) -> Event {
    Event::ToolCallDelta { choice: 0, call, arguments: arguments.into() }
}

fn finish(reason: FinishReason) -> Event {
    Event::Finish { choice: 0, finish: reason.into() }
}

fn start() -> Event {
    Event::Start { id: "x".into(), model: "m-1".into(), created: 1 }
}

const ASK: &str = r#"{"model":"m","input":"hi"}"#;

#[test]
fn a_text_is_told_in_openais_order() {
    let usage = Usage { input: 3, cached_read: 4, output: 5, reasoning: 2, ..Usage::default() };
    let events = streamed(
        ASK,
        &[start(), text("Hel"), text("lo"), finish(FinishReason::Stop), Event::Usage(usage), Event::End],
    );
    assert_eq!(
        names(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed"
        ]
    );
    let (_, created) = &events[0];
    assert_eq!(
        (&created["response"]["status"], &created["response"]["usage"]),
        (&json!("in_progress"), &Value::Null)
    );
    let (_, delta) = &events[4];
    assert_eq!(
        (&delta["delta"], &delta["output_index"], &delta["content_index"], &delta["logprobs"]),
        (&json!("Hel"), &json!(0), &json!(0), &json!([]))
    );
    assert_eq!(delta["item_id"], events[2].1["item"]["id"]);
    assert_eq!(
        last(&events),
        json!({
            "id": "resp", "object": "response", "created_at": 1, "status": "completed", "completed_at": 1,
            "error": null, "incomplete_details": null, "model": "m-1",
            "output": [{"id": "msg01", "type": "message", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}]}],
            "background": false, "instructions": null, "max_output_tokens": null, "max_tool_calls": null,
            "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null,
            "reasoning": {"effort": null, "summary": null}, "safety_identifier": null,
            "service_tier": "default", "store": true, "temperature": 1.0,
            "text": {"format": {"type": "text"}, "verbosity": "medium"}, "tool_choice": "auto", "tools": [],
            "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": null, "metadata": {},
            "usage": {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
                "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 12},
        })
    );
}

#[test]
fn thoughts_calls_and_their_proofs_are_items_of_their_own() {
    let events = streamed(
        ASK,
        &[
            start(),
            thinking("h", None),
            thinking("m", None),
            thinking("", Some("sig")),
            text("ok"),
            call(0, "f", ToolKind::Function, Some("gs")),
            arguments(0, "{\"a\":"),
            call(1, "g", ToolKind::Function, None),
            arguments(0, "1}"),
            finish(FinishReason::ToolCalls),
            Event::End,
        ],
    );
    assert_eq!(
        last(&events)["output"],
        json!([
            {"id": "rs01", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "tollgate:signature:sig"},
            {"id": "msg02", "type": "message", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "ok"}]},
            {"id": "rs03", "type": "reasoning", "summary": [], "encrypted_content": "tollgate:call:call_0\ngs"},
            {"id": "fc04", "type": "function_call", "status": "completed", "call_id": "call_0", "name": "f",
                "arguments": "{\"a\":1}"},
            {"id": "fc05", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "g",
                "arguments": "{}"},
        ])
    );
    let of_thought: Vec<_> =
        names(&events).into_iter().filter(|name| name.starts_with("reasoning")).collect();
    assert_eq!(
        of_thought,
        [
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done"
        ]
    );
    // Every item that begins is done, at its place.
    let place = |name: &str| -> Vec<u64> {
        let mut found: Vec<_> = events
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, data)| data["output_index"].as_u64().unwrap())
            .collect();
        found.sort_unstable();
        found
    };
    assert_eq!(place("response.output_item.added"), [0, 1, 2, 3, 4]);
    assert_eq!(place("response.output_item.done"), [0, 1, 2, 3, 4]);
}

#[test]
fn a_whole_response_says_what_its_stream_says() {
    let content = vec![
        Part::Thinking { text: "hm".into(), signature: Some("s".into()), redacted: None },
        Part::Thinking { text: String::new(), signature: None, redacted: Some("r".into()) },
        Part::Text {
            text: "see".into(),
            cache: None,
            citations: vec![
                json!({"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 3}),
            ],
        },
        Part::Other(json!({"type": "server_tool_use", "id": "s1"})),
        Part::ToolCall {
            id: "c".into(),
            name: "patch".into(),
            arguments: r#"{"input":"*** Begin"}"#.into(),
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        },
    ];
    let choice = Choice { content, finish: Some(FinishReason::ToolCalls.into()), ..Choice::default() };
    let answer = Answer {
        model: "m-1".into(),
        choices: vec![choice],
        usage: Some(Usage::default()),
        ..Answer::default()
    };
    let ask = r#"{"model":"m","input":"hi","tools":[{"type":"custom","name":"patch"}]}"#;
    let mut whole: Value = serde_json::from_slice(&encoder(ask).whole(answer.clone())).unwrap();
    same_for_all(&mut whole);
    let events = streamed(ask, &answer.into_events());
    assert_eq!(last(&events), whole);
    assert_eq!(whole["output"][4]["input"], "*** Begin");
    assert_eq!(whole["output"][4]["type"], "custom_tool_call");
    assert_eq!(whole["output"][2]["content"][0]["annotations"][0]["url"], "u");
    assert!(names(&events).contains(&"custom_tool_call_input.delta"));
    assert!(names(&events).contains(&"output_text.annotation.added"));
}

#[test]
fn what_a_model_paints_is_an_item() {
    let image = |url: &str| json!({"images": [{"type": "image_url", "image_url": {"url": url}}]});
    let fields = |url: &str| image(url).as_object().unwrap().clone();
    let painted = Event::Other { choice: Some(0), fields: fields("data:image/png;base64,AAAA") };
    let events = streamed(ASK, &[start(), text("see"), painted, finish(FinishReason::Stop), Event::End]);
    let response = last(&events);
    let item = &response["output"][1];
    assert_eq!((&item["type"], &item["result"]), (&json!("image_generation_call"), &json!("AAAA")));
    assert_eq!((&item["output_format"], &item["status"]), (&json!("png"), &json!("completed")));
    assert!((TONGUE.field)("images", &image("data:image/png;base64,AAAA")["images"]));
    assert!(!(TONGUE.field)("images", &image("https://x/a.png")["images"]));
}

#[test]
fn what_is_cut_off_is_incomplete() {
    for (reason, expected) in [
        (FinishReason::Length, Some("max_output_tokens")),
        (FinishReason::ContextExceeded, Some("max_output_tokens")),
        (FinishReason::ContentFilter, Some("content_filter")),
        (FinishReason::Pause, None),
        (FinishReason::Other, None),
    ] {
        let events = streamed(ASK, &[start(), text("x"), finish(reason), Event::End]);
        let response = last(&events);
        let (status, name) = match expected {
            Some(_) => ("incomplete", "response.incomplete"),
            None => ("completed", "response.completed"),
        };
        assert_eq!(events.last().unwrap().0, name, "{reason:?}");
        assert_eq!((&response["status"], &response["output"][0]["status"]), (&json!(status), &json!(status)));
        assert_eq!(response["incomplete_details"]["reason"], json!(expected));
    }
}

#[test]
fn a_refusal_is_an_answer() {
    let refusal = Event::Refusal { choice: 0, text: "no".into() };
    let events =
        streamed(ASK, &[start(), text("a"), refusal, finish(FinishReason::ContentFilter), Event::End]);
    let response = last(&events);
    assert_eq!(response["status"], "completed");
    assert_eq!(response["output"][0]["content"][1], json!({"type": "refusal", "refusal": "no"}));
    let (_, delta) = events.iter().find(|(name, _)| name == "response.refusal.delta").unwrap();
    assert_eq!((&delta["content_index"], delta.get("logprobs")), (&json!(1), None));
}

#[test]
fn log_probabilities_come_with_their_text() {
    let ask = r#"{"model":"m","input":"hi","top_logprobs":1}"#;
    let token = json!({"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []});
    let logprobs = Event::Logprobs { choice: 0, value: json!({"content": [token], "refusal": null}) };
    let events =
        streamed(ask, &[start(), text("a"), logprobs, text("b"), finish(FinishReason::Stop), Event::End]);
    let deltas: Vec<_> = events.iter().filter(|(name, _)| name == "response.output_text.delta").collect();
    assert_eq!((&deltas[0].1["delta"], &deltas[0].1["logprobs"]), (&json!("a"), &json!([token])));
    assert_eq!((&deltas[1].1["delta"], &deltas[1].1["logprobs"]), (&json!("b"), &json!([])));
    let part = &last(&events)["output"][0]["content"][0];
    assert_eq!((&part["text"], &part["logprobs"]), (&json!("ab"), &json!([token])));
}

#[test]
fn a_fault_after_the_head_fails_the_response() {
    let (mut encoder, mut out) = (encoder(ASK), Vec::new());
    for event in [start(), thinking("hm", None), text("half")] {
        encoder.encode(&event, &mut out);
    }
    out.extend_from_slice(&encoder.fault(&Fault::new(FaultKind::RateLimited, "slow down")));
    encoder.encode(&Event::End, &mut out);
    let events = told(&out);
    let [.., (_, error), (name, failed)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(
        (&error["code"], &error["error"]["code"]),
        (&json!("rate_limit_exceeded"), &json!("rate_limit_exceeded"))
    );
    assert_eq!((name.as_str(), &failed["response"]["status"]), ("response.failed", &json!("failed")));
    assert_eq!(failed["response"]["error"], json!({"code": "rate_limit_exceeded", "message": "slow down"}));
    assert_eq!(failed["response"]["output"].as_array().unwrap().len(), 1, "only what was done");
    assert_eq!(told(&ResponseEncoder::unstarted(&Fault::new(FaultKind::Internal, "x"))).len(), 2);
}

#[test]
fn a_function_of_a_namespace_is_called_by_its_own_name() {
    let ask = r#"{"model":"m","input":"hi","tools":[{"type":"namespace","name":"crm","tools":[{"type":"function","name":"find"}]}]}"#;
    let events = streamed(ask, &[start(), call(0, "crm__find", ToolKind::Function, None), Event::End]);
    let item = &last(&events)["output"][0];
    assert_eq!((&item["name"], &item["namespace"]), (&json!("find"), &json!("crm")));
}

//! Real traffic of Cohere's through encoder and decoder, compared with a plain reading of the raw JSON.
//!
//! The recordings are not part of this repository: `TOLLGATE_FIXTURES` names their folder.

use serde_json::{Value, json};

use super::Cohere;
use crate::chat::{
    Answer, Event, FinishReason, Message, Object, Part, Request, Role, Sampling, Tool, ToolKind, Usage, proof,
};
use crate::fault::{Fault, FaultKind};
use crate::providers::recorded::{self, Case};
use crate::providers::{Provider, QuirkSettings};
use crate::target::TargetName;

/// What an answer says, in the simplest terms.
#[derive(Debug, Default, PartialEq, Clone)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) thought: String,
    pub(super) planned: bool,
    pub(super) calls: Vec<(String, String, Value)>,
    pub(super) citations: Vec<Value>,
    pub(super) finish: Option<FinishReason>,
    /// All input, cached input, all output, reasoning.
    pub(super) usage: Option<[u64; 4]>,
}

pub(super) fn cohere() -> Cohere {
    Cohere::new(QuirkSettings::default())
}

fn cases() -> Vec<Case> {
    recorded::cases(&["cohere"], &["native-chat"])
}

fn counted(usage: Usage) -> [u64; 4] {
    [usage.prompt(), usage.cached_read, usage.output, usage.reasoning]
}

fn finish_of(word: &Value) -> Option<FinishReason> {
    Some(match word.as_str()? {
        "MAX_TOKENS" => FinishReason::Length,
        "TOOL_CALL" => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    })
}

fn usage_of(usage: &Value) -> Option<[u64; 4]> {
    let tokens = &usage["tokens"];
    Some([
        tokens["input_tokens"].as_u64()?,
        usage["cached_tokens"].as_u64().unwrap_or(0),
        tokens["output_tokens"].as_u64()?,
        tokens["reasoning_tokens"].as_u64().unwrap_or(0),
    ])
}

fn arguments(text: &str) -> Value {
    match serde_json::from_str(text).unwrap_or(Value::Null) {
        Value::Null => json!({}),
        other => other,
    }
}

/// The plain reading of a whole answer.
fn read(text: &str) -> Said {
    let answer: Value = serde_json::from_str(text).unwrap();
    let message = &answer["message"];
    let joined = |kind: &str| {
        let parts = message["content"].as_array().into_iter().flatten();
        parts.filter_map(|part| part[kind].as_str()).collect::<String>()
    };
    let plan = message["tool_plan"].as_str().unwrap_or_default();
    let call = |call: &Value| {
        let function = &call["function"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&call["id"]), text(&function["name"]), arguments(&text(&function["arguments"])))
    };
    Said {
        text: joined("text"),
        thought: plan.to_owned() + joined("thinking").as_str(),
        planned: !plan.is_empty(),
        calls: message["tool_calls"].as_array().into_iter().flatten().map(call).collect(),
        citations: message["citations"].as_array().cloned().unwrap_or_default(),
        finish: finish_of(&answer["finish_reason"]),
        usage: usage_of(&answer["usage"]),
    }
}

/// The plain reading of a stream.
fn read_stream(text: &str) -> Said {
    let mut said = Said::default();
    let mut texts: Vec<String> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let message = &event["delta"]["message"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        said.text += &text(&message["content"]["text"]);
        said.thought += &text(&message["content"]["thinking"]);
        if event["type"] == "tool-plan-delta" {
            said.thought += &text(&message["tool_plan"]);
            said.planned = true;
        }
        let call = &message["tool_calls"];
        match event["type"].as_str().unwrap() {
            "tool-call-start" => {
                said.calls.push((text(&call["id"]), text(&call["function"]["name"]), Value::Null));
                texts.push(text(&call["function"]["arguments"]));
            }
            "tool-call-delta" => *texts.last_mut().unwrap() += &text(&call["function"]["arguments"]),
            "citation-start" => said.citations.push(message["citations"].clone()),
            "message-end" => {
                said.finish = finish_of(&event["delta"]["finish_reason"]);
                said.usage = usage_of(&event["delta"]["usage"]);
            }
            _ => {}
        }
    }
    for (call, text) in said.calls.iter_mut().zip(&texts) {
        call.2 = arguments(text);
    }
    said
}

pub(super) fn said_by(answer: &Answer) -> Said {
    let mut said = Said { usage: answer.usage.map(counted), ..Said::default() };
    let [choice] = answer.choices.as_slice() else { panic!("{answer:#?}") };
    said.finish = choice.finish.as_ref().map(|finish| finish.reason);
    for part in &choice.content {
        match part {
            Part::Text { text, citations, .. } => {
                said.text.push_str(text);
                said.citations.extend(citations.iter().filter_map(super::cite::own).cloned());
            }
            Part::Thinking { text, signature, .. } => {
                said.thought.push_str(text);
                said.planned |= signature.as_deref() == Some(proof::COHERE_PLAN);
            }
            Part::ToolCall { id, name, arguments, .. } => {
                let arguments = serde_json::from_str(arguments).unwrap();
                said.calls.push((id.clone(), name.clone(), arguments));
            }
            other => panic!("{other:?}"),
        }
    }
    said
}

pub(super) fn said_in(events: &[Event]) -> Said {
    let mut said = Said::default();
    let mut texts: Vec<String> = Vec::new();
    for event in events {
        match event {
            Event::Text { text, .. } => said.text.push_str(text),
            Event::Thinking { text, signature, .. } => {
                said.thought.push_str(text);
                said.planned |= signature.as_deref() == Some(proof::COHERE_PLAN);
            }
            Event::ToolCallStart { id, name, call, .. } => {
                assert_eq!(*call as usize, said.calls.len());
                said.calls.push((id.clone(), name.clone(), Value::Null));
                texts.push(String::new());
            }
            Event::ToolCallDelta { call, arguments, .. } => texts[*call as usize].push_str(arguments),
            Event::Citation { value, .. } => said.citations.extend(super::cite::own(value).cloned()),
            Event::Finish { finish, .. } => said.finish = Some(finish.reason),
            Event::Usage(usage) => said.usage = Some(counted(*usage)),
            _ => {}
        }
    }
    for (call, text) in said.calls.iter_mut().zip(&texts) {
        call.2 = serde_json::from_str(text).unwrap();
    }
    said
}

pub(super) fn decoded(chunks: &[&[u8]]) -> Result<Vec<Event>, Fault> {
    recorded::decoded(cohere().stream_decoder(), chunks)
}

#[test]
fn whole_answers_say_what_the_provider_said() {
    for case in cases().iter().filter(|case| !case.stream && case.status == 200) {
        let expected = read(&case.text);
        let answer = cohere().decode(case.text.as_bytes()).unwrap_or_else(|f| panic!("{}: {f}", case.id));
        assert_eq!(said_by(&answer), expected, "{}", case.id);
        assert_eq!(said_in(&answer.clone().into_events()), expected, "{} as events", case.id);
        assert!(!answer.id.is_empty() && answer.rest.contains_key("billed_units"), "{}", case.id);
    }
}

#[test]
fn streams_say_the_same_however_they_are_cut() {
    for case in cases().iter().filter(|case| case.stream && case.status == 200) {
        let expected = read_stream(&case.text);
        let body = case.text.as_bytes();
        let check = |chunks: &[&[u8]], how: &str| {
            let events = decoded(chunks).unwrap_or_else(|fault| panic!("{} {how}: {fault}", case.id));
            assert_eq!(said_in(&events), expected, "{} {how}", case.id);
            assert!(matches!(events.first(), Some(Event::Start { .. })), "{}", case.id);
            assert_eq!(events.last(), Some(&Event::End), "{}", case.id);
        };
        check(&[body], "in one piece");
        check(&body.chunks(1).collect::<Vec<_>>(), "byte by byte");
        // Every split of small bodies, some of large ones.
        for at in (0..body.len()).step_by((body.len() / 600).max(1)) {
            check(&[&body[..at], &body[at..]], &format!("at {at}"));
        }
        let last = case.text.find("event: message-end").unwrap();
        for at in (0..last).step_by((last / 400).max(1)) {
            let fault = decoded(&[&body[..at]]).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Truncated, "{} cut at {at}", case.id);
        }
    }
}

#[test]
fn errors_are_told_apart() {
    for case in cases().iter().filter(|case| case.status >= 400) {
        let fault = cohere().fault(case.status, &case.headers, case.text.as_bytes());
        let expected = match case.status {
            400 => FaultKind::ContextTooLong,
            401 => FaultKind::Credentials,
            404 => FaultKind::NotFound,
            other => panic!("{}: {other}", case.id),
        };
        assert_eq!(fault.kind, expected, "{}: {fault}", case.id);
    }
}

/// The canonical request that a recorded one means, read in the plainest way.
fn asked(body: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let parts = |content: &Value| match content {
        Value::String(text) => vec![Part::text(text.clone())],
        list => list.as_array().unwrap().iter().map(|part| Part::text(text(&part["text"]))).collect(),
    };
    let message = |message: &Value| {
        let mut content = parts(&message["content"]);
        let role = match message["role"].as_str().unwrap() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => Role::Tool,
        };
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            content.push(Part::ToolCall {
                id: text(&call["id"]),
                name: text(&call["function"]["name"]),
                arguments: text(&call["function"]["arguments"]),
                kind: ToolKind::Function,
                signature: None,
                cache: None,
            });
        }
        if role == Role::Tool {
            let id = text(&message["tool_call_id"]);
            content = vec![Part::ToolResult { id, content, is_error: false, cache: None }];
        }
        Message { role, content, name: None, rest: Object::new() }
    };
    let tool = |tool: &Value| Tool {
        name: text(&tool["function"]["name"]),
        description: tool["function"]["description"].as_str().map(str::to_owned),
        parameters: Some(tool["function"]["parameters"].clone()),
        strict: None,
        kind: ToolKind::Function,
        cache: None,
        rest: Object::new(),
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rest = Object::new();
    if body["documents"].is_array() {
        rest.insert("documents".into(), body["documents"].clone());
    }
    Request {
        stream: body["stream"] == true,
        messages: list(&body["messages"]).iter().map(message).collect(),
        tools: list(&body["tools"]).iter().map(tool).collect(),
        sampling: Sampling {
            stop: list(&body["stop_sequences"]).iter().map(text).collect(),
            ..Sampling::default()
        },
        rest,
        ..Request::default()
    }
}

/// Contents as lists, and without empty texts, which say nothing.
fn levelled(mut body: Value) -> Value {
    for message in body["messages"].as_array_mut().unwrap() {
        let fields = message.as_object_mut().unwrap();
        if let Some(Value::String(text)) = fields.get("content") {
            let list = json!([{ "type": "text", "text": text }]);
            fields.insert("content".into(), list);
        }
        let empty = json!([{ "type": "text", "text": "" }]);
        if fields.get("content") == Some(&empty) {
            fields.shift_remove("content");
        }
    }
    body
}

#[test]
fn requests_are_those_that_were_recorded() {
    for case in cases().iter().filter(|case| case.request["messages"].is_array()) {
        let target =
            TargetName::parse(&format!("cohere/{}", case.request["model"].as_str().unwrap())).unwrap();
        let outgoing = cohere().encode(&asked(&case.request), &target).unwrap();
        let sent: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        assert_eq!(levelled(sent), levelled(case.request.clone()), "{}", case.id);
        assert_eq!((outgoing.path.as_str(), outgoing.lost.as_slice()), ("/chat", &[][..]), "{}", case.id);
    }
}

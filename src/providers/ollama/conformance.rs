//! Real traffic of Ollama's own API through encoder and decoder, compared with a plain reading of the raw JSON.
//!
//! The recordings are not part of this repository: `TOLLGATE_FIXTURES` names their folder.

use serde_json::{Value, json};

use super::Ollama;
use crate::chat::{
    Answer, Event, FinishReason, Message, Object, Part, Request, Role, Sampling, Tool, ToolKind,
};
use crate::fault::{Fault, FaultKind};
use crate::json::Body;
use crate::providers::recorded::{self, Case};
use crate::providers::{Embeddings, Provider, QuirkSettings};
use crate::target::TargetName;

/// What an answer says, in the simplest terms.
#[derive(Debug, Default, PartialEq, Clone)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) thought: String,
    pub(super) calls: Vec<(String, Value)>,
    pub(super) ids: Vec<String>,
    pub(super) finish: Option<FinishReason>,
    pub(super) usage: Option<[u64; 2]>,
}

pub(super) fn ollama() -> Ollama {
    Ollama::new(QuirkSettings::default())
}

fn cases() -> Vec<Case> {
    recorded::cases(&["ollama"], &["ollama-chat"])
}

fn read(body: &str) -> Said {
    let mut said = Said::default();
    for line in body.lines().filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_str(line).unwrap();
        let message = &line["message"];
        said.text += message["content"].as_str().unwrap_or_default();
        said.thought += message["thinking"].as_str().unwrap_or_default();
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            said.calls.push((function["name"].as_str().unwrap().to_owned(), function["arguments"].clone()));
            said.ids.extend(call["id"].as_str().map(str::to_owned));
        }
        if line["done"] == true {
            said.finish = Some(match line["done_reason"].as_str().unwrap() {
                "length" => FinishReason::Length,
                _ if !said.calls.is_empty() => FinishReason::ToolCalls,
                _ => FinishReason::Stop,
            });
            let count = |key: &str| line[key].as_u64().unwrap();
            said.usage = Some([count("prompt_eval_count"), count("eval_count")]);
        }
    }
    said
}

pub(super) fn said_by(answer: &Answer) -> Said {
    said_in(&answer.clone().into_events())
}

pub(super) fn said_in(events: &[Event]) -> Said {
    let mut said = Said::default();
    for event in events {
        match event {
            Event::Text { text, .. } => said.text.push_str(text),
            Event::Thinking { text, .. } => said.thought.push_str(text),
            Event::ToolCallStart { id, name, call, .. } => {
                assert_eq!(*call as usize, said.calls.len());
                assert!(!id.is_empty() && !said.ids.contains(id), "{id}");
                said.calls.push((name.clone(), Value::Null));
                said.ids.push(id.clone());
            }
            Event::ToolCallDelta { call, arguments, .. } => {
                said.calls[*call as usize].1 = serde_json::from_str(arguments).unwrap();
            }
            Event::Finish { finish, .. } => said.finish = Some(finish.reason),
            Event::Usage(usage) => said.usage = Some([usage.prompt(), usage.output]),
            _ => {}
        }
    }
    said
}

pub(super) fn decoded(chunks: &[&[u8]]) -> Result<Vec<Event>, Fault> {
    recorded::decoded(ollama().stream_decoder(), chunks)
}

#[test]
fn whole_answers_say_what_the_provider_said() {
    for case in cases().iter().filter(|case| case.status == 200) {
        // A stream that came where a whole was asked for says the same.
        let answer = ollama().decode(case.text.as_bytes()).unwrap_or_else(|f| panic!("{}: {f}", case.id));
        assert_eq!(said_by(&answer), read(&case.text), "{}", case.id);
        assert!(answer.created > 1_700_000_000 && !answer.model.is_empty(), "{}", case.id);
    }
}

#[test]
fn streams_say_the_same_however_they_are_cut() {
    for case in cases().iter().filter(|case| case.stream && case.status == 200) {
        let expected = read(&case.text);
        let body = case.text.as_bytes();
        let check = |chunks: &[&[u8]], how: &str| {
            let events = decoded(chunks).unwrap_or_else(|fault| panic!("{} {how}: {fault}", case.id));
            assert_eq!(said_in(&events), expected, "{} {how}", case.id);
            assert!(matches!(events.first(), Some(Event::Start { .. })), "{}", case.id);
            assert_eq!(events.last(), Some(&Event::End), "{}", case.id);
        };
        check(&body.chunks(1).collect::<Vec<_>>(), "byte by byte");
        // Every split of small bodies, some of large ones.
        for at in (0..body.len()).step_by((body.len() / 600).max(1)) {
            check(&[&body[..at], &body[at..]], &format!("at {at}"));
        }
        let last = case.text.trim_end().len();
        for at in (0..last).step_by((last / 400).max(1)) {
            let fault = decoded(&[&body[..at]]).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Truncated, "{} cut at {at}", case.id);
        }
    }
}

#[test]
fn a_missing_model_is_not_found() {
    for case in cases().iter().filter(|case| case.status >= 400) {
        let fault = ollama().fault(case.status, &case.headers, case.text.as_bytes());
        assert_eq!(fault.kind, FaultKind::NotFound, "{}: {fault}", case.id);
        assert!(fault.message.contains("not found"), "{}: {fault}", case.id);
    }
}

#[test]
fn embeddings_keep_every_number() {
    for case in recorded::cases(&["ollama"], &["embeddings"]).iter().filter(|case| case.status == 200) {
        let raw: Value = serde_json::from_str(&case.text).unwrap();
        let relayed = Embeddings::whole(&ollama(), case.text.clone().into(), false).unwrap();
        let body: Value = serde_json::from_slice(&relayed.body).unwrap();
        assert_eq!(body["data"][0]["embedding"], raw["embeddings"][0], "{}", case.id);
        assert_eq!(
            (&body["model"], &body["usage"]["prompt_tokens"]),
            (&raw["model"], &raw["prompt_eval_count"])
        );
        let asked = Body::read(case.request.to_string().into()).unwrap();
        let target = TargetName::parse("ollama/nomic-embed-text").unwrap();
        let sent = Embeddings::splice(&ollama(), &asked, &target).unwrap();
        assert_eq!(sent.path, "/api/embed");
        assert_eq!(
            serde_json::from_slice::<Value>(&sent.body.concat()).unwrap(),
            case.request,
            "{}",
            case.id
        );
    }
}

/// The canonical request that a recorded one means, read in the plainest way.
fn asked(body: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut calls = 0;
    let mut messages = Vec::new();
    for message in body["messages"].as_array().unwrap() {
        let mut content = vec![Part::text(text(&message["content"]))];
        let role = match message["role"].as_str().unwrap() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => Role::Tool,
        };
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            calls += 1;
            content.push(Part::ToolCall {
                id: format!("c{calls}"),
                name: text(&call["function"]["name"]),
                arguments: call["function"]["arguments"].to_string(),
                kind: ToolKind::Function,
                signature: None,
                cache: None,
            });
        }
        if role == Role::Tool {
            content =
                vec![Part::ToolResult { id: format!("c{calls}"), content, is_error: false, cache: None }];
        }
        messages.push(Message { role, content, name: None, rest: Object::new() });
    }
    let tool = |tool: &Value| Tool {
        name: text(&tool["function"]["name"]),
        description: tool["function"]["description"].as_str().map(str::to_owned),
        parameters: Some(tool["function"]["parameters"].clone()),
        strict: None,
        kind: ToolKind::Function,
        cache: None,
        rest: Object::new(),
    };
    let options = &body["options"];
    Request {
        stream: body["stream"] != false,
        messages,
        tools: body["tools"].as_array().into_iter().flatten().map(tool).collect(),
        sampling: Sampling {
            temperature: options["temperature"].as_f64(),
            seed: options["seed"].as_i64(),
            ..Sampling::default()
        },
        max_output_tokens: options["num_predict"].as_u64(),
        ..Request::default()
    }
}

/// Without what says nothing, and without the ids and names that newer versions know.
fn levelled(mut body: Value) -> Value {
    let fields = body.as_object_mut().unwrap();
    fields.entry("stream").or_insert(json!(true));
    fields.retain(|_, value| ![json!(null), json!(""), json!([]), json!({})].contains(value));
    for option in fields.get_mut("options").and_then(Value::as_object_mut).into_iter().flatten() {
        *option.1 = json!(option.1.as_f64());
    }
    for message in fields["messages"].as_array_mut().unwrap() {
        let message = message.as_object_mut().unwrap();
        message.shift_remove("tool_name");
        message.shift_remove("tool_call_id");
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            call.as_object_mut().unwrap().shift_remove("id");
            call["function"].as_object_mut().unwrap().shift_remove("index");
        }
    }
    body
}

#[test]
fn requests_are_those_that_were_recorded() {
    for case in cases() {
        let target =
            TargetName::parse(&format!("ollama/{}", case.request["model"].as_str().unwrap())).unwrap();
        let outgoing = ollama().encode(&asked(&case.request), &target).unwrap();
        let sent: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        assert_eq!(levelled(sent), levelled(case.request.clone()), "{}", case.id);
        assert_eq!((outgoing.path.as_str(), outgoing.lost.as_slice()), ("/api/chat", &[][..]), "{}", case.id);
    }
}

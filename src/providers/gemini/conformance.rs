//! Real traffic of the Gemini API and of Vertex AI through relay and decoder, compared with a plain reading of the raw
//! JSON.
//!
//! The recordings are not part of this repository: `TOLLGATE_FIXTURES` names their folder.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Gemini;
use crate::chat::{Answer, Event, FinishReason, Part, Usage, proof};
use crate::fault::{Fault, FaultKind};
use crate::providers::recorded::{self, Case};
use crate::providers::{Embeddings, Frame, Provider, QuirkSettings, Relay};

/// What an answer says, in the simplest terms.
#[derive(Debug, Default, PartialEq, Clone)]
pub(super) struct Said {
    choices: BTreeMap<u64, ChoiceSaid>,
    /// All input, cached input, all output, reasoning.
    usage: Option<[u64; 4]>,
}

#[derive(Debug, Default, PartialEq, Clone)]
pub(super) struct ChoiceSaid {
    text: String,
    thought: String,
    calls: Vec<(String, Value)>,
    signatures: Vec<String>,
    foreign: Vec<Value>,
    citations: usize,
    finish: Option<FinishReason>,
}

fn gemini() -> Gemini {
    Gemini::new(QuirkSettings::default())
}

fn cases(op: &str) -> Vec<Case> {
    recorded::cases(&["gemini", "vertex"], &[op])
}

/// The documents of a body, read in the plainest way.
fn documents(body: &str) -> Vec<Value> {
    match serde_json::from_str(body) {
        Ok(Value::Array(list)) => list,
        Ok(one) => vec![one],
        Err(_) => body
            .replace("\r\n", "\n")
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .map(|json| serde_json::from_str(json).unwrap())
            .collect(),
    }
}

/// The plain reading.
fn read(body: &str) -> Said {
    let mut said = Said::default();
    for document in documents(body) {
        for (place, candidate) in document["candidates"].as_array().into_iter().flatten().enumerate() {
            let index = candidate["index"].as_u64().unwrap_or(place as u64);
            let choice = said.choices.entry(index).or_default();
            for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
                if let Some(text) = part["text"].as_str() {
                    let place = if part["thought"] == true { &mut choice.thought } else { &mut choice.text };
                    place.push_str(text);
                } else if part["functionCall"].is_object() {
                    let call = &part["functionCall"];
                    let args = if call["args"].is_null() { json!({}) } else { call["args"].clone() };
                    choice.calls.push((call["name"].as_str().unwrap().to_owned(), args));
                } else {
                    choice.foreign.push(part.clone());
                    continue;
                }
                choice.signatures.extend(part["thoughtSignature"].as_str().map(str::to_owned));
            }
            let supports =
                candidate["groundingMetadata"]["groundingSupports"].as_array().into_iter().flatten();
            let cited: usize =
                supports.map(|s| s["groundingChunkIndices"].as_array().map_or(0, Vec::len)).sum();
            choice.citations = choice.citations.max(cited);
            choice.finish = match &candidate["finishReason"] {
                Value::Null => choice.finish,
                word if word == "MAX_TOKENS" || word == 2 => Some(FinishReason::Length),
                word if word == "SAFETY" || word == "MODEL_ARMOR" => Some(FinishReason::ContentFilter),
                _ if !choice.calls.is_empty() => Some(FinishReason::ToolCalls),
                _ => Some(FinishReason::Stop),
            };
        }
        let usage = &document["usageMetadata"];
        let n = |key: &str| usage[key].as_u64().unwrap_or(0);
        let thoughts = n("thoughtsTokenCount");
        let counted = [
            n("promptTokenCount") + n("toolUsePromptTokenCount"),
            n("cachedContentTokenCount"),
            n("candidatesTokenCount") + thoughts,
            thoughts,
        ];
        if counted != [0; 4] {
            said.usage = Some(counted);
            if usage["promptTokenCount"].is_u64() {
                assert_eq!(usage["totalTokenCount"], counted[0] + counted[2], "the convention holds");
            }
        }
    }
    said
}

fn counted(usage: Usage) -> [u64; 4] {
    [usage.prompt(), usage.cached_read, usage.output, usage.reasoning]
}

fn said_by(answer: &Answer) -> Said {
    let mut said = Said { usage: answer.usage.map(counted), ..Said::default() };
    for choice in &answer.choices {
        let mut heard =
            ChoiceSaid { finish: choice.finish.as_ref().map(|f| f.reason), ..ChoiceSaid::default() };
        for part in &choice.content {
            match part {
                Part::Text { text, citations, .. } => {
                    heard.text.push_str(text);
                    heard.citations += citations.len();
                }
                Part::Thinking { text, signature, .. } => {
                    heard.thought.push_str(text);
                    heard
                        .signatures
                        .extend(signature.as_deref().map(|s| proof::for_gemini(s).unwrap().to_owned()));
                }
                Part::ToolCall { id, name, arguments, signature, .. } => {
                    assert!(!id.is_empty());
                    heard.calls.push((name.clone(), serde_json::from_str(arguments).unwrap()));
                    heard.signatures.extend(signature.clone());
                }
                Part::Other(value) => heard.foreign.push(value.clone()),
                other => panic!("{other:?}"),
            }
        }
        said.choices.insert(choice.index.into(), heard);
    }
    said
}

pub(super) fn said_in(events: &[Event]) -> Said {
    let mut said = Said::default();
    let mut ids = std::collections::BTreeSet::new();
    for event in events {
        let choice = match event {
            Event::Start { .. } | Event::Other { choice: None, .. } | Event::End => continue,
            Event::Usage(usage) => {
                said.usage = Some(counted(*usage));
                continue;
            }
            Event::ChoiceStart { choice, .. }
            | Event::Text { choice, .. }
            | Event::Thinking { choice, .. }
            | Event::Refusal { choice, .. }
            | Event::ToolCallStart { choice, .. }
            | Event::ToolCallDelta { choice, .. }
            | Event::Logprobs { choice, .. }
            | Event::Citation { choice, .. }
            | Event::Foreign { choice, .. }
            | Event::Other { choice: Some(choice), .. }
            | Event::Finish { choice, .. } => *choice,
        };
        let heard = said.choices.entry(choice.into()).or_default();
        assert!(heard.finish.is_none(), "nothing follows a choice's end");
        match event {
            Event::Text { text, .. } => heard.text.push_str(text),
            Event::Thinking { text, signature, .. } => {
                heard.thought.push_str(text);
                heard
                    .signatures
                    .extend(signature.as_deref().map(|s| proof::for_gemini(s).unwrap().to_owned()));
            }
            Event::ToolCallStart { id, name, signature, call, .. } => {
                assert!(ids.insert(id.clone()), "ids are unique");
                assert_eq!(*call as usize, heard.calls.len());
                heard.calls.push((name.clone(), Value::Null));
                heard.signatures.extend(signature.clone());
            }
            Event::ToolCallDelta { arguments, call, .. } => {
                heard.calls[*call as usize].1 = serde_json::from_str(arguments).unwrap();
            }
            Event::Citation { .. } => heard.citations += 1,
            Event::Foreign { value, .. } => heard.foreign.push(value.clone()),
            Event::Finish { finish, .. } => heard.finish = Some(finish.reason),
            _ => {}
        }
    }
    said
}

pub(super) fn decoded(chunks: &[&[u8]]) -> Result<Vec<Event>, Fault> {
    recorded::decoded(gemini().stream_decoder(), chunks)
}

/// The client's bytes, the usage and the finish of a relayed stream.
type Heard = (Vec<u8>, Option<[u64; 4]>, Option<&'static str>);

fn relayed(chunks: &[&[u8]]) -> Result<Heard, Fault> {
    let provider = gemini();
    let mut relay = provider.stream(true);
    let mut out: Vec<Frame> = Vec::new();
    for chunk in chunks {
        relay.feed(Bytes::copy_from_slice(chunk), &mut out)?;
    }
    relay.finish(&mut out)?;
    let bytes = out.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
    Ok((bytes, relay.usage().map(counted), relay.finish_reason()))
}

#[test]
fn whole_answers_say_what_the_provider_said() {
    for case in cases("generateContent").iter().filter(|case| !case.stream && case.status == 200) {
        let expected = read(&case.text);
        let answer =
            gemini().decode(case.text.as_bytes()).unwrap_or_else(|fault| panic!("{}: {fault}", case.id));
        assert_eq!(said_by(&answer), expected, "{}", case.id);
        assert_eq!(said_in(&answer.clone().into_events()), expected, "{} as events", case.id);
        let raw = &documents(&case.text)[0];
        assert_eq!(answer.id, raw["responseId"].as_str().unwrap_or_default(), "{}", case.id);
        assert_eq!(answer.model, raw["modelVersion"].as_str().unwrap_or_default(), "{}", case.id);

        let relayed = Relay::whole(&gemini(), Bytes::from(case.text.clone())).unwrap();
        assert_eq!(relayed.body, case.text, "{}: not a byte is changed", case.id);
        assert_eq!(relayed.usage.map(counted), expected.usage, "{}", case.id);
        let finish = expected.choices.values().next().and_then(|choice| choice.finish);
        assert_eq!(relayed.finish, finish.map(FinishReason::word), "{}", case.id);
    }
}

#[test]
fn streams_say_the_same_however_they_are_cut() {
    for case in cases("generateContent").iter().filter(|case| case.stream && case.status == 200) {
        let expected = read(&case.text);
        let body = case.text.as_bytes();
        let check = |chunks: &[&[u8]], how: &str| {
            let events = decoded(chunks).unwrap_or_else(|fault| panic!("{} {how}: {fault}", case.id));
            assert_eq!(said_in(&events), expected, "{} {how}", case.id);
            assert!(matches!(events.first(), Some(Event::Start { .. })), "{}", case.id);
            assert_eq!(events.last(), Some(&Event::End), "{}", case.id);
            let (bytes, usage, finish) = relayed(chunks).unwrap();
            assert_eq!(usage, expected.usage, "{} {how}", case.id);
            let word = expected.choices.values().next().and_then(|choice| choice.finish);
            assert_eq!(finish, word.map(FinishReason::word), "{} {how}", case.id);
            // Blank lines between events may differ; what the events say may not.
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(documents(&text), documents(&case.text), "{} {how}", case.id);
        };
        check(&[body], "in one piece");
        check(&body.chunks(1).collect::<Vec<_>>(), "byte by byte");
        // Every split of small bodies, some of large ones.
        let step = (body.len() / 400).max(1);
        for at in (0..body.len()).step_by(step) {
            check(&[&body[..at], &body[at..]], &format!("at {at}"));
        }
    }
}

#[test]
fn a_stream_that_is_cut_is_truncated() {
    for case in cases("generateContent").iter().filter(|case| case.stream && case.status == 200) {
        let array = case.text.trim_start().starts_with('[');
        let last = if array { case.text.trim_end().len() } else { case.text.rfind("data: ").unwrap() };
        let step = (last / 200).max(1);
        for at in (0..last).step_by(step) {
            let fault = decoded(&[&case.text.as_bytes()[..at]]).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Truncated, "{} at {at}", case.id);
            let fault = relayed(&[&case.text.as_bytes()[..at]]).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Truncated, "{} at {at}", case.id);
        }
    }
}

#[test]
fn errors_are_told_apart() {
    for case in cases("generateContent").iter().filter(|case| case.status >= 400) {
        let fault = gemini().fault(case.status, &case.headers, case.text.as_bytes());
        let expected = match (case.status, &*case.text) {
            (400, text) if text.contains("API_KEY_INVALID") => FaultKind::Credentials,
            (400, text) if text.contains("token count") => FaultKind::ContextTooLong,
            (400, _) => FaultKind::BadRequest,
            (401 | 403, _) => FaultKind::Credentials,
            (404, _) => FaultKind::NotFound,
            (429, _) => FaultKind::RateLimited,
            (503, _) => FaultKind::Overloaded,
            other => panic!("{}: {other:?}", case.id),
        };
        assert_eq!(fault.kind, expected, "{}", case.id);
        assert_eq!(fault.after.is_some(), case.text.contains("retryDelay"), "{}", case.id);
    }
}

#[test]
fn embeddings_keep_every_number() {
    for case in cases("embeddings").iter().filter(|case| case.status == 200) {
        let raw: Value = serde_json::from_str(&case.text).unwrap();
        let ask = |base64| {
            let relayed = Embeddings::whole(&gemini(), Bytes::from(case.text.clone()), base64).unwrap();
            serde_json::from_slice::<Value>(&relayed.body).unwrap()
        };
        let (floats, packed) = (ask(false), ask(true));
        for (place, embedding) in raw["embeddings"].as_array().unwrap().iter().enumerate() {
            assert_eq!(floats["data"][place]["embedding"], embedding["values"], "{}", case.id);
            assert!(packed["data"][place]["embedding"].is_string(), "{}", case.id);
        }
    }
}

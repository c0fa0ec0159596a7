//! Round trips: what a dialect can say comes back from it as the same thing. Requests by way of the provider's encoder
//! and the door's decoder; answers and streams by way of the door's encoder and the provider's decoder.

mod say;

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use say::Dialect;

use super::anthropic_messages::{self, MessageEncoder};
use super::gemini_generate::{self, GeminiEncoder};
use super::openai_chat::{self, ChatEncoder, Fallback};
use crate::chat::{Answer, Event, Part, Request, StreamEncoder};
use crate::json::Body;
use crate::providers::{self, Provider};
use crate::target::TargetName;

fn provider(dialect: Dialect) -> Arc<dyn Provider> {
    // Whoever knows all of the dialect.
    let able = providers::QuirkSettings { custom_tools: true, ..providers::QuirkSettings::default() };
    providers::dialect(dialect.word(), &able).unwrap()
}

fn fallback() -> Fallback {
    Fallback { id: "own".into(), created: 1 }
}

/// The request as the door reads what the provider's encoder writes.
fn returned(dialect: Dialect, request: &Request) -> Request {
    let target = TargetName { provider: "p".into(), model: request.model.as_str().into() };
    let outgoing = provider(dialect).encode(request, &target).unwrap();
    assert!(outgoing.lost.is_empty(), "{:?}", outgoing.lost);
    let body = Body::read(Bytes::from(outgoing.body.concat())).unwrap();
    match dialect {
        Dialect::Chat => openai_chat::decode(&body).unwrap(),
        Dialect::Messages => {
            let decoded = anthropic_messages::decode(&body).unwrap();
            assert!(decoded.lost.is_empty(), "{:?}", decoded.lost);
            decoded.request
        }
        Dialect::Generate => gemini_generate::decode(&body, &request.model, request.stream).unwrap().request,
    }
}

/// The answer as the provider's decoder reads what the door writes.
fn answered(dialect: Dialect, answer: &Answer) -> Answer {
    let body = match dialect {
        Dialect::Chat => openai_chat::encode_answer(answer, &fallback()),
        Dialect::Messages => anthropic_messages::encode_answer(answer, "own"),
        Dialect::Generate => gemini_generate::encode_answer(answer, "own"),
    };
    provider(dialect).decode(&body).unwrap()
}

/// The events as the provider's decoder reads what the door writes, in pieces of these sizes.
fn streamed(dialect: Dialect, events: &[Event], sizes: &[usize]) -> Vec<Event> {
    let mut encoder: Box<dyn StreamEncoder> = match dialect {
        Dialect::Chat => Box::new(ChatEncoder::new(true, fallback())),
        Dialect::Messages => Box::new(MessageEncoder::new("own".into())),
        Dialect::Generate => Box::new(GeminiEncoder::new(false, "own".into())),
    };
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    events.iter().for_each(|event| encoder.encode(event, &mut bytes));
    let mut decoder = provider(dialect).stream_decoder();
    let (mut rest, mut sizes) = (bytes.as_slice(), sizes.iter().cycle());
    while !rest.is_empty() {
        let (piece, more) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
        decoder.feed(piece, &mut out).unwrap();
        rest = more;
    }
    decoder.finish(&mut out).unwrap();
    out
}

/// What the events say, whatever their pieces.
fn gist(events: &[Event]) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    let (mut usage, mut ends) = (None, Vec::new());
    for event in events {
        let (kind, text) = match event {
            Event::Text { choice, text } if !text.is_empty() => (format!("{choice} says: "), text.clone()),
            Event::Refusal { choice, text } => (format!("{choice} refuses: "), text.clone()),
            Event::Thinking { choice, text, signature, redacted } => {
                if let Some(data) = redacted {
                    said.push(format!("{choice} hides {data}"));
                    continue;
                }
                let kind = format!("{choice} thinks: ");
                if !text.is_empty() || signature.is_some() {
                    append(&mut said, &kind, text);
                }
                if let Some(signature) = signature {
                    said.push(format!("{choice} proves {signature}"));
                }
                continue;
            }
            Event::ToolCallStart { choice, call, id, name, signature, .. } => {
                let signature = signature.as_deref().filter(|s| !s.starts_with("dG9sbGdhdGU6"));
                said.push(format!("{choice} calls {call} {id} {name} {signature:?}"));
                continue;
            }
            Event::ToolCallDelta { choice, call, arguments } => {
                (format!("{choice} gives {call}: "), arguments.clone())
            }
            Event::Foreign { choice, value } => {
                said.push(format!("{choice} passes {value}"));
                continue;
            }
            Event::Finish { choice, finish } => {
                ends.push(format!("{choice} ends {:?} {:?}", finish.reason.word(), finish.stop_sequence));
                continue;
            }
            Event::Usage(counted) => {
                usage = Some(*counted);
                continue;
            }
            _ => continue,
        };
        append(&mut said, &kind, &text);
    }
    // Choices may come one after the other or woven together.
    said.sort_by_key(|said| said.split(' ').next().unwrap_or_default().to_owned());
    ends.sort();
    said.extend(ends);
    said.push(format!("{usage:?}"));
    said
}

fn append(said: &mut Vec<String>, kind: &str, text: &str) {
    match said.last_mut() {
        Some(last) if last.starts_with(kind) => last.push_str(text),
        _ => said.push(format!("{kind}{text}")),
    }
}

/// Texts in pieces of a few characters, as providers send them.
fn in_pieces(events: Vec<Event>) -> Vec<Event> {
    let pieces = |text: &str| -> Vec<String> {
        let all: Vec<char> = text.chars().collect();
        all.chunks(3).map(|piece| piece.iter().collect()).collect()
    };
    let mut out = Vec::new();
    for event in events {
        match event {
            Event::Text { choice, text } => {
                out.extend(pieces(&text).into_iter().map(|text| Event::Text { choice, text }));
            }
            Event::ToolCallDelta { choice, call, arguments } => {
                out.extend(pieces(&arguments).into_iter().map(|arguments| Event::ToolCallDelta {
                    choice,
                    call,
                    arguments,
                }))
            }
            other => out.push(other),
        }
    }
    out
}

/// The answer without the mark that Google's door puts on calls which nobody has signed.
fn unmarked(mut answer: Answer) -> Answer {
    for part in answer.choices.iter_mut().flat_map(|choice| &mut choice.content) {
        if let Part::ToolCall { signature, .. } = part
            && signature.as_deref().is_some_and(|signature| signature.starts_with("dG9sbGdhdGU6"))
        {
            *signature = None;
        }
    }
    answer
}

/// The answer as Anthropic's door says it, with texts that follow each other as one.
fn together(dialect: Dialect, mut answer: Answer) -> Answer {
    let is_plain = |part: &Part| matches!(part, Part::Text { citations, .. } if citations.is_empty());
    for choice in answer.choices.iter_mut().filter(|_| dialect == Dialect::Messages) {
        let mut content: Vec<Part> = Vec::new();
        for part in choice.content.drain(..) {
            match (content.last_mut().filter(|last| is_plain(last)), part) {
                (Some(Part::Text { text, .. }), Part::Text { text: more, citations, .. })
                    if citations.is_empty() =>
                {
                    *text = format!("{}{}", text.as_str(), more.as_str()).into();
                }
                (_, part) => content.push(part),
            }
        }
        choice.content = content;
    }
    answer
}

macro_rules! round_trips {
    ($name:ident, $dialect:expr) => {
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

                #[test]
                fn a_request_comes_back(request in say::request($dialect)) {
                    prop_assert_eq!(returned($dialect, &request), request);
                }

                #[test]
                fn an_answer_comes_back(answer in say::answer($dialect)) {
                    prop_assert_eq!(unmarked(answered($dialect, &answer)), together($dialect, answer));
                }

                #[test]
                fn a_stream_comes_back(
                    answer in say::answer($dialect),
                    sizes in prop::collection::vec(1..200usize, 1..6),
                ) {
                    let events = in_pieces(answer.into_events());
                    prop_assert_eq!(gist(&streamed($dialect, &events, &sizes)), gist(&events));
                }
            }
        }
    };
}

round_trips!(openais, Dialect::Chat);
round_trips!(anthropics, Dialect::Messages);
round_trips!(googles, Dialect::Generate);

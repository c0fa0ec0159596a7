//! Real traffic of OpenAI and its imitators through relay and decoder, compared with a plain reading of the raw JSON.
//!
//! The recordings are not part of this repository: `TOLLGATE_FIXTURES` names their folder.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use super::OpenAi;
use crate::chat::{Answer, Event, Part};
use crate::fault::{Fault, FaultKind};
use crate::providers::recorded::{self, Case};
use crate::providers::{Embeddings, Frame, Provider, QuirkSettings, Relay};

const VENDORS: &[&str] = &[
    "openai",
    "azure",
    "avian",
    "cerebras",
    "crusoe",
    "deepseek",
    "gpustack",
    "groq",
    "huggingface",
    "llamacpp",
    "mistral",
    "moonshot",
    "ollama-openai",
    "openrouter",
    "perplexity",
    "qwen",
    "together",
    "vercel-gateway",
    "vllm",
    "xai",
    "zai",
];

/// What an answer says, in the simplest terms.
#[derive(Debug, Default, PartialEq, Clone)]
pub(super) struct Said {
    pub(super) choices: BTreeMap<u64, ChoiceSaid>,
    /// Prompt, completion, cached, reasoning.
    pub(super) usage: Option<[u64; 4]>,
}

#[derive(Debug, Default, PartialEq, Clone)]
pub(super) struct ChoiceSaid {
    pub(super) text: String,
    pub(super) thought: String,
    pub(super) refusal: String,
    pub(super) calls: Vec<(String, Value)>,
    pub(super) finish: String,
}

fn cases() -> Vec<Case> {
    recorded::cases(VENDORS, &["chat", "embeddings"])
}

fn openai() -> OpenAi {
    OpenAi::new(QuirkSettings::default())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter(|p| p["type"] != "thinking").map(|part| text(&part["text"])).collect()
        }
        _ => String::new(),
    }
}

fn thought(message: &Value) -> String {
    let listed: String = message["content"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|part| part["type"] == "thinking")
        .flat_map(|part| part["thinking"].as_array().cloned().unwrap_or_default())
        .map(|part| text(&part["text"]))
        .collect();
    let own = text(&message["reasoning_content"]);
    if own.is_empty() { text(&message["reasoning"]) + listed.as_str() } else { own }
}

fn arguments(raw: &str) -> Value {
    if raw.is_empty() { serde_json::json!({}) } else { serde_json::from_str(raw).unwrap_or(Value::from(raw)) }
}

fn finish(word: &str) -> String {
    if word == "eos" { "stop".into() } else { word.into() }
}

fn counted(body: &Value) -> Option<[u64; 4]> {
    let usage = [&body["usage"], &body["x_groq"]["usage"]].into_iter().find(|usage| usage.is_object())?;
    let n = |value: &Value| value.as_u64().unwrap_or(0);
    let (prompt, completion) = (n(&usage["prompt_tokens"]), n(&usage["completion_tokens"]));
    let reasoning = n(&usage["completion_tokens_details"]["reasoning_tokens"]);
    let cached = [
        &usage["prompt_tokens_details"]["cached_tokens"],
        &usage["num_cached_tokens"],
        &usage["prompt_token_details"]["cached_tokens"],
        &usage["prompt_cache_hit_tokens"],
        &usage["cached_tokens"],
    ]
    .map(n)
    .into_iter()
    .max()?;
    // Outside as xAI has it (the total tells), or as Vercel has it for Gemini (more thinking than completion).
    let total = n(&usage["total_tokens"]);
    let outside = reasoning > completion || reasoning > 0 && total == prompt + completion + reasoning;
    let completion = if outside { completion + reasoning } else { completion };
    Some([prompt, completion, cached.min(prompt), reasoning])
}

pub(super) fn read_whole(body: &str) -> Said {
    let body: Value = serde_json::from_str(body).unwrap();
    let mut said = Said { usage: counted(&body), ..Said::default() };
    for choice in body["choices"].as_array().unwrap() {
        let message = &choice["message"];
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        let mut calls: Vec<_> = calls
            .map(|call| {
                let function = &call["function"];
                (text(&function["name"]), arguments(&text(&function["arguments"])))
            })
            .collect();
        if message["function_call"].is_object() {
            let call = &message["function_call"];
            calls.push((text(&call["name"]), arguments(&text(&call["arguments"]))));
        }
        let one = ChoiceSaid {
            text: text(&message["content"]),
            thought: thought(message),
            refusal: text(&message["refusal"]),
            calls,
            finish: finish(choice["finish_reason"].as_str().unwrap()),
        };
        said.choices.insert(choice["index"].as_u64().unwrap(), one);
    }
    said
}

pub(super) fn read_stream(body: &str) -> Said {
    let mut said = Said::default();
    let mut raw: BTreeMap<(u64, u64), (String, String)> = BTreeMap::new();
    for line in body.lines().filter_map(|line| line.strip_prefix("data:")) {
        if line.trim() == "[DONE]" {
            continue;
        }
        let chunk: Value = serde_json::from_str(line).unwrap();
        said.usage = counted(&chunk).or(said.usage);
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().unwrap();
            let one = said.choices.entry(index).or_default();
            let delta = &choice["delta"];
            one.text += &text(&delta["content"]);
            one.thought += &thought(delta);
            one.refusal += &text(&delta["refusal"]);
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let call_index = call["index"].as_u64().unwrap_or(0);
                let known = raw.entry((index, call_index)).or_default();
                known.0 += &text(&call["function"]["name"]);
                known.1 += &text(&call["function"]["arguments"]);
            }
            if delta["function_call"].is_object() {
                let known = raw.entry((index, 0)).or_default();
                known.0 += &text(&delta["function_call"]["name"]);
                known.1 += &text(&delta["function_call"]["arguments"]);
            }
            if let Some(word) = choice["finish_reason"].as_str() {
                one.finish = finish(word);
            }
        }
    }
    for ((choice, _), (name, raw)) in raw {
        said.choices.get_mut(&choice).unwrap().calls.push((name, arguments(&raw)));
    }
    said
}

/// A canonical answer in the same simple terms.
pub(super) fn of_answer(answer: &Answer) -> Said {
    let mut said = Said::default();
    for choice in &answer.choices {
        let mut one = ChoiceSaid::default();
        for part in &choice.content {
            match part {
                Part::Text { text, .. } => one.text += text,
                Part::Thinking { text, .. } => one.thought += text,
                Part::Refusal(text) => one.refusal += text,
                Part::ToolCall { name, arguments: raw, id, .. } => {
                    assert!(!id.is_empty());
                    one.calls.push((name.clone(), arguments(raw)));
                }
                other => panic!("{other:?}"),
            }
        }
        one.finish = choice.finish.as_ref().unwrap().raw.clone().unwrap();
        said.choices.insert(u64::from(choice.index), one);
    }
    said.usage = answer.usage.map(|u| [u.prompt(), u.output, u.cached_read, u.reasoning]);
    said
}

/// Canonical events in the same simple terms; checks their order on the way.
pub(super) fn of_events(events: &[Event]) -> Said {
    let mut said = Said::default();
    let mut raw: BTreeMap<(u32, u32), (String, String)> = BTreeMap::new();
    assert!(matches!(events.first(), Some(Event::Start { id, .. }) if !id.is_empty()), "{events:?}");
    assert_eq!(events.last(), Some(&Event::End));
    for event in events {
        match event {
            Event::ChoiceStart { choice, .. } => {
                assert!(said.choices.insert(u64::from(*choice), ChoiceSaid::default()).is_none());
            }
            Event::Text { choice, text } => said.choices.get_mut(&u64::from(*choice)).unwrap().text += text,
            Event::Thinking { choice, text, .. } => {
                said.choices.get_mut(&u64::from(*choice)).unwrap().thought += text;
            }
            Event::Refusal { choice, text } => {
                said.choices.get_mut(&u64::from(*choice)).unwrap().refusal += text;
            }
            Event::ToolCallStart { choice, call, name, id, .. } => {
                assert!(!id.is_empty() && !name.is_empty());
                assert!(raw.insert((*choice, *call), (name.clone(), String::new())).is_none());
            }
            Event::ToolCallDelta { choice, call, arguments } => {
                raw.get_mut(&(*choice, *call)).unwrap().1 += arguments;
            }
            Event::Finish { choice, finish } => {
                said.choices.get_mut(&u64::from(*choice)).unwrap().finish = finish.raw.clone().unwrap();
            }
            Event::Usage(u) => said.usage = Some([u.prompt(), u.output, u.cached_read, u.reasoning]),
            _ => {}
        }
    }
    for ((choice, _), (name, raw)) in raw {
        said.choices.get_mut(&u64::from(choice)).unwrap().calls.push((name, arguments(&raw)));
    }
    said
}

/// What the relay makes of a stream cut into chunks of `size` bytes, as one text.
pub(super) fn relayed(
    provider: &OpenAi,
    body: &[u8],
    size: usize,
    include_usage: bool,
) -> (Vec<Frame>, Result<(), Fault>, Option<[u64; 4]>) {
    let mut relay = provider.stream(include_usage);
    let mut out = Vec::new();
    let mut result = Ok(());
    let bytes = Bytes::copy_from_slice(body);
    for start in (0..bytes.len()).step_by(size) {
        result = relay.feed(bytes.slice(start..bytes.len().min(start + size)), &mut out);
        if result.is_err() {
            break;
        }
    }
    let result = result.and_then(|()| relay.finish(&mut out));
    (out, result, relay.usage().map(|u| [u.prompt(), u.output, u.cached_read, u.reasoning]))
}

pub(super) fn joined(frames: &[Frame]) -> String {
    frames.iter().map(|frame| std::str::from_utf8(&frame.bytes).unwrap()).collect()
}

/// Everything that the strictest client of OpenAI's dialect relies on.
pub(super) fn assert_openai_stream(id: &str, text: &str, include_usage: bool) {
    assert!(text.ends_with("data: [DONE]\n\n"), "{id}: {text}");
    let mut stable = None;
    let mut calls: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut roles = BTreeMap::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    for (at, line) in lines.iter().enumerate() {
        let data = line.strip_prefix("data:").unwrap_or_else(|| panic!("{id}: {line}")).trim();
        if data == "[DONE]" {
            assert_eq!(at + 1, lines.len(), "{id}");
            continue;
        }
        let chunk: Value = serde_json::from_str(data).unwrap();
        assert_eq!(chunk["object"], "chat.completion.chunk", "{id}: {data}");
        assert!(chunk["created"].as_u64().is_some_and(|created| created > 0), "{id}: {data}");
        assert!(chunk["model"].is_string(), "{id}: {data}");
        let this = chunk["id"].as_str().unwrap().to_owned();
        assert_eq!(*stable.get_or_insert_with(|| this.clone()), this, "{id}: one id");
        assert!(chunk["x_groq"]["usage"].is_null() && chunk["error"].is_null(), "{id}: {data}");
        let choices = chunk["choices"].as_array().unwrap();
        if choices.is_empty() && chunk.get("moderation").is_none() {
            assert!(
                include_usage && at + 2 == lines.len(),
                "{id}: only the usage chunk has no choices: {data}"
            );
            let usage = &chunk["usage"];
            let n = |key: &str| usage[key].as_u64().unwrap_or_else(|| panic!("{id}: {usage}"));
            assert_eq!(n("prompt_tokens") + n("completion_tokens"), n("total_tokens"), "{id}");
            continue;
        }
        assert!(chunk["usage"].is_null(), "{id}: {data}");
        for choice in choices {
            let index = choice["index"].as_u64().unwrap();
            assert!(choice.get("finish_reason").is_some(), "{id}: {data}");
            assert!(choice.get("message").is_none(), "{id}: {data}");
            let delta = choice["delta"].as_object().unwrap();
            let first = roles.insert(index, ()).is_none();
            assert_eq!(delta.get("role").is_some(), first, "{id}: the role comes once, first: {data}");
            assert!(delta.get("content").is_none_or(|c| c.is_null() || c.is_string()), "{id}: {data}");
            let Some(list) = delta.get("tool_calls") else { continue };
            assert!(!list.as_array().unwrap().is_empty(), "{id}: {data}");
            for call in list.as_array().unwrap() {
                let place = (index, call["index"].as_u64().unwrap());
                assert!(call["function"]["arguments"].is_string(), "{id}: {data}");
                if let Some(known) = calls.get(&place) {
                    assert!(
                        call.get("id").is_none() && call["function"].get("name").is_none(),
                        "{id}: {known} {data}"
                    );
                } else {
                    assert!(!call["function"]["name"].as_str().unwrap().is_empty(), "{id}: {data}");
                    assert_eq!(call["type"], "function", "{id}: {data}");
                    calls.insert(place, call["id"].as_str().unwrap().to_owned());
                }
            }
        }
    }
}

#[test]
fn whole_answers_say_what_the_raw_json_says() {
    for case in cases().iter().filter(|c| c.op == "chat" && !c.stream && c.status == 200) {
        let provider = openai();
        let body = Bytes::from(case.text.clone());
        let relay = Relay::whole(&provider, body.clone());
        let raw: Value = serde_json::from_str(&case.text).unwrap();
        if !raw["error"].is_null() {
            assert_eq!(relay.unwrap_err().kind, FaultKind::ContentFiltered, "{}", case.id);
            continue;
        }
        let expected = read_whole(&case.text);
        let relay = relay.unwrap_or_else(|fault| panic!("{}: {fault}", case.id));
        let text = std::str::from_utf8(&relay.body).unwrap();
        assert_eq!(read_whole(text), expected, "{}", case.id);
        assert_eq!(
            relay.usage.map(|u| [u.prompt(), u.output, u.cached_read, u.reasoning]),
            expected.usage,
            "{}",
            case.id
        );
        assert_eq!(relay.finish.unwrap(), expected.choices[&0].finish, "{}", case.id);
        assert_eq!(of_answer(&provider.decode(&body).unwrap()), expected, "{}", case.id);

        let client: Value = serde_json::from_str(text).unwrap();
        for choice in client["choices"].as_array().unwrap() {
            let message = choice["message"].as_object().unwrap();
            assert!(message.contains_key("content") && !message["content"].is_array(), "{}", case.id);
            assert!(
                message.get("tool_calls").is_none_or(|calls| !calls.as_array().unwrap().is_empty()),
                "{}",
                case.id
            );
        }
        if let Value::Object(raw) = raw {
            let lost: Vec<_> = raw.keys().filter(|key| client.get(*key).is_none()).collect();
            assert!(lost.is_empty(), "{}: {lost:?}", case.id);
        }
        for include_usage in [false, true] {
            let stream = super::whole::as_stream(&body, include_usage, false, 0).unwrap();
            let text = String::from_utf8(stream.body.to_vec()).unwrap();
            assert_openai_stream(&case.id, &text, include_usage);
            let mut streamed = read_stream(&text);
            assert_eq!(streamed.usage.is_some(), include_usage, "{}", case.id);
            streamed.usage = expected.usage;
            if !case.text.contains("function_call\"") {
                assert_eq!(streamed, expected, "{}", case.id);
            }
        }
    }
}

#[test]
fn what_openai_itself_answers_goes_on_untouched() {
    let mut clean = 0;
    for case in
        cases().iter().filter(|c| c.op == "chat" && c.status == 200 && c.id.starts_with("openai-chat-n"))
    {
        let relay = Relay::whole(&openai(), Bytes::from(case.text.clone())).unwrap();
        let same = relay.body == case.text.trim().as_bytes();
        clean += usize::from(same);
        assert!(same, "{}", case.id);
    }
    eprintln!("{clean} answers untouched");
}

#[test]
fn streams_say_what_the_raw_events_say() {
    for case in cases().iter().filter(|c| c.op == "chat" && c.stream && c.status == 200) {
        let provider = openai();
        if case.text.contains("\"error\":") {
            let (_, result, _) = relayed(&provider, case.text.as_bytes(), case.text.len(), true);
            assert_eq!(result.unwrap_err().kind, FaultKind::ServerError, "{}", case.id);
            continue;
        }
        let expected = read_stream(&case.text);
        // Every single byte for small streams, and chunks of a few sizes for all.
        let sizes: &[usize] =
            if case.text.len() < 30_000 { &[1, 2, 3, 7, 64, 1 << 20] } else { &[1, 64, 1 << 20] };
        for include_usage in [true, false] {
            let mut first = None;
            for &size in sizes {
                let (frames, result, usage) = relayed(&provider, case.text.as_bytes(), size, include_usage);
                result.unwrap_or_else(|fault| panic!("{} at {size}: {fault}", case.id));
                assert_eq!(usage, expected.usage, "{}", case.id);
                let text = joined(&frames);
                let first = first.get_or_insert_with(|| text.clone());
                assert_eq!(text, *first, "{} at {size}", case.id);
            }
            let text = first.unwrap();
            assert_openai_stream(&case.id, &text, include_usage);
            let mut said = read_stream(&text);
            assert_eq!(said.usage.is_some(), include_usage && expected.usage.is_some(), "{}", case.id);
            if include_usage {
                said.usage = said.usage.map(|[p, c, cached, r]| [p, c, cached.min(p), r]);
            } else {
                said.usage = expected.usage;
            }
            assert_eq!(said, expected, "{}", case.id);
        }
        for &size in sizes {
            let mut decoder = provider.stream_decoder();
            let mut events = Vec::new();
            for chunk in case.text.as_bytes().chunks(size) {
                decoder.feed(chunk, &mut events).unwrap();
            }
            decoder.finish(&mut events).unwrap();
            assert_eq!(of_events(&events), expected, "{} decoded at {size}", case.id);
        }
    }
}

#[test]
fn what_openai_itself_streams_goes_on_untouched() {
    for case in cases().iter().filter(|c| c.stream && c.status == 200 && c.id.starts_with("openai-chat-s")) {
        let (frames, ..) = relayed(&openai(), case.text.as_bytes(), case.text.len(), true);
        let relayed = joined(&frames);
        let counts = |frame: &&str| !frame.contains("\"usage\":{") && !frame.contains("moderation");
        let before: Vec<&str> = case.text.split("\n\n").filter(counts).collect();
        let after: Vec<&str> = relayed.split("\n\n").filter(counts).collect();
        assert_eq!(after, before, "{}", case.id);
        assert!(frames.len() <= 4, "{}: {} frames", case.id, frames.len());
    }
}

#[test]
fn a_recorded_stream_cut_anywhere_before_its_end_is_truncated() {
    for case in cases().iter().filter(|c| c.op == "chat" && c.stream && c.text.len() < 6_000) {
        let Some(end) =
            case.text.find("\"finish_reason\":\"").or_else(|| case.text.find("\"finish_reason\": \""))
        else {
            continue;
        };
        for cut in (1..end).step_by(3).filter(|cut| case.text.is_char_boundary(*cut)) {
            let provider = openai();
            let (frames, result, _) = relayed(&provider, &case.text.as_bytes()[..cut], 64, true);
            assert_eq!(result.unwrap_err().kind, FaultKind::Truncated, "{} at {cut}", case.id);
            assert!(!joined(&frames).contains("[DONE]"), "{} at {cut}", case.id);
        }
    }
}

#[test]
fn recorded_errors_get_their_kind() {
    for case in cases().iter().filter(|c| c.status != 200) {
        let fault = openai().fault(case.status, &case.headers, case.text.as_bytes());
        let expected = match (case.id.as_str(), case.status) {
            ("deepseek-chat-n-400-1bca48" | "perplexity-chat-n-400-c3dd5c", _) => FaultKind::ContextTooLong,
            ("rep-openai-429-quota", _) => FaultKind::Credentials,
            (_, 400 | 422) => FaultKind::BadRequest,
            (_, 401..=403) => FaultKind::Credentials,
            (_, 404) => FaultKind::NotFound,
            (_, 429) => FaultKind::RateLimited,
            _ => FaultKind::ServerError,
        };
        assert_eq!(fault.kind, expected, "{}: {fault}", case.id);
        let status = if matches!(case.status, 401 | 403) { 502 } else { case.status };
        assert_eq!(fault.client_status(), status, "{}", case.id);
        assert!(!fault.message.contains("://") && !fault.message.contains('<'), "{}: {fault}", case.id);
    }
}

#[test]
fn recorded_embeddings_come_in_both_encodings() {
    for case in cases().iter().filter(|c| c.op == "embeddings" && c.status == 200) {
        let provider = openai();
        let raw: Value = serde_json::from_str(&case.text).unwrap();
        for base64 in [false, true] {
            let relay = Embeddings::whole(&provider, Bytes::from(case.text.clone()), base64).unwrap();
            let client: Value = serde_json::from_slice(&relay.body).unwrap();
            assert_eq!(
                relay.usage.map(|u| u.prompt()),
                raw["usage"]["prompt_tokens"].as_u64(),
                "{}",
                case.id
            );
            for item in client["data"].as_array().unwrap() {
                assert_eq!(item["embedding"].is_string(), base64, "{}", case.id);
            }
            let back =
                Embeddings::whole(&provider, relay.body, raw["data"][0]["embedding"].is_string()).unwrap();
            let back: Value = serde_json::from_slice(&back.body).unwrap();
            let (a, b) = (&back["data"][0]["embedding"], &raw["data"][0]["embedding"]);
            match (a, b) {
                (Value::Array(a), Value::Array(b)) => {
                    let near =
                        |(a, b): (&Value, &Value)| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-6;
                    assert!(a.len() == b.len() && a.iter().zip(b).all(near), "{}", case.id);
                }
                _ => assert_eq!(a, b, "{}", case.id),
            }
        }
    }
}

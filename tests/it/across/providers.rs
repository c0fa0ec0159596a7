//! Three providers that think, prove it, and call tools; each takes only what its real API takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::strict::{self, Issued};
use crate::acts;
use crate::every_door::said::{each, text};
use crate::upstream::{Act, Heard, Upstream};

/// What was sent to a provider, and what was wrong with it.
#[derive(Clone)]
pub struct Visit {
    pub body: Value,
    pub refused: Option<String>,
    /// Proofs issued by this provider before the visit, with what they prove.
    pub issued: Issued,
}

#[derive(Default)]
struct Book {
    visits: HashMap<String, Vec<Visit>>,
    issued: HashMap<String, Issued>,
    count: usize,
}

/// The providers `claude`, `gpt` and `gemini` on one socket.
pub struct Providers {
    pub upstream: Upstream,
    book: Arc<Mutex<Book>>,
}

impl Providers {
    pub fn start() -> Self {
        Self::calling(|n| {
            let rome = json!({"city": "Rome", "n": n});
            vec![("weather", rome), ("weather", json!({"city": "Paris"})), ("now", json!({}))]
        })
    }

    /// Providers that call these tools on every question.
    pub fn calling(calls: impl Fn(usize) -> Vec<(&'static str, Value)> + Send + Sync + 'static) -> Self {
        let book: Arc<Mutex<Book>> = Arc::default();
        let shared = book.clone();
        let upstream = Upstream::start(move |heard| answer(&mut shared.lock().unwrap(), &calls, heard));
        Self { upstream, book }
    }

    pub fn config(&self) -> String {
        let to = self.upstream.address;
        let provider = |name: &str, preset: &str, path: &str| {
            format!(
                "  {name}: {{ preset: {preset}, base_url: \"http://{to}{path}\", keys: [ env:TEST_KEY ] }}\n"
            )
        };
        let providers = [
            provider("claude", "anthropic", "/v1"),
            provider("gpt", "openai", "/v1"),
            provider("gemini", "gemini", "/v1beta"),
        ];
        format!("retries: {{ retries: 0 }}\nproviders:\n{}", providers.concat())
    }

    /// What was refused, by whom.
    pub fn refusals(&self) -> Vec<String> {
        let book = self.book.lock().unwrap();
        let visits =
            book.visits.iter().flat_map(|(name, visits)| visits.iter().map(move |visit| (name, visit)));
        visits.filter_map(|(name, visit)| Some(format!("{name}: {}", visit.refused.as_ref()?))).collect()
    }

    pub fn last_visit(&self, provider: &str) -> Visit {
        self.book.lock().unwrap().visits[provider].last().unwrap().clone()
    }
}

/// The number of the answer that a proof came with.
pub fn number_of(proof: &str) -> String {
    let text = String::from_utf8(BASE64_STANDARD.decode(proof).unwrap()).unwrap();
    text.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// What a provider says: thought, its proof, words, calls.
struct Say {
    thought: String,
    proof: String,
    words: String,
    calls: Vec<(String, String, Value)>,
}

/// What is called on a question: names and arguments.
pub type Calls = dyn Fn(usize) -> Vec<(&'static str, Value)> + Send + Sync;

fn answer(book: &mut Book, calls: &Calls, heard: &Heard) -> Vec<Act> {
    let body = heard.json();
    let provider = match &heard.path {
        path if path.ends_with("/messages") => "claude",
        path if path.contains("generateContent") || path.contains("GenerateContent") => "gemini",
        _ => "gpt",
    };
    let rules = match provider {
        "claude" => strict::messages,
        "gemini" => strict::generate,
        _ => strict::chat,
    };
    let issued = book.issued.entry(provider.into()).or_default().clone();
    let refused = rules(&body, &issued).err();
    let visit = Visit { body: body.clone(), refused: refused.clone(), issued };
    book.visits.entry(provider.into()).or_default().push(visit);
    if let Some(why) = refused {
        return acts::whole(
            400,
            &json!({"error": {"type": "invalid_request_error", "message": why, "code": 400}}),
        );
    }
    book.count += 1;
    let n = book.count;
    // Agents ask for titles, too, without tools.
    let asks = is_question(&body) && body["tools"].is_array();
    let say = Say {
        thought: format!("{provider} thinks {n}"),
        proof: BASE64_STANDARD.encode(format!("proof of {provider} {n}")),
        words: if asks { format!("{provider} looks, {n}.") } else { format!("{provider} is done, {n}.") },
        calls: if asks { called(calls(n), n) } else { Vec::new() },
    };
    let streams = heard.is_stream() || heard.path.contains("streamGenerate");
    let issued = book.issued.entry(provider.into()).or_default();
    match provider {
        "claude" => claude(&say, streams, n, issued),
        "gemini" => gemini(&say, streams, issued),
        _ => gpt(&say, streams, n),
    }
}

fn called(calls: Vec<(&'static str, Value)>, n: usize) -> Vec<(String, String, Value)> {
    let one = |(at, (name, input)): (usize, (&str, Value))| (format!("{n}_{at}"), name.to_owned(), input);
    calls.into_iter().enumerate().map(one).collect()
}

/// Whether the user asks something, rather than gives results.
fn is_question(body: &Value) -> bool {
    if let Some(last) = each(&body["contents"]).last() {
        return each(&last["parts"]).any(|part| part["functionResponse"].is_null());
    }
    let Some(last) = each(&body["messages"]).last() else { return true };
    last["role"] == "user" && !each(&last["content"]).any(|block| block["type"] == "tool_result")
}

fn claude(say: &Say, streams: bool, n: usize, issued: &mut Issued) -> Vec<Act> {
    issued.insert((say.proof.clone(), say.thought.clone()));
    let hidden = BASE64_STANDARD.encode(format!("hidden thought {n}"));
    issued.insert((hidden.clone(), String::new()));
    let mut content = vec![
        json!({"type": "thinking", "thinking": say.thought, "signature": say.proof}),
        json!({"type": "redacted_thinking", "data": hidden}),
        json!({"type": "text", "text": say.words}),
    ];
    content.extend(say.calls.iter().map(|(id, name, input)| {
        json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": input})
    }));
    let stop = if say.calls.is_empty() { "end_turn" } else { "tool_use" };
    let usage = json!({"input_tokens": 10, "output_tokens": 20});
    if !streams {
        return acts::whole(
            200,
            &json!({"id": format!("msg_{n}"), "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
                "content": content, "stop_reason": stop, "stop_sequence": null, "usage": usage}),
        );
    }
    let mut text = String::new();
    let mut event = |value: Value| {
        text.push_str(&format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap()));
    };
    event(
        json!({"type": "message_start", "message": {"id": format!("msg_{n}"), "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5", "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage}}),
    );
    for (index, block) in content.iter().enumerate() {
        let (empty, deltas) = match block["type"].as_str().unwrap() {
            "text" => (
                json!({"type": "text", "text": ""}),
                vec![json!({"type": "text_delta", "text": block["text"]})],
            ),
            "thinking" => (
                json!({"type": "thinking", "thinking": "", "signature": ""}),
                vec![
                    json!({"type": "thinking_delta", "thinking": block["thinking"]}),
                    json!({"type": "signature_delta", "signature": block["signature"]}),
                ],
            ),
            "tool_use" => (
                json!({"type": "tool_use", "id": block["id"], "name": block["name"], "input": {}}),
                vec![json!({"type": "input_json_delta", "partial_json": block["input"].to_string()})],
            ),
            _ => (block.clone(), vec![]),
        };
        event(json!({"type": "content_block_start", "index": index, "content_block": empty}));
        for delta in deltas {
            event(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        event(json!({"type": "content_block_stop", "index": index}));
    }
    event(
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": usage}),
    );
    event(json!({"type": "message_stop"}));
    acts::stream(&text, 97)
}

/// Signs its first call, or else its words; thinks without a proof.
fn gemini(say: &Say, streams: bool, issued: &mut Issued) -> Vec<Act> {
    let mut parts = vec![json!({"text": say.thought, "thought": true}), json!({"text": say.words})];
    parts.extend(
        say.calls.iter().map(|(_, name, args)| json!({"functionCall": {"name": name, "args": args}})),
    );
    let at = if say.calls.is_empty() { 1 } else { 2 };
    parts[at]["thoughtSignature"] = say.proof.as_str().into();
    let proves = text(&parts[at]["text"]) + &text(&parts[at]["functionCall"]["name"]);
    issued.insert((say.proof.clone(), proves));
    let document = |parts: Vec<Value>, finish: Option<&str>| {
        json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0}],
            "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 20, "totalTokenCount": 30},
            "modelVersion": "gemini-3-pro", "responseId": say.proof})
    };
    if !streams {
        return acts::whole(200, &document(parts, Some("STOP")));
    }
    let last = parts.len() - 1;
    let events = parts.into_iter().enumerate();
    let text: String = events
        .map(|(at, part)| format!("data: {}\r\n\r\n", document(vec![part], (at == last).then_some("STOP"))))
        .collect();
    acts::stream(&text, 89)
}

/// Thinks in secret, as OpenAI does.
fn gpt(say: &Say, streams: bool, n: usize) -> Vec<Act> {
    let finish = if say.calls.is_empty() { "stop" } else { "tool_calls" };
    let calls: Vec<Value> = say
        .calls
        .iter()
        .enumerate()
        .map(|(index, (id, name, arguments))| {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            let mut call = json!({"id": format!("call_{id}"), "type": "function", "function": function});
            if streams {
                call["index"] = index.into();
            }
            call
        })
        .collect();
    if streams {
        let mut text =
            acts::delta(json!({"role": "assistant", "content": ""}), None) + &acts::events(&[&say.words]);
        for call in calls {
            text += &acts::delta(json!({"tool_calls": [call]}), None);
        }
        text += &acts::delta(json!({}), Some(finish));
        return acts::stream(&(text + "data: [DONE]\n\n"), 83);
    }
    let mut answer = acts::completion(&say.words);
    answer["id"] = format!("chatcmpl-{n}").into();
    answer["choices"][0]["finish_reason"] = finish.into();
    answer["choices"][0]["message"]["refusal"] = Value::Null;
    answer["choices"][0]["message"]["annotations"] = json!([]);
    if !calls.is_empty() {
        answer["choices"][0]["message"]["tool_calls"] = calls.into();
    }
    acts::whole(200, &answer)
}

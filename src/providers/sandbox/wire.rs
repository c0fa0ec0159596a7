//! The sandbox's answers as OpenAI writes them: one JSON object, or server-sent events.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::ask::Ask;
use super::reply::{Call, Content, Reply};
use super::{CREATED, fingerprint, tokens};

/// A whole answer.
pub(super) fn whole(id: &str, ask: &Ask, reply: &Reply) -> Value {
    let choices: Vec<_> = (0..ask.n).map(|index| choice(index, ask, reply)).collect();
    let mut answer = head(id, "chat.completion", ask);
    answer.insert("choices".into(), Value::Array(choices));
    answer.insert("usage".into(), usage(ask, reply));
    Value::Object(answer)
}

/// A streamed answer: the role, thoughts, content, finish, usage if asked for, `[DONE]`.
pub(super) fn stream(id: &str, ask: &Ask, reply: &Reply) -> Vec<(Duration, Bytes)> {
    let mut script = Script { id, ask, pieces: Vec::new(), contents: 0 };
    for index in 0..ask.n {
        script.push(index, json!({ "role": "assistant", "content": "", "refusal": null }), None, None);
    }
    if !script.play(reply) {
        return script.pieces;
    }
    for index in 0..ask.n {
        script.push(index, json!({}), None, Some(reply.finish));
    }
    if ask.include_usage {
        let mut chunk = head(id, "chat.completion.chunk", ask);
        chunk.insert("choices".into(), json!([]));
        chunk.insert("usage".into(), usage(ask, reply));
        script.event(Value::Object(chunk).to_string());
    }
    script.event("[DONE]".to_owned());
    script.pieces
}

struct Script<'a> {
    id: &'a str,
    ask: &'a Ask,
    pieces: Vec<(Duration, Bytes)>,
    /// Chunks of content so far.
    contents: usize,
}

impl Script<'_> {
    /// Thoughts and content. False when the stream is to break off here.
    fn play(&mut self, reply: &Reply) -> bool {
        for word in &reply.reasoning {
            for index in 0..self.ask.n {
                self.push(index, json!({ "reasoning_content": word }), None, None);
            }
        }
        let said = match &reply.content {
            Content::Text(words) => words.iter().all(|word| {
                let logprobs = self.ask.logprobs.map(|top| logprobs(std::slice::from_ref(word), top));
                self.say(&json!({ "content": word }), logprobs.as_ref())
            }),
            Content::Refusal(words) => words.iter().all(|word| self.say(&json!({ "refusal": word }), None)),
            Content::Calls(calls) => calls.iter().enumerate().all(|(n, call)| self.call(n, call)),
        };
        said && self.ask.orders.cut.is_none_or(|cut| self.contents < cut)
    }

    /// A call opens with its name; the arguments follow in two halves.
    fn call(&mut self, n: usize, call: &Call) -> bool {
        let (first, second) =
            call.arguments.split_at(call.arguments.floor_char_boundary(call.arguments.len() / 2));
        let mut open = tool_call(n, call, "");
        open["index"] = json!(n);
        let more = |half: &str| {
            let (kind, field) = if call.custom { ("custom", "input") } else { ("function", "arguments") };
            json!({ "tool_calls": [{ "index": n, kind: { field: half } }] })
        };
        self.say(&json!({ "tool_calls": [open] }), None)
            && self.say(&more(first), None)
            && self.say(&more(second), None)
    }

    /// One chunk of content in every choice. False when the stream is to break off before it.
    fn say(&mut self, delta: &Value, logprobs: Option<&Value>) -> bool {
        if self.ask.orders.cut.is_some_and(|cut| self.contents >= cut) {
            return false;
        }
        self.contents += 1;
        for index in 0..self.ask.n {
            self.push(index, delta.clone(), logprobs.cloned(), None);
        }
        true
    }

    fn push(&mut self, index: usize, delta: Value, logprobs: Option<Value>, finish: Option<&str>) {
        let mut chunk = head(self.id, "chat.completion.chunk", self.ask);
        let choice = json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish });
        chunk.insert("choices".into(), json!([choice]));
        if self.ask.include_usage {
            chunk.insert("usage".into(), Value::Null);
        }
        self.event(Value::Object(chunk).to_string());
    }

    fn event(&mut self, data: String) {
        let orders = &self.ask.orders;
        let delay = match self.pieces.len() {
            0 => orders.first_byte,
            // The roles are out: what follows is the first that a client can show.
            n if n == self.ask.n => orders.delay + orders.chunk_delay,
            _ => orders.chunk_delay,
        };
        self.pieces.push((delay, Bytes::from(format!("data: {data}\n\n"))));
    }
}

fn head(id: &str, object: &str, ask: &Ask) -> Map<String, Value> {
    let head = json!({
        "id": id,
        "object": object,
        "created": CREATED,
        "model": ask.model,
        "system_fingerprint": "fp_sandbox",
    });
    if let Value::Object(head) = head { head } else { Map::new() }
}

fn choice(index: usize, ask: &Ask, reply: &Reply) -> Value {
    let mut message = json!({ "role": "assistant", "content": null, "refusal": null });
    if !reply.reasoning.is_empty() {
        message["reasoning_content"] = json!(reply.reasoning.concat());
    }
    let mut probabilities = None;
    match &reply.content {
        Content::Text(words) => {
            message["content"] = json!(words.concat());
            probabilities = ask.logprobs.map(|top| logprobs(words, top));
        }
        Content::Refusal(words) => message["refusal"] = json!(words.concat()),
        Content::Calls(calls) => {
            let calls: Vec<_> =
                calls.iter().enumerate().map(|(n, call)| tool_call(n, call, &call.arguments)).collect();
            message["tool_calls"] = Value::Array(calls);
        }
    }
    json!({ "index": index, "message": message, "logprobs": probabilities, "finish_reason": reply.finish })
}

fn tool_call(n: usize, call: &Call, arguments: &str) -> Value {
    let id = format!("call_{}", fingerprint(format!("{n} {} {}", call.name, call.arguments).as_bytes()));
    if call.custom {
        return json!({ "id": id, "type": "custom", "custom": { "name": call.name, "input": arguments } });
    }
    json!({ "id": id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}

fn usage(ask: &Ask, reply: &Reply) -> Value {
    let prompt = tokens(ask.prompt_bytes);
    let completion = reply.completion_tokens * ask.n as u64;
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": reply.reasoning_tokens * ask.n as u64,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

/// Made-up log probabilities: the word itself, then alternatives that are ever less likely.
fn logprobs(words: &[String], top: usize) -> Value {
    let token =
        |text: &str, logprob: f64| json!({ "token": text, "logprob": logprob, "bytes": text.as_bytes() });
    let one = |word: &String| {
        let likely =
            -f64::from(u8::from_str_radix(&fingerprint(word.as_bytes())[..2], 16).unwrap_or(0)) / 256.0;
        let mut one = token(word, likely);
        let alternative = |n: usize| {
            #[allow(clippy::cast_precision_loss, reason = "n is at most 5")]
            let less = likely - n as f64;
            if n == 0 { token(word, likely) } else { token(&format!("{word}{n}"), less) }
        };
        one["top_logprobs"] = (0..top).map(alternative).collect();
        one
    };
    json!({ "content": words.iter().map(one).collect::<Vec<_>>(), "refusal": null })
}

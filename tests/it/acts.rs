//! What the scripted provider can say: whole answers, streams in any pieces, and every way of going wrong.

use std::time::Duration;

use serde_json::{Value, json};

use crate::upstream::Act;

/// A whole answer with its length, on a connection that stays open.
pub fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<Act> {
    let body = body.as_ref();
    let mut bytes = head(status, headers);
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    vec![Act::Write(bytes)]
}

/// A whole JSON answer.
pub fn whole(status: u16, body: &Value) -> Vec<Act> {
    answer(status, &[("content-type", "application/json")], body.to_string())
}

/// A chat completion that says `text`.
pub fn says(text: &str) -> Vec<Act> {
    whole(200, &completion(text))
}

/// An error in OpenAI's shape.
pub fn error(status: u16, message: &str) -> Vec<Act> {
    whole(status, &json!({"error": {"message": message, "type": "some_error", "param": null, "code": null}}))
}

/// A stream of `text` as it stands, in pieces of `size` bytes, each an HTTP chunk and a packet of its own.
pub fn stream(text: &str, size: usize) -> Vec<Act> {
    let mut acts = stream_open(text, size);
    acts.push(Act::Write(b"0\r\n\r\n".to_vec()));
    acts
}

/// The same without the end of the body.
pub fn stream_open(text: &str, size: usize) -> Vec<Act> {
    let mut first = head(200, &[("content-type", "text/event-stream; charset=utf-8")]);
    first.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    let pieces = text.as_bytes().chunks(size.max(1)).map(|piece| Act::Write(chunk(piece)));
    std::iter::once(Act::Write(first)).chain(pieces).collect()
}

/// The head of an event stream, and nothing yet.
pub fn stream_head() -> Vec<Act> {
    stream_open("", 1)
}

/// A piece of a body in HTTP chunks.
pub fn piece(text: &str) -> Act {
    Act::Write(chunk(text.as_bytes()))
}

/// The whole conversation of a stream that says `words`, with usage and `[DONE]`.
pub fn says_stream(words: &[&str]) -> Vec<Act> {
    stream(&format!("{}{}", events(words), ENDING), usize::MAX)
}

/// Chunks that say `words`, without an end.
pub fn events(words: &[&str]) -> String {
    words.iter().map(|word| delta(json!({"content": word}), None)).collect()
}

/// Finish, usage and `[DONE]`.
pub const ENDING: &str = concat!(
    r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#,
    "\n\ndata: [DONE]\n\n"
);

/// One chunk of a stream.
pub fn delta(delta: Value, finish: Option<&str>) -> String {
    let chunk = json!({
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    });
    format!("data: {chunk}\n\n")
}

/// A chat completion.
pub fn completion(text: &str) -> Value {
    json!({
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    })
}

/// A complete answer without a word, for which so many tokens were counted.
pub fn says_nothing(tokens: u64, stream: bool) -> Vec<Act> {
    if !stream {
        let mut answer = completion("");
        answer["usage"] =
            json!({"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens});
        return whole(200, &answer);
    }
    let role = delta(json!({"role": "assistant", "content": ""}), None);
    let counted = format!(r#""completion_tokens":{tokens},"total_tokens":{}"#, 7 + tokens);
    let end = ENDING.replace(r#""completion_tokens":3,"total_tokens":10"#, &counted);
    self::stream(&(role + &end), usize::MAX)
}

/// Bytes as they are, then the orderly end of the connection.
pub fn raw(bytes: impl Into<Vec<u8>>) -> Vec<Act> {
    vec![Act::Write(bytes.into()), Act::Close]
}

/// A JSON answer that ends before the length it promised.
pub fn truncated() -> Vec<Act> {
    let body = completion("half of this never arrives").to_string();
    let mut bytes = head(200, &[("content-type", "application/json")]);
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body.as_bytes()[..body.len() / 2]);
    vec![Act::Write(bytes), Act::Close]
}

/// The same after a pause.
pub fn after(pause: Duration, script: Vec<Act>) -> Vec<Act> {
    std::iter::once(Act::Pause(pause)).chain(script).collect()
}

/// One byte of the answer every `pause`.
pub fn trickle(acts: Vec<Act>, pause: Duration) -> Vec<Act> {
    let mut slow = Vec::new();
    for act in acts {
        match act {
            Act::Write(bytes) => {
                slow.extend(bytes.into_iter().flat_map(|b| [Act::Write(vec![b]), Act::Pause(pause)]));
            }
            other => slow.push(other),
        }
    }
    slow
}

fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.into_bytes()
}

fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", piece.len()).into_bytes();
    bytes.extend_from_slice(piece);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

//! A scripted upstream in OpenAI's dialect that costs next to nothing: answers are rendered once and written as they are.
//!
//! The model's name is the script: `chat` is answered whole with 1 KB, `embedding` with a vector, and
//! `stream-200` with 200 content events in one write. `stream-200-each` writes each event by itself, and
//! `stream-200-5ms` does so with a pause between them. A prefix `bench-` is left out of account.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use crate::asks::END_OF_WHOLE;
use crate::{Result, child};

/// Answers as they were rendered for their first request.
type Rendered = RefCell<HashMap<(String, bool), Rc<Script>>>;

/// One answer: pieces that are written one by one.
#[derive(Debug)]
struct Script {
    pieces: Vec<Bytes>,
    pause: Duration,
}

/// Serves until the parent goes.
pub fn run() -> Result<()> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    child::announce(listener.local_addr()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::from_std(listener)?;
        let rendered = Rc::new(Rendered::default());
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            spawn_local(serve(socket, rendered.clone()));
        }
    })
}

async fn serve(mut socket: TcpStream, rendered: Rc<Rendered>) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(64 << 10);
    while let Some(script) = request(&mut socket, &mut buffer, &rendered).await? {
        for (index, piece) in script.pieces.iter().enumerate() {
            if index > 0 && script.pause.is_zero() {
                tokio::task::yield_now().await;
            } else if index > 0 {
                tokio::time::sleep(script.pause).await;
            }
            socket.write_all(piece).await?;
        }
    }
    Ok(())
}

/// Reads one request to its end and finds its answer.
async fn request(
    socket: &mut TcpStream,
    buffer: &mut BytesMut,
    rendered: &Rendered,
) -> io::Result<Option<Rc<Script>>> {
    let head = loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        if !more(socket, buffer).await? {
            return Ok(None);
        }
    };
    let length = content_length(&buffer[..head]);
    loop {
        let all = match length {
            Some(length) => buffer.len() >= head + length,
            None => buffer.ends_with(b"0\r\n\r\n"),
        };
        if all {
            break;
        }
        if !more(socket, buffer).await? {
            return Ok(None);
        }
    }
    let end = length.map_or(buffer.len(), |length| head + length);
    let script = find(rendered, &buffer[head..end]);
    buffer.advance(end);
    Ok(Some(script))
}

async fn more(socket: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<bool> {
    buffer.reserve(64 << 10);
    Ok(socket.read_buf(buffer).await? > 0)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1.trim().parse().ok()
}

fn find(rendered: &Rendered, body: &[u8]) -> Rc<Script> {
    let model = model(body).unwrap_or("chat");
    let streams = model.contains("stream");
    let usage = streams && memmem::rfind(body, b"\"include_usage\":true").is_some();
    let key = (model.to_owned(), usage);
    rendered.borrow_mut().entry(key).or_insert_with(|| Rc::new(render(model, usage))).clone()
}

/// The string after the last `"model"`: clients write it behind the messages.
fn model(body: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"\"model\"";
    let value = &body[memmem::rfind(body, NAME)? + NAME.len()..];
    let quoted = std::str::from_utf8(&value[..value.len().min(128)]).ok()?;
    quoted.split('"').nth(1)
}

fn render(model: &str, usage: bool) -> Script {
    let mut words = model.trim_start_matches("bench-").split('-');
    if words.next() != Some("stream") {
        let body = if model.ends_with("embedding") { vector(model) } else { answer(model) };
        let head = format!("{HEAD}content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        return Script { pieces: vec![(head + &body).into()], pause: Duration::ZERO };
    }
    let events = words.next().and_then(|count| count.parse().ok()).unwrap_or(0);
    let how = words.next();
    let pause = how.and_then(|how| how.strip_suffix("ms")).and_then(|ms| ms.parse().ok()).unwrap_or(0);
    let mut pieces = stream(model, events, usage);
    if how.is_none() {
        pieces = vec![pieces.concat()];
    }
    Script { pieces: pieces.into_iter().map(Bytes::from).collect(), pause: Duration::from_millis(pause) }
}

/// What OpenAI sends with every answer.
const HEAD: &str = "HTTP/1.1 200 OK\r\n\
    date: Sat, 01 Nov 2025 12:00:00 GMT\r\n\
    openai-organization: org-bench\r\n\
    openai-processing-ms: 412\r\n\
    openai-version: 2020-10-01\r\n\
    x-ratelimit-limit-requests: 10000\r\n\
    x-ratelimit-limit-tokens: 2000000\r\n\
    x-ratelimit-remaining-requests: 9999\r\n\
    x-ratelimit-remaining-tokens: 1999744\r\n\
    x-ratelimit-reset-requests: 6ms\r\n\
    x-request-id: req_8f14e45fceea167a5a36dedd4bea2543\r\n\
    strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n";

fn answer(model: &str) -> String {
    let text =
        "The second charge is the renewal that was due on the 3rd; the first one has been refunded.\\n"
            .repeat(5);
    format!(
        r#"{{"id":"chatcmpl-BnchAnswer0123456789","object":"chat.completion","created":1762000000,"model":"{model}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],{USAGE},"service_tier":"default","system_fingerprint":"{END_OF_WHOLE}"}}"#
    )
}

const USAGE: &str = r#""usage":{"prompt_tokens":212,"completion_tokens":88,"total_tokens":300,"prompt_tokens_details":{"cached_tokens":128,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;

fn vector(model: &str) -> String {
    let numbers =
        (0..256).map(|i| format!("{:.8}", f64::from(i) / 1000.0 - 0.128)).collect::<Vec<_>>().join(",");
    format!(
        r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":[{numbers}]}}],"model":"{model}","usage":{{"prompt_tokens":190,"total_tokens":190}},"note":"{END_OF_WHOLE}"}}"#
    )
}

/// Head and events of a stream, each event a chunk and a piece of its own.
fn stream(model: &str, events: usize, usage: bool) -> Vec<String> {
    let event = |choices: &str, usage: &str| {
        let data = format!(
            r#"data: {{"id":"chatcmpl-BnchStream0123456789","object":"chat.completion.chunk","created":1762000000,"model":"{model}","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{choices}]{usage},"obfuscation":"x7Gk2"}}"#
        );
        chunk(&data)
    };
    let choice = |delta: &str, finish: &str| {
        format!(r#"{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{finish}}}"#)
    };
    let head =
        format!("{HEAD}content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n");
    let role = choice(r#""role":"assistant","content":"","refusal":null"#, "null");
    let mut pieces = vec![head + &event(&role, "")];
    let words =
        [" The", " renewal", " was", " due", ",", " the", " first", " charge", " is", " refunded", "."];
    for word in words.iter().cycle().take(events) {
        pieces.push(event(&choice(&format!("\"content\":\"{word}\""), "null"), ""));
    }
    pieces.push(event(&choice("", "\"stop\""), ""));
    if usage {
        pieces.push(event("", &format!(",{USAGE}")));
    }
    pieces.push(chunk("data: [DONE]") + "0\r\n\r\n");
    pieces
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\n\n\r\n", data.len() + 2)
}

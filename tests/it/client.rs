//! A small HTTP client for the stories: sends, collects, and reads what OpenAI's protocol promises.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::{CANARY, DATABASE_CANARY};

/// How long a story waits for anything before it calls it hung.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether the body came to its proper end.
    pub whole: bool,
}

/// An answer whose body is read piece by piece. Dropping it closes the connection.
pub struct Live {
    pub status: u16,
    pub headers: HeaderMap,
    body: Incoming,
    connection: tokio::task::JoinHandle<()>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The text of the first choice of a whole chat completion.
    #[track_caller]
    pub fn said(&self) -> String {
        assert_eq!(self.status, 200, "{self:#?}");
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }

    /// The text of all deltas of a streamed chat completion, also of one that broke off.
    pub fn streamed(&self) -> String {
        let events = self.text();
        let chunks = events
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        chunks
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect()
    }

    /// The `error` object of an OpenAI error body.
    #[track_caller]
    pub fn error(&self) -> Value {
        let error = self.json()["error"].clone();
        for field in ["message", "type", "param", "code"] {
            assert!(error.get(field).is_some(), "no error.{field} in {self:#?}");
        }
        assert!(error["message"].is_string() && error["type"].is_string(), "{self:#?}");
        error
    }
}

impl Live {
    /// The next piece of the body; `None` at its end, `Err` when it broke off.
    pub async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("a body that goes on")?;
        let data = frame.map(|frame| frame.into_data().unwrap_or_default());
        if let Ok(data) = &data {
            harmless(&String::from_utf8_lossy(data));
        }
        Some(data)
    }

    /// Reads until `text` has come; gives everything read.
    pub async fn until(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            let Some(Ok(data)) = self.next().await else { panic!("the body ended without {text}: {read}") };
            read.push_str(&String::from_utf8_lossy(&data));
        }
        read
    }

    /// The rest of the body.
    pub async fn rest(mut self) -> Reply {
        let (mut body, mut whole) = (Vec::new(), true);
        while let Some(data) = self.next().await {
            match data {
                Ok(data) => body.extend_from_slice(&data),
                Err(_) => whole = false,
            }
        }
        harmless(&String::from_utf8_lossy(&body));
        Reply { status: self.status, headers: std::mem::take(&mut self.headers), body: body.into(), whole }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Sends a request on a connection of its own and waits for the answer's head.
pub async fn open(to: SocketAddr, request: Request<Bytes>) -> Result<Live, hyper::Error> {
    let stream = TcpStream::connect(to).await.expect("a listener");
    stream.set_nodelay(true).expect("nodelay");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let (mut head, body) = request.into_parts();
    head.headers.entry("host").or_insert_with(|| to.to_string().parse().expect("an authority"));
    let sent = sender.send_request(Request::from_parts(head, Full::new(body)));
    let response = tokio::time::timeout(PATIENCE, sent).await.expect("an answer in time")?;
    let (head, body) = response.into_parts();
    for (name, value) in &head.headers {
        harmless(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    }
    Ok(Live { status: head.status.as_u16(), headers: head.headers, body, connection })
}

/// A request with a JSON body.
pub fn request(method: Method, path: &str, body: &str) -> Request<Bytes> {
    let builder = Request::builder().method(method).uri(path).header("content-type", "application/json");
    builder.body(Bytes::copy_from_slice(body.as_bytes())).expect("a request")
}

pub async fn get(to: SocketAddr, path: &str) -> Reply {
    let request = Request::builder().uri(path).body(Bytes::new()).expect("a request");
    open(to, request).await.expect("an answer").rest().await
}

pub async fn post(to: SocketAddr, path: &str, body: &Value) -> Reply {
    post_text(to, path, &body.to_string()).await
}

pub async fn post_text(to: SocketAddr, path: &str, body: &str) -> Reply {
    open(to, request(Method::POST, path, body)).await.expect("an answer").rest().await
}

/// A question to `model`, whole.
pub fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

/// A question to `model`, streamed with usage.
pub fn ask_stream(model: &str) -> Value {
    json!({
        "model": model, "messages": [{"role": "user", "content": "hello"}],
        "stream": true, "stream_options": {"include_usage": true},
    })
}

pub async fn chat(to: SocketAddr, body: &Value) -> Reply {
    post(to, "/v1/chat/completions", body).await
}

pub async fn chat_live(to: SocketAddr, body: &Value) -> Live {
    let request = request(Method::POST, "/v1/chat/completions", &body.to_string());
    open(to, request).await.expect("an answer")
}

/// So many at once, each by its number; what came of them in the same order.
pub async fn at_once<T: Send + 'static, F>(count: usize, ask: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let asked: Vec<_> = (0..count).map(|number| tokio::spawn(ask(number))).collect();
    let mut all = Vec::with_capacity(count);
    for one in asked {
        all.push(one.await.expect("one that ends"));
    }
    all
}

/// Bytes as they are; the connection's whole output until it closes or stays silent for `silence`.
pub async fn raw(to: SocketAddr, bytes: &[u8], silence: Duration) -> Raw {
    let mut stream = TcpStream::connect(to).await.expect("a listener");
    let _ = stream.write_all(bytes).await;
    let mut output = Vec::new();
    let closed = loop {
        match tokio::time::timeout(silence, stream.read_buf(&mut output)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => break true,
            Err(_) => break false,
        }
    };
    let text = String::from_utf8_lossy(&output).into_owned();
    harmless(&text);
    Raw { text, closed }
}

/// What came back for raw bytes.
#[derive(Debug)]
pub struct Raw {
    pub text: String,
    /// Whether the other side closed the connection.
    pub closed: bool,
}

impl Raw {
    /// The statuses of all responses, in order; interim ones too.
    pub fn statuses(&self) -> Vec<u16> {
        let heads = self.text.match_indices("HTTP/1.");
        heads.filter_map(|(at, _)| self.text.get(at + 9..at + 12)?.parse().ok()).collect()
    }
}

/// Waits until `test` gives something, looking every few milliseconds.
#[track_caller]
pub fn eventually<T>(what: &str, mut test: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
    let start = Instant::now();
    let what = format!("{what} ({})", std::panic::Location::caller());
    async move {
        loop {
            if let Some(found) = test() {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The same for a test that has to wait itself.
pub async fn eventually_async<T>(what: &str, mut test: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = test().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Nothing that a client sees may have the provider's key in it.
#[track_caller]
fn harmless(text: &str) {
    assert!(!text.contains(CANARY), "the provider's key reached the client: {text}");
    assert!(!text.contains(DATABASE_CANARY), "the database's password reached the client: {text}");
}

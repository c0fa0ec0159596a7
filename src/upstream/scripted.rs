//! A raw TCP server for tests, which does to each connection what its script says.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{AnswerBody, Outbound, Upstream, UpstreamSettings};
use crate::fault::Fault;
use crate::target::Origin;

/// Long enough for a test on a busy machine.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// A server that lives as long as the test's runtime.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Scripted {
    /// Runs `script` for each connection, with its number from 0.
    pub(super) async fn start<F>(script: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(script(count.fetch_add(1, Ordering::Relaxed), stream));
            }
        });
        Self { address, accepted }
    }

    /// Answers every request on every connection with the same bytes, and closes after it if `close`.
    pub(super) async fn saying(answer: impl Into<Vec<u8>>, close: bool) -> Self {
        let answer = Bytes::from(answer.into());
        Self::start(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                while read_request(&mut stream).await.is_some() {
                    stream.write_all(&answer).await.ok();
                    if close {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Connections so far.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn origin(&self) -> Origin {
        origin(self.address)
    }
}

/// An address whose SYNs the kernel drops: a backlog that is full.
pub(super) struct Blackhole {
    pub(super) address: SocketAddr,
    _listener: socket2::Socket,
    _fillers: Vec<TcpStream>,
}

impl Blackhole {
    pub(super) async fn new(address: SocketAddr) -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut fillers = Vec::new();
        while let Ok(filler) =
            tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await
        {
            fillers.push(filler.unwrap());
        }
        Self { address, _listener: listener, _fillers: fillers }
    }
}

pub(super) fn origin(address: SocketAddr) -> Origin {
    Origin {
        reach: crate::target::Reach::Private,
        tls: false,
        host: address.ip().to_string().into(),
        port: address.port(),
        tls13_only: false,
        h2c: false,
    }
}

pub(super) fn upstream() -> Upstream {
    Upstream::new(&UpstreamSettings::default()).unwrap()
}

/// A chat request in two pieces.
pub(super) fn request() -> Outbound {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer key"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let path = "/v1/chat/completions?api-version=1".parse().unwrap();
    let body = vec![Bytes::from_static(b"{\"model\":"), Bytes::new(), Bytes::from_static(b"\"m\"}")];
    Outbound::new(Method::POST, path, headers, body)
}

/// Sends [`request`] and waits for the head.
pub(super) async fn send(upstream: &Upstream, origin: &Origin) -> Result<Response<AnswerBody>, Fault> {
    upstream.send(origin, request(), CONNECT).await
}

/// Sends [`request`] and waits for the whole body.
pub(super) async fn ask(upstream: &Upstream, origin: &Origin) -> Result<Bytes, Fault> {
    send(upstream, origin).await?.into_body().collect(1 << 20).await
}

/// One request with its body; `None` when the connection ended.
pub(super) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = String::new();
    loop {
        text.push(char::from(stream.read_u8().await.ok()?));
        if text.ends_with("\r\n\r\n") {
            break;
        }
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    for _ in 0..length.map_or(0, |length| length.parse::<usize>().unwrap()) {
        text.push(char::from(stream.read_u8().await.ok()?));
    }
    Some(text)
}

/// An answer with a length.
pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Makes the kernel send RST instead of FIN when `stream` is dropped.
pub(super) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Lets everything on this thread happen that can happen without waiting for `done` any longer than 10 s.
pub(super) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never happened: {what}");
}

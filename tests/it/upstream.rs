//! A scripted provider on a raw socket: says exactly the bytes it is told to say, and remembers what it heard.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A provider whose answers come from a script.
pub struct Upstream {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    _stop: oneshot::Sender<()>,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Heard {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names lowercase, in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When the head and body were complete.
    pub at: Instant,
    /// When the caller closed the connection before the answer was finished.
    pub left: Option<Instant>,
}

/// One act of an answer.
#[derive(Debug, Clone)]
pub enum Act {
    Write(Vec<u8>),
    Pause(Duration),
    /// Wait for ever; only the caller can end it.
    Hang,
    /// End the connection in an orderly way.
    Close,
    /// End the connection with a reset.
    Reset,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The `model` field of the body.
    pub fn model(&self) -> String {
        self.json()["model"].as_str().unwrap_or_default().to_owned()
    }

    pub fn is_stream(&self) -> bool {
        self.json()["stream"] == Value::Bool(true)
    }
}

impl Upstream {
    /// Listens on a free port, on a thread of its own.
    pub fn start(script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, bound) = std::sync::mpsc::channel();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stage = Stage { script: Arc::new(script), heard: heard.clone() };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = stage.accept(listener) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address: bound.recv().unwrap(), heard, _stop: stop }
    }

    /// The base URL for a provider's configuration.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// The requests for one model.
    pub fn heard_for(&self, model: &str) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.model() == model).collect()
    }
}

/// A port that is taken but refuses every connection, as long as the value lives.
pub struct Refusing(socket2::Socket);

impl Refusing {
    pub fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self(socket)
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.0.local_addr().unwrap().as_socket().unwrap())
    }
}

#[derive(Clone)]
struct Stage {
    script: Arc<dyn Fn(&Heard) -> Vec<Act> + Send + Sync>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Stage {
    async fn accept(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let stage = self.clone();
            tokio::spawn(async move { stage.converse(stream).await });
        }
    }

    async fn converse(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut unread = Vec::new();
        while let Some(heard) = hear(&mut stream, &mut unread).await {
            let acts = (self.script)(&heard);
            let place = {
                let mut all = self.heard.lock().unwrap();
                all.push(heard);
                all.len() - 1
            };
            match perform(&mut stream, &mut unread, acts).await {
                Ended::Done => {}
                Ended::Closed => return,
                Ended::Left => {
                    self.heard.lock().unwrap()[place].left = Some(Instant::now());
                    return;
                }
            }
        }
    }
}

enum Ended {
    /// The answer is out; the connection can be used again.
    Done,
    Closed,
    /// The caller went away first.
    Left,
}

async fn perform(stream: &mut TcpStream, unread: &mut Vec<u8>, acts: Vec<Act>) -> Ended {
    for act in acts {
        match act {
            Act::Write(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return Ended::Left;
                }
                // Each write is to be a packet of its own.
                tokio::task::yield_now().await;
            }
            Act::Pause(length) => {
                tokio::select! {
                    biased;
                    () = left(stream, unread) => return Ended::Left,
                    () = tokio::time::sleep(length) => {}
                }
            }
            Act::Hang => {
                left(stream, unread).await;
                return Ended::Left;
            }
            Act::Close => {
                let _ = stream.shutdown().await;
                return Ended::Closed;
            }
            Act::Reset => {
                let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
                return Ended::Closed;
            }
        }
    }
    Ended::Done
}

/// Resolves when the caller has closed the connection.
async fn left(stream: &mut TcpStream, unread: &mut Vec<u8>) {
    while matches!(stream.read_buf(unread).await, Ok(1..)) {}
}

/// Reads one request; `None` at the end of the connection.
async fn hear(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Heard> {
    let end = loop {
        if let Some(at) = find(unread, b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, unread).await?;
    };
    let head = String::from_utf8_lossy(&unread[..end]).into_owned();
    unread.drain(..end);
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let header = |wanted: &str| headers.iter().find(|(n, _)| n == wanted).map(|(_, value)| value.as_str());
    let body = if header("transfer-encoding").is_some() {
        chunked(stream, unread).await?
    } else {
        let length = header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        take(stream, unread, length).await?
    };
    Some(Heard { method, path, headers, body, at: Instant::now(), left: None })
}

async fn chunked(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = find(unread, b"\r\n") {
                break at;
            }
            more(stream, unread).await?;
        };
        let size = usize::from_str_radix(std::str::from_utf8(&unread[..end]).ok()?, 16).ok()?;
        unread.drain(..end + 2);
        body.extend(take(stream, unread, size).await?);
        take(stream, unread, 2).await?;
        if size == 0 {
            return Some(body);
        }
    }
}

async fn take(stream: &mut TcpStream, unread: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while unread.len() < length {
        more(stream, unread).await?;
    }
    Some(unread.drain(..length).collect())
}

async fn more(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<()> {
    matches!(stream.read_buf(unread).await, Ok(1..)).then_some(())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

//! The listener over real sockets, driven by raw clients.

mod bodies;
mod deadlines;
mod leaving;
mod protocols;
mod raw;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Interval, timeout};

use super::*;
use crate::settings::{Period, Size};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A listener that serves, and what its handlers saw.
struct Stand {
    address: SocketAddr,
    drain: Drain,
    seen: Arc<Seen>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Requests that reached a handler.
    arrived: AtomicUsize,
    /// Handlers and bodies that ended or were dropped.
    left: AtomicUsize,
}

impl Stand {
    fn start(settings: ListenerSettings) -> Self {
        Self::with_workers(settings, 1)
    }

    fn with_workers(settings: ListenerSettings, workers: usize) -> Self {
        Self::bound(([127, 0, 0, 1], 0).into(), settings, workers)
    }

    fn at(address: SocketAddr, settings: ListenerSettings) -> Self {
        Self::bound(address, settings, 1)
    }

    fn bound(address: SocketAddr, settings: ListenerSettings, workers: usize) -> Self {
        let listener = Listener::bind(address, settings).expect("a free port");
        let (address, drain, seen) = (listener.local_addr(), Drain::new(), Arc::<Seen>::default());
        let (handler, its_drain) = (seen.clone(), drain.clone());
        let make = move |_| Probe { seen: handler.clone(), drain: its_drain.clone() };
        let serving = tokio::spawn(listener.serve(workers, make, drain.clone()));
        Self { address, drain, seen, serving }
    }

    fn arrived(&self) -> usize {
        self.seen.arrived.load(SeqCst)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the listener is there")
    }

    /// Everything that comes back until the connection is closed.
    async fn say(&self, text: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_ref()).await.expect("the listener reads");
        read_all(&mut stream).await
    }

    /// Waits until as many handlers and bodies are gone.
    async fn until_left(&self, count: usize) {
        timeout(PATIENCE, async {
            while self.seen.left.load(SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the request ends");
    }

    async fn stop(self) {
        self.drain.begin(Duration::ZERO);
        timeout(PATIENCE, self.serving).await.expect("the listener ends").expect("without a panic");
    }
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is as good an end as any.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until `text` has come.
async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), text: &str) -> String {
    let mut answer = Vec::new();
    timeout(PATIENCE, async {
        while !String::from_utf8_lossy(&answer).contains(text) {
            assert_ne!(stream.read_buf(&mut answer).await.expect("more to read"), 0, "{text:?} never came");
        }
    })
    .await
    .expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status codes in a stream of HTTP/1 answers.
fn statuses(answer: &str) -> Vec<u16> {
    answer.match_indices("HTTP/1.").filter_map(|(at, _)| answer.get(at + 9..at + 12)?.parse().ok()).collect()
}

/// Answers by path: `/echo` the body, `/path` the path, `/hang` never, `/drip` chunks until the drain expires,
/// `/flood` without end, `/panic` not at all.
struct Probe {
    seen: Arc<Seen>,
    drain: Drain,
}

/// Counts its end.
struct Leaves(Arc<Seen>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.left.fetch_add(1, SeqCst);
    }
}

enum ProbeBody {
    Full(Option<Bytes>),
    Drip(
        Interval,
        Pin<Box<dyn Future<Output = ()> + Send>>,
        bool,
        #[expect(dead_code, reason = "for its drop")] Leaves,
    ),
    Flood(#[expect(dead_code, reason = "for its drop")] Leaves),
}

impl Handler for Probe {
    type Body = ProbeBody;

    async fn handle(&self, request: Request<RequestBody>, _: Peer) -> Response<ProbeBody> {
        self.seen.arrived.fetch_add(1, SeqCst);
        let leaves = Leaves(self.seen.clone());
        let body = match request.uri().path() {
            "/echo" => match request.into_body().collect().await {
                Ok(bytes) => ProbeBody::full(bytes),
                Err(fault) => return self.refuse(&fault),
            },
            "/hang" => std::future::pending().await,
            "/drip" => ProbeBody::Drip(
                tokio::time::interval(Duration::from_millis(10)),
                Box::pin(self.drain.expired()),
                false,
                leaves,
            ),
            "/flood" => ProbeBody::Flood(leaves),
            "/panic" => panic!("as asked"),
            path => ProbeBody::full(path.to_owned()),
        };
        Response::new(body)
    }

    fn refuse(&self, fault: &Fault) -> Response<ProbeBody> {
        let mut response = Response::new(ProbeBody::full(format!("refused: {}", fault.message)));
        *response.status_mut() = StatusCode::from_u16(fault.client_status()).expect("a status");
        response
    }
}

impl ProbeBody {
    fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }
}

impl Body for ProbeBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let data = match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take()),
            Self::Drip(_, _, true, _) => Poll::Ready(None),
            Self::Drip(interval, expired, ended, _) => {
                if expired.as_mut().poll(cx).is_ready() {
                    *ended = true;
                    Poll::Ready(Some(Bytes::from_static(b"event: error\n\n")))
                } else {
                    interval.poll_tick(cx).map(|_| Some(Bytes::from_static(b"data: drop\n\n")))
                }
            }
            Self::Flood(_) => Poll::Ready(Some(Bytes::from_static(&[b'x'; 16 << 10]))),
        };
        data.map(|data| data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None) | Self::Drip(_, _, true, _))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Full(bytes) => http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            _ => http_body::SizeHint::default(),
        }
    }
}

fn millis(ms: u64) -> Period {
    Period(Duration::from_millis(ms))
}

fn with_limits(change: impl FnOnce(&mut LimitSettings)) -> ListenerSettings {
    let mut settings = ListenerSettings::default();
    change(&mut settings.limits);
    settings
}

#[test]
fn an_address_in_use_is_a_clear_error() {
    let first = Listener::bind(([127, 0, 0, 1], 0).into(), ListenerSettings::default()).expect("a free port");
    let error = Listener::bind(first.local_addr(), ListenerSettings::default()).err().expect("taken");
    let expected = format!("cannot listen on {}: address in use", first.local_addr());
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[allow(dead_code, reason = "proves at compile time what a spawned listener needs")]
fn serve_can_be_spawned(listener: Listener, probe: fn(usize) -> Probe) -> impl Future<Output = ()> + Send {
    listener.serve(1, probe, Drain::new())
}

//! One connection from its first byte to its last: TLS, protocol, requests, deadlines, end.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::alarm::Alarm;
use super::capacity::{Seat, refused};
use super::drain::{Drain, Exit, Step};
use super::front::Front;
use super::scan::Scanner;
use super::service::{Line, REFUSED, answer};
use super::streams::Streams;
use super::tls::TlsReloader;
use super::transport::Transport;
use super::wire::{Stage, Wire};
use super::{Handler, LimitSettings, ListenerSettings, Peer};
use crate::gateway::Talk;

/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time that an idle connection has to close once it was told to.
const GOODBYE: Duration = Duration::from_secs(5);
/// How often an HTTP/2 client must show that it is still there, and how long it may take to.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How far hyper reads a body, or fills a response that the client does not read, ahead. Buffers start at
/// 8 KiB and grow only as far as a connection needs. A prompt of 256 KiB read through 64 KiB costs three
/// times the processor time of one read through this.
const BUFFER: usize = 256 << 10;
/// Bytes of an answer that the system may hold before it sends them: more than it can send until it asks for more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 << 10;
/// What is read at once to find out the protocol; most first requests fit.
const FIRST_READ: usize = 2048;

/// What all connections share.
pub(super) struct Rules {
    pub(super) settings: Arc<ListenerSettings>,
    pub(super) drain: Drain,
    tls: Option<TlsReloader>,
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
}

/// An accepted connection on its way to a worker.
pub(super) struct Arrival {
    pub(super) stream: std::net::TcpStream,
    pub(super) address: SocketAddr,
    /// Held until the connection is closed.
    pub(super) seat: Seat,
}

impl Rules {
    pub(super) fn new(settings: Arc<ListenerSettings>, tls: Option<TlsReloader>, drain: Drain) -> Self {
        let http1 = http1(&settings.limits);
        let http2 = http2(&settings.limits);
        Self { settings, drain, tls, http1, http2 }
    }
}

fn http1(limits: &LimitSettings) -> http1::Builder {
    let head = usize::try_from(limits.head.0).unwrap_or(usize::MAX);
    let mut http1 = http1::Builder::new();
    // Head deadlines are the driver's, which tells a slow head from an idle connection.
    http1.header_read_timeout(None).half_close(false).max_header_size(head);
    http1.max_buf_size(BUFFER.max(head));
    // The scanner counts headers; hyper would leave its stack buffer for a limit of its own.
    if limits.headers > 100 {
        http1.max_headers(limits.headers);
    }
    http1
}

fn http2(limits: &LimitSettings) -> http2::Builder<Streams> {
    let mut http2 = http2::Builder::new(Streams { patience: limits.write_timeout.0 });
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .max_header_list_size(u32::try_from(limits.head.0.min(limits.h2_head.0)).unwrap_or(u32::MAX))
        .max_send_buf_size(64 << 10)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(128)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    http2
}

/// Serves a connection to its end.
pub(super) async fn serve<H: Handler>(arrival: Arrival, handler: Arc<H>, rules: Arc<Rules>) {
    let Arrival { stream, address, seat } = arrival;
    let opened = tokio::select! {
        biased;
        () = rules.drain.began() => None,
        opened = open(stream, &rules) => opened,
    };
    if let Some(Opened { io, first, http2 }) = opened {
        let peer = Peer { address, tls: matches!(io, Transport::Tls(_)) };
        let wire = Arc::new(Wire::default());
        let line = Arc::new(Line { handler, rules, wire, peer });
        if http2 { serve_http2(io, first, line).await } else { serve_http1(io, first, line).await }
    }
    drop(seat);
}

/// Without a bound, the system takes megabytes for a client that never reads, whom nobody would notice before the answer's
/// end.
fn bound_unsent(stream: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // A system that cannot do it has bounds of its own, which are only larger.
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = stream;
}

/// A connection that has said its first word.
struct Opened {
    io: Transport,
    first: Bytes,
    http2: bool,
}

async fn open(stream: std::net::TcpStream, rules: &Rules) -> Option<Opened> {
    let stream = TcpStream::from_std(stream).ok()?;
    // An answer must not wait for the acknowledgement of the piece before.
    stream.set_nodelay(true).ok()?;
    bound_unsent(&stream);
    let mut io = match &rules.tls {
        None => Transport::Plain(stream),
        Some(tls) => {
            let handshake = TlsAcceptor::from(tls.current()).accept(stream);
            let Ok(Ok(stream)) = timeout(HANDSHAKE, handshake).await else {
                refused("tls_handshake");
                return None;
            };
            Transport::Tls(Box::new(stream))
        }
    };
    if let Transport::Tls(stream) = &io
        && stream.get_ref().1.alpn_protocol() == Some(b"h2")
    {
        return Some(Opened { io, first: Bytes::new(), http2: true });
    }
    match timeout(rules.settings.limits.header_timeout.0, first_word(&mut io)).await {
        Ok(Ok((first, http2))) => Some(Opened { io, first, http2 }),
        Ok(Err(_)) => None,
        Err(_) => {
            refused("first_byte");
            None
        }
    }
}

/// Reads until it is clear which protocol the client speaks.
async fn first_word(io: &mut Transport) -> io::Result<(Bytes, bool)> {
    let mut first = BytesMut::with_capacity(FIRST_READ);
    loop {
        if io.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first.starts_with(PREFACE) {
            return Ok((first.freeze(), true));
        }
        if !PREFACE.starts_with(&first) {
            return Ok((first.freeze(), false));
        }
    }
}

async fn serve_http1<H: Handler>(io: Transport, first: Bytes, line: Arc<Line<H>>) {
    let (rules, wire) = (line.rules.clone(), line.wire.clone());
    let limits = &rules.settings.limits;
    let scanner = Scanner::new(usize::try_from(limits.head.0).unwrap_or(usize::MAX), limits.headers);
    let front = Front::new(io, first, Some(scanner), wire.clone());
    let service = service_fn(move |request| answer(line.clone(), request));
    let mut conn = rules.http1.serve_connection(TokioIo::new(front), service);
    let patience = Patience::new(&wire, limits, false);
    let goodbye = http1::Connection::graceful_shutdown;
    match drive(Pin::new(&mut conn), goodbye, patience, &rules.drain).await {
        // An answer may still be on its way to a client that sends the next head: then no word between.
        End::SlowHead if wire.stuck_at().is_none() && !wire.is_busy() => {
            let mut io = conn.into_parts().io.into_inner();
            let _ = timeout(GOODBYE, async {
                io.write_all(REQUEST_TIMEOUT).await?;
                io.shutdown().await
            })
            .await;
        }
        End::Closed if let Some(conversation) = wire.conversation() => {
            let parts = conn.into_parts();
            let client = parts.io.into_inner().into_transport();
            Box::pin(converse(conversation, client, parts.read_buf, &rules.drain)).await;
        }
        End::Closed | End::SlowHead | End::Stuck | End::Cut => {}
    }
}

/// Lets a conversation have the connection until it is over or the drain is.
async fn converse(conversation: Talk, client: Transport, begun: Bytes, drain: &Drain) {
    let _place = drain.place();
    let mut talk = pin!(conversation.converse(client, begun));
    let mut exit = Exit::new(drain);
    poll_fn(|cx| {
        loop {
            if talk.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match exit.poll(cx) {
                Poll::Ready(Step::Cut) => return Poll::Ready(()),
                // The conversation itself knows what to say when the drain's deadline has passed.
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// What a client gets whose head does not arrive in time.
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

async fn serve_http2<H: Handler>(io: Transport, first: Bytes, line: Arc<Line<H>>) {
    let (rules, wire) = (line.rules.clone(), line.wire.clone());
    let front = Front::new(io, first, None, wire.clone());
    let service = service_fn(move |request| answer(line.clone(), request));
    let conn = pin!(rules.http2.serve_connection(TokioIo::new(front), service));
    let patience = Patience::new(&wire, &rules.settings.limits, true);
    drive(conn, http2::Connection::graceful_shutdown, patience, &rules.drain).await;
}

/// How a connection ended.
enum End {
    /// By itself, or after it was told to.
    Closed,
    /// A head did not arrive in time.
    SlowHead,
    /// The client did not read in time.
    Stuck,
    /// The drain is over.
    Cut,
}

/// Runs a connection until it ends, its client loses our patience, or the house closes.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut conn: Pin<&mut C>,
    goodbye: impl Fn(Pin<&mut C>),
    mut patience: Patience<'_>,
    drain: &Drain,
) -> End {
    let mut exit = Exit::new(drain);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(outcome) = conn.as_mut().poll(cx) {
                outcome.err().iter().for_each(unreadable);
                return Poll::Ready(End::Closed);
            }
            match exit.poll(cx) {
                Poll::Ready(Step::Cut) => return Poll::Ready(End::Cut),
                // Over HTTP/1 the next answer says so; an idle connection closed now might be in use by the time that
                // its client hears of it.
                Poll::Ready(Step::Leaving) if !patience.http2 => {}
                // Saying it again does no harm.
                Poll::Ready(_) => goodbye(conn.as_mut()),
                Poll::Pending => match patience.poll(cx) {
                    Poll::Ready(Lost::Idle) => goodbye(conn.as_mut()),
                    Poll::Ready(Lost::Head) => return Poll::Ready(End::SlowHead),
                    Poll::Ready(Lost::Write) => return Poll::Ready(End::Stuck),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    })
    .await
}

/// Counts what hyper refuses by itself, with a status and no word: heads that it cannot read, or that are too large.
fn unreadable(error: &hyper::Error) {
    if error.is_parse() {
        let reason = if error.is_parse_too_large() { "request_too_large" } else { "bad_request" };
        metrics::counter!(REFUSED, "reason" => reason).increment(1);
        tracing::debug!(%error, "request refused by the listener");
    }
}

/// The deadlines of a connection between and around its requests, measured by what is on the wire.
struct Patience<'a> {
    wire: &'a Wire,
    limits: &'a LimitSettings,
    http2: bool,
    waiting: Waiting,
    since: Instant,
    /// Whether the idle connection was told to close.
    said_goodbye: bool,
    alarm: Alarm,
}

/// What the connection waits for; the numbers change when there was progress in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The handler.
    Nothing,
    /// A request, after this many.
    Request(u64),
    /// The rest of a head, after this many requests.
    Head(u64),
    /// The client to read, after this many bytes.
    Write(u64),
}

/// What took too long.
enum Lost {
    Idle,
    Head,
    Write,
}

impl<'a> Patience<'a> {
    fn new(wire: &'a Wire, limits: &'a LimitSettings, http2: bool) -> Self {
        Self {
            wire,
            limits,
            http2,
            waiting: Waiting::Nothing,
            since: Instant::now(),
            said_goodbye: false,
            alarm: Alarm::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        let waiting = self.waiting();
        if waiting != self.waiting {
            self.waiting = waiting;
            self.since = Instant::now();
            self.said_goodbye = false;
        }
        let (allowed, lost) = match waiting {
            Waiting::Nothing => return Poll::Pending,
            Waiting::Request(_) if self.said_goodbye => (self.limits.idle_timeout.0 + GOODBYE, Lost::Write),
            Waiting::Request(_) => (self.limits.idle_timeout.0, Lost::Idle),
            Waiting::Head(_) => (self.limits.header_timeout.0, Lost::Head),
            Waiting::Write(_) => (self.limits.write_timeout.0, Lost::Write),
        };
        let Some(due) = self.since.checked_add(allowed) else { return Poll::Pending };
        self.alarm.poll_until(cx, due).map(|()| {
            self.said_goodbye |= matches!(lost, Lost::Idle);
            lost
        })
    }

    fn waiting(&self) -> Waiting {
        let requests = self.wire.requests();
        if let Some(written) = self.wire.stuck_at() {
            Waiting::Write(written)
        } else if self.wire.is_busy() {
            Waiting::Nothing
        } else if self.http2 || self.wire.stage() == Stage::Between {
            Waiting::Request(requests)
        } else {
            Waiting::Head(requests)
        }
    }
}

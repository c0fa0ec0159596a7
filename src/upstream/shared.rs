//! One HTTP/2 connection, shared by many requests and driven by a task of its own.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::lane::{Again, Lost, MOST_HEAD};
use super::payload::Payload;
use super::pool::{Serial, Tick};
use super::reason;
use super::wire::Wire;
use crate::fault::Fault;

/// What a reader who does not read makes us hold, per stream.
const STREAM_WINDOW: u32 = 128 << 10;
/// So large that slow readers of some streams do not stop the others.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Streams until the peer has told its own limit, and our own bound thereafter.
const MOST_STREAMS: usize = 100;
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_DEADLINE: Duration = Duration::from_secs(10);

/// A handle of an open connection. When the last one is gone and the streams have ended, it closes.
#[derive(Clone)]
pub(super) struct Shared {
    sender: http2::SendRequest<Payload>,
    line: Arc<Line>,
    /// Given by its pool.
    pub(super) serial: Serial,
    /// When it was seen in use last.
    pub(super) used: Tick,
}

struct Line {
    streams: AtomicUsize,
    limit: AtomicUsize,
}

/// One stream's place on the connection.
pub(super) struct Ticket(Arc<Line>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Speaks HTTP/2 on `wire`.
    pub(super) async fn open(mut wire: Wire) -> Result<Self, Fault> {
        let first = wire.watch_first();
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MOST_HEAD as u32)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_DEADLINE)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| reason::answering(&error, true))?;
        let line = Arc::new(Line { streams: AtomicUsize::new(0), limit: AtomicUsize::new(MOST_STREAMS) });
        let limits = Arc::clone(&line);
        tokio::spawn(async move {
            let mut first = std::pin::pin!(async move { first.notified().await });
            let mut told = false;
            let ended = poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                // hyper tells the peer's limit only here, and does not wake this task when it comes: so we do.
                told = told || first.as_mut().poll(cx).is_ready();
                let limit = connection.current_max_send_streams().clamp(1, MOST_STREAMS);
                limits.limit.store(limit, Ordering::Relaxed);
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "shared connection ended");
            }
        });
        Ok(Self { sender, line, serial: Serial::default(), used: Tick::default() })
    }

    /// Sends a request. Dropping the future resets the stream.
    pub(super) async fn send(
        mut self,
        request: Request<Payload>,
    ) -> Result<(Response<Incoming>, Ticket), Box<Lost>> {
        let alone = self.line.streams.fetch_add(1, Ordering::Relaxed) == 0;
        let ticket = Ticket(Arc::clone(&self.line));
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok((response, ticket)),
            Err(mut lost) => {
                let unsent = lost.take_message();
                let error = lost.into_error();
                let again = again(&error, alone);
                Err(Box::new(Lost { fault: reason::answering(&error, true), unsent, again }))
            }
        }
    }

    /// Whether the connection still takes requests.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether another stream fits without waiting.
    pub(super) fn has_room(&self) -> bool {
        self.is_open() && self.streams() < self.line.limit.load(Ordering::Relaxed)
    }

    /// Streams in flight.
    pub(super) fn streams(&self) -> usize {
        self.line.streams.load(Ordering::Relaxed)
    }
}

/// Whether a request may go out again. `alone`: no other was on the connection when it was sent. A connection that others
/// are on is not stale: whatever it dies of, it carried requests that somebody works on.
fn again(error: &hyper::Error, alone: bool) -> Again {
    match reason::source::<h2::Error>(error) {
        Some(error) if reason::is_unprocessed(error) => Again::Yes,
        Some(_) => Again::No,
        // Of a connection that broke, hyper gives the socket's error without HTTP/2's around it.
        None if alone && reason::source::<io::Error>(error).is_some() => Again::IfAtOnce,
        None => Again::No,
    }
}

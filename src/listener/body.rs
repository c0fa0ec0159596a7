//! A request body under its deadlines, rate and size limits.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::LimitSettings;
use super::alarm::Alarm;
use super::inflate::Inflate;
use super::remains::Remains;
use crate::fault::{Fault, FaultKind};

/// How long a body may be slower than the lowest rate.
const GRACE: Duration = Duration::from_secs(5);
/// What is set aside on the word of a `Content-Length` alone.
const ON_TRUST: usize = 1 << 20;

/// A request body under its deadlines, rate and size limits. Trailers are dropped.
///
/// As a [`Body`] it yields data frames only and fails with `TooLarge` (413), `SlowRequest` (408),
/// `BadRequest` (400, broken framing or compression) or `Cancelled` (the client went away). The time and
/// rate of a body are measured from when somebody first waits for it.
pub struct RequestBody {
    source: Source,
    limit: u64,
    /// The limit when the body is not collected but sent on.
    upload_limit: u64,
    received: u64,
    pace: Pace,
    inflate: Option<Box<Inflate>>,
    /// Where the rest goes when nobody reads it.
    remains: Option<Arc<Remains>>,
}

enum Source {
    Client(Incoming),
    Given(Option<Bytes>),
}

/// How fast the body must come.
struct Pace {
    timeout: Duration,
    /// Bytes per second; 0 for any.
    rate: u64,
    started: Option<Instant>,
    /// Of a body that is sent on, only the time counts in which the client is waited for.
    upload: Option<Waits>,
    alarm: Alarm,
}

/// How long the client of an upload has been waited for.
#[derive(Default)]
struct Waits {
    before: Duration,
    since: Option<Instant>,
}

impl RequestBody {
    /// A body that is already here, without limits; for tests and for requests that the house makes itself.
    pub fn given(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let pace =
            Pace { timeout: Duration::MAX, rate: 0, started: None, upload: None, alarm: Alarm::default() };
        Self {
            source: Source::Given(Some(bytes).filter(|bytes| !bytes.is_empty())),
            limit: u64::MAX,
            upload_limit: u64::MAX,
            received: 0,
            pace,
            inflate: None,
            remains: None,
        }
    }

    pub(super) fn received(incoming: Incoming, limits: &LimitSettings, remains: &Arc<Remains>) -> Self {
        // Without a body there is nothing that could be left.
        let remains = (!incoming.is_end_stream()).then(|| remains.clone());
        let pace = Pace {
            timeout: limits.body_timeout.0,
            rate: limits.body_min_rate.0,
            started: None,
            upload: None,
            alarm: Alarm::default(),
        };
        Self {
            source: Source::Client(incoming),
            limit: limits.body.0,
            upload_limit: limits.largest(),
            received: 0,
            pace,
            inflate: None,
            remains,
        }
    }

    /// The body as it is when it has been decompressed.
    pub(super) fn inflated(mut self, inflate: Option<Inflate>) -> Self {
        self.inflate = inflate.map(Box::new);
        self
    }

    /// The whole body as one piece: without copying when it came in one, otherwise with as few
    /// allocations as its true length asks for.
    ///
    /// # Errors
    /// As the [`Body`] itself.
    pub async fn collect(mut self) -> Result<Bytes, Fault> {
        if self.size_hint().lower() > self.limit {
            return Err(too_large(self.limit));
        }
        let Some(first) = self.data().await? else { return Ok(Bytes::new()) };
        if self.is_end_stream() {
            return Ok(first);
        }
        // Of a body of unknown length, the first piece may still be all.
        let second = match self.size_hint().exact() {
            Some(_) => Bytes::new(),
            None => match self.data().await? {
                Some(second) => second,
                None => return Ok(first),
            },
        };
        let here = first.len() + second.len();
        let announced = self.size_hint().lower().saturating_add(here as u64);
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        let mut whole = BytesMut::with_capacity(announced.min(ON_TRUST).max(here));
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        // Pieces are given back at once: hyper reads the next into the same memory.
        drop((first, second));
        while let Some(data) = self.data().await? {
            if whole.capacity() - whole.len() < data.len() {
                // Trust grows with what has really come.
                let missing = announced.saturating_sub(whole.len());
                whole.reserve(missing.clamp(data.len(), whole.len().max(data.len())));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    /// The body as an upload, which is read at the pace of whoever it is sent to: its time is that in which the client
    /// is waited for.
    pub fn upload(mut self) -> Self {
        self.limit = self.upload_limit;
        self.pace.upload = Some(Waits::default());
        self
    }

    async fn data(&mut self) -> Result<Option<Bytes>, Fault> {
        poll_fn(|cx| self.poll_data(cx)).await.transpose()
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            if let Some(inflate) = &mut self.inflate
                && let Some(piece) = inflate.next_piece().transpose()
            {
                return Poll::Ready(Some(piece));
            }
            let Some(data) = ready!(self.poll_received(cx)?) else {
                return Poll::Ready(self.inflate.as_mut().and_then(|inflate| inflate.end().err()).map(Err));
            };
            match &mut self.inflate {
                None => return Poll::Ready(Some(Ok(data))),
                Some(inflate) => inflate.feed(data),
            }
        }
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        let incoming = match &mut self.source {
            Source::Given(bytes) => return Poll::Ready(Ok(bytes.take())),
            Source::Client(incoming) => incoming,
        };
        loop {
            let frame = match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Pending => {
                    ready!(self.pace.poll(cx, self.received));
                    return Poll::Ready(Err(too_slow()));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(frame)) => frame.map_err(|error| broken_off(&error))?,
            };
            let Ok(data) = frame.into_data() else { continue };
            self.pace.came();
            self.received += data.len() as u64;
            if self.received > self.limit {
                return Poll::Ready(Err(too_large(self.limit)));
            }
            if !data.is_empty() {
                return Poll::Ready(Ok(Some(data)));
            }
        }
    }
}

impl Pace {
    /// A piece came.
    fn came(&mut self) {
        if let Some(waits) = &mut self.upload
            && let Some(since) = waits.since.take()
        {
            waits.before += since.elapsed();
        }
    }

    /// Ready once the body is too late or too slow, given how much of it has come.
    fn poll(&mut self, cx: &mut Context<'_>, received: u64) -> Poll<()> {
        if let Some(waits) = &mut self.upload {
            let since = *waits.since.get_or_insert_with(Instant::now);
            let mut allowed = self.timeout;
            if let Some(enough_until) = received.saturating_mul(1000).checked_div(self.rate) {
                let slow = Duration::from_millis(enough_until).max(GRACE).saturating_sub(waits.before);
                allowed = allowed.min(slow);
            }
            return match since.checked_add(allowed) {
                Some(due) => self.alarm.poll_until(cx, due),
                None => Poll::Pending,
            };
        }
        let started = *self.started.get_or_insert_with(Instant::now);
        let mut allowed = self.timeout;
        // The moment at which this many bytes are fewer than the rate asks for; no rate, no such moment.
        if let Some(enough_until) = received.saturating_mul(1000).checked_div(self.rate) {
            allowed = allowed.min(Duration::from_millis(enough_until).max(GRACE));
        }
        match started.checked_add(allowed) {
            Some(due) => self.alarm.poll_until(cx, due),
            None => Poll::Pending,
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(remains) = self.remains.take() else { return };
        if let Source::Client(incoming) = std::mem::replace(&mut self.source, Source::Given(None))
            && !incoming.is_end_stream()
        {
            remains.keep(incoming);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.get_mut().poll_data(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            // The checksum at the end of a compressed body must be seen.
            Source::Client(incoming) => self.inflate.is_none() && incoming.is_end_stream(),
            Source::Given(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Client(_) if self.inflate.is_some() => SizeHint::default(),
            Source::Client(incoming) => incoming.size_hint(),
            Source::Given(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

/// The fault of a body over `limit` bytes.
pub(super) fn too_large(limit: u64) -> Fault {
    let allowed = "`limits.body` of the gateway, of forms, files and raw requests `limits.upload`";
    Fault::new(FaultKind::TooLarge, format!("the request body is larger than {limit} bytes ({allowed})"))
}

fn too_slow() -> Fault {
    Fault::new(FaultKind::SlowRequest, "the request body did not arrive in time")
}

fn broken_off(error: &hyper::Error) -> Fault {
    let mut cause = error.source();
    let mut malformed = false;
    while let Some(error) = cause {
        malformed |= error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
        });
        cause = error.source();
    }
    if malformed {
        Fault::new(FaultKind::BadRequest, "the request body's framing is malformed")
    } else {
        Fault::new(FaultKind::Cancelled, "the client went away while it sent the request body")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_slower_a_body_the_sooner_its_end() {
        // (rate, received, seconds until it is given up)
        for (rate, received, seconds) in
            [(1024, 0, 5), (1024, 1024, 5), (1024, 8 * 1024, 8), (1024, 1 << 20, 30), (0, 0, 30)]
        {
            let mut pace = Pace {
                timeout: Duration::from_secs(30),
                rate,
                started: None,
                upload: None,
                alarm: Alarm::default(),
            };
            let start = Instant::now();
            poll_fn(|cx| pace.poll(cx, received)).await;
            assert_eq!(start.elapsed(), Duration::from_secs(seconds), "{received} bytes at {rate}/s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_is_measured_only_while_its_client_is_waited_for() {
        let waits = Some(Waits::default());
        let timeout = Duration::from_secs(30);
        let mut pace = Pace { timeout, rate: 1024, started: None, upload: waits, alarm: Alarm::default() };
        let pass = async |secs| tokio::time::sleep(Duration::from_secs(secs)).await;
        for _ in 0..10 {
            // Nobody takes anything for a minute, then the client is waited for for two seconds.
            pass(60).await;
            assert!(poll_fn(|cx| Poll::Ready(pace.poll(cx, 1 << 20).is_pending())).await);
            pass(2).await;
            pace.came();
        }
        let start = Instant::now();
        poll_fn(|cx| pace.poll(cx, 1 << 20)).await;
        assert_eq!(start.elapsed(), timeout, "a silence");
        pace.came();
        let start = Instant::now();
        poll_fn(|cx| pace.poll(cx, 60 << 10)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(10), "too slow in all: 60 KiB in 60 s of waiting");
    }

    #[tokio::test]
    async fn a_given_body_comes_back_as_the_same_bytes() {
        let bytes = Bytes::from_static(b"hello");
        let body = RequestBody::given(bytes.clone());
        assert_eq!(body.size_hint().exact(), Some(5));
        let collected = body.collect().await.expect("a body");
        assert_eq!((collected.as_ptr(), collected.len()), (bytes.as_ptr(), 5));
        assert!(RequestBody::given("").collect().await.expect("an empty body").is_empty());
    }
}

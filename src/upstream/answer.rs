//! An answer's body: read with a bound, and the connection given back when it was read to its clean end.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::gate::unheard;
use super::lane::{Lane, quiet};
use super::pool::Pool;
use super::reason;
use super::shared::Ticket;
use super::unpack::Unpack;
use crate::fault::{Fault, FaultKind};

/// The body of an upstream's answer.
///
/// Dropped before its end, it cancels the upstream's work: an HTTP/1.1 connection is closed, an HTTP/2 stream reset.
pub struct AnswerBody {
    source: Source,
    unpack: Option<Box<Unpack>>,
}

enum Source {
    /// Nothing more comes.
    Ended,
    /// Everything came with the head; the connection is back in its pool.
    Whole(Bytes),
    /// The rest comes over a connection that is ours.
    Lane(Box<Flow>),
    /// The rest comes over a stream of a shared connection.
    Shared(Box<(Incoming, Ticket)>),
}

/// A body on an HTTP/1.1 connection.
struct Flow {
    incoming: Incoming,
    lane: Option<Box<Lane>>,
    home: Arc<Pool>,
}

/// The answer on an HTTP/1.1 connection.
pub(super) fn from_lane(
    response: Response<Incoming>,
    lane: Box<Lane>,
    home: &Arc<Pool>,
) -> Result<Response<AnswerBody>, Fault> {
    let (mut parts, incoming) = response.into_parts();
    // Dropping the lane with an error closes the connection: nothing after such a head can be trusted.
    let unpack = examine(&mut parts, home)?;
    let mut flow = Flow { incoming, lane: Some(lane), home: Arc::clone(home) };
    let source = match flow.at_once()? {
        Some(bytes) if bytes.is_empty() => Source::Ended,
        Some(bytes) => Source::Whole(bytes),
        None => Source::Lane(Box::new(flow)),
    };
    Ok(Response::from_parts(parts, AnswerBody { source, unpack }))
}

/// The answer on an HTTP/2 connection.
pub(super) fn from_shared(
    response: Response<Incoming>,
    ticket: Ticket,
    home: &Pool,
) -> Result<Response<AnswerBody>, Fault> {
    let (mut parts, incoming) = response.into_parts();
    let unpack = examine(&mut parts, home)?;
    let source = Source::Shared(Box::new((incoming, ticket)));
    Ok(Response::from_parts(parts, AnswerBody { source, unpack }))
}

/// Refuses the heads that hyper lets through, and finds out whether the body must be unpacked.
fn examine(parts: &mut http::response::Parts, home: &Pool) -> Result<Option<Box<Unpack>>, Fault> {
    let status = parts.status.as_u16();
    if status == 101 {
        return Err(Fault::new(FaultKind::Malformed, "the upstream switched protocols unasked"));
    }
    if !(200..=599).contains(&status) {
        return Err(Fault::new(FaultKind::Malformed, "the answer's status is not one"));
    }
    if parts.headers.contains_key(TRANSFER_ENCODING) && parts.headers.contains_key(CONTENT_LENGTH) {
        return Err(Fault::new(FaultKind::Malformed, "the answer has two lengths"));
    }
    Unpack::asked_by(&mut parts.headers, home.most_body)
}

impl AnswerBody {
    /// A body that is at hand.
    pub fn whole(bytes: Bytes) -> Self {
        let source = if bytes.is_empty() { Source::Ended } else { Source::Whole(bytes) };
        Self { source, unpack: None }
    }

    /// The next piece, never empty; `None` at the clean end.
    ///
    /// # Errors
    /// `Truncated` when the connection broke off, `Malformed` when what came is not HTTP or cannot be unpacked.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Fault>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// [`Self::chunk`] for futures made by hand.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        if self.unpack.is_none() {
            return self.source.poll(cx);
        }
        loop {
            let packed = match ready!(self.source.poll(cx)) {
                Some(Ok(packed)) => Some(packed),
                Some(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                None => None,
            };
            let Some(unpack) = &mut self.unpack else { return Poll::Ready(None) };
            let step = match &packed {
                Some(packed) => unpack.feed(packed),
                None => unpack.finish(),
            };
            if packed.is_none() {
                self.unpack = None;
            }
            match step {
                Ok(bytes) if bytes.is_empty() && packed.is_none() => return Poll::Ready(None),
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(bytes))),
                Err(fault) => {
                    (self.source, self.unpack) = (Source::Ended, None);
                    return Poll::Ready(Some(Err(fault)));
                }
            }
        }
    }

    /// The whole body, uncopied when it came in one piece.
    ///
    /// # Errors
    /// As [`Self::chunk`]; `Malformed` when it is larger than `limit` bytes.
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, Fault> {
        let announced = self.size_hint().lower();
        if announced > limit {
            return Err(too_large(limit));
        }
        let Some(first) = self.chunk().await.transpose()? else { return Ok(Bytes::new()) };
        let mut more = self.chunk().await.transpose()?;
        if more.is_none() && first.len() as u64 <= limit {
            return Ok(first);
        }
        let expected = usize::try_from(announced).unwrap_or(0).max(first.len());
        let mut all = BytesMut::with_capacity(expected + 1);
        all.extend_from_slice(&first);
        while let Some(bytes) = more {
            if (all.len() + bytes.len()) as u64 > limit {
                return Err(too_large(limit));
            }
            all.extend_from_slice(&bytes);
            more = self.chunk().await.transpose()?;
        }
        if all.len() as u64 > limit { Err(too_large(limit)) } else { Ok(all.freeze()) }
    }
}

fn too_large(limit: u64) -> Fault {
    Fault::new(FaultKind::Malformed, format!("answer exceeds {limit} bytes"))
}

impl Source {
    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let step = match self {
            Self::Ended => return Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Ended;
                return Poll::Ready(Some(Ok(bytes)));
            }
            Self::Lane(flow) => ready!(flow.poll(cx)),
            Self::Shared(stream) => ready!(data(&mut stream.0, cx)),
        };
        if !matches!(step, Some(Ok(_))) {
            // The end or an error: whatever stands behind it goes back or is closed.
            *self = Self::Ended;
        }
        Poll::Ready(step)
    }
}

impl Flow {
    /// The whole body if it came together with the head; then the connection has gone home.
    fn at_once(&mut self) -> Result<Option<Bytes>, Fault> {
        if !self.lane.as_ref().is_some_and(|lane| lane.is_free()) {
            return Ok(None);
        }
        // A free lane has finished its exchange: all that it had to say stands in the channel, in one piece.
        let mut all = Bytes::new();
        loop {
            match self.take() {
                Poll::Ready(Some(piece)) if all.is_empty() => all = piece?,
                Poll::Ready(Some(piece)) => all = [&all[..], &piece?[..]].concat().into(),
                Poll::Ready(None) => break,
                Poll::Pending => return Err(reason::truncated()),
            }
        }
        self.go_home();
        Ok(Some(all))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let mut step = self.take();
        if step.is_pending() {
            if let Some(lane) = &mut self.lane {
                lane.drive(cx);
            }
            step = self.take();
        }
        match step {
            Poll::Pending if self.lane.as_ref().is_none_or(|lane| lane.is_closed()) => {
                Poll::Ready(Some(Err(reason::truncated())))
            }
            Poll::Ready(None) => {
                self.go_home();
                Poll::Ready(None)
            }
            step => step,
        }
    }

    /// What stands in the channel. It gets there by `drive` alone, so it needs no waker and need not wake us.
    #[inline]
    fn take(&mut self) -> Poll<Option<Result<Bytes, Fault>>> {
        unheard(|| data(&mut self.incoming, &mut quiet()))
    }

    fn go_home(&mut self) {
        let Some(mut lane) = self.lane.take() else { return };
        if !lane.is_free() {
            lane.idle();
        }
        if lane.is_free() {
            self.home.park(lane);
        }
    }
}

impl Drop for Flow {
    /// A reader who stops at the last event has often left nothing but the end mark unread; then the connection is
    /// kept. Else it closes with the lane.
    fn drop(&mut self) {
        if self.lane.is_some() {
            let _ = self.poll(&mut quiet());
        }
    }
}

/// The next data of a body; trailers are dropped.
fn data(incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
    loop {
        match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Some(Ok(bytes))),
                _ => {}
            },
            Some(Err(error)) => return Poll::Ready(Some(Err(reason::reading(&error)))),
            None => return Poll::Ready(None),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.get_mut().poll_chunk(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.unpack.is_none() && matches!(self.source, Source::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            _ if self.unpack.is_some() => SizeHint::default(),
            Source::Ended => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Lane(flow) => flow.incoming.size_hint(),
            Source::Shared(stream) => stream.0.size_hint(),
        }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

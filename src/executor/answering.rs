//! An upstream's answer as it arrives, over a socket or from inside the process.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use tokio::time::{Instant, Sleep};

use super::chaos::Cut;
use super::passing::Passing;
use crate::fault::{Fault, FaultKind};
use crate::upstream::AnswerBody;

/// The body of an answer.
pub(super) enum Answering {
    /// From a socket.
    Http(AnswerBody),
    /// Played by a provider inside the process.
    Local(Script),
    /// Through what may take its time.
    Passing(Passing),
    /// Broken off on purpose.
    Cut(Box<Cut>),
    /// With its first bytes, which were looked at already.
    Begun(Bytes, Box<Answering>),
}

/// Pieces to be played, each after its delay.
pub(super) struct Script {
    pieces: VecDeque<(Duration, Bytes)>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Script {
    pub(super) fn new(pieces: Vec<(Duration, Bytes)>) -> Self {
        Self { pieces: pieces.into(), wait: None }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some((delay, _)) = self.pieces.front() else { return Poll::Ready(None) };
        if !delay.is_zero() {
            let wait = self.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(*delay)));
            if wait.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.wait = None;
        }
        Poll::Ready(self.pieces.pop_front().map(|(_, bytes)| bytes))
    }
}

impl Answering {
    /// The next bytes; `None` at the clean end.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        match self {
            Self::Http(body) => body.poll_chunk(cx),
            Self::Local(script) => script.poll_piece(cx).map(|piece| piece.map(Ok)),
            Self::Passing(passing) => passing.poll_chunk(cx),
            Self::Cut(cut) => cut.poll_chunk(cx),
            Self::Begun(first, rest) => match std::mem::take(first) {
                none if none.is_empty() => rest.poll_chunk(cx),
                first => Poll::Ready(Some(Ok(first))),
            },
        }
    }

    /// Whether it is made inside the process.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Gives back the bytes that came last.
    pub(super) fn put_back(&mut self, first: Bytes) {
        let rest = std::mem::replace(self, Self::Local(Script::new(Vec::new())));
        *self = Self::Begun(first, Box::new(rest));
    }

    /// Bytes that are still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Http(body) => body.size_hint().exact(),
            Self::Passing(_) | Self::Cut(_) => None,
            Self::Begun(first, rest) => Some(rest.left()? + first.len() as u64),
            Self::Local(script) => Some(script.pieces.iter().map(|(_, piece)| piece.len() as u64).sum()),
        }
    }

    /// The beginning of the body: all of it, or what came until `limit` was passed or something went wrong.
    pub(super) async fn beginning(&mut self, limit: usize, idle: Duration, end: Instant) -> Bytes {
        let mut all = BytesMut::new();
        while all.len() < limit {
            let due = (Instant::now() + idle).min(end);
            let next = self.chunk(due, || Fault::new(FaultKind::Truncated, "the rest did not come")).await;
            match next {
                Ok(Some(chunk)) => all.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        all.freeze()
    }

    /// The next bytes, within `idle` and before `end`. `on_idle` and `on_end` say what passing them means.
    pub(super) async fn chunk(
        &mut self,
        deadline: Instant,
        late: impl FnOnce() -> Fault,
    ) -> Result<Option<Bytes>, Fault> {
        let next = std::future::poll_fn(|cx| self.poll_chunk(cx));
        match tokio::time::timeout_at(deadline, next).await {
            Ok(next) => next.transpose(),
            Err(_) => Err(late()),
        }
    }

    /// The whole body, at most `limit` bytes; no copy when it came in one piece.
    pub(super) async fn collect(
        &mut self,
        limit: u64,
        idle: Duration,
        end: Instant,
        late: impl Fn(Instant) -> Fault,
    ) -> Result<Bytes, Fault> {
        let at = (Instant::now() + idle).min(end);
        match self.chunk(at, || late(at)).await? {
            Some(first) => self.collect_after(first, limit, idle, end, late).await,
            None => Ok(Bytes::new()),
        }
    }

    /// The whole body after its first bytes.
    pub(super) async fn collect_after(
        &mut self,
        first: Bytes,
        limit: u64,
        idle: Duration,
        end: Instant,
        late: impl Fn(Instant) -> Fault,
    ) -> Result<Bytes, Fault> {
        let deadline = || (Instant::now() + idle).min(end);
        let at = deadline();
        let Some(second) = self.chunk(at, || late(at)).await? else { return within(first, limit) };
        let mut all = BytesMut::with_capacity((first.len() + second.len()) * 2);
        all.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            if (all.len() + chunk.len()) as u64 > limit {
                return Err(too_large(limit));
            }
            all.extend_from_slice(&chunk);
            let at = deadline();
            next = self.chunk(at, || late(at)).await?;
        }
        Ok(all.freeze())
    }
}

fn within(body: Bytes, limit: u64) -> Result<Bytes, Fault> {
    if body.len() as u64 > limit { Err(too_large(limit)) } else { Ok(body) }
}

fn too_large(limit: u64) -> Fault {
    Fault::new(FaultKind::Malformed, format!("the provider's answer exceeds {limit} bytes"))
}

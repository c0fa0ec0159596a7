//! A request body that is still arriving: sent on as it comes, at the pace of whoever reads slower, and only once.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Body;
use tokio::time::Instant;

use crate::fault::{Fault, FaultKind};

/// Where an upload comes from: data frames only; its errors are the client's faults.
pub type Source = Pin<Box<dyn Body<Data = Bytes, Error = Fault> + Send>>;

/// Looks at a piece; an error ends the upload.
pub type Watch = Box<dyn FnMut(&[u8]) -> Result<(), Fault> + Send>;

/// The part of a request body that has not arrived yet. Clones are handles of the same upload.
///
/// Nothing is buffered here: a piece is taken from the client when the upstream has room for it.
#[derive(Clone)]
pub struct Upload(Arc<Mutex<State>>);

struct State {
    source: Option<Source>,
    /// Bytes that the source still has to give, where the client said so.
    left: Option<u64>,
    /// A piece has been taken on its way to an upstream: another attempt would lack it.
    spent: bool,
    /// Nothing more is sent; whoever asks for more waits.
    stopped: bool,
    /// Nobody wants the rest.
    abandoned: bool,
    /// Looks at each piece before it goes on.
    watch: Option<Watch>,
    /// Why the client's side broke off.
    failure: Option<Fault>,
    /// Whether the client is the one that is waited for.
    awaits_client: bool,
    /// When the last piece was handed over, or the end was seen.
    moved: Instant,
    waker: Option<Waker>,
}

/// How an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The client is to send more.
    AwaitsClient,
    /// The upstream has not taken anything since then.
    AwaitsUpstream(Instant),
    /// Everything was handed over then.
    Sent(Instant),
}

impl Upload {
    /// The rest of a body.
    pub fn new(source: Source) -> Self {
        Self(Arc::new(Mutex::new(State {
            left: source.size_hint().exact(),
            source: Some(source),
            spent: false,
            stopped: false,
            abandoned: false,
            watch: None,
            failure: None,
            awaits_client: false,
            moved: Instant::now(),
            waker: None,
        })))
    }

    /// The same upload, each piece of which is looked at before it goes on.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        self.state().watch = Some(watch);
        self
    }

    /// The next piece, for a reader inside the house: it does not count as sent.
    ///
    /// # Errors
    /// What the client's side says.
    pub async fn read(&self) -> Result<Option<Bytes>, Fault> {
        let next = std::future::poll_fn(|cx| self.poll(cx)).await.transpose();
        self.state().spent = false;
        next
    }

    /// Bytes that have not come yet, where the client announced them.
    pub fn left(&self) -> Option<u64> {
        self.state().left
    }

    /// Whether nothing more will come.
    pub fn is_over(&self) -> bool {
        let state = self.state();
        state.source.as_ref().is_none_or(|source| source.is_end_stream())
    }

    /// Whether a piece of it has been sent, so that no other attempt can be made.
    pub fn is_spent(&self) -> bool {
        self.state().spent
    }

    /// Why the client's side broke off, if it did.
    pub fn failure(&self) -> Option<Fault> {
        self.state().failure.clone()
    }

    /// How it stands now.
    pub fn standing(&self) -> Standing {
        let state = self.state();
        match (&state.source, state.awaits_client) {
            (None, _) => Standing::Sent(state.moved),
            (Some(_), true) => Standing::AwaitsClient,
            (Some(_), false) => Standing::AwaitsUpstream(state.moved),
        }
    }

    /// The upstream has refused: what has not been sent never will be, but the connection can still be read.
    pub(super) fn stop(&self) {
        self.state().stopped = true;
    }

    /// Nobody wants the rest: whoever still sends it gets an error, and the client's body is let go.
    pub fn abandon(&self) {
        let mut state = self.state();
        state.abandoned = true;
        let (source, waker) = (state.source.take(), state.waker.take());
        drop(state);
        drop(source);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next piece; `None` at the end.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let state = &mut *self.state();
        if let Some(fault) = &state.failure {
            return Poll::Ready(Some(Err(fault.clone())));
        }
        if state.abandoned {
            return Poll::Ready(Some(Err(Fault::new(FaultKind::Cancelled, "nobody waits for the upload"))));
        }
        if state.stopped {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(source) = &mut state.source else { return Poll::Ready(None) };
        loop {
            match source.as_mut().poll_frame(cx) {
                Poll::Pending => {
                    state.awaits_client = true;
                    state.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(piece) = frame.into_data() else { continue };
                    if piece.is_empty() {
                        continue;
                    }
                    if let Some(Err(fault)) = state.watch.as_mut().map(|watch| watch(&piece)) {
                        (state.source, state.failure) = (None, Some(fault.clone()));
                        return Poll::Ready(Some(Err(fault)));
                    }
                    state.left = state.left.map(|left| left.saturating_sub(piece.len() as u64));
                    (state.spent, state.awaits_client, state.moved) = (true, false, Instant::now());
                    return Poll::Ready(Some(Ok(piece)));
                }
                Poll::Ready(Some(Err(fault))) => {
                    (state.source, state.failure) = (None, Some(fault.clone()));
                    return Poll::Ready(Some(Err(fault)));
                }
                Poll::Ready(None) => {
                    (state.source, state.moved) = (None, Instant::now());
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upload, {:?} bytes to come", self.left())
    }
}

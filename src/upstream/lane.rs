//! One HTTP/1.1 connection, which serves one request at a time and is driven by whoever uses it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::gate::Gate;
use super::payload::Payload;
use super::reason;
use super::wire::{Progress, Wire};
use super::{STALE, pool::Tick};
use crate::fault::Fault;

/// Largest head of an answer.
pub(super) const MOST_HEAD: usize = 64 << 10;
/// Largest piece that is read at once. The buffer begins at 8 KiB and grows only while reads fill it.
pub(super) const MOST_BUFFER: usize = 128 << 10;

/// An open connection.
pub(super) struct Lane {
    sender: http1::SendRequest<Payload>,
    connection: Option<http1::Connection<TokioIo<Wire>, Payload>>,
    progress: Arc<Progress>,
    gate: Arc<Gate>,
    /// The gate's own waker, the only one that the connection ever sees.
    waker: Waker,
    /// When it was parked last.
    pub(super) parked: Tick,
}

/// A request that got no answer.
pub(super) struct Lost {
    pub(super) fault: Fault,
    /// The request, if nothing of it was written.
    pub(super) unsent: Option<Request<Payload>>,
    pub(super) again: Again,
}

/// Whether a request that died on a reused connection may go out once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// The upstream may have worked on it.
    No,
    /// No byte came back: yes, if the connection died at once.
    IfAtOnce,
    /// The protocol says that it was not processed.
    Yes,
}

impl Again {
    /// Whether a request sent at `since` may be sent again now. `once`: it must not be carried out twice.
    pub(super) fn allows(self, since: Instant, once: bool) -> bool {
        match self {
            Self::No => false,
            Self::IfAtOnce => !once && since.elapsed() < STALE,
            Self::Yes => true,
        }
    }
}

impl Lane {
    /// Speaks HTTP/1.1 on `wire`.
    pub(super) async fn open(mut wire: Wire) -> Result<Box<Self>, Fault> {
        let progress = wire.watch_heads();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MOST_BUFFER)
            .max_header_size(MOST_HEAD)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| reason::answering(&error, true))?;
        let gate = Gate::new();
        let waker = Waker::from(Arc::clone(&gate));
        let connection = Some(connection);
        Ok(Box::new(Self { sender, connection, progress, gate, waker, parked: Tick::default() }))
    }

    /// Sends a request and drives the connection until the answer's head is here. Dropping the future closes it.
    pub(super) async fn send(
        mut self: Box<Self>,
        request: Request<Payload>,
    ) -> Result<(Response<Incoming>, Box<Self>), Box<Lost>> {
        self.progress.reset();
        // Unconstrained: the answer is polled with a waker that does nothing, because it can only come out of
        // `drive`; it must not be put off by the runtime's budget, which would use that waker.
        let mut answer = pin!(tokio::task::unconstrained(self.sender.try_send_request(request)));
        let outcome = poll_fn(|cx| {
            self.drive(cx);
            match answer.as_mut().poll(&mut quiet()) {
                Poll::Pending if self.connection.is_none() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            }
        })
        .await;
        match outcome {
            Some(Ok(response)) => Ok((response, self)),
            Some(Err(mut lost)) => {
                let unsent = lost.take_message();
                Err(self.lost(unsent, &lost.into_error()))
            }
            None => Err(Box::new(Lost { fault: reason::closed(), unsent: None, again: Again::No })),
        }
    }

    fn lost(&self, unsent: Option<Request<Payload>>, error: &hyper::Error) -> Box<Lost> {
        let silent = self.progress.is_silent();
        let again = if silent && !error.is_user() { Again::IfAtOnce } else { Again::No };
        Box::new(Lost { fault: reason::answering(error, silent), unsent, again })
    }

    /// Reads and writes what the socket allows, and has `cx` woken when it allows more. Progress is made nowhere else.
    #[inline]
    pub(super) fn drive(&mut self, cx: &Context<'_>) {
        self.gate.turn_to(cx);
        self.poll();
    }

    /// Reads and writes what the socket allows, for nobody in particular.
    pub(super) fn idle(&mut self) {
        self.gate.turn_away();
        self.poll();
    }

    /// The exchange is over: the task that had it is not woken any more.
    pub(super) fn rest(&self) {
        self.gate.turn_away();
    }

    #[inline]
    fn poll(&mut self) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(&mut Context::from_waker(&self.waker)).is_ready()
        {
            // Its errors have gone to the request or to the body. Dropping it resolves what still waits.
            self.connection = None;
        }
    }

    /// Whether the last exchange is over in both directions and the connection can serve another.
    pub(super) fn is_free(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.connection.is_none()
    }
}

/// A context for polling what only [`Lane::drive`] can make ready.
pub(super) fn quiet() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

//! A request as the pool holds it, so that it can be sent again, and its body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request};
use http_body::{Body, Frame, SizeHint};

use super::{Outbound, Upload};
use crate::fault::Fault;

/// An [`Outbound`] whose body is shared between the copies.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: Payload,
}

impl Draft {
    pub(super) fn new(request: Outbound) -> Self {
        let Outbound { method, path_and_query, headers, body, upload, .. } = request;
        Self { method, path: path_and_query, headers, body: Payload::new(body, upload) }
    }
}

/// A request that hyper gave back unsent.
impl From<Request<Payload>> for Draft {
    fn from(request: Request<Payload>) -> Self {
        let (parts, body) = request.into_parts();
        let path = parts.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Self { method: parts.method, path, headers: parts.headers, body }
    }
}

/// A body in pieces, with an upload behind them or not. A copy starts from the beginning of what was left of the
/// pieces; the upload is the same.
#[derive(Clone)]
pub(super) struct Payload {
    pieces: Arc<Pieces>,
    next: usize,
    left: u64,
    upload: Option<Upload>,
}

/// The pieces, and whether a copy was handed over to the connection whole.
struct Pieces {
    all: Vec<Bytes>,
    handed_over: AtomicBool,
}

/// Looks from outside whether a request went out whole.
#[derive(Clone)]
pub(super) struct Trace(Arc<Pieces>);

impl Trace {
    /// The request goes out once more.
    pub(super) fn reset(&self) {
        self.0.handed_over.store(false, Ordering::Relaxed);
    }

    /// Whether the connection took the whole body of this request.
    pub(super) fn is_sent(&self) -> bool {
        self.0.handed_over.load(Ordering::Relaxed)
    }
}

impl Payload {
    fn new(pieces: Vec<Bytes>, upload: Option<Upload>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        let upload = upload.filter(|upload| !upload.is_over());
        let handed_over = AtomicBool::new(left == 0 && upload.is_none());
        Self { pieces: Arc::new(Pieces { all: pieces, handed_over }), next: 0, left, upload }
    }

    /// Its trace.
    pub(super) fn trace(&self) -> Trace {
        Trace(self.pieces.clone())
    }

    fn handed_over(&self) {
        if self.left == 0 && self.upload.is_none() {
            self.pieces.handed_over.store(true, Ordering::Relaxed);
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        while let Some(piece) = self.pieces.all.get(self.next).cloned() {
            self.next += 1;
            if !piece.is_empty() {
                self.left -= piece.len() as u64;
                self.handed_over();
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        let Some(upload) = &self.upload else { return Poll::Ready(None) };
        let polled = upload.poll(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.upload = None;
            self.handed_over();
        }
        polled.map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.upload.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(upload) = &self.upload else { return SizeHint::with_exact(self.left) };
        match upload.left() {
            Some(left) => SizeHint::with_exact(self.left + left),
            None => {
                let mut hint = SizeHint::default();
                hint.set_lower(self.left);
                hint
            }
        }
    }
}

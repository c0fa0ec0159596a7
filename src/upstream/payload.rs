//! A request as the pool holds it, so that it can be sent again, and its body.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request};
use http_body::{Body, Frame, SizeHint};

use super::Outbound;

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
        let Outbound { method, path_and_query, headers, body } = request;
        Self { method, path: path_and_query, headers, body: Payload::new(body) }
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

/// A body of known length in pieces. A copy starts from the beginning of what was left.
#[derive(Clone)]
pub(super) struct Payload {
    pieces: Arc<[Bytes]>,
    next: usize,
    left: u64,
}

impl Payload {
    fn new(pieces: Vec<Bytes>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces: pieces.into(), next: 0, left }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(piece) = self.pieces.get(self.next).cloned() {
            self.next += 1;
            if !piece.is_empty() {
                self.left -= piece.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

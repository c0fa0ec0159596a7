//! Requests that ask an upstream to speak WebSocket from then on: each on a fresh HTTP/1.1 connection of its own.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use http_body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::lane::{MOST_BUFFER, MOST_HEAD};
use super::payload::{Draft, Payload};
use super::wire::Wire;
use super::{Outbound, Upstream, reason};
use crate::fault::{Fault, FaultKind, Phase};
use crate::frames::websocket::{accept_key, key_of};
use crate::target::Origin;

/// A byte stream that can be read and written.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What an upstream said to the wish to speak WebSocket.
pub enum Switching {
    /// It does from now on.
    Switched {
        /// The connection.
        stream: Box<dyn Duplex>,
        /// What it has said already.
        begun: Bytes,
    },
    /// It does not. Of the answer's body, the beginning.
    Refused(Response<Bytes>),
}

impl Upstream {
    /// Asks `origin` to speak WebSocket. The headers of the handshake are added here, except those that only the
    /// caller knows (protocols, credentials). Only opening the connection has a deadline; the caller drops the future.
    ///
    /// # Errors
    /// As for [`Upstream::send`]; `Malformed` for an upstream that switches to something else.
    pub async fn switch(
        &self,
        origin: &Origin,
        mut request: Outbound,
        connect_deadline: Duration,
        most_refusal: usize,
    ) -> Result<Switching, Fault> {
        let pool = self.inner.pool(origin)?;
        let key = key_of(std::array::from_fn(|_| fastrand::u8(..)));
        request.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        request.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        request.headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let bad = |_| Fault::new(FaultKind::Internal, "a key of base64 stands in a header");
        request.headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(&key).map_err(bad)?);
        let request = pool.request_h1(Draft::new(request));

        let late = |_| Fault::new(FaultKind::Timeout(Phase::Connect), "connect deadline passed");
        let dialed = tokio::time::timeout(connect_deadline, self.inner.dialer.dial_plainly(origin));
        let mut wire = dialed.await.map_err(late).flatten()?;
        let progress = wire.watch_heads();
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MOST_BUFFER)
            .max_header_size(MOST_HEAD)
            .handshake::<_, Payload>(TokioIo::new(wire))
            .await
            .map_err(|error| reason::answering(&error, true))?;
        let mut line = Line(connection, false);
        let answer = sender.send_request(request);
        let answer =
            line.along(answer).await.map_err(|error| reason::answering(&error, progress.is_silent()))?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            let body = line.along(beginning(body, most_refusal)).await;
            return Ok(Switching::Refused(Response::from_parts(head, body)));
        }
        let accepted = head.headers.get(SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|accepted| accepted.as_bytes() != accept_key(&key).as_bytes()) {
            return Err(Fault::new(
                FaultKind::Malformed,
                "the provider switches to something else than websocket",
            ));
        }
        let (stream, begun) = line.switched();
        Ok(Switching::Switched { stream: Box::new(stream), begun })
    }
}

/// A connection that is driven by whoever waits for something from it, and whether it is over.
struct Line(http1::Connection<TokioIo<Wire>, Payload>, bool);

impl Line {
    /// Waits for `wanted`, which can only come out of the connection.
    async fn along<T>(&mut self, wanted: impl Future<Output = T>) -> T {
        let mut wanted = pin!(wanted);
        let Self(connection, over) = self;
        poll_fn(|cx| {
            // Its end, a switch or an error, goes to who waits for the answer.
            *over = *over || connection.poll_without_shutdown(cx).is_ready();
            wanted.as_mut().poll(cx)
        })
        .await
    }

    /// The bare stream behind a connection that has switched, and what was read of it.
    fn switched(self) -> (Wire, Bytes) {
        let parts = self.0.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}

/// What comes of a body until `most` bytes are here or something goes wrong.
async fn beginning(mut body: hyper::body::Incoming, most: usize) -> Bytes {
    let mut all = BytesMut::new();
    poll_fn(|cx| {
        while all.len() < most {
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => all.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Poll::Ready(Some(Err(_)) | None) => break,
            }
        }
        Poll::Ready(())
    })
    .await;
    all.truncate(most);
    all.freeze()
}

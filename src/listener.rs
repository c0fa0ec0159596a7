//! The client listener: accept, TLS, HTTP/1.1 and HTTP/2, front checks, deadlines, drain.

mod settings;

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
pub use settings::{CompressionSettings, LimitSettings, TlsSettings, TlsVersion};

use crate::fault::Fault;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The client's address.
    pub address: SocketAddr,
    /// Whether the client speaks TLS with us.
    pub tls: bool,
}

/// Who answers the requests. One per worker thread.
pub trait Handler: Send + Sync + 'static {
    /// The response body; polled only as fast as the client reads.
    type Body: http_body::Body<Data = Bytes, Error = Fault> + Send + 'static;

    /// Answers one request. Dropped when the client goes away.
    fn handle(
        &self,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The response that refuses a request which never reached the handler.
    fn refuse(&self, fault: &Fault) -> Response<Self::Body>;
}

/// A request body under its deadlines, rate and size limits.
pub struct RequestBody {}

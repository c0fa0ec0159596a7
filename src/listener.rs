//! The client listener: accept, TLS, HTTP/1.1 and HTTP/2, front checks, deadlines, drain.
//!
//! One thread per core. An acceptor takes connections and hands each to the worker with the fewest; a
//! worker is an operating-system thread with a single-threaded runtime and a [`Handler`] of its own, so a
//! request never crosses threads. What a bare hyper lets through and a gateway must not is refused here:
//! `scan` reads the raw HTTP/1 heads as they pass, `check` the parsed requests of both protocols.

mod accept;
mod alarm;
mod body;
mod capacity;
mod check;
mod connection;
mod drain;
mod front;
mod inflate;
mod remains;
mod scan;
mod service;
mod settings;
mod streams;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod wire;
mod worker;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use socket2::{Domain, Protocol, Socket, Type};

pub use self::body::RequestBody;
pub use self::drain::Drain;
pub use self::settings::{CompressionSettings, LimitSettings, TlsSettings, TlsVersion};
pub use self::tls::{TlsError, TlsReloader};
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

/// Everything that the listener wants to know; fixed from [`Listener::bind`] on, except the certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Limits and deadlines.
    pub limits: LimitSettings,
    /// Certificate and key; without them clients speak plain text.
    pub tls: Option<TlsSettings>,
    /// Compressed request bodies.
    pub compression: CompressionSettings,
    /// Whether other processes may listen on the same address at the same time.
    pub reuse_port: bool,
}

/// A bound listener that does not serve yet.
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
    settings: Arc<ListenerSettings>,
    tls: Option<TlsReloader>,
}

impl Listener {
    /// Binds `address` (port 0 picks one) and loads the certificate. Connections queue up until
    /// [`serve`](Self::serve).
    ///
    /// # Errors
    /// The address cannot be had, or certificate and key do not load or do not belong together.
    pub fn bind(address: SocketAddr, settings: ListenerSettings) -> Result<Self, ListenError> {
        let tls = settings.tls.as_ref().map(TlsReloader::load).transpose()?;
        let (socket, address) =
            open(address, settings.reuse_port).map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self { socket, address, settings: Arc::new(settings), tls })
    }

    /// The address that clients connect to, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The handle that loads a renewed certificate at once; the listener itself looks every few seconds.
    pub fn tls(&self) -> Option<TlsReloader> {
        self.tls.clone()
    }

    /// Serves on `workers` threads (at least one) until `drain` has run its course: every connection is
    /// closed and every worker has ended when this returns. `make_handler` runs on the worker's own
    /// thread, inside its runtime, with the worker's number. Should no worker be able to run, the drain
    /// is begun from here.
    pub async fn serve<H: Handler>(
        self,
        workers: usize,
        make_handler: impl Fn(usize) -> H + Send + Sync + 'static,
        drain: Drain,
    ) {
        accept::serve(self, workers.max(1), Arc::new(make_handler), drain).await;
    }
}

/// Why a listener cannot start.
#[derive(Debug)]
pub enum ListenError {
    /// The address cannot be had.
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    Tls(TlsError),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, source } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    write!(
                        f,
                        "cannot listen on {address}: address in use (another process listens there, and not both have \
                         `reuse_port: true`)"
                    )
                }
                io::ErrorKind::PermissionDenied => {
                    write!(f, "cannot listen on {address}: permission denied (ports below 1024 need it)")
                }
                io::ErrorKind::AddrNotAvailable => {
                    write!(f, "cannot listen on {address}: this machine does not have that address")
                }
                _ => write!(f, "cannot listen on {address}: {source}"),
            },
            Self::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ListenError {}

impl From<TlsError> for ListenError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

/// Connections that the kernel keeps while the acceptor is busy.
const BACKLOG: i32 = 4096;

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old process's connections to leave TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = std::net::TcpListener::from(socket);
    let address = socket.local_addr()?;
    Ok((socket, address))
}

//! Opens a connection: name, address, TCP, TLS, protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::egress::Egress;
use super::lane::Lane;
use super::proxy::Proxy;
use super::reason;
use super::resolve::Resolver;
use super::shared::Shared;
use super::tls::Tls;
use super::wire::Wire;
use crate::fault::{Fault, FaultKind, Retry};
use crate::target::Origin;

/// How long one address is waited for before the next is tried besides (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// Opens connections; workers share what is costly in it.
#[derive(Clone)]
pub(super) struct Dialer {
    tls: Arc<Tls>,
    resolver: Arc<Resolver>,
    egress: Arc<Egress>,
    proxy: Option<Arc<Proxy>>,
}

/// A connection just opened.
pub(super) enum Dialed {
    Lane(Box<Lane>),
    Shared(Shared),
}

impl Dialer {
    pub(super) fn new(tls: Arc<Tls>, egress: Egress, proxy: Option<Proxy>) -> Self {
        let resolver = Arc::new(Resolver::system());
        Self { tls, resolver, egress: Arc::new(egress), proxy: proxy.map(Arc::new) }
    }

    /// The same with another resolver.
    #[cfg(test)]
    pub(super) fn resolving(self, resolver: Resolver) -> Self {
        Self { resolver: Arc::new(resolver), ..self }
    }

    /// Opens a connection to `origin`. Has no deadline of its own.
    pub(super) async fn dial(&self, origin: &Origin) -> Result<Dialed, Fault> {
        let tcp = self.tcp(origin).await?;
        if !origin.tls {
            let wire = Wire::plain(tcp);
            return if origin.h2c { shared(wire).await } else { lane(wire).await };
        }
        let tls = handshake(origin, tcp, self.tls.config(origin.tls13_only).await?).await?;
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let wire = Wire::tls(tls);
        if is_h2 { shared(wire).await } else { lane(wire).await }
    }

    /// Opens a connection to `origin` that speaks HTTP/1.1 and nothing else. Has no deadline of its own.
    pub(super) async fn dial_plainly(&self, origin: &Origin) -> Result<Wire, Fault> {
        let tcp = self.tcp(origin).await?;
        if !origin.tls {
            return Ok(Wire::plain(tcp));
        }
        let mut config = ClientConfig::clone(&*self.tls.config(origin.tls13_only).await?);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        handshake(origin, tcp, Arc::new(config)).await.map(Wire::tls)
    }

    async fn tcp(&self, origin: &Origin) -> Result<TcpStream, Fault> {
        if let Some(proxy) = self.proxy.as_ref().filter(|proxy| proxy.serves(origin)) {
            if !self.egress.allows_host(&origin.host) {
                return self.egress.admit(origin, Vec::new()).and(Err(reason::closed()));
            }
            return proxy.through(self.connected(&proxy.origin).await?, origin).await;
        }
        self.connected(origin).await
    }

    async fn connected(&self, origin: &Origin) -> Result<TcpStream, Fault> {
        let addresses = self.resolver.resolve(&origin.host, origin.port).await?;
        let is_proxy = self.proxy.as_ref().is_some_and(|proxy| proxy.origin == *origin);
        let addresses = if is_proxy { addresses } else { self.egress.admit(origin, addresses)? };
        let tcp = connect(addresses).await.map_err(|error| reason::connecting(&error))?;
        prepare(&tcp).map_err(|error| reason::connecting(&error))?;
        Ok(tcp)
    }
}

async fn handshake(
    origin: &Origin,
    tcp: TcpStream,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, Fault> {
    let name = ServerName::try_from(origin.host.to_string())
        .map_err(|_| Fault::new(FaultKind::Unreachable, "tls: not a server name").retry(Retry::Elsewhere))?;
    TlsConnector::from(config).connect(name, tcp).await.map_err(|error| reason::handshake(&error))
}

async fn lane(wire: Wire) -> Result<Dialed, Fault> {
    Lane::open(wire).await.map(Dialed::Lane)
}

async fn shared(wire: Wire) -> Result<Dialed, Fault> {
    Shared::open(wire).await.map(Dialed::Shared)
}

fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
    SockRef::from(tcp).set_tcp_keepalive(&probes)
}

/// Tries the addresses in turn, the next one when one fails or has not answered for [`STAGGER`]; the first that
/// connects wins and the others are dropped.
async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [only] = addresses[..] {
        return TcpStream::connect(only).await;
    }
    let mut untried = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        match untried.next() {
            Some(address) => {
                attempts.spawn(TcpStream::connect(address));
            }
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let pause = async {
            if untried.len() > 0 { tokio::time::sleep(STAGGER).await } else { std::future::pending().await }
        };
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = error,
                Err(_) => {}
            },
            () = pause => {}
        }
    }
}

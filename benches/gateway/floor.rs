//! The floor: a bare reverse proxy as one writes it with hyper. It parses nothing and keeps nothing.

use std::net::SocketAddr;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use crate::{Result, child};

type Pooled = Client<HttpConnector, Incoming>;

/// Serves until the parent goes.
pub fn run(upstream: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(upstream))
}

async fn serve(upstream: SocketAddr) -> Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Pooled = Client::builder(TokioExecutor::new()).build(connector);
    let authority: Authority = upstream.to_string().parse()?;

    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    child::announce(listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (client, authority) = (client.clone(), authority.clone());
        tokio::spawn(async move {
            let relay = service_fn(move |request| relay(client.clone(), authority.clone(), request));
            let _ =
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), relay).await;
        });
    }
}

async fn relay(
    client: Pooled,
    authority: Authority,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>> {
    let mut to = std::mem::take(request.uri_mut()).into_parts();
    to.scheme = Some(Scheme::HTTP);
    to.authority = Some(authority);
    to.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(to)?;
    Ok(client.request(request).await?)
}

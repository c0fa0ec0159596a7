//! A leaner floor, for orientation: one runtime per core, hyper's connections, and a pool that is a list.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};

use crate::{Result, child};

/// Connections on which no answer is awaited, of one thread.
type Pool = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

/// Serves until the parent goes.
pub fn run(upstream: SocketAddr) -> Result<()> {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let second = listen(listener.local_addr()?)?;
    child::announce(listener.local_addr()?);
    let second = std::thread::spawn(move || work(second, upstream));
    work(listener, upstream)?;
    second.join().map_err(|_| "the second thread ended")?
}

/// One of several listeners on the same port; the kernel spreads connections over them.
fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn work(listener: TcpListener, upstream: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(listener, upstream))
}

async fn serve(listener: TcpListener, upstream: SocketAddr) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let pool = Pool::default();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let pool = pool.clone();
        spawn_local(async move {
            let relay = service_fn(|request| relay(&pool, upstream, request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), relay)
                .await;
        });
    }
}

async fn relay(pool: &Pool, upstream: SocketAddr, request: Request<Incoming>) -> Result<Response<Borrowed>> {
    let mut sender = idle(pool, upstream).await?;
    let response = sender.send_request(request).await?;
    let pool = pool.clone();
    Ok(response.map(|body| Borrowed { body, ended: false, sender: Some(sender), pool }))
}

async fn idle(pool: &Pool, upstream: SocketAddr) -> Result<SendRequest<Incoming>> {
    loop {
        let last = pool.borrow_mut().pop();
        let Some(mut sender) = last else { break };
        if sender.ready().await.is_ok() {
            return Ok(sender);
        }
    }
    let socket = TcpStream::connect(upstream).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    spawn_local(connection);
    Ok(sender)
}

/// A body that gives its connection back when it has been read to the end.
struct Borrowed {
    body: Incoming,
    ended: bool,
    sender: Option<SendRequest<Incoming>>,
    pool: Pool,
}

impl Body for Borrowed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.ended |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if (self.ended || self.body.is_end_stream())
            && let Some(sender) = self.sender.take()
        {
            self.pool.borrow_mut().push(sender);
        }
    }
}

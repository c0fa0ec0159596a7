//! What is done for plugins outside of their sandbox: requests to the hosts that they were granted, and vectors from the
//! gateway's own models. Plugins run on every worker; a task of its own carries all of it out.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body::Body as _;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::Gateway;
use super::door::Door;
use super::vectors::embed;
use crate::fault::{Fault, FaultKind};
use crate::plugin::{Awaited, Behalf, Courier, CourierFault, Delivery, Embedder, Errand};
use crate::target::{Origin, Reach};
use crate::upstream::{AnswerBody, Outbound, Upstream};

/// Errands under way at once, and those that wait.
const AT_ONCE: usize = 64;
const WAITING: usize = 256;

/// Why an errand is not taken.
const BUSY: &str = "the gateway does too much for plugins at the moment";

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);

/// Headers that are the transport's.
const RESERVED: [HeaderName; 7] =
    [ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE];

/// Takes errands of plugins from any thread.
#[derive(Clone)]
pub struct Errands {
    tasks: mpsc::Sender<Task>,
    /// Whether anybody carries them out yet: plugins are loaded before the gateway opens.
    open: Arc<AtomicBool>,
}

/// Carries them out.
pub struct Runner {
    tasks: mpsc::Receiver<Task>,
    open: Arc<AtomicBool>,
}

enum Task {
    Send(Box<Errand>, oneshot::Sender<Result<Delivery, CourierFault>>),
    Embed(Box<Behalf>, Vec<String>, oneshot::Sender<Result<Vec<Vec<f32>>, String>>),
}

impl Errands {
    /// Both ends.
    pub fn new() -> (Self, Runner) {
        let (sender, tasks) = mpsc::channel(WAITING);
        let open = Arc::new(AtomicBool::new(false));
        (Self { tasks: sender, open: open.clone() }, Runner { tasks, open })
    }

    fn give(&self, task: Task) -> Result<(), &'static str> {
        if !self.open.load(Ordering::Acquire) {
            return Err("the gateway is not open yet");
        }
        self.tasks.try_send(task).map_err(|_| BUSY)
    }
}

impl Courier for Errands {
    fn send(&self, errand: Errand) -> Awaited<'_, Result<Delivery, CourierFault>> {
        Box::pin(async move {
            let (back, answer) = oneshot::channel();
            let unable = |why: &str| CourierFault::Unreachable(why.into());
            self.give(Task::Send(Box::new(errand), back)).map_err(unable)?;
            answer.await.unwrap_or_else(|_| Err(unable(BUSY)))
        })
    }
}

impl Embedder for Errands {
    fn embed(&self, behalf: Behalf, texts: Vec<String>) -> Awaited<'_, Result<Vec<Vec<f32>>, String>> {
        Box::pin(async move {
            let (back, answer) = oneshot::channel();
            self.give(Task::Embed(Box::new(behalf), texts, back))?;
            answer.await.unwrap_or_else(|_| Err(BUSY.to_owned()))
        })
    }
}

impl Runner {
    /// Carries errands out until nobody can give any more. `door` is the one for embeddings.
    pub async fn run(mut self, gateway: Gateway, upstream: Upstream, door: &'static dyn Door) {
        self.open.store(true, Ordering::Release);
        let (gateway, upstream) = (Arc::new(gateway), Arc::new(upstream));
        let places = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(task) = self.tasks.recv().await {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (gateway, upstream) = (gateway.clone(), upstream.clone());
            tokio::spawn(async move {
                match task {
                    // Whoever asked may have gone; then nobody misses the answer.
                    Task::Send(errand, back) => drop(back.send(deliver(&upstream, *errand).await)),
                    Task::Embed(behalf, texts, back) => {
                        drop(back.send(embed(&gateway, door, *behalf, texts).await));
                    }
                }
                drop(place);
            });
        }
    }
}

/// Sends one request and reads its answer, within its time. Redirects are answers like others.
async fn deliver(upstream: &Upstream, errand: Errand) -> Result<Delivery, CourierFault> {
    let Errand { plugin, request, timeout, most } = errand;
    let host = request.uri().host().unwrap_or_default().to_owned();
    let sent = async {
        let (origin, outbound) = outbound(request).map_err(CourierFault::Unreachable)?;
        let response =
            upstream.send(&origin, outbound, CONNECT).await.map_err(|fault| undelivered(&fault))?;
        let (head, mut body) = response.into_parts();
        let body = collect(&mut body, most).await?;
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let headers = head.headers.iter().filter_map(text).collect();
        Ok(Delivery { status: head.status.as_u16(), headers, body })
    };
    let delivered = tokio::time::timeout(timeout, sent).await.unwrap_or(Err(CourierFault::Timeout));
    let outcome = match &delivered {
        Ok(_) => "ok",
        Err(CourierFault::Timeout) => "timeout",
        Err(CourierFault::Unreachable(_)) => "unreachable",
        Err(CourierFault::TooLarge) => "too_large",
    };
    metrics::counter!("tollgate_plugin_requests_out_total", "plugin" => plugin.to_string(), "host" => host, "outcome" => outcome)
        .increment(1);
    delivered
}

fn outbound(request: http::Request<Vec<u8>>) -> Result<(Origin, Outbound), String> {
    let (head, body) = request.into_parts();
    let origin = origin(&head.uri).ok_or("not an absolute address")?;
    let mut headers: HeaderMap = head.headers;
    for name in RESERVED {
        headers.remove(name);
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let agent = HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
    headers.entry(USER_AGENT).or_insert(agent);
    let path_and_query = head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let body = if body.is_empty() { Vec::new() } else { vec![Bytes::from(body)] };
    Ok((origin, Outbound::new(head.method, path_and_query, headers, body)))
}

fn origin(uri: &Uri) -> Option<Origin> {
    let tls = uri.scheme_str()? == "https";
    let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    // The operator wrote this host into the plugin's allow-list; plain HTTP is granted to the house's own hosts only.
    let reach = if tls && host.parse::<IpAddr>().is_err() { Reach::Public } else { Reach::Private };
    Some(Origin { tls, host: host.into(), port, tls13_only: false, h2c: false, reach })
}

async fn collect(body: &mut AnswerBody, most: usize) -> Result<Vec<u8>, CourierFault> {
    let announced = body.size_hint().lower();
    if announced > most as u64 {
        return Err(CourierFault::TooLarge);
    }
    let mut all = Vec::new();
    while let Some(chunk) = std::future::poll_fn(|cx| body.poll_chunk(cx)).await {
        let chunk = chunk.map_err(|fault| undelivered(&fault))?;
        if all.len() + chunk.len() > most {
            return Err(CourierFault::TooLarge);
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

fn undelivered(fault: &Fault) -> CourierFault {
    match fault.kind {
        FaultKind::Timeout(_) => CourierFault::Timeout,
        _ => CourierFault::Unreachable(fault.message.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one request with these bytes, and then says nothing more.
    async fn answering(bytes: &'static [u8]) -> Uri {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut heard = [0; 4096];
            let _ = socket.read(&mut heard).await;
            let _ = socket.write_all(bytes).await;
            std::future::pending::<()>().await;
        });
        format!("http://{address}/x").parse().unwrap()
    }

    async fn delivered(uri: Uri) -> Result<Delivery, CourierFault> {
        let upstream = Upstream::new(&crate::upstream::UpstreamSettings::default()).unwrap();
        let request = http::Request::get(uri).body(Vec::new()).unwrap();
        let timeout = Duration::from_millis(300);
        deliver(&upstream, Errand { plugin: "x".into(), request, timeout, most: 10 }).await
    }

    #[tokio::test]
    async fn a_request_outward_ends_in_time_and_within_its_size() {
        let good = b"HTTP/1.1 404 No\r\nx-a: b\r\ncontent-length: 5\r\n\r\nhello";
        let back = delivered(answering(good).await).await.unwrap();
        assert_eq!((back.status, &*back.body), (404, &b"hello"[..]));
        assert!(back.headers.contains(&("x-a".to_owned(), "b".to_owned())));
        for (bytes, expected) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world"[..], CourierFault::TooLarge),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n",
                CourierFault::TooLarge,
            ),
            (b"HTTP/1.1 200 OK\r\n", CourierFault::Timeout),
        ] {
            assert_eq!(delivered(answering(bytes).await).await.unwrap_err(), expected);
        }
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let fault = delivered(format!("http://{nobody}/").parse().unwrap()).await.unwrap_err();
        assert!(matches!(fault, CourierFault::Unreachable(_)), "{fault:?}");
    }

    #[tokio::test]
    async fn nothing_is_taken_before_the_gateway_is_open() {
        let (errands, _runner) = Errands::new();
        let behalf = Behalf::of(&"x".into(), None);
        assert!(errands.embed(behalf, vec!["x".into()]).await.unwrap_err().contains("not open yet"));
    }

    #[test]
    fn what_is_the_transports_is_not_the_plugins_to_say() {
        let request = http::Request::post("https://API.test:8443/v1?x=1")
            .header("host", "evil.test")
            .header("transfer-encoding", "chunked")
            .header("x-key", "k")
            .body(b"hello".to_vec())
            .unwrap();
        let (origin, outbound) = outbound(request).unwrap();
        assert_eq!((&*origin.host, origin.port, origin.tls), ("api.test", 8443, true));
        assert_eq!(outbound.path_and_query, "/v1?x=1");
        let mut names: Vec<_> = outbound.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept-encoding", "user-agent", "x-key"]);
    }
}

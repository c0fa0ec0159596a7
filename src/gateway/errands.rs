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
use tokio::time::Instant;

use super::door::{Door, Head};
use super::gather::facts_of;
use super::{Gateway, Snapshot};
use crate::caller::{Caller, Tenant};
use crate::executor::{Answered, Bond, Job, Journal};
use crate::fault::{Fault, FaultKind, Phase};
use crate::plan::Decision;
use crate::planner;
use crate::plugin::{Awaited, Courier, CourierFault, Delivery, Embedder, Errand};
use crate::store::Shelf;
use crate::target::{Origin, Reach};
use crate::upstream::{AnswerBody, Outbound, Upstream};

/// Errands under way at once, and those that wait.
const AT_ONCE: usize = 64;
const WAITING: usize = 256;

/// Why an errand is not taken.
const BUSY: &str = "the gateway does too much for plugins at the moment";

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);

/// How long vectors are waited for at most; the plugin's own limit mostly is shorter.
const VECTORS: Duration = Duration::from_secs(30);

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
    Embed(Vec<String>, oneshot::Sender<Result<Vec<Vec<f32>>, String>>),
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
    fn embed(&self, texts: Vec<String>) -> Awaited<'_, Result<Vec<Vec<f32>>, String>> {
        Box::pin(async move {
            let (back, answer) = oneshot::channel();
            self.give(Task::Embed(texts, back))?;
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
                    Task::Embed(texts, back) => drop(back.send(embed(&gateway, door, &texts).await)),
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
    Ok((origin, Outbound { method: head.method, path_and_query, headers, body, upload: None }))
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

/// Vectors of the model that the configuration names. Policies and guards are not asked: they may be the ones who want
/// the vectors.
async fn embed(
    gateway: &Gateway,
    door: &'static dyn Door,
    texts: &[String],
) -> Result<Vec<Vec<f32>>, String> {
    let snapshot = gateway.snapshot();
    let Some(model) = snapshot.embeddings.clone() else {
        return Err(
            "no model for embeddings is configured: name one as `plugins: { embeddings: … }`".to_owned()
        );
    };
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let body = serde_json::json!({ "model": &*model, "input": texts, "encoding_format": "float" });
    let answer = carried(gateway, &snapshot, door, body.to_string().into()).await;
    let answer = answer.map_err(|fault| format!("embeddings by `{model}`: {fault}"))?;
    vectors(&answer, texts.len()).ok_or_else(|| format!("embeddings by `{model}`: the answer lacks vectors"))
}

async fn carried(
    gateway: &Gateway,
    snapshot: &Arc<Snapshot>,
    door: &'static dyn Door,
    body: Bytes,
) -> Result<Bytes, Fault> {
    let (uri, headers) = (Uri::from_static("/v1/embeddings"), HeaderMap::new());
    let asked = door.read(body, Head { uri: &uri, headers: &headers, shelf: &Shelf::empty() })?;
    let (id, at_ms) = ("plugin".into(), gateway.shared.clock.unix_ms());
    let market = snapshot.market_of(None).clone();
    let facts = facts_of(id, door.endpoint(), Caller::default(), headers, &asked, at_ms, market)?;
    let planned = planner::plan(snapshot.catalogue_of(None), &facts, &Decision::default(), &gateway.dice);
    let plan = planned.map_err(|unplanned| unplanned.fault)?;
    let chaos = &gateway.shared.figures.chaos;
    let job = Job {
        tokens: asked.tokens(),
        tenant: Tenant::default(),
        bond: Bond::gather(&plan.targets, None, &*asked),
        market: Some(facts.market.clone()),
        targets: plan.targets,
        retries: plan.retries,
        first_token: plan.first_token,
        exposed: chaos.exposes(&Caller::default(), asked.model(), &[]),
        carry: asked,
        journal: Arc::new(Journal::default()),
        tab: None,
        advice: None,
        strict: false,
        limits: snapshot.limits,
        manner: plan.manner,
        judge: None,
        deadline: Instant::now() + VECTORS.min(snapshot.total),
    };
    let carried = tokio::time::timeout(VECTORS, gateway.executor.carry_out(&job)).await;
    match carried {
        Ok(Ok(Answered::Whole(relayed, _))) => Ok(relayed.body),
        Ok(Ok(_)) => Err(Fault::new(FaultKind::Malformed, "no whole answer came")),
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(Fault::new(FaultKind::Timeout(Phase::Total), "no vectors came in time")),
    }
}

/// The vectors of an answer in OpenAI's dialect, in the order of the texts.
fn vectors(answer: &[u8], wanted: usize) -> Option<Vec<Vec<f32>>> {
    #[derive(serde::Deserialize)]
    struct Answer {
        data: Vec<Vector>,
    }
    #[derive(serde::Deserialize)]
    struct Vector {
        index: usize,
        embedding: Vec<f32>,
    }
    let mut data = serde_json::from_slice::<Answer>(answer).ok()?.data;
    data.sort_by_key(|vector| vector.index);
    let complete = data.len() == wanted && data.iter().enumerate().all(|(at, vector)| vector.index == at);
    complete.then(|| data.into_iter().map(|vector| vector.embedding).collect())
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
        assert!(errands.embed(vec!["x".into()]).await.unwrap_err().contains("not open yet"));
    }

    #[test]
    fn vectors_come_in_the_order_of_their_texts_or_not_at_all() {
        let answer = br#"{"data":[{"index":1,"embedding":[2.0]},{"index":0,"embedding":[1.0]}]}"#;
        assert_eq!(vectors(answer, 2), Some(vec![vec![1.0], vec![2.0]]));
        assert_eq!(vectors(answer, 3), None);
        assert_eq!(vectors(b"{}", 0), None);
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

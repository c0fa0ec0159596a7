//! The only sockets outward: connection pools, TLS, name resolution, and answers read with a bound.
//!
//! Each worker thread owns one [`Upstream`] (see [`Upstream::sibling`]), so its locks are uncontended.
//!
//! HTTP/1.1 connections are not driven by a task of their own: whoever sends a request or reads an answer polls the
//! connection along with it. That saves two task switches per exchange, gives backpressure for nothing, and makes
//! cancellation what it should be: to drop the answer is to close the socket. HTTP/2 connections are shared and have
//! a task.
//!
//! What is retried here and what is not (one rule, because only the executor may spend money twice):
//! - A request that hyper hands back was never written. It goes to the next connection, however often.
//! - A request that died on a *reused* connection without one byte of an answer within a second met a peer that had
//!   closed its idle side. It is sent once more, unless it must not be carried out twice ([`Outbound::once`]). HTTP/2
//!   streams that the peer refused, or that lie beyond its GOAWAY, are by the protocol unprocessed: they are sent once
//!   more in any case. What is sent once more goes over a fresh connection, or over a shared one that was opened later
//!   than the one that lost it.
//! - Everything else is a [`Fault`], and the executor decides.
//!
//! A request whose body is still arriving (an [`Upload`]) is none of these once a piece of the upload has been taken.

mod answer;
mod dial;
mod egress;
mod gate;
mod lane;
mod payload;
mod pool;
mod proxy;
mod reason;
mod resolve;
#[cfg(test)]
mod scripted;
mod settings;
mod shared;
mod switch;
#[cfg(test)]
mod tests;
mod tls;
mod unpack;
mod upload;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::time::Instant;

use crate::cohort;
use crate::fault::{Fault, FaultKind, Phase};
use crate::target::Origin;
pub use answer::AnswerBody;
use dial::{Dialed, Dialer};
pub use egress::{Egress, EgressSettings};
use lane::Again;
use payload::Draft;
use pool::{Pick, Pool, Serial};
use proxy::Proxy;
pub use settings::UpstreamSettings;
pub use switch::{Duplex, Switching};
pub use tls::{certificates, trusting};
pub use upload::{Source, Standing, Upload, Watch};

/// How soon a reused connection must die for its request to count as never received.
///
/// A peer that closes an idle connection while a request is on its way answers with a reset within a round trip. A
/// connection that dies later may have worked on the request meanwhile.
const STALE: Duration = Duration::from_secs(1);

/// The connections of one worker thread to all upstreams.
pub struct Upstream {
    inner: Arc<Inner>,
}

struct Inner {
    settings: UpstreamSettings,
    dialer: Dialer,
    pools: Mutex<HashMap<Origin, Arc<Pool>>>,
    sweeping: AtomicBool,
    reused: AtomicU64,
    opened: AtomicU64,
    failed: AtomicU64,
    resent: AtomicU64,
}

/// A request on its way out. `host` and `content-length` are added by the transport; the headers must not hold them.
#[derive(Clone)]
pub struct Outbound {
    /// Normally POST.
    pub method: Method,
    /// The whole path at the origin, with its query.
    pub path_and_query: PathAndQuery,
    /// All other headers, credentials included. `accept-encoding: identity` is the caller's to set.
    pub headers: HeaderMap,
    /// The body in pieces, in order; they are sent without being joined.
    pub body: Vec<Bytes>,
    /// What follows the pieces: the part of the body that is still arriving. It can be sent only once.
    pub upload: Option<Upload>,
    /// Whether it must not be carried out twice, whatever its connection died of.
    pub once: bool,
}

/// What a worker's connections have done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct UpstreamStats {
    /// Connections that stand open and unused.
    pub idle: usize,
    /// Connections opened.
    pub opened: u64,
    /// Requests sent on a connection that had been used before, or was opened in advance.
    pub reused: u64,
    /// Connections that could not be opened.
    pub failed: u64,
    /// Requests sent once more because their connection was stale.
    pub resent: u64,
}

/// The transport cannot be built from its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamError {
    field: &'static str,
    reason: String,
}

impl UpstreamError {
    /// Which of the settings is at fault: `extra_roots`, `egress` or `proxy`.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for UpstreamError {}

impl Upstream {
    /// Reads `extra_roots`, the rules of egress and the environment's proxy; the platform's own roots are loaded with the first TLS connection, off the worker thread.
    ///
    /// # Errors
    /// `extra_roots` cannot be read or holds no certificate; a network or the proxy's URL is none.
    pub fn new(settings: &UpstreamSettings) -> Result<Self, UpstreamError> {
        let tls = tls::Tls::new(settings.extra_roots.as_deref());
        let at = |field: &'static str| move |reason: String| UpstreamError { field, reason };
        let tls = tls.map_err(|error| at("extra_roots")(format!("extra_roots: {error}")))?;
        let egress = settings.egress.rules();
        let egress = egress.map_err(|(_, error)| at("egress")(format!("upstream.egress: {error}")))?;
        let proxy = proxy(settings.proxy.as_deref()).map_err(at("proxy"))?;
        Ok(Self::with(settings.clone(), Dialer::new(tls, egress, proxy)))
    }

    /// An upstream for another worker thread: connections of its own, root certificates and TLS sessions shared.
    pub fn sibling(&self) -> Self {
        Self::with(self.inner.settings.clone(), self.inner.dialer.clone())
    }

    fn with(settings: UpstreamSettings, dialer: Dialer) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings,
                dialer,
                pools: Mutex::default(),
                sweeping: AtomicBool::new(false),
                reused: AtomicU64::new(0),
                opened: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                resent: AtomicU64::new(0),
            }),
        }
    }

    /// Sends one request and returns when the answer's head is here, whatever its status from 200 to 599.
    ///
    /// Only opening a connection has a deadline here; all others are the caller's, who drops the future or the answer
    /// to cancel. Redirects are returned, never followed.
    ///
    /// # Errors
    /// `Unreachable`, `Timeout(Connect)`, `Malformed`, `Truncated`; `Unavailable` when we ran out of file descriptors.
    pub fn send(
        &self,
        origin: &Origin,
        request: Outbound,
        connect_deadline: Duration,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Fault>> + Send {
        let (upload, once) = (request.upload.clone(), request.once);
        // Made here, so that the future need not keep room for both.
        let mut draft = Draft::new(request);
        async move {
            cohort::gather().await;
            let pool = self.inner.pool(origin)?;
            let trace = draft.body.trace();
            // The connection that lost it, where it goes out once more.
            let mut lost_on = None;
            loop {
                let (pick, reused) = match pool.pick(lost_on) {
                    Some(pick) => (pick, true),
                    // Boxed, for it is large and rare, and every request would carry its room.
                    None => Box::pin(self.inner.open(&pool, connect_deadline, lost_on)).await?,
                };
                let serial = pick.serial();
                // Only a reused connection can be stale, so only then a copy is worth its 100 ns.
                let spare = reused.then(|| (draft.clone(), Instant::now()));
                if reused {
                    self.inner.reused.fetch_add(1, Ordering::Relaxed);
                }
                let lost = match pick {
                    Pick::Lane(lane) => match lane.send(pool.request_h1(draft)).await {
                        Ok((response, lane)) => {
                            answered(upload.as_ref(), response.status());
                            return answer::from_lane(response, lane, &pool);
                        }
                        Err(lost) => lost,
                    },
                    Pick::Shared(shared) => match shared.send(pool.request_h2(draft)?).await {
                        Ok((response, ticket)) => {
                            answered(upload.as_ref(), response.status());
                            return answer::from_shared(response, ticket, &pool);
                        }
                        Err(lost) => lost,
                    },
                };
                let sent = lost.unsent.is_none() && lost.again != Again::Yes && trace.is_sent();
                if let Some(fault) = upload.as_ref().and_then(broken_off) {
                    return Err(fault.sent(sent));
                }
                draft = match (lost.unsent, spare) {
                    (Some(unsent), _) if reused => Draft::from(unsent),
                    (_, Some((spare, since))) if lost.again.allows(since, once) && lost_on.is_none() => {
                        self.inner.resent.fetch_add(1, Ordering::Relaxed);
                        lost_on = Some(serial);
                        trace.reset();
                        spare
                    }
                    _ => return Err(lost.fault.sent(sent)),
                };
            }
        }
    }

    /// Opens the configured number of connections to `origin` in the background. Must be called on the runtime of
    /// the worker thread that will use them. Failures are only logged.
    pub fn prewarm(self: &Arc<Self>, origin: &Origin) {
        let Ok(pool) = self.inner.pool(origin) else { return };
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            for _ in pool.idle()..inner.settings.prewarm {
                match tokio::time::timeout(PREWARM_DEADLINE, inner.dial(&pool)).await {
                    Ok(Ok(dialed)) => match pool.take_in(dialed) {
                        Pick::Lane(lane) => pool.park(lane),
                        // One shared connection carries all.
                        Pick::Shared(_) => return,
                    },
                    Ok(Err(fault)) => return tracing::debug!(%fault, "no connection in advance"),
                    Err(_) => return tracing::debug!("no connection in advance: deadline passed"),
                }
            }
        });
    }

    /// Connections that stand open and unused.
    pub fn idle(&self) -> usize {
        self.inner.pools().values().map(|pool| pool.idle()).sum()
    }

    /// Counters for the status page.
    pub fn stats(&self) -> UpstreamStats {
        UpstreamStats {
            idle: self.idle(),
            opened: self.inner.opened.load(Ordering::Relaxed),
            reused: self.inner.reused.load(Ordering::Relaxed),
            failed: self.inner.failed.load(Ordering::Relaxed),
            resent: self.inner.resent.load(Ordering::Relaxed),
        }
    }
}

/// An upstream that refuses wants no more of the upload; what it says is still read.
fn answered(upload: Option<&Upload>, status: StatusCode) {
    if let Some(upload) = upload
        && status.as_u16() >= 300
    {
        upload.stop();
    }
}

/// Why a request with an upload cannot go out again: the client's own fault, or pieces that are gone.
fn broken_off(upload: &Upload) -> Option<Fault> {
    upload.failure().or_else(|| {
        let lost = || Fault::new(FaultKind::Unreachable, "connection closed during the upload");
        upload.is_spent().then(lost)
    })
}

impl Outbound {
    /// A request whose body is all here, and that may be carried out twice.
    pub fn new(method: Method, path_and_query: PathAndQuery, headers: HeaderMap, body: Vec<Bytes>) -> Self {
        Self { method, path_and_query, headers, body, upload: None, once: false }
    }
}

impl fmt::Debug for Outbound {
    /// Without headers and body: they hold a key and a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: usize = self.body.iter().map(Bytes::len).sum();
        write!(f, "{} {}, {body} bytes", self.method, self.path_and_query.path())
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&self.stats()).finish()
    }
}

const PREWARM_DEADLINE: Duration = Duration::from_secs(10);

impl Inner {
    fn pools(&self) -> MutexGuard<'_, HashMap<Origin, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self, origin: &Origin) -> Result<Arc<Pool>, Fault> {
        let mut pools = self.pools();
        if let Some(pool) = pools.get(origin) {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Pool::new(origin.clone(), &self.settings)?);
        pools.insert(origin.clone(), Arc::clone(&pool));
        Ok(pool)
    }

    /// A connection for one request, and whether it had been there before. `lost_on`: see [`Pool::pick`].
    async fn open(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        deadline: Duration,
        lost_on: Option<Serial>,
    ) -> Result<(Pick, bool), Fault> {
        let opening = async {
            // While it is unknown whether the origin speaks HTTP/2, or known that it does, one dials for all.
            let _turn = if pool.one_dials() {
                let turn = pool.turn().await;
                if let Some(pick) = pool.pick(lost_on) {
                    return Ok((pick, true));
                }
                // Whoever dialled meanwhile may have learned that each needs a connection of its own.
                pool.one_dials().then_some(turn)
            } else {
                None
            };
            Ok((pool.take_in(self.dial(pool).await?), false))
        };
        tokio::time::timeout(deadline, opening)
            .await
            .unwrap_or_else(|_| {
                Err(Fault::new(FaultKind::Timeout(Phase::Connect), "connect deadline passed"))
            })
            .inspect_err(|_| {
                self.failed.fetch_add(1, Ordering::Relaxed);
            })
    }

    async fn dial(self: &Arc<Self>, pool: &Pool) -> Result<Dialed, Fault> {
        self.sweep_from_now_on();
        let dialed = self.dialer.dial(pool.origin()).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(dialed)
    }

    /// Starts the task that closes connections which idled too long or were closed by their peers.
    fn sweep_from_now_on(self: &Arc<Self>) {
        if self.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let weak = Arc::downgrade(self);
        let pause = (self.settings.idle_timeout.0 / pool::IDLE_TICKS)
            .clamp(Duration::from_millis(50), Duration::from_secs(10));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(inner) = weak.upgrade() else { return };
                inner.pools().retain(|_, pool| pool.sweep() || Arc::strong_count(pool) > 1);
            }
        });
    }
}

/// The proxy of the configuration, else the environment's.
fn proxy(written: Option<&str>) -> Result<Option<Proxy>, String> {
    let variable = |names: [&str; 2]| {
        let found = names.into_iter().find_map(|name| std::env::var(name).ok());
        found.filter(|value| !value.trim().is_empty())
    };
    let url = match written {
        Some(url) => Some(url.to_owned()).filter(|url| !url.trim().is_empty()),
        None => variable(["HTTPS_PROXY", "https_proxy"]),
    };
    let direct = variable(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    url.map(|url| Proxy::new(&url, &direct)).transpose()
}

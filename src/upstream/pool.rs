//! The open connections to one origin.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{Authority, Parts, Scheme};
use http::{HeaderValue, Method, Request, Uri};
use http_body::Body as _;

use super::UpstreamSettings;
use super::dial::Dialed;
use super::lane::Lane;
use super::payload::{Draft, Payload};
use super::shared::Shared;
use crate::fault::{Fault, FaultKind};
use crate::target::Origin;

/// Idle time is counted in sweeps, this many to the timeout, so that nobody reads a clock for it.
pub(super) const IDLE_TICKS: u32 = 8;
/// Shared connections to one origin; beyond them streams wait their turn.
const MOST_SHARED: usize = 16;

/// A point in time, in sweeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tick(u32);

/// Tells the shared connections to one origin apart: one that was opened later has a higher number. The connections of
/// HTTP/1.1 have none, and count as older than all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serial(u64);

/// The connections to one origin, and what every request to it needs.
pub(super) struct Pool {
    origin: Origin,
    host: HeaderValue,
    scheme: Scheme,
    authority: Authority,
    most_idle: usize,
    pub(super) most_body: u64,
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The one that was used last is used next, so that the others can grow old.
    #[allow(clippy::vec_box, reason = "lanes go from hand to hand, 8 bytes instead of 760")]
    lanes: Vec<Box<Lane>>,
    shared: Vec<Shared>,
    /// The number of the shared connection that was opened last.
    newest: Serial,
    speaks: Option<Speaks>,
    now: Tick,
}

/// What ALPN said last time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
}

/// A connection for one request.
pub(super) enum Pick {
    Lane(Box<Lane>),
    Shared(Shared),
}

impl Pick {
    pub(super) fn serial(&self) -> Serial {
        match self {
            Self::Lane(_) => Serial::default(),
            Self::Shared(shared) => shared.serial,
        }
    }
}

impl Pool {
    /// An empty pool.
    pub(super) fn new(origin: Origin, settings: &UpstreamSettings) -> Result<Self, Fault> {
        let bad = || Fault::new(FaultKind::Internal, "the upstream's host is not a host name");
        let text = origin.authority();
        Ok(Self {
            host: HeaderValue::from_str(&text).map_err(|_| bad())?,
            scheme: if origin.tls { Scheme::HTTPS } else { Scheme::HTTP },
            authority: Authority::try_from(text).map_err(|_| bad())?,
            most_idle: settings.idle_connections,
            most_body: settings.max_body.0,
            origin,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The request in the form of HTTP/1.1: path alone, and `host`.
    pub(super) fn request_h1(&self, draft: Draft) -> Request<Payload> {
        let mut request = Request::new(draft.body);
        *request.method_mut() = draft.method;
        *request.uri_mut() = Uri::from(draft.path);
        *request.headers_mut() = draft.headers;
        request.headers_mut().insert(HOST, self.host.clone());
        // hyper says the length of a body, but not that there is none where one is expected (RFC 9110 §8.6).
        if request.body().is_end_stream()
            && matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH)
        {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        request
    }

    /// The request in the form of HTTP/2: the whole URI.
    pub(super) fn request_h2(&self, draft: Draft) -> Result<Request<Payload>, Fault> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(draft.path);
        let mut request = Request::new(draft.body);
        *request.uri_mut() = Uri::from_parts(parts)
            .map_err(|_| Fault::new(FaultKind::Internal, "the upstream's path is not a path"))?;
        *request.version_mut() = http::Version::HTTP_2;
        *request.method_mut() = draft.method;
        *request.headers_mut() = draft.headers;
        request.headers_mut().remove(HOST);
        Ok(request)
    }

    /// An open connection, if there is one to spare. A request that was lost on one of them gets only a shared one, and
    /// one that was opened later: of many that were lost together, the first opens a connection for all.
    pub(super) fn pick(&self, lost_on: Option<Serial>) -> Option<Pick> {
        let mut state = self.state();
        if lost_on.is_none()
            && let Some(lane) = state.lanes.pop()
        {
            return Some(Pick::Lane(lane));
        }
        if state.shared.is_empty() {
            return None;
        }
        let now = state.now;
        state.shared.retain(Shared::is_open);
        let full = state.shared.len() >= MOST_SHARED;
        let is_later = |shared: &Shared| lost_on.is_none_or(|lost| shared.serial > lost);
        let shared = match state.shared.iter_mut().find(|shared| shared.has_room() && is_later(shared)) {
            Some(shared) => shared,
            None if full => {
                let others = state.shared.iter_mut().filter(|shared| lost_on != Some(shared.serial));
                others.min_by_key(|shared| shared.streams())?
            }
            None => return None,
        };
        shared.used = now;
        Some(Pick::Shared(shared.clone()))
    }

    /// Takes back a connection whose exchange is over.
    pub(super) fn park(&self, mut lane: Box<Lane>) {
        if self.most_idle == 0 {
            return;
        }
        lane.rest();
        let mut state = self.state();
        lane.parked = state.now;
        // Dropped after the lock, for a drop may close a socket.
        let _oldest = (state.lanes.len() >= self.most_idle).then(|| state.lanes.remove(0));
        state.lanes.push(lane);
        drop(state);
    }

    /// Lets others use a connection.
    fn share(&self, shared: &mut Shared) {
        let mut state = self.state();
        state.speaks = Some(Speaks::Http2);
        state.newest.0 += 1;
        (shared.used, shared.serial) = (state.now, state.newest);
        state.shared.push(shared.clone());
    }

    /// A connection just opened, for whoever asked for it.
    pub(super) fn take_in(&self, dialed: Dialed) -> Pick {
        match dialed {
            Dialed::Lane(lane) => {
                self.state().speaks = Some(Speaks::Http1);
                Pick::Lane(lane)
            }
            Dialed::Shared(mut shared) => {
                self.share(&mut shared);
                Pick::Shared(shared)
            }
        }
    }

    /// Whether requests should wait for one connection instead of opening one each.
    pub(super) fn one_dials(&self) -> bool {
        match self.state().speaks {
            Some(Speaks::Http1) => false,
            Some(Speaks::Http2) => true,
            None => self.origin.tls || self.origin.h2c,
        }
    }

    /// The right to dial.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Connections that nobody uses.
    pub(super) fn idle(&self) -> usize {
        let state = self.state();
        state.lanes.len() + state.shared.iter().filter(|shared| shared.streams() == 0).count()
    }

    /// Closes what idled too long or was closed by the peer; whether anything is left.
    pub(super) fn sweep(&self) -> bool {
        let mut state = self.state();
        state.now.0 = state.now.0.wrapping_add(1);
        let now = state.now;
        let old = |since: Tick| now.0.wrapping_sub(since.0) >= IDLE_TICKS;
        state.lanes.retain_mut(|lane| {
            // One attempt to read finds out whether the peer has closed, or spoken out of turn.
            lane.idle();
            lane.is_free() && !old(lane.parked)
        });
        for shared in &mut state.shared {
            if shared.streams() > 0 {
                shared.used = now;
            }
        }
        state.shared.retain(|shared| shared.is_open() && !old(shared.used));
        !state.lanes.is_empty() || !state.shared.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Between hyper and the handler: judges each request, hands it over or refuses it, and counts it until its response ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, UPGRADE};
use http::{HeaderValue, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;

use super::body::RequestBody;
use super::check::check;
use super::connection::Rules;
use super::inflate::Inflate;
use super::remains::Remains;
use super::streams::{Mark, mark};
use super::wire::Wire;
use super::{Handler, Peer};
use crate::fault::{Fault, FaultKind};
use crate::gateway::Takeover;
use crate::heap;

/// Counter of requests answered by the listener itself, by `reason`.
pub(super) const REFUSED: &str = "tollgate_requests_refused_total";

/// One connection as its requests see it.
pub(super) struct Line<H> {
    pub(super) handler: Arc<H>,
    pub(super) rules: Arc<Rules>,
    pub(super) wire: Arc<Wire>,
    pub(super) peer: Peer,
}

/// A request that is being served; counted until it is dropped.
struct Served<H> {
    line: Arc<Line<H>>,
    /// Its number on the connection, from 0.
    number: u64,
    /// How many requests the process was serving when it came.
    others: usize,
    /// What is left of the request's body; over HTTP/2, dropped after the response's end.
    remains: Arc<Remains>,
}

struct Refusal {
    fault: Fault,
    /// Whether nothing more may come over this connection.
    last: bool,
}

pin_project! {
    /// A response body that keeps its request counted.
    pub(super) struct Reply<H: Handler> {
        #[pin]
        body: H::Body,
        served: Served<H>,
    }
}

/// Answers one request. Call it as soon as hyper hands the request over: it counts at once.
pub(super) fn answer<H: Handler>(
    line: Arc<Line<H>>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Reply<H>>, Infallible>> + Send {
    let served = Served::arrive(line);
    async move {
        let line = &served.line;
        let behind = request.version() < Version::HTTP_2;
        let waits_for_word = behind && request.headers().contains_key(EXPECT);
        let mut response = match served.judge(request) {
            Ok(request) => {
                // Boxed: hyper moves what is inside of this future, and keeps room for it with each connection.
                let mut response = heap::pinned(|| line.handler.handle(request, line.peer)).await;
                if let Some(takeover) = response.extensions_mut().remove::<Takeover>() {
                    line.wire.hand_over(takeover);
                } else if line.rules.drain.is_leaving() {
                    // Whoever is told so asks the next instance, which the end of the connection might not let them.
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
            Err(refusal) => refuse(&*line.handler, &refusal),
        };
        if behind {
            // Whoever asked first whether to send its body takes reading for a yes.
            let is_last = response.headers().contains_key(CONNECTION);
            if !served.remains.settle(!is_last && !waits_for_word).await && !is_last {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Ok(response.map(|body| Reply { body, served }))
    }
}

fn refuse<H: Handler>(handler: &H, refusal: &Refusal) -> Response<H::Body> {
    metrics::counter!(REFUSED, "reason" => refusal.fault.kind.as_str()).increment(1);
    tracing::debug!(fault = %refusal.fault, "request refused by the listener");
    let mut response = handler.refuse(&refusal.fault);
    if refusal.last {
        // HTTP/2 has no such header; hyper removes it there.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl<H: Handler> Served<H> {
    fn arrive(line: Arc<Line<H>>) -> Self {
        let (number, others) = (line.wire.arrive(), line.rules.drain.enter());
        Self { line, number, others, remains: Arc::default() }
    }

    fn judge(&self, request: Request<Incoming>) -> Result<Request<RequestBody>, Refusal> {
        let (mut parts, incoming) = request.into_parts();
        let length = incoming.size_hint().exact();
        // From here on, it keeps itself when it is dropped.
        let body = RequestBody::received(incoming, &self.line.rules.settings.limits, &self.remains);
        let Rules { settings, drain, .. } = &*self.line.rules;
        if let Some(verdict) = self.line.wire.verdict(self.number) {
            return Err(Refusal { fault: verdict.fault(), last: true });
        }
        if drain.is_draining() {
            let fault = Fault::new(FaultKind::Unavailable, "the gateway is shutting down");
            return Err(Refusal { fault: fault.after(Some(Duration::from_secs(1))), last: true });
        }
        let last = |fault| Refusal { fault, last: true };
        check(&parts, length, &settings.limits).map_err(last)?;
        // The gateway counts by tenant and priority, and lets some in who have less than their share.
        if self.others >= settings.limits.in_flight + settings.limits.in_flight / 2 {
            let fault = Fault::new(FaultKind::Unavailable, "the gateway is at capacity");
            return Err(Refusal { fault: fault.after(Some(Duration::from_secs(1))), last: false });
        }
        if parts.extensions.remove::<OnUpgrade>().is_none() {
            // Nobody may answer a wish that the protocol of this connection cannot fulfil.
            parts.headers.remove(UPGRADE);
        }
        let inflate = Inflate::for_request(&mut parts.headers, &settings.compression, &settings.limits)
            .map_err(last)?;
        Ok(Request::from_parts(parts, body.inflated(inflate)))
    }
}

impl<H> Drop for Served<H> {
    fn drop(&mut self) {
        self.line.wire.leave();
        self.line.rules.drain.leave();
    }
}

impl<H: Handler> Body for Reply<H> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = self.project().body.poll_frame(cx);
        mark(if frame.is_ready() { Mark::Gave } else { Mark::Waits });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

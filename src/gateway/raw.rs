//! Bytes of a provider on their way to the client: a head by allow-list, a body as it comes, settled once.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, LOCATION, RETRY_AFTER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::Instant;

use super::admission::{Permit, shutting_down};
use super::batch::{Batch, Results};
use super::settle::Settlement;
use super::watch::Closing;
use crate::executor::{Piece, Raw};
use crate::fault::Fault;
use crate::headers;
use crate::plan::Outcome;
use crate::providers::{Place, Target};

/// What of a provider's head a client gets to see. Everything else (cookies, organisations, rate limits of our
/// account, names of servers) stays behind.
const SHOWN: [HeaderName; 16] = [
    ACCEPT_RANGES,
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_LANGUAGE,
    CONTENT_RANGE,
    CONTENT_TYPE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LOCATION,
    RETRY_AFTER,
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("x-goog-upload-status"),
    HeaderName::from_static("x-goog-upload-size-received"),
    HeaderName::from_static("x-goog-upload-chunk-granularity"),
];

/// The body of a raw response. Polled only as fast as the client reads; dropping it cancels the upstream call.
pub struct RawBody {
    raw: Option<Box<Raw>>,
    status: StatusCode,
    headers: HeaderMap,
    settlement: Option<Box<Settlement>>,
    _permit: Permit,
    closing: Closing,
    began: Instant,
    events: bool,
    /// The beginning of an answer that may be a batch.
    begun: Option<Vec<u8>>,
    /// What the results of a batch used, where that is the answer.
    results: Option<Results>,
}

/// No batch is told in more bytes.
const LONGEST_BATCH: usize = 32 << 10;

impl RawBody {
    pub(super) fn new(
        raw: Box<Raw>,
        method: &Method,
        mut settlement: Option<Box<Settlement>>,
        permit: Permit,
        closing: watch::Receiver<bool>,
        began: Instant,
    ) -> Self {
        let headers = shown(&raw, method);
        let results = settlement.as_mut().filter(|_| raw.status() == 200).and_then(|s| s.results());
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        Self {
            status: StatusCode::from_u16(raw.status()).unwrap_or(StatusCode::BAD_GATEWAY),
            events: kind.starts_with(b"text/event-stream"),
            headers,
            begun: settlement.as_ref().filter(|s| s.may_tell_of_batches()).map(|_| Vec::new()),
            results,
            raw: Some(raw),
            settlement,
            _permit: permit,
            closing: Closing::new(closing),
            began,
        }
    }

    /// The response's status, as the provider said it.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What of the provider's headers the client gets to see.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Notes what is known now: once at the end, or when the client has gone.
    fn note(&mut self) {
        let (Some(raw), Some(settlement)) = (&self.raw, &mut self.settlement) else { return };
        settlement.told(raw.usage(settlement.rough()));
        settlement.target = Some(raw.target().clone());
    }

    fn hear_results(&mut self, bytes: &[u8]) {
        let Self { raw: Some(raw), settlement: Some(settlement), results: Some(results), .. } = self else {
            return;
        };
        settlement.target.get_or_insert_with(|| raw.target().clone());
        results.feed(bytes, |usage, model| settlement.of_batch(usage, Some(model)));
    }

    fn end(&mut self, broken: Option<&Fault>) {
        self.note();
        let Some(mut settlement) = self.settlement.take() else { return };
        if let Some(batch) = self.begun.take().as_deref().and_then(Batch::read) {
            settlement.learn_of_batch(batch);
        }
        match self.results.take() {
            Some(results) if broken.is_none() => settlement.learn_of_results(results),
            Some(results) => settlement.disclaim(results.id()),
            None => {}
        }
        let status = self.status.as_u16();
        let complaint = self.raw.take().and_then(|raw| raw.complaint().cloned());
        match (broken, complaint) {
            (Some(fault), _) => settlement.settle(status, Outcome::Broken, Some(fault)),
            (None, Some(complaint)) => settlement.complained(status, &complaint),
            (None, None) => settlement.settle(status, Outcome::Ok, None),
        }
    }
}

impl http_body::Body for RawBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(raw) = &mut self.raw else { return Poll::Ready(None) };
        let piece = match raw.poll_piece(cx) {
            // A client who reads slowly never sees the upstream quiet.
            _ if self.closing.is_due() => Piece::Broken(shutting_down()),
            Poll::Pending if self.closing.poll(cx).is_ready() => Piece::Broken(shutting_down()),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(piece) => piece,
        };
        match piece {
            Piece::Bytes(bytes) => {
                self.begun = self.begun.take().filter(|begun| begun.len() + bytes.len() <= LONGEST_BATCH);
                self.begun.iter_mut().for_each(|begun| begun.extend_from_slice(&bytes));
                self.hear_results(&bytes);
                let waited = self.began.elapsed();
                if self.events
                    && let Some(settlement) = &mut self.settlement
                {
                    settlement.first_token.get_or_insert(waited);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Piece::End => {
                self.end(None);
                Poll::Ready(None)
            }
            // The response is cut off, so that nobody takes the half of it for the whole.
            Piece::Broken(fault) => {
                self.end(Some(&fault));
                Poll::Ready(Some(Err(fault)))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.raw.as_ref().map(|raw| raw.length()) {
            Some(Some(length)) => SizeHint::with_exact(length),
            Some(None) => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for RawBody {
    fn drop(&mut self) {
        if self.raw.as_ref().is_some_and(|raw| raw.length() == Some(0)) {
            // hyper asks a body without length for nothing, so its end is seen here.
            self.end(None);
        }
        // What was used is noted before the settlement, dropped next, books the request as cancelled.
        self.note();
        if let (Some(results), Some(settlement)) = (&self.results, &mut self.settlement) {
            settlement.disclaim(results.id());
        }
    }
}

/// The provider's headers by allow-list, without those that repeat its credentials.
fn shown(raw: &Raw, method: &Method) -> HeaderMap {
    let (from, target) = (raw.headers(), raw.target());
    let mut shown = HeaderMap::with_capacity(4);
    for name in &SHOWN {
        for value in from.get_all(name).iter().filter(|value| !raw.repeats_secret(value)) {
            shown.append(name.clone(), value.clone());
        }
    }
    if let Some(location) = shown.get(LOCATION).and_then(|value| within(value, target)) {
        shown.insert(LOCATION, location);
    }
    if let Some(there) = from.get(&headers::UPLOAD_URL).and_then(|value| upload_at(value, target)) {
        shown.insert(&headers::UPLOAD_URL, there);
    }
    // Of other answers, the body itself knows its length.
    if method == Method::HEAD
        && let Some(length) = from.get(CONTENT_LENGTH)
    {
        shown.insert(CONTENT_LENGTH, length.clone());
    }
    shown
}

/// A redirect is never followed here, but a client may follow it: one that stays below the provider's base URL leads
/// back through the gateway, so that the client needs no key of the provider's.
fn within(location: &HeaderValue, target: &Target) -> Option<HeaderValue> {
    below(location, target, |base| Some(base))
}

/// The same of where an upload goes on, which stands beside the base URL's version.
fn upload_at(location: &HeaderValue, target: &Target) -> Option<HeaderValue> {
    below(location, target, |base| Some(base.rsplit_once('/')?.0))
}

/// The path of the gateway for an address at the provider's host, below what `root` makes of the base URL's path.
fn below(
    location: &HeaderValue,
    target: &Target,
    root: impl FnOnce(&str) -> Option<&str>,
) -> Option<HeaderValue> {
    let Place::Http(place) = &target.vendor.place else { return None };
    let text = location.to_str().ok()?;
    let origin =
        format!("{}://{}", if place.origin.tls { "https" } else { "http" }, place.origin.authority());
    let path = text.strip_prefix(&origin).unwrap_or(text);
    let rest = path
        .strip_prefix(root(&place.base_path)?)
        .filter(|rest| rest.starts_with('/') && !rest.starts_with("//"))?;
    HeaderValue::from_str(&format!("/passthrough/{}{rest}", target.name.provider)).ok()
}

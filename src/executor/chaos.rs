//! Chaos: faults that are injected on purpose, and go the way of real ones from there.

mod book;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

pub use book::{Chaos, Experiment, Exposed};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
pub use settings::{ChaosKind, ChaosMatch, ChaosSettings, StallAt};
use tokio::time::Instant;

use super::answering::{Answering, Script};
use super::attempt::{Sent, refusal};
use super::due::Head;
use crate::clock::Dice;
use crate::fault::{Fault, FaultKind};
use crate::providers::Target;

/// What stalls, stalls so long: longer than any deadline.
const FOR_EVER: Duration = Duration::from_secs(7 * 86_400);

/// How long a request is held back, and what `Retry-After` says, where nothing is said.
const USUAL: Duration = Duration::from_secs(1);

/// An experiment that strikes an attempt.
pub(super) struct Strike {
    experiment: Arc<Experiment>,
    /// Whether the request goes out all the same.
    sent: Arc<AtomicBool>,
}

impl Exposed {
    /// What strikes an attempt at this target.
    pub(super) fn strike(&self, target: &Target, dice: &Dice, now: Instant) -> Option<Strike> {
        let experiment = self.strikes(&target.name, dice, now)?.clone();
        tracing::debug!(upstream = %target.name, chaos = &*experiment.name, "chaos strikes");
        let sent = Arc::new(AtomicBool::new(experiment.settings.kind == ChaosKind::Cut));
        Some(Strike { experiment, sent })
    }
}

impl Strike {
    /// The experiment's name.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.experiment.name
    }

    /// Tells whether anything was sent.
    pub(super) fn sent(&self) -> Arc<AtomicBool> {
        self.sent.clone()
    }

    /// What happens in the place of sending; `None` when the request is to be sent.
    ///
    /// # Errors
    /// The deadline that passes while nothing happens.
    pub(super) async fn instead(&self, head: Head, streams: bool) -> Result<Option<Sent>, Fault> {
        let settings = &self.experiment.settings;
        let mut headers = HeaderMap::new();
        let text = format!("injected on purpose by the chaos experiment `{}`", self.experiment.name);
        let error = serde_json::json!({ "error": { "type": "chaos", "message": text } }).to_string();
        let (status, pieces) = match settings.kind {
            ChaosKind::Cut => return Ok(None),
            ChaosKind::Latency => {
                self.hold_back(head).await?;
                return Ok(None);
            }
            ChaosKind::Error => (settings.status.unwrap_or(503), vec![(Duration::ZERO, error.into())]),
            ChaosKind::Throttle => {
                let after = settings.retry_after.map_or(USUAL, |after| after.0);
                headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
                (429, vec![(Duration::ZERO, error.into())])
            }
            ChaosKind::Stall if settings.at == Some(StallAt::FirstToken) => {
                (200, vec![(FOR_EVER, Bytes::new())])
            }
            ChaosKind::Stall => {
                tokio::time::sleep_until(head.at).await;
                return Err(head.passed());
            }
            ChaosKind::Garbage => (200, vec![(Duration::ZERO, format!("<html>{text}</html>\n\n").into())]),
        };
        let kind = if streams && status == 200 { "text/event-stream" } else { "application/json" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let body = Answering::Local(Script::new(pieces));
        Ok(Some(Sent { status, headers, body, held: None, secrets: Vec::new() }))
    }

    /// What happens to a handshake: conversations have no chunks, so `cut` leaves them alone.
    ///
    /// # Errors
    /// The fault, where it strikes.
    pub(super) async fn shake(&self, head: Head, target: &Target) -> Result<(), Fault> {
        let Some(Sent { status, headers, mut body, .. }) = self.instead(head, false).await? else {
            return Ok(());
        };
        let end = Instant::now() + USUAL;
        match (self.experiment.settings.kind, status) {
            (ChaosKind::Stall, _) => {
                tokio::time::sleep_until(head.at).await;
                Err(head.passed())
            }
            (_, 400..) => {
                let text = body.beginning(super::attempt::MAX_ERROR_BODY, USUAL, end).await;
                Err(refusal(status, &headers, &text, target))
            }
            _ => Err(Fault::new(FaultKind::Malformed, "the provider does not speak websocket here")),
        }
    }

    /// The answer that came, as far as it is let through.
    pub(super) fn afterwards(&self, sent: Sent) -> Sent {
        let settings = &self.experiment.settings;
        if settings.kind != ChaosKind::Cut || !(200..300).contains(&sent.status) {
            return sent;
        }
        let kind = sent.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let cut = match () {
            () if kind.contains("event-stream") && !kind.contains("amazon") => Form::Events,
            () if kind.contains("ndjson") => Form::Lines,
            () if kind.contains("amazon") => Form::Pieces,
            () => Form::Whole,
        };
        let left = settings.chunks.unwrap_or(1);
        let body = Cut { inner: sent.body, form: cut, left, over: false };
        Sent { body: Answering::Cut(Box::new(body)), ..sent }
    }

    async fn hold_back(&self, head: Head) -> Result<(), Fault> {
        let delay = self.experiment.settings.delay.map_or(USUAL, |delay| delay.0);
        let waited = tokio::time::timeout_at(head.at, tokio::time::sleep(delay)).await;
        waited.map_err(|_| head.passed())?;
        self.sent.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// A body that breaks off.
pub(super) struct Cut {
    inner: Answering,
    form: Form,
    /// Chunks that are still let through.
    left: u32,
    over: bool,
}

/// What a chunk is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// What ends with an empty line.
    Events,
    /// What ends with a line.
    Lines,
    /// What came at once.
    Pieces,
    /// There are none: half of the first piece arrives.
    Whole,
}

impl Cut {
    /// The next bytes, as far as they are let through. It breaks off at the latest where the answer ends.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.left == 0 {
            return self.break_off();
        }
        match std::task::ready!(self.inner.poll_chunk(cx)) {
            None => self.break_off(),
            Some(Err(fault)) => {
                self.over = true;
                Poll::Ready(Some(Err(fault)))
            }
            Some(Ok(bytes)) => Poll::Ready(Some(Ok(self.let_through(bytes)))),
        }
    }

    fn break_off(&mut self) -> Poll<Option<Result<Bytes, Fault>>> {
        self.over = true;
        let fault = Fault::new(FaultKind::Truncated, "the provider's answer broke off");
        Poll::Ready(Some(Err(fault)))
    }

    fn let_through(&mut self, bytes: Bytes) -> Bytes {
        match self.form {
            Form::Whole => {
                self.left = 0;
                bytes.slice(..bytes.len() / 2)
            }
            Form::Pieces => {
                self.left -= 1;
                bytes
            }
            Form::Lines => self.up_to(bytes, b"\n"),
            // A chunk may end between the two line ends of an event; it counts with the next one then.
            Form::Events if memchr::memmem::find(&bytes, b"\r\n").is_some() => self.up_to(bytes, b"\r\n\r\n"),
            Form::Events => self.up_to(bytes, b"\n\n"),
        }
    }

    fn up_to(&mut self, bytes: Bytes, mark: &[u8]) -> Bytes {
        let mut end = 0;
        while self.left > 0 {
            let Some(at) = bytes.get(end..).and_then(|rest| memchr::memmem::find(rest, mark)) else {
                return bytes;
            };
            end += at + mark.len();
            self.left -= 1;
        }
        bytes.slice(..end)
    }
}

#[cfg(test)]
mod tests;

//! A stream on its way to the client: kept alive while the upstream thinks, ended honestly, settled once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::admission::{Permit, over, shutting_down};
use super::door::{Door, Later};
use super::keeping::Keeping;
use super::settle::Settlement;
use crate::executor::{Answered, Live, Piece};
use crate::fault::Fault;
use crate::plan::Outcome;
use crate::providers::Target;

/// An answer that is on its way.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Result<Answered, Fault>> + Send>>;

/// How far a stream has come.
pub(super) enum Carrying {
    /// No content yet; targets may still change.
    Waiting(Waiting),
    /// Content flows.
    Live(Box<Live>),
    /// Nothing more will come.
    Over,
}

/// The body of a streamed response. Polled only as fast as the client reads; dropping it cancels the upstream call.
pub struct StreamBody {
    carrying: Carrying,
    door: &'static dyn Door,
    settlement: Option<Box<Settlement>>,
    keeping: Option<Box<Keeping>>,
    _permit: Permit,
    keepalive: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    spoke: Instant,
    closing: Closing,
    began: Instant,
}

/// Ready once, when running answers must end because the gateway does.
pub(super) struct Closing {
    switch: watch::Receiver<bool>,
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Closing {
    pub(super) fn new(switch: watch::Receiver<bool>) -> Self {
        let over: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(over(switch.clone()));
        Self { switch, over: Some(over) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(over) = &mut self.over else { return Poll::Pending };
        std::task::ready!(over.as_mut().poll(cx));
        self.over = None;
        Poll::Ready(())
    }

    /// The same without waiting, and without a lock as long as nobody has touched the switch.
    pub(super) fn is_due(&self) -> bool {
        self.switch.has_changed().unwrap_or(false) && *self.switch.borrow()
    }
}

impl From<Answered> for Carrying {
    fn from(answered: Answered) -> Self {
        match answered {
            Answered::Stream(live) => Self::Live(live),
            // A job that wants a stream is never answered with anything else.
            Answered::Whole(..) | Answered::Raw(_) | Answered::Switched(_) => Self::Over,
        }
    }
}

impl Carrying {
    /// Who answers, once that is certain.
    pub(super) fn target(&self) -> Option<&Target> {
        match self {
            Self::Live(live) => Some(live.target()),
            _ => None,
        }
    }

    /// Whether content flows, and all of it that has come so far has gone out.
    fn is_between(&self) -> bool {
        matches!(self, Self::Live(live) if live.is_between())
    }
}

impl StreamBody {
    pub(super) fn new(
        carrying: Carrying,
        door: &'static dyn Door,
        settlement: Option<Box<Settlement>>,
        permit: Permit,
        keepalive: Duration,
        closing: watch::Receiver<bool>,
        began: Instant,
    ) -> Self {
        Self {
            carrying,
            door,
            settlement,
            keeping: None,
            _permit: permit,
            keepalive,
            timer: None,
            spoke: Instant::now(),
            closing: Closing::new(closing),
            began,
        }
    }

    /// The same for an answer that others are given, too.
    pub(super) fn kept(mut self, keeping: Option<Box<Keeping>>) -> Self {
        self.keeping = keeping;
        self
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            // A client who reads slowly never sees the upstream quiet.
            if self.carrying.is_between() && self.closing.is_due() {
                return Poll::Ready(Some(self.break_off(&shutting_down())));
            }
            match &mut self.carrying {
                Carrying::Over => return Poll::Ready(None),
                Carrying::Waiting(waiting) => match waiting.as_mut().poll(cx) {
                    Poll::Pending => return self.poll_quiet(cx),
                    Poll::Ready(Ok(answered)) => {
                        self.carrying = answered.into();
                        let waited = self.began.elapsed();
                        if let Some(settlement) = &mut self.settlement {
                            settlement.first_token = Some(waited);
                        }
                    }
                    Poll::Ready(Err(fault)) => return Poll::Ready(Some(self.break_off(&fault))),
                },
                Carrying::Live(live) => match live.poll_piece(cx) {
                    Poll::Pending => return self.poll_quiet(cx),
                    Poll::Ready(Piece::Bytes(bytes)) => {
                        if let Some(keeping) = &mut self.keeping {
                            keeping.hear(&bytes);
                        }
                        return Poll::Ready(Some(bytes));
                    }
                    Poll::Ready(Piece::End) => {
                        self.end(Outcome::Ok, None);
                        return Poll::Ready(None);
                    }
                    Poll::Ready(Piece::Broken(fault)) => return Poll::Ready(Some(self.break_off(&fault))),
                },
            }
        }
    }

    /// Nothing came from upstream: a comment when the client has heard nothing for an interval, an error event when
    /// the gateway's own end has come.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.closing.poll(cx).is_ready() {
            return Poll::Ready(Some(self.break_off(&shutting_down())));
        }
        if self.keepalive.is_zero() {
            return Poll::Pending;
        }
        loop {
            let due = self.spoke + self.keepalive;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if now >= due {
                timer.as_mut().reset(now + self.keepalive);
                return Poll::Ready(Some(self.door.stream_form().keepalive()));
            }
            timer.as_mut().reset(due);
        }
    }

    fn break_off(&mut self, fault: &Fault) -> Bytes {
        let told = match &mut self.carrying {
            Carrying::Live(live) => live.fault(fault),
            _ => None,
        };
        let begun = matches!(self.carrying, Carrying::Live(_));
        let event = told.unwrap_or_else(|| self.door.fault_event(fault, begun));
        self.end(Outcome::Broken, Some(fault));
        event
    }

    fn end(&mut self, outcome: Outcome, fault: Option<&Fault>) {
        self.note_usage();
        self.carrying = Carrying::Over;
        let keeping = self.keeping.take();
        if let Some(mut settlement) = self.settlement.take() {
            match (keeping, fault) {
                (Some(keeping), None) => keeping.streamed(&mut settlement),
                // What broke off is left to others to make.
                (Some(keeping), Some(fault)) => keeping.failed(fault),
                (None, _) => {}
            }
            settlement.settle(200, outcome, fault);
        }
    }

    fn note_usage(&mut self) {
        let (Carrying::Live(live), Some(settlement)) = (&self.carrying, &mut self.settlement) else { return };
        let prompt = settlement.facts.as_ref().map_or(0, |facts| facts.tokens);
        settlement.lose(live.lost());
        (settlement.usage, settlement.heard) = (Some(live.usage(prompt)), live.heard());
        settlement.finish = live.finish_reason();
        settlement.target = Some(live.target().clone());
        if let Some((id, complete)) = live.looked_for() {
            settlement.learn_of_look(id, complete);
        }
        if let Some(id) = live.in_background() {
            settlement.announce(id);
            settlement.learn_of(Later::Begun(id.into()));
        }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let bytes = std::task::ready!(self.poll_bytes(cx));
        if bytes.is_some() {
            self.spoke = Instant::now();
        }
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.carrying, Carrying::Over)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // What was used is noted before the settlement, dropped next, books the request as cancelled.
        self.note_usage();
    }
}

//! How long an answer under way may be silent, and when it must be over.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::fault::{Fault, FaultKind, Phase};

/// One timer for both deadlines; it is set anew only when it fires, not with every piece.
pub(super) struct Watchdog {
    idle: Duration,
    end: Instant,
    heard: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watchdog {
    /// Something was heard just now.
    pub(super) fn new(idle: Duration, end: Instant) -> Self {
        Self { idle, end, heard: Instant::now(), timer: None }
    }

    /// How long a silence may last.
    pub(super) fn idle(&self) -> Duration {
        self.idle
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// From now on, a silence may last this long.
    pub(super) fn expect_within(&mut self, idle: Duration) {
        // The timer may be set for much later.
        (self.idle, self.heard, self.timer) = (idle, Instant::now(), None);
    }

    /// Whether the silence since the last piece is longer than this.
    pub(super) fn silent_for(&self, length: Duration) -> bool {
        self.heard.elapsed() > length
    }

    /// Ready with what has passed, once one of the deadlines has.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        loop {
            let due = (self.heard + self.idle).min(self.end);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= due {
                let (phase, text) = if due == self.end {
                    (Phase::Total, "the request's deadline passed")
                } else {
                    (Phase::Idle, "the provider stopped sending")
                };
                return Poll::Ready(Fault::new(FaultKind::Timeout(phase), text));
            }
            timer.as_mut().reset(due);
        }
    }
}

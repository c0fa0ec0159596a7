//! How long an answer under way may be silent, and when it must be over.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::fault::{Fault, FaultKind, Phase};

/// Providers that search or reason in the midst of an answer send comments (`: OPENROUTER PROCESSING`) or pings meanwhile;
/// one that sends nothing else for so many times the longest silence has stopped.
const SIGNS: u32 = 4;

/// One timer for all deadlines; it is set anew only when it fires, not with every piece.
pub(super) struct Watchdog {
    idle: Duration,
    end: Instant,
    heard: Instant,
    /// How long nothing but signs of life may come, where they can be told from content.
    mute: Option<Duration>,
    spoke: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watchdog {
    /// Something was heard just now.
    pub(super) fn new(idle: Duration, end: Instant) -> Self {
        let now = Instant::now();
        Self { idle, end, heard: now, mute: None, spoke: now, timer: None }
    }

    /// The same for an answer whose content can be told from comments and pings: these may be all that comes for
    /// [`SIGNS`] times as long as it may be silent.
    pub(super) fn telling(idle: Duration, end: Instant) -> Self {
        Self { mute: Some(idle * SIGNS), ..Self::new(idle, end) }
    }

    /// How long a silence may last.
    pub(super) fn idle(&self) -> Duration {
        self.idle
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Content came.
    pub(super) fn spoke(&mut self) {
        self.spoke = Instant::now();
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
            let quiet = self.heard + self.idle;
            let mute = self.mute.map_or(quiet, |most| self.spoke + most);
            let due = quiet.min(mute).min(self.end);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= due {
                let (phase, text) = if due == self.end {
                    (Phase::Total, "the request's deadline passed")
                } else if due == quiet {
                    (Phase::Idle, "the provider stopped sending")
                } else {
                    (Phase::Idle, "the provider sent nothing but signs of life for too long")
                };
                return Poll::Ready(Fault::new(FaultKind::Timeout(phase), text));
            }
            timer.as_mut().reset(due);
        }
    }
}

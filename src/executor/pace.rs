//! How fast a stream must come: one that only trickles is as good as one that stopped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::fault::{Fault, FaultKind, Phase};

/// The pace is that of so much time spent waiting for the provider. A client who reads slowly makes nobody slow.
const SPAN: Duration = Duration::from_secs(10);

/// Bytes of text that make a token, as everywhere where nobody has counted.
const TOKEN: u64 = 4;

/// Watches the pace of one stream from its first content on.
pub(super) struct Pace {
    /// Bytes that have to come within the span; 0 where nobody asks for a pace.
    least: u64,
    /// Bytes when the span began; `None` before the first wait.
    from: Option<u64>,
    /// Time that was waited within the span, up to the wait under way.
    waited: Duration,
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// At least so many tokens a second.
    pub(super) fn new(tokens_per_second: u32) -> Self {
        let least = u64::from(tokens_per_second) * TOKEN * SPAN.as_secs();
        Self { least, from: None, waited: Duration::ZERO, waiting: None, timer: None }
    }

    /// Something came: the wait is over.
    pub(super) fn heard(&mut self) {
        if let Some(since) = self.waiting.take() {
            self.waited += since.elapsed();
        }
    }

    /// Nothing is here, and `bytes` of text have come so far. Ready once that is too little.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, bytes: u64) -> Poll<Fault> {
        if self.least == 0 {
            return Poll::Pending;
        }
        loop {
            let from = *self.from.get_or_insert(bytes);
            let now = Instant::now();
            let since = *self.waiting.get_or_insert(now);
            let waited = self.waited + now.saturating_duration_since(since);
            if waited >= SPAN {
                if bytes.saturating_sub(from) < self.least {
                    let text = "the provider sends its answer too slowly";
                    return Poll::Ready(Fault::new(FaultKind::Timeout(Phase::Idle), text).code("too_slow"));
                }
                // The next span begins.
                (self.from, self.waited, self.waiting) = (Some(bytes), Duration::ZERO, Some(now));
                continue;
            }
            let due = now + (SPAN - waited);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            // Set anew only when it fires too early, not with every piece.
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that brings so many bytes at a time, with so long between them while it is waited for, and a client who
    /// takes so long over each piece. When it was found too slow, in seconds.
    async fn slow_after(tokens: u32, bytes: u64, gap_ms: u64, client_ms: u64) -> Option<u64> {
        let (mut pace, mut came, began) = (Pace::new(tokens), 400, Instant::now());
        while began.elapsed() < Duration::from_secs(100) {
            let wait = std::future::poll_fn(|cx| pace.poll(cx, came));
            if tokio::time::timeout(Duration::from_millis(gap_ms), wait).await.is_ok() {
                return Some(began.elapsed().as_secs());
            }
            pace.heard();
            came += bytes;
            tokio::time::sleep(Duration::from_millis(client_ms)).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn what_trickles_is_too_slow_and_who_reads_slowly_is_not_to_blame() {
        for (tokens, bytes, gap, client, expected) in [
            (5, 4, 1_000, 0, Some(10)),
            (5, 20, 900, 0, None),
            // Pings and other frames without text.
            (5, 0, 1_000, 0, Some(10)),
            // A client who reads a piece in two seconds, of a provider who has it at once.
            (5, 4, 10, 2_000, None),
            (0, 0, 1_000, 0, None),
            (1, 0, 60_000, 0, Some(10)),
        ] {
            let found = slow_after(tokens, bytes, gap, client).await;
            assert_eq!(found, expected, "{tokens} tokens: {bytes} bytes each {gap} ms, {client} ms");
        }
    }
}

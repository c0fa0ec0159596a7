//! Runs the streams of HTTP/2 connections and resets those whose client stopped reading.
//!
//! On HTTP/1 a client that does not read fills the socket, and the connection notices. An HTTP/2 client can
//! stop reading one stream by never granting it window, while the connection is well. Nobody is told: hyper
//! just stops polling the response body. So the body leaves a mark whenever it is polled, and a stream that
//! is pending although its body was not is waiting for its client.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::alarm::Alarm;

/// What a response body answered when it was last polled within the stream that runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// It was not polled.
    Untouched,
    /// It gave a frame.
    Gave,
    /// It waits for its source.
    Waits,
}

thread_local! {
    static MARK: Cell<Mark> = const { Cell::new(Mark::Untouched) };
}

/// Notes what a response body answered.
pub(super) fn mark(mark: Mark) {
    MARK.set(mark);
}

/// hyper's executor for HTTP/2 streams.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    /// How long a stream may wait for its client to read.
    pub(super) patience: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::spawn(Watched { stream, patience: self.patience, stuck_since: None, alarm: Alarm::default() });
    }
}

pin_project! {
    struct Watched<F> {
        #[pin]
        stream: F,
        patience: Duration,
        stuck_since: Option<Instant>,
        alarm: Alarm,
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    /// Ending early drops the stream, which resets it towards the client and drops the body.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        mark(Mark::Untouched);
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match MARK.get() {
            Mark::Gave => *this.stuck_since = Some(Instant::now()),
            Mark::Waits => *this.stuck_since = None,
            Mark::Untouched => {}
        }
        match this.stuck_since.and_then(|since| since.checked_add(*this.patience)) {
            Some(due) => this.alarm.poll_until(cx, due),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_body_is_left_alone_ends_and_one_that_waits_does_not() {
        for (marked, ends) in [(Mark::Gave, true), (Mark::Waits, false), (Mark::Untouched, false)] {
            let mut first = true;
            let stream = poll_fn(move |_| {
                if std::mem::take(&mut first) {
                    mark(marked);
                }
                Poll::Pending
            });
            let watched = Watched {
                stream,
                patience: Duration::from_secs(60),
                stuck_since: None,
                alarm: Alarm::default(),
            };
            let start = Instant::now();
            let ended = tokio::time::timeout(Duration::from_secs(3600), watched).await.is_ok();
            assert_eq!(ended, ends, "{marked:?}");
            assert!(!ended || start.elapsed() == Duration::from_secs(60));
        }
    }
}

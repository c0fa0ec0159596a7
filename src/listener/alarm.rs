//! One lazily armed timer that serves many short deadlines without touching the timer wheel for each.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is moved only when it fires too early or is needed sooner.
///
/// Deadlines on a busy connection move later with every byte; re-arming a timer each time would cost more
/// than the bytes. So an armed timer stays where it is, and when it fires, it is set to what is due then.
#[derive(Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `due` has passed; otherwise the task is woken at `due` at the latest.
    pub(super) fn poll_until(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_is_kept_wherever_it_moves_to() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut alarm = Alarm::default();
        for (first, then) in [(100, 300), (900, 400), (500, 500)] {
            let _ = poll_fn(|cx| Poll::Ready(alarm.poll_until(cx, at(first)))).await;
            poll_fn(|cx| alarm.poll_until(cx, at(then))).await;
            assert_eq!(start.elapsed(), Duration::from_millis(then), "{first} moved to {then}");
        }
    }
}

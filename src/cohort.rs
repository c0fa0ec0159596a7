//! Cohorts: the requests of a thread do the same at the same time.
//!
//! A request runs through half a megabyte of code, most of it once. No cache near the processor holds that beside the
//! kernel's, so at the end of its way the code of the beginning is gone, and the next request waits for all of it again.
//! Where several requests wait for a thread, each pauses between two stages of its way until the others have come as far:
//! what a stage needs is then fetched once for all of them. J. Larus and M. Parkes, "Using Cohort Scheduling to Enhance
//! Server Performance", USENIX 2002; what it gains here stands in `docs/performance.md`.

use std::cell::Cell;

/// How many stages end without a pause after one in which nobody else came on. A pause alone costs a look at the
/// sockets, about a microsecond, and this many stages are some four requests.
const ALONE: u32 = 31;

thread_local! {
    /// Stages that requests of this thread have ended, round and round.
    static ENDED: Cell<u32> = const { Cell::new(0) };
    /// Requests of this thread that pause.
    static PAUSING: Cell<u32> = const { Cell::new(0) };
    /// Stages that end without a pause.
    static SPARED: Cell<u32> = const { Cell::new(0) };
}

/// A pause; over when it is dropped, also where its request is.
struct Pause {
    /// Whether somebody paused already.
    has_company: bool,
}

/// Ends a stage: the other requests of this thread come on, as far as they can without waiting. Where there are none,
/// it soon costs nothing.
pub async fn gather() {
    let ended = ENDED.get().wrapping_add(1);
    ENDED.set(ended);
    if let Some(left) = SPARED.get().checked_sub(1) {
        SPARED.set(left);
        return;
    }
    let pause = Pause::begin();
    tokio::task::yield_now().await;
    if !pause.has_company && ENDED.get() == ended {
        SPARED.set(ALONE);
    }
}

impl Pause {
    fn begin() -> Self {
        let pausing = PAUSING.get();
        PAUSING.set(pausing + 1);
        Self { has_company: pausing > 0 }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // On another thread than it began, where threads share their requests; then one of them pauses a few times too often.
        PAUSING.set(PAUSING.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Waker};

    use tokio::task::JoinSet;

    use super::*;

    /// Which request was in which stage, in the order in which they were.
    async fn walk(names: &[char], stages: usize) -> Vec<(usize, char)> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut requests = JoinSet::new();
        for name in names.iter().copied() {
            let seen = Arc::clone(&seen);
            requests.spawn(async move {
                for stage in 0..stages {
                    seen.lock().unwrap().push((stage, name));
                    gather().await;
                }
            });
        }
        requests.join_all().await;
        seen.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn requests_go_through_their_stages_together() {
        let seen = walk(&['a', 'b', 'c'], 4).await;
        let stages: Vec<usize> = seen.iter().map(|(stage, _)| *stage).collect();
        assert_eq!(stages, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], "{seen:?}");
    }

    #[tokio::test]
    async fn whoever_is_alone_does_not_pause() {
        walk(&['a'], 2).await;
        assert_eq!(SPARED.get(), ALONE - 1);
        let mut stage = pin!(gather());
        assert!(stage.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[tokio::test]
    async fn company_is_found_again() {
        SPARED.set(2);
        let seen = walk(&['a', 'b'], 4).await;
        assert_eq!(
            seen[..4],
            [(0, 'a'), (1, 'a'), (2, 'a'), (0, 'b')],
            "two stages without a pause, then in step"
        );
        assert_eq!(PAUSING.get(), 0);
    }
}

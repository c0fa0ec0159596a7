//! Where evaluations go on that take long: a worker thread gives up on them early, so that nobody else's request waits
//! behind them, and they begin anew on a few threads beside the workers.
//!
//! Nothing of an evaluation shows before its end, so that it may begin anew at any time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long an evaluation may take on a worker thread, in script time; the usual one takes some microseconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(1);
/// Evaluations that wait for a place; beyond them, they fail at once.
const MOST_WAITING: usize = 256;

type Errand = Box<dyn FnOnce() + Send>;

/// Evaluates beside the workers; `None` where too many wait already.
pub(super) async fn evaluate<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, told) = oneshot::channel();
    // Plugins are polled inside of an evaluation, which wants the worker's timers.
    let runtime = tokio::runtime::Handle::try_current().ok();
    let errand = move || {
        let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
        // Who asked may have gone.
        let _ = done.send(work());
    };
    road()?.try_send(Box::new(errand)).ok()?;
    told.await.ok()
}

fn road() -> Option<&'static SyncSender<Errand>> {
    static ROAD: OnceLock<Option<SyncSender<Errand>>> = OnceLock::new();
    ROAD.get_or_init(|| {
        let (send, receive) = sync_channel::<Errand>(MOST_WAITING);
        let receive = Arc::new(Mutex::new(receive));
        // Half of the cores, so that workers have the other half.
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let started = (0..(cores / 2).max(1)).filter(|at| {
            let receive = receive.clone();
            let thread = std::thread::Builder::new().name(format!("policy-{at}"));
            thread.spawn(move || drive(&receive)).is_ok()
        });
        (started.count() > 0).then_some(send)
    })
    .as_ref()
}

fn drive(errands: &Mutex<Receiver<Errand>>) {
    loop {
        let next = errands.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(errand) = next else { return };
        // A defect in one evaluation costs that one.
        drop(catch_unwind(AssertUnwindSafe(errand)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_on_beside_comes_back() {
        assert_eq!(evaluate(|| 7).await, Some(7));
        assert_eq!(evaluate(|| -> u32 { std::panic::resume_unwind(Box::new("no")) }).await, None);
        assert_eq!(evaluate(|| 8).await, Some(8));
    }
}

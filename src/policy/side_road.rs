//! Where evaluations go on that take long: a worker thread gives up on them early, so that nobody else's request waits
//! behind them, and they begin anew on a few threads beside the workers.
//!
//! Nothing of an evaluation shows before its end, so that it may begin anew at any time.

use std::time::Duration;

use crate::threads::{Beside, half_of_the_cores};

/// How long an evaluation may take on a worker thread, in script time; the usual one takes some microseconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(1);
/// Evaluations that wait for a place; beyond them, they fail at once.
const MOST_WAITING: usize = 256;

static ROAD: Beside = Beside::new("policy", half_of_the_cores, MOST_WAITING);

/// Evaluates beside the workers; `None` where too many wait already.
pub(super) async fn evaluate<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // Plugins are polled inside of an evaluation, which wants the worker's timers.
    let runtime = tokio::runtime::Handle::try_current().ok();
    ROAD.run(move || {
        let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
        work()
    })
    .await
}

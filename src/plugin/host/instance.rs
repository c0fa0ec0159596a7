//! A running instance of a plugin, and what it means when one of its calls fails.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};

use super::cell::{Cell, Overdue};
use super::trace;
use crate::plugin::outcome::{CallFault, Outcome};

/// Calls of one instance that is used again.
const MOST_CALLS: u32 = 1_000;
/// Age of one instance that is used again.
const OLDEST: Duration = Duration::from_secs(600);
/// How much later than the interruption of the plugin a call is given up whose host function does not return.
const GRACE: Duration = Duration::from_millis(20);

/// An instance and its store.
pub(super) struct Instance {
    pub(super) store: Store<Cell>,
    instance: wasmtime::component::Instance,
    calls: u32,
    born: Instant,
    /// Bytes of memory that it began with.
    at_first: usize,
    /// What it took to make it, which its first call pays for.
    debt: Duration,
    /// Its place among all instances.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Instance {
    /// Makes an instance, within the deadline of the store.
    pub(super) async fn begin(
        mut store: Store<Cell>,
        pre: &InstancePre<Cell>,
        slot: Option<OwnedSemaphorePermit>,
        limit: Duration,
    ) -> Result<Self, CallFault> {
        let begun = Instant::now();
        let deadline = Cell::allow(&mut store, limit);
        let made = within(deadline, pre.instantiate_async(&mut store)).await;
        let instance = made
            .unwrap_or_else(|Overdue| Err(Overdue.into()))
            .map_err(|error| explain(&error, &store, limit))?;
        let at_first = store.data().ceiling.memory;
        Ok(Self { store, instance, calls: 0, born: begun, at_first, debt: begun.elapsed(), _slot: slot })
    }

    /// Calls a function that must be over within `limit`. After a fault the instance is of no more use.
    pub(super) async fn call<P, R>(
        &mut self,
        export: &ComponentExportIndex,
        params: P,
        limit: Duration,
        fuel: usize,
    ) -> Result<R, CallFault>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.calls += 1;
        self.store.set_hostcall_fuel(fuel);
        let allowed = limit.saturating_sub(std::mem::take(&mut self.debt));
        let deadline = Cell::allow(&mut self.store, allowed);
        let function = self.instance.get_typed_func::<P, R>(&mut self.store, export).map_err(|error| {
            CallFault::new(Outcome::Trap, format!("does not fit the contract: {error:#}"))
        })?;
        let returned = within(deadline, function.call_async(&mut self.store, params)).await;
        returned
            .unwrap_or_else(|Overdue| Err(Overdue.into()))
            .map_err(|error| explain(&error, &self.store, limit))
    }

    /// The instance itself, for what is done with it once only.
    pub(super) fn parts(&mut self) -> (&mut Store<Cell>, wasmtime::component::Instance) {
        (&mut self.store, self.instance)
    }

    /// Bytes of memory that it has now.
    pub(super) fn memory(&self) -> usize {
        self.store.data().ceiling.memory
    }

    /// The memory that it has now is what it needs at rest.
    pub(super) fn settle(&mut self) {
        self.at_first = self.memory();
    }

    /// Whether it should not be used again.
    pub(super) fn worn(&self) -> bool {
        self.calls >= MOST_CALLS
            || self.memory() > self.at_first.saturating_mul(2)
            || self.born.elapsed() > OLDEST
    }
}

/// Awaits `work`, but no longer than shortly after `deadline`. The timer is set only for work that is not done at once;
/// the work is polled once in each turn, so that what yields does yield.
async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, Overdue> {
    let mut work = pin!(work);
    let mut timer = None;
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Ok(done));
        }
        let left = || deadline.saturating_duration_since(Instant::now()) + GRACE;
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(left())));
        timer.as_mut().poll(context).map(|()| Err(Overdue))
    })
    .await
}

/// What a failed call was.
fn explain(error: &wasmtime::Error, store: &Store<Cell>, limit: Duration) -> CallFault {
    let trap = error.downcast_ref::<Trap>();
    let place = trace::place(error).map(|place| format!(", {place}")).unwrap_or_default();
    if error.is::<Overdue>() || trap == Some(&Trap::Interrupt) {
        return CallFault::new(Outcome::Timeout, format!("not done within {limit:?}, its limit{place}"));
    }
    if let Some(refused) = &store.data().ceiling.refused {
        return CallFault::new(Outcome::Oom, format!("{refused}{place}"));
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return CallFault::new(Outcome::Busy, "all instances of the pool are taken");
    }
    let message = match trap {
        Some(Trap::StackOverflow) => "its stack is exhausted: it calls itself without end".to_owned(),
        Some(Trap::UnreachableCodeReached) => "it gave up (`unreachable`), as after a panic".to_owned(),
        Some(trap) => trap.to_string(),
        None if error.root_cause().to_string().contains("hostcalls has been exhausted") => {
            "it hands over more data at once than it may".to_owned()
        }
        None => error.root_cause().to_string(),
    };
    CallFault::new(Outcome::Trap, message + place.as_str())
}

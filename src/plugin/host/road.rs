//! Calls that compute for long go on beside the workers: a worker lets a plugin run for a tick or two, and then other
//! requests come first.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, ready};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::plugin::outcome::{CallFault, Called, Outcome};
use crate::threads::half_of_the_cores;

/// A call under way.
type Call<T> = Pin<Box<dyn Future<Output = Called<T>> + Send>>;

/// A call that goes on elsewhere. How many there are is bounded by the places and instances of plugins.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// Whether a plugin has used up a tick on this thread.
    static COMPUTED: Cell<bool> = const { Cell::new(false) };
}

/// A plugin has used up a tick on this thread.
pub(super) fn computed() {
    COMPUTED.set(true);
}

/// The call, which leaves the thread that polls it once it has computed for a tick.
pub(super) fn patient<T: Send + 'static>(
    call: impl Future<Output = Called<T>> + Send + 'static,
) -> impl Future<Output = Called<T>> + Send {
    let mut here: Option<Call<T>> = Some(Box::pin(call));
    let mut elsewhere: Option<oneshot::Receiver<Called<T>>> = None;
    poll_fn(move |context| {
        if let Some(call) = &mut here {
            COMPUTED.set(false);
            if let Poll::Ready(called) = call.as_mut().poll(context) {
                return Poll::Ready(called);
            }
            if !COMPUTED.take() {
                return Poll::Pending;
            }
            let Some(road) = road() else { return Poll::Pending };
            elsewhere = here.take().map(|call| send(road, call));
        }
        let Some(told) = &mut elsewhere else { return Poll::Pending };
        let called = ready!(Pin::new(told).poll(context));
        Poll::Ready(called.unwrap_or_else(|_| Called {
            answer: Err(CallFault::new(Outcome::Trap, "its call broke off")),
            took: Duration::ZERO,
        }))
    })
}

fn send<T: Send + 'static>(road: &UnboundedSender<Task>, mut call: Call<T>) -> oneshot::Receiver<Called<T>> {
    let (mut back, told) = oneshot::channel();
    let task = async move {
        let done = poll_fn(|context| {
            // Nobody waits for it any more.
            if back.poll_closed(context).is_ready() {
                return Poll::Ready(None);
            }
            call.as_mut().poll(context).map(Some)
        });
        if let Some(called) = done.await {
            let _ = back.send(called);
        }
    };
    // Where nobody drives the road, the call is dropped, and whoever waits hears of it.
    let _ = road.send(Box::pin(task));
    told
}

/// One of the threads beside the workers, each in its turn.
fn road() -> Option<&'static UnboundedSender<Task>> {
    static ROADS: OnceLock<Vec<UnboundedSender<Task>>> = OnceLock::new();
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let roads = ROADS.get_or_init(|| (0..half_of_the_cores()).filter_map(pave).collect());
    roads.get(TURN.fetch_add(1, Ordering::Relaxed).checked_rem(roads.len())?)
}

fn pave(at: usize) -> Option<UnboundedSender<Task>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    let (send, mut tasks) = unbounded_channel();
    let drive = async move {
        while let Some(task) = tasks.recv().await {
            tokio::spawn(task);
        }
    };
    let builder = thread::Builder::new().name(format!("plugin-{at}"));
    builder.spawn(move || runtime.block_on(drive)).ok()?;
    Some(send)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says on which threads it was polled, and computes in the first of so many turns.
    fn call(turns: u32, computes: bool) -> impl Future<Output = Called<Vec<String>>> + Send {
        let (mut seen, mut left) = (Vec::new(), turns);
        poll_fn(move |context| {
            seen.push(thread::current().name().unwrap_or_default().to_owned());
            if left == 0 {
                return Poll::Ready(Called { answer: Ok(std::mem::take(&mut seen)), took: Duration::ZERO });
            }
            left -= 1;
            if computes {
                computed();
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[tokio::test]
    async fn a_call_leaves_the_worker_when_it_has_computed_for_a_tick() {
        let seen = patient(call(3, true)).await.answer.unwrap();
        assert_eq!(seen.len(), 4);
        assert!(!seen[0].starts_with("plugin-"), "{seen:?}");
        assert!(seen[1..].iter().all(|name| name.starts_with("plugin-")), "{seen:?}");
        for seen in [patient(call(3, false)).await, patient(call(0, true)).await] {
            let seen = seen.answer.unwrap();
            assert!(!seen.iter().any(|name| name.starts_with("plugin-")), "{seen:?}");
        }
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_ends_and_one_that_breaks_is_a_trap() {
        struct Told(Option<oneshot::Sender<()>>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.take().map(|told| told.send(()));
            }
        }
        let (tell, told) = oneshot::channel();
        let mut told_by = Some(Told(Some(tell)));
        let mut endless = Box::pin(patient(poll_fn(move |_| {
            computed();
            told_by.as_mut().map_or(Poll::Pending, |_| Poll::<Called<()>>::Pending)
        })));
        let first = poll_fn(|context| Poll::Ready(endless.as_mut().poll(context).is_pending()));
        assert!(first.await);
        drop(endless);
        told.await.expect("the call was dropped");

        let mut polls = 0;
        let broken = patient(poll_fn(move |_| {
            polls += 1;
            computed();
            assert!(polls == 1, "the second poll panics, on purpose");
            Poll::<Called<()>>::Pending
        }));
        assert_eq!(broken.await.outcome(), Outcome::Trap);
    }
}

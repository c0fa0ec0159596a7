//! A few threads beside the workers, for what takes long: a worker that computes for a while keeps all of its other
//! requests waiting.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use tokio::sync::oneshot;

type Errand = Box<dyn FnOnce() + Send>;

/// Threads that are started when they are needed first, with a bounded line before them.
pub struct Beside {
    name: &'static str,
    count: fn() -> usize,
    most_waiting: usize,
    line: OnceLock<Option<SyncSender<Errand>>>,
}

/// As many threads as leave the other half of the cores to the workers; at least one.
pub fn half_of_the_cores() -> usize {
    (thread::available_parallelism().map_or(2, usize::from) / 2).max(1)
}

impl Beside {
    /// Threads called `name-0`, `name-1`; errands beyond `most_waiting` are not taken.
    pub const fn new(name: &'static str, count: fn() -> usize, most_waiting: usize) -> Self {
        Self { name, count, most_waiting, line: OnceLock::new() }
    }

    /// Does it there. `None` where too many errands wait already, no thread could be started, or it panicked: a defect in
    /// one errand costs that one. It is left out if by its turn nobody waits for it any more.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, told) = oneshot::channel();
        let errand = move || {
            if !done.is_closed() {
                // Who asked may also have gone since.
                let _ = done.send(work());
            }
        };
        self.line()?.try_send(Box::new(errand)).ok()?;
        told.await.ok()
    }

    fn line(&self) -> Option<&SyncSender<Errand>> {
        let open = || {
            let (send, receive) = sync_channel(self.most_waiting);
            let receive = Arc::new(Mutex::new(receive));
            let started = (0..(self.count)()).filter(|at| {
                let receive = receive.clone();
                let thread = thread::Builder::new().name(format!("{}-{at}", self.name));
                thread.spawn(move || drive(&receive)).is_ok()
            });
            (started.count() > 0).then_some(send)
        };
        self.line.get_or_init(open).as_ref()
    }
}

fn drive(errands: &Mutex<Receiver<Errand>>) {
    loop {
        let next = errands.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(errand) = next else { return };
        drop(catch_unwind(AssertUnwindSafe(errand)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_beside_comes_back_and_a_panic_costs_one_errand() {
        let beside = Beside::new("test", || 1, 2);
        let name = || thread::current().name().map(str::to_owned);
        assert_eq!(beside.run(name).await, Some(Some("test-0".to_owned())));
        assert_eq!(beside.run(|| -> u32 { std::panic::resume_unwind(Box::new("no")) }).await, None);
        assert_eq!(beside.run(|| 8).await, Some(8));
    }

    #[tokio::test]
    async fn errands_beyond_the_line_are_not_taken_and_abandoned_ones_not_done() {
        let beside = Beside::new("test", || 1, 1);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (begun, first_begun) = oneshot::channel();
        let busy = beside.run(move || {
            let _ = begun.send(());
            wait.recv().is_ok()
        });
        let done = Arc::new(Mutex::new(false));
        let doing = done.clone();
        tokio::pin!(busy);
        tokio::select! {
            _ = &mut busy => panic!("it waits"),
            begun = first_begun => begun.expect("it was begun"),
        }
        {
            let abandoned = beside.run(move || *doing.lock().unwrap() = true);
            tokio::pin!(abandoned);
            assert!(
                std::future::poll_fn(|cx| std::task::Poll::Ready(abandoned.as_mut().poll(cx).is_pending()))
                    .await
            );
            assert_eq!(beside.run(|| 1).await, None, "the line is full");
        }
        go.send(()).expect("it waits");
        assert_eq!(busy.await, Some(true));
        // The abandoned one leaves the line as soon as the thread comes to it.
        let next = loop {
            match beside.run(|| 2).await {
                Some(next) => break next,
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(next, 2);
        assert!(!*done.lock().unwrap(), "nobody waited for it");
    }
}

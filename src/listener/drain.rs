//! The way out: one switch that the listener, the admin listener and running streams all look at.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A deadline beyond this is as good as none, and sums of time stay in range.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Shared by everybody who takes part in shutting down; clones are the same switch.
///
/// It goes one way: open, leaving (requests are served, but those who send them are asked to go elsewhere), draining
/// (nothing new, what runs may finish), expired (what still runs should end with an error event now), cut (connections
/// are dropped).
#[derive(Clone)]
pub struct Drain(Arc<Switch>);

struct Switch {
    step: AtomicU8,
    /// Connections to wake at every change; see [`Exit`].
    exits: Mutex<Exits>,
    course: watch::Sender<Course>,
    in_flight: AtomicUsize,
}

#[derive(Clone, Copy)]
struct Course {
    step: Step,
    until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Open = 0,
    Leaving = 1,
    Draining = 2,
    Expired = 3,
    Cut = 4,
}

impl Drain {
    /// An open switch.
    pub fn new() -> Self {
        let (course, _) = watch::channel(Course { step: Step::Open, until: None });
        Self(Arc::new(Switch {
            step: AtomicU8::new(0),
            exits: Mutex::default(),
            course,
            in_flight: AtomicUsize::new(0),
        }))
    }

    /// Says that the end is near: readiness fails from here on, and nothing else changes for those who ask.
    pub fn leave_soon(&self) {
        self.advance(Step::Leaving);
    }

    /// Begins to drain; running requests have until `deadline` from now. A second call can only bring the
    /// end nearer (a second signal: `Duration::ZERO`).
    pub fn begin(&self, deadline: Duration) {
        let until = Instant::now() + deadline.min(LONGEST);
        self.change(|course| {
            course.step = course.step.max(Step::Draining);
            course.until = Some(course.until.map_or(until, |earlier| earlier.min(until)));
        });
    }

    /// Whether new requests should go elsewhere: readiness fails.
    pub fn is_leaving(&self) -> bool {
        self.step() >= Step::Leaving
    }

    /// Whether new requests are refused.
    pub fn is_draining(&self) -> bool {
        self.step() >= Step::Draining
    }

    /// Requests whose response has not ended.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until the end is near.
    pub(super) fn leaving(&self) -> impl Future<Output = ()> + Send + 'static {
        self.reached(Step::Leaving)
    }

    /// Waits until draining begins.
    pub fn began(&self) -> impl Future<Output = ()> + Send + 'static {
        self.reached(Step::Draining)
    }

    /// Waits until the deadline has passed: a stream that still runs has one more second to end with an
    /// error event.
    pub fn expired(&self) -> impl Future<Output = ()> + Send + 'static {
        self.reached(Step::Expired)
    }

    pub(super) fn step(&self) -> Step {
        match self.0.step.load(Ordering::Relaxed) {
            0 => Step::Open,
            1 => Step::Leaving,
            2 => Step::Draining,
            3 => Step::Expired,
            _ => Step::Cut,
        }
    }

    pub(super) fn advance(&self, to: Step) {
        self.change(|course| course.step = course.step.max(to));
    }

    /// Waits until draining has begun and its deadline, which may still move nearer, has passed.
    pub(super) async fn deadline(&self) {
        let mut course = self.0.course.subscribe();
        loop {
            let until = course.borrow_and_update().until;
            let passed = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => return,
                // The sender lives as long as `self`.
                _ = course.changed() => {}
            }
        }
    }

    /// Waits until the switch has gone as far as `step`.
    fn reached(&self, step: Step) -> impl Future<Output = ()> + Send + 'static {
        let mut course = self.0.course.subscribe();
        // Only a dropped switch can fail here, and then there is nothing left to wait for.
        async move {
            if course.wait_for(|course| course.step >= step).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Counts a request in; returns how many were in flight before.
    pub(super) fn enter(&self) -> usize {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts something in that is no request any more, until the place is dropped.
    pub(super) fn place(&self) -> Place {
        self.enter();
        Place(self.clone())
    }

    pub(super) fn leave(&self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn change(&self, change: impl FnOnce(&mut Course)) {
        self.0.course.send_modify(|course| {
            change(course);
            self.0.step.store(course.step as u8, Ordering::Relaxed);
        });
        for waker in self.exits().wakers.values() {
            waker.wake_by_ref();
        }
    }

    fn exits(&self) -> MutexGuard<'_, Exits> {
        // Nothing under this lock panics half-way.
        self.0.exits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among what is in flight.
pub(super) struct Place(Drain);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[derive(Default)]
struct Exits {
    next: u64,
    wakers: HashMap<u64, Waker>,
}

/// How one connection's task learns of the drain.
///
/// A busy connection is polled several times for each request, and a future that waits for the drain
/// would have to be polled along each time. An exit registers the task's waker, which stays the same for
/// the task's life, and then costs one load.
pub(super) struct Exit {
    drain: Drain,
    seen: Step,
    registered: Option<(u64, Waker)>,
}

impl Exit {
    /// Whoever comes while the gateway leaves is not told so: there is nothing yet that has changed.
    pub(super) fn new(drain: &Drain) -> Self {
        Self { drain: drain.clone(), seen: drain.step().min(Step::Leaving), registered: None }
    }

    /// Ready once for every step that the drain has gone (it may skip some).
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if !self.registered.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            self.register(cx.waker());
        }
        // Read after the registration: a change is either seen here or wakes the task.
        let step = self.drain.step();
        if step == self.seen {
            return Poll::Pending;
        }
        self.seen = step;
        Poll::Ready(step)
    }

    fn register(&mut self, waker: &Waker) {
        let mut exits = self.drain.exits();
        let id = self.registered.as_ref().map_or(exits.next, |(id, _)| *id);
        exits.next = exits.next.max(id + 1);
        exits.wakers.insert(id, waker.clone());
        drop(exits);
        self.registered = Some((id, waker.clone()));
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        if let Some((id, _)) = &self.registered {
            self.drain.exits().wakers.remove(id);
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_brings_the_end_nearer_but_never_later() {
        let drain = Drain::new();
        let start = Instant::now();
        assert!(!drain.is_draining());
        drain.begin(Duration::from_secs(30));
        drain.begin(Duration::from_secs(60));
        drain.begin(Duration::from_secs(2));
        assert!(drain.is_draining());
        drain.began().await;
        drain.deadline().await;
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_woken_by_every_step() {
        let drain = Drain::new();
        let expired = tokio::spawn(drain.expired());
        drain.begin(Duration::ZERO);
        assert!(!expired.is_finished());
        drain.advance(Step::Expired);
        expired.await.expect("the waiter ends");
        drain.advance(Step::Draining);
        assert_eq!(drain.step(), Step::Expired);
    }

    #[tokio::test]
    async fn no_change_is_lost_on_a_task_however_close_they_follow() {
        for _ in 0..300 {
            let drain = Drain::new();
            let mut exit = Exit::new(&drain);
            let changer = drain.clone();
            let thread = std::thread::spawn(move || {
                changer.begin(Duration::from_secs(60));
                changer.begin(Duration::ZERO);
                changer.advance(Step::Expired);
                changer.advance(Step::Cut);
            });
            while poll_fn(|cx| exit.poll(cx)).await != Step::Cut {}
            thread.join().expect("no panic");
            drop(exit);
            assert!(drain.exits().wakers.is_empty());
        }
    }
}

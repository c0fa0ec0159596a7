//! The waker of a connection that nobody drives but its user: it passes on what the socket says, not our own echo.
//!
//! When a piece of a body is taken out of hyper's channel, hyper wakes the connection, for there is room again. The
//! connection's user is the very task that took the piece and will come back for the next one; to wake it would cost
//! one idle turn of the whole task for every piece of a stream.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

thread_local! {
    /// Whether this thread is taking a piece out of a channel.
    static TAKING: Cell<bool> = const { Cell::new(false) };
}

/// Wakes whoever used the connection last.
pub(super) struct Gate {
    user: Mutex<Option<Waker>>,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { user: Mutex::new(None) })
    }

    /// From now on, wakes the task of `cx`.
    #[inline]
    pub(super) fn turn_to(&self, cx: &Context<'_>) {
        let mut user = self.user();
        if !user.as_ref().is_some_and(|user| user.will_wake(cx.waker())) {
            *user = Some(cx.waker().clone());
        }
    }

    /// From now on, wakes nobody, and holds no task's memory.
    pub(super) fn turn_away(&self) {
        let user = self.user().take();
        drop(user);
    }

    fn user(&self) -> MutexGuard<'_, Option<Waker>> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `take` without waking any gate on this thread.
#[inline]
pub(super) fn unheard<T>(take: impl FnOnce() -> T) -> T {
    TAKING.set(true);
    let taken = take();
    TAKING.set(false);
    taken
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if TAKING.get() {
            return;
        }
        let user = self.user().clone();
        if let Some(user) = user {
            user.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_gate_wakes_its_last_user_and_keeps_our_echo_to_itself() {
        let (gate, count) = (Gate::new(), Arc::<Count>::default());
        let (waker, user) = (Waker::from(Arc::clone(&gate)), Waker::from(Arc::clone(&count)));
        let wakes = || count.0.load(Ordering::Relaxed);
        waker.wake_by_ref();
        gate.turn_to(&Context::from_waker(&user));
        waker.wake_by_ref();
        assert_eq!(wakes(), 1);
        unheard(|| waker.wake_by_ref());
        assert_eq!(wakes(), 1);
        std::thread::scope(|scope| {
            unheard(|| scope.spawn(|| waker.wake_by_ref()).join().unwrap());
        });
        assert_eq!(wakes(), 2, "another thread's wake is no echo");
        gate.turn_away();
        waker.wake_by_ref();
        assert_eq!((wakes(), Arc::strong_count(&count)), (2, 2));
    }
}

//! A change on its way to the thread that makes it, and the answer that comes back.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::trouble::Trouble;

/// A change and who waits for it.
pub(super) struct Job {
    work: Box<dyn Work>,
    /// Whether it waits in memory while the disk is in trouble.
    pub(super) kept: bool,
}

/// The answer to a change: ready when the change is durable, or when it is known that it is not.
pub struct Written<T>(oneshot::Receiver<Result<T, Trouble>>);

impl<T> Future for Written<T> {
    type Output = Result<T, Trouble>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(Trouble::Closed)))
    }
}

impl<T> Written<T> {
    pub(super) fn awaited() -> (oneshot::Sender<Result<T, Trouble>>, Self) {
        let (reply, answer) = oneshot::channel();
        (reply, Self(answer))
    }

    /// Waits without a runtime. Blocks; not for workers.
    ///
    /// # Errors
    /// As the change's answer.
    pub fn wait(self) -> Result<T, Trouble> {
        self.0.blocking_recv().unwrap_or(Err(Trouble::Closed))
    }
}

impl Job {
    pub(super) fn new<T, F>(change: F, kept: bool) -> (Self, Written<T>)
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, written) = Written::awaited();
        let work = Box::new(Change { change, made: None, reply: Some(reply) });
        (Self { work, kept }, written)
    }

    /// Work that must not be lost.
    pub(super) fn of(work: Box<dyn Work>) -> Self {
        Self { work, kept: true }
    }

    /// How many changes it is.
    pub(super) fn count(&self) -> u64 {
        self.work.count()
    }

    /// Makes the change within the transaction that is open. What it says is kept until [`Job::tell`].
    pub(super) fn make(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.work.make(db)
    }

    /// Tells who waits how it ended; only the first word is heard. Says whether there is more to do of the kind.
    pub(super) fn tell(&mut self, outcome: Result<(), Trouble>) -> bool {
        self.work.tell(outcome)
    }

    /// It will never be made. Says how many changes are lost that should have been kept.
    pub(super) fn give_up(&mut self, trouble: &Trouble) -> u64 {
        let lost = self.work.give_up(trouble);
        if self.kept { lost } else { 0 }
    }
}

/// What a job does; see there.
pub(super) trait Work: Send {
    fn count(&self) -> u64;
    fn make(&mut self, db: &Connection) -> rusqlite::Result<()>;
    fn tell(&mut self, outcome: Result<(), Trouble>) -> bool;
    fn give_up(&mut self, trouble: &Trouble) -> u64;
}

struct Change<T, F> {
    change: F,
    made: Option<T>,
    reply: Option<oneshot::Sender<Result<T, Trouble>>>,
}

impl<T, F> Work for Change<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> rusqlite::Result<T> + Send,
{
    fn count(&self) -> u64 {
        1
    }

    fn make(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.made = None;
        self.made = Some(guarded(|| (self.change)(db))?);
        Ok(())
    }

    fn give_up(&mut self, trouble: &Trouble) -> u64 {
        self.tell(Err(trouble.clone()));
        1
    }

    fn tell(&mut self, outcome: Result<(), Trouble>) -> bool {
        let Some(reply) = self.reply.take() else { return false };
        let answer = match (outcome, self.made.take()) {
            (Ok(()), Some(made)) => Ok(made),
            (Ok(()), None) => Err(Trouble::Closed),
            (Err(trouble), _) => Err(trouble),
        };
        // Whoever asked may have gone.
        let _ = reply.send(answer);
        false
    }
}

/// One bad change must not end the thread that all others depend on.
pub(super) fn guarded<T>(make: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    catch_unwind(AssertUnwindSafe(make)).unwrap_or(Err(rusqlite::Error::InvalidQuery))
}

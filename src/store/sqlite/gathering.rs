//! Changes of one kind that come by the thousand: whoever has one leaves it on a heap, and the thread that writes takes
//! the whole heap at once, with one change of the database for all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::job::{Job, Work, Written, guarded};
use super::trouble::Trouble;
use super::writer::Writer;

/// The most changes that are taken off a heap at once.
const ARMFUL: usize = 2_048;

/// What is done with changes of one kind.
pub trait Gathered: Send + 'static {
    /// A change.
    type Item: Send + 'static;

    /// Makes all of these within the transaction that is open. It may be undone, and tried again with more.
    ///
    /// # Errors
    /// As the database says. If it is one of the changes that is refused, each is tried by itself.
    fn make(&mut self, db: &Connection, items: &[&Self::Item]) -> rusqlite::Result<()>;

    /// These are durable now.
    fn made(&mut self, items: &[&Self::Item]);
}

/// A heap of changes of one kind that must not be lost: while the disk is in trouble, they wait in memory.
pub struct Gathering<G: Gathered> {
    heap: Arc<Heap<G>>,
    writer: Writer,
}

struct Heap<G: Gathered> {
    on: Mutex<On<G::Item>>,
    /// Only the thread that writes asks it.
    gathered: Mutex<G>,
}

struct On<I> {
    items: Vec<Item<I>>,
    /// Whether the thread that writes knows that there is something.
    awaited: bool,
    /// Why nothing is taken any more.
    ended: Option<Trouble>,
}

struct Item<I> {
    change: I,
    reply: Option<oneshot::Sender<Result<(), Trouble>>>,
}

impl<I> Item<I> {
    fn tell(&mut self, outcome: Result<(), Trouble>) {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may have gone.
            let _ = reply.send(outcome);
        }
    }
}

impl<G: Gathered> Gathering<G> {
    pub(super) fn new(writer: Writer, gathered: G) -> Self {
        let on = On { items: Vec::new(), awaited: false, ended: None };
        Self { heap: Arc::new(Heap { on: Mutex::new(on), gathered: Mutex::new(gathered) }), writer }
    }

    /// Hands over a change. The answer tells of the first try, when that is durable.
    pub fn keep(&self, change: G::Item) -> Written<()> {
        let (reply, written) = Written::awaited();
        self.leave(Item { change, reply: Some(reply) });
        written
    }

    /// Hands over a change whose answer nobody waits for.
    pub fn tell(&self, change: G::Item) {
        self.leave(Item { change, reply: None });
    }

    fn leave(&self, mut item: Item<G::Item>) {
        let mut on = self.heap.on();
        if let Some(trouble) = on.ended.clone().or_else(|| self.writer.gathered()) {
            drop(on);
            self.writer.lose(1);
            return item.tell(Err(trouble));
        }
        on.items.push(item);
        let first = !std::mem::replace(&mut on.awaited, true);
        drop(on);
        if first {
            let sweep = Sweep {
                heap: self.heap.clone(),
                taken: Vec::new(),
                refused: Vec::new(),
                writer: self.writer.clone(),
            };
            self.writer.sweep(Job::of(Box::new(sweep)));
        }
    }
}

impl<G: Gathered> Heap<G> {
    fn on(&self) -> MutexGuard<'_, On<G::Item>> {
        self.on.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The heap as a job of the thread that writes. There is one as long as something lies there.
struct Sweep<G: Gathered> {
    heap: Arc<Heap<G>>,
    taken: Vec<Item<G::Item>>,
    /// Which of them the database refused, and why.
    refused: Vec<(usize, Trouble)>,
    writer: Writer,
}

impl<G: Gathered> Sweep<G> {
    /// One bad change must not keep the others from the disk.
    fn each(&mut self, gathered: &mut G, db: &Connection) -> rusqlite::Result<()> {
        for (at, item) in self.taken.iter().enumerate() {
            db.prepare_cached("SAVEPOINT one")?.execute([])?;
            if let Err(error) = guarded(|| gathered.make(db, &[&item.change])) {
                let trouble = Trouble::of(&error);
                if trouble.is_of_the_database() {
                    return Err(error);
                }
                db.prepare_cached("ROLLBACK TO one")?.execute([])?;
                self.refused.push((at, trouble));
            }
            db.prepare_cached("RELEASE one")?.execute([])?;
        }
        Ok(())
    }
}

impl<G: Gathered> Work for Sweep<G> {
    fn count(&self) -> u64 {
        self.taken.len() as u64
    }

    fn make(&mut self, db: &Connection) -> rusqlite::Result<()> {
        {
            let mut on = self.heap.on();
            let many = on.items.len().min(ARMFUL.saturating_sub(self.taken.len()));
            if self.taken.is_empty() && many == on.items.len() {
                std::mem::swap(&mut self.taken, &mut on.items);
            } else {
                self.taken.extend(on.items.drain(..many));
            }
        }
        self.refused.clear();
        if self.taken.is_empty() {
            return Ok(());
        }
        let heap = self.heap.clone();
        let mut gathered = heap.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<&G::Item> = self.taken.iter().map(|item| &item.change).collect();
        match guarded(|| gathered.make(db, &all)) {
            Err(error) if !Trouble::of(&error).is_of_the_database() => {
                drop(all);
                db.prepare_cached("ROLLBACK TO change")?.execute([])?;
                self.each(&mut gathered, db)
            }
            made => made,
        }
    }

    fn tell(&mut self, outcome: Result<(), Trouble>) -> bool {
        if let Err(trouble) = outcome {
            // Also those that were not even tried.
            let mut on = self.heap.on();
            let all = self.taken.iter_mut().chain(&mut on.items);
            all.for_each(|item| item.tell(Err(trouble.clone())));
            return true;
        }
        self.writer.swept(self.taken.len());
        // From the last to the first, so that what is taken out moves nothing that is still to go.
        for (at, trouble) in self.refused.drain(..).rev() {
            tracing::error!(%trouble, "a change that should be kept was refused");
            self.writer.lose(1);
            self.taken.swap_remove(at).tell(Err(trouble));
        }
        self.taken.iter_mut().for_each(|item| item.tell(Ok(())));
        let made: Vec<&G::Item> = self.taken.iter().map(|item| &item.change).collect();
        self.heap.gathered.lock().unwrap_or_else(PoisonError::into_inner).made(&made);
        self.taken.clear();
        let mut on = self.heap.on();
        on.awaited = !on.items.is_empty();
        on.awaited
    }

    fn give_up(&mut self, trouble: &Trouble) -> u64 {
        let mut on = self.heap.on();
        on.ended = matches!(trouble, Trouble::Broken(_) | Trouble::Closed).then(|| trouble.clone());
        on.awaited = false;
        let left = std::mem::take(&mut on.items);
        drop(on);
        self.taken.extend(left);
        self.taken.iter_mut().for_each(|item| item.tell(Err(trouble.clone())));
        let many = self.taken.len();
        self.writer.swept(many);
        self.taken.clear();
        many as u64
    }
}

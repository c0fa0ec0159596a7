//! Records that are still to be made: requests end one by one, and leave them to a thread that makes many in a row. The
//! code for it is long; done again and again, it is in the processor's caches, and it keeps no client waiting.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Drafts gather for so long before they are made together: one wake-up for many requests.
const GATHER: Duration = Duration::from_millis(5);
/// When so many wait, whoever comes makes his own record: nothing is lost, and memory is bounded.
const MOST: usize = 4_096;

/// What is to be done for a request that has ended.
pub type Draft = Box<dyn FnOnce() + Send>;

/// Where drafts wait.
pub(super) struct Drafts(Arc<Shared>);

#[derive(Default)]
struct Shared {
    pile: Mutex<Pile>,
    changed: Condvar,
    /// Held by whoever makes records, so that they are made in the order in which requests ended.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Pile {
    drafts: Vec<Draft>,
    closed: bool,
}

impl Drafts {
    /// Starts the thread. It ends with `close`.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = shared.clone();
        thread::Builder::new().name("records".into()).spawn(move || theirs.work())?;
        Ok(Self(shared))
    }

    /// Leaves a draft. Never waits, except where too many lie there already.
    pub(super) fn leave(&self, draft: Draft) {
        let mut pile = self.0.pile();
        if pile.closed || pile.drafts.len() >= MOST {
            drop(pile);
            return make(draft);
        }
        let first = pile.drafts.is_empty();
        pile.drafts.push(draft);
        drop(pile);
        if first {
            self.0.changed.notify_one();
        }
    }

    /// Makes whatever lies there, now and here.
    pub(super) fn catch_up(&self) {
        self.0.make_all();
    }

    /// Ends the thread. What comes later is made by whoever brings it.
    pub(super) fn close(&self) {
        self.0.pile().closed = true;
        self.0.changed.notify_one();
        self.catch_up();
    }
}

impl Shared {
    fn pile(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let mut pile = self.pile();
            while pile.drafts.is_empty() {
                if pile.closed {
                    return;
                }
                pile = self.changed.wait(pile).unwrap_or_else(PoisonError::into_inner);
            }
            let gather = |pile: &mut Pile| !pile.closed;
            let waited = self.changed.wait_timeout_while(pile, GATHER, gather);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            self.make_all();
        }
    }

    fn make_all(&self) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let drafts = std::mem::take(&mut self.pile().drafts);
        drafts.into_iter().for_each(make);
        drop(turn);
    }
}

/// One that fails must not cost others their records.
fn make(draft: Draft) {
    if catch_unwind(AssertUnwindSafe(draft)).is_err() {
        tracing::error!("the record of a request could not be made");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn noting(to: &mpsc::Sender<u32>, n: u32) -> Draft {
        let to = to.clone();
        Box::new(move || to.send(n).unwrap())
    }

    #[test]
    fn drafts_are_made_in_their_order_without_anybody_asking() {
        let drafts = Drafts::start().unwrap();
        let (to, made) = mpsc::channel();
        (0..100).for_each(|n| drafts.leave(noting(&to, n)));
        let all: Vec<u32> = (0..100).map(|_| made.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_reads_catches_up_and_what_comes_after_the_end_is_made_too() {
        let drafts = Drafts::start().unwrap();
        let (to, made) = mpsc::channel();
        for n in 0..3 {
            drafts.leave(noting(&to, n));
        }
        drafts.catch_up();
        assert_eq!(made.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
        drafts.leave(Box::new(|| panic!("on purpose")));
        drafts.leave(noting(&to, 3));
        drafts.close();
        drafts.leave(noting(&to, 4));
        assert_eq!(made.try_iter().collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn what_finds_no_room_is_made_at_once() {
        let shared = Arc::<Shared>::default();
        let drafts = Drafts(shared.clone());
        let (to, made) = mpsc::channel();
        let many = u32::try_from(MOST).unwrap();
        (0..=many).for_each(|n| drafts.leave(noting(&to, n)));
        assert_eq!(made.try_iter().collect::<Vec<_>>(), [many], "nobody works at this pile");
        drafts.close();
        assert_eq!(made.try_iter().count(), MOST);
        assert!(shared.pile().drafts.is_empty());
    }
}

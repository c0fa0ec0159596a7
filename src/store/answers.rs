//! Answers that were given, by the caller to whom they were given and by id, within bounds of number, bytes and time.

mod elsewhere;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::elsewhere::Elsewhere;
use super::owners::{Made, Owners};
use crate::caller::Owner;
use crate::json::Inlined;
use crate::target::TargetName;

/// What an entry takes beside its bytes: keys, maps, counters.
const OVERHEAD: u64 = 512;

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// After the last use.
    pub keep: Duration,
    /// Number of answers.
    pub entries: usize,
    /// Bytes of all of them, with their requests.
    pub bytes: u64,
}

impl Bounds {
    fn keep_nothing(&self) -> bool {
        self.keep.is_zero() || self.entries == 0 || self.bytes == 0
    }
}

/// One answer and the request that it answers, as they stood on the wire.
#[derive(Debug)]
pub struct Kept {
    /// Its id.
    pub id: Box<str>,
    /// The answer that it continues.
    pub previous: Option<Box<str>>,
    /// The client's request body.
    pub request: Bytes,
    /// What of that is media.
    pub inlined: Inlined,
    /// The answer's body.
    pub answer: Bytes,
    /// Ids of the items that it consists of.
    pub items: Vec<Box<str>>,
    /// Who made it.
    pub target: TargetName,
    /// Whether that provider keeps it, too, under the same id.
    pub native: bool,
}

impl Kept {
    fn size(&self) -> u64 {
        let ids = self.items.iter().map(|id| id.len() + 64).sum::<usize>();
        (self.request.len() + self.answer.len() + ids) as u64 + OVERHEAD
    }
}

/// Every answer that is kept, of all callers. Shared by all threads; the lock is held for a few map operations.
#[derive(Debug, Default)]
pub struct Answers {
    state: Mutex<State>,
    owners: Owners,
    elsewhere: Elsewhere,
}

/// The answers of one caller.
#[derive(Clone)]
pub struct Shelf {
    answers: Arc<Answers>,
    bounds: Bounds,
    owner: Option<Arc<str>>,
    /// To whom belongs what providers keep of it, where somebody asks for that.
    tenant: Option<Owner>,
}

/// Whose it is (the id of a virtual key, once keys exist), and its id.
type Key = (Option<Arc<str>>, Box<str>);

#[derive(Debug, Default)]
struct State {
    answers: HashMap<Key, Entry>,
    /// The answer in which an item stands.
    items: HashMap<Key, Box<str>>,
    /// By last use: the first goes first.
    order: BTreeMap<u64, Key>,
    uses: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    kept: Arc<Kept>,
    used: Instant,
    turn: u64,
}

impl Answers {
    /// The shelf of the caller `owner`; `None` is for callers without a key, who share one.
    pub fn shelf(self: &Arc<Self>, bounds: Bounds, owner: Option<Arc<str>>) -> Shelf {
        Shelf { answers: self.clone(), bounds, owner, tenant: None }
    }

    /// Whose the things are that providers keep.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock leaves it half done by panicking.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// A shelf on which nothing stays.
    pub fn empty() -> Self {
        Arc::<Answers>::default().shelf(Bounds { keep: Duration::ZERO, entries: 0, bytes: 0 }, None)
    }

    /// The same, where what providers keep is its tenant's.
    #[must_use]
    pub fn of(self, tenant: Option<Owner>) -> Self {
        Self { tenant, ..self }
    }

    /// Keeps an answer. One that is larger than the bounds is not kept; others go to make room for it.
    pub fn keep(&self, kept: Kept) {
        if let Some(tenant) = self.tenant.as_ref().filter(|_| kept.native) {
            let (provider, ids) = (kept.target.provider.clone(), vec![kept.id.clone()]);
            // The answer does not wait for it.
            drop(self.answers.owners.note(Made { provider, ids, owner: tenant.word(), answers: true }));
        }
        self.put(kept);
    }

    fn put(&self, kept: Kept) {
        let size = kept.size();
        if self.bounds.keep_nothing() || size > self.bounds.bytes {
            return;
        }
        let now = Instant::now();
        let key = self.key(&kept.id);
        let mut state = self.answers.lock();
        state.remove(&key);
        state.make_room(&self.bounds, size, now);
        for item in &kept.items {
            state.items.insert(self.key(item), kept.id.clone());
        }
        state.bytes += size;
        let turn = state.next_turn(key.clone());
        state.answers.insert(key, Entry { kept: Arc::new(kept), used: now, turn });
    }

    /// An answer by its id. Does not count as use.
    pub fn get(&self, id: &str) -> Option<Arc<Kept>> {
        let state = self.answers.lock();
        state.live(&self.key(id), self.bounds.keep).cloned()
    }

    /// The answer in which an item stands.
    pub fn holder(&self, item: &str) -> Option<Arc<Kept>> {
        let state = self.answers.lock();
        let holder = state.items.get(&self.key(item))?;
        state.live(&self.key(holder), self.bounds.keep).cloned()
    }

    /// An answer and all that it continues, the oldest first. All of them count as used now, so that a conversation
    /// lives or goes as a whole.
    ///
    /// # Errors
    /// The id that is not here.
    pub fn conversation(&self, id: &str) -> Result<Vec<Arc<Kept>>, Box<str>> {
        let now = Instant::now();
        let mut state = self.answers.lock();
        let mut found: Vec<Arc<Kept>> = Vec::new();
        let mut next: Option<Box<str>> = Some(id.into());
        while let Some(id) = next {
            let key = self.key(&id);
            // An answer cannot continue itself, but a provider's ids are not ours to trust.
            let Some(kept) = state.live(&key, self.bounds.keep).filter(|_| found.len() < self.bounds.entries)
            else {
                return Err(id);
            };
            let kept = kept.clone();
            state.touch(&key, now);
            next = kept.previous.clone();
            found.push(kept);
        }
        found.reverse();
        Ok(found)
    }

    /// Forgets an answer; false when it is not here.
    pub fn forget(&self, id: &str) -> bool {
        let key = self.key(id);
        let mut state = self.answers.lock();
        let here = state.live(&key, self.bounds.keep).is_some();
        state.remove(&key);
        here
    }

    fn key(&self, id: &str) -> Key {
        (self.owner.clone(), id.into())
    }
}

impl State {
    fn live(&self, key: &Key, keep: Duration) -> Option<&Arc<Kept>> {
        self.answers.get(key).filter(|entry| entry.used.elapsed() < keep).map(|entry| &entry.kept)
    }

    fn next_turn(&mut self, key: Key) -> u64 {
        self.uses += 1;
        self.order.insert(self.uses, key);
        self.uses
    }

    fn touch(&mut self, key: &Key, now: Instant) {
        let turn = self.next_turn(key.clone());
        if let Some(entry) = self.answers.get_mut(key) {
            self.order.remove(&entry.turn);
            (entry.used, entry.turn) = (now, turn);
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.answers.remove(key) else { return };
        self.order.remove(&entry.turn);
        self.bytes = self.bytes.saturating_sub(entry.kept.size());
        for item in &entry.kept.items {
            let item = (key.0.clone(), item.clone());
            if self.items.get(&item).is_some_and(|holder| **holder == *key.1) {
                self.items.remove(&item);
            }
        }
    }

    /// Lets go what is too old, and then what was not used for longest until `size` more bytes fit.
    fn make_room(&mut self, bounds: &Bounds, size: u64, now: Instant) {
        while let Some((_, oldest)) = self.order.first_key_value() {
            let expired =
                self.answers.get(oldest).is_none_or(|entry| now.duration_since(entry.used) >= bounds.keep);
            let full = self.answers.len() >= bounds.entries || self.bytes + size > bounds.bytes;
            if !expired && !full {
                break;
            }
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { keep: Duration::from_secs(60), entries: 3, bytes: 10_000 };

    fn shelf(bounds: Bounds) -> Shelf {
        Arc::new(Answers::default()).shelf(bounds, None)
    }

    fn kept(id: &str, previous: Option<&str>, bytes: usize) -> Kept {
        Kept {
            id: id.into(),
            previous: previous.map(Into::into),
            request: Bytes::from(vec![b' '; bytes]),
            inlined: Inlined::default(),
            answer: Bytes::new(),
            items: vec![format!("msg_{id}").into()],
            target: TargetName::parse("p/m").unwrap(),
            native: false,
        }
    }

    fn ids(found: &[Arc<Kept>]) -> Vec<&str> {
        found.iter().map(|kept| &*kept.id).collect()
    }

    fn empty(shelf: &Shelf) -> bool {
        let state = shelf.answers.lock();
        state.answers.is_empty() && state.items.is_empty() && state.order.is_empty() && state.bytes == 0
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_is_found_from_its_last_answer() {
        let shelf = shelf(BOUNDS);
        shelf.keep(kept("a", None, 1));
        shelf.keep(kept("b", Some("a"), 1));
        shelf.keep(kept("c", Some("b"), 1));
        assert_eq!(ids(&shelf.conversation("c").unwrap()), ["a", "b", "c"]);
        assert_eq!(ids(&shelf.conversation("a").unwrap()), ["a"]);
        assert!(shelf.holder("msg_b").is_some_and(|kept| *kept.id == *"b"));
        assert!(shelf.forget("b") && !shelf.forget("b"));
        assert_eq!(&*shelf.conversation("c").unwrap_err(), "b");
        assert!(shelf.holder("msg_b").is_none());
        assert!(shelf.forget("a") && shelf.forget("c") && empty(&shelf));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_least_recently_goes_first() {
        let shelf = shelf(BOUNDS);
        for id in ["a", "b", "c"] {
            shelf.keep(kept(id, None, 1));
        }
        assert!(shelf.conversation("a").is_ok());
        shelf.keep(kept("d", None, 1));
        assert!(shelf.get("b").is_none() && shelf.get("a").is_some(), "number");
        shelf.keep(kept("e", None, 9_000));
        assert!(shelf.get("a").is_none() && shelf.get("e").is_some(), "bytes");
        shelf.keep(kept("f", None, 10_000));
        assert!(shelf.get("f").is_none() && shelf.get("e").is_some(), "too large for any room");
    }

    #[tokio::test(start_paused = true)]
    async fn time_counts_from_the_last_use() {
        let shelf = shelf(BOUNDS);
        shelf.keep(kept("a", None, 1));
        shelf.keep(kept("b", Some("a"), 1));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(shelf.conversation("b").is_ok());
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(shelf.get("a").is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(shelf.get("a").is_none() && shelf.conversation("b").is_err() && !shelf.forget("a"));
        shelf.keep(kept("c", None, 1));
        assert!(shelf.forget("c") && empty(&shelf));
    }

    #[tokio::test(start_paused = true)]
    async fn no_caller_sees_what_is_anothers() {
        let answers = Arc::new(Answers::default());
        let (one, other) =
            (answers.shelf(BOUNDS, Some("k1".into())), answers.shelf(BOUNDS, Some("k2".into())));
        one.keep(kept("a", None, 1));
        assert!(other.get("a").is_none() && other.holder("msg_a").is_none() && !other.forget("a"));
        assert!(other.conversation("a").is_err() && one.get("a").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_without_bounds_and_a_circle_ends() {
        let none = shelf(Bounds { entries: 0, ..BOUNDS });
        none.keep(kept("a", None, 1));
        assert!(empty(&none));
        let round = shelf(BOUNDS);
        round.keep(kept("a", Some("b"), 1));
        round.keep(kept("b", Some("a"), 1));
        assert!(round.conversation("a").is_err());
    }
}

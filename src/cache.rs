//! Answers that are given again: kept by the hash of their question, and made once when many ask at the same time.
//!
//! Bounded in bytes; what has to go, goes by how often and how lately it was asked for. Behind it there may be a Redis
//! with the answers of other gateways.

mod entry;
mod far;
mod flight;
mod settings;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use moka::Expiry;
use moka::sync::Cache;
use tokio::time::Instant;

pub use entry::{Entry, Form};
pub use far::{Claim, Claimed, Far};
use flight::Flight;
pub use flight::{Lead, Waited, Waiter};
pub use settings::{AliasCache, CacheSettings, IdempotencySettings, Rules, When};

use crate::clock::Clock;
use crate::store::redis::Redis;

/// Requests that wait for somebody else's answer, all together; beyond them, everybody asks for himself.
const MOST_WAITING: usize = 10_000;

/// The hash of a question.
pub type Key = [u8; 32];

/// Kept answers, and those that are being made.
pub struct Store {
    kept: Cache<Key, Arc<Entry>>,
    flights: Mutex<HashMap<Key, Arc<Flight>>>,
    waiting: AtomicUsize,
    far: OnceLock<Arc<Far>>,
}

/// What there is for somebody who asks.
pub enum Joined {
    /// The answer.
    Kept(Arc<Entry>),
    /// Nobody is at it: who asks makes the answer.
    Lead(Lead),
    /// Somebody is at it.
    Wait(Waiter),
    /// The same key is taken by another question.
    Conflict,
    /// Too many wait already: who asks makes an answer of his own.
    Busy,
}

impl Store {
    /// A store for so many bytes.
    pub fn new(max_bytes: u64) -> Arc<Self> {
        let weigh = |_: &Key, entry: &Arc<Entry>| u32::try_from(entry.weight()).unwrap_or(u32::MAX);
        let kept = Cache::builder().max_capacity(max_bytes).weigher(weigh).expire_after(OwnLife).build();
        Arc::new(Self { kept, flights: Mutex::default(), waiting: AtomicUsize::new(0), far: OnceLock::new() })
    }

    /// Answers are found by all gateways that share this Redis. `shelf` tells this store from others.
    pub fn share(&self, redis: &Arc<Redis>, clock: Arc<dyn Clock>, shelf: &'static str) {
        self.far.get_or_init(|| Far::new(redis.clone(), clock, shelf));
    }

    /// Where the answers of other gateways are, if gateways share them.
    pub fn far(&self) -> Option<&Arc<Far>> {
        self.far.get()
    }

    /// A kept answer.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        // The entry's own clock counts, so that time can be told in tests.
        self.kept.get(key).filter(|entry| entry.is_fresh(Instant::now()))
    }

    /// The answer to the question `asks` under `key`, or a part in making it. With `anew`, a kept answer does not count.
    pub fn join(self: &Arc<Self>, key: &Key, asks: &Key, anew: bool) -> Joined {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(key) {
            if flight.asks != *asks {
                return Joined::Conflict;
            }
            if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                return Joined::Busy;
            }
            return Joined::Wait(Waiter::new(flight, self.clone()));
        }
        // Looked for under the lock: who made it keeps it before the flight ends.
        if let Some(entry) = self.get(key).filter(|_| !anew) {
            return if entry.asks == *asks { Joined::Kept(entry) } else { Joined::Conflict };
        }
        let flight = Arc::new(Flight::new(*asks));
        flights.insert(*key, flight.clone());
        Joined::Lead(Lead::new(*key, flight, self.clone()))
    }

    /// Bytes that are kept, about.
    pub fn bytes(&self) -> u64 {
        self.kept.weighted_size()
    }

    /// Says whether other gateways will find it.
    fn keep(&self, key: Key, entry: Arc<Entry>) -> bool {
        let told = self.far.get().is_some_and(|far| far.keep(&key, &entry));
        self.kept.insert(key, entry);
        told
    }

    /// Keeps what another gateway made.
    fn found(&self, key: Key, entry: Arc<Entry>) {
        self.kept.insert(key, entry);
    }

    fn land(&self, key: &Key) {
        self.flights().remove(key);
    }

    fn left(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each entry says itself how long it lives.
struct OwnLife;

impl Expiry<Key, Arc<Entry>> for OwnLife {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: StdInstant) -> Option<Duration> {
        Some(entry.life)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: StdInstant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.life)
    }
}

#[cfg(test)]
mod tests;

//! The counts of one limit by subject: bounded, and forgetting only what says nothing any more.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use super::cell::{Cell, ticks};
use std::time::Duration;

/// Subjects of one limit, in all shards.
pub(super) const MOST: usize = 1 << 17;
const SHARDS: usize = 16;

/// How often a full shard is looked through for what can be forgotten.
const SWEEP: Duration = Duration::from_millis(500);

/// Counts by subject.
#[derive(Default)]
pub(super) struct Table {
    /// For the limit that has but one subject.
    lone: Arc<Cell>,
    shards: [Mutex<Shard>; SHARDS],
    /// What subjects beyond the bound share.
    crowd: Arc<Cell>,
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    cells: HashMap<u64, Arc<Cell>>,
    /// Not before this is it looked through again.
    rest: u64,
}

impl Table {
    /// The count of a subject, told by the parts of its name; of all together, where there are none.
    pub(super) fn cell(&self, subject: &[&str], now: u64) -> Arc<Cell> {
        self.bounded(subject, now, MOST / SHARDS)
    }

    fn bounded(&self, subject: &[&str], now: u64, most: usize) -> Arc<Cell> {
        if subject.is_empty() {
            return self.lone.clone();
        }
        // Keyed with what nobody outside knows: names that meet in one count cannot be made.
        let name = self.hasher.hash_one(subject);
        let Some(shard) = self.shards.get(name as usize % SHARDS) else { return self.crowd.clone() };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = shard.cells.get(&name) {
            return cell.clone();
        }
        if shard.cells.len() >= most && shard.rest <= now {
            shard.cells.retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.is_idle(now));
            shard.rest = now.saturating_add(ticks(SWEEP));
        }
        if shard.cells.len() >= most {
            return self.crowd.clone();
        }
        shard.cells.entry(name).or_default().clone()
    }

    #[cfg(test)]
    pub(super) fn small(&self, subject: &str, now: u64) -> Arc<Cell> {
        self.bounded(&[subject], now, 4)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().cells.len()).sum()
    }
}

//! The last records, in memory: each thread keeps and frees its own, so that workers neither wait for each other nor
//! free what another one allocated.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::plan::Dossier;

/// Below so many records there is one share for all threads: the newest are kept whoever has them.
const WORTH_SHARING: usize = 256;

thread_local! {
    /// Which share this thread uses, before it is fitted to their number.
    static PLACE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// Records by the order in which they were kept.
pub(super) struct Ring {
    shares: Box<[Share]>,
    /// The most records of one share.
    most: usize,
    kept: AtomicU64,
}

/// On a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Share(Mutex<VecDeque<(u64, Arc<Dossier>)>>);

impl Ring {
    /// A ring of at most `most` records.
    pub(super) fn new(most: usize) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shares = if most < WORTH_SHARING { 1 } else { threads.min(most / WORTH_SHARING + 1) };
        Self {
            shares: (0..shares).map(|_| Share::default()).collect(),
            most: most.div_ceil(shares),
            kept: AtomicU64::new(0),
        }
    }

    /// Keeps a record, in the place of the oldest one of this thread's share.
    pub(super) fn keep(&self, dossier: Arc<Dossier>) {
        let place = PLACE.with(|place| place % self.shares.len());
        let Some(share) = self.shares.get(place).filter(|_| self.most > 0) else { return };
        let number = self.kept.fetch_add(1, Ordering::Relaxed);
        let mut records = share.lock();
        let oldest = if records.len() >= self.most { records.pop_front() } else { None };
        records.push_back((number, dossier));
        drop(records);
        // Freed outside of the lock.
        drop(oldest);
    }

    /// All records, the newest first.
    pub(super) fn all(&self) -> Vec<Arc<Dossier>> {
        // Copied out under the locks, put in order outside.
        let mut all: Vec<_> =
            self.shares.iter().flat_map(|share| share.lock().iter().cloned().collect::<Vec<_>>()).collect();
        all.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        all.into_iter().map(|(_, dossier)| dossier).collect()
    }

    /// The newest record that fits.
    pub(super) fn find(&self, fits: impl Fn(&Dossier) -> bool) -> Option<Arc<Dossier>> {
        let of_each = self
            .shares
            .iter()
            .filter_map(|share| share.lock().iter().rev().find(|(_, dossier)| fits(dossier)).cloned());
        of_each.max_by_key(|(number, _)| *number).map(|(_, dossier)| dossier)
    }
}

impl Share {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Arc<Dossier>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Answers that their providers make in the background: what is held for them stays held until somebody reads them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::tab::Entry;
use crate::chat::{Tier, Usage};
use crate::money::Nano;

/// The usage of an attempt that is booked in the row of another.
pub fn booked_elsewhere() -> Usage {
    Usage { said_cost: Some(Nano(0)), tier: Some(Tier::Batch), ..Usage::nothing() }
}

/// Who makes more of them than this has those beyond estimated at once.
const MOST: usize = 10_000;

/// Attempts whose answers are not there yet.
#[derive(Default)]
pub struct Owed {
    debts: Mutex<HashMap<Key, Debt>>,
}

/// The provider, and the answer's id there.
type Key = (Arc<str>, Box<str>);

struct Debt {
    entry: Entry,
    keep: Duration,
    until: Instant,
    /// Whoever reads it later books it then, wherever that is.
    lasting: bool,
}

impl Owed {
    /// The answer of this id is awaited for so long; without a look at it, it is estimated then.
    pub(super) fn add(&self, entry: Entry, id: Box<str>, keep: Duration, lasting: bool) {
        let key = (entry.provider().clone(), id);
        let mut debts = self.lock();
        let refused = if keep.is_zero() || debts.len() >= MOST {
            Some(entry)
        } else {
            let until = Instant::now() + keep;
            debts.insert(key, Debt { entry, keep, until, lasting }).map(|before| before.entry)
        };
        drop(debts);
        if let Some(entry) = refused {
            entry.unread();
        }
    }

    /// Somebody has looked, and waits on.
    pub fn put_off(&self, provider: &Arc<str>, id: &str) {
        if let Some(debt) = self.lock().get_mut(&(provider.clone(), id.into())) {
            debt.until = Instant::now() + debt.keep;
        }
    }

    /// The attempt, once its answer is there, or nobody will ever see it.
    pub fn take(&self, provider: &Arc<str>, id: &str) -> Option<Entry> {
        self.lock().remove(&(provider.clone(), id.into())).map(|debt| debt.entry)
    }

    /// Estimates the answers that nobody has asked for in time. Says how many.
    pub fn forgive(&self, now: Instant) -> usize {
        self.settle(|debt| debt.until <= now)
    }

    /// Estimates all of them: the process is about to end.
    pub fn close(&self) {
        self.settle(|_| true);
    }

    fn settle(&self, is_over: impl Fn(&Debt) -> bool) -> usize {
        let over: Vec<_> = self.lock().extract_if(|_, debt| is_over(debt)).collect();
        let count = over.len();
        // Outside of the lock: budgets have locks of their own.
        for (_, debt) in over {
            if debt.lasting {
                debt.entry.used(Some(booked_elsewhere()), 200);
            } else {
                debt.entry.unread();
            }
        }
        count
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Debt>> {
        // Nothing that holds the lock leaves it half done by panicking.
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

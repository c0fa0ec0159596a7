//! Answers that their providers make in the background: what is held for them stays held until somebody reads them, at
//! whichever gateway.

mod first;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use self::first::{First, book, wait};
use self::first::{Name, stand};
use super::tab::Entry;
use crate::chat::{Tier, Usage};
use crate::money::Nano;
use crate::store::redis::Redis;

/// The usage of an attempt that is booked in the row of another.
pub fn booked_elsewhere() -> Usage {
    Usage { said_cost: Some(Nano(0)), tier: Some(Tier::Batch), ..Usage::nothing() }
}

/// Who makes more of them than this has those beyond estimated at once.
const MOST: usize = 10_000;

/// Attempts whose answers are not there yet.
#[derive(Default)]
pub struct Owed {
    debts: Mutex<HashMap<Name, Debt>>,
}

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

    /// Goes by what other gateways have heard: what one of them has booked is settled here, and where somebody waits there,
    /// it is waited for here.
    pub async fn hear(&self, redis: &Redis) {
        let open = |(name, debt): (&Name, &Debt)| (!debt.lasting).then(|| name.clone());
        let names: Vec<Name> = self.lock().iter().filter_map(open).collect();
        if names.is_empty() {
            return;
        }
        for ((provider, id), (booked, awaited)) in names.iter().zip(stand(redis, &names).await) {
            if booked {
                self.take(provider, id).into_iter().for_each(Entry::settled_elsewhere);
            } else if awaited {
                self.put_off(provider, id);
            }
        }
    }

    /// Estimates the answers that nobody has asked for in time. Says how many.
    pub async fn forgive(&self, now: Instant, redis: Option<&Redis>) -> usize {
        self.settle(|debt| debt.until <= now, redis).await
    }

    /// Estimates all of them: the process is about to end.
    pub async fn close(&self, redis: Option<&Redis>) {
        self.settle(|_| true, redis).await;
    }

    async fn settle(&self, is_over: impl Fn(&Debt) -> bool, mut redis: Option<&Redis>) -> usize {
        let over: Vec<_> = self.lock().extract_if(|_, debt| is_over(debt)).collect();
        let count = over.len();
        // Outside of the lock: budgets have locks of their own.
        for ((provider, id), debt) in over {
            if debt.lasting {
                debt.entry.used(Some(booked_elsewhere()), 200);
                continue;
            }
            // Whoever reads it later does not book it again.
            let first = match redis {
                Some(redis) => book(redis, &provider, &id, debt.keep).await,
                None => First::Unknown,
            };
            // One that is away is not asked again for each.
            redis = redis.filter(|_| first != First::Unknown);
            match first {
                First::Done => debt.entry.settled_elsewhere(),
                _ => drop(debt.entry.unread()),
            }
        }
        count
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Debt>> {
        // Nothing that holds the lock leaves it half done by panicking.
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

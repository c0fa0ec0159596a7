//! Whose the things are that providers keep for their clients: files, batches, conversations, answers.
//!
//! What was made lately is known in memory, all of it in the database, and in PostgreSQL where gateways share one. Only
//! requests that name such a thing, or list them, ask.

mod rows;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::postgres::{Postgres, Step};
use super::sqlite::{Sqlite, Trouble, Written};
use crate::clock::{Clock, SystemClock};
pub use rows::{OWNERS_TABLES, SHARED_OWNERS};

/// Things that are known without a look at the database.
const MOST: usize = 100_000;

/// How long OpenAI keeps answers, and a day: <https://platform.openai.com/docs/guides/your-data>
const ANSWERS_MS: u64 = 31 * 86_400_000;

/// How long the answer of who made something waits for PostgreSQL, so that the next request may go to another gateway.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often what PostgreSQL has not got yet is tried again, and how often what has gone is taken away.
const PAUSE: Duration = Duration::from_secs(1);
const TIDY_EVERY: u32 = 3_600;

/// Who finds what a provider keeps (files, batches, conversations, responses), where clients show keys.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Whoever made it here: the team of the key, else the key.
    #[default]
    Own,
    /// The same; and what was not made through this gateway, everybody.
    Outside,
    /// Everybody finds everything.
    All,
}

/// Somebody to whom one of the things belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The provider that keeps it.
    pub provider: Arc<str>,
    /// Whose it is; empty where nobody had to say who he is.
    pub owner: Arc<str>,
}

/// Things that were made at a provider.
#[derive(Debug, Clone)]
pub struct Made {
    /// Where.
    pub provider: Arc<str>,
    /// Their ids there.
    pub ids: Vec<Box<str>>,
    /// Whose they are; empty where nobody had to say who he is.
    pub owner: Arc<str>,
    /// Whether they are answers of models, which providers keep for a month.
    pub answers: bool,
}

/// Who books what was used for something that is paid for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Whoever asked.
    Mine,
    /// Somebody has done it already.
    Done,
    /// It was not made here, or nothing is kept.
    Unknown,
}

/// The owners of all things; shared by all workers.
#[derive(Default)]
pub struct Owners {
    memory: Mutex<Memory>,
    kept: OnceLock<Keep>,
    hurry: Notify,
}

/// Where they are kept for good.
struct Keep {
    database: Sqlite,
    shared: Option<(Postgres, &'static [Step])>,
}

#[derive(Default)]
struct Memory {
    known: HashMap<Box<str>, Vec<Known>>,
    /// The first goes first.
    order: VecDeque<Box<str>>,
}

impl Owners {
    /// Keeps them in this database from now on, and in the one that gateways share.
    pub fn keep_in(&self, database: Sqlite, shared: Option<(Postgres, &'static [Step])>) {
        // It is set once, at the start.
        let _ = self.kept.set(Keep { database, shared });
    }

    /// Notes whose something is, without waiting for any disk.
    pub fn note(&self, made: Made) -> Option<Written<()>> {
        let mut memory = self.lock();
        for id in &made.ids {
            memory.add(id, Known { provider: made.provider.clone(), owner: made.owner.clone() });
        }
        drop(memory);
        let keep = self.kept.get()?;
        let now = now_ms();
        let written = keep.database.keep(move |db| rows::insert(db, &made, now, until(&made, now)));
        if keep.shared.is_some() {
            self.hurry.notify_one();
        }
        Some(written)
    }

    /// Notes it for good, and for other gateways where they can be told soon.
    pub async fn made(&self, made: Made) {
        let ids = made.ids.clone();
        if let Some(Err(trouble)) = match self.note(made) {
            Some(written) => Some(written.await),
            None => None,
        } {
            tracing::warn!(%trouble, "whose something is that a provider keeps could not be written down yet");
        }
        if let Some(keep) = self.kept.get().filter(|keep| keep.shared.is_some()) {
            // Late or not: whoever ships the rest ships this, too.
            let _ = tokio::time::timeout(PATIENCE, keep.ship(Some(ids))).await;
        }
    }

    /// Who owns things of these ids, at whatever provider.
    ///
    /// # Errors
    /// When a database that may know more is away.
    pub async fn find(&self, ids: &[Box<str>]) -> Result<HashMap<Box<str>, Vec<Known>>, Trouble> {
        let mut found = HashMap::new();
        let mut missing: Vec<Box<str>> = Vec::new();
        {
            let memory = self.lock();
            for id in ids {
                match memory.known.get(id) {
                    Some(known) => drop(found.insert(id.clone(), known.clone())),
                    None => missing.push(id.clone()),
                }
            }
        }
        let Some(keep) = self.kept.get().filter(|_| !missing.is_empty()) else { return Ok(found) };
        let wanted = missing.clone();
        let mut here = keep.database.read(move |db| rows::find(db, &wanted)).await?;
        missing.retain(|id| !here.iter().any(|(known, _)| known == id));
        if let Some((postgres, steps)) = keep.shared.as_ref().filter(|_| !missing.is_empty()) {
            here.extend(rows::find_shared(postgres, steps, &missing).await?);
        }
        let mut memory = self.lock();
        for (id, known) in here {
            memory.add(&id, known.clone());
            found.entry(id).or_insert_with(Vec::new).push(known);
        }
        Ok(found)
    }

    /// Whoever asks first books what this thing used: one of all gateways, once.
    ///
    /// # Errors
    /// When it cannot be known now.
    pub async fn claim(&self, provider: &Arc<str>, id: &str) -> Result<Claim, Trouble> {
        let Some(keep) = self.kept.get() else { return Ok(Claim::Unknown) };
        let (provider, id, now): (Arc<str>, Box<str>, u64) = (provider.clone(), id.into(), now_ms());
        if let Some((postgres, steps)) = &keep.shared {
            keep.ship(Some(vec![id.clone()])).await?;
            return Ok(rows::claim_shared(postgres, steps, &provider, &id, now).await?);
        }
        keep.database.write(move |db| rows::claim(db, &provider, &id, now)).await
    }

    /// Gives back what was claimed and could not be booked.
    pub async fn release(&self, provider: &Arc<str>, id: &str) {
        let Some(keep) = self.kept.get() else { return };
        let (provider, id): (Arc<str>, Box<str>) = (provider.clone(), id.into());
        let released = match &keep.shared {
            Some((postgres, steps)) => {
                rows::release_shared(postgres, steps, &provider, &id).await.map_err(Trouble::from)
            }
            None => keep.database.write(move |db| rows::release(db, &provider, &id)).await,
        };
        if let Err(trouble) = released {
            tracing::warn!(%trouble, "what a batch used stays claimed, and is not booked");
        }
    }

    /// Whether what is claimed is known after this process, too.
    pub fn outlives(&self) -> bool {
        self.kept.get().is_some()
    }

    /// Brings to PostgreSQL what it has not got yet, and takes away what providers keep no longer, as long as the process
    /// runs.
    pub async fn look_after(&self) {
        let Some(keep) = self.kept.get() else { return };
        let mut rounds: u32 = 0;
        loop {
            if rounds.is_multiple_of(TIDY_EVERY)
                && let Err(trouble) = keep.tidy().await
            {
                tracing::debug!(%trouble, "owners of what has gone stay for now");
            }
            rounds = rounds.wrapping_add(1);
            let _ = tokio::time::timeout(PAUSE, self.hurry.notified()).await;
            if keep.shared.is_some()
                && let Err(trouble) = keep.ship(None).await
            {
                tracing::debug!(%trouble, "other gateways do not know yet whose something is");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Nothing that holds the lock leaves it half done by panicking.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owners").finish_non_exhaustive()
    }
}

impl Keep {
    /// Sends these, or all that wait.
    async fn ship(&self, ids: Option<Vec<Box<str>>>) -> Result<(), Trouble> {
        let Some((postgres, steps)) = &self.shared else { return Ok(()) };
        loop {
            let wanted = ids.clone();
            let waiting = self.database.read(move |db| rows::unsent(db, wanted.as_deref())).await?;
            if waiting.is_empty() {
                return Ok(());
            }
            rows::send(postgres, steps, &waiting).await?;
            self.database.write(move |db| rows::sent(db, &waiting)).await?;
        }
    }

    async fn tidy(&self) -> Result<(), Trouble> {
        let now = now_ms();
        self.database.write(move |db| rows::tidy(db, now)).await?;
        match &self.shared {
            Some((postgres, steps)) => Ok(rows::tidy_shared(postgres, steps, now).await?),
            None => Ok(()),
        }
    }
}

impl Memory {
    /// Whoever was first keeps it.
    fn add(&mut self, id: &str, new: Known) {
        if let Some(known) = self.known.get_mut(id) {
            match known.iter_mut().find(|known| known.provider == new.provider) {
                Some(known) if known.owner.is_empty() => known.owner = new.owner,
                Some(_) => {}
                None => known.push(new),
            }
            return;
        }
        while self.order.len() >= MOST {
            if let Some(first) = self.order.pop_front() {
                self.known.remove(&first);
            }
        }
        self.order.push_back(id.into());
        self.known.insert(id.into(), vec![new]);
    }
}

fn now_ms() -> u64 {
    SystemClock.unix_ms()
}

fn until(made: &Made, now_ms: u64) -> Option<u64> {
    made.answers.then(|| now_ms.saturating_add(ANSWERS_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(owner: &str, ids: &[&str]) -> Made {
        let ids = ids.iter().map(|&id| id.into()).collect();
        Made { provider: "up".into(), ids, owner: owner.into(), answers: false }
    }

    async fn owners_of(owners: &Owners, id: &str) -> Vec<String> {
        let found = owners.find(&[id.into()]).await.unwrap();
        found.get(id).into_iter().flatten().map(|known| known.owner.to_string()).collect()
    }

    #[tokio::test]
    async fn whoever_was_first_keeps_it_also_after_a_restart_and_it_is_claimed_once() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let owners = Owners::default();
            let database = Sqlite::open(&dir.path().join("t.db"), &[OWNERS_TABLES], 100).unwrap();
            owners.keep_in(database.clone(), None);
            (owners, database)
        };
        let (owners, database) = open();
        owners.made(made("team:a", &["f1", "b1"])).await;
        owners.made(made("team:b", &["f1"])).await;
        assert_eq!(owners_of(&owners, "f1").await, ["team:a"]);
        let up: Arc<str> = "up".into();
        assert_eq!(owners.claim(&up, "b1").await.unwrap(), Claim::Mine);
        assert_eq!(owners.claim(&up, "b1").await.unwrap(), Claim::Done);
        owners.release(&up, "b1").await;
        assert_eq!(owners.claim(&up, "nobody's").await.unwrap(), Claim::Unknown);
        database.close(Duration::from_secs(5));
        drop((owners, database));
        let (owners, _database) = open();
        assert_eq!(owners_of(&owners, "f1").await, ["team:a"]);
        assert!(owners_of(&owners, "f2").await.is_empty());
        assert_eq!(owners.claim(&up, "b1").await.unwrap(), Claim::Mine);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_what_needs_no_owner_gets_its_first() {
        let owners = Owners::default();
        for at in 0..=MOST {
            drop(owners.note(made("", &[&format!("f{at}")])));
        }
        assert_eq!(owners.lock().known.len(), MOST);
        assert!(owners_of(&owners, "f0").await.is_empty());
        drop(owners.note(made("team:a", &["f1"])));
        assert_eq!(owners_of(&owners, "f1").await, ["team:a"]);
    }
}

//! Limits towards clients: requests and tokens in a period, and requests at once, by key, team, user, model or tag.
//!
//! Counts live in this process, outside of every snapshot: a reload keeps them. What they count is named by hashes in
//! tables of bounded size, so that clients who invent names cannot fill the memory. Where gateways share them, Redis
//! counts, and what is here follows it.

mod cell;
mod held;
mod notice;
mod penalty;
mod rules;
mod settings;
mod shared;
mod table;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use held::{Denied, Held, Need, USUAL_OUTPUT};
pub use notice::{Notice, OpenAiLimit};
pub use penalty::Penalty;
pub use rules::{KeyRules, Rules, Subject};
pub use settings::{Dimension, MatchSettings, RateLimitSettings, Rates, Weights, one_or_many};

use crate::store::redis::Redis;
use shared::Shared;
use table::Table;

/// Every count of this process.
pub struct Limits {
    origin: Instant,
    tables: Mutex<HashMap<TableName, Arc<Table>>>,
    shared: OnceLock<Arc<Shared>>,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// Requests.
    Requests,
    /// Tokens of prompt and answer, weighted.
    Tokens,
    /// Tokens of the prompt.
    InputTokens,
    /// Tokens of the answer.
    OutputTokens,
    /// Requests at once.
    Concurrent,
}

impl What {
    /// In messages and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input-tokens",
            Self::OutputTokens => "output-tokens",
            Self::Concurrent => "concurrent-requests",
        }
    }
}

/// A limit's name, what it counts, and in which period.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TableName {
    limit: Arc<str>,
    what: What,
    period: Duration,
}

impl Limits {
    /// Nothing was counted yet.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, tables: Mutex::default(), shared: OnceLock::new() }
    }

    /// Lets a request in, or says which limit it would break. Either everything is counted, or nothing.
    ///
    /// # Errors
    /// The limit that is reached, and when it lets the next one through.
    pub fn admit(
        &self,
        rules: &Rules,
        of_key: Option<&KeyRules>,
        subject: &Subject<'_>,
        need: &Need,
        now: Instant,
    ) -> Result<Option<Box<Held>>, Box<Denied>> {
        if rules.is_empty() && of_key.is_none_or(KeyRules::is_empty) {
            return Ok(None);
        }
        let ticks = cell::since(self.origin, now);
        held::take(rules.meters(of_key, subject, ticks, false), need, self.origin, ticks, 1)
    }

    /// All gateways that share this Redis count together from now on. Before the first request.
    pub fn share(&self, redis: &Arc<Redis>) {
        if self.shared.set(Shared::new(redis.clone(), self.origin)).is_ok()
            && let Some(shared) = self.shared.get()
        {
            redis.join(shared.clone());
        }
    }

    /// Whether counts are kept elsewhere, so that asking takes a while.
    pub fn is_shared(&self) -> bool {
        self.shared.get().is_some()
    }

    /// The same as [`Self::admit`], over all gateways.
    ///
    /// # Errors
    /// The limit that is reached, and when it lets the next one through; or one that cannot be asked.
    pub async fn admit_among_all(
        &self,
        rules: &Rules,
        of_key: Option<&KeyRules>,
        subject: &Subject<'_>,
        need: &Need,
        now: Instant,
    ) -> Result<Option<Box<Held>>, Box<Denied>> {
        let Some(shared) = self.shared.get() else { return self.admit(rules, of_key, subject, need, now) };
        let meters = rules.meters(of_key, subject, cell::since(self.origin, now), true);
        if meters.is_empty() { Ok(None) } else { shared.take(meters, need).await }
    }

    /// The table of this name, with the counts of before.
    fn table(&self, name: &Arc<str>, what: What, period: Duration) -> Arc<Table> {
        let name = TableName { limit: name.clone(), what, period };
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.entry(name).or_default().clone()
    }

    /// Forgets tables that no rule uses any more. Called after a reload.
    pub fn tidy(&self) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|_, table| Arc::strong_count(table) > 1);
    }
}

#[cfg(test)]
mod tests;

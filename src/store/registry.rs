//! Where virtual keys and the audit log are kept: one trait, so that several kinds of database can keep them.

mod audit;
mod shared;
mod sqlite;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;
use serde_json::Value;

pub use audit::{Anchor, AuditKey, Entry, Noted, Verdict, verify};
pub use shared::{SHARED_REGISTRY, SharedRegistry};
pub use sqlite::{REGISTRY_TABLES, SqliteRegistry};

use super::sqlite::Trouble;

/// What a registry is about to say.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Trouble>> + Send + 'a>>;

/// Entries that are looked through at once.
const PART: usize = 1_000;

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyRow {
    /// Its public id.
    pub id: String,
    /// The name that people gave it.
    pub name: String,
    /// What was agreed on, as JSON.
    pub terms: Value,
    /// Hashes of its secrets, 64 hexadecimal digits each, and when they end, in Unix milliseconds.
    pub secrets: Vec<(String, Option<u64>)>,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
    /// Counts up with each change.
    pub revision: u64,
}

/// Keeps keys and the audit log.
pub trait Registry: Send + Sync {
    /// All keys, in the order in which they were made.
    fn keys(&self) -> Answer<'_, Vec<KeyRow>>;

    /// Keeps a key, and notes who did what, together or not at all. `false` where another change came first: the row's
    /// revision is not one more than what is kept.
    fn put(&self, row: KeyRow, entry: Entry) -> Answer<'_, bool>;

    /// Notes who did what.
    fn note(&self, entry: Entry) -> Answer<'_, ()>;

    /// What operators set of a kind while a gateway ran (budgets, prices), by its name.
    fn settings(&self, _kind: &'static str) -> Answer<'_, Vec<(String, Value)>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Sets some of a kind, or takes them away, and notes who did what, together or not at all.
    fn set(
        &self,
        _kind: &'static str,
        _changes: Vec<(String, Option<Value>)>,
        _entry: Option<Entry>,
    ) -> Answer<'_, ()> {
        Box::pin(async { Err(Trouble::Refused("this database keeps no settings".into())) })
    }

    /// Makes of one of a kind, if it still is what it `was`, what it `becomes`, and notes who did it, together or not at all.
    /// `false` where another change came first.
    fn exchange(
        &self,
        _kind: &'static str,
        _name: String,
        (_was, _becomes): (Option<Value>, Option<Value>),
        _entry: Entry,
    ) -> Answer<'_, bool> {
        Box::pin(async { Err(Trouble::Refused("this database keeps no settings".into())) })
    }

    /// Entries of the audit log after this number, in order, at most so many.
    fn entries(&self, after: u64, most: usize) -> Answer<'_, Vec<Noted>>;

    /// Notes the last entry's number and hash outside of the database, so that an end that is cut off is noticed. Says what
    /// was noted, if that is new.
    fn anchor(&self) -> Answer<'_, Option<Anchor>> {
        Box::pin(async { Ok(None) })
    }

    /// What was noted so.
    fn anchors(&self) -> Vec<Anchor> {
        Vec::new()
    }

    /// The key of the chain.
    fn audit_key(&self) -> &AuditKey;

    /// Brings what other gateways have changed.
    fn pull(&self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// Whether something was brought since this was asked the last time.
    fn news(&self) -> bool {
        false
    }

    /// Looks through the whole audit log.
    fn verify(&self) -> Answer<'_, Verdict> {
        Box::pin(async {
            let mut last: Option<Noted> = None;
            let anchors = self.anchors();
            loop {
                let after = last.as_ref().map_or(0, |last| last.seq);
                let mut part = self.entries(after, PART).await?;
                if let Err(broken) = verify(self.audit_key(), last.as_ref(), &part) {
                    return Ok(broken);
                }
                if let Some(broken) = audit::adrift(&anchors, &part) {
                    return Ok(broken);
                }
                match part.pop() {
                    Some(noted) => last = Some(noted),
                    None => {
                        let (entries, head) = last.map_or((0, String::new()), |last| (last.seq, last.hash));
                        if let Some(anchor) = anchors.iter().find(|anchor| anchor.seq > entries) {
                            return Ok(Verdict::Broken {
                                seq: anchor.seq,
                                reason: "it was noted, and the log ends before it",
                            });
                        }
                        return Ok(Verdict::Sound { entries, head });
                    }
                }
            }
        })
    }
}

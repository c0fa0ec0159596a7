//! Accesses to stores on their way into the audit log.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::keys::KeyDesk;

/// Readings that brought the same value are noted together, once in this time.
const TOGETHER: Duration = Duration::from_secs(3_600);
/// What waits for the database; more is told in the log.
const MOST: usize = 4_096;

/// What was asked of stores, in order.
#[derive(Default)]
pub struct Notes {
    inner: Mutex<Inner>,
    more: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Note>,
    /// Readings that brought the same value, by reference: how many, and since when.
    unchanged: HashMap<String, (u64, Instant)>,
}

/// An entry to be.
#[derive(Debug, PartialEq)]
struct Note {
    action: &'static str,
    target: String,
    detail: Value,
}

impl Notes {
    /// A store was asked for the value of a reference.
    pub(super) fn fetched(
        &self,
        target: &str,
        origin: &str,
        outcome: &'static str,
        error: Option<&str>,
        now: Instant,
    ) {
        let mut inner = self.lock();
        if outcome == "unchanged" {
            let (times, since) = inner.unchanged.entry(target.to_owned()).or_insert((0, now));
            *times += 1;
            if now < *since + TOGETHER {
                return;
            }
            inner.close(target);
        } else {
            inner.close(target);
            let mut detail = json!({ "origin": origin, "outcome": outcome });
            if let Some(error) = error {
                detail["error"] = error.into();
            }
            inner.push(Note { action: "secret.fetch", target: target.to_owned(), detail });
        }
        drop(inner);
        self.more.notify_one();
    }

    /// A store was logged in to, or a lease renewed.
    pub(super) fn opened(&self, store: &str, outcome: &'static str) {
        let detail = json!({ "outcome": outcome });
        self.lock().push(Note { action: "secret.login", target: store.to_owned(), detail });
        self.more.notify_one();
    }

    /// Carries what waits into the audit log, as long as the process runs.
    pub async fn carry(self: Arc<Self>, keys: KeyDesk) {
        loop {
            self.flush(&keys).await;
            self.more.notified().await;
        }
    }

    /// Carries all that there is, also what was to be noted together later, as far as it goes in this time.
    pub async fn settle(&self, keys: &KeyDesk, patience: Duration) {
        let targets: Vec<String> = self.lock().unchanged.keys().cloned().collect();
        targets.iter().for_each(|target| self.lock().close(target));
        if tokio::time::timeout(patience, self.flush(keys)).await.is_err() {
            tracing::error!("accesses to secrets could not be noted in the audit log in time");
        }
    }

    async fn flush(&self, keys: &KeyDesk) {
        loop {
            let Some(note) = self.lock().waiting.pop_front() else { return };
            if let Err(error) = keys.note("gateway", note.action, &note.target, note.detail).await {
                tracing::error!(%error, secret = note.target, "an access to a secret could not be noted in the audit log");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Notes the readings that brought the same value so far.
    fn close(&mut self, target: &str) {
        if let Some((times, _)) = self.unchanged.remove(target) {
            let detail = json!({ "origin": "refresh", "outcome": "unchanged", "times": times });
            self.push(Note { action: "secret.fetch", target: target.to_owned(), detail });
        }
    }

    fn push(&mut self, note: Note) {
        if self.waiting.len() < MOST {
            self.waiting.push_back(note);
        } else {
            let (action, target) = (note.action, note.target);
            tracing::error!(action, secret = target, "too much waits for the audit log; this is not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_the_same_is_noted_together_and_nothing_is_left_out() {
        let (notes, t) = (Notes::default(), Instant::now());
        let minutes = |count: u64| t + Duration::from_secs(count * 60);
        notes.fetched("vault:a#b", "start", "read", None, t);
        (1..=61).for_each(|count| notes.fetched("vault:a#b", "refresh", "unchanged", None, minutes(count)));
        notes.fetched("vault:a#b", "refresh", "unchanged", None, minutes(62));
        notes.fetched("vault:a#b", "refresh", "failed", Some("down"), minutes(63));
        notes.opened("vault", "renewed");
        let said: Vec<String> =
            notes.lock().waiting.iter().map(|note| format!("{} {}", note.target, note.detail)).collect();
        assert_eq!(
            said,
            [
                r#"vault:a#b {"origin":"start","outcome":"read"}"#,
                r#"vault:a#b {"origin":"refresh","outcome":"unchanged","times":61}"#,
                r#"vault:a#b {"origin":"refresh","outcome":"unchanged","times":1}"#,
                r#"vault:a#b {"origin":"refresh","outcome":"failed","error":"down"}"#,
                r#"vault {"outcome":"renewed"}"#,
            ]
        );
    }
}

//! Accesses to stores on their way into the audit log.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::keys::KeyDesk;

/// What happens again and again is noted together, once in this time.
const TOGETHER: Duration = Duration::from_secs(3_600);
/// What waits for the database; more is told in the log.
const MOST: usize = 4_096;

/// What was asked of stores, in order.
#[derive(Default)]
pub struct Notes {
    inner: Mutex<Inner>,
    more: Notify,
}

/// Carries notes into the audit log, as long as the process runs.
pub struct Noting {
    notes: Arc<Notes>,
    keys: KeyDesk,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Note>,
    /// What happened again, by what it happened to.
    again: HashMap<String, Again>,
}

/// The same once more: noted together with others.
struct Again {
    note: Note,
    times: u64,
    since: Instant,
}

/// An entry to be.
#[derive(Debug, Clone, PartialEq)]
struct Note {
    action: &'static str,
    target: String,
    detail: Value,
}

impl Notes {
    /// A store was asked for the value of a reference; `again` where the same came of it the last time.
    pub(super) fn fetched(&self, target: &str, said: Said<'_>, again: bool, now: Instant) {
        let mut detail = json!({ "origin": said.origin, "outcome": said.outcome });
        if let Some(error) = said.error {
            detail["error"] = error.into();
        }
        self.take(Note { action: "secret.fetch", target: target.to_owned(), detail }, again, now);
    }

    /// A store was logged in to, or a lease renewed.
    pub(super) fn opened(&self, store: &str, outcome: &'static str, now: Instant) {
        let note =
            Note { action: "secret.login", target: store.to_owned(), detail: json!({ "outcome": outcome }) };
        self.take(note, outcome == "renewed", now);
    }

    fn take(&self, note: Note, again: bool, now: Instant) {
        let mut inner = self.lock();
        if again {
            inner.count(note, now);
        } else {
            inner.close(&note.target);
            inner.push(note);
        }
        drop(inner);
        self.more.notify_one();
    }

    /// Begins to carry what waits into the audit log.
    pub fn carry(self: Arc<Self>, keys: &KeyDesk) -> Noting {
        let (notes, log) = (self.clone(), keys.clone());
        tokio::spawn(async move {
            loop {
                notes.flush(&log).await;
                notes.more.notified().await;
            }
        });
        Noting { notes: self, keys: keys.clone() }
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

/// What came of asking a store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    /// Why it was asked.
    pub(super) origin: &'a str,
    pub(super) outcome: &'static str,
    pub(super) error: Option<&'a str>,
}

impl Noting {
    /// Carries all that there is, also what was to be noted together later, as far as it goes in this time.
    pub async fn end(self, patience: Duration) {
        let targets: Vec<String> = self.notes.lock().again.keys().cloned().collect();
        targets.iter().for_each(|target| self.notes.lock().close(target));
        if tokio::time::timeout(patience, self.notes.flush(&self.keys)).await.is_err() {
            tracing::error!("accesses to secrets could not be noted in the audit log in time");
        }
    }
}

impl Inner {
    /// Once more the same, which is noted when its time has come or something else happens.
    fn count(&mut self, note: Note, now: Instant) {
        let other = |again: &Again| again.note.detail.get("outcome") != note.detail.get("outcome");
        if self.again.get(&note.target).is_some_and(other) {
            self.close(&note.target);
        }
        let target = note.target.clone();
        let again =
            self.again.entry(target.clone()).or_insert(Again { note: note.clone(), times: 0, since: now });
        (again.note, again.times) = (note, again.times + 1);
        if now >= again.since + TOGETHER {
            self.close(&target);
        }
    }

    /// Notes what happened again so far.
    fn close(&mut self, target: &str) {
        if let Some(Again { mut note, times, .. }) = self.again.remove(target) {
            note.detail["times"] = times.into();
            self.push(note);
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
    fn what_happens_again_is_noted_together_and_nothing_is_left_out() {
        let (notes, t) = (Notes::default(), Instant::now());
        let minutes = |count: u64| t + Duration::from_secs(count * 60);
        let fetched = |origin: &str, outcome: &'static str, error: Option<&str>, again: bool, at: u64| {
            notes.fetched("vault:a#b", Said { origin, outcome, error }, again, minutes(at));
        };
        fetched("start", "read", None, false, 0);
        (1..=62).for_each(|at| fetched("refresh", "unchanged", None, true, at));
        fetched("refresh", "failed", Some("down"), false, 63);
        fetched("refresh", "failed", Some("down"), true, 64);
        fetched("refresh", "failed", Some("gone"), true, 65);
        fetched("refresh", "unchanged", None, true, 66);
        fetched("refresh", "changed", None, false, 67);
        notes.opened("vault", "renewed", t);
        notes.opened("vault", "renewed", minutes(1));
        notes.opened("vault", "login", minutes(2));
        let said: Vec<String> =
            notes.lock().waiting.iter().map(|note| format!("{} {}", note.target, note.detail)).collect();
        assert_eq!(
            said,
            [
                r#"vault:a#b {"origin":"start","outcome":"read"}"#,
                r#"vault:a#b {"origin":"refresh","outcome":"unchanged","times":61}"#,
                r#"vault:a#b {"origin":"refresh","outcome":"unchanged","times":1}"#,
                r#"vault:a#b {"origin":"refresh","outcome":"failed","error":"down"}"#,
                r#"vault:a#b {"origin":"refresh","outcome":"failed","error":"gone","times":2}"#,
                r#"vault:a#b {"origin":"refresh","outcome":"unchanged","times":1}"#,
                r#"vault:a#b {"origin":"refresh","outcome":"changed"}"#,
                r#"vault {"outcome":"renewed","times":2}"#,
                r#"vault {"outcome":"login"}"#,
            ]
        );
    }
}

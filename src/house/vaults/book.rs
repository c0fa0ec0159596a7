//! What is known of secrets that stand elsewhere: their values, since when, and when their stores are asked again.
//!
//! Time is handed in.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::settings::SecretRef;

/// First and longest pause after a store could not be asked; doubled each time.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A refused key sends us to its store at most so often.
const RECALL: Duration = Duration::from_secs(5);

/// The secrets of all stores.
#[derive(Default)]
pub(super) struct Book {
    terms: Terms,
    entries: HashMap<SecretRef, Entry>,
    /// Those that only providers use; where nothing is said, none.
    lapsing: HashSet<SecretRef>,
}

/// For how long a store is believed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    /// A value is used for so long before its store is asked again.
    pub(super) refresh: Duration,
    /// And for so long after that where the store gives none.
    pub(super) grace: Duration,
    /// And for so long beside the one that followed it.
    pub(super) overlap: Duration,
}

struct Entry {
    /// Wiped when it lapses or is replaced.
    value: Option<Zeroizing<String>>,
    /// The value before, and until when it goes on.
    before: Option<(Zeroizing<String>, Instant)>,
    /// When its store said so last.
    confirmed: Instant,
    /// When its store is asked again.
    due: Instant,
    failures: u32,
    error: Option<String>,
    /// Somebody asks now.
    asking: bool,
    recalled: Option<Instant>,
    lapsed: bool,
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It was not known.
    First,
    /// As before.
    Same,
    /// As before, after the store could not be asked for a while.
    Back,
    /// It is another one now.
    Changed,
    /// It could not be had; this is the first time, or the first after a success.
    Failed,
    /// It could not be had again.
    StillFailed,
    /// It could not be had for so long that it is not used any more.
    Lapsed,
}

/// How one secret stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// How long ago its store said so.
    pub(super) age: Duration,
    /// `fresh`, `stale`, `lapsed` or `unknown`.
    pub(super) state: &'static str,
    /// Why it could not be had the last time.
    pub(super) error: Option<String>,
}

impl News {
    /// Its word in the audit log and the metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::First => "read",
            Self::Same | Self::Back => "unchanged",
            Self::Changed => "changed",
            Self::Failed | Self::StillFailed => "failed",
            Self::Lapsed => "lapsed",
        }
    }
}

impl Book {
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, ..Self::default() }
    }

    /// The value that is known; the error where it lapsed, or its store could not be asked just now; `None` where the
    /// store has to be asked.
    pub(super) fn value(
        &self,
        reference: &SecretRef,
        now: Instant,
    ) -> Option<Result<Zeroizing<String>, String>> {
        let entry = self.entries.get(reference)?;
        match (&entry.value, &entry.error) {
            (Some(value), _) => Some(Ok(value.clone())),
            (None, Some(error)) if now < entry.due => Some(Err(error.clone())),
            (None, _) => None,
        }
    }

    /// The value before, as long as it goes on.
    pub(super) fn before(&self, reference: &SecretRef, now: Instant) -> Option<Zeroizing<String>> {
        let (value, until) = self.entries.get(reference)?.before.as_ref()?;
        (now < *until).then(|| value.clone())
    }

    /// Wipes values whose overlap is over; whether there were any.
    pub(super) fn part(&mut self, now: Instant) -> bool {
        let mut any = false;
        for entry in self.entries.values_mut() {
            any |= entry.before.take_if(|(_, until)| *until <= now).is_some();
        }
        any
    }

    /// Whether it was known once, and is not used any more.
    pub(super) fn is_lapsed(&self, reference: &SecretRef) -> bool {
        self.entries.get(reference).is_some_and(|entry| entry.lapsed)
    }

    /// Somebody begins to ask for it; `false` where somebody does already.
    pub(super) fn ask(&mut self, reference: &SecretRef, now: Instant) -> bool {
        let entry = self.entry(reference, now);
        !std::mem::replace(&mut entry.asking, true)
    }

    /// The provider refused it; whether its store should be asked now.
    pub(super) fn recall(&mut self, reference: &SecretRef, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(reference) else { return false };
        let soon = entry.recalled.is_some_and(|at| now < at + RECALL);
        if soon || entry.asking {
            return false;
        }
        entry.recalled = Some(now);
        true
    }

    /// The store said what it is.
    pub(super) fn took(&mut self, reference: &SecretRef, value: Zeroizing<String>, now: Instant) -> News {
        let Terms { refresh, overlap, .. } = self.terms;
        let entry = self.entry(reference, now);
        let news = match &entry.value {
            Some(known) if *known == value && entry.error.is_some() => News::Back,
            Some(known) if *known == value => News::Same,
            Some(_) => News::Changed,
            None => News::First,
        };
        if !matches!(news, News::Same | News::Back) {
            let before = entry.value.replace(value).filter(|_| !overlap.is_zero());
            entry.before = before.map(|before| (before, now + overlap));
        }
        (entry.confirmed, entry.due) = (now, now + refresh);
        (entry.failures, entry.error, entry.asking, entry.lapsed) = (0, None, false, false);
        news
    }

    /// The store did not say what it is.
    pub(super) fn failed(&mut self, reference: &SecretRef, error: String, now: Instant) -> News {
        let end = self.terms.refresh + self.terms.grace;
        let may_lapse = self.lapsing.contains(reference);
        let entry = self.entry(reference, now);
        let pause = PAUSE.0.saturating_mul(1 << entry.failures.min(10)).min(PAUSE.1);
        let first = entry.failures == 0;
        entry.failures = entry.failures.saturating_add(1);
        entry.due = now + pause;
        (entry.error, entry.asking) = (Some(error), false);
        let over = entry.confirmed + end;
        if may_lapse && entry.value.is_some() {
            if now >= over {
                (entry.value, entry.before, entry.lapsed) = (None, None, true);
                return News::Lapsed;
            }
            // It ends in time, not with the next pause.
            entry.due = entry.due.min(over);
        }
        if first { News::Failed } else { News::StillFailed }
    }

    /// What has to be asked for now.
    pub(super) fn due(&self, now: Instant) -> Vec<SecretRef> {
        let due = self.entries.iter().filter(|(_, entry)| !entry.asking && entry.due <= now);
        due.map(|(reference, _)| reference.clone()).collect()
    }

    /// All of it is due now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.entries.values_mut().for_each(|entry| entry.due = now);
    }

    /// How many of a store's secrets it does not give any more.
    #[allow(clippy::cast_precision_loss, reason = "a handful")]
    pub(super) fn stale(&self, store_of: impl Fn(&SecretRef) -> &'static str, store: &str) -> f64 {
        let is_stale =
            |(reference, entry): &(&SecretRef, &Entry)| entry.error.is_some() && store_of(reference) == store;
        self.entries.iter().filter(is_stale).count() as f64
    }

    /// When something has to be asked for next.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = self.entries.values().filter(|entry| !entry.asking).map(|entry| entry.due);
        let ends = self.entries.values().filter_map(|entry| Some(entry.before.as_ref()?.1));
        due.chain(ends).min()
    }

    /// Forgets all but these; the ones that providers alone use may lapse.
    pub(super) fn keep(&mut self, lapsing: HashSet<SecretRef>, others: &HashSet<SecretRef>) {
        self.entries.retain(|reference, _| lapsing.contains(reference) || others.contains(reference));
        self.lapsing = lapsing.difference(others).cloned().collect();
    }

    /// How each stands, in the order of their names.
    pub(super) fn standings(&self, now: Instant) -> Vec<(String, Standing)> {
        let standing = |entry: &Entry| {
            let state = match (&entry.value, &entry.error) {
                (Some(_), None) => "fresh",
                (Some(_), Some(_)) => "stale",
                (None, _) if entry.lapsed => "lapsed",
                (None, _) => "unknown",
            };
            Standing {
                age: now.saturating_duration_since(entry.confirmed),
                state,
                error: entry.error.clone(),
            }
        };
        let mut all: Vec<_> =
            self.entries.iter().map(|(reference, entry)| (reference.to_string(), standing(entry))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn entry(&mut self, reference: &SecretRef, now: Instant) -> &mut Entry {
        self.entries.entry(reference.clone()).or_insert_with(|| Entry {
            value: None,
            before: None,
            confirmed: now,
            due: now,
            failures: 0,
            error: None,
            asking: false,
            recalled: None,
            lapsed: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn book() -> (Book, SecretRef, Instant) {
        let book = Book::new(Terms { refresh: 60 * S, grace: 100 * S, overlap: 30 * S });
        (book, "vault:a#b".parse().unwrap(), Instant::now())
    }

    fn text(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn a_value_is_used_and_asked_for_again() {
        let (mut book, a, t) = book();
        assert!(book.value(&a, t).is_none());
        assert!(book.ask(&a, t) && !book.ask(&a, t), "only one asks");
        assert_eq!(book.took(&a, text("1"), t), News::First);
        assert_eq!(book.value(&a, t + 59 * S), Some(Ok(text("1"))));
        assert_eq!((book.next(), book.due(t + 59 * S).len()), (Some(t + 60 * S), 0));
        assert_eq!(book.due(t + 60 * S), std::slice::from_ref(&a));
        assert!(book.ask(&a, t + 60 * S) && book.due(t + 60 * S).is_empty());
        assert_eq!(book.took(&a, text("1"), t + 60 * S), News::Same);
        assert_eq!(book.took(&a, text("2"), t + 120 * S), News::Changed);
        assert_eq!(book.value(&a, t + 120 * S), Some(Ok(text("2"))));
    }

    #[test]
    fn the_value_before_goes_on_for_a_while_and_is_wiped() {
        let (mut book, a, t) = book();
        book.took(&a, text("1"), t);
        assert_eq!(book.before(&a, t), None);
        book.took(&a, text("2"), t + 60 * S);
        assert_eq!(book.before(&a, t + 89 * S), Some(text("1")));
        assert_eq!(book.next(), Some(t + 90 * S), "before it is asked for again");
        assert!(!book.part(t + 89 * S) && book.part(t + 90 * S) && !book.part(t + 90 * S));
        assert_eq!((book.before(&a, t + 90 * S), book.next()), (None, Some(t + 120 * S)));
        book.took(&a, text("3"), t + 120 * S);
        book.took(&a, text("4"), t + 130 * S);
        assert_eq!(book.before(&a, t + 130 * S), Some(text("3")));
    }

    #[test]
    fn a_known_value_goes_on_within_its_grace_and_then_lapses() {
        let (mut book, a, t) = book();
        book.took(&a, text("1"), t);
        book.keep([a.clone()].into(), &HashSet::new());
        let no = || "down".to_owned();
        assert_eq!(book.failed(&a, no(), t + 60 * S), News::Failed);
        assert_eq!(book.next(), Some(t + 61 * S));
        for (at, pause) in [(61, 2), (63, 4), (67, 8), (75, 16), (91, 30), (121, 30)] {
            assert_eq!(book.failed(&a, no(), t + at * S), News::StillFailed);
            assert_eq!(book.next(), Some(t + (at + pause) * S));
        }
        assert_eq!(book.standings(t + 121 * S)[0].1.state, "stale");
        assert_eq!(book.failed(&a, no(), t + 151 * S), News::StillFailed);
        assert_eq!(book.next(), Some(t + 160 * S), "it ends in time");
        assert_eq!(book.value(&a, t + 159 * S), Some(Ok(text("1"))));
        assert_eq!(book.failed(&a, no(), t + 160 * S), News::Lapsed);
        assert!(book.is_lapsed(&a));
        assert_eq!(book.value(&a, t + 160 * S), Some(Err("down".into())));
        assert_eq!(book.failed(&a, no(), t + 190 * S), News::StillFailed, "it lapses once");
        assert_eq!(book.took(&a, text("1"), t + 220 * S), News::First);
        assert!(!book.is_lapsed(&a));
    }

    #[test]
    fn a_store_that_comes_back_in_time_changes_nothing() {
        let (mut book, a, t) = book();
        book.took(&a, text("1"), t);
        book.keep([a.clone()].into(), &HashSet::new());
        book.failed(&a, "down".into(), t + 60 * S);
        assert_eq!(book.took(&a, text("1"), t + 61 * S), News::Back);
        assert_eq!(book.took(&a, text("1"), t + 121 * S), News::Same);
        assert_eq!(book.failed(&a, "down".into(), t + 181 * S), News::Failed);
        assert_eq!(book.failed(&a, "down".into(), t + 280 * S), News::StillFailed, "the grace began anew");
    }

    #[test]
    fn what_others_than_providers_use_never_lapses_and_what_nobody_names_is_forgotten() {
        let (mut book, a, t) = book();
        let b: SecretRef = "aws-secrets:b".parse().unwrap();
        book.took(&a, text("1"), t);
        book.took(&b, text("2"), t);
        book.keep([a.clone()].into(), &[a.clone()].into());
        assert_eq!(book.entries.keys().collect::<Vec<_>>(), [&a]);
        book.failed(&a, "down".into(), t + 60 * S);
        assert_eq!(book.failed(&a, "down".into(), t + 10_000 * S), News::StillFailed);
        assert_eq!(book.value(&a, t + 10_000 * S), Some(Ok(text("1"))));
    }

    #[test]
    fn what_could_not_be_had_is_not_asked_for_at_once_again() {
        let (mut book, a, t) = book();
        book.ask(&a, t);
        assert_eq!(book.failed(&a, "down".into(), t), News::Failed);
        assert_eq!(book.value(&a, t), Some(Err("down".into())));
        assert!(book.value(&a, t + S).is_none() && book.due(t + S).len() == 1);
    }

    #[test]
    fn a_refused_key_sends_to_its_store_now_and_then() {
        let (mut book, a, t) = book();
        assert!(!book.recall(&a, t), "nothing is known of it");
        book.took(&a, text("1"), t);
        assert!(book.recall(&a, t) && !book.recall(&a, t + 4 * S) && book.recall(&a, t + 5 * S));
        book.ask(&a, t + 10 * S);
        assert!(!book.recall(&a, t + 10 * S), "it is being asked for");
    }
}

//! What happened to a request so far. Shared with the request's settlement, so that nothing is lost when the client
//! goes away in the middle of an attempt.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::chat::{Loss, Usage};
use crate::fault::Fault;
use crate::plan::AttemptRecord;
use crate::providers::{Dialect, Target};
use crate::target::TargetName;

/// The attempts of one request.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    attempts: Vec<AttemptRecord>,
    current: Option<(TargetName, Instant)>,
    pause: Option<Instant>,
    upstream: Duration,
    /// When the last attempt that succeeded began, and how long it took to succeed.
    good: Option<(Instant, Duration)>,
    /// What the attempt under way, or the last one, could not carry.
    lost: Vec<Loss>,
    /// What no attempt can carry.
    unset: Vec<Loss>,
    /// What its target speaks.
    dialect: Option<Dialect>,
    /// What an answer cost that was withheld.
    spent: Option<(Target, Usage)>,
}

impl Journal {
    /// An attempt begins.
    pub(super) fn begin(&self, target: &Target, now: Instant) {
        self.begin_at(&target.name, target.wire().dialect(), now);
    }

    fn begin_at(&self, target: &TargetName, dialect: Dialect, now: Instant) {
        let mut pages = self.pages();
        if let Some(since) = pages.pause.take() {
            pages.upstream += now.saturating_duration_since(since);
        }
        pages.current = Some((target.clone(), now));
        pages.lost.clear();
        pages.dialect = Some(dialect);
    }

    /// The attempt cannot carry this.
    pub fn lose(&self, lost: &[Loss]) {
        if !lost.is_empty() {
            self.pages().lost.extend_from_slice(lost);
        }
    }

    /// No attempt can carry this.
    pub fn never_carried(&self, lost: Vec<Loss>) {
        self.pages().unset = lost;
    }

    /// What the attempt under way, or the last one, could not carry.
    pub fn lost(&self) -> Vec<Loss> {
        let pages = self.pages();
        pages.unset.iter().chain(&pages.lost).cloned().collect()
    }

    /// What the target of the attempt under way, or of the last one, speaks.
    pub fn dialect(&self) -> Option<Dialect> {
        self.pages().dialect
    }

    /// An answer was made, and is withheld.
    pub(super) fn spent(&self, target: &Target, usage: Usage) {
        self.pages().spent = Some((target.clone(), usage));
    }

    /// Who made an answer that was withheld, and what was used for it.
    pub fn withheld(&self) -> Option<(Target, Usage)> {
        self.pages().spent.clone()
    }

    /// The attempt brought its first content or its whole answer.
    pub(super) fn succeed(&self, status: u16) -> Duration {
        let began = self.pages().current.as_ref().map(|(_, began)| *began);
        let took = self.end(|target, took| AttemptRecord {
            target,
            outcome: "ok".into(),
            status: Some(status),
            ms: ms(took),
        });
        self.pages().good = began.map(|began| (began, took));
        took
    }

    /// When the attempt that succeeded began, and how long it took to its first content or its whole answer.
    pub fn good(&self) -> Option<(Instant, Duration)> {
        self.pages().good
    }

    /// The stream of the attempt that had succeeded broke off.
    pub fn broke(&self, fault: &Fault) {
        if let Some(last) = self.pages().attempts.last_mut().filter(|last| last.outcome == "ok") {
            last.outcome = fault.kind.as_str().into();
        }
    }

    /// The attempt failed.
    pub(super) fn fail(&self, fault: &Fault) -> Duration {
        self.end(|target, took| AttemptRecord::failed(target, fault, took))
    }

    /// A pause before the next try begins: time that is not ours either.
    pub(super) fn pause(&self, now: Instant) {
        self.pages().pause = Some(now);
    }

    /// Number of attempts begun so far.
    pub fn attempts(&self) -> usize {
        let pages = self.pages();
        pages.attempts.len() + usize::from(pages.current.is_some())
    }

    /// Time spent in attempts, and in pauses between them, so far: also in the one that is under way.
    pub fn upstream(&self) -> Duration {
        let pages = self.pages();
        let since = pages.current.as_ref().map(|(_, began)| *began).or(pages.pause);
        pages.upstream + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The attempts that have ended so far.
    pub fn so_far(&self) -> Vec<AttemptRecord> {
        self.pages().attempts.clone()
    }

    /// Takes everything; an attempt still under way is noted as cancelled.
    pub fn close(&self) -> Vec<AttemptRecord> {
        self.end(|target, took| AttemptRecord {
            target,
            outcome: "cancelled".into(),
            status: None,
            ms: ms(took),
        });
        std::mem::take(&mut self.pages().attempts)
    }

    fn end(&self, record: impl FnOnce(TargetName, Duration) -> AttemptRecord) -> Duration {
        let mut pages = self.pages();
        let Some((target, began)) = pages.current.take() else { return Duration::ZERO };
        let took = began.elapsed();
        pages.upstream += took;
        pages.attempts.push(record(target, took));
        took
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    #[tokio::test(start_paused = true)]
    async fn time_under_way_is_upstream_time_too() {
        let (journal, target) = (Journal::default(), TargetName::parse("a/b").unwrap());
        let pass = async |ms| tokio::time::sleep(Duration::from_millis(ms)).await;
        journal.begin_at(&target, Dialect::OpenAi, Instant::now());
        pass(300).await;
        assert_eq!(journal.upstream(), Duration::from_millis(300), "an attempt under way");
        journal.fail(&Fault::new(FaultKind::ServerError, "no"));
        pass(7).await;
        assert_eq!(journal.upstream(), Duration::from_millis(300), "time of our own");
        journal.pause(Instant::now());
        pass(100).await;
        assert_eq!(journal.upstream(), Duration::from_millis(400), "a pause under way");
        journal.begin_at(&target, Dialect::OpenAi, Instant::now());
        pass(10).await;
        journal.succeed(200);
        pass(5).await;
        assert_eq!(journal.upstream(), Duration::from_millis(410), "all of it, once");
    }
}

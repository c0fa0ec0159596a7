//! What happened to a request so far. Shared with the request's settlement, so that nothing is lost when the client
//! goes away in the middle of an attempt.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::fault::Fault;
use crate::plan::AttemptRecord;
use crate::target::TargetName;

/// The attempts of one request.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    attempts: Vec<AttemptRecord>,
    current: Option<(TargetName, Instant)>,
    upstream: Duration,
}

impl Journal {
    /// An attempt begins.
    pub(super) fn begin(&self, target: &TargetName, now: Instant) {
        self.pages().current = Some((target.clone(), now));
    }

    /// The attempt brought its first content or its whole answer.
    pub(super) fn succeed(&self, status: u16) -> Duration {
        self.end(|target, took| AttemptRecord { target, outcome: "ok", status: Some(status), ms: ms(took) })
    }

    /// The attempt failed.
    pub(super) fn fail(&self, fault: &Fault) -> Duration {
        self.end(|target, took| AttemptRecord::failed(target, fault, took))
    }

    /// A pause before the next try: time that is not ours either.
    pub(super) fn paused(&self, pause: Duration) {
        self.pages().upstream += pause;
    }

    /// Number of attempts begun so far.
    pub fn attempts(&self) -> usize {
        let pages = self.pages();
        pages.attempts.len() + usize::from(pages.current.is_some())
    }

    /// Time spent in attempts, and in pauses between them, so far.
    pub fn upstream(&self) -> Duration {
        self.pages().upstream
    }

    /// Takes everything; an attempt still under way is noted as cancelled.
    pub fn close(&self) -> Vec<AttemptRecord> {
        self.end(|target, took| AttemptRecord { target, outcome: "cancelled", status: None, ms: ms(took) });
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

//! What was alarming of late, for operators who look after it: a few hundred events in memory, of the whole process.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use crate::clock::{Clock, SystemClock};

/// Events that are kept.
const MOST: usize = 500;

/// One event.
#[derive(Debug, Clone, Serialize)]
pub struct Alarm {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// What happened: `budget_threshold`, `provider_fails`, `key_out`, `breaker_opened` …
    pub event: &'static str,
    /// To what, and how much.
    #[serde(flatten)]
    pub about: Value,
}

static RECENT: Mutex<VecDeque<Alarm>> = Mutex::new(VecDeque::new());

/// Who is told of every event.
static LISTENER: Mutex<Option<Sender<Alarm>>> = Mutex::new(None);

/// Takes note of an event; `about` is an object.
#[cold]
pub fn alarm(event: &'static str, about: Value) {
    let alarm = Alarm { at_ms: SystemClock.unix_ms(), event, about };
    let listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever listens may be slow; nobody waits for him.
    if listener.as_ref().is_some_and(|to| to.try_send(alarm.clone()).is_err()) {
        metrics::counter!("tollgate_alerts_dropped_total").increment(1);
    }
    drop(listener);
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    if recent.len() == MOST {
        recent.pop_front();
    }
    recent.push_back(alarm);
}

/// Where every event goes from now on, besides.
pub fn alarm_to(to: Sender<Alarm>) {
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
}

/// Events of late, the last one first.
pub fn alerts() -> Vec<Alarm> {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.iter().rev().cloned().collect()
}

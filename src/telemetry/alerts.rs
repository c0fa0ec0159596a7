//! What was alarming of late, for operators who look after it: a few hundred events in memory, of the whole process.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

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

/// Takes note of an event; `about` is an object.
#[cold]
pub fn alarm(event: &'static str, about: Value) {
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    if recent.len() == MOST {
        recent.pop_front();
    }
    recent.push_back(Alarm { at_ms: SystemClock.unix_ms(), event, about });
}

/// Events of late, the last one first.
pub fn alerts() -> Vec<Alarm> {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.iter().rev().cloned().collect()
}

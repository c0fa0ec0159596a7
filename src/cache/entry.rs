//! One kept answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Key;
use crate::money::Nano;

/// What an entry costs beside its body, in bytes, about.
const OVERHEAD: usize = 512;

/// In which form an answer was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One document.
    Whole,
    /// The frames of a stream, one behind the other.
    Stream,
}

/// An answer in the client's dialect.
#[derive(Debug)]
pub struct Entry {
    /// The hash of what was asked.
    pub asks: Key,
    /// Its form.
    pub form: Form,
    /// What the client was given.
    pub body: Bytes,
    /// Who gave it.
    pub target: Arc<str>,
    /// What it cost, where that is known.
    pub cost: Option<Nano>,
    /// When it was given.
    pub at: Instant,
    /// How long it may be given again.
    pub life: Duration,
}

impl Entry {
    /// How old it is.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < self.life
    }

    pub(super) fn weight(&self) -> usize {
        self.body.len() + self.target.len() + OVERHEAD
    }
}

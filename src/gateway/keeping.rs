//! Answers that are kept while they go to the client, for those who ask the same.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::heeded::warnings;
use super::settle::Settlement;
use crate::cache::{Entry, Form, Key, Lead};
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind, Phase, Whose};

/// What an answer is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// For everybody who asks the same: only answers that are complete.
    Cache,
    /// For the client who sends the same `Idempotency-Key` again.
    Idempotency,
}

/// Who waits for the answer of a request. Dropped without one, another may make it.
#[derive(Default)]
pub(super) struct Keeping {
    leads: Vec<(Kind, Lead, Duration, u64)>,
    frames: BytesMut,
}

/// The hash of some parts.
pub(super) fn hash(parts: &[&[u8]]) -> Key {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

impl Keeping {
    /// Keeps the answer for these, too: for so long, and if it has no more than `most` bytes.
    pub(super) fn push(&mut self, kind: Kind, lead: Lead, life: Duration, most: u64) {
        self.leads.push((kind, lead, life, most));
    }

    /// A piece of the stream went out.
    pub(super) fn hear(&mut self, piece: &Bytes) {
        let size = (self.frames.len() + piece.len()) as u64;
        // Nobody waits for the end of what he will not be given.
        for (_, lead, ..) in self.leads.extract_if(.., |(.., most)| size > *most) {
            lead.unfit();
        }
        if self.leads.is_empty() {
            self.frames = BytesMut::new();
        } else {
            self.frames.extend_from_slice(piece);
        }
    }

    /// The stream came to its good end.
    pub(super) fn streamed(mut self, settlement: &mut Settlement) {
        let frames = std::mem::take(&mut self.frames).freeze();
        self.keep(&frames, Form::Stream, settlement);
    }

    /// The answer is here as one document.
    pub(super) fn whole(self, body: &Bytes, settlement: &mut Settlement) {
        self.keep(body, Form::Whole, settlement);
    }

    /// There is no answer: one of those who wait takes its place, and the others go on waiting. Where it is the provider
    /// that failed, those of the cache are told, so that nobody stands in line for one that fails again and again.
    pub(super) fn failed(self, fault: &Fault) {
        let own = fault.whose == Whose::Caller || fault.kind == FaultKind::Timeout(Phase::Total);
        let told = Arc::new(fault.clone());
        for (kind, lead, ..) in self.leads {
            if kind == Kind::Cache && !own {
                lead.failed(told.clone());
            }
        }
    }

    /// Nobody else can be given this answer.
    pub(super) fn unfit(self) {
        self.leads.into_iter().for_each(|(_, lead, ..)| lead.unfit());
    }

    fn keep(self, body: &Bytes, form: Form, settlement: &mut Settlement) {
        let cost = settlement.cost();
        let target = settlement.target.as_ref().map(|target| target.name.to_string()).unwrap_or_default();
        let complete = is_complete(settlement);
        let warnings: Box<str> = warnings(&settlement.journal.lost()).unwrap_or_default().into();
        for (kind, lead, life, most) in self.leads {
            if body.len() as u64 > most || kind == Kind::Cache && !complete {
                lead.unfit();
                continue;
            }
            let (asks, at) = (lead.asks(), Instant::now());
            lead.keep(Entry {
                asks,
                form,
                body: body.clone(),
                target: target.as_str().into(),
                warnings: warnings.clone(),
                cost,
                at,
                life,
            });
        }
    }
}

/// Whether the answer is whole: neither filtered nor cut off.
fn is_complete(settlement: &Settlement) -> bool {
    match settlement.finish {
        Some(word) => matches!(word, "stop" | "tool_calls" | "function_call"),
        None => !matches!(settlement.endpoint(), Endpoint::Chat | Endpoint::Completions),
    }
}

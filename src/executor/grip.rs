//! What an answer under way holds on to until it is over: its place at the target, and the key that it bears.

use super::Answered;
use crate::breaker::Busy;
use crate::chat::{Tier, Usage};
use crate::plan::Role;
use crate::providers::Hold;
use crate::queue::Berth;

/// What is given back when the answer is over.
#[derive(Default)]
pub struct Grip {
    /// Counts as under way at the target.
    pub(super) _busy: Option<Busy>,
    /// The key.
    pub(super) hold: Option<Hold>,
    /// The place at the target; given back last, so that who waits for it finds the key free too.
    pub(super) _berth: Option<Berth>,
}

impl Grip {
    /// This was used.
    pub(super) fn used(&mut self, usage: impl FnOnce() -> Usage) {
        if let Some(hold) = self.hold.as_mut().filter(|hold| hold.counts_tokens()) {
            hold.used(&usage());
        }
    }
}

impl Answered {
    /// What an answer used that is one of several: the request's own usage will be that of one of them.
    pub(super) fn usage_beside(&self, role: Role) -> Option<Usage> {
        match self {
            Self::Whole(relayed, _) if role == Role::Ensemble => relayed.usage,
            _ => None,
        }
    }

    /// This service gives it, unless the answer itself names another.
    pub(super) fn serve(&mut self, tier: Tier) {
        match self {
            Self::Whole(relayed, _) => {
                relayed.usage.iter_mut().for_each(|usage| usage.tier = usage.tier.or(Some(tier)));
            }
            Self::Stream(live) => live.tier = Some(tier),
            Self::Raw(raw) => raw.tier = Some(tier),
            Self::Switched(_) => {}
        }
    }

    /// Holds on until it is over; a whole answer is over at once.
    pub(super) fn keep(&mut self, mut grip: Grip) {
        match self {
            Self::Whole(relayed, _) => grip.used(|| relayed.usage.unwrap_or_default()),
            Self::Stream(live) => live.grip = grip,
            Self::Raw(raw) => raw.grip = grip,
            Self::Switched(switched) => switched.grip = grip,
        }
    }
}

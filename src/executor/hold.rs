//! An answer under way counts as a request under way at its target until it is over.

use super::Answered;
use crate::breaker::Busy;
use crate::chat::Usage;
use crate::plan::Role;

impl Answered {
    /// What an answer used that is one of several: the request's own usage will be that of one of them.
    pub(super) fn usage_beside(&self, role: Role) -> Option<Usage> {
        match self {
            Self::Whole(relayed, _) if role == Role::Ensemble => relayed.usage,
            _ => None,
        }
    }

    /// Holds on to its place at the target; a whole answer gives it back at once.
    pub(super) fn hold(&mut self, busy: Busy) {
        match self {
            Self::Whole(..) => drop(busy),
            Self::Stream(live) => live.busy = Some(busy),
            Self::Raw(raw) => raw.busy = Some(busy),
            Self::Switched(switched) => switched.busy = Some(busy),
        }
    }
}

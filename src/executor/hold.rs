//! An answer under way counts as a request under way at its target until it is over.

use super::Answered;
use crate::breaker::Busy;

impl Answered {
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

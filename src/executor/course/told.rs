//! What the client is told when nothing helps.

use std::borrow::Cow;
use std::time::Duration;

use super::{Bar, Course};
use crate::fault::{Fault, FaultKind, Phase, Whose};
use crate::providers::Why;

/// The longest that a client is told to wait before it comes again.
const LONGEST_AFTER: Duration = Duration::from_secs(60);
/// The shortest.
const SHORTEST_AFTER: Duration = Duration::from_secs(1);

/// The fault of the first attempt that was made. Of attempts side by side, the first is the one that began first,
/// whichever ended first.
pub(super) struct Original {
    /// The number of its turn.
    number: u32,
    /// The place that was tried, if one was.
    place: Option<usize>,
    fault: Fault,
}

/// What ends a course before its time.
pub(in crate::executor) struct End {
    pub(super) fault: Fault,
    /// The number of the turn that failed so; 0 where a policy wants it, or nothing else can be.
    pub(super) number: u32,
    /// The place that it was for.
    pub(super) place: usize,
}

impl End {
    pub(super) fn at_once(fault: Fault) -> Self {
        Self { fault, number: 0, place: 0 }
    }

    /// Whether this one is told rather than another.
    pub(in crate::executor) fn is_before(&self, other: &Self) -> bool {
        self.number < other.number
    }
}

impl Course<'_> {
    /// The line of a target takes too long.
    pub(super) fn note_full(&mut self, why: Bar, wait: Duration) {
        self.note_busy(why, "the target is busy, and too many requests wait for it already", wait);
    }

    /// It has waited for so long in the line of a target, and had no turn.
    pub(super) fn note_in_vain(&mut self, why: Bar, waited: Duration, wait: Duration) {
        let waited = waited.as_secs_f64();
        self.note_busy(why, format!("the target is busy, and {waited:.1} s in its line were in vain"), wait);
    }

    /// `busy` is told where it is the target that has no room.
    fn note_busy(&mut self, why: Bar, busy: impl Into<Cow<'static, str>>, wait: Duration) {
        let fault = match why {
            Bar::Key(Why::UsedUp) => {
                let text = "the provider's limits for the gateway's keys are used up";
                Fault::new(FaultKind::RateLimited, text).code("key_limits")
            }
            Bar::Key(_) => {
                let text = "the gateway's own limits for its keys at the provider are used up";
                Fault::new(FaultKind::RateLimited, text).code("key_limits")
            }
            Bar::Busy | Bar::Breaker => Fault::new(FaultKind::Unavailable, busy).code("target_busy"),
        };
        self.note(None, self.begun, fault.after(Some(wait.clamp(SHORTEST_AFTER, LONGEST_AFTER))));
    }

    /// Nobody may be tried: the client is told when to come again.
    pub(super) fn note_rest(&mut self, wait: Duration) {
        if self.made > 0 {
            return;
        }
        let told = self.original.as_ref().and_then(|original| original.fault.after);
        let shortest = told.map_or(wait, |after| after.min(wait));
        let text = "every target of this request has failed lately and is left alone for a moment";
        let fault = Fault::new(FaultKind::Unavailable, text).code("targets_resting");
        let fault = fault.after(Some(shortest.max(SHORTEST_AFTER)));
        self.original = Some(Original { number: self.begun, place: None, fault });
    }

    /// A turn has failed with this, or there was none for a place.
    pub(super) fn note(&mut self, place: Option<usize>, number: u32, fault: Fault) {
        if self.original.as_ref().is_none_or(|original| number < original.number) {
            self.original = Some(Original { number, place, fault });
        }
    }

    /// What the client is told when nothing is left. A provider's failure is told rather than the losses of others:
    /// another try may succeed.
    pub(in crate::executor) fn verdict(&mut self) -> Fault {
        let original = self.original.take().map(|original| original.fault);
        let fault = match (original, self.lossy.take()) {
            (Some(original), Some(lossy)) if original.whose == Whose::Caller => lossy,
            (Some(original), _) => original,
            (None, Some(lossy)) => lossy,
            (None, None) => out_of_time(),
        };
        self.told(fault)
    }

    /// What the client is told when a course ends before its time: as ever, the fault of the target that was asked first.
    /// A fallback may refuse what that one would have taken.
    pub(in crate::executor) fn ended(&mut self, end: End) -> Fault {
        if end.number == 0 {
            return end.fault;
        }
        let original = self.original.take().filter(|original| {
            original.number < end.number && original.place.is_some_and(|place| place != end.place)
        });
        self.told(original.map_or(end.fault, |original| original.fault))
    }

    /// A fault that passes says when to come again.
    fn told(&self, fault: Fault) -> Fault {
        let passes =
            matches!(fault.kind, FaultKind::RateLimited | FaultKind::Overloaded | FaultKind::Unavailable);
        match fault.after {
            None if passes => {
                let shortest = self.resting.iter().map(|resting| resting.wait).min().unwrap_or_default();
                fault.after(Some(shortest.clamp(SHORTEST_AFTER, LONGEST_AFTER)))
            }
            _ => fault,
        }
    }
}

fn out_of_time() -> Fault {
    Fault::new(FaultKind::Timeout(Phase::Total), "the request's deadline passed before any target answered")
}

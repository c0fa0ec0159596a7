//! The immutable whole that requests are served with: swapped at once, never changed.

use std::sync::Arc;
use std::time::Duration;

use crate::executor::Limits;
use crate::planner::Catalogue;
use crate::policy::PolicySet;
use crate::store::Bounds;

/// Configuration, policies and providers of one generation.
pub struct Snapshot {
    /// Content hash of everything that it was built from: 16 hexadecimal digits.
    pub hash: Arc<str>,
    /// Counts up with each snapshot of this process, from 1.
    pub generation: u64,
    /// When it was built, in Unix milliseconds.
    pub built_ms: u64,
    /// What can be named.
    pub catalogue: Catalogue,
    /// The chain of policies.
    pub policies: PolicySet,
    /// Repeats and sizes of attempts.
    pub limits: Limits,
    /// Deadline of a whole request.
    pub total: Duration,
    /// Interval of comments towards the client while the upstream thinks; zero sends none.
    pub keepalive: Duration,
    /// How many answers are kept, and for how long.
    pub kept: Bounds,
    /// Requests in flight in this process.
    pub in_flight: usize,
}

//! What binds requests to the same key: their session, or the beginning of their prompt.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::facts::{Body, beginning};
use crate::providers::{Sticky, Target};

/// What a request has in common with others, hashed; only what a provider of its plan asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bond {
    session: Option<u64>,
    prefix: Option<u64>,
}

impl Bond {
    /// What counts for these targets. `session` is the session, or else the user.
    pub fn gather(targets: &[Target], session: Option<&str>, body: &dyn Body) -> Self {
        let asks = |sticky| targets.iter().any(|target| target.vendor.ring.sticky() == Some(sticky));
        Self {
            session: session.filter(|_| asks(Sticky::Session)).map(|session| hashed(&session)),
            prefix: asks(Sticky::Prefix).then(|| beginning(body)).flatten(),
        }
    }

    pub(super) fn of(&self, sticky: Option<Sticky>) -> Option<u64> {
        match sticky? {
            Sticky::Session => self.session,
            Sticky::Prefix => self.prefix,
        }
    }
}

fn hashed(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

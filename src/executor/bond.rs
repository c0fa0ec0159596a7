//! What binds requests to the same key: their session, or the beginning of their prompt.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::facts::Body;
use crate::providers::{Sticky, Target};

/// How much of a prompt is its beginning, in bytes.
const BEGINNING: usize = 1024;

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
        let prefix = || hashed(&(body.system(), beginning(body.text())));
        Self {
            session: session.filter(|_| asks(Sticky::Session)).map(|session| hashed(&session)),
            prefix: asks(Sticky::Prefix).then(prefix),
        }
    }

    pub(super) fn of(&self, sticky: Option<Sticky>) -> Option<u64> {
        match sticky? {
            Sticky::Session => self.session,
            Sticky::Prefix => self.prefix,
        }
    }
}

fn beginning(text: &str) -> &[u8] {
    text.as_bytes().get(..BEGINNING).unwrap_or(text.as_bytes())
}

fn hashed(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

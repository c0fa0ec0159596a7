//! The loss report: what a translation between dialects could not carry, by JSON path.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

/// One thing that a translation could not carry as it was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Where it stands: `logit_bias`, `messages[2].content[0]`; `answer.…` for a field of the answer.
    pub path: Cow<'static, str>,
    /// What became of it, lowercase: `dropped`, `lowered to 1`.
    pub what: Cow<'static, str>,
}

impl Loss {
    /// Something that has no place in the other dialect.
    pub fn dropped(path: impl Into<Cow<'static, str>>) -> Self {
        Self::new(path, "dropped")
    }

    /// Something that was changed on the way.
    pub fn new(path: impl Into<Cow<'static, str>>, what: impl Into<Cow<'static, str>>) -> Self {
        Self { path: path.into(), what: what.into() }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path, self.what)
    }
}

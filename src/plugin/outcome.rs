//! How a call ended, and what follows where it gave no answer.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::Classification;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It answered.
    Ok,
    /// It ran into an `unreachable`, a wild pointer, the end of its stack, or answered what cannot be.
    Trap,
    /// It used up its time.
    Timeout,
    /// It asked for more memory than it may have.
    Oom,
    /// It said itself that it cannot answer.
    Failure,
    /// All its places were taken for too long.
    Busy,
    /// It trapped too often lately and is not run for now.
    Quarantined,
    /// It is configured, but its file is missing, was refused, or lacks this function.
    Absent,
}

impl Outcome {
    /// All of them, in the order of the declaration.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Trap,
        Self::Timeout,
        Self::Oom,
        Self::Failure,
        Self::Busy,
        Self::Quarantined,
        Self::Absent,
    ];

    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Oom => "oom",
            Self::Failure => "failure",
            Self::Busy => "busy",
            Self::Quarantined => "quarantined",
            Self::Absent => "absent",
        }
    }

    /// Whether this is the plugin's own fault, and a reason not to run it for a while.
    pub fn counts_against(self) -> bool {
        matches!(self, Self::Trap | Self::Timeout | Self::Oom)
    }
}

/// A call that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Called<T> {
    /// The answer, or why there is none.
    pub answer: Result<T, CallFault>,
    /// From the call to its end, the wait for a place included.
    pub took: Duration,
}

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFault {
    /// How it ended; never `ok`.
    pub outcome: Outcome,
    /// The input is outside what the plugin handles: no opinion, and `on_error` does not apply.
    pub unsupported: bool,
    /// What happened, for logs and explanations. Holds no text of the request, unless the plugin itself says some.
    pub message: String,
}

/// What follows where a plugin gives no answer. The gateway carries it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// The request is refused: 503 `plugin_unavailable`; a stream ends with an error.
    Deny,
    /// As if the plugin had no opinion.
    Skip,
    /// All text is replaced.
    RedactAll,
    /// This answer stands in.
    Default(Classification),
}

impl CallFault {
    pub(super) fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self { outcome, unsupported: false, message: message.into() }
    }
}

impl<T> Called<T> {
    /// How the call ended.
    pub fn outcome(&self) -> Outcome {
        self.answer.as_ref().err().map_or(Outcome::Ok, |fault| fault.outcome)
    }
}

impl fmt::Display for CallFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.outcome.as_str(), self.message)
    }
}

impl std::error::Error for CallFault {}

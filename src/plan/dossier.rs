//! All papers of one decision: the record, and what is needed to explain it and to ask other policies the same.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Decision, Divergence, Hook, Record};
use crate::chat::Usage;
use crate::facts::{Reads, Seen};

/// All papers of one decision, as the decision store keeps them: without any text of prompt or answer, unless the
/// configuration wants the prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dossier {
    /// When the request came, in Unix milliseconds.
    pub at_ms: u64,
    /// The record, as it stands in the access log. Its `v` is the version of all of this.
    pub record: Record,
    /// The HTTP status that the client saw.
    pub status: u16,
    /// From the request's head to its end, in milliseconds.
    pub ms: f64,
    /// Time spent in policies, in microseconds.
    pub policy_us: f64,
    /// From the request's head to the first content of a stream, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<f64>,
    /// The code of the error that the client saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<str>>,
    /// What policies could see beyond the record's facts; `None` when the request did not get that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Box<Seen>>,
    /// What they read.
    #[serde(default, skip_serializing_if = "Reads::is_empty")]
    pub reads: Reads,
    /// What plugins said, and how long they took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginAnswer>,
    /// What they decided; `None` when one failed that must not be skipped, or none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Box<Decision>>,
    /// What their hooks behind the decision were asked, and said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later: Vec<Later>,
    /// Why the answer ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Box<str>>,
    /// Policies that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// The plan's deadlines and tries; `None` when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Where a shadow would have decided otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Box<Divergence>>,
}

/// What a hook behind the decision was asked, and what it said: `next_target()`, `reject("code")`, or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "hook", rename_all = "snake_case")]
pub enum Later {
    /// An attempt had failed.
    OnError {
        /// Where it went.
        target: Box<str>,
        /// How many attempts had been made.
        attempt: u32,
        /// What happened.
        kind: Cow<'static, str>,
        /// The provider's status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// How long the provider asked to wait.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// What the hook said.
        said: Box<str>,
    },
    /// An answer was about to go out.
    OnResponse {
        /// Who answered.
        target: Box<str>,
        /// The provider's status.
        status: u16,
        /// Whether it was a stream.
        stream: bool,
        /// What was used, as far as it was known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Box<Usage>>,
        /// Why it ended, as far as it was known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finish: Option<Cow<'static, str>>,
        /// From the request's head to the answer.
        latency_ms: u64,
        /// What the hook said.
        said: Box<str>,
    },
}

impl Later {
    /// The hook.
    pub fn hook(&self) -> Hook {
        match self {
            Self::OnError { .. } => Hook::OnError,
            Self::OnResponse { .. } => Hook::OnResponse,
        }
    }

    /// What it said.
    pub fn said(&self) -> &str {
        match self {
            Self::OnError { said, .. } | Self::OnResponse { said, .. } => said,
        }
    }

    /// Whether the client got a refusal by what was said.
    pub fn refuses(said: &str) -> bool {
        said.starts_with("reject(") || said == "fail()"
    }
}

/// A policy that failed while it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The policy's name.
    pub policy: Arc<str>,
    /// `file:line:column`.
    pub at: Box<str>,
    /// What went wrong.
    pub message: Box<str>,
}

/// The question of the gateway to a guard, about a request.
pub const GUARD_REQUEST: &str = "guard the request";

/// The question of the gateway to a guard, about an answer and its pieces.
pub const GUARD_ANSWER: &str = "guard the answer";

/// What a plugin said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginAnswer {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// What it was asked: `classify`, `inspect`, `route`, or `call` with function and arguments, by policies; [`GUARD_REQUEST`]
    /// or [`GUARD_ANSWER`] by the gateway.
    pub question: Value,
    /// `Ok` with its answer, or `Err` with its failure in words.
    pub reply: Value,
    /// How long it took, in microseconds.
    pub micros: u64,
}

impl PluginAnswer {
    /// Whether a guard said it to the gateway.
    pub fn is_guards(&self) -> bool {
        self.question == GUARD_REQUEST || self.question == GUARD_ANSWER
    }
}

/// What bounded the attempts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// The whole request, in milliseconds.
    pub total_ms: u64,
    /// Each attempt to its first content, in milliseconds, where a policy said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// Tries at the same target beyond the first, where a policy said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

impl Limits {
    /// These bounds.
    pub fn of(total: Duration, first_token: Option<Duration>, retries: Option<u32>) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { total_ms: ms(total), first_token_ms: first_token.map(ms), retries }
    }
}

impl Dossier {
    /// The last target that was tried, which is the one that answered if any did.
    pub fn target(&self) -> Option<&crate::target::TargetName> {
        self.record.attempts.last().map(|attempt| &attempt.target)
    }
}

//! What later hooks see: a failed attempt, an answer, a completed request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rhai::{Array, Dynamic, Engine, ImmutableString};

use crate::chat::Usage;
use crate::fault::{Fault, FaultKind, Phase};
use crate::target::{TargetName, Traits};

/// A target as scripts see it: `res.target.name`, `res.target.region`, `"private" in res.target.tags`.
#[derive(Debug, Clone, Default)]
pub struct SeenTarget(Option<Arc<Known>>);

#[derive(Debug)]
struct Known {
    name: TargetName,
    tags: Vec<Arc<str>>,
    labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// An attempt that failed before the client heard anything: `err`.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// Where it went.
    pub target: SeenTarget,
    /// How many attempts have been made, this one included.
    pub attempt: u32,
    /// What happened.
    pub kind: FaultKind,
    /// The upstream's HTTP status, where there was one.
    pub status: Option<u16>,
    /// How long the upstream asks to wait.
    pub retry_after: Option<Duration>,
}

/// An answer that is about to go to the client: `res`.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Who answers.
    pub target: SeenTarget,
    /// The upstream's HTTP status.
    pub status: u16,
    /// Whether it is a stream, of which only the head is known.
    pub stream: bool,
    /// What was used, where that is known by now.
    pub usage: Option<Usage>,
    /// Finish reason of the first choice in OpenAI's words, where known.
    pub finish: Option<&'static str>,
    /// From the request's head to now.
    pub latency: Duration,
}

/// A request that is over: `out`.
#[derive(Debug, Clone)]
pub struct Completion {
    /// `ok`, `error`, `broken` or `cancelled`.
    pub outcome: &'static str,
    /// The status that the client got.
    pub status: u16,
    /// Who answered, if anybody did.
    pub target: SeenTarget,
    /// Attempts that were made.
    pub attempts: usize,
    /// What was used, where known.
    pub usage: Option<Usage>,
    /// Finish reason of the first choice in OpenAI's words, where known.
    pub finish: Option<&'static str>,
    /// From the request's head to the first content of a stream.
    pub first_token: Option<Duration>,
    /// From the request's head to its last byte.
    pub duration: Duration,
}

impl SeenTarget {
    /// A target of the configuration.
    pub fn of(name: &TargetName, traits: &Traits) -> Self {
        Self(Some(Arc::new(Known {
            name: name.clone(),
            tags: traits.tags.clone(),
            labels: traits.labels.clone(),
        })))
    }

    /// `provider/model`; empty where there is none.
    pub fn shown(&self) -> String {
        self.0.as_ref().map(|known| known.name.to_string()).unwrap_or_default()
    }

    fn name(&mut self) -> Dynamic {
        self.0.as_ref().map_or(Dynamic::UNIT, |known| known.name.to_string().into())
    }

    fn provider(&mut self) -> Dynamic {
        self.0.as_ref().map_or(Dynamic::UNIT, |known| (*known.name.provider).into())
    }

    fn model(&mut self) -> Dynamic {
        self.0.as_ref().map_or(Dynamic::UNIT, |known| (*known.name.model).into())
    }

    fn tags(&mut self) -> Array {
        let known = self.0.iter().flat_map(|known| &known.tags);
        known.map(|tag| Dynamic::from(ImmutableString::from(&**tag))).collect()
    }

    /// `target.region` and `target["region"]`; an empty text where the target has no such label, so that
    /// `target.region.starts_with("eu")` is false for it.
    fn label(&mut self, name: &str) -> ImmutableString {
        let label = self.0.as_ref().and_then(|known| known.labels.get(name));
        label.map_or_else(ImmutableString::new, |value| (&**value).into())
    }

    fn has(&mut self, tag: &str) -> bool {
        self.0.as_ref().is_some_and(|known| {
            known.tags.iter().any(|known| **known == *tag) || known.labels.contains_key(tag)
        })
    }
}

impl FailedAttempt {
    /// The attempt that failed with `fault`.
    pub fn of(target: SeenTarget, attempt: u32, fault: &Fault) -> Self {
        Self { target, attempt, kind: fault.kind, status: fault.status, retry_after: fault.after }
    }

    /// The word of policies for what happened.
    fn kind(&mut self) -> ImmutableString {
        word(self.kind).into()
    }

    fn target(&mut self) -> SeenTarget {
        self.target.clone()
    }

    fn attempt(&mut self) -> i64 {
        self.attempt.into()
    }

    fn status(&mut self) -> Dynamic {
        self.status.map_or(Dynamic::UNIT, |status| i64::from(status).into())
    }

    fn retry_after_ms(&mut self) -> i64 {
        self.retry_after.map_or(0, millis)
    }
}

/// The words of policies for what can happen to an attempt.
pub(super) const KINDS: [&str; 11] = [
    "rate_limit",
    "overloaded",
    "timeout",
    "first_token_timeout",
    "connect",
    "auth",
    "context_length",
    "content_filter",
    "bad_request",
    "server",
    "cancelled",
];

fn word(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::RateLimited | FaultKind::Budget => "rate_limit",
        FaultKind::Overloaded | FaultKind::Unavailable => "overloaded",
        FaultKind::Timeout(Phase::FirstToken) => "first_token_timeout",
        FaultKind::Timeout(Phase::Connect) | FaultKind::Unreachable => "connect",
        FaultKind::Timeout(_) | FaultKind::SlowRequest => "timeout",
        FaultKind::Credentials | FaultKind::Unauthorized | FaultKind::Forbidden => "auth",
        FaultKind::ContextTooLong => "context_length",
        FaultKind::ContentFiltered => "content_filter",
        FaultKind::Cancelled => "cancelled",
        FaultKind::BadRequest
        | FaultKind::NotFound
        | FaultKind::MethodNotAllowed
        | FaultKind::UnsupportedMedia
        | FaultKind::TooLarge
        | FaultKind::Lossy => "bad_request",
        FaultKind::ServerError
        | FaultKind::Malformed
        | FaultKind::Truncated
        | FaultKind::Rejected
        | FaultKind::NoTarget
        | FaultKind::Policy
        | FaultKind::Internal => "server",
    }
}

impl Answer {
    fn target(&mut self) -> SeenTarget {
        self.target.clone()
    }

    fn status(&mut self) -> i64 {
        self.status.into()
    }

    fn stream(&mut self) -> bool {
        self.stream
    }

    fn usage(&mut self) -> Dynamic {
        self.usage.map_or(Dynamic::UNIT, Dynamic::from)
    }

    fn finish(&mut self) -> Dynamic {
        self.finish.map_or(Dynamic::UNIT, Dynamic::from)
    }

    fn latency_ms(&mut self) -> i64 {
        millis(self.latency)
    }
}

impl Completion {
    fn ok(&mut self) -> bool {
        self.outcome == "ok"
    }

    fn outcome(&mut self) -> ImmutableString {
        self.outcome.into()
    }

    fn status(&mut self) -> i64 {
        self.status.into()
    }

    fn target(&mut self) -> SeenTarget {
        self.target.clone()
    }

    fn attempts(&mut self) -> i64 {
        i64::try_from(self.attempts).unwrap_or(i64::MAX)
    }

    fn usage(&mut self) -> Dynamic {
        self.usage.map_or(Dynamic::UNIT, Dynamic::from)
    }

    fn finish(&mut self) -> Dynamic {
        self.finish.map_or(Dynamic::UNIT, Dynamic::from)
    }

    fn first_token_ms(&mut self) -> Dynamic {
        self.first_token.map_or(Dynamic::UNIT, |waited| millis(waited).into())
    }

    fn duration_ms(&mut self) -> i64 {
        millis(self.duration)
    }
}

/// Makes all of it known to scripts.
pub(super) fn register(engine: &mut Engine) {
    engine
        .register_type_with_name::<SeenTarget>("Target")
        .register_get("name", SeenTarget::name)
        .register_get("provider", SeenTarget::provider)
        .register_get("model", SeenTarget::model)
        .register_get("tags", SeenTarget::tags)
        .register_indexer_get(SeenTarget::label)
        .register_fn("contains", SeenTarget::has);
    engine
        .register_type_with_name::<Usage>("Usage")
        .register_get("input", |usage: &mut Usage| whole(usage.prompt()))
        .register_get("output", |usage: &mut Usage| whole(usage.output))
        .register_get("total", |usage: &mut Usage| whole(usage.total()))
        .register_get("cached", |usage: &mut Usage| whole(usage.cached_read))
        .register_get("reasoning", |usage: &mut Usage| whole(usage.reasoning))
        .register_get("estimated", |usage: &mut Usage| usage.estimated);
    engine
        .register_type_with_name::<FailedAttempt>("FailedAttempt")
        .register_get("kind", FailedAttempt::kind)
        .register_get("target", FailedAttempt::target)
        .register_get("attempt", FailedAttempt::attempt)
        .register_get("status", FailedAttempt::status)
        .register_get("retry_after_ms", FailedAttempt::retry_after_ms);
    engine
        .register_type_with_name::<Answer>("Answer")
        .register_get("target", Answer::target)
        .register_get("status", Answer::status)
        .register_get("stream", Answer::stream)
        .register_get("usage", Answer::usage)
        .register_get("finish", Answer::finish)
        .register_get("latency_ms", Answer::latency_ms);
    engine
        .register_type_with_name::<Completion>("Completion")
        .register_get("ok", Completion::ok)
        .register_get("outcome", Completion::outcome)
        .register_get("status", Completion::status)
        .register_get("target", Completion::target)
        .register_get("attempts", Completion::attempts)
        .register_get("usage", Completion::usage)
        .register_get("finish", Completion::finish)
        .register_get("first_token_ms", Completion::first_token_ms)
        .register_get("duration_ms", Completion::duration_ms);
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_one_of_the_words() {
        for (kind, expected) in [
            (FaultKind::RateLimited, "rate_limit"),
            (FaultKind::Overloaded, "overloaded"),
            (FaultKind::Timeout(Phase::FirstByte), "timeout"),
            (FaultKind::Timeout(Phase::FirstToken), "first_token_timeout"),
            (FaultKind::Unreachable, "connect"),
            (FaultKind::Credentials, "auth"),
            (FaultKind::Truncated, "server"),
            (FaultKind::Lossy, "bad_request"),
        ] {
            assert_eq!(word(kind), expected, "{kind:?}");
            assert!(KINDS.contains(&expected), "{expected}");
        }
    }
}

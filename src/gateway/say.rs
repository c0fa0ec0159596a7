//! What policies have to say while a request is carried out: between attempts, and before an answer goes out.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::executor::{Advice, Advising, Answered};
use crate::fault::Fault;
use crate::plan::{Hook, Later, Reaction, Rule, refusal_of};
use crate::planner::{self, Catalogue};
use crate::policy::{Answer, FailedAttempt, RuntimeError, SeenTarget, Session};
use crate::providers::{Relayed, Target};
use crate::target::TargetName;

/// The policies' say in one request.
pub(super) struct Say {
    session: Session,
    at: Instant,
    /// The rule that refused, if one did.
    refused: Mutex<Option<Rule>>,
    /// What was asked, and said.
    heard: Mutex<Vec<Later>>,
}

impl Say {
    /// `None` when no policy has anything to say later.
    pub(super) fn of(session: &Session, at: Instant) -> Option<Arc<Self>> {
        let has = session.has(Hook::OnError) || session.has(Hook::OnResponse);
        has.then(|| {
            Arc::new(Self {
                session: session.clone(),
                at,
                refused: Mutex::default(),
                heard: Mutex::default(),
            })
        })
    }

    /// The rule that refused the request or its answer after it had been decided.
    pub(super) fn refused_by(&self) -> Option<Rule> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What keeps a target out since a policy heard of a failure.
    pub(super) fn exclusion(&self, target: &TargetName, catalogue: &Catalogue) -> Option<String> {
        let traits = &catalogue.vendor(&target.provider)?.traits;
        self.session.exclusion(|constraint| planner::meets(target, traits, constraint))
    }

    /// Takes out what was asked and said.
    pub(super) fn heard(&self) -> Vec<Later> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hear(&self, later: Later) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(later);
    }

    fn note(&self, rule: Option<Rule>, errors: &[RuntimeError]) {
        count(errors);
        if rule.is_some() {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = rule;
        }
    }

    /// Whether an answer may go to the client; `seen` is what policies see of it.
    pub(super) async fn admit(&self, seen: Option<Answer>) -> Result<(), Fault> {
        let Some(answer) = seen else { return Ok(()) };
        let later = |said: String| Later::OnResponse {
            target: answer.target.shown().into(),
            status: answer.status,
            stream: answer.stream,
            usage: answer.usage.map(Box::new),
            finish: answer.finish.map(Into::into),
            latency_ms: u64::try_from(answer.latency.as_millis()).unwrap_or(u64::MAX),
            said: said.into(),
        };
        let said = self.session.on_response(answer.clone()).await;
        self.hear(later(said.what.as_ref().err().map(refusal_of).unwrap_or_default()));
        self.note(said.rule, &said.errors);
        said.what
    }

    /// What policies see of an answer; `None` when none of them wants to.
    pub(super) fn seen(&self, answered: &Answered) -> Option<Answer> {
        if !self.session.has(Hook::OnResponse) {
            return None;
        }
        let seen = |target: &Target| SeenTarget::of(&target.name, &target.vendor.traits);
        let answer = |target: &Target| Answer {
            target: seen(target),
            status: 200,
            stream: false,
            usage: None,
            finish: None,
            latency: self.at.elapsed(),
        };
        Some(match answered {
            Answered::Whole(Relayed { usage, finish, .. }, target) => {
                Answer { usage: *usage, finish: *finish, ..answer(target) }
            }
            Answered::Stream(live) => Answer { stream: true, ..answer(live.target()) },
            Answered::Raw(raw) => Answer { status: raw.status(), ..answer(raw.target()) },
            Answered::Switched(switched) => Answer { status: 101, stream: true, ..answer(&switched.target) },
        })
    }
}

impl Advice for Say {
    fn allows(&self, target: &Target) -> bool {
        self.session.allows(|constraint| planner::meets(&target.name, &target.vendor.traits, constraint))
    }

    fn failed<'a>(&'a self, target: &'a Target, attempt: u32, fault: &'a Fault) -> Option<Advising<'a>> {
        if !self.session.has(Hook::OnError) {
            return None;
        }
        let seen = SeenTarget::of(&target.name, &target.vendor.traits);
        let failed = FailedAttempt::of(seen, attempt, fault);
        Some(Box::pin(async move {
            let said = self.session.on_error(failed).await;
            self.hear(Later::OnError {
                target: target.name.to_string().into(),
                attempt,
                kind: fault.kind.as_str().into(),
                status: fault.status,
                retry_after_ms: fault.after.and_then(|after| u64::try_from(after.as_millis()).ok()),
                said: said.what.shown().into(),
            });
            let refuses = matches!(said.what, Reaction::Refuse(_));
            self.note(said.rule.filter(|_| refuses), &said.errors);
            said.what
        }))
    }
}

/// Counts policies that failed.
pub(super) fn count(errors: &[RuntimeError]) {
    for error in errors {
        metrics::counter!("tollgate_policy_errors_total", "policy" => error.policy.to_string()).increment(1);
    }
}

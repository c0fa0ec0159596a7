//! Where a policy is tried: requests made of data, and the policy's real hooks asked about them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rhai::{Dynamic, Map};

use super::answers::Answers;
use super::events;
use super::lines::Lines;
use super::ruling::Ruling;
use crate::facts::market::Market;
use crate::facts::{Facts, Told};
use crate::fault::Fault;
use crate::plan::{Decision, Reaction, Reject, Rule, Verdict};
use crate::policy::request::{Outcome, Request, fault, json_of};
use crate::policy::{Decided, PolicySet, RuntimeError, Session};

/// The time of every test that tells none: 2026-01-01T12:00:00Z.
const NOON_MS: u64 = 1_767_268_800_000;

/// Policies, and the requests that they are tried on.
pub(super) struct Stage {
    pub(super) set: PolicySet,
    pub(super) market: Arc<dyn Market>,
    pub(super) answers: Arc<Answers>,
    pub(super) lines: Option<Arc<Lines>>,
    sessions: Mutex<Vec<Session>>,
}

impl Stage {
    /// A stage for these policies.
    pub(super) fn new(
        set: PolicySet,
        market: Arc<dyn Market>,
        answers: Arc<Answers>,
        lines: Option<Arc<Lines>>,
    ) -> Self {
        Self { set, market, answers, lines, sessions: Mutex::default() }
    }

    /// The next test begins with nothing.
    pub(super) fn clear(&self) {
        self.sessions().clear();
        self.answers.forget();
    }

    /// A session of a told request, in which nothing shows outside.
    pub(super) fn begin(&self, told: &Told) -> Result<(Session, Arc<Facts>), String> {
        let facts = Arc::new(told.facts(&self.market, NOON_MS)?);
        self.answers.tell(&facts, &told.plugins);
        let session = self.set.begin(&facts);
        session.request.wishes().is_trial = true;
        Ok((session, facts))
    }

    /// Asks the whole set.
    pub(super) fn decide(&self, session: &Session) -> Decided {
        let decided = session.decide_now();
        if let Ok(decision) = &decided.decision {
            self.mark(decision.rule.as_ref());
        }
        decided
    }

    fn mark(&self, rule: Option<&Rule>) {
        if let (Some(lines), Some(rule)) = (&self.lines, rule)
            && let Some(line) = rule.line
        {
            lines.decided(rule.file.as_deref(), &rule.policy, line);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, hook: &str, request: &Request) -> Outcome<Session> {
        if self.set.is_empty() {
            return Err(fault(format!("{hook}: a file below `lib/` has no hooks: call its functions")));
        }
        let sessions = self.sessions();
        let of_request = |session: &&Session| std::ptr::eq(session.request.facts(), request.facts());
        sessions
            .iter()
            .find(of_request)
            .cloned()
            .ok_or_else(|| fault(format!("{hook}: not a request of `mock`")))
    }
}

/// What tests call.
impl Stage {
    /// `mock(#{ model: "auto" })`.
    pub(super) fn mock(&self, fields: Map) -> Outcome<Request> {
        let fields = json_of(&Dynamic::from_map(fields));
        let told = fields.and_then(Told::read).and_then(|told| self.begin(&told));
        let (session, _) = told.map_err(|problem| fault(format!("mock: {problem}")))?;
        let request = session.request.clone();
        self.sessions().push(session);
        Ok(request)
    }

    /// `on_request(req)`: the ruling, or `()` where the policy has no opinion.
    pub(super) fn on_request(&self, request: &Request) -> Outcome<Dynamic> {
        let decided = self.decide(&self.session("on_request", request)?);
        self.succeeded(&decided.errors)?;
        let decision = decided.decision.map_err(|it| fault(it.message.to_string()))?;
        Ok(if decision.verdict.is_some() { Dynamic::from(Ruling::of(decision)) } else { Dynamic::UNIT })
    }

    /// `on_error(req, #{ kind: "rate_limit" })`: the reaction as it is written, or `()`.
    pub(super) fn on_error(&self, request: &Request, failed: Map) -> Outcome<Dynamic> {
        let session = self.session("on_error", request)?;
        let failed = events::failed(&failed, &*self.market).map_err(|it| fault(format!("on_error: {it}")))?;
        let said = now(session.on_error(failed))?;
        self.succeeded(&said.errors)?;
        self.mark(said.rule.as_ref());
        Ok(match said.what {
            Reaction::Usual => Dynamic::UNIT,
            Reaction::NextTarget => "next_target()".into(),
            Reaction::RetryAfter(pause) => format!("retry_after({})", pause.as_millis()).into(),
            Reaction::Fail => "fail()".into(),
            Reaction::Refuse(refusal) => refused(&refusal, said.rule),
        })
    }

    /// `on_response(req, #{ target: "openai/gpt-4o" })`: the refusal, or `()`.
    pub(super) fn on_response(&self, request: &Request, answer: Map) -> Outcome<Dynamic> {
        let session = self.session("on_response", request)?;
        let answer =
            events::answer(&answer, &*self.market).map_err(|it| fault(format!("on_response: {it}")))?;
        let said = now(session.on_response(answer))?;
        self.succeeded(&said.errors)?;
        self.mark(said.rule.as_ref());
        Ok(match said.what {
            Ok(()) => Dynamic::UNIT,
            Err(refusal) => refused(&refusal, said.rule),
        })
    }

    /// `on_complete(req, #{ outcome: "ok" })`.
    pub(super) fn on_complete(&self, request: &Request, over: Map) -> Outcome<()> {
        let session = self.session("on_complete", request)?;
        let over =
            events::completion(&over, &*self.market).map_err(|it| fault(format!("on_complete: {it}")))?;
        let errors = now(session.on_complete(over))?;
        self.succeeded(&errors)
    }

    /// A policy that fails fails its test, also where it is skipped in service.
    fn succeeded(&self, errors: &[RuntimeError]) -> Outcome<()> {
        let Some(error) = errors.first() else { return Ok(()) };
        let column = self
            .lines
            .as_ref()
            .map_or(error.column, |lines| lines.column(&error.file, error.line, error.column));
        let error = RuntimeError { column, ..error.clone() };
        Err(fault(format!("the policy failed: {error}")))
    }
}

/// Nothing is waited for in a test: plugins answer from what is told.
fn now<T>(asking: impl Future<Output = T>) -> Outcome<T> {
    match std::pin::pin!(asking).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(said) => Ok(said),
        Poll::Pending => Err(fault("the policy waits for something that a test does not have")),
    }
}

fn refused(refusal: &Fault, rule: Option<Rule>) -> Dynamic {
    let reject = Reject {
        status: refusal.client_status(),
        code: refusal.code_str().into(),
        message: (&*refusal.message).into(),
    };
    let decision = Decision { verdict: Some(Verdict::Reject(reject)), rule, ..Decision::default() };
    Dynamic::from(Ruling::of(decision))
}

//! A recorded decision, asked of a set of policies again.

use std::sync::Arc;
use std::time::Duration;

use super::{Answer, Answered, FailedAttempt, PolicySet, SeenTarget, Session};
use crate::facts::market::Market;
use crate::facts::{Noted, Past};
use crate::fault::TABLE;
use crate::plan::{
    AttemptRecord, Decision, Dossier, Failure, Hook, Later, Outcome, PluginAnswer, Role, refusal_of,
};
use crate::target::TargetName;

/// What a set of policies says of a recorded request.
#[derive(Debug)]
pub struct Replayed {
    /// Its decision; `None` where a policy failed that must not be skipped.
    pub decision: Option<Decision>,
    /// Policies that failed.
    pub failures: Vec<Failure>,
    /// The first hook behind the decision that says something else than it did.
    pub turn: Option<Turn>,
    /// What the policies asked that nobody wrote down: then the decision is worth nothing.
    pub missed: Vec<String>,
}

/// A hook behind the decision that says something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Which.
    pub hook: Hook,
    /// What was said, as it is written; empty where nobody had an opinion.
    pub before: String,
    /// What would be said.
    pub after: String,
}

/// How far a decision is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// It is the same.
    None,
    /// Another rule decided the same.
    Rule,
    /// Something else is done: another route, a refusal, other constraints, tags or limits.
    Act,
}

/// Asks `policies` about a recorded request; `None` where the request never got as far as the policies. `today` has the
/// targets and prices of the configuration; with `fresh_prices` its prices count, otherwise those of the record. `known`
/// says what the configuration knows of a target.
///
/// Where the same is decided, the attempts and the answer were those of the record, and so the hooks behind the decision
/// are asked about them, too.
pub fn replay(
    policies: &PolicySet,
    dossier: &Dossier,
    today: &Arc<dyn Market>,
    fresh_prices: bool,
    known: &dyn Fn(&TargetName) -> SeenTarget,
) -> Option<Replayed> {
    let (record, seen) = (dossier.record.facts.clone()?, dossier.seen.as_deref()?.clone());
    let id = dossier.record.request_id.clone();
    let past = seen.visited.clone();
    let (mut facts, notes) = Noted::facts(id, dossier.at_ms, record, seen, dossier.reads.clone());
    facts.market = Arc::new(Past::new(past, today.clone(), notes.clone(), fresh_prices));
    let answers = dossier.plugins.iter().filter_map(|answer| {
        let value = serde_json::to_value(answer).ok()?;
        serde_json::from_value::<Answered>(value).ok()
    });
    let session = policies.begin_with(&Arc::new(facts), answers.collect());
    let decided = session.decide_now();
    let mut failures: Vec<Failure> = decided.errors.iter().map(Into::into).collect();
    let decision = decided.decision.ok();
    let same = difference(dossier.decision.as_deref(), decision.as_ref()) != Difference::Act;
    let turn = if same && decision.is_some() { turn(&session, dossier, known, &mut failures) } else { None };
    Some(Replayed { decision, failures, turn, missed: notes.missed() })
}

/// Asks the hooks behind the decision what they were asked then, up to the first that says something else.
fn turn(
    session: &Session,
    dossier: &Dossier,
    known: &dyn Fn(&TargetName) -> SeenTarget,
    failures: &mut Vec<Failure>,
) -> Option<Turn> {
    let target = |name: &str| TargetName::parse(name).map(|name| known(&name)).unwrap_or_default();
    for asked in then_asked(session, dossier) {
        let (after, errors) = match &asked {
            Later::OnError { target: name, attempt, kind, status, retry_after_ms, .. } => {
                let said = session.on_error_now(FailedAttempt {
                    target: target(name),
                    attempt: *attempt,
                    kind: TABLE.iter().find(|row| row.word == kind)?.kind,
                    status: *status,
                    retry_after: retry_after_ms.map(Duration::from_millis),
                });
                (said.what.shown(), said.errors)
            }
            Later::OnResponse { target: name, status, stream, usage, finish, latency_ms, .. } => {
                let said = session.on_response_now(Answer {
                    target: target(name),
                    status: *status,
                    stream: *stream,
                    usage: usage.as_deref().copied(),
                    finish: finish.as_deref().and_then(finish_word),
                    latency: Duration::from_millis(*latency_ms),
                });
                (said.what.as_ref().err().map(refusal_of).unwrap_or_default(), said.errors)
            }
        };
        failures.extend(errors.iter().map(Failure::from));
        if after != asked.said() {
            return Some(Turn { hook: asked.hook(), before: asked.said().to_owned(), after });
        }
    }
    None
}

/// What the hooks were asked; where no policy had such a hook then, what it would have been asked.
fn then_asked(session: &Session, dossier: &Dossier) -> Vec<Later> {
    let lacks = |hook| session.has(hook) && !dossier.later.iter().any(|later| later.hook() == hook);
    let mut asked = Vec::new();
    // Streams that broke and went on, and targets that raced, do not tell which attempts were failures before the answer.
    let plain = |attempt: &AttemptRecord| matches!(attempt.role, Role::Primary | Role::Retry);
    let attempts = &dossier.record.attempts;
    let told = attempts.iter().all(plain) && dossier.record.outcome != Outcome::Broken;
    if lacks(Hook::OnError) && told {
        let failed = attempts
            .iter()
            .filter(|attempt| !matches!(&*attempt.outcome, "ok" | "cancelled" | "lossy_translation"));
        asked.extend((1..).zip(failed).map(|(number, attempt)| Later::OnError {
            target: attempt.target.to_string().into(),
            attempt: number,
            kind: attempt.outcome.clone(),
            status: attempt.status,
            retry_after_ms: None,
            said: "".into(),
        }));
    }
    asked.extend(dossier.later.iter().cloned());
    let stream = dossier.record.facts.as_ref().is_some_and(|facts| facts.stream);
    let answered = attempts.iter().rev().find(|attempt| attempt.outcome == "ok");
    if lacks(Hook::OnResponse)
        && let Some(answered) = answered
    {
        let waited = if stream { dossier.first_token_ms.unwrap_or(dossier.ms) } else { dossier.ms };
        asked.push(Later::OnResponse {
            target: answered.target.to_string().into(),
            status: answered.status.unwrap_or(200),
            stream,
            usage: dossier.record.usage.filter(|_| !stream).map(Box::new),
            finish: dossier.finish.as_deref().filter(|_| !stream).map(|word| word.to_owned().into()),
            latency_ms: Duration::try_from_secs_f64(waited / 1e3)
                .map_or(0, |waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)),
            said: "".into(),
        });
    }
    asked
}

/// The words for why an answer ended.
fn finish_word(word: &str) -> Option<&'static str> {
    ["stop", "length", "tool_calls", "content_filter"].into_iter().find(|known| *known == word)
}

/// Compares two decisions by what they would do. What dice decide later does not count, nor the line on which a rule
/// stands.
pub fn difference(old: Option<&Decision>, new: Option<&Decision>) -> Difference {
    let (old, new) = match (old, new) {
        (None, None) => return Difference::None,
        (Some(old), Some(new)) => (old, new),
        _ => return Difference::Act,
    };
    if nameless(old) != nameless(new) {
        return Difference::Act;
    }
    let name =
        |decision: &Decision| decision.rule.as_ref().map(|rule| (rule.policy.clone(), rule.name.clone()));
    if name(old) == name(new) { Difference::None } else { Difference::Rule }
}

/// The decision without the names of its rules, and without the scores that led to it.
fn nameless(decision: &Decision) -> Decision {
    let mut decision = Decision { rule: None, set_by: Vec::new(), rankings: Vec::new(), ..decision.clone() };
    if let Some(crate::plan::Verdict::Route(route)) = &mut decision.verdict {
        route.name = None;
        // As records of sticky splits had it before the others were kept.
        route.steps = route.fallen().into_owned();
        route.sticky.clear();
    }
    decision
}

impl From<&Answered> for PluginAnswer {
    fn from(answered: &Answered) -> Self {
        Self {
            plugin: answered.plugin.clone(),
            question: serde_json::to_value(&answered.question).unwrap_or_default(),
            reply: serde_json::to_value(&answered.reply).unwrap_or_default(),
            micros: answered.micros,
        }
    }
}

impl From<&super::RuntimeError> for Failure {
    fn from(error: &super::RuntimeError) -> Self {
        Self {
            policy: error.policy.clone(),
            at: format!("{}:{}:{}", error.file.display(), error.line, error.column).into(),
            message: error.message.as_str().into(),
        }
    }
}

//! `plugin("name")` in scripts: questions to plugins, answered from the memo, at once, or by evaluating again.
//!
//! Scripts are synchronous and plugins are not. A question that is not answered yet is asked and polled once; if the
//! answer is not ready, the evaluation is abandoned by an error that scripts cannot catch, the session awaits the
//! answer, and evaluates again. No thread waits, and the memo is all that a replay needs.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rhai::{Array, Dynamic, EvalAltResult, ImmutableString, Map, NativeCallContext};

use super::engine::{self, Host};
use super::memo::{MAX_QUESTIONS, Waiting, answered};
use super::plugins::{Finding, Plan, Question, Reply};
use super::request::{Outcome, Request, fault, json_of, value_of};
use super::verdict::{Rejection, Route};
use crate::plan::{self, Hedge, Late, Manner, Step};
use crate::plugin::Segment;

/// `plugin("intent")`.
#[derive(Clone)]
pub(super) struct Handle(Arc<str>);

/// What a classifier said: `kind.top`, `kind.score`, `kind.labels`.
#[derive(Clone)]
pub(super) struct Classes(Arc<Said>);

struct Said {
    labels: Vec<(String, f64)>,
    attributes: Vec<(String, String)>,
}

/// What a guard said: `findings.any(["email"])`, `findings.kinds`.
#[derive(Clone)]
pub(super) struct Findings {
    pub(super) found: Arc<Vec<Finding>>,
    refused: Option<(ImmutableString, ImmutableString)>,
}

impl Handle {
    /// The plugin of this name, if it is configured.
    pub(super) fn named(host: &Host, name: &str) -> Outcome<Self> {
        let known = host.plugins.names();
        if known.iter().any(|plugin| plugin == name) {
            return Ok(Self(name.into()));
        }
        Err(fault(unknown(name, &known)))
    }

    /// As the configuration calls it.
    pub(super) fn name(&self) -> Arc<str> {
        self.0.clone()
    }

    pub(super) fn classify(&self, host: &Host, request: &Request) -> Outcome<Classes> {
        match self.ask(host, request, Question::Classify)? {
            Reply::Classes { labels, attributes } => Ok(Classes(Arc::new(Said { labels, attributes }))),
            _ => Err(self.strange("classify")),
        }
    }

    pub(super) fn inspect(&self, host: &Host, request: &Request) -> Outcome<Findings> {
        match self.ask(host, request, Question::Inspect)? {
            Reply::Findings { findings, reject } => Ok(Findings {
                found: Arc::new(located(findings, request)),
                refused: reject.map(|(code, message)| (code.into(), message.into())),
            }),
            _ => Err(self.strange("inspect")),
        }
    }

    /// What the router wants, as a verdict that a hook can return; `()` when it has no opinion.
    pub(super) fn route(
        &self,
        context: &NativeCallContext<'_>,
        host: &Host,
        request: &Request,
    ) -> Outcome<Dynamic> {
        match self.ask(host, request, Question::Route)? {
            Reply::Pass => Ok(Dynamic::UNIT),
            Reply::Plan(plan) => Ok(Dynamic::from(self.planned(plan)?.at(context))),
            Reply::Reject(status, code, message) => {
                let rejection = Rejection::new(&i64::from(status).into(), &code.into(), &message.into())?;
                Ok(Dynamic::from(rejection.at(context)))
            }
            _ => Err(self.strange("route")),
        }
    }

    pub(super) fn call(
        &self,
        host: &Host,
        context: &NativeCallContext<'_>,
        function: &str,
        arguments: &Dynamic,
    ) -> Outcome<Dynamic> {
        let request = context.tag().and_then(Request::of);
        let request = request.ok_or_else(|| fault("call: works only inside of a hook"))?;
        let arguments = json_of(arguments).map_err(|problem| fault(format!("call: {problem}")))?;
        let question = Question::Call { function: function.to_owned(), arguments: arguments.to_string() };
        match self.ask(host, &request, question)? {
            Reply::Json(text) => serde_json::from_str(&text)
                .map(|value| value_of(&value))
                .map_err(|_| fault(format!("plugin `{}`: `{function}` answered no JSON", self.0))),
            _ => Err(self.strange("call")),
        }
    }

    fn planned(&self, plan: Plan) -> Outcome<Route> {
        let step = |choices: Vec<(String, f64)>| Step {
            choices: choices.into_iter().map(|(target, weight)| (target.into(), weight)).collect(),
        };
        let steps: Vec<Step> = plan.steps.into_iter().map(step).collect();
        if !steps.iter().any(|step| !step.choices.is_empty()) {
            return Err(fault(format!("plugin `{}`: its plan names no target", self.0)));
        }
        let time = |ms: u32| Duration::from_millis(ms.into());
        let manner = Manner {
            hedge: plan.hedge_after_ms.map(|ms| Hedge::after(Late::After(time(ms)))),
            attempt: plan.timeout_ms.map(time),
            ..Manner::default()
        };
        let retries = plan.retries.map(|tries| tries.min(10));
        let route = plan::Route { steps, retries, manner, ..plan::Route::default() };
        let tags = plan.tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let route = Route::planned(route, tags);
        plan.set.iter().try_fold(route, |route, (name, json)| {
            let value = serde_json::from_str(json).map_err(|_| {
                fault(format!("plugin `{}`: its plan sets `{name}` to what is no JSON", self.0))
            })?;
            route.set(name, &value_of(&value))
        })
    }

    /// The answer: known, or ready at once. Otherwise the evaluation ends here, and begins anew when it has come.
    fn ask(&self, host: &Host, request: &Request, question: Question) -> Outcome<Reply> {
        let known = {
            let memo = request.memo();
            if memo.is_waiting() {
                return Err(engine::ended());
            }
            if memo.is_full() && memo.find(&self.0, &question).is_none() {
                return Err(fault(format!(
                    "a policy may ask plugins {MAX_QUESTIONS} questions about a request"
                )));
            }
            memo.find(&self.0, &question).cloned()
        };
        let reply = match known {
            Some(reply) => reply,
            None => self.ask_now(host, request, question)?,
        };
        match reply {
            Ok(Reply::Closed(problem)) | Err(problem) => {
                Err(fault(format!("plugin `{}`: {problem}", self.0)))
            }
            Ok(reply) => Ok(reply),
        }
    }

    fn ask_now(&self, host: &Host, request: &Request, question: Question) -> Outcome<Result<Reply, String>> {
        let began = Instant::now();
        if let Some(notes) = request.facts().body.notes() {
            notes.miss(&format!("plugin({:?}).{}", self.0, question.word()));
            return Ok(Err("its answer was not recorded".to_owned()));
        }
        let mut asking = host.plugins.ask(&self.0, &question, &request.about());
        // The session polls again with a waker of its own, if this is not the end of it.
        let polled = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        engine::excuse(began.elapsed());
        match polled {
            Poll::Ready(reply) => {
                request.memo().keep(answered(Arc::clone(&self.0), question, reply.clone(), began));
                Ok(reply)
            }
            Poll::Pending => {
                request.memo().wait(Waiting { plugin: Arc::clone(&self.0), question, asking, began });
                Err(engine::ended())
            }
        }
    }

    fn strange(&self, function: &str) -> Box<EvalAltResult> {
        fault(format!("plugin `{}` gave `{function}` an answer of another kind", self.0))
    }
}

/// Findings with what was found, cut out of the piece of the request that they name.
fn located(mut findings: Vec<Finding>, request: &Request) -> Vec<Finding> {
    let unknown: Vec<&mut Finding> = findings.iter_mut().filter(|finding| finding.text.is_none()).collect();
    if unknown.is_empty() {
        return findings;
    }
    let pieces = Segment::all_of(request.facts());
    for finding in unknown {
        let piece = pieces.iter().find(|piece| piece.id == finding.segment);
        let ends = usize::try_from(finding.start).ok().zip(usize::try_from(finding.end).ok());
        finding.text =
            piece.zip(ends).and_then(|(piece, (start, end))| Some(piece.text.get(start..end)?.to_owned()));
    }
    findings
}

/// Why there is no such plugin, and which there are.
pub(super) fn unknown(name: &str, known: &[String]) -> String {
    if known.is_empty() {
        return format!("unknown plugin `{name}`: there are no plugins under `plugins:`");
    }
    let hint = super::suggest::hint(name, known.iter().map(String::as_str));
    format!("unknown plugin `{name}`{hint}; plugins: {}", known.join(", "))
}

impl Classes {
    pub(super) fn top(&mut self) -> ImmutableString {
        self.0.labels.first().map_or_else(|| "unknown".into(), |(label, _)| label.as_str().into())
    }

    pub(super) fn score(&mut self) -> f64 {
        self.0.labels.first().map_or(0.0, |(_, score)| *score)
    }

    /// Scores by label.
    pub(super) fn labels(&mut self) -> Map {
        self.0.labels.iter().map(|(label, score)| (label.as_str().into(), Dynamic::from(*score))).collect()
    }

    pub(super) fn attributes(&mut self) -> Map {
        let pair = |(name, value): &(String, String)| (name.as_str().into(), value.as_str().into());
        self.0.attributes.iter().map(pair).collect()
    }
}

impl Findings {
    /// Each kind once, in the order found.
    pub(super) fn kinds(&mut self) -> Array {
        let mut kinds: Vec<&str> = Vec::new();
        for finding in self.found.iter() {
            if !kinds.contains(&finding.kind.as_str()) {
                kinds.push(&finding.kind);
            }
        }
        kinds.into_iter().map(|kind| ImmutableString::from(kind).into()).collect()
    }

    pub(super) fn len(&mut self) -> i64 {
        i64::try_from(self.found.len()).unwrap_or(i64::MAX)
    }

    pub(super) fn any(&mut self, kinds: Array) -> bool {
        !self.first(kinds).is_unit()
    }

    /// The first of these kinds that was found.
    pub(super) fn first(&mut self, kinds: Array) -> Dynamic {
        let found = |kind: &&Dynamic| {
            kind.as_immutable_string_ref().is_ok_and(|kind| self.found.iter().any(|f| f.kind == *kind))
        };
        kinds.iter().find(found).cloned().unwrap_or(Dynamic::UNIT)
    }

    /// Whether the guard wants the request refused.
    pub(super) fn rejected(&mut self) -> bool {
        self.refused.is_some()
    }

    pub(super) fn code(&mut self) -> Dynamic {
        self.refused.as_ref().map_or(Dynamic::UNIT, |(code, _)| code.clone().into())
    }

    pub(super) fn message(&mut self) -> Dynamic {
        self.refused.as_ref().map_or(Dynamic::UNIT, |(_, message)| message.clone().into())
    }
}

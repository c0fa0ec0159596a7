//! One request's way through the policies, from the decision to its completion.
//!
//! The session keeps the snapshot's policies, the tags and constraints that they put on the request, and what plugins
//! have said of it. A hook that has to wait for a plugin is evaluated again when the answer has come.

use std::sync::Arc;

use rhai::Dynamic;

use super::compile::Policy;
use super::engine;
use super::error::RuntimeError;
use super::hook::Opinion;
use super::memo::{Answered, Memo, Waiting};
use super::plugins::{Question, Reply};
use super::request::Request;
use super::seen::{Answer, Completion, FailedAttempt};
use super::settings::OnError;
use super::side_road;
use super::wishes::Mark;
use super::{Chain, Decided};
use crate::facts::{Facts, Reads};
use crate::fault::{Fault, FaultKind};
use crate::plan::{Constraint, Decision, Excluded, Hook, OutputRules, Reaction, Rule, SetBy, Verdict};

/// Evaluations of one file for one hook: each beyond the first because a plugin had to be waited for.
const MAX_ROUNDS: usize = 16;

/// One request's way through the policies. Cloning is counting.
#[derive(Clone)]
pub struct Session {
    chain: Arc<Chain>,
    pub(super) request: Request,
}

/// What a hook that may refuse said.
#[derive(Debug, Default)]
pub struct Said<T> {
    /// What is to happen.
    pub what: T,
    /// The rule that said so; `None` when no policy had an opinion.
    pub rule: Option<Rule>,
    /// Policies that failed, already logged; the caller counts them.
    pub errors: Vec<RuntimeError>,
}

/// How far an evaluation of the chain has come.
struct Walk {
    hook: Hook,
    second: Dynamic,
    /// The policy that is next.
    at: usize,
    /// Evaluations of that policy so far.
    rounds: usize,
    errors: Vec<RuntimeError>,
    /// Whether an evaluation that takes long may go on elsewhere.
    on_worker: bool,
    /// What came of one that did.
    elsewhere: Option<(Mark, Result<Opinion, RuntimeError>)>,
}

/// Why an evaluation was given up, to begin anew.
enum Pause {
    /// A plugin has to be waited for.
    Plugin(Box<Waiting>),
    /// It takes long: it goes on beside the worker.
    Slow,
}

/// How a walk ended.
enum End<'a> {
    /// Nobody had an opinion.
    Through,
    /// This policy had one.
    Opinion(&'a Policy, Opinion),
    /// A policy failed that must not be skipped.
    Denied(&'a Policy),
    /// A plugin failed that this policy asked, and without whose answer the request is refused.
    Closed(&'a Policy, Arc<str>),
}

impl Session {
    pub(super) fn new(chain: Arc<Chain>, facts: Arc<Facts>, known: Vec<Answered>) -> Self {
        Self { chain, request: Request::new(facts, Memo::of(known)) }
    }

    /// The same without effect: nothing is written, counted or logged, and what was asked `earlier` of what is kept
    /// between requests is answered as it was then.
    pub(super) fn in_silence(self, earlier: Reads) -> Self {
        let Self { chain, request } = self;
        request.wishes().is_silent = true;
        Self { chain, request: request.after(earlier) }
    }

    /// What is known of the request.
    pub fn facts(&self) -> &Facts {
        self.request.facts()
    }

    /// Whether any policy has this hook: if not, nothing needs to be gathered for it.
    pub fn has(&self, hook: Hook) -> bool {
        self.chain.has(hook)
    }

    /// Asks the policies in order until one gives a verdict.
    pub async fn decide(&self) -> Decided {
        if !self.has(Hook::OnRequest) {
            return Decided {
                decision: Ok(Decision::default()),
                errors: Vec::new(),
                reads: Reads::default(),
            };
        }
        self.ask_ahead().await;
        let mut walk = Walk::new(Hook::OnRequest, Dynamic::UNIT);
        loop {
            match self.advance(&mut walk) {
                Ok(end) => return self.decided(end, walk.errors),
                Err(pause) => self.wait(pause, &mut walk).await,
            }
        }
    }

    /// Asks the classifiers that are to be asked before the policies run. What is recorded is not asked again.
    async fn ask_ahead(&self) {
        let Some(host) = self.chain.policies.first().map(|policy| &policy.host) else { return };
        for plugin in host.plugins.ahead() {
            let question = Question::Classify;
            let is_known = self.request.memo().find(plugin, &question).is_some();
            if is_known || self.request.facts().body.notes().is_some() {
                continue;
            }
            let asking = host.plugins.ask(plugin, &question, &self.request.about());
            let waiting =
                Waiting { plugin: plugin.clone(), question, asking, began: std::time::Instant::now() };
            let answered = waiting.answer().await;
            // A refusal is for policies that ask themselves.
            if !matches!(answered.reply, Ok(Reply::Closed(_))) {
                self.request.memo().keep(answered);
            }
        }
    }

    /// As [`Session::decide`], for those who have no time to wait: a policy whose plugin is not ready fails.
    pub fn decide_now(&self) -> Decided {
        let mut walk = Walk::new(Hook::OnRequest, Dynamic::UNIT);
        let end = self.walk_now(&mut walk);
        self.decided(end, walk.errors)
    }

    /// As [`Session::on_error`], for those who have no time to wait.
    pub fn on_error_now(&self, failed: FailedAttempt) -> Said<Reaction> {
        let mut walk = Walk::new(Hook::OnError, Dynamic::from(failed));
        let end = self.walk_now(&mut walk);
        self.reacted(end, walk.errors)
    }

    /// As [`Session::on_response`], for those who have no time to wait.
    pub fn on_response_now(&self, answer: Answer) -> Said<Result<(), Fault>> {
        let mut walk = Walk::new(Hook::OnResponse, Dynamic::from(answer));
        let end = self.walk_now(&mut walk);
        self.judged(end, walk.errors)
    }

    /// An attempt failed before the client heard anything: what to do now.
    pub async fn on_error(&self, failed: FailedAttempt) -> Said<Reaction> {
        if !self.has(Hook::OnError) {
            return Said::default();
        }
        let mut walk = Walk::new(Hook::OnError, Dynamic::from(failed));
        let end = self.walk(&mut walk).await;
        self.reacted(end, walk.errors)
    }

    fn reacted(&self, end: End<'_>, errors: Vec<RuntimeError>) -> Said<Reaction> {
        let (what, rule) = match end {
            End::Through => (Reaction::Usual, None),
            End::Opinion(policy, Opinion::React(reaction)) => {
                (reaction, Some(policy.rule(Hook::OnError, None, None)))
            }
            End::Opinion(policy, Opinion::Reject(it)) => {
                let rule = policy.rule(Hook::OnError, it.at.as_ref(), it.name);
                self.request.add_tags(it.tags);
                (Reaction::Refuse(Box::new(it.reject.fault())), Some(rule))
            }
            End::Closed(policy, plugin) => (
                Reaction::Refuse(Box::new(unavailable(&plugin))),
                Some(policy.rule(Hook::OnError, None, None)),
            ),
            End::Denied(policy) => {
                let fault = Fault::new(FaultKind::Policy, "a policy failed on this request");
                (Reaction::Refuse(Box::new(fault)), Some(policy.rule(Hook::OnError, None, None)))
            }
            End::Opinion(..) => (Reaction::Usual, None),
        };
        Said { what, rule, errors }
    }

    /// A whole answer is here, or the head of a stream: `Err` when it must not go to the client.
    pub async fn on_response(&self, answer: Answer) -> Said<Result<(), Fault>> {
        if !self.has(Hook::OnResponse) {
            return Said { what: Ok(()), rule: None, errors: Vec::new() };
        }
        let mut walk = Walk::new(Hook::OnResponse, Dynamic::from(answer));
        let end = self.walk(&mut walk).await;
        self.judged(end, walk.errors)
    }

    fn judged(&self, end: End<'_>, errors: Vec<RuntimeError>) -> Said<Result<(), Fault>> {
        let (what, rule) = match end {
            End::Opinion(policy, Opinion::Reject(it)) => {
                let rule = policy.rule(Hook::OnResponse, it.at.as_ref(), it.name);
                self.request.add_tags(it.tags);
                (Err(it.reject.fault()), Some(rule))
            }
            End::Closed(policy, plugin) => {
                (Err(unavailable(&plugin)), Some(policy.rule(Hook::OnResponse, None, None)))
            }
            End::Denied(policy) => {
                let rule = policy.rule(Hook::OnResponse, None, None);
                (Err(Fault::new(FaultKind::Policy, "a policy failed on this answer")), Some(rule))
            }
            End::Through | End::Opinion(..) => (Ok(()), None),
        };
        Said { what, rule, errors }
    }

    /// The last byte is out and the request is settled. The policies that failed, already logged.
    pub async fn on_complete(&self, completion: Completion) -> Vec<RuntimeError> {
        if !self.has(Hook::OnComplete) {
            return Vec::new();
        }
        let mut walk = Walk::new(Hook::OnComplete, Dynamic::from(completion));
        loop {
            // Nobody's opinion ends this walk, and nobody's failure.
            match self.walk(&mut walk).await {
                End::Denied(_) | End::Closed(..) => {}
                End::Through | End::Opinion(..) => return walk.errors,
            }
        }
    }

    /// Whether the constraints that hold by now allow a target: `meets` says whether one applies to it.
    pub fn allows(&self, meets: impl Fn(&Constraint) -> bool) -> bool {
        let wishes = self.request.wishes();
        Excluded::among(&wishes.require, &wishes.avoid, &[], meets).is_none()
    }

    /// Why the constraints that hold by now leave a target out, with the rules that set them.
    pub fn exclusion(&self, meets: impl Fn(&Constraint) -> bool) -> Option<String> {
        let wishes = self.request.wishes();
        let excluded = Excluded::among(&wishes.require, &wishes.avoid, &wishes.set_by, meets);
        excluded.map(|it| it.reason())
    }

    /// Where constraints and limits of the answer were set so far.
    pub fn set_by(&self) -> Vec<SetBy> {
        self.request.wishes().set_by.clone()
    }

    /// What holds of the output by now.
    pub fn output(&self) -> OutputRules {
        self.request.wishes().output.clone()
    }

    /// Tags that policies have put on the request so far.
    pub fn tags(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.request.wishes().tags.clone()
    }

    /// What plugins were asked so far, and what they said.
    pub fn asked(&self) -> Vec<Answered> {
        self.request.memo().answers().to_vec()
    }

    /// Takes out what the policies read since this was asked last.
    pub fn reads(&self) -> Reads {
        self.request.reads()
    }

    async fn walk(&self, walk: &mut Walk) -> End<'_> {
        loop {
            match self.advance(walk) {
                Ok(end) => return end,
                Err(pause) => self.wait(pause, walk).await,
            }
        }
    }

    /// Without waiting for anybody: a plugin that is not ready has no answer.
    fn walk_now(&self, walk: &mut Walk) -> End<'_> {
        walk.on_worker = false;
        loop {
            match self.advance(walk) {
                Ok(end) => return end,
                // Nobody waits behind it.
                Err(Pause::Slow) => {}
                Err(Pause::Plugin(waiting)) => {
                    let Waiting { plugin, question, began, .. } = *waiting;
                    let reply: Result<Reply, String> = Err("its answer is not known".to_owned());
                    self.request.memo().keep(super::memo::answered(plugin, question, reply, began));
                }
            }
        }
    }

    async fn wait(&self, pause: Pause, walk: &mut Walk) {
        match pause {
            Pause::Plugin(waiting) => {
                let answered = waiting.answer().await;
                self.request.memo().keep(answered);
            }
            Pause::Slow => walk.elsewhere = self.elsewhere(walk).await,
        }
    }

    /// Begins the evaluation anew, beside the workers.
    async fn elsewhere(&self, walk: &Walk) -> Option<(Mark, Result<Opinion, RuntimeError>)> {
        let policy = self.chain.policies.get(walk.at)?.clone();
        let mark = self.request.wishes().begin(walk.hook);
        let (theirs, request, hook, second) =
            (policy.clone(), self.request.clone(), walk.hook, walk.second.clone());
        let said = side_road::evaluate(move || theirs.ask(hook, &request, &second)).await;
        Some((mark, said.unwrap_or_else(|| Err(policy.too_slow(walk.hook)))))
    }

    /// Goes on along the chain until somebody has an opinion or has to wait.
    fn advance(&self, walk: &mut Walk) -> Result<End<'_>, Pause> {
        while let Some(policy) = self.chain.policies.get(walk.at) {
            if !policy.has(walk.hook) {
                walk.at += 1;
                continue;
            }
            let (mark, said) = match walk.elsewhere.take() {
                Some((mark, said)) => (mark, said),
                None => {
                    let mark = self.request.wishes().begin(walk.hook);
                    engine::be_patient(walk.on_worker.then_some(side_road::PATIENCE));
                    let said = policy.ask(walk.hook, &self.request, &walk.second);
                    if engine::be_patient(None) {
                        self.request.memo().take_waiting();
                        self.request.wishes().rewind(mark);
                        return Err(Pause::Slow);
                    }
                    (mark, said)
                }
            };
            if let Some(waiting) = self.request.memo().take_waiting() {
                self.request.wishes().rewind(mark);
                walk.rounds += 1;
                if walk.rounds < MAX_ROUNDS {
                    return Err(Pause::Plugin(Box::new(waiting)));
                }
            }
            let said = if walk.rounds < MAX_ROUNDS { said } else { Err(policy.too_many_rounds(walk.hook)) };
            walk.rounds = 0;
            walk.at += 1;
            policy.carry_out(&self.request);
            let closed = self.request.memo().closed();
            match said {
                // Also a script that caught the failure goes no further.
                Ok(_) if let Some(plugin) = &closed => return Ok(End::Closed(policy, plugin.clone())),
                Ok(Opinion::None) => {}
                Ok(opinion) => return Ok(End::Opinion(policy, opinion)),
                Err(error) => {
                    if !self.request.wishes().is_mute() {
                        policy.host.journal.failed(&error, &self.request.facts().request_id);
                    }
                    walk.errors.push(error);
                    if let Some(plugin) = closed {
                        return Ok(End::Closed(policy, plugin));
                    }
                    if policy.on_error == OnError::Deny {
                        return Ok(End::Denied(policy));
                    }
                }
            }
        }
        Ok(End::Through)
    }

    fn decided(&self, end: End<'_>, errors: Vec<RuntimeError>) -> Decided {
        let mut decision = Decision::default();
        match end {
            End::Through => {}
            End::Closed(_, plugin) => {
                let decision = Err(unavailable(&plugin));
                return Decided { decision, errors, reads: self.request.reads() };
            }
            End::Denied(_) => {
                let fault = Fault::new(FaultKind::Policy, "a policy failed on this request");
                return Decided { decision: Err(fault), errors, reads: self.request.reads() };
            }
            End::Opinion(policy, opinion) => {
                let (verdict, place, name, tags) = match opinion {
                    Opinion::Route(it) => {
                        let name = it.plan.name.clone();
                        (Verdict::Route(*it.plan), it.at, name, it.tags)
                    }
                    Opinion::Respond(it) => (Verdict::Respond(it.text), it.at, it.name, it.tags),
                    Opinion::Reject(it) => (Verdict::Reject(it.reject), it.at, it.name, it.tags),
                    Opinion::None | Opinion::React(_) => {
                        return Decided { decision: Ok(decision), errors, reads: self.request.reads() };
                    }
                };
                self.request.add_tags(tags);
                decision.verdict = Some(verdict);
                decision.rule = Some(policy.rule(Hook::OnRequest, place.as_ref(), name));
            }
        }
        let wishes = self.request.wishes();
        decision.tags.clone_from(&wishes.tags);
        decision.require.clone_from(&wishes.require);
        decision.avoid.clone_from(&wishes.avoid);
        decision.output.clone_from(&wishes.output);
        decision.set_by.clone_from(&wishes.set_by);
        decision.cache = wishes.cache;
        decision.rankings.clone_from(&wishes.rankings);
        drop(wishes);
        Decided { decision: Ok(decision), errors, reads: self.request.reads() }
    }
}

impl Walk {
    fn new(hook: Hook, second: Dynamic) -> Self {
        Self { hook, second, at: 0, rounds: 0, errors: Vec::new(), on_worker: true, elsewhere: None }
    }
}

/// What the client is told where a plugin gives no answer without which nothing goes on.
fn unavailable(plugin: &str) -> Fault {
    let text = format!("plugin `{plugin}` cannot be asked, and nothing goes on without it");
    Fault::new(FaultKind::Unavailable, text).code("plugin_unavailable")
}

#[cfg(test)]
mod tests;

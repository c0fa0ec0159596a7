//! The end of every request: counted, logged and recorded exactly once, whichever way it ends.

mod due;
mod written;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Serialize;
use tokio::time::Instant;

use self::due::Due;
use self::written::Ending;
pub(super) use self::written::{millis, timestamp};
use super::Figures;
use super::arms::Owed;
use super::observe;
use super::papers::Papers;
use super::reserve;
use super::say::Say;
use super::serve::Arrived;
use super::{Gateway, Shared, Snapshot};
use crate::breaker::{Answer, Verdict};
use crate::chat::{Loss, Usage};
use crate::executor::{Journal, Spent};
use crate::facts::market::Scale;
use crate::facts::{Endpoint, FactsRecord};
use crate::fault::{Fault, FaultKind};
use crate::guard::Noted;
use crate::ledger::{AnyTier, Book, Price, Tab, Tier, When};
use crate::limits::Held;
use crate::money::Nano;
use crate::plan::{Candidate, Hook, Outcome, Record, Rule};
use crate::policy::{Completion, SeenTarget, Session};
use crate::providers::{Dialect, Target};
use crate::store::Decisions;
use crate::target::TargetName;
use crate::telemetry::{AccessLog, Meters};
use crate::tokens::Report;

/// What is known of a request when it ends. Dropped without `settle`, it counts as cancelled by the client.
pub(super) struct Settlement {
    meters: Arc<Meters>,
    access_log: AccessLog,
    decisions: Decisions,
    shared: Arc<Shared>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) journal: Arc<Journal>,
    pub(super) endpoint: Endpoint,
    method: &'static str,
    dialect: Dialect,
    path: &'static str,
    pub(super) version: Option<usize>,
    address: Option<IpAddr>,
    pub(super) request_id: Arc<str>,
    pub(super) unix_ms: u64,
    at: Instant,
    settled: bool,
    pub(super) figures: Arc<Figures>,
    /// The prices of the moment at which the request came.
    pub(super) book: Arc<Book>,
    /// Where its attempts stand, if they are written down or counted.
    pub(super) tab: Option<Arc<Tab>>,
    /// When it is paid for.
    due: Due,
    /// What it cost in all, once it was asked.
    cost: Option<Option<Nano>>,
    /// What the answer cost that came to its end, or broke off last. Each answer is reckoned once: that takes what is
    /// paid for in advance.
    own: Option<Option<Nano>>,
    /// The answers that broke off, and that this one went on with, with what they cost.
    before: Vec<Spent>,
    /// The service by which an attempt is reckoned of which nobody knows the end.
    pub(super) tier: Tier,
    /// Where an answer may be of another service than that: the request names one, or quirks of the target do, or it chose
    /// one before.
    pub(super) any_tier: AnyTier,
    /// When the whole body was here.
    pub(super) read_at: Option<Instant>,
    /// Our own time between body and answer's head.
    pub(super) overhead: Duration,
    /// Time spent in policies.
    pub(super) policy: Duration,
    /// From the request's head to the first content of a stream.
    pub(super) first_token: Option<Duration>,
    /// What policies saw.
    pub(super) facts: Option<FactsRecord>,
    /// The rule that decided.
    pub(super) rule: Option<Rule>,
    /// Tags at the end.
    pub(super) tags: Vec<(Arc<str>, Arc<str>)>,
    /// What guards found in the answer.
    pub(super) found: Option<Arc<Noted>>,
    /// The versions of models by which targets came into the plan.
    pub(super) model_versions: Vec<(TargetName, Arc<str>)>,
    /// What was considered.
    pub(super) candidates: Vec<Candidate>,
    /// Who answered.
    pub(super) target: Option<Target>,
    /// What was used.
    pub(super) usage: Option<Usage>,
    /// Bytes of text of a complete answer, where somebody listened.
    pub(super) heard: u64,
    /// Finish reason of the first choice.
    pub(super) finish: Option<&'static str>,
    /// What went to and fro, if it was a conversation.
    pub(super) conversation: Option<Conversed>,
    /// The policies that have something to say later, and how many of the tags are theirs already.
    later: Option<Box<(Session, usize)>>,
    /// What they say between attempts, and of the answer.
    pub(super) say: Option<Arc<Say>>,
    /// The key that was shown, and its team.
    pub(super) caller: Option<(Arc<str>, Option<Arc<str>>)>,
    /// What it has taken of its limits.
    pub(super) held: Option<Box<Held>>,
    /// What its decision is explained by, where somebody keeps that.
    pub(super) papers: Option<Box<Papers>>,
    /// What the cache did: `hit`, `miss` or `bypass`.
    pub(super) cache: Option<Cow<'static, str>>,
    /// What is owed to policies beside those in service.
    pub(super) owed: Option<Box<Owed>>,
}

/// What went to and fro in a conversation.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Conversed {
    /// Events of the client.
    pub(super) client_events: u64,
    /// Events of the provider.
    pub(super) provider_events: u64,
    /// Those of them that told of an error.
    pub(super) errors: u64,
    /// The code with which it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) close: Option<u16>,
}

impl Settlement {
    pub(super) fn open(
        gateway: &Gateway,
        snapshot: &Arc<Snapshot>,
        arrived: &Arrived,
        journal: Arc<Journal>,
    ) -> Box<Self> {
        Box::new(Self {
            meters: gateway.meters.clone(),
            access_log: gateway.shared.access_log.clone(),
            decisions: gateway.shared.decisions.clone(),
            shared: gateway.shared.clone(),
            snapshot: snapshot.clone(),
            journal,
            endpoint: arrived.door.endpoint(),
            method: method(&arrived.method),
            dialect: arrived.door.dialect(),
            path: arrived.path,
            version: arrived.version,
            address: arrived.address,
            request_id: arrived.request_id.clone(),
            unix_ms: gateway.shared.clock.unix_ms(),
            at: arrived.at,
            settled: false,
            figures: gateway.shared.figures.clone(),
            book: gateway.prices(),
            tab: None,
            due: Due::default(),
            cost: None,
            own: None,
            before: Vec::new(),
            tier: Tier::Standard,
            any_tier: AnyTier::At(Vec::new()),
            read_at: None,
            overhead: Duration::ZERO,
            policy: Duration::ZERO,
            first_token: None,
            facts: None,
            rule: None,
            tags: Vec::new(),
            found: None,
            model_versions: Vec::new(),
            candidates: Vec::new(),
            target: None,
            usage: None,
            heard: 0,
            finish: None,
            conversation: None,
            later: None,
            say: None,
            caller: None,
            held: None,
            papers: None,
            owed: None,
            cache: None,
        })
    }

    /// Policies that have hooks behind the decision put further tags on the request, and may want to hear of its end,
    /// whatever it is.
    pub(super) fn follow(&mut self, session: &Session) {
        let hooked =
            [Hook::OnError, Hook::OnResponse, Hook::OnComplete].into_iter().any(|hook| session.has(hook));
        if hooked || observe::observed(&self.snapshot.plugins) {
            let tags = session.tags();
            let known = tags.len();
            self.tags = [session.facts().tags.clone(), tags].concat();
            self.later = Some(Box::new((session.clone(), known)));
        }
    }

    /// Tells the policies of the end, off the client's path.
    fn complete(&self, session: Session, status: u16, outcome: Outcome, took: Duration) {
        if !session.has(Hook::OnComplete) {
            return;
        }
        let seen = |target: &Target| SeenTarget::of(&target.name, &target.vendor.traits);
        let completion = Completion {
            outcome: outcome.as_str(),
            status,
            target: self.target.as_ref().map(seen).unwrap_or_default(),
            attempts: self.journal.attempts(),
            usage: self.usage,
            finish: self.finish,
            first_token: self.first_token,
            duration: took,
        };
        // Without a runtime, the process is about to end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { super::say::count(&session.on_complete(completion).await) });
        }
    }

    /// Tells observing plugins of the end, off the client's path.
    fn observe(&mut self, session: &Session, status: u16, took: Duration) {
        if !observe::observed(&self.snapshot.plugins) {
            return;
        }
        let cost = self.cost();
        let attempts = self.journal.so_far();
        let target = self.target.as_ref().map(|target| target.name.to_string().into());
        let ended = observe::Ended {
            target: target.unwrap_or_default(),
            status,
            finish: self.finish,
            usage: self.usage.unwrap_or_default(),
            cost,
            first_token: self.first_token,
            took,
            cached: self.cache.as_deref() == Some("hit"),
        };
        observe::tell(&self.snapshot.plugins, session, &ended, &attempts, &self.tags);
    }

    /// The answer's head is about to go out: our own time is what did not pass in upstreams.
    pub(super) fn head_ready(&mut self) {
        if let Some(read_at) = self.read_at {
            self.overhead = read_at.elapsed().saturating_sub(self.journal.upstream());
        }
    }

    /// The version of a model by which a target came into the plan.
    pub(super) fn model_version(&self, target: &TargetName) -> Option<Arc<str>> {
        let known = self.model_versions.iter().find(|(name, _)| name == target);
        known.map(|(_, version)| version.clone())
    }

    /// The answer cannot say this.
    pub(super) fn lose(&self, lost: &[Loss]) {
        self.journal.lose(lost);
    }

    /// The request ended without an answer.
    pub(super) fn fail(mut self: Box<Self>, fault: &Fault) {
        self.head_ready();
        let left = fault.kind == FaultKind::Cancelled;
        let outcome = if left { Outcome::Cancelled } else { Outcome::Error };
        let ending = self.finish(fault.client_status(), outcome, Some(fault.code_str()));
        self.write_soon(ending);
    }

    /// The request ended with an answer that was begun with `status`.
    pub(super) fn settle(mut self: Box<Self>, status: u16, outcome: Outcome, fault: Option<&Fault>) {
        let broke = fault.is_some_and(|fault| self.journal.broke(fault));
        self.tell_health(status, outcome, fault, broke);
        let ending = self.finish(status, outcome, fault.map(Fault::code_str));
        self.write_soon(ending);
    }

    /// The request ended with a provider's complaint, which the client got as it came.
    pub(super) fn complained(mut self: Box<Self>, status: u16, complaint: &Fault) {
        let ending = self.finish(status, Outcome::Error, Some(complaint.code_str()));
        self.write_soon(ending);
    }

    /// What it cost, in all; `None` when something was used whose price nobody knows, or nothing was used. Ledger and
    /// budgets settle with it.
    pub(super) fn cost(&mut self) -> Option<Nano> {
        if let Some(cost) = self.cost {
            return cost;
        }
        let own = self.own();
        self.reckon_before();
        let cost = own.and_then(|own| {
            self.before.iter().try_fold(own, |mut sum, part| {
                sum += part.cost?;
                Some(sum)
            })
        });
        self.cost = Some(cost);
        cost
    }

    /// The answer was given before: it costs nothing now.
    pub(super) fn free(&mut self) {
        (self.cost, self.own) = (Some(Some(Nano(0))), Some(Some(Nano(0))));
    }

    /// Who knows what targets make of a prompt.
    pub(super) fn scale(&self) -> Arc<dyn Scale> {
        self.figures.tokens.clone()
    }

    /// What is asked for.
    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The same without answers that broke off before.
    fn own(&mut self) -> Option<Nano> {
        if self.own.is_none() {
            if let (Some(tab), Some(usage)) = (&self.tab, &mut self.usage) {
                *usage = tab.within(*usage);
            }
            self.own = Some(self.known_cost().unwrap_or_else(|| self.price()));
        }
        self.own.flatten()
    }

    fn price(&self) -> Option<Nano> {
        let ensemble = self.journal.used();
        if !ensemble.is_empty() {
            return ensemble.iter().try_fold(Nano::default(), |mut sum, (target, usage, cost)| {
                if let Some(cost) = cost {
                    sum += *cost;
                    return Some(sum);
                }
                let vendor = self.snapshot.catalogue_of(self.version).vendor(&target.provider);
                sum += self.paid(target, vendor.and_then(|vendor| vendor.preset.as_deref()), usage)?;
                Some(sum)
            });
        }
        let target = self.target.as_ref()?;
        let usage = match (self.usage, self.endpoint) {
            (Some(usage), _) => usage,
            // Some providers tell nothing here and charge by the request, or nothing.
            (None, Endpoint::Rerank | Endpoint::Moderations) => Usage::default(),
            (None, _) => return None,
        };
        // Of a recording that nobody measured, nobody knows the cost.
        if self.endpoint == Endpoint::Transcription && usage.estimated && !self.is_free_at(target) {
            return None;
        }
        self.paid(&target.name, target.vendor.preset.as_deref(), &usage)
    }

    /// Answers that broke off stand in the books with what they cost, if there are any books.
    fn reckon_before(&mut self) {
        for mut part in self.journal.take_before() {
            let Spent { target, usage, cost } = &part;
            let preset = target.vendor.preset.as_deref();
            part.cost = cost.or_else(|| self.paid(&target.name, preset, usage));
            self.before.push(part);
        }
    }

    fn is_free_at(&self, target: &Target) -> bool {
        let known = self.book.of(&target.name, target.vendor.preset.as_deref());
        known.is_some_and(|known| known.price().is_some_and(Price::is_free))
    }

    fn paid(&self, target: &TargetName, preset: Option<&str>, usage: &Usage) -> Option<Nano> {
        self.book.cost(target, preset, usage, When { tier: self.tier, unix_ms: self.unix_ms })
    }

    /// How long the answer took, and how fast it was; or that it broke off, where nobody has told yet.
    fn tell_health(&self, status: u16, outcome: Outcome, fault: Option<&Fault>, broke: bool) {
        let Some(target) = &self.target else { return };
        let (health, now) = (&self.figures.health, Instant::now());
        if fault.is_some_and(|fault| Verdict::of(fault) == Verdict::Failed) {
            if broke {
                self.figures.gates.broke(&target.name, now);
                health.broke(&target.name, now);
            }
            return;
        }
        let Some((began, to_content)) = self.journal.good() else { return };
        if outcome == Outcome::Ok && status == 200 {
            let took = now.saturating_duration_since(began);
            let first_token = self.first_token.map(|_| to_content);
            let tokens = self.usage.map(|usage| usage.output);
            health.answered(&target.name, Answer { took, first_token, tokens }, now);
        }
    }

    /// What the target reports says how its tokens are to be estimated.
    fn learn(&self) {
        let (Some(target), Some(usage), Some(facts)) = (&self.target, &self.usage, &self.facts) else {
            return;
        };
        let text = matches!(self.endpoint, Endpoint::Chat | Endpoint::Completions);
        let parts = [usage.input_image, usage.input_audio, usage.cached_image, usage.cached_audio];
        let seen_or_heard = parts.into_iter().any(|part| part > 0);
        // What was given again was reported before.
        if !text || usage.estimated || seen_or_heard || self.journal.good().is_none() {
            return;
        }
        let output = usage.output.saturating_sub(usage.reasoning);
        let report = Report { rough: facts.tokens, prompt: usage.prompt(), bytes: self.heard, output };
        self.figures.tokens.learn(&target.name, report);
    }

    /// What others noted: findings in the answer, and what an answer cost that was withheld, or that broke off and that
    /// nobody went on with.
    fn gather(&mut self) {
        let found = self.found.take();
        if let (Some(papers), Some(found)) = (&mut self.papers, &found) {
            papers.watched(found.answers());
        }
        for (key, kinds) in found.map(|found| found.tags()).unwrap_or_default() {
            match self.tags.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => {
                    let mut all: Vec<&str> = known.split(',').collect();
                    all.extend(kinds.split(',').filter(|kind| !known.split(',').any(|old| old == *kind)));
                    *known = all.join(",").into();
                }
                None => self.tags.push((key, kinds)),
            }
        }
        let withheld = || self.journal.withheld().filter(|_| self.usage.is_none());
        if let Some(Spent { target, usage, cost }) = self.journal.broken().or_else(withheld) {
            (self.target, self.usage) = (Some(target), Some(usage));
            self.own = self.own.or(cost.map(Some));
        }
    }

    /// Settles limits, tab and meters, each answer for itself; from then on, `usage` is what was used in all. The cost of
    /// all comes back.
    fn pay(&mut self, status: u16, outcome: Outcome) -> Option<Nano> {
        self.reckon_before();
        self.note_tiers();
        if let Some(held) = self.held.take() {
            let mut all = self.used();
            all.iter_mut().for_each(|all| self.before.iter().for_each(|part| all.add(&part.usage)));
            held.settle(all.as_ref(), Instant::now());
        }
        // What broke off was paid for when it did.
        let (cost, own) = (self.cost(), self.own());
        let later = self.is_due_later();
        if let Some(tab) = self.tab.take() {
            self.close(&tab, own, outcome.as_str(), status);
        }
        if let Some(target) = &self.target {
            let meters = self.meters.target(&target.name.provider, &target.metric_label());
            if let Some(usage) = self.usage.as_ref().filter(|_| !later) {
                meters.tokens(usage);
                meters.cost(own);
            }
            if let Some(waited) = self.first_token {
                meters.first_token(waited);
            }
        }
        for Spent { target, usage, cost } in &self.before {
            let meters = self.meters.target(&target.name.provider, &target.metric_label());
            meters.tokens(usage);
            meters.cost(*cost);
            self.usage.iter_mut().for_each(|all| all.add(usage));
        }
        cost
    }

    /// Whoever gives a service that nobody asked for is known by it.
    fn note_tiers(&self) {
        let note = |provider: &Arc<str>, usage: &Usage| {
            if !self.any_tier.at(provider) {
                self.figures.gave(provider, usage.tier);
            }
        };
        self.target.iter().zip(&self.usage).for_each(|(target, usage)| note(&target.name.provider, usage));
        self.before.iter().for_each(|part| note(&part.target.name.provider, &part.usage));
        self.journal.used().iter().for_each(|(target, usage, _)| note(&target.provider, usage));
    }

    /// A quarter of the bytes of a prompt that is billed when it is answered.
    pub(super) fn rough(&self) -> u64 {
        let facts = self.facts.as_ref().filter(|_| reserve::is_billed_now(self.endpoint));
        facts.map_or(0, |facts| facts.tokens)
    }

    /// What was used; of a request without an answer, the prompt, where somebody got it who may bill it.
    fn used(&self) -> Option<Usage> {
        self.usage.or_else(|| {
            let target = self.journal.worked().filter(|_| reserve::is_billed_now(self.endpoint))?;
            let rough = self.facts.as_ref()?.tokens;
            let input = self.figures.tokens.likely(&target, rough);
            Some(Usage { input, estimated: true, ..Usage::default() })
        })
    }

    /// Whatever must be done at once: limits, money, and those who wait for the end. The rest is to be written down.
    fn finish(&mut self, status: u16, outcome: Outcome, error: Option<&str>) -> Ending {
        self.settled = true;
        self.gather();
        self.learn();
        let took = self.at.elapsed();
        let label = self.model_label();
        self.meters.request(self.endpoint, &label).answered(status, outcome, took, self.overhead);
        let cost = self.pay(status, outcome);
        let warnings = self.journal.lost();
        if let Some(to) = self.journal.dialect() {
            self.meters.losses(self.dialect.as_str(), to.as_str(), &warnings);
        }
        if let Some(later) = self.later.take() {
            let (session, known) = *later;
            add_later(&mut self.tags, &session, known);
            if let (Some(papers), Some(say)) = (&mut self.papers, &self.say) {
                papers.went_on(&session, say.heard());
            }
            self.observe(&session, status, took);
            self.complete(session, status, outcome, took);
        }
        Ending { status, outcome, took, cost, error: error.map(Into::into), warnings }
    }

    /// How the request was decided so far, for a client that asked for it.
    pub(super) fn explain(&mut self, status: u16, error: Option<&str>) -> Option<String> {
        let papers = self.papers.take()?;
        let explained = papers.explain.then(|| {
            let (attempts, mut candidates) = (self.journal.so_far(), self.candidates.clone());
            self.pass_over(&mut candidates, &attempts);
            let mut tags = self.tags.clone();
            self.later.iter().for_each(|later| add_later(&mut tags, &later.0, later.1));
            let outline = self.outline(Outcome::Ok, self.rule.clone(), tags);
            let record = Record { facts: None, attempts, candidates, ..outline };
            let mut copy = papers.copy(self.later.as_ref().map(|later| &later.0));
            copy.watched(self.found.as_ref().map(|found| found.answers()).unwrap_or_default());
            self.dossier(copy, record, status, self.at.elapsed(), error).brief()
        });
        self.papers = Some(papers);
        explained
    }

    /// The client's model name where the configuration knows it: labels never come from clients.
    fn model_label(&self) -> Arc<str> {
        let asked = self.facts.as_ref().map(|facts| &facts.model);
        asked
            .filter(|model| self.snapshot.catalogue_of(self.version).lists(model))
            .cloned()
            .unwrap_or_else(|| "other".into())
    }
}

/// Adds the tags that policies have put on a request since it was decided, when they were `known`.
fn add_later(tags: &mut Vec<(Arc<str>, Arc<str>)>, session: &Session, known: usize) {
    for tag in session.tags().into_iter().skip(known) {
        // A hook that is asked again says the same again.
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if !self.settled {
            let ending = self.finish(499, Outcome::Cancelled, Some("cancelled"));
            self.write_down(ending);
        }
    }
}

/// The methods that have a meaning here; clients may invent others.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["POST", "GET", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| method == known).unwrap_or("OTHER")
}

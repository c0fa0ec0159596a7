//! The stages of the line in `serve.rs`, in their order.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::time::Instant;

use super::admission::Permit;
use super::arms;
use super::cached::{Manner, Outline, Question};
use super::ceiling;
use super::conversation::Conversation;
use super::door::{Asked, Door, Head};
use super::gather::{decided, end_of, facts_of, in_time, length_of, patience, recorded, text_of};
use super::heeded::{enforceable, govern, pin, warnings, with_parameters};
use super::identify::beyond;
use super::inspect::{self, Guarded, Looking};
use super::intake::{Approach, Intake, Unread, read_ahead};
use super::keeping::Keeping;
use super::papers::Papers;
use super::raw::RawBody;
use super::say::{self, Say};
use super::serve::{Arrived, Body, Served};
use super::settle::Settlement;
use super::watch::{Carrying, StreamBody, Waiting};
use super::{Gateway, Snapshot};
use crate::caller::Caller;
use crate::executor::{Advice, Answered, Bond, Job, Journal, Judge, Raw, Remainder, Sequel, Switched};
use crate::facts::{Endpoint, Facts, Rated};
use crate::fault::{Fault, FaultKind};
use crate::headers;
use crate::heap;
use crate::keys::Holder;
use crate::plan::{self, Decision, Outcome, Verdict};
use crate::planner::{self, Unplanned};
use crate::policy::Session;
use crate::providers::{Gauge, Target};

/// A request that the line has begun to serve; whatever happens, it is settled once.
pub(super) struct Opened<'g> {
    pub(super) gateway: &'g Gateway,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) version: Option<usize>,
    pub(super) door: &'static dyn Door,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) caller: Caller,
    /// Who holds the key that was shown.
    pub(super) holder: Option<Arc<Holder>>,
    /// How the limits that hold for it stand.
    pub(super) rates: Vec<Rated>,
    pub(super) at: Instant,
    request_id: Arc<str>,
    pub(super) journal: Arc<Journal>,
    /// Handed over to the stream when there is one.
    settlement: Option<Box<Settlement>>,
    /// What the client says of the cache.
    pub(super) cache_manner: Option<Manner>,
    /// Who waits for this answer, or is to find it later.
    pub(super) keeping: Option<Box<Keeping>>,
    pub(super) told: HeaderMap,
}

/// We know who asks.
pub(super) struct Identified<'o, 'g>(&'o mut Opened<'g>);

/// There is a place for it, and the body passed the gate.
pub(super) struct Read<'o, 'g> {
    pub(super) opened: &'o mut Opened<'g>,
    pub(super) asked: Arc<dyn Asked>,
    permit: Permit,
}

/// Its limits have room for it.
pub(super) struct Admitted<'o, 'g> {
    pub(super) opened: &'o mut Opened<'g>,
    pub(super) asked: Arc<dyn Asked>,
    pub(super) permit: Permit,
}

/// Guards have seen it, if any of them wanted to.
pub(super) struct Inspected<'o, 'g> {
    admitted: Admitted<'o, 'g>,
    guarded: Option<Box<Guarded>>,
}

/// The policies have spoken.
pub(super) struct Decided<'o, 'g> {
    pub(super) admitted: Admitted<'o, 'g>,
    decision: Decision,
    /// Somebody who looks at the answers.
    looking: Option<Looking>,
    session: Session,
    /// The deadline that the client asked for.
    patience: Option<Duration>,
    /// Whether targets that cannot carry everything are passed over.
    strict: bool,
}

/// We know where it goes.
pub(super) struct Planned<'o, 'g> {
    pub(super) admitted: Admitted<'o, 'g>,
    pub(super) job: Box<Job>,
    pub(super) caller: Caller,
    /// Who can go on with a stream that breaks off, and how far.
    sequels: Option<(Vec<Target>, Remainder)>,
    /// The most tokens of an answer, as policies said.
    most: Option<u64>,
    /// What policies have to say of attempts and answers, if any of them has.
    say: Option<Arc<Say>>,
    /// What it is as a question of the cache.
    pub(super) question: Option<Box<Question>>,
}

/// Its attempts will be counted.
pub(super) struct Reserved<'o, 'g>(Planned<'o, 'g>);

/// An answer has begun.
pub(super) struct Carried<'o, 'g> {
    pub(super) opened: &'o mut Opened<'g>,
    pub(super) progress: Progress,
}

pub(super) enum Progress {
    Whole(Bytes),
    /// A stream that was sent before.
    Replay(Bytes),
    Stream(Carrying, Permit),
    Raw(Box<Raw>, Permit),
    Switched(Box<Switched>, Permit),
}

impl Gateway {
    pub(super) fn open(&self, arrived: Arrived) -> Opened<'_> {
        let snapshot = arrived.snapshot.clone();
        let journal = Arc::new(Journal::default());
        let settlement = Settlement::open(self, &snapshot, &arrived, journal.clone());
        Opened {
            gateway: self,
            version: arrived.version,
            door: arrived.door,
            method: arrived.method,
            uri: arrived.uri,
            headers: arrived.headers,
            caller: Caller { address: arrived.address, ..Caller::default() },
            holder: None,
            rates: Vec::new(),
            at: arrived.at,
            request_id: arrived.request_id,
            journal,
            settlement: Some(settlement),
            cache_manner: None,
            keeping: None,
            told: HeaderMap::with_capacity(8),
            snapshot,
        }
    }
}

impl<'g> Opened<'g> {
    /// Who asks: by the key that is shown, where one is asked for. Nobody is welcome once the version that they ask for
    /// has gone.
    pub(super) async fn identify(&mut self) -> Result<Identified<'_, 'g>, Fault> {
        if let Some(version) = self.snapshot.version(self.version) {
            version.in_service(self.gateway.shared.clock.unix_ms())?;
        }
        self.recognise().await?;
        Ok(Identified(self))
    }

    /// The end of the line: what was not handed over to a stream is settled now.
    pub(super) fn answer(mut self, result: Result<Body, Fault>) -> Served {
        self.told.insert(&headers::ATTEMPTS, HeaderValue::from(self.journal.attempts()));
        if result.is_ok()
            && let Some(warnings) = warnings(&self.journal.lost())
        {
            self.tell(&headers::WARNINGS, &warnings);
        }
        if let Err(fault) = &result {
            self.explain(fault.client_status(), Some(fault.code_str()));
        }
        if let Some(settlement) = self.settlement.take() {
            match &result {
                Ok(_) => settlement.settle(200, Outcome::Ok, None),
                Err(fault) => settlement.fail(fault),
            }
        }
        Served { door: self.door, request_id: self.request_id, result, headers: self.told }
    }

    /// The operation that is asked for.
    pub(super) fn endpoint(&self) -> Endpoint {
        self.door.endpoint()
    }

    pub(super) fn note(&mut self, note: impl FnOnce(&mut Settlement)) {
        if let Some(settlement) = &mut self.settlement {
            note(settlement);
        }
    }

    /// Keeps the reasons for the record; a policy that named no target that exists is counted and logged.
    fn unplanned(&mut self, unplanned: Unplanned) -> Fault {
        let Unplanned { fault, candidates } = unplanned;
        if fault.kind == FaultKind::Policy
            && let Some(rule) = self.settlement.as_ref().and_then(|s| s.rule.as_ref())
        {
            let targets: Vec<_> = candidates.iter().map(|c| c.target.to_string()).collect();
            let (policy, request_id) = (rule.policy.to_string(), &*self.request_id);
            tracing::warn!(policy, request_id, ?targets, "a policy chose only targets that do not exist");
            metrics::counter!("tollgate_policy_errors_total", "policy" => policy).increment(1);
        }
        self.note(|s| s.candidates = candidates);
        fault
    }

    /// How it was decided, if the client asked for that.
    fn explain(&mut self, status: u16, error: Option<&str>) {
        let explained = self.settlement.as_mut().and_then(|s| s.explain(status, error));
        if let Some(explained) = explained {
            self.tell(&headers::EXPLAIN, &explained);
        }
    }

    /// Who answers, and as which version of the model.
    fn tell_target(&mut self, target: &Target) {
        self.tell(&headers::TARGET, &target.name.to_string());
        let version = self.settlement.as_ref().and_then(|s| s.model_version(&target.name));
        if let Some(version) = version {
            self.tell(&headers::MODEL_VERSION, &version);
        }
    }

    /// What a whole answer cost, in dollars; nothing where nobody knows.
    fn tell_cost(&mut self) {
        if let Some(cost) = self.settlement.as_mut().and_then(|settlement| settlement.cost()) {
            self.tell(&headers::COST, &cost.to_string());
        }
    }

    /// As the configuration says, or `x-tollgate-strict: true`: a client can ask for more, never for less.
    fn is_strict(&self, headers: &HeaderMap) -> Result<bool, Fault> {
        let name = &headers::STRICT;
        let asked = match text_of(headers, name)? {
            None => false,
            Some(word) if word.eq_ignore_ascii_case("true") || word == "1" => true,
            Some(word) if word.eq_ignore_ascii_case("false") || word == "0" => false,
            Some(_) => {
                return Err(Fault::bad_request(
                    "write x-tollgate-strict as `true` or `false`",
                    name.as_str(),
                ));
            }
        };
        let version = self.snapshot.version(self.version).and_then(|version| version.strict);
        Ok(asked || version.unwrap_or(self.snapshot.strict))
    }

    pub(super) fn tell(&mut self, name: &'static HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.told.insert(name, value);
        }
    }
}

impl<'o, 'g> Identified<'o, 'g> {
    /// Takes a place among the requests in flight, then reads the body: to its end, through the dialect's gate; or as far
    /// as the door must know it, if the rest can be sent on while it arrives.
    pub(super) async fn read(self, body: impl Unread) -> Result<Read<'o, 'g>, Fault> {
        let opened = self.0;
        let admission = &opened.gateway.shared.admission;
        let permit = admission.enter(opened.caller.tenant(), opened.snapshot.in_flight)?;
        let Opened { gateway, caller, door, method, uri, headers, snapshot, .. } = &*opened;
        let asked = match door.intake(Approach { method, uri, headers, snapshot })? {
            Intake::Whole => {
                let room = admission.room_for(length_of(headers), caller.priority)?;
                let bytes = body.collect().await?;
                drop(room);
                let shelf =
                    gateway.shared.answers.shelf(snapshot.kept, caller.key_id.clone()).of(caller.owner());
                let head = Head { uri, headers, shelf: &shelf };
                let (door, read_at) = (*door, Instant::now());
                let asked = door.read(bytes, head);
                opened.note(|s| s.read_at = Some(read_at));
                asked?
            }
            Intake::Ahead(ahead) => {
                // Boxed, as all that few requests need: it would make the state of every request larger.
                let asked = Box::pin(read_ahead(ahead, body.upload(), snapshot.raw.hold)).await?;
                opened.note(|s| s.read_at = Some(Instant::now()));
                asked
            }
        };
        Ok(Read { opened, asked, permit })
    }
}

impl<'o, 'g> Read<'o, 'g> {
    /// Takes what it needs of the limits that hold for it.
    pub(super) async fn admit(self) -> Result<Admitted<'o, 'g>, Fault> {
        self.opened.take_limits(&*self.asked).await?;
        Ok(Admitted { opened: self.opened, asked: self.asked, permit: self.permit })
    }
}

impl<'o, 'g> Admitted<'o, 'g> {
    /// Asks the guards that look at requests like this one.
    pub(super) async fn inspect(self) -> Result<Inspected<'o, 'g>, Fault> {
        let guards = &self.opened.snapshot.guards;
        if !guards.look_at(self.opened.door.endpoint(), self.asked.model()) {
            return Ok(Inspected { admitted: self, guarded: None });
        }
        let facts = gather(self.opened, &self.asked)?;
        let record = recorded(&facts, self.asked.bytes());
        self.opened.note(|s| s.facts = Some(record));
        let snapshot = self.opened.snapshot.clone();
        let end = end_of(self.opened, patience(&facts.headers)?);
        match in_time(Box::pin(inspect::examine(&snapshot, facts)), end).await? {
            Ok(guarded) => Ok(Inspected { admitted: self, guarded: Some(Box::new(guarded)) }),
            Err(withheld) => Err(self.opened.withheld(*withheld)),
        }
    }
}

impl<'o, 'g> Inspected<'o, 'g> {
    /// Gathers the facts and asks the policies.
    pub(super) async fn decide(self) -> Result<Decided<'o, 'g>, Fault> {
        let Self { admitted, guarded } = self;
        let opened = &mut *admitted.opened;
        let (mut facts, mut examined) = match guarded.map(|guarded| *guarded) {
            Some(Guarded { facts, examined }) => (facts, Some(examined)),
            None => (gather(opened, &admitted.asked)?, None),
        };
        let patience = patience(&facts.headers)?;
        let strict = opened.is_strict(&facts.headers)?;
        opened.read_cache_manner(&facts.headers)?;
        let store = &opened.gateway.shared.decisions;
        let mut papers = Papers::begin(store, &mut facts);
        let facts = Arc::new(facts);
        let record = recorded(&facts, admitted.asked.bytes());
        opened.note(|s| s.facts = Some(record));
        let catalogue = opened.snapshot.catalogue_of(opened.version);
        if !planner::is_allowed(catalogue, &facts.caller, &facts.model) {
            return Err(beyond("this key is not for this model").at("model"));
        }
        if !catalogue.offers(&facts.model) {
            return Err(planner::unknown_model(&facts.model));
        }
        let asked_at = Instant::now();
        let snapshot = opened.snapshot.clone();
        let chosen = arms::choose(opened.gateway, &snapshot, &facts);
        let session = chosen.policies.begin(&facts);
        let mut decided = decided(&session, &snapshot, end_of(opened, patience)).await?;
        let took = asked_at.elapsed();
        opened.gateway.meters.policy.record(took.as_secs_f64());
        say::count(&decided.errors);
        let owed = chosen.owed(&snapshot, opened.version, &facts, &decided, &session).map(|mut owed| {
            if let Some(question) = &mut owed.question {
                (question.bytes, question.pinned) = (admitted.asked.bytes(), admitted.asked.is_pinned());
            }
            owed
        });
        if let Some(papers) = &mut papers {
            papers.decided(store, &facts, admitted.asked.bytes(), &mut decided, &session.asked());
            papers.guarded(examined.as_mut().map(|all| std::mem::take(&mut all.answers)).unwrap_or_default());
        }
        opened.note(|s| {
            (s.policy, s.papers, s.owed) = (took, papers, owed);
            s.follow(&session);
        });
        let mut decision = decided.decision?;
        opened.gateway.meters.verdict(&decision);
        if let Some(name) = chosen.rule_name(decision.rule.as_ref()) {
            opened.tell(&headers::RULE, &name);
        }
        let rule = decision.rule.take();
        let mut tags = facts.tags.clone();
        tags.append(&mut decision.tags);
        if let Some(examined) = examined {
            decision.output.join(examined.output);
        }
        let looking = inspect::look(&opened.snapshot, &facts, &tags, &mut decision.output)?;
        let noted = looking.as_ref().map(|looking| looking.noted.clone());
        opened.note(|s| (s.rule, s.tags, s.found) = (rule, tags, noted));
        Ok(Decided { admitted, decision, looking, session, patience, strict })
    }
}

impl<'o, 'g> Decided<'o, 'g> {
    /// Turns the decision into ordered targets.
    pub(super) fn plan(self) -> Result<Planned<'o, 'g>, Fault> {
        let Self { admitted, mut decision, looking, session, patience, strict } = self;
        let Admitted { opened, mut asked, permit } = admitted;
        if let Some(Verdict::Route(route)) = &decision.verdict
            && !route.set.is_empty()
        {
            asked = with_parameters(asked, route, &opened.journal)?;
        }
        let output = enforceable(&mut decision, opened.door.endpoint(), asked.is_pinned())?;
        if asked.is_pinned() {
            pin(&mut decision, asked.model());
        }
        let snapshot = opened.snapshot.clone();
        let catalogue = snapshot.catalogue_of(opened.version);
        let planned = planner::plan(catalogue, session.facts(), &decision, &opened.gateway.dice);
        let mut plan = planned.map_err(|unplanned| opened.unplanned(*unplanned))?;
        asked.prefer(&mut plan.targets);
        let outline = Outline {
            asked: &*asked,
            decision: &decision,
            output: output.as_ref(),
            plan: &plan,
            caller: &session.facts().caller,
            snapshot: looking.is_some().then_some(&snapshot),
        };
        let question = opened.question(&outline, strict)?;
        let figures = &opened.gateway.shared.figures;
        let most = output.as_ref().and_then(|rules| rules.most);
        if let Some(rules) = output {
            let gauge = Gauge { scale: figures.tokens.clone(), rough: asked.tokens() };
            govern(&mut plan, rules, looking.map(|looking| looking.inspection), &gauge);
        }
        let within = ceiling::enforce(figures, session.facts(), &*asked, most, &mut plan);
        let candidates = std::mem::take(&mut plan.candidates);
        if let Err(fault) = within {
            opened.note(|s| s.candidates = candidates);
            return Err(fault);
        }
        let sequels = ceiling::sequels(figures, &session, &*asked, most, &mut plan);
        let versions = std::mem::take(&mut plan.versions);
        let total = plan.timeout.unwrap_or(snapshot.total);
        let total = patience.map_or(total, |asked| asked.min(total));
        let asked_tier = asked.service_tier();
        let who = || plan.targets.iter().chain(&plan.judge).chain(sequels.iter().flat_map(|(all, _)| all));
        let tiered = asked_tier.is_some() || who().any(|target| target.vendor.names_tier);
        let any_tier = figures.any_tier(asked_tier, who());
        let say = Say::of(&session, opened.at);
        let limits = plan::Limits::of(total, plan.first_token, plan.retries);
        opened.note(|s| {
            (s.candidates, s.model_versions) = (candidates, versions);
            s.tier = asked_tier.filter(|tier| tier.is_dearer()).unwrap_or_default();
            s.any_tier = any_tier;
            s.expect(&*asked);
            s.say.clone_from(&say);
            if let Some(papers) = &mut s.papers {
                papers.limits = Some(limits);
            }
        });
        let caller = session.facts().caller.clone();
        let belongs_to = caller.session.as_deref().or(caller.user.as_deref());
        // Boxed, for it is handed on from stage to stage.
        let job = Box::new(Job {
            tiered,
            tokens: asked.tokens(),
            tenant: permit.tenant().ranked(plan.priority),
            bond: Bond::gather(&plan.targets, belongs_to, &*asked),
            market: Some(snapshot.market_of(opened.version).clone()),
            advice: say.clone().map(|say| say as Arc<dyn Advice>),
            targets: plan.targets,
            retries: plan.retries,
            first_token: plan.first_token,
            judge: plan.judge.map(|target| Judge { target, question: asked.text().into() }),
            manner: plan.manner,
            carry: asked.clone(),
            journal: opened.journal.clone(),
            tab: None,
            exposed: None,
            strict,
            limits: snapshot.limits,
            deadline: opened.at + total,
        });
        Ok(Planned {
            admitted: Admitted { opened, asked, permit },
            job,
            caller,
            sequels,
            most,
            say,
            question,
        })
    }
}

impl<'o, 'g> Planned<'o, 'g> {
    /// Opens its tab, where anything is written down or counted: what an attempt may cost is held when it begins.
    /// Chaos may look at it now.
    pub(super) fn reserve(mut self) -> Reserved<'o, 'g> {
        let Admitted { opened, asked, .. } = &mut self.admitted;
        let tags = opened.settlement.as_ref().map_or(&[][..], |settlement| &settlement.tags);
        self.job.exposed = opened.gateway.shared.figures.chaos.exposes(&self.caller, asked.model(), tags);
        let desk = opened.gateway.shared.figures.desk();
        if desk.is_on() {
            let (caller, most) = (&self.caller, self.most);
            let who = self.job.targets.iter().chain(self.sequels.iter().flat_map(|(all, _)| all));
            let settlement = opened.settlement.as_mut();
            self.job.tab = settlement.and_then(|s| s.reserve(&desk, &**asked, caller, most, who));
        }
        Reserved(self)
    }
}

impl<'o, 'g> Reserved<'o, 'g> {
    /// Sends it out. A stream whose target thinks longer than the keep-alive interval goes on in its body, so that the
    /// client hears something; until the first content, the targets behind it may still change.
    pub(super) async fn carry_out(self) -> Result<Carried<'o, 'g>, Fault> {
        let Planned { admitted: Admitted { opened, asked, permit }, mut job, sequels, say, .. } = self.0;
        let executor = opened.gateway.executor.clone();
        if !asked.wants_stream() {
            let answered = opened.carried(&executor, &mut job, &asked).await;
            let answered = match say {
                // Boxed, as all that few requests need.
                Some(say) => Box::pin(opened.heed(&say, answered)).await?,
                None => answered?,
            };
            return match answered {
                Answered::Whole(relayed, target) => {
                    opened.tell_target(&target);
                    opened.note(|s| {
                        (s.target, s.usage, s.finish) = (Some(target), relayed.usage, relayed.finish);
                        s.learn_from(&*asked, &relayed.body);
                        s.head_ready();
                    });
                    opened.tell_cost();
                    Ok(Carried { opened, progress: Progress::Whole(relayed.body) })
                }
                Answered::Raw(raw) => {
                    opened.tell(&headers::TARGET, &raw.target().name.to_string());
                    opened.note(Settlement::head_ready);
                    Ok(Carried { opened, progress: Progress::Raw(raw, permit) })
                }
                Answered::Switched(switched) => {
                    opened.told.extend(asked.switch().cloned().unwrap_or_default());
                    opened.tell_target(&switched.target);
                    opened.note(Settlement::head_ready);
                    Ok(Carried { opened, progress: Progress::Switched(switched, permit) })
                }
                Answered::Stream(_) => {
                    Err(Fault::new(FaultKind::Internal, "a stream came that nobody asked for"))
                }
            };
        }

        let keepalive = opened.snapshot.keepalive;
        let heard = say.clone();
        let prompt =
            opened.settlement.as_ref().and_then(|s| s.facts.as_ref()).map_or(0, |facts| facts.tokens);
        let mut waiting: Waiting = heap::pinned(|| async move {
            let mut answered = executor.carry_out(&job).await?;
            if let Some(say) = heard
                && let Err(fault) = say.admit(say.seen(&answered)).await
            {
                // The provider has begun, and will bill it.
                if let Answered::Stream(live) = &answered {
                    job.journal.spent(live.target(), live.usage(prompt));
                }
                return Err(fault);
            }
            if let Some((targets, remainder)) = sequels {
                let again = move |text: &str, seen: &[Bytes]| asked.after(text, seen);
                answered.followed_by(|| Sequel::new(executor, *job, targets, Arc::new(again), remainder));
            }
            Ok(answered)
        });
        let answered = if keepalive.is_zero() {
            Some(waiting.as_mut().await)
        } else {
            tokio::time::timeout(keepalive, &mut waiting).await.ok()
        };
        let carrying = match answered {
            Some(Ok(answered)) => Carrying::from(answered),
            Some(Err(fault)) => {
                opened.refused(say.as_deref());
                return Err(fault);
            }
            None => Carrying::Waiting(waiting),
        };
        if let Some(target) = carrying.target() {
            let waited = opened.at.elapsed();
            opened.tell_target(target);
            opened.note(|s| s.first_token = Some(waited));
        }
        opened.note(Settlement::head_ready);
        Ok(Carried { opened, progress: Progress::Stream(carrying, permit) })
    }
}

impl Carried<'_, '_> {
    /// Lets the answer go to the client, and watches a stream to its end.
    pub(super) fn watch(self) -> Body {
        let Self { opened, progress } = self;
        opened.told.insert(&headers::SERVER_TIMING, opened.timing());
        opened.explain(200, None);
        let mut keeping = opened.keeping.take();
        if !matches!(progress, Progress::Whole(_) | Progress::Stream(..)) {
            // Such answers are relayed, and given to nobody else.
            keeping.take().into_iter().for_each(|keeping| keeping.unfit());
        }
        match progress {
            Progress::Whole(bytes) => {
                if let (Some(keeping), Some(settlement)) = (keeping, &mut opened.settlement) {
                    keeping.whole(&bytes, settlement);
                }
                Body::Whole(bytes)
            }
            Progress::Replay(frames) => Body::Replay(frames),
            Progress::Raw(raw, permit) => Body::Raw(Box::new(RawBody::new(
                raw,
                &opened.method,
                opened.settlement.take(),
                permit,
                opened.gateway.closing.clone(),
                opened.at,
            ))),
            Progress::Switched(switched, permit) => Body::Switch(Box::new(Conversation::new(
                *switched,
                opened.settlement.take(),
                permit,
                opened.gateway.closing.clone(),
                opened.snapshot.realtime,
            ))),
            Progress::Stream(carrying, permit) => Body::Stream(Box::new(
                StreamBody::new(
                    carrying,
                    opened.door,
                    opened.settlement.take(),
                    permit,
                    opened.snapshot.keepalive,
                    opened.gateway.closing.clone(),
                    opened.at,
                )
                .kept(keeping),
            )),
        }
    }
}

impl Opened<'_> {
    /// Asks the policies of an answer; and if they refused it, or the request before, notes their rule and what was
    /// used all the same.
    async fn heed(&mut self, say: &Say, answered: Result<Answered, Fault>) -> Result<Answered, Fault> {
        let result = match answered {
            Ok(answered) => match say.admit(say.seen(&answered)).await {
                Ok(()) => return Ok(answered),
                Err(fault) => {
                    if let Answered::Whole(relayed, target) = answered {
                        self.note(|s| {
                            (s.target, s.usage, s.finish) = (Some(target), relayed.usage, relayed.finish);
                        });
                    }
                    Err(fault)
                }
            },
            Err(fault) => Err(fault),
        };
        self.refused(Some(say));
        result
    }

    /// Notes the rule of a refusal that came after the decision.
    fn refused(&mut self, say: Option<&Say>) {
        let Some(rule) = say.and_then(Say::refused_by) else { return };
        self.tell(&headers::RULE, &rule.shown());
        self.note(|s| s.rule = Some(rule));
    }

    /// `server-timing`: milliseconds until the answer's head, in all, upstream, and in policies.
    fn timing(&self) -> HeaderValue {
        let policy = self.settlement.as_ref().map_or(Duration::ZERO, |s| s.policy);
        let mut text = String::with_capacity(64);
        for (name, took) in
            [("total", self.at.elapsed()), (", upstream", self.journal.upstream()), (", policy", policy)]
        {
            let micros = took.as_micros();
            // Writing to a String cannot fail.
            let _ = write!(text, "{name};dur={}.{:03}", micros / 1_000, micros % 1_000);
        }
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("total"))
    }
}

fn gather(opened: &mut Opened<'_>, asked: &Arc<dyn Asked>) -> Result<Facts, Fault> {
    let headers = std::mem::take(&mut opened.headers);
    let rates = std::mem::take(&mut opened.rates);
    let facts = facts_of(
        opened.request_id.clone(),
        opened.door.endpoint(),
        opened.caller.clone(),
        headers,
        asked,
        opened.gateway.shared.clock.unix_ms(),
        opened.snapshot.market_of(opened.version).clone(),
    )?;
    Ok(Facts { rates, ..facts })
}

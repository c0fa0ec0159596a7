//! What a request's decision is explained and replayed by, gathered while it goes through the line.

use std::sync::Arc;

use http::HeaderName;

use crate::facts::{Body, Facts, Media, Reads, Seen, Text, Watched};
use crate::headers;
use crate::plan::{Decision, Dossier, Failure, Later, Limits, PluginAnswer, Record};
use crate::policy::{Answered, Decided, Session};
use crate::store::{DecisionSettings, Decisions};

/// Bodies up to this size are looked through for pictures, sound and files, though no policy asks: another may.
const LOOKED_THROUGH: usize = 16 << 10;

/// The papers of one request, gathered only where somebody keeps them.
pub(super) struct Papers {
    market: Arc<Watched>,
    /// The client wants to hear how it was decided.
    pub(super) explain: bool,
    /// What policies could see; nothing where they were not asked.
    seen: Option<Box<Seen>>,
    reads: Reads,
    decision: Option<Box<Decision>>,
    failures: Vec<Failure>,
    plugins: Vec<PluginAnswer>,
    later: Vec<Later>,
    pub(super) limits: Option<Limits>,
}

impl Papers {
    /// Begins the papers of a request, and puts its market under watch.
    pub(super) fn begin(store: &Decisions, facts: &mut Facts) -> Option<Box<Self>> {
        let settings = store.settings();
        let explain = settings.explain && wants_explanation(facts);
        if !explain && !store.is_on() {
            return None;
        }
        let market = Watched::new(facts.market.clone());
        facts.market = market.clone();
        Some(Box::new(Self {
            market,
            explain,
            seen: None,
            reads: Reads::default(),
            decision: None,
            failures: Vec::new(),
            plugins: Vec::new(),
            later: Vec::new(),
            limits: None,
        }))
    }

    /// The policies have spoken: what they saw is noted while it is here.
    pub(super) fn decided(
        &mut self,
        store: &Decisions,
        facts: &Arc<Facts>,
        bytes: usize,
        decided: &mut Decided,
        asked: &[Answered],
    ) {
        self.reads = std::mem::take(&mut decided.reads);
        let look = store.is_durable() && bytes <= LOOKED_THROUGH;
        self.seen = Some(Box::new(seen(facts, &self.reads, store.settings(), look)));
        self.decision = decided.decision.as_ref().ok().map(|decision| Box::new(decision.clone()));
        self.plugins = asked.iter().map(Into::into).collect();
        self.failures = decided.errors.iter().map(Into::into).collect();
    }

    /// What guards said before the policies were asked.
    pub(super) fn guarded(&mut self, answers: Vec<PluginAnswer>) {
        self.plugins.splice(..0, answers);
    }

    /// What guards said of the answer.
    pub(super) fn watched(&mut self, answers: Vec<PluginAnswer>) {
        self.plugins.extend(answers);
    }

    /// What was asked of the policies after the decision, and what they read for that.
    pub(super) fn went_on(&mut self, session: &Session, later: Vec<Later>) {
        if later.is_empty() {
            return;
        }
        self.narrowed(session);
        self.later = later;
        self.reads.extend(session.reads());
        let known = self.plugins.iter().filter(|answer| !answer.is_guards()).count();
        self.plugins.extend(session.asked().iter().skip(known).map(PluginAnswer::from));
    }

    /// Where constraints were set, also those of hooks behind the decision.
    fn narrowed(&mut self, session: &Session) {
        if let Some(decision) = &mut self.decision {
            decision.set_by = session.set_by();
        }
    }

    /// The same papers once more, as the session stands by now.
    pub(super) fn copy(&self, session: Option<&Session>) -> Self {
        let mut copy = Self {
            market: self.market.clone(),
            explain: self.explain,
            seen: self.seen.clone(),
            reads: self.reads.clone(),
            decision: self.decision.clone(),
            failures: self.failures.clone(),
            plugins: self.plugins.clone(),
            later: self.later.clone(),
            limits: self.limits,
        };
        session.into_iter().for_each(|session| copy.narrowed(session));
        copy
    }

    /// The papers of a request that has this record.
    pub(super) fn into_dossier(mut self, record: Record, at_ms: u64, policy_us: f64) -> Dossier {
        let plan = record.candidates.iter().filter(|candidate| candidate.rank.is_some());
        let plan: Vec<String> = plan.map(|candidate| candidate.target.to_string()).collect();
        self.offers(plan.iter().map(String::as_str));
        Dossier {
            at_ms,
            record,
            status: 0,
            ms: 0.0,
            policy_us,
            first_token_ms: None,
            error: None,
            seen: self.seen,
            reads: self.reads,
            decision: self.decision,
            failures: self.failures,
            plugins: self.plugins,
            later: self.later,
            finish: None,
            limits: self.limits,
            shadow: None,
        }
    }

    /// The request is over, or its answer begins: the numbers of the plan's targets are added.
    fn offers<'a>(&mut self, plan: impl Iterator<Item = &'a str>) {
        if let Some(seen) = &mut self.seen
            && seen.visited.offers.is_empty()
        {
            seen.visited = self.market.take(plan);
        }
    }
}

fn wants_explanation(facts: &Facts) -> bool {
    let asked = facts.headers.get(&headers::EXPLAIN).map(|value| value.as_bytes().to_ascii_lowercase());
    asked.is_some_and(|word| matches!(&*word, b"1" | b"true"))
}

fn seen(facts: &Facts, reads: &Reads, settings: &DecisionSettings, look: bool) -> Seen {
    let body = &facts.body;
    let read = |names: &[&str]| reads.facts.iter().any(|fact| names.contains(&&**fact));
    let media = look || read(&["has_images", "has_audio", "has_files", "modalities"]);
    // By these two, strategies put targets in order.
    let always = [headers::TIER.as_str(), headers::DATA_CLASS.as_str()].into_iter();
    let always = always.filter(|name| !settings.headers.iter().any(|other| other.eq_ignore_ascii_case(name)));
    let headers = settings.headers.iter().map(String::as_str).chain(always).filter_map(|name| {
        let value = facts.headers.get(name)?.to_str().ok()?;
        Some((name.into(), value.into()))
    });
    Seen {
        ip: facts.caller.address,
        key_id: facts.caller.key_id.clone(),
        team: facts.caller.team.clone(),
        priority: facts.caller.priority,
        session: facts.caller.session.clone(),
        scope: facts
            .caller
            .grant
            .as_ref()
            .map(|grant| &grant.scope)
            .filter(|scope| !scope.is_open())
            .cloned()
            .map(Box::new),
        rates: facts.rates.clone(),
        tags: facts.tags.clone(),
        header_names: facts.headers.keys().map(HeaderName::as_str).collect(),
        headers: headers.collect(),
        tools: body.tool_names().to_vec(),
        json: body.has_json_output(),
        media: media.then(|| media_of(&**body)),
        words: read(&["words"]).then(|| body.words()),
        text: settings.text.then(|| {
            let (all, system) = (body.text().into(), body.system().into());
            let turns = body.turns().into_iter().map(|turn| (turn.role.into(), turn.text.into()));
            Box::new(Text { all, system, last_user: body.last_user().into(), turns: turns.collect() })
        }),
        ..Seen::default()
    }
}

fn media_of(body: &dyn Body) -> Media {
    let files = body.has_files();
    let text_files = files && !body.has_documents();
    Media { images: body.has_images(), audio: body.has_audio(), files, text_files }
}

//! A request decided and planned as in the line, and not sent: what `tollgate policy explain` shows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use tokio::time::Instant;

use super::Snapshot;
use super::door::{Asked, Door, Head};
use super::gather::{facts_of, recorded};
use super::heeded::{enforceable, pin, with_parameters};
use super::inspect::{self, Guarded, Withheld};
use super::papers::Papers;
use crate::caller::Caller;
use crate::clock::Dice;
use crate::executor::Journal;
use crate::facts::{Endpoint, Facts};
use crate::fault::Fault;
use crate::guard::{Examined, Refused};
use crate::plan::{
    Decision, Dossier, Limits, Outcome, OutputRules, PluginAnswer, RECORD_VERSION, Record, Verdict,
};
use crate::planner::{self, Plan, Unplanned};
use crate::plugin::Pair;
use crate::store::{DecisionSettings, Decisions, Shelf};

/// A request that nobody sent.
#[derive(Clone)]
pub struct Rehearsal {
    /// Where it would come in.
    pub door: &'static dyn Door,
    /// Path and query.
    pub uri: Uri,
    /// The client's headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Who asks.
    pub caller: Caller,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

impl Rehearsal {
    /// What `snapshot` would do with it, before the first attempt.
    ///
    /// # Errors
    /// What a client would be told of a request that cannot be read.
    pub async fn play(self, snapshot: &Snapshot, dice: &Dice) -> Result<Dossier, Fault> {
        let Self { door, uri, headers, body, caller, at_ms } = self;
        let head = Head { uri: &uri, headers: &headers, shelf: &Shelf::empty() };
        let asked = door.read(body, head)?;
        let market = snapshot.market_of(None).clone();
        let facts = facts_of("rehearsal".into(), door.endpoint(), caller, headers, &asked, at_ms, market)?;
        let Shown { mut facts, answers, output, refusal } =
            guarded(snapshot, door.endpoint(), asked.model(), facts).await;
        let store = Decisions::remembering(DecisionSettings { recent: 1, ..DecisionSettings::default() });
        let papers = Papers::begin(&store, &mut facts);
        let mut papers = papers.ok_or_else(|| Fault::new(crate::fault::FaultKind::Internal, "no papers"))?;
        let facts = Arc::new(facts);
        let mut record = Record {
            v: RECORD_VERSION,
            request_id: facts.request_id.clone(),
            snapshot: snapshot.hash.clone(),
            version: None,
            model_version: None,
            facts: Some(recorded(&facts, asked.bytes())),
            rule: None,
            arm: None,
            policies: None,
            cache: None,
            tags: facts.tags.clone(),
            candidates: Vec::new(),
            attempts: Vec::new(),
            usage: None,
            cost: None,
            outcome: Outcome::Ok,
        };
        if let Some((tags, fault)) = refusal {
            record.tags.extend(tags);
            papers.guarded(answers);
            return Ok(ended(papers.into_dossier(record, at_ms, 0.0), Some(&fault)));
        }
        let began = Instant::now();
        let session = snapshot.policies.begin(&facts);
        let mut decided = session.decide().await;
        let policy_us = began.elapsed().as_secs_f64() * 1e6;
        papers.decided(&store, &facts, 0, &mut decided, &session.asked());
        papers.guarded(answers);
        let mut refusal = None;
        match decided.decision {
            Err(fault) => refusal = Some(fault),
            Ok(mut decision) => {
                (record.rule, record.tags) =
                    (decision.rule.take(), [facts.tags.clone(), decision.tags.clone()].concat());
                decision.output.join(output);
                match planned(snapshot, &facts, &asked, &record.tags, decision, dice) {
                    Ok(plan) => {
                        record.candidates = plan.candidates;
                        let total: Duration = plan.timeout.unwrap_or(snapshot.total);
                        papers.limits = Some(Limits::of(total, plan.first_token, plan.retries));
                    }
                    Err(unplanned) => {
                        let unplanned = *unplanned;
                        (refusal, record.candidates) = (Some(unplanned.fault), unplanned.candidates);
                    }
                }
            }
        }
        Ok(ended(papers.into_dossier(record, at_ms, policy_us), refusal.as_ref()))
    }
}

/// The plan of a decision, of which everything can be done that it wants done.
fn planned(
    snapshot: &Snapshot,
    facts: &Facts,
    asked: &Arc<dyn Asked>,
    tags: &[Pair],
    mut decision: Decision,
    dice: &Dice,
) -> Result<Plan, Box<Unplanned>> {
    let refused = |fault| Box::new(Unplanned { fault, candidates: Vec::new() });
    inspect::look(snapshot, facts, tags, &mut decision.output).map_err(refused)?;
    if let Some(Verdict::Route(route)) = &decision.verdict
        && !route.set.is_empty()
    {
        with_parameters(asked.clone(), route, &Journal::default()).map_err(refused)?;
    }
    enforceable(&mut decision, facts.endpoint, asked.is_pinned()).map_err(refused)?;
    if asked.is_pinned() {
        pin(&mut decision, asked.model());
    }
    planner::plan(snapshot.catalogue_of(None), facts, &decision, dice)
}

/// What the guards make of a request.
struct Shown {
    /// With their tags.
    facts: Facts,
    /// What they said.
    answers: Vec<PluginAnswer>,
    /// What of the prompt must not leave.
    output: OutputRules,
    /// Their refusal, and the tags that come with it.
    refusal: Option<(Vec<Pair>, Fault)>,
}

async fn guarded(snapshot: &Snapshot, endpoint: Endpoint, model: &str, facts: Facts) -> Shown {
    let nothing = |facts| Shown { facts, answers: Vec::new(), output: OutputRules::default(), refusal: None };
    if !snapshot.guards.look_at(endpoint, model) {
        return nothing(facts);
    }
    match inspect::examine(snapshot, facts).await {
        Ok(Guarded { facts, examined: Examined { answers, output, .. } }) => {
            Shown { answers, output, ..nothing(facts) }
        }
        Err(withheld) => {
            let Withheld { facts, refused: Refused { tags, answers, fault } } = *withheld;
            Shown { answers, refusal: Some((tags, fault)), ..nothing(facts) }
        }
    }
}

/// The papers, with what the client would be told where it is refused.
fn ended(mut dossier: Dossier, refusal: Option<&Fault>) -> Dossier {
    if let Some(fault) = refusal {
        (dossier.status, dossier.error) = (fault.client_status(), Some(fault.code_str().into()));
        dossier.record.outcome = Outcome::Error;
    }
    dossier
}

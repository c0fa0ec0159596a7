//! A request decided and planned as in the line, and not sent: what `tollgate policy explain` shows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use tokio::time::Instant;

use super::Snapshot;
use super::door::{Door, Head};
use super::gather::{facts_of, recorded};
use super::heeded::pin;
use super::inspect::{self, Guarded, Withheld};
use super::papers::Papers;
use crate::caller::Caller;
use crate::clock::Dice;
use crate::facts::{Endpoint, Facts};
use crate::fault::Fault;
use crate::guard::Refused;
use crate::plan::{Dossier, Limits, Outcome, PluginAnswer, RECORD_VERSION, Record};
use crate::planner;
use crate::plugin::Pair;
use crate::store::{DecisionSettings, Decisions, Shelf};

/// A request that nobody sent.
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
        let (mut facts, answers, refusal) = guarded(snapshot, door.endpoint(), asked.model(), facts).await;
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
                if asked.is_pinned() {
                    pin(&mut decision, asked.model());
                }
                match planner::plan(snapshot.catalogue_of(None), &facts, &decision, dice) {
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

/// What the guards make of a request: the facts with their tags, what they said, and their refusal.
async fn guarded(
    snapshot: &Snapshot,
    endpoint: Endpoint,
    model: &str,
    facts: Facts,
) -> (Facts, Vec<PluginAnswer>, Option<(Vec<Pair>, Fault)>) {
    if !snapshot.guards.look_at(endpoint, model) {
        return (facts, Vec::new(), None);
    }
    match inspect::examine(snapshot, facts).await {
        Ok(Guarded { facts, examined }) => (facts, examined.answers, None),
        Err(withheld) => {
            let Withheld { facts, refused: Refused { tags, answers, fault } } = *withheld;
            (facts, answers, Some((tags, fault)))
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

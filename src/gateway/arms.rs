//! Which set of policies decides a request, and what it is told of the request's end.

use std::sync::Arc;

use tokio::time::Instant;

use super::shadow::Question;
use super::{Gateway, Shared, Snapshot};
use crate::facts::Facts;
use crate::facts::market::Size;
use crate::plan::{Outcome, Rule};
use crate::policy::rollout::{Arm, End, Halted};
use crate::policy::{Decided, PolicySet, Session};
use crate::store::chosen;

/// The policies of one request: the live ones, unless a candidate has a share and this caller is in it.
pub(super) struct Chosen<'s> {
    pub(super) policies: &'s PolicySet,
    arm: Option<Arm>,
}

/// What is owed at the end of a request to the sets of policies beside the live one.
#[derive(Default)]
pub(super) struct Owed {
    /// Who decided, while two sets do.
    pub(super) arm: Option<Arm>,
    /// Hash of the candidate, where that decided.
    pub(super) policies: Option<Arc<str>>,
    /// A policy failed on the way.
    failed: bool,
    /// The shadow is asked about it.
    pub(super) question: Option<Box<Question>>,
}

/// The set of policies that decides this request.
pub(super) fn choose<'s>(gateway: &Gateway, snapshot: &'s Snapshot, facts: &Facts) -> Chosen<'s> {
    let live = Chosen { policies: &snapshot.policies, arm: None };
    // One load of a number where nothing stands beside the live set.
    let Some(arm) = gateway.shared.rollout.arm_of(&facts.caller, &facts.request_id) else { return live };
    match (arm, snapshot.beside.contender()) {
        (Arm::Candidate, Some(candidate)) => Chosen { policies: candidate, arm: Some(arm) },
        // A request that began before there was a candidate.
        (Arm::Candidate, None) => live,
        (Arm::Live, _) => Chosen { arm: Some(arm), ..live },
    }
}

impl Chosen<'_> {
    /// What will be owed when the request ends; nothing where nothing stands beside the live set.
    pub(super) fn owed(
        &self,
        snapshot: &Arc<Snapshot>,
        version: Option<usize>,
        facts: &Arc<Facts>,
        decided: &Decided,
        session: &Session,
    ) -> Option<Box<Owed>> {
        let beside = &snapshot.beside;
        let shadow = beside.shadow.as_ref().and_then(|side| side.policies.as_ref());
        let shadow = shadow.filter(|_| self.is_live() && chosen(&facts.request_id, beside.sample));
        if self.arm.is_none() && shadow.is_none() {
            return None;
        }
        let question = shadow.map(|shadow| {
            let decision = decided.decision.as_ref().ok();
            Box::new(Question {
                snapshot: snapshot.clone(),
                shadow: shadow.clone(),
                version,
                facts: facts.clone(),
                bytes: 0,
                decision: decision.cloned(),
                rule: decision.and_then(|decision| decision.rule.clone()),
                reads: decided.reads.clone(),
                asked: session.asked(),
                pinned: false,
                size: None,
                visited: Default::default(),
                record: None,
            })
        });
        let policies = (!self.is_live()).then(|| self.policies.hash().clone());
        Some(Box::new(Owed { arm: self.arm, policies, failed: !decided.errors.is_empty(), question }))
    }

    /// The name of the rule that decided, with the arm where that is not the live one.
    pub(super) fn rule_name(&self, rule: Option<&Rule>) -> Option<String> {
        let name = rule.map(Rule::shown);
        if self.is_live() {
            return name;
        }
        Some(format!("{}; arm=candidate", name.as_deref().unwrap_or("none")))
    }

    fn is_live(&self) -> bool {
        self.arm != Some(Arm::Candidate)
    }
}

impl Owed {
    /// The request ended: the arm that decided it is told.
    pub(super) fn settle(&self, shared: &Shared, outcome: Outcome, cost: Option<f64>) {
        let Some(arm) = self.arm else { return };
        if outcome == Outcome::Cancelled {
            return;
        }
        let failed = self.failed || outcome != Outcome::Ok;
        let told = if failed { "failed" } else { "ok" };
        metrics::counter!("tollgate_policy_arm_requests_total", "arm" => arm.as_str(), "outcome" => told)
            .increment(1);
        let end = End { failed, cost };
        if let Some(halted) = shared.rollout.ended(arm, end, Instant::now(), shared.clock.unix_ms()) {
            rolled_back(shared, &halted);
        }
    }
}

impl Question {
    /// What was used of the provider.
    pub(super) fn used(&mut self, usage: Option<&crate::chat::Usage>) {
        self.size = usage.map(|usage| Size { input: usage.prompt(), output: usage.output });
    }
}

/// A candidate lost its share: that is told loudly, and remembered beyond the process.
pub fn rolled_back(shared: &Shared, halted: &Halted) {
    let Halted { hash, kind, reason, share, .. } = halted;
    tracing::error!(
        candidate = &**hash,
        kind = &**kind,
        reason = &**reason,
        share_percent = share,
        "alert: the candidate policies were rolled back and decide for nobody until their files change or they are promoted again"
    );
    metrics::counter!("tollgate_policy_rollbacks_total", "reason" => kind.to_string()).increment(1);
    if let Ok(told) = serde_json::to_value(halted) {
        shared.versions.remember(Some(told));
    }
}

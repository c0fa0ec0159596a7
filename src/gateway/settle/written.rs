//! What is written of a request when it has ended: a line of the access log, and the record of its decision.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Conversed, Settlement};
use crate::chat::Loss;
use crate::gateway::papers::Papers;
use crate::money::Nano;
use crate::plan::{AttemptRecord, Candidate, Dossier, Outcome, RECORD_VERSION, Record, Rule};
use crate::policy::rollout::Arm;

/// How a request ended.
pub(super) struct Ending {
    pub(super) status: u16,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    pub(super) cost: Option<Nano>,
    pub(super) error: Option<Box<str>>,
    pub(super) warnings: Vec<Loss>,
}

/// One line of the access log.
#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    method: &'static str,
    path: &'static str,
    status: u16,
    ms: f64,
    overhead_us: f64,
    policy_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<Conversed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Loss]>::is_empty")]
    warnings: &'a [Loss],
    record: &'a Record,
}

impl Settlement {
    /// Leaves it to a thread that does many in a row; whoever reads records sees to it that this one is among them.
    pub(super) fn write_soon(mut self: Box<Self>, ending: Ending) {
        // Who watches a share of the traffic, or compares it, acts on what comes in.
        if self.owed.is_some() {
            return self.write_down(ending);
        }
        let decisions = self.decisions.clone();
        decisions.soon(Box::new(move || self.write_down(ending)));
    }

    /// Writes the line, and keeps the record.
    pub(super) fn write_down(&mut self, ending: Ending) {
        let Ending { status, outcome, took, cost, error, warnings } = ending;
        let record = self.record(outcome);
        self.access_log.line(&Line {
            ts: timestamp(self.unix_ms),
            method: self.method,
            path: self.path,
            status,
            ms: millis(took),
            overhead_us: micros(self.overhead),
            policy_us: micros(self.policy),
            first_token_ms: self.first_token.map(millis),
            address: self.address,
            key: self.caller.as_ref().map(|(key, _)| &**key),
            team: self.caller.as_ref().and_then(|(_, team)| team.as_deref()),
            finish: self.finish,
            conversation: self.conversation,
            error: error.as_deref(),
            warnings: &warnings,
            record: &record,
        });
        let question = self.owed.take().and_then(|owed| {
            owed.settle(&self.shared, outcome, cost.map(Nano::dollars));
            owed.question
        });
        let papers = self.papers.take().filter(|_| self.decisions.is_on());
        let dossier = papers.map(|papers| self.dossier(*papers, record, status, took, error.as_deref()));
        match (question, dossier) {
            (Some(mut question), dossier) => {
                question.used(self.usage.as_ref());
                question.visited =
                    dossier.iter().find_map(|d| Some(d.seen.as_ref()?.visited.clone())).unwrap_or_default();
                question.record = dossier.map(|dossier| (self.decisions.clone(), dossier));
                self.shared.shadows.ask(question);
            }
            (None, Some(dossier)) => self.decisions.keep(dossier),
            (None, None) => {}
        }
    }

    pub(super) fn dossier(
        &self,
        papers: Papers,
        record: Record,
        status: u16,
        took: Duration,
        error: Option<&str>,
    ) -> Dossier {
        let first_token_ms = self.first_token.map(millis);
        let dossier = papers.into_dossier(record, self.unix_ms, micros(self.policy));
        let (error, finish) = (error.map(Into::into), self.finish.map(Into::into));
        Dossier { status, ms: millis(took), first_token_ms, error, finish, ..dossier }
    }

    fn record(&mut self, outcome: Outcome) -> Record {
        let (rule, tags) = (self.rule.take(), std::mem::take(&mut self.tags));
        let attempts = self.journal.close();
        let mut candidates = std::mem::take(&mut self.candidates);
        self.pass_over(&mut candidates, &attempts);
        Record { facts: self.facts.take(), candidates, attempts, ..self.outline(outcome, rule, tags) }
    }

    /// Says of targets that were not tried why they were passed over.
    pub(super) fn pass_over(&self, candidates: &mut [Candidate], attempts: &[AttemptRecord]) {
        let (skipped, catalogue) = (self.journal.skipped(), self.snapshot.catalogue_of(self.version));
        for seen in candidates.iter_mut().filter(|seen| attempts.iter().all(|a| a.target != seen.target)) {
            if let Some((_, reason)) = skipped.iter().rfind(|(target, _)| *target == seen.target) {
                seen.rejected = Some((*reason).into());
            } else if let (None, Some(say)) = (&seen.rejected, &self.say) {
                seen.rejected = say.exclusion(&seen.target, catalogue).map(Into::into);
            }
        }
    }

    /// The record without its larger parts.
    pub(super) fn outline(
        &self,
        outcome: Outcome,
        rule: Option<Rule>,
        tags: Vec<(Arc<str>, Arc<str>)>,
    ) -> Record {
        Record {
            v: RECORD_VERSION,
            request_id: self.request_id.clone(),
            snapshot: self.snapshot.hash.clone(),
            version: self.snapshot.version(self.version).map(|version| version.name.clone()),
            model_version: self.target.as_ref().and_then(|target| self.model_version(&target.name)),
            facts: None,
            rule,
            arm: self
                .owed
                .as_ref()
                .and_then(|owed| owed.policies.as_ref())
                .map(|_| Arm::Candidate.as_str().into()),
            policies: self.owed.as_ref().and_then(|owed| owed.policies.clone()),
            cache: self.cache.clone(),
            tags,
            candidates: Vec::new(),
            attempts: Vec::new(),
            usage: self.usage,
            cost: self.cost.flatten(),
            outcome,
        }
    }
}

/// When, in words.
pub(in crate::gateway) fn timestamp(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|t| format!("{t:.3}")).unwrap_or_default()
}

/// Milliseconds with three decimals.
pub(in crate::gateway) fn millis(duration: Duration) -> f64 {
    micros(duration).round() / 1e3
}

/// Microseconds with one decimal.
fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

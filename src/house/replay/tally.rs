//! What is counted while records are replayed; counts of several threads add up.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Outcome;
use crate::plan::{Constraint, Decision, Dossier, Hook};
use crate::policy::replay::Difference;

/// Reasons why records were undecidable that are told apart.
const REASONS: usize = 100;
/// Measured times that are kept of each target.
const TIMES: usize = 20_000;

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) most_samples: usize,
    pub(super) unreadable: u64,
    pub(super) too_old: u64,
    /// Never got as far as the policies.
    pub(super) undecided: u64,
    pub(super) asked: u64,
    pub(super) same: u64,
    pub(super) other_rule: u64,
    pub(super) changed: u64,
    pub(super) undecidable: u64,
    pub(super) failed: u64,
    pub(super) newly_denied: u64,
    pub(super) newly_allowed: u64,
    pub(super) denied_before: u64,
    pub(super) denied_after: u64,
    pub(super) missed: BTreeMap<String, u64>,
    pub(super) routes: BTreeMap<(String, String), u64>,
    pub(super) rules: BTreeMap<(String, String), u64>,
    pub(super) targets: BTreeMap<String, TargetTally>,
    pub(super) days: BTreeMap<String, Dollars>,
    pub(super) cost: Dollars,
    /// Requests whose cost is known before and after.
    pub(super) priced: u64,
    /// Requests whose cost was known and would not be.
    pub(super) newly_unpriced: u64,
    /// Requests whose cost was not known and would be, and their dollars then.
    pub(super) newly_priced: (u64, f64),
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug, Default)]
pub(super) struct TargetTally {
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) cost: Dollars,
    pub(super) times: Vec<f32>,
}

/// Money before and after, in dollars.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct Dollars {
    /// As it was decided.
    pub before: f64,
    /// As it would be decided.
    pub after: f64,
}

/// One request that would be treated otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Its `x-request-id`.
    pub id: String,
    /// The rule that decided.
    pub rule_before: String,
    /// The rule that would decide.
    pub rule_after: String,
    /// What was decided.
    pub before: String,
    /// What would be decided.
    pub after: String,
}

impl Tally {
    pub(super) fn new(most_samples: usize) -> Self {
        Self { most_samples, ..Self::default() }
    }

    pub(super) fn count(&mut self, outcome: &Outcome<'_>) {
        self.asked += 1;
        let dossier = outcome.dossier;
        for attempt in dossier.record.attempts.iter().filter(|attempt| attempt.outcome == "ok") {
            let target = self.targets.entry(attempt.target.to_string()).or_default();
            if target.times.len() < TIMES {
                #[allow(clippy::cast_possible_truncation, reason = "milliseconds need no more digits")]
                target.times.push(attempt.ms as f32);
            }
        }
        if !outcome.missed.is_empty() {
            self.undecidable += 1;
            for missed in &outcome.missed {
                if self.missed.len() < REASONS || self.missed.contains_key(missed) {
                    *self.missed.entry(missed.clone()).or_default() += 1;
                }
            }
            return;
        }
        self.failed += u64::from(outcome.failed);
        match outcome.difference {
            Difference::None => self.same += 1,
            Difference::Rule => self.other_rule += 1,
            Difference::Act => self.changed += 1,
        }
        if outcome.difference != Difference::None {
            *self.rules.entry((rule_before(dossier), rule_after(outcome))).or_default() += 1;
        }
        self.count_ways(outcome);
        if outcome.difference == Difference::Act {
            self.sample(outcome);
        }
    }

    fn count_ways(&mut self, outcome: &Outcome<'_>) {
        let (before, after) = (&outcome.before, &outcome.after);
        self.denied_before += u64::from(before.denied);
        self.denied_after += u64::from(after.denied);
        self.newly_denied += u64::from(!before.denied && after.denied);
        self.newly_allowed += u64::from(before.denied && !after.denied);
        let (from, to) = (before.name(), after.name());
        if from != to {
            *self.routes.entry((from.to_owned(), to.to_owned())).or_default() += 1;
        }
        for (target, is_after) in [(&before.target, false), (&after.target, true)] {
            let Some(target) = target else { continue };
            let tally = self.targets.entry(target.clone()).or_default();
            *(if is_after { &mut tally.after } else { &mut tally.before }) += 1;
        }
        // Both prices must be known, unless nobody is asked.
        if outcome.dossier.record.usage.is_none() {
            return;
        }
        let (old, new) = (before.cost, after.cost);
        if let (None, Some(new), Some(_)) = (old, new, &after.target) {
            self.newly_priced = (self.newly_priced.0 + 1, self.newly_priced.1 + new);
        }
        self.newly_unpriced += u64::from(old.is_some() && new.is_none());
        if let (Some(old), Some(new)) = (old, new) {
            self.priced += 1;
            let more = Dollars { before: old, after: new };
            self.cost.add(more);
            self.days.entry(day(outcome.dossier.at_ms)).or_default().add(more);
            if let Some(target) = &before.target {
                self.targets.entry(target.clone()).or_default().cost.before += old;
            }
            if let Some(target) = &after.target {
                self.targets.entry(target.clone()).or_default().cost.after += new;
            }
        }
    }

    /// One sample of each pair of rules first, then others.
    fn sample(&mut self, outcome: &Outcome<'_>) {
        let sample = Sample {
            id: outcome.dossier.record.request_id.to_string(),
            rule_before: rule_before(outcome.dossier),
            rule_after: rule_after(outcome),
            before: said(
                outcome.dossier.decision.as_deref(),
                outcome.turn.as_ref().map(|it| (it.hook, &it.before)),
            ),
            after: said(outcome.new.as_ref(), outcome.turn.as_ref().map(|it| (it.hook, &it.after))),
        };
        self.add_sample(sample);
    }

    fn add_sample(&mut self, sample: Sample) {
        let pair = |sample: &Sample| (sample.rule_before.clone(), sample.rule_after.clone());
        let is_new = !self.samples.iter().any(|known| pair(known) == pair(&sample));
        if self.samples.len() < self.most_samples {
            self.samples.push(sample);
        } else if is_new {
            // A second one of another pair makes room.
            let twice = (0..self.samples.len()).rev().find(|at| {
                let (before, rest) = self.samples.split_at(*at);
                rest.first().is_some_and(|this| before.iter().any(|known| pair(known) == pair(this)))
            });
            if let Some(slot) = twice.and_then(|at| self.samples.get_mut(at)) {
                *slot = sample;
            }
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        for (count, more) in [
            (&mut self.unreadable, other.unreadable),
            (&mut self.too_old, other.too_old),
            (&mut self.undecided, other.undecided),
            (&mut self.asked, other.asked),
            (&mut self.same, other.same),
            (&mut self.other_rule, other.other_rule),
            (&mut self.changed, other.changed),
            (&mut self.undecidable, other.undecidable),
            (&mut self.failed, other.failed),
            (&mut self.newly_denied, other.newly_denied),
            (&mut self.newly_allowed, other.newly_allowed),
            (&mut self.denied_before, other.denied_before),
            (&mut self.denied_after, other.denied_after),
            (&mut self.priced, other.priced),
            (&mut self.newly_unpriced, other.newly_unpriced),
            (&mut self.newly_priced.0, other.newly_priced.0),
        ] {
            *count += more;
        }
        for (reason, count) in other.missed {
            *self.missed.entry(reason).or_default() += count;
        }
        for (all, more) in [(&mut self.routes, other.routes), (&mut self.rules, other.rules)] {
            for (pair, count) in more {
                *all.entry(pair).or_default() += count;
            }
        }
        for (name, more) in other.targets {
            let target = self.targets.entry(name).or_default();
            target.before += more.before;
            target.after += more.after;
            target.cost.add(more.cost);
            let room = TIMES.saturating_sub(target.times.len());
            target.times.extend(more.times.into_iter().take(room));
        }
        for (day, more) in other.days {
            self.days.entry(day).or_default().add(more);
        }
        self.cost.add(other.cost);
        self.newly_priced.1 += other.newly_priced.1;
        other.samples.into_iter().for_each(|sample| self.add_sample(sample));
    }
}

impl Dollars {
    fn add(&mut self, more: Self) {
        self.before += more.before;
        self.after += more.after;
    }
}

fn rule_before(dossier: &Dossier) -> String {
    let failed = dossier.decision.is_none();
    let rule = dossier.record.rule.as_ref().or(dossier.decision.as_ref().and_then(|d| d.rule.as_ref()));
    rule.map_or_else(|| nobody(failed), |rule| rule.shown())
}

fn rule_after(outcome: &Outcome<'_>) -> String {
    let rule = outcome.new.as_ref().and_then(|decision| decision.rule.as_ref());
    rule.map_or_else(|| nobody(outcome.failed), |rule| rule.shown())
}

fn nobody(failed: bool) -> String {
    if failed { "(failed)".into() } else { "(default plan)".into() }
}

/// What was decided, what holds beside it, and what a hook behind that made of it.
fn said(decision: Option<&Decision>, turn: Option<(Hook, &String)>) -> String {
    let mut text = match decision.map(|decision| decision.verdict.as_ref()) {
        Some(Some(verdict)) => verdict.shown(),
        Some(None) => "(default plan)".into(),
        None => "(failed)".into(),
    };
    if let Some(decision) = decision {
        let shown = |word: &str, constraint: &Constraint| format!("{word}({})", constraint.shown());
        let required = decision.require.iter().map(|constraint| shown("require", constraint));
        let avoided = decision.avoid.iter().map(|constraint| shown("avoid", constraint));
        let tags = decision.tags.iter().map(|(key, value)| format!("tag({key:?}, {value:?})"));
        for part in required.chain(avoided).chain(decision.output.shown()).chain(tags) {
            text.push_str(", ");
            text.push_str(&part);
        }
    }
    if let Some((hook, said)) = turn {
        let hook = if hook == Hook::OnError { "on_error" } else { "on_response" };
        let said = if said.is_empty() { "no opinion" } else { said };
        text.push_str(&format!(", {hook}: {said}"));
    }
    text
}

fn day(at_ms: u64) -> String {
    let ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
    let day = jiff::Timestamp::from_millisecond(ms);
    day.map(|time| time.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}

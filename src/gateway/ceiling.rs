//! The most that one request of a key may cost: targets beyond it are left out, and answers are cut to it.

use std::sync::Arc;

use super::Figures;
use super::door::Asked;
use super::identify::beyond;
use super::reserve::{is_free, size};
use crate::executor::Remainder;
use crate::facts::Facts;
use crate::fault::Fault;
use crate::ledger::{Bound, Measure, Size, When, Work};
use crate::plan::By;
use crate::planner::Plan;
use crate::policy::Session;
use crate::providers::Target;

/// Tokens of each answer that a judge is shown at most.
const SHOWN: u64 = 15_360;

/// Tokens by which a judge is told what to do, at most.
const TASK: u64 = 384;

/// Bytes of a token, for the text of an answer that becomes part of a prompt.
const TOKEN: u64 = 4;

/// Leaves the targets at which a request stays within what its key may cost, with answers no longer than that. Where
/// several answer, each of them and who judges them may cost an equal part. `most` is what policies allow an answer.
///
/// # Errors
/// `Forbidden` when none is left, or who judges may cost more.
pub(super) fn enforce(
    figures: &Arc<Figures>,
    facts: &Facts,
    asked: &dyn Asked,
    most: Option<u64>,
    plan: &mut Plan,
) -> Result<(), Fault> {
    let limit = Limit::of(figures, facts, asked).filter(|_| !is_free(facts.endpoint));
    let Some(limit) = limit else { return Ok(()) };
    let size = size(facts.endpoint, asked, most);
    if size.work == Work::Unknown {
        // Lists and lookups: nothing is made of no body.
        return Ok(());
    }
    let several = several(plan, asked.wants_stream());
    let room = limit.most / several.saturating_add(u64::from(plan.judge.is_some()));
    let mut longest = 0;
    let candidates = &mut plan.candidates;
    plan.targets.retain_mut(|target| {
        let within = limit.hold(room, target, &size);
        longest = longest.max(within.flatten().unwrap_or(SHOWN));
        if within.is_none()
            && let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.target == target.name)
        {
            (candidate.rank, candidate.rejected) = (None, Some("costs more than the key allows".into()));
        }
        within.is_some()
    });
    if plan.targets.is_empty() {
        return Err(beyond("the request may cost more than this key allows"));
    }
    let Some(judge) = &mut plan.judge else { return Ok(()) };
    let shown = longest.min(SHOWN).saturating_mul(several).saturating_add(TASK);
    let prompt_most = size.prompt_most.saturating_add(shown);
    let case = Size { prompt_most, asked: None, choices: 1, work: Work::Text, ..size };
    match limit.hold(room, judge, &case) {
        Some(_) => Ok(()),
        None => Err(beyond("who judges the answers may cost more than this key allows")),
    }
}

/// Who can go on with a stream that breaks off, and how far. What the key does not allow does not go on with answers
/// either.
pub(super) fn sequels(
    figures: &Arc<Figures>,
    session: &Session,
    asked: &dyn Asked,
    most: Option<u64>,
    plan: &mut Plan,
) -> Option<(Vec<Target>, Remainder)> {
    let mut sequels = std::mem::take(&mut plan.sequels);
    sequels.retain(|one| plan.targets.iter().any(|target| target.name == one.name));
    (!sequels.is_empty()).then(|| (sequels, remainder(figures, session, asked, most)))
}

/// What is left for whoever goes on: the beginning was paid for already, and the client has heard so much of what it asked
/// for, or of what policies allow.
fn remainder(figures: &Arc<Figures>, session: &Session, asked: &dyn Asked, most: Option<u64>) -> Remainder {
    let limit = Limit::of(figures, session.facts(), asked);
    let size = size(session.facts().endpoint, asked, most);
    Arc::new(move |target, broken, said| {
        let left = size.asked.map(|asked| asked.saturating_sub(said));
        if left == Some(0) {
            return None;
        }
        let mut target = left.map_or_else(|| target.clone(), |left| target.capped(left));
        if let Some(limit) = &limit {
            let spent = limit.bound(broken, &size)?.amount(Measure::Dollars, Some(said))?;
            let prompt_most = size.prompt_most.saturating_add(said.saturating_mul(TOKEN));
            let rest = Size { prompt_most, asked: left, ..size };
            limit.hold(limit.most.checked_sub(spent)?, &mut target, &rest)?;
        }
        Some(target)
    })
}

/// How many targets are asked together.
fn several(plan: &Plan, stream: bool) -> u64 {
    let together = plan.manner.as_ref().and_then(|manner| manner.together.as_ref());
    let together = together.filter(|together| !stream || together.by == By::Race);
    together.map_or(1, |together| together.of.min(plan.targets.len())).max(1) as u64
}

/// What a request may cost, and by which prices: those of the worst case, as budgets hold it.
struct Limit {
    figures: Arc<Figures>,
    /// In nano-dollars.
    most: u64,
    when: When,
    any_tier: bool,
}

impl Limit {
    /// The limit of the caller's key, if it has one.
    fn of(figures: &Arc<Figures>, facts: &Facts, asked: &dyn Asked) -> Option<Self> {
        let most = facts.caller.grant.as_ref()?.scope.max_cost?;
        Some(Self {
            figures: figures.clone(),
            most: nano(most),
            when: When { unix_ms: facts.at_ms, ..When::default() },
            any_tier: asked.service_tier().is_some(),
        })
    }

    /// The worst case at a target; `None` where it has no price.
    fn bound(&self, target: &Target, size: &Size) -> Option<Bound> {
        let known = self.figures.known(&target.name)?;
        let most = known.model.max_output.map(u64::from);
        let chooses = self.figures.may_choose(target);
        let size = Size { tier: size.tier.filter(|_| !chooses), ..size.at(Some(&*known)) };
        Some(Bound::of(&size, Some(known.price()?), self.when, self.any_tier || chooses, None, most))
    }

    /// Cuts the answers of a target to what so many nano-dollars pay for. `None` where it may cost more, `Some(None)`
    /// where nobody can say how long an answer is, else how long each is at most.
    fn hold(&self, room: u64, target: &mut Target, size: &Size) -> Option<Option<u64>> {
        let bound = self.bound(target, size)?;
        let output = bound.output.unwrap_or(0);
        let paid = bound.affordable(Measure::Dollars, room)?.min(output);
        if paid < output && (paid == 0 || !bound.can_shrink) {
            return None;
        }
        if let Some(most) = bound.cap(Some(paid), true) {
            *target = target.capped(most);
        }
        Some(bound.can_shrink.then(|| paid / bound.choices))
    }
}

/// Dollars of the configuration in nano-dollars.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be above zero where it is read; a float saturates"
)]
fn nano(dollars: f64) -> u64 {
    (dollars * 1e9) as u64
}

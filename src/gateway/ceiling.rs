//! The most that one request of a key may cost: targets beyond it are left out, and answers are cut to it.

use std::sync::Arc;

use super::identify::beyond;
use crate::executor::Remainder;
use crate::facts::market::Size;
use crate::facts::{Body, Endpoint, Facts};
use crate::fault::Fault;
use crate::plan::By;
use crate::planner::Plan;
use crate::policy::Session;
use crate::providers::Target;

/// Tokens of each answer that a judge is shown at most.
const SHOWN: u64 = 15_360;

/// Tokens by which a judge is told what to do.
const TASK: u64 = 128;

/// Leaves the targets at which a request stays within what its key may cost, with answers no longer than that. Where
/// several answer, each of them and who judges them may cost an equal part.
///
/// # Errors
/// `Forbidden` when none is left, or who judges may cost more.
pub(super) fn enforce(facts: &Facts, body: &dyn Body, plan: &mut Plan) -> Result<(), Fault> {
    let Some(most) = facts.caller.grant.as_ref().and_then(|grant| grant.scope.max_cost) else {
        return Ok(());
    };
    let several = u32::try_from(several(plan, body.stream())).unwrap_or(u32::MAX);
    let judges = u32::from(plan.judge.is_some());
    let limit = Limit { facts, most: most / f64::from(several.saturating_add(judges)) };
    let (input, asked, mut longest) = (body.tokens(), body.max_tokens(), 0);
    let candidates = &mut plan.candidates;
    plan.targets.retain_mut(|target| {
        let within = limit.hold(target, input, asked);
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
    let shown = longest.min(SHOWN).saturating_mul(several.into()).saturating_add(TASK);
    match limit.hold(judge, input.saturating_add(shown), None) {
        Some(_) => Ok(()),
        None => Err(beyond("who judges the answers may cost more than this key allows")),
    }
}

/// What is left for whoever goes on with a stream that broke off: its beginning was paid for already, and the client has
/// heard so much of what it asked for.
pub(super) fn remainder(session: &Session, body: &dyn Body) -> Remainder {
    let (session, input, asked) = (session.clone(), body.tokens(), body.max_tokens());
    Arc::new(move |target, broken, said| {
        let facts = session.facts();
        let left = asked.map(|asked| asked.saturating_sub(said));
        if left == Some(0) {
            return None;
        }
        let mut target = left.map_or_else(|| target.clone(), |left| target.capped(left));
        if let Some(most) = facts.caller.grant.as_ref().and_then(|grant| grant.scope.max_cost) {
            let offer = facts.market.offer(&broken.to_string())?;
            let spent = facts.market.cost(&offer, Size { input, output: said })?;
            Limit { facts, most: most - spent }.hold(&mut target, input.saturating_add(said), left)?;
        }
        Some(target)
    })
}

/// How many targets are asked together.
fn several(plan: &Plan, stream: bool) -> usize {
    let together = plan.manner.as_ref().and_then(|manner| manner.together.as_ref());
    let together = together.filter(|together| !stream || together.by == By::Race);
    together.map_or(1, |together| together.of.min(plan.targets.len())).max(1)
}

/// What one answer may cost, in dollars.
struct Limit<'a> {
    facts: &'a Facts,
    most: f64,
}

impl Limit<'_> {
    /// Cuts the answers of a target to the limit. `None` where not one token fits, `Some(None)` where the answer may be as
    /// long as it likes, else how long it is at most.
    fn hold(&self, target: &mut Target, input: u64, asked: Option<u64>) -> Option<Option<u64>> {
        let Self { facts, most } = *self;
        let name = target.name.to_string();
        let cost = |output: u64| {
            let offer = facts.market.offer(&name)?;
            facts.market.cost(&offer, Size { input, output })
        };
        let prompt = cost(0)?;
        if !matches!(facts.endpoint, Endpoint::Chat | Endpoint::Completions) {
            return (prompt <= most).then_some(None);
        }
        let cut = affordable(prompt, cost(SAMPLE), most, asked)?;
        if let Some(tokens) = cut {
            *target = target.capped(tokens);
        }
        Some(cut.or(asked))
    }
}

/// Tokens of an answer by which the price of one is found: fewer than any model can make.
const SAMPLE: u64 = 256;

/// How many tokens of an answer fit, `Some(None)` where the client asked for no more; `None` where not one fits.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "estimates of money, checked to be finite and above zero"
)]
fn affordable(prompt: f64, sample: Option<f64>, most: f64, asked: Option<u64>) -> Option<Option<u64>> {
    let left = most - prompt;
    let one = (sample? - prompt) / SAMPLE as f64;
    if left < 0.0 {
        return None;
    }
    if one <= 0.0 {
        return Some(None);
    }
    let tokens = (left / one).floor().min(u32::MAX as f64) as u64;
    match asked {
        _ if tokens == 0 => None,
        Some(asked) if asked <= tokens => Some(None),
        _ => Some(Some(tokens)),
    }
}

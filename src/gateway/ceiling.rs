//! The most that one request of a key may cost: targets beyond it are left out, and answers are cut to it.

use std::sync::Arc;

use super::identify::beyond;
use crate::facts::market::Size;
use crate::facts::{Body, Endpoint, Facts};
use crate::fault::Fault;
use crate::plan::{Candidate, OutputRules};
use crate::providers::Target;

/// Leaves the targets at which a request stays within what its key may cost, with answers no longer than that.
///
/// # Errors
/// `Forbidden` when none is left.
pub(super) fn enforce(
    facts: &Facts,
    body: &dyn Body,
    targets: &mut Vec<Target>,
    candidates: &mut [Candidate],
) -> Result<(), Fault> {
    let Some(most) = facts.caller.grant.as_ref().and_then(|grant| grant.scope.max_cost) else {
        return Ok(());
    };
    let talks = matches!(facts.endpoint, Endpoint::Chat | Endpoint::Completions);
    let input = body.tokens();
    targets.retain_mut(|target| {
        let name = target.name.to_string();
        let cost = |output: u64| {
            let offer = facts.market.offer(&name)?;
            facts.market.cost(&offer, Size { input, output })
        };
        let within = match cost(0) {
            Some(prompt) if talks => {
                affordable(prompt, cost(SAMPLE), most, body.max_tokens()).map(|tokens| {
                    if let Some(tokens) = tokens {
                        let rules = OutputRules { most: Some(tokens), ..OutputRules::default() };
                        *target = target.under(&Arc::new(rules), None);
                    }
                })
            }
            Some(prompt) => (prompt <= most).then_some(()),
            None => None,
        };
        if within.is_none()
            && let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.target == target.name)
        {
            (candidate.rank, candidate.rejected) = (None, Some("costs more than the key allows".into()));
        }
        within.is_some()
    });
    if targets.is_empty() { Err(beyond("the request may cost more than this key allows")) } else { Ok(()) }
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

//! What a decision does to the request, what of it can be enforced, and what is told of what got lost.

use std::sync::Arc;

use super::door::Asked;
use crate::chat::Loss;
use crate::executor::Journal;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::plan::{Decision, OutputRules, Route, Step, Verdict};
use crate::planner::Plan;
use crate::providers::{Gauge, Inspection};

/// The most losses that `x-tollgate-warnings` names one by one.
const MAX_WARNINGS: usize = 16;

/// The rules for the output, as far as they mean something for this operation. What cannot be enforced is refused: a
/// rule is never passed over in silence.
pub(super) fn enforceable(
    decision: &mut Decision,
    endpoint: Endpoint,
    pinned: bool,
) -> Result<Option<OutputRules>, Fault> {
    let refuse = |what: &str| {
        let text = format!("a policy {what}, which cannot be done to this kind of request");
        Err(Fault::new(FaultKind::Rejected, text).code("policy_not_enforceable"))
    };
    let talks = matches!(endpoint, Endpoint::Chat | Endpoint::Completions | Endpoint::CountTokens);
    if matches!(decision.verdict, Some(Verdict::Respond(_))) && (!talks || pinned) {
        return refuse("answers by itself");
    }
    let rules = std::mem::take(&mut decision.output);
    if rules.is_empty() {
        return Ok(None);
    }
    let raw = pinned || matches!(endpoint, Endpoint::Passthrough | Endpoint::Realtime);
    if rules.changes_prompt() && (!talks || raw) {
        return refuse("takes something out of the prompt");
    }
    // Nobody answers a file: there is nothing to limit.
    let moot = endpoint == Endpoint::Files && !rules.inspects();
    if raw && !moot {
        return refuse("limits the answer");
    }
    Ok(talks.then_some(rules))
}

/// Puts all who may answer under the rules. Who judges reads the prompt too, so what is taken out of it is taken out there.
pub(super) fn govern(
    plan: &mut Plan,
    rules: OutputRules,
    inspection: Option<Arc<dyn Inspection>>,
    gauge: &Gauge,
) {
    let rules = Arc::new(rules);
    let all = plan.targets.iter_mut().chain(&mut plan.judge).chain(&mut plan.sequels);
    all.for_each(|target| *target = target.under(&rules, inspection.clone(), Some(gauge)));
}

/// The request with the parameters that a policy set. What its operation or dialect does not have is told to the client.
pub(super) fn with_parameters(
    asked: Arc<dyn Asked>,
    route: &Route,
    journal: &Journal,
) -> Result<Arc<dyn Asked>, Fault> {
    let mut missing = Vec::new();
    let again = asked.with(&route.set, &mut missing)?;
    if again.is_none() {
        missing = route.set.iter().map(|(name, _)| name.clone()).collect();
    }
    journal.never_carried(missing.iter().map(|name| Loss::new(name.to_string(), "not set")).collect());
    Ok(again.unwrap_or(asked))
}

/// The client chose the provider: a policy's route keeps its deadlines, and nothing is tried twice.
pub(super) fn pin(decision: &mut Decision, model: &Arc<str>) {
    let route = match decision.verdict.take() {
        Some(verdict @ (Verdict::Reject(_) | Verdict::Respond(_))) => {
            return decision.verdict = Some(verdict);
        }
        Some(Verdict::Route(route)) => route,
        None => Route::default(),
    };
    let steps = vec![Step { choices: vec![(model.clone(), 1.0)] }];
    decision.verdict =
        Some(Verdict::Route(Route { steps, retries: Some(0), pinned: true, strategy: Vec::new(), ..route }));
}

/// `x-tollgate-warnings: logit_bias (dropped), temperature (lowered to 1)`.
pub(super) fn warnings(lost: &[Loss]) -> Option<String> {
    let mut text = String::new();
    for (at, loss) in lost.iter().enumerate() {
        if at == MAX_WARNINGS {
            text.push_str(&format!(", and {} more", lost.len() - at));
            break;
        }
        if at > 0 {
            text.push_str(", ");
        }
        // A path may hold a field name of the client's own making.
        text.extend(loss.to_string().chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(200));
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Redaction;

    #[test]
    fn limits_of_answers_do_not_concern_files() {
        let capped =
            || OutputRules { most: Some(100), stop_on: vec!["END".into()], ..OutputRules::default() };
        let watched = || OutputRules { inspected: true, ..capped() };
        let redaction = Redaction { value: "a".into(), placeholder: "[A]".into(), restore: false };
        let redacted = || OutputRules { redact: vec![redaction.clone()], ..capped() };
        for (rules, endpoint, pinned, expected) in [
            (capped(), Endpoint::Chat, false, Ok(true)),
            (capped(), Endpoint::Embeddings, false, Ok(false)),
            (capped(), Endpoint::Files, true, Ok(false)),
            (watched(), Endpoint::Files, true, Err("policy_not_enforceable")),
            (redacted(), Endpoint::Files, true, Err("policy_not_enforceable")),
            (capped(), Endpoint::Passthrough, true, Err("policy_not_enforceable")),
            (capped(), Endpoint::Realtime, true, Err("policy_not_enforceable")),
        ] {
            let mut decision = Decision { output: rules.clone(), ..Decision::default() };
            let held = enforceable(&mut decision, endpoint, pinned);
            let held = held.map(|rules| rules.is_some()).map_err(|fault| fault.code_str().to_owned());
            assert_eq!(held, expected.map_err(str::to_owned), "{rules:?} at {endpoint:?}");
        }
    }
}

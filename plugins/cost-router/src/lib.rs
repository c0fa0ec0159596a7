//! A router: every candidate that can serve the request gets a score of its cost, its latency and its error rate, each
//! against the worst of the candidates, weighted as configured; the lowest score is asked first.

mod config;

use tollgate_plugin::prelude::*;

use config::{Config, Weights};

/// The router: its weights and its bounds.
#[derive(Debug)]
pub struct CostRouter(Config);

impl Plugin for CostRouter {
    type Config = Config;
    const NEEDS: Needs = Needs::CANDIDATES;

    fn new(config: Config) -> Result<Self, String> {
        config.check()?;
        Ok(CostRouter(config))
    }
}

impl Route for CostRouter {
    fn route(
        &self,
        ctx: &RequestContext,
        _: &[Segment],
        candidates: &[Candidate],
    ) -> Result<Decision, Failure> {
        let fit: Vec<&Candidate> = candidates.iter().filter(|candidate| self.fits(ctx, candidate)).collect();
        if fit.is_empty() {
            return Ok(self.without_candidates());
        }
        let weights = self.weights(ctx);
        let worst = Worst::of(&fit);
        let mut scored: Vec<(f64, &Candidate)> =
            fit.iter().map(|candidate| (worst.score(weights, candidate), *candidate)).collect();
        scored.sort_by(|(a, x), (b, y)| a.total_cmp(b).then_with(|| x.target.cmp(&y.target)));
        scored.truncate(self.0.fallbacks.saturating_add(1));
        let told: Vec<String> =
            scored.iter().map(|(score, candidate)| format!("{} {score:.3}", candidate.target)).collect();
        let steps = (0..).zip(&scored).map(|(rank, (_, candidate))| self.step(rank, candidate));
        Ok(Decision::Plan(Plan {
            steps: steps.collect(),
            set: Vec::new(),
            tags: Vec::new(),
            reason: format!("lowest weighted score first: {}", told.join(", ")),
        }))
    }
}

impl CostRouter {
    /// Whether a candidate is well enough, cheap enough and large enough for this request.
    fn fits(&self, ctx: &RequestContext, candidate: &Candidate) -> bool {
        let bounds = &self.0;
        let tokens = u64::from(ctx.prompt_tokens) + u64::from(ctx.max_output_tokens.unwrap_or(0));
        let large = candidate.context_window == 0 || u64::from(candidate.context_window) >= tokens;
        let cheap = bounds.max_cost_micros.is_none_or(|most| candidate.cost_micros <= most);
        let tagged = bounds.require_tags.iter().all(|tag| candidate.tags.contains(tag));
        candidate.healthy
            && f64::from(candidate.error_rate) <= bounds.max_error_rate
            && large
            && cheap
            && tagged
    }

    /// The weights of the request's `tier` tag, or the general ones.
    fn weights(&self, ctx: &RequestContext) -> &Weights {
        let tier = ctx.tags.iter().find(|(name, _)| name == "tier");
        tier.and_then(|(_, tier)| self.0.tiers.get(tier)).unwrap_or(&self.0.weights)
    }

    fn step(&self, rank: u32, candidate: &Candidate) -> Step {
        // A hedge starts when the target is slower than it usually is at its slowest.
        let hedge_after_ms = self.0.hedge.then_some(candidate.latency_p95_ms).filter(|after| *after > 0);
        let target = candidate.target.clone();
        Step { target, rank, weight: 1.0, timeout_ms: self.0.timeout_ms, retries: None, hedge_after_ms }
    }

    fn without_candidates(&self) -> Decision {
        if !self.0.strict {
            return Decision::Pass;
        }
        Decision::Reject(RouteRejection {
            status: 503,
            code: "no_candidate".to_owned(),
            message: "no model is well enough, large enough and within the bounds of cost for this request"
                .to_owned(),
        })
    }
}

/// What the worst of the candidates has: the measure of the others.
#[derive(Debug)]
struct Worst {
    cost: f64,
    latency: f64,
    errors: f64,
}

impl Worst {
    fn of(candidates: &[&Candidate]) -> Self {
        let most = |of: fn(&Candidate) -> f64| candidates.iter().map(|c| of(c)).fold(0.0, f64::max);
        Worst { cost: most(cost), latency: most(latency), errors: most(errors) }
    }

    /// From 0, the best in everything, to 1, the worst in everything.
    fn score(&self, weights: &Weights, candidate: &Candidate) -> f64 {
        let share = |value: f64, worst: f64| if worst > 0.0 { value / worst } else { 0.0 };
        let sum = weights.cost * share(cost(candidate), self.cost)
            + weights.latency * share(latency(candidate), self.latency)
            + weights.errors * share(errors(candidate), self.errors);
        sum / (weights.cost + weights.latency + weights.errors)
    }
}

fn cost(candidate: &Candidate) -> f64 {
    candidate.cost_micros as f64
}

/// The usual latency, and a little of the unusual.
fn latency(candidate: &Candidate) -> f64 {
    0.75 * f64::from(candidate.latency_p50_ms) + 0.25 * f64::from(candidate.latency_p95_ms)
}

fn errors(candidate: &Candidate) -> f64 {
    f64::from(candidate.error_rate)
}

tollgate_plugin::export!(CostRouter: route);

#[cfg(test)]
mod tests;

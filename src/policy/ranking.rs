//! Which of several targets is best for a request: a ranking that becomes a route, and stands in the decision record.
//!
//! A target that cannot serve the request (context window, abilities) is left out. One that is unhealthy comes after
//! all that are well, one with an unknown number after all that are known; otherwise the order of writing decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{Dynamic, Map};

use super::candidate::{Candidate, Candidates};
use super::request::{Outcome, Request, fault, kind};
use super::suggest::hint;
use super::verdict::Route;
use crate::facts::measure::{MEASURES, Measure, TIERS, measure, weighed};
use crate::plan::{Ranking, Scored};

/// Times that `fastest` goes by.
pub(super) const TIMES: [&str; 6] =
    ["p50", "p95", "p99", "first_token", "first_token_p95", "first_token_p99"];

/// Targets that the configuration's `data.tiers` puts into a class.
#[derive(Debug, Default)]
pub(super) struct Tiers(BTreeMap<String, Vec<String>>);

impl Tiers {
    /// Reads `data.tiers`: names of targets or aliases by class.
    pub(super) fn of(data: &serde_json::Map<String, serde_json::Value>) -> Self {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let tiers = data.get("tiers").and_then(serde_json::Value::as_object);
        let class = |(name, targets): (&String, &serde_json::Value)| {
            let listed = targets.as_array().map(|list| list.iter().filter_map(text).collect());
            (name.clone(), listed.unwrap_or_else(|| text(targets).into_iter().collect()))
        };
        Self(tiers.into_iter().flatten().map(class).collect())
    }
}

pub(super) fn cheapest(request: &Request, from: Candidates) -> Route {
    rank(request, "cost", from, |all| all.iter().map(Candidate::price_of_request).collect())
}

pub(super) fn fastest(request: &Request, from: Candidates, time: &str) -> Outcome<Route> {
    if !TIMES.contains(&time) {
        return Err(fault(not_a_time(time)));
    }
    let measure = measure(time).ok_or_else(|| fault(not_a_time(time)))?;
    Ok(rank(request, time, from, |all| all.iter().map(|target| measure(&target.rated())).collect()))
}

/// The one with the fewest requests under way.
pub(super) fn least_busy(request: &Request, from: Candidates) -> Route {
    let busy = |target: &Candidate| Some(target.offer().live.busy().unwrap_or(0.0));
    rank(request, "busy", from, |all| all.iter().map(busy).collect())
}

/// Each number is stretched to 0 (the best of these targets) up to 1 (the worst), then weighed.
pub(super) fn rank_by(request: &Request, from: Candidates, weights: &Dynamic) -> Outcome<Route> {
    let Some(weights) = weights.read_lock::<Map>() else {
        let given = kind(weights);
        return Err(fault(format!(
            "rank_by: expected weights as #{{ cost: 0.5, latency: 0.5 }}, not {given}"
        )));
    };
    let mut measures = Vec::with_capacity(weights.len());
    for (name, weight) in weights.iter() {
        let measure = measure(name).ok_or_else(|| fault(not_a_measure(name)))?;
        #[allow(clippy::cast_precision_loss, reason = "nobody weighs with more than 53 bits")]
        let number = weight.as_float().or_else(|_| weight.as_int().map(|whole| whole as f64));
        match number {
            Ok(weight) if weight.is_finite() && weight >= 0.0 => measures.push((measure, weight)),
            _ => return Err(fault(format!("rank_by: '{weight}' is not a weight for `{name}` (try 0.5)"))),
        }
    }
    let by: Vec<String> = weights.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
    Ok(rank(request, &by.join(", "), from, |all| scores(all, &measures)))
}

/// The targets of a class, the cheapest first: those that `data.tiers` names, else those with the label `tier`, else by
/// their price.
pub(super) fn tier(request: &Request, class: &str, tiers: &Tiers, names: &super::Names) -> Outcome<Route> {
    if !TIERS.contains(&class) {
        return Err(fault(not_a_tier(class)));
    }
    let from = match tiers.0.get(class) {
        Some(listed) => {
            let listed: rhai::Array = listed.iter().map(|name| name.as_str().into()).collect();
            Candidates::named("tier", request, names, &listed.into())?
        }
        None => {
            let all = request.facts().market.all();
            let mut kept = Candidates {
                kept: all.into_iter().map(|offer| Candidate::new(request, offer)).collect(),
                left_out: Vec::new(),
            };
            kept.leave_out(|target| {
                let of = target.offer().listing.tier();
                (of != Some(class)).then(|| match of {
                    Some(of) => format!("is {of}"),
                    None => "has neither a price nor the label tier".to_owned(),
                })
            });
            kept
        }
    };
    Ok(rank(request, &format!("tier {class}, cost"), from, |all| {
        all.iter().map(Candidate::price_of_request).collect()
    }))
}

fn scores(all: &[Candidate], measures: &[(Measure, f64)]) -> Vec<Option<f64>> {
    let of = |measure: &Measure| all.iter().map(|target| measure(&target.rated())).collect();
    weighed(measures.iter().map(|(measure, weight)| (of(measure), *weight)).collect(), all.len())
}

fn rank(
    request: &Request,
    by: &str,
    mut from: Candidates,
    score: impl Fn(&[Candidate]) -> Vec<Option<f64>>,
) -> Route {
    from.leave_out(|target| target.unfit().map(str::to_owned));
    let scores = score(&from.kept);
    let mut ranked: Vec<(Candidate, Option<f64>)> = from.kept.into_iter().zip(scores).collect();
    ranked.sort_by(|(a, a_score), (b, b_score)| {
        let known = |score: &Option<f64>| score.filter(|score| score.is_finite()).unwrap_or(f64::INFINITY);
        b.is_well().cmp(&a.is_well()).then(known(a_score).total_cmp(&known(b_score)))
    });
    let names: Vec<Arc<str>> = ranked.iter().map(|(target, _)| target.offer().listing.name.clone()).collect();
    let scored = ranked.iter().map(|(target, score)| Scored {
        target: target.offer().listing.name.clone(),
        score: *score,
        rejected: None,
    });
    request.ranked(Ranking { by: by.into(), candidates: scored.chain(from.left_out).collect() });
    Route::in_order(names)
}

pub(super) fn not_a_time(word: &str) -> String {
    format!("fastest: '{word}' is not a time{}: {}", hint(word, TIMES), TIMES.join(", "))
}

pub(super) fn not_a_tier(word: &str) -> String {
    format!("tier: '{word}' is not a class{}: {}", hint(word, TIERS), TIERS.join(", "))
}

pub(super) fn not_a_measure(word: &str) -> String {
    let names = MEASURES.map(|(name, _)| name);
    format!("rank_by: '{word}' is nothing to rank by{}: {}", hint(word, names), names.join(", "))
}

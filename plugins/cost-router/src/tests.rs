//! Who is asked first, and who not at all.

use tollgate_plugin::testing::{candidate, context, plugin};

use super::*;

fn market() -> Vec<Candidate> {
    let mut cheap = candidate("small/cheap");
    (cheap.cost_micros, cheap.latency_p50_ms, cheap.latency_p95_ms) = (100, 2000, 4000);
    let mut fast = candidate("large/fast");
    (fast.cost_micros, fast.latency_p50_ms, fast.latency_p95_ms) = (1000, 300, 500);
    let mut shaky = candidate("free/shaky");
    (shaky.cost_micros, shaky.error_rate, shaky.latency_p50_ms) = (10, 0.4, 400);
    vec![cheap, fast, shaky]
}

fn decide(config: &str, ctx: &RequestContext, candidates: &[Candidate]) -> Decision {
    plugin::<CostRouter>(config).unwrap().route(ctx, &[], candidates).unwrap()
}

fn order(config: &str, ctx: &RequestContext, candidates: &[Candidate]) -> String {
    match decide(config, ctx, candidates) {
        Decision::Plan(plan) => {
            plan.steps.iter().map(|step| step.target.as_str()).collect::<Vec<_>>().join(" ")
        }
        Decision::Pass => "pass".to_owned(),
        Decision::Reject(rejection) => rejection.code,
    }
}

#[test]
fn weights_decide_the_order() {
    let check =
        |config: &str, expected: &str| assert_eq!(order(config, &context(), &market()), expected, "{config}");
    check(r#"{ "weights": { "cost": 1 } }"#, "free/shaky small/cheap large/fast");
    check(r#"{ "weights": { "latency": 1 } }"#, "large/fast free/shaky small/cheap");
    check(r#"{ "weights": { "errors": 1 } }"#, "large/fast small/cheap free/shaky");
    check(r#"{ "weights": { "cost": 1 }, "fallbacks": 0 }"#, "free/shaky");
    check(r#"{ "weights": { "cost": 1 }, "max_error_rate": 0.1 }"#, "small/cheap large/fast");
    check(r#"{ "weights": { "latency": 1 }, "max_cost_micros": 500 }"#, "free/shaky small/cheap");
}

#[test]
fn the_tier_of_a_request_has_its_own_weights() {
    let config = r#"{ "weights": { "cost": 1 }, "tiers": { "premium": { "latency": 1 } }, "fallbacks": 0 }"#;
    let mut ctx = context();
    assert_eq!(order(config, &ctx, &market()), "free/shaky");
    ctx.tags.push(("tier".into(), "premium".into()));
    assert_eq!(order(config, &ctx, &market()), "large/fast");
    ctx.tags[0].1 = "unheard-of".into();
    assert_eq!(order(config, &ctx, &market()), "free/shaky");
}

#[test]
fn who_cannot_serve_the_request_is_left_out() {
    let mut candidates = market();
    candidates[0].context_window = 1000;
    candidates[1].healthy = false;
    candidates[2].tags = vec!["eu".into()];
    let mut ctx = context();
    (ctx.prompt_tokens, ctx.max_output_tokens) = (900, Some(200));
    assert_eq!(order("{}", &ctx, &candidates), "free/shaky");
    assert_eq!(order(r#"{ "require_tags": ["eu"] }"#, &context(), &candidates), "free/shaky");
    assert_eq!(order(r#"{ "require_tags": ["us"] }"#, &context(), &candidates), "pass");
    assert_eq!(
        order(r#"{ "require_tags": ["us"], "strict": true }"#, &context(), &candidates),
        "no_candidate"
    );
    assert_eq!(order("{}", &context(), &[]), "pass");
}

#[test]
fn a_plan_says_why_and_how() {
    let config = r#"{ "weights": { "cost": 1 }, "hedge": true, "timeout_ms": 20000, "fallbacks": 1 }"#;
    let Decision::Plan(plan) = decide(config, &context(), &market()) else { panic!("no plan") };
    assert_eq!(plan.reason, "lowest weighted score first: free/shaky 0.010, small/cheap 0.100");
    let steps: Vec<_> =
        plan.steps.iter().map(|step| (step.rank, step.timeout_ms, step.hedge_after_ms)).collect();
    assert_eq!(steps, [(0, Some(20_000), Some(900)), (1, Some(20_000), Some(4000))]);
}

#[test]
fn equals_are_told_apart_by_name_so_that_a_replay_decides_alike() {
    let twins = [candidate("b/x"), candidate("a/x")];
    assert_eq!(order("{}", &context(), &twins), "a/x b/x");
}

#[test]
fn weights_that_are_none_are_refused() {
    let check = |config: &str, expected: &str| {
        let error = plugin::<CostRouter>(config).unwrap_err();
        assert!(error.contains(expected), "{config}: {error}");
    };
    check(r#"{ "weights": { "cost": -1 } }"#, "weights: weights must not be below 0");
    check(
        r#"{ "tiers": { "x": {} } }"#,
        "tiers: x: weights must not be below 0, and one of them must be above",
    );
    check(r#"{ "weights": { "price": 1 } }"#, "unknown field `price`");
}

//! Stories of the vocabulary: candidates and rankings, time, parameters, and what is found at load.

use super::*;
use crate::facts::market;
use crate::plan::{Scored, SetBy};
use crate::policy::{FailedAttempt, SeenTarget};

/// A market where one target is cheap, one is fast, and of one nothing is known.
fn town(model: &str, tokens: u64, tools: bool) -> Arc<Facts> {
    let market: market::Told = serde_json::from_value(json!({
        "offers": [
            { "name": "openai/cheap", "price": { "input": 0.1, "output": 0.4 }, "labels": { "region": "us" },
              "latency": { "p50": 900.0, "p95": 2000.0 }, "error_rate": 0.1, "context_window": 100_000 },
            { "name": "openai/fast", "price": { "input": 2.0, "output": 8.0 }, "labels": { "region": "eu" }, "tags": ["private"],
              "latency": { "p50": 200.0, "p95": 3000.0 }, "error_rate": 0.0, "can": { "tools": true, "vision": false } },
            { "name": "sandbox/unknown" },
            { "name": "openai/sick", "price": { "input": 0.01, "output": 0.01 }, "latency": { "p50": 1.0 }, "healthy": false },
            { "name": "openai/small", "price": { "input": 0.02, "output": 0.02 }, "context_window": 100 },
            { "name": "openai/dear", "price": { "input": 10.0, "output": 30.0 }, "can": { "tools": false }, "labels": { "tier": "premium" } }
        ],
        "aliases": { "strong": ["openai/fast", "openai/cheap"], "cheap": ["openai/cheap"] }
    }))
    .unwrap();
    let body = Fake { tokens, tools: if tools { vec!["search".into()] } else { vec![] }, ..Fake::default() };
    let facts = facts(model, body);
    let facts = Arc::into_inner(facts).unwrap();
    Arc::new(Facts { market: Arc::new(market), ..facts })
}

/// The targets of the route that `on_request` with this body returns, in order.
fn order(body: &str) -> Vec<String> {
    let decided = ask_about(body, town("auto", 1_000, true));
    assert!(decided.errors.is_empty(), "{body}: {:?}", decided.errors);
    route(&decided).steps.iter().map(|step| step.choices[0].0.to_string()).collect()
}

/// What `on_request` tags the request with.
fn said(expression: &str) -> String {
    let decided = ask_about(&format!("req.tag(\"said\", `${{{expression}}}`);"), town("auto", 1_000, true));
    assert!(decided.errors.is_empty(), "{expression}: {:?}", decided.errors);
    decided.decision.unwrap().tags[0].1.to_string()
}

#[test]
fn rankings_put_the_best_first_and_the_unknown_last() {
    const ALL: &str = r#"["sandbox/unknown", "openai/sick", "openai/small", "openai/dear", "strong"]"#;
    for (written, expected) in [
        // Too small a window and no tools: left out. Unknown: after the known. Sick: after the well.
        ("cheapest(ALL)", &["openai/cheap", "openai/fast", "sandbox/unknown", "openai/sick"][..]),
        ("fastest(ALL)", &["openai/fast", "openai/cheap", "sandbox/unknown", "openai/sick"]),
        ("fastest(\"strong\", \"p95\")", &["openai/cheap", "openai/fast"]),
        ("rank_by(\"strong\", #{ cost: 0.1, latency: 0.9 })", &["openai/fast", "openai/cheap"]),
        ("rank_by(\"strong\", #{ cost: 9, errors: 1 })", &["openai/cheap", "openai/fast"]),
        // Nobody knows how fast their streams are.
        (
            "rank_by([\"openai/fast\", \"openai/cheap\"], #{ cost: 1, slowness: 5 })",
            &["openai/cheap", "openai/fast"],
        ),
        ("cheapest(candidates(\"strong\").where(#{ region: \"eu\" }))", &["openai/fast"]),
        ("candidates(ALL).where([\"healthy\", \"private\"]).cheapest()", &["openai/fast"]),
        ("candidates(\"strong\").filter(|t| t.latency.p50 < 500.0).fastest()", &["openai/fast"]),
        ("cheapest([target(\"openai/fast\")]).then(\"strong\")", &["openai/fast", "strong"]),
        ("route(candidates(\"strong\").first)", &["openai/fast"]),
        ("tier(\"cheap\")", &["openai/cheap", "openai/sick"]),
        ("tier(\"balanced\")", &["openai/fast"]),
        ("tier(\"premium\").then(\"cheap\")", &["cheap"]),
    ] {
        assert_eq!(order(&written.replace("ALL", ALL)), expected, "{written}");
    }
}

#[test]
fn a_ranking_says_why() {
    let decided =
        ask_about(r#"cheapest(["openai/dear", "openai/small", "strong"])"#, town("auto", 1_000, true));
    let decision = decided.decision.unwrap();
    let [ranking] = &decision.rankings[..] else { panic!("{:?}", decision.rankings) };
    let shown = |one: &Scored| match (&one.score, &one.rejected) {
        (_, Some(reason)) => format!("{}: {reason}", one.target),
        (score, None) => format!("{}: {:.6}", one.target, score.unwrap()),
    };
    assert_eq!(&*ranking.by, "cost");
    assert_eq!(
        ranking.candidates.iter().map(shown).collect::<Vec<_>>(),
        [
            // 1,000 tokens of prompt, 512 of an answer.
            "openai/cheap: 0.000305",
            "openai/fast: 0.006096",
            "openai/dear: cannot call tools",
            "openai/small: context window too small",
        ]
    );
}

#[test]
fn a_class_is_what_the_configuration_lists() {
    let data = json!({ "tiers": { "premium": ["strong"], "cheap": "openai/dear" } });
    let source = Source {
        name: "10-a".into(),
        path: "policies/10-a.rhai".into(),
        text: "fn on_request(req) { tier(\"premium\") }".into(),
    };
    let set =
        PolicySet::load(&[source], &PolicySettings::default(), data.as_object().unwrap(), &names()).unwrap();
    let decided = set.decide(&town("auto", 10, false));
    assert_eq!(steps(route(&decided)), "openai/cheap:1 > openai/fast:1");
}

#[test]
fn nothing_to_choose_from_is_a_route_without_targets() {
    assert!(order("candidates(\"strong\").where(\"nowhere\").cheapest()").is_empty());
}

#[test]
fn numbers_of_targets_are_read_and_the_unknown_is_nothing() {
    for (expression, expected) in [
        ("target(\"openai/fast\").price.input", "2.0"),
        ("target(\"openai/fast\").provider", "openai"),
        ("target(\"openai/fast\").model", "fast"),
        ("target(\"openai/fast\").region", "eu"),
        ("target(\"openai/fast\").labels[\"region\"]", "eu"),
        ("\"private\" in target(\"openai/fast\").tags", "true"),
        ("target(\"openai/fast\").can(\"tools\")", "true"),
        ("target(\"openai/cheap\").can(\"tools\")", "false"),
        ("target(\"openai/cheap\").context_window", "100000"),
        ("target(\"openai/cheap\").latency.p95", "2000.0"),
        ("target(\"strong\").name", "openai/fast"),
        ("target(\"sandbox/unknown\").cost == ()", "true"),
        ("target(\"sandbox/unknown\").cost < 1.0", "false"),
        ("target(\"sandbox/unknown\").quota.tokens == ()", "true"),
        ("target(\"sandbox/unknown\").healthy", "true"),
        ("target(\"sandbox/gone\") == ()", "true"),
        ("cost(req, \"openai/cheap\") < 0.001", "true"),
        ("health(\"openai/cheap\")", "0.9"),
        ("health(\"openai/sick\")", "0.0"),
        ("health(\"sandbox/unknown\")", "1.0"),
        ("candidates().len", "6"),
        ("candidates(\"strong\").names", "[\"openai/fast\", \"openai/cheap\"]"),
        ("candidates(\"strong\")[1].name", "openai/cheap"),
        ("candidates(\"strong\").where(\"nowhere\").is_empty", "true"),
    ] {
        assert_eq!(said(expression), expected, "{expression}");
    }
    let loops = "let n = 0; for t in candidates() { if t.healthy { n += 1; } } req.tag(\"n\", n);";
    let decided = ask_about(loops, town("auto", 1, false));
    assert_eq!(&*decided.decision.unwrap().tags[0].1, "5");
}

#[test]
fn lists_hold_texts_numbers_and_nothing() {
    for (expression, expected) in [
        ("() in [\"web\", \"hr\"]", "false"),
        ("() in [1, ()]", "true"),
        ("() in []", "false"),
        ("\"a\" in [\"b\", \"a\"]", "true"),
        ("\"a\" in [1, ()]", "false"),
        ("2 in [1.0, 2]", "true"),
    ] {
        assert_eq!(said(expression), expected, "{expression}");
    }
}

#[test]
fn time_is_that_of_the_request() {
    // It is 21:30 in UTC, half past eleven in Paris, a Wednesday.
    for (expression, expected) in [
        ("now().hour", "21"),
        ("now(\"Europe/Paris\").hour", "23"),
        ("now(\"Europe/Paris\").minute", "30"),
        ("now(\"Asia/Tokyo\").weekday", "thursday"),
        ("now(\"Asia/Tokyo\").date", "2025-06-19"),
        ("now().is_weekend", "false"),
        ("now(\"Europe/Paris\").between(\"22:00\", \"06:00\")", "true"),
        ("now().between(\"22:00\", \"06:00\")", "false"),
        ("now().unix", "1750282200"),
    ] {
        assert_eq!(said(expression), expected, "{expression}");
    }
}

#[test]
fn a_request_is_read_in_more_ways() {
    let facts = || facts("auto", Fake { text: "Please prove it.\nPlease do.".into(), ..Fake::default() });
    for (expression, expected) in [
        ("req.temperature", "0.5"),
        ("req.seed", "7"),
        ("req.top_p == ()", "true"),
        ("req.service_tier", "flex"),
        ("req.lines", "2"),
        ("req.bytes", "27"),
        ("req.words", "5"),
        ("req.modalities", "[\"text\"]"),
        ("req.texts(\"user\").len", "1"),
        ("req.turns[0].role", "user"),
        ("req.starts_with_any([\"hello\", \"please\"])", "true"),
        ("req.starts_with_any([\"prove\"])", "false"),
        ("req.count(\"(?i)please\")", "2"),
        ("req.data_class == ()", "true"),
        ("req.tier ?? \"balanced\"", "balanced"),
        ("req.session == ()", "true"),
    ] {
        let script = format!("req.tag(\"said\", `${{{expression}}}`);");
        let decided = ask_about(&script, facts());
        assert!(decided.errors.is_empty(), "{expression}: {:?}", decided.errors);
        assert_eq!(&*decided.decision.unwrap().tags[0].1, expected, "{expression}");
    }
}

#[test]
fn parameters_are_set_and_the_last_value_counts() {
    let decided = ask(
        r#"route("cheap").set("temperature", 1).set("stop", "END").set("temperature", 0.2).then(route("strong").set("seed", 7).set("stop", "x"))"#,
    );
    let set: Vec<String> =
        route(&decided).set.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(set, ["stop=[\"END\"]", "temperature=0.2", "seed=7"]);
}

#[test]
fn a_sticky_split_draws_the_same_for_the_same_id() {
    let drawn = |weights: &str, id: usize| {
        let body = format!(r#"split(#{{ {weights} }}).sticky_by("user-{id}")"#);
        let decided = ask(&body);
        steps(route(&decided))
    };
    let (mut moved, mut b) = (0, 0);
    for id in 0..150 {
        let (before, after) =
            (drawn("\"cheap\": 90, \"strong\": 10", id), drawn("\"cheap\": 70, \"strong\": 30", id));
        assert_eq!(before, drawn("\"cheap\": 90, \"strong\": 10", id));
        moved += usize::from(before.starts_with("strong") && after.starts_with("cheap"));
        b += usize::from(after.starts_with("strong"));
    }
    assert_eq!(moved, 0, "nobody falls back while a share grows");
    assert!((25..65).contains(&b), "{b}");
}

#[test]
fn who_is_kept_from_what_fell_to_them_always_gets_the_same_other_one() {
    let drawn = |targets: &str, id: usize| {
        let decided = ask(&format!(r#"split({targets}).sticky_by("user-{id}")"#));
        let route = route(&decided);
        assert_eq!(route.sticky, [0]);
        route.steps[0].choices.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    let mut seconds = std::collections::BTreeSet::new();
    for id in 0..60 {
        let all = drawn(r#"["cheap", "strong", "openai/x"]"#, id);
        // Without one of them, nobody moves but who had it, and these to what comes next for them.
        let left = drawn(r#"["strong", "openai/x"]"#, id);
        assert_eq!(all.iter().find(|name| *name != "cheap"), left.first(), "{id}: {all:?}");
        seconds.extend((all[0] == "cheap").then(|| all[1].clone()));
    }
    assert_eq!(seconds.len(), 2, "whom it leaves is spread over the others");
    let twice = ask(
        r#"split(["cheap", "strong"]).sticky_by("a").sticky_by("b").then(split(["strong", "cheap"]).sticky_by("a")).then(split(["cheap", "strong"]))"#,
    );
    assert_eq!(route(&twice).sticky, [0, 1]);
    assert_eq!(route(&twice).steps[0].choices[0].0, route(&twice).steps[1].choices[0].0);
}

#[test]
fn constraints_and_limits_say_which_rule_set_them() {
    let set = load(&[
        ("lib/eu", "fn only(req) {\n    req.require(#{ region: \"eu\" });\n}"),
        (
            "10-a",
            "import \"eu\" as eu;\nfn on_request(req) {\n    eu::only(req);\n    req.avoid([\"openai\", \"us-east\"]);\n    for n in 0..9 { req.cap_output(512); }\n}",
        ),
        (
            "20-b",
            "fn on_request(req) {\n    req.stop_on([\"END\"]);\n    req.cap_output(9);\n    req.redact_output([\"email\"]);\n    route(\"cheap\")\n}\nfn on_error(req, err) {\n    req.avoid(\"sandbox\");\n}",
        ),
    ]);
    let session = set.begin(&facts("auto", Fake::default()));
    let decision = session.decide_now().decision.unwrap();
    let shown = |all: &[SetBy]| -> Vec<String> {
        all.iter().map(|set| format!("{}: {}", set.by.located(), set.what.shown())).collect()
    };
    let expected = [
        r#"10-a (lib/eu.rhai:2): require(#{ region: "eu" })"#,
        r#"10-a (10-a.rhai:4): avoid("openai")"#,
        r#"10-a (10-a.rhai:4): avoid("us-east")"#,
        "10-a (10-a.rhai:5): cap_output(512)",
        r#"20-b (20-b.rhai:2): stop_on(["END"])"#,
        "20-b (20-b.rhai:3): cap_output(9)",
        r#"20-b (20-b.rhai:4): redact_output(["email"])"#,
    ];
    assert_eq!(shown(&decision.set_by), expected);
    let failed = FailedAttempt {
        target: SeenTarget::default(),
        attempt: 1,
        kind: FaultKind::Overloaded,
        status: None,
        retry_after: None,
    };
    session.on_error_now(failed);
    let late = shown(&session.set_by());
    assert_eq!(late.last().map(String::as_str), Some(r#"20-b (20-b.rhai:8): avoid("sandbox")"#));
    let is_sandbox = |constraint: &Constraint| *constraint != Constraint::Name("openai".into());
    let why =
        session.exclusion(|constraint| is_sandbox(constraint) && !matches!(constraint, Constraint::Tag(_)));
    let expected = r#"has what a policy avoids: avoid("sandbox"), set by 20-b (20-b.rhai:8)"#;
    assert_eq!(why.as_deref(), Some(expected));
}

#[test]
fn what_is_wrong_with_a_word_is_found_at_load() {
    for (body, expected) in [
        (
            "candidates().filter(|t| t.helthy)",
            "1:48: unknown property `helthy` of a target (did you mean `healthy`?)",
        ),
        (
            "for t in candidates() { if t.latency.p59 < 1.0 { return; } }",
            "1:59: unknown property `p59` of a latency (did you mean `p50`?)",
        ),
        ("let t = now(); t.huor", "1:39: unknown property `huor` of a time (did you mean `hour`?)"),
        (
            "for turn in req.turns { turn.rol; }",
            "1:51: unknown property `rol` of a turn (did you mean `role`?)",
        ),
        ("req.then(\"cheap\")", "1:26: `then` is not for a request"),
        (
            "route(\"cheap\").timeout()",
            "1:37: `timeout` is written `route.timeout(duration: text) → Route`, here it has 0 arguments",
        ),
        (
            "route(\"cheap\").set(\"temprature\", 1)",
            "1:41: set: unknown parameter `temprature` (did you mean `temperature`?)",
        ),
        (
            "route(\"cheap\").set(\"model\", \"x\")",
            "1:41: set: `model` cannot be set: the model is chosen by `route(…)`",
        ),
        (
            "now(\"Europe/Pairs\")",
            "1:26: now: there is no time zone `Europe/Pairs` (try \"Europe/Paris\" or \"UTC\")",
        ),
        ("now().between(\"9\", \"10:00\")", "1:36: between: '9' is not a time of day (try \"22:00\")"),
        (
            "tier(\"chaep\")",
            "1:27: tier: 'chaep' is not a class (did you mean `cheap`?): cheap, balanced, premium",
        ),
        (
            "fastest(\"cheap\", \"p96\")",
            "1:39: fastest: 'p96' is not a time (did you mean `p95`?): p50, p95, p99, first_token, first_token_p95, first_token_p99",
        ),
        (
            "rank_by(\"cheap\", #{ costs: 1 })",
            "1:42: rank_by: 'costs' is nothing to rank by (did you mean `cost`?): cost, latency, p50, p95, p99, first_token, first_token_p95, first_token_p99, errors, slowness, busy, load, quality",
        ),
        (
            "target(\"cheap\").can(\"visoin\")",
            "1:42: can: 'visoin' is not an ability (did you mean `vision`?): tools, vision, audio, files, json, reasoning",
        ),
        (
            "route(\"cheap\").hedge_after(\"soon\")",
            "1:49: hedge_after: 'soon' is neither a duration nor \"p95\" (try 300, \"300ms\" or \"p95\")",
        ),
        (
            "race([\"cheap\", \"nobody/x\"])",
            "1:37: unknown target `nobody/x`: there is no provider `nobody`; aliases under `models:`: canary-next, canary-stable, cheap, strong; providers: openai, sandbox",
        ),
        (
            "req.pii()",
            "1:26: `pii` is not part of this version: it comes with the guards; until then use `req.matches(…)` or a guard plugin",
        ),
        (
            "req.words()",
            "1:26: unknown function `words` (`words` is a property: write it without parentheses)",
        ),
        ("req.tag", "1:26: `tag` of a request is a method: write it with parentheses"),
        ("next_target()", "1:22: `next_target` works in `on_error`, but this runs in `on_request`"),
    ] {
        let text = format!("fn on_request(req) {{ {body} }}");
        assert_eq!(errors(&[("10-a", &text)]), [format!("policies/10-a.rhai:{expected}")], "{body}");
    }
    let late = "fn narrow(req) { req.require(\"private\") }\nfn on_complete(req, out) { narrow(req) }";
    assert_eq!(
        errors(&[("10-a", late)]),
        [
            "policies/10-a.rhai:1:22: `require` works in `on_request` and `on_error`, but this runs in `on_complete`"
        ]
    );
}

#[test]
fn verdicts_that_are_not_for_their_hook_are_found_at_load() {
    for (hook, expected) in [
        (
            "fn on_response(req, res) { return route(\"cheap\"); }",
            "1:35: `on_response` must return reject(…) or nothing, not a route",
        ),
        (
            "fn on_error(req, err) { if err.attempt > 1 { split([\"cheap\"]).retries(0) } else { fail() } }",
            "1:46: `on_error` must return next_target(), retry_after(ms), fail(), reject(…) or nothing, not a route",
        ),
        (
            "fn on_complete(req, out) { reject(403, \"a\", \"b\") }",
            "1:28: `on_complete` must return nothing, not a rejection",
        ),
        (
            "fn on_response(req, res) { let way = route(\"cheap\"); way }",
            "1:54: `on_response` must return reject(…) or nothing, not a route",
        ),
    ] {
        assert_eq!(errors(&[("10-a", hook)]), [format!("policies/10-a.rhai:{expected}")], "{hook}");
    }
    for hook in [
        "fn on_error(req, err) { if err.attempt > 1 { return reject(503, \"a\", \"b\"); } next_target() }",
        "fn on_complete(req, out) { metric(\"n\").add(#{ model: out.target.name }); }",
        "fn on_request(req) { if req.stream { respond(\"x\") } else { route(\"cheap\").named(\"n\") } }",
        "fn on_response(req, res) { let way = route(\"cheap\"); way.targets.len() > 3; }",
    ] {
        assert_eq!(errors(&[("10-a", hook)]), Vec::<String>::new(), "{hook}");
    }
}

#[test]
fn what_is_right_is_left_alone() {
    for body in [
        "let t = target(\"openai/x\"); if t != () && t.price.input < 1.0 { return route(t); }",
        "let req2 = req; req2.model",
        "let x = req; x = #{ any: 1 }; x.any",
        "let m = #{ set: 1 }; m.set(\"model\", 2); m.model",
        "state.set(\"model\", 1); state.get(\"temprature\");",
        "req.headers.contains(\"x\"); req.headers.anything; data.teams.web",
        "[1, 2].filter(|n| n > 1).map(|n| n * 2); candidates().names.filter(|n| n.len > 3)",
        "candidates([\"cheap\", \"openai/x\"]).where(\"fits\").fastest(\"p95\").timeout(\"2s\").named(\"n\")",
        "req.require(#{ region: \"eu\" }); split([\"cheap\", \"strong\"]).sticky_by(req.user ?? \"x\")",
    ] {
        let text = format!("fn on_request(req) {{ {body} }}");
        assert_eq!(errors(&[("10-a", &text)]), Vec::<String>::new(), "{body}");
    }
}

#[tokio::test]
async fn long_prompts_are_read_through_beside_the_workers() {
    let policy = r#"fn on_request(req) {
        req.tag("seen", "once");
        let found = [req.count("a") == 3, req.words == 3, req.lines == 1, req.matches("ad$"),
            req.contains_any(["AC"]), req.starts_with_any(["AB"])];
        if found.all(|it| it) { return route("cheap"); }
    }"#;
    let body = Fake { text: "ab ac ad".into(), tokens: 1 << 20, ..Fake::default() };
    let decided = load(&[("10-a", policy)]).begin(&facts("auto", body)).decide().await;
    assert!(decided.errors.is_empty(), "{:?}", decided.errors);
    assert_eq!(steps(route(&decided)), "cheap:1");
    assert_eq!(decided.decision.unwrap().tags, [("seen".into(), "once".into())]);
}

#[test]
fn a_tier_that_there_is_not_is_none_to_policies() {
    let script = "req.tag(\"said\", req.tier ?? \"none\"); if req.tier != () { return tier(req.tier); } route(\"cheap\")";
    for (asked, said) in [("premium", "premium"), ("Premium", "premium"), ("gold", "none"), ("", "none")] {
        let mut asking = Arc::into_inner(town("auto", 10, false)).unwrap();
        asking.headers.insert("x-tollgate-tier", http::HeaderValue::from_static(asked));
        let decided = ask_about(script, Arc::new(asking));
        assert!(decided.errors.is_empty(), "{asked}: {:?}", decided.errors);
        assert_eq!(&*decided.decision.unwrap().tags[0].1, said, "{asked}");
    }
}

//! Stories of tests: what they can ask, and what their failures say.

use serde_json::json;

use super::*;
use crate::facts::market;
use crate::policy::plugins::{About, Asking, Question};
use crate::settings::Period;

/// Plugins that are configured, and that no test may reach.
struct Configured;

impl Plugins for Configured {
    fn names(&self) -> Vec<String> {
        vec!["intent".into()]
    }

    fn ask(&self, _: &str, _: &Question, _: &About) -> Asking {
        Box::pin(std::future::ready(Err("a test called a real plugin".into())))
    }
}

const POLICY: &str = r#"const MANY = 8_000;

fn heavy(req) { req.tokens > MANY }

fn on_request(req) {
    if req.model == "boom" { throw "no way"; }
    if req.team == "blocked" { return reject(403, "team_blocked", "ask your lead"); }
    if req.model != "auto" { return; }
    req.tag("seen", "yes");
    req.require(#{ region: "eu" });
    if heavy(req) {
        return route("strong").then("cheap").timeout("20s").named("strong");
    }
    if plugin("intent").classify(req).top == "code" { return route("strong"); }
    route("cheap")
}

fn on_error(req, err) {
    if err.kind == "rate_limit" { return retry_after(err.retry_after_ms); }
    if req.tags["seen"] == "yes" { return next_target(); }
}

fn on_response(req, res) {
    if res.target.region != "eu" { return reject(502, "residency", "no"); }
}
"#;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), path: format!("policies/{name}.rhai").into(), text: text.into() }
}

fn bench(tests: &[(&str, &str)], coverage: bool) -> Result<Bench, Vec<PolicyError>> {
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
    let market: market::Told = serde_json::from_value(json!({ "offers": [
        { "name": "openai/gpt-5", "labels": { "region": "eu" } },
        { "name": "openai/old", "labels": { "region": "us" } },
    ] }))
    .unwrap();
    let tests: Vec<Source> = tests.iter().map(|(name, text)| source(name, text)).collect();
    Bench::new(&Material {
        policies: &[
            source("10-tiers", POLICY),
            source("lib/teams", "fn is_rich(team) {\n    team in [\"legal\", \"sales\"]\n}\n"),
        ],
        tests: &tests,
        settings: &PolicySettings { tests_deadline: Period::secs(1), ..PolicySettings::default() },
        data: json!({}).as_object().unwrap(),
        names: &Names {
            aliases: names(&["cheap", "strong"]),
            providers: names(&["openai"]),
            ..Names::default()
        },
        plugins: Arc::new(Configured),
        market: Arc::new(market),
        coverage,
    })
}

/// The failures of a file of tests for `10-tiers`.
fn failures(text: &str) -> Vec<String> {
    let bench = bench(&[("10-tiers_test", text)], true).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let soon = || Some(Instant::now() + std::time::Duration::from_secs(1));
    bench
        .tests()
        .filter_map(|test| bench.run(&test, soon()).err())
        .map(|failure| failure.to_string())
        .collect()
}

#[test]
fn what_a_test_prints_is_handed_to_who_runs_it() {
    let text = "fn test_loud() { print(\"x\"); info(`two ${1 + 1}`); }\nfn test_silent() { }";
    let bench = bench(&[("10-tiers_test", text)], false).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let said: Vec<_> = bench
        .tests()
        .map(|test| {
            bench.run(&test, None).unwrap();
            bench.said(&test)
        })
        .collect();
    let place = "policies/10-tiers_test.rhai:1";
    assert_eq!(said, [vec![format!("{place}:18: x"), format!("{place}:30: two 2")], vec![]]);
}

#[test]
fn shares_are_compared_and_not_the_numbers_they_are_written_with() {
    let text = r#"fn test_shares() {
        assert_eq(split(#{ "cheap": 50, "strong": 50 }), split(["cheap", "strong"]));
        assert_eq(split(#{ "cheap": 70, "strong": 30 }), split(#{ "cheap": 7, "strong": 3 }));
        assert_ne(split(#{ "cheap": 70, "strong": 30 }), split(["cheap", "strong"]));
    }"#;
    assert_eq!(failures(text), Vec::<String>::new());
}

#[test]
fn a_test_asks_everything_about_a_decision() {
    let text = r#"
        fn test_hard_work() {
            let req = mock(#{ model: "auto", tokens: 9_000 });
            let plan = on_request(req);
            assert_eq(plan.first, "strong");
            assert_eq(plan.targets, ["strong", "cheap"]);
            assert_eq(plan.rule, "10-tiers/strong");
            assert_eq(plan.name, "strong");
            assert_eq(plan.line, 12);
            assert_eq(plan.timeout, "20s");
            assert_eq(plan.required, ["region=eu"]);
            assert_eq(plan.verdict, "route");
            assert_eq(req.tags["seen"], "yes");
            assert_eq(req.required, ["region=eu"]);
            assert_ne(plan, reject(403, "x", ""));
            assert_eq(plan, route("strong").then("cheap"));
            assert_eq(plan, route("strong").then("cheap").timeout("20s"));
        }
        fn test_no_opinion() { assert_eq(on_request(mock(#{ model: "gpt-5" })), ()); }
        fn test_blocked() {
            let said = on_request(mock(#{ model: "auto", team: "blocked" }));
            assert_rejected(said, "team_blocked");
            assert_eq(said.status, 403);
            assert(said.message.contains("lead"), "says whom to ask");
        }
        fn test_helper() { assert(heavy(mock(#{ model: "auto", tokens: MANY + 1 }))); }
        fn test_plugin() {
            let code = mock(#{ model: "auto", plugins: #{ intent: #{ classify: #{ top: "code", score: 0.9 } } } });
            assert_eq(on_request(code).first, "strong");
        }
        fn test_later_hooks() {
            let req = mock(#{ model: "auto", plugins: #{ intent: #{ classify: "chat" } } });
            assert_eq(on_error(req, #{ kind: "server" }), ());
            on_request(req);
            assert_eq(on_error(req, #{ kind: "server" }), "next_target()");
            assert_eq(on_error(req, #{ kind: "rate_limit", retry_after_ms: 500 }), "retry_after(500)");
            assert_eq(on_response(req, #{ target: "openai/gpt-5" }), ());
            assert_rejected(on_response(req, #{ target: "openai/old" }), "residency");
            on_complete(req, #{ outcome: "ok" });
        }
    "#;
    assert_eq!(failures(text), Vec::<String>::new());
}

#[test]
fn a_failure_says_where_and_both_values() {
    let at = |body: &str, place: &str, problem: &str| {
        let text = format!("fn test_it() {{\n    {body}\n}}\n");
        let found = failures(&text);
        let wanted = format!("policies/{place}: test_it: {problem}");
        assert!(matches!(&found[..], [only] if only.starts_with(&wanted)), "{body}: {found:#?}");
    };
    let here = "10-tiers_test.rhai:2:5";
    at(r#"assert_eq("cheap", "strong");"#, here, r#"assert_eq: expected "strong", found "cheap""#);
    at("assert_eq(1, 1.5);", here, "assert_eq: expected 1.5, found 1");
    at("assert_ne((), ());", here, "assert_ne: expected something other than ()");
    at("assert(1 > 2);", here, "assert: this is false");
    for (found, wanted) in [
        ("route(\"cheap\")", "route(\"cheap\").timeout(\"20s\")"),
        ("route(\"cheap\").timeout(\"2s\")", "route(\"cheap\").timeout(\"20s\")"),
        ("route(\"cheap\").set(\"n\", 1)", "route(\"cheap\").set(\"n\", 2)"),
        ("route(\"cheap\").then(\"strong\")", "split(#{ \"cheap\": 1, \"strong\": 1 })"),
        ("split(#{ \"cheap\": 2, \"strong\": 1 })", "split(#{ \"cheap\": 1, \"strong\": 1 })"),
        ("route(\"cheap\").then(\"strong\")", "race([\"cheap\", \"strong\"])"),
    ] {
        let problem = format!("assert_eq: expected {wanted}, found {found}");
        at(&format!("assert_eq({found}, {wanted});"), here, &problem);
    }
    at(
        r#"assert_rejected(route("cheap").then("strong"), "x");"#,
        here,
        r#"assert_rejected: expected a rejection with the code "x", found route("cheap").then("strong")"#,
    );
    at(r#"mock(#{ modle: "x" });"#, here, "mock: unknown field `modle` (did you mean `model`?)");
    at(
        r#"on_request(mock(#{ model: "boom" }));"#,
        here,
        "the policy failed: policies/10-tiers.rhai:6:30: no way",
    );
    at(
        r#"on_request(mock(#{ model: "auto" }));"#,
        here,
        "the policy failed: policies/10-tiers.rhai:14:25: plugin `intent`: the test does not say what it answers",
    );
    at(
        r#"on_request(mock(#{ model: "gpt-5" })).first"#,
        "10-tiers_test.rhai:2:43",
        "`first` of nothing: the policy has no opinion on this request",
    );
    at("asert_eq(1, 1);", here, "no function `asert_eq (i64, i64)` (did you mean `assert_eq`?)");
    at(
        r#"on_request(mock(#{ model: "auto", team: "blocked" })).frist;"#,
        "10-tiers_test.rhai:2:59",
        "unknown property `frist` of a ruling (did you mean `first`?); known are verdict, first, targets",
    );
    at("heavy(3)", "10-tiers.rhai:3:21", "unknown property `tokens` of a number");
    at("loop { }", "10-tiers_test.rhai:1:4", "stopped: it takes longer than `policies.tests_deadline` (1s)");
}

#[test]
fn a_file_that_cannot_be_tried_is_named() {
    for (name, text, problem) in [
        (
            "10-teirs_test",
            "fn test_a() {}",
            "policies/10-teirs_test.rhai:1:1: there is no policy `10-teirs.rhai` beside this that it could test (did you mean `10-tiers`?)",
        ),
        (
            "10-tiers_test",
            "fn test_a(x) {}",
            "policies/10-tiers_test.rhai:1:4: `test_a`: a test takes no parameters",
        ),
        ("10-tiers_test", "fn tset_a() {}", "policies/10-tiers_test.rhai:1:1: there is no test in this file"),
        (
            "10-tiers_test",
            "fn test_a() {}\nfn heavy(x) {}",
            "policies/10-tiers_test.rhai:2:4: `heavy` is a function of the policy",
        ),
        ("10-tiers_test", "fn test_a() {", "policies/10-tiers_test.rhai:1:14: "),
    ] {
        let errors = bench(&[(name, text)], false).err().unwrap_or_default();
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(errors.iter().any(|error| error.starts_with(problem)), "{text}: {errors:#?}");
    }
}

#[test]
fn what_ran_is_known_by_line_and_by_rule() {
    let tiers = r#"fn test_a() { on_request(mock(#{ model: "auto", tokens: 9_000 })); }"#;
    let teams = r#"fn test_b() { assert(is_rich("legal")); }"#;
    let bench = bench(&[("10-tiers_test", tiers), ("lib/teams_test", teams)], true)
        .unwrap_or_else(|e| panic!("{e:?}"));
    for test in bench.tests() {
        assert_eq!(bench.run(&test, None), Ok(()));
    }
    let coverage = bench.coverage();
    let [tiers, teams] = &coverage[..] else { panic!("{coverage:#?}") };
    let missed: Vec<u32> =
        tiers.lines.iter().filter(|(_, count)| **count == 0).map(|(line, _)| *line).collect();
    assert_eq!(missed, [14, 15, 19, 20, 24]);
    assert_eq!(tiers.verdicts, [(7, 0), (12, 1), (14, 0), (15, 0), (24, 0)].into());
    assert_eq!((tiers.ran(), teams.ran()), ((8, 13), (1, 1)));
}

#[test]
fn the_chain_decides_about_told_requests() {
    let bench = bench(&[], false).unwrap_or_else(|errors| panic!("{errors:?}"));
    let told = Told::read(json!({ "model": "auto", "tokens": 9000, "user": "ann" })).unwrap();
    let judged = bench.decide(&told).unwrap();
    assert_eq!(judged.facts.caller.user.as_deref(), Some("ann"));
    assert_eq!(Ruling::of(judged.decision.unwrap()).place().as_deref(), Some("10-tiers:12 (strong)"));
    let told = Told::read(json!({ "model": "boom" })).unwrap();
    let judged = bench.decide(&told).unwrap();
    assert!(judged.decision.is_err() && judged.errors[0].line == 6, "{:?}", judged.errors);
}

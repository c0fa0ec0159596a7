//! Tests of policies: the page that explains them is true, and a set whose tests fail never serves.

use std::fs;
use std::time::Duration;

use crate::acts;
use crate::client::{self, ask, chat};
use crate::gateway::{self, Printed, Setup, provider};
use crate::upstream::Upstream;

const PAGE: &str = include_str!("../../docs/testing-policies.md");

/// Blocks of the page: their language and text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let blocks = PAGE.split("\n```").skip(1).step_by(2);
    blocks.filter_map(|block| block.split_once('\n')).collect()
}

/// The folder that a reader has after copying every file of the page.
fn copied() -> Setup {
    let mut setup = gateway::setup("");
    fs::create_dir(setup.path().join("policies/tests")).unwrap();
    for (_, text) in blocks().into_iter().filter(|(language, _)| *language != "text") {
        let Some((first, rest)) = text.split_once('\n') else { continue };
        let name = first.trim_start_matches(['/', '#', ' ']);
        match name {
            "tollgate.yaml" => setup = setup.file(name, &format!("{}{rest}", gateway::FREE_PORTS)),
            _ if name.starts_with("policies/") && !name.contains(' ') => setup = setup.file(name, text),
            _ => {}
        }
    }
    setup
}

fn policy_test(setup: &Setup, more: &[&str]) -> Printed {
    setup.run(&[&["policy", "test"], more].concat())
}

#[test]
fn every_command_of_the_page_works_as_it_says() {
    let setup = copied();
    let commands =
        blocks().into_iter().filter(|(language, _)| *language == "sh").flat_map(|(_, text)| text.lines());
    let commands: Vec<&str> = commands.filter_map(|line| line.strip_prefix("tollgate ")).collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let printed = setup.run(&arguments);
        assert_eq!(printed.code, Some(0), "{command}: {printed:#?}");
    }
    let printed = policy_test(&setup, &["--coverage"]);
    for part in [
        "ok   test_tools_are_heavy (",
        "ok   blocked teams are refused (",
        "10-tiers        8/8        3/3",
        "6 passed, 0 failed in ",
    ] {
        assert!(printed.out.contains(part), "no {part} in\n{}", printed.out);
    }
    let junit = fs::read_to_string(setup.path().join("results.xml")).unwrap();
    assert!(
        junit.contains("<testsuites name=\"tollgate policy test\" tests=\"6\" failures=\"0\""),
        "{junit}"
    );
}

#[test]
fn failures_are_told_and_end_with_their_status() {
    let setup = copied();
    let tests = fs::read_to_string(setup.path().join("policies/10-tiers_test.rhai")).unwrap();
    let table = fs::read_to_string(setup.path().join("policies/tests/tiers.yaml")).unwrap();
    let setup = setup
        .policy("10-tiers_test.rhai", &tests.replacen("plan.first, \"cheap\"", "plan.first, \"strong\"", 1))
        .policy("tests/tiers.yaml", &table.replace("first: strong", "first: cheap"));
    let printed = policy_test(&setup, &["--junit", "r.xml"]);
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    for part in [
        "FAIL test_small_requests_are_cheap (",
        "policies/10-tiers_test.rhai:4:5: error: test_small_requests_are_cheap: assert_eq: expected \"strong\", found \"cheap\"",
        "policies/tests/tiers.yaml:11:12: error: heavy work goes to the large model and falls back to the small one: `first`: expected `cheap`, found `strong`",
        "decided by 10-tiers:16 (heavy)",
        "4 passed, 2 failed in ",
    ] {
        assert!(printed.out.contains(part), "no {part} in\n{}", printed.out);
    }
    assert!(fs::read_to_string(setup.path().join("r.xml")).unwrap().contains("failures=\"2\""));

    let checked = setup.run(&["check"]);
    assert_eq!(checked.code, Some(1), "{checked:#?}");
    assert!(checked.err.contains("policies/10-tiers_test.rhai:4:5: error: "), "{}", checked.err);

    let printed = policy_test(&setup, &["--filter", "nobody"]);
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    let setup = copied();
    fs::remove_file(setup.path().join("policies/tests/tiers.yaml")).unwrap();
    let printed = policy_test(&setup, &["--min-coverage", "95"]);
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    assert!(printed.err.contains("less than 95 %"), "{}", printed.err);
    let setup = setup.policy("10-tiers.rhai", "fn on_request(req) { rotue(\"cheap\") }");
    let printed = policy_test(&setup, &[]);
    assert_eq!(printed.code, Some(78), "{printed:#?}");
    assert!(printed.err.contains("10-tiers.rhai:1:22: error: "), "{}", printed.err);
}

#[test]
fn a_table_can_say_that_a_tag_is_not_there() {
    let case = |name: &str, tokens: u32| {
        format!(
            "- name: {name}\n  request: {{ model: auto, tokens: {tokens} }}\n  expect: {{ tags: {{ size: null }} }}\n"
        )
    };
    let setup = copied().policy("tests/tags.yaml", &(case("light", 10) + &case("hard", 20_000)));
    let printed = policy_test(&setup, &["--filter", "tags.yaml"]);
    for part in ["ok   light (", "hard: `tags`: expected `size` = none, found `size` = `heavy`"] {
        assert!(printed.out.contains(part), "no {part} in\n{}", printed.out);
    }
}

#[test]
fn tables_name_nothing_that_there_is_not() {
    let setup = copied().policy(
        "tests/tiers.yaml",
        "- name: strangers\n  request: { model: auto, plugins: { pii: { inspect: [] } }, budgets: { team: { limit: 2 } }, \
         candidates: { nobody/m: { healthy: false } } }\n  expect: { never: [nobody/nosuch, strong, chaep] }\n",
    );
    let printed = policy_test(&setup, &[]);
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    for part in [
        "strangers: `plugins`: unknown plugin `pii`; there is none",
        "strangers: `budgets`: unknown budget `team`; there is none",
        "strangers: `candidates`: unknown target `nobody/m`: there is no provider `nobody`",
        "tiers.yaml:3:20: error: strangers: `never`: unknown target `nobody/nosuch`",
        "strangers: `never`: `strong` is an alias: name its targets",
        "strangers: `never`: unknown alias `chaep` (did you mean `cheap`?)",
    ] {
        assert!(printed.out.contains(part), "no {part} in\n{}", printed.out);
    }
}

#[tokio::test]
async fn a_set_whose_tests_fail_is_not_taken() {
    let upstream = Upstream::start(|heard| acts::says(&heard.model()));
    let config = format!("providers:\n{}", provider("up", &upstream.url()));
    let rule = |model: &str| format!("fn on_request(req) {{\n    route(\"up/{model}\")\n}}\n");
    let test = |model: &str| {
        format!(
            "fn test_a() {{\n    assert_eq(on_request(mock(#{{ model: \"x\" }})).first, \"up/{model}\");\n}}\n"
        )
    };
    let setup = gateway::setup(&config)
        .policy("10-rule.rhai", &rule("one"))
        .policy("10-rule_test.rhai", &test("one"));
    let gateway = setup.start();
    let said = async || chat(gateway.clients, &ask("up/any")).await.said();
    assert_eq!(said().await, "one");

    gateway.save("policies/10-rule.rhai", &rule("two"));
    let place =
        "10-rule_test.rhai:2:5: error: test_a: assert_eq: expected \\\"up/one\\\", found \\\"up/two\\\"";
    until(async || gateway.status().await["reloads"]["errors"].to_string().contains(place)).await;
    assert_eq!(said().await, "one", "the last good set goes on");
    assert!(gateway.log().join("\n").contains("10-rule_test.rhai:2:5"));

    gateway.save("policies/10-rule_test.rhai", &test("two"));
    until(async || said().await == "two").await;
    gateway.save("policies/10-rule_test.rhai", "fn test_a() { loop { } }");
    let late = "longer than `policies.tests_deadline`";
    until(async || gateway.status().await["reloads"]["errors"].to_string().contains(late)).await;
    assert_eq!(said().await, "two");
}

#[tokio::test]
async fn tests_of_policies_go_by_the_configuration_whatever_happens_outside() {
    const RULE: &str = r#"
fn on_request(req) {
    if budget("all").used_ratio > 0.5 { return reject(402, "spent", "all is spent"); }
    let well = candidates(["up/dear", "up/cheap"]).where("healthy");
    if well.is_empty { return reject(503, "nobody", "nobody is well"); }
    cheapest(well)
}
"#;
    const TEST: &str = r#"
fn test_the_cheaper_one_first() {
    assert_eq(on_request(mock(#{ model: "auto" })).targets, ["up/cheap", "up/dear"]);
}
fn test_near_the_end_of_the_budget() {
    let req = mock(#{ model: "auto", budgets: #{ all: #{ limit: 1, used: 0.6 } } });
    assert_rejected(on_request(req), "spent");
}
"#;
    let upstream = Upstream::start(|_| acts::error(500, "boom"));
    let setup = gateway::setup(&format!(
        "retries: {{ retries: 0 }}\nbreaker: {{ consecutive: 1, cool_down: 60s, max_cool_down: 60s }}\n\
         budgets: [ {{ name: all, dollars: 1, per: month }} ]\nprices:\n  models:\n    \
         up/dear: {{ price: {{ input: 9, output: 9 }} }}\n    up/cheap: {{ price: {{ input: 1, output: 1 }} }}\n\
         providers:\n{}",
        provider("up", &upstream.url())
    ));
    let setup = setup.policy("10-well.rhai", RULE).policy("10-well_test.rhai", TEST);
    let setup = setup.file("ask.json", &ask("auto").to_string());
    for command in [&["policy", "test"][..], &["check"]] {
        let printed = setup.run(command);
        assert_eq!(printed.code, Some(0), "{command:?}: {printed:#?}");
    }
    let explained = setup.run(&["policy", "explain", "ask.json"]);
    assert!(explained.out.contains("1. up/cheap"), "{explained:#?}");

    let gateway = setup.start();
    let code = async || chat(gateway.clients, &ask("auto")).await.error()["code"].clone();
    until(async || code().await == "nobody").await;
    gateway.save("policies/10-well.rhai", &RULE.replace("\"nobody\"", "\"all-rest\""));
    until(async || code().await == "all-rest").await;
}

/// Waits until something is so.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < client::PATIENCE, "it never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

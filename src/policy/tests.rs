//! Stories of policies: what they say, what is refused at load, what happens when they fail.

mod literals;
mod replayed;
mod sense;
mod words;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::caller::Caller;
use crate::facts::market::Told;
use crate::facts::{Body, Endpoint, Rated};
use crate::fault::FaultKind;
use crate::plan::{Constraint, Hook, Route, Rule, Verdict};

/// A body that says what a test wants it to say.
#[derive(Default)]
pub(super) struct Fake {
    text: String,
    tools: Vec<Box<str>>,
    tokens: u64,
    user: Option<String>,
}

impl Body for Fake {
    fn stream(&self) -> bool {
        true
    }
    fn max_tokens(&self) -> Option<u64> {
        None
    }
    fn tokens(&self) -> u64 {
        self.tokens
    }
    fn tool_names(&self) -> &[Box<str>] {
        &self.tools
    }
    fn messages(&self) -> u64 {
        1
    }
    fn has_images(&self) -> bool {
        false
    }
    fn has_audio(&self) -> bool {
        false
    }
    fn has_files(&self) -> bool {
        assert!(self.text != "a defect", "a defect of the host");
        false
    }
    fn has_json_output(&self) -> bool {
        false
    }
    fn text(&self) -> &str {
        &self.text
    }
    fn system(&self) -> &'static str {
        "be brief"
    }
    fn last_user(&self) -> &str {
        &self.text
    }
    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
    fn metadata(&self, key: &str) -> Option<String> {
        (key == "feature").then(|| "search".to_owned())
    }
    fn field(&self, name: &str) -> Option<&str> {
        match name {
            "temperature" => Some("0.5"),
            "seed" => Some("7"),
            "stop" => Some("[\"x\"]"),
            "service_tier" => Some("\"flex\""),
            _ => None,
        }
    }
}

pub(super) fn facts(model: &str, body: Fake) -> Arc<Facts> {
    let mut headers = http::HeaderMap::new();
    headers.insert("x-tier", http::HeaderValue::from_static("gold"));
    Arc::new(Facts {
        request_id: "r-1".into(),
        endpoint: Endpoint::Chat,
        model: model.into(),
        caller: Caller { address: Some([10, 0, 0, 7].into()), team: Some("web".into()), ..Caller::default() },
        headers,
        tags: vec![("team".into(), "blue".into())],
        // Wednesday, 18 June 2025, 21:30 in UTC.
        at_ms: 1_750_282_200_000,
        body: Arc::new(body),
        rates: vec![Rated { name: "each-user".into(), what: "requests".into(), limit: 60, remaining: 15 }],
        market: Arc::new(Told::default()),
    })
}

pub(super) fn names() -> Names {
    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }
    let labels = [("region", set(&["eu", "us"])), ("zero_retention", set(&["true"]))];
    let labels = labels.map(|(key, values)| (key.to_owned(), values)).into();
    Names {
        marks: Some(Marks { tags: set(&["private", "us-east"]), labels }),
        rate_limits: set(&["each-user"]),
        budgets: set(&["everything", "team"]),
        aliases: set(&["cheap", "strong", "canary-stable", "canary-next"]),
        providers: set(&["sandbox", "openai"]),
    }
}

fn load_with(files: &[(&str, &str)], settings: &PolicySettings) -> Result<PolicySet, Vec<PolicyError>> {
    let sources: Vec<_> = files
        .iter()
        .map(|(name, text)| Source {
            name: (*name).to_owned(),
            path: format!("policies/{name}.rhai").into(),
            text: (*text).to_owned(),
        })
        .collect();
    let data = json!({ "teams": { "web": "strong" }, "vips": ["ann"], "limit": 3 });
    PolicySet::load(&sources, settings, data.as_object().unwrap(), &names())
}

fn load(files: &[(&str, &str)]) -> PolicySet {
    load_with(files, &PolicySettings::default()).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// The only policy is `on_request` with this body.
fn ask(body: &str) -> Decided {
    ask_about(body, facts("auto", Fake { text: "please prove it".into(), tokens: 4, ..Fake::default() }))
}

fn ask_about(body: &str, facts: Arc<Facts>) -> Decided {
    load(&[("10-test", &format!("fn on_request(req) {{ {body} }}"))]).decide(&facts)
}

fn route(decided: &Decided) -> &Route {
    match &decided.decision.as_ref().unwrap().verdict {
        Some(Verdict::Route(route)) => route,
        other => panic!("{other:?}, {:?}", decided.errors),
    }
}

/// Steps as text: `cheap,strong:30 > openai/gpt`.
fn steps(route: &Route) -> String {
    let step = |step: &crate::plan::Step| {
        step.choices.iter().map(|(name, weight)| format!("{name}:{weight}")).collect::<Vec<_>>().join(",")
    };
    route.steps.iter().map(step).collect::<Vec<_>>().join(" > ")
}

fn errors(files: &[(&str, &str)]) -> Vec<String> {
    match load_with(files, &PolicySettings::default()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn routes_are_built_step_by_step() {
    for (script, expected) in [
        (r#"route("cheap")"#, "cheap:1"),
        (r#"route("cheap").then("sandbox/echo")"#, "cheap:1 > sandbox/echo:1"),
        (r#"split(["cheap", "strong"])"#, "cheap:1,strong:1"),
        (r#"split(#{ "cheap": 70, "strong": 30.5 }).then("openai/x")"#, "cheap:70,strong:30.5 > openai/x:1"),
        (
            r#"route("cheap").then(split(["strong", "openai/x"])).then("openai/y")"#,
            "cheap:1 > strong:1,openai/x:1 > openai/y:1",
        ),
        (r#"route(req.model)"#, "auto:1"),
        (r#"route(data.teams[req.team])"#, "strong:1"),
        (r#"if "ann" in data.vips && data.limit == 3 { return route("cheap"); } route("strong")"#, "cheap:1"),
        (r#"switch req.team { "web" if req.stream => route("cheap"), _ => () }"#, "cheap:1"),
    ] {
        assert_eq!(steps(route(&ask(script))), expected, "{script}");
    }
}

#[test]
fn a_route_carries_its_settings() {
    let decided = ask(
        r#"route("cheap").timeout("20s").first_token("800ms").retries(2).priority("low").named("slow lane").tag("tier", "low")"#,
    );
    let route = route(&decided);
    assert_eq!(route.timeout, Some(Duration::from_secs(20)));
    assert_eq!(route.first_token, Some(Duration::from_millis(800)));
    assert_eq!(route.retries, Some(2));
    assert_eq!(route.priority, Some(crate::caller::Priority::Low));
    let decision = decided.decision.as_ref().unwrap();
    assert_eq!(
        decision.rule,
        Some(Rule {
            policy: "10-test".into(),
            hook: Hook::OnRequest,
            line: Some(1),
            file: None,
            name: Some("slow lane".into()),
        })
    );
    assert_eq!(decision.tags, [("tier".into(), "low".into())]);
}

#[test]
fn facts_are_seen_and_what_is_missing_is_nothing() {
    for condition in [
        r#"req.model == "auto" && req.endpoint == "chat" && req.id == "r-1" && req.ip == "10.0.0.7""#,
        r#"req.team == "web" && req.user == () && req.key_id == () && req.max_tokens == ()"#,
        r#"req.tokens == 4 && req.messages == 1 && req.words == 3 && !req.has_tools && req.tools.len == 0"#,
        r#"req.headers["X-Tier"] == "gold" && req.headers["x-none"] == () && "x-tier" in req.headers"#,
        r#"req.metadata["feature"] == "search" && req.metadata["x"] == () && (req.metadata["x"] ?? "d") == "d""#,
        r#"req.tags["team"] == "blue" && req.tags["none"] == () && !("none" in req.tags)"#,
        r#"req.field("temperature") == 0.5 && req.field("seed") == 7 && req.field("none") == ()"#,
        r#"req.field("stop") == "[\"x\"]" && req.field("service_tier") == "flex""#,
        r#"req.text == "please prove it" && req.last_user == req.text && req.system == "be brief""#,
        r#"req.contains_any(["nothing", "PROVE"]) && !req.contains_any(["disprove"])"#,
        r#"req.matches("pr.ve\\b") && !req.matches("^prove")"#,
        r#"req.team in ["app", "web"] && !(req.user in ["app"]) && !("x" in [1, ()]) && 1 in [2, 1]"#,
        r#"rate("each-user").used_ratio == 0.75 && rate("each-user").remaining == 15 && rate("key").limit == ()"#,
        r#""web" in data.teams && !("app" in data.teams) && data.none == ()"#,
        // Nobody's team, user or header is in any table.
        r#"data.teams[req.user] == () && data.teams[req.user]?.tier == () && !(req.user in data.teams)"#,
        r#"req.headers[req.user] == () && req.tags[()] == () && req.metadata[()] == () && !(req.user in req.tags)"#,
        r#"!(req.user in #{ a: 1 }) && data[2026] == ()"#,
    ] {
        let decided = ask(&format!("if {condition} {{ route(\"cheap\") }}"));
        assert_eq!(steps(route(&decided)), "cheap:1", "{condition}");
    }
}

#[test]
fn the_first_verdict_wins_while_tags_and_constraints_add_up() {
    let set = load(&[
        ("30-late", r#"fn on_request(req) { route("strong") }"#),
        (
            "10-residency",
            r#"fn on_request(req) {
                req.require(#{ region: "eu", zero_retention: true });
                req.require("private");
                req.tag("residency", "eu");
                req.avoid(["openai", "sandbox/echo"]);
            }"#,
        ),
        ("20-route", r#"fn on_request(req) { if req.tags["residency"] == "eu" { route("cheap") } }"#),
    ]);
    assert_eq!(set.names().collect::<Vec<_>>(), ["10-residency", "20-route", "30-late"]);
    let decided = set.decide(&facts("auto", Fake::default()));
    assert_eq!(steps(route(&decided)), "cheap:1");
    let decision = decided.decision.unwrap();
    assert_eq!(&*decision.rule.unwrap().policy, "20-route");
    assert_eq!(decision.tags, [("residency".into(), "eu".into())]);
    let label = |k: &str, v: &str| Constraint::Label(k.into(), v.into());
    assert_eq!(
        decision.require,
        [label("region", "eu"), label("zero_retention", "true"), Constraint::Tag("private".into())]
    );
    assert_eq!(decision.avoid, [Constraint::Name("openai".into()), Constraint::Name("sandbox/echo".into())]);
}

#[test]
fn a_rejection_says_status_code_and_message() {
    let decided = ask(r#"reject(429, "too_much", `slow down, ${req.team}`).named("brake")"#);
    let decision = decided.decision.unwrap();
    let Some(Verdict::Reject(reject)) = decision.verdict else { panic!("not rejected") };
    assert_eq!((reject.status, &*reject.code, &*reject.message), (429, "too_much", "slow down, web"));
    assert_eq!(decision.rule.unwrap().name.as_deref(), Some("brake"));
}

#[test]
fn constants_are_seen_in_functions_and_hidden_by_parameters() {
    let set = load(&[(
        "10-test",
        r#"
        const WHO = "cheap";
        const FIRST = route("openai/x").timeout("5s");
        const TABLE = #{ web: WHO };
        fn inner() { deeper() }
        fn deeper() { FIRST.then(TABLE.web) }
        fn hidden(WHO) { WHO }
        fn on_request(req) { inner().then(hidden("strong")) }
        "#,
    )]);
    let decided = set.decide(&facts("auto", Fake::default()));
    assert_eq!(steps(route(&decided)), "openai/x:1 > cheap:1 > strong:1");
    assert_eq!(route(&decided).timeout, Some(Duration::from_secs(5)));
}

#[test]
fn buckets_are_the_same_in_every_process_and_version() {
    for (call, expected) in [
        (r#"bucket("canary-1", "ann", 100)"#, 81),
        (r#"bucket("canary-2", "ann", 100)"#, 40),
        (r#"bucket("canary-1", 42, 100)"#, 57),
        (r#"bucket("canary-1", (), 100)"#, 56),
    ] {
        let decided = ask(&format!("reject(400, `${{{call}}}`, \"\")"));
        let Some(Verdict::Reject(reject)) = decided.decision.unwrap().verdict else { panic!("{call}") };
        assert_eq!(reject.code.parse::<i64>().unwrap(), expected, "{call}");
    }
}

#[test]
fn libraries_are_imported_from_lib_only() {
    let teams = r#"
        import "lists" as lists;
        const PAYING = ["web"];
        private fn secret() { 1 }
        fn is_paying(team) { team in PAYING && lists::any() }
    "#;
    let lists = "fn any() { data.limit == 3 }";
    let policy = |path: &str, call: &str| {
        format!(r#"import "{path}" as teams; fn on_request(req) {{ if {call} {{ route("cheap") }} }}"#)
    };
    let files = |policy: &'static str| [("lib/teams", teams), ("lib/lists", lists), ("10-a", policy)];
    let good = policy("teams", "teams::is_paying(req.team)").leak();
    assert_eq!(steps(route(&load(&files(good)).decide(&facts("x", Fake::default())))), "cheap:1");
    for (path, call, expected) in [
        ("temas", "true", "there is no usable library file `lib/temas.rhai` (did you mean `teams`?)"),
        ("../secret", "true", "`../secret`: imports are paths below `lib/` and cannot leave it"),
        ("/etc/passwd", "true", "`/etc/passwd`: imports are paths below `lib/` and cannot leave it"),
        ("teams", "teams::is_payin(1)", "`teams` has no function `is_payin` (did you mean `is_paying`?)"),
        ("teams", "teams::secret()", "`teams` has no function `secret`"),
    ] {
        let bad = policy(path, call).leak();
        let found = errors(&files(bad));
        assert!(found.len() == 1 && found[0].ends_with(expected), "{path} {call}: {found:?}");
    }
    let circle = errors(&[("lib/a", "import \"b\" as b;"), ("lib/b", "import \"a\" as a;")]);
    assert_eq!(
        circle,
        [
            "policies/lib/a.rhai:1:8: library files import each other in a circle",
            "policies/lib/b.rhai:1:8: library files import each other in a circle"
        ]
    );
}

#[test]
fn mistakes_are_found_at_load_with_their_place() {
    const KNOWN: &str =
        "; aliases under `models:`: canary-next, canary-stable, cheap, strong; providers: openai, sandbox";
    for (text, expected) in [
        (
            "fn on_request(req) { route(\"cheap\" }",
            "1:36: expecting ',' to separate the arguments to function call 'route'",
        ),
        (
            "const CHEAP = 1;\nfn on_request(req) { CHEEP }",
            "2:22: unknown variable `CHEEP` (did you mean `CHEAP`?)",
        ),
        (
            "let x = 1;\nfn on_request(req) { x }",
            "2:22: functions cannot see the variable `x` of the top level: write `const x = …`",
        ),
        (
            "fn on_request(req) {\n  rotue(\"cheap\")\n}",
            "2:3: unknown function `rotue` (did you mean `route`?)",
        ),
        (
            "fn on_request(req) { req.has_tools() }",
            "1:26: unknown function `has_tools` (`has_tools` is a property: write it without parentheses)",
        ),
        (
            "fn on_request(req) { if req.modle == \"x\" { return; } }",
            "1:29: unknown property `modle` of a request (did you mean `model`?)",
        ),
        (
            "fn on_request(r) { r.heders[\"x\"] }",
            "1:22: unknown property `heders` of a request (did you mean `headers`?)",
        ),
        ("fn on_request(req) { req.model = \"x\"; }", "1:26: `model` of a request cannot be changed"),
        (
            "fn on_request(req) { reject(400, \"x\") }",
            "1:22: `reject` is written `reject(status: number, code: text, message: text) → Rejection`, here it has 2 arguments",
        ),
        (
            "fn on_request(req) { route(\"cheap\").timeout(\"20\") }",
            "1:45: timeout: '20' is not a duration (try \"20s\" or \"800ms\")",
        ),
        ("fn on_request(req) { req.matches(\"(a\") }", "1:34: matches: unclosed group"),
        ("fn f() { 1 }", "1:1: the file defines no hook: write `fn on_request(req) { … }`"),
        ("fn on_request() { }", "1:4: `on_request` is written `fn on_request(req)`"),
        (
            "fn on_requets(req) { }",
            "1:4: unknown hook `on_requets` (did you mean `on_request`?); names that begin with `on_` are reserved for hooks",
        ),
        (
            "fn on_request(req) { }\nfn on_chunk(req, text) { }",
            "2:4: there is no hook `on_chunk`: text is cut at random places there: write `req.stop_on([..])` or use a guard plugin",
        ),
        (
            "const ON_ERROR = \"ignore\"; fn on_request(req) { }",
            "1:18: ON_ERROR is \"deny\" or \"skip\", not \"ignore\"",
        ),
        ("fn on_request(req) { eval(\"1\") }", "1:22: `eval` is not available in policies"),
        ("const X = 1 / 0; fn on_request(req) { }", "1:13: division by zero: 1 / 0"),
        (
            "fn on_request(req) { teams::f() }",
            "1:22: unknown module `teams`: write `import \"teams\" as teams;` at the top of the file",
        ),
        (
            "fn on_request(req) { if rate(\"each-usr\").limit == () || rate(\"key\").limit == () { return route(\"cheap\"); } }",
            "1:30: unknown limit `each-usr` (did you mean `each-user`?); under `rate_limits:` are each-user",
        ),
        (
            "fn on_request(req) { if budget(\"evrything\").used > 1.0 || budget(\"team\").used > 1.0 { return route(\"cheap\"); } }",
            "1:32: unknown budget `evrything` (did you mean `everything`?); under `budgets:` are everything, team",
        ),
    ] {
        assert_eq!(errors(&[("10-a", text)]), [format!("policies/10-a.rhai:{expected}")], "{text}");
    }
    for (text, expected) in [
        ("fn on_request(req) { route(\"cheep\") }", "1:28: unknown alias `cheep` (did you mean `cheap`?)"),
        (
            "fn on_request(req) { split([\"cheap\", \"opnai/gpt\"]) }",
            "1:38: unknown target `opnai/gpt`: there is no provider `opnai` (did you mean `openai/gpt`?)",
        ),
        (
            "fn on_request(req) { route(\"cheap\").then(\"azure/x\") }",
            "1:42: unknown target `azure/x`: there is no provider `azure`",
        ),
        ("fn on_request(req) { split(#{ \"cheap\": 1, \"big\": 2 }) }", "1:43: unknown alias `big`"),
        ("const ALL = [\"cheap\", \"big\"];\nfn on_request(req) { split(ALL) }", "2:28: unknown alias `big`"),
    ] {
        assert_eq!(errors(&[("10-a", text)]), [format!("policies/10-a.rhai:{expected}{KNOWN}")], "{text}");
    }
}

#[test]
fn all_errors_of_all_files_come_at_once() {
    let found = errors(&[
        ("20-b", "fn on_request(req) { req.modle; req.txt; rotue(1) }"),
        ("10-a", "fn on_request(req) {"),
        ("30-good", "fn on_request(req) { }"),
    ]);
    let places: Vec<_> = found.iter().map(|error| error.split(": ").next().unwrap()).collect();
    let expected = [
        "policies/10-a.rhai:1:21",
        "policies/20-b.rhai:1:26",
        "policies/20-b.rhai:1:37",
        "policies/20-b.rhai:1:42",
    ];
    assert_eq!(places, expected, "{found:#?}");
}

#[test]
fn a_failing_policy_denies_without_telling_the_client_why() {
    let decided = ask(r#"let x = req.headers["none"]; x.to_upper()"#);
    let fault = decided.decision.unwrap_err();
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Policy, "a policy failed on this request"));
    assert_eq!(decided.errors.len(), 1);
}

#[test]
fn failures_have_their_place_and_a_reason() {
    for (script, place, reason) in [
        ("throw \"no\"", "1:22", "no"),
        (
            "let n = 3; route(\"cheap\").timeout(n)",
            "1:48",
            "timeout: '3' is not a duration (try \"20s\" or \"800ms\")",
        ),
        ("route(req.user)", "1:22", "route: expected a target or alias as text, not () (nothing)"),
        (
            "let r = [req]; r[0].modle",
            "1:42",
            "unknown property `modle` of a request (did you mean `model`?)",
        ),
        ("let n = 99; reject(n, \"a\", \"b\")", "1:34", "reject: '99' is not an HTTP status from 400 to 599"),
        ("let none = #{}; split(none)", "1:38", "split: no target has a weight above 0"),
        ("let w = -1; split(#{ \"cheap\": w })", "1:34", "split: '-1' is not a weight for 'cheap' (try 70)"),
        (
            "let said = \"cheap\"; said",
            "1:4",
            "`on_request` must return route(…), split(…), respond(…), reject(…) or nothing, not a text",
        ),
        (
            "req.user.starts_with(\"a\")",
            "1:31",
            "`starts_with` of `()`: what is missing is `()`; ask `x == ()` first, give a default (`x ?? \"none\"`), or write `x?.…`",
        ),
        (
            "data.teams[req.user].tier == 1",
            "1:43",
            "property `tier` of `()`: what is missing is `()`; ask `x == ()` first, give a default (`x ?? \"none\"`), or write `x?.…`",
        ),
        (
            "let m = #{}; m[req.user]",
            "1:37",
            "expected a text, not `()`: what is missing is `()`; ask `x == ()` first, give a default (`x ?? \"none\"`), or write `x?.…`",
        ),
        ("loop {}", "1:27", "stopped: too many operations (`max_operations`); an endless loop?"),
        ("on_request(req)", "1:22", "stopped: calls are nested too deeply; an endless recursion?"),
        (
            "let s = \"x\"; loop { s += s; }",
            "1:44",
            "stopped: a text larger than 8 MiB; look at long prompts with `req.contains_any`, `req.matches` and `req.words`",
        ),
        ("let n = 0; bucket(\"a\", \"b\", n)", "1:33", "bucket: 0 is not a number of shares (try 100)"),
        (
            "let all = [1]; req.contains_any(all)",
            "1:41",
            "contains_any: expected a list of texts, found i64 in it",
        ),
    ] {
        let decided = ask(script);
        let error = &decided.errors[0];
        let at = format!("{}:{}", error.line, error.column);
        assert_eq!((at.as_str(), error.message.as_str()), (place, reason), "{script}");
        assert_eq!(&*error.policy, "10-test");
        assert!(decided.decision.is_err());
    }
}

#[test]
fn what_is_stopped_is_told_where_it_ran_and_nowhere_else() {
    let settings =
        PolicySettings { deadline: crate::settings::Period::secs(60), ..PolicySettings::default() };
    let stopped = "stopped: too many operations (`max_operations`); an endless loop?";
    for (body, line) in [
        ("if req.model == \"loop\" { loop { } }\n  for i in 0..1000000 { let x = i; }", 3),
        ("if req.model == \"loop\" { loop { } }\n  while true { }", 3),
        ("for i in 0..1000000 { }", 2),
        ("let n = 0;\n  while n >= 0 {\n    n += 1; }", 4),
        ("let n = 0;\n  far(n);", 3),
        ("let list = [1];\n  list.map(|n| {\n    far(n) });", 3),
    ] {
        let text =
            format!("fn on_request(req) {{\n  {body}\n}}\nfn far(n) {{\n  loop {{ let m = n; }}\n}}\n");
        let set = load_with(&[("10-a", &text)], &settings).unwrap();
        let decided = set.decide(&facts("auto", Fake::default()));
        let error = &decided.errors[0];
        assert_eq!((error.line, error.message.as_str()), (line, stopped), "{text}");
    }
}

#[test]
fn what_is_stopped_nowhere_is_told_so() {
    // Changing an element of a list has no place in the language; one of these limits ends at one.
    let text = "fn on_request(req) { let list = [0, 0]; loop { list[1] = list[0] + 1; } }";
    let said = (1_000..1_020).map(|max_operations| {
        let settings = PolicySettings { max_operations, ..PolicySettings::default() };
        let decided =
            load_with(&[("10-a", text)], &settings).unwrap().decide(&facts("auto", Fake::default()));
        (decided.errors[0].column, decided.errors[0].message.clone())
    });
    let nowhere: Vec<_> = said.filter(|(_, message)| message.contains("somewhere")).collect();
    assert!(!nowhere.is_empty());
    for (column, message) in nowhere {
        assert!(column == 4 && message.ends_with("(somewhere in `on_request`)"), "{column}: {message}");
    }
}

#[test]
fn a_policy_that_may_be_skipped_leaves_the_choice_to_the_next() {
    let skipping = r#"const ON_ERROR = "skip"; fn on_request(req) { req.require("private"); throw "no" }"#;
    let set = load(&[("10-bad", skipping), ("20-good", r#"fn on_request(req) { route("cheap") }"#)]);
    let decided = set.decide(&facts("auto", Fake::default()));
    assert_eq!(steps(route(&decided)), "cheap:1");
    assert_eq!(decided.errors.len(), 1);
    // What was required before the failure still holds.
    assert_eq!(decided.decision.unwrap().require, [Constraint::Tag("private".into())]);
}

#[test]
fn a_failure_in_a_library_names_the_library() {
    let set = load(&[
        ("lib/bad", "fn broken(x) {\n    x.foo = 1;\n    throw \"inside\"\n}"),
        ("10-a", "import \"bad\" as bad; fn on_request(req) { bad::broken(#{}) }"),
    ]);
    let decided = set.decide(&facts("auto", Fake::default()));
    assert_eq!(decided.errors[0].to_string(), "policies/lib/bad.rhai:3:5: inside");
}

#[test]
fn a_defect_of_the_host_costs_one_answer_and_not_the_worker() {
    let decided =
        ask_about("req.has_files", facts("auto", Fake { text: "a defect".into(), ..Fake::default() }));
    assert!(decided.errors[0].message.contains("panicked"), "{:?}", decided.errors);
    assert!(decided.decision.is_err());
}

#[test]
fn the_deadline_stops_what_the_operation_limit_lets_through() {
    let settings = PolicySettings {
        max_operations: u64::MAX,
        deadline: crate::settings::Period::millis(2),
        ..PolicySettings::default()
    };
    let set = load_with(&[("10-a", "fn on_request(req) { loop {} }")], &settings).unwrap();
    let decided = set.decide(&facts("auto", Fake::default()));
    assert_eq!(decided.errors[0].message, "stopped: too slow (`deadline`); an endless loop?");
}

#[test]
fn no_policies_have_no_opinion() {
    let decided = load(&[]).decide(&facts("auto", Fake::default()));
    assert!(decided.decision.unwrap().verdict.is_none());
}

#[test]
fn the_examples_do_what_they_say() {
    let read = |name: &'static str| {
        let path = format!("{}/policies/{name}.rhai", env!("CARGO_MANIFEST_DIR"));
        (name, &*std::fs::read_to_string(path).unwrap().leak())
    };
    let set = load(&[read("10-cheap-by-default"), read("20-split"), read("30-canary")]);
    let long = || Fake { tokens: 9_000, ..Fake::default() };
    let many_tools = || Fake { tools: ["a", "b", "c", "d", "e"].map(Into::into).to_vec(), ..Fake::default() };
    let user = |user: &str| Fake { user: Some(user.to_owned()), ..Fake::default() };
    for (model, body, expected) in [
        ("auto", Fake::default(), "cheap:1 > strong:1"),
        ("auto", long(), "strong:1 > cheap:1"),
        ("auto", many_tools(), "strong:1 > cheap:1"),
        ("split", Fake::default(), "cheap:70,strong:30 > cheap:1 > strong:1"),
        ("canary", user("ann"), "canary-stable:1"),
    ] {
        assert_eq!(steps(route(&set.decide(&facts(model, body)))), expected, "{model}");
    }
    let other = set.decide(&facts("gpt-4o", Fake::default()));
    assert!(other.decision.unwrap().verdict.is_none());

    let chosen = (0..2_000)
        .filter(|n| {
            steps(route(&set.decide(&facts("canary", user(&format!("user-{n}")))))).starts_with("canary-next")
        })
        .count();
    assert!((60..=140).contains(&chosen), "{chosen} of 2000 users are canaries");
}

#[test]
fn scripts_write_to_the_log_with_their_place() {
    use std::io::Write;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let set = load(&[
        ("lib/loud", "fn shout() {\n  error(\"from the library\")\n}"),
        (
            "10-a",
            "import \"loud\" as loud;\nfn on_request(req) {\n  print(req.tokens);\n  warn(`from ${req.team}`);\n  print(req.tools);\n  loud::shout();\n  throw \"the end\"\n}",
        ),
    ]);
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || set.decide(&facts("auto", Fake::default())));
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let log: Vec<&str> = log.lines().collect();
    assert_eq!(log.len(), 5, "{log:#?}");
    for (line, (level, text, place)) in log.iter().zip([
        ("INFO", "0", "10-a.rhai:3:3"),
        ("WARN", "from web", "10-a.rhai:4:3"),
        ("INFO", "[]", "10-a.rhai:5:3"),
        ("ERROR", "from the library", "lib/loud.rhai:2:3"),
        ("WARN", "a policy failed", "10-a.rhai:7:3"),
    ]) {
        let all = [level, text, place, "r-1"].iter().all(|part| line.contains(part));
        assert!(all, "{level} {text} {place}: {line}");
    }
}

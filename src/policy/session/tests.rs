//! Stories of sessions: later hooks, plugins that make policies wait, and what is done once although it was asked twice.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::fault::Phase;
use crate::plan::{Hedge, Late};
use crate::policy::plugins::{About, Asking, Finding, Plan, Plugins, Question};
use crate::policy::tests::{Fake, facts, names};
use crate::policy::{PolicyError, PolicySet, PolicySettings, SeenTarget, Source};
use crate::target::{TargetName, Traits};

/// Plugins that answer after so many milliseconds of virtual time: `slow`, `quick` and `broken`.
#[derive(Default)]
struct Town {
    asked: AtomicU32,
    /// Its router wants what cannot be.
    is_hot: bool,
}

impl Plugins for Town {
    fn names(&self) -> Vec<String> {
        ["slow", "quick", "broken"].map(str::to_owned).to_vec()
    }

    fn lacks_function(&self, _: &str, function: &str) -> Option<String> {
        (function == "smu").then(|| "no `smu`, but `sum`".to_owned())
    }

    fn ask(&self, plugin: &str, question: &Question, _: &About) -> Asking {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let wait = Duration::from_millis(if plugin == "slow" { 30 } else { 0 });
        let reply = match (plugin, question) {
            ("broken", _) => Err("it fell over".to_owned()),
            (_, Question::Classify) => {
                Ok(Reply::Classes { labels: vec![("code".into(), 0.9)], attributes: Vec::new() })
            }
            (_, Question::Inspect) => {
                let email = Finding {
                    kind: "email".into(),
                    score: 1.0,
                    segment: 0,
                    start: 0,
                    end: 7,
                    replacement: None,
                    text: Some("ann@a.b".into()),
                };
                Ok(Reply::Findings { findings: vec![email], reject: None })
            }
            ("quick", Question::Route) => Ok(Reply::Pass),
            (_, Question::Route) => Ok(Reply::Plan(Plan {
                steps: vec![vec![("strong".into(), 1.0)], vec![("cheap".into(), 1.0)]],
                timeout_ms: Some(400),
                retries: Some(0),
                hedge_after_ms: Some(150),
                set: vec![("temperature".into(), if self.is_hot { "\"hot\"" } else { "0.2" }.into())],
                ..Plan::default()
            })),
            (_, Question::Call { function, arguments }) => {
                Ok(Reply::Json(format!(r#"{{"said": "{function}", "given": {arguments}}}"#)))
            }
        };
        Box::pin(async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            reply
        })
    }
}

fn load(files: &[(&str, &str)], town: &Arc<Town>) -> Result<PolicySet, Vec<PolicyError>> {
    let sources: Vec<_> = files
        .iter()
        .map(|(name, text)| Source {
            name: (*name).to_owned(),
            path: format!("policies/{name}.rhai").into(),
            text: (*text).to_owned(),
        })
        .collect();
    let plugins: Arc<dyn Plugins> = town.clone();
    PolicySet::load_with(&sources, &PolicySettings::default(), &serde_json::Map::new(), &names(), plugins)
}

fn begin(files: &[(&str, &str)]) -> (Session, Arc<Town>) {
    let town = Arc::new(Town::default());
    let set = load(files, &town).unwrap_or_else(|errors| panic!("{errors:#?}"));
    (set.begin(&facts("auto", Fake::default())), town)
}

fn target() -> SeenTarget {
    let traits =
        Traits { tags: vec!["private".into()], labels: [("region".into(), "eu-west".into())].into() };
    SeenTarget::of(&TargetName::parse("openai/gpt").unwrap(), &traits)
}

fn failed(kind: FaultKind, attempt: u32) -> FailedAttempt {
    let fault = Fault::new(kind, "no").status(503).after(Some(Duration::from_millis(250)));
    FailedAttempt::of(target(), attempt, &fault)
}

fn answer() -> Answer {
    Answer {
        target: target(),
        status: 200,
        stream: false,
        usage: None,
        finish: None,
        latency: Duration::ZERO,
    }
}

fn completion() -> Completion {
    Completion {
        outcome: "ok",
        status: 200,
        target: target(),
        attempts: 2,
        usage: None,
        finish: Some("stop"),
        first_token: None,
        duration: Duration::from_millis(7),
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_has_to_wait_is_asked_again_and_its_wishes_count_once() {
    let (session, town) = begin(&[(
        "10-a",
        r#"fn on_request(req) {
            req.tag("seen", "once");
            let n = state.incr("test-waiting");
            let kind = plugin("slow").classify(req);
            let same = plugin("slow").classify(req);
            req.require("private");
            if kind.top == "code" && same.score > 0.8 && n == 1 { return route("cheap").named(`n${n}`); }
        }"#,
    )]);
    let decision = session.decide().await.decision.unwrap();
    assert_eq!(decision.rule.unwrap().name.as_deref(), Some("n1"));
    assert_eq!(decision.tags.len(), 1, "{:?}", decision.tags);
    assert_eq!(decision.require, [Constraint::Tag("private".into())]);
    assert_eq!(town.asked.load(Ordering::Relaxed), 1, "the same question is asked once");
    let asked = session.asked();
    assert_eq!((asked.len(), &*asked[0].plugin), (1, "slow"));

    let (again, _) = begin(&[(
        "10-a",
        r#"fn on_request(req) { if state.get("test-waiting") == 1 { return route("cheap"); } }"#,
    )]);
    assert!(again.decide().await.decision.unwrap().verdict.is_some(), "what is kept outlives its request");
}

#[tokio::test(start_paused = true)]
async fn the_whole_of_a_routers_plan_is_carried_out() {
    let policy = &[("10-a", r#"fn on_request(req) { plugin("slow").route(req) }"#)];
    let (session, _) = begin(policy);
    let Some(Verdict::Route(route)) = session.decide().await.decision.unwrap().verdict else { panic!() };
    let ms = Duration::from_millis;
    assert_eq!(route.steps.len(), 2);
    assert_eq!(route.manner.hedge, Some(Hedge::after(Late::After(ms(150)))));
    assert_eq!((route.manner.attempt, route.timeout, route.retries), (Some(ms(400)), None, Some(0)));
    assert_eq!(route.set, [("temperature".into(), serde_json::json!(0.2))]);

    let set = load(policy, &Arc::new(Town { is_hot: true, ..Town::default() })).unwrap();
    let decided = set.begin(&facts("auto", Fake::default())).decide().await;
    assert!(decided.errors[0].message.contains("`temperature` takes a number"), "{:?}", decided.errors);
}

#[tokio::test(start_paused = true)]
async fn known_answers_need_no_plugin() {
    let policy = &[(
        "10-a",
        r#"fn on_request(req) { route(if plugin("slow").classify(req).top == "code" { "strong" } else { "cheap" }) }"#,
    )];
    let (session, _) = begin(policy);
    session.decide().await;
    let town = Arc::new(Town::default());
    let set = load(policy, &town).unwrap();
    let replayed = set.begin_with(&facts("auto", Fake::default()), session.asked());
    assert!(replayed.decide_now().decision.unwrap().verdict.is_some());
    assert_eq!(town.asked.load(Ordering::Relaxed), 0);
    assert_eq!(
        set.decide(&facts("auto", Fake::default())).errors[0].message,
        "plugin `slow`: its answer is not known"
    );
}

#[tokio::test(start_paused = true)]
async fn what_plugins_say_reads_well() {
    for (script, expected) in [
        (r#"plugin("quick").classify(req).labels["code"] == 0.9"#, true),
        (r#"plugin("quick").inspect(req).any(["card", "email"])"#, true),
        (r#"plugin("quick").inspect(req).kinds == ["email"]"#, true),
        (r#"plugin("quick").inspect(req).first(["card"]) == ()"#, true),
        (r#"plugin("quick").route(req) == ()"#, true),
        (r#"plugin("quick").call("hi", #{ a: [1, 2] }).given.a[1] == 2"#, true),
        (r#"let x = false; try { plugin("broken").classify(req) } catch(e) { x = true } x"#, true),
    ] {
        let text = format!(
            "fn check(req) {{ {script} }} fn on_request(req) {{ if check(req) {{ return route(\"cheap\"); }} }}"
        );
        let (session, _) = begin(&[("10-a", &text)]);
        let decided = session.decide().await;
        let said = decided.decision.is_ok_and(|decision| decision.verdict.is_some());
        assert_eq!(said, expected, "{script} {:?}", decided.errors);
    }
    let (session, _) = begin(&[("10-a", r#"fn on_request(req) { plugin("broken").classify(req) }"#)]);
    assert_eq!(
        session.decide().await.errors[0].to_string(),
        "policies/10-a.rhai:1:39: plugin `broken`: it fell over"
    );
}

#[test]
fn plugins_are_checked_at_load() {
    let town = Arc::new(Town::default());
    for (script, problem) in [
        (
            r#"plugin("slwo").classify(req)"#,
            "1:29: unknown plugin `slwo` (did you mean `slow`?); plugins: slow, quick, broken",
        ),
        (
            r#"plugin(req.model).classify(req)"#,
            "1:32: plugin: write the name in so many words, so that it can be checked: `plugin(\"intent\")`",
        ),
        (r#"plugin("slow").clasify(req)"#, "1:37: unknown function `clasify` (did you mean `classify`?)"),
        (
            r#"plugin("slow").classify()"#,
            "1:37: `classify` is written `plugin.classify(req: Request) → Classes`, here it has 0 arguments",
        ),
        (
            r#"plugin("slow").route()"#,
            "1:37: `route` is written `plugin.route(req: Request) → route, rejection or ()`, here it has 0 arguments",
        ),
        (r#"plugin("slow").call("smu", 1)"#, "1:37: no `smu`, but `sum`"),
    ] {
        let text = format!("fn on_request(req) {{ {script} }}");
        let errors = load(&[("10-a", &text)], &town).err().unwrap_or_default();
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [format!("policies/10-a.rhai:{problem}")], "{script}");
    }
}

#[tokio::test]
async fn what_a_guard_found_does_not_leave() {
    let (session, _) = begin(&[
        (
            "10-a",
            r#"fn on_request(req) { req.redact(plugin("quick").inspect(req), #{ restore: true }); req.cap_output(900); }"#,
        ),
        ("20-b", "fn on_request(req) { req.cap_output(50); req.cap_output(70); req.stop_on([\"END\"]); }"),
    ]);
    let output = session.decide().await.decision.unwrap().output;
    assert_eq!((output.most, output.stop_on), (Some(50), vec!["END".into()]));
    let redaction = &output.redact[0];
    assert_eq!(
        (&*redaction.value, &*redaction.placeholder, redaction.restore),
        ("ann@a.b", "[EMAIL_1]", true)
    );
    let (session, _) =
        begin(&[("10-a", r#"fn on_request(req) { let kinds = ["email"]; req.redact(kinds) }"#)]);
    assert!(session.decide().await.errors[0].message.starts_with("redact: this version has no detectors"));
}

#[tokio::test]
async fn on_error_says_what_happens_next() {
    let (session, _) = begin(&[(
        "10-a",
        r#"
        fn on_error(req, err) {
            if err.kind == "overloaded" && err.attempt < 3 { return retry_after(err.retry_after_ms); }
            if err.kind == "first_token_timeout" { req.avoid("openai"); return next_target(); }
            if err.kind == "auth" { return fail(); }
            if err.target.region.starts_with("eu") && err.kind == "server" {
                return reject(503, "try_later", `${err.target.name} ${err.status}`).named("gone");
            }
        }"#,
    )]);
    assert!(!session.has(Hook::OnRequest) && session.has(Hook::OnError));
    for (kind, attempt, expected) in [
        (FaultKind::Overloaded, 1, "RetryAfter(250ms)"),
        (FaultKind::Overloaded, 3, "Usual"),
        (FaultKind::Timeout(Phase::FirstToken), 1, "NextTarget"),
        (FaultKind::Credentials, 1, "Fail"),
    ] {
        let said = session.on_error(failed(kind, attempt)).await;
        assert_eq!(format!("{:?}", said.what), expected, "{kind:?} {:?}", said.errors);
    }
    assert!(!session.allows(|constraint| *constraint == Constraint::Name("openai".into())));
    let said = session.on_error(failed(FaultKind::ServerError, 1)).await;
    let Reaction::Refuse(fault) = said.what else { panic!("not refused") };
    assert_eq!(
        (fault.client_status(), fault.code_str(), &*fault.message),
        (503, "try_later", "openai/gpt 503")
    );
    let rule = said.rule.unwrap();
    assert_eq!((rule.hook, rule.line, rule.name.as_deref()), (Hook::OnError, Some(7), Some("gone")));
}

#[tokio::test]
async fn an_answer_can_be_refused() {
    let (session, _) = begin(&[(
        "10-a",
        r#"fn on_request(req) { req.tag("residency", "us"); }
        fn on_response(req, res) {
            if req.tags["residency"] == "us" && !res.target.region.starts_with("us") {
                return reject(502, "residency", "no compliant model answered");
            }
        }"#,
    )]);
    session.decide().await;
    let said = session.on_response(answer()).await;
    assert_eq!(said.what.unwrap_err().code_str(), "residency");
    assert_eq!(said.rule.unwrap().line, Some(4));
}

#[tokio::test]
async fn wrong_returns_are_told_with_what_would_be_right() {
    for (script, problem) in [
        (
            "fn way() { route(\"cheap\") } fn on_error(req, err) { way() }",
            "`on_error` must return next_target(), retry_after(ms), fail(), reject(…) or nothing, not a route",
        ),
        (
            "fn on_response(req, res) { let n = 7; n }",
            "`on_response` must return reject(…) or nothing, not a number",
        ),
        (
            "fn on_request(req) { let list = [1]; list }",
            "`on_request` must return route(…), split(…), respond(…), reject(…) or nothing, not a list",
        ),
    ] {
        let (session, _) = begin(&[("10-a", script)]);
        let mut errors = session.decide().await.errors;
        let refused = session.on_error(failed(FaultKind::ServerError, 1)).await;
        errors.extend(refused.errors);
        errors.extend(session.on_response(answer()).await.errors);
        assert_eq!(errors[0].message, problem);
        assert_eq!(errors[0].line, 1);
    }
}

#[tokio::test]
async fn every_policy_hears_of_the_end_also_behind_one_that_fails() {
    let (session, _) = begin(&[
        ("10-a", "fn on_complete(req, out) { throw \"oh\" }"),
        (
            "20-b",
            r#"fn on_complete(req, out) {
                metric("test_hooks").add(#{ model: out.target.name, ok: out.ok });
                metric("test_ms").observe(out.first_token_ms);
                state.set("test-end", `${out.target.provider} ${out.attempts} ${out.duration_ms}`);
            }"#,
        ),
        (
            "30-c",
            r#"fn on_request(req) { if state.get("test-end") == "openai 2 7" { respond("kept").tag("a", 1) } }"#,
        ),
    ]);
    let errors = session.on_complete(completion()).await;
    assert_eq!(errors.iter().map(|error| &*error.message).collect::<Vec<_>>(), ["oh"]);
    let decision = session.decide().await.decision.unwrap();
    let Some(Verdict::Respond(text)) = decision.verdict else { panic!("{:?}", decision.verdict) };
    assert_eq!(&*text, "kept");
}

#[tokio::test]
async fn hooks_and_properties_are_checked_at_load() {
    let town = Arc::new(Town::default());
    for (text, problem) in [
        ("fn on_error(req) { }", "1:4: `on_error` is written `fn on_error(req, err)`"),
        (
            "fn on_chunk(req, c) { }",
            "1:4: there is no hook `on_chunk`: text is cut at random places there: write `req.stop_on([..])` or use a guard plugin",
        ),
        (
            "fn on_error(req, e) { e.knd }",
            "1:25: unknown property `knd` of a failed attempt (did you mean `kind`?)",
        ),
        (
            "fn on_response(req, res) { res.satus }",
            "1:32: unknown property `satus` of an answer (did you mean `status`?)",
        ),
        (
            "fn on_response(req, res) { req.require(\"private\") }",
            "1:32: `require` works in `on_request` and `on_error`, but this runs in `on_response`",
        ),
        (
            "fn on_complete(q, out) { q.modle }",
            "1:28: unknown property `modle` of a request (did you mean `model`?)",
        ),
    ] {
        let errors = load(&[("10-a", text)], &town).err().unwrap_or_default();
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [format!("policies/10-a.rhai:{problem}")], "{text}");
    }
}

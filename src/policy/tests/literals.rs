//! What stands in a policy in so many words is checked at load.

use super::{errors, load};

#[test]
fn constants_that_no_request_could_use_are_refused_at_load() {
    const ROUTE: &str = "`route` is written `route(target) → Route`, here it has 2 arguments";
    for (body, expected) in [
        ("route(\"cheap\", \"strong\")", format!("1:22: {ROUTE}")),
        ("split(\"cheap\", \"strong\")", "1:22: `split` is written `split(shares) → Route`, here".into()),
        ("route([\"cheap\"])", "1:28: route: expected a target or alias as text, not a list".into()),
        ("route(\"cheap\").then([\"strong\"])", "1:42: then: expected a target, an alias or split".into()),
        ("route(\"cheap\").retries(99)", "1:45: retries: expected a whole number from 0 to 10, not '99'".into()),
        (
            "route(\"cheap\").set(\"temperature\", \"hot\")",
            "1:56: set: `temperature` takes a number, not 'hot'".into(),
        ),
        ("let r = route(\"cheap\"); r.timeout(20)", "1:56: timeout: '20' is not a duration".into()),
        ("split(#{ \"cheap\": 0 })", "1:28: split: no target has a weight above 0".into()),
        ("bucket(\"a\", \"b\", 0) < 5;", "1:39: bucket: 0 is not a number of shares".into()),
        ("bucket(1, \"b\", 10) < 5;", "1:29: `bucket` is written `bucket(salt: text, id, n: number) → number`: its `salt` cannot be a number".into()),
        ("req.cap_output(\"5\");", "1:37: cap_output: expected a number of tokens above 0".into()),
        ("return \"cheap\";", "1:29: `on_request` must return route(…)".into()),
        ("req.cache(\"1x\");", "1:32: cache: ".into()),
        ("state.set(\"k\", 1, \"1x\");", "1:40: state.set: '1x' is not a duration".into()),
        ("state.incr(\"k\", 1, \"1x\");", "1:41: state.incr: '1x' is not a duration".into()),
        ("req.redact([\"email\"]);", "1:33: `redact` is written `req.redact(findings: Findings)`: its `findings` cannot be a list".into()),
        ("req.avoid(\"us-est\");", "1:32: avoid: no target has the tag `us-est`, and no provider is called so (did you mean `us-east`?)".into()),
        ("req.require([\"private\", \"opnai\"]);", "1:46: require: no target has the tag `opnai`, and no provider is called so (did you mean `openai`?)".into()),
        ("req.avoid(\"opnai/x\");", "1:32: avoid: unknown target `opnai/x`: there is no provider `opnai` (did you mean `openai/x`?)".into()),
        ("req.avoid(\"cheap\");", "1:32: avoid: `cheap` is an alias: name its targets, their providers, or a tag".into()),
        ("req.avoid(#{ region: req.user, regoin: \"us\" });", "1:53: avoid: no target has a label `regoin` (did you mean `region`?)".into()),
        ("req.require(#{ region: \"ue\" });", "1:37: require: no target has the label `region: ue` (did you mean `eu`?)".into()),
        ("req.require(5);", "1:34: require: expected a tag, a provider, a target or".into()),
        ("req.contains_any(\"x\");", "1:39: `contains_any` is written".into()),
        ("metric(\"bad name!\").add();", "1:29: metric: 'bad name!' is no name for a metric".into()),
        ("reject(999, \"a\", \"b\")", "1:29: reject: '999' is not an HTTP status from 400 to 599".into()),
        ("reject(\"403\", \"a\", \"b\")", "1:29: reject: '403' is not an HTTP status".into()),
        ("reject(403, 5, \"b\")", "1:34: `reject` is written".into()),
        ("\"cheap\"", "1:22: `on_request` must return route(…)".into()),
        ("true", "1:22: `on_request` must return".into()),
        ("if req.stream { route(\"cheap\") } else { \"strong\" }", "1:62: `on_request` must return".into()),
        ("if req.stream { return \"cheap\"; } route(\"cheap\")", "1:45: `on_request` must return".into()),
        ("route(\"cheap\").thn(\"strong\")", "1:37: unknown function `thn` (did you mean `then`?)".into()),
    ] {
        let found = errors(&[("10-a", &format!("fn on_request(req) {{ {body} }}"))]);
        let expected = format!("policies/10-a.rhai:{expected}");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{body}: {found:#?}");
    }
}

#[test]
fn words_of_other_languages_are_told_what_they_are_here() {
    for (body, expected) in [
        ("route('auto')", "1:28: a text stands in double quotes: write \"auto\""),
        ("if req.stream and req.has_tools { 1 }", "1:36: there is no `and` in this language: write `&&`"),
        ("if not req.stream { 1 }", "1:29: there is no `not` in this language: write `!`"),
        ("if req.stream { 1 } elif req.has_tools { 2 }", "1:47: there is no `elif` in this language"),
        ("if req.user == null { 1 }", "1:37: there is no `null` in this language: write `()`"),
        ("if req.user == None { 1 }", "1:37: there is no `None` in this language: write `()`"),
        ("} function f(req) { 1", "1:33: there is no `function` in this language: write `fn`"),
    ] {
        let found = errors(&[("10-a", &format!("fn on_request(req) {{ {body} }}"))]);
        assert!(found[0].starts_with(&format!("policies/10-a.rhai:{expected}")), "{body}: {found:#?}");
    }
}

#[test]
fn what_may_be_right_is_left_to_the_request() {
    for body in [
        "let words = \"a b\".split(\" \"); words.filter(|word| true); route(\"cheap\")",
        "let words = split(req.text, \" \"); if words.len() > 3 { route(\"cheap\") }",
        "let m = #{}; m.set(\"temperature\", \"hot\"); ()",
        "tag(req, \"a\", \"b\"); route(\"cheap\").set(\"stop\", ()).hedge_after(300, 2.5)",
        "[\"cheap\"].map(|name| \"x\"); if false { \"unused\" } ()",
        "set(state, \"temperature\", \"hot\"); state.set(\"n\", \"hot\"); ()",
        "req.avoid([\"us-east\", \"openai\", \"sandbox/echo\", #{ zero_retention: true }]); req.avoid(req.user ?? \"x\"); ()",
        "req.cap_output(5); if req.stream { throw \"no\"; } ()",
    ] {
        load(&[("10-a", &format!("fn on_request(req) {{ {body} }}"))]);
    }
}

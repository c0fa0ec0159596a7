//! What can never work, or never does what it says, is found at load.

use super::{errors, load};

/// Each file, and what is found in it.
fn check(cases: &[(&str, &str)]) {
    check_beside(&[], cases);
}

fn check_beside(library: &[(&str, &str)], cases: &[(&str, &str)]) {
    let missed = cases.iter().filter_map(|(text, expected)| {
        let found = errors(&[library, &[("10-a", text)]].concat());
        let is_told = found.iter().any(|error| error.contains(expected));
        (!is_told).then(|| format!("{text}: {expected}: {found:#?}"))
    });
    let missed: Vec<_> = missed.collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The same of hooks with these bodies.
fn check_bodies(cases: &[(&str, &str)]) {
    let cases: Vec<_> = cases.iter().map(|(text, expected)| (body(text), *expected)).collect();
    check(&cases.iter().map(|(text, expected)| (text.as_str(), *expected)).collect::<Vec<_>>());
}

fn body(body: &str) -> String {
    format!("fn on_request(req) {{ {body} }}")
}

#[test]
fn what_values_do_not_have_is_found_at_load() {
    check_bodies(&[
        ("req.messages.len() > 3;", "10-a.rhai:1:35: `len` is not for a number"),
        ("req.text.length;", "1:31: unknown property `length` of a text (did you mean `len`?)"),
        ("req.team.name;", "1:31: unknown property `name` of a text"),
        ("req.turns[0].content;", "1:35: unknown property `content` of a turn"),
        ("for turn in req.turns { turn.content; }", "1:51: unknown property `content` of a turn"),
        ("candidates()[0].prise;", "1:38: unknown property `prise` of a target (did you mean `price`?)"),
        ("req.team.classify(req);", "1:31: `classify` is not for a text"),
        ("req.headers.get(\"x\");", "1:34: `headers` has no `get`: write `req.headers[\"x-tier\"]`"),
        ("req.tags[\"a\"] = \"b\";", "1:26: `tags` of a request cannot be changed: write `req.tag("),
        ("req.headers[\"a\"] = \"b\";", "1:26: `headers` of a request cannot be changed"),
        ("data.limit = 4;", "1:27: `data` is the configuration's"),
        (
            "data.tems[req.team];",
            "1:27: there is no `tems` under `data:` (did you mean `teams`?); there are limit, teams, vips",
        ),
        ("data.tems.web.tier;", "1:27: there is no `tems` under `data:`"),
        ("for x in data.tems { info(x); }", "1:36: there is no `tems` under `data:`"),
        ("if req.team in data.tems { route(\"cheap\") }", "1:42: there is no `tems` under `data:`"),
    ]);
}

#[test]
fn what_is_no_truth_and_what_is_never_alike_is_found_at_load() {
    check_bodies(&[
        (
            "if req.team { return route(\"cheap\"); }",
            "1:25: this is a text or `()`, not true or false: ask `… != ()`",
        ),
        (
            "let n = req.tokens; if n { 1 } else { 2 };",
            "1:45: this is a number, not true or false: ask `… > 0`",
        ),
        ("if req.stream && req.tools { () }", "1:39: this is a list, not true or false: ask `!….is_empty()`"),
        ("if !req.user { () }", "1:26: this is a text or `()`, not true or false"),
        ("while req.text { }", "1:28: this is a text, not true or false: ask `… != \"\"`"),
        (
            "if req.tokens > \"8000\" { () }",
            "1:36: `>` of a number and a text is always false; write the number without quotes",
        ),
        (
            "if req.headers[\"x-n\"] == 3 { () }",
            "1:44: `==` of a text and a number is always false; write `parse_int(…)`",
        ),
        (
            "if plugin(\"intent\").classify(req) == \"code\" { () }",
            "`==` of classes and a text is always false",
        ),
        ("if req.stream != \"true\" { () }", "1:36: `!=` of true or false and a text is always true"),
    ]);
}

#[test]
fn words_that_never_come_are_found_at_load() {
    check_bodies(&[
        (
            "if now().weekday == \"Monday\" { () }",
            "1:42: `weekday` is never \"Monday\" (did you mean `monday`?); it is one of \"monday\", \"tuesday\"",
        ),
        ("let t = now(\"UTC\"); if \"sun\" != t.weekday { () }", "`weekday` is never \"sun\""),
        ("if now().weekday in [\"saturday\", \"Sun\"] { () }", "`weekday` is never \"Sun\""),
        ("let day = \"monday\"; if now().weekday in [\"Sun\", day] { () }", "`weekday` is never \"Sun\""),
        (
            "if req.tier == \"gold\" { () }",
            "`tier` is never \"gold\"; it is one of \"cheap\", \"balanced\", \"premium\"",
        ),
        ("if req.priority == \"urgent\" { () }", "`priority` is never \"urgent\""),
        ("for t in req.turns { if t.role == \"human\" { () } }", "`role` is never \"human\""),
    ]);
    check(&[
        (
            "fn on_error(req, err) { if err.kind == \"rate_limited\" { return next_target(); } }",
            "1:40: `kind` is never \"rate_limited\" (did you mean `rate_limit`?)",
        ),
        (
            "fn on_complete(req, out) { if out.outcome == \"success\" { info(\"x\"); } }",
            "`outcome` is never \"success\"; it is one of \"ok\", \"error\", \"broken\", \"cancelled\"",
        ),
    ]);
    assert_eq!(
        errors(&[(
            "10-a",
            "fn on_request(req) { let t = now(); \
             if t.weekday in [\"saturday\", \"sunday\"] || t.weekday == \"monday\" { return route(\"cheap\"); } \
             if req.tier == () || req.tier == \"premium\" || req.model == \"Monday\" { return route(\"strong\"); } }",
        )]),
        Vec::<String>::new()
    );
}

#[test]
fn words_of_the_language_are_not_for_the_gateways_own_values() {
    check_bodies(&[
        ("req.set(\"temperature\", 0.2);", "1:26: `set` is not for a request"),
        ("req.contains(\"x\");", "1:26: `contains` is not for a request"),
        ("candidates().len();", "`len` is a property of"),
        (
            "if req.headers.x_tier == \"a\" { () }",
            "1:37: write `headers[\"x-tier\"]`, or `headers[\"x_tier\"]` if its name has a `_`",
        ),
        ("route(\"cheap\").fallback(\"strong\")", "1:37: unknown function `fallback`: write `.then(…)`"),
        ("if req.team.is_none() { () }", "unknown function `is_none`: write `== ()`"),
        ("req.header(\"x-tier\");", "unknown function `header`: write `.headers[\"x-name\"]`"),
    ]);
    assert_eq!(
        errors(&[("10-a", &body("info(req.tags.team ?? \"none\"); info(req.to_string());"))]),
        Vec::<String>::new()
    );
}

#[test]
fn loops_over_what_has_no_elements_are_found_at_load() {
    check_bodies(&[
        (
            "for m in req.messages { info(m); }",
            "a number cannot be looped over: `0..n` counts, `req.turns` has",
        ),
        ("let n = 5; for i in n { info(i); }", "a number cannot be looped over"),
        ("for x in req.has_tools { info(x); }", "true or false cannot be looped over"),
    ]);
    let good = "for t in req.turns { info(t.role); } for i in 0..req.messages { info(i); } for t in req.tools { info(t); }";
    assert_eq!(errors(&[("10-a", &body(good))]), Vec::<String>::new());
}

#[test]
fn verdicts_that_come_to_nothing_are_found_at_load() {
    check_bodies(&[
        (
            "if req.stream { route(\"strong\") } route(\"cheap\")",
            "1:38: nobody takes this verdict: write `return route(…)`",
        ),
        (
            "reject(403, \"a\", \"b\").named(\"x\"); route(\"cheap\")",
            "nobody takes this verdict: write `return reject(…)`",
        ),
        ("for t in req.tools { if t == \"x\" { route(\"cheap\") } }", "1:57: nobody takes this verdict"),
        (
            "route(\"cheap\").then(race([\"strong\", \"cheap\"]))",
            "1:42: behind `then`, the targets of `race(…)` would be asked one",
        ),
        (
            "route(\"cheap\").timeout(\"2s\").sticky_by(req.user)",
            "1:51: `sticky_by` belongs behind `split(…)`",
        ),
        (
            "metric(\"n\").add(); metric(\"n\").observe(1);",
            "1:53: metric: `n` cannot be counted (`add`) and observed",
        ),
        ("metric(\"n\").add(#{ le: 1 });", "1:41: metric: 'le' is no name for a label"),
        ("metric(\"pinned\").add();", "1:29: metric: `tollgate_policy_pinned` is one of the gateway's own"),
    ]);
    check(&[(
        "fn route(x) { 5 } fn on_request(req) { route(1) }",
        "1:4: this function would hide `route(target) → Route`",
    )]);
    check(&[(
        "let ON_ERROR = \"skip\"; fn on_request(req) { }",
        "1:16: `ON_ERROR` counts where it is a constant",
    )]);
}

#[test]
fn functions_are_called_with_as_many_arguments_as_they_take() {
    let own = "fn f(a) { a } fn on_request(req) { f(1, 2); f(1); 3.f(); () }";
    check(&[(own, "1:36: `f` is written `fn f(a)`, here it has 2 arguments")]);
    let lib = ("lib/a", "export const TEAMS = [\"x\"]; fn f(req) { req.model }");
    let cases = [
        ("a::f(req, 3)", "`f` is written `fn f(req)`, here it has 2 arguments"),
        ("\"x\" in a::NONE;", "`a` shows no constant `NONE`: write `export const NONE = …` there"),
    ];
    let cases = cases.map(|(text, expected)| (format!("import \"a\" as a; {}", body(text)), expected));
    check_beside(&[lib], &cases.each_ref().map(|(text, expected)| (text.as_str(), *expected)));
    let slip = ("lib/a", "fn f(req) { req.modle }");
    check_beside(&[slip], &[("", "lib/a.rhai:1:17: unknown property `modle` of a request")]);
    let good = "import \"a\" as a; fn on_request(req) { if \"x\" in a::TEAMS && a::f(req) == \"x\" { return route(\"cheap\"); } }";
    load(&[lib, ("10-a", good)]);
}

#[test]
fn slips_are_told_what_to_write() {
    check_bodies(&[
        ("req.matches(\"\\d+\")", "in a text, `\\` is written `\\\\`"),
        ("match req.team { \"a\" => 1 }", "there is no `match` in this language: write `switch`"),
        ("switch req.team { \"a\" => 1, default => 2 }", "in a `switch`, all others are `_ => …`"),
        ("req.stream ? 1 : 2", "write `if a { b } else { c }`"),
        ("candidates().filter(t => t.healthy)", "a function without a name is written `|x| …`"),
        ("route(“cheap”)", "`“` is not the quotation mark of the language"),
        ("let größe = 1;", "`ö` cannot stand in a name"),
        ("\u{a0}let x = 1;", "this is not a plain space (U+00A0)"),
        (
            &["if req.model == \"x\" { return; }"; 40].join(" else "),
            "too much in one expression: each `else if`",
        ),
    ]);
}

#[test]
fn what_makes_sense_is_not_complained_about() {
    for text in [
        "let t = data.none; if t == () || data.none?.x == () || data.none?[\"x\"] == () { return route(\"cheap\"); }",
        "let user = req.user; user = 5; if user == 5 { return; }",
        "if req.headers[\"x-n\"] == () || req.temperature > 1 || req.tokens > 1.5 { return; }",
        "if req.tools.len > 1 && req.text.len() > 3 && req.text.is_empty { return; }",
        "split([\"cheap\", \"strong\"]).sticky_by(req.user)",
        "route(\"cheap\").then(split([\"cheap\", \"strong\"])).sticky_by(req.user)",
        "let r = if req.stream { route(\"cheap\") } else { route(\"strong\") }; r",
        "switch req.team { \"a\" => route(\"cheap\"), _ => () }",
        "let found = req.tools.filter(|t| t == \"x\"); if found.len() > 0 { route(\"cheap\") } else { () }",
        "let m = #{ a: 1 }; if m.a == 1 && m.b == () { m.c = 3; } let l = [1, 2]; l[0] = 5; if l[0] == \"x\" { return; }",
        "let words = []; for t in req.turns { words.push(t.text); } if words[0].len() > 3 { return; }",
        "loop { break; } let i = 0; while i < 3 { i += 1; }",
        "metric(\"n\").add(); metric(\"n\").add(#{ model: \"x\" }); metric(\"m\").observe(1);",
        "let data = #{ tems: 1 }; data.tems = 2; if data.tems == 2 { return; }",
    ] {
        load(&[("10-a", &body(text))]);
    }
}

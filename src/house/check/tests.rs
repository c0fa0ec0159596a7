//! What contradicts itself in a configuration, as a table of cases.

use super::*;
use crate::clock::FixedClock;
use crate::house::{Diagnostic, read};
use crate::ledger::Prices;

/// The shipped presets, and two dialects.
struct Tables;

impl Vendors for Tables {
    fn preset(&self, name: &str) -> Option<&'static Preset> {
        Shipped.preset(name)
    }
    fn presets(&self) -> Vec<&str> {
        Shipped.presets()
    }
    fn is_local(&self, dialect: &str) -> Option<bool> {
        ["openai", "sandbox"].contains(&dialect).then_some(dialect == "sandbox")
    }
}

fn findings(text: &str) -> Vec<String> {
    let all = check(read("t.yaml", text), &Tables).map_or_else(|all| all, |(_, warnings)| warnings);
    all.0.iter().map(Diagnostic::headline).collect()
}

fn good(text: &str) -> Checked {
    check(read("t.yaml", text), &Tables).unwrap_or_else(|all| panic!("{all}")).0
}

#[test]
fn a_preset_is_merged_under_what_is_written() {
    let checked = good(
        "providers:\n  mine: { preset: mistral, keys: [ env:K ], labels: { region: eu }, tls_min: 1.3,\n    \
         quirks: { drop: [ b ] }, deadlines: { idle: 5s }, headers: { X-Org: acme, x-s: { secret: env:S } } }\n  ollama:\n",
    );
    let mine = &checked.providers["mine"];
    assert_eq!((mine.preset.as_deref(), mine.dialect.as_str()), (Some("mistral"), "openai"));
    let base = mine.base.as_ref().unwrap();
    assert_eq!((base.origin.authority().as_str(), base.path.as_str()), ("api.mistral.ai", "/v1"));
    assert!(base.origin.tls && base.origin.tls13_only);
    let labels: Vec<_> = mine.traits.labels.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(labels, [("region", "eu")]);
    assert!(
        mine.quirks.drop.iter().any(|field| field == "b")
            && mine.quirks.drop.iter().any(|field| field == "store")
    );
    assert!(mine.quirks.no_stream_options);
    assert_eq!((mine.deadlines.idle.as_secs(), mine.deadlines.connect.as_secs()), (5, 3));
    assert_eq!(mine.headers[1].1, HeaderText::Secret(SecretRef::Env("S".into())));
    assert!(checked.providers["ollama"].keys.is_empty());
}

#[test]
fn a_vendors_own_key_variable_is_used_at_home_only() {
    let keys = |text: &str| {
        let checked = good(text);
        let provider = checked.providers.values().next().unwrap();
        provider.keys.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(keys("providers: { openai: }"), ["env:OPENAI_API_KEY"]);
    assert_eq!(keys("providers: { mine: { preset: openai } }"), ["env:OPENAI_API_KEY"]);
    assert_eq!(keys("providers: { openai: { keys: [ file:k ] } }"), ["file:k"]);
    assert!(keys("providers: { openai: { base_url: 'http://127.0.0.1:1/v1' } }").is_empty());
    assert_eq!(
        keys("providers: { azure: { base_url: 'https://x.example/openai/v1' } }"),
        ["env:AZURE_OPENAI_API_KEY"]
    );
}

#[test]
fn models_keep_their_order_and_resolve() {
    let checked = good(
        "providers: { ollama: }\nmodels:\n  z: { targets: [ ollama/a/b, { to: ollama/c, weight: 0 } ], fallback: [ a, ollama/d ] }\n  \
         a: { targets: [ ollama/e ] }\n",
    );
    let z = &checked.models[0];
    assert_eq!((z.targets[0].name.to_string().as_str(), z.targets[0].weight), ("ollama/a/b", None));
    assert_eq!(z.targets[1].weight, Some(0.0));
    assert_eq!(
        z.fallback.iter().map(Hop::name).collect::<Vec<_>>(),
        ["a", "ollama/d"].map(std::sync::Arc::from)
    );
    assert_eq!(&*checked.models[1].name, "a");
}

#[test]
fn strategies_are_checked_with_their_place() {
    let alias = |strategy: &str| {
        format!(
            "providers: {{ ollama: }}\nmodels: {{ m: {{ targets: [ ollama/a, ollama/b ], strategy: {strategy} }} }}\n"
        )
    };
    for good in [
        "least_busy",
        "{ fastest: { by: first_token, at: p95 } }",
        "[ { region: [eu, us] }, { cheapest: { latency: 2s, at: p95, quality: 0.7 } } ]",
        "[ { canary: { to: ollama/b, share: 5, sticky: user } }, power_of_two ]",
        "{ data_class: { pii: private, none: { zone: eu }, secret: [private, audited] } }",
    ] {
        assert_eq!(findings(&alias(good)), Vec::<String>::new(), "{good}");
    }
    for (bad, expected) in [
        ("least_buzy", "error: `models.m.strategy`: `least_buzy` is not one of `priority`"),
        (
            "{ fastest: { at: p90 } }",
            "error: `models.m.strategy.fastest.at`: `p90` is not one of `p50`, `p95`, `p99`",
        ),
        ("{ fastes: {} }", "error: unknown field `models.m.strategy.fastes`"),
        (
            "{ tier: cheap, region: eu }",
            "error: the strategy of `m`: `tier` and `region` in one step: write a list",
        ),
        ("[ { canary: { to: ollama/c, share: 5 } } ]", "error: the canary `ollama/c` is not a target of `m`"),
        ("{ canary: { to: ollama/b, share: 500 } }", "error: the strategy of `m`: `500` is not a share"),
        ("{ score: { latency: 0 } }", "error: the strategy of `m`: `score` weighs nothing"),
        ("[]", "error: the strategy of `m`: a strategy has at least one step"),
        ("{ can: [telepathy] }", "error: the strategy of `m`: `telepathy` is not one of `tools`"),
    ] {
        let found = findings(&alias(bad));
        assert!(found.len() == 1 && found[0].contains(expected), "{bad}: {found:?}");
    }
}

#[test]
fn the_guide_to_routing_shows_configurations_that_are_right() {
    let page = include_str!("../../../docs/routing.md");
    let examples: Vec<_> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert!(examples.len() >= 11, "the page has {} examples", examples.len());
    for example in examples {
        assert_eq!(findings(example), Vec::<String>::new(), "{example}");
    }
}

#[test]
fn each_contradiction_is_named_with_its_place() {
    let provider =
        |rest: &str| format!("providers: {{ a: {{ dialect: openai, keys: [ env:K ], {rest} }} }}\n");
    let local = |rest: &str| format!("providers: {{ ollama: }}\n{rest}");
    for (text, expected) in [
        (
            "providers: { opnai: { keys: [ env:K ] } }".into(),
            vec!["1:14: error: there is no preset of the name `opnai`, so it lacks `dialect` and `base_url`"],
        ),
        ("providers: { x: { preset: opena } }".into(), vec!["1:27: error: there is no preset `opena`"]),
        (
            "providers: { x: { dialect: opena, keys: [ env:K ] } }".into(),
            vec!["1:28: error: unknown dialect `opena`"],
        ),
        (provider(""), vec!["1:14: error: the provider `a` has no `base_url`"]),
        (
            provider("base_url: 'http://api.x.com/v1'"),
            vec!["1:63: error: plain http to `api.x.com` would send prompts and keys over the open network"],
        ),
        (provider("base_url: 'http://vllm.corp.example.com/v1', private: true"), vec![]),
        (provider("base_url: 'http://x.test/v1'"), vec![]),
        (
            provider("base_url: 'http://x.test/'"),
            vec!["1:63: warning: the `base_url` of `a` has no path: requests go to `/chat/completions`"],
        ),
        (
            "providers: { openai: { keys: [ env:K ], base_url: 'https://x.com' } }".into(),
            vec!["1:51: warning: the `base_url` of `openai` has no path: requests go to `/chat/completions`"],
        ),
        ("providers: { deepseek: { keys: [ env:K ], base_url: 'https://x.com' } }".into(), vec![]),
        (
            provider("base_url: 'http://8.8.8.8/v1', private: true"),
            vec!["1:63: error: plain http to `8.8.8.8` would send prompts and keys over the open network"],
        ),
        (
            provider("base_url: 'https://u:p@x.com/v1'"),
            vec!["1:63: error: the `base_url` of `a` contains credentials"],
        ),
        (
            provider("base_url: 'https://x.com/v1/chat/completions/'"),
            vec![
                "1:63: error: the `base_url` of `a` ends in `/chat/completions`, which the gateway adds: requests would go to `/v1/chat/completions/chat/completions`",
            ],
        ),
        (
            local("rate_limits: [ { name: l, limits: { requests: 60 } } ]"),
            vec![
                "2:47: error: `rate_limits[0].limits.requests`: `60` is not a rate (try \"60/min\", \"1000/day\" or \"60/min burst 10\")",
            ],
        ),
        (
            provider("base_url: 'https://x.com/v1', tls_min: 1.1"),
            vec!["1:92: error: `1.1` is not one of `1.2`, `1.3`"],
        ),
        (
            provider("base_url: 'https://x.com/v1', headers: { Host: x }"),
            vec!["1:100: error: the header `host` is set by the gateway itself"],
        ),
        (
            provider("base_url: 'https://x.com/v1', headers: { authorization: x }"),
            vec!["1:109: error: the header `authorization` carries credentials"],
        ),
        (
            provider("base_url: 'https://x.com/v1', h2c: true"),
            vec!["1:88: warning: `h2c` has no effect over TLS, where HTTP/2 is negotiated"],
        ),
        (
            provider("base_url: 'https://x.com/v1', labels: { 'a b': 1 }"),
            vec!["1:100: error: the label \"a b\" contains white space or control characters"],
        ),
        (
            provider("base_url: 'https://x.com/v1', deadlines: { idle: 0s }"),
            vec!["1:102: error: `providers.a.deadlines.idle` must be more than 0s"],
        ),
        (
            "providers: { openai: { base_url: 'https://x.com/v1' } }".into(),
            vec!["1:14: warning: `openai` has no keys: its requests go out without credentials"],
        ),
        (
            "providers: { a/b: { preset: ollama } }".into(),
            vec!["1:14: error: the provider's name \"a/b\" contains a slash"],
        ),
        (local("models: { m: { targets: [ olama/x ] } }"), vec!["2:27: error: unknown provider `olama`"]),
        (local("models: { m: { targets: [ x ] } }"), vec!["2:27: error: `x` is not `provider/model`"]),
        (
            local("models: { m: { targets: [ \"sandbox/a b\" ] } }"),
            vec!["2:27: error: `sandbox/a b`: the model's name contains white space or control characters"],
        ),
        (local("models: { m: { targets: [] } }"), vec!["2:16: error: the alias `m` has no targets"]),
        (
            local("models: { 'm n': { targets: [ ollama/x ] } }"),
            vec!["2:11: error: the alias \"m n\" contains white space or control characters"],
        ),
        (
            local("models: { ollama/y: { targets: [ ollama/x ] } }"),
            vec!["2:11: error: the alias `ollama/y` reads like a model of the provider `ollama`"],
        ),
        (
            local("models: { m: { targets: [ { to: ollama/x, weight: -1 } ] } }"),
            vec!["2:51: error: `-1` is not a weight: 0 or more, please"],
        ),
        (
            local("models: { m: { targets: [ { to: ollama/x, weight: .inf } ] } }"),
            vec!["2:51: error: `models.m.targets[0].weight`: `.inf` is not a finite number"],
        ),
        (
            local("models: { m: { targets: [ { to: ollama/x, weight: 0 } ] } }"),
            vec!["2:16: error: all weights of `m` are 0, so nothing can be drawn"],
        ),
        (
            local("models: { m: { targets: [ ollama/x, ollama/x ] } }"),
            vec!["2:37: warning: the target `ollama/x` stands twice in `m`"],
        ),
        (
            local("models: { m: { targets: [ n ] }, n: { targets: [ ollama/x ] } }"),
            vec!["2:27: error: `n` is an alias, not a target"],
        ),
        (
            local("models: { m: { targets: [ ollama/x ], fallback: [ q ] } }"),
            vec!["2:51: error: `q` is neither an alias nor `provider/model`"],
        ),
        (
            local("models: { m: { targets: [ ollama/x ], fallback: [ m ] } }"),
            vec!["2:51: error: the fallback goes in a circle: m → m"],
        ),
        (
            local(
                "models:\n  a: { targets: [ ollama/x ], fallback: [ b, c ] }\n  b: { targets: [ ollama/x ], fallback: [ c ] }\n  c: { targets: [ ollama/x ], fallback: [ ollama/y, b ] }\n",
            ),
            vec!["5:53: error: the fallback goes in a circle: b → c → b"],
        ),
        (
            "limits: { body: 0, headers: 0 }\ndrain: 2h".into(),
            vec![
                "1:17: error: `limits.body` must be more than 0",
                "1:29: error: `limits.headers` must be more than 0",
                "2:8: error: `drain` must be at most 1h",
            ],
        ),
        ("drain_delay: 11m".into(), vec!["1:14: error: `drain_delay` must be at most 10m"]),
        (
            "reuse_port: true".into(),
            vec![
                "1:13: error: `reuse_port` needs a `drain_delay` of 1s or more: who has just connected must be served",
            ],
        ),
        (
            "listen: 0.0.0.0:9090".into(),
            vec![
                "1:1: error: `admin.listen` (127.0.0.1:9090) and `listen` (0.0.0.0:9090) are the same address",
                "1:9: warning: whoever reaches this address may ask, at your expense: `auth` is `none`",
            ],
        ),
        (
            "listen: 0.0.0.0:8080".into(),
            vec!["1:9: warning: whoever reaches this address may ask, at your expense: `auth` is `none`"],
        ),
        (
            "listen: '[::]:8080'\nauth: keys\nkeys: { a: { hash: 'sha256:0000000000000000000000000000000000000000000000000000000000000000' } }".into(),
            vec![],
        ),
        ("log: { level: warning }".into(), vec!["1:15: error: `log.level`: `warning` is no level"]),
        (
            "admin: { listen: '0.0.0.0:9' }".into(),
            vec!["1:18: warning: the admin listener is open to the network and has no token"],
        ),
        (
            "retries: { backoff: 9s, max_attempts: 0 }".into(),
            vec![
                "1:21: error: `retries.backoff` is longer than `retries.max_backoff`",
                "1:39: error: `retries.max_attempts` must be at least 1",
            ],
        ),
        (
            "providers: { s: { dialect: sandbox } }\nretries: { max_attempts: 3 }\nmodels:\n  \
             ok: { targets: [ s/a, s/b ], fallback: [ s/c ] }\n  \
             long: { targets: [ s/a, s/x ], fallback: [ ok, s/b ] }\n  \
             v: { versions: { a: { share: 100, targets: [ s/a ], fallback: [ s/y ] } }, fallback: [ ok ] }\n"
                .into(),
            vec![
                "5:3: warning: a request for `long` makes at most 3 attempts: where all others fail, 1 of its targets are never asked",
                "6:3: warning: a request for `v` makes at most 3 attempts: where all others fail, 1 of its targets are never asked",
            ],
        ),
        (
            "deadlines: { total: 10s, idle: 20s }".into(),
            vec!["1:32: warning: `deadlines.idle` is longer than `deadlines.total`, so it never passes"],
        ),
    ] {
        let expected: Vec<_> = expected.iter().map(|line| format!("t.yaml:{line}")).collect();
        assert_eq!(findings(&text), expected, "{text}");
    }
}

#[test]
fn form_and_meaning_are_reported_together_without_echoes() {
    let text = "lissten: x\nproviders:\n  openai: { keys: [ env:K ], base_url: 5, h2k: yes }\n  x: { dialectt: openai }\n\
                models:\n  m: { targets: [ openia/a ], fallback: [ n ] }\n  n: { target: [ openai/b ] }\n";
    let lines: Vec<_> =
        findings(text).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(
        lines,
        ["t.yaml:1:1:", "t.yaml:3:40:", "t.yaml:3:43:", "t.yaml:4:8:", "t.yaml:6:19:", "t.yaml:7:8:"]
    );
}

#[test]
fn the_embedded_default_is_good() {
    let checked = good(include_str!("../default.yaml"));
    assert_eq!(checked.providers["sandbox"].base, None);
    let names: Vec<&str> = checked.models.iter().map(|model| &*model.name).collect();
    assert_eq!(names, ["cheap", "strong", "canary-stable", "canary-next"], "the shipped policies use these");
}

#[test]
fn the_example_is_good_and_names_its_schema() {
    let text = include_str!("../../../examples/tollgate.yaml");
    assert!(text.starts_with("# yaml-language-server: $schema=../docs/tollgate.schema.json\n"));
    let (_, warnings) =
        check(read("examples/tollgate.yaml", text), &Tables).unwrap_or_else(|all| panic!("{all}"));
    assert_eq!(warnings.to_string(), "");
    let thrift = include_str!("../../../examples/thrift/tollgate.yaml");
    assert!(check(read("examples/thrift/tollgate.yaml", thrift), &Tables).is_ok());
}

#[test]
fn a_dollar_budget_can_bear_every_alias_of_the_example() {
    let checked = good(include_str!("../../../examples/tollgate.yaml"));
    assert!(!checked.budgets.is_empty(), "without budgets, nothing needs a price");
    let prices = Prices::new(Arc::new(FixedClock(0)));
    prices.configure(checked.prices, &[]);
    for model in &checked.models {
        let last = model.fallback.iter().filter_map(|hop| match hop {
            Hop::Target(target) => Some(target),
            Hop::Alias(_) => None,
        });
        for target in model.targets.iter().map(|target| &target.name).chain(last) {
            let preset = checked.providers[&target.provider].preset.as_deref();
            let known = prices.book().of(target, preset);
            assert!(known.is_some_and(|known| known.price().is_some()), "{}: {target}", model.name);
        }
    }
}

#[test]
fn versions_are_told_apart_and_lead_somewhere() {
    let local = |rest: &str| format!("providers: {{ ollama: }}\n{rest}");
    let api = |rest: &str| local(&format!("models: {{ m: {{ targets: [ ollama/a ] }} }}\nversions:\n{rest}"));
    let share = |a: &str, b: &str| {
        local(&format!(
            "models:\n  m:\n    versions:\n      a: {{ share: {a}, targets: [ ollama/a ] }}\n      b: {{ share: {b}, targets: [ ollama/b ] }}\n"
        ))
    };
    for (text, expected) in [
        (share("90", "10"), vec![]),
        (share("33.3", "66.6"), vec![]),
        (share("90", "20"), vec!["4:5: error: the shares of `m` make 110, not 100"]),
        (
            share("-1", "101"),
            vec![
                "5:19: error: `-1` is not a share: 0 to 100 percent, please",
                "6:19: error: `101` is not a share: 0 to 100 percent, please",
            ],
        ),
        (
            local(
                "models: { m: { targets: [ ollama/a ], versions: { v: { share: 100, targets: [ ollama/a ] } } } }",
            ),
            vec!["2:16: error: the alias `m` has both `targets` and `versions`"],
        ),
        (local("models: { m: {} }"), vec!["2:11: error: the alias `m` has no targets"]),
        (
            local("models: { m: { versions: { 'a@b': { share: 100, targets: [ olama/a ] } } } }"),
            vec![
                "2:28: error: the version \"a@b\" of `m` contains `@` or `/`",
                "2:60: error: unknown provider `olama`",
            ],
        ),
        (
            local(
                "models: { m: { versions: { a: { share: 0, targets: [ ollama/a ], fallback: [ m@b ] }, b: { share: 100, targets: [ ollama/b ] } } } }",
            ),
            vec![],
        ),
        (
            local(
                "models: { m: { versions: { a: { share: 0, targets: [ ollama/a ], fallback: [ m@b ] }, b: { share: 100, targets: [ ollama/b ], fallback: [ m@a ] } } } }",
            ),
            vec!["2:139: error: the fallback goes in a circle: m@a → m@b → m@a"],
        ),
        (
            api(
                "  a: { prefix: /v1 }\n  b: { prefix: /acme/v1, models: { n: { targets: [ ollama/b ], fallback: [ m ] } } }",
            ),
            vec![],
        ),
        (
            api("  a: { prefix: /acme }\n  b: { prefix: /acme/v1 }\n  c: { prefix: /acme }"),
            vec![
                "5:16: error: the prefix `/acme/v1` overlaps with `/acme` of the version `a`",
                "6:16: error: the prefix `/acme` overlaps with `/acme` of the version `a`",
            ],
        ),
        (api("  a: { prefix: v2 }"), vec!["4:16: error: the prefix `v2` does not begin with `/`"]),
        (
            api("  a: { prefix: /v2/ }"),
            vec!["4:16: error: the prefix `/v2/` has an empty segment or one of dots"],
        ),
        (
            api("  a: { prefix: '/v 2' }"),
            vec!["4:16: error: the prefix `/v 2` holds other characters than letters, digits and `-._~`"],
        ),
        (
            api("  a: { prefix: /v1/eu }"),
            vec!["4:16: error: the prefix `/v1/eu` lies among the endpoints of `/v1`"],
        ),
        (
            api("  a: { prefix: /v2, deprecated: 2026-11-01, sunset: 2026-10-01 }"),
            vec!["4:53: error: the sunset of `a` is before its deprecation"],
        ),
        (
            api("  a: { prefix: /v2, sunset: soon }"),
            vec![
                "4:29: error: `versions.a.sunset`: `soon` is not a date (try \"2026-11-01\" or \"2026-11-01T12:00:00Z\")",
            ],
        ),
        (
            api("  a: { prefix: /v2, after_sunset: refuse }"),
            vec!["4:35: error: `a` has no `sunset` after which it could be refused"],
        ),
        (
            api("  a: { prefix: /v2, successor: bb }\n  b: { prefix: /v3 }"),
            vec!["4:32: error: there is no version `bb`"],
        ),
        (
            api("  a: { prefix: /v2, inherit: false }"),
            vec!["4:30: error: the version `a` inherits no models and has none of its own"],
        ),
        (
            api("  a: { prefix: /v2, link: 'https://x.example/a>b', deprecated: 2026-11-01 }"),
            vec!["4:27: error: `https://x.example/a>b` is not a URL that a header can carry"],
        ),
        (
            api(
                "  a: { prefix: /v2, models: { m: { targets: [ ollama/b ], fallback: [ n ] }, n: { targets: [ ollama/b ], fallback: [ m ] } } }",
            ),
            vec!["4:118: error: the fallback goes in a circle: m → n → m"],
        ),
    ] {
        let expected: Vec<_> = expected.iter().map(|line| format!("t.yaml:{line}")).collect();
        assert_eq!(findings(&text), expected, "{text}");
    }
}

#[test]
fn prices_and_budgets_that_count_nothing_are_told() {
    let found = findings(
        "providers: { openai: { keys: [ env:K ] } }\nstate: { ledger: sqlite:./t.db }\n\
         prices: { models: { \"*/*\": { price: { input: 1, output: 1 } }, \"openai/*\": { percent: 90 } } }\n\
         budgets:\n  - { name: a, per: day, dollars: 1, for: { model: [] } }\n  - { name: b, per: day }\n",
    );
    for wanted in [
        "`*/*` names no target",
        "`for` of budget `a`: no word stands under `model`",
        "`dollars` of budget `b`",
    ] {
        assert!(found.iter().any(|line| line.contains(wanted)), "{wanted}: {found:#?}");
    }
    assert!(!found.iter().any(|line| line.contains("openai/*")), "{found:#?}");
}

#[test]
fn lists_of_data_are_no_longer_than_those_of_policies() {
    let list = |count: usize| vec!["w"; count].join(", ");
    let with =
        |count| format!("data: {{ teams: {{ words: [ {} ] }} }}\nproviders: {{ ollama: }}\n", list(count));
    assert_eq!(findings(&with(10_000)), Vec::<String>::new());
    let found = findings(&with(10_001));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("the list `data.teams.words` has 10001 elements"), "{found:?}");
}

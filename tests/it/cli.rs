//! The command line: what it prints, and the status with which it ends.

use std::process::Stdio;

use serde_json::Value;

use crate::gateway;

#[test]
fn check_prints_every_error_at_once_with_its_place() {
    let setup = gateway::setup("")
        .file(
            "tollgate.yaml",
            concat!(
                "listen: not-an-address\n",
                "policies: ./policies\n",
                "providers:\n",
                "  up: { dialect: klingon, keys: [ sk-pasted-secret ] }\n",
                "  down: { base_url: \"ftp://x\", colour: red }\n",
                "  openai: { keys: [ env:NOT_SET_ANYWHERE ] }\n",
                "models:\n",
                "  fast: { targets: [ nowhere/m ] }\n",
            ),
        )
        .policy("10-broken.rhai", "fn on_request(req) {\n    route(\n}\n");
    let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    for part in [
        "tollgate.yaml:1:9",
        "tollgate.yaml:4:",
        "tollgate.yaml:5:",
        "tollgate.yaml:6:21: error: provider `openai`: `env:NOT_SET_ANYWHERE`",
        "tollgate.yaml:8:",
        "colour",
        "klingon",
        "10-broken.rhai:3:1",
    ] {
        assert!(printed.err.contains(part), "no {part} in\n{}", printed.err);
    }
    assert!(!printed.err.contains("sk-pasted-secret"), "a pasted secret was printed:\n{}", printed.err);
}

#[test]
fn check_names_all_that_is_missing_and_nothing_that_follows_from_it() {
    let setup = gateway::setup("")
        .file(
            "tollgate.yaml",
            concat!(
                "providers:\n",
                "  openai:\n",
                "    keys: [ env:NOPE_X, file:nope ]\n",
                "    headers: { x-extra: { secret: env:NOPE_Y } }\n",
                "  sandbox: {}\n",
                "models: { good: { targets: [ sandbox/echo, openai/x ] } }\n",
                "tls: { cert: a.pem, key: b.pem }\n",
                "upstream: { extra_roots: roots.pem }\n",
                "policies: ./policies\n",
            ),
        )
        .policy("10.rhai", "fn on_request(req) { route(\"openai/gpt-4o\").then(\"good\") }");
    let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    let told: Vec<&str> = printed.err.lines().filter(|line| line.contains(": error: ")).collect();
    for (line, part) in told.iter().zip([
        "tollgate.yaml:3:13: error: provider `openai`: `env:NOPE_X`",
        "tollgate.yaml:3:25: error: provider `openai`: `file:nope`",
        "tollgate.yaml:4:16: error: provider `openai`: `env:NOPE_Y`",
        "tollgate.yaml:7:14: error: tls file",
        "tollgate.yaml:7:26: error: tls file",
        "tollgate.yaml:8:26: error: extra_roots",
    ]) {
        assert!(line.starts_with(part), "no {part} in\n{}", printed.err);
    }
    assert_eq!(told.len(), 6, "{}", printed.err);
    assert!(printed.err.contains("3 |     keys: [ env:NOPE_X, file:nope ]\n"), "{}", printed.err);
}

#[test]
fn check_says_where_a_directory_of_policies_is_named_that_is_not_there() {
    let setup = gateway::setup("")
        .file("tollgate.yaml", "providers: { sandbox: {} }\npolicies: ./nowhere\nlimits: { headers: 0 }\n");
    let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    for part in [
        "tollgate.yaml:2:11: error: ",
        "nowhere`: cannot read the directory of the policies: No such file",
        "help: make the directory",
        "tollgate.yaml:3:",
    ] {
        assert!(printed.err.contains(part), "no {part} in\n{}", printed.err);
    }
}

#[test]
fn check_names_keys_that_error_texts_may_repeat_and_aliases_that_are_too_long() {
    let config = "providers:\n  openai: { keys: [ env:WORD, env:SHORT, env:LONG ] }\n  \
                  own: { dialect: openai, base_url: \"http://127.0.0.1:9/v1\", keys: [ env:WORD ] }\n\
                  models:\n  m: { targets: [ openai/a, openai/b ], fallback: [ own/c ] }\nretries: { max_attempts: 2 }\n";
    let setup = gateway::setup("").file("tollgate.yaml", config);
    let setup = setup.env("WORD", "secret").env("SHORT", "s3cret").env("LONG", "sk-long-enough");
    let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    let told: Vec<&str> = printed.err.lines().filter(|line| line.contains(": warning: ")).collect();
    assert_eq!(told.len(), 2, "{}", printed.err);
    assert!(told[0].starts_with("tollgate.yaml:5:3: warning: a request for `m` makes at most 2"), "{told:?}");
    assert!(told[1].starts_with("tollgate.yaml:2:21: warning: the secret `env:WORD`"), "{told:?}");
}

#[test]
fn check_prints_broken_policies_with_their_place() {
    let setup = gateway::setup("")
        .policy("10-broken.rhai", "fn on_request(req) {\n    route(\n}\n")
        .policy("20-also.rhai", "fn on_request(req) {\n    CHEEP\n}\n");
    let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    for part in ["10-broken.rhai:3:1", "20-also.rhai:2:5"] {
        assert!(printed.err.contains(part), "no {part} in\n{}", printed.err);
    }
}

#[test]
fn check_says_which_entry_names_a_plugin_that_is_not_there() {
    let setup = gateway::setup("plugins:\n  - { name: gone, path: plugins/gone.wasm }\n");
    let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    let told =
        |line: &str| line.starts_with("tollgate.yaml:") && line.contains("plugin `gone`: plugins/plugins/");
    assert!(printed.err.lines().any(told), "{}", printed.err);
    assert!(printed.err.contains("begins in the directory of the plugins"), "{}", printed.err);
}

#[test]
fn a_plugin_that_is_not_built_yet_is_told_how() {
    let setup = gateway::setup("");
    assert_eq!(setup.run(&["plugin", "new", "intent"]).code, Some(0));
    let printed = setup.run(&["plugin", "test", "intent"]);
    assert!(
        printed.code != Some(0) && printed.err.contains("`tollgate plugin build` makes one"),
        "{printed:#?}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let setup = gateway::setup("");
    let mut schema = setup.command(&["schema"]);
    let mut child = schema.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr)), (Some(141), "".into()));
}

#[test]
fn check_is_content_with_a_good_house() {
    let setup = gateway::setup(
        "providers:\n  sandbox: { dialect: sandbox }\nmodels:\n  fast: { targets: [ sandbox/echo ] }\n",
    )
    .policy("10.rhai", "fn on_request(req) { route(\"fast\") }");
    let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    assert!(printed.out.starts_with("ok"), "{printed:#?}");
}

#[test]
fn check_warns_of_a_configuration_without_providers() {
    for config in ["", "# nothing yet\n", "listen: 127.0.0.1:8080\nproviders:\n"] {
        let setup = gateway::setup("").file("tollgate.yaml", config);
        let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
        assert_eq!(printed.code, Some(0), "{printed:#?}");
        assert!(printed.err.contains("warning: no request can be answered"), "{config:?}: {printed:#?}");
        assert!(
            printed.err.contains("help: add one: `providers: { sandbox: {} }`"),
            "{config:?}: {printed:#?}"
        );
    }
}

#[test]
fn serve_logs_what_check_warns_of() {
    let gateway = gateway::start("budgets: [ { name: all, dollars: 5, per: day } ]\n");
    let log = gateway.log().join("\n");
    for part in ["warning: budgets without a ledger", "warning: no request can be answered", "not meant"] {
        assert!(log.contains(part), "no {part} in\n{log}");
    }
}

#[test]
fn serve_refuses_what_check_refuses() {
    let key = "providers:\n  openai: { keys: [ env:NOT_SET_ANYWHERE ] }\n";
    for (name, config, part) in [
        ("an unknown field", "providrs: {}\n", "providrs"),
        ("a missing variable", key, "NOT_SET_ANYWHERE"),
        ("broken yaml", "providers: [ {\n", "tollgate.yaml:"),
        ("a short admin token", "admin: { token: env:TEST_SHORT }\n", "token"),
    ] {
        let setup = gateway::setup("").env("TEST_SHORT", "short").file("tollgate.yaml", config);
        let printed = setup.run(&["serve", "--config", "tollgate.yaml"]);
        assert_eq!(printed.code, Some(78), "{name}: {printed:#?}");
        assert!(printed.err.contains(part), "{name}: {printed:#?}");
    }
    // Files that its listener and its upstream need are named with their places, too.
    let config = "tls: { cert: a.pem, key: b.pem }\nupstream: { extra_roots: roots.pem }\n";
    let printed =
        gateway::setup("").file("tollgate.yaml", config).run(&["serve", "--config", "tollgate.yaml"]);
    assert_eq!(printed.code, Some(78), "{printed:#?}");
    for line in ["tollgate.yaml:1:14: error: ", "tollgate.yaml:1:26: error: ", "tollgate.yaml:2:26: error: "]
    {
        assert!(printed.err.lines().any(|told| told.starts_with(line)), "no {line} in\n{}", printed.err);
    }
    let printed = gateway::setup("").run(&["serve", "--config", "missing.yaml"]);
    assert_eq!(printed.code, Some(78), "{printed:#?}");
    assert!(printed.err.contains("missing.yaml"), "{printed:#?}");
}

#[test]
fn a_port_in_use_is_said_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for config in [
        format!("listen: {address}\nadmin: {{ listen: 127.0.0.1:0 }}\npolicies: ./policies\n"),
        format!("listen: 127.0.0.1:0\nadmin: {{ listen: \"{address}\" }}\npolicies: ./policies\n"),
    ] {
        let printed =
            gateway::setup("").file("tollgate.yaml", &config).run(&["serve", "--config", "tollgate.yaml"]);
        assert_eq!(printed.code, Some(78), "{printed:#?}");
        assert!(printed.err.contains(&address.to_string()), "{printed:#?}");
    }
}

#[test]
fn the_schema_describes_every_field() {
    let printed = gateway::setup("").run(&["schema"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    // What is caught here is lines, without the end of the last one.
    assert_eq!(printed.out, include_str!("../../docs/tollgate.schema.json").trim_end());
    let schema: Value = serde_json::from_str(&printed.out).unwrap();
    for field in ["listen", "admin", "policies", "providers", "models", "limits", "retries", "deadlines"] {
        let described = schema["properties"][field].to_string();
        assert!(described.len() > 20, "no {field} in the schema: {described}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn help_and_version_are_complete_and_nonsense_is_refused() {
    let setup = gateway::setup("");
    let help = setup.run(&["--help"]);
    assert_eq!(help.code, Some(0), "{help:#?}");
    for word in ["serve", "check", "schema", "--config", "TOLLGATE_CONFIG"] {
        assert!(help.out.contains(word), "no {word} in\n{}", help.out);
    }
    let version = setup.run(&["--version"]);
    assert!(version.out.contains(env!("CARGO_PKG_VERSION")), "{version:#?}");
    assert_eq!(setup.run(&["dance"]).code, Some(2));
}

#[test]
fn definitions_are_printed_for_editors_and_for_programs() {
    let setup = gateway::setup("");
    let printed = setup.run(&["policy", "definitions"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    assert!(printed.out.contains("\nfn get model(req: Request) -> String;\n"), "{}", printed.out);
    let json: Value = serde_json::from_str(&setup.run(&["policy", "definitions", "--json"]).out).unwrap();
    assert!(json["words"].as_array().unwrap().len() > 100);
    // Written beside the policies, they are no policy.
    let setup = gateway::setup(
        "providers:\n  sandbox: { dialect: sandbox }\nmodels:\n  fast: { targets: [ sandbox/echo ] }\n",
    );
    assert_eq!(setup.run(&["policy", "definitions", "policies"]).code, Some(0));
    let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
}

#[test]
fn check_without_secrets_finds_everything_else() {
    let config = concat!(
        "auth: keys\n",
        "keys: { ci: { secret: env:NOPE_KEY } }\n",
        "tls: { cert: a.pem, key: b.pem }\n",
        "admin: { token: file:nope }\n",
        "providers: { openai: { keys: [ env:NOPE_X, \"vault:a#b\" ] } }\n",
        "models: { good: { targets: [ openai/x ] } }\n",
    );
    let setup = gateway::setup("")
        .file("tollgate.yaml", config)
        .policy("10.rhai", "fn on_request(req) { route(\"good\") }")
        .policy(
            "10_test.rhai",
            "fn test_a() { assert_eq(on_request(mock(#{ model: \"x\" })).first, \"good\"); }",
        );
    assert_eq!(setup.run(&["check"]).code, Some(1));
    let printed = setup.run(&["check", "--without-secrets"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    assert!(printed.out.starts_with("ok: 1 providers"), "{printed:#?}");

    let setup = setup.file("tollgate.yaml", &config.replace("openai/x", "opnai/x"));
    let printed = setup.run(&["check", "--without-secrets"]);
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    assert!(
        printed.err.contains("unknown provider `opnai`") && !printed.err.contains("NOPE"),
        "{}",
        printed.err
    );

    let setup =
        setup.file("tollgate.yaml", config).policy("10.rhai", "fn on_request(req) { route(\"gud\") }");
    let printed = setup.run(&["check", "--without-secrets"]);
    assert!(printed.code == Some(1) && printed.err.contains("unknown alias `gud`"), "{printed:#?}");
}

#[test]
fn an_empty_variable_names_no_configuration() {
    let setup =
        gateway::setup("").file("tollgate.yaml", "providers: { sandbox: {} }\n").env("TOLLGATE_CONFIG", "");
    let printed = setup.run(&["check"]);
    assert!(printed.code == Some(0) && printed.out.starts_with("ok: 1 providers"), "{printed:#?}");
}

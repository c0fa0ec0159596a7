//! A configuration of LiteLLM's, in the forms that people write.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Imported, litellm};
use crate::house::check::{Shipped, check};
use crate::house::read;

fn import(text: &str) -> Imported {
    let env = |name: &str| (name == "SET").then(|| "https://eu.example.org/".to_owned());
    litellm("config.yaml", text, &env, None).unwrap()
}

/// The result, which passes the check.
fn config(text: &str) -> Value {
    let imported = import(text);
    if let Err(problems) = check(read("result", &imported.yaml), &Shipped) {
        panic!("{problems}\n{}", imported.yaml);
    }
    serde_json::to_value(serde_yaml::from_str::<serde_yaml::Value>(&imported.yaml).unwrap()).unwrap()
}

fn left(text: &str) -> Vec<String> {
    import(text).left.0.iter().map(|found| found.message.clone()).collect()
}

/// One entry of `model_list` with these parameters.
fn entry(name: &str, params: &str) -> String {
    format!("  - {{ model_name: {name}, litellm_params: {{ {params} }} }}\n")
}

fn list(entries: &[(&str, &str)]) -> String {
    let entries: String = entries.iter().map(|(name, params)| entry(name, params)).collect();
    format!("model_list:\n{entries}")
}

#[test]
fn entries_of_one_name_become_an_alias() {
    let found = config(&list(&[
        ("chat", "model: gpt-4o, api_key: os.environ/ONE, rpm: 300"),
        (
            "chat",
            "model: azure/mine, api_key: os.environ/TWO, api_base: 'https://x.openai.azure.com/', api_version: '2024-10-21', rpm: 100",
        ),
        ("solo", "model: anthropic/claude-sonnet-4-5"),
        ("later", "model: groq/a, order: 1"),
        ("later", "model: groq/b, order: 2"),
    ]));
    assert_eq!(
        found["models"],
        json!({
            "chat": { "targets": [ { "to": "openai/gpt-4o", "weight": 300.0 }, { "to": "azure/mine", "weight": 100.0 } ] },
            "solo": { "targets": [ "anthropic/claude-sonnet-4-5" ] },
            "later": { "targets": [ { "to": "groq/a", "weight": 1.0 }, { "to": "groq/b", "weight": 0 } ] },
        })
    );
    assert_eq!(found["providers"]["openai"]["keys"], json!([ { "secret": "env:ONE", "rpm": 300 } ]));
    assert_eq!(found["providers"]["azure"]["azure"], json!({ "resource": "x", "api_version": "2024-10-21" }));
}

#[test]
fn deployments_are_asked_for_by_the_models_name_where_it_is_known() {
    let base = "api_key: os.environ/K, api_base: 'https://x.openai.azure.com'";
    let text = format!(
        "model_list:\n{}{}",
        entry("a", &format!("model: azure/mine, base_model: azure/gpt-4o, {base}")),
        entry("b", &format!("model: azure/other, base_model: gpt-4o-mini, {base}"))
    );
    let found = config(&text);
    assert_eq!(found["models"]["a"]["targets"], json!(["azure/gpt-4o"]));
    let deployments = &found["providers"]["azure"]["azure"]["deployments"];
    assert_eq!(*deployments, json!({ "gpt-4o": "mine", "gpt-4o-mini": "other" }));
}

#[test]
fn fallbacks_follow_and_never_go_round() {
    let models = list(&[("a", "model: groq/a"), ("b", "model: groq/b"), ("c", "model: groq/c")]);
    let text = format!(
        "{models}litellm_settings: {{ fallbacks: [ {{ a: [ b ] }}, {{ b: [ a, nobody ] }} ], default_fallbacks: [ c ] }}\n"
    );
    let found = config(&text);
    assert_eq!(found["models"]["a"]["fallback"], json!(["b", "c"]));
    assert_eq!(found["models"]["b"]["fallback"], json!(["groq/a", "c"]));
    assert_eq!(left(&text), ["not carried: the fallback `nobody` of `b`: there is no such model"]);
}

#[test]
fn secrets_in_the_file_are_never_copied() {
    let text = format!(
        "{}general_settings: {{ master_key: sk-master-0123456789 }}\n",
        list(&[
            ("a", "model: gpt-4o, api_key: sk-pasted-0123456789"),
            ("b", "model: gpt-4, api_key: sk-pasted-0123456789")
        ])
    );
    let imported = import(&text);
    assert!(!imported.yaml.contains("sk-"), "{}", imported.yaml);
    assert_eq!(imported.secrets.keys().collect::<Vec<_>>(), ["A_KEY", "LITELLM_MASTER_KEY"]);
    let found = config(&text);
    assert_eq!(found["providers"]["openai"]["keys"], json!(["env:A_KEY"]));
    assert_eq!(found["auth"], json!("keys"));
    let filed = litellm("config.yaml", &text, &|_| None, Some(PathBuf::from("/secrets"))).unwrap();
    assert!(filed.yaml.contains("file:/secrets/A_KEY"), "{}", filed.yaml);
}

#[test]
fn money_limits_and_deadlines_are_carried() {
    let models = list(&[(
        "a",
        "model: openai/x, timeout: 30, stream_timeout: 1.5, temperature: 0.2, input_cost_per_token: 0.00000125, max_budget: 5, budget_duration: 1d",
    )]);
    let found = config(&format!(
        "{models}litellm_settings: {{ max_budget: 100, budget_duration: 30d, request_timeout: 60, num_retries: 2, cache: true, cache_params: {{ type: local, ttl: 30 }} }}\n\
         router_settings: {{ allowed_fails: 2, cooldown_time: 30, provider_budget_config: {{ openai: {{ budget_limit: 10, time_period: 1d }} }} }}\n"
    ));
    let provider = &found["providers"]["openai"];
    assert_eq!(provider["deadlines"], json!({ "first_byte": "30s", "first_token": "1500ms" }));
    assert_eq!(provider["quirks"]["defaults"], json!({ "temperature": 0.2 }));
    assert_eq!(found["prices"]["models"]["openai/x"]["price"], json!({ "input": 1.25, "output": 0.0 }));
    assert_eq!(
        found["budgets"],
        json!([
            { "name": "everything", "dollars": 100.0, "per": "month", "unpriced": "free" },
            { "name": "openai", "dollars": 10.0, "per": "day", "unpriced": "free", "for": { "provider": "openai*" } },
            { "name": "openai-x", "dollars": 5.0, "per": "day", "unpriced": "free", "for": { "model": "openai/x" } },
        ])
    );
    assert_eq!(found["breaker"], json!({ "consecutive": 3, "cool_down": "30s", "max_cool_down": "30s" }));
    assert_eq!(found["cache"]["ttl"], "30s");
    assert_eq!(found["deadlines"]["total"], "60s");
}

#[test]
fn what_cannot_be_carried_is_named_with_its_place() {
    let cases = [
        (list(&[("a", "model: sagemaker/x")]), "no provider here is like that of `sagemaker/x`"),
        (list(&[("a", "model: gpt-4o, mock_response: hi")]), "`litellm_params.mock_response`"),
        (list(&[("'*'", "model: 'openai/*'")]), "the name `*`: its models are asked for as `openai/MODEL`"),
        (
            list(&[("'claude-*'", "model: 'anthropic/claude-*'")]),
            "the name `claude-*`: its models are asked for as `anthropic/MODEL`",
        ),
        (
            list(&[("'gpt-*'", "model: openai/gpt-4o")]),
            "the name `gpt-*`: its model is asked for as `openai/gpt-4o`",
        ),
        (
            list(&[(
                "a",
                "model: openai/x, api_base: 'http://tei:8080/v1', base_model: mine, custom_llm_provider: custom_openai",
            )]),
            "`base_model` of `a`: no provider here is known for `mine`",
        ),
        (
            list(&[("a", "model: openai/x, api_base: os.environ/UNSET")]),
            "`api_base`: the variable UNSET is not set",
        ),
        (format!("{}guardrails: []\n", list(&[("a", "model: gpt-4o")])), "`guardrails`"),
        (
            format!("{}general_settings: {{ master_key: sk-1234 }}\n", list(&[("a", "model: gpt-4o")])),
            "`master_key`: a key has at least 16 bytes here, so this one is left out, and everybody is refused until there is another",
        ),
    ];
    for (text, expected) in cases {
        let imported = import(&text);
        let found = imported.left.0.iter().find(|found| found.message == format!("not carried: {expected}"));
        let found = found.unwrap_or_else(|| panic!("{expected}: {}", imported.left));
        assert!(found.place.is_some_and(|place| place.line > 0), "{expected}");
        assert!(!imported.left.to_string().contains("sk-1234"), "{}", imported.left);
    }
}

#[test]
fn variables_that_are_no_secrets_are_read_at_once() {
    let found = config(&list(&[("a", "model: openai/x, api_base: os.environ/SET")]));
    assert_eq!(found["providers"]["openai"]["base_url"], "https://eu.example.org");
}

#[test]
fn what_stands_for_a_variable_that_is_not_set_passes_the_check_and_is_named_as_it_stands_there() {
    for (params, what, stands) in [
        ("model: openai/x, api_base: os.environ/MY_BASE", "base_url", "https://set-my-base.invalid"),
        (
            "model: bedrock/x, aws_region_name: os.environ/CUSTOM_AWS_REGION_NAME",
            "region",
            "set-custom-aws-region-name",
        ),
        (
            "model: bedrock/x, aws_region_name: os.environ/A_VARIABLE.WITH_QUITE_A_LONG_NAME",
            "region",
            "set-a-variable-with-quite-a-long",
        ),
        ("model: vertex_ai/x, vertex_project: os.environ/MY_PROJECT", "project", "set-my-project"),
    ] {
        let text = list(&[("a", params)]);
        let found = config(&text)["providers"].to_string();
        assert!(found.contains(&format!("\"{what}\":\"{stands}\"")), "{stands}: {found}");
        let told = import(&text).left.to_string();
        assert!(told.contains(&format!("replace `{stands}` in the result")), "{told}");
    }
}

#[test]
fn names_with_a_star_become_no_aliases() {
    let text = list(&[
        ("'claude-*'", "model: 'anthropic/claude-*'"),
        ("'anthropic/claude-*'", "model: 'anthropic/claude-*'"),
        ("'openai/*'", "model: 'openai/*'"),
        ("solo", "model: groq/x"),
    ]);
    assert_eq!(config(&text)["models"], json!({ "solo": { "targets": [ "groq/x" ] } }));
    assert_eq!(left(&text).len(), 1, "{:?}", left(&text));
}

#[test]
fn a_budget_of_one_entry_counts_no_other() {
    let text = list(&[
        ("thrifty", "model: openai/gpt-4o, api_key: os.environ/K, max_budget: 5, budget_duration: 1d"),
        ("free", "model: openai/gpt-4o, api_key: os.environ/K"),
        ("other", "model: openai/gpt-4o-mini, api_key: os.environ/K"),
    ]);
    let found = config(&text);
    assert_eq!(
        found["models"],
        json!({
            "thrifty": { "targets": [ "openai/gpt-4o" ] },
            "free": { "targets": [ "openai-2/gpt-4o" ] },
            "other": { "targets": [ "openai/gpt-4o-mini" ] },
        })
    );
    assert_eq!(found["providers"]["openai-2"]["preset"], "openai");
    assert_eq!(found["budgets"][0]["for"], json!({ "model": "openai/gpt-4o" }));
    let alone = config(&list(&[("a", "model: openai/gpt-4o, max_budget: 5, budget_duration: 1d")]));
    assert_eq!(alone["providers"].as_object().unwrap().len(), 1, "who shares with nobody needs none");
}

#[test]
fn a_star_behind_a_vendors_name_leaves_it_that_name() {
    for (named, starred) in [("K", "K"), ("ONE", "TWO")] {
        let text = list(&[
            ("claude", &format!("model: anthropic/claude-sonnet-4-5, api_key: os.environ/{named}")),
            ("'anthropic/*'", &format!("model: 'anthropic/*', api_key: os.environ/{starred}")),
        ]);
        let found = config(&text);
        assert_eq!(found["providers"]["anthropic"]["keys"], json!([format!("env:{starred}")]), "{found}");
        assert_eq!(left(&text), Vec::<String>::new());
    }
}

#[test]
fn a_base_model_is_written_with_its_provider() {
    for (params, expected) in [
        (
            "model: openai/mine, api_base: 'http://tei:8080/v1', base_model: text-embedding-3-small",
            "openai/text-embedding-3-small",
        ),
        ("model: openai/mine, base_model: gemini-2.5-flash", "vertex/gemini-2.5-flash"),
        ("model: openai/mine, base_model: vertex_ai/gemini-2.5-flash", "vertex/gemini-2.5-flash"),
        ("model: together_ai/mine, base_model: meta-llama/llama-3", "together/meta-llama/llama-3"),
        ("model: groq/mine, base_model: another", "groq/another"),
    ] {
        let found = config(&list(&[("a", params)]));
        let prices = found["prices"]["models"].as_object().unwrap();
        assert_eq!(prices.values().next().unwrap()["like"], expected, "{params}");
    }
}

#[test]
fn a_file_without_models_is_refused() {
    for text in ["", "model_list: 3", "a: [", "models: []"] {
        assert!(litellm("config.yaml", text, &|_| None, None).is_err(), "{text}");
    }
}

#[test]
fn a_master_key_that_is_too_short_leaves_nobody_in() {
    let text = format!("{}general_settings: {{ master_key: sk-1234 }}\n", list(&[("a", "model: gpt-4o")]));
    let found = config(&text);
    assert_eq!((&found["auth"], &found["keys"]), (&json!("keys"), &Value::Null));
    assert_eq!(found["state"], json!({ "ledger": "sqlite:./data/tollgate.db" }));
    let said = left(&text).join("\n");
    assert!(said.contains("everybody is refused until"), "{said}");
}

#[test]
fn only_a_shuffle_draws_by_limits() {
    let entries = [("a", "model: gpt-4o, rpm: 300"), ("a", "model: groq/x, rpm: 100")];
    for (strategy, targets) in [
        ("least-busy", json!(["openai/gpt-4o", "groq/x"])),
        (
            "simple-shuffle",
            json!([{ "to": "openai/gpt-4o", "weight": 300.0 }, { "to": "groq/x", "weight": 100.0 }]),
        ),
    ] {
        let text = format!("{}router_settings: {{ routing_strategy: {strategy} }}\n", list(&entries));
        assert_eq!(config(&text)["models"]["a"]["targets"], targets, "{strategy}");
    }
}

#[test]
fn the_address_of_an_operation_is_that_of_its_provider() {
    for (model, written, expected) in [
        ("anthropic/claude-sonnet-4-5", "https://a.example.org/v1/messages", "https://a.example.org/v1"),
        ("anthropic/claude-sonnet-4-5", "https://a.example.org/", "https://a.example.org/v1"),
        ("openai/x", "https://b.example.org/v1/chat/completions/", "https://b.example.org/v1"),
        // A server of one's own, as LiteLLM's pages write it.
        ("openai/x", "http://0.0.0.0:4000/v1", "http://127.0.0.1:4000/v1"),
    ] {
        let text = list(&[("a", &format!("model: {model}, api_base: '{written}'"))]);
        let providers = config(&text)["providers"].clone();
        let found = providers.as_object().unwrap().values().next().unwrap()["base_url"].clone();
        assert_eq!(found, expected, "{written}");
    }
}

#[test]
fn a_star_is_told_how_models_are_asked_for() {
    let text = list(&[("a", "model: gpt-4o"), ("'*'", "model: '*'")]);
    let found = import(&text).left;
    let help = found.0[0].help.as_deref().unwrap_or_default();
    assert!(help.contains("`provider/model`") && !help.contains("api_base"), "{found}");
}

#[test]
fn a_cache_that_keeps_no_chats_unasked_stays_off() {
    let cached = |params: &str| {
        let text = format!(
            "{}litellm_settings: {{ cache: true, cache_params: {{ {params} }} }}\n",
            list(&[("a", "model: gpt-4o")])
        );
        config(&text).get("cache").is_some()
    };
    for (params, expected) in [
        ("type: local", true),
        ("mode: default_on", true),
        ("mode: default_off", false),
        ("supported_call_types: []", false),
        ("supported_call_types: [ aembedding, atranscription ]", false),
        ("supported_call_types: [ acompletion, aembedding ]", true),
    ] {
        assert_eq!(cached(params), expected, "{params}");
    }
}

#[test]
fn what_is_sent_unasked_is_said_in_the_providers_words_or_told() {
    let usual = "temperature: 0.2, max_tokens: 777, stop: x";
    for (model, expected, told) in [
        ("gpt-4o", json!({ "temperature": 0.2, "max_tokens": 777, "stop": "x" }), &[][..]),
        (
            "anthropic/claude-sonnet-4-5",
            json!({ "temperature": 0.2, "stop_sequences": ["x"] }),
            &["max_tokens"],
        ),
        (
            "ollama_chat/llama3",
            json!({ "keep_alive": "8m", "options": { "temperature": 0.2, "num_predict": 777, "stop": ["x"] } }),
            &[],
        ),
        ("gemini/gemini-2.5-flash", Value::Null, &["max_tokens", "stop", "temperature"]),
        ("cohere/command-r", Value::Null, &["max_tokens", "stop", "temperature"]),
    ] {
        let more = if model.starts_with("ollama") { ", keep_alive: 8m" } else { "" };
        let text = list(&[("a", &format!("model: {model}, api_key: os.environ/K, {usual}{more}"))]);
        let providers = config(&text)["providers"].clone();
        let found = providers.as_object().unwrap().values().next().unwrap();
        assert_eq!(found["quirks"]["defaults"], expected, "{model}");
        let told: Vec<_> = told
            .iter()
            .map(|name| format!("not carried: `litellm_params.{name}` of `a`: nothing is sent unasked"))
            .collect();
        let mut left = left(&text);
        left.sort();
        assert_eq!(left, told, "{model}");
    }
}

#[test]
fn what_stands_elsewhere_in_the_file_is_found() {
    let text = format!(
        "{}environment_variables: {{ BASE: 'http://10.0.0.5:9000/v1' }}\n\
         credential_list:\n  - {{ credential_name: ours, credential_values: {{ api_key: os.environ/AZ, \
         api_base: 'https://x.openai.azure.com', api_version: '2024-10-21' }} }}\n",
        list(&[
            ("a", "model: openai/own, api_base: os.environ/BASE, api_key: os.environ/K"),
            ("b", "model: azure/gpt-4o, litellm_credential_name: ours"),
            ("c", "model: groq/x, litellm_credential_name: nobodys"),
        ])
    );
    let found = config(&text);
    assert_eq!(found["providers"]["openai"]["base_url"], "http://10.0.0.5:9000/v1");
    let azure = &found["providers"]["azure"];
    assert_eq!(azure["azure"], json!({ "resource": "x", "api_version": "2024-10-21" }));
    assert_eq!(azure["keys"], json!(["env:AZ"]));
    let told =
        ["not carried: `litellm_params.litellm_credential_name`", "not carried: `environment_variables`"];
    assert_eq!(left(&text), told);
}

#[test]
fn names_with_white_space_are_joined_and_told() {
    let text = format!(
        "{}litellm_settings: {{ fallbacks: [ {{ My Model: [ Other One ] }} ] }}\n",
        list(&[("My Model", "model: groq/a"), ("Other One", "model: groq/b")])
    );
    let found = config(&text);
    assert_eq!(found["models"]["My-Model"]["fallback"], json!(["Other-One"]));
    assert!(left(&text)[0].contains("the model is called `My-Model` here"), "{:?}", left(&text));
}

#[test]
fn what_is_secret_where_it_stands_in_the_file_is_not_in_the_result() {
    let key = r#"'{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\nMIIx\n"}'"#;
    let text = list(&[
        (
            "a",
            &format!(
                "model: vertex_ai/gemini-2.5-flash, vertex_project: p, vertex_location: l, vertex_credentials: {key}"
            ),
        ),
        (
            "b",
            "model: vertex_ai/gemini-2.5-pro, vertex_project: p, vertex_location: l, vertex_credentials: /run/account.json",
        ),
        ("c", "model: openai/gpt-4o, extra_headers: { X-Api-Key: gateway-key-of-ours, x-team: blue }"),
    ]);
    let imported = import(&text);
    assert!(!imported.yaml.contains("MIIx") && !imported.yaml.contains("gateway-key"), "{}", imported.yaml);
    let told: String = imported.left.0.iter().map(|found| format!("{found:?}")).collect();
    assert!(!told.contains("MIIx") && !told.contains("gateway-key"), "{told}");
    let names: Vec<_> = imported.secrets.keys().collect();
    assert_eq!(names, ["VERTEX_CREDENTIALS", "X_API_KEY"]);
    let found = config(&text);
    let of = |provider: &str| found["providers"][provider].clone();
    assert_eq!(of("vertex")["google"]["credentials"], "env:VERTEX_CREDENTIALS");
    assert_eq!(of("vertex-2")["google"]["credentials"], "file:/run/account.json");
    assert_eq!(
        of("openai")["headers"],
        json!({ "x-api-key": { "secret": "env:X_API_KEY" }, "x-team": "blue" })
    );
}

#[test]
fn a_budget_of_another_period_holds_for_the_next_longer_one() {
    for (period, per) in [
        ("30s", "hour"),
        ("1h", "hour"),
        ("12h", "day"),
        ("24h", "day"),
        ("2d", "week"),
        ("14d", "month"),
        ("1mo", "month"),
        ("365d", "month"),
        ("soon", "month"),
    ] {
        let text = format!(
            "{}litellm_settings: {{ max_budget: 5, budget_duration: {period} }}\n",
            list(&[("a", "model: openai/gpt-4o")])
        );
        assert_eq!(config(&text)["budgets"][0]["per"], per, "{period}");
        let told = matches!(period, "1h" | "24h" | "1mo");
        assert_eq!(left(&text).is_empty(), told, "{period}: {:?}", left(&text));
    }
}

#[test]
fn an_identity_at_azure_needs_no_key_and_a_name_with_white_space_is_told() {
    let text = list(&[
        (
            "a",
            "model: azure/gpt-5, api_base: 'https://x.openai.azure.com', tenant_id: t, client_id: c, client_secret: os.environ/S",
        ),
        ("b", "model: openai/my model, api_base: 'http://127.0.0.1:1234/v1'"),
    ]);
    let found = config(&text);
    assert_eq!(found["providers"]["azure"]["keys"], Value::Null);
    assert_eq!(found["models"], json!({ "a": { "targets": ["azure/gpt-5"] } }));
    assert_eq!(left(&text), ["not carried: the model `openai/my model`: its name has white space"]);
}

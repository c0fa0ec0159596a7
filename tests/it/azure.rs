//! Azure through the binary: deployments in paths, keys and Entra ID's tokens, its filter and its errors.

use serde_json::json;

use crate::acts;
use crate::audio::{form, post_form};
use crate::client::{ask, get, post};
use crate::gateway::{self, CANARY, Gateway};
use crate::upstream::{Act, Heard, Upstream};

fn play(heard: &Heard) -> Vec<Act> {
    if heard.path.ends_with("/oauth2/v2.0/token") || heard.path.starts_with("/msi") {
        return acts::whole(
            200,
            &json!({"token_type": "Bearer", "expires_in": "3599", "access_token": "eyJ.entra"}),
        );
    }
    if heard.path.contains("/embeddings") {
        let vector = json!({"object": "embedding", "index": 0, "embedding": [0.5]});
        return acts::whole(
            200,
            &json!({"object": "list", "data": [vector], "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}),
        );
    }
    match heard.model().as_str() {
        "filtered" => acts::whole(
            400,
            &json!({"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
                "type": null, "param": "prompt", "code": "content_filter", "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        ),
        "absent" => acts::whole(
            404,
            &json!({"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}),
        ),
        "busy" => acts::answer(
            429,
            &[("retry-after-ms", "1"), ("content-type", "application/json")],
            json!({"error": {"code": "429", "message": "Rate limit is exceeded. Try again in 86400 seconds."}}).to_string(),
        ),
        "denied" => acts::whole(401, &json!({"statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, or expired."})),
        _ => acts::says("Hello"),
    }
}

fn house(settings: &str, env: &[(&str, &str)]) -> (Upstream, Gateway) {
    let upstream = Upstream::start(play);
    let settings = settings.replace("BASE", &format!("http://{}", upstream.address));
    let mut setup =
        gateway::setup(&format!("retries: {{ backoff: 1ms }}\nproviders:\n  azure: {{ {settings} }}\n"));
    for (name, value) in env {
        setup = setup.env(name, &value.replace("BASE", &format!("http://{}", upstream.address)));
    }
    let gateway = setup.start();
    (upstream, gateway)
}

async fn heard(settings: &str, env: &[(&str, &str)], path: &str, model: &str) -> Heard {
    let (upstream, gateway) = house(settings, env);
    let mut body = ask(&format!("azure/{model}"));
    body["input"] = "a".into();
    body["prompt"] = "a".into();
    let reply = post(gateway.clients, path, &body).await;
    assert_eq!(reply.status, 200, "{settings}: {reply:?}");
    upstream.heard().pop().unwrap()
}

#[tokio::test]
async fn every_surface_has_its_path() {
    let dated = "base_url: BASE, keys: [ env:TEST_KEY ], azure: { api_version: \"2024-10-21\", deployments: { gpt-4o: my-4o } }";
    let version = "api-version=2024-10-21";
    for (settings, path, model, expected, named) in [
        (
            dated,
            "/v1/chat/completions",
            "gpt-4o",
            format!("/openai/deployments/my-4o/chat/completions?{version}"),
            "my-4o",
        ),
        (
            dated,
            "/v1/chat/completions",
            "other",
            format!("/openai/deployments/other/chat/completions?{version}"),
            "other",
        ),
        (dated, "/v1/embeddings", "emb", format!("/openai/deployments/emb/embeddings?{version}"), "emb"),
        (
            dated,
            "/v1/images/generations",
            "gpt-4o",
            format!("/openai/deployments/my-4o/images/generations?{version}"),
            "my-4o",
        ),
        (dated, "/v1/audio/speech", "tts", format!("/openai/deployments/tts/audio/speech?{version}"), "tts"),
        (
            "preset: azure-deployments, base_url: BASE, keys: [ env:TEST_KEY ], azure: { api_version: \"2025-04-01-preview\" }",
            "/v1/images/generations",
            "img",
            "/openai/deployments/img/images/generations?api-version=2025-04-01-preview".into(),
            "img",
        ),
        (
            "base_url: BASE, keys: [ env:TEST_KEY ], azure: { deployments: { a: b } }",
            "/v1/images/generations",
            "a",
            "/openai/v1/images/generations".into(),
            "b",
        ),
        (
            "base_url: BASE, keys: [ env:TEST_KEY ]",
            "/v1/chat/completions",
            "gpt-4o",
            "/openai/v1/chat/completions".into(),
            "gpt-4o",
        ),
        (
            "base_url: BASE, keys: [ env:TEST_KEY ], azure: { api_version: preview, deployments: { a: b } }",
            "/v1/chat/completions",
            "a",
            "/openai/v1/chat/completions?api-version=preview".into(),
            "b",
        ),
        (
            "base_url: BASE/openai/v1, keys: [ env:TEST_KEY ]",
            "/v1/embeddings",
            "e",
            "/openai/v1/embeddings".into(),
            "e",
        ),
        (
            "preset: azure-foundry, base_url: BASE, keys: [ env:TEST_KEY ]",
            "/v1/chat/completions",
            "grok",
            "/models/chat/completions?api-version=2024-05-01-preview".into(),
            "grok",
        ),
        (
            "preset: azure-deployments, base_url: BASE, keys: [ env:TEST_KEY ]",
            "/v1/chat/completions",
            "d",
            format!("/openai/deployments/d/chat/completions?{version}"),
            "d",
        ),
    ] {
        let heard = heard(settings, &[], path, model).await;
        assert_eq!((heard.path.as_str(), heard.model().as_str()), (expected.as_str(), named), "{settings}");
        assert_eq!(heard.header("api-key"), Some(CANARY), "{settings}");
    }
}

#[tokio::test]
async fn a_raw_request_goes_by_its_deployment_whatever_model_its_body_names() {
    let settings = "preset: azure-deployments, base_url: BASE, keys: [ env:TEST_KEY ]";
    let (upstream, gateway) = house(settings, &[]);
    let path = "/openai/deployments/prod-gpt4/chat/completions?api-version=2024-10-21";
    let reply = post(gateway.clients, &format!("/passthrough/azure{path}"), &ask("gpt-4o")).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    let heard = upstream.heard().pop().unwrap();
    assert_eq!((heard.path.as_str(), heard.model().as_str()), (path, "gpt-4o"));
    let path = "/passthrough/azure/openai/v1/models/prod-gpt4:say";
    let reply = post(gateway.clients, path, &ask("gpt-4o")).await;
    assert_eq!((reply.status, &reply.error()["code"]), (400, &"model_mismatch".into()), "{reply:#?}");
}

#[tokio::test]
async fn raw_deployments_stand_beside_the_v1_api_and_name_their_version() {
    for settings in ["", ", azure: { api_version: preview }"] {
        let (upstream, gateway) = house(&format!("base_url: BASE, keys: [ env:TEST_KEY ]{settings}"), &[]);
        let path = "/openai/deployments/prod-gpt4/chat/completions?api-version=2024-10-21";
        let reply = post(gateway.clients, &format!("/passthrough/azure{path}"), &ask("gpt-4o")).await;
        assert_eq!(reply.status, 200, "{reply:#?}");
        assert_eq!(upstream.heard().pop().unwrap().path, path, "{settings}");
        let path = "/passthrough/azure/openai/deployments/prod-gpt4/chat/completions";
        let reply = post(gateway.clients, path, &ask("gpt-4o")).await;
        assert_eq!((reply.status, &reply.error()["param"]), (400, &"api-version".into()), "{reply:#?}");
        let reply = post(gateway.clients, "/passthrough/azure/chat/completions", &ask("gpt-4o")).await;
        assert_eq!(reply.status, 200, "{reply:#?}");
        let heard = upstream.heard().pop().unwrap().path;
        assert!(heard.starts_with("/openai/v1/chat/completions"), "{heard}");
    }
}

#[tokio::test]
async fn the_environment_of_azures_own_sdk_is_understood() {
    let env = [("AZURE_OPENAI_ENDPOINT", "BASE/"), ("AZURE_OPENAI_API_KEY", CANARY)];
    let heard = heard("", &env, "/v1/chat/completions", "gpt-4o").await;
    assert_eq!((heard.path.as_str(), heard.header("api-key")), ("/openai/v1/chat/completions", Some(CANARY)));
}

#[tokio::test]
async fn azures_own_clients_are_served() {
    let (upstream, gateway) = house("base_url: BASE, keys: [ env:TEST_KEY ]", &[]);
    for (path, model, expected) in [
        ("/openai/deployments/azure/gpt-4o/chat/completions?api-version=2024-10-21", "ignored", "gpt-4o"),
        ("/openai/v1/chat/completions", "azure/gpt-4o", "gpt-4o"),
    ] {
        let reply = post(gateway.clients, path, &ask(model)).await;
        assert_eq!(reply.said(), "Hello");
        let heard = upstream.heard().pop().unwrap();
        assert_eq!(
            (heard.path.as_str(), heard.model().as_str()),
            ("/openai/v1/chat/completions", expected),
            "{path}"
        );
    }
    let unknown =
        post(gateway.clients, "/openai/deployments/none/chat/completions", &ask("azure/gpt-4o")).await;
    assert_eq!(unknown.status, 404, "{unknown:?}");
    let path = "/openai/deployments/azure/e/embeddings?api-version=1";
    let reply = post(gateway.clients, path, &serde_json::json!({"input": "a"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let path = "/openai/deployments/azure/img/images/generations?api-version=1";
    let reply = post(gateway.clients, path, &json!({"prompt": "a", "model": "ignored"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let heard = upstream.heard().pop().unwrap();
    assert_eq!((heard.path.as_str(), heard.model().as_str()), ("/openai/v1/images/generations", "img"));
    let path = "/openai/deployments/azure/ear/audio/transcriptions?api-version=1";
    let reply = post_form(&gateway, path, form(&[("model", "ignored")], b"sound", &[])).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let heard = upstream.heard().pop().unwrap();
    let body = String::from_utf8_lossy(&heard.body).into_owned();
    assert!(heard.path == "/openai/v1/audio/transcriptions" && body.contains("\r\n\r\near\r\n"), "{body}");
}

#[tokio::test]
async fn what_azure_keeps_is_kept_by_its_v1_api() {
    for settings in ["azure: { api_version: \"2024-10-21\" }", "preset: azure-deployments"] {
        let (upstream, gateway) = house(&format!("base_url: BASE, keys: [ env:TEST_KEY ], {settings}"), &[]);
        for path in ["/v1/files?limit=3", "/v1/batches/batch_1"] {
            let reply = get(gateway.clients, path).await;
            assert_eq!(reply.status, 200, "{settings}: {reply:?}");
            assert_eq!(upstream.heard().pop().unwrap().path, format!("/openai{path}"), "{settings}");
        }
    }
}

#[tokio::test]
async fn entra_id_authorises_instead_of_a_key() {
    let env = [
        ("AZURE_AUTHORITY_HOST", "BASE"),
        ("S", "se cret"),
        ("IDENTITY_ENDPOINT", "BASE/msi"),
        ("IDENTITY_HEADER", "h"),
    ];
    let explicit = "base_url: BASE, azure: { tenant: t, client_id: app, client_secret: env:S }";
    let (upstream, gateway) = house(explicit, &env);
    for _ in 0..2 {
        let reply = post(gateway.clients, "/v1/chat/completions", &ask("azure/gpt-4o")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let all = upstream.heard();
    assert_eq!(
        all.iter().map(|heard| heard.path.as_str()).collect::<Vec<_>>(),
        ["/t/oauth2/v2.0/token", "/openai/v1/chat/completions", "/openai/v1/chat/completions"]
    );
    let form = String::from_utf8_lossy(&all[0].body).into_owned();
    assert!(form.contains("client_id=app") && form.contains("client_secret=se%20cret"), "{form}");
    assert_eq!((all[2].header("authorization"), all[2].header("api-key")), (Some("Bearer eyJ.entra"), None));

    let (upstream, gateway) = house("base_url: BASE, azure: { managed_identity: true }", &env);
    assert_eq!(post(gateway.clients, "/v1/chat/completions", &ask("azure/gpt-4o")).await.status, 200);
    let asked = &upstream.heard()[0];
    assert_eq!((asked.method.as_str(), asked.header("x-identity-header")), ("GET", Some("h")));

    let of_environment = [
        ("AZURE_AUTHORITY_HOST", "BASE"),
        ("AZURE_OPENAI_ENDPOINT", "BASE"),
        ("AZURE_TENANT_ID", "t2"),
        ("AZURE_CLIENT_ID", "app2"),
        ("AZURE_CLIENT_SECRET", "s"),
    ];
    let (upstream, gateway) = house("", &of_environment);
    assert_eq!(post(gateway.clients, "/v1/chat/completions", &ask("azure/gpt-4o")).await.status, 200);
    assert_eq!(upstream.heard()[0].path, "/t2/oauth2/v2.0/token");
}

#[tokio::test]
async fn a_token_endpoint_that_repeats_the_secret_is_not_quoted() {
    let upstream = Upstream::start(|heard| {
        let sent = String::from_utf8_lossy(&heard.body).into_owned();
        let text = format!("the secret hunter two! is wrong, in {sent}");
        acts::whole(401, &json!({"error": "invalid_client", "error_description": text}))
    });
    let base = format!("http://{}", upstream.address);
    let setup = gateway::setup(
        "retries: { retries: 0 }\nproviders:\n  azure: { base_url: BASE, azure: { tenant: t, client_id: app, client_secret: env:S } }\n"
            .replace("BASE", &base)
            .as_str(),
    );
    let gateway = setup.env("AZURE_AUTHORITY_HOST", &base).env("S", "hunter two!").start();
    let reply = post(gateway.clients, "/v1/chat/completions", &ask("azure/gpt-4o")).await;
    assert!(reply.status >= 500, "{reply:#?}");
    let told = format!("{} {}", reply.text(), gateway.log().join("\n"));
    assert!(told.contains("invalid_client"), "{told}");
    assert!(!told.contains("hunter two") && !told.contains("hunter%20two"), "{told}");
}

#[tokio::test]
async fn azures_errors_mean_what_they_say() {
    let (upstream, gateway) = house("base_url: BASE, keys: [ env:TEST_KEY ]", &[]);
    for (model, status, code, tries) in [
        ("filtered", 400, "content_filter", 1),
        ("absent", 404, "DeploymentNotFound", 1),
        ("busy", 429, "rate_limited", 2),
        ("denied", 502, "upstream_credentials", 1),
    ] {
        let reply = post(gateway.clients, "/v1/chat/completions", &ask(&format!("azure/{model}"))).await;
        let said = reply.error()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!(reply.status, status, "{model}: {reply:?}");
        assert!(said.eq_ignore_ascii_case(code) || model != "denied" && !said.is_empty(), "{model}: {said}");
        let least = upstream.heard_for(model).len();
        assert!(least >= tries, "{model}: tried {least} times");
    }
}

#[tokio::test]
async fn what_is_missing_is_told_before_anything_starts() {
    for (settings, expected) in [
        ("azure: { client_id: a }", "no resource is known"),
        ("azure: { resource: \"a/b\" }", "no name of a resource"),
        ("azure: { resource: r, api_version: \"2024&x\" }", "is no version"),
        ("azure: { resource: r, client_secret: env:NONE }", "env:NONE"),
        ("azure: { resource: r, client_secret: env:TEST_KEY }", "`azure.tenant` is not set"),
        ("azure: { resource: r, managed_identity: true, client_secret: env:TEST_KEY }", "exclude each other"),
        ("azure: { resource: r }", "AZURE_OPENAI_API_KEY"),
    ] {
        let setup = gateway::setup(&format!("providers:\n  azure: {{ {settings} }}\n"));
        let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
        assert!(printed.code != Some(0) && printed.err.contains(expected), "{settings}: {printed:?}");
    }
    for (settings, expected) in [
        ("google: { location: l, credentials: file:none.json }", "none.json"),
        ("keys: [ env:TEST_KEY ]", "no project is known"),
        ("google: { project: \"a/../b\" }", "no name of a project"),
        ("google: { project: p, credentials: file:broken.json }", "`file:broken.json` has no `private_key`"),
    ] {
        let setup = gateway::setup(&format!("providers:\n  vertex: {{ {settings} }}\n"));
        let broken = json!({"type": "service_account", "client_email": "a@b"});
        let printed =
            setup.file("broken.json", &broken.to_string()).run(&["check", "--config", "tollgate.yaml"]);
        assert!(printed.code != Some(0) && printed.err.contains(expected), "{settings}: {printed:?}");
    }
}

//! Versions of the API below prefixes of their own, and versions of a model that callers keep.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, ask, chat, get, post};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::Upstream;

/// A provider that answers with the name of the model it was asked for.
fn parrot() -> Upstream {
    Upstream::start(|heard| {
        if heard.is_stream() { acts::says_stream(&[&heard.model()]) } else { acts::says(&heard.model()) }
    })
}

const VERSIONS: &str = "
models:
  smart: { targets: [ up/general ] }
  other: { targets: [ up/other ] }
versions:
  old:
    prefix: /v1
    deprecated: 2026-01-01
    sunset: 2999-05-01
    link: https://acme.example/migration
    successor: new
  new:
    prefix: /v2
    models: { smart: { targets: [ up/second ] } }
  gone:
    prefix: /ancient
    deprecated: 2020-01-01
    sunset: 2021-01-01
    after_sunset: refuse
    successor: new
  acme:
    prefix: /acme/v1
    inherit: false
    models: { only: { targets: [ up/acme ], fallback: [ smart ] } }
";

fn house(upstream: &Upstream, rest: &str) -> Gateway {
    gateway::start(&format!("providers:\n{}{rest}", provider("up", &upstream.url())))
}

async fn said(gateway: &Gateway, path: &str, model: &str) -> Reply {
    post(gateway.clients, path, &ask(model)).await
}

#[tokio::test]
async fn each_version_has_its_own_models() {
    let upstream = parrot();
    let gateway = house(&upstream, VERSIONS);
    for (path, model, expected) in [
        ("/v1/chat/completions", "smart", "general"),
        ("/v2/chat/completions", "smart", "second"),
        ("/v2/v1/chat/completions", "smart", "second"),
        ("/v2/chat/completions", "other", "other"),
        ("/v2/chat/completions", "up/anything", "anything"),
        ("/acme/v1/chat/completions", "only", "acme"),
    ] {
        assert_eq!(said(&gateway, path, model).await.said(), expected, "{path} {model}");
    }
    for (path, model) in [
        ("/acme/v1/chat/completions", "smart"),
        ("/acme/v1/chat/completions", "up/anything"),
        ("/v2/chat/completions", "only"),
    ] {
        let reply = said(&gateway, path, model).await;
        assert_eq!((reply.status, reply.error()["code"].clone()), (404, json!("model_not_found")), "{path}");
    }
    let listed = async |path: &str| -> Vec<String> {
        let reply = get(gateway.clients, path).await.json();
        let models = reply["data"].as_array().unwrap().clone();
        models.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed("/acme/v1/models").await, ["only"]);
    assert_eq!(listed("/v2/models").await[..2], ["smart", "other"]);
    assert_eq!(get(gateway.clients, "/acme/v1/models/only").await.status, 200);
    assert_eq!(get(gateway.clients, "/acme/v1/models/smart").await.status, 404);
    let reply = said(&gateway, "/v2/chat/completions", "smart").await;
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["version"], &record["path"]), (&json!("new"), &json!("/v1/chat/completions")));
}

#[tokio::test]
async fn every_door_stands_below_every_prefix() {
    let upstream = parrot();
    let gateway = house(&upstream, VERSIONS);
    let message = json!({"model": "only", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    for path in ["/acme/v1/messages", "/acme/v1/v1/messages"] {
        let reply = post(gateway.clients, path, &message).await;
        assert_eq!(reply.json()["content"][0]["text"], "acme", "{path}: {}", reply.text());
    }
    let contents = json!({"contents": [{"parts": [{"text": "hi"}]}]});
    for path in ["/acme/v1/v1beta/models/only:generateContent", "/acme/v1/models/only:generateContent"] {
        let reply = post(gateway.clients, path, &contents).await;
        assert_eq!(reply.json()["candidates"][0]["content"]["parts"][0]["text"], "acme", "{path}");
    }
    let stream = post(gateway.clients, "/acme/v1/models/only:streamGenerateContent?alt=sse", &contents).await;
    assert!(stream.text().contains("acme"), "{}", stream.text());
    assert_eq!(post(gateway.clients, "/acme/v1/nowhere", &message).await.status, 404);
    assert_eq!(post(gateway.clients, "/acme/chat/completions", &message).await.status, 404);
    assert_eq!(get(gateway.clients, "/v2/chat/completions").await.status, 405);
}

#[tokio::test]
async fn a_version_says_that_it_will_go_away() {
    let upstream = parrot();
    let gateway = house(&upstream, VERSIONS);
    let links = |reply: &Reply| -> Vec<String> {
        reply.headers.get_all("link").iter().map(|link| link.to_str().unwrap().to_owned()).collect()
    };
    for reply in [
        said(&gateway, "/v1/chat/completions", "smart").await,
        chat(gateway.clients, &client::ask_stream("smart")).await,
        said(&gateway, "/v1/chat/completions", "nobody").await,
        get(gateway.clients, "/v1/models").await,
        get(gateway.clients, "/v1/nowhere").await,
    ] {
        assert_eq!(reply.header("deprecation"), "@1767225600");
        assert_eq!(reply.header("sunset"), "Wed, 01 May 2999 00:00:00 GMT");
        assert_eq!(
            links(&reply),
            [
                r#"<https://acme.example/migration>; rel="deprecation""#,
                r#"<https://acme.example/migration>; rel="sunset""#,
                r#"</v2>; rel="successor-version""#,
            ]
        );
    }
    let young = said(&gateway, "/v2/chat/completions", "smart").await;
    assert_eq!((young.header("deprecation"), young.header("sunset"), links(&young).len()), ("", "", 0));

    let gone = said(&gateway, "/ancient/chat/completions", "smart").await;
    assert_eq!((gone.status, gone.error()["code"].clone()), (410, json!("version_retired")));
    assert!(gone.error()["message"].as_str().unwrap().contains("use /v2 instead"), "{}", gone.text());
    assert_eq!(gone.header("sunset"), "Fri, 01 Jan 2021 00:00:00 GMT");
    assert_eq!(get(gateway.clients, "/ancient/models").await.status, 410);
    let record = gateway.record(gone.header("x-request-id")).await;
    assert_eq!((&record["version"], &record["error"]), (&json!("gone"), &json!("version_retired")));
    let anthropic = post(gateway.clients, "/ancient/messages", &json!({})).await;
    assert_eq!((anthropic.status, anthropic.json()["type"].clone()), (410, json!("error")));
}

const CANARY_MODEL: &str = "
models:
  smart:
    versions:
      '2026-06': { share: 60, targets: [ up/june ] }
      '2026-10': { share: 40, targets: [ up/october ], fallback: [ smart@2026-06 ] }
";

async fn as_user(gateway: &Gateway, model: &str, user: &str) -> Reply {
    let mut body = ask(model);
    body["user"] = user.into();
    chat(gateway.clients, &body).await
}

/// Which of these users get October's version.
async fn october(gateway: &Gateway) -> BTreeSet<String> {
    let mut users = BTreeSet::new();
    for n in 0..60 {
        let user = format!("user-{n}");
        let reply = as_user(gateway, "smart", &user).await;
        let is_october = reply.said() == "october";
        let expected = if is_october { "smart@2026-10" } else { "smart@2026-06" };
        assert_eq!(reply.header("x-tollgate-model-version"), expected);
        if is_october {
            users.insert(user);
        }
    }
    users
}

#[tokio::test]
async fn a_caller_keeps_its_version_while_the_share_grows() {
    let upstream = parrot();
    let gateway = house(&upstream, CANARY_MODEL);
    let before = october(&gateway).await;
    assert!((10..40).contains(&before.len()), "{before:?}");
    assert_eq!(october(&gateway).await, before, "the same again");
    let config = format!("providers:\n{}{CANARY_MODEL}", provider("up", &upstream.url()));
    gateway.save_config(&config.replace("share: 60", "share: 30").replace("share: 40", "share: 70"));
    gateway_reloaded(&gateway, 2).await;
    let after = october(&gateway).await;
    assert!(after.is_superset(&before) && after.len() > before.len(), "{before:?} {after:?}");
}

async fn gateway_reloaded(gateway: &Gateway, generation: u64) {
    for _ in 0..2_000 {
        if gateway.status().await["snapshot"]["generation"].as_u64() >= Some(generation) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("never reloaded");
}

#[tokio::test]
async fn a_client_can_pin_a_version() {
    let upstream = parrot();
    let gateway = house(&upstream, CANARY_MODEL);
    for n in 0..8 {
        let user = format!("user-{n}");
        assert_eq!(as_user(&gateway, "smart@2026-10", &user).await.said(), "october");
        let june = as_user(&gateway, "smart@2026-06", &user).await;
        assert_eq!(
            (june.said().as_str(), june.header("x-tollgate-model-version")),
            ("june", "smart@2026-06")
        );
    }
    let unknown = as_user(&gateway, "smart@2030", "u").await;
    assert_eq!((unknown.status, unknown.error()["code"].clone()), (404, json!("model_not_found")));
    let models = get(gateway.clients, "/v1/models").await.json();
    let ids: Vec<&Value> =
        models["data"].as_array().unwrap().iter().map(|model| &model["id"]).take(3).collect();
    assert_eq!(ids, ["smart", "smart@2026-06", "smart@2026-10"]);
    assert_eq!(get(gateway.clients, "/v1/models/smart@2026-10").await.status, 200);
    let streamed = chat(gateway.clients, &client::ask_stream("smart@2026-10")).await;
    assert_eq!(streamed.header("x-tollgate-model-version"), "smart@2026-10");
    let record = gateway.record(streamed.header("x-request-id")).await;
    assert_eq!(record["model_version"], "smart@2026-10");
}

#[tokio::test]
async fn sessions_tell_callers_behind_one_address_apart() {
    let upstream = parrot();
    let gateway = house(&upstream, CANARY_MODEL);
    let mut seen = BTreeSet::new();
    for n in 0..30 {
        let request = |session: &str| {
            let body = Bytes::from(ask("smart").to_string());
            let builder = Request::builder().method(Method::POST).uri("/v1/chat/completions");
            let builder = builder.header("content-type", "application/json");
            builder.header("x-tollgate-session", session).body(body).unwrap()
        };
        let session = format!("session-{n}");
        let first = client::open(gateway.clients, request(&session)).await.unwrap().rest().await.said();
        let again = client::open(gateway.clients, request(&session)).await.unwrap().rest().await.said();
        assert_eq!(first, again);
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2, "both versions are seen: {seen:?}");
    assert!(upstream.heard().iter().all(|heard| heard.header("x-tollgate-session").is_none()));
}

#[tokio::test]
async fn a_pinned_version_falls_back_to_the_other() {
    let upstream = Upstream::start(|heard| match heard.model().as_str() {
        "october" => acts::error(400, "maximum context length is 10 tokens, context_length_exceeded"),
        model => acts::says(model),
    });
    let gateway = house(&upstream, CANARY_MODEL);
    let reply = as_user(&gateway, "smart@2026-10", "u").await;
    if reply.status == 200 {
        assert_eq!(
            reply.header("x-tollgate-model-version"),
            "smart@2026-06",
            "who answered, not who was asked"
        );
    }
}
